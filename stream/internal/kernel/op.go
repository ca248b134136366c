package kernel

import (
	"github.com/weirstream/weir/dataflow"
	"github.com/weirstream/weir/stream/spi"
)

// Stateless is the part of a spi.Runner that operators without state and timers
// share; embed it.
type Stateless struct{ H spi.Host }

// Open implements spi.Runner.
func (s *Stateless) Open(h spi.Host, _ []byte) error {
	s.H = h
	return nil
}

// Advance implements spi.Runner: nothing waits for time.
func (*Stateless) Advance(int64, int) (bool, error) { return true, nil }

// NextTimer implements spi.Runner.
func (*Stateless) NextTimer() int64 { return dataflow.MaxTime }

// End implements spi.Runner.
func (*Stateless) End() (bool, error) { return true, nil }

// Freeze implements spi.Runner: nothing is dirty.
func (*Stateless) Freeze() (spi.Frozen, error) { return nil, nil }

// Extra implements spi.Runner.
func (*Stateless) Extra() []byte { return nil }

// Memory implements spi.Runner.
func (*Stateless) Memory() (total, dirty int64) { return 0, 0 }

// Evict implements spi.Runner.
func (*Stateless) Evict(int64) int64 { return 0 }

// discard drops and counts all rows.
type discard[T any] struct{ Stateless }

// NewDiscard returns an operator without outputs that drops every row.
func NewDiscard[T any]() spi.Runner { return new(discard[T]) }

// NewBatch implements spi.Runner.
func (*discard[T]) NewBatch(_, capacity int) spi.Batch { return NewRows[T](capacity) }

// Step implements spi.Runner.
func (d *discard[T]) Step(_ int, in spi.Batch, from int) (int, error) {
	n := in.Len() - from
	d.H.Count("records_discarded_total", int64(n))
	return n, nil
}
