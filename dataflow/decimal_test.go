package dataflow

import (
	"encoding/json"
	"errors"
	"math/big"
	"math/rand/v2"
	"strings"
	"testing"
)

var limit = bigPow10(38)

// randDecimal draws lengths, signs and scales evenly, with the edges of the halves
// and of 38 digits among them.
func randDecimal(r *rand.Rand) Decimal {
	v := new(big.Int)
	switch r.IntN(8) {
	case 0:
		v.SetUint64(r.Uint64N(100))
	case 1:
		v.Sub(limit, big.NewInt(1+r.Int64N(3)))
	case 2:
		v.Lsh(big.NewInt(1), uint(r.IntN(126))).Add(v, big.NewInt(r.Int64N(3)-1))
	case 3:
		v.Set(bigPow10(r.IntN(38)))
	default:
		n := 1 + r.IntN(38)
		for range n {
			v.Mul(v, big.NewInt(10)).Add(v, big.NewInt(r.Int64N(10)))
		}
	}
	if r.IntN(2) == 0 {
		v.Neg(v)
	}
	d, err := fromBig(v, r.IntN(39))
	if err != nil {
		panic(err)
	}
	return d
}

// fromBig goes through the bytes of FromUnscaled.
func fromBig(v *big.Int, scale int) (Decimal, error) {
	b := new(big.Int).And(v, new(big.Int).Sub(new(big.Int).Lsh(big.NewInt(1), 256), big.NewInt(1)))
	return FromUnscaled(b.FillBytes(make([]byte, 32)), scale)
}

// rat is d as a fraction.
func rat(d Decimal) *big.Rat { return new(big.Rat).SetFrac(d.big(), bigPow10(d.Scale())) }

// fits says whether v with that scale is a Decimal.
func fits(v *big.Rat, scale int) bool {
	n := new(big.Rat).Mul(v, new(big.Rat).SetInt(bigPow10(scale)))
	return n.IsInt() && new(big.Int).Abs(n.Num()).Cmp(limit) < 0 && scale <= 38
}

// Every operation agrees with fractions of unbounded size, and fails exactly
// where the result has no 38-digit form.
func TestDecimalAgainstBig(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 20_000 {
		a, b := randDecimal(r), randDecimal(r)
		x, y := rat(a), rat(b)
		scale := max(a.Scale(), b.Scale())
		check := func(op string, got Decimal, err error, want *big.Rat, scale int) {
			t.Helper()
			if !fits(want, scale) {
				if err == nil || !errors.Is(err, ErrDecimalOverflow) {
					t.Fatalf("%s %s %s = %s, %v, want an overflow", a, op, b, got, err)
				}
				if !strings.Contains(err.Error(), a.String()) {
					t.Fatalf("%s %s %s: error %q does not name the operands", a, op, b, err)
				}
				return
			}
			if err != nil || rat(got).Cmp(want) != 0 || got.Scale() != scale {
				t.Fatalf("%s %s %s = %s (scale %d), %v, want %s (scale %d)", a, op, b, got, got.Scale(), err, want, scale)
			}
		}
		got, err := a.Add(b)
		check("+", got, err, new(big.Rat).Add(x, y), scale)
		got, err = a.Sub(b)
		check("-", got, err, new(big.Rat).Sub(x, y), scale)
		if !a.IsZero() && !b.IsZero() {
			got, err = a.Mul(b)
			check("×", got, err, new(big.Rat).Mul(x, y), a.Scale()+b.Scale())
			got, err = a.Quo(b, scale)
			check("/", got, err, roundRat(new(big.Rat).Quo(x, y), scale), scale)
		}
		if got, want := a.Cmp(b), x.Cmp(y); got != want {
			t.Fatalf("%s.Cmp(%s) = %d, want %d", a, b, got, want)
		}
		if got, want := a.Sign(), x.Sign(); got != want {
			t.Fatalf("%s.Sign() = %d, want %d", a, got, want)
		}
		to := r.IntN(39)
		got, err = a.Round(to)
		check("round", got, err, roundRat(x, to), to)
		if got, err = a.Rescale(to); (err == nil) != fits(x, to) || err == nil && rat(got).Cmp(x) != 0 {
			t.Fatalf("%s.Rescale(%d) = %s, %v", a, to, got, err)
		}
		if got, want := a.Precision(), max(1, len(a.Abs().big().String())); got != want {
			t.Fatalf("%s.Precision() = %d, want %d", a, got, want)
		}
		if got := rat(a.Neg()); got.Cmp(new(big.Rat).Neg(x)) != 0 {
			t.Fatalf("%s.Neg() = %s", a, got)
		}
	}
}

func roundRat(v *big.Rat, scale int) *big.Rat {
	n := new(big.Rat).Mul(new(big.Rat).Abs(v), new(big.Rat).SetInt(bigPow10(scale)))
	n.Add(n, big.NewRat(1, 2))
	q := new(big.Int).Quo(n.Num(), n.Denom())
	out := new(big.Rat).SetFrac(q, bigPow10(scale))
	if v.Sign() < 0 {
		out.Neg(out)
	}
	return out
}

