package local

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/weirstream/weir/cluster"
	"github.com/weirstream/weir/dataflow"
	"github.com/weirstream/weir/internal/builtin"
	"github.com/weirstream/weir/internal/control"
	"github.com/weirstream/weir/internal/objstore"
	"github.com/weirstream/weir/internal/pack"
	"github.com/weirstream/weir/jobmanager"
	"github.com/weirstream/weir/jobmanager/fsm"
	"github.com/weirstream/weir/stream"
	"github.com/weirstream/weir/stream/spi"
	"github.com/weirstream/weir/taskmanager"
)

// Options configures a Cluster. A zero field means its default.
type Options struct {
	Dir         string            // for the Raft log, packs and local state; required
	Checkpoints string            // folder or URL; Dir/checkpoints
	Lake        string            // folder or URL of tables; Dir/lake
	Slots       int               // 6
	StateBudget int64             // bytes for all keyed subtasks, also those in worker processes of static packs; 512 MiB
	Settings    map[string]string // named connections
	Jobs        map[string]Build  // jobs linked into this process, by name
	Log         *slog.Logger
}

// Build is a job's build function.
type Build func(*stream.Graph) error

// A Cluster is a running one-process cluster.
type Cluster struct {
	Jobs *jobmanager.Manager

	opts   Options
	log    *cluster.Log
	store  objstore.Store
	tm     *taskmanager.Manager
	procs  *workers // of static packs
	loader *loader
}

// link is a control.Link whose far end is known later than its near end.
type link struct{ to atomic.Pointer[control.Link] }

func (l *link) Send(m control.Message) {
	if p := l.to.Load(); p != nil {
		(*p).Send(m)
	}
}

// Start brings a cluster up and resumes the jobs that were not over.
func Start(ctx context.Context, opts Options) (c *Cluster, err error) {
	if opts.Dir == "" {
		return nil, errors.New("local: Options.Dir is empty")
	}
	if opts.Dir, err = filepath.Abs(opts.Dir); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(opts.Dir, 0o755); err != nil {
		return nil, fmt.Errorf("local: %w", err)
	}
	opts.Checkpoints = cmp.Or(opts.Checkpoints, filepath.Join(opts.Dir, "checkpoints"))
	opts.Lake = cmp.Or(opts.Lake, filepath.Join(opts.Dir, "lake"))
	opts.Slots = cmp.Or(opts.Slots, 6)
	opts.StateBudget = cmp.Or(opts.StateBudget, 512<<20)
	if opts.Log == nil {
		opts.Log = slog.New(slog.DiscardHandler)
	}
	settings := map[string]string{"lake.root": opts.Lake}
	for k, v := range opts.Settings {
		settings[k] = v
	}
	opts.Settings = settings
	c = &Cluster{opts: opts, loader: &loader{jobs: opts.Jobs, packs: pack.Loader{Dir: filepath.Join(opts.Dir, "plugins")}}}
	started := c // what a return of nil does not forget
	defer func() {
		if err != nil {
			err = errors.Join(err, started.Close())
		}
	}()
	if c.store, err = builtin.Openers().Open(ctx, opts.Checkpoints); err != nil {
		return nil, err
	}
	up, down := new(link), new(link)
	if c.tm, err = taskmanager.New(taskmanager.Options{
		Dir: filepath.Join(opts.Dir, "state"), Store: c.store, Up: listener{up, func(to control.To) { c.procs.stopped(to) }}, Loader: c.loader, Sources: builtin.Sources(), Sinks: builtin.Sinks(), Value: builtin.ValueCodec,
		Settings: settings, StateBudget: opts.StateBudget, Log: opts.Log,
	}); err != nil {
		return nil, err
	}
	replica := jobmanager.NewReplica()
	if c.log, err = cluster.OpenLog(ctx, cluster.LogOptions{Dir: filepath.Join(opts.Dir, "raft"), Logger: opts.Log}, replica); err != nil {
		return nil, err
	}
	if c.Jobs, err = jobmanager.New(jobmanager.Options{Store: c.store, Slots: opts.Slots, Log: opts.Log}, replica, c.log, down); err != nil {
		return nil, err
	}
	var jm control.Link = c.Jobs
	if c.procs, err = c.newWorkers(up); err != nil {
		return nil, err
	}
	var tm control.Link = c.procs
	down.to.Store(&tm)
	up.to.Store(&jm)
	if err := prunePacks(opts.Dir, c.Jobs.Packs()); err != nil {
		opts.Log.Warn("packs that no job names stay", "error", err)
	}
	c.Jobs.Resume()
	return c, nil
}

// newWorkers returns the way down to this process's task manager and to workers.
func (c *Cluster) newWorkers(up control.Link) (*workers, error) {
	dir := filepath.Join(c.opts.Dir, "workers")
	if err := os.RemoveAll(dir); err != nil { // local state of workers that are gone
		return nil, fmt.Errorf("local: %w", err)
	}
	return &workers{here: c.tm, up: up, exe: c.loader.executable, log: c.opts.Log, byJob: map[dataflow.JobID]*worker{}, starter: newStarter(),
		shares: shares{budget: c.opts.StateBudget}, resize: c.tm.SetStateBudget,
		config: workerConfig{Dir: dir, Checkpoints: c.opts.Checkpoints, Settings: c.opts.Settings}}, nil
}

// Close stops everything without ending jobs: as after a kill, the next Start
// resumes them from their last complete epoch.
func (c *Cluster) Close() error {
	var errs []error
	if c.Jobs != nil {
		c.Jobs.Close()
	}
	if c.procs != nil {
		c.procs.Close()
	}
	if c.tm != nil {
		errs = append(errs, c.tm.Close())
	}
	if c.log != nil {
		errs = append(errs, c.log.Close())
	}
	if c.store != nil {
		errs = append(errs, c.store.Close())
	}
	return errors.Join(errs...)
}

