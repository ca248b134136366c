package kernel

import "github.com/weirstream/weir/stream/spi"

// mapper is the operator that turns each row into one row.
type mapper[In, Out any] struct {
	Stateless
	f   func(In) Out
	out *Port[Out]
}

// NewMap returns the operator that applies f to each row.
func NewMap[In, Out any](f func(In) Out) spi.Runner {
	return &mapper[In, Out]{f: f, out: NewPort[Out](0)}
}

// NewBatch implements spi.Runner.
func (*mapper[In, Out]) NewBatch(_, capacity int) spi.Batch { return NewRows[In](capacity) }

// Step implements spi.Runner.
func (m *mapper[In, Out]) Step(_ int, batch spi.Batch, from int) (int, error) {
	in := batch.(*Rows[In])
	n := min(len(in.Values)-from, m.out.Room(m.H))
	if n == 0 {
		return 0, nil
	}
	out := m.out.Batch()
	at := out.Grow(n)
	copy(out.Meta.Times[at:], in.Meta.Times[from:from+n])
	dst, src := out.Values[at:at+n], in.Values[from:from+n]
	for i := range dst {
		dst[i] = m.f(src[i])
	}
	m.out.Flush(m.H)
	return n, nil
}

// filter is the operator that keeps some rows.
type filter[T any] struct {
	Stateless
	keep func(T) bool
	out  *Port[T]
}

// NewFilter returns the operator that keeps the rows for which keep is true.
func NewFilter[T any](keep func(T) bool) spi.Runner {
	return &filter[T]{keep: keep, out: NewPort[T](0)}
}

// NewBatch implements spi.Runner.
func (*filter[T]) NewBatch(_, capacity int) spi.Batch { return NewRows[T](capacity) }

// Step implements spi.Runner.
func (f *filter[T]) Step(_ int, batch spi.Batch, from int) (int, error) {
	in := batch.(*Rows[T])
	room := f.out.Room(f.H)
	if room == 0 {
		return 0, nil
	}
	out := f.out.Batch()
	n := 0
	for i := range in.Values[from:] {
		v := in.Values[from+i]
		n++
		if !f.keep(v) {
			continue
		}
		out.Add(v, in.Meta.Times[from+i])
		if room--; room == 0 {
			break
		}
	}
	f.out.Flush(f.H)
	return n, nil
}
