package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/weirstream/weir/bench"
	"github.com/weirstream/weir/bench/mainjob"
	"github.com/weirstream/weir/local"
)

// benchMainJob is the flags of weir bench mainjob.
type benchMainJob struct {
	benchFlags
	workload, brokers, guarantee     string
	events                           count
	parallelism, keys                int
	rate                             int64
	interval, warm, run, floor, idle time.Duration
	loaded                           bool
	properties                       map[string]string
}

func benchMainJobCommand() *cobra.Command {
	f := new(benchMainJob)
	cmd := &cobra.Command{
		Use: "mainjob", Short: "Run JSON records from Kafka through keyed actors into Delta, and parts of that, in this process", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return f.runAll(cmd) },
	}
	f.add(cmd)
	cmd.Flags().StringVarP(&f.workload, "workload", "w", "all", strings.Join(bench.Workloads(), ", ")+", latency or all but latency")
	f.events = 5e6
	cmd.Flags().Var(&f.events, "events", "records")
	cmd.Flags().IntVar(&f.keys, "keys", 10_000, "users, by whom records are keyed")
	cmd.Flags().StringVar(&f.brokers, "broker", "", "a Kafka to use (HOST:PORT,...); by default the embedded one, in a process of its own")
	cmd.Flags().IntVarP(&f.parallelism, "parallelism", "p", 2, "subtasks of each operator")
	cmd.Flags().DurationVar(&f.interval, "checkpoint-interval", time.Second, "time between checkpoints")
	cmd.Flags().Int64Var(&f.rate, "rate", 10_000, "records per second, for latency")
	cmd.Flags().StringVar(&f.guarantee, "guarantee", "exactly_once", "of the sink, for latency: exactly_once (read committed), at_least_once or none")
	cmd.Flags().DurationVar(&f.warm, "warm-up", 5*time.Second, "not counted, for latency")
	cmd.Flags().DurationVar(&f.run, "duration", 20*time.Second, "counted, for latency")
	cmd.Flags().DurationVar(&f.floor, "floor", 10*time.Second, "first send the records through a topic without a job for so long, for latency; 0: do not")
	cmd.Flags().DurationVar(&f.idle, "idle", 30*time.Second, "in the end let the job wait for records for so long, for latency; 0: do not")
	cmd.Flags().StringToStringVar(&f.properties, "property", nil, "Kafka client properties of the job's connectors, such as linger.ms=5")
	cmd.Flags().BoolVar(&f.loaded, "loaded", false, "the topic holds the records already")
	return cmd
}

// benchPaceCommand sends records on schedule; weir bench mainjob starts it.
func benchPaceCommand() *cobra.Command {
	var o mainjob.PacedOptions
	cmd := &cobra.Command{
		Use: "pace", Short: "Send records on schedule and take the time until they come out", Args: cobra.NoArgs, Hidden: true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var l mainjob.Latencies
			used, err := bench.CPU(func() (err error) {
				l, err = mainjob.Pace(cmd.Context(), o)
				return err
			})
			if err != nil {
				return err
			}
			l.CPU = used
			return json.NewEncoder(cmd.OutOrStdout()).Encode(l)
		},
	}
	cmd.Flags().StringVar(&o.Brokers, "broker", "", "")
	cmd.Flags().StringVar(&o.To, "to", mainjob.Paced, "")
	cmd.Flags().StringVar(&o.From, "from", mainjob.Out, "")
	cmd.Flags().Int64Var(&o.Rate, "rate", 10_000, "")
	cmd.Flags().IntVar(&o.Keys, "keys", 10_000, "")
	cmd.Flags().DurationVar(&o.Warm, "warm-up", 5*time.Second, "")
	cmd.Flags().DurationVar(&o.Run, "duration", 20*time.Second, "")
	cmd.Flags().BoolVar(&o.Committed, "committed", false, "")
	return cmd
}

// runAll starts a broker if none is given, loads it, and runs the workloads, each
// in a process of its own if they are several.
func (f *benchMainJob) runAll(cmd *cobra.Command) (err error) {
	if f.keys > mainjob.MostUsers {
		err = errors.Join(err, fmt.Errorf("--keys %d: want at most %d", f.keys, mainjob.MostUsers))
	}
	if f.parallelism < 1 || f.keys < 1 || f.rate < 1 {
		err = errors.Join(err, fmt.Errorf("--parallelism %d, --keys %d, --rate %d: want at least 1 of each", f.parallelism, f.keys, f.rate))
	}
	if err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	kind := "given"
	needs := f.workload != bench.MadeActor
	if needs && f.brokers == "" {
		stop, err1 := f.startBroker(cmd.Context(), self)
		if err1 != nil {
			return err1
		}
		defer func() { err = errors.Join(err, stop()) }()
		kind = "embedded"
	}
	if needs && !f.loaded {
		if err := f.load(cmd.Context(), int64(f.events)); err != nil {
			return err
		}
	}
	if f.workload == "all" {
		return f.each(cmd, self)
	}
	log, done, err := bench.LogTo(f.log)
	if err != nil {
		return err
	}
	local.TuneMemory(int64(f.budget))
	o := bench.MainJobOptions{Workload: f.workload, Brokers: f.brokers, Kafka: kind, Events: int64(f.events), Keys: f.keys, Parallelism: f.parallelism, StateBudget: int64(f.budget),
		Interval: f.interval, Log: log, Rate: f.rate, Guarantee: f.guarantee, Idle: f.idle, Kgo: f.properties}
	o.Pace = f.pace(self, mainjob.Paced, mainjob.Out, f.warm, f.run)
	if f.floor > 0 {
		o.Floor = f.pace(self, mainjob.Floor, mainjob.Floor, f.warm, f.floor)
	}
	var r bench.MainJobResult
	if err := errors.Join(f.profiled(func() (err error) {
		r, err = bench.MainJob(cmd.Context(), o)
		return err
	}), done()); err != nil {
		return err
	}
	return f.print(cmd.OutOrStdout(), r)
}

