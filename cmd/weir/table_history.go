package main

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"
)

func tableHistory() *cobra.Command {
	var f tableFlags
	cmd := &cobra.Command{
		Use: "history TABLE", Short: "List the commits of a table, newest first", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			t, err := openTable(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			h, err := t.History(cmd.Context(), f.limit)
			if err != nil {
				return err
			}
			w := cmd.OutOrStdout()
			return f.print(w, h, func() error {
				rows := [][]string{{"version", "time", "operation", "parameters", "metrics", "engine"}}
				for _, e := range h {
					rows = append(rows, []string{fmt.Sprint(e.Version), e.Time.UTC().Format(time.RFC3339), e.Info.Operation,
						joinMap(e.Info.OperationParameters), joinMap(e.Info.OperationMetrics), e.Info.EngineInfo})
				}
				return printGrid(w, rows)
			})
		},
	}
	addFormat(cmd, &f.output)
	cmd.Flags().IntVar(&f.limit, "limit", 20, "commits to show; 0 shows all")
	return cmd
}
