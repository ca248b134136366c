package kernel

import (
	"encoding/binary"
	"errors"
	"fmt"
	"reflect"
	"unsafe"

	"github.com/weirstream/weir/dataflow"
	"github.com/weirstream/weir/stream/spi"
)

// A table is the cache of one named state (or of one pane of it) of one subtask.
// Entries hold header, timers, key and state in one record; records lie in chunks
// made by reflection, so that the collector sees their types and pointer-free
// ones are opaque to it.
//
// Life of an entry: absent or loaded -> dirty (in the list of the current
// generation) -> frozen (in the list of the generation being written) -> clean
// -> evicted. Whoever is about to change an entry calls touch first: if the entry
// is frozen its row is encoded into the freeze's side buffer then, so the writer,
// which runs concurrently, never looks at an entry that the actor writes.
//
// Strings and slices inside states are kept as the user stored them, so they pin
// the arena of the batch they came from until the entry is loaded anew.
type table struct {
	view
	id     dataflow.StateID
	pane   int64
	n      uint32   // ids handed out; ids start at 1
	free   []uint32 // ids to reuse
	index  index
	heads  index    // linked tables: first entry of each owner hash
	arena  keyArena // of string and encoded keys
	strs   spi.Arena
	gen    uint32 // current generation
	dirty  []dirtyRef
	ndirty int
	frozen *run
	tombs  []uint32 // entries that are absent and whose tombstone is not yet stored
	reaped int      // tombs looked at by reap
	groups groupSet
	hand   uint32 // of the eviction clock
	inner  int64  // bytes that a state is taken to hold behind pointers
	inners int    // entries there were when inner was measured
	sample []byte
	again  int  // frozen entries that are dirty again
	swept  bool // the last eviction took all it could find
	loaded int  // entries loaded since
	spare  []dirtyRef
	warmed uint32 // keeps the reads of warm alive
}

// head is how every entry begins.
type head struct {
	hash  uint32 // of the actor's key; never changes
	gen   uint32 // generation whose dirty list holds the entry; 0: none yet
	pos   uint32 // its place there
	flags uint8  // changed under touch only
	ref   uint8  // used since the clock passed
	name  uint16 // of the earliest timer
}

const (
	flagUsed   = 1 << iota // the id is handed out
	flagAbsent             // there is no such key
	flagStored             // the store may have a row
	flagTomb               // the id is in tombs
)

// links chain the entries of one owner.
type links struct{ next, prev uint32 }

const (
	chunkBits = 9
	chunkLen  = 1 << chunkBits
)

// A layout says where the parts of an entry lie.
type layout struct {
	elem   reflect.Type
	size   uintptr
	offT   uintptr // timers or expiry, if any
	offL   uintptr // links, if any
	offK   uintptr
	offS   uintptr
	state  reflect.Type
	bytes  uintptr // of a state
	ptrs   bool    // states hold pointers
	shape  keyShape
	steps  []keyStep
	timed  bool // rows begin with a timers section, and entries hold timers
	timers bool // rows begin with a timers section
	marked bool // rows begin with a byte, and entries hold it in head.name
	expiry bool // rows begin with an expiry, and entries hold it in timers.at
	linked bool // entries of one owner are chained
	multi  bool // an owner has several entries: the index hash covers the key
	codec  valueCodec
	strs   []uintptr // where states hold pointers to bytes
	// release takes back what a state holds that is dropped; may be nil.
	release func(state unsafe.Pointer)
	reset   func(state unsafe.Pointer) // sets the fields that are not state; may be nil
}

// A valueCodec writes states; spi.Codec is one.
type valueCodec interface {
	Append(dst []byte, p unsafe.Pointer) ([]byte, error)
	Decode(src []byte, p unsafe.Pointer, a *spi.Arena) error
}

// newLayout places key (of type k for shapes by value) and state in a record.
func newLayout(k reflect.Type, shape keyShape, steps []keyStep, state reflect.Type, timed, expiry, linked bool) *layout {
	if shape >= shapeString {
		k = reflect.TypeFor[keyRef]()
	}
	fields := []reflect.StructField{{Name: "H", Type: reflect.TypeFor[head]()}}
	if timed || expiry {
		fields = append(fields, reflect.StructField{Name: "T", Type: reflect.TypeFor[timers]()})
	}
	if linked {
		fields = append(fields, reflect.StructField{Name: "L", Type: reflect.TypeFor[links]()})
	}
	fields = append(fields, reflect.StructField{Name: "K", Type: k}, reflect.StructField{Name: "S", Type: state})
	elem := reflect.StructOf(fields)
	off := func(name string) uintptr {
		f, _ := elem.FieldByName(name)
		return f.Offset
	}
	return &layout{
		elem: elem, size: elem.Size(), offT: off("T"), offL: off("L"), offK: off("K"), offS: off("S"),
		state: state, bytes: state.Size(), ptrs: hasPointers(state), shape: shape, steps: steps,
		timed: timed, expiry: expiry, linked: linked, multi: linked, strs: bytePointers(nil, state, 0),
	}
}

