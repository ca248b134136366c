package dataflow

import (
	"errors"
	"fmt"
	"math/big"
	"math/bits"
)

// MaxDecimalDigits is the most digits a Decimal holds, before and after the
// point together, and the most it holds after the point: what decimal(38, s) of
// Delta, Spark, Parquet and Avro holds.
const MaxDecimalDigits = 38

// ErrDecimalOverflow is wrapped by every error that says that a result needs
// more than 38 digits.
var ErrDecimalOverflow = errors.New("more than 38 digits")

// A Decimal is an exact decimal number: a 128-bit unscaled value of at most 38
// digits and a scale, the number of digits after the point, 0 to 38. It is for
// money: nothing here goes through a float or rounds unless its name says so, and
// a result that does not fit is an error that names the operands.
//
// The zero value is 0 with scale 0. Decimals are comparable, by representation:
// 1.5 and 1.50 are equal under Cmp and Equal but not under ==, and are two
// different keys of a map.
type Decimal struct {
	hi    int64 // high half of the two's complement
	lo    uint64
	scale int8
}

// DecimalFromInt returns v with no digits after the point.
func DecimalFromInt(v int64) Decimal { return Decimal{hi: v >> 63, lo: uint64(v)} }

// DecimalFromParts returns the number whose unscaled value is the two's
// complement hi, lo. It is the inverse of Parts.
func DecimalFromParts(hi int64, lo uint64, scale int) (Decimal, error) {
	if scale < 0 || scale > MaxDecimalDigits {
		return Decimal{}, fmt.Errorf("dataflow: decimal scale %d is outside 0..%d", scale, MaxDecimalDigits)
	}
	d := Decimal{hi, lo, int8(scale)}
	if d.tooLong() {
		return Decimal{}, fmt.Errorf("dataflow: decimal with unscaled value %s: %w", d.big(), ErrDecimalOverflow)
	}
	return d, nil
}

// Parts returns the unscaled value as two's complement halves.
func (d Decimal) Parts() (hi int64, lo uint64) { return d.hi, d.lo }

// Scale returns the number of digits after the point.
func (d Decimal) Scale() int { return int(d.scale) }

// Precision returns the number of digits of the unscaled value, at least 1.
func (d Decimal) Precision() int { return d.abs().digits() }

// Sign returns -1, 0 or 1.
func (d Decimal) Sign() int {
	if d.hi < 0 {
		return -1
	}
	if d.hi == 0 && d.lo == 0 {
		return 0
	}
	return 1
}

// IsZero reports whether d is 0, of any scale.
func (d Decimal) IsZero() bool { return d.hi == 0 && d.lo == 0 }

// Neg returns -d.
func (d Decimal) Neg() Decimal {
	lo, borrow := bits.Sub64(0, d.lo, 0)
	hi, _ := bits.Sub64(0, uint64(d.hi), borrow)
	return Decimal{int64(hi), lo, d.scale}
}

// Abs returns d without its sign.
func (d Decimal) Abs() Decimal {
	if d.hi < 0 {
		return d.Neg()
	}
	return d
}

// Add returns d + o with the larger of both scales.
func (d Decimal) Add(o Decimal) (Decimal, error) {
	if err := o.AddTo(&d); err != nil {
		return Decimal{}, err
	}
	return d, nil
}

// Sub returns d - o with the larger of both scales.
func (d Decimal) Sub(o Decimal) (Decimal, error) {
	sum := d
	if err := o.Neg().AddTo(&sum); err != nil {
		return Decimal{}, fmt.Errorf("dataflow: %s - %s: %w", d, o, ErrDecimalOverflow)
	}
	return sum, nil
}

// AddTo adds d to *sum, which takes the larger of both scales. On an error *sum
// is as before. It does not allocate.
func (d Decimal) AddTo(sum *Decimal) error {
	s, o := *sum, d
	if s.scale != o.scale {
		ok := true
		if s.scale < o.scale {
			s, ok = s.up(o.scale)
		} else {
			o, ok = o.up(s.scale)
		}
		if !ok {
			return d.addApart(sum)
		}
	}
	lo, carry := bits.Add64(s.lo, o.lo, 0)
	hi, _ := bits.Add64(uint64(s.hi), uint64(o.hi), carry)
	// Two numbers under 10^38 cannot leave 128 bits, so only the digits count.
	r := Decimal{int64(hi), lo, s.scale}
	if r.tooLong() {
		return addOverflow(*sum, d)
	}
	*sum = r
	return nil
}

