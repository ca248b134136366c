package stream

import (
	"fmt"
	"reflect"
	"time"

	"github.com/weirstream/weir/stream/internal/kernel"
)

// A Context is what a user call sees of the engine: it belongs to one call and one
// key and must not be kept.
type Context[Out any] struct{ r *kernel.Run[Out] }

// A Scope is any Context, whatever the operator emits: state handles, tags and
// KeyOf take one.
type Scope interface {
	core() *kernel.Core
	sides() *kernel.Sides
}

func (c Context[Out]) core() *kernel.Core   { return &c.r.Core }
func (c Context[Out]) sides() *kernel.Sides { return c.r.Sides }

// Emit sends v to the main output, with the event time of the row or timer being
// handled. Whatever v points to must not be changed afterwards.
func (c Context[Out]) Emit(v Out) { c.r.Emit(v) }

// SetTimer sets the named timer of the current key, replacing it if it is set:
// OnTimer is called when the watermark has reached at. A time that the watermark
// has passed fires with the next watermark. Times count in microseconds; what is
// finer is rounded up.
//
// A name is one of a few constants of the program. It panics, which fails the
// attempt, if the actor has no OnTimer.
func (c Context[Out]) SetTimer(name string, at time.Time) {
	us := at.UnixMicro()
	if at.Nanosecond()%1000 != 0 {
		us++
	}
	c.r.SetTimer(name, us)
}

// ClearTimer drops the named timer of the current key, if it is set.
func (c Context[Out]) ClearTimer(name string) { c.r.ClearTimer(name) }

// Clear drops all that is kept of the current key: its timers and what the state
// handles hold at once, the actor's struct when the call returns. A timer set
// after Clear keeps the key, with a struct as new.
func (c Context[Out]) Clear() { c.r.Clear() }

// Time returns the event time of the row or timer being handled, in UTC.
func (c Context[Out]) Time() time.Time { return time.UnixMicro(c.r.Now).UTC() }

// Watermark returns the event time that the operator's input has reached, in UTC.
func (c Context[Out]) Watermark() time.Time { return time.UnixMicro(c.r.Watermark()).UTC() }

// KeyOf returns the key being handled. It panics, which fails the attempt, if the
// operator's keys are not of type K.
func KeyOf[K comparable](ctx Scope) K {
	k, ok := kernel.CurrentKey[K](ctx.core())
	if !ok {
		panic(fmt.Sprintf("stream: KeyOf[%v] in an operator with keys of another type: name the type that KeyBy returns", reflect.TypeFor[K]()))
	}
	return k
}
