package dataflow

import (
	"fmt"
	"strconv"
)

// ParseDecimal reads an optional sign, digits with an optional point, and an
// optional exponent: "12.50", "-.5", "1e-3". Digits after the point are kept, so
// "12.50" has scale 2.
func ParseDecimal(s string) (Decimal, error) {
	i, neg := 0, false
	if len(s) > 0 && (s[0] == '-' || s[0] == '+') {
		neg = s[0] == '-'
		i++
	}
	// Up to 19 digits are gathered in chunk before they join m.
	var m u128
	var chunk, chunkPow uint64 = 0, 1
	digits, scale, point, ok := 0, 0, false, true
	for ; i < len(s); i++ {
		c := s[i]
		if c == '.' && !point {
			point = true
			continue
		}
		if c -= '0'; c > 9 {
			break
		}
		digits++
		if point {
			scale++
		}
		if chunkPow == 1e19 {
			if m, ok = m.mulAdd(chunkPow, chunk); !ok {
				return Decimal{}, tooManyDigits(s)
			}
			chunk, chunkPow = 0, 1
		}
		chunk = chunk*10 + uint64(c)
		chunkPow *= 10
	}
	if digits == 0 {
		return Decimal{}, notDecimal(s)
	}
	if m, ok = m.mulAdd(chunkPow, chunk); !ok {
		return Decimal{}, tooManyDigits(s)
	}
	if i < len(s) {
		exp, ok := parseExponent(s[i:])
		if !ok {
			return Decimal{}, notDecimal(s)
		}
		scale -= exp
	}
	if m == (u128{}) {
		return Decimal{scale: int8(max(0, min(scale, MaxDecimalDigits)))}, nil
	}
	if scale < 0 {
		if scale < -MaxDecimalDigits {
			return Decimal{}, tooManyDigits(s)
		}
		if m, ok = m.mul(pow10[-scale]); !ok {
			return Decimal{}, tooManyDigits(s)
		}
		scale = 0
	}
	if scale > MaxDecimalDigits || m.hi >= maxHi && m.cmp(pow10[MaxDecimalDigits]) >= 0 {
		return Decimal{}, tooManyDigits(s)
	}
	return m.signed(neg, int8(scale)), nil
}

// MustParseDecimal is ParseDecimal for constants in code and tests: it panics on
// what is not a decimal.
func MustParseDecimal(s string) Decimal {
	d, err := ParseDecimal(s)
	if err != nil {
		panic(err)
	}
	return d
}

func (a u128) mulAdd(f, add uint64) (u128, bool) {
	if a == (u128{}) {
		return u128{0, add}, true
	}
	p, ok := a.mul(u128{0, f})
	r, ok2 := p.add64(add)
	return r, ok && ok2
}

// parseExponent reads "e-12"; beyond ±10000 it stops counting.
func parseExponent(s string) (exp int, ok bool) {
	if s[0] != 'e' && s[0] != 'E' {
		return 0, false
	}
	s = s[1:]
	neg := false
	if len(s) > 0 && (s[0] == '-' || s[0] == '+') {
		neg = s[0] == '-'
		s = s[1:]
	}
	for i := range len(s) {
		c := s[i] - '0'
		if c > 9 {
			return 0, false
		}
		if exp < 10000 {
			exp = exp*10 + int(c)
		}
	}
	if neg {
		exp = -exp
	}
	return exp, len(s) > 0
}

func notDecimal(s string) error {
	return fmt.Errorf("dataflow: %q is not a decimal number: want digits, at most one point and an optional exponent", shorten(s))
}

func tooManyDigits(s string) error {
	return fmt.Errorf("dataflow: decimal %q: %w", shorten(s), ErrDecimalOverflow)
}

func shorten(s string) string {
	if len(s) > 80 {
		return s[:77] + "..."
	}
	return s
}

// String returns d in digits, with as many after the point as its scale says.
func (d Decimal) String() string {
	var b [MaxDecimalDigits + 8]byte
	return string(d.Append(b[:0]))
}

// Append appends what String returns.
func (d Decimal) Append(dst []byte) []byte {
	m, scale := d.abs(), int(d.scale)
	if d.hi < 0 {
		dst = append(dst, '-')
	}
	var b [MaxDecimalDigits + 8]byte
	i := len(b)
	put := func(v uint64) { // least significant first
		for v > 0 {
			i--
			b[i] = byte('0' + v%10)
			v /= 10
		}
	}
	if m.hi == 0 {
		put(m.lo)
	} else {
		q, r := m.divmod64(1e19)
		put(r)
		for i > len(b)-19 {
			i--
			b[i] = '0'
		}
		put(q.lo) // below 10^19, as m is below 10^38
	}
	for len(b)-i <= scale {
		i--
		b[i] = '0'
	}
	if scale == 0 {
		return append(dst, b[i:]...)
	}
	dst = append(dst, b[i:len(b)-scale]...)
	dst = append(dst, '.')
	return append(dst, b[len(b)-scale:]...)
}

// MarshalText returns what String returns.
func (d Decimal) MarshalText() ([]byte, error) { return d.Append(nil), nil }

// UnmarshalText is ParseDecimal.
func (d *Decimal) UnmarshalText(b []byte) error {
	v, err := ParseDecimal(string(b))
	if err != nil {
		return err
	}
	*d = v
	return nil
}

// MarshalJSON returns d as a number literal with all its digits.
func (d Decimal) MarshalJSON() ([]byte, error) { return d.Append(nil), nil }

// UnmarshalJSON reads a number literal, or a string that holds one, digit by
// digit. null leaves d alone.
func (d *Decimal) UnmarshalJSON(b []byte) error {
	if string(b) == "null" {
		return nil
	}
	s := string(b)
	if len(b) > 0 && b[0] == '"' {
		u, err := strconv.Unquote(s)
		if err != nil {
			return notDecimal(s)
		}
		s = u
	}
	v, err := ParseDecimal(s)
	if err != nil {
		return err
	}
	*d = v
	return nil
}
