package kernel

import (
	"math/rand/v2"
	"slices"
	"testing"
)

// radixSort is a stable sort by the upper half.
func TestRadixSort(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	for round := range 60 {
		n := r.IntN(3000)
		words := make([]uint64, n)
		for i := range words {
			h := r.Uint32()
			if round%3 == 0 {
				h &= 0xff00ff
			}
			words[i] = uint64(h)<<32 | uint64(i)
		}
		want := slices.Clone(words)
		slices.Sort(want)
		if got := radixSort(words, make([]uint64, n)); !slices.Equal(got, want) {
			t.Fatalf("round %d: wrong order of %d words", round, n)
		}
	}
}

func BenchmarkRadixSort(b *testing.B) {
	r := rand.New(rand.NewPCG(3, 4))
	src := make([]uint64, 1<<20)
	for i := range src {
		src[i] = uint64(r.Uint32())<<32 | uint64(i)
	}
	words, scratch := make([]uint64, len(src)), make([]uint64, len(src))
	for b.Loop() {
		copy(words, src)
		radixSort(words, scratch)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(len(src)), "ns/row")
}
