package main

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/weirstream/weir/deltalake"
)

// parquetSource reads the rows of Parquet files as a table that is never stored
// where they are.
func parquetSource(ctx context.Context, files []string) (iter.Seq2[*deltalake.Batch, error], error) {
	if len(files) == 0 {
		return nil, errors.New("--from names the Parquet files to read")
	}
	return func(yield func(*deltalake.Batch, error) bool) {
		for _, file := range files {
			abs, err := filepath.Abs(file)
			if err != nil {
				yield(nil, err)
				return
			}
			store := deltalake.NewFolderStore(filepath.Dir(abs))
			for b, err := range deltalake.ReadParquet(ctx, store, filepath.Base(abs)) {
				if !yield(b, err) || err != nil {
					return
				}
			}
		}
	}, nil
}

func tableAppend() *cobra.Command {
	var f tableFlags
	var from []string
	var merge, overwrite bool
	cmd := change("append TABLE --from FILE.parquet", "Add the rows of Parquet files", &f, func(ctx context.Context, t *deltalake.Table) (any, string, error) {
		source, err := parquetSource(ctx, from)
		if err != nil {
			return nil, "", err
		}
		opts := deltalake.WriteOptions{MergeSchema: merge}
		var r *deltalake.CommitResult
		if overwrite || f.where != "" {
			o := deltalake.OverwriteOptions{WriteOptions: opts}
			if o.Where, err = f.condition(); err != nil {
				return nil, "", err
			}
			r, err = t.Overwrite(ctx, f.meter.counted(source), o)
		} else {
			r, err = t.Append(ctx, f.meter.counted(source), opts)
		}
		if err != nil {
			return nil, "", err
		}
		return map[string]int64{"version": r.Version}, fmt.Sprintf("version %d", r.Version), r.Upkeep
	})
	cmd.Flags().StringSliceVar(&from, "from", nil, "Parquet files")
	cmd.Flags().BoolVar(&merge, "merge-schema", false, "add columns that the table lacks")
	cmd.Flags().BoolVar(&overwrite, "overwrite", false, "replace all rows, or with --where those of its condition")
	cmd.Flags().StringVar(&f.where, "where", "", "replace the rows of this condition, which the new ones must fulfil")
	cmd.Example = `  weir table append T --from a.parquet --from b.parquet
  weir table append T --from day.parquet --where "day = '2026-01-31'"`
	return cmd
}
