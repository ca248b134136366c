package kernel

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"iter"
	"math"
	"reflect"
	"unsafe"

	"github.com/weirstream/weir/dataflow"
	"github.com/weirstream/weir/stream/spi"
)

// cells is the table behind a state handle: entries keyed by the bytes that follow
// the hash in their row key, which begin with the actor's key. Map entries of keys
// with the same hash are linked, so that a key's entries are found without a scan
// while its group is complete.
type cells struct {
	Table[string]
	core  *Core
	owner ownerTable
	key   []byte // scratch: the key of the entry in hand
	row   []byte // scratch: its row key
	ttl   int64  // microseconds; 0: none
	sweep []byte // row key from which the next sweep goes on
}

// openCells makes the table of a named state of the given kind.
func openCells(c *Core, owner ownerTable, name string, kind dataflow.StateKind, state reflect.Type, ttl int64) (*cells, spi.Codec, error) {
	id, key, value, err := c.host.State(name)
	if err != nil {
		return nil, nil, err
	}
	lay := newLayout(nil, shapeString, nil, state, false, ttl > 0, kind == dataflow.MapState)
	lay.multi = kind != dataflow.ValueState
	lay.timers = kind == dataflow.ValueState && ttl == 0
	lay.codec = value
	x := &cells{core: c, owner: owner, ttl: ttl}
	x.init(lay, id, newGroupSet(c.host, id), nil)
	return x, key, nil
}

// indexHash returns the index hash of the key in hand, whose owner's hash is h.
func (x *cells) indexHash(h uint32) uint32 {
	if x.lay.multi {
		return multiHash(h, x.key)
	}
	return h
}

// hash returns the hash of the current key.
func (x *cells) hash() uint32 { return (*head)(x.core.entry).hash }

// plainKey sets x.key to the current key.
func (x *cells) plainKey() { x.key = x.owner.appendKey(x.key[:0], x.core.entry) }

// prefixKey sets x.key to the current key with its length, for rows that add to
// it.
func (x *cells) prefixKey() {
	x.key = append(x.key[:0], 0, 0, 0, 0, 0)[:5]
	x.key = x.owner.appendKey(x.key, x.core.entry)
	var buf [binary.MaxVarintLen64]byte
	n := binary.PutUvarint(buf[:], uint64(len(x.key)-5))
	if n > 5 {
		panic("stream: a key is longer than 4 GiB")
	}
	// The length was not known: move the key behind it.
	k := len(x.key) - 5
	copy(x.key[n:], x.key[5:])
	copy(x.key, buf[:n])
	x.key = x.key[:n+k]
}

// lookup returns the entry of x.key, loading it if it may be stored; id is 0 if
// there is none. An entry may be absent.
func (x *cells) lookup() (id uint32, err error) {
	h := x.hash()
	k := unsafe.String(unsafe.SliceData(x.key), len(x.key))
	ih := x.indexHash(h)
	if id = x.find(ih, &k); id != 0 {
		x.head(id).ref = 1
		return id, nil
	}
	if x.groups.known(h) {
		return 0, nil
	}
	x.row = dataflow.AppendRowKey(x.row[:0], dataflow.GroupOf(h, x.groups.total), x.id, h, x.key)
	err = x.core.host.Load([]uint64{dataflow.FilterHash(x.id, 0, h)}, [][]byte{x.row}, func(_ int, row []byte) error {
		if row == nil {
			return nil
		}
		id = x.put(ih, h)
		return x.load(x.at(id), row)
	})
	return id, err
}

// put adds an absent entry for x.key.
func (x *cells) put(ih, h uint32) uint32 {
	id := x.insert(ih, h)
	x.setKey(id, string(x.key))
	return id
}

// peek returns the state of x.key, nil if there is none.
func (x *cells) peek() unsafe.Pointer {
	id, err := x.lookup()
	if err != nil {
		x.core.fail(err)
		return nil
	}
	if id == 0 {
		return nil
	}
	p := x.at(id)
	if !x.alive(p, id) {
		return nil
	}
	return x.stateOf(p)
}

