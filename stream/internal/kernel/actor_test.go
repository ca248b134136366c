package kernel

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/weirstream/weir/dataflow"
	"github.com/weirstream/weir/stream/spi"
)

// An event tells an actor of the test what to do.
type event[K comparable] struct {
	Key  K
	Op   string // add, clear, set, unset, clearset, silent
	Name string
	At   int64
	N    int64
	Sub  string // key of a map entry
}

type flatActor[K comparable] struct {
	N     int64
	Hits  int32
	Param int64 `state:"-"`
}

type deepActor[K comparable] struct {
	N     int64
	Hits  int32
	Log   []int64
	Word  string
	Param int64 `state:"-"`
}

type testActor[K comparable] interface {
	receive(r *Run[string], e *event[K])
	onTimer(r *Run[string], name string, at int64)
}

func (a *flatActor[K]) receive(r *Run[string], e *event[K]) {
	act(r, e, func(n int64) int64 { a.N += n; a.Hits++; return a.N }, a.Param)
}

func (a *flatActor[K]) onTimer(r *Run[string], name string, at int64) {
	k, _ := CurrentKey[K](&r.Core)
	r.Emit(fmt.Sprintf("%v timer %s %d n=%d", k, name, at, a.N))
	if name == "clear" {
		r.Clear()
	}
}

func (a *deepActor[K]) receive(r *Run[string], e *event[K]) {
	act(r, e, func(n int64) int64 {
		a.N += n
		a.Log = append(a.Log, n)
		if len(a.Log) > 5 {
			a.Log[0] = 7 // in place: shared with nothing that is being encoded
			a.Log = a.Log[3:]
		}
		a.Word = fmt.Sprint(a.N)
		return a.N
	}, a.Param)
	sum := int64(0)
	for _, n := range a.Log {
		sum += n
	}
	_ = sum
}

func (a *deepActor[K]) onTimer(r *Run[string], name string, at int64) {
	k, _ := CurrentKey[K](&r.Core)
	if a.Word != "" && a.Word != fmt.Sprint(a.N) {
		r.Emit("word and number differ")
	}
	r.Emit(fmt.Sprintf("%v timer %s %d n=%d", k, name, at, a.N))
	if name == "clear" {
		r.Clear()
	}
}

func act[K comparable](r *Run[string], e *event[K], add func(int64) int64, param int64) {
	k, ok := CurrentKey[K](&r.Core)
	if !ok || k != e.Key || param != 42 {
		r.Emit(fmt.Sprintf("key %v of row %v, param %d", k, e.Key, param))
	}
	switch e.Op {
	case "add":
		r.Emit(fmt.Sprintf("%v n=%d", e.Key, add(e.N)))
	case "silent":
		add(e.N)
	case "clear":
		r.Clear()
	case "clearset":
		r.Clear()
		r.SetTimer(e.Name, e.At)
	case "set":
		add(e.N)
		r.SetTimer(e.Name, e.At)
	case "unset":
		add(e.N)
		r.ClearTimer(e.Name)
	}
}

// model is the naive reference of an actor operator.
type model[K comparable] struct {
	n       map[K]int64
	timers  map[K]map[string]int64
	handles *handleModel[K] // nil: none
}

func newModel[K comparable]() *model[K] {
	return &model[K]{n: map[K]int64{}, timers: map[K]map[string]int64{}}
}

func (m *model[K]) clone() reference[event[K]] {
	c := &model[K]{n: maps.Clone(m.n), timers: map[K]map[string]int64{}, handles: m.handles.clone()}
	for k, t := range m.timers {
		c.timers[k] = maps.Clone(t)
	}
	return c
}

func (m *model[K]) at(now int64) { m.handles.at(now) }

