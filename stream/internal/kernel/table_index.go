package kernel

// An index finds entries by hash: open addressing with linear probing over words
// of (hash, id). Ids are above 0. It starts as one shard and splits into many
// when it grows, so that growing never stops the actor for long.
type index struct {
	shards []indexShard
	mask   uint32 // shards-1
	used   int
}

type indexShard struct {
	slots []uint64 // hash<<32 | id; 0: empty; length is a power of two
	used  int
}

const (
	shardBits  = 6 // low bits of the hash that choose the shard
	splitAt    = 1 << 14
	firstSlots = 16
)

func (x *index) init() {
	x.shards = []indexShard{{slots: make([]uint64, firstSlots)}}
	x.mask, x.used = 0, 0
}

// add enters id under h; it must not be there yet.
func (x *index) add(h, id uint32) {
	s := &x.shards[h&x.mask]
	if s.used*4 >= len(s.slots)*3 {
		if x.mask == 0 && s.used >= splitAt {
			x.split()
			s = &x.shards[h&x.mask]
		} else {
			s.grow()
		}
	}
	s.put(uint64(h)<<32 | uint64(id))
	x.used++
}

func (s *indexShard) put(w uint64) {
	m := uint32(len(s.slots) - 1)
	i := uint32(w>>32) >> shardBits & m
	for s.slots[i] != 0 {
		i = (i + 1) & m
	}
	s.slots[i] = w
	s.used++
}

func (s *indexShard) grow() {
	old := s.slots
	s.slots, s.used = make([]uint64, 2*len(old)), 0
	for _, w := range old {
		if w != 0 {
			s.put(w)
		}
	}
}

func (x *index) split() {
	old := x.shards[0].slots
	x.shards = make([]indexShard, 1<<shardBits)
	x.mask = 1<<shardBits - 1
	for i := range x.shards {
		x.shards[i].slots = make([]uint64, max(firstSlots, len(old)>>(shardBits-1)))
	}
	for _, w := range old {
		if w != 0 {
			x.shards[uint32(w>>32)&x.mask].put(w)
		}
	}
}

// remove drops the entry of id under h and reports whether it was there.
func (x *index) remove(h, id uint32) bool {
	s := &x.shards[h&x.mask]
	m := uint32(len(s.slots) - 1)
	w := uint64(h)<<32 | uint64(id)
	i := h >> shardBits & m
	for s.slots[i] != w {
		if s.slots[i] == 0 {
			return false
		}
		i = (i + 1) & m
	}
	// Close the gap: move back what would no longer be found behind it.
	for j := (i + 1) & m; s.slots[j] != 0; j = (j + 1) & m {
		home := uint32(s.slots[j]>>32) >> shardBits & m
		if (j-home)&m >= (j-i)&m {
			s.slots[i] = s.slots[j]
			i = j
		}
	}
	s.slots[i] = 0
	s.used--
	x.used--
	return true
}

// replace makes the word of (h, old) say id instead.
func (x *index) replace(h, old, id uint32) {
	s := &x.shards[h&x.mask]
	m := uint32(len(s.slots) - 1)
	w := uint64(h)<<32 | uint64(old)
	i := h >> shardBits & m
	for s.slots[i] != w {
		i = (i + 1) & m
	}
	s.slots[i] = uint64(h)<<32 | uint64(id)
}

// first returns the only id under h of an index that holds one id per hash, or 0.
func (x *index) first(h uint32) uint32 {
	s := &x.shards[h&x.mask]
	m := uint32(len(s.slots) - 1)
	for i := h >> shardBits & m; s.slots[i] != 0; i = (i + 1) & m {
		if uint32(s.slots[i]>>32) == h {
			return uint32(s.slots[i])
		}
	}
	return 0
}

// A keyArena keeps key bytes outside the collector's view. Freed keys are reused
// for keys of the same length class.
type keyArena struct {
	chunks [][]byte
	at     int // bytes used of the last chunk that is shared
	last   uint32
	free   [64][]keyRef // by length class of 8 bytes
	holes  []uint32     // chunks of large keys that were freed
	used   int64        // bytes that keys take
}

// A keyRef finds a key in an arena.
type keyRef struct {
	chunk uint32
	off   uint16 // in units of 8 bytes
	len   uint16 // largeKey: the whole chunk
}

const (
	arenaFirst = 1 << 10
	arenaMost  = 64 << 10
	largeKey   = 504 // longer keys have a chunk of their own
	largeMark  = 0xffff
)

func (a *keyArena) add(k string) keyRef {
	if len(k) > largeKey {
		b := []byte(k)
		a.used += int64(len(b))
		if n := len(a.holes); n > 0 {
			c := a.holes[n-1]
			a.holes = a.holes[:n-1]
			a.chunks[c] = b
			return keyRef{c, 0, largeMark}
		}
		a.chunks = append(a.chunks, b)
		return keyRef{uint32(len(a.chunks) - 1), 0, largeMark}
	}
	class := max(1, (len(k)+7)/8)
	a.used += int64(class) * 8
	if f := a.free[class]; len(f) > 0 {
		r := f[len(f)-1]
		a.free[class] = f[:len(f)-1]
		r.len = uint16(len(k))
		copy(a.chunks[r.chunk][int(r.off)*8:], k)
		return r
	}
	if len(a.chunks) == 0 || a.at+class*8 > len(a.chunks[a.last]) {
		size := arenaFirst
		if len(a.chunks) > 0 {
			size = min(arenaMost, 2*len(a.chunks[a.last]))
		}
		a.chunks = append(a.chunks, make([]byte, size))
		a.last, a.at = uint32(len(a.chunks)-1), 0
	}
	r := keyRef{a.last, uint16(a.at / 8), uint16(len(k))}
	copy(a.chunks[a.last][a.at:], k)
	a.at += class * 8
	return r
}

// get returns the bytes of r; they are valid until r is dropped.
func (a *keyArena) get(r keyRef) []byte { return arenaGet(a.chunks, r) }

func arenaGet(chunks [][]byte, r keyRef) []byte {
	c := chunks[r.chunk]
	if r.len == largeMark {
		return c
	}
	return c[int(r.off)*8:][:r.len]
}

func (a *keyArena) drop(r keyRef) {
	if r.len == largeMark {
		a.used -= int64(len(a.chunks[r.chunk]))
		a.chunks[r.chunk] = nil
		a.holes = append(a.holes, r.chunk)
		return
	}
	class := max(1, (int(r.len)+7)/8)
	a.used -= int64(class) * 8
	a.free[class] = append(a.free[class], r)
}
