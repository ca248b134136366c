package main

import (
	"context"
	"errors"

	"github.com/spf13/cobra"

	"github.com/weirstream/weir/deltalake"
)

func tableMerge() *cobra.Command {
	var f tableFlags
	var from []string
	var on string
	var evolve, del bool
	cmd := change("merge TABLE --from FILE.parquet --on CONDITION", "Update matching rows and insert the others", &f,
		func(ctx context.Context, t *deltalake.Table) (any, string, error) {
			if on == "" {
				return nil, "", errors.New("--on says which rows match, as in 'target.id = source.id'")
			}
			e, err := deltalake.ParseExpr(on)
			if err != nil {
				return nil, "", err
			}
			source, err := parquetSource(ctx, from)
			if err != nil {
				return nil, "", err
			}
			clauses := []deltalake.MergeClause{{Action: deltalake.MatchedUpdate}, {Action: deltalake.NotMatchedInsert}}
			if del {
				clauses = append(clauses, deltalake.MergeClause{Action: deltalake.NotMatchedBySourceDelete})
			}
			m, err := t.Merge(ctx, deltalake.Merge{Source: f.meter.counted(source), On: e, EvolveSchema: evolve, Clauses: clauses})
			if err != nil {
				return nil, "", err
			}
			return m, metricsText(m), nil
		})
	cmd.Flags().StringSliceVar(&from, "from", nil, "Parquet files of the source")
	cmd.Long = `Rows of the files that match rows of the table replace their values, the others are added. In --on the table is called target
and the rows of the files source. A row of the table that several rows of the files match is an error.`
	cmd.Example = "  weir table merge T --from changes.parquet --on 'target.id = source.id'"
	cmd.Flags().StringVar(&on, "on", "", "which rows match, as in 'target.id = source.id'")
	cmd.Flags().BoolVar(&evolve, "evolve-schema", false, "add columns that the table lacks")
	cmd.Flags().BoolVar(&del, "delete-unmatched", false, "delete rows of the table that the source lacks")
	return cmd
}
