package main

import (
	"context"
	"errors"

	"github.com/spf13/cobra"

	"github.com/weirstream/weir/deltalake"
)

func tableDelete() *cobra.Command {
	var f tableFlags
	var all bool
	cmd := change("delete TABLE --where CONDITION", "Remove rows", &f, func(ctx context.Context, t *deltalake.Table) (any, string, error) {
		if f.where == "" && !all {
			return nil, "", errors.New("--where says which rows to delete; --all deletes every row")
		}
		e, err := f.condition()
		if err != nil {
			return nil, "", err
		}
		m, err := t.Delete(ctx, e)
		if err != nil {
			return nil, "", err
		}
		return m, metricsText(m), nil
	})
	cmd.Flags().StringVar(&f.where, "where", "", "condition of the rows to delete")
	cmd.Flags().BoolVar(&all, "all", false, "delete every row")
	return cmd
}
