package deltalake

import (
	"cmp"
	"math"
	"math/big"
	"strconv"
	"strings"
	"time"
)

type valueKind uint8

const (
	vNull valueKind = iota
	vBool
	vInt
	vFloat
	vDecimal
	vText  // strings and binary
	vDate  // days
	vTime  // microseconds
	vOther // lists, maps, structs: only null checks
)

// value is one scalar of an expression.
type value struct {
	kind  valueKind
	i     int64
	f     float64
	d     Decimal
	scale int
	s     string
}

func boolValue(b bool) value {
	if b {
		return value{kind: vBool, i: 1}
	}
	return value{kind: vBool}
}

func textValue(s string) value { return value{kind: vText, s: s} }

// valueAt reads row i of a vector.
func valueAt(v *Vector, i int) value {
	if v.Null(i) {
		return value{}
	}
	switch v.Type.Kind {
	case KindBoolean:
		return boolValue(v.Bools[i])
	case KindByte, KindShort, KindInteger:
		return value{kind: vInt, i: int64(v.Ints[i])}
	case KindDate:
		return value{kind: vDate, i: int64(v.Ints[i])}
	case KindLong:
		return value{kind: vInt, i: v.Longs[i]}
	case KindTimestamp, KindTimestampNTZ:
		return value{kind: vTime, i: v.Longs[i]}
	case KindFloat:
		return value{kind: vFloat, f: float64(v.Floats[i])}
	case KindDouble:
		return value{kind: vFloat, f: v.Doubles[i]}
	case KindDecimal:
		return value{kind: vDecimal, d: v.Decimals[i], scale: v.Type.Scale}
	case KindString, KindBinary:
		return textValue(v.StringAt(i))
	}
	return value{kind: vOther}
}

func (a value) negate() (value, bool) {
	switch a.kind {
	case vInt:
		a.i = -a.i
	case vFloat:
		a.f = -a.f
	case vDecimal:
		a.d = a.d.Neg()
	default:
		return a, false
	}
	return a, true
}

func (a value) float() float64 {
	switch a.kind {
	case vFloat:
		return a.f
	case vDecimal:
		f, _ := strconv.ParseFloat(a.d.Text(a.scale), 64)
		return f
	}
	return float64(a.i)
}

func (a value) rat() *big.Rat {
	if a.kind == vDecimal {
		return new(big.Rat).SetFrac(a.d.Big(), pow10(a.scale).Big())
	}
	return new(big.Rat).SetInt64(a.i)
}

// compare orders two values that are not null, as Spark does (NaN is the largest
// number); ok is false when the types do not compare.
func (a value) compare(b value) (int, bool) {
	num := func(k valueKind) bool { return k == vInt || k == vFloat || k == vDecimal }
	switch {
	case a.kind == b.kind && a.kind == vText:
		return strings.Compare(a.s, b.s), true
	case a.kind == b.kind && (a.kind == vInt || a.kind == vBool || a.kind == vDate || a.kind == vTime):
		return cmp.Compare(a.i, b.i), true
	case a.kind == vDate && b.kind == vTime:
		return cmp.Compare(a.i*86_400_000_000, b.i), true
	case a.kind == vTime && b.kind == vDate:
		return cmp.Compare(a.i, b.i*86_400_000_000), true
	case num(a.kind) && num(b.kind):
		if a.kind == vFloat || b.kind == vFloat {
			x, y := a.float(), b.float()
			switch {
			case math.IsNaN(x) && math.IsNaN(y):
				return 0, true
			case math.IsNaN(x):
				return 1, true
			case math.IsNaN(y):
				return -1, true
			case x < y:
				return -1, true
			case x > y:
				return 1, true
			}
			return 0, true
		}
		if a.kind == vDecimal && b.kind == vDecimal && a.scale == b.scale {
			return a.d.Cmp(b.d), true
		}
		return a.rat().Cmp(b.rat()), true
	case a.kind == vText && b.kind != vOther:
		if c, ok := a.castLike(b); ok {
			return c.compare(b)
		}
	case b.kind == vText && a.kind != vOther:
		if c, ok := b.castLike(a); ok {
			return a.compare(c)
		}
	}
	return 0, false
}

// castLike reads a text as the kind of b.
func (a value) castLike(b value) (value, bool) {
	switch b.kind {
	case vInt, vFloat, vDecimal:
		v, ok := numberValue(strings.TrimPrefix(strings.TrimSpace(a.s), "-"))
		if ok && strings.HasPrefix(strings.TrimSpace(a.s), "-") {
			v, ok = v.negate()
		}
		return v, ok
	case vDate:
		return a.cast(&Type{Kind: KindDate})
	case vTime:
		return a.cast(&Type{Kind: KindTimestamp})
	case vBool:
		return a.cast(&Type{Kind: KindBoolean})
	}
	return a, false
}

