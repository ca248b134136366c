package stream

import (
	"reflect"

	"github.com/weirstream/weir/dataflow"
	"github.com/weirstream/weir/stream/internal/kernel"
	"github.com/weirstream/weir/stream/spi"
)

// A Stream is the rows that leave an operator. It is a small value: copy it and
// read it as often as needed, every reader gets all rows.
//
// The option methods set options of the operator that made the stream and return
// the same stream, so that they can be chained onto the call.
type Stream[T any] struct {
	g    *Graph
	from []outRef          // several after Union
	via  dataflow.Exchange // "" means Forward
}

// in returns the stream as an input port.
func (s Stream[T]) in() input {
	via := s.via
	if via == "" {
		via = dataflow.Forward
	}
	in := input{refs: s.from, exchange: via, elem: reflect.TypeFor[T]()}
	if via == dataflow.Broadcast {
		in.router = func() spi.Router { return kernel.NewBroadcast[T]() }
	} else {
		in.router = func() spi.Router { return kernel.NewRebalance[T]() }
	}
	return in
}

// option applies an option to the operator that made the stream.
func (s Stream[T]) option(name string, set func(o *opSpec)) Stream[T] {
	if len(s.from) == 1 {
		set(s.from[0].op)
	} else if s.g != nil {
		s.g.fault("%s is set on a union, which is not an operator: set it on the operators before or after it", name)
	}
	return s
}

// Parallelism sets how many subtasks the operator has; by default as many as the
// job.
func (s Stream[T]) Parallelism(n int) Stream[T] {
	return s.option("Parallelism", func(o *opSpec) { o.setParallelism(s.g, n) })
}

// Describe sets a sentence about the operator for people, shown where the graph
// is.
func (s Stream[T]) Describe(text string) Stream[T] {
	return s.option("Describe", func(o *opSpec) { o.describe = text })
}

// NoChain keeps the operator out of chains: it gets subtasks of its own.
func (s Stream[T]) NoChain() Stream[T] {
	return s.option("NoChain", func(o *opSpec) { o.noChain = true })
}

// SlotGroup places the operator's subtasks in slots of that group; operators of
// different groups never share a slot. By default all are in one group.
func (s Stream[T]) SlotGroup(group string) Stream[T] {
	return s.option("SlotGroup", func(o *opSpec) { o.slotGroup = group })
}

func (o *opSpec) setParallelism(g *Graph, n int) {
	if n < 1 {
		g.fault("operator %q has parallelism %d: it must be at least 1", o.name, n)
		return
	}
	o.parallelism = n
}

// Union returns a stream with the rows of all given streams, in no particular
// order between them. It is not an operator and costs nothing.
func Union[T any](first Stream[T], others ...Stream[T]) Stream[T] {
	u := Stream[T]{g: first.g, via: first.via}
	for _, s := range append([]Stream[T]{first}, others...) {
		u.from = append(u.from, s.from...)
		if s.via != u.via && u.g != nil {
			u.g.fault("a union of streams that travel differently (%q and %q): call Rebalance or Broadcast on the union", u.via, s.via)
		}
	}
	return u
}

// Rebalance returns the stream with its rows dealt evenly to the subtasks of
// whatever reads it, instead of staying in their subtask.
func Rebalance[T any](s Stream[T]) Stream[T] {
	s.via = dataflow.Rebalance
	return s
}

// Broadcast returns the stream with every row going to every subtask of whatever
// reads it.
func Broadcast[T any](s Stream[T]) Stream[T] {
	s.via = dataflow.Broadcast
	return s
}

// A Keyed is a stream whose rows travel to the subtask that owns their key. It is
// what stateful operators read.
type Keyed[K comparable, T any] struct {
	s    Stream[T]
	key  func(T) K
	hash func(K) uint32 // nil after a fault
}

// in returns the keyed stream as an input port, by hash.
func (k Keyed[K, T]) in() input {
	in := k.s.in()
	in.exchange = dataflow.Hash
	in.router = func() spi.Router { return kernel.NewHashRouter(k.key, k.hash) }
	return in
}

// Stream returns the rows without their key.
func (k Keyed[K, T]) Stream() Stream[T] { return k.s }

// KeyBy gives every row of the stream a key. It is an edge of the graph and not
// an operator: the key is taken, and hashed, where the row is sent.
//
// Keys may be made of integers, strings, bools, arrays and structs of these; what
// cannot be a key is reported by Build.
func KeyBy[T any, K comparable](s Stream[T], key func(T) K) Keyed[K, T] {
	hash, err := kernel.HasherOf[K]()
	if err != nil && s.g != nil {
		s.g.fault("KeyBy with keys of %v: %w", reflect.TypeFor[K](), err)
	}
	return Keyed[K, T]{s: s, key: key, hash: hash}
}