// Suspend stops every job with a checkpoint, from which the next Start resumes it;
// retention gives it up when the job has newer ones.
func (c *Cluster) Suspend(ctx context.Context) error { return c.Jobs.Suspend(ctx) }

// A RunRequest asks for a job.
type RunRequest struct {
	Pack        string            `json:"pack"`           // path of a pack, or the name of a linked job
	Name        string            `json:"name,omitempty"` // pipeline; the pack's name
	Params      map[string]string `json:"params,omitempty"`
	Parallelism int               `json:"parallelism,omitempty"`
	KeyGroups   int               `json:"max_parallelism,omitempty"`
	Options     fsm.Options       `json:"options"`
	Restore     string            `json:"restore,omitempty"` // object key of a manifest
	SkipState   bool              `json:"allow_non_restored_state,omitempty"`
	LoseOutput  bool              `json:"allow_lost_output,omitempty"` // of Restore, where nobody is known to have committed it
}

// Run submits a job. The pack is copied, so its file may go.
func (c *Cluster) Run(ctx context.Context, r RunRequest) (dataflow.JobID, error) {
	s := jobmanager.Submission{Params: r.Params, Parallelism: r.Parallelism, KeyGroups: r.KeyGroups, Options: r.Options, Restore: r.Restore, SkipState: r.SkipState, LoseOutput: r.LoseOutput}
	s.Pack, s.Pipeline = r.Pack, dataflow.Pipeline(cmp.Or(r.Name, r.Pack))
	if c.opts.Jobs[r.Pack] == nil {
		m, err := pack.Open(r.Pack)
		if err != nil {
			return "", err
		}
		if s.Pack, err = c.keepPack(r.Pack, m.Sum); err != nil {
			return "", err
		}
		s.PackHash, s.Pipeline = m.Sum, dataflow.Pipeline(cmp.Or(r.Name, m.Name))
	}
	exe, err := c.loader.executable(s.Pack)
	if err != nil {
		return "", err
	}
	if exe != "" {
		if s.Graph, err = pack.DescribeStatic(ctx, exe, r.Params); err != nil {
			return "", err
		}
		s.CheckStates = func(old []dataflow.StateInfo) error {
			return pack.CheckStatic(context.Background(), exe, r.Params, old)
		}
	} else {
		job, err := c.loader.Load(s.Pack, r.Params)
		if err != nil {
			return "", err
		}
		if s.Graph, err = pack.Describe(job); err != nil {
			return "", err
		}
		s.CheckStates = func(old []dataflow.StateInfo) error { return pack.CheckStates(job, old) }
	}
	if err := c.check(&s.Graph); err != nil {
		return "", err
	}
	return c.Jobs.Submit(ctx, s)
}

// keepPack copies a pack to where restarts find it.
func (c *Cluster) keepPack(path, sum string) (string, error) {
	dir := filepath.Join(c.opts.Dir, "packs")
	kept := filepath.Join(dir, sum+pack.Suffix)
	if _, err := os.Stat(kept); err == nil {
		return kept, nil
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	src, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer src.Close()
	tmp, err := os.CreateTemp(dir, ".pack-*")
	if err != nil {
		return "", err
	}
	_, err = io.Copy(tmp, src)
	if err = errors.Join(err, tmp.Sync(), tmp.Close()); err != nil {
		return "", errors.Join(err, os.Remove(tmp.Name()))
	}
	return kept, os.Rename(tmp.Name(), kept)
}

// check asks the drivers whether they take the connectors of a graph.
func (c *Cluster) check(g *dataflow.Graph) error {
	sources, sinks := builtin.Sources(), builtin.Sinks()
	var errs []error
	for _, op := range g.Operators {
		if op.Connector == nil {
			continue
		}
		var d interface {
			Check(dataflow.Connector, map[string]string) error
		}
		if op.Kind == dataflow.KindSource {
			if s, ok := sources[op.Connector.Kind]; ok {
				d = s
			}
		} else if s, ok := sinks[op.Connector.Kind]; ok {
			d = s
		}
		if d == nil {
			errs = append(errs, fmt.Errorf("operator %q: this weir has no %s connector of kind %q", op.Name, op.Kind, op.Connector.Kind))
			continue
		}
		if err := d.Check(*op.Connector, c.opts.Settings); err != nil {
			errs = append(errs, fmt.Errorf("operator %q: %w", op.Name, err))
		}
	}
	return errors.Join(errs...)
}

// Wait waits until no job is live, and returns their last infos.
func (c *Cluster) Wait(ctx context.Context, every time.Duration, seen func([]jobmanager.Info)) error {
	t := time.NewTicker(every)
	defer t.Stop()
	for {
		infos := c.Jobs.Jobs()
		if seen != nil {
			seen(infos)
		}
		live := false
		for _, i := range infos {
			live = live || !i.Phase.Terminal()
		}
		if !live {
			return nil
		}
		select {
		case <-t.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// loader opens linked jobs by name and packs by path.
type loader struct {
	jobs  map[string]Build
	packs pack.Loader
}

// executable returns the file of a static pack, "" for what Load takes.
func (l *loader) executable(name string) (string, error) {
	if l.jobs[name] != nil {
		return "", nil
	}
	return l.packs.Executable(name)
}

func (l *loader) Load(name string, params map[string]string) (spi.Job, error) {
	if b := l.jobs[name]; b != nil {
		return stream.Build(params, b)
	}
	return l.packs.Load(name, params)
}
