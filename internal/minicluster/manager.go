package minicluster

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/weirstream/weir/checkpoint"
	"github.com/weirstream/weir/dataflow"
	"github.com/weirstream/weir/internal/control"
	"github.com/weirstream/weir/jobmanager/fsm"
)

// Times of the driver, in microseconds of the simulation's clock.
const (
	tickEvery     = 400
	deployWithin  = 20_000
	stoppedWithin = 8_000
	backoffMin    = 500
	backoffMax    = 4_000
	sweepEvery    = 10_000 // the lease
)

// manager is the driver of the one job, as jobmanager's is.
type manager struct {
	s       *sim
	p       *proc
	machine *fsm.Machine
	term    dataflow.Term
	inbox   []any
	slow    []func() (then func()) // blocking calls, one after the other
	sweeps  []func()               // beside them

	job     *fsm.Job
	coord   *checkpoint.Coordinator
	stage   stage
	since   int64
	backoff int64
	retryAt int64
	tickAt  int64
	resent  int64 // when Cancel was sent last
	swept   int64
	ready   bool
	ending  *ending
	stopAs  string         // request of the savepoint to stop with
	stopAt  dataflow.Epoch // that savepoint, once it is complete
	stopEnd ending         // what follows then
	planned bool           // the next attempt was asked for
	drainAt int64          // when Drain was sent last
}

type stage int

const (
	idle stage = iota
	adopting
	deploying
	running
	halting
)

func (st stage) String() string {
	return []string{"idle", "adopting", "deploying", "running", "halting"}[st]
}

type ending struct {
	phase  fsm.Phase
	reason string
	asked  bool // by a user
	plan   *dataflow.Plan
}

const pipelineName = "sim"

// newManager is a job manager that has read the log.
func (s *sim) newManager() *manager {
	s.starts++
	m := &manager{s: s, term: dataflow.Term(s.starts), p: &proc{s: s, name: fmt.Sprintf("manager-%d", s.starts), fuse: -1}, machine: fsm.New(), backoff: backoffMin, since: s.now}
	cut := s.r.IntN(len(s.log.entries) + 1)
	for i, b := range s.log.entries {
		if i == cut { // what a snapshot keeps must be everything
			snap, err := m.machine.Snapshot()
			fresh := fsm.New()
			if err = errors.Join(err, fresh.Restore(snap)); err != nil {
				s.violate("log snapshot: %v", err)
			}
			m.machine = fresh
		}
		m.machine.ApplyBytes(b)
	}
	jobs := m.machine.Jobs()
	if len(jobs) == 0 {
		m.append(fsm.Command{Submit: &fsm.Submit{Job: fsm.Job{Pipeline: pipelineName, Plan: s.shape.plan(s), Options: s.shape.options()}}})
		jobs = m.machine.Jobs()
	}
	m.job = jobs[len(jobs)-1]
	m.coord = checkpoint.NewCoordinator(m.job.Options.Checkpoint)
	if m.job.Phase == fsm.Cancelling && s.without != CancelGoesOn {
		m.ending = &ending{phase: fsm.Canceled, asked: true}
		m.enter(halting)
	}
	s.tracef("%s leads; job %s attempt %d", m.p.name, m.job.Phase, m.job.Attempt)
	return m
}

func (m *manager) disk() disk { return disk{m.s.store, m.p} }

func (m *manager) to() control.To { return control.To{Job: m.job.ID, Attempt: m.job.Attempt} }

func (m *manager) send(msg control.Message) {
	m.p.touch()
	m.s.down.send(m.s.carry(msg))
	m.p.touch()
}

// append adds an entry to the log; where an answer is lost it is added again.
func (m *manager) append(c fsm.Command) fsm.Result {
	m.p.touch()
	c.At, c.Term = m.s.now, m.term
	b, err := json.Marshal(c)
	if err != nil {
		panic(err)
	}
	times := 1
	if m.s.chance(30) {
		times = 2
	}
	var r fsm.Result
	for range times {
		m.s.log.entries = append(m.s.log.entries, b)
		r = m.machine.ApplyBytes(b)
		m.s.tracef("log %d: %s => %v", len(m.s.log.entries), b, r.Err)
		m.s.check.entry(b, uint64(r.Epoch), uint64(r.Attempt), string(r.Job), r.Err == nil)
	}
	m.p.touch()
	return r
}

