package codec

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/bits"
	"reflect"
	"time"
	"unsafe"

	"github.com/weirstream/weir/dataflow"
	"github.com/weirstream/weir/stream/spi"
)

// A program is the list of instructions that reads one Avro type into one Go
// type. It follows the order of the bytes, so a field that was removed is a skip
// and a field that was added is nothing at all.
type program struct {
	ops []decOp
	min int // fewest bytes it reads
}

type decCode uint8

const (
	dInt64 decCode = iota
	dInt32
	dString
	dTime
	dFloat64
	dBool
	dInt8
	dInt16
	dUint8
	dUint16
	dUint32
	dUint64       // fixed(8), big-endian
	dUint64Long   // from int, long
	dFloat32      // from float
	dFloat64Float // from float
	dFloat32Long  // from int, long
	dFloat64Long  // from int, long
	dBytes        // [null, bytes]
	dBytesValue   // bytes
	dFixed        // n bytes
	dTimeUnit     // long; n nanoseconds each
	dDecimal      // our record
	dDecimalLong  // int, long
	dDecimalBytes // n: scale
	dDecimalFixed // n: scale, size: bytes
	dPtr          // [null, T]
	dPtrValue     // T
	dSlice        // [null, array]
	dSliceValue   // array
	dArray        // n items
	dMap          // [null, array of pairs]
	dMapValue     // array of pairs, Avro map
	dSkip
)

type decOp struct {
	code decCode
	null uint8 // index of the null branch
	off  uintptr
	n    int
	size uintptr // of an element
	sub  *program
	key  *program // dMap
	sh   *shape   // what is made
	wire *wireType
	path string
}

// maxEmptyItems bounds the items of an array whose items take no bytes.
const maxEmptyItems = 1 << 16

// decFault is a decoding error; kept apart so that the hot path stays small.
func decFault(o *decOp, i int, format string, args ...any) error {
	return fmt.Errorf("codec: %s at byte %d: %s", o.path, i, fmt.Sprintf(format, args...))
}

func truncated(o *decOp, i int) error { return decFault(o, i, "the row ends too early") }

// uvarint reads at src[i:]; next is 0 if it does not end.
func uvarint(src []byte, i int) (u uint64, next int) {
	if len(src)-i >= 8 {
		w := binary.LittleEndian.Uint64(src[i:])
		if end := ^w & highs; end != 0 {
			// Keep the bytes up to the one that ends it and push their 7 bits together, in
			// pairs, pairs of pairs and halves.
			w &= (end ^ (end - 1)) & 0x7f7f7f7f7f7f7f7f
			w = w&0x007f007f007f007f | w&0x7f007f007f007f00>>1
			w = w&0x00003fff00003fff | w&0x3fff00003fff0000>>2
			w = w&0x000000000fffffff | w&0x0fffffff00000000>>4
			return w, i + bits.TrailingZeros64(end)>>3 + 1
		}
	}
	return uvarintSlow(src, i)
}

func uvarintSlow(src []byte, i int) (u uint64, next int) {
	for shift := uint(0); i < len(src) && shift < 70; shift += 7 {
		c := src[i]
		i++
		if c < 0x80 {
			if shift == 63 && c > 1 {
				return 0, 0
			}
			return u | uint64(c)<<shift, i
		}
		u |= uint64(c&0x7f) << shift
	}
	return 0, 0
}

func unzigzag(u uint64) int64 { return int64(u>>1) ^ -int64(u&1) }

// run reads the value at p, which is zero, from src[i:] and returns where it
// ends.
func (g *program) run(src []byte, i int, p unsafe.Pointer, a *spi.Arena, depth int) (int, error) {
	for k := range g.ops {
		o := &g.ops[k]
		f := unsafe.Add(p, o.off)
		if o.code > dTime {
			switch {
			case o.code == dFloat64 && len(src)-i >= 8:
				*(*uint64)(f) = binary.LittleEndian.Uint64(src[i:])
				i += 8
			case o.code == dBool && i < len(src) && src[i] <= 1:
				*(*byte)(f) = src[i]
				i++
			default:
				var err error
				if i, err = o.rare(src, i, f, a, depth); err != nil {
					return 0, err
				}
			}
			continue
		}
		if i >= len(src) {
			return 0, truncated(o, i)
		}
		u := uint64(src[i])
		next := i + 1
		if u >= 0x80 {
			if u, next = uvarint(src, i); next == 0 {
				return 0, truncated(o, i)
			}
		}
		v := unzigzag(u)
		switch o.code {
		case dInt64:
			*(*int64)(f) = v
		case dInt32:
			if *(*int32)(f) = int32(v); v != int64(int32(v)) {
				return 0, decFault(o, i, "%d does not fit %s", v, o.sh.typ)
			}
		case dString:
			if v < 0 || v > int64(len(src)-next) {
				return 0, truncated(o, i)
			}
			end := next + int(v)
			*(*string)(f) = a.String(src[next:end])
			next = end
		case dTime:
			nanos, end := uvarint(src, next)
			if end == 0 || nanos&1 != 0 || nanos>>1 >= 1e9 {
				return 0, decFault(o, next, "bad nanoseconds of a time")
			}
			*(*time.Time)(f) = time.Unix(v, int64(nanos>>1)).UTC()
			next = end
		}
		i = next
	}
	return i, nil
}

