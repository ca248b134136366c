package minicluster

import (
	"errors"
	"fmt"
	"slices"

	"github.com/weirstream/weir/actors/channel"
	"github.com/weirstream/weir/dataflow"
	"github.com/weirstream/weir/internal/control"
	"github.com/weirstream/weir/stream/spi"
)

// worker is a process that runs attempts, as taskmanager.Manager does.
type worker struct {
	s        *sim
	p        *proc
	attempts []*attempt
	newest   map[dataflow.JobID]dataflow.Attempt
	files    map[string][]byte // its local disk
	cut      bool              // no message comes or goes: it lives until its lease runs out
}

func (s *sim) newWorker() *worker {
	s.starts++
	return &worker{s: s, p: &proc{s: s, name: fmt.Sprintf("worker-%d", s.starts), fuse: -1}, files: map[string][]byte{}, newest: map[dataflow.JobID]dataflow.Attempt{}}
}

func (w *worker) disk() disk { return disk{w.s.store, w.p} }

// receive hands a message of the job manager to the attempt it is for.
func (w *worker) receive(m control.Message) {
	to := m.(interface{ Target() control.To }).Target()
	if d, ok := m.(control.Deploy); ok {
		w.deploy(d)
		return
	}
	for _, a := range w.attempts {
		if a.deploy.To == to {
			a.inbox = append(a.inbox, m)
			return
		}
	}
	if _, ok := m.(control.Cancel); ok {
		w.send(control.Stopped{To: to})
	}
}

// deploy begins an attempt. It ends those before it; one that is not newer than
// all that were here is stale.
func (w *worker) deploy(d control.Deploy) {
	if slices.ContainsFunc(w.attempts, func(a *attempt) bool { return a.deploy.To == d.To }) {
		return
	}
	if w.s.without != LateDeploy {
		if d.Attempt <= w.newest[d.Job] {
			return
		}
		w.newest[d.Job] = d.Attempt
		for _, a := range slices.Clone(w.attempts) {
			if a.deploy.Job == d.Job {
				a.close()
			}
		}
	}
	w.attempts = append(w.attempts, newAttempt(w, d))
}

func (w *worker) send(m control.Message) {
	w.p.touch()
	if !w.cut {
		w.s.up.send(w.s.carry(m))
	}
	w.p.touch()
}

// attempt runs the subtasks of one Deploy, as taskmanager's does.
type attempt struct {
	s       *sim
	w       *worker
	deploy  control.Deploy
	inbox   []any
	nodes   []*node
	commits []*commits
	up      uploader
	ready   map[dataflow.SubtaskID]bool
	over    []dataflow.SubtaskID // ended subtasks
	repeat  int64                // when Ended and Failed are sent again
	failed  control.Message      // Failed; nil while it is well
	closed  bool
	started bool

	states   []stateCodec // of the kernel
	draining bool
	batch    int
	window   channel.Window
	budget   int64
}

type (
	isReady struct{ subtask dataflow.SubtaskID }
	isAcked struct {
		subtask dataflow.SubtaskID
		epoch   dataflow.Epoch
		part    dataflow.Part
	}
	isFailed struct {
		subtask dataflow.SubtaskID
		err     error
	}
)

func newAttempt(w *worker, d control.Deploy) *attempt {
	s := w.s
	a := &attempt{s: s, w: w, deploy: d, ready: map[dataflow.SubtaskID]bool{}, batch: 1 + s.r.IntN(12), budget: 1 << 20,
		window: channel.Window{Rows: int64(1 + s.r.IntN(24)), Bytes: int64(50 + s.r.IntN(2000))}}
	if s.r.IntN(3) == 0 {
		a.budget = int64(slotBytes * (2 + s.r.IntN(12)))
	}
	if s.shape.job != nil {
		var err error
		if a.states, err = compileStates(s.shape.job, d.States); err != nil {
			s.violate("states: %v", err)
		}
		if a.budget < 1<<20 {
			a.budget = int64(1024 * (1 + s.r.IntN(16)))
		}
	}
	a.up = newUploader(a)
	for _, id := range d.Subtasks {
		a.nodes = append(a.nodes, &node{s: s, at: a, id: id, opening: true})
	}
	for _, n := range a.nodes {
		n.connect()
		n.background("open", func() {
			if err := n.open(); err != nil {
				a.inbox = append(a.inbox, isFailed{n.id, fmt.Errorf("open: %w", err)})
				return
			}
			n.opening = false
			a.inbox = append(a.inbox, isReady{n.id})
		})
	}
	s.tracef("%s begins attempt %d from epoch %d", w.p.name, d.Attempt, d.Restored)
	return a
}

func (a *attempt) node(id dataflow.SubtaskID) *node {
	i := slices.IndexFunc(a.nodes, func(n *node) bool { return n.id == id })
	return a.nodes[i]
}

// close drops everything; what was asked of the outside is not taken back.
func (a *attempt) close() {
	if a.closed {
		return
	}
	a.closed = true
	a.s.input.readers = slices.DeleteFunc(a.s.input.readers, func(r *reader) bool { return r.n.at == a })
	a.w.attempts = slices.DeleteFunc(a.w.attempts, func(o *attempt) bool { return o == a })
	a.s.tracef("%s ended attempt %d", a.w.p.name, a.deploy.Attempt)
}

func (a *attempt) each(f func(n *node)) {
	for _, n := range a.nodes {
		n.order(func() { f(n) })
	}
}