// addApart adds numbers of which one has over 38 digits at the other's scale: with
// opposite signs the sum may still fit.
func (d Decimal) addApart(sum *Decimal) error {
	a, b, scale := sum.abs(), d.abs(), max(sum.scale, d.scale)
	a, ok := a.mul(pow10[scale-sum.scale])
	b, ok2 := b.mul(pow10[scale-d.scale])
	if !ok || !ok2 || (sum.hi < 0) == (d.hi < 0) {
		return addOverflow(*sum, d)
	}
	neg := sum.hi < 0
	if a.cmp(b) < 0 {
		a, b, neg = b, a, !neg
	}
	lo, borrow := bits.Sub64(a.lo, b.lo, 0)
	hi, _ := bits.Sub64(a.hi, b.hi, borrow)
	m := u128{hi, lo}
	if m.cmp(pow10[MaxDecimalDigits]) >= 0 {
		return addOverflow(*sum, d)
	}
	*sum = m.signed(neg, scale)
	return nil
}

func addOverflow(a, b Decimal) error {
	return fmt.Errorf("dataflow: %s + %s: %w", a, b, ErrDecimalOverflow)
}

// Mul returns d × o, exactly: the scales add up.
func (d Decimal) Mul(o Decimal) (Decimal, error) {
	m, ok := d.abs().mul(o.abs())
	scale := d.scale + o.scale
	if !ok || scale > MaxDecimalDigits || m.cmp(pow10[MaxDecimalDigits]) >= 0 {
		if m == (u128{}) && ok {
			return Decimal{scale: MaxDecimalDigits}, nil
		}
		return Decimal{}, fmt.Errorf("dataflow: %s × %s: %w", d, o, ErrDecimalOverflow)
	}
	return m.signed((d.hi < 0) != (o.hi < 0), scale), nil
}

// Quo returns d / o rounded to scale digits after the point, halves away from
// zero.
func (d Decimal) Quo(o Decimal, scale int) (Decimal, error) {
	if o.IsZero() {
		return Decimal{}, fmt.Errorf("dataflow: %s / %s: division by zero", d, o)
	}
	if scale < 0 || scale > MaxDecimalDigits {
		return Decimal{}, fmt.Errorf("dataflow: decimal scale %d is outside 0..%d", scale, MaxDecimalDigits)
	}
	num, den := d.Abs().big(), o.Abs().big()
	if shift := scale + int(o.scale) - int(d.scale); shift >= 0 {
		num.Mul(num, bigPow10(shift))
	} else {
		den.Mul(den, bigPow10(-shift))
	}
	q, r := num.QuoRem(num, den, new(big.Int))
	if r.Lsh(r, 1).Cmp(den) >= 0 {
		q.Add(q, big.NewInt(1))
	}
	if q.BitLen() > 127 {
		return Decimal{}, fmt.Errorf("dataflow: %s / %s with scale %d: %w", d, o, scale, ErrDecimalOverflow)
	}
	var b [16]byte
	q.FillBytes(b[:])
	m := u128{be64(b[:8]), be64(b[8:])}
	if m.cmp(pow10[MaxDecimalDigits]) >= 0 {
		return Decimal{}, fmt.Errorf("dataflow: %s / %s with scale %d: %w", d, o, scale, ErrDecimalOverflow)
	}
	return m.signed((d.hi < 0) != (o.hi < 0), int8(scale)), nil
}

// Cmp returns -1, 0 or 1 as d is less than, equal to or greater than o in value.
func (d Decimal) Cmp(o Decimal) int {
	if d.scale != o.scale {
		var ok bool
		// A number that cannot be brought to the other's scale is the larger one in
		// absolute value, for the other has at most 38 digits there.
		if d.scale < o.scale {
			s := d.Sign()
			if d, ok = d.up(o.scale); !ok {
				return s
			}
		} else {
			s := o.Sign()
			if o, ok = o.up(d.scale); !ok {
				return -s
			}
		}
	}
	switch {
	case d.hi < o.hi, d.hi == o.hi && d.lo < o.lo:
		return -1
	case d.hi == o.hi && d.lo == o.lo:
		return 0
	}
	return 1
}

// Equal reports whether d and o have the same value, whatever their scales.
func (d Decimal) Equal(o Decimal) bool { return d.Cmp(o) == 0 }

// Rescale returns d with scale digits after the point, exactly: it is an error if
// digits other than zeros would be cut off.
func (d Decimal) Rescale(scale int) (Decimal, error) {
	r, exact, err := d.rescale(scale)
	if err == nil && !exact {
		return Decimal{}, fmt.Errorf("dataflow: %s does not fit in %d digits after the point: use Round", d, scale)
	}
	return r, err
}

