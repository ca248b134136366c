package jobmanager

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/weirstream/weir/checkpoint"
	"github.com/weirstream/weir/dataflow"
	"github.com/weirstream/weir/internal/clock"
	"github.com/weirstream/weir/internal/control"
	"github.com/weirstream/weir/internal/queue"
	"github.com/weirstream/weir/jobmanager/fsm"
)

const (
	tickEvery     = 20 * time.Millisecond
	tickLeast     = time.Millisecond
	deployWithin  = 2 * time.Minute
	stoppedWithin = 30 * time.Second
	cancelEvery   = 2 * time.Second // until Stopped comes; Drain likewise
	backoffMin    = time.Second
	backoffMax    = time.Minute
	backoffReset  = 10 * time.Minute // an attempt that ran so long starts the back-off anew
)

// A driver runs one job: it owns the job's Coordinator and turns its effects into
// log entries, objects and messages.
type driver struct {
	m        *Manager
	id       dataflow.JobID
	pipeline dataflow.Pipeline
	log      *slog.Logger
	inbox    *queue.Queue[any]
	slow     *queue.Queue[func()] // blocking calls, one after the other
	ctx      context.Context
	cancel   context.CancelFunc
	done     chan struct{}

	// What follows belongs to the goroutine of run; after done it may be read.
	job       *fsm.Job // as of the last phase change
	coord     *checkpoint.Coordinator
	stage     stage
	since     time.Time // of stage
	cancelled time.Time // when Cancel was sent last
	drained   time.Time // when Drain was
	backoff   time.Duration
	retryAt   time.Time
	avoid     map[dataflow.Epoch]bool // corrupt, and allowed to be passed over; replaced, never written

	stopCopy context.CancelFunc // of adopting
	planned  bool               // the next attempt was asked for: it is no restart
	ready    bool
	over     bool // the job is, or this driver's part in it
	ending   *ending
	waiting  map[string]chan answer // requests by id
	draining []chan answer          // who waits for the job to drain
	nextID   int
	view     view
	sweeping atomic.Bool
}

// stage is where the driver stands with the current attempt.
type stage int

const (
	idle      stage = iota // no attempt; the next one starts at retryAt
	adopting               // what the job starts from is being copied
	deploying              // Deploy sent, Ready not seen
	running                // the Coordinator rules
	halting                // Cancel sent, Stopped not seen
)

// ending is what becomes of the job when the attempt has stopped.
type ending struct {
	phase  fsm.Phase // Restarting: a new attempt follows
	reason string
	reply  chan answer
	ref    checkpoint.Ref
	plan   *dataflow.Plan // of the next attempt, if that changes
}

// What users ask for.
type (
	askCancel struct{ reply chan answer }
	askStop   struct {
		drain, suspend bool
		reply          chan answer
	}
	askRescale struct {
		parallelism int
		reply       chan answer
	}
	askEpoch struct {
		kind  checkpoint.Kind
		reply chan answer
	}
)

func newDriver(m *Manager, j *fsm.Job) *driver {
	d := &driver{m: m, id: j.ID, pipeline: j.Pipeline, job: j, log: m.opts.Log.With("job", j.ID, "pipeline", j.Pipeline),
		inbox: queue.New[any](), slow: queue.New[func()](), done: make(chan struct{}),
		coord: checkpoint.NewCoordinator(j.Options.Checkpoint), backoff: backoffMin,
		avoid: map[dataflow.Epoch]bool{}, waiting: map[string]chan answer{}}
	d.ctx, d.cancel = context.WithCancel(context.Background())
	d.since = m.opts.Clock.Now()
	if j.Phase == fsm.Cancelling { // by the job manager before: its checkpoints may be given up already
		d.ending, d.stage = &ending{phase: fsm.Canceled}, halting
	}
	return d
}

