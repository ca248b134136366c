package codec

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"time"
	"unsafe"

	"github.com/weirstream/weir/dataflow"
)

// An encoder is the list of instructions that writes a shape as Avro. Structs
// inside structs are part of the list; only pointers, slices and maps call
// another encoder.
type encoder struct {
	ops []encOp
	max int // most bytes of everything that has a bound
}

type encOp struct {
	code kind // the kind it writes
	off  uintptr
	n    int      // kFixed, kArray: length
	size uintptr  // kSlice, kArray: size of an element
	sub  *encoder // kPtr, kSlice, kArray, kMap: of the element
	key  *encoder // kMap
	typ  reflect.Type
	path string
}

// maxDepth bounds the nesting of values: a value that points to itself must end
// somewhere, and so must hostile bytes.
const maxDepth = 1000

var errDepth = fmt.Errorf("values are nested more than %d deep: does one point to itself?", maxDepth)

// An encCompiler makes one encoder per shape.
type encCompiler map[*shape]*encoder

func (c encCompiler) encoder(s *shape, path string) *encoder {
	if e := c[s]; e != nil {
		return e
	}
	e := &encoder{}
	c[s] = e
	c.add(e, s, 0, path)
	return e
}

func (c encCompiler) add(e *encoder, s *shape, off uintptr, path string) {
	if s.kind == kStruct {
		for _, f := range s.fields {
			c.add(e, f.shape, off+f.off, path+"."+f.path)
		}
		return
	}
	op := encOp{code: s.kind, off: off, n: s.n, path: path, typ: s.typ}
	switch s.kind {
	case kBool, kInt8, kUint8:
		e.max += 2
	case kFixed:
		e.max += s.n
	case kTime:
		e.max += 15
	case kDecimal:
		e.max += 19
	case kPtr, kSlice, kArray:
		e.max += 12
		op.sub, op.size = c.encoder(s.elem, path), s.elem.size
	case kMap:
		e.max += 12
		op.sub, op.key = c.encoder(s.elem, path), c.encoder(s.key, path)
	default:
		e.max += 10
	}
	e.ops = append(e.ops, op)
}

func grow(b []byte, n, need int) []byte {
	b = slices.Grow(b[:n], need)
	return b[:cap(b)]
}

func zigzag(v int64) uint64 { return uint64(v<<1) ^ uint64(v>>63) }

// putVarint writes at b[n:], which has room for 10 bytes.
func putVarint(b []byte, n int, u uint64) int {
	for u >= 0x80 {
		b[n] = byte(u) | 0x80
		u >>= 7
		n++
	}
	b[n] = byte(u)
	return n + 1
}

// run appends the value at p.
func (e *encoder) run(dst []byte, p unsafe.Pointer, depth int) ([]byte, error) {
	b, n := dst[:cap(dst)], len(dst)
	if len(b)-n < e.max {
		b = grow(b, n, e.max)
	}
	for i := range e.ops {
		o := &e.ops[i]
		f := unsafe.Add(p, o.off)
		var v int64
		switch o.code {
		case kBool:
			b[n] = *(*byte)(f)
			n++
			continue
		case kInt8:
			v = int64(*(*int8)(f))
		case kInt16:
			v = int64(*(*int16)(f))
		case kInt32:
			v = int64(*(*int32)(f))
		case kInt64:
			v = *(*int64)(f)
		case kUint8:
			v = int64(*(*uint8)(f))
		case kUint16:
			v = int64(*(*uint16)(f))
		case kUint32:
			v = int64(*(*uint32)(f))
		case kUint64:
			binary.BigEndian.PutUint64(b[n:], *(*uint64)(f))
			n += 8
			continue
		case kFloat32:
			binary.LittleEndian.PutUint32(b[n:], *(*uint32)(f))
			n += 4
			continue
		case kFloat64:
			binary.LittleEndian.PutUint64(b[n:], *(*uint64)(f))
			n += 8
			continue
		case kString:
			s := *(*string)(f)
			if len(b)-n < len(s)+e.max {
				b = grow(b, n, len(s)+e.max)
			}
			if len(s) < 64 {
				b[n] = byte(len(s) << 1)
				n++
			} else {
				n = putVarint(b, n, uint64(len(s))<<1)
			}
			n += copy(b[n:], s)
			continue
		case kFixed:
			n += copy(b[n:], unsafe.Slice((*byte)(f), o.n))
			continue
		case kTime:
			t := (*time.Time)(f)
			n = putVarint(b, n, zigzag(t.Unix()))
			n = putVarint(b, n, uint64(t.Nanosecond())<<1)
			continue
		default:
			d, err := e.nested(o, b[:n], f, depth)
			if err != nil {
				return nil, err
			}
			b, n = d[:cap(d)], len(d)
			if len(b)-n < e.max {
				b = grow(b, n, e.max)
			}
			continue
		}
		if u := zigzag(v); u < 0x80 {
			b[n] = byte(u)
			n++
		} else {
			n = putVarint(b, n, u)
		}
	}
	return b[:n], nil
}

