package clock

import (
	"container/heap"
	"context"
	"fmt"
	"sync"
	"time"
)

// A Fake is a clock that stands still until it is moved. Its timers fire in the
// order of their deadlines, those of one deadline in the order they were set, and
// each sees Now equal to its own deadline: the same calls always give the same
// history.
//
// A Fake starts no goroutine. Functions of AfterFunc run on the goroutine that
// moves the clock, without a lock held: they may set, stop and reset timers, but
// must not move the clock.
type Fake struct {
	mu      sync.Mutex
	now     time.Time     // guarded by mu, as all below
	mono    time.Duration // moved by Advance, not by Jump
	seq     uint64        // orders timers of one deadline
	pending timerHeap
	moving  bool
	waiters []waiter
}

type waiter struct {
	n    int
	done chan struct{}
}

// NewFake returns a clock that stands at start. A zero start means
// 2000-01-01T00:00:00Z.
func NewFake(start time.Time) *Fake {
	if start.IsZero() {
		start = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)
	}
	return &Fake{now: start.Round(0)}
}

// Now returns the wall time that the clock stands at.
func (f *Fake) Now() time.Time {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.now
}

// Monotonic returns how far Advance has moved the clock since NewFake.
func (f *Fake) Monotonic() time.Duration {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.mono
}

// NewTimer implements Clock. A timer of zero or below has fired when it returns.
func (f *Fake) NewTimer(d time.Duration) Timer {
	t := &fakeTimer{clock: f, c: make(chan time.Time, 1), index: -1}
	t.Reset(d)
	return t
}

// AfterFunc implements Clock. A function of zero or below runs at the next
// Advance, Advance(0) included, never inside AfterFunc itself.
func (f *Fake) AfterFunc(d time.Duration, fn func()) Timer {
	t := &fakeTimer{clock: f, fn: fn, index: -1}
	t.Reset(d)
	return t
}

// Advance moves the clock by d, firing every timer that falls due on the way,
// those included that the fired functions set. It panics if d is negative or if
// another goroutine, or a function of AfterFunc, is moving the clock.
func (f *Fake) Advance(d time.Duration) {
	if d < 0 {
		panic(fmt.Sprintf("clock: Advance(%v): time does not go back; Jump moves the wall clock", d))
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.begin()
	defer f.end()
	target := f.mono + d
	for len(f.pending) > 0 && f.pending[0].at <= target {
		f.fire()
	}
	f.set(target)
}

// Step moves the clock to its next timer and fires that one alone. It reports
// whether there was one.
func (f *Fake) Step() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.pending) == 0 {
		return false
	}
	f.begin()
	defer f.end()
	f.fire()
	return true
}

// Jump moves the wall clock by d, which may be negative, as an administrator or a
// time daemon does: no timer fires and Monotonic stays.
func (f *Fake) Jump(d time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.now = f.now.Add(d)
}

// Next returns how far the next timer is away, and false if none is pending.
func (f *Fake) Next() (time.Duration, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.pending) == 0 {
		return 0, false
	}
	return max(f.pending[0].at-f.mono, 0), true
}

// Pending returns the number of timers that are set and have not fired.
func (f *Fake) Pending() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.pending)
}

// AwaitPending waits until at least n timers are pending: a test that moves the
// clock under running goroutines first waits until they sleep.
func (f *Fake) AwaitPending(ctx context.Context, n int) error {
	f.mu.Lock()
	if len(f.pending) >= n {
		f.mu.Unlock()
		return nil
	}
	w := waiter{n: n, done: make(chan struct{})}
	f.waiters = append(f.waiters, w)
	f.mu.Unlock()
	select {
	case <-w.done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("clock: %d timers pending, waited for %d: %w", f.Pending(), n, context.Cause(ctx))
	}
}

func (f *Fake) begin() {
	if f.moving {
		panic("clock: the fake clock is already being moved: a function of AfterFunc must not move it")
	}
	f.moving = true
}

func (f *Fake) end() { f.moving = false }

// set moves both times to the monotonic time m.
func (f *Fake) set(m time.Duration) {
	if m > f.mono {
		f.now = f.now.Add(m - f.mono)
		f.mono = m
	}
}

// fire moves the clock to the first timer and fires it; mu is held, except while
// a function runs.
func (f *Fake) fire() {
	t := heap.Pop(&f.pending).(*fakeTimer)
	f.set(t.at)
	if t.fn == nil {
		t.send(f.now)
		return
	}
	f.mu.Unlock()
	defer f.mu.Lock() // also when fn panics
	t.fn()
}

func (f *Fake) wake() {
	keep := f.waiters[:0]
	for _, w := range f.waiters {
		if len(f.pending) >= w.n {
			close(w.done)
		} else {
			keep = append(keep, w)
		}
	}
	f.waiters = keep
}

type fakeTimer struct {
	clock *Fake
	c     chan time.Time // of size one; nil if fn is set
	fn    func()

	// Guarded by clock.mu.
	at    time.Duration // monotonic deadline
	seq   uint64
	index int // in clock.pending; -1 when it is not there
}

func (t *fakeTimer) C() <-chan time.Time { return t.c }

func (t *fakeTimer) Stop() bool {
	t.clock.mu.Lock()
	defer t.clock.mu.Unlock()
	return t.stop()
}

func (t *fakeTimer) Reset(d time.Duration) bool {
	f := t.clock
	f.mu.Lock()
	defer f.mu.Unlock()
	was := t.stop()
	if d <= 0 && t.fn == nil {
		t.send(f.now)
		return was
	}
	f.seq++
	t.at, t.seq = f.mono+max(d, 0), f.seq
	if t.at < f.mono { // overflow: for ever
		t.at = 1<<63 - 1
	}
	heap.Push(&f.pending, t)
	f.wake()
	return was
}

// stop takes t off the heap and drops a time that nobody received.
func (t *fakeTimer) stop() bool {
	if t.c != nil {
		select {
		case <-t.c:
			return true // as with Go's own: not yet received is still pending
		default:
		}
	}
	if t.index < 0 {
		return false
	}
	heap.Remove(&t.clock.pending, t.index)
	return true
}

func (t *fakeTimer) send(now time.Time) {
	select {
	case t.c <- now:
	default:
	}
}

type timerHeap []*fakeTimer

func (h timerHeap) Len() int { return len(h) }

func (h timerHeap) Less(i, j int) bool {
	if h[i].at != h[j].at {
		return h[i].at < h[j].at
	}
	return h[i].seq < h[j].seq
}

func (h timerHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].index, h[j].index = i, j
}

func (h *timerHeap) Push(x any) {
	t := x.(*fakeTimer)
	t.index = len(*h)
	*h = append(*h, t)
}

func (h *timerHeap) Pop() any {
	old := *h
	t := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	t.index = -1
	return t
}
