package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/weirstream/weir/deltalake"
)

func tableDiff() *cobra.Command {
	var f tableFlags
	var from, until int64
	cmd := &cobra.Command{
		Use: "diff TABLE --from N [--until M]", Short: "Show what changed between two versions", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			t, err := openTable(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			a, err := t.At(cmd.Context(), from)
			if err != nil {
				return err
			}
			b := t.Latest()
			if until >= 0 {
				if b, err = t.At(cmd.Context(), until); err != nil {
					return err
				}
			}
			d := deltalake.DiffOf(a, b)
			w := cmd.OutOrStdout()
			return f.print(w, d, func() error {
				fmt.Fprintf(w, "version %d to %d: %d files added, %d removed, schema changed %v, protocol changed %v\n",
					a.Version(), b.Version(), len(d.Added), len(d.Removed), d.Schema, d.Protocol)
				for _, x := range d.Added {
					fmt.Fprintln(w, "+", x.Path)
				}
				for _, x := range d.Removed {
					fmt.Fprintln(w, "-", x.Path)
				}
				for _, k := range sortedNames(d.Properties) {
					fmt.Fprintf(w, "property %s = %q\n", k, d.Properties[k])
				}
				return nil
			})
		},
	}
	addFormat(cmd, &f.output)
	cmd.Flags().Int64Var(&from, "from", 0, "older version")
	cmd.Flags().Int64Var(&until, "until", -1, "newer version; -1 is the newest")
	return cmd
}
