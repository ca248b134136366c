package subtask

import (
	"errors"
	"fmt"
	"reflect"

	"github.com/weirstream/weir/actors/channel"
	"github.com/weirstream/weir/dataflow"
	"github.com/weirstream/weir/stream/spi"
)

// A consumer takes the rows of an output port: a child in the chain or an
// outgoing edge.
type consumer interface {
	// room returns how many rows it takes now.
	room() int
	// take consumes b. owned tells that b may be kept; kept that it was.
	take(b spi.Batch, owned bool) (kept bool)
	// mark tells that event time reached wm behind all rows taken.
	mark(wm int64)
}

// op is one operator of the chain, between its parent's port and its own ports.
type op struct {
	m    *Machine
	i    int // index in m.ops and Config.Ops
	cfg  *Op
	host host
	outs []port

	waiting backlog // rows of the parent that found no room

	target  int64 // watermark to reach
	reached int64 // its timers have fired
	timer   int64 // NextTimer, as of the last call
	ended   bool  // End is done

	writer writerState

	rowsIn, rowsOut int64
}

// port is one output port.
type port struct {
	to   []consumer
	free []spi.Batch
}

// backlog is rows that could not go on, in order.
type backlog struct {
	rows  []rest
	bytes int64
	sizer *channel.Sizer
	elem  reflect.Type
}

// rest is what is left of a batch.
type rest struct {
	b     spi.Batch
	from  int
	bytes int64
}

func (q *backlog) empty() bool { return len(q.rows) == 0 }

// add keeps rows [from, Len) of b; unless owned it copies them.
func (q *backlog) add(b spi.Batch, from int, owned bool) {
	if q.sizer == nil || q.elem != b.Elem() {
		q.elem = b.Elem()
		q.sizer = channel.NewSizer(q.elem)
	}
	if !owned {
		c := b.New(b.Len() - from)
		c.Append(b, from, b.Len())
		b, from = c, 0
	}
	n := q.sizer.Bytes(b, from, b.Len())
	q.rows = append(q.rows, rest{b, from, n})
	q.bytes += n
}

// pop drops the first batch, which is consumed, and returns it for reuse.
func (q *backlog) pop() spi.Batch {
	r := q.rows[0]
	q.rows[0] = rest{}
	q.rows = q.rows[1:]
	if len(q.rows) == 0 {
		q.rows = nil
	}
	q.bytes -= r.bytes
	return r.b
}

// errOverflow is completed by the name of the operator whose call overshot.
var errOverflow = errors.New("one call emitted more rows than fit")

// checkOverflow is called after rows were added to q. What one call may overshoot
// is bounded, but one batch of large rows is no overshoot.
func (m *Machine) checkOverflow(q *backlog, emitter int) {
	if q.bytes > m.cfg.Overflow && (len(q.rows) > 1 || q.rows[0].b.Len() > m.cfg.BatchRows) {
		m.fail(emitter, fmt.Errorf("%w: %d bytes wait where %d are allowed: emit fewer rows per call, or spread them over timers", errOverflow, q.bytes, m.cfg.Overflow))
	}
}

func (o *op) room() int {
	if !o.waiting.empty() {
		return 0
	}
	return o.m.cfg.BatchRows
}

func (o *op) take(b spi.Batch, owned bool) (kept bool) {
	if o.m.err != nil {
		return false
	}
	from := 0
	if o.waiting.empty() {
		from = o.step(b, 0)
		if from == b.Len() || o.m.err != nil {
			return false
		}
	}
	o.waiting.add(b, from, owned)
	o.m.checkOverflow(&o.waiting, o.cfg.Parent)
	return owned
}

func (o *op) mark(wm int64) { o.target = max(o.target, wm) }

// step gives rows [from, Len) of b to the operator until it takes no more, and
// returns where it stopped.
func (o *op) step(b spi.Batch, from int) int {
	was := o.m.enter(o.i)
	start := from
	for from < b.Len() && o.m.err == nil {
		var n int
		var err error
		out := o.rowsOut
		if o.cfg.Writer != nil {
			n, err = o.cfg.Writer.Write(b, from)
		} else {
			n, err = o.cfg.Runner.Step(o.inPort(), b, from)
		}
		if err != nil {
			o.m.fail(o.i, err)
		}
		if n < 0 || n > b.Len()-from {
			o.m.fail(o.i, fmt.Errorf("it consumed %d of %d rows", n, b.Len()-from))
			break
		}
		from += n
		// An operator may stop within a row that emits more than there was room for.
		o.m.progress = o.m.progress || n > 0 || o.rowsOut > out
		if n == 0 || o.cfg.Writer != nil {
			break
		}
	}
	o.rowsIn += int64(from - start)
	o.m.leave(was)
	return from
}

// inPort is the port of the rows in hand: the head may have several inputs.
func (o *op) inPort() int {
	if o.cfg.Parent < 0 {
		return o.m.port
	}
	return o.cfg.Port
}

// drain gives waiting rows to the operator. It reports whether none is left.
func (o *op) drain() (clear bool) {
	for !o.waiting.empty() && o.m.err == nil {
		r := &o.waiting.rows[0]
		r.from = o.step(r.b, r.from)
		if r.from < r.b.Len() {
			return false
		}
		o.recycle(o.waiting.pop())
	}
	return o.m.err == nil
}

// recycle gives a consumed container back to the port it came from.
func (o *op) recycle(b spi.Batch) {
	if o.cfg.Parent < 0 {
		return
	}
	p := &o.m.ops[o.cfg.Parent].outs[o.cfg.ParentPort]
	if len(p.free) < 4 {
		b.Reset()
		p.free = append(p.free, b)
	}
}

// timersPerCall bounds the timers that fire in one call, so that a turn can end.
const timersPerCall = 256

// advance moves event time towards target by one call. It reports whether target
// is reached; moved tells that the call may have done something.
func (o *op) advance() (done, moved bool) {
	if o.target <= o.reached {
		return true, false
	}
	if o.cfg.Runner != nil {
		if !o.hasRoom() {
			return false, false
		}
		was := o.m.enter(o.i)
		done, err := o.cfg.Runner.Advance(o.target, timersPerCall)
		o.m.leave(was)
		if err != nil {
			o.m.fail(o.i, err)
			return false, true
		}
		if !done {
			return false, true
		}
	}
	if o.target == dataflow.MaxTime && !o.end() {
		return false, o.m.err != nil || o.hasRoom()
	}
	o.reached = o.target
	for p := range o.outs {
		for _, c := range o.outs[p].to {
			c.mark(o.reached)
		}
	}
	return true, true
}

// hasRoom reports whether every connected output port takes rows.
func (o *op) hasRoom() bool {
	for p := range o.outs {
		if o.host.Room(p) == 0 {
			return false
		}
	}
	return true
}