func (m *model[K]) receive(e event[K], _ int64) (out []string) {
	if out, ok := m.handles.receive(e); ok {
		m.n[e.Key] += 0
		return out
	}
	if e.Op == "clear" || e.Op == "clearset" {
		m.handles.clear(e.Key)
		delete(m.n, e.Key)
		delete(m.timers, e.Key)
		if e.Op == "clear" {
			return nil
		}
		m.n[e.Key] = 0
	} else {
		m.n[e.Key] += e.N
	}
	switch e.Op {
	case "add":
		return []string{fmt.Sprintf("%v n=%d", e.Key, m.n[e.Key])}
	case "set", "clearset":
		if m.timers[e.Key] == nil {
			m.timers[e.Key] = map[string]int64{}
		}
		m.timers[e.Key][e.Name] = e.At
	case "unset":
		delete(m.timers[e.Key], e.Name)
	}
	return nil
}

func (m *model[K]) advance(wm int64) (out []string) {
	for k, ts := range m.timers {
		names := slices.Sorted(maps.Keys(ts))
		slices.SortStableFunc(names, func(a, b string) int { return int(ts[a] - ts[b]) })
		for _, name := range names {
			at, ok := ts[name]
			if !ok || at > wm {
				continue
			}
			delete(ts, name)
			out = append(out, fmt.Sprintf("%v timer %s %d n=%d", k, name, at, m.n[k]))
			if name == "clear" {
				m.handles.clear(k)
				delete(m.n, k)
				clear(ts)
			}
		}
	}
	return out
}

func (m *model[K]) next() int64 {
	at := int64(dataflow.MaxTime)
	for _, ts := range m.timers {
		for _, t := range ts {
			at = min(at, t)
		}
	}
	return at
}

// A subtask under test.
type subject struct {
	h      *memHost
	r      spi.Runner
	frozen spi.Frozen
	write  chan *frozenWrite // result of the write
	later  func()            // does a write that waits for thaw
	out    []string
}

const testGroups = 16

var plainOps = []string{"add", "add", "add", "set", "set", "unset", "clear", "clearset", "silent"}

// A reference is a naive model of an operator.
type reference[E any] interface {
	receive(e E, at int64) []string
	advance(wm int64) []string
	next() int64
	at(now int64)
	clone() reference[E]
}

// A suite drives an operator whose rows are of type E beside its reference.
type suite[E any] struct {
	t      *testing.T
	rnd    *rand.Rand
	gen    func() (e E, hash uint32, at int64)
	make   func() (spi.Runner, error)
	state  []spi.StateType
	subs   []*subject
	model  reference[E]
	wm     int64
	step   int64 // of event time
	now    int64
	pinned bool // no freeze now: a checkpoint is open
	total  int
}

// actorGen returns a generator of events.
func actorGen[K comparable](s *suite[event[K]], keys int, key func(int) K, ops []string) func() (event[K], uint32, int64) {
	hash, err := HasherOf[K]()
	if err != nil {
		s.t.Fatal(err)
	}
	return func() (event[K], uint32, int64) {
		e := event[K]{Key: key(s.rnd.IntN(keys)), N: s.rnd.Int64N(9), Name: []string{"a", "b", "clear"}[s.rnd.IntN(3)]}
		e.Op = ops[s.rnd.IntN(len(ops))]
		e.Sub = fmt.Sprint("sub", s.rnd.IntN(12))
		e.At = max(s.wm, 0) + s.rnd.Int64N(20*s.step) - s.step
		return e, hash(e.Key), e.At
	}
}

// Whatever the order of rows, freezes (written at once or beside the actor, kept
// or undone), evictions and restores at other parallelisms, an actor operator
// does what plain maps do.
func TestActorsAgainstModel(t *testing.T) {
	ints := func(i int) int64 { return int64(i) }
	strs := func(i int) string { return fmt.Sprintf("key-%d%0*d", i, i%40, 7) }
	pairs := func(i int) pairKey { return pairKey{A: strs(i), B: int16(i), D: "x"} }
	for seed := range uint64(12) {
		mk, states := newTestRunner[int64](func() *flatActor[int64] { return &flatActor[int64]{Param: 42} })
		runSuite(t, seed, "int flat", ints, mk, states)
		mk, states = newTestRunner[string](func() *flatActor[string] { return &flatActor[string]{Param: 42} })
		runSuite(t, seed, "string flat", strs, mk, states)
		mk, states = newTestRunner[string](func() *deepActor[string] { return &deepActor[string]{Param: 42} })
		runSuite(t, seed, "string deep", strs, mk, states)
		mk, states = newTestRunner[pairKey](func() *deepActor[pairKey] { return &deepActor[pairKey]{Param: 42} })
		runSuite(t, seed, "pair deep", pairs, mk, states)
	}
}

