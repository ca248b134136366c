package objstore_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/weirstream/weir/internal/clock"
	"github.com/weirstream/weir/internal/objstore"
	"github.com/weirstream/weir/internal/objstore/objstoretest"
)

// Without faults a Faulty is the store behind it.
func TestFaultyConforms(t *testing.T) {
	objstoretest.Run(t, objstoretest.Options{}, func(*testing.T) objstore.Store {
		return objstore.NewFaulty(objstore.NewMem(nil), objstore.FaultyOptions{})
	})
}

// Short pages are legal: the walk must not notice.
func TestFaultyShortPages(t *testing.T) {
	objstoretest.Run(t, objstoretest.Options{LargeBytes: 1000}, func(*testing.T) objstore.Store {
		return objstore.NewFaulty(objstore.NewMem(nil), objstore.FaultyOptions{
			Rand: rand.New(rand.NewPCG(1, 2)), Odds: map[objstore.Fault]float64{objstore.ShortPage: 0.8},
		})
	})
}

// Each fault does what its name says to the write, and says what it may.
func TestFaults(t *testing.T) {
	for _, tt := range []struct {
		fault   objstore.Fault
		err     error
		there   bool // right after
		settled bool // after Settle
	}{
		{objstore.NoFault, nil, true, true},
		{objstore.LostBefore, objstore.ErrAmbiguous, false, false},
		{objstore.LostAfter, objstore.ErrAmbiguous, true, true},
		{objstore.Late, objstore.ErrAmbiguous, false, true},
		{objstore.Conflict, objstore.ErrRetry, false, false},
		{objstore.Throttle, objstore.ErrRetry, false, false},
		{objstore.Unreachable, objstore.ErrRetry, false, false},
	} {
		t.Run(tt.fault.String(), func(t *testing.T) {
			mem := objstore.NewMem(nil)
			f := objstore.NewFaulty(mem, objstore.FaultyOptions{})
			f.Script(1, tt.fault)
			err := objstore.PutBytesIfAbsent(t.Context(), f, "k", []byte("x"))
			if !errors.Is(err, tt.err) || (err == nil) != (tt.err == nil) {
				t.Errorf("err = %v, want %v", err, tt.err)
			}
			if got, want := objstore.Retryable(err), tt.err == objstore.ErrRetry; got != want {
				t.Errorf("Retryable = %v, want %v", got, want)
			}
			_, err = mem.Stat(t.Context(), "k")
			if (err == nil) != tt.there {
				t.Errorf("the object is there: %v, want %v", err == nil, tt.there)
			}
			f.Settle()
			_, err = mem.Stat(t.Context(), "k")
			if (err == nil) != tt.settled {
				t.Errorf("the object is there in the end: %v, want %v", err == nil, tt.settled)
			}
		})
	}
}

// A truncated read is never taken for a whole one, be it told or silent.
func TestFaultyTruncation(t *testing.T) {
	for _, fault := range []objstore.Fault{objstore.Truncate, objstore.TruncateSilently} {
		f := objstore.NewFaulty(objstore.NewMem(nil), objstore.FaultyOptions{Rand: rand.New(rand.NewPCG(3, 4))})
		if err := objstore.PutBytes(t.Context(), f, "k", []byte("0123456789")); err != nil {
			t.Fatal(err)
		}
		f.Script(2, fault)
		f.Script(3, fault)
		if b, err := objstore.ReadAll(t.Context(), f, "k"); !errors.Is(err, objstore.ErrRetry) {
			t.Errorf("%v: ReadAll = %q, %v; want ErrRetry", fault, b, err)
		}
		if b, err := objstore.ReadRange(t.Context(), f, "k", 2, 5); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("%v: ReadRange = %q, %v; want io.ErrUnexpectedEOF", fault, b, err)
		}
		if b, err := objstore.ReadAll(t.Context(), f, "k"); err != nil || string(b) != "0123456789" {
			t.Errorf("%v: the next ReadAll = %q, %v", fault, b, err)
		}
	}
}

// A store that is down has no effects; DownFrom counts calls.
func TestFaultyDown(t *testing.T) {
	mem := objstore.NewMem(nil)
	f := objstore.NewFaulty(mem, objstore.FaultyOptions{})
	f.DownFrom(3)
	for i := range 5 {
		err := objstore.PutBytes(t.Context(), f, fmt.Sprint("k", i), nil)
		if (err == nil) != (i < 2) {
			t.Errorf("call %d: %v", i+1, err)
		}
	}
	f.DownFrom(0)
	f.Down(true)
	if _, err := f.List(t.Context(), "", "", 0); !objstore.Retryable(err) {
		t.Errorf("List while down = %v", err)
	}
	f.Down(false)
	if page, err := f.List(t.Context(), "", "", 0); err != nil || len(page) != 2 || f.Calls() != 7 {
		t.Errorf("List = %v, %v after %d calls; want 2 objects after 7", page, err, f.Calls())
	}
}

// harsh are odds under which much goes wrong.
var harsh = map[objstore.Fault]float64{
	objstore.LostBefore: 0.1, objstore.LostAfter: 0.1, objstore.Late: 0.1, objstore.Conflict: 0.05,
	objstore.Throttle: 0.05, objstore.Truncate: 0.05, objstore.TruncateSilently: 0.05, objstore.ShortPage: 0.3,
}

