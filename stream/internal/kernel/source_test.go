package kernel

import (
	"testing"
	"time"

	"github.com/weirstream/weir/dataflow"
)

func stamped(t *testing.T, s *source[int64], split int, now int64, times ...int64) {
	t.Helper()
	b := NewRows[int64](0)
	for _, at := range times {
		b.Add(at, 0)
	}
	if err := s.Stamp(split, b, 0, now); err != nil {
		t.Fatal(err)
	}
	for i, at := range times {
		if s.o.At != nil && b.Meta.Times[i] != at {
			t.Errorf("row of time %d is stamped %d", at, b.Meta.Times[i])
		}
	}
}

// The watermark is the least over splits that are not idle, never goes back, and
// time without room is not idleness.
func TestWatermark(t *testing.T) {
	s := NewSource(SourceOptions[int64]{At: time.UnixMicro, Watermarks: true, Lag: 10, Idle: 100}).(*source[int64])
	expect := func(now int64, held bool, wm int64, idle bool) {
		t.Helper()
		if w, i := s.Watermark(now, held); w != wm || i != idle {
			t.Errorf("at %d got watermark %d idle %v, want %d %v", now, w, i, wm, idle)
		}
	}
	expect(1000, false, dataflow.MinTime, true) // no splits
	s.Assign([]string{"a", "b"}, nil)
	expect(1000, false, dataflow.MinTime, false)
	stamped(t, s, 0, 1010, 500, 400)
	expect(1010, false, dataflow.MinTime, false) // b gave nothing yet
	stamped(t, s, 1, 1020, 300)
	expect(1020, false, 289, false)
	stamped(t, s, 1, 1030, 200) // late
	expect(1030, false, 289, false)
	expect(5000, true, 289, false) // held: no idleness
	expect(5050, false, 289, false)
	stamped(t, s, 0, 5060, 600)
	expect(5155, false, 589, false) // only b has been idle for 100 unheld
	expect(5160, false, 589, true)
	stamped(t, s, 1, 5170, 450) // back, behind the watermark
	expect(5170, false, 589, false)
	if s.Mark(1) != 439 {
		t.Errorf("mark of b is %d, want 439", s.Mark(1))
	}
	s.Assign([]string{"b", "c"}, []int64{dataflow.MinTime, 700})
	if s.Mark(0) != 439 || s.Mark(1) != 700 {
		t.Errorf("marks after a change are %d and %d, want 439 and 700", s.Mark(0), s.Mark(1))
	}
}

// A source without a rule keeps its rows' times and never holds back others.
func TestNoRule(t *testing.T) {
	s := NewSource(SourceOptions[int64]{}).(*source[int64])
	s.Assign([]string{"a"}, nil)
	b := NewRows[int64](0)
	b.Add(1, 77)
	if err := s.Stamp(0, b, 0, 5); err != nil || b.Meta.Times[0] != 77 {
		t.Errorf("time is %d, want 77 (%v)", b.Meta.Times[0], err)
	}
	if wm, idle := s.Watermark(10, false); wm != dataflow.MinTime || !idle {
		t.Errorf("got %d %v", wm, idle)
	}
	if err := s.Generate(b, 0, 1, 0, 1); err == nil {
		t.Error("generated without a generator")
	}
}

func BenchmarkSource(b *testing.B) {
	type row struct {
		Key  string
		A, B int64
		At   time.Time
	}
	s := NewSource(SourceOptions[row]{
		At: func(r row) time.Time { return r.At }, Watermarks: true, Lag: 1000,
		Fill: func(dst []row, first, step int64) {
			for i := range dst {
				n := first + int64(i)*step
				dst[i] = row{Key: "key", A: n, B: n, At: time.UnixMicro(n)}
			}
		},
	})
	s.Assign([]string{"0"}, nil)
	rows := s.NewBatch(1024)
	at := int64(0)
	b.ReportAllocs()
	for b.Loop() {
		rows.Reset()
		if err := s.Generate(rows, 0, 1, at, 1024); err != nil {
			b.Fatal(err)
		}
		if err := s.Stamp(0, rows, 0, at); err != nil {
			b.Fatal(err)
		}
		at += 1024
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/1024, "ns/row")
}
