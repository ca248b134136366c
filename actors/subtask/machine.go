package subtask

import (
	"fmt"
	"math"
	"sync/atomic"

	"github.com/weirstream/weir/actors/channel"
	"github.com/weirstream/weir/dataflow"
	"github.com/weirstream/weir/stream/spi"
)

// A Machine is one subtask. See the package's doc.
type Machine struct {
	cfg   Config
	fx    Effects
	ops   []*op
	outs  []*out
	chans []*outChan // all channels of outs, flat
	ins   []*input
	align *Aligner
	src   *source // nil unless the head is a source

	now     int64
	port    int // input port of the rows in hand
	current atomic.Int32
	err     error // why it is dead
	errOp   int
	started bool

	next     int   // rotation over ins
	half     int   // input whose batch is partly consumed; -1: none
	idle     bool  // all live inputs are idle
	timer    int64 // earliest over chain and receivers, as last announced
	phase    phase
	progress bool // an operator consumed or emitted something in this piece of work
	stalled  bool // dirty memory is over the budget while a file is being written

	epochState
	memoryState
}

// phase is how far the end of input has come.
type phase uint8

const (
	running  phase = iota
	ending         // inputs are over: last watermark, then End of each operator
	ended          // the end is sent; sinks wait for an epoch that contains it
	finished       // Ended was reported
)

// A Status says what a turn left behind.
type Status uint8

// The statuses of a turn.
const (
	More    Status = iota // there is work: post the next turn
	Idle                  // nothing to do until mail, Wake or WakeAt
	Blocked               // as Idle, but rows wait for credit or room in a sink
)

// New builds the machine of an opened subtask and opens its runners.
func New(cfg Config) (*Machine, error) {
	cfg.defaults()
	m := &Machine{cfg: cfg, fx: cfg.Effects, align: NewAligner(len(cfg.Ins)), timer: dataflow.MaxTime, half: -1}
	m.current.Store(-1)
	m.lastCut = cfg.LastEpoch
	m.window = m.cfg.Window
	for i := range cfg.Ops {
		c := &m.cfg.Ops[i]
		o := &op{m: m, i: i, cfg: c, outs: make([]port, c.Outs), target: c.Watermark, reached: c.Watermark, timer: dataflow.MaxTime}
		if c.Target != 0 {
			o.target = max(o.target, c.Target)
		}
		o.host.o = o
		o.writer.state = c.WriterWas
		m.ops = append(m.ops, o)
		if c.Parent >= 0 {
			p := &m.ops[c.Parent].outs[c.ParentPort]
			p.to = append(p.to, o)
		}
	}
	for i := range cfg.Outs {
		m.addOut(&m.cfg.Outs[i])
	}
	for _, in := range cfg.Ins {
		m.ins = append(m.ins, &input{recv: channel.NewReceiver(cfg.Attempt, m.cfg.Window), port: in.Port, wm: dataflow.MinTime})
	}
	if s := cfg.Ops[0].Source; s != nil {
		m.src = &source{m: m, gen: s, reader: cfg.Ops[0].Reader}
	}
	for _, o := range m.ops {
		if o.cfg.Runner == nil {
			continue
		}
		was := m.enter(o.i)
		err := o.cfg.Runner.Open(o.host, o.cfg.Extra)
		m.leave(was)
		if err != nil {
			return nil, fmt.Errorf("operator %q: open: %w", o.cfg.Name, err)
		}
	}
	return m, nil
}

func (m *Machine) addOut(c *Out) {
	e := &out{m: m, cfg: c, wm: m.ops[c.Op].reached, rooms: make([]int, len(c.Channels))}
	e.open = make([]spi.Batch, len(c.Channels))
	for range c.Channels {
		oc := &outChan{i: len(m.chans), send: channel.NewSender(m.cfg.Attempt, m.cfg.Window), since: -1, wm: dataflow.MinTime, wmAt: math.MinInt64 / 2}
		e.chans = append(e.chans, oc)
		m.chans = append(m.chans, oc)
	}
	if len(c.Channels) > 0 {
		e.next = m.cfg.Subtask.Index % len(c.Channels)
	}
	m.outs = append(m.outs, e)
	p := &m.ops[c.Op].outs[c.Port]
	p.to = append(p.to, e)
}

// Start lets rows flow: every sink's writer has been started.
func (m *Machine) Start() {
	m.started = true
	if m.cfg.Finished {
		// The checkpoint contains the end: only the word of it is sent again.
		m.phase, m.endBegun = ending, true
		for _, o := range m.ops {
			o.ended = true
			o.target, o.reached = dataflow.MaxTime, dataflow.MaxTime
			o.writer.last = true
		}
		for _, e := range m.outs {
			e.wm = dataflow.MaxTime
		}
	}
}

// Err returns why the machine is dead, nil while it lives. op names the operator
// that failed, "" if it was none.
func (m *Machine) Err() (op dataflow.OperatorID, err error) {
	if m.err == nil || m.errOp < 0 {
		return "", m.err
	}
	return m.ops[m.errOp].cfg.Name, m.err
}

// Kill ends the machine for a reason outside of it.
func (m *Machine) Kill(err error) { m.fail(-1, err) }

