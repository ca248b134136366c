package minicluster

import (
	"errors"
	"slices"

	"github.com/weirstream/weir/checkpoint"
	"github.com/weirstream/weir/dataflow"
	"github.com/weirstream/weir/internal/control"
	"github.com/weirstream/weir/internal/objstore"
	"github.com/weirstream/weir/jobmanager/fsm"
)

// ask is what a user asks the job manager for.
type ask struct {
	what     asked
	pipeline dataflow.Pipeline
	restore  string         // of submit: the key of a manifest, or ""
	epoch    dataflow.Epoch // of dispose
	retain   bool           // of submit: checkpoints stay when the job is cancelled
}

type asked int

const (
	askCancel asked = iota
	askStop
	askSuspend
	askDrain
	askRescale
	askDispose
	askSubmit
)

func (a asked) String() string {
	return []string{"cancel", "stop", "suspend", "drain", "rescale", "dispose", "submit"}[a]
}

// ask does what a user asks for, as jobmanager's driver and Manager do.
func (m *manager) ask(a ask) {
	s := m.s
	s.tracef("user: %s %s %s %d", a.what, a.pipeline, a.restore, a.epoch)
	if live := !m.job.Phase.Terminal(); a.what < askDispose && !live || a.what == askSubmit && live {
		return
	}
	switch a.what {
	case askCancel:
		s.stats.Cancels++
		m.end(ending{phase: fsm.Canceled, asked: true})
	case askStop:
		if m.stage == running && m.stopAs == "" {
			m.set(fsm.Stopping, "with a savepoint")
			m.endBehind(checkpoint.Savepoint, ending{phase: fsm.Finished, asked: true})
		}
	case askSuspend:
		s.stats.Suspends++
		if e := (ending{phase: fsm.Suspended, asked: true}); m.stage == running && m.stopAs == "" {
			m.endBehind(checkpoint.Suspend, e)
		} else {
			m.end(e)
		}
	case askDrain:
		if m.stage == running {
			m.append(fsm.Command{Drain: &fsm.Drain{Job: m.job.ID}})
			m.set(fsm.Stopping, "draining")
			m.sendDrain()
		}
	case askRescale:
		if m.stage == running && m.stopAs == "" {
			s.stats.Rescales++
			plan := s.shape.planOf(s.user.parallelism())
			m.endBehind(checkpoint.OnDemand, ending{phase: fsm.Restarting, asked: true, plan: &plan})
		}
	case askDispose:
		m.dispose(a)
	case askSubmit:
		m.submit(a)
	}
}

// endBehind asks for an epoch behind which nothing goes on, and ends the attempt with it.
func (m *manager) endBehind(kind checkpoint.Kind, e ending) {
	m.stopAs, m.stopEnd = m.s.user.request(), e
	m.step(checkpoint.Request{ID: m.stopAs, Kind: kind, Last: m.s.without != StopHolds})
}

// notTaken is called when the epoch to end the attempt with was not.
func (m *manager) notTaken(attempt dataflow.Attempt) {
	switch {
	case m.stopEnd.phase == fsm.Suspended:
		m.end(m.stopEnd)
	case m.stopEnd.phase == fsm.Finished && m.stage == running && attempt == m.job.Attempt:
		m.set(fsm.Running, "")
	}
}

func (m *manager) sendDrain() {
	m.drainAt = m.s.now
	m.send(control.Drain{To: m.to()})
}

// drainAgain repeats Drain, for one may be lost.
func (m *manager) drainAgain() {
	if m.stage == running && m.job.Drain && m.s.now-m.drainAt > 5*tickEvery && m.s.without != DrainAgain {
		m.sendDrain()
	}
}

// dropOwn gives up every checkpoint of a cancelled job.
func (m *manager) dropOwn() {
	p := m.pipeline()
	gone := p.Own(m.job)
	if m.s.without == ResumedStays {
		gone = nil
		for _, rec := range p.Epochs {
			if rec.Kind != checkpoint.Savepoint {
				gone = append(gone, rec.Epoch)
			}
		}
	}
	if len(gone) > 0 {
		m.append(fsm.Command{Drop: &fsm.DropEpochs{Pipeline: p.Name, Epochs: gone, All: true}})
	}
}

