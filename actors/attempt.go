package actors

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/weirstream/weir/dataflow"
	"github.com/weirstream/weir/internal/clock"
)

// An Attempt is the subtasks of one execution of a job's plan that run in this
// worker. See api.go for the order of calls.
type Attempt struct {
	rt      *Runtime
	opts    Options
	drivers []*driver
	byID    map[dataflow.SubtaskID]*driver
	ctx     context.Context // done when the attempt is stopped
	cancel  context.CancelFunc
	work    sync.WaitGroup // background work

	mu struct {
		sync.Mutex
		watch   clock.Timer // of the watchdog
		stopped bool        // background work is refused
	}

	stopped chan struct{} // closed when all is closed
	stopErr error         // set before
}

// NewAttempt spawns an actor for each subtask and begins to open it. What cannot
// be opened is reported by Events.Failed.
func (r *Runtime) NewAttempt(o Options) (*Attempt, error) {
	o.defaults()
	if o.Log == nil {
		o.Log = r.log.With("job", string(o.Pipeline), "attempt", uint64(o.Attempt))
	}
	if err := o.validate(); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	a := &Attempt{rt: r, opts: o, byID: map[dataflow.SubtaskID]*driver{}, ctx: ctx, cancel: cancel, stopped: make(chan struct{})}
	for _, id := range o.Subtasks {
		d := &driver{a: a, id: id, box: &mailbox{}, done: make(chan struct{}), log: o.Log.With("subtask", id.String())}
		a.drivers = append(a.drivers, d)
		a.byID[id] = d
	}
	for _, d := range a.drivers {
		if err := a.connect(d); err != nil {
			cancel()
			return nil, fmt.Errorf("actors: subtask %s: %w", d.id, err)
		}
	}
	r.mu.Lock()
	r.open++
	r.mu.Unlock()
	for _, d := range a.drivers {
		props := actor.PropsFromProducer(func() actor.Actor { return d }, actor.WithMailbox(func() actor.Mailbox { return d.box }))
		d.pid = r.system.Root.Spawn(props)
	}
	a.mu.Lock()
	a.mu.watch = r.clock.AfterFunc(watchEvery, a.watchdog)
	a.mu.Unlock()
	for _, d := range a.drivers {
		a.background(d.open)
	}
	return a, nil
}

// connect finds the other ends of a subtask's channels.
func (a *Attempt) connect(d *driver) error {
	plan := a.opts.Plan
	for _, ch := range plan.Outputs(d.id) {
		to := dataflow.SubtaskID{Chain: plan.Edges[ch.Edge].To, Index: ch.To}
		p, err := a.find(to, ch, plan.Inputs(to))
		if err != nil {
			return err
		}
		d.peers = append(d.peers, p)
	}
	for _, ch := range plan.Inputs(d.id) {
		from := dataflow.SubtaskID{Chain: plan.Edges[ch.Edge].From, Index: ch.From}
		p, err := a.find(from, ch, plan.Outputs(from))
		if err != nil {
			return err
		}
		d.froms = append(d.froms, p)
	}
	d.out = make([]*items, len(d.peers))
	return nil
}

// find returns the end at id of a channel; ends are all of id's on that side.
func (a *Attempt) find(id dataflow.SubtaskID, ch dataflow.ChannelID, ends []dataflow.ChannelID) (peer, error) {
	if p := a.byID[id]; p != nil {
		return peer{d: p, i: slices.Index(ends, ch)}, nil
	}
	if a.opts.Dialer == nil {
		return peer{}, fmt.Errorf("channel %s leads to subtask %s, which does not run here, and there is no Dialer", ch, id)
	}
	r, err := a.dial(id, ch)
	return peer{away: r}, err
}

// send posts a message to a subtask. After Stop it is dropped.
func (a *Attempt) send(d *driver, msg message) { a.rt.system.Root.Send(d.pid, msg) }

// background runs f off the turns, unless the attempt is stopped.
func (a *Attempt) background(f func(ctx context.Context)) {
	a.mu.Lock()
	if a.mu.stopped {
		a.mu.Unlock()
		return
	}
	a.work.Add(1)
	a.mu.Unlock()
	a.rt.exec.Background(func() {
		defer a.work.Done()
		f(a.ctx)
	})
}

func (a *Attempt) order(v verb, e dataflow.Epoch) {
	for _, d := range a.drivers {
		a.send(d, order{v, e})
	}
}

// Start starts the sinks' writers and lets rows flow. Every subtask of the job is
// Ready, and everything that the restored checkpoint prepared is committed.
func (a *Attempt) Start() { a.order(start, 0) }

