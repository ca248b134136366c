package subtask

import (
	"math"

	"github.com/weirstream/weir/actors/channel"
	"github.com/weirstream/weir/dataflow"
	"github.com/weirstream/weir/stream/spi"
)

// out is an outgoing edge: it decides who gets a row and gathers rows into
// batches. How bytes move is the driver's business.
type out struct {
	m        *Machine
	cfg      *Out
	chans    []*outChan
	waiting  backlog
	wm       int64 // reached behind all rows taken; sent to each channel in time
	next     int   // Rebalance: whose turn it is
	rowBytes int64
	sizer    *channel.Sizer
	free     []spi.Batch

	// scratch of route
	rooms []int
	open  []spi.Batch

	rows, bytes, batches int64
}

// smallPart of a full batch is too little to be worth a container of full size.
const smallPart = 8

// outChan is the sending end of one channel.
type outChan struct {
	i      int // index among all output channels of the subtask
	send   *channel.Sender
	open   spi.Batch // being filled; nil or empty if nothing waits
	since  int64     // when its first row came, µs
	wm     int64     // last sent
	wmAt   int64     // when
	idle   bool      // the receiver holds this channel for idle
	closed bool
}

func (e *out) mark(wm int64) { e.wm = max(e.wm, wm) }

// room is how many rows may come without one having to wait, whoever they are
// for; with one receiver (or when any receiver will do) it is exact.
func (e *out) room() int {
	if !e.waiting.empty() {
		return 0
	}
	switch e.cfg.Exchange {
	case dataflow.Rebalance:
		n := int64(0)
		for _, c := range e.chans {
			n += e.left(c)
		}
		return int(min(n, math.MaxInt32))
	default:
		n := int64(math.MaxInt32)
		for _, c := range e.chans {
			n = min(n, e.left(c))
		}
		return int(n)
	}
}

// left is how many more rows fit into c's credit.
func (e *out) left(c *outChan) int64 {
	n := c.send.Room(e.rowBytes)
	if c.open != nil {
		n -= int64(c.open.Len())
	}
	return max(0, n)
}

func (e *out) take(b spi.Batch, owned bool) (kept bool) {
	if e.m.err != nil {
		return false
	}
	if e.sizer == nil {
		e.sizer = channel.NewSizer(b.Elem())
	}
	from := 0
	if e.waiting.empty() {
		from, kept = e.place(b, 0, owned)
		if kept || from == b.Len() {
			return kept
		}
	}
	e.waiting.add(b, from, owned)
	e.m.checkOverflow(&e.waiting, e.cfg.Op)
	return owned
}

// drain places waiting rows. It reports whether none is left.
func (e *out) drain() (clear bool) {
	for !e.waiting.empty() {
		r := &e.waiting.rows[0]
		var kept bool
		r.from, kept = e.place(r.b, r.from, r.from == 0)
		if kept {
			e.waiting.pop()
			continue
		}
		if r.from < r.b.Len() {
			return false
		}
		e.recycle(e.waiting.pop())
	}
	return true
}

// place moves rows [from, Len) of b into open batches, as far as credit goes, and
// sends batches that are full. kept tells that b itself was taken.
func (e *out) place(b spi.Batch, from int, owned bool) (at int, kept bool) {
	n := b.Len() - from
	if e.rowBytes == 0 || e.batches&63 == 0 {
		e.rowBytes = max(1, e.sizer.Bytes(b, from, b.Len())/int64(max(1, n)))
	}
	switch {
	case e.cfg.Exchange == dataflow.Hash && len(e.chans) >= 1 && e.cfg.Router != nil:
		return e.route(b, from), false
	case e.cfg.Exchange == dataflow.Broadcast && len(e.chans) > 1:
		return e.copyToAll(b, from), false
	}
	return e.hand(b, from, owned)
}

// route copies rows to the open batches of their receivers.
func (e *out) route(b spi.Batch, from int) int {
	full := e.m.cfg.BatchRows
	for from < b.Len() {
		stuck := true
		for i, c := range e.chans {
			if c.open == nil {
				c.open = e.take0()
			}
			e.open[i] = c.open
			e.rooms[i] = int(min(e.left(c), int64(full-c.open.Len())))
		}
		n := e.cfg.Router.Route(b, from, e.cfg.Owner, e.rooms, e.open)
		from += n
		for _, c := range e.chans {
			if c.since < 0 && c.open.Len() > 0 {
				c.since = e.m.now
			}
			if c.open.Len() >= full {
				e.flush(c)
				stuck = false
			}
		}
		if n == 0 && stuck {
			break
		}
	}
	return from
}

// copyToAll appends rows to the open batch of every channel.
func (e *out) copyToAll(b spi.Batch, from int) int {
	for from < b.Len() {
		n := int64(b.Len() - from)
		for _, c := range e.chans {
			n = min(n, e.left(c))
		}
		if n == 0 {
			break
		}
		for _, c := range e.chans {
			e.append(c, b, from, from+int(n))
		}
		from += int(n)
	}
	return from
}