func (d *driver) run() {
	defer close(d.done)
	beside := make(chan struct{})
	go func() {
		defer close(beside)
		d.slow.Each(d.ctx, func(f func()) { f() })
	}()
	defer func() { d.cancel(); <-beside }()
	tick := d.m.opts.Clock.NewTimer(0)
	defer tick.Stop()
	for !d.over {
		select {
		case <-d.inbox.Ready():
			for _, msg := range d.inbox.Take() {
				d.handle(msg)
			}
		case <-tick.C():
			d.tick()
			tick.Reset(d.pause())
		case <-d.ctx.Done():
			return
		}
	}
}

func (d *driver) now() time.Time { return d.m.opts.Clock.Now() }

func (d *driver) enter(s stage) { d.stage, d.since = s, d.now() }

func (d *driver) to() control.To { return control.To{Job: d.id, Attempt: d.job.Attempt} }

func (d *driver) tick() {
	now := d.now()
	switch d.stage {
	case idle:
		switch {
		case now.Before(d.retryAt):
		case d.m.machine.pipeline(d.pipeline).Adopting(d.job):
			d.adopt()
		default:
			d.deploy()
		}
	case adopting: // as long as it takes
	case deploying:
		if now.Sub(d.since) > deployWithin {
			d.failed(control.Failed{To: d.to(), Reason: fmt.Sprintf("the task manager was not ready within %v", deployWithin)})
		}
	case running:
		if d.job.Drain && now.Sub(d.drained) > cancelEvery {
			d.sendDrain()
		}
		d.step(checkpoint.Tick{})
	case halting:
		if now.Sub(d.since) > stoppedWithin {
			d.log.Error("attempt did not stop in time", "attempt", d.job.Attempt)
			d.stopped()
		} else if now.Sub(d.cancelled) > cancelEvery {
			d.sendCancel()
		}
	}
}

// pause returns the time until the next tick: shorter than usual if an epoch is due
// before.
func (d *driver) pause() time.Duration {
	if d.stage != running {
		return tickEvery
	}
	return max(tickLeast, d.coord.Wait(d.now(), tickEvery))
}

// handle acts on one message of a task manager, a user, or the slow goroutine.
func (d *driver) handle(msg any) {
	if c, ok := msg.(control.Message); ok {
		if c.(interface{ Target() control.To }).Target().Attempt != d.job.Attempt {
			return // of an attempt that is over
		}
	}
	switch msg := msg.(type) {
	case func():
		msg()
	case control.Ready:
		d.isReady(msg)
	case control.Acked:
		d.view.held.add(time.Duration(msg.Part.HeldNanos))
		d.step(checkpoint.Acked{Epoch: msg.Epoch, Part: msg.Part})
	case control.Declined:
		d.step(checkpoint.Declined{Epoch: msg.Epoch, Subtask: msg.Subtask, Reason: msg.Reason})
	case control.Committed:
		d.view.committed(msg)
		d.step(checkpoint.Committed{Epoch: msg.Epoch, Sink: msg.Sink})
	case control.CommitFailed:
		d.step(checkpoint.CommitFailed{Epoch: msg.Epoch, Sink: msg.Sink, Tries: msg.Tries, Reason: msg.Reason})
	case control.Ended:
		d.step(checkpoint.Ended{Attempt: msg.Attempt, Subtask: msg.Subtask})
	case control.Failed:
		d.failed(msg)
	case control.Stopped:
		if d.stage == halting {
			d.stopped()
		}
	case control.Report:
		d.view.report(msg)
	case askCancel:
		d.end(ending{phase: fsm.Canceled, reply: msg.reply})
	case askStop:
		d.askStop(msg)
	case askRescale:
		d.askRescale(msg)
	case askEpoch:
		d.request(msg.kind, false, msg.reply)
	default:
		panic(fmt.Sprintf("jobmanager: unhandled message %T", msg))
	}
}

// beside runs f on the slow goroutine and then handles what it returns here.
func (d *driver) beside(f func() (then func())) {
	d.slow.Put(func() {
		if then := f(); then != nil {
			d.inbox.Put(then)
		}
	})
}