// rare reads everything but the commonest types.
func (o *decOp) rare(src []byte, i int, f unsafe.Pointer, a *spi.Arena, depth int) (int, error) {
	switch o.code {
	case dBool: // the good ones are read in run
		if i >= len(src) {
			return 0, truncated(o, i)
		}
		return 0, decFault(o, i, "%d is no boolean", src[i])
	case dFloat64:
		return 0, truncated(o, i)
	case dFloat32, dFloat64Float:
		if len(src)-i < 4 {
			return 0, truncated(o, i)
		}
		u := binary.LittleEndian.Uint32(src[i:])
		if o.code == dFloat32 {
			*(*uint32)(f) = u
		} else {
			*(*float64)(f) = float64(math.Float32frombits(u))
		}
		return i + 4, nil
	case dUint64:
		if len(src)-i < 8 {
			return 0, truncated(o, i)
		}
		*(*uint64)(f) = binary.BigEndian.Uint64(src[i:])
		return i + 8, nil
	case dFixed:
		if len(src)-i < o.n {
			return 0, truncated(o, i)
		}
		return i + copy(unsafe.Slice((*byte)(f), o.n), src[i:]), nil
	case dSkip:
		return o.wire.skip(o, src, i, depth)
	case dDecimalFixed:
		if len(src)-i < int(o.size) {
			return 0, truncated(o, i)
		}
		end := i + int(o.size)
		return end, o.decimal(src[i:end], o.n, i, f)
	case dPtr, dPtrValue, dSlice, dSliceValue, dArray, dMap, dMapValue:
		return o.nested(src, i, f, a, depth)
	case dBytes:
		null, next, err := o.isNull(src, i)
		if null || err != nil {
			return next, err
		}
		i = next
	}
	u, next := uvarint(src, i)
	if next == 0 {
		return 0, truncated(o, i)
	}
	return o.long(unzigzag(u), src, i, next, f, a)
}

// long reads what begins with a varint, v; it began at i and ended before next.
func (o *decOp) long(v int64, src []byte, i, next int, f unsafe.Pointer, a *spi.Arena) (int, error) {
	ok := true
	switch o.code {
	case dInt8:
		*(*int8)(f) = int8(v)
		ok = v == int64(int8(v))
	case dInt16:
		*(*int16)(f) = int16(v)
		ok = v == int64(int16(v))
	case dUint8:
		*(*uint8)(f) = uint8(v)
		ok = v == int64(uint8(v))
	case dUint16:
		*(*uint16)(f) = uint16(v)
		ok = v == int64(uint16(v))
	case dUint32:
		*(*uint32)(f) = uint32(v)
		ok = v == int64(uint32(v))
	case dUint64Long:
		*(*uint64)(f) = uint64(v)
		ok = v >= 0
	case dFloat32Long:
		*(*float32)(f) = float32(v)
	case dFloat64Long:
		*(*float64)(f) = float64(v)
	case dDecimalLong:
		*(*dataflow.Decimal)(f) = dataflow.DecimalFromInt(v)
	case dTimeUnit:
		per := int64(time.Second) / int64(o.n)
		sec, rest := v/per, v%per
		if rest < 0 {
			sec, rest = sec-1, rest+per
		}
		*(*time.Time)(f) = time.Unix(sec, rest*int64(o.n)).UTC()
	case dBytes, dBytesValue, dDecimal, dDecimalBytes:
		if v < 0 || v > int64(len(src)-next) {
			return 0, truncated(o, i)
		}
		b := src[next : next+int(v)]
		next += len(b)
		switch o.code {
		case dDecimalBytes:
			return next, o.decimal(b, o.n, i, f)
		case dDecimal:
			u, end := uvarint(src, next)
			if end == 0 {
				return 0, truncated(o, next)
			}
			return end, o.decimal(b, int(unzigzag(u)), i, f)
		}
		*(*[]byte)(f) = a.Bytes(b)
	}
	if !ok {
		return 0, decFault(o, i, "%d does not fit %s", v, o.sh.typ)
	}
	return next, nil
}

