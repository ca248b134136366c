package stream

import (
	"iter"
	"reflect"

	"github.com/weirstream/weir/dataflow"
	"github.com/weirstream/weir/stream/internal/kernel"
	"github.com/weirstream/weir/stream/spi"
)

// Rules are rows of a small stream that every subtask of an operator holds whole:
// prices, limits, feature flags. They are what WithBroadcast keeps and actors read.
//
// Of several rows with one key the one with the latest event time is kept, of equal
// times the one that came last. Rows of one key should therefore come from one
// split, or have times that tell them apart: then all subtasks agree. A rule stays
// until another replaces it; to take one back, send a row that says so.
type Rules[K comparable, R any] struct {
	name string
	h    *kernel.RulesHandle[K, R]
}

// NewRules returns the handle of rules, which key tells apart. Its name is its
// identity across restarts and upgrades, within the operator. K is restricted as
// for KeyBy. One handle may serve several operators; each keeps its own copy.
func NewRules[K comparable, R any](name string, key func(R) K) *Rules[K, R] {
	return &Rules[K, R]{name, &kernel.RulesHandle[K, R]{Name: name, Key: key}}
}

// Get returns the rule of a key.
func (r *Rules[K, R]) Get(ctx Scope, k K) (rule R, ok bool) { return r.h.Get(ctx.core(), k) }

// All yields the rules, in an order that all subtasks have.
func (r *Rules[K, R]) All(ctx Scope) iter.Seq2[K, R] { return r.h.All(ctx.core()) }

// Len returns the number of rules.
func (r *Rules[K, R]) Len(ctx Scope) int { return r.h.Len(ctx.core()) }

// held makes Rules a Use of the one operator that is fed with them.
type held[K comparable, R any] struct{ *Rules[K, R] }

func (r held[K, R]) use(g *Graph, o *opSpec) {
	if r.h.Key == nil {
		g.fault("rules %q of operator %q have no key: pass NewRules a function that returns it", r.name, o.name)
	}
	if _, err := kernel.HasherOf[K](); err != nil {
		g.fault("rules %q of operator %q with keys of %v: %w", r.name, o.name, reflect.TypeFor[K](), err)
	}
	o.addState(g, spi.StateType{Name: r.name, Kind: dataflow.MapState, Key: reflect.TypeFor[K](), Value: reflect.TypeFor[R]()})
}

func (r held[K, R]) handle() kernel.Handle { return r.h }

// WithBroadcast runs one actor per key of s, as Actors does, beside rules that every
// subtask holds whole: each row of from goes to all of them. Actors read the rules,
// in Receive and in OnTimer, and do not hear of changes.
//
// Rows of the two streams come in no particular order between them, and event time
// is that of the slower one: give a stream of rules that is often silent an
// EventTime with Idle.
//
// Rules are in every checkpoint, once and not per subtask, and survive a restore at
// any parallelism. Together they may take 2 MiB; what is larger belongs into keyed
// state (Connect).
func WithBroadcast[K comparable, In, R any, RK comparable, Out any, A Actor[In, Out]](
	s Keyed[K, In], from Stream[R], rules *Rules[RK, R], name string, init func() A, uses ...Use,
) Stream[Out] {
	if rules == nil {
		s.s.g.fault("operator %q is given no rules: make them by NewRules", name)
		return Actors[K, In, Out](s, name, init, uses...)
	}
	ports := []kernel.ActorInput[K, A, Out]{
		kernel.NewActorInput(s.key, func(a A, r *kernel.Run[Out], e *In) { a.Receive(Context[Out]{r}, *e) }),
		kernel.NewRulesInput[K, A, Out](rules.h),
	}
	uses = append([]Use{held[RK, R]{rules}}, uses...)
	return addActors[K, A, Out](s.s.g, name, "broadcast", init, []input{s.in(), Broadcast(from).in()}, ports, uses)
}