func newTestRunner[K comparable, A testActor[K]](init func() A) (func() (spi.Runner, error), []spi.StateType) {
	return func() (spi.Runner, error) {
		return NewActors(ActorSpec[K, A, string]{
			Init:  init,
			Timer: func(a A, r *Run[string], name string, at int64) { a.onTimer(r, name, at) },
			Inputs: []ActorInput[K, A, string]{NewActorInput(
				func(e event[K]) K { return e.Key },
				func(a A, r *Run[string], e *event[K]) { a.receive(r, e) })},
		}, new(Sides))
	}, ActorStates[A](true)
}

func runSuite[K comparable](t *testing.T, seed uint64, name string, key func(int) K, mk func() (spi.Runner, error), states []spi.StateType) {
	t.Run(fmt.Sprintf("%s/%d", name, seed), func(t *testing.T) {
		s := &suite[event[K]]{
			t: t, rnd: rand.New(rand.NewPCG(seed, 9)), make: mk, state: states, model: newModel[K](),
			step: []int64{1000, 5_000_000, 90_000_000}[seed/3%3],
		}
		s.gen = actorGen(s, []int{3, 40, 900}[seed%3], key, plainOps)
		s.restore(map[string][]byte{}, 1)
		for s.total < 15000 {
			s.turn()
		}
	})
}

func (s *suite[E]) restore(store map[string][]byte, parallelism int) {
	s.subs = nil
	for i := range parallelism {
		owned := dataflow.OwnedBy(testGroups, parallelism, i)
		h := &memHost{store: map[string][]byte{}, states: s.state, owned: owned, total: testGroups, wm: s.wm, now: s.now}
		for k, v := range store {
			if g, _ := dataflow.RowGroup([]byte(k)); owned.Contains(g) {
				h.store[k] = v
			}
		}
		r, err := s.make()
		if err != nil {
			s.t.Fatal(err)
		}
		sub := &subject{h: h, r: r}
		h.sent = func(_ int, b spi.Batch) { sub.out = append(sub.out, b.(*Rows[string]).Values...) }
		if err := r.Open(h, nil); err != nil {
			s.t.Fatal(err)
		}
		s.subs = append(s.subs, sub)
	}
}

func (s *suite[E]) turn() {
	switch x := s.rnd.IntN(20); {
	case x < 9:
		s.rows()
	case x < 12:
		s.advance()
	case x < 14:
		for _, sub := range s.subs {
			sub.r.Evict([]int64{1, 1000, 1 << 40}[s.rnd.IntN(3)])
		}
	case x < 17:
		sub := s.subs[s.rnd.IntN(len(s.subs))]
		if sub.frozen == nil {
			s.freeze(sub)
		} else {
			s.thaw(sub, s.rnd.IntN(3) == 0)
		}
	case s.rnd.IntN(4) == 0:
		s.checkpoint()
	case s.rnd.IntN(2) == 0:
		s.midway()
	}
}

