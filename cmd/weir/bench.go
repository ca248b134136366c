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
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/weirstream/weir/bench"
	"github.com/weirstream/weir/bench/nexmark"
)

// benchCommand runs the workloads of package bench.
func benchCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "bench", Short: "Measure what jobs cost in CPU time, on this machine"}
	cmd.AddCommand(benchNexmarkCommand(), benchMainJobCommand(), benchPaceCommand(), benchStateCommand())
	return cmd
}

// benchFlags are flags of all workloads.
type benchFlags struct {
	output, cpuProfile, memProfile, log, budget string
}

func (f *benchFlags) add(cmd *cobra.Command) {
	cmd.Flags().StringVarP(&f.output, "output", "o", "table", "json or table")
	cmd.Flags().StringVar(&f.cpuProfile, "cpuprofile", "", "write a CPU profile of the run to this file")
	cmd.Flags().StringVar(&f.memProfile, "memprofile", "", "write a profile of the heap at the end to this file")
	cmd.Flags().StringVar(&f.log, "log", "", "append the engine's log to this file")
	cmd.Flags().StringVar(&f.budget, "state-budget", "1GiB", "memory for state, such as 512MiB")
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

func (f *benchFlags) check() error {
	if f.output != "json" && f.output != "table" {
		return fmt.Errorf("--output %q: want json or table", f.output)
	}
	return nil
}

func benchNexmarkCommand() *cobra.Command {
	var f benchFlags
	var query, events, density, dump string
	var parallelism int
	var interval time.Duration
	cmd := &cobra.Command{
		Use: "nexmark", Short: "Run Nexmark queries in this process", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			o := bench.NexmarkOptions{Query: query, Parallelism: parallelism, Interval: interval, Dump: dump}
			err := f.check()
			n, err1 := parseCount("events", events)
			d, err2 := parseCount("density", density)
			b, err3 := parseBytes("state-budget", f.budget)
			if parallelism < 1 {
				err = errors.Join(err, fmt.Errorf("--parallelism %d: want at least 1", parallelism))
			}
			if err := errors.Join(err, err1, err2, err3); err != nil {
				return err
			}
			o.Events, o.Density, o.StateBudget = n, d, b
			tuneMemory(b)
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
	cmd.Flags().StringVar(&events, "events", "10M", "events to make")
	cmd.Flags().StringVar(&density, "density", "100k", "events per second of event time")
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

// parseCount reads a number such as 100000, 100k or 10M.
func parseCount(flag, text string) (int64, error) {
	digits, unit := strings.ToLower(text), int64(1)
	for suffix, u := range map[string]int64{"k": 1e3, "m": 1e6, "b": 1e9} {
		if rest, ok := strings.CutSuffix(digits, suffix); ok {
			digits, unit = rest, u
			break
		}
	}
	n, err := strconv.ParseInt(digits, 10, 64)
	if err != nil || n < 1 || n > (1<<62)/unit {
		return 0, fmt.Errorf("--%s %q: want a number such as 100000, 100k or 10M", flag, text)
	}
	return n * unit, nil
}

// parseBytes reads a size such as 1048576, 512MiB or 1GiB.
func parseBytes(flag, text string) (int64, error) {
	digits, shift := text, 0
	for suffix, s := range map[string]int{"KiB": 10, "MiB": 20, "GiB": 30, "TiB": 40} {
		if rest, ok := strings.CutSuffix(text, suffix); ok {
			digits, shift = rest, s
			break
		}
	}
	n, err := strconv.ParseInt(digits, 10, 64)
	if err != nil || n < 1 || n > (1<<62)>>shift {
		return 0, fmt.Errorf("--%s %q: want a size such as 512MiB or 1GiB", flag, text)
	}
	return n << shift, nil
}
