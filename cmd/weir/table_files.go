package main

import (
	"fmt"

	"github.com/spf13/cobra"
)

func tableFiles() *cobra.Command {
	var f tableFlags
	cmd := &cobra.Command{
		Use: "files TABLE", Short: "List the live data files of a table", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			s, err := f.snapshot(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			files := s.Files()
			w := cmd.OutOrStdout()
			return f.print(w, files, func() error {
				rows := [][]string{{"path", "bytes", "rows", "deleted"}}
				for _, a := range files {
					n, deleted := "", ""
					if r, ok := a.NumRecords(); ok {
						n = fmt.Sprint(r)
					}
					if a.DeletionVector != nil {
						deleted = fmt.Sprint(a.DeletionVector.Cardinality)
					}
					rows = append(rows, []string{a.Path, fmt.Sprint(a.Size), n, deleted})
				}
				return printGrid(w, rows)
			})
		},
	}
	addFormat(cmd, &f.output)
	f.addVersion(cmd)
	return cmd
}