func (m *manager) pipeline() *fsm.Pipeline { return m.machine.Pipeline(m.job.Pipeline) }

func (m *manager) enter(st stage) {
	if end := m.stopEnd; st == halting && m.stopAt != 0 && end.phase == fsm.Suspended {
		m.inbox = append(m.inbox, func() { m.end(end) }) // the next job manager commits it
	}
	m.stage, m.since, m.resent = st, m.s.now, m.s.now
	m.stopAs, m.stopAt = "", 0
}

func (m *manager) tick() {
	m.tickAt = m.s.now + tickEvery
	since := m.s.now - m.since
	switch m.stage {
	case idle:
		switch {
		case m.s.now < m.retryAt || m.job.Phase.Terminal():
		case m.job.Adopt != 0 && m.pipeline().Adopting(m.job):
			m.adopt()
		default:
			m.deploy()
		}
	case deploying:
		if since > deployWithin {
			m.failed(control.Failed{Reason: "not ready in time"})
		}
	case running:
		if m.stage == running && m.s.shape.drain && !m.s.faults && m.s.drained != m.job.Attempt {
			m.drain()
		}
		m.step(checkpoint.Tick{})
		m.drainAgain()
		m.tryStop()
	case halting:
		if since > stoppedWithin {
			m.stopped()
		} else if m.s.now-m.resent > stoppedWithin/8 {
			m.resent = m.s.now
			m.send(control.Cancel{To: m.to()})
		}
	}
}

// workerLost says that the lease of the worker ran out.
type workerLost struct{}

func (m *manager) handle(msg any) {
	if c, ok := msg.(control.Message); ok {
		if c.(interface{ Target() control.To }).Target() != m.to() {
			return
		}
	}
	switch msg := msg.(type) {
	case func():
		msg()
	case request:
		m.request(msg)
	case ask:
		m.ask(msg)
	case workerLost:
		m.failed(control.Failed{Reason: "the worker is lost"})
	case control.Ready:
		m.isReady(msg)
	case control.Acked:
		m.step(checkpoint.Acked{Epoch: msg.Epoch, Part: msg.Part})
	case control.Declined:
		m.step(checkpoint.Declined{Epoch: msg.Epoch, Subtask: msg.Subtask, Reason: msg.Reason})
	case control.Committed:
		m.step(checkpoint.Committed{Epoch: msg.Epoch, Sink: msg.Sink})
	case control.Ended:
		m.step(checkpoint.Ended{Attempt: msg.Attempt, Subtask: msg.Subtask})
	case control.Failed:
		m.failed(msg)
	case control.Stopped:
		if m.stage == halting {
			m.stopped()
		}
	default:
		panic(fmt.Sprintf("minicluster: unhandled message %T", msg))
	}
}

// request asks for a savepoint, as a user does; stop: to stop the job there.
type request struct{ stop bool }

func (m *manager) request(r request) {
	if m.stage != running || m.stopAs != "" {
		return
	}
	id := fmt.Sprint(m.s.stats.Requests)
	m.s.stats.Requests++
	if r.stop {
		m.stopAs, m.stopEnd = id, ending{phase: fsm.Restarting, reason: "stopped with a savepoint"}
	}
	m.step(checkpoint.Request{ID: id, Kind: checkpoint.Savepoint, Last: r.stop && m.s.without != StopHolds})
}

// answered notes the outcome of a request: where the job stops with it, it does
// when the output is committed. It then begins anew from there.
func (m *manager) answered(e checkpoint.Answer) {
	m.s.asked[e.ID]++
	if e.ID != m.stopAs {
		return
	}
	m.stopAs, m.stopAt = "", e.Epoch
	if e.Epoch == 0 && m.stopEnd.asked {
		attempt := m.job.Attempt
		m.inbox = append(m.inbox, func() { m.notTaken(attempt) })
	}
}

func (m *manager) tryStop() {
	if m.stopAt == 0 || !m.coord.Finished(m.stopAt) {
		return
	}
	m.s.check.stopped(string(m.job.ID), uint64(m.stopAt))
	m.s.stats.Stops++
	m.end(m.stopEnd)
}