// bytePointers appends the offsets of the strings and byte slices in a value of
// type t, a few at most.
func bytePointers(offs []uintptr, t reflect.Type, at uintptr) []uintptr {
	switch {
	case len(offs) == 8:
	case t.Kind() == reflect.String, t.Kind() == reflect.Slice && t.Elem().Kind() == reflect.Uint8:
		return append(offs, at)
	case t.Kind() == reflect.Struct:
		for i := range t.NumField() {
			offs = bytePointers(offs, t.Field(i).Type, at+t.Field(i).Offset)
		}
	}
	return offs
}

// zero clears the state at p.
func (l *layout) zero(p unsafe.Pointer) {
	if l.release != nil {
		l.release(p)
	}
	if l.ptrs {
		reflect.NewAt(l.state, p).Elem().SetZero()
	} else {
		clear(unsafe.Slice((*byte)(p), l.bytes))
	}
}

// A view reads entries. A copy of it, taken at a freeze, reads from another
// goroutine what the table held then.
type view struct {
	lay    *layout
	chunks []unsafe.Pointer
	keys   [][]byte
	names  *[]string // of timers
	extra  [][]timer // timers of entries that have several
}

// at returns the entry of an id.
func (v *view) at(id uint32) unsafe.Pointer {
	return unsafe.Add(v.chunks[id>>chunkBits], uintptr(id&(chunkLen-1))*v.lay.size)
}

func (v *view) head(id uint32) *head { return (*head)(v.at(id)) }

// stateOf returns the state of the entry at p.
func (v *view) stateOf(p unsafe.Pointer) unsafe.Pointer { return unsafe.Add(p, v.lay.offS) }

func (v *view) timersOf(p unsafe.Pointer) *timers { return (*timers)(unsafe.Add(p, v.lay.offT)) }

func (v *view) linksOf(p unsafe.Pointer) *links { return (*links)(unsafe.Add(p, v.lay.offL)) }

// appendKey appends the encoding of the key of the entry at p.
func (v *view) appendKey(dst []byte, p unsafe.Pointer) []byte {
	k := unsafe.Add(p, v.lay.offK)
	if v.lay.shape >= shapeString {
		return append(dst, arenaGet(v.keys, *(*keyRef)(k))...)
	}
	return appendKey(dst, k, v.lay.steps)
}

// appendValue appends the row of the entry at p; it must be there.
func (v *view) appendValue(dst []byte, p unsafe.Pointer) ([]byte, error) {
	switch {
	case v.lay.timed:
		dst = v.appendTimers(dst, p)
	case v.lay.timers:
		dst = append(dst, 0)
	case v.lay.marked:
		dst = append(dst, byte((*head)(p).name))
	case v.lay.expiry:
		dst = binary.BigEndian.AppendUint64(dst, uint64(v.timersOf(p).at))
	}
	return v.lay.codec.Append(dst, v.stateOf(p))
}

func (t *table) init(lay *layout, id dataflow.StateID, groups groupSet, names *[]string) {
	t.lay, t.id, t.groups, t.names, t.gen = lay, id, groups, names, 1
	t.index.init()
	if lay.linked {
		t.heads.init()
	}
}

// insert adds an absent entry for row hash h under index hash ih and returns its
// id; the caller sets the key.
func (t *table) insert(ih, h uint32) uint32 {
	var id uint32
	if n := len(t.free); n > 0 {
		id = t.free[n-1]
		t.free = t.free[:n-1]
	} else {
		t.n++
		id = t.n
		if int(id>>chunkBits) >= len(t.chunks) {
			v := reflect.MakeSlice(reflect.SliceOf(t.lay.elem), chunkLen, chunkLen)
			t.chunks = append(t.chunks, v.UnsafePointer())
		}
	}
	p := t.at(id)
	*(*head)(p) = head{hash: h, flags: flagUsed | flagAbsent, ref: 1}
	if t.lay.timed || t.lay.expiry {
		*t.timersOf(p) = timers{at: noTimer, queued: noTimer, indexed: noBucket}
	}
	t.index.add(ih, id)
	if t.lay.linked {
		t.link(id, h, t.linksOf(p))
	}
	return id
}