func (s *suite[E]) rows() {
	n := 1 + s.rnd.IntN(400)
	s.total += n
	s.now += s.rnd.Int64N(20)
	s.model.at(s.now)
	for _, sub := range s.subs {
		sub.h.now = s.now
	}
	batches := make([]*Rows[E], len(s.subs))
	for i := range batches {
		batches[i] = NewRows[E](0)
	}
	var want []string
	for range n {
		e, h, at := s.gen()
		want = append(want, s.model.receive(e, at)...)
		b := batches[dataflow.OwnerOf(dataflow.GroupOf(h, testGroups), testGroups, len(s.subs))]
		b.Add(e, at)
		b.Meta.Hashes = append(b.Meta.Hashes, h)
	}
	for i, sub := range s.subs {
		for from := 0; from < batches[i].Len(); {
			sub.h.room = 1 + s.rnd.IntN(300)
			if s.rnd.IntN(5) == 0 {
				sub.h.room = 0
			}
			n, err := sub.r.Step(0, batches[i], from)
			if err != nil {
				s.t.Fatal(err)
			}
			if n == 0 && sub.h.room > 0 {
				s.t.Fatalf("no progress at row %d of %d with room %d", from, batches[i].Len(), sub.h.room)
			}
			from += n
			if s.rnd.IntN(8) == 0 {
				sub.r.Evict(1 << 40)
			}
		}
	}
	s.compare("rows", want)
}

func (s *suite[E]) advance() {
	s.wm = max(s.wm, 0) + s.rnd.Int64N(4*s.step)
	next := s.model.next()
	got := int64(dataflow.MaxTime)
	for _, sub := range s.subs {
		got = min(got, sub.r.NextTimer())
	}
	if got > next {
		s.t.Fatalf("NextTimer says %d, but a timer is at %d", got, next)
	}
	want := s.model.advance(s.wm)
	for _, sub := range s.subs {
		for done := false; !done; {
			sub.h.room = s.rnd.IntN(30)
			var err error
			if done, err = sub.r.Advance(s.wm, s.rnd.IntN(40)); err != nil {
				s.t.Fatal(err)
			}
			if s.rnd.IntN(6) == 0 {
				sub.r.Evict(1 << 40)
			}
			if sub.frozen == nil && !s.pinned && s.rnd.IntN(20) == 0 {
				s.freeze(sub)
			}
		}
		sub.h.wm = s.wm
	}
	s.compare("advance", want)
}

func (s *suite[E]) compare(what string, want []string) {
	s.t.Helper()
	var got []string
	for _, sub := range s.subs {
		got = append(got, sub.out...)
		sub.out = sub.out[:0]
	}
	if g, w := sortedStrings(got), sortedStrings(want); !slices.Equal(g, w) {
		for i := range max(len(g), len(w)) {
			if i >= len(g) || i >= len(w) || g[i] != w[i] {
				s.t.Fatalf("%s: got %d rows, want %d; first difference at %d: got %q, want %q", what, len(g), len(w), i, g[i:min(i+3, len(g))], w[i:min(i+3, len(w))])
			}
		}
	}
}

func (s *suite[E]) freeze(sub *subject) {
	f, err := sub.r.Freeze()
	if err != nil {
		s.t.Fatal(err)
	}
	if f == nil {
		return
	}
	sub.frozen, sub.write = f, make(chan *frozenWrite, 1)
	write := func() {
		w, err := writeFrozen(f)
		if err != nil {
			s.t.Error(err)
		}
		sub.write <- w
	}
	switch s.rnd.IntN(3) {
	case 0:
		write()
	case 1:
		go write()
	default:
		sub.later = write
	}
}

func (s *suite[E]) thaw(sub *subject, undo bool) {
	if sub.frozen == nil {
		return
	}
	if sub.later != nil {
		sub.later()
		sub.later = nil
	}
	w := <-sub.write
	if undo {
		sub.frozen.Done(errors.New("aborted"))
	} else {
		sub.h.apply(w)
		sub.frozen.Done(nil)
	}
	sub.frozen = nil
}

