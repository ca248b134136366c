package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/weirstream/weir/bench"
	"github.com/weirstream/weir/local"
)

func benchStateCommand() *cobra.Command {
	var f benchFlags
	keys, touched := count(20e6), count(10e3)
	o := bench.StateOptions{}
	cmd := &cobra.Command{
		Use: "state", Short: "Measure state far beyond memory: load, small epochs, restore", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			o.Keys, o.Touched, o.Budget = int64(keys), int64(touched), int64(f.budget)
			local.TuneMemory(o.Budget)
			log, done, err := bench.LogTo(f.log)
			if err != nil {
				return err
			}
			o.Log = log
			var r bench.StateResult
			if err := errors.Join(f.profiled(func() (err error) {
				r, err = bench.State(cmd.Context(), o)
				return err
			}), done()); err != nil {
				return err
			}
			if f.output == "json" {
				return json.NewEncoder(cmd.OutOrStdout()).Encode(r)
			}
			fmt.Fprintf(cmd.OutOrStdout(), `%d keys, budget %d MiB: peak RSS %d MiB
load %.1f s, checkpoint after it names %d MiB, the slowest took %.0f ms
%d epochs of %d touched keys: %.0f ms and %d KiB at the median, %.0f ms at the 99th percentile
the slowest subtask held for %.2f ms at the median, %.2f ms at the 99th percentile
uploaded %d MiB for %d MiB changed: %.2f
restore to the first record %.0f ms
`, r.Keys, r.Budget>>20, r.RSSBytes>>20, r.LoadSeconds, r.LoadedBytes>>20, r.FullMS, r.Epochs, r.Touched, r.EpochMS, r.EpochBytes>>10, r.EpochP99,
				r.HeldMS, r.HeldP99,
				r.Uploaded>>20, r.Changed>>20, r.Amplification, r.RestoreMS)
			return nil
		},
	}
	f.add(cmd)
	cmd.Flags().Var(&keys, "keys", "keys to load, 100 bytes of state each")
	cmd.Flags().Var(&touched, "touched", "keys touched per epoch, drawn uniformly")
	cmd.Flags().IntVar(&o.Epochs, "epochs", 200, "epochs of touching")
	cmd.Flags().DurationVar(&o.Interval, "checkpoint-interval", 500*time.Millisecond, "time between checkpoints while touching")
	cmd.Flags().IntVarP(&o.Parallelism, "parallelism", "p", 2, "subtasks of each operator")
	return cmd
}
