package local

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/weirstream/weir/checkpoint"
	"github.com/weirstream/weir/dataflow"
	"github.com/weirstream/weir/internal/builtin"
	"github.com/weirstream/weir/internal/control"
	"github.com/weirstream/weir/internal/pack"
	"github.com/weirstream/weir/jobmanager"
	"github.com/weirstream/weir/jobmanager/fsm"
	"github.com/weirstream/weir/stream"
	"github.com/weirstream/weir/stream/spi"
	"github.com/weirstream/weir/taskmanager"
)

// Main is the main function of a program that is one job: it runs the job in a
// one-process cluster of its own, until the job ends or is interrupted (the first
// Ctrl-C stops it with a checkpoint, the next start resumes it). -help lists the
// flags; arguments KEY=VALUE are parameters of the job.
//
// The executable of a static pack is such a program. weir runs it as a worker
// process, and to ask what is in it, by arguments that only weir uses.
//
// Main does not return: it exits with 0, or with 1 and one sentence.
func Main(build Build) {
	if err := runMain(build, os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "weir:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

func runMain(build Build, args []string, out io.Writer) error {
	job := func(params map[string]string) (spi.Job, error) { return stream.Build(params, build) }
	if len(args) > 0 {
		switch args[0] {
		case pack.InspectArg:
			if len(args) != 3 {
				return fmt.Errorf("%s wants FILE PARAMS", pack.InspectArg)
			}
			return pack.InspectJob(job, args[1], args[2])
		case pack.CheckArg:
			if len(args) != 2 {
				return fmt.Errorf("%s wants PARAMS", pack.CheckArg)
			}
			return pack.CheckJob(job, args[1], os.Stdin)
		case workerArg:
			return runWorker(job)
		}
	}
	return runAlone(build, args, out)
}

// aloneOptions are the flags of a program that is one job.
type aloneOptions struct {
	dir, name, lake, checkpoints string
	parallelism                  int
	interval                     time.Duration
	budget                       ByteSize
	settings, params             map[string]string
}

func parseAlone(args []string, out io.Writer) (o aloneOptions, err error) {
	o.settings, o.params = map[string]string{}, map[string]string{}
	self := filepath.Base(os.Args[0])
	f := flag.NewFlagSet(self, flag.ContinueOnError)
	f.SetOutput(out)
	f.Usage = func() {
		fmt.Fprintf(out, "%s [flags] [KEY=VALUE ...] runs its job in a cluster of one process.\n", self)
		f.PrintDefaults()
	}
	f.StringVar(&o.dir, "dir", "./weir-data", "folder for everything: log, checkpoints, lake")
	f.StringVar(&o.name, "name", "job", "pipeline")
	f.StringVar(&o.lake, "lake", "", "folder or URL of the tables (default DIR/lake)")
	f.StringVar(&o.checkpoints, "checkpoints", "", "folder or URL of the checkpoints (default DIR/checkpoints)")
	f.IntVar(&o.parallelism, "p", 1, "parallelism")
	f.DurationVar(&o.interval, "checkpoint-interval", 10*time.Second, "time between checkpoints")
	o.budget = 512 << 20
	f.Var(&o.budget, "state-budget", "memory for keyed state")
	f.Func("set", "KEY=VALUE setting, such as a named connection; may be repeated", func(s string) error { return pair(s, o.settings) })
	if err := f.Parse(args); err != nil {
		return o, err
	}
	for _, a := range f.Args() {
		if err := pair(a, o.params); err != nil {
			return o, fmt.Errorf("parameter %q: %w", a, err)
		}
	}
	return o, nil
}

func pair(s string, into map[string]string) error {
	k, v, ok := strings.Cut(s, "=")
	if !ok || k == "" {
		return errors.New("want KEY=VALUE")
	}
	into[k] = v
	return nil
}

func runAlone(build Build, args []string, out io.Writer) (err error) {
	o, err := parseAlone(args, out)
	if errors.Is(err, flag.ErrHelp) {
		return nil
	}
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	TuneMemory(int64(o.budget))
	c, err := Start(ctx, Options{Dir: o.dir, Lake: o.lake, Checkpoints: o.checkpoints, Settings: o.settings, StateBudget: int64(o.budget),
		Slots: max(6, o.parallelism), Jobs: map[string]Build{linked: build}, Log: slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.Close()) }()
	id := dataflow.JobID("")
	for _, j := range c.Jobs.Jobs() {
		if !j.Phase.Terminal() {
			id = j.ID
			fmt.Fprintf(out, "%s resumes as %s\n", j.Pipeline, id)
		}
	}
	if id == "" {
		id, err = c.Run(ctx, RunRequest{Pack: linked, Name: o.name, Params: o.params, Parallelism: o.parallelism,
			Options: fsm.Options{Checkpoint: checkpoint.Options{Interval: o.interval}}})
		if err != nil {
			return err
		}
		fmt.Fprintf(out, "%s runs as %s, data in %s\n", o.name, id, o.dir)
	}
	if err := c.Wait(ctx, 100*time.Millisecond, nil); err != nil { // interrupted
		stop() // a second one ends the process
		fmt.Fprintln(out, "stopping with a checkpoint")
		return c.Suspend(context.Background())
	}
	return outcome(c.Jobs.Jobs(), id, out)
}

// linked is the name of the job in a program that is one.
const linked = "linked"

func outcome(jobs []jobmanager.Info, id dataflow.JobID, out io.Writer) error {
	for _, j := range jobs {
		if j.ID != id {
			continue
		}
		if j.Phase == fsm.Failed {
			return fmt.Errorf("%s failed: %s", id, j.Reason)
		}
		fmt.Fprintf(out, "%s %s\n", id, j.Phase)
	}
	return nil
}

// runWorker is a worker's life: a task manager whose links are files.
func runWorker(job func(map[string]string) (spi.Job, error)) (err error) {
	in, out := os.NewFile(3, "control in"), os.NewFile(4, "control out")
	if in == nil || out == nil {
		return fmt.Errorf("%s is for weir alone to call: start the program without it", workerArg)
	}
	syscall.CloseOnExec(3) // else what the job starts holds them open when this process is gone
	syscall.CloseOnExec(4)
	signal.Ignore(os.Interrupt) // the end of the input ends a worker
	r := bufio.NewReaderSize(in, 1<<16)
	line, err := r.ReadBytes('\n')
	if err != nil {
		return fmt.Errorf("worker: its configuration: %w", err)
	}
	var config workerConfig
	if err := json.Unmarshal(line, &config); err != nil {
		return fmt.Errorf("worker: its configuration: %w", err)
	}
	tuneWorker(config.StateBudget)
	ctx := context.Background()
	store, err := builtin.Openers().Open(ctx, config.Checkpoints)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	up := &wire{to: out}
	tm, err := taskmanager.New(taskmanager.Options{
		Dir: config.Dir, Store: store, Up: up, Loader: only(job), Sources: builtin.Sources(), Sinks: builtin.Sinks(), Value: builtin.ValueCodec,
		Settings: config.Settings, StateBudget: max(config.StateBudget, 1<<20), Log: slog.New(slog.NewTextHandler(os.Stderr, nil)),
	})
	if err != nil {
		return err
	}
	err = readLines(r, func(line []byte) error {
		if budget, ok := budgetOf(line); ok {
			tuneWorker(budget)
			tm.SetStateBudget(budget)
			return nil
		}
		m, err := control.Decode(line)
		if err == nil {
			tm.Send(m)
		}
		return err
	})
	return errors.Join(err, tm.Close())
}

// only is the loader of a program that holds one job.
type only func(map[string]string) (spi.Job, error)

func (f only) Load(_ string, params map[string]string) (spi.Job, error) { return f(params) }

var _ control.Link = (*wire)(nil)