// alive reports whether an entry is there, and drops it if it has expired.
func (x *cells) alive(p unsafe.Pointer, id uint32) bool {
	if (*head)(p).flags&flagAbsent != 0 {
		return false
	}
	if x.ttl > 0 && x.timersOf(p).at <= x.core.host.Now() {
		x.touch(p, id)
		x.kill(p, id)
		return false
	}
	return true
}

// open returns the state of x.key for writing; fresh if it is new and zero. With
// blind a stored row is not read: the caller overwrites all.
func (x *cells) open(blind bool) (s unsafe.Pointer, fresh bool) {
	h := x.hash()
	var id uint32
	if blind {
		k := unsafe.String(unsafe.SliceData(x.key), len(x.key))
		ih := x.indexHash(h)
		if id = x.find(ih, &k); id == 0 {
			id = x.put(ih, h)
			if !x.groups.known(h) {
				x.head(id).flags |= flagStored
			}
		}
	} else {
		var err error
		if id, err = x.lookup(); err != nil {
			x.core.fail(err)
		}
		if id == 0 {
			id = x.put(x.indexHash(h), h)
		}
	}
	p := x.at(id)
	x.touch(p, id)
	hd := (*head)(p)
	if x.ttl > 0 {
		now := x.core.host.Now()
		if hd.flags&flagAbsent == 0 && x.timersOf(p).at <= now {
			x.kill(p, id)
		}
		x.timersOf(p).at = expiryOf(now, x.ttl)
	}
	fresh = hd.flags&flagAbsent != 0
	hd.flags &^= flagAbsent
	return x.stateOf(p), fresh
}

func expiryOf(now, ttl int64) int64 {
	if now > math.MaxInt64-ttl {
		return math.MaxInt64
	}
	return now + ttl
}

// drop makes x.key absent.
func (x *cells) drop() {
	h := x.hash()
	k := unsafe.String(unsafe.SliceData(x.key), len(x.key))
	ih := x.indexHash(h)
	id := x.find(ih, &k)
	if id == 0 {
		if x.groups.known(h) {
			return
		}
		id = x.put(ih, h)
		x.head(id).flags |= flagStored
	}
	x.bury(id)
}

// bury leaves a tombstone at an entry.
func (x *cells) bury(id uint32) {
	p := x.at(id)
	if (*head)(p).flags&(flagAbsent|flagStored) == flagAbsent {
		return
	}
	x.touch(p, id)
	if h := (*head)(p); h.flags&flagStored != 0 {
		h.flags &^= flagAbsent // also what was never read needs one
	}
	x.kill(p, id)
}

// cached appends the ids of the entries whose key begins with x.key.
func (x *cells) cached(ids []uint32) []uint32 {
	for id := x.heads.first(x.hash()); id != 0; id = x.linksOf(x.at(id)).next {
		if bytes.HasPrefix(x.keyBytes(x.at(id)), x.key) {
			ids = append(ids, id)
		}
	}
	return ids
}

// each calls f with the entries whose key begins with prefix: those cached, then
// those stored, which it brings into the cache. It stops when f returns false.
func (x *cells) each(prefix []byte, f func(id uint32) bool) error {
	x.key = append(x.key[:0], prefix...)
	ids := x.cached(nil)
	for _, id := range ids {
		if x.alive(x.at(id), id) && !f(id) {
			return nil
		}
	}
	h := x.hash()
	if x.groups.known(h) {
		return nil
	}
	seen := make(map[uint32]struct{}, len(ids))
	for _, id := range ids {
		seen[id] = struct{}{}
	}
	from := dataflow.AppendRowKey(nil, dataflow.GroupOf(h, x.groups.total), x.id, h, prefix)
	for {
		last, err := x.page(from, h, seen, &ids)
		if err != nil {
			return err
		}
		for _, id := range ids {
			if x.alive(x.at(id), id) && !f(id) {
				return nil
			}
		}
		if last == nil {
			return nil
		}
		from = append(last, 0)
	}
}

