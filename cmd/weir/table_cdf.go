package main

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/weirstream/weir/deltalake"
)

func tableCDF() *cobra.Command {
	var f tableFlags
	var from, until int64
	var since, till string
	cmd := &cobra.Command{
		Use: "cdf TABLE --from N [--until M]", Short: "Print the change data feed of a range of versions", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if until >= 0 && until < from {
				return fmt.Errorf("--until %d is before --from %d", until, from)
			}
			t, err := openTable(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			o := deltalake.ChangeOptions{From: from, To: until, Until: until >= 0}
			for _, m := range []struct {
				text string
				to   *time.Time
			}{{since, &o.FromTime}, {till, &o.ToTime}} {
				if m.text != "" {
					if *m.to, err = parseMoment(m.text); err != nil {
						return err
					}
				}
			}
			if o.Filter, err = f.condition(); err != nil {
				return err
			}
			if len(f.columns) > 0 {
				o.Columns = f.columns
			}
			return f.rows(cmd.OutOrStdout(), nil, t.Changes(cmd.Context(), o))
		},
	}
	addFormat(cmd, &f.output)
	f.addScan(cmd)
	cmd.Flags().Int64Var(&from, "from", 0, "first version")
	cmd.Flags().Int64Var(&until, "until", -1, "last version; -1 is the newest")
	cmd.Flags().StringVar(&since, "from-timestamp", "", "instead of --from: the first version that was not committed before this time")
	cmd.Flags().StringVar(&till, "until-timestamp", "", "instead of --until: the last version that was not committed after this time")
	cmd.Example = "  weir table cdf T --from 3 --until 5\n  weir table cdf T --from-timestamp 2026-01-31T12:00:00Z -o json"
	cmd.MarkFlagsMutuallyExclusive("from", "from-timestamp")
	cmd.MarkFlagsMutuallyExclusive("until", "until-timestamp")
	return cmd
}
