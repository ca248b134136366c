package taskmanager

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"reflect"
	"sync"
	"sync/atomic"

	"github.com/weirstream/weir/actors"
	"github.com/weirstream/weir/dataflow"
	"github.com/weirstream/weir/internal/clock"
	"github.com/weirstream/weir/internal/control"
	"github.com/weirstream/weir/internal/objstore"
	"github.com/weirstream/weir/state"
	"github.com/weirstream/weir/stream/spi"
)

// A Loader opens the code of a job.
type Loader interface {
	// Load returns the job in the pack, built with params. It may be called often
	// with the same pack.
	Load(pack string, params map[string]string) (spi.Job, error)
}

// Options configures a Manager. A zero field means its default; those without
// one are required.
type Options struct {
	Node   string         // "worker-1"
	Dir    string         // for local state; required, wiped at start
	FS     state.FS       // where Dir lies; the disk
	Store  objstore.Store // checkpoints; required
	Up     control.Link   // to the job manager; required
	Loader Loader         // required
	// Value makes the codec of a connector's format for a source's or sink's rows;
	// required.
	Value    func(op dataflow.Operator, elem reflect.Type) (spi.Codec, error)
	Sources  map[string]spi.SourceDriver
	Sinks    map[string]spi.SinkDriver
	Settings map[string]string // named connections, lake root
	// StateBudget is the memory in bytes for keyed state of the whole worker: three
	// quarters for typed caches, split over the keyed subtasks of all jobs, an eighth
	// for Pebble's blocks, the rest for filters; 512 MiB.
	StateBudget int64
	Clock       clock.Clock  // the wall clock
	Log         *slog.Logger // discards
}

func (o *Options) validate() error {
	var errs []error
	need := func(missing bool, what string) {
		if missing {
			errs = append(errs, fmt.Errorf("%s is missing", what))
		}
	}
	need(o.Dir == "", "Dir")
	need(o.Store == nil, "Store")
	need(o.Up == nil, "Up")
	need(o.Loader == nil, "Loader")
	need(o.Value == nil, "Value")
	if o.StateBudget < 0 {
		errs = append(errs, fmt.Errorf("StateBudget %d is negative", o.StateBudget))
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("taskmanager: options: %w", err)
	}
	return nil
}

// A Manager is one node's agent.
type Manager struct {
	opts   Options
	rt     *actors.Runtime
	shared *state.Shared

	mu struct {
		sync.Mutex
		attempts map[control.To]*attempt
		former   map[dataflow.JobID][]string // store folders of attempts that are over, whose files the next one may link
		newest   map[dataflow.JobID]dataflow.Attempt
		closed   bool
	}
	wg sync.WaitGroup // attempts' goroutines

	budget atomic.Int64 // bytes: Options.StateBudget, or what SetStateBudget said
	keyed  atomic.Int64 // keyed subtasks of all attempts
}

// New returns a Manager without attempts.
func New(opts Options) (*Manager, error) {
	if err := opts.validate(); err != nil {
		return nil, err
	}
	opts.Node = cmp.Or(opts.Node, "worker-1")
	opts.StateBudget = cmp.Or(opts.StateBudget, 512<<20)
	if opts.Clock == nil {
		opts.Clock = clock.Wall()
	}
	if opts.Log == nil {
		opts.Log = slog.New(slog.DiscardHandler)
	}
	if opts.FS == nil {
		opts.FS = state.Disk()
	}
	if err := opts.FS.RemoveAll(opts.Dir); err != nil {
		return nil, fmt.Errorf("taskmanager: wipe local state: %w", err)
	}
	if err := opts.FS.MkdirAll(opts.Dir, 0o755); err != nil {
		return nil, fmt.Errorf("taskmanager: local state folder: %w", err)
	}
	shared, err := openShared(opts)
	if err != nil {
		return nil, err
	}
	m := &Manager{opts: opts, shared: shared, rt: actors.New(actors.RuntimeOptions{Clock: opts.Clock, Log: opts.Log})}
	m.budget.Store(opts.StateBudget)
	m.mu.attempts, m.mu.former = map[control.To]*attempt{}, map[dataflow.JobID][]string{}
	m.mu.newest = map[dataflow.JobID]dataflow.Attempt{}
	return m, nil
}

// Send hands a message of the job manager to the attempt it is for. Messages of
// attempts that are not here are answered as lost.
func (m *Manager) Send(msg control.Message) {
	to := msg.(interface{ Target() control.To }).Target()
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.mu.closed {
		return
	}
	a := m.mu.attempts[to]
	if d, ok := msg.(control.Deploy); ok && a == nil {
		if d.Attempt > m.mu.newest[d.Job] { // else it comes late: that attempt is over
			m.deploy(d)
		}
		return
	}
	if a == nil {
		if _, ok := msg.(control.Cancel); ok {
			go m.opts.Up.Send(control.Stopped{To: to})
		}
		return
	}
	a.inbox.Put(msg)
}

// deploy begins an attempt when those before it, which it ends, are over: two at a
// time would fence each other's transactions. m.mu is held.
func (m *Manager) deploy(d control.Deploy) {
	var before []*attempt
	for to, a := range m.mu.attempts {
		if to.Job == d.Job {
			a.inbox.Put(control.Cancel{To: to})
			before = append(before, a)
		}
	}
	a := newAttempt(m, d)
	m.mu.attempts[d.To], m.mu.newest[d.Job] = a, d.Attempt
	m.wg.Go(func() {
		for _, b := range before {
			<-b.over
		}
		m.mu.Lock()
		a.former = m.mu.former[d.Job]
		delete(m.mu.former, d.Job)
		m.mu.Unlock()
		keyed := int64(d.Keyed())
		m.keyed.Add(keyed)
		a.run()
		m.keyed.Add(-keyed)
		m.mu.Lock()
		delete(m.mu.attempts, d.To)
		if left := a.left(); len(left) > 0 {
			m.mu.former[d.Job] = left
		}
		m.mu.Unlock()
		close(a.over)
		m.opts.Up.Send(control.Stopped{To: d.To})
	})
}

// Close stops every attempt and waits for them.
func (m *Manager) Close() error {
	m.mu.Lock()
	m.mu.closed = true
	for to, a := range m.mu.attempts {
		a.inbox.Put(control.Cancel{To: to})
	}
	m.mu.Unlock()
	m.wg.Wait()
	err := m.rt.Close()
	m.shared.Close()
	return errors.Join(err, m.opts.FS.RemoveAll(m.opts.Dir))
}

// localDir is where an attempt keeps its rows.
func (m *Manager) localDir(d control.Deploy) string {
	return filepath.Join(m.opts.Dir, string(d.Job), fmt.Sprintf("%d", d.Attempt))
}

// SetStateBudget changes Options.StateBudget for the attempts that run and for those
// to come. The block cache keeps its size.
func (m *Manager) SetStateBudget(bytes int64) { m.budget.Store(bytes) }

// typedCache is how many bytes the typed cache of each keyed subtask may hold now:
// three quarters of the budget are divided over all that run here, of whatever job.
func (m *Manager) typedCache() int64 {
	return max(m.budget.Load()/4*3/max(m.keyed.Load(), 1), 1)
}

var errNoStates = errors.New("taskmanager: operator has no such state")

// background is the context of work that outlives no attempt.
func background() (context.Context, context.CancelFunc) {
	return context.WithCancel(context.Background())
}
