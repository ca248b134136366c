package dataflow

import (
	"encoding/binary"
	"math/bits"
)

// u128 is an absolute value.
type u128 struct{ hi, lo uint64 }

// pow10 holds 10^0 to 10^38.
var pow10 = func() (p [MaxDecimalDigits + 1]u128) {
	p[0].lo = 1
	for i := 1; i < len(p); i++ {
		p[i], _ = p[i-1].mul(u128{0, 10})
	}
	return p
}()

func (a u128) cmp(b u128) int {
	switch {
	case a == b:
		return 0
	case a.hi < b.hi, a.hi == b.hi && a.lo < b.lo:
		return -1
	}
	return 1
}

func (a u128) add64(b uint64) (r u128, ok bool) {
	lo, c := bits.Add64(a.lo, b, 0)
	hi, c := bits.Add64(a.hi, 0, c)
	return u128{hi, lo}, c == 0
}

func (a u128) mul(b u128) (r u128, ok bool) {
	hi, lo := bits.Mul64(a.lo, b.lo)
	if a.hi == 0 && b.hi == 0 {
		return u128{hi, lo}, true
	}
	if a.hi != 0 && b.hi != 0 {
		return u128{}, false
	}
	over, mid := bits.Mul64(a.hi, b.lo)
	if a.hi == 0 {
		over, mid = bits.Mul64(b.hi, a.lo)
	}
	hi, carry := bits.Add64(hi, mid, 0)
	return u128{hi, lo}, over == 0 && carry == 0
}

func (a u128) divmod64(b uint64) (q u128, r uint64) {
	q.hi, r = a.hi/b, a.hi%b
	q.lo, r = bits.Div64(r, a.lo, b)
	return q, r
}

// down divides by 10^n; up says that the rest is at least half of that, exact
// that there is none.
func (a u128) down(n int) (q u128, up, exact bool) {
	exact = true
	for n > 1 {
		k := min(n-1, 19)
		var r uint64
		a, r = a.divmod64(pow10[k].lo)
		exact = exact && r == 0
		n -= k
	}
	q, r := a.divmod64(10)
	return q, r >= 5, exact && r == 0
}

// digits returns the number of decimal digits, at least 1.
func (a u128) digits() int {
	n := 1
	for n < len(pow10) && a.cmp(pow10[n]) >= 0 {
		n++
	}
	return n
}

func (a u128) signed(neg bool, scale int8) Decimal {
	d := Decimal{int64(a.hi), a.lo, scale}
	if neg {
		return d.Neg()
	}
	return d
}

func be64(b []byte) uint64       { return binary.BigEndian.Uint64(b) }
func putBE64(b []byte, v uint64) { binary.BigEndian.PutUint64(b, v) }