// pageRows is how many stored rows an iteration brings into the cache at a time.
const pageRows = 256

// page sets ids to the entries of the next stored rows from row key from on that
// were not seen before. last is the last row key read, nil at the end.
func (x *cells) page(from []byte, h uint32, seen map[uint32]struct{}, ids *[]uint32) (last []byte, err error) {
	const head = 8 // group, state and hash
	*ids = (*ids)[:0]
	n := 0
	prefix := append([]byte(nil), x.pagePrefix(from)...)
	for k, row := range x.core.host.Scan(from, after(prefix)) {
		x.key = append(x.key[:0], k[head:]...)
		key := unsafe.String(unsafe.SliceData(x.key), len(x.key))
		ih := x.indexHash(h)
		id := x.find(ih, &key)
		if id == 0 {
			id = x.put(ih, h)
			if err := x.load(x.at(id), row); err != nil {
				return nil, err
			}
		}
		if _, ok := seen[id]; !ok {
			seen[id] = struct{}{}
			*ids = append(*ids, id)
		}
		if n++; n == pageRows {
			return append([]byte(nil), k...), nil
		}
	}
	return nil, x.core.host.ScanErr()
}

// pagePrefix returns the part of a row key up to the end of the actor's key.
func (x *cells) pagePrefix(row []byte) []byte {
	const head = 8
	n, w := binary.Uvarint(row[head:])
	return row[:head+w+int(n)]
}

// after returns the least key above all that begin with prefix.
func after(prefix []byte) []byte {
	p := append([]byte(nil), prefix...)
	for i := len(p) - 1; i >= 0; i-- {
		if p[i]++; p[i] != 0 {
			return p[:i+1]
		}
	}
	return append(append([]byte(nil), prefix...), 0xff, 0xff, 0xff, 0xff)
}

// dropAll makes everything whose key begins with prefix absent.
func (x *cells) dropAll(prefix []byte) {
	err := x.each(prefix, func(id uint32) bool {
		x.bury(id)
		return true
	})
	if err != nil {
		x.core.fail(err)
	}
}

func (x *cells) freeze(runs []*run) []*run {
	if r := x.table.freeze(false); r != nil {
		runs = append(runs, r)
	}
	return runs
}

func (x *cells) thaw(err error) {
	x.table.thaw(err)
	if err == nil && x.ttl > 0 {
		x.sweepStored()
	}
}

func (x *cells) settle() { x.reap() }

func (x *cells) memory() (total, dirty int64) { return x.table.memory() }

func (x *cells) evict(n int64) int64 { return x.table.evict(n, nil) }

// sweepRows is how many stored rows are looked at for expiry per checkpoint.
const sweepRows = 1 << 14

// sweepStored looks at the next stored rows and buries those that have expired.
func (x *cells) sweepStored() {
	now := x.core.host.Now()
	to := dataflow.AppendRowPrefix(nil, x.groups.from+len(x.groups.complete), 0)
	from := x.sweep
	if from == nil {
		from = dataflow.AppendRowPrefix(nil, x.groups.from, x.id)
	}
	n := 0
	for n < sweepRows {
		g, _ := dataflow.RowGroup(from)
		if g >= x.groups.from+len(x.groups.complete) {
			x.sweep = nil
			return
		}
		end := dataflow.AppendRowPrefix(nil, g, x.id+1)
		var dead [][]byte
		full := false
		for k, row := range x.core.host.Scan(from, end) {
			n++
			if len(row) >= 8 && int64(binary.BigEndian.Uint64(row)) <= now {
				dead = append(dead, append([]byte(nil), k...))
			}
			if n >= sweepRows {
				from, full = append(append([]byte(nil), k...), 0), true
				break
			}
		}
		if err := x.core.host.ScanErr(); err != nil {
			x.core.fail(err)
			return
		}
		x.buryStored(dead, now)
		if !full {
			from = dataflow.AppendRowPrefix(nil, g+1, x.id)
		}
	}
	x.sweep = from
	if bytes.Compare(from, to) >= 0 {
		x.sweep = nil
	}
}

