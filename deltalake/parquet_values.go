package deltalake

import (
	"encoding/binary"
	"fmt"
	"math"
)

// decodeValues decodes n values that are not null into a vector of type t.
func decodeValues(c *pqCol, t *Type, enc int, src []byte, n int) (*Vector, error) {
	v := NewVector(t)
	v.Len = n
	var err error
	switch c.typ {
	case pqBoolean:
		err = decodeBools(v, enc, src, n)
	case pqInt32, pqInt64:
		err = decodeInts(v, c, enc, src, n)
	case pqInt96:
		if enc != encPlain || len(src) < 12*n {
			return nil, fmt.Errorf("%w: column %q", errPage, c.name)
		}
		v.Longs = make([]int64, n)
		for i := range n {
			nanos := int64(binary.LittleEndian.Uint64(src[12*i:]))
			day := int64(binary.LittleEndian.Uint32(src[12*i+8:]))
			v.Longs[i] = (day-2_440_588)*86_400_000_000 + floorDiv(nanos, 1000)
		}
	case pqFloat, pqDouble:
		err = decodeFloats(v, c, enc, src, n)
	case pqBytes, pqFixed:
		err = decodeByteArrays(v, c, enc, src, n)
	default:
		err = fmt.Errorf("%w: column %q has physical type %d", errPage, c.name, c.typ)
	}
	if err != nil {
		return nil, err
	}
	return v, nil
}

func encodingError(c string, enc int) error {
	return &UnsupportedError{"read", fmt.Sprintf("Parquet encoding %d of column %q", enc, c)}
}

func decodeBools(v *Vector, enc int, src []byte, n int) error {
	v.Bools = make([]bool, n)
	switch enc {
	case encPlain:
		if len(src) < (n+7)/8 {
			return errPage
		}
		for i := range n {
			v.Bools[i] = src[i/8]>>(i%8)&1 == 1
		}
	case encRLE:
		if len(src) < 4 {
			return errPage
		}
		bits, err := hybrid[uint8](nil, src[4:], 1, n)
		if err != nil {
			return err
		}
		for i, b := range bits {
			v.Bools[i] = b == 1
		}
	default:
		return encodingError("of booleans", enc)
	}
	return nil
}

// decodeInts reads 32- and 64-bit integers and converts them to v's type.
func decodeInts(v *Vector, c *pqCol, enc int, src []byte, n int) error {
	size := 4
	if c.typ == pqInt64 {
		size = 8
	}
	var wide []int64 // set by delta encoding
	var err error
	switch enc {
	case encPlain:
		if len(src) < size*n {
			return fmt.Errorf("%w: column %q", errPage, c.name)
		}
	case encSplit:
		if src, err = unsplit(src, n, size); err != nil {
			return err
		}
	case encDelta:
		if wide, _, err = deltaInts(src, n); err != nil || len(wide) != n {
			return fmt.Errorf("%w: column %q", errPage, c.name)
		}
	default:
		return encodingError(c.name, enc)
	}
	get := func(i int) int64 {
		switch {
		case wide != nil && size == 4:
			return int64(int32(wide[i]))
		case wide != nil:
			return wide[i]
		case size == 4:
			return int64(int32(binary.LittleEndian.Uint32(src[4*i:])))
		}
		return int64(binary.LittleEndian.Uint64(src[8*i:]))
	}
	switch v.Type.Kind {
	case KindByte, KindShort, KindInteger, KindDate:
		v.Ints = make([]int32, n)
		if wide == nil && size == 4 {
			for i := range v.Ints {
				v.Ints[i] = int32(binary.LittleEndian.Uint32(src[4*i:]))
			}
			break
		}
		for i := range v.Ints {
			v.Ints[i] = int32(get(i))
		}
	case KindLong:
		v.Longs = make([]int64, n)
		if wide == nil && size == 8 {
			for i := range v.Longs {
				v.Longs[i] = int64(binary.LittleEndian.Uint64(src[8*i:]))
			}
			break
		}
		for i := range v.Longs {
			v.Longs[i] = get(i)
		}
	case KindTimestamp, KindTimestampNTZ:
		v.Longs = make([]int64, n)
		for i := range v.Longs {
			x := get(i)
			switch {
			case size == 4: // a date that became a timestamp
				x *= 86_400_000_000
			case c.unit == unitMillis:
				x *= 1000
			case c.unit == unitNanos:
				x = floorDiv(x, 1000)
			}
			v.Longs[i] = x
		}
	case KindDouble:
		v.Doubles = make([]float64, n)
		for i := range v.Doubles {
			v.Doubles[i] = float64(get(i))
		}
	case KindDecimal:
		v.Decimals = make([]Decimal, n)
		for i := range v.Decimals {
			if v.Decimals[i], err = toDecimal(DecimalFromInt64(get(i)), c, v.Type); err != nil {
				return err
			}
		}
	default:
		return fmt.Errorf("%w: column %q", errPage, c.name)
	}
	return nil
}

