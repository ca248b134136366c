package stream

import (
	"iter"
	"reflect"
	"time"

	"github.com/weirstream/weir/dataflow"
	"github.com/weirstream/weir/stream/internal/kernel"
	"github.com/weirstream/weir/stream/spi"
)

// Map returns the stream of f(row), with the row's event time.
func Map[In, Out any](s Stream[In], name string, f func(In) Out) Stream[Out] {
	return addOp[Out](s.g, opSpec{
		name: name, typ: "map", ins: []input{s.in()},
		runner: func(*kernel.Sides) (spi.Runner, error) { return kernel.NewMap(f), nil },
	})
}

// Filter returns the rows for which keep is true.
func Filter[T any](s Stream[T], name string, keep func(T) bool) Stream[T] {
	return addOp[T](s.g, opSpec{
		name: name, typ: "filter", ins: []input{s.in()},
		runner: func(*kernel.Sides) (spi.Runner, error) { return kernel.NewFilter(keep), nil },
	})
}

// FlatMap returns, for each row, the rows of f(row), with the row's event time.
// The sequence is suspended when whatever reads the stream cannot take more, so
// it may be long; it runs at most once per row and try.
func FlatMap[In, Out any](s Stream[In], name string, f func(In) iter.Seq[Out]) Stream[Out] {
	return addOp[Out](s.g, opSpec{
		name: name, typ: "flatmap", ins: []input{s.in()},
		runner: func(*kernel.Sides) (spi.Runner, error) { return kernel.NewFlatMap(f), nil },
	})
}

// An Emitter is where the function of Process emits to. It belongs to one call and
// must not be kept.
type Emitter[Out any] struct{ e *kernel.Emission[Out] }

// Emit sends v to the main output, with the event time of the row being handled.
func (e Emitter[Out]) Emit(v Out) { e.e.Main.Batch().Add(v, e.e.Sides.At) }

// Time returns the event time of the row being handled, in UTC.
func (e Emitter[Out]) Time() time.Time { return time.UnixMicro(e.e.Sides.At).UTC() }

func (e Emitter[Out]) sides() *kernel.Sides { return e.e.Sides }

// Process calls f for each row; f emits any number of rows to the main output and
// to the side outputs whose tags are listed. It keeps no state: that is what
// Actors are for.
func Process[In, Out any](s Stream[In], name string, f func(out Emitter[Out], row In), tags ...Use) Stream[Out] {
	out := addOp[Out](s.g, opSpec{
		name: name, typ: "process", ins: []input{s.in()},
		runner: func(sides *kernel.Sides) (spi.Runner, error) {
			return kernel.NewProcess(func(e *kernel.Emission[Out], row In) { f(Emitter[Out]{e}, row) }, sides), nil
		},
	}, tags...)
	if op := out.from[0].op; len(op.states) > 0 {
		s.g.fault("operator %q lists state %q, but Process keeps none: use Actors", name, op.states[0].Name)
	}
	return out
}

// Discard drops and counts the rows of the stream: a job must say where every
// output goes, and this says nowhere.
func Discard[T any](s Stream[T], name string) Written {
	op := s.g.add(&opSpec{
		name: name, typ: "discard", kind: dataflow.KindOp, ins: []input{s.in()},
		runner: func(*kernel.Sides) (spi.Runner, error) { return kernel.NewDiscard[T](), nil },
	})
	return Written{s.g, op}
}

// elemOf names a row type for people.
func elemOf(t reflect.Type) string {
	if t == nil {
		return ""
	}
	return t.String()
}
