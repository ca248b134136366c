package stream

import (
	"iter"
	"reflect"

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
