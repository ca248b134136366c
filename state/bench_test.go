package state

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"testing"
	"time"

	"github.com/weirstream/weir/dataflow"
	"github.com/weirstream/weir/stream/spi"
)

// loaded returns a store of total rows of 100 bytes, after a few epochs of changes.
func loaded(b *testing.B, total int) *Store {
	b.Helper()
	sh, err := NewShared(SharedOptions{CacheBytes: 256 << 20})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(sh.Close)
	s := openStore(b, Options{Shared: sh, Total: 128})
	r := rand.New(rand.NewPCG(1, 5))
	for e := range dataflow.Epoch(10) {
		n := total
		if e > 0 {
			n = total / 100
		}
		if _, err := s.WriteEpoch(context.Background(), e+1, []spi.Frozen{sample(r, total, n, 100)}); err != nil {
			b.Fatal(err)
		}
	}
	return s
}

// One call of Load reads 512 keys; the time is per key. Hit: the row is there.
// Absent: the filter knows that it is not. Unfiltered: Pebble is asked for nothing.
func BenchmarkLoad(b *testing.B) {
	const total, batch = 1_000_000, 512
	s := loaded(b, total)
	for _, kind := range []string{"hit", "absent", "unfiltered"} {
		for _, batch := range []int{1, batch} {
			b.Run(fmt.Sprintf("%s/batch=%d", kind, batch), func(b *testing.B) {
				f := s.filter.Load()
				if kind == "unfiltered" {
					s.filter.Store(nil)
					defer s.filter.Store(f)
				}
				r := rand.New(rand.NewPCG(1, 6))
				keys, probes := make([][]byte, 1<<16), make([]uint64, 1<<16)
				for i := range keys {
					n := r.IntN(total)
					keys[i], probes[i] = sortedKey(n, total, 128)
					if kind != "hit" {
						keys[i][len(keys[i])-9]++ // another hash of the same group
						k, _ := dataflow.ParseRowKey(keys[i], false)
						probes[i] = dataflow.FilterHash(k.State, k.Pane, k.Hash)
					}
				}
				found := 0
				b.ResetTimer()
				for i := 0; i < b.N; i += batch {
					at := i & (len(keys) - 1)
					err := s.Load(probes[at:at+batch], keys[at:at+batch], func(_ int, row []byte) error {
						if row != nil {
							found++
						}
						return nil
					})
					if err != nil {
						b.Fatal(err)
					}
				}
				if (found > 0) != (kind == "hit") {
					b.Fatalf("%d found", found)
				}
			})
		}
	}
}

func BenchmarkWriteEpoch(b *testing.B) {
	for _, n := range []int{100, 10_000, 1_000_000} {
		b.Run(fmt.Sprintf("rows=%d", n), func(b *testing.B) {
			s := openStore(b, Options{Shared: newShared(b), Total: 128, RebaseBytes: 1 << 50})
			f := sample(rand.New(rand.NewPCG(1, 7)), n, n, 100)
			b.ResetTimer()
			for i := range b.N {
				if _, err := s.WriteEpoch(context.Background(), dataflow.Epoch(i+1), []spi.Frozen{f}); err != nil {
					b.Fatal(err)
				}
				s.SetComplete(dataflow.Epoch(i + 1))
			}
			b.ReportMetric(float64(b.N*n)/b.Elapsed().Seconds(), "rows/s")
		})
	}
}

// The rows of two operators of one chain, interleaved by key group.
func BenchmarkMergeFrozen(b *testing.B) {
	const n = 1 << 20
	r := rand.New(rand.NewPCG(1, 10))
	f, g := sample(r, n, n, 8), sample(r, n, n, 8)
	for _, k := range g.keys {
		k[3] = byte(paneState) // the state
	}
	b.ResetTimer()
	for range b.N {
		rows := 0
		if err := mergeFrozen([]spi.Frozen{f, g}, func(_, _ []byte) bool { rows++; return true }); err != nil || rows != 2*n {
			b.Fatal(rows, err)
		}
	}
	b.ReportMetric(b.Elapsed().Seconds()*1e9/float64(b.N)/(2*n), "ns/row")
}

// Restoring 120 overlapping files of 0.7 MB when each read of an object takes 30 ms,
// to the first row, and to all files local and the filter built.
func BenchmarkRestore(b *testing.B) {
	sh, objs := newShared(b), newMemObjects()
	const total = 40000
	a, files := chainOf(b, sh, objs, 120, total, 6000)
	var k []byte
	for key := range a.Scan(groupKey(40), nil) {
		k = bytes.Clone(key)
		break
	}
	objs.latency = 30 * time.Millisecond
	var first, local time.Duration
	b.ResetTimer()
	for range b.N {
		s := openStore(b, Options{Shared: sh, Objects: objs, Total: 128})
		start := time.Now()
		if err := s.Restore(context.Background(), files); err != nil {
			b.Fatal(err)
		}
		if rows := loadAll(b, s, []uint64{0}, [][]byte{k}); rows[0] == nil {
			b.Fatal("the row is absent")
		}
		first += time.Since(start)
		<-s.Local()
		local += time.Since(start)
		if err := s.Remove(); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(first.Seconds()*1000/float64(b.N), "ms/first-row")
	b.ReportMetric(local.Seconds()*1000/float64(b.N), "ms/local")
}

// An epoch of 10,000 changed rows costs what 10,000 rows cost, however many rows
// there are. WEIR_STATE_LONG takes 10 M.
func BenchmarkSmallEpoch(b *testing.B) {
	sizes := []int{100_000, 1_000_000}
	if os.Getenv("WEIR_STATE_LONG") != "" {
		sizes = append(sizes, 10_000_000)
	}
	for _, total := range sizes {
		b.Run(fmt.Sprintf("rows=%d", total), func(b *testing.B) {
			s := openStore(b, Options{Shared: newShared(b), Total: 128})
			r := rand.New(rand.NewPCG(1, 8))
			if _, err := s.WriteEpoch(context.Background(), 1, []spi.Frozen{&generated{total: total, step: 1, r: r}}); err != nil {
				b.Fatal(err)
			}
			before := s.Written()
			var worst time.Duration
			b.ResetTimer()
			for i := range b.N {
				start := time.Now()
				if _, err := s.WriteEpoch(context.Background(), dataflow.Epoch(i+2), []spi.Frozen{&generated{total: total, step: total / 10_000, r: r}}); err != nil {
					b.Fatal(err)
				}
				for _, f := range s.Files() {
					s.Uploaded(f.Local, "object", 0)
				}
				worst = max(worst, time.Since(start))
				s.SetComplete(dataflow.Epoch(i + 2))
			}
			w := s.Written()
			b.ReportMetric(float64(w.EpochBytes-before.EpochBytes)/float64(b.N), "bytes/epoch")
			b.ReportMetric(worst.Seconds()*1000, "ms/worst")
			b.ReportMetric(float64(s.SubLevels()), "sublevels")
		})
	}
}

// generated is a Frozen of one row in every step, at random offsets.
type generated struct {
	total, step int
	r           *rand.Rand
}

func (g *generated) Drops() []spi.Span { return nil }
func (g *generated) Done(error)        {}

func (g *generated) Rows(yield func(key, value []byte) bool) error {
	v := make([]byte, 100)
	for i := 0; i < g.total; i += g.step {
		k, _ := sortedKey(i+g.r.IntN(g.step), g.total, 128)
		for j := range v {
			v[j] = byte(g.r.Uint32())
		}
		if !yield(k, v) {
			break
		}
	}
	return nil
}
