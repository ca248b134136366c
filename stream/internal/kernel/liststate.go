package kernel

import (
	"encoding/binary"
	"errors"
	"iter"
	"reflect"
	"unsafe"

	"github.com/weirstream/weir/stream/spi"
)

// A ListHandle is list state: segments of encoded values under one header per key,
// so that appending touches two small rows however long the list is.
//
//	header row    key with length                   0, uvarint segments, uvarint values
//	segment row   key with length, uint32 number    1, then (uvarint length, value) of each
type ListHandle[V any] struct{ Name string }

// segmentBytes is the size from which a segment takes no more values.
const segmentBytes = 4 << 10

// listCell is a header or a segment.
type listCell struct {
	Segment  bool
	Segments uint32
	Values   int64
	Data     []byte
}

type listImpl[V any] struct {
	*cells
	codec spi.Codec
	enc   []byte
}

func (l *ListHandle[V]) open(c *Core, owner ownerTable) (handleImpl, error) {
	x, _, err := openCells(c, owner, l.Name, reflect.TypeFor[listCell](), 0, false)
	if err != nil {
		return nil, err
	}
	impl := &listImpl[V]{cells: x}
	impl.codec = x.lay.codec.(spi.Codec)
	x.lay.codec = cellCodec{}
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
	var err error
	if x.enc, err = x.codec.Append(x.enc[:0], unsafe.Pointer(&v)); err != nil {
		c.fail(err)
		return
	}
	x.prefixKey()
	p, _ := x.cells.open(false)
	h := (*listCell)(p)
	h.Values++
	n := h.Segments
	if n > 0 {
		x.segment(n - 1)
		if p, _ := x.cells.open(false); x.fits((*listCell)(p)) {
			x.add((*listCell)(p))
			return
		}
		x.key = x.key[:len(x.key)-4]
	}
	h.Segments++
	x.segment(n)
	p, _ = x.cells.open(true)
	*(*listCell)(p) = listCell{Segment: true}
	x.add((*listCell)(p))
}

func (x *listImpl[V]) fits(s *listCell) bool {
	return len(s.Data)+len(x.enc)+binary.MaxVarintLen32 <= segmentBytes
}

func (x *listImpl[V]) add(s *listCell) {
	s.Data = binary.AppendUvarint(s.Data, uint64(len(x.enc)))
	s.Data = append(s.Data, x.enc...)
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
		segments, left := h.Segments, h.Values
		for n := range segments {
			x.prefixKey()
			x.segment(n)
			s := (*listCell)(x.peek())
			if s == nil {
				return // cleared meanwhile
			}
			for data := s.Data; len(data) > 0 && left > 0; left-- {
				size, w := binary.Uvarint(data)
				if w <= 0 || size > uint64(len(data)-w) {
					c.fail(errSegment)
					return
				}
				var v V
				if err := x.codec.Decode(data[w:w+int(size)], unsafe.Pointer(&v), &x.strs); err != nil {
					c.fail(err)
					return
				}
				data = data[w+int(size):]
				if !yield(v) {
					return
				}
			}
		}
	}
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

// cellCodec encodes listCells.
type cellCodec struct{}

func (cellCodec) Append(dst []byte, p unsafe.Pointer) ([]byte, error) {
	c := (*listCell)(p)
	if c.Segment {
		return append(append(dst, 1), c.Data...), nil
	}
	dst = binary.AppendUvarint(append(dst, 0), uint64(c.Segments))
	return binary.AppendUvarint(dst, uint64(c.Values)), nil
}

func (cellCodec) Decode(src []byte, p unsafe.Pointer, _ *spi.Arena) error {
	c := (*listCell)(p)
	if len(src) == 0 {
		return errSegment
	}
	if src[0] == 1 {
		c.Segment, c.Data = true, append([]byte(nil), src[1:]...)
		return nil
	}
	n, w := binary.Uvarint(src[1:])
	v, w2 := binary.Uvarint(src[1+max(w, 0):])
	if w <= 0 || w2 <= 0 {
		return errSegment
	}
	c.Segments, c.Values = uint32(n), int64(v)
	return nil
}
