package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/weirstream/weir/checkpoint"
	"github.com/weirstream/weir/dataflow"
	"github.com/weirstream/weir/examples/retail/load"
	"github.com/weirstream/weir/internal/pack"
	"github.com/weirstream/weir/jobmanager"
	"github.com/weirstream/weir/jobmanager/fsm"
	"github.com/weirstream/weir/local"
)

// devOptions is what the command line of weir dev says.
type devOptions struct {
	dir, listen, broker, brokerListen, lake, checkpoints, logFile string
	fresh, retail, untilDone                                      bool
	slots, parallelism, limit                                     int
	interval, timeout, commitTimeout                              time.Duration
	stateBudget                                                   local.ByteSize
	settings, params                                              []string
}

func devCommand() *cobra.Command {
	var o devOptions
	cmd := &cobra.Command{
		Use: "dev [PACK | FOLDER]...", Short: "Run a whole cluster in this process, with jobs and an embedded Kafka broker",
		Long: `Dev runs a job manager and a task manager in this process, and the embedded
broker in a child process, all data in one folder. Jobs given as packs or folders
are submitted unless they already run. The first Ctrl-C stops every job with a
checkpoint, the second exits at once; the next start resumes the jobs there.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			return runDev(cmd.Context(), o, args, cmd.OutOrStdout())
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.dir, "dir", "./weir-data", "folder for everything: log, checkpoints, lake, broker")
	f.BoolVar(&o.fresh, "fresh", false, "empty --dir first")
	f.StringVar(&o.listen, "listen", "127.0.0.1:8081", "address of the REST API and the page; empty: none")
	f.StringVar(&o.broker, "kafka", "", "bootstrap servers of a Kafka to use instead of the embedded broker")
	f.StringVar(&o.brokerListen, "broker-listen", "127.0.0.1:0", "address of the embedded broker; port 0 takes a free one")
	f.StringVar(&o.lake, "lake", "", "folder or URL of the tables (default DIR/lake)")
	f.StringVar(&o.checkpoints, "checkpoints", "", "folder or URL of the checkpoints (default DIR/checkpoints)")
	f.StringVar(&o.logFile, "log", "", "log file (default DIR/weir.log; - is standard error)")
	f.BoolVar(&o.retail, "retail", false, "load the retail example's records into their topics")
	f.IntVar(&o.limit, "retail-limit", 0, "load at most this many purchase lines (0: all)")
	f.BoolVar(&o.untilDone, "until-done", false, "when all input is committed: drain the jobs, report, exit")
	f.IntVar(&o.slots, "slots", 6, "slots of the task manager")
	f.IntVarP(&o.parallelism, "parallelism", "p", 2, "parallelism of the jobs given")
	f.DurationVar(&o.interval, "checkpoint-interval", time.Second, "time between checkpoints")
	f.DurationVar(&o.timeout, "checkpoint-timeout", 10*time.Minute, "a checkpoint that takes longer is aborted")
	f.DurationVar(&o.commitTimeout, "commit-timeout", 2*time.Minute, "a job fails when sinks that cannot commit hold checkpoints back for longer; negative: never")
	o.stateBudget = 512 << 20
	f.Var(&o.stateBudget, "state-budget", "memory for keyed state of all jobs, worker processes included")
	f.StringArrayVar(&o.settings, "set", nil, "KEY=VALUE setting, such as a named connection; may be repeated")
	f.StringArrayVar(&o.params, "param", nil, "KEY=VALUE parameter of the jobs given; may be repeated")
	return cmd
}

// dev is a running weir dev.
type dev struct {
	opts    devOptions
	started time.Time
	out     *status
	cluster *local.Cluster
	brokers string
	label   string // of the retail data
	counts  load.Counts
	loaded  chan error // the loader's result; nil channel without a loader
}

func runDev(ctx context.Context, o devOptions, jobs []string, out io.Writer) (err error) {
	local.TuneMemory(int64(o.stateBudget))
	d := &dev{opts: o, started: time.Now(), out: newStatus(out)}
	if o.fresh {
		if err := emptyDir(o.dir); err != nil {
			return err
		}
	}
	if err := os.MkdirAll(o.dir, 0o755); err != nil {
		return fmt.Errorf("--dir: %w", err)
	}
	log, closeLog, err := openLog(o)
	if err != nil {
		return err
	}
	defer closeLog()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	interrupted := make(chan os.Signal, 2)
	signal.Notify(interrupted, os.Interrupt)
	defer signal.Stop(interrupted)

	stopBroker, err := d.startBroker(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, stopBroker()) }()
	if err := d.startCluster(ctx, log); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.cluster.Close()) }()
	stopREST, err := d.serve()
	if err != nil {
		return err
	}
	defer stopREST()
	if o.retail {
		if err := d.startLoader(ctx); err != nil {
			return err
		}
	}
	if err := d.submit(ctx, jobs); err != nil {
		return err
	}
	return d.watch(ctx, interrupted)
}

func openLog(o devOptions) (*slog.Logger, func(), error) {
	if o.logFile == "-" {
		return slog.New(slog.NewTextHandler(os.Stderr, nil)), func() {}, nil
	}
	f, err := os.OpenFile(cmp.Or(o.logFile, filepath.Join(o.dir, "weir.log")), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, nil, fmt.Errorf("--log: %w", err)
	}
	return slog.New(slog.NewTextHandler(f, nil)), func() { f.Close() }, nil
}

// emptyDir removes a folder that weir made; it refuses any other.
func emptyDir(dir string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, os.ErrNotExist) || err == nil && len(entries) == 0 {
		return nil
	}
	if err != nil {
		return fmt.Errorf("--fresh: %w", err)
	}
	if _, err := os.Stat(filepath.Join(dir, "raft")); err != nil {
		return fmt.Errorf("--fresh: %s is not empty and was not made by weir dev: choose another --dir", dir)
	}
	return os.RemoveAll(dir)
}

func (d *dev) startCluster(ctx context.Context, log *slog.Logger) (err error) {
	settings := map[string]string{"connections.kafka.default.bootstrap.servers": d.brokers}
	if err := parsePairs("--set", d.opts.settings, settings); err != nil {
		return err
	}
	d.cluster, err = local.Start(ctx, local.Options{
		Dir: d.opts.dir, Lake: d.opts.lake, Checkpoints: d.opts.checkpoints, Slots: d.opts.slots, StateBudget: int64(d.opts.stateBudget), Settings: settings, Log: log,
	})
	return err
}

func parsePairs(flag string, pairs []string, into map[string]string) error {
	for _, p := range pairs {
		k, v, ok := strings.Cut(p, "=")
		if !ok || k == "" {
			return fmt.Errorf("%s %q: want KEY=VALUE", flag, p)
		}
		into[k] = v
	}
	return nil
}

// submit starts the jobs given, except those that already live.
func (d *dev) submit(ctx context.Context, jobs []string) error {
	params := map[string]string{}
	if err := parsePairs("--param", d.opts.params, params); err != nil {
		return err
	}
	live := map[dataflow.Pipeline]bool{}
	for _, i := range d.cluster.Jobs.Jobs() {
		live[i.Pipeline] = live[i.Pipeline] || !i.Phase.Terminal()
	}
	for _, job := range jobs {
		path, err := d.pack(ctx, job)
		if err != nil {
			return err
		}
		m, err := pack.Open(path)
		if err != nil {
			return err
		}
		if live[dataflow.Pipeline(m.Name)] {
			d.out.linef("%s resumes", m.Name)
			continue
		}
		id, err := d.cluster.Run(ctx, local.RunRequest{Pack: path, Params: params, Parallelism: d.opts.parallelism,
			Options: fsm.Options{Checkpoint: checkpointOptions(d.opts)}})
		if err != nil {
			return fmt.Errorf("%s: %w", job, err)
		}
		d.out.linef("%s runs as %s", m.Name, id)
	}
	return nil
}

func checkpointOptions(o devOptions) checkpoint.Options {
	return checkpoint.Options{Interval: o.interval, Timeout: o.timeout, CommitTimeout: o.commitTimeout}
}

// pack returns the path of a pack, building it from a folder if it is one.
func (d *dev) pack(ctx context.Context, job string) (string, error) {
	st, err := os.Stat(job)
	if err != nil {
		return "", fmt.Errorf("job %s: %w: name a pack (.wj) or the folder of a job", job, err)
	}
	if !st.IsDir() {
		return job, nil
	}
	dir := filepath.Join(d.opts.dir, "built")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	abs, err := filepath.Abs(job)
	if err != nil {
		return "", err
	}
	built, err := buildPack(ctx, d.out.out, pack.BuildOptions{Dir: job, Out: filepath.Join(dir, filepath.Base(abs)+pack.Suffix)})
	if err != nil {
		return "", err
	}
	return built.Path, nil
}

// watch shows the status until the user or the end of the input stops it.
func (d *dev) watch(ctx context.Context, interrupted <-chan os.Signal) error {
	tick := time.NewTicker(250 * time.Millisecond)
	defer tick.Stop()
	draining := false
	for {
		infos := d.cluster.Jobs.Jobs()
		d.out.show(d.started, infos, &d.counts)
		select {
		case err := <-d.loaded:
			if err != nil {
				return err
			}
			d.loaded = nil
			d.out.linef("all input is in its topics: %s", d.counted())
		case <-tick.C:
		case <-interrupted:
			return d.suspend(ctx, interrupted)
		case <-ctx.Done():
			return d.suspend(context.WithoutCancel(ctx), interrupted)
		}
		if err := firstFailure(infos); err != nil && d.opts.untilDone {
			return err
		}
		if d.opts.untilDone && d.loaded == nil && !draining && d.allRead(infos) {
			draining = true
			if err := d.drain(ctx, infos); err != nil {
				return err
			}
			return d.report(ctx)
		}
	}
}

func firstFailure(infos []jobmanager.Info) error {
	for _, i := range infos {
		if i.Phase == fsm.Failed {
			return fmt.Errorf("job %s (%s) failed: %s", i.ID, i.Pipeline, i.Reason)
		}
	}
	return nil
}

// suspend stops all jobs with a checkpoint; a second interrupt ends it.
func (d *dev) suspend(ctx context.Context, interrupted <-chan os.Signal) error {
	d.out.linef("stopping with a checkpoint; Ctrl-C again exits at once, losing nothing that was committed")
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- d.cluster.Suspend(ctx) }()
	select {
	case err := <-done:
		for _, i := range d.cluster.Jobs.Jobs() {
			if n := len(i.Epochs); i.Phase == fsm.Suspended && n > 0 && i.Epochs[n-1].Kind == checkpoint.Suspend {
				d.out.linef("%s stopped at checkpoint %d", i.Pipeline, i.Epochs[n-1].Epoch)
			}
		}
		d.out.linef("stopped; the next weir dev --dir %s resumes", d.opts.dir)
		return err
	case <-interrupted:
		os.Exit(130)
		return nil
	}
}

// waitForEnd blocks until the process is asked to end.
func waitForEnd(ctx context.Context) {
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()
	<-ctx.Done()
}
