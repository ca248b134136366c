package taskmanager

import (
	"github.com/weirstream/weir/actors"
	"github.com/weirstream/weir/dataflow"
	"github.com/weirstream/weir/internal/control"
)

// shares is what an attempt's subtasks had spent when the last report was made.
type shares struct{ busy, blocked, all int64 }

// report sends the attempt's figures up.
func (a *attempt) report() {
	if a.live == nil {
		return
	}
	r := control.Report{To: a.deploy.To, At: a.m.opts.Clock.Now()}
	for _, s := range a.live.Snapshot() {
		now := shares{s.Busy, s.Blocked, s.Busy + s.Blocked + s.Idle}
		was := a.spent[s.Subtask]
		a.spent[s.Subtask] = now
		busy, held := share(now.busy-was.busy, now.all-was.all), share(now.blocked-was.blocked, now.all-was.all)
		for i, o := range s.Operators {
			op := control.OperatorReport{Operator: o.Operator, Subtask: s.Subtask, In: o.RowsIn, Out: o.RowsOut, Watermark: o.Watermark, Counts: o.Counts, Busy: busy, Held: held, Lag: -1}
			if i == 0 {
				op.Lag, op.State, op.Dirty = s.Lag, s.Memory, s.Dirty
			}
			r.Operators = append(r.Operators, op)
		}
		r.Edges = append(r.Edges, edges(s, held)...)
	}
	a.send(r)
}

func edges(s actors.SubtaskStats, held float64) (out []control.EdgeReport) {
	for _, e := range s.Outputs {
		out = append(out, control.EdgeReport{Edge: e.Edge, From: s.Subtask, Rows: e.Rows, Bytes: e.Bytes, Held: held})
	}
	return out
}

func share(part, all int64) float64 {
	if all <= 0 {
		return 0
	}
	return float64(part) / float64(all)
}

func newSpent() map[dataflow.SubtaskID]shares { return map[dataflow.SubtaskID]shares{} }