// set records a phase. The driver goes on when it is recorded.
func (d *driver) set(p fsm.Phase, reason string) {
	r := d.m.append(d.ctx, fsm.Command{Phase: &fsm.SetPhase{Job: d.id, Phase: p, Reason: reason, Keep: d.m.opts.KeepJobs}})
	if r.Err != nil && !errors.Is(r.Err, context.Canceled) {
		d.log.Error("phase was not recorded", "phase", p, "err", r.Err)
	}
	if j := d.m.machine.job(d.id); j != nil { // else it is over, and forgotten already
		d.job = j
	}
}

// deploy starts the next attempt from the newest complete epoch.
func (d *driver) deploy() {
	first := d.planned || d.job.Attempt == 0 || d.job.Phase == fsm.Created || d.job.Phase == fsm.Suspended
	r := d.m.append(d.ctx, fsm.Command{Attempt: &fsm.NewAttempt{Job: d.id, Restart: !first}})
	if r.Err != nil {
		if !errors.Is(r.Err, context.Canceled) {
			d.log.Error("attempt was not recorded", "err", r.Err)
		}
		d.retryAt = d.now().Add(d.backoff)
		return
	}
	d.job = d.m.machine.job(d.id)
	d.enter(deploying)
	d.ready, d.planned = false, false
	d.view.reset()
	attempt, avoid := r.Attempt, d.avoid
	d.beside(func() func() {
		msg, err := d.restore(avoid)
		return func() {
			switch {
			case attempt != d.job.Attempt || d.stage != deploying:
			case err != nil:
				d.failed(control.Failed{To: d.to(), Reason: err.Error(), Stop: !retryable(err)})
			default:
				d.log.Info("deploying", "attempt", attempt, "restored", msg.Restored)
				d.m.down.Send(msg)
			}
		}
	})
}

func (d *driver) isReady(msg control.Ready) {
	if d.stage != deploying || d.ready {
		return
	}
	d.ready = true
	attempt, avoid := d.job.Attempt, d.avoid
	d.beside(func() func() {
		r := d.m.append(d.ctx, fsm.Command{Schemas: &fsm.SetSchemas{Job: d.id, Attempt: attempt, States: msg.States}})
		unfinished, err := d.unfinished(avoid)
		err = errors.Join(r.Err, err)
		return func() {
			if d.stage != deploying || attempt != d.job.Attempt {
				return
			}
			if err != nil {
				d.failed(control.Failed{To: d.to(), Reason: err.Error(), Stop: !retryable(err)})
				return
			}
			d.set(fsm.Running, "")
			d.enter(running)
			if d.job.Drain {
				d.set(fsm.Stopping, "draining")
				d.sendDrain()
			}
			d.step(checkpoint.Deployed{Attempt: attempt, Subtasks: d.job.Plan.Subtasks(), Unfinished: unfinished})
		}
	})
}

// step advances the Coordinator and carries out what it answers.
func (d *driver) step(ev checkpoint.Event) {
	if d.stage != running {
		return
	}
	for _, e := range d.coord.Step(d.now(), ev) {
		d.act(e)
	}
	d.view.checkpoints(d.coord, d.now())
}

// request asks the Coordinator for an epoch; last: the job stops behind it.
func (d *driver) request(kind checkpoint.Kind, last bool, reply chan answer) {
	if d.stage != running {
		reply <- answer{err: fmt.Errorf("job %s is %s: a %s needs a running job", d.id, d.job.Phase, kind)}
		return
	}
	d.nextID++
	id := fmt.Sprint(d.nextID)
	d.waiting[id] = reply
	d.step(checkpoint.Request{ID: id, Kind: kind, Last: last})
}