// Trigger orders the barrier of an epoch. It goes to every subtask: sources cut at
// once, so do those whose inputs have ended; the others wait for the barrier on
// their inputs and cut without it only where inputs end. Complete of the newest
// complete epoch must have been called before, once more if it may have been lost:
// else the acks carry again what is in its manifest, and it is committed twice.
func (a *Attempt) Trigger(e dataflow.Epoch) { a.order(trigger, e) }

// Abort gives an epoch up.
func (a *Attempt) Abort(e dataflow.Epoch) { a.order(abort, e) }

// Complete tells that the manifest of an epoch is in force.
func (a *Attempt) Complete(e dataflow.Epoch) { a.order(complete, e) }

// Finished tells that every sink has committed an epoch.
func (a *Attempt) Finished(e dataflow.Epoch) { a.order(finish, e) }

// Commit hands handles of all subtasks to the committers, of those sinks that are
// keys of the map and whose committer runs here. Each answers Events.Committed,
// also when it has no handle. Epochs of one sink must come in order.
func (a *Attempt) Commit(e dataflow.Epoch, handles map[dataflow.OperatorID][]dataflow.CommitHandle) {
	var all []*commits
	a.mu.Lock()
	for _, d := range a.drivers {
		all = append(all, d.commits...)
	}
	a.mu.Unlock()
	for _, c := range all {
		if h, ok := handles[c.sink]; ok {
			c.submit(e, h)
		}
	}
}

// Stop ends the attempt: no event is delivered after it returned, unless it
// returned ctx's error because user code did not let go; then it may be called
// again.
func (a *Attempt) Stop(ctx context.Context) error {
	a.mu.Lock()
	first := !a.mu.stopped
	a.mu.stopped = true
	a.mu.watch.Stop()
	a.mu.Unlock()
	if first {
		a.cancel()
		for _, d := range a.drivers {
			d.box.close()
		}
		go a.shutdown()
	}
	select {
	case <-a.stopped:
		return a.stopErr
	case <-ctx.Done():
		return fmt.Errorf("actors: attempt %d is not stopped: %w", a.opts.Attempt, context.Cause(ctx))
	}
}

// shutdown closes everything once no message is being handled and no background
// work runs. Actors go last: all that could still post has gone before them.
func (a *Attempt) shutdown() {
	defer close(a.stopped)
	for _, d := range a.drivers {
		d.mu.Lock() // the message in progress is the last
		if d.timer != nil {
			d.timer.Stop()
		}
		d.running, d.over = false, true
		d.mu.Unlock()
	}
	a.work.Wait()
	var errs []error
	for _, d := range a.drivers {
		d.mu.Lock()
		errs = append(errs, d.with.close())
		d.with = resources{}
		d.mu.Unlock()
		a.mu.Lock()
		all := d.commits
		d.commits = nil
		a.mu.Unlock()
		errs = append(errs, closeCommits(all))
	}
	for _, d := range a.drivers {
		a.rt.system.Root.Stop(d.pid)
		<-d.done
	}
	a.stopErr = errors.Join(errs...)
	a.rt.mu.Lock()
	a.rt.open--
	a.rt.mu.Unlock()
}

func (r *resources) close() error {
	var errs []error
	if r.reader != nil {
		errs = append(errs, guard(r.reader.Close))
	}
	for _, w := range r.writers {
		errs = append(errs, guard(w.Close))
	}
	if r.store != nil {
		errs = append(errs, r.store.Close())
	}
	return errors.Join(errs...)
}

// The watchdog looks every watchEvery for turns that last longer than longTurn.
const (
	watchEvery = 500 * time.Millisecond
	longTurn   = time.Second
)

// watchdog names operators that do not let go of their turn, once per turn.
func (a *Attempt) watchdog() {
	now := a.rt.clock.Monotonic()
	for _, d := range a.drivers {
		start := d.turnStart.Load()
		begin := time.Duration(start - 1)
		m := d.machine.Load()
		if begin < 0 || now-begin < longTurn || m == nil || d.warned.Swap(start) == start {
			continue
		}
		d.log.Warn("an operator holds its turn", "operator", string(m.Current()), "for", (now - begin).Round(time.Millisecond).String())
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.mu.stopped {
		a.mu.watch.Reset(watchEvery)
	}
}

// Snapshot returns the counters of every subtask here. A subtask whose operator
// holds its turn is left as it was.
func (a *Attempt) Snapshot() []SubtaskStats {
	out := make([]SubtaskStats, 0, len(a.drivers))
	for _, d := range a.drivers {
		out = append(out, d.snapshot())
	}
	return out
}