// drain ends the sources of the attempt, as a user does once.
func (m *manager) drain() {
	m.s.drained = m.job.Attempt
	m.set(fsm.Stopping, "draining")
	m.send(control.Drain{To: m.to()})
}

func (m *manager) beside(f func() (then func())) { m.slow = append(m.slow, f) }

// set records a phase.
func (m *manager) set(p fsm.Phase, reason string) {
	m.append(fsm.Command{Phase: &fsm.SetPhase{Job: m.job.ID, Phase: p, Reason: reason, Keep: 2}})
	m.job = m.machine.Job(m.job.ID)
}

// deploy starts the next attempt from the newest complete epoch.
func (m *manager) deploy() {
	if m.s.shape.rescale && m.job.Phase != fsm.Running && m.job.Phase != fsm.Initializing && m.s.r.IntN(2) == 0 {
		m.append(fsm.Command{Rescale: &fsm.Rescale{Job: m.job.ID, Plan: m.s.shape.plan(m.s)}})
	}
	m.append(fsm.Command{Attempt: &fsm.NewAttempt{Job: m.job.ID, Restart: m.job.Attempt != 0 && !m.planned}})
	m.job = m.machine.Job(m.job.ID)
	m.enter(deploying)
	m.planned = false
	m.ready = false
	attempt := m.job.Attempt
	m.beside(func() func() {
		msg, err := m.restore()
		return func() {
			switch {
			case attempt != m.job.Attempt || m.stage != deploying:
			case err != nil:
				m.failed(control.Failed{Reason: err.Error(), Stop: !retryableRestore(err)})
			default:
				m.s.check.deploy(string(m.job.ID), uint64(msg.Restored))
				m.send(msg)
			}
		}
	})
}

func retryableRestore(err error) bool {
	var corrupt *checkpoint.CorruptError
	return !errors.As(err, &corrupt)
}

func (m *manager) restore() (control.Deploy, error) {
	j, p := m.machine.Job(m.job.ID), m.pipeline()
	msg := control.Deploy{To: control.To{Job: j.ID, Attempt: j.Attempt}, Pipeline: p.Name, Plan: j.Plan, States: p.States, Subtasks: j.Plan.Subtasks(), LastEpoch: p.Epoch}
	ref := p.RestoreRef(j, nil)
	if ref == nil {
		return msg, nil
	}
	man, err := m.objects().Load(m.s.ctx, *ref)
	if err != nil {
		return msg, err
	}
	msg.Restored, msg.Parts = man.Committed(), man.Parts
	if m.s.without == OwnNumbers {
		msg.Restored = man.Epoch
	}
	return msg, nil
}

func (m *manager) isReady(msg control.Ready) {
	if m.stage != deploying || m.ready {
		return
	}
	m.ready = true
	attempt := m.job.Attempt
	m.beside(func() func() {
		r := m.append(fsm.Command{Schemas: &fsm.SetSchemas{Job: m.job.ID, Attempt: attempt, States: msg.States}})
		unfinished, err := m.unfinished()
		err = errors.Join(r.Err, err)
		return func() {
			if m.stage != deploying || attempt != m.job.Attempt {
				return
			}
			if err != nil {
				m.failed(control.Failed{Reason: err.Error(), Stop: !retryableRestore(err)})
				return
			}
			m.set(fsm.Running, "")
			m.enter(running)
			if m.job.Drain {
				m.set(fsm.Stopping, "draining")
				m.sendDrain()
			}
			m.step(checkpoint.Deployed{Attempt: attempt, Subtasks: m.job.Plan.Subtasks(), Unfinished: unfinished})
		}
	})
}

// unfinished returns the complete epochs whose output may not all be committed.
func (m *manager) unfinished() (out []checkpoint.Unfinished, err error) {
	p := m.pipeline()
	refs := p.Uncommitted(m.job, nil)
	if m.s.without == LeftBehind {
		refs = nil
		for _, rec := range p.Epochs {
			if !rec.Finished {
				refs = append(refs, rec.Ref)
			}
		}
	}
	for _, ref := range refs {
		man, err := m.objects().Load(m.s.ctx, ref)
		if err != nil {
			return nil, err
		}
		out = append(out, checkpoint.Unfinished{Epoch: ref.Epoch, Handles: checkpoint.HandlesOf(man.Parts)})
	}
	return out, nil
}

