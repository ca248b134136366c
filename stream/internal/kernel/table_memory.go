package kernel

import (
	"unsafe"

	"github.com/weirstream/weir/dataflow"
	"github.com/weirstream/weir/stream/spi"
)

// indexBytes is what the index is taken to cost per entry.
const indexBytes = 16

// entryBytes is what one entry is taken to cost: what is there now, not what its
// chunks, which are kept for reuse, could hold.
func (t *table) entryBytes() int64 {
	n := int64(t.lay.size) + indexBytes
	if t.lay.linked {
		n += indexBytes
	}
	if live := t.live(); live > 0 {
		n += t.arena.used / int64(live)
		if t.lay.ptrs && (live > 2*t.inners || 2*live < t.inners) {
			t.measure(live)
		}
	}
	return n + t.inner
}

// measure estimates what states hold behind their pointers from the size of their
// encoding.
func (t *table) measure(live int) {
	t.inners = live
	const samples = 32
	var bytes, n int64
	step := max(1, t.n/samples)
	for id := uint32(1); id <= t.n; id += step {
		p := t.at(id)
		if h := (*head)(p); h.flags&(flagUsed|flagAbsent) != flagUsed {
			continue
		}
		b, err := t.appendValue(t.sample[:0], p)
		if err != nil {
			continue // the freeze will say so
		}
		t.sample = b
		bytes += int64(len(b))
		n++
	}
	if n > 0 {
		t.inner = bytes * 3 / 2 / n // growth and rounding of allocations
	}
}

func (t *table) memory() (total, dirty int64) {
	per := t.entryBytes()
	total = int64(t.live()) * per
	held := t.held()
	if t.frozen != nil {
		dirty = t.frozen.sideBytes
		total += dirty
	}
	return total, dirty + int64(held)*per
}

// held returns how many entries are dirty or frozen.
func (t *table) held() int {
	n := t.ndirty
	if t.frozen != nil {
		n += len(t.frozen.refs) - t.again
	}
	return min(n, t.live())
}

// evict drops clean entries until n bytes are freed or none is left. spare says
// whether an entry must stay; nil: none must.
func (t *table) evict(n int64, spare func(p unsafe.Pointer) bool) (freed int64) {
	t.reap()
	if t.live() <= t.held() || t.swept && t.live() > sweptFrom && t.loaded*16 < t.live() {
		return 0
	}
	t.swept, t.loaded = false, 0
	per := t.entryBytes()
	for range 2 * t.n {
		if freed >= n {
			break
		}
		t.hand++
		if t.hand > t.n {
			t.hand = 1
		}
		p := t.at(t.hand)
		h := (*head)(p)
		if h.flags&flagUsed == 0 || t.busy(h) || spare != nil && spare(p) {
			continue
		}
		if h.ref != 0 {
			h.ref = 0
			continue
		}
		if h.flags&flagAbsent == 0 {
			t.groups.evicted(h.hash)
		}
		t.remove(t.hand)
		freed += per
	}
	t.swept = freed < n
	return freed
}

// sweptFrom is the number of entries from which a sweep that found too little to
// evict is not repeated before there may be more: a host over its budget asks
// every turn.
const sweptFrom = 1 << 16

// busy reports whether the entry is dirty or frozen.
func (t *table) busy(h *head) bool {
	return h.gen == t.gen || t.frozen != nil && h.gen == t.frozen.gen || h.flags&flagTomb != 0
}

// A groupSet knows for which of the owned key groups a table is complete: nothing
// was evicted since the store was empty, so that a miss is an absence.
type groupSet struct {
	from, total int
	complete    []bool
}

func newGroupSet(h spi.Host, id dataflow.StateID) groupSet {
	owned, total := h.Groups()
	g := groupSet{from: owned.From, total: total, complete: make([]bool, max(owned.Len(), 0))}
	for i := range g.complete {
		g.complete[i] = h.Empty(id, owned.From+i)
	}
	return g
}

// known reports whether a key of that hash which is not in the table is nowhere.
func (g *groupSet) known(hash uint32) bool {
	return g.complete[dataflow.GroupOf(hash, g.total)-g.from]
}

func (g *groupSet) evicted(hash uint32) {
	g.complete[dataflow.GroupOf(hash, g.total)-g.from] = false
}
