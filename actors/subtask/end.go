package subtask

import (
	"github.com/weirstream/weir/actors/channel"
	"github.com/weirstream/weir/dataflow"
)

// checkEnd begins the end when no input is live. The last watermark reaches each
// operator first, then its End, and only then its children, so that what End
// emits is not late.
func (m *Machine) checkEnd() {
	if m.align.Live() > 0 || m.phase != running {
		return
	}
	m.phase = ending
	m.due = max(m.due, m.triggered)
	m.ops[0].mark(dataflow.MaxTime)
}

// end calls End of an operator that has seen the last watermark. It reports
// whether it is done.
func (o *op) end() bool {
	if o.ended || o.cfg.Runner == nil {
		o.ended = true
		return true
	}
	o.m.endBegun = true
	was := o.m.enter(o.i)
	done, err := o.cfg.Runner.End()
	o.m.leave(was)
	if err != nil {
		o.m.fail(o.i, err)
		return false
	}
	o.ended = done
	return done
}

// endStep runs when nothing is left in the chain and every operator is done.
func (m *Machine) endStep() bool {
	for _, e := range m.outs {
		e.broadcast(channel.Item{Kind: channel.End})
	}
	m.phase = ended
	m.due = max(m.due, m.triggered)
	for _, o := range m.ops {
		if o.cfg.Writer != nil && !o.writer.last {
			return true // an epoch must make its last rows visible
		}
	}
	m.phase = finished
	m.fx.Ended()
	return true
}
