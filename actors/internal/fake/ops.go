package fake

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"math"
	"slices"

	"github.com/weirstream/weir/dataflow"
	"github.com/weirstream/weir/stream/spi"
)

// Each is a stateless operator: F emits any number of rows for one.
type Each struct {
	F func(in Row, time int64, emit func(Row, int64))
	// Suspend makes it stop within what one call of F emits when room is gone.
	Suspend bool

	rest  *Batch[Row] // emitted by F for the row in hand and not sent; nil: none is
	doing Row         // that row
	h     spi.Host
	out   *Batch[Row]
}

var _ spi.Runner = (*Each)(nil)

// Open is of spi.Runner, like the methods below.
func (e *Each) Open(h spi.Host, extra []byte) error {
	e.h, e.out = h, NewBatch[Row](64)
	return nil
}

// NewBatch returns an empty batch.
func (e *Each) NewBatch(p, capacity int) spi.Batch { return NewBatch[Row](capacity) }

// Step stops when room is gone; one call of F may overshoot.
func (e *Each) Step(p int, in spi.Batch, from int) (int, error) {
	b := in.(*Batch[Row])
	if err := late(e.h, b, from); err != nil {
		return 0, err
	}
	room := e.h.Room(0)
	i := from
	for e.Suspend && i < len(b.Values) && e.out.Len() < room {
		if e.rest == nil {
			e.rest, e.doing = NewBatch[Row](8), b.Values[i]
			e.F(b.Values[i], b.head.Times[i], func(r Row, t int64) { e.rest.Push(r, t) })
		} else if e.doing != b.Values[i] {
			return 0, fmt.Errorf("fake: row %v came while %v was half done", b.Values[i], e.doing)
		}
		n := min(room-e.out.Len(), e.rest.Len())
		e.out.Append(e.rest, 0, n)
		if rest := NewBatch[Row](8); n < e.rest.Len() {
			rest.Append(e.rest, n, e.rest.Len())
			e.rest = rest
		} else {
			e.rest, i = nil, i+1
		}
	}
	for ; !e.Suspend && i < len(b.Values) && e.out.Len() < room; i++ {
		e.F(b.Values[i], b.head.Times[i], func(r Row, t int64) { e.out.Push(r, t) })
	}
	if e.out.Len() > 0 {
		e.out = e.h.Send(0, e.out).(*Batch[Row])
	}
	return i - from, nil
}

// late refuses rows behind the watermark: no source here makes any.
func late(h spi.Host, b *Batch[Row], from int) error {
	wm := h.Watermark()
	for _, t := range b.head.Times[from:] {
		if t <= wm {
			return fmt.Errorf("fake: a row of time %d came behind watermark %d", t, wm)
		}
	}
	return nil
}

// Advance has nothing to fire.
func (e *Each) Advance(wm int64, budget int) (bool, error) { return true, nil }

// NextTimer has none.
func (e *Each) NextTimer() int64 { return dataflow.MaxTime }

// End has nothing to say.
func (e *Each) End() (bool, error) { return true, nil }

// Freeze has nothing dirty.
func (e *Each) Freeze() (spi.Frozen, error) { return nil, nil }

// Extra is empty.
func (e *Each) Extra() []byte { return nil }

// Memory is none.
func (e *Each) Memory() (total, dirty int64) { return 0, 0 }

// Evict finds nothing.
func (e *Each) Evict(n int64) int64 { return 0 }

// Counter keeps a count per key and emits the new count for every row. With Every
// set it emits instead, on a timer per key at the next multiple of Every, the
// count so far, and at the end what is left.
type Counter struct {
	Every int64

	h      spi.Host
	out    *Batch[Row]
	keys   map[uint64]*count
	queue  []uint64 // keys with a timer, sorted by (at, key)
	frozen *frozen
	group  func(key uint64) int
}

type count struct {
	n, at int64 // at: timer, 0 if none
	dirty bool
	clean bool // stored as it is
}

var _ spi.Runner = (*Counter)(nil)

// State is the id of the counter's one state.
const State dataflow.StateID = 1

// Open loads every key from the store.
func (c *Counter) Open(h spi.Host, extra []byte) error {
	c.h, c.out, c.keys = h, NewBatch[Row](64), map[uint64]*count{}
	owned, total := h.Groups()
	c.group = func(key uint64) int { return dataflow.GroupOf(Hash(key), total) }
	from := dataflow.AppendRowPrefix(nil, owned.From, 0)
	to := dataflow.AppendRowPrefix(nil, owned.To, 0)
	for k, v := range h.Scan(from, to) {
		rk, _ := dataflow.ParseRowKey(k, false)
		key := binary.BigEndian.Uint64(rk.Key)
		e := &count{n: int64(binary.BigEndian.Uint64(v)), at: int64(binary.BigEndian.Uint64(v[8:])), clean: true}
		c.keys[key] = e
		if e.at != 0 {
			c.enqueue(key, e.at)
		}
	}
	return h.ScanErr()
}