// handle acts on one message of the job manager or event of a subtask.
func (a *attempt) handle(msg any) {
	switch msg := msg.(type) {
	case control.Cancel:
		a.close()
		a.w.send(control.Stopped{To: a.deploy.To})
	case control.Start:
		a.start()
	case control.Trigger:
		a.trigger(msg)
	case control.Abort:
		a.up.Abort(msg.Epoch)
		a.each(func(n *node) { n.m.Abort(msg.Epoch) })
	case control.Complete:
		a.up.Complete(msg.Epoch)
		a.each(func(n *node) { n.m.Complete(msg.Epoch) })
	case control.Commit:
		for _, c := range a.commits {
			if c.sink == msg.Sink {
				c.submit(msg.Epoch, msg.Handles)
			}
		}
	case control.Drain:
		a.draining = true
		a.s.input.wake()
	case control.Finished:
		a.each(func(n *node) { n.m.Finished(msg.Epoch) })
	case isReady:
		a.ready[msg.subtask] = true
		if len(a.ready) == len(a.deploy.Subtasks) {
			ready := control.Ready{To: a.deploy.To}
			for _, c := range a.states {
				ready.States = append(ready.States, c.info)
			}
			a.w.send(ready)
		}
	case isAcked:
		a.up.acked(msg)
	case isFailed:
		a.fail(msg.subtask, msg.err)
	default:
		panic(fmt.Sprintf("minicluster: unhandled message %T", msg))
	}
}

func (a *attempt) start() {
	if a.started && a.s.without != StartOnce || len(a.ready) < len(a.nodes) {
		return
	}
	if !a.started {
		a.s.check.starting(string(a.deploy.Job), uint64(a.deploy.Attempt), uint64(a.deploy.Restored))
	}
	a.started = true
	a.each(func(n *node) { n.start() })
}

func (a *attempt) trigger(msg control.Trigger) {
	if a.s.without != TriggerStarts {
		a.start() // an epoch is opened only after Start, which may have been lost
	}
	a.up.Begin(msg.Epoch)
	a.each(func(n *node) {
		if a.s.without != TriggerTellsComplete {
			n.m.Complete(msg.Complete)
		}
		n.m.Trigger(msg.Epoch)
	})
}

func (a *attempt) declined(e dataflow.Epoch, s dataflow.SubtaskID, reason string) {
	a.w.send(control.Declined{To: a.deploy.To, Epoch: e, Subtask: s, Reason: reason})
}

func (a *attempt) ended(s dataflow.SubtaskID) {
	if !slices.Contains(a.over, s) {
		a.over = append(a.over, s)
	}
	if a.s.without != EndedAgain {
		a.repeat = a.s.now + reportEvery
	}
	a.w.send(control.Ended{To: a.deploy.To, Subtask: s})
}

func (a *attempt) fail(s dataflow.SubtaskID, err error) {
	a.s.tracef("%s failed: %v", s, err)
	if a.failed != nil {
		return
	}
	a.failed = control.Failed{To: a.deploy.To, Subtask: s, Reason: err.Error(), Stop: errors.Is(err, spi.ErrStop)}
	if a.s.without != FailedAgain {
		a.repeat = a.s.now + reportEvery
	}
	a.w.send(a.failed)
}

// report tells again what must not be lost.
func (a *attempt) report() {
	a.repeat = a.s.now + reportEvery
	if a.failed != nil && a.s.without != FailedAgain {
		a.w.send(a.failed)
	}
	for _, id := range slices.Clone(a.over) {
		if a.s.without != EndedAgain {
			a.ended(id)
		}
	}
}

const reportEvery = 5_000 // µs

// committer is a spi.Committer cut into calls to the outside.
type committer interface {
	check(restored dataflow.Epoch) error
	step(e dataflow.Epoch, handles []dataflow.CommitHandle) (done bool, err error)
}

// commits runs the committer of one sink, one epoch at a time, as actors does.
type commits struct {
	at    *attempt
	sink  dataflow.OperatorID
	c     committer
	queue []queued
	last  dataflow.Epoch
	retry int64
}

type queued struct {
	epoch   dataflow.Epoch
	handles []dataflow.CommitHandle
}

func (c *commits) submit(e dataflow.Epoch, handles []dataflow.CommitHandle) {
	handles = slices.SortedFunc(slices.Values(handles), compareHandles)
	if e <= c.last {
		c.answer(e)
		return
	}
	if slices.ContainsFunc(c.queue, func(q queued) bool { return q.epoch == e }) {
		return
	}
	c.queue = append(c.queue, queued{e, handles})
}

func (c *commits) answer(e dataflow.Epoch) {
	c.at.w.send(control.Committed{To: c.at.deploy.To, Epoch: e, Sink: c.sink})
}

// step makes one call.
func (c *commits) step() {
	if c.at.s.downTill > c.at.s.now {
		c.retry = c.at.s.now + 1000
		return
	}
	c.at.w.p.touch()
	q := c.queue[0]
	done, err := c.c.step(q.epoch, q.handles)
	c.at.w.p.touch()
	switch {
	case errors.Is(err, spi.ErrStop):
		c.queue = nil
		c.at.inbox = append(c.at.inbox, isFailed{dataflow.SubtaskID{Chain: c.sink}, fmt.Errorf("commit of epoch %d: %w", q.epoch, err)})
	case err != nil:
		c.at.s.tracef("commit of epoch %d to %s: %v", q.epoch, c.sink, err)
		c.retry = c.at.s.now + 1000
	case done:
		c.queue = c.queue[1:]
		c.last = q.epoch
		c.answer(q.epoch)
	}
}
