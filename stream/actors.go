package stream

import (
	"reflect"
	"time"

	"github.com/weirstream/weir/stream/internal/kernel"
	"github.com/weirstream/weir/stream/spi"
)

// An Actor handles the rows of one key. Its type is a pointer to a struct whose
// exported fields are the key's state: one value per key, loaded before the call
// and kept after it. Calls for all keys of a subtask come one after the other.
//
// Fields tagged `state:"-"` are parameters: the factory sets them for every key,
// also after its state was loaded, and they are not stored.
type Actor[In, Out any] interface {
	Receive(ctx Context[Out], e In)
}

// Timed is an Actor that sets timers. An actor with an OnTimer of another shape is
// refused by Build.
type Timed[Out any] interface {
	// OnTimer is called when the watermark has reached the timer; the timer is no
	// longer set then.
	OnTimer(ctx Context[Out], name string, at time.Time)
}

// An Actor2 handles the rows of one key from two streams.
type Actor2[L, R, Out any] interface {
	ReceiveLeft(ctx Context[Out], l L)
	ReceiveRight(ctx Context[Out], r R)
}

// Actors runs one actor per key. init makes the actor of a new key; it must return
// a new value each time. uses lists the state handles and tags that the actor
// uses.
func Actors[K comparable, In, Out any, A Actor[In, Out]](s Keyed[K, In], name string, init func() A, uses ...Use) Stream[Out] {
	in := kernel.NewActorInput(s.key, func(a A, r *kernel.Run[Out], e *In) { a.Receive(Context[Out]{r}, *e) })
	return addActors[K, A, Out](s.s.g, name, "actors", init, []input{s.in()}, []kernel.ActorInput[K, A, Out]{in}, uses)
}

// Connect runs one actor per key over two streams with keys of the same type. Rows
// of the two come in no particular order between them.
func Connect[K comparable, L, R, Out any, A Actor2[L, R, Out]](l Keyed[K, L], r Keyed[K, R], name string, init func() A, uses ...Use) Stream[Out] {
	ports := []kernel.ActorInput[K, A, Out]{
		kernel.NewActorInput(l.key, func(a A, r *kernel.Run[Out], e *L) { a.ReceiveLeft(Context[Out]{r}, *e) }),
		kernel.NewActorInput(r.key, func(a A, r *kernel.Run[Out], e *R) { a.ReceiveRight(Context[Out]{r}, *e) }),
	}
	return addActors[K, A, Out](l.s.g, name, "connect", init, []input{l.in(), r.in()}, ports, uses)
}

// addActors adds an actor operator.
func addActors[K comparable, A, Out any](g *Graph, name, typ string, init func() A, ins []input, ports []kernel.ActorInput[K, A, Out], uses []Use) Stream[Out] {
	spec := kernel.ActorSpec[K, A, Out]{Init: init, Inputs: ports, Timer: timerOf[A, Out](g, name)}
	op := opSpec{name: name, typ: typ, ins: ins}
	if err := kernel.CheckActor[A](); err != nil {
		g.fault("operator %q: %w", name, err)
		return addOp[Out](g, op, uses...)
	}
	if init == nil {
		g.fault("operator %q has no factory: pass a function that returns a new %v", name, reflect.TypeFor[A]())
	}
	op.states = kernel.ActorStates[A](spec.Timer != nil)
	for _, u := range uses {
		if h, ok := u.(interface{ handle() kernel.Handle }); ok && !isNil(u) {
			spec.States = append(spec.States, h.handle())
		}
	}
	op.runner = func(sides *kernel.Sides) (spi.Runner, error) { return kernel.NewActors(spec, sides) }
	return addOp[Out](g, op, uses...)
}

// timerOf returns how to call A's OnTimer, nil if it has none, and refuses one of
// another shape, which would never be called.
func timerOf[A, Out any](g *Graph, name string) func(a A, r *kernel.Run[Out], name string, at int64) {
	t := reflect.TypeFor[A]()
	if t.Implements(reflect.TypeFor[Timed[Out]]()) {
		return func(a A, r *kernel.Run[Out], name string, at int64) {
			any(a).(Timed[Out]).OnTimer(Context[Out]{r}, name, time.UnixMicro(at).UTC())
		}
	}
	if m, ok := t.MethodByName("OnTimer"); ok {
		g.fault("operator %q: %v has %v, which would never be called: write OnTimer(ctx stream.Context[%v], name string, at time.Time)",
			name, t, m.Type, reflect.TypeFor[Out]())
	}
	return nil
}