func (o *decOp) decimal(b []byte, scale, i int, f unsafe.Pointer) error {
	d, err := dataflow.FromUnscaled(b, scale)
	if err != nil {
		return decFault(o, i, "%v", err)
	}
	*(*dataflow.Decimal)(f) = d
	return nil
}

// isNull reads the branch of a union with null.
func (o *decOp) isNull(src []byte, i int) (null bool, next int, err error) {
	if i >= len(src) {
		return false, 0, truncated(o, i)
	}
	if src[i] != 0 && src[i] != 2 {
		return false, 0, decFault(o, i, "a union of two has no branch for %d", src[i])
	}
	return src[i]>>1 == o.null, i + 1, nil
}

// nested reads what calls another program.
func (o *decOp) nested(src []byte, i int, f unsafe.Pointer, a *spi.Arena, depth int) (int, error) {
	if depth >= maxDepth {
		return 0, decFault(o, i, "%v", errDepth)
	}
	switch o.code {
	case dPtr, dSlice, dMap:
		null, next, err := o.isNull(src, i)
		if null || err != nil {
			return next, err
		}
		i = next
	}
	switch o.code {
	case dPtr, dPtrValue:
		v := reflect.New(o.sh.elem.typ).UnsafePointer()
		*(*unsafe.Pointer)(f) = v
		return o.sub.run(src, i, v, a, depth+1)
	case dSlice, dSliceValue:
		return o.slice(src, i, f, a, depth)
	case dArray:
		return o.array(src, i, f, a, depth)
	}
	return o.pairs(src, i, f, a, depth)
}

// block reads the head of an array block: the number of items that follow, 0 at
// the end. It refuses more items than the rest of the row can hold.
func (o *decOp) block(src []byte, i, least int) (n, next int, err error) {
	u, next := uvarint(src, i)
	if next == 0 {
		return 0, 0, truncated(o, i)
	}
	v := unzigzag(u)
	if v < 0 { // then the size of the block in bytes follows
		if v = -v; v < 0 {
			return 0, 0, truncated(o, i)
		}
		if _, next = uvarint(src, next); next == 0 {
			return 0, 0, truncated(o, i)
		}
	}
	switch {
	case least > 0 && v > int64((len(src)-next)/least):
		return 0, 0, decFault(o, i, "%d items cannot fit in the %d bytes that are left", v, len(src)-next)
	case least == 0 && v > maxEmptyItems:
		return 0, 0, decFault(o, i, "%d items without content are more than %d", v, maxEmptyItems)
	}
	return int(v), next, nil
}

func (o *decOp) slice(src []byte, i int, f unsafe.Pointer, a *spi.Arena, depth int) (int, error) {
	total := 0
	var base unsafe.Pointer
	for {
		n, next, err := o.block(src, i, o.sub.min)
		if err != nil {
			return 0, err
		}
		i = next
		if n == 0 {
			if base == nil {
				base = newSlice(o.sh, 0)
			}
			*(*sliceHeader)(f) = sliceHeader{base, total, total}
			return i, nil
		}
		if o.sub.min == 0 && total+n > maxEmptyItems {
			return 0, decFault(o, i, "more than %d items without content", maxEmptyItems)
		}
		grown := newSlice(o.sh, total+n)
		if total > 0 {
			reflect.Copy(reflect.NewAt(o.sh.typ, unsafe.Pointer(&sliceHeader{grown, total, total})).Elem(),
				reflect.NewAt(o.sh.typ, unsafe.Pointer(&sliceHeader{base, total, total})).Elem())
		}
		base = grown
		for range n {
			if i, err = o.sub.run(src, i, unsafe.Add(base, uintptr(total)*o.size), a, depth+1); err != nil {
				return 0, err
			}
			total++
		}
	}
}

// sliceHeader is what a slice of any type looks like.
type sliceHeader struct {
	data     unsafe.Pointer
	len, cap int
}

