package stream

import (
	"iter"
	"reflect"
	"time"

	"github.com/weirstream/weir/dataflow"
	"github.com/weirstream/weir/stream/internal/kernel"
	"github.com/weirstream/weir/stream/spi"
)

// State handles give an actor more state than its struct: maps and lists larger
// than memory, whose entries are read and written one by one, and values that
// expire. A handle is listed in the operator's call, so that the plan knows it, and
// its methods take the Context, which knows the key.
//
// Handles are immutable, safe for concurrent use and usually package variables;
// one handle may serve several operators, each with its own state. Values that
// were stored must not be changed through pointers, slices or maps in them: store
// them again. Methods panic, which fails the attempt, if the operator was not
// given the handle.

// A StateOption is an option of a state handle.
type StateOption func(*stateConfig)

type stateConfig struct{ ttl time.Duration }

// TTL lets values expire when d of processing time has passed since they were
// last written. Expired values are never returned; their rows are dropped little
// by little with each checkpoint.
func TTL(d time.Duration) StateOption { return func(c *stateConfig) { c.ttl = d } }

func configOf(opts []StateOption) (c stateConfig) {
	for _, o := range opts {
		o(&c)
	}
	return c
}

func (c stateConfig) check(g *Graph, o *opSpec, name string) {
	if c.ttl < 0 {
		g.fault("state %q of operator %q has TTL %v: it must be positive", name, o.name, c.ttl)
	}
}

// A ValueState is a value per key, beside the actor's struct.
type ValueState[V any] struct {
	name string
	cfg  stateConfig
	h    *kernel.ValueHandle[V]
}

// NewValue returns the handle of a value. Its name is its identity across restarts
// and upgrades, within the operator.
func NewValue[V any](name string, opts ...StateOption) *ValueState[V] {
	c := configOf(opts)
	return &ValueState[V]{name, c, &kernel.ValueHandle[V]{Name: name, TTL: c.ttl.Microseconds()}}
}

func (s *ValueState[V]) use(g *Graph, o *opSpec) {
	s.cfg.check(g, o, s.name)
	o.addState(g, spi.StateType{Name: s.name, Kind: dataflow.ValueState, Value: reflect.TypeFor[V]()})
}

func (s *ValueState[V]) handle() kernel.Handle { return s.h }

// Get returns the value of the current key; ok is false if it has none.
func (s *ValueState[V]) Get(ctx Scope) (v V, ok bool) { return s.h.Get(ctx.core()) }

// Set sets the value of the current key.
func (s *ValueState[V]) Set(ctx Scope, v V) { s.h.Set(ctx.core(), v) }

// Clear drops the value of the current key.
func (s *ValueState[V]) Clear(ctx Scope) { s.h.Clear(ctx.core()) }

// A MapState is a map per key, stored entry by entry.
type MapState[K comparable, V any] struct {
	name string
	cfg  stateConfig
	h    *kernel.MapHandle[K, V]
}

// NewMap returns the handle of a map. Its name is its identity across restarts and
// upgrades, within the operator. K is restricted as for KeyBy.
func NewMap[K comparable, V any](name string, opts ...StateOption) *MapState[K, V] {
	c := configOf(opts)
	return &MapState[K, V]{name, c, &kernel.MapHandle[K, V]{Name: name, TTL: c.ttl.Microseconds()}}
}

func (s *MapState[K, V]) use(g *Graph, o *opSpec) {
	s.cfg.check(g, o, s.name)
	if _, err := kernel.HasherOf[K](); err != nil {
		g.fault("map state %q of operator %q with keys of %v: %w", s.name, o.name, reflect.TypeFor[K](), err)
	}
	o.addState(g, spi.StateType{Name: s.name, Kind: dataflow.MapState, Key: reflect.TypeFor[K](), Value: reflect.TypeFor[V]()})
}

func (s *MapState[K, V]) handle() kernel.Handle { return s.h }

// Get returns the value of an entry of the current key's map.
func (s *MapState[K, V]) Get(ctx Scope, k K) (v V, ok bool) { return s.h.Get(ctx.core(), k) }

// Put sets an entry of the current key's map.
func (s *MapState[K, V]) Put(ctx Scope, k K, v V) { s.h.Put(ctx.core(), k, v) }

// Delete drops an entry of the current key's map, if it is there.
func (s *MapState[K, V]) Delete(ctx Scope, k K) { s.h.Delete(ctx.core(), k) }

// All yields the entries of the current key's map, in no particular order. Entries
// may be changed meanwhile; those added may or may not be seen.
func (s *MapState[K, V]) All(ctx Scope) iter.Seq2[K, V] { return s.h.All(ctx.core()) }

// Clear drops all entries of the current key's map.
func (s *MapState[K, V]) Clear(ctx Scope) { s.h.Clear(ctx.core()) }

// A ListState is a list per key, stored in segments: appending costs the same
// however long the list is.
type ListState[V any] struct {
	name string
	cfg  stateConfig
	h    *kernel.ListHandle[V]
}

// NewList returns the handle of a list. Its name is its identity across restarts
// and upgrades, within the operator.
func NewList[V any](name string, opts ...StateOption) *ListState[V] {
	return &ListState[V]{name, configOf(opts), &kernel.ListHandle[V]{Name: name}}
}

func (s *ListState[V]) use(g *Graph, o *opSpec) {
	if s.cfg.ttl != 0 {
		g.fault("list state %q of operator %q has a TTL, which lists do not support: use a map with a TTL, or a timer that clears the list", s.name, o.name)
	}
	o.addState(g, spi.StateType{Name: s.name, Kind: dataflow.ListState, Value: reflect.TypeFor[V]()})
}

func (s *ListState[V]) handle() kernel.Handle { return s.h }

// Append adds v to the end of the current key's list.
func (s *ListState[V]) Append(ctx Scope, v V) { s.h.Append(ctx.core(), v) }

// All yields the values of the current key's list in the order of Append. Values
// appended meanwhile are not seen.
func (s *ListState[V]) All(ctx Scope) iter.Seq[V] { return s.h.All(ctx.core()) }

// Len returns the number of values in the current key's list.
func (s *ListState[V]) Len(ctx Scope) int { return s.h.Len(ctx.core()) }

// Clear drops all values of the current key's list.
func (s *ListState[V]) Clear(ctx Scope) { s.h.Clear(ctx.core()) }