// The same seed meets the same faults at the same times.
func TestFaultyDeterminism(t *testing.T) {
	run := func(seed uint64) (trace []string) {
		fake := clock.NewFake(time.Time{})
		f := objstore.NewFaulty(objstore.NewMem(fake.Now), objstore.FaultyOptions{
			Rand: rand.New(rand.NewPCG(seed, 0)), Odds: harsh, MaxDelay: time.Second,
			Sleep: func(_ context.Context, d time.Duration) error { fake.Advance(d); return nil },
			OnFault: func(call int64, op, key string, fault objstore.Fault) {
				trace = append(trace, fmt.Sprint(fake.Monotonic(), call, op, key, fault))
			},
		})
		for i := range 200 {
			k := fmt.Sprint("k", i%7)
			_ = objstore.PutBytesIfAbsent(t.Context(), f, k, []byte(k))
			_, _ = objstore.ReadAll(t.Context(), f, k)
			_ = f.Delete(t.Context(), k)
		}
		return append(trace, fake.Monotonic().String())
	}
	if a, b := run(1), run(1); !slices.Equal(a, b) || len(a) < 50 {
		t.Errorf("two runs of a seed differ, or met few faults: %d and %d", len(a), len(b))
	}
	if a, b := run(1), run(2); slices.Equal(a, b) {
		t.Error("two seeds give the same run")
	}
}

// Writers that settle lost answers by PutOnce never lose, double or overwrite a
// version, whatever the store does: every version is won by exactly one writer,
// who knows it.
func TestPutOnceUnderFaults(t *testing.T) {
	for seed := range uint64(200) {
		f := objstore.NewFaulty(objstore.NewMem(nil), objstore.FaultyOptions{Rand: rand.New(rand.NewPCG(seed, 9)), Odds: harsh})
		b := objstore.Backoff{Tries: 60, Sleep: func(context.Context, time.Duration) error { return nil }}
		won := map[string]string{}
		next := []int{0, 0, 0}
		order := rand.New(rand.NewPCG(seed, 10))
		for step := range 60 {
			w := order.IntN(3)
			key := fmt.Sprintf("log/%05d", next[w])
			body := fmt.Sprintf("writer %d step %d", w, step)
			switch err := b.PutOnce(t.Context(), f, key, []byte(body)); {
			case err == nil:
				if other, ok := won[key]; ok {
					t.Fatalf("seed %d: %s was won by %q and %q", seed, key, other, body)
				}
				won[key] = body
			case !errors.Is(err, objstore.ErrExists):
				t.Fatalf("seed %d: %v", seed, err)
			}
			next[w]++
		}
		f.Settle()
		for key, body := range won {
			var got []byte
			err := b.Do(t.Context(), func() (err error) { got, err = objstore.ReadAll(t.Context(), f, key); return err })
			if err != nil || string(got) != body {
				t.Fatalf("seed %d: %s holds %q, %v; the winner wrote %q", seed, key, got, err, body)
			}
		}
		if want := slices.Max(next); len(won) != want {
			t.Fatalf("seed %d: %d versions were won, %d were passed", seed, len(won), want)
		}
	}
}

// Backoff repeats what passes, not what stays; its pauses double up to the limit.
func TestBackoff(t *testing.T) {
	var pauses []time.Duration
	b := objstore.Backoff{Tries: 5, First: time.Second, Max: 3 * time.Second, Sleep: func(_ context.Context, d time.Duration) error {
		pauses = append(pauses, d)
		return nil
	}}
	passing := fmt.Errorf("x: %w", objstore.ErrRetry)
	calls := 0
	err := b.Do(t.Context(), func() error { calls++; return passing })
	if !errors.Is(err, objstore.ErrRetry) || calls != 5 {
		t.Errorf("err %v after %d calls, want 5", err, calls)
	}
	if want := []time.Duration{time.Second, 2 * time.Second, 3 * time.Second, 3 * time.Second}; !slices.Equal(pauses, want) {
		t.Errorf("pauses %v, want %v", pauses, want)
	}
	for _, final := range []error{objstore.ErrNotFound, objstore.ErrAmbiguous, fmt.Errorf("%w: %w", objstore.ErrRetry, objstore.ErrAmbiguous)} {
		calls = 0
		if err := b.Do(t.Context(), func() error { calls++; return final }); err != final || calls != 1 {
			t.Errorf("%v after %d calls, want %v after one", err, calls, final)
		}
	}
	b.Jitter = func() float64 { return 0.999 }
	pauses = nil
	calls = 0
	if err := b.Do(t.Context(), func() error {
		if calls++; calls < 3 {
			return passing
		}
		return nil
	}); err != nil || calls != 3 || pauses[0] > 501*time.Millisecond {
		t.Errorf("%v after %d calls, pauses %v", err, calls, pauses)
	}
}

// Open tells what is wrong with a location, naming the cure and no secret.
func TestOpen(t *testing.T) {
	dir := t.TempDir()
	for _, tt := range []struct{ location, want string }{
		{dir + "/plain", ""},
		{"file://" + dir + "/url?sync=off", ""},
		{"mem://", ""},
		{"", "name a folder or a URL"},
		{"file://relative/x", "three slashes"},
		{"file://" + dir + "?sunc=off", "unknown option sunc=off: want sync=on or sync=off"},
		{"s3://bucket/x?secret_key=hush", "no driver for s3://: want one of file, mem, tape, or a path"},
		{"s3://key:hush@bucket/%zz", "invalid URL escape"},
		{"tape://x", "no reels"},
		{"/dev/null/x", "not a directory"},
	} {
		openers := objstore.Openers{"tape": noReels}
		s, err := openers.Open(t.Context(), tt.location)
		if tt.want == "" {
			if err != nil {
				t.Errorf("Open(%q) = %v", tt.location, err)
				continue
			}
			if err := objstore.PutBytes(t.Context(), s, "k", nil); err != nil {
				t.Error(err)
			}
			s.Close()
			continue
		}
		if err == nil || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "hush") {
			t.Errorf("Open(%q) = %v, want %q", tt.location, err, tt.want)
		}
	}
}