// Text, JSON and bytes bring back the very same representation.
func TestDecimalRoundTrip(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	for range 20_000 {
		d := randDecimal(r)
		if got, err := ParseDecimal(d.String()); err != nil || got != d {
			t.Fatalf("ParseDecimal(%q) = %s, %v", d, got, err)
		}
		b := d.Unscaled()
		if got, err := FromUnscaled(b, d.Scale()); err != nil || got != d {
			t.Fatalf("FromUnscaled(%x, %d) = %s, %v, want %s", b, d.Scale(), got, err, d)
		}
		if len(b) > 1 && (b[0] == 0 && b[1] < 0x80 || b[0] == 0xff && b[1] >= 0x80) {
			t.Fatalf("Unscaled of %s is %x: not the shortest", d, b)
		}
		if got, err := DecimalFromParts(d.hi, d.lo, d.Scale()); err != nil || got != d {
			t.Fatalf("DecimalFromParts of %s = %s, %v", d, got, err)
		}
	}
	type row struct {
		A Decimal             `json:"a"`
		B *Decimal            `json:"b"`
		M map[Decimal]Decimal `json:"m"`
	}
	var v row
	in := `{"a":"-12.50","b":0.1000000000000000000000000000000000001,"m":{"1.0":2}}`
	if err := json.Unmarshal([]byte(in), &v); err != nil {
		t.Fatal(err)
	}
	out, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	if want := strings.ReplaceAll(in, `"-12.50"`, `-12.50`); string(out) != want {
		t.Errorf("JSON came back as %s, want %s", out, want)
	}
}

func TestParseDecimal(t *testing.T) {
	nines := strings.Repeat("9", 38)
	for _, tt := range []struct{ in, want string }{
		{"0", "0"}, {"-0", "0"}, {"-0.00", "0.00"}, {"+1", "1"}, {".5", "0.5"}, {"5.", "5"},
		{"1.50", "1.50"}, {"007", "7"}, {"1e3", "1000"}, {"1.5E+2", "150"}, {"1e-3", "0.001"},
		{"12.5e1", "125"}, {"0e999999999999", "0"}, {"0e-9", "0.000000000"},
		{nines, nines}, {"-" + nines, "-" + nines}, {"0." + nines, "0." + nines},
		{"18446744073709551615", "18446744073709551615"}, {"18446744073709551616", "18446744073709551616"},
		{"1e37", "1" + strings.Repeat("0", 37)}, {strings.Repeat("0", 60) + "1", "1"},
	} {
		if got, err := ParseDecimal(tt.in); err != nil || got.String() != tt.want {
			t.Errorf("ParseDecimal(%q) = %s, %v, want %s", tt.in, got, err, tt.want)
		}
	}
	for _, in := range []string{
		"", "-", "+", ".", "e", "1e", "1e+", "1.2.3", "1,5", " 1", "1 ", "0x1", "NaN", "Inf", "--1", "1e1.5", "1_000",
		"1e38", nines + "0", "1e-39", "0." + nines + "1", "1e99999999999999999999",
	} {
		if got, err := ParseDecimal(in); err == nil {
			t.Errorf("ParseDecimal(%q) = %s, want an error", in, got)
		}
	}
}

func TestDecimalAddTo(t *testing.T) {
	var sum Decimal
	price := MustParseDecimal("0.10")
	if n := testing.AllocsPerRun(100, func() {
		if err := price.AddTo(&sum); err != nil {
			t.Fatal(err)
		}
	}); n != 0 {
		t.Errorf("AddTo allocates %v times", n)
	}
	sum = MustParseDecimal(strings.Repeat("9", 38))
	before := sum
	err := DecimalFromInt(1).AddTo(&sum)
	if !errors.Is(err, ErrDecimalOverflow) || sum != before {
		t.Errorf("AddTo past the limit: %v, sum %s", err, sum)
	}
	if want := "dataflow: " + before.String() + " + 1: more than 38 digits"; err.Error() != want {
		t.Errorf("error %q, want %q", err, want)
	}
}

func FuzzDecimal(f *testing.F) {
	for _, s := range []string{"0", "-1.50", "1e-3", "99999999999999999999999999999999999999", "1e38", "x"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		d, err := ParseDecimal(s)
		if err != nil {
			return
		}
		want, ok := new(big.Rat).SetString(strings.TrimPrefix(s, "+"))
		if !ok && d.IsZero() {
			return // an exponent that big does not take
		}
		if !ok || rat(d).Cmp(want) != 0 {
			t.Fatalf("ParseDecimal(%q) = %s", s, d)
		}
		if back, err := ParseDecimal(d.String()); err != nil || back != d {
			t.Fatalf("ParseDecimal(%q) = %s, %v", d.String(), back, err)
		}
	})
}

func BenchmarkDecimal(b *testing.B) {
	sum, x := Decimal{}, MustParseDecimal("1234.56")
	b.Run("AddTo", func(b *testing.B) {
		for b.Loop() {
			_ = x.AddTo(&sum)
		}
	})
	b.Run("Parse", func(b *testing.B) {
		for b.Loop() {
			_, _ = ParseDecimal("1234.56")
		}
	})
	b.Run("Append", func(b *testing.B) {
		var buf []byte
		for b.Loop() {
			buf = x.Append(buf[:0])
		}
	})
}
