package subtask

import (
	"fmt"
	"math"

	"github.com/weirstream/weir/actors/channel"
	"github.com/weirstream/weir/dataflow"
	"github.com/weirstream/weir/stream/spi"
)

// input is the receiving end of one channel.
type input struct {
	recv  *channel.Receiver
	port  int
	from  int   // rows of the head batch already consumed
	wm    int64 // its watermark
	idle  bool
	ended bool

	touched bool // something was consumed since the last grant
}

// Receive files an item of input channel i. A gap kills the machine.
func (m *Machine) Receive(i int, it channel.Item) {
	if err := m.ins[i].recv.Push(it); err != nil {
		m.fail(-1, fmt.Errorf("input %s: %w", m.cfg.Ins[i].Channel, err))
	}
}

// readInput consumes one item, or part of a batch. Channels whose head is a
// barrier come first, then the one whose batch is half consumed, for a row of it
// may be half done; the others in rotation.
func (m *Machine) readInput() bool {
	pick := -1
	for k := range m.ins {
		i := m.next + k
		if i >= len(m.ins) {
			i -= len(m.ins)
		}
		h := m.ins[i].recv.Head()
		if h == nil || m.align.Blocked(i) {
			continue
		}
		if h.Kind == channel.Barrier {
			pick = i
			break
		}
		if pick < 0 || i == m.half {
			pick = i
		}
	}
	if pick < 0 {
		return false
	}
	in := m.ins[pick]
	it := in.recv.Head()
	switch it.Kind {
	case channel.Rows:
		return m.readRows(pick, in, it)
	case channel.Watermark:
		wm := it.Time
		in.pop(nil)
		in.idle = false
		m.advanceInput(in, wm)
	case channel.Idle:
		in.pop(nil)
		in.idle = true
		m.updateWatermark()
	case channel.Barrier:
		epoch, complete := it.Epoch, it.Complete
		in.pop(nil)
		m.arrived(pick, epoch, complete)
	case channel.End:
		in.pop(nil)
		in.ended = true
		m.updateWatermark()
		if m.align.End(pick) {
			m.due, _ = m.align.Epoch()
		}
		m.checkEnd()
	}
	m.next = pick + 1
	return true
}

func (in *input) pop(free spi.Batch) {
	in.recv.Pop(free)
	in.touched = true
}

// readBarrier takes a barrier that is next on its channel, so that it passes
// between two timers.
func (m *Machine) readBarrier() bool {
	for i, in := range m.ins {
		if h := in.recv.Head(); h != nil && h.Kind == channel.Barrier && !m.align.Blocked(i) {
			epoch, complete := h.Epoch, h.Complete
			in.pop(nil)
			m.arrived(i, epoch, complete)
			return true
		}
	}
	return false
}

func (m *Machine) readRows(i int, in *input, it *channel.Item) bool {
	if in.idle {
		in.idle = false
		m.updateWatermark()
	}
	m.port = in.port
	head := m.ops[0]
	at := head.step(it.Batch, in.from)
	in.from = at
	if m.err != nil || at < it.Batch.Len() {
		m.half = i
		return m.progress
	}
	m.half = -1
	b := it.Batch
	wm := b.Head().Watermark
	in.from = 0
	if b.Len() < m.cfg.BatchRows/smallPart {
		in.pop(nil) // made to measure
	} else {
		in.pop(b)
	}
	m.next = i + 1
	if wm > in.wm {
		m.advanceInput(in, wm)
	}
	return true
}

func (m *Machine) advanceInput(in *input, wm int64) {
	if wm > in.wm {
		in.wm = wm
	}
	m.updateWatermark()
}

// updateWatermark gives the head the minimum over the inputs that are live and
// not idle. An idle input holds nothing back, but the end of time comes only with
// the end of every input.
func (m *Machine) updateWatermark() {
	wm, live, active, last := int64(math.MaxInt64), false, false, false
	for _, in := range m.ins {
		if in.ended {
			continue
		}
		live = true
		if in.wm == dataflow.MaxTime {
			last = true // its end is about to come
			continue
		}
		if !in.idle {
			active = true
			wm = min(wm, in.wm)
		}
	}
	m.idle = live && !active && !last
	if live && !active {
		return // idle, or about to end
	}
	if !live {
		wm = dataflow.MaxTime
	}
	m.ops[0].mark(wm)
}

// grant returns credit for what was consumed, sized to what this subtask can do.
func (m *Machine) grant() {
	if len(m.ins) == 0 {
		return
	}
	timer := m.nextTimer()
	for i, in := range m.ins {
		if !in.touched && timer == m.timer {
			continue
		}
		in.touched = false
		in.recv.Resize(m.window)
		in.recv.Announce(timer)
		if c, ok := in.recv.Due(m.ops[0].reached); ok {
			m.fx.Grant(i, c)
		}
	}
	m.timer = timer
}

// Queued returns the rows that wait in all inputs.
func (m *Machine) Queued() (rows int64) {
	for _, in := range m.ins {
		rows += in.recv.Queued()
	}
	return rows
}