func (t *table) link(id, h uint32, l *links) {
	first := t.heads.first(h)
	*l = links{next: first}
	if first == 0 {
		t.heads.add(h, id)
		return
	}
	t.linksOf(t.at(first)).prev = id
	t.heads.replace(h, first, id)
}

func (t *table) unlink(id, h uint32, l *links) {
	if l.next != 0 {
		t.linksOf(t.at(l.next)).prev = l.prev
	}
	switch {
	case l.prev != 0:
		t.linksOf(t.at(l.prev)).next = l.next
	case l.next != 0:
		t.heads.replace(h, id, l.next)
	default:
		t.heads.remove(h, id)
	}
}

// setKey stores the key bytes of shapes in the arena.
func (t *table) setKey(id uint32, k string) {
	*(*keyRef)(unsafe.Add(t.at(id), t.lay.offK)) = t.arena.add(k)
	t.keys = t.arena.chunks
}

// keyBytes returns the arena bytes of an entry's key.
func (t *table) keyBytes(p unsafe.Pointer) []byte {
	return t.arena.get(*(*keyRef)(unsafe.Add(p, t.lay.offK)))
}

// remove drops an entry that is neither dirty nor frozen.
func (t *table) remove(id uint32) {
	p := t.at(id)
	h := (*head)(p)
	ih := h.hash
	if t.lay.multi {
		ih = multiHash(h.hash, t.keyBytes(p))
	}
	if t.lay.linked {
		t.unlink(id, h.hash, t.linksOf(p))
	}
	t.index.remove(ih, id)
	if t.lay.shape >= shapeString {
		t.arena.drop(*(*keyRef)(unsafe.Add(p, t.lay.offK)))
	}
	if t.lay.timed {
		t.dropExtra(t.timersOf(p))
	}
	t.lay.zero(t.stateOf(p))
	*h = head{}
	t.free = append(t.free, id)
}

// multiHash is the index hash of one of several entries of an owner with hash h.
func multiHash(h uint32, key []byte) uint32 { return mix(h*0x9e3779b1 ^ hashBytes(key)) }

// touch must be called before an entry is changed.
func (t *table) touch(p unsafe.Pointer, id uint32) {
	if (*head)(p).gen != t.gen {
		t.touchSlow(p, id)
	}
}

func (t *table) touchSlow(p unsafe.Pointer, id uint32) {
	h := (*head)(p)
	if t.frozen != nil && h.gen == t.frozen.gen {
		t.frozen.preserve(&t.view, p)
		t.again++
	}
	if h.gen != 0 {
		h.flags |= flagStored
	}
	h.gen, h.pos = t.gen, uint32(len(t.dirty))
	t.dirty = append(t.dirty, dirtyRef{id: id})
	t.ndirty++
}

// kill makes a touched entry absent.
func (t *table) kill(p unsafe.Pointer, id uint32) {
	h := (*head)(p)
	if h.flags&flagAbsent != 0 {
		return
	}
	t.lay.zero(t.stateOf(p))
	h.flags |= flagAbsent
	if t.lay.timed {
		t.dropTimers(p)
	}
	if h.flags&flagTomb == 0 {
		h.flags |= flagTomb
		t.tombs = append(t.tombs, id)
	}
}

// reap drops absent entries that the store has never seen. It is called when
// nobody holds ids.
func (t *table) reap() {
	if t.reaped == len(t.tombs) {
		return
	}
	kept := t.tombs[:t.reaped]
	for _, id := range t.tombs[t.reaped:] {
		h := t.head(id)
		switch {
		case h.flags&flagAbsent == 0:
			h.flags &^= flagTomb // under touch: it was revived after its death
		case h.flags&flagStored == 0 && h.gen == t.gen:
			t.dirty[h.pos].id = 0
			t.ndirty--
			t.remove(id)
		default:
			kept = append(kept, id)
		}
	}
	t.tombs, t.reaped = kept, len(kept)
}

var errEmptyRow = errors.New("stream: the row of a pane is empty")

