package clock

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// The same contract holds for both clocks: the wall clock runs in a bubble, where
// it is as exact as the fake.
func TestContract(t *testing.T) {
	for _, tt := range []struct {
		name string
		run  func(t *testing.T, body func(c Clock, advance func(time.Duration)))
	}{
		{"fake", func(t *testing.T, body func(Clock, func(time.Duration))) {
			f := NewFake(time.Time{})
			body(f, f.Advance)
		}},
		{"wall", func(t *testing.T, body func(Clock, func(time.Duration))) {
			synctest.Test(t, func(t *testing.T) {
				body(Wall(), func(d time.Duration) {
					<-time.After(d)
					synctest.Wait()
				})
			})
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tt.run(t, func(c Clock, advance func(time.Duration)) { contract(t, c, advance) })
		})
	}
}

func contract(t *testing.T, c Clock, advance func(time.Duration)) {
	fired := func(tm Timer) bool {
		select {
		case <-tm.C():
			return true
		default:
			return false
		}
	}
	start, mono := c.Now(), c.Monotonic()
	tm := c.NewTimer(time.Second)
	calls := 0
	fn := c.AfterFunc(2*time.Second, func() { calls++ })
	if fn.C() != nil {
		t.Error("C of AfterFunc is not nil")
	}
	advance(999 * time.Millisecond)
	if fired(tm) {
		t.Error("the timer fired early")
	}
	advance(time.Millisecond)
	if !fired(tm) {
		t.Error("the timer did not fire at its deadline")
	}
	if got := c.Now().Sub(start); got != time.Second {
		t.Errorf("Now moved by %v, want 1s", got)
	}
	if got := c.Monotonic() - mono; got != time.Second {
		t.Errorf("Monotonic moved by %v, want 1s", got)
	}
	if tm.Stop() || tm.Reset(time.Second) {
		t.Error("a fired and received timer reports that it was pending")
	}
	if !tm.Stop() || tm.Stop() {
		t.Error("Stop of a pending timer must report true, then false")
	}
	advance(time.Second)
	if fired(tm) || calls != 1 {
		t.Errorf("after 2s: stopped timer fired = %v, function ran %d times, want 1", fired(tm), calls)
	}
	if fn.Reset(time.Second) {
		t.Error("Reset of a function that ran reports that it was pending")
	}
	tm.Reset(time.Second)
	advance(time.Second)
	if calls != 2 {
		t.Errorf("the reset function ran %d times in all, want 2", calls)
	}
	tm.Reset(time.Hour) // drops the time nobody received
	if fired(tm) {
		t.Error("a stale time was received after Reset")
	}
	tm.Stop()
	if now := c.NewTimer(-1); !fired(now) {
		advance(0)
		if !fired(now) {
			t.Error("a timer of -1 did not fire")
		}
	}
}

// Timers fire ordered by (deadline, order of setting) whatever the order of
// setting, stopping and resetting was, and see their own deadline as Now.
func TestFakeOrder(t *testing.T) {
	type want struct {
		at  time.Duration
		seq int
		id  int
	}
	for seed := range uint64(300) {
		r := rand.New(rand.NewPCG(seed, 1))
		f := NewFake(time.Time{})
		start := f.Now()
		var got, expect []want
		model := map[int]want{}
		timers := map[int]Timer{}
		seq := 0
		for op := range 60 {
			id, d := r.IntN(20), time.Duration(r.IntN(10)+1)
			switch k := r.IntN(5); {
			case k == 0 && timers[id] != nil:
				_, pending := model[id]
				if timers[id].Stop() != pending {
					t.Fatalf("seed %d op %d: Stop disagrees with the model", seed, op)
				}
				delete(model, id)
			case k == 1:
				adv := time.Duration(r.IntN(6))
				due := f.Monotonic() + adv
				var fire []want
				for id, w := range model {
					if w.at <= due {
						fire = append(fire, w)
						delete(model, id)
					}
				}
				slices.SortFunc(fire, func(a, b want) int {
					if a.at != b.at {
						return int(a.at - b.at)
					}
					return a.seq - b.seq
				})
				expect = append(expect, fire...)
				f.Advance(adv)
			default:
				seq++
				w := want{f.Monotonic() + d, seq, id}
				model[id] = w
				if timers[id] == nil {
					timers[id] = f.AfterFunc(d, func() {
						got = append(got, want{f.Now().Sub(start), 0, id})
					})
				} else {
					timers[id].Reset(d)
				}
			}
		}
		for i := range expect {
			expect[i].seq = 0
		}
		if !slices.Equal(got, expect) {
			t.Fatalf("seed %d: fired %v, want %v", seed, got, expect)
		}
		if f.Pending() != len(model) {
			t.Fatalf("seed %d: %d pending, want %d", seed, f.Pending(), len(model))
		}
	}
}

