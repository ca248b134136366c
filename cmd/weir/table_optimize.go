package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/weirstream/weir/deltalake"
	"github.com/weirstream/weir/local"
)

func tableOptimize() *cobra.Command {
	var f tableFlags
	var target local.ByteSize
	var full bool
	var zorder []string
	cmd := change("optimize TABLE", "Write small files together", &f, func(ctx context.Context, t *deltalake.Table) (any, string, error) {
		o := deltalake.OptimizeOptions{TargetBytes: int64(target), ZOrder: zorder, Full: full}
		var err error
		if o.Where, err = f.condition(); err != nil {
			return nil, "", err
		}
		m, err := t.Optimize(ctx, o)
		if err != nil {
			return nil, "", err
		}
		return m, metricsText(m), nil
	})
	cmd.Flags().Var(&target, "target-bytes", "size of files (default: delta.targetFileSize, else 128MiB)")
	cmd.Flags().StringSliceVar(&zorder, "zorder-by", nil, "columns to order rows by; not for a clustered table")
	cmd.Flags().BoolVar(&full, "full", false, "of a clustered table: cluster all files anew")
	cmd.Flags().StringVar(&f.where, "where", "", "condition on partition columns")
	return cmd
}
