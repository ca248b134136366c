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
	m.end(ending{next, msg.Reason})
}

// end stops the attempt, if one runs, and then takes the job to its next phase.
func (m *manager) end(e ending) {
	if m.ending != nil {
		return
	}
	m.ending = &e
	switch m.stage {
	case idle:
		m.stopped()
	case deploying, running:
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
	m.set(e.phase, e.reason)
	if e.phase == fsm.Restarting {
		m.retryAt = m.s.now + m.backoff
		m.backoff = min(m.backoff*2, backoffMax)
		return
	}
	if e.phase == fsm.Failed {
		m.s.violate("the job failed: %s", e.reason)
	}
}

// where says how the manager stands, for a run that does not end.
func (m *manager) where() string {
	return fmt.Sprintf("manager %s since %d µs, job %s attempt %d, pending epoch %d, inbox %d, slow %d",
		m.stage, m.s.now-m.since, m.job.Phase, m.job.Attempt, m.coord.Pending(), len(m.inbox), len(m.slow))
}