// A function that sets timers has them fired by the same Advance, in order.
func TestFakeChain(t *testing.T) {
	f := NewFake(time.Time{})
	var at []time.Duration
	var tick func()
	tick = func() {
		at = append(at, f.Monotonic())
		if len(at) < 4 {
			f.AfterFunc(time.Second, tick)
		}
	}
	f.AfterFunc(time.Second, tick)
	f.Advance(3500 * time.Millisecond)
	if want := []time.Duration{time.Second, 2 * time.Second, 3 * time.Second}; !slices.Equal(at, want) {
		t.Errorf("ticks at %v, want %v", at, want)
	}
	if d, ok := f.Next(); !ok || d != 500*time.Millisecond {
		t.Errorf("Next = %v, %v, want 500ms", d, ok)
	}
	if !f.Step() || f.Step() {
		t.Error("Step must fire the one timer left, then report none")
	}
}

// The wall clock may jump; what measures time does not notice.
func TestFakeJump(t *testing.T) {
	f := NewFake(time.Time{})
	tm := f.NewTimer(time.Minute)
	f.Jump(-time.Hour)
	f.Advance(59 * time.Second)
	f.Jump(2 * time.Hour)
	if f.Pending() != 1 || f.Monotonic() != 59*time.Second {
		t.Errorf("pending %d, monotonic %v, want 1 and 59s", f.Pending(), f.Monotonic())
	}
	f.Advance(time.Second)
	if got, want := <-tm.C(), NewFake(time.Time{}).Now().Add(time.Hour+time.Minute); !got.Equal(want) {
		t.Errorf("fired at %v, want %v", got, want)
	}
}

// Moving a clock from inside one of its functions is a bug of the test.
func TestFakeReentry(t *testing.T) {
	f := NewFake(time.Time{})
	f.AfterFunc(1, func() { f.Advance(1) })
	defer func() {
		if recover() == nil {
			t.Error("Advance inside AfterFunc did not panic")
		}
	}()
	f.Advance(1)
}

// Sleepers are woken in turn, and a cancelled one says why.
func TestSleep(t *testing.T) {
	f := NewFake(time.Time{})
	ctx, cancel := context.WithCancelCause(context.Background())
	out := make(chan error)
	go func() { out <- Sleep(ctx, f, time.Second) }()
	if err := f.AwaitPending(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	f.Advance(time.Second)
	if err := <-out; err != nil {
		t.Errorf("Sleep = %v", err)
	}
	why := errors.New("why")
	go func() { out <- Sleep(ctx, f, time.Second) }()
	if err := f.AwaitPending(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	cancel(why)
	if err := <-out; !errors.Is(err, why) {
		t.Errorf("Sleep after cancel = %v, want the cause", err)
	}
	if f.Pending() != 0 {
		t.Error("the cancelled sleep left its timer")
	}
	if err := Sleep(ctx, f, 0); !errors.Is(err, why) {
		t.Errorf("Sleep(0) of a cancelled context = %v, want the cause", err)
	}
	if err := f.AwaitPending(ctx, 1); !errors.Is(err, why) {
		t.Errorf("AwaitPending of a cancelled context = %v, want the cause", err)
	}
}
