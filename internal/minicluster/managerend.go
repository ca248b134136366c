package minicluster

import (
	"fmt"

	"github.com/weirstream/weir/checkpoint"
	"github.com/weirstream/weir/internal/control"
	"github.com/weirstream/weir/jobmanager/fsm"
)

// failed ends the attempt; the job restarts unless nothing can cure it.
func (m *manager) failed(msg control.Failed) {
	if m.stage == halting || m.stage == idle {
		return
	}
	m.s.tracef("attempt %d failed: %s", m.job.Attempt, msg.Reason)
	next := fsm.Restarting
	if msg.Stop {
		next = fsm.Failed
	}
	if m.ending != nil {
		next = m.ending.phase
	}
	m.end(ending{phase: next, reason: msg.Reason})
}

// end stops the attempt, if one runs, and then takes the job to its next phase. What a
// user asks for comes before what was to follow.
func (m *manager) end(e ending) {
	if m.ending != nil && !e.asked {
		return
	}
	m.ending = &e
	switch m.stage {
	case idle, adopting:
		m.stopped()
	case deploying, running:
		if e.phase == fsm.Canceled {
			m.set(fsm.Cancelling, "")
		}
		m.send(control.Cancel{To: m.to()})
		for _, ef := range m.coord.Step(clock(m.s.now), checkpoint.Stopped{Reason: "the attempt ended"}) {
			m.act(ef)
		}
		m.enter(halting)
	}
}

// stopped is called when nothing of the attempt is left.
func (m *manager) stopped() {
	m.enter(idle)
	e := m.ending
	if e == nil {
		return
	}
	m.ending = nil
	switch {
	case e.plan != nil:
		m.set(fsm.Restarting, "")
		m.append(fsm.Command{Rescale: &fsm.Rescale{Job: m.job.ID, Plan: *e.plan}})
		m.job = m.machine.Job(m.job.ID)
		m.planned, m.retryAt = true, m.s.now
		return
	case e.phase == fsm.Restarting:
		m.set(fsm.Restarting, e.reason)
		m.retryAt = m.s.now + m.backoff
		m.backoff = min(m.backoff*2, backoffMax)
		return
	case e.phase == fsm.Canceled:
		if m.job.Phase != fsm.Cancelling && m.s.without != CancelGoesOn {
			m.set(fsm.Cancelling, "")
		}
		if !m.job.Options.RetainOnCancel {
			m.dropOwn()
		}
	}
	m.set(e.phase, e.reason)
	m.slow = nil // the driver is over
	if e.phase == fsm.Canceled {
		m.startSweep(clock(m.s.now))
	}
	if e.phase == fsm.Suspended {
		m.p.dead = true
		m.p.touch() // the job manager was shut down for it
	}
}

// where says how the manager stands, for a run that does not end.
func (m *manager) where() string {
	return fmt.Sprintf("manager %s since %d µs, job %s attempt %d, pending epoch %d, inbox %d, slow %d",
		m.stage, m.s.now-m.since, m.job.Phase, m.job.Attempt, m.coord.Pending(), len(m.inbox), len(m.slow))
}