func (m *manager) dispose(a ask) {
	m.s.check.disposing(string(a.pipeline), uint64(a.epoch))
	r := m.append(fsm.Command{Drop: &fsm.DropEpochs{Pipeline: a.pipeline, Epochs: []dataflow.Epoch{a.epoch}}})
	m.s.check.disposed(string(a.pipeline), uint64(a.epoch), r.Err)
	if r.Err == nil {
		m.s.stats.Disposed++
	}
}

// submit reads what the job is to start from, and then records it: much may happen between.
func (m *manager) submit(a ask) {
	m.beside(func() func() {
		var states []dataflow.StateInfo
		var restore *checkpoint.Ref
		if a.restore != "" {
			man, ref, err := m.objects().LoadPath(m.s.ctx, a.restore)
			if err != nil {
				return func() { m.refused(a, err) }
			}
			if man.Pipeline != a.pipeline && ref.Kind != checkpoint.Savepoint && ref.Kind != checkpoint.Suspend {
				return func() { m.refused(a, errNotYours) }
			}
			states, restore = man.States, &ref
		} else if _, err := m.machine.Pipeline(a.pipeline).Start(); err != nil {
			return func() { m.refused(a, err) }
		}
		return func() {
			job := fsm.Job{Pipeline: a.pipeline, Plan: m.s.shape.plan(m.s), Options: m.s.shape.options(), Restore: restore, Request: m.s.user.request()}
			job.Options.RetainOnCancel = a.retain
			r := m.append(fsm.Command{Submit: &fsm.Submit{Job: job, States: states}})
			if r.Err != nil {
				m.refused(a, r.Err)
				return
			}
			m.begin(m.machine.Job(r.Job))
		}
	})
}

func (m *manager) refused(a ask, err error) {
	m.s.stats.Refused++
	m.s.tracef("refused: %v", err)
	if objstore.Retryable(err) || errors.Is(err, objstore.ErrAmbiguous) {
		return // the store is away
	}
	m.s.user.refused = true
	m.s.check.refused(string(a.pipeline), a.restore, err.Error())
}

// begin drives another job, with a driver of its own.
func (m *manager) begin(j *fsm.Job) {
	s := m.s
	s.stats.Submits++
	if j.Restore != nil {
		s.stats.Restores++
	}
	if j.Adopt != 0 {
		s.stats.Adoptions++
	}
	m.job, m.coord = j, checkpoint.NewCoordinator(j.Options.Checkpoint)
	m.inbox = slices.DeleteFunc(m.inbox, func(msg any) bool { _, ok := msg.(func()); return ok })
	m.slow, m.ending, m.planned, m.ready = nil, nil, false, false
	m.backoff, m.retryAt, m.drainAt = backoffMin, 0, 0
	m.enter(idle)
}

// adopt copies what the job starts from and records the copy as its first checkpoint.
func (m *manager) adopt() {
	m.enter(adopting)
	j := m.job
	m.beside(func() func() {
		err := m.copy(j)
		return func() {
			if m.stage != adopting {
				return // it was cancelled
			}
			m.job = m.machine.Job(j.ID)
			m.enter(idle)
			if err != nil {
				next := fsm.Restarting
				if !retryableRestore(err) {
					next = fsm.Failed
				}
				m.s.tracef("not copied: %v", err)
				m.end(ending{phase: next, reason: err.Error()})
			}
		}
	})
}

func (m *manager) copy(j *fsm.Job) error {
	man, err := m.objects().Load(m.s.ctx, *j.Restore)
	if err != nil {
		return err
	}
	ref, own, err := m.objects().Adopt(m.s.ctx, man, *j.Restore, j.Pipeline, j.Adopt, func(checkpoint.Copying) { m.p.touch() })
	if err != nil {
		return err
	}
	total, _ := own.Bytes()
	if r := m.append(fsm.Command{Adopt: &fsm.Adopt{Job: j.ID, Ref: ref, Bytes: total}}); r.Err != nil {
		return r.Err
	}
	if err := m.objects().Mark(m.s.ctx, j.Pipeline, ref); err != nil {
		m.s.tracef("marker: %v", err)
	}
	return nil
}