// hand gives rows to one receiver, the whole container if it may.
func (e *out) hand(b spi.Batch, from int, owned bool) (at int, kept bool) {
	for tries := 0; from < b.Len() && tries < len(e.chans); {
		c := e.chans[e.next]
		left, n := e.left(c), b.Len()-from
		if left == 0 {
			e.turn()
			tries++
			continue
		}
		if owned && from == 0 && left >= int64(n) && n >= e.m.cfg.BatchRows/smallPart {
			if c.open == nil || c.open.Len() == 0 || n >= e.m.cfg.BatchRows/2 {
				e.flush(c)
				e.reuse(c.open)
				c.open, c.since = b, e.m.now
				if n >= e.m.cfg.BatchRows {
					e.flush(c)
					e.turn()
				}
				return b.Len(), true
			}
		}
		n = int(min(int64(n), left))
		if c.open != nil && c.open.Len() > 0 {
			n = min(n, max(1, e.m.cfg.BatchRows-c.open.Len()))
		}
		e.append(c, b, from, from+n)
		from += n
		if c.open == nil || c.open.Len() == 0 {
			e.turn() // it was full and left
		}
	}
	return from, false
}

func (e *out) turn() { e.next = (e.next + 1) % len(e.chans) }

func (e *out) append(c *outChan, b spi.Batch, from, to int) {
	if c.open == nil {
		if c.open = e.pick(); c.open == nil {
			c.open = b.New(e.m.cfg.BatchRows)
		}
	}
	if c.open.Len() == 0 {
		c.since = e.m.now
	}
	c.open.Append(b, from, to)
	if c.open.Len() >= e.m.cfg.BatchRows {
		e.flush(c)
	}
}

// take0 returns an empty batch of the router.
func (e *out) take0() spi.Batch {
	if b := e.pick(); b != nil {
		return b
	}
	return e.cfg.Router.NewBatch(e.m.cfg.BatchRows)
}

func (e *out) pick() spi.Batch {
	if n := len(e.free); n > 0 {
		b := e.free[n-1]
		e.free[n-1] = nil
		e.free = e.free[:n-1]
		return b
	}
	return nil
}

// reuse keeps an empty container of this edge for later.
func (e *out) reuse(b spi.Batch) {
	if b != nil && len(e.free) < 8*len(e.chans)+64 {
		e.free = append(e.free, b)
	}
}

// recycle gives a consumed container of the operator back to its port, if what
// the channels return cannot be of use there.
func (e *out) recycle(b spi.Batch) {
	p := &e.m.ops[e.cfg.Op].outs[e.cfg.Port]
	if len(p.free) < 4 {
		b.Reset()
		p.free = append(p.free, b)
	}
}

// flush sends the open batch of c, if it holds rows. A few rows travel in a
// container of their size, so that a trickle does not cost a full one each.
func (e *out) flush(c *outChan) {
	if c.open == nil || c.open.Len() == 0 {
		return
	}
	b := c.open
	c.open, c.since = nil, -1
	if n := b.Len(); n < e.m.cfg.BatchRows/smallPart {
		s := b.New(n)
		s.Append(b, 0, n)
		b.Reset()
		c.open, b = b, s
	}
	h := b.Head()
	h.Watermark = dataflow.MinTime
	if e.wm > c.wm && e.waiting.empty() { // no watermark overtakes waiting rows
		h.Watermark = e.wm
		c.wm, c.wmAt = e.wm, e.m.now
	}
	n := e.sizer.Bytes(b, 0, b.Len())
	e.rows += int64(b.Len())
	e.bytes += n
	e.batches++
	c.idle = false
	e.m.fx.Send(c.i, c.send.Stamp(channel.Item{Kind: channel.Rows, Batch: b, Bytes: n}))
}

// tend does what time asks for: it sends rows that waited long enough and
// watermarks that are due. quiet tells that nothing else is to be done now, so
// nothing is gained by waiting. It returns when it wants to be called again,
// math.MaxInt64 for never.
func (e *out) tend(quiet bool) (again int64) {
	again = math.MaxInt64
	settled := e.waiting.empty()
	for _, c := range e.chans {
		if c.closed {
			continue
		}
		if c.open != nil && c.open.Len() > 0 && (quiet || e.m.now-c.since >= e.m.cfg.FlushMicros || e.m.now < c.since) {
			e.flush(c)
		}
		if !settled {
			continue // rows wait that the watermark must not overtake
		}
		if e.wm > c.wm && (c.open == nil || c.open.Len() == 0) {
			due := c.wmAt + e.m.cfg.MarkMicros
			if e.wm >= c.send.Timer() || e.m.now >= due || e.m.now < c.wmAt || e.wm == dataflow.MaxTime {
				e.sendMark(c)
			} else if quiet {
				again = min(again, due)
			}
		}
		if quiet && e.m.idle && !c.idle && (c.open == nil || c.open.Len() == 0) && e.wm <= c.wm && e.m.clear() {
			c.idle = true
			e.m.fx.Send(c.i, c.send.Stamp(channel.Item{Kind: channel.Idle}))
		}
	}
	return again
}

func (e *out) sendMark(c *outChan) {
	c.wm, c.wmAt, c.idle = e.wm, e.m.now, false
	e.m.fx.Send(c.i, c.send.Stamp(channel.Item{Kind: channel.Watermark, Time: e.wm}))
}

// broadcast sends it on every channel, behind all rows taken; for barriers and
// the end, before which nothing may wait.
func (e *out) broadcast(it channel.Item) {
	for _, c := range e.chans {
		if c.closed {
			continue
		}
		e.flush(c)
		if it.Kind == channel.End && e.wm > c.wm {
			e.sendMark(c)
		}
		e.m.fx.Send(c.i, c.send.Stamp(it))
		c.closed = it.Kind == channel.End
	}
}
