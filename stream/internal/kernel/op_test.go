package kernel

import (
	"fmt"
	"iter"
	"math/rand/v2"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/weirstream/weir/dataflow"
	"github.com/weirstream/weir/stream/spi"
)

// roomHost is a host with a given room per port, which collects what is sent.
type roomHost struct {
	spi.Host
	room []int
	sent [][]string // "value@time" per port
}

func (h *roomHost) Room(p int) int { return h.room[p] }

func (h *roomHost) Send(p int, b spi.Batch) spi.Batch {
	h.room[p] -= b.Len()
	switch rows := b.(type) {
	case *Rows[int]:
		for i, v := range rows.Values {
			h.sent[p] = append(h.sent[p], fmt.Sprint(v, "@", rows.Meta.Times[i]))
		}
	case *Rows[string]:
		for i, v := range rows.Values {
			h.sent[p] = append(h.sent[p], fmt.Sprint(v, "@", rows.Meta.Times[i]))
		}
	}
	b.Reset()
	return b
}

func (h *roomHost) Count(string, int64) {}

// drive runs batches through a runner that is given room at random, and checks
// that no more rows leave than there was room for.
func drive(t *testing.T, rng *rand.Rand, r spi.Runner, batches []*Rows[int]) []string {
	t.Helper()
	h := &roomHost{room: []int{0}, sent: [][]string{nil}}
	if err := r.Open(h, nil); err != nil {
		t.Fatal(err)
	}
	for _, b := range batches {
		for from := 0; from < b.Len(); {
			h.room[0] = rng.IntN(5)
			n, err := r.Step(0, b, from)
			if err != nil {
				t.Fatal(err)
			}
			if h.room[0] < 0 {
				t.Fatalf("%d rows more than there was room for", -h.room[0])
			}
			if from += n; n == 0 && h.room[0] > 0 {
				t.Fatal("nothing consumed although there is room")
			}
		}
	}
	return h.sent[0]
}

func intBatches(rng *rand.Rand) (batches []*Rows[int]) {
	for i := range rng.IntN(5) + 1 {
		b := NewRows[int](0)
		for j := range rng.IntN(20) {
			b.Add(rng.IntN(7), int64(100*i+j))
		}
		batches = append(batches, b)
	}
	return batches
}

// Whatever the room, an operator's output is that of its function over all rows.
func TestStepsAreResumable(t *testing.T) {
	for seed := range uint64(300) {
		rng := rand.New(rand.NewPCG(seed, 1))
		batches := intBatches(rng)
		var mapped, kept, flat []string
		for _, b := range batches {
			for i, v := range b.Values {
				at := b.Meta.Times[i]
				mapped = append(mapped, fmt.Sprint(v*2, "@", at))
				if v%2 == 0 {
					kept = append(kept, fmt.Sprint(v, "@", at))
				}
				for k := range v {
					flat = append(flat, fmt.Sprint(k, "@", at))
				}
			}
		}
		check := func(name string, r spi.Runner, want []string) {
			if got := drive(t, rng, r, batches); !slices.Equal(got, want) {
				t.Fatalf("seed %d: %s gave %v, want %v", seed, name, got, want)
			}
		}
		check("map", NewMap(func(v int) int { return v * 2 }), mapped)
		check("filter", NewFilter(func(v int) bool { return v%2 == 0 }), kept)
		check("flatmap", NewFlatMap(func(v int) iter.Seq[int] {
			return func(yield func(int) bool) {
				for k := range v {
					if !yield(k) {
						return
					}
				}
			}
		}), flat)
	}
}

// A flatmap that is abandoned inside a row leaves no coroutine behind.
func TestAbandonedFlatMap(t *testing.T) {
	ended := make(chan bool, 1)
	func() {
		r := NewFlatMap(func(v int) iter.Seq[int] {
			return func(yield func(int) bool) {
				defer func() { ended <- true }()
				for yield(v) {
				}
			}
		})
		h := &roomHost{room: []int{3}, sent: [][]string{nil}}
		if err := r.Open(h, nil); err != nil {
			t.Fatal(err)
		}
		b := NewRows[int](1)
		b.Add(1, 0)
		if n, err := r.Step(0, b, 0); n != 0 || err != nil {
			t.Fatal(n, err)
		}
	}()
	deadline := time.After(time.Minute)
	for {
		runtime.GC()
		select {
		case <-ended:
			return
		case <-deadline:
			t.Fatal("the sequence was never ended")
		default:
			runtime.Gosched()
		}
	}
}

// Rows keep their lengths in step and hold no pointers behind their end.
func TestRows(t *testing.T) {
	b := NewRows[*int](2)
	v := 1
	b.Add(&v, 5)
	b.Add(&v, 6)
	b.Meta.Hashes = append(b.Meta.Hashes, 1, 2)
	c := b.New(0)
	c.Append(b, 1, 2)
	if c.Len() != 1 || c.Head().Times[0] != 6 || len(c.Head().Hashes) != 1 {
		t.Errorf("append gave %+v", c)
	}
	b.Truncate(1)
	if b.Values[:2][1] != nil || len(b.Meta.Times) != 1 || len(b.Meta.Hashes) != 1 {
		t.Errorf("truncate gave %+v", b)
	}
	b.Extend(3)
	if b.Len() != 4 || len(b.Meta.Times) != 4 || len(b.Meta.Hashes) != 0 || b.Meta.Times[1] != 0 {
		t.Errorf("extend gave %+v", b)
	}
	b.Reset()
	if b.Values[:1][0] != nil || b.Meta.Watermark != dataflow.MinTime {
		t.Errorf("reset gave %+v", b)
	}
}

func BenchmarkMap(b *testing.B) {
	benchRunner(b, NewMap(func(v int) int { return v + 1 }))
}

func BenchmarkFlatMap(b *testing.B) {
	benchRunner(b, NewFlatMap(func(v int) iter.Seq[int] {
		return func(yield func(int) bool) { yield(v) }
	}))
}

type wideHost struct{ spi.Host }

func (wideHost) Room(int) int { return 4096 }
func (wideHost) Send(_ int, b spi.Batch) spi.Batch {
	b.Reset()
	return b
}

func benchRunner(b *testing.B, r spi.Runner) {
	in := NewRows[int](1024)
	for i := range 1024 {
		in.Add(i, int64(i))
	}
	if err := r.Open(wideHost{}, nil); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if n, _ := r.Step(0, in, 0); n != 1024 {
			b.Fatal(n)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/1024, "ns/row")
}

func BenchmarkFlatMapSingleRow(b *testing.B) {
	r := NewFlatMap(func(v int) iter.Seq[int] {
		return func(yield func(int) bool) { yield(v) }
	})
	in := NewRows[int](1)
	in.Add(1, 1)
	if err := r.Open(wideHost{}, nil); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if n, _ := r.Step(0, in, 0); n != 1 {
			b.Fatal(n)
		}
	}
}