// text writes the value as Spark's CAST to string does.
func (a value) text() string {
	switch a.kind {
	case vBool:
		return strconv.FormatBool(a.i == 1)
	case vInt:
		return strconv.FormatInt(a.i, 10)
	case vFloat:
		return partitionFloat(a.f, 64)
	case vDecimal:
		return a.d.Text(a.scale)
	case vText:
		return a.s
	case vDate:
		return formatDate(a.i)
	case vTime:
		return time.UnixMicro(a.i).UTC().Format("2006-01-02 15:04:05.999999")
	}
	return "NULL"
}

// cast converts a value to a type; ok is false when it has no such value.
func (a value) cast(t *Type) (value, bool) {
	if a.kind == vNull {
		return a, true
	}
	switch t.Kind {
	case KindString, KindBinary:
		return textValue(a.text()), a.kind != vOther
	case KindBoolean:
		switch a.kind {
		case vBool:
			return a, true
		case vInt:
			return boolValue(a.i != 0), true
		case vText:
			b, err := strconv.ParseBool(strings.ToLower(strings.TrimSpace(a.s)))
			return boolValue(b), err == nil
		}
	case KindByte, KindShort, KindInteger, KindLong:
		return a.castInt(t)
	case KindFloat, KindDouble:
		v := value{kind: vFloat}
		switch a.kind {
		case vInt, vFloat, vDecimal, vBool:
			v.f = a.float()
		case vText:
			f, err := strconv.ParseFloat(strings.TrimSpace(a.s), 64)
			if err != nil {
				return v, false
			}
			v.f = f
		default:
			return v, false
		}
		if t.Kind == KindFloat {
			v.f = float64(float32(v.f))
		}
		return v, true
	case KindDecimal:
		if a.kind == vFloat && (math.IsNaN(a.f) || math.IsInf(a.f, 0)) || a.kind == vDate || a.kind == vTime || a.kind == vOther {
			return a, false
		}
		d, err := roundDecimal(a.text(), t.Precision, t.Scale)
		return value{kind: vDecimal, d: d, scale: t.Scale}, err == nil
	case KindDate:
		switch a.kind {
		case vDate:
			return a, true
		case vTime:
			return value{kind: vDate, i: floorDiv(a.i, 86_400_000_000)}, true
		case vText:
			s := strings.TrimSpace(a.s)
			if us, err := parseTimestamp(s); err == nil {
				return value{kind: vDate, i: floorDiv(us, 86_400_000_000)}, true
			}
		}
	case KindTimestamp, KindTimestampNTZ:
		switch a.kind {
		case vTime:
			return a, true
		case vDate:
			return value{kind: vTime, i: a.i * 86_400_000_000}, true
		case vText:
			us, err := parseTimestamp(strings.TrimSpace(a.s))
			return value{kind: vTime, i: us}, err == nil
		}
	}
	return a, false
}

func (a value) castInt(t *Type) (value, bool) {
	v := value{kind: vInt}
	switch a.kind {
	case vInt, vBool:
		v.i = a.i
	case vFloat:
		if math.IsNaN(a.f) || math.Abs(a.f) >= 9.3e18 {
			return v, false
		}
		v.i = int64(a.f)
	case vDecimal:
		b := a.d.Big()
		b.Quo(b, pow10(a.scale).Big())
		if !b.IsInt64() {
			return v, false
		}
		v.i = b.Int64()
	case vText:
		n, err := strconv.ParseInt(strings.TrimSpace(a.s), 10, 64)
		if err != nil {
			return v, false
		}
		v.i = n
	case vTime:
		v.i = floorDiv(a.i, 1_000_000)
	default:
		return v, false
	}
	switch t.Kind {
	case KindByte:
		return v, v.i == int64(int8(v.i))
	case KindShort:
		return v, v.i == int64(int16(v.i))
	case KindInteger:
		return v, v.i == int64(int32(v.i))
	}
	return v, true
}

// roundDecimal reads a number and rounds it half up to the scale.
func roundDecimal(s string, precision, scale int) (Decimal, error) {
	if d, err := ParseDecimal(s, precision, scale); err == nil {
		return d, nil
	}
	r, ok := new(big.Rat).SetString(s)
	if !ok || len(s) > 100 {
		return ParseDecimal(s, precision, scale)
	}
	return ParseDecimal(r.FloatString(scale), precision, scale)
}

// appendValue adds a scalar to a vector; it converts to the vector's type and
// reports whether that was possible.
func (v *Vector) appendValue(a value) bool {
	if a.kind == vNull {
		v.AppendNull()
		return true
	}
	c, ok := a.cast(v.Type)
	if !ok {
		return false
	}
	switch v.Type.Kind {
	case KindBoolean:
		v.AppendBool(c.i == 1)
	case KindByte, KindShort, KindInteger, KindDate:
		v.AppendInt(int32(c.i))
	case KindLong, KindTimestamp, KindTimestampNTZ:
		v.AppendLong(c.i)
	case KindFloat:
		v.AppendFloat(float32(c.f))
	case KindDouble:
		v.AppendDouble(c.f)
	case KindDecimal:
		v.AppendDecimal(c.d)
	case KindString, KindBinary:
		v.AppendString(c.s)
	default:
		return false
	}
	return true
}
