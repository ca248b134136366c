package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/weirstream/weir/deltalake"
)

func tableCheckpoint() *cobra.Command {
	var f tableFlags
	return change("checkpoint TABLE", "Write a Delta checkpoint of the newest version", &f, func(ctx context.Context, t *deltalake.Table) (any, string, error) {
		s := t.Latest()
		if err := t.WriteCheckpoint(ctx, s); err != nil {
			return nil, "", err
		}
		return map[string]int64{"version": s.Version()}, fmt.Sprintf("checkpoint of version %d", s.Version()), nil
	})
}
