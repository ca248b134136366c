package kernel

import (
	"errors"
	"fmt"
	"iter"
	"runtime"
	"slices"
	"sort"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"github.com/weirstream/weir/dataflow"
	"github.com/weirstream/weir/stream/spi"
)

// sortedHost is a memHost whose rows lie sorted, so that a large pane can be
// scanned by the page.
type sortedHost struct {
	memHost
	keys []string
	rows [][]byte
}

func (h *sortedHost) Scan(from, to []byte) iter.Seq2[[]byte, []byte] {
	return func(yield func(k, v []byte) bool) {
		for i := sort.SearchStrings(h.keys, string(from)); i < len(h.keys) && h.keys[i] < string(to); i++ {
			if !yield([]byte(h.keys[i]), h.rows[i]) {
				return
			}
		}
	}
}

func (h *sortedHost) Empty(id dataflow.StateID, group int) bool {
	p := string(dataflow.AppendRowPrefix(nil, group, id))
	i := sort.SearchStrings(h.keys, p)
	return i == len(h.keys) || h.keys[i][:len(p)] != p
}

// halfPane is a window operator with one pane of keys entries that lie where where
// says: fresh (never written), stored (written, and all in memory) or restored
// (only in the store).
func halfPane(b testing.TB, keys int, where string, late int64) (*windows[int64, benchEvent[int64], benchFlat, int64], *sortedHost) {
	h := &sortedHost{memHost: memHost{states: WindowStates[benchFlat](), owned: dataflow.KeyGroups{To: 128}, total: 128, wm: dataflow.MinTime, room: 1 << 40}}
	open := func() *windows[int64, benchEvent[int64], benchFlat, int64] {
		r, err := NewWindows(WindowSpec[int64, benchEvent[int64], benchFlat, int64]{
			Key: func(e benchEvent[int64]) int64 { return e.Key }, Size: 1000, Slide: 1000, Late: late,
			Add:    func(a *benchFlat, e benchEvent[int64]) { a.N += e.N },
			Result: func(k int64, start, end int64, a *benchFlat) int64 { return a.N },
		}, new(Sides))
		if err != nil {
			b.Fatal(err)
		}
		x := r.(*windows[int64, benchEvent[int64], benchFlat, int64])
		if err := x.Open(h, nil); err != nil {
			b.Fatal(err)
		}
		x.lay.codec = fixedCodec{16}
		return x
	}
	x := open()
	benchFill(x, keys, func(i int) int64 { return int64(i) })
	if where == "fresh" {
		return x, h
	}
	f, _ := x.Freeze()
	w, err := writeFrozen(f)
	if err != nil {
		b.Fatal(err)
	}
	h.keys, h.rows = w.keys, w.rows
	f.Done(nil)
	if where == "restored" {
		x = open()
	}
	return x, h
}

// How long an epoch holds the actor that it meets with a pane half fired: Freeze
// and Done run on the turn, and so does each Advance between. cpu is what of it the
// thread was running, for a machine that has other work.
func BenchmarkHalfFired(b *testing.B) {
	for _, keys := range []int{100_000, 1_000_000} {
		for _, c := range []struct {
			where string
			late  int64
			undo  bool
		}{{"fresh", 0, false}, {"stored", 0, false}, {"restored", 0, false}, {"stored", 0, true}, {"fresh", 5000, false}, {"restored", 5000, false}} {
			name := fmt.Sprintf("%d/%s", keys, c.where)
			if c.late > 0 {
				name += "/late"
			}
			if c.undo {
				name += "/undo"
			}
			b.Run(name, func(b *testing.B) {
				var held, cpu, turns []time.Duration
				runtime.LockOSThread()
				defer runtime.UnlockOSThread()
				for b.Loop() {
					b.StopTimer()
					x, _ := halfPane(b, keys, c.where, c.late)
					for fired := 0; fired < keys/2; fired += 256 {
						x.Advance(1500, 256)
					}
					runtime.GC()
					b.StartTimer()
					var f spi.Frozen
					hold, used := heldBy(func() { f, _ = x.Freeze() })
					wrote := make(chan error) // garbage of the writer is not the actor's
					go func() {
						_, err := writeFrozen(f)
						wrote <- err
					}()
					err := <-wrote
					if err != nil {
						b.Fatal(err)
					}
					if c.undo {
						err = errors.New("aborted")
					}
					more, too := heldBy(func() { f.Done(err) })
					held, cpu = append(held, hold+more), append(cpu, used+too)
					for done := false; !done; {
						_, turn := heldBy(func() { done, _ = x.Advance(1500, 256) })
						turns = append(turns, turn)
					}
				}
				report := func(what string, d []time.Duration) {
					slices.Sort(d)
					b.ReportMetric(d[len(d)/2].Seconds()*1e3, "ms-"+what+"-p50")
					b.ReportMetric(d[len(d)*99/100].Seconds()*1e3, "ms-"+what+"-p99")
				}
				report("held", held)
				report("cpu", cpu)
				report("turncpu", turns)
			})
		}
	}
}

// heldBy returns how long do took, and how long its thread was running meanwhile.
func heldBy(do func()) (wall, cpu time.Duration) {
	at, was := time.Now(), threadTime()
	do()
	return time.Since(at), threadTime() - was
}

func threadTime() time.Duration {
	const clockThreadCPU = 3
	var t syscall.Timespec
	syscall.Syscall(syscall.SYS_CLOCK_GETTIME, clockThreadCPU, uintptr(unsafe.Pointer(&t)), 0)
	return time.Duration(t.Nano())
}
