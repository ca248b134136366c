package codec

import (
	"math"
	"strconv"
	"unsafe"

	"github.com/weirstream/weir/dataflow"
)

// digits reads an integer without sign; exact is false if it has over 19 digits or
// does not fit.
func (r *jsonReader) digits(i int) (u uint64, next int, exact bool) {
	src, start := r.src, i
	for i < len(src) && src[i]-'0' <= 9 {
		u = u*10 + uint64(src[i]-'0')
		i++
	}
	return u, i, i-start <= 19
}

// oddInteger reports whether src[first:end], of which digits were read, is not
// all of an integer.
func (r *jsonReader) oddInteger(first, end int) bool {
	src := r.src
	return end == first || src[first] == '0' && end > first+1 ||
		end < len(src) && (src[end] == '.' || src[end]|0x20 == 'e')
}

// badInteger says why.
func (r *jsonReader) badInteger(start, first, end int) int {
	switch {
	case end == first:
		return r.want(start, "an integer")
	case r.src[first] == '0' && end > first+1:
		return r.fault(start, "a number begins with 0")
	}
	i := r.number(start)
	if i < 0 {
		return -1
	}
	return r.fault(start, clip(r.src[start:i])+" is no integer")
}

func (r *jsonReader) tooBig(n *jsonNode, start, end int) int {
	return r.fault(start, clip(r.src[start:end])+" does not fit "+n.shape.typ.String())
}

func clip(b []byte) string {
	if len(b) > 40 {
		return string(b[:37]) + "..."
	}
	return string(b)
}

func (r *jsonReader) int(n *jsonNode, i int, p unsafe.Pointer) int {
	start := i
	neg := r.src[i] == '-'
	if neg {
		i++
	}
	first := i
	u, i, exact := r.digits(i)
	if r.oddInteger(first, i) {
		return r.badInteger(start, first, i)
	}
	if limit := uint64(math.MaxInt64); !exact || u > limit+1 || u == limit+1 && !neg {
		return r.tooBig(n, start, i)
	}
	v := int64(u)
	if neg {
		v = -v
	}
	ok := true
	switch n.kind {
	case kInt64:
		*(*int64)(p) = v
	case kInt32:
		*(*int32)(p), ok = int32(v), v == int64(int32(v))
	case kInt16:
		*(*int16)(p), ok = int16(v), v == int64(int16(v))
	case kInt8:
		*(*int8)(p), ok = int8(v), v == int64(int8(v))
	}
	if !ok {
		return r.tooBig(n, start, i)
	}
	return i
}

func (r *jsonReader) uint(n *jsonNode, i int, p unsafe.Pointer) int {
	start := i
	if r.src[i] == '-' {
		if i = r.number(i); i < 0 {
			return -1
		}
		return r.tooBig(n, start, i)
	}
	u, i, exact := r.digits(i)
	if r.oddInteger(start, i) {
		return r.badInteger(start, start, i)
	}
	if !exact { // 20 digits may still fit
		v, err := strconv.ParseUint(view(r.src[start:i]), 10, 64)
		if err != nil {
			return r.tooBig(n, start, i)
		}
		u = v
	}
	ok := true
	switch n.kind {
	case kUint64:
		*(*uint64)(p) = u
	case kUint32:
		*(*uint32)(p), ok = uint32(u), u <= math.MaxUint32
	case kUint16:
		*(*uint16)(p), ok = uint16(u), u <= math.MaxUint16
	case kUint8:
		*(*uint8)(p), ok = uint8(u), u <= math.MaxUint8
	}
	if !ok {
		return r.tooBig(n, start, i)
	}
	return i
}

// numberParts is a number taken apart: ±mantissa / 10^scale. simple means that
// it had no exponent and at most 18 digits; otherwise only end is set.
type numberParts struct {
	end      int
	mantissa uint64
	scale    int
	neg      bool
	simple   bool
}

// parts reads the number that begins at i; end is -1 after a fault.
func (r *jsonReader) parts(i int) (x numberParts) {
	src, start := r.src, i
	if i < len(src) && src[i] == '-' {
		x.neg = true
		i++
	}
	first := i
	for i < len(src) && src[i]-'0' <= 9 {
		x.mantissa = x.mantissa*10 + uint64(src[i]-'0')
		i++
	}
	digits := i - first
	simple := digits == 1 || digits > 1 && src[first] != '0'
	if i < len(src) && src[i] == '.' {
		i++
		point := i
		for i < len(src) && src[i]-'0' <= 9 {
			x.mantissa = x.mantissa*10 + uint64(src[i]-'0')
			i++
		}
		x.scale = i - point
		digits += x.scale
		simple = simple && x.scale > 0
	}
	if !simple || digits > 18 || i < len(src) && src[i]|0x20 == 'e' {
		x.end = r.number(start) // faults and rarities
		return x
	}
	x.end, x.simple = i, true
	return x
}

// exactPow10 are the powers of ten that a float64 holds exactly.
var exactPow10 = [...]float64{1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18}

func (r *jsonReader) float(n *jsonNode, i int, p unsafe.Pointer) int {
	x := r.parts(i)
	if x.end < 0 {
		return -1
	}
	if n.kind == kFloat64 && x.simple && x.mantissa < 1<<53 {
		// Both are exact, so their quotient is rounded once, as it must be.
		f := float64(x.mantissa) / exactPow10[x.scale]
		if x.neg {
			f = -f
		}
		*(*float64)(p) = f
		return x.end
	}
	bits := 64
	if n.kind == kFloat32 {
		bits = 32
	}
	f, err := strconv.ParseFloat(view(r.src[i:x.end]), bits)
	if err != nil {
		return r.tooBig(n, i, x.end)
	}
	if bits == 32 {
		*(*float32)(p) = float32(f)
	} else {
		*(*float64)(p) = f
	}
	return x.end
}

func (r *jsonReader) decimal(i int, p unsafe.Pointer) int {
	if r.src[i] == '"' {
		s, next := r.stringBytes(i, "a decimal number")
		if next < 0 {
			return -1
		}
		return r.setDecimal(s, i, next, p)
	}
	x := r.parts(i)
	if x.end < 0 {
		return -1
	}
	if !x.simple {
		return r.setDecimal(r.src[i:x.end], i, x.end, p)
	}
	v := int64(x.mantissa)
	if x.neg {
		v = -v
	}
	d, err := dataflow.DecimalFromParts(v>>63, uint64(v), x.scale)
	if err != nil {
		return r.fault(i, err.Error())
	}
	*(*dataflow.Decimal)(p) = d
	return x.end
}

func (r *jsonReader) setDecimal(s []byte, i, next int, p unsafe.Pointer) int {
	d, err := dataflow.ParseDecimal(view(s))
	if err != nil {
		return r.fault(i, err.Error())
	}
	*(*dataflow.Decimal)(p) = d
	return next
}
