package kernel

import (
	"hash/crc32"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"
	"time"
)

type pairKey struct {
	A string
	_ int32
	B int16
	C [2]bool
	D string
}

type flatKey struct {
	A int32
	B uint64
}

// A key comes back from its encoding, and its hash is CRC32C over the encoding,
// mixed, whatever path computes it.
func TestKeyEncoding(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	str := func() string { return strings.Repeat("x", r.IntN(100)) + string(rune('a'+r.IntN(26))) }
	for range 500 {
		checkKey(t, r.Int64())
		checkKey(t, r.Int32())
		checkKey(t, uint8(r.IntN(256)))
		checkKey(t, r.IntN(2) == 0)
		checkKey(t, str())
		checkKey(t, pairKey{A: str(), B: int16(r.IntN(9)), C: [2]bool{r.IntN(2) == 0}, D: str()})
		checkKey(t, flatKey{r.Int32(), r.Uint64()})
		checkKey(t, [2]string{str(), str()})
	}
}

func checkKey[K comparable](t *testing.T, k K) {
	t.Helper()
	c, err := newKeyCoder[K]()
	if err != nil {
		t.Fatal(err)
	}
	b := c.append(nil, k)
	if got, ok := c.decode(b); !ok || got != k {
		t.Fatalf("%#v decodes as %#v, %v", k, got, ok)
	}
	if got, want := c.hash(k), mix(crc32.Checksum(b, castagnoli)); got != want {
		t.Fatalf("hash of %#v = %x, want %x", k, got, want)
	}
	for i := range b {
		if got, ok := c.decode(b[:i]); ok && got == k && c.shape != shapeString {
			t.Fatalf("%#v decodes from a prefix", k)
		}
	}
}

// Hashes are part of the format: these never change.
func TestHashIsStable(t *testing.T) {
	i, _ := HasherOf[int64]()
	s, _ := HasherOf[string]()
	f, _ := HasherOf[flatKey]()
	got := []uint32{i(42), s("weir"), s(""), f(flatKey{1, 2})}
	want := []uint32{0xf8f7333e, 0x46707efb, 0x0, 0xe23f435a}
	if !reflect.DeepEqual(got, want) {
		t.Fatalf("got %#x, want %#x", got, want)
	}
}

func TestKeyRefusals(t *testing.T) {
	type in struct{ Price float64 }
	_, e1 := HasherOf[struct{ X in }]()
	_, e2 := HasherOf[*int]()
	_, e3 := HasherOf[struct{ At time.Time }]()
	_, e4 := HasherOf[[2]any]()
	for i, e := range []error{e1, e2, e3, e4} {
		want := []string{"X.Price (float64)", "pointer", "UnixMicro", "interface"}[i]
		if e == nil || !strings.Contains(e.Error(), want) {
			t.Errorf("got %v, want it to name %q", e, want)
		}
	}
}

func BenchmarkHash(b *testing.B) {
	i, _ := HasherOf[int64]()
	s, _ := HasherOf[string]()
	f, _ := HasherOf[pairKey]()
	long := strings.Repeat("k", 80)
	var sink uint32
	b.Run("int64", func(b *testing.B) {
		n := int64(0)
		for b.Loop() {
			n++
			sink += i(n)
		}
	})
	b.Run("string20", func(b *testing.B) {
		for b.Loop() {
			sink += s(long[:20])
		}
	})
	b.Run("string80", func(b *testing.B) {
		for b.Loop() {
			sink += s(long)
		}
	})
	b.Run("struct", func(b *testing.B) {
		b.ReportAllocs()
		k := pairKey{A: "abcdefgh", D: "xyz"}
		for b.Loop() {
			sink += f(k)
		}
	})
}
