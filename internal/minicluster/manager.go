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
	"github.com/weirstream/weir/internal/objstore"
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
}

type stage int

const (
	idle stage = iota
	deploying
	running
	halting
)

func (st stage) String() string { return []string{"idle", "deploying", "running", "halting"}[st] }

type ending struct {
	phase  fsm.Phase
	reason string
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
	m.job = jobs[0]
	m.coord = checkpoint.NewCoordinator(m.job.Options.Checkpoint)
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
		m.s.check.entry(b, uint64(r.Epoch), uint64(r.Attempt), r.Err == nil)
	}
	m.p.touch()
	return r
}

func (m *manager) pipeline() *fsm.Pipeline { return m.machine.Pipeline(pipelineName) }

func (m *manager) enter(st stage) {
	m.stage, m.since, m.resent = st, m.s.now, m.s.now
	m.stopAs, m.stopAt = "", 0
}

func (m *manager) tick() {
	m.tickAt = m.s.now + tickEvery
	since := m.s.now - m.since
	switch m.stage {
	case idle:
		if m.s.now >= m.retryAt && !m.job.Phase.Terminal() {
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
		if c.(interface{ Target() control.To }).Target().Attempt != m.job.Attempt {
			return
		}
	}
	switch msg := msg.(type) {
	case func():
		msg()
	case request:
		m.request(msg)
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
		m.stopAs = id
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
}

func (m *manager) tryStop() {
	if m.stopAt == 0 || !m.coord.Finished(m.stopAt) {
		return
	}
	m.s.check.stopped(uint64(m.stopAt))
	m.s.stats.Stops++
	m.end(ending{phase: fsm.Restarting, reason: "stopped with a savepoint"})
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
	m.append(fsm.Command{Phase: &fsm.SetPhase{Job: m.job.ID, Phase: p, Reason: reason}})
	m.job = m.machine.Job(m.job.ID)
}

// deploy starts the next attempt from the newest complete epoch.
func (m *manager) deploy() {
	if m.s.shape.rescale && m.job.Phase != fsm.Running && m.job.Phase != fsm.Initializing && m.s.r.IntN(2) == 0 {
		m.append(fsm.Command{Rescale: &fsm.Rescale{Job: m.job.ID, Plan: m.s.shape.plan(m.s)}})
	}
	m.append(fsm.Command{Attempt: &fsm.NewAttempt{Job: m.job.ID, Restart: m.job.Attempt != 0}})
	m.job = m.machine.Job(m.job.ID)
	m.enter(deploying)
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
				m.s.check.deploy(uint64(msg.Restored))
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
	latest := p.Latest()
	if latest == nil {
		return msg, nil
	}
	man, err := checkpoint.Objects{Store: m.disk()}.Load(m.s.ctx, latest.Ref)
	if err != nil {
		return msg, err
	}
	msg.Restored, msg.Parts = man.Epoch, man.Parts
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
			m.step(checkpoint.Deployed{Attempt: attempt, Subtasks: m.job.Plan.Subtasks(), Unfinished: unfinished})
		}
	})
}

// unfinished returns the complete epochs whose output may not all be committed.
func (m *manager) unfinished() (out []checkpoint.Unfinished, err error) {
	for _, rec := range m.pipeline().Epochs {
		if rec.Finished {
			continue
		}
		man, err := checkpoint.Objects{Store: m.disk()}.Load(m.s.ctx, rec.Ref)
		if err != nil {
			return nil, err
		}
		out = append(out, checkpoint.Unfinished{Epoch: rec.Epoch, Handles: checkpoint.HandlesOf(man.Parts)})
	}
	return out, nil
}

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
			r := m.append(fsm.Command{Finish: &fsm.FinishEpoch{Pipeline: pipelineName, Epoch: e.Epoch}})
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
		Version: checkpoint.ManifestVersion, Pipeline: pipelineName, Job: m.job.ID, Attempt: e.Attempt,
		Epoch: e.Epoch, Kind: e.Kind, TimeMicros: e.Opened.UnixMicro(), Plan: m.job.Plan, States: m.pipeline().States, Parts: e.Parts,
	}
	m.beside(func() func() {
		ref, err := checkpoint.Objects{Store: m.disk()}.Publish(m.s.ctx, man)
		return m.back(checkpoint.Published{Epoch: e.Epoch, Ref: ref, Err: err})
	})
}

func (m *manager) complete(e checkpoint.RecordComplete) {
	m.beside(func() func() {
		r := m.append(fsm.Command{Complete: &fsm.CompleteEpoch{Job: m.job.ID, Attempt: e.Attempt, Ref: e.Ref, Bytes: e.Bytes}})
		if r.Err == nil {
			m.s.stats.Completed++
			mark := func() func() {
				if err := (checkpoint.Objects{Store: m.disk()}).Mark(m.s.ctx, pipelineName, e.Ref); err != nil {
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

// retain gives up epochs and sweeps what they leave behind.
func (m *manager) retain() {
	p := m.pipeline()
	var refs []checkpoint.Ref
	done := map[dataflow.Epoch]bool{}
	for _, rec := range p.Epochs {
		refs = append(refs, rec.Ref)
		done[rec.Epoch] = rec.Finished
	}
	_, drop := checkpoint.Keep(refs, m.s.shape.retain, func(e dataflow.Epoch) bool { return done[e] })
	sweep := m.s.now-m.swept > m.s.shape.lease
	if len(drop) < 4 && !sweep {
		return
	}
	m.swept = m.s.now
	cut := clock(m.s.now - 2*m.s.shape.lease)
	m.beside(func() func() {
		if len(drop) > 0 {
			var gone []dataflow.Epoch
			for _, r := range drop {
				gone = append(gone, r.Epoch)
			}
			m.append(fsm.Command{Drop: &fsm.DropEpochs{Pipeline: p.Name, Epochs: gone}})
		}
		if err := m.sweep(cut); err != nil {
			m.s.tracef("sweep: %v", err)
		}
		return nil
	})
}

func (m *manager) sweep(cut time.Time) error {
	p := m.pipeline()
	latest := p.Latest()
	if latest == nil {
		return nil
	}
	var kept []*checkpoint.Manifest
	for _, rec := range p.Epochs {
		man, err := checkpoint.Objects{Store: m.disk()}.Load(m.s.ctx, rec.Ref)
		if err != nil {
			return err
		}
		kept = append(kept, man)
	}
	var listed []string
	for info, err := range objstore.All(m.s.ctx, m.disk(), checkpoint.EpochsDir(p.Name), "") {
		if err != nil {
			return err
		}
		if info.ModTime.Before(cut) {
			listed = append(listed, info.Key)
		}
	}
	gone := checkpoint.Sweep(p.Name, listed, kept, func(e dataflow.Epoch) bool { return e < latest.Epoch })
	var errs []error
	for _, key := range slices.Sorted(slices.Values(gone)) {
		errs = append(errs, m.disk().Delete(m.s.ctx, key))
	}
	m.s.stats.Swept += len(gone)
	if err := errors.Join(errs...); err != nil {
		return err
	}
	if len(p.Orphans) > 0 {
		return m.append(fsm.Command{Forget: &fsm.ForgetEpochs{Pipeline: p.Name, Epochs: p.Orphans}}).Err
	}
	return nil
}
