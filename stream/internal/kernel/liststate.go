package kernel

import (
	"encoding/binary"
	"errors"
	"iter"
	"reflect"
	"unsafe"

	"github.com/weirstream/weir/dataflow"
	"github.com/weirstream/weir/stream/spi"
)

// A ListHandle is list state: full segments of encoded values and a header per key
// that holds the last, open segment, so that appending touches one small row
// however long the list is.
//
//	header row    key with length                   0, uvarint segments, uvarint values, data
//	segment row   key with length, uint32 number    1, data
//
// data is (uvarint length, value) of each value.
type ListHandle[V any] struct{ Name string }

// segmentBytes is the size from which a segment takes no more values.
const segmentBytes = 4 << 10

// listCell is a header or a full segment.
type listCell struct {
	Data     []byte
	Values   int64
	Segments uint32 // full ones
	Full     bool   // it is a segment
}

type listImpl[V any] struct {
	*cells
	codec spi.Codec
	pool  *blockPool
	val   V // scratch: a value in hand, for what is passed to a codec escapes
	enc   []byte
}

func (l *ListHandle[V]) open(c *Core, owner ownerTable) (handleImpl, error) {
	x, _, err := openCells(c, owner, l.Name, dataflow.ListState, reflect.TypeFor[listCell](), 0)
	if err != nil {
		return nil, err
	}
	impl := &listImpl[V]{cells: x}
	impl.codec = x.lay.codec.(spi.Codec)
	impl.pool = new(blockPool)
	x.lay.codec = cellCodec{impl.pool}
	x.lay.release = func(p unsafe.Pointer) { impl.pool.put((*listCell)(p).Data) }
	return impl, nil
}

func (l *ListHandle[V]) impl(c *Core) *listImpl[V] { return implOf[*listImpl[V]](c, l, l.Name) }

// header returns the header of the current key, nil if the list is empty. It sets
// the key in hand to that of the header.
func (x *listImpl[V]) header() *listCell {
	x.prefixKey()
	return (*listCell)(x.peek())
}

// segment sets the key in hand from that of the header to that of segment n.
func (x *listImpl[V]) segment(n uint32) { x.key = binary.BigEndian.AppendUint32(x.key, n) }

// Append adds v at the end.
func (l *ListHandle[V]) Append(c *Core, v V) {
	x := l.impl(c)
	x.val = v
	var err error
	if x.enc, err = x.codec.Append(x.enc[:0], unsafe.Pointer(&x.val)); err != nil {
		c.fail(err)
		return
	}
	x.prefixKey()
	p, _ := x.cells.open(false)
	h := (*listCell)(p)
	if n := len(h.Data); n > 0 && n+len(x.enc)+binary.MaxVarintLen32 > segmentBytes {
		x.seal(h)
	}
	h.Values++
	if need := len(h.Data) + len(x.enc) + binary.MaxVarintLen32; need > cap(h.Data) {
		if h.Segments > 0 {
			need = max(need, segmentBytes) // the list is long: it will fill this one, too
		}
		old := h.Data
		h.Data = append(x.pool.get(need), old...)
		x.pool.put(old)
	}
	h.Data = binary.AppendUvarint(h.Data, uint64(len(x.enc)))
	h.Data = append(h.Data, x.enc...)
}

// seal moves what the header h, whose key is in hand, holds to a segment.
func (x *listImpl[V]) seal(h *listCell) {
	x.segment(h.Segments)
	p, _ := x.cells.open(true)
	*(*listCell)(p) = listCell{Full: true, Data: h.Data}
	h.Segments++
	h.Data = nil
}

// Len returns the number of values.
func (l *ListHandle[V]) Len(c *Core) int {
	if h := l.impl(c).header(); h != nil {
		return int(h.Values)
	}
	return 0
}

var errSegment = errors.New("stream: a list segment ends inside a value")

