package deltalake

import (
	"fmt"
	"math/big"
	"math/bits"
	"strings"
)

// Decimal is the unscaled value of a decimal column, a 128-bit two's complement
// integer; the scale is the column type's. The zero value is 0.
type Decimal struct {
	Hi int64
	Lo uint64
}

// DecimalFromInt64 returns v as an unscaled value.
func DecimalFromInt64(v int64) Decimal { return Decimal{v >> 63, uint64(v)} }

// Cmp compares two unscaled values of the same scale: -1, 0 or 1.
func (d Decimal) Cmp(e Decimal) int {
	switch {
	case d.Hi < e.Hi, d.Hi == e.Hi && d.Lo < e.Lo:
		return -1
	case d == e:
		return 0
	}
	return 1
}

// Neg returns -d.
func (d Decimal) Neg() Decimal {
	lo, carry := bits.Add64(^d.Lo, 1, 0)
	return Decimal{int64(uint64(^d.Hi) + carry), lo}
}

// Big returns the unscaled value.
func (d Decimal) Big() *big.Int {
	neg := d.Hi < 0
	if neg {
		d = d.Neg()
	}
	b := new(big.Int).SetUint64(uint64(d.Hi))
	b.Lsh(b, 64).Or(b, new(big.Int).SetUint64(d.Lo))
	if neg {
		b.Neg(b)
	}
	return b
}

// decimalFromBig converts; ok is false when b needs more than 127 bits.
func decimalFromBig(b *big.Int) (Decimal, bool) {
	if b.BitLen() > 127 {
		return Decimal{}, false
	}
	var a big.Int
	a.Abs(b)
	lo := new(big.Int).And(&a, new(big.Int).SetUint64(^uint64(0))).Uint64()
	d := Decimal{int64(new(big.Int).Rsh(&a, 64).Uint64()), lo}
	if b.Sign() < 0 {
		d = d.Neg()
	}
	return d, true
}

// fits tells whether the unscaled value has at most precision digits.
func (d Decimal) fits(precision int) bool {
	if precision >= 38 {
		precision = 38
	}
	a := d
	if a.Hi < 0 {
		a = a.Neg()
	}
	return a.Hi >= 0 && a.Cmp(pow10(precision)) < 0
}

// pow10 returns 10^n for n up to 38.
func pow10(n int) Decimal {
	d := Decimal{0, 1}
	for range n {
		hi, lo := bits.Mul64(d.Lo, 10)
		d = Decimal{d.Hi*10 + int64(hi), lo}
	}
	return d
}

// Text writes the value with scale digits after the point.
func (d Decimal) Text(scale int) string {
	var s string
	if d.Hi == int64(d.Lo)>>63 {
		s = fmt.Sprint(int64(d.Lo))
	} else {
		s = d.Big().String()
	}
	if scale == 0 {
		return s
	}
	sign := ""
	if s[0] == '-' {
		sign, s = "-", s[1:]
	}
	if len(s) <= scale {
		s = strings.Repeat("0", scale-len(s)+1) + s
	}
	return sign + s[:len(s)-scale] + "." + s[len(s)-scale:]
}

// ParseDecimal reads a decimal number and brings it to the given scale. It fails
// when digits would be lost or the precision is exceeded.
func ParseDecimal(s string, precision, scale int) (Decimal, error) {
	text, exp := s, 0
	if i := strings.IndexAny(text, "eE"); i >= 0 {
		if _, err := fmt.Sscanf(text[i+1:], "%d", &exp); err != nil || exp > 1000 || exp < -1000 {
			return Decimal{}, fmt.Errorf("deltalake: %q is not a decimal", s)
		}
		text = text[:i]
	}
	whole, frac, _ := strings.Cut(text, ".")
	if whole == "" && frac == "" || len(text) > 200 || strings.ContainsAny(frac, "+-_") || strings.Contains(whole, "_") {
		return Decimal{}, fmt.Errorf("deltalake: %q is not a decimal", s)
	}
	b, ok := new(big.Int).SetString(whole+frac, 10)
	if !ok {
		return Decimal{}, fmt.Errorf("deltalake: %q is not a decimal", s)
	}
	shift := scale - len(frac) + exp
	p := new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(max(shift, -shift))), nil)
	if shift >= 0 {
		b.Mul(b, p)
	} else {
		var rest big.Int
		if b.QuoRem(b, p, &rest); rest.Sign() != 0 {
			return Decimal{}, fmt.Errorf("deltalake: %q has more than %d digits after the point", s, scale)
		}
	}
	d, ok := decimalFromBig(b)
	if !ok || !d.fits(precision) {
		return Decimal{}, fmt.Errorf("deltalake: %q does not fit decimal(%d,%d)", s, precision, scale)
	}
	return d, nil
}

// rescale brings an unscaled value from one scale to a larger or equal one; ok
// is false on overflow.
func (d Decimal) rescale(from, to int) (Decimal, bool) {
	if from == to {
		return d, true
	}
	if to < from {
		b := d.Big()
		p := pow10(from - to).Big()
		var rest big.Int
		b.QuoRem(b, p, &rest)
		out, ok := decimalFromBig(b)
		return out, ok && rest.Sign() == 0
	}
	return decimalFromBig(new(big.Int).Mul(d.Big(), pow10(to-from).Big()))
}

// decimalFromBytes reads a big-endian two's complement integer.
func decimalFromBytes(b []byte) (Decimal, bool) {
	for len(b) > 16 {
		if b[0] != 0 && b[0] != 0xff || (b[0] >= 0x80) != (b[1] >= 0x80) {
			return Decimal{}, false
		}
		b = b[1:]
	}
	var d Decimal
	if len(b) > 0 && b[0] >= 0x80 {
		d = Decimal{-1, ^uint64(0)}
	}
	for _, c := range b {
		d = Decimal{d.Hi<<8 | int64(d.Lo>>56), d.Lo<<8 | uint64(c)}
	}
	return d, true
}

// appendDecimal appends the low n bytes of d, big-endian.
func appendDecimal(dst []byte, d Decimal, n int) []byte {
	for i := n - 1; i >= 0; i-- {
		switch {
		case i >= 16:
			dst = append(dst, byte(d.Hi>>63))
		case i >= 8:
			dst = append(dst, byte(d.Hi>>(8*(i-8))))
		default:
			dst = append(dst, byte(d.Lo>>(8*i)))
		}
	}
	return dst
}

// decimalBytes returns the smallest fixed length that holds precision digits.
func decimalBytes(precision int) int {
	limit := pow10(min(precision, 38)).Big()
	for n := 1; ; n++ {
		if new(big.Int).Lsh(big.NewInt(1), uint(8*n-1)).Cmp(limit) >= 0 {
			return n
		}
	}
}
