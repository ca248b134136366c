package kernel

import "github.com/weirstream/weir/stream/spi"

// An Emission is where the function of a process operator emits to.
type Emission[Out any] struct {
	Sides *Sides // Sides.At is the event time of what is emitted
	Main  *Port[Out]
}

// process is the operator that calls a function that emits.
type process[In, Out any] struct {
	Stateless
	f   func(e *Emission[Out], row In)
	out Emission[Out]
}

// NewProcess returns the operator that calls f for each row.
func NewProcess[In, Out any](f func(e *Emission[Out], row In), sides *Sides) spi.Runner {
	return &process[In, Out]{f: f, out: Emission[Out]{Sides: sides, Main: NewPort[Out](0)}}
}

// NewBatch implements spi.Runner.
func (*process[In, Out]) NewBatch(_, capacity int) spi.Batch { return NewRows[In](capacity) }

// Step implements spi.Runner. One call of f may emit more than there is room for.
func (p *process[In, Out]) Step(_ int, batch spi.Batch, from int) (int, error) {
	in := batch.(*Rows[In])
	room := p.out.Main.Room(p.H)
	n := 0
	for i := from; i < len(in.Values); i++ {
		if p.out.Main.Batch().Len() >= room || p.out.Sides.Room(p.H, 1) == 0 {
			break
		}
		p.out.Sides.At = in.Meta.Times[i]
		p.f(&p.out, in.Values[i])
		n++
	}
	p.out.Main.Flush(p.H)
	p.out.Sides.Flush(p.H)
	return n, nil
}
