package main

import (
	"context"
	"io"
	"iter"
	"slices"

	"github.com/spf13/cobra"

	"github.com/weirstream/weir/deltalake"
)

func tableShow() *cobra.Command {
	var f tableFlags
	cmd := &cobra.Command{
		Use: "show TABLE", Short: "Show rows of a table", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			s, err := f.snapshot(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			o, err := f.scan()
			if err != nil {
				return err
			}
			return f.show(cmd.Context(), cmd.OutOrStdout(), s, o)
		},
	}
	addFormat(cmd, &f.output)
	f.addVersion(cmd)
	f.addScan(cmd)
	cmd.Flags().IntVar(&f.limit, "limit", 20, "rows to show; 0 shows all")
	cmd.Flags().BoolVar(&f.rowIDs, "row-ids", false, "show row ids and commit versions (delta.enableRowTracking)")
	return cmd
}

// show prints rows as a grid, or as one JSON object per line.
func (f *tableFlags) show(ctx context.Context, w io.Writer, s *deltalake.Snapshot, o deltalake.ScanOptions) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	names := o.Columns
	if names == nil {
		for _, c := range s.Schema().Fields {
			names = append(names, c.Name)
		}
	}
	if o.RowIDs {
		names = append(slices.Clone(names), deltalake.RowID, deltalake.RowCommitVersion)
	}
	return f.rows(w, names, s.Scan(ctx, o))
}

// rows prints f.limit rows of batches, or all if that is 0: JSON lines as they come,
// or a grid under names; nil takes those of the first batch.
func (f *tableFlags) rows(w io.Writer, names []string, batches iter.Seq2[*deltalake.Batch, error]) error {
	var grid [][]string
	if names != nil {
		grid = append(grid, names)
	}
	shown := 0
	for b, err := range batches {
		if err != nil {
			return err
		}
		if grid == nil {
			for _, c := range b.Schema.Fields {
				names = append(names, c.Name)
			}
			grid = append(grid, names)
		}
		for i := 0; i < b.Len && (f.limit == 0 || shown < f.limit); i++ {
			shown++
			if f.output == "json" {
				if err := printJSONRow(w, b, i); err != nil {
					return err
				}
				continue
			}
			row := make([]string, len(b.Columns))
			for j, c := range b.Columns {
				row[j] = showValue(c.Value(i))
			}
			grid = append(grid, row)
		}
		if f.limit > 0 && shown == f.limit {
			break
		}
	}
	if f.output == "json" || grid == nil {
		return nil
	}
	return printGrid(w, grid)
}