func (m *manager) objects() checkpoint.Objects { return checkpoint.Objects{Store: m.disk()} }

// step advances the Coordinator and carries out what it answers.
func (m *manager) step(ev checkpoint.Event) {
	if m.stage != running {
		return
	}
	for _, e := range m.coord.Step(clock(m.s.now), ev) {
		m.act(e)
	}
}

func clock(us int64) time.Time { return time.UnixMicro(us).UTC() }

func (m *manager) act(e checkpoint.Effect) {
	switch e := e.(type) {
	case checkpoint.OpenEpoch:
		m.beside(func() func() {
			r := m.append(fsm.Command{Open: &fsm.OpenEpoch{Job: m.job.ID, Attempt: e.Attempt}})
			return m.back(checkpoint.Opened{Attempt: e.Attempt, Epoch: r.Epoch, Err: r.Err})
		})
	case checkpoint.Trigger:
		m.s.stats.Epochs++
		m.send(control.Trigger{To: m.to(), Epoch: e.Epoch, Complete: e.Complete})
	case checkpoint.PublishManifest:
		m.publish(e)
	case checkpoint.RecordComplete:
		m.complete(e)
	case checkpoint.NotifyComplete:
		m.send(control.Complete{To: m.to(), Epoch: e.Epoch})
	case checkpoint.Commit:
		m.send(control.Commit{To: m.to(), Epoch: e.Epoch, Sink: e.Sink, Handles: e.Handles})
	case checkpoint.RecordFinished:
		m.beside(func() func() {
			r := m.append(fsm.Command{Finish: &fsm.FinishEpoch{Pipeline: m.job.Pipeline, Epoch: e.Epoch}})
			return m.back(checkpoint.FinishRecorded{Epoch: e.Epoch, Err: r.Err})
		})
	case checkpoint.NotifyFinished:
		m.send(control.Finished{To: m.to(), Epoch: e.Epoch})
		m.retain()
	case checkpoint.Abort:
		m.s.stats.Aborted++
		m.send(control.Abort{To: m.to(), Epoch: e.Epoch, Reason: e.Reason})
	case checkpoint.Start:
		m.send(control.Start{To: m.to()})
	case checkpoint.Fail:
		m.failed(control.Failed{Reason: e.Reason})
	case checkpoint.Answer:
		m.answered(e)
	case checkpoint.JobEnded:
		m.end(ending{phase: fsm.Finished})
	default:
		panic(fmt.Sprintf("minicluster: unhandled effect %T", e))
	}
}

func (m *manager) back(ev checkpoint.Event) func() { return func() { m.step(ev) } }

func (m *manager) publish(e checkpoint.PublishManifest) {
	man := &checkpoint.Manifest{
		Version: checkpoint.ManifestVersion, Pipeline: m.job.Pipeline, Job: m.job.ID, Attempt: e.Attempt,
		Epoch: e.Epoch, Kind: e.Kind, TimeMicros: e.Opened.UnixMicro(), Plan: m.job.Plan, States: m.pipeline().States, Parts: e.Parts,
	}
	m.beside(func() func() {
		ref, err := m.objects().Publish(m.s.ctx, man)
		return m.back(checkpoint.Published{Epoch: e.Epoch, Ref: ref, Err: err})
	})
}

func (m *manager) complete(e checkpoint.RecordComplete) {
	m.beside(func() func() {
		r := m.append(fsm.Command{Complete: &fsm.CompleteEpoch{Job: m.job.ID, Attempt: e.Attempt, Ref: e.Ref, Bytes: e.Bytes}})
		if r.Err == nil {
			m.s.stats.Completed++
			mark := func() func() {
				if err := m.objects().Mark(m.s.ctx, m.job.Pipeline, e.Ref); err != nil {
					m.s.tracef("marker: %v", err)
				}
				return nil
			}
			if e.Ref.Kind == checkpoint.Periodic { // nobody waits for it
				m.slow = slices.Insert(m.slow, 0, mark)
			} else {
				mark()
			}
		}
		return m.back(checkpoint.Completed{Epoch: e.Ref.Epoch, Key: e.Ref.Key, Err: r.Err})
	})
}