// All yields the values in the order of Append, those that the list had when the
// iteration began.
func (l *ListHandle[V]) All(c *Core) iter.Seq[V] {
	return func(yield func(V) bool) {
		x := l.impl(c)
		h := x.header()
		if h == nil {
			return
		}
		segments, tail := h.Segments, h.Data
		x.pool.readers++
		defer func() { x.pool.readers-- }()
		for n := range segments {
			x.prefixKey()
			x.segment(n)
			s := (*listCell)(x.peek())
			if s == nil || !x.values(s.Data, yield) {
				return // no segment: cleared meanwhile
			}
		}
		x.values(tail, yield)
	}
}

// values yields the values in data; more is false when it should stop.
func (x *listImpl[V]) values(data []byte, yield func(V) bool) (more bool) {
	for len(data) > 0 {
		size, w := binary.Uvarint(data)
		if w <= 0 || size > uint64(len(data)-w) {
			x.core.fail(errSegment)
			return false
		}
		var v V
		if err := x.codec.Decode(data[w:w+int(size)], unsafe.Pointer(&v), &x.strs); err != nil {
			x.core.fail(err)
			return false
		}
		data = data[w+int(size):]
		if !yield(v) {
			return false
		}
	}
	return true
}

// Clear drops all values of the current key.
func (l *ListHandle[V]) Clear(c *Core) { l.impl(c).clear() }

func (x *listImpl[V]) clear() {
	h := x.header()
	if h == nil {
		return
	}
	n := h.Segments
	x.drop()
	for i := range n {
		x.prefixKey()
		x.segment(i)
		x.drop()
	}
}

// A blockPool reuses the memory of lists, which is most of what a join holds: it
// spares the collector, and the processor the clearing of fresh memory.
type blockPool struct {
	free    [blockClasses][][]byte // by capacity
	held    int
	readers int // iterations under way: blocks they may read are not reused
}

const (
	blockLeast   = 256
	blockClasses = 6 // up to 8 KiB: a segment and a value that overshoots it
	blockHeld    = 16 << 20
)

// get returns an empty slice of capacity n or more.
func (b *blockPool) get(n int) []byte {
	size := blockLeast
	for c := range b.free {
		if n <= size {
			if f := b.free[c]; len(f) > 0 {
				s := f[len(f)-1]
				b.free[c] = f[:len(f)-1]
				b.held -= size
				return s
			}
			return make([]byte, 0, size)
		}
		size *= 2
	}
	return make([]byte, 0, n)
}

// put takes back a slice of get that nothing refers to any more.
func (b *blockPool) put(s []byte) {
	if b.readers > 0 || b.held >= blockHeld {
		return
	}
	size := blockLeast
	for c := range b.free {
		if cap(s) == size {
			b.free[c] = append(b.free[c], s[:0])
			b.held += size
			return
		}
		size *= 2
	}
}

// cellCodec encodes listCells.
type cellCodec struct{ pool *blockPool }

func (cellCodec) Append(dst []byte, p unsafe.Pointer) ([]byte, error) {
	c := (*listCell)(p)
	if c.Full {
		return append(append(dst, 1), c.Data...), nil
	}
	dst = binary.AppendUvarint(append(dst, 0), uint64(c.Segments))
	dst = binary.AppendUvarint(dst, uint64(c.Values))
	return append(dst, c.Data...), nil
}

func (x cellCodec) Decode(src []byte, p unsafe.Pointer, _ *spi.Arena) error {
	c := (*listCell)(p)
	if len(src) == 0 {
		return errSegment
	}
	if src[0] == 1 {
		c.Full, c.Data = true, append(x.pool.get(len(src)), src[1:]...)
		return nil
	}
	src = src[1:]
	n, w := binary.Uvarint(src)
	if w <= 0 {
		return errSegment
	}
	v, w2 := binary.Uvarint(src[w:])
	if w2 <= 0 {
		return errSegment
	}
	c.Segments, c.Values = uint32(n), int64(v)
	c.Data = append(x.pool.get(len(src)), src[w+w2:]...)
	return nil
}