// nested appends what is longer or deeper.
func (e *encoder) nested(o *encOp, dst []byte, f unsafe.Pointer, depth int) ([]byte, error) {
	if depth >= maxDepth {
		return nil, fmt.Errorf("codec: %s: %w", o.path, errDepth)
	}
	switch o.code {
	case kDecimal:
		d := *(*dataflow.Decimal)(f)
		at := len(dst)
		dst = d.AppendUnscaled(append(dst, 0))
		dst[at] = byte(len(dst)-at-1) << 1
		return append(dst, byte(d.Scale())<<1), nil
	case kBytes:
		v := *(*[]byte)(f)
		if v == nil {
			return append(dst, 0), nil
		}
		dst = appendLong(append(dst, 2), int64(len(v)))
		return append(dst, v...), nil
	case kPtr:
		v := *(*unsafe.Pointer)(f)
		if v == nil {
			return append(dst, 0), nil
		}
		return o.sub.run(append(dst, 2), v, depth+1)
	case kSlice:
		v := *(*[]byte)(f) // any slice has this header
		if v == nil {
			return append(dst, 0), nil
		}
		return o.items(append(dst, 2), unsafe.Pointer(unsafe.SliceData(v)), len(v), depth)
	case kArray:
		return o.items(dst, f, o.n, depth)
	case kMap:
		return o.pairs(dst, f, depth)
	}
	return nil, fmt.Errorf("codec: %s: no encoder for %s", o.path, o.typ)
}

func appendLong(dst []byte, v int64) []byte { return binary.AppendUvarint(dst, zigzag(v)) }

// items appends an array as one block.
func (o *encOp) items(dst []byte, p unsafe.Pointer, n, depth int) (_ []byte, err error) {
	if n == 0 {
		return append(dst, 0), nil
	}
	if n > maxEmptyItems && o.sub.max == 0 {
		return nil, fmt.Errorf("codec: %s: %d elements without content are more than %d", o.path, n, maxEmptyItems)
	}
	dst = appendLong(dst, int64(n))
	for i := range n {
		if dst, err = o.sub.run(dst, unsafe.Add(p, uintptr(i)*o.size), depth+1); err != nil {
			return nil, err
		}
	}
	return append(dst, 0), nil
}

// pairs appends a map as an array of key and value, sorted by the bytes of the
// key, so that equal maps have equal bytes.
func (o *encOp) pairs(dst []byte, f unsafe.Pointer, depth int) (_ []byte, err error) {
	m := reflect.NewAt(o.typ, f).Elem()
	if m.IsNil() {
		return append(dst, 0), nil
	}
	dst = append(dst, 2)
	n := m.Len()
	if n == 0 {
		return append(dst, 0), nil
	}
	dst = appendLong(dst, int64(n))
	type pair struct{ at, value, end int }
	pairs := make([]pair, 0, n)
	k, v := reflect.New(o.typ.Key()), reflect.New(o.typ.Elem())
	var scratch []byte
	for it := m.MapRange(); it.Next(); {
		k.Elem().SetIterKey(it)
		v.Elem().SetIterValue(it)
		at := len(scratch)
		if scratch, err = o.key.run(scratch, k.UnsafePointer(), depth+1); err != nil {
			return nil, err
		}
		value := len(scratch)
		if scratch, err = o.sub.run(scratch, v.UnsafePointer(), depth+1); err != nil {
			return nil, err
		}
		pairs = append(pairs, pair{at, value, len(scratch)})
	}
	if len(pairs) != n {
		return nil, errors.New("codec: " + o.path + ": the map changed while it was encoded")
	}
	slices.SortFunc(pairs, func(a, b pair) int { return bytes.Compare(scratch[a.at:a.value], scratch[b.at:b.value]) })
	dst = slices.Grow(dst, len(scratch)+1)
	for _, p := range pairs {
		dst = append(dst, scratch[p.at:p.end]...)
	}
	return append(dst, 0), nil
}