// askStop takes a savepoint and then ends the job, or drains it first.
func (d *driver) askStop(msg askStop) {
	phase := fsm.Finished
	if msg.suspend {
		phase = fsm.Suspended
	}
	if d.stage != running {
		if msg.suspend {
			d.end(ending{phase: phase, reply: msg.reply})
			return
		}
		msg.reply <- answer{err: fmt.Errorf("job %s is %s: it cannot take a savepoint; weir cancel ends it without one", d.id, d.job.Phase)}
		return
	}
	if msg.drain {
		d.m.append(d.ctx, fsm.Command{Drain: &fsm.Drain{Job: d.id}})
		d.set(fsm.Stopping, "draining")
		d.draining = append(d.draining, msg.reply)
		d.sendDrain()
		return
	}
	kind := checkpoint.Suspend
	if !msg.suspend {
		kind = checkpoint.Savepoint
		d.set(fsm.Stopping, "with a savepoint")
	}
	d.endBehind(kind, ending{phase: phase, reply: msg.reply}, func(err error) {
		if msg.suspend {
			d.end(ending{phase: phase, reply: msg.reply})
			return
		}
		if d.stage == running {
			d.set(fsm.Running, "")
		}
		msg.reply <- answer{err: errors.Join(errors.New("no savepoint was taken, the job goes on"), err)}
	})
}

// askRescale stops at a checkpoint and goes on from it with another plan.
func (d *driver) askRescale(msg askRescale) {
	plan, err := dataflow.MakePlan(d.job.Graph, msg.parallelism, d.job.Plan.KeyGroups)
	if err == nil {
		err = d.m.fits(&plan)
	}
	if err == nil && d.stage != running {
		err = fmt.Errorf("job %s is %s: only a running job can be rescaled", d.id, d.job.Phase)
	}
	if err != nil {
		msg.reply <- answer{err: err}
		return
	}
	d.endBehind(checkpoint.OnDemand, ending{phase: fsm.Restarting, reply: msg.reply, plan: &plan}, func(err error) {
		msg.reply <- answer{err: errors.Join(errors.New("no checkpoint was taken, the job goes on as it was"), err)}
	})
}

// errClosed answers what the job manager's end leaves open.
var errClosed = errors.New("the job manager was closed before the job had stopped: it resumes with the next one")

// endBehind asks for an epoch behind which nothing goes on, and ends the attempt with
// it; failed is called instead if it is not taken.
func (d *driver) endBehind(kind checkpoint.Kind, e ending, failed func(error)) {
	inner := make(chan answer, 1)
	d.request(kind, true, inner)
	attempt := d.job.Attempt
	go func() { // ends with the answer, or with the driver
		var a answer
		select {
		case a = <-inner:
		case <-d.ctx.Done():
			e.reply <- answer{err: errClosed}
			return
		}
		d.inbox.Put(func() {
			if a.err != nil || d.stage != running || attempt != d.job.Attempt {
				failed(a.err)
				return
			}
			e.ref = a.ref
			d.endAt(a.ref, attempt, e)
		})
	}()
}

// endAt ends the job once the output of the epoch it stops at is committed. If the
// attempt fails before, the job goes on: ending it would lose that output.
func (d *driver) endAt(ref checkpoint.Ref, attempt dataflow.Attempt, e ending) {
	switch {
	case attempt != d.job.Attempt || d.stage != running || d.ending != nil:
		if e.phase == fsm.Suspended {
			d.end(e) // the next cluster commits it before it resumes
			return
		}
		e.reply <- answer{err: fmt.Errorf("%s %d was taken (%s), but the job failed before its output was committed and goes on: %s", ref.Kind, ref.Epoch, ref.Key, d.job.Reason)}
	case d.coord.Finished(ref.Epoch):
		d.end(e)
	default:
		go func() {
			if clock.Sleep(d.ctx, d.m.opts.Clock, 10*time.Millisecond) != nil {
				e.reply <- answer{err: errClosed}
				return
			}
			d.inbox.Put(func() { d.endAt(ref, attempt, e) })
		}()
	}
}