// load fills an absent entry from its row.
func (t *table) load(p unsafe.Pointer, row []byte) error {
	h := (*head)(p)
	h.flags = h.flags&^flagAbsent | flagStored
	t.loaded++
	body, err := row, error(nil)
	switch {
	case t.lay.timed || t.lay.timers:
		body, err = t.loadTimers(p, row)
	case t.lay.marked:
		if len(row) == 0 {
			return errEmptyRow
		}
		h.name, body = uint16(row[0]), row[1:]
	case t.lay.expiry:
		if len(row) < 8 {
			return fmt.Errorf("stream: a row of %d bytes has no expiry", len(row))
		}
		t.timersOf(p).at = int64(binary.BigEndian.Uint64(row))
		body = row[8:]
	}
	if err != nil {
		return err
	}
	if err := t.lay.codec.Decode(body, t.stateOf(p), &t.strs); err != nil {
		return err
	}
	if t.lay.reset != nil {
		t.lay.reset(t.stateOf(p))
	}
	return nil
}

// live returns the number of entries.
func (t *table) live() int { return int(t.n) - len(t.free) }

// warmFrom is the number of entries from which their memory is likely not to be in
// the processor's cache.
const warmFrom = 1 << 14

// warm reads the memory that looking up the hashes will need, level by level, so
// that the cache misses of many keys overlap. It returns a value that has no
// meaning.
func (t *table) warm(hashes []uint32) (sum uint32) {
	var ids [blockRows]uint32
	for i, h := range hashes[:min(len(hashes), blockRows)] {
		s := &t.index.shards[h&t.index.mask]
		ids[i] = uint32(s.slots[h>>shardBits&uint32(len(s.slots)-1)])
	}
	for _, id := range ids[:len(hashes)] {
		if id != 0 {
			p := t.at(id)
			sum += (*head)(p).pos + uint32(*(*byte)(unsafe.Add(p, t.lay.size-1)))
		}
	}
	if t.lay.shape < shapeString {
		return sum
	}
	for _, id := range ids[:len(hashes)] {
		if id != 0 {
			r := *(*keyRef)(unsafe.Add(t.at(id), t.lay.offK))
			if r.len != largeMark {
				sum += uint32(t.arena.chunks[r.chunk][int(r.off)*8])
			}
		}
	}
	return sum
}

// A Table is a table of typed keys.
type Table[K comparable] struct {
	table
	coder keyCoder[K]
	probe []byte // encoding of the key looked for, of encoded shapes
}

// find returns the id of a key, or 0.
func (t *Table[K]) find(h uint32, k *K) uint32 {
	s := &t.index.shards[h&t.index.mask]
	slots := s.slots
	m := uint32(len(slots) - 1)
	shape := t.lay.shape
	if shape == shapeEncoded {
		t.probe = t.coder.append(t.probe[:0], *k)
	}
	for i := h >> shardBits & m; ; i = (i + 1) & m {
		w := slots[i]
		if w == 0 {
			return 0
		}
		if uint32(w>>32) != h {
			continue
		}
		p := unsafe.Add(t.at(uint32(w)), t.lay.offK)
		var same bool
		switch shape {
		case shapeString:
			same = string(t.arena.get(*(*keyRef)(p))) == *(*string)(unsafe.Pointer(k))
		case shapeEncoded:
			same = string(t.arena.get(*(*keyRef)(p))) == string(t.probe)
		default:
			same = *(*K)(p) == *k
		}
		if same {
			return uint32(w)
		}
	}
}

// add inserts an absent entry for a key that find did not find.
func (t *Table[K]) add(h uint32, k *K) uint32 {
	id := t.insert(h, h)
	switch t.lay.shape {
	case shapeString:
		t.setKey(id, *(*string)(unsafe.Pointer(k)))
	case shapeEncoded:
		t.setKey(id, string(t.coder.append(t.probe[:0], *k)))
	default:
		*(*K)(unsafe.Add(t.at(id), t.lay.offK)) = *k
	}
	return id
}

// key returns the key of an entry; strings are copied.
func (t *Table[K]) key(id uint32) (k K) {
	p := t.at(id)
	switch t.lay.shape {
	case shapeString:
		*(*string)(unsafe.Pointer(&k)) = string(t.keyBytes(p))
	case shapeEncoded:
		decodeKey(t.keyBytes(p), unsafe.Pointer(&k), t.lay.steps)
	default:
		k = *(*K)(unsafe.Add(p, t.lay.offK))
	}
	return k
}
