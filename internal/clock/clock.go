// Package clock is the only source of time in Weir: everything that waits,
// expires or stamps takes a Clock, so that tests and simulation decide what time
// it is.
//
// Two implementations: Wall is the machine's clock (inside a testing/synctest
// bubble it is the bubble's), Fake is moved by hand.
//
// Concurrency: clocks are safe for concurrent use; a Timer's methods are, too.
//
// Durability: none. Wall time of two machines, and of one machine before and
// after a restart, is never compared to decide ownership: leases use Monotonic.
package clock

import (
	"context"
	"time"
)

// A Clock tells the time and wakes its callers.
type Clock interface {
	// Now returns the wall time. It may jump; measure with Monotonic.
	Now() time.Time

	// Monotonic returns the time since an arbitrary start, fixed for the life of
	// this clock. It never goes back and does not follow adjustments of the wall
	// clock, so it is what time-outs and leases compare.
	Monotonic() time.Duration

	// NewTimer returns a timer whose channel receives the time once, d from now.
	// A d of zero or below fires at once.
	NewTimer(d time.Duration) Timer

	// AfterFunc calls f once, d from now, unless the timer is stopped before. Wall
	// calls f on a goroutine of its own; Fake calls it on the goroutine that moves
	// the clock. The timer's C returns nil.
	AfterFunc(d time.Duration, f func()) Timer
}

// A Timer is one wake-up that was asked of a Clock.
type Timer interface {
	// C is where the time arrives; nil for a timer of AfterFunc. After Stop or
	// Reset has returned, nothing stale is received from it.
	C() <-chan time.Time

	// Stop keeps the timer from firing. It reports whether it was still pending.
	Stop() bool

	// Reset makes the timer fire d from now, whether it was pending or not. It
	// reports whether it was still pending.
	Reset(d time.Duration) bool
}

// After returns a channel that receives the time once, d from now on c. A caller
// that may give up early should use NewTimer and stop it.
func After(c Clock, d time.Duration) <-chan time.Time { return c.NewTimer(d).C() }

// Sleep waits for d on c, or until ctx is done, whose cause it then returns.
func Sleep(ctx context.Context, c Clock, d time.Duration) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if d <= 0 {
		return nil
	}
	t := c.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C():
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// Wall returns the machine's clock. Its monotonic time starts at this call.
func Wall() Clock { return wall{start: time.Now()} }

type wall struct{ start time.Time }

func (w wall) Now() time.Time { return time.Now() }

func (w wall) Monotonic() time.Duration { return time.Since(w.start) }

func (w wall) NewTimer(d time.Duration) Timer { return wallTimer{time.NewTimer(d)} }

func (w wall) AfterFunc(d time.Duration, f func()) Timer { return wallTimer{time.AfterFunc(d, f)} }

// wallTimer relies on Go 1.23's timers: their channels hold nothing stale after
// Stop or Reset.
type wallTimer struct{ t *time.Timer }

func (t wallTimer) C() <-chan time.Time { return t.t.C }

func (t wallTimer) Stop() bool { return t.t.Stop() }

func (t wallTimer) Reset(d time.Duration) bool { return t.t.Reset(d) }
