package kernel

import (
	"errors"
	"time"

	"github.com/weirstream/weir/dataflow"
	"github.com/weirstream/weir/stream/spi"
)

// SourceOptions says how a source stamps its rows. Times are microseconds.
type SourceOptions[T any] struct {
	// At returns the event time of a row; nil keeps the times that the reader gave.
	At func(T) time.Time
	// Watermarks says whether the source keeps watermarks at all.
	Watermarks bool
	// Lag is how much older than the newest row of its split a row may be.
	Lag int64
	// Idle is how long a split may give nothing before time goes on without it; 0
	// means for ever.
	Idle int64
	// Fill generates rows: dst[i] becomes row first+i×step of the whole. nil for
	// sources that read.
	Fill func(dst []T, first, step int64)
}

// source implements spi.SourceRunner.
type source[T any] struct {
	o      SourceOptions[T]
	splits []split
	out    int64 // watermark last returned

	// The clock by which splits are idle: processing time without the time during
	// which there was no room for rows.
	clock int64
	now   int64 // processing time of the last tick; 0 before the first
	held  bool  // there was no room at the last tick
}

type split struct {
	id   string
	mark int64
	seen int64 // clock at its last row
}

// NewSource returns the typed half of one source subtask.
func NewSource[T any](o SourceOptions[T]) spi.SourceRunner {
	return &source[T]{o: o, out: dataflow.MinTime}
}

// NewBatch implements spi.SourceRunner.
func (*source[T]) NewBatch(capacity int) spi.Batch { return NewRows[T](capacity) }

// Assign implements spi.SourceRunner. Splits that stay keep their watermark if it
// is ahead of the restored one.
func (s *source[T]) Assign(ids []string, marks []int64) {
	old := make(map[string]split, len(s.splits))
	for _, p := range s.splits {
		old[p.id] = p
	}
	s.splits = make([]split, len(ids))
	for i, id := range ids {
		p := split{id: id, mark: dataflow.MinTime, seen: s.clock}
		if i < len(marks) {
			p.mark = marks[i]
		}
		if o, ok := old[id]; ok {
			p.mark, p.seen = max(p.mark, o.mark), o.seen
		}
		s.splits[i] = p
	}
}

// Stamp implements spi.SourceRunner.
func (s *source[T]) Stamp(n int, b spi.Batch, from int, now int64) error {
	rows := b.(*Rows[T])
	s.tick(now, false)
	s.splits[n].seen = s.clock
	newest := dataflow.MinTime
	times := rows.Meta.Times[from:]
	if s.o.At != nil {
		values := rows.Values[from:]
		for i := range values {
			t := s.o.At(values[i]).UnixMicro()
			times[i] = t
			newest = max(newest, t)
		}
	} else {
		for _, t := range times {
			newest = max(newest, t)
		}
	}
	// A watermark of w promises that no row of time w or less follows; rows of the
	// newest time less the lag still may.
	if s.o.Watermarks && newest > dataflow.MinTime+s.o.Lag+1 {
		s.splits[n].mark = max(s.splits[n].mark, newest-s.o.Lag-1)
	}
	return nil
}

// Mark implements spi.SourceRunner.
func (s *source[T]) Mark(n int) int64 { return s.splits[n].mark }

// Watermark implements spi.SourceRunner. The watermark never goes back. A source
// without watermarks is always idle, so that it does not hold back others.
func (s *source[T]) Watermark(now int64, held bool) (wm int64, idle bool) {
	s.tick(now, held)
	if !s.o.Watermarks {
		return dataflow.MinTime, true
	}
	least, idle := dataflow.MaxTime, true
	for i := range s.splits {
		p := &s.splits[i]
		if s.o.Idle > 0 && s.clock-p.seen >= s.o.Idle {
			continue
		}
		idle = false
		least = min(least, p.mark)
	}
	if !idle {
		s.out = max(s.out, least)
	}
	return s.out, idle
}

// tick advances the idleness clock to now unless there was no room before or
// there is none now.
func (s *source[T]) tick(now int64, held bool) {
	if s.now != 0 && now > s.now && !s.held && !held {
		s.clock += now - s.now
	}
	s.now, s.held = now, held
}

var errNoGenerator = errors.New("stream: rows were to be generated, but the source has no generator: declare it with gen.Sequence")

// Generate implements spi.SourceRunner. Row i of split k is row i×total+k of the
// whole.
func (s *source[T]) Generate(b spi.Batch, k, total int, at int64, n int) error {
	if s.o.Fill == nil {
		return errNoGenerator
	}
	rows := b.(*Rows[T])
	first := len(rows.Values)
	rows.Extend(n)
	s.o.Fill(rows.Values[first:], at*int64(total)+int64(k), int64(total))
	return nil
}
