package stream

import (
	"reflect"

	"github.com/weirstream/weir/stream/internal/kernel"
)

// A Tag names a side output of rows of type T: list it in the call of the
// operator that emits to it, and read it with Side.
//
// A Tag is immutable, safe for concurrent use, and usually a package variable.
type Tag[T any] struct{ name string }

// NewTag returns a tag. Its name is for people and unique within an operator.
func NewTag[T any](name string) *Tag[T] { return &Tag[T]{name} }

// A Sided is what a Tag emits through: the Context of an actor or the Emitter of a
// Process function.
type Sided interface{ sides() *kernel.Sides }

// Emit sends v to the side output, with the event time of the row or timer being
// handled. It panics, which fails the attempt, if the operator was not given the
// tag.
func (t *Tag[T]) Emit(ctx Sided, v T) {
	kernel.EmitSide(ctx.sides(), t, t.name, v)
}

func (t *Tag[T]) use(g *Graph, o *opSpec) {
	for _, out := range o.outs {
		switch {
		case out.tag == any(t):
			g.fault("operator %q lists side output %q twice", o.name, t.name)
			return
		case out.tag != nil && out.name == t.name:
			g.fault("operator %q has two side outputs named %q: names must differ", o.name, t.name)
		}
	}
	if t.name == "" {
		g.fault("operator %q has a side output without a name: give its tag one", o.name)
	}
	o.outs = append(o.outs, output{
		tag: t, name: t.name, elem: reflect.TypeFor[T](),
		port: func(port int) kernel.SidePort { return kernel.NewPort[T](port) },
	})
}

// Side returns the side output of the operator that made s, which must list the
// tag in its call.
func Side[T, O any](s Stream[O], t *Tag[T]) Stream[T] {
	side := Stream[T]{g: s.g}
	for _, r := range s.from {
		found := false
		for i, out := range r.op.outs {
			if out.tag == any(t) {
				side.from = append(side.from, outRef{r.op, i})
				found = true
			}
		}
		if !found {
			s.g.fault("side output %q is read from operator %q, which does not list its tag: pass the tag in the operator's call", t.name, r.op.name)
			// Stand in for the port, so that what reads it is not a second fault.
			r.op.outs = append(r.op.outs, output{tag: t, name: t.name, elem: reflect.TypeFor[T](), read: true})
			side.from = append(side.from, outRef{r.op, len(r.op.outs) - 1})
		}
	}
	return side
}
