package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime/pprof"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/weirstream/weir/bench"
	"github.com/weirstream/weir/bench/nexmark"
	"github.com/weirstream/weir/local"
)

// benchCommand runs the workloads of package bench.
func benchCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "bench", Short: "Measure what jobs cost in CPU time, on this machine"}
	cmd.AddCommand(benchNexmarkCommand(), benchMainJobCommand(), benchPaceCommand(), benchStateCommand())
	return cmd
}

// benchFlags are flags of all workloads.
type benchFlags struct {
	output                      format
	cpuProfile, memProfile, log string
	budget                      local.ByteSize
}

func (f *benchFlags) add(cmd *cobra.Command) {
	addFormat(cmd, &f.output)
	cmd.Flags().StringVar(&f.cpuProfile, "cpuprofile", "", "write a CPU profile of the run to this file")
	cmd.Flags().StringVar(&f.memProfile, "memprofile", "", "write a profile of the heap at the end to this file")
	cmd.Flags().StringVar(&f.log, "log", "", "append the engine's log to this file")
	f.budget = 1 << 30
	cmd.Flags().Var(&f.budget, "state-budget", "memory for keyed state")
}

// profiled calls f under the profiles that were asked for.
func (f *benchFlags) profiled(run func() error) (err error) {
	if f.cpuProfile != "" {
		w, err := os.Create(f.cpuProfile)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, w.Close()) }()
		if err := pprof.StartCPUProfile(w); err != nil {
			return err
		}
		defer pprof.StopCPUProfile()
	}
	if err := run(); err != nil {
		return err
	}
	if f.memProfile == "" {
		return nil
	}
	w, err := os.Create(f.memProfile)
	if err != nil {
		return err
	}
	return errors.Join(pprof.Lookup("allocs").WriteTo(w, 0), w.Close())
}

func benchNexmarkCommand() *cobra.Command {
	var f benchFlags
	var query, dump string
	events, density := count(10e6), count(100e3)
	var parallelism int
	var interval time.Duration
	cmd := &cobra.Command{
		Use: "nexmark", Short: "Run Nexmark queries in this process", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			o := bench.NexmarkOptions{Query: query, Parallelism: parallelism, Interval: interval, Dump: dump}
			if parallelism < 1 {
				return fmt.Errorf("--parallelism %d: want at least 1", parallelism)
			}
			o.Events, o.Density, o.StateBudget = int64(events), int64(density), int64(f.budget)
			local.TuneMemory(o.StateBudget)
			if query == "all" {
				return f.nexmarkAll(cmd)
			}
			log, done, err := bench.LogTo(f.log)
			if err != nil {
				return err
			}
			o.Log = log
			var r bench.NexmarkResult
			if err := errors.Join(f.profiled(func() (err error) {
				r, err = bench.Nexmark(cmd.Context(), o)
				return err
			}), done()); err != nil {
				return err
			}
			if f.output == "json" {
				return json.NewEncoder(cmd.OutOrStdout()).Encode(r)
			}
			return printNexmark(cmd.OutOrStdout(), []bench.NexmarkResult{r})
		},
	}
	f.add(cmd)
	cmd.Flags().StringVarP(&query, "query", "q", "all", "q0, q1, ... or all: each in a process of its own")
	cmd.Flags().Var(&events, "events", "events to make")
	cmd.Flags().Var(&density, "density", "events per second of event time")
	cmd.Flags().IntVarP(&parallelism, "parallelism", "p", 2, "subtasks of each operator")
	cmd.Flags().DurationVar(&interval, "checkpoint-interval", 10*time.Second, "time between checkpoints")
	cmd.Flags().StringVar(&dump, "dump", "", "write events and answers as Parquet files to this folder")
	return cmd
}

// nexmarkAll runs every query in a child process, so that none pays for the heap
// of another.
func (f *benchFlags) nexmarkAll(cmd *cobra.Command) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	var results []bench.NexmarkResult
	for _, q := range nexmark.Queries() {
		args := []string{"bench", "nexmark", "--query=" + q.Name, "--output=json"}
		for _, name := range []string{"events", "density", "parallelism", "checkpoint-interval", "dump", "state-budget", "log"} {
			args = append(args, "--"+name+"="+cmd.Flags().Lookup(name).Value.String())
		}
		if f.cpuProfile != "" {
			args = append(args, "--cpuprofile="+f.cpuProfile+"."+q.Name)
		}
		var r bench.NexmarkResult
		if err := runJSON(cmd.Context(), self, args, &r); err != nil {
			return fmt.Errorf("%s: %w", q.Name, err)
		}
		results = append(results, r)
		if f.output == "json" {
			if err := json.NewEncoder(cmd.OutOrStdout()).Encode(r); err != nil {
				return err
			}
		}
	}
	if f.output == "json" {
		return nil
	}
	return printNexmark(cmd.OutOrStdout(), results)
}

// runJSON runs a program and decodes what it prints.
func runJSON(ctx context.Context, program string, args []string, v any) error {
	child := exec.CommandContext(ctx, program, args...)
	child.Stderr = os.Stderr
	out, err := child.Output()
	if err != nil {
		return err
	}
	return json.Unmarshal(out, v)
}

func printNexmark(out io.Writer, results []bench.NexmarkResult) error {
	w := tabwriter.NewWriter(out, 0, 4, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "query\tevents\tseconds\tK events/s\tCPU s\tK events/CPU s\tgenerator CPU s\tstate MiB\tcheckpoints\tp99 ms\tRSS MiB\t")
	for _, r := range results {
		fmt.Fprintf(w, "%s\t%d\t%.1f\t%.0f\t%.2f\t%.0f\t%.2f\t%d\t%d\t%.0f\t%d\t\n", r.Query, r.Events, r.Seconds, r.PerSecond/1e3, r.CPUSeconds,
			r.PerCPU/1e3, r.Generator, r.StateBytes>>20, r.Checkpoints.Count, r.Checkpoints.P99, r.RSSBytes>>20)
	}
	return w.Flush()
}
