package kernel

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"testing"
	"time"

	"github.com/weirstream/weir/dataflow"
	"github.com/weirstream/weir/stream/spi"
)

type benchEvent[K comparable] struct {
	Key K
	N   int64
}

type benchFlat struct{ N, Last int64 }

type benchDeep struct {
	N, Last int64
	Word    string
}

func benchActors[K comparable, A any](b testing.TB, init func() A, call func(a A, n int64)) (spi.Runner, *memHost) {
	r, err := NewActors(ActorSpec[K, A, int64]{
		Init: init,
		Inputs: []ActorInput[K, A, int64]{NewActorInput(
			func(e benchEvent[K]) K { return e.Key },
			func(a A, r *Run[int64], e *benchEvent[K]) { call(a, e.N) })},
	}, new(Sides))
	if err != nil {
		b.Fatal(err)
	}
	h := &memHost{states: ActorStates[A](false), owned: dataflow.KeyGroups{From: 0, To: 128}, total: 128, room: 1 << 30}
	if err := r.Open(h, nil); err != nil {
		b.Fatal(err)
	}
	return r, h
}

func benchBatches[K comparable](keys int, key func(int) K) []*Rows[benchEvent[K]] {
	rnd := rand.New(rand.NewPCG(1, 1))
	hash, _ := HasherOf[K]()
	var out []*Rows[benchEvent[K]]
	for range 64 {
		b := NewRows[benchEvent[K]](1024)
		for range 1024 {
			k := key(rnd.IntN(keys))
			b.Add(benchEvent[K]{k, 1}, 0)
			b.Meta.Hashes = append(b.Meta.Hashes, hash(k))
		}
		out = append(out, b)
	}
	return out
}

func benchFill[K comparable](r spi.Runner, keys int, key func(int) K) {
	b := NewRows[benchEvent[K]](1024)
	for i := range keys {
		b.Add(benchEvent[K]{key(i), 1}, 0)
		if b.Len() == 1024 || i == keys-1 {
			r.Step(0, b, 0)
			b.Reset()
		}
	}
}

func benchSteps[K comparable, A any](b *testing.B, keys int, key func(int) K, init func() A, call func(a A, n int64)) {
	r, _ := benchActors[K](b, init, call)
	benchFill(r, keys, key)
	batches := benchBatches(keys, key)
	i, at := 0, cpuTime()
	for b.Loop() {
		in := batches[i%len(batches)]
		r.Step(0, in, 0)
		i++
	}
	b.ReportMetric(float64(cpuTime()-at)/float64(b.N)/1024, "cpu-ns/row")
}

func BenchmarkActors(b *testing.B) {
	ints := func(i int) int64 { return int64(i) }
	strs := func(i int) string { return fmt.Sprintf("user-%08d", i) }
	flat := func(a *benchFlat, n int64) { a.N += n }
	deep := func(a *benchDeep, n int64) { a.N += n }
	for _, keys := range []int{1000, 1000000} {
		b.Run(fmt.Sprintf("int64/flat/%d", keys), func(b *testing.B) {
			benchSteps(b, keys, ints, func() *benchFlat { return new(benchFlat) }, flat)
		})
		b.Run(fmt.Sprintf("string/flat/%d", keys), func(b *testing.B) {
			benchSteps(b, keys, strs, func() *benchFlat { return new(benchFlat) }, flat)
		})
		b.Run(fmt.Sprintf("int64/deep/%d", keys), func(b *testing.B) {
			benchSteps(b, keys, ints, func() *benchDeep { return new(benchDeep) }, deep)
		})
		b.Run(fmt.Sprintf("string/deep/%d", keys), func(b *testing.B) {
			benchSteps(b, keys, strs, func() *benchDeep { return new(benchDeep) }, deep)
		})
	}
}

// The whole way of a new key: miss, factory, index, dirty list.
func BenchmarkActorsNewKeys(b *testing.B) {
	at := cpuTime()
	for b.Loop() {
		r, _ := benchActors[int64](b, func() *benchFlat { return new(benchFlat) }, func(a *benchFlat, n int64) { a.N += n })
		benchFill(r, 1<<20, func(i int) int64 { return int64(i) })
	}
	b.ReportMetric(float64(cpuTime()-at)/float64(b.N)/(1<<20), "cpu-ns/row")
}

func BenchmarkFreeze(b *testing.B) {
	r, _ := benchActors[int64](b, func() *benchFlat { return new(benchFlat) }, func(a *benchFlat, n int64) { a.N += n })
	r.(*actors[int64, *benchFlat, int64]).table.lay.codec = fixedCodec{16}
	const keys = 1 << 20
	var turn time.Duration
	var write int64
	for b.Loop() {
		b.StopTimer()
		benchFill(r, keys, func(i int) int64 { return int64(i) })
		b.StartTimer()
		at := time.Now()
		f, _ := r.Freeze()
		turn += time.Since(at)
		cpu := cpuTime()
		n := 0
		f.Rows(func(k, v []byte) bool { n++; return true })
		write += cpuTime() - cpu
		f.Done(nil)
		if n != keys {
			b.Fatal(n)
		}
	}
	b.ReportMetric(float64(turn.Nanoseconds())/float64(b.N), "ns/freeze")
	b.ReportMetric(float64(write)/float64(b.N)/keys, "cpu-ns/row")
}

func BenchmarkGC(b *testing.B) {
	b.Run("flat", func(b *testing.B) {
		r, _ := benchActors[string](b, func() *benchFlat { return new(benchFlat) }, func(a *benchFlat, n int64) { a.N += n })
		benchFill(r, 1<<20, func(i int) string { return fmt.Sprintf("user-%08d", i) })
		for b.Loop() {
			runtime.GC()
		}
		runtime.KeepAlive(r)
	})
	b.Run("deep", func(b *testing.B) {
		r, _ := benchActors[string](b, func() *benchDeep { return new(benchDeep) }, func(a *benchDeep, n int64) { a.N += n; a.Word = fmt.Sprint(n) })
		benchFill(r, 1<<20, func(i int) string { return fmt.Sprintf("user-%08d", i) })
		for b.Loop() {
			runtime.GC()
		}
		runtime.KeepAlive(r)
	})
}