// NewBatch returns an empty batch.
func (c *Counter) NewBatch(p, capacity int) spi.Batch { return NewBatch[Row](capacity) }

func (c *Counter) touch(key uint64) *count {
	e := c.keys[key]
	if e == nil {
		e = &count{}
		c.keys[key] = e
	}
	e.dirty, e.clean = true, false
	return e
}

func (c *Counter) enqueue(key uint64, at int64) {
	i, _ := slices.BinarySearchFunc(c.queue, key, func(k, key uint64) int {
		return cmp.Or(cmp.Compare(c.keys[k].at, at), cmp.Compare(k, key))
	})
	c.queue = slices.Insert(c.queue, i, key)
}

// Step counts.
func (c *Counter) Step(p int, in spi.Batch, from int) (int, error) {
	b := in.(*Batch[Row])
	if err := late(c.h, b, from); err != nil {
		return 0, err
	}
	room := c.h.Room(0)
	i := from
	for ; i < len(b.Values) && c.out.Len() < room; i++ {
		r, t := b.Values[i], b.head.Times[i]
		e := c.touch(r.Key)
		e.n += r.Val
		switch {
		case c.Every == 0:
			c.out.Push(Row{r.Key, e.n}, t)
		case e.at == 0:
			e.at = (max(t, c.h.Watermark())/c.Every + 1) * c.Every
			c.enqueue(r.Key, e.at)
		}
	}
	c.flush()
	return i - from, nil
}

func (c *Counter) flush() {
	if c.out.Len() > 0 {
		c.out = c.h.Send(0, c.out).(*Batch[Row])
	}
}

// Advance fires timers.
func (c *Counter) Advance(wm int64, budget int) (bool, error) {
	room := c.h.Room(0)
	for len(c.queue) > 0 && c.keys[c.queue[0]].at <= wm {
		if budget == 0 || c.out.Len() >= room {
			c.flush()
			return false, nil
		}
		budget--
		key := c.queue[0]
		c.queue = c.queue[1:]
		e := c.touch(key)
		c.out.Push(Row{key, e.n}, e.at)
		e.at, e.n = 0, 0
	}
	c.flush()
	return true, nil
}

// NextTimer is the first of the queue.
func (c *Counter) NextTimer() int64 {
	if len(c.queue) == 0 {
		return dataflow.MaxTime
	}
	return c.keys[c.queue[0]].at
}

// End has nothing left: the last watermark fired all timers.
func (c *Counter) End() (bool, error) { return true, nil }

// frozen is the rows of a freeze, encoded at once.
type frozen struct {
	c    *Counter
	keys []uint64
	rows []encoded
}

type encoded struct{ key, value []byte }

// Freeze encodes the dirty rows.
func (c *Counter) Freeze() (spi.Frozen, error) {
	if c.frozen != nil {
		panic("fake: two freezes are open")
	}
	f := &frozen{c: c}
	for key, e := range c.keys {
		if !e.dirty {
			continue
		}
		e.dirty = false
		f.keys = append(f.keys, key)
		k := dataflow.AppendRowKey(nil, c.group(key), State, Hash(key), binary.BigEndian.AppendUint64(nil, key))
		v := binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(nil, uint64(e.n)), uint64(e.at))
		f.rows = append(f.rows, encoded{k, v})
	}
	if len(f.keys) == 0 {
		return nil, nil
	}
	slices.SortFunc(f.rows, func(a, b encoded) int { return slices.Compare(a.key, b.key) })
	c.frozen = f
	return f, nil
}

// Drops lists none.
func (f *frozen) Drops() []spi.Span { return nil }

// Rows yields the rows.
func (f *frozen) Rows(yield func(key, value []byte) bool) error {
	for _, r := range f.rows {
		if !yield(r.key, r.value) {
			return nil
		}
	}
	return nil
}

// Done marks the rows clean, or dirty again.
func (f *frozen) Done(err error) {
	f.c.frozen = nil
	for _, key := range f.keys {
		e := f.c.keys[key]
		if err != nil {
			e.dirty = true
		} else if !e.dirty {
			e.clean = true
		}
	}
}

// Extra is empty.
func (c *Counter) Extra() []byte { return nil }

// Memory counts 64 bytes a key.
func (c *Counter) Memory() (total, dirty int64) {
	for _, e := range c.keys {
		if !e.clean {
			dirty += 64
		}
	}
	return int64(len(c.keys)) * 64, dirty
}

// Evict frees nothing: the counter must hold all keys.
func (c *Counter) Evict(n int64) int64 { return 0 }

// Far is a time later than all.
const Far = math.MaxInt64 / 2
