package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/weirstream/weir/deltalake"
)

func tableCheckpoint() *cobra.Command {
	var f tableFlags
	cmd := &cobra.Command{
		Use: "checkpoint TABLE", Short: "Write a Delta checkpoint of the newest version", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := f.counted(cmd.Context(), args[0]); err != nil {
				return err
			}
			var v int64
			err := f.meter.during(cmd.ErrOrStderr(), cmd.Name(), func() (err error) { v, err = writeCheckpoint(cmd.Context(), f.meter); return err })
			if err != nil {
				return fmt.Errorf("table %s: %w", plain(args[0]), err)
			}
			return f.print(cmd.OutOrStdout(), map[string]int64{"version": v}, func() error {
				_, err := fmt.Fprintf(cmd.OutOrStdout(), "checkpoint of version %d\n", v)
				return err
			})
		},
	}
	addFormat(cmd, &f.output)
	return cmd
}

// writeCheckpoint streams the log, which holds no table in memory. What a stream
// stumbles over, such as a damaged checkpoint, opening the table may find a way around.
func writeCheckpoint(ctx context.Context, store deltalake.Store) (int64, error) {
	v, err := deltalake.StreamCheckpoint(ctx, store, deltalake.TableOptions{}, deltalake.CheckpointOptions{})
	if err == nil || ctx.Err() != nil {
		return v, err
	}
	t, err := deltalake.Open(ctx, store, deltalake.TableOptions{})
	if err != nil {
		return 0, err
	}
	s := t.Latest()
	return s.Version(), t.WriteCheckpoint(ctx, s)
}