// Round returns d with scale digits after the point, halves rounded away from
// zero.
func (d Decimal) Round(scale int) (Decimal, error) {
	r, _, err := d.rescale(scale)
	return r, err
}

func (d Decimal) rescale(scale int) (r Decimal, exact bool, err error) {
	switch {
	case scale < 0 || scale > MaxDecimalDigits:
		return Decimal{}, false, fmt.Errorf("dataflow: decimal scale %d is outside 0..%d", scale, MaxDecimalDigits)
	case scale == int(d.scale):
		return d, true, nil
	case scale > int(d.scale):
		r, ok := d.up(int8(scale))
		if !ok {
			return Decimal{}, false, fmt.Errorf("dataflow: %s with %d digits after the point: %w", d, scale, ErrDecimalOverflow)
		}
		return r, true, nil
	}
	m, up, exact := d.abs().down(int(d.scale) - scale)
	if up {
		m, _ = m.add64(1)
	}
	return m.signed(d.hi < 0, int8(scale)), exact, nil
}

// up returns d with a larger scale; ok is false when that takes more than 38
// digits.
func (d Decimal) up(scale int8) (r Decimal, ok bool) {
	if d.IsZero() {
		return Decimal{scale: scale}, true
	}
	p := pow10[scale-d.scale]
	if p.hi == 0 && d.hi == 0 {
		if hi, lo := bits.Mul64(d.lo, p.lo); hi < maxHi {
			return Decimal{int64(hi), lo, scale}, true
		}
	}
	m, ok := d.abs().mul(p)
	if !ok || m.cmp(pow10[MaxDecimalDigits]) >= 0 {
		return Decimal{}, false
	}
	return m.signed(d.hi < 0, scale), true
}

// FromUnscaled returns the number whose unscaled value is b, big-endian two's
// complement of any length: the form of Avro and Parquet.
func FromUnscaled(b []byte, scale int) (Decimal, error) {
	var hi, lo uint64
	if len(b) > 0 && b[0]&0x80 != 0 {
		hi, lo = ^uint64(0), ^uint64(0)
	}
	if len(b) > 16 {
		for _, c := range b[:len(b)-16] {
			if c != byte(hi) {
				return Decimal{}, fmt.Errorf("dataflow: decimal with an unscaled value of %d bytes: %w", len(b), ErrDecimalOverflow)
			}
		}
		if (b[len(b)-16]^byte(hi))&0x80 != 0 {
			return Decimal{}, fmt.Errorf("dataflow: decimal with an unscaled value of %d bytes: %w", len(b), ErrDecimalOverflow)
		}
		b = b[len(b)-16:]
	}
	for _, c := range b {
		hi = hi<<8 | lo>>56
		lo = lo<<8 | uint64(c)
	}
	return DecimalFromParts(int64(hi), lo, scale)
}

// Unscaled returns the unscaled value as big-endian two's complement in as few
// bytes as hold it, at least one.
func (d Decimal) Unscaled() []byte { return d.AppendUnscaled(nil) }

// AppendUnscaled appends what Unscaled returns.
func (d Decimal) AppendUnscaled(dst []byte) []byte {
	b := d.unscaled16()
	i := 0
	for i < 15 && (b[i] == 0 && b[i+1] < 0x80 || b[i] == 0xff && b[i+1] >= 0x80) {
		i++
	}
	return append(dst, b[i:]...)
}

// unscaled16 returns the unscaled value as big-endian two's complement of 16
// bytes; its last n bytes are the n-byte form where that holds the value.
func (d Decimal) unscaled16() (b [16]byte) {
	putBE64(b[:8], uint64(d.hi))
	putBE64(b[8:], d.lo)
	return b
}

// maxHi is the high half of 10^38: numbers below it there have at most 38 digits.
const maxHi = 0x4b3b4ca85a86c47a

func (d Decimal) tooLong() bool {
	if d.hi < maxHi && d.hi > -maxHi {
		return false
	}
	return d.abs().cmp(pow10[MaxDecimalDigits]) >= 0
}

func (d Decimal) abs() u128 {
	if d.hi < 0 {
		d = d.Neg()
	}
	return u128{uint64(d.hi), d.lo}
}

func (d Decimal) big() *big.Int {
	m := d.abs()
	v := new(big.Int).SetUint64(m.hi)
	v.Lsh(v, 64).Or(v, new(big.Int).SetUint64(m.lo))
	if d.hi < 0 {
		v.Neg(v)
	}
	return v
}

func bigPow10(n int) *big.Int {
	return new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(n)), nil)
}
