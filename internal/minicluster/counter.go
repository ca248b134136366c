package minicluster

import (
	"cmp"
	"encoding/binary"
	"slices"

	"github.com/weirstream/weir/dataflow"
	"github.com/weirstream/weir/stream/spi"
)

// counter implements spi.Runner: it counts rows per key and emits each row with
// its count. Its table behaves as the kernel's: entries that are clean may be
// evicted and are loaded again; a frozen slot is never written, a write moves the
// entry to a new slot while the frozen one is read later, off the turn.
type counter struct {
	h      spi.Host
	out    *batch
	keys   map[uint64]*slot
	order  []uint64 // keys in the order in which they came, for eviction
	dirty  []uint64 // keys whose slot is dirty, in order of the first write
	frozen *frozen
	groups int
	owned  dataflow.KeyGroups
}

type slot struct {
	n      int64
	dirty  bool
	frozen bool // read by an open freeze: not to be written
}

const counterState dataflow.StateID = 1

func rowKey(key uint64, groups int) []byte {
	h := keyHash(key)
	return dataflow.AppendRowKey(nil, dataflow.GroupOf(h, groups), counterState, h, binary.BigEndian.AppendUint64(nil, key))
}

func (c *counter) Open(h spi.Host, extra []byte) error {
	c.h, c.out, c.keys = h, newBatch(16), map[uint64]*slot{}
	c.owned, c.groups = h.Groups()
	return nil
}

func (c *counter) NewBatch(p, capacity int) spi.Batch { return newBatch(capacity) }

// load brings the entries of rows that are not in the table, in one call.
func (c *counter) load(rows []row) error {
	var miss []uint64
	for _, r := range rows {
		if c.keys[r.Key] == nil && !slices.Contains(miss, r.Key) {
			miss = append(miss, r.Key)
		}
	}
	if len(miss) == 0 {
		return nil
	}
	keys, probes := make([][]byte, len(miss)), make([]uint64, len(miss))
	for i, k := range miss {
		keys[i] = rowKey(k, c.groups)
		probes[i] = dataflow.FilterHash(counterState, 0, keyHash(k))
	}
	return c.h.Load(probes, keys, func(i int, v []byte) error {
		e := &slot{}
		if v != nil {
			e.n = int64(binary.BigEndian.Uint64(v))
		}
		c.keys[miss[i]] = e
		c.order = append(c.order, miss[i])
		return nil
	})
}

func (c *counter) Step(_ int, in spi.Batch, from int) (int, error) {
	b := in.(*batch)
	to := min(len(b.rows), from+c.h.Room(0))
	if to <= from {
		return 0, nil
	}
	if err := c.load(b.rows[from:to]); err != nil {
		return 0, err
	}
	for i := from; i < to; i++ {
		r := b.rows[i]
		e := c.write(r.Key)
		e.n++
		r.N = e.n
		c.out.push(r, b.head.Times[i])
	}
	c.out = c.h.Send(0, c.out).(*batch)
	return to - from, nil
}

// write returns the slot of a key, writable and dirty.
func (c *counter) write(key uint64) *slot {
	e := c.keys[key]
	if e.frozen {
		e = &slot{n: e.n}
		c.keys[key] = e
	}
	if !e.dirty {
		e.dirty = true
		c.dirty = append(c.dirty, key)
	}
	return e
}

func (c *counter) Advance(int64, int) (bool, error) { return true, nil }
func (c *counter) NextTimer() int64                 { return dataflow.MaxTime }
func (c *counter) End() (bool, error)               { return true, nil }
func (c *counter) Extra() []byte                    { return nil }

// frozen implements spi.Frozen.
type frozen struct {
	c     *counter
	keys  []uint64
	slots []*slot
}

func (c *counter) Freeze() (spi.Frozen, error) {
	if c.frozen != nil {
		panic("minicluster: two freezes are open")
	}
	if len(c.dirty) == 0 {
		return nil, nil
	}
	f := &frozen{c: c, keys: c.dirty}
	for _, k := range f.keys {
		e := c.keys[k]
		e.dirty, e.frozen = false, true
		f.slots = append(f.slots, e)
	}
	c.dirty, c.frozen = nil, f
	return f, nil
}

func (f *frozen) Drops() []spi.Span { return nil }

func (f *frozen) Rows(yield func(key, value []byte) bool) error {
	type kv struct{ k, v []byte }
	var rows []kv
	for i, key := range f.keys {
		rows = append(rows, kv{rowKey(key, f.c.groups), binary.BigEndian.AppendUint64(nil, uint64(f.slots[i].n))})
	}
	slices.SortFunc(rows, func(a, b kv) int { return slices.Compare(a.k, b.k) })
	for _, r := range rows {
		if !yield(r.k, r.v) {
			return nil
		}
	}
	return nil
}

func (f *frozen) Done(err error) {
	c := f.c
	c.frozen = nil
	for i, key := range f.keys {
		f.slots[i].frozen = false
		if err == nil {
			continue
		}
		if e := c.keys[key]; !e.dirty { // nothing was written: what was frozen is dirty again
			e.dirty = true
			c.dirty = append(c.dirty, key)
		}
	}
}

const slotBytes = 32

func (c *counter) Memory() (total, dirty int64) {
	held := len(c.dirty)
	if c.frozen != nil {
		held += len(c.frozen.keys)
	}
	return int64(len(c.keys)) * slotBytes, int64(min(held, len(c.keys))) * slotBytes
}

func (c *counter) Evict(n int64) (freed int64) {
	keep := c.order[:0]
	for _, k := range c.order {
		e := c.keys[k]
		if freed >= n || e.dirty || e.frozen {
			keep = append(keep, k)
			continue
		}
		delete(c.keys, k)
		freed += slotBytes
	}
	c.order = keep
	return freed
}

// compareHandles is the order in which a committer takes handles.
func compareHandles(a, b dataflow.CommitHandle) int {
	return cmp.Or(cmp.Compare(a.Epoch, b.Epoch), cmp.Compare(a.Subtask, b.Subtask), cmp.Compare(a.Seq, b.Seq))
}
