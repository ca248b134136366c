package main

import (
	"github.com/spf13/cobra"

	"github.com/weirstream/weir/deltalake"
)

func tableCDF() *cobra.Command {
	var f tableFlags
	var from, until int64
	cmd := &cobra.Command{
		Use: "cdf TABLE --from N [--until M]", Short: "Print the change data feed of a range of versions", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			t, err := openTable(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			o := deltalake.ChangeOptions{From: from, To: until, Until: until >= 0}
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
	return cmd
}