// checkpoint freezes all subtasks, goes on for a while, and sometimes restores
// from it at another parallelism.
func (s *suite[E]) checkpoint() {
	store := map[string][]byte{}
	for _, sub := range s.subs {
		s.thaw(sub, s.rnd.IntN(2) == 0)
		s.freeze(sub)
	}
	m, wm := s.model.clone(), s.wm
	s.pinned = true // a subtask may have had nothing to freeze
	for range s.rnd.IntN(3) {
		s.rows()
		s.advance()
	}
	for _, sub := range s.subs {
		s.thaw(sub, false)
		maps.Copy(store, sub.h.store)
	}
	s.pinned = false
	if s.rnd.IntN(3) > 0 {
		s.model, s.wm = m, wm
		s.restore(store, 1+s.rnd.IntN(4))
	}
}

// midway cuts checkpoints between the timers and panes of one watermark, some of
// which come to nothing, and sometimes restores from one of them at another
// parallelism. The host takes no rows before the watermark is reached, after a
// restore neither.
func (s *suite[E]) midway() {
	wm := max(s.wm, 0) + s.rnd.Int64N(6*s.step)
	want := s.model.advance(wm)
	done := make([]bool, len(s.subs))
	var sent []string // before the cut
	for cuts := 1 + s.rnd.IntN(3); cuts > 0; cuts-- {
		for i, sub := range s.subs {
			for range s.rnd.IntN(8) {
				s.advanceOnce(sub, wm, &done[i])
			}
			sent = append(sent, sub.out...)
			sub.out = sub.out[:0]
			s.thaw(sub, s.rnd.IntN(3) == 0)
			s.freeze(sub)
		}
		store := map[string][]byte{}
		for i, sub := range s.subs {
			for range s.rnd.IntN(3) { // the file is written meanwhile
				s.advanceOnce(sub, wm, &done[i])
			}
			s.thaw(sub, s.rnd.IntN(4) == 0 && cuts > 1)
			maps.Copy(store, sub.h.store)
		}
		if cuts == 1 && s.rnd.IntN(3) > 0 {
			s.restore(store, 1+s.rnd.IntN(4))
			done = make([]bool, len(s.subs))
		}
	}
	s.wm = wm
	for i, sub := range s.subs {
		for !done[i] {
			s.advanceOnce(sub, wm, &done[i])
		}
		sub.h.wm = wm
	}
	s.subs[0].out = append(s.subs[0].out, sent...)
	s.compare("midway", want)
}

// advanceOnce calls Advance once, unless it is done.
func (s *suite[E]) advanceOnce(sub *subject, wm int64, done *bool) {
	if *done {
		return
	}
	sub.h.room = s.rnd.IntN(30)
	var err error
	if *done, err = sub.r.Advance(wm, s.rnd.IntN(40)); err != nil {
		s.t.Fatal(err)
	}
	if s.rnd.IntN(6) == 0 {
		sub.r.Evict(1 << 40)
	}
}

// A write that stops early leaves nothing claimed: the actor goes on, and the rows
// come with the next freeze.
func TestWriteStopsEarly(t *testing.T) {
	mk, states := newTestRunner[int64](func() *deepActor[int64] { return &deepActor[int64]{Param: 42} })
	r, _ := mk()
	h := &memHost{store: map[string][]byte{}, states: states, owned: dataflow.KeyGroups{To: testGroups}, total: testGroups}
	if err := r.Open(h, nil); err != nil {
		t.Fatal(err)
	}
	const keys = 1000
	feed := func() {
		in := NewRows[event[int64]](0)
		for k := range int64(keys) {
			in.Add(event[int64]{Key: k, Op: "set", N: 1, Name: "a", At: k}, 0)
		}
		h.room = 1 << 20
		if n, err := r.Step(0, in, 0); n != keys || err != nil {
			t.Fatal(n, err)
		}
	}
	feed()
	f, _ := r.Freeze()
	n := 0
	if err := f.Rows(func(k, v []byte) bool { n++; return n < 100 }); err != nil {
		t.Fatal(err)
	}
	feed()
	f.Done(errors.New("disk full"))
	feed()
	f, _ = r.Freeze()
	w, err := writeFrozen(f)
	if err != nil || len(w.keys) != 2*keys { // rows and their timers
		t.Fatalf("%d rows, %v", len(w.keys), err)
	}
	f.Done(nil)
}