// failed ends the attempt; the job restarts unless nothing can cure it.
func (d *driver) failed(msg control.Failed) {
	if d.stage == halting || d.stage == idle {
		return
	}
	where := ""
	if msg.Subtask.Chain != "" {
		where = msg.Subtask.String() + ": "
	}
	reason := where + msg.Reason
	d.log.Error("attempt failed", "attempt", d.job.Attempt, "reason", reason, "stop", msg.Stop)
	next := fsm.Restarting
	if msg.Corrupt != "" && d.stage == deploying {
		if err := d.passOver(); err != nil {
			next, reason = fsm.Failed, fmt.Sprintf("%s; %v", reason, err)
		}
	} else if msg.Stop {
		next = fsm.Failed
	}
	if lim := d.job.Options.MaxRestarts; lim != 0 && d.job.Restarts >= max(lim, 0) && next == fsm.Restarting {
		next, reason = fsm.Failed, fmt.Sprintf("%s; restarted %d times, max_restarts allows no more", reason, d.job.Restarts)
	}
	if d.ending != nil {
		next = d.ending.phase
	}
	d.end(ending{phase: next, reason: reason})
}

// end stops the attempt, if one runs, and then takes the job to its next phase.
func (d *driver) end(e ending) {
	if d.ending != nil && e.reply == nil {
		return
	}
	if d.ending != nil && d.ending.reply != nil {
		d.ending.reply <- answer{err: errors.New("superseded by a later command")}
	}
	d.ending = &e
	switch d.stage {
	case idle, adopting:
		d.stopped()
	case deploying, running:
		if e.phase == fsm.Canceled {
			d.set(fsm.Cancelling, "")
		}
		was := d.stage
		d.sendCancel()
		for _, ef := range d.coord.Step(d.now(), checkpoint.Stopped{Reason: "the attempt ended: " + string(e.phase)}) {
			d.act(ef)
		}
		if was == running && d.now().Sub(d.since) > backoffReset {
			d.backoff = backoffMin
		}
		d.enter(halting)
	}
}

// sendCancel tells the attempt to stop; it is repeated, for one may be lost.
func (d *driver) sendCancel() {
	d.cancelled = d.now()
	d.m.down.Send(control.Cancel{To: d.to(), Final: d.ending != nil && d.ending.phase != fsm.Restarting})
}

// sendDrain tells the sources of the attempt to end; it is repeated, for one may be lost.
func (d *driver) sendDrain() {
	d.drained = d.now()
	d.m.down.Send(control.Drain{To: d.to()})
}

// stopped is called when nothing of the attempt is left.
func (d *driver) stopped() {
	if d.stage == adopting {
		d.stopCopy()
	}
	d.enter(idle)
	e := d.ending
	if e == nil {
		return
	}
	d.ending = nil
	if e.phase == fsm.Restarting && e.plan != nil {
		d.set(fsm.Restarting, "")
		r := d.m.append(d.ctx, fsm.Command{Rescale: &fsm.Rescale{Job: d.id, Plan: *e.plan}})
		d.job = d.m.machine.job(d.id)
		d.planned, d.retryAt = true, d.now()
		e.reply <- answer{ref: e.ref, err: r.Err}
		return
	}
	if e.phase == fsm.Restarting {
		d.set(fsm.Restarting, e.reason)
		d.retryAt = d.now().Add(d.backoff)
		d.backoff = min(d.backoff*2, backoffMax)
		return
	}
	if e.phase == fsm.Canceled && d.job.Phase != fsm.Cancelling {
		d.set(fsm.Cancelling, "") // whatever becomes of this job manager, the job is not deployed again
	}
	if e.phase == fsm.Canceled && !d.job.Options.RetainOnCancel {
		d.dropOwn()
	}
	d.set(e.phase, e.reason)
	d.over = true
	if e.phase == fsm.Canceled {
		d.startSweep(d.m.ctx, 0) // cut short by Close: what is left is recorded, and the next sweep goes on
	}
	if e.reply != nil {
		e.reply <- answer{ref: e.ref}
	}
	for _, reply := range d.draining {
		if e.phase == fsm.Finished {
			reply <- answer{ref: e.ref}
		} else {
			reply <- answer{err: fmt.Errorf("job %s is %s: %s", d.id, e.phase, e.reason)}
		}
	}
	d.draining = nil
}
