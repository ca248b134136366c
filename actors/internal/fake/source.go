package fake

import (
	"context"
	"encoding/binary"
	"fmt"
	"sync/atomic"

	"github.com/weirstream/weir/dataflow"
	"github.com/weirstream/weir/stream/spi"
)

// Gen makes the rows of a source: row i of split k.
type Gen struct {
	Splits int
	Rows   int64 // per split; -1: endless
	Keys   uint64
	Lag    int64 // watermark = time of the last row - Lag
	// Limit says how many more rows a split may give now; nil: no limit.
	Limit func(split int) int
	// Done is told positions of complete epochs.
	Done atomic.Int64
}

// At returns row i of split k and its time.
func (g *Gen) At(k int, i int64) (Row, int64) {
	x := uint64(i)*0x9e3779b97f4a7c15 + uint64(k)*0xbf58476d1ce4e5b9
	x ^= x >> 29
	x *= 0x94d049bb133111eb
	return Row{Key: (x >> 33) % g.Keys, Val: 1}, i*int64(g.Splits) + int64(k)
}

// Check is of spi.SourceDriver.
func (g *Gen) Check(dataflow.Connector, map[string]string) error { return nil }

// Open opens the splits that are owned: split k by k mod parallelism.
func (g *Gen) Open(ctx context.Context, env spi.Env, restored []dataflow.SplitState, _ spi.SourceRunner) (spi.Reader, error) {
	r := &reader{g: g}
	for k := env.Index; k < g.Splits; k += env.Parallelism {
		r.splits = append(r.splits, k)
		r.ids = append(r.ids, fmt.Sprint("split-", k))
		r.at = append(r.at, 0)
		for _, st := range restored {
			if st.Split == r.ids[len(r.ids)-1] {
				r.at[len(r.at)-1] = int64(binary.BigEndian.Uint64(st.Position))
			}
		}
	}
	return r, nil
}

type reader struct {
	g      *Gen
	splits []int
	ids    []string
	at     []int64
	next   int
}

func (r *reader) Splits() ([]string, int) { return r.ids, 1 }

func (r *reader) Poll(b spi.Batch, max int, bad *[]spi.Rejected) (int, int, error) {
	rows := b.(*Batch[Row])
	for range r.splits {
		k := r.next
		r.next = (r.next + 1) % len(r.splits)
		n := max
		if r.g.Rows >= 0 {
			n = min(n, int(r.g.Rows-r.at[k]))
		}
		if r.g.Limit != nil {
			n = min(n, r.g.Limit(r.splits[k]))
		}
		n = min(n, 512)
		for range n {
			v, t := r.g.At(r.splits[k], r.at[k])
			rows.Push(v, t)
			r.at[k]++
		}
		if n > 0 {
			return k, n, nil
		}
	}
	return 0, 0, nil
}

func (r *reader) Ended() bool {
	for k := range r.at {
		if r.g.Rows < 0 || r.at[k] < r.g.Rows {
			return false
		}
	}
	return true
}

func (r *reader) Snapshot() []dataflow.SplitState {
	var out []dataflow.SplitState
	for k, id := range r.ids {
		out = append(out, dataflow.SplitState{Split: id, Position: binary.BigEndian.AppendUint64(nil, uint64(r.at[k]))})
	}
	return out
}

func (r *reader) Completed(dataflow.Epoch, []dataflow.SplitState) { r.g.Done.Add(1) }

func (r *reader) Lag() int64 { return -1 }

func (r *reader) Close() error { return nil }

// Stamper is the typed half of a source.
type Stamper struct {
	Lag int64

	marks []int64
}

var _ spi.SourceRunner = (*Stamper)(nil)

// NewBatch is of spi.SourceRunner, like the methods below.
func (s *Stamper) NewBatch(capacity int) spi.Batch { return NewBatch[Row](capacity) }

// Assign takes the splits.
func (s *Stamper) Assign(ids []string, marks []int64) { s.marks = append([]int64(nil), marks...) }

// Stamp moves the split's watermark; the reader set the times.
func (s *Stamper) Stamp(n int, b spi.Batch, from int, now int64) error {
	for _, t := range b.Head().Times[from:] {
		s.marks[n] = max(s.marks[n], t-s.Lag)
	}
	return nil
}

// Mark returns the watermark of a split.
func (s *Stamper) Mark(n int) int64 { return s.marks[n] }

// Watermark returns the least.
func (s *Stamper) Watermark(now int64, held bool) (wm int64, idle bool) {
	if len(s.marks) == 0 {
		return dataflow.MinTime, true
	}
	wm = dataflow.MaxTime
	for _, m := range s.marks {
		wm = min(wm, m)
	}
	return wm, false
}

// Generate is not offered.
func (s *Stamper) Generate(spi.Batch, int, int, int64, int) error {
	return fmt.Errorf("fake: no generator")
}
