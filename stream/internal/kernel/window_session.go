package kernel

import (
	"cmp"
	"math"
	"reflect"
	"slices"

	"github.com/weirstream/weir/dataflow"
	"github.com/weirstream/weir/stream/spi"
)

// Session windows are actors: a key's open sessions are its state, and a timer
// stands at the next end.

// Sessions is the state of a key of a session-window operator.
type Sessions[Acc any] struct {
	Open []SessionWindow[Acc] // by start; no two overlap or touch
}

// A SessionWindow is one session of a key. Times are microseconds.
type SessionWindow[Acc any] struct {
	Start, End int64
	Fired      bool // its result was emitted
	Acc        Acc
}

const sessionTimer = "session"

// SessionStates lists the states of a session-window operator.
func SessionStates[Acc any]() []spi.StateType {
	return []spi.StateType{
		{Name: ActorState, Kind: dataflow.ValueState, Value: reflect.TypeFor[Sessions[Acc]]()},
		{Name: ActorTimers, Kind: dataflow.TimerIndex, Panes: true},
	}
}

// NewSessions makes the runner of one subtask of a session-window operator.
func NewSessions[K comparable, In, Acc, Out any](spec WindowSpec[K, In, Acc, Out], sides *Sides) (spi.Runner, error) {
	type sessions = Sessions[Acc]
	return NewActors(ActorSpec[K, *sessions, Out]{
		Init: func() *sessions { return new(sessions) },
		Inputs: []ActorInput[K, *sessions, Out]{NewActorInput(spec.Key, func(s *sessions, r *Run[Out], e *In) {
			addToSession(&spec, s, r, e)
		})},
		Timer: func(s *sessions, r *Run[Out], _ string, at int64) { fireSessions(&spec, s, r, at) },
	}, sides)
}

// plusLate returns the watermark at which a window that ends at t takes no more
// rows.
func (s *WindowSpec[K, In, Acc, Out]) plusLate(t int64) int64 {
	if t > math.MaxInt64-s.Late {
		return math.MaxInt64
	}
	return t + s.Late
}

// addToSession adds a row to the sessions of its key, merging those that it joins.
func addToSession[K comparable, In, Acc, Out any](spec *WindowSpec[K, In, Acc, Out], s *Sessions[Acc], r *Run[Out], e *In) {
	wm := r.Watermark()
	w := SessionWindow[Acc]{Start: r.Now, End: r.Now + spec.Gap}
	from := len(s.Open)
	for i := range s.Open {
		if o := &s.Open[i]; o.Start <= w.End && w.Start <= o.End {
			from = i
			break
		}
	}
	to := from
	for to < len(s.Open) && s.Open[to].Start <= w.End && w.Start <= s.Open[to].End {
		to++
	}
	if from < to {
		w.Start, w.End = min(w.Start, s.Open[from].Start), max(w.End, s.Open[to-1].End)
	}
	if spec.plusLate(w.End) <= wm {
		if spec.TooLate != nil {
			spec.TooLate(r.Sides, e)
		} else {
			r.host.Count(LateDropped, 1)
		}
		if len(s.Open) == 0 {
			r.Clear() // the key was made for this row
		}
		return
	}
	if from < to {
		w.Acc = s.Open[from].Acc
		for i := from + 1; i < to; i++ {
			spec.Merge(&w.Acc, s.Open[i].Acc)
		}
		s.Open = slices.Replace(s.Open, from, to, w)
	} else {
		from, _ = slices.BinarySearchFunc(s.Open, w.Start, func(o SessionWindow[Acc], t int64) int { return cmp.Compare(o.Start, t) })
		s.Open = slices.Insert(s.Open, from, w)
	}
	spec.Add(&s.Open[from].Acc, *e)
	if w.End <= wm {
		emitSession(spec, &s.Open[from], r)
	}
	setSessionTimer(spec, s, r)
}

func emitSession[K comparable, In, Acc, Out any](spec *WindowSpec[K, In, Acc, Out], w *SessionWindow[Acc], r *Run[Out]) {
	w.Fired = true
	k, _ := CurrentKey[K](&r.Core)
	now := r.Now
	r.Now = w.End - 1
	r.Emit(spec.Result(k, w.Start, w.End, &w.Acc))
	r.Now = now
}

// fireSessions emits the sessions that end by at and drops those that take no more
// rows.
func fireSessions[K comparable, In, Acc, Out any](spec *WindowSpec[K, In, Acc, Out], s *Sessions[Acc], r *Run[Out], at int64) {
	for i := range s.Open {
		if w := &s.Open[i]; w.End <= at && !w.Fired {
			emitSession(spec, w, r)
		}
	}
	s.Open = slices.DeleteFunc(s.Open, func(w SessionWindow[Acc]) bool { return spec.plusLate(w.End) <= at })
	if len(s.Open) == 0 {
		r.Clear()
		return
	}
	setSessionTimer(spec, s, r)
}

func setSessionTimer[K comparable, In, Acc, Out any](spec *WindowSpec[K, In, Acc, Out], s *Sessions[Acc], r *Run[Out]) {
	at := int64(math.MaxInt64)
	for i := range s.Open {
		if w := &s.Open[i]; w.Fired {
			at = min(at, spec.plusLate(w.End))
		} else {
			at = min(at, w.End)
		}
	}
	r.SetTimer(sessionTimer, at)
}