// newSlice makes room for n elements of slice shape s.
func newSlice(s *shape, n int) unsafe.Pointer {
	if n > 0 && s.elem.flat && s.elem.size > 0 {
		return unsafe.Pointer(unsafe.SliceData(make([]uint64, (uintptr(n)*s.elem.size+7)/8)))
	}
	if s.elem.kind == kString && n > 0 {
		return unsafe.Pointer(unsafe.SliceData(make([]string, n)))
	}
	return reflect.MakeSlice(s.typ, n, n).UnsafePointer()
}

func (o *decOp) array(src []byte, i int, f unsafe.Pointer, a *spi.Arena, depth int) (int, error) {
	total := 0
	for {
		n, next, err := o.block(src, i, o.sub.min)
		if err != nil {
			return 0, err
		}
		i = next
		if n == 0 && total == o.n {
			return i, nil
		}
		if n == 0 || n > o.n-total {
			return 0, decFault(o, i, "%d items, but the array has %d", total+n, o.n)
		}
		for range n {
			if i, err = o.sub.run(src, i, unsafe.Add(f, uintptr(total)*o.size), a, depth+1); err != nil {
				return 0, err
			}
			total++
		}
	}
}

func (o *decOp) pairs(src []byte, i int, f unsafe.Pointer, a *spi.Arena, depth int) (int, error) {
	var m reflect.Value
	k, v := reflect.New(o.sh.typ.Key()), reflect.New(o.sh.typ.Elem())
	for {
		n, next, err := o.block(src, i, o.key.min+o.sub.min)
		if err != nil {
			return 0, err
		}
		if o.key.min == 0 && n > 1 {
			return 0, decFault(o, i, "%d keys without content are all the same", n)
		}
		i = next
		if !m.IsValid() {
			m = reflect.MakeMapWithSize(o.sh.typ, n)
			reflect.NewAt(o.sh.typ, f).Elem().Set(m)
		}
		if n == 0 {
			return i, nil
		}
		for range n {
			k.Elem().SetZero()
			v.Elem().SetZero()
			if i, err = o.key.run(src, i, k.UnsafePointer(), a, depth+1); err != nil {
				return 0, err
			}
			if i, err = o.sub.run(src, i, v.UnsafePointer(), a, depth+1); err != nil {
				return 0, err
			}
			m.SetMapIndex(k.Elem(), v.Elem())
		}
	}
}

// skip passes over a value of type t.
func (t *wireType) skip(o *decOp, src []byte, i, depth int) (int, error) {
	if depth >= maxDepth {
		return 0, decFault(o, i, "%v", errDepth)
	}
	n := 0
	switch t.kind {
	case "null":
	case "boolean":
		n = 1
	case "float":
		n = 4
	case "double":
		n = 8
	case "fixed":
		n = t.size
	case "record":
		var err error
		for _, f := range t.fields {
			if i, err = f.typ.skip(o, src, i, depth+1); err != nil {
				return 0, err
			}
		}
		return i, nil
	case "array", "map":
		return t.skipItems(o, src, i, depth)
	default:
		u, next := uvarint(src, i)
		if next == 0 {
			return 0, truncated(o, i)
		}
		i = next
		v := unzigzag(u)
		switch t.kind {
		case "bytes", "string":
			if v < 0 || v > int64(len(src)-i) {
				return 0, truncated(o, i)
			}
			n = int(v)
		case "union":
			if v < 0 || v >= int64(len(t.union)) {
				return 0, decFault(o, i, "a union of %d has no branch %d", len(t.union), v)
			}
			return t.union[v].skip(o, src, i, depth+1)
		}
	}
	if len(src)-i < n {
		return 0, truncated(o, i)
	}
	return i + n, nil
}

func (t *wireType) skipItems(o *decOp, src []byte, i, depth int) (int, error) {
	least := t.items.minBytes()
	if t.kind == "map" {
		least++
	}
	empty := least == 0 // then every item is of no bytes, and there is nothing to pass over
	for {
		n, next, err := o.block(src, i, least)
		if err != nil || n == 0 {
			return next, err
		}
		i = next
		for range n {
			if empty {
				break
			}
			if t.kind == "map" {
				u, next := uvarint(src, i)
				if next == 0 || u>>1 > uint64(len(src)-next) || u&1 != 0 {
					return 0, truncated(o, i)
				}
				i = next + int(u>>1)
			}
			if i, err = t.items.skip(o, src, i, depth+1); err != nil {
				return 0, err
			}
		}
	}
}