func toDecimal(d Decimal, c *pqCol, t *Type) (Decimal, error) {
	wide := c.precision == 0 || c.precision-c.scale > t.Precision-t.Scale // the file may hold more digits than the column
	if c.scale == t.Scale && !wide {
		return d, nil
	}
	d, ok := d.rescale(c.scale, t.Scale)
	if !ok || wide && !d.fits(t.Precision) {
		return d, fmt.Errorf("deltalake: column %q holds a value that does not fit %s", c.name, t)
	}
	return d, nil
}

func decodeFloats(v *Vector, c *pqCol, enc int, src []byte, n int) error {
	size := 4
	if c.typ == pqDouble {
		size = 8
	}
	switch enc {
	case encPlain:
	case encSplit:
		var err error
		if src, err = unsplit(src, n, size); err != nil {
			return err
		}
	default:
		return encodingError(c.name, enc)
	}
	if len(src) < size*n {
		return fmt.Errorf("%w: column %q", errPage, c.name)
	}
	switch {
	case v.Type.Kind == KindFloat:
		v.Floats = make([]float32, n)
		for i := range v.Floats {
			v.Floats[i] = math.Float32frombits(binary.LittleEndian.Uint32(src[4*i:]))
		}
	case size == 4:
		v.Doubles = make([]float64, n)
		for i := range v.Doubles {
			v.Doubles[i] = float64(math.Float32frombits(binary.LittleEndian.Uint32(src[4*i:])))
		}
	default:
		v.Doubles = make([]float64, n)
		for i := range v.Doubles {
			v.Doubles[i] = math.Float64frombits(binary.LittleEndian.Uint64(src[8*i:]))
		}
	}
	return nil
}

func decodeByteArrays(v *Vector, c *pqCol, enc int, src []byte, n int) error {
	var b byteValues
	var err error
	switch {
	case enc == encPlain && c.typ == pqBytes:
		b, err = plainBytes(src, n)
	case enc == encDeltaLength && c.typ == pqBytes:
		b, err = deltaLengthBytes(src, n)
	case enc == encDeltaBytes:
		b, err = deltaBytes(src, n)
	case (enc == encPlain || enc == encSplit) && c.typ == pqFixed:
		if c.width <= 0 || n > len(src)/c.width {
			return fmt.Errorf("%w: column %q", errPage, c.name)
		}
		b.data = src[:n*c.width]
		if enc == encSplit {
			if b.data, err = unsplit(src, n, c.width); err != nil {
				return err
			}
		}
		b.offsets = make([]int32, n+1)
		for i := range b.offsets {
			b.offsets[i] = int32(i * c.width)
		}
	default:
		return encodingError(c.name, enc)
	}
	if err != nil {
		return err
	}
	if len(b.offsets) != n+1 {
		return fmt.Errorf("%w: column %q", errPage, c.name)
	}
	if v.Type.Kind != KindDecimal {
		v.Data, v.Offsets = b.data, b.offsets
		if c.typ == pqFixed {
			v.Data = append([]byte(nil), b.data...) // src is reused
		}
		return nil
	}
	v.Decimals = make([]Decimal, n)
	for i := range v.Decimals {
		d, ok := decimalFromBytes(b.data[b.offsets[i]:b.offsets[i+1]])
		if !ok {
			return fmt.Errorf("deltalake: column %q holds a decimal of more than 128 bits", c.name)
		}
		if v.Decimals[i], err = toDecimal(d, c, v.Type); err != nil {
			return err
		}
	}
	return nil
}