// buryStored leaves tombstones at stored rows that have expired, unless the cache
// knows better.
func (x *cells) buryStored(rows [][]byte, now int64) {
	for _, row := range rows {
		k, _ := dataflow.ParseRowKey(row, false)
		x.key = append(x.key[:0], k.Key...)
		key := unsafe.String(unsafe.SliceData(x.key), len(x.key))
		ih := x.indexHash(k.Hash)
		id := x.find(ih, &key)
		if id == 0 {
			id = x.put(ih, k.Hash)
			x.head(id).flags |= flagStored
		} else if p := x.at(id); (*head)(p).flags&flagAbsent != 0 || x.timersOf(p).at > now {
			continue
		}
		x.bury(id)
	}
}

// fail makes the user call that is running the last: its step returns err.
func (c *Core) fail(err error) {
	if c.err == nil {
		c.err = err
	}
}

// A MapHandle is map state: one row per entry.
type MapHandle[K comparable, V any] struct {
	Name string
	TTL  int64 // microseconds after the last write; 0: none
}

type mapImpl[K comparable, V any] struct {
	*cells
	codec spi.Codec
	k     K // scratch: an entry's key in hand, for what is passed to a codec escapes
}

func (m *MapHandle[K, V]) open(c *Core, owner ownerTable) (handleImpl, error) {
	x, key, err := openCells(c, owner, m.Name, dataflow.MapState, reflect.TypeFor[V](), m.TTL)
	if err != nil {
		return nil, err
	}
	if key == nil {
		return nil, fmt.Errorf("stream: map state %q has no codec for its keys", m.Name)
	}
	return &mapImpl[K, V]{cells: x, codec: key}, nil
}

// entry sets the key in hand to that of an entry.
func (m *mapImpl[K, V]) entry(k K) {
	m.prefixKey()
	m.k = k
	b, err := m.codec.Append(m.key, unsafe.Pointer(&m.k))
	if err != nil {
		m.core.fail(err)
	}
	m.key = b
}

func (m *mapImpl[K, V]) clear() {
	m.prefixKey()
	m.dropAll(append([]byte(nil), m.key...))
}

func (m *MapHandle[K, V]) impl(c *Core) *mapImpl[K, V] { return implOf[*mapImpl[K, V]](c, m, m.Name) }

// Get returns the value of an entry.
func (m *MapHandle[K, V]) Get(c *Core, k K) (v V, ok bool) {
	x := m.impl(c)
	x.entry(k)
	if p := x.peek(); p != nil {
		return *(*V)(p), true
	}
	return v, false
}

// Put sets an entry.
func (m *MapHandle[K, V]) Put(c *Core, k K, v V) {
	x := m.impl(c)
	x.entry(k)
	p, _ := x.cells.open(true)
	*(*V)(p) = v
}

// Delete drops an entry.
func (m *MapHandle[K, V]) Delete(c *Core, k K) {
	x := m.impl(c)
	x.entry(k)
	x.drop()
}

// All yields the entries of the current key.
func (m *MapHandle[K, V]) All(c *Core) iter.Seq2[K, V] {
	return func(yield func(K, V) bool) {
		x := m.impl(c)
		x.prefixKey()
		prefix := append([]byte(nil), x.key...)
		err := x.each(prefix, func(id uint32) bool {
			p := x.at(id)
			var k K
			if err := x.codec.Decode(x.keyBytes(p)[len(prefix):], unsafe.Pointer(&k), nil); err != nil {
				c.fail(err)
				return false
			}
			return yield(k, *(*V)(x.stateOf(p)))
		})
		if err != nil {
			c.fail(err)
		}
	}
}

// Clear drops all entries of the current key.
func (m *MapHandle[K, V]) Clear(c *Core) { m.impl(c).clear() }
