package actors

// snapshot copies the counters between two messages. It waits for the message in
// progress, unless that is longer than a turn should be.
func (d *driver) snapshot() SubtaskStats {
	if m := d.machine.Load(); m == nil || !d.mu.TryLock() {
		if begin := d.turnStart.Load(); begin != 0 && int64(d.a.rt.clock.Monotonic())-begin > int64(10*turnTime) {
			return SubtaskStats{Subtask: d.id, Running: true, Messages: d.box.posted.Load(), Lag: -1}
		}
		d.mu.Lock()
	}
	defer d.mu.Unlock()
	s := SubtaskStats{
		Subtask: d.id, Running: d.running, Busy: int64(d.busy), Blocked: int64(d.blocked), Idle: int64(d.idle),
		Turns: d.turns, Messages: d.box.posted.Load(), Lag: -1,
	}
	if d.dead != nil {
		s.Failed = d.dead.Error()
	}
	if d.m == nil {
		return s
	}
	m := d.m.Stats()
	s.Ended, s.Epoch, s.Lag, s.Memory, s.Dirty = m.Ended, m.Epoch, m.Lag, m.Memory, m.Dirty
	s.Queued, s.AlignNano = m.Queued, m.Align*1000
	for i, o := range m.Ops {
		s.Operators = append(s.Operators, OperatorStats{
			Operator: o.Name, RowsIn: o.RowsIn, RowsOut: o.RowsOut, Watermark: o.Watermark, Counts: d.counts[i].snapshot(),
		})
	}
	for _, o := range m.Outs {
		s.Outputs = append(s.Outputs, EdgeStats{Edge: o.Edge, Rows: o.Rows, Bytes: o.Bytes, Batches: o.Batches, Credit: o.Credit})
	}
	return s
}