// pace returns what sends records to one topic and takes them from another, in a
// process of its own.
func (f *benchMainJob) pace(self, to, from string, warm, run time.Duration) func(ctx context.Context) (mainjob.Latencies, error) {
	args := []string{"bench", "pace", "--broker=" + f.brokers, "--to=" + to, "--from=" + from, fmt.Sprintf("--rate=%d", f.rate), fmt.Sprintf("--keys=%d", f.keys),
		"--warm-up=" + warm.String(), "--duration=" + run.String(), fmt.Sprintf("--committed=%v", f.guarantee == "exactly_once")}
	return func(ctx context.Context) (l mainjob.Latencies, err error) {
		err = runJSON(ctx, self, args, &l)
		return l, err
	}
}

// load creates and fills the topics that the workload reads.
func (f *benchMainJob) load(ctx context.Context, n int64) error {
	if f.workload == bench.Latency {
		for _, t := range []string{mainjob.Paced, mainjob.Out, mainjob.Floor} {
			if err := mainjob.CreateTopic(ctx, f.brokers, t, 4); err != nil {
				return err
			}
		}
		return nil
	}
	if err := mainjob.CreateTopic(ctx, f.brokers, mainjob.Topic, 8); err != nil {
		return err
	}
	return mainjob.Load(ctx, f.brokers, mainjob.Topic, n, f.keys)
}

// each runs every workload in a process of its own.
func (f *benchMainJob) each(cmd *cobra.Command, self string) error {
	var results []bench.MainJobResult
	for _, w := range bench.Workloads() {
		args := []string{"bench", "mainjob", "--workload=" + w, "--broker=" + f.brokers, "--loaded", "--output=json"}
		for _, name := range []string{"events", "keys", "parallelism", "checkpoint-interval", "state-budget", "log"} {
			args = append(args, "--"+name+"="+cmd.Flags().Lookup(name).Value.String())
		}
		if f.cpuProfile != "" {
			args = append(args, "--cpuprofile="+f.cpuProfile+"."+w)
		}
		var r bench.MainJobResult
		if err := runJSON(cmd.Context(), self, args, &r); err != nil {
			return fmt.Errorf("%s: %w", w, err)
		}
		results = append(results, r)
	}
	return f.print(cmd.OutOrStdout(), results...)
}

func (f *benchMainJob) print(out io.Writer, results ...bench.MainJobResult) error {
	if f.output == "json" {
		enc := json.NewEncoder(out)
		for _, r := range results {
			if err := enc.Encode(r); err != nil {
				return err
			}
		}
		return nil
	}
	w := tabwriter.NewWriter(out, 0, 4, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "workload\trecords\tseconds\tK records/s\tCPU s\tK records/CPU s\tcheckpoints\tp99 ms\tRSS MiB\t")
	for _, r := range results {
		fmt.Fprintf(w, "%s\t%d\t%.1f\t%.0f\t%.2f\t%.0f\t%d\t%.0f\t%d\t\n", r.Workload, r.Events, r.Seconds, r.PerSecond/1e3, r.CPUSeconds,
			r.PerCPU/1e3, r.Checkpoints.Count, r.Checkpoints.P99, r.RSSBytes>>20)
		for _, of := range []struct {
			name string
			*mainjob.Latencies
		}{{"latency", r.Latency}, {"without the job", r.Floor}} {
			if l := of.Latencies; l != nil {
				fmt.Fprintf(w, "%s\t%d of %d\tp50 %.1f ms\tp99 %.1f ms\tp99.9 %.1f ms\tmax %.1f ms\t\t\t\t\n", of.name, l.Received, l.Sent, l.P50, l.P99, l.P999, l.Max)
			}
		}
		if r.Latency != nil {
			fmt.Fprintf(w, "CPU ms/s\tloaded %.0f\tidle %.1f\tsender %.0f\t\t\t\t\t\t\n", r.LoadCPU, r.IdleCPU, r.Latency.CPU)
		}
	}
	return w.Flush()
}

// startBroker starts the embedded broker in a child process, with its records in
// memory.
func (f *benchMainJob) startBroker(ctx context.Context, self string) (stop func() error, err error) {
	child := exec.CommandContext(ctx, self, "broker", "--listen", "127.0.0.1:0")
	child.Stderr = os.Stderr
	child.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	out, err := child.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := child.Start(); err != nil {
		return nil, fmt.Errorf("embedded broker: %w", err)
	}
	stop = func() error {
		err := child.Process.Signal(syscall.SIGTERM)
		var exit *exec.ExitError
		if werr := child.Wait(); werr != nil && !errors.As(werr, &exit) { // it was told to
			return errors.Join(err, werr)
		}
		return err
	}
	s := bufio.NewScanner(out)
	if !s.Scan() {
		return nil, errors.Join(errors.New("the embedded broker did not start"), s.Err(), stop())
	}
	f.brokers = s.Text()
	return stop, nil
}
