package stream

import (
	"fmt"
	"reflect"
	"time"

	"github.com/weirstream/weir/stream/internal/kernel"
	"github.com/weirstream/weir/stream/spi"
)

// A Window says how event time is cut into windows. Make one with Tumbling,
// Sliding or Session. It is a plain value; its methods return a changed copy.
type Window struct {
	size, slide, gap time.Duration
	offset, late     time.Duration
}

// Tumbling cuts event time into windows of length d that touch each other,
// aligned to 1970-01-01 00:00 UTC.
func Tumbling(d time.Duration) Window { return Window{size: d, slide: d} }

// Sliding starts a window of length d every slide; a row belongs to each window
// that covers it.
func Sliding(d, slide time.Duration) Window { return Window{size: d, slide: slide} }

// Session puts the rows of a key into one window as long as they follow each other
// within gap of event time.
func Session(gap time.Duration) Window { return Window{gap: gap} }

// Offset moves all windows by d: Tumbling(24 * time.Hour).Offset(-2 * time.Hour)
// cuts days of UTC+2.
func (w Window) Offset(d time.Duration) Window { w.offset = d; return w }

// Lateness keeps windows open for d after they fired: a row that comes in that
// time is added, and the window's result is emitted anew. Rows that come later
// still are dropped and counted, or sent to the tag of LateTo.
func (w Window) Lateness(d time.Duration) Window { w.late = d; return w }

func (w Window) check() error {
	switch {
	case w.gap != 0 && w.offset != 0:
		return fmt.Errorf("session windows have no offset: drop it")
	case w.gap < 0 || w.gap == 0 && (w.size <= 0 || w.slide <= 0):
		return fmt.Errorf("window %v has a length that is not positive: give lengths above 0", w)
	case w.gap%time.Microsecond != 0 || w.size%time.Microsecond != 0 || w.slide%time.Microsecond != 0 || w.offset%time.Microsecond != 0:
		return fmt.Errorf("window %v is finer than a microsecond, which event times are not: round its lengths", w)
	case w.late < 0:
		return fmt.Errorf("lateness %v is negative: give 0 or more", w.late)
	case w.gap == 0 && w.slide > w.size:
		return fmt.Errorf("windows of %v every %v leave gaps, whose rows would be lost: make the slide at most the length", w.size, w.slide)
	}
	return nil
}

// String describes the window for people.
func (w Window) String() string {
	switch {
	case w.gap != 0:
		return fmt.Sprintf("session of gap %v", w.gap)
	case w.size == w.slide:
		return fmt.Sprintf("tumbling %v", w.size)
	}
	return fmt.Sprintf("sliding %v every %v", w.size, w.slide)
}

// A Pane is one window of one key.
type Pane[K comparable] struct {
	Key        K
	Start, End time.Time // [Start, End), UTC
}

// LateTo lists the tag to which a window operator sends the rows that came after
// their windows had closed.
func LateTo[T any](t *Tag[T]) Use { return lateUse[T]{t} }

type lateUse[T any] struct{ tag *Tag[T] }

func (l lateUse[T]) use(g *Graph, o *opSpec) { l.tag.use(g, o) }

// Windowed keeps one accumulator per key and window and emits one result per
// window when the watermark reaches its end, with the window's last microsecond as
// event time. add adds a row to an accumulator, which begins as the zero Acc; merge
// adds the second accumulator to the first.
func Windowed[K comparable, In, Acc, Out any](s Keyed[K, In], name string, w Window, add func(*Acc, In), merge func(*Acc, Acc), result func(Pane[K], Acc) Out, uses ...Use) Stream[Out] {
	g := s.s.g
	op := opSpec{name: name, typ: "window", describe: w.String(), ins: []input{s.in()}}
	if err := w.check(); err != nil {
		g.fault("operator %q: %w", name, err)
	}
	if add == nil || merge == nil || result == nil {
		g.fault("operator %q lacks one of its functions: pass add, merge and result", name)
	}
	spec := kernel.WindowSpec[K, In, Acc, Out]{
		Key: s.key, Size: w.size.Microseconds(), Slide: w.slide.Microseconds(), Gap: w.gap.Microseconds(),
		Offset: w.offset.Microseconds(), Late: w.late.Microseconds(), Add: add, Merge: merge,
		Result: func(k K, start, end int64, a *Acc) Out {
			return result(Pane[K]{k, time.UnixMicro(start).UTC(), time.UnixMicro(end).UTC()}, *a)
		},
	}
	for _, u := range uses {
		switch u := u.(type) {
		case lateUse[In]:
			spec.TooLate = func(s *kernel.Sides, e *In) { kernel.EmitSide(s, u.tag, u.tag.name, *e) }
		default:
			g.fault("operator %q is given %T, which a window operator has no use for: list LateTo of a tag of %v", name, u, reflect.TypeFor[In]())
		}
	}
	if w.gap > 0 {
		op.states = kernel.SessionStates[Acc]()
		op.runner = func(sides *kernel.Sides) (spi.Runner, error) { return kernel.NewSessions(spec, sides) }
	} else {
		op.states = kernel.WindowStates[Acc]()
		op.runner = func(sides *kernel.Sides) (spi.Runner, error) { return kernel.NewWindows(spec, sides) }
	}
	return addOp[Out](g, op, uses...)
}
