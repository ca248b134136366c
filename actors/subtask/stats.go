package subtask

import "github.com/weirstream/weir/dataflow"

// Stats are the counters of a machine since it was made.
type Stats struct {
	Ended       bool
	Epoch       dataflow.Epoch // newest cut
	Lag         int64          // of the reader; -1 if unknown or none
	Memory      int64          // bytes held by the runners
	Dirty       int64          // bytes of them that cannot be evicted
	Queued      int64          // rows waiting in the inputs
	Align       int64          // µs that the last alignment took
	Ops         []OpStats
	Outs        []OutStats
	IdleInput   bool
	Uncommitted int // commit handles that no complete epoch is known to contain
}

// OpStats are the counters of one operator.
type OpStats struct {
	Name            dataflow.OperatorID
	RowsIn, RowsOut int64
	Watermark       int64
}

// OutStats are the counters of one outgoing edge.
type OutStats struct {
	Edge                 int
	Rows, Bytes, Batches int64
	Credit               int64 // rows, the least of its channels
}

// Stats returns the counters. It belongs to the turn.
func (m *Machine) Stats() Stats {
	s := Stats{
		Ended: m.phase >= ended, Epoch: m.lastCut, Lag: -1, Memory: m.total, Dirty: m.dirty,
		Queued: m.Queued(), IdleInput: m.idle, Align: m.aligned, Uncommitted: len(m.handles),
	}
	if m.src != nil && m.src.reader != nil {
		s.Lag = m.src.reader.Lag()
	}
	for _, o := range m.ops {
		s.Ops = append(s.Ops, OpStats{o.cfg.Name, o.rowsIn, o.rowsOut, o.reached})
	}
	for _, e := range m.outs {
		x := OutStats{Edge: e.cfg.Edge, Rows: e.rows, Bytes: e.bytes, Batches: e.batches}
		for i, c := range e.chans {
			if rows, _ := c.send.Credit(); i == 0 || rows < x.Credit {
				x.Credit = rows
			}
		}
		s.Outs = append(s.Outs, x)
	}
	return s
}