// Current returns the operator whose code is running, "" if none is. It may be
// called from any goroutine.
func (m *Machine) Current() dataflow.OperatorID {
	if i := m.current.Load(); i >= 0 {
		return m.cfg.Ops[i].Name
	}
	return ""
}

func (m *Machine) enter(op int) (was int32) {
	was = m.current.Load()
	m.current.Store(int32(op))
	return was
}

func (m *Machine) leave(was int32) { m.current.Store(was) }

func (m *Machine) fail(op int, err error) {
	if m.err == nil {
		m.err, m.errOp = err, op
	}
}

// Turn works until more says no or nothing is left to do. now is processing time
// in microseconds. After an error (Err) it does nothing.
func (m *Machine) Turn(now int64, more func() bool) Status {
	m.now = now // may go back, as wall clocks do
	if m.err != nil || !m.started {
		return Idle
	}
	moved := true
	for moved && m.err == nil {
		moved = m.work()
		if moved && !more() {
			break
		}
	}
	if m.err != nil {
		return Idle
	}
	m.finishTurn(!moved)
	switch {
	case m.err != nil:
		return Idle
	case moved:
		return More
	case m.blocked():
		return Blocked
	}
	return Idle
}

// work does one piece of work: it reports whether there was any.
func (m *Machine) work() bool {
	m.progress = false
	if !m.drain() {
		return m.progress // rows wait for room: nothing may follow them
	}
	if m.due != 0 && (m.phase != ending || !m.endBegun) {
		if m.open != nil && m.open.spill {
			return false // until the spilled file is written
		}
		m.barrier()
		return true
	}
	if m.phase == running && m.behind() && m.readBarrier() {
		return true
	}
	if done, moved := m.settle(); !done || moved {
		return moved
	}
	switch m.phase {
	case ending:
		return m.endStep()
	case ended, finished:
		return false
	}
	if m.stalled {
		return false
	}
	if m.src != nil {
		return m.src.poll()
	}
	return m.readInput()
}

// drain gives every waiting row its chance, the last operator first. It reports
// whether none is left.
func (m *Machine) drain() bool {
	clear := true
	for _, e := range m.outs {
		clear = e.drain() && clear
	}
	for i := len(m.ops) - 1; i >= 0; i-- {
		// A child may have made rows for edges and children behind it.
		clear = m.ops[i].drain() && clear
	}
	return clear && m.clear() && m.err == nil
}

// clear reports whether no row waits inside the chain.
func (m *Machine) clear() bool {
	for _, e := range m.outs {
		if !e.waiting.empty() {
			return false
		}
	}
	for _, o := range m.ops {
		if !o.waiting.empty() {
			return false
		}
	}
	return true
}

// blocked reports whether something that could go on waits for room.
func (m *Machine) blocked() bool {
	if !m.clear() || m.src != nil && m.src.held {
		return true
	}
	if m.behind() {
		return true
	}
	for i, in := range m.ins {
		if m.phase == running && in.recv.Len() > 0 && !m.align.Blocked(i) {
			return true
		}
	}
	return false
}

// behind reports whether some operator has yet to reach its watermark.
func (m *Machine) behind() bool {
	for _, o := range m.ops {
		if o.target > o.reached {
			return true
		}
	}
	return false
}

// settle moves event time on by one call, in the last operator that is behind.
// done: no operator is.
func (m *Machine) settle() (done, moved bool) {
	done = true
	for i := len(m.ops) - 1; i >= 0; i-- {
		d, mv := m.ops[i].advance()
		if mv {
			return false, true
		}
		done = done && d
	}
	return done, false
}

// finishTurn sends what is due and asks for the next turn.
func (m *Machine) finishTurn(quiet bool) {
	m.tendMemory()
	again := int64(math.MaxInt64)
	if quiet && m.src != nil {
		again = m.src.quiet()
	}
	for _, e := range m.outs {
		again = min(again, e.tend(quiet))
	}
	if again != math.MaxInt64 {
		m.fx.WakeAt(again)
	}
	m.grant()
}

// nextTimer is the earliest event time at which something happens here or at a
// receiver.
func (m *Machine) nextTimer() int64 {
	t := int64(dataflow.MaxTime)
	for _, o := range m.ops {
		if o.cfg.Runner != nil {
			t = min(t, o.cfg.Runner.NextTimer())
		}
	}
	for _, c := range m.chans {
		if !c.closed {
			t = min(t, c.send.Timer())
		}
	}
	return t
}

// Credit files credit that came back for output channel i.
func (m *Machine) Credit(i int, c channel.Credit) {
	m.chans[i].send.Grant(c)
	for _, b := range c.Free {
		m.Reuse(i, b)
	}
}

// Reuse gives back an empty container that left through output channel i.
func (m *Machine) Reuse(i int, b spi.Batch) {
	for _, e := range m.outs {
		if i < e.chans[0].i+len(e.chans) {
			e.reuse(b)
			return
		}
	}
}

// Wake tells that a reader has rows or a writer has room.
func (m *Machine) Wake() {
	if m.src != nil {
		m.src.dry = false
	}
}
