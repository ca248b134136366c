package subtask

import (
	"github.com/weirstream/weir/actors/channel"
)

// memoryState is what a machine knows of its memory and its speed.
type memoryState struct {
	total, dirty int64
	window       channel.Window

	busy     int64 // ns measured and not yet turned into a window
	busyRows int64 // rows the head had consumed when busy was 0
}

// SetMemoryBudget changes Config.MemoryBudget from the next turn on.
func (m *Machine) SetMemoryBudget(bytes int64) { m.cfg.MemoryBudget = bytes }

// tendMemory keeps the runners within the budget: clean rows are evicted, dirty
// ones above half of it are written early.
func (m *Machine) tendMemory() {
	var total, dirty, most int64
	fattest := -1
	for _, o := range m.ops {
		if o.cfg.Runner == nil {
			continue
		}
		t, d := o.cfg.Runner.Memory()
		total, dirty = total+t, dirty+d
		if t-d > most {
			most, fattest = t-d, o.i
		}
	}
	if over := total - m.cfg.MemoryBudget; over > 0 && fattest >= 0 {
		was := m.enter(fattest)
		total -= m.ops[fattest].cfg.Runner.Evict(over + m.cfg.MemoryBudget/16)
		m.leave(was)
	}
	m.total, m.dirty = total, dirty
	if dirty > m.cfg.MemoryBudget/2 && m.open == nil && m.cfg.Store != nil && m.due == 0 {
		m.spill()
	}
	m.stalled = m.open != nil && dirty > m.cfg.MemoryBudget
}

// spill freezes without a barrier. The file is numbered after the last cut, thus
// at most with the epoch of the next, whose own file then follows it.
func (m *Machine) spill() {
	c := &cut{epoch: m.lastCut + 1, spill: true}
	if !m.freeze(c) || len(c.frozen) == 0 {
		return
	}
	m.open = c
	m.write(c)
}

// The window of a channel holds about 100 ms of work, shared by the inputs.
const (
	windowNanos = 100_000_000
	measureNano = 2_000_000 // least busy time that says something
	maxRows     = 64 << 10
	maxBytes    = 16 << 20 // all inputs together
	minBytes    = 64 << 10
)

// Measure tells how long the last turn took. From it the machine sizes the
// windows of its inputs.
func (m *Machine) Measure(nanos int64) {
	m.busy += nanos
	if m.busy < measureNano || len(m.ins) == 0 {
		return
	}
	rows := m.ops[0].rowsIn - m.busyRows
	if rows > 0 {
		live := int64(max(1, m.align.Live()))
		want := int64(float64(rows) / float64(m.busy) * windowNanos / float64(live))
		// Move half the way: one slow turn is not a slow operator.
		m.window.Rows = min(maxRows, max(1, (m.window.Rows+want)/2))
		m.window.Bytes = max(minBytes, min(maxBytes/live, 4<<20))
	}
	m.busy, m.busyRows = 0, m.ops[0].rowsIn
}
