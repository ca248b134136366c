// Package storetest helps to test what is built on deltalake.Store: a store that
// misbehaves as object stores do, and the checks that every Store must pass.
//
// Concurrency: a Faulty is safe for concurrent use when the store below it is.
// Durability: that of the store below.
package storetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/weirstream/weir/deltalake"
)

// ErrInjected is what every fault wraps.
var ErrInjected = errors.New("storetest: injected fault")

// Faults says how often a Faulty misbehaves, as shares between 0 and 1, and where
// it dies. The zero value does nothing.
type Faults struct {
	Ambiguous float64 // of writes: the answer is lost; half of them had happened
	Conflict  float64 // of writes: refused as by a 409, nothing happened
	Truncate  float64 // of reads: the body ends early, which is an error
	Seed      uint64

	// DieAt makes the store fail at its DieAt-th call, counted from 1, and at every
	// later one. With DieAfter the call itself still has its effect.
	DieAt    int
	DieAfter bool
}

// Faulty is a Store that injects Faults into another.
type Faulty struct {
	s      deltalake.Store
	faults Faults

	mu struct {
		sync.Mutex
		rng   *rand.Rand
		calls int
	}
}

// New returns a faulty store over s.
func New(s deltalake.Store, f Faults) *Faulty {
	x := &Faulty{s: s, faults: f}
	x.mu.rng = rand.New(rand.NewPCG(f.Seed, 99))
	return x
}

// Calls returns how many calls were made so far.
func (f *Faulty) Calls() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.mu.calls
}

type fate uint8

const (
	fine     fate = iota
	dead          // nothing happens
	lost          // it happens, the answer is lost
	dropped       // it does not happen, nobody knows
	refused       // a 409
	truncate      // a read ends early
)

func (f *Faulty) call(write bool) fate {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.mu.calls++
	if f.faults.DieAt > 0 && f.mu.calls >= f.faults.DieAt {
		if f.mu.calls == f.faults.DieAt && f.faults.DieAfter {
			return lost
		}
		return dead
	}
	x := f.mu.rng.Float64()
	switch {
	case write && x < f.faults.Ambiguous/2:
		return lost
	case write && x < f.faults.Ambiguous:
		return dropped
	case write && x < f.faults.Ambiguous+f.faults.Conflict:
		return refused
	case !write && x < f.faults.Truncate:
		return truncate
	}
	return fine
}

func fault(what, path string) error { return fmt.Errorf("%w: %s %s", ErrInjected, what, path) }

// write runs do as the call's fate allows.
func (f *Faulty) write(path string, do func() error) error {
	switch f.call(true) {
	case fine:
		return do()
	case lost:
		if err := do(); err != nil {
			return fault("answer lost", path)
		}
		return fault("answer lost", path)
	case refused:
		return fault("409 conflict", path)
	}
	return fault("connection reset", path)
}

// read returns the fault of a read, if it has one.
func (f *Faulty) read(path string) error {
	switch f.call(false) {
	case fine:
		return nil
	case truncate:
		return fmt.Errorf("%w: %w: %s", ErrInjected, io.ErrUnexpectedEOF, path)
	}
	return fault("connection reset", path)
}

// Get implements deltalake.Store.
func (f *Faulty) Get(ctx context.Context, path string) ([]byte, error) {
	if err := f.read(path); err != nil {
		return nil, err
	}
	return f.s.Get(ctx, path)
}

// GetRange implements deltalake.Store.
func (f *Faulty) GetRange(ctx context.Context, path string, off, n int64) ([]byte, error) {
	if err := f.read(path); err != nil {
		return nil, err
	}
	return f.s.GetRange(ctx, path, off, n)
}

// Stat implements deltalake.Store.
func (f *Faulty) Stat(ctx context.Context, path string) (deltalake.ObjectInfo, error) {
	if err := f.read(path); err != nil {
		return deltalake.ObjectInfo{}, err
	}
	return f.s.Stat(ctx, path)
}

// List implements deltalake.Store.
func (f *Faulty) List(ctx context.Context, prefix, after string) iter.Seq2[deltalake.ObjectInfo, error] {
	if err := f.read(prefix); err != nil {
		return func(yield func(deltalake.ObjectInfo, error) bool) { yield(deltalake.ObjectInfo{}, err) }
	}
	return f.s.List(ctx, prefix, after)
}

// Put implements deltalake.Store.
func (f *Faulty) Put(ctx context.Context, path string, data []byte) error {
	return f.write(path, func() error { return f.s.Put(ctx, path, data) })
}

// PutIfAbsent implements deltalake.Store.
func (f *Faulty) PutIfAbsent(ctx context.Context, path string, data []byte) error {
	return f.write(path, func() error { return f.s.PutIfAbsent(ctx, path, data) })
}

// Delete implements deltalake.Store.
func (f *Faulty) Delete(ctx context.Context, path string) error {
	return f.write(path, func() error { return f.s.Delete(ctx, path) })
}

// Create implements deltalake.Store; the object appears at Close, which is the
// call that may fail.
func (f *Faulty) Create(ctx context.Context, path string) (deltalake.ObjectWriter, error) {
	return &faultyWriter{f: f, ctx: ctx, path: path}, nil
}

type faultyWriter struct {
	bytes.Buffer
	f    *Faulty
	ctx  context.Context
	path string
}

func (w *faultyWriter) Close() error { return w.f.Put(w.ctx, w.path, w.Bytes()) }
func (w *faultyWriter) Abort() error { return nil }

// Check fails the test where a store breaks the promises of deltalake.Store. The
// store must be empty.
func Check(t *testing.T, s deltalake.Store) {
	t.Helper()
	ctx := context.Background()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	if _, err := s.Get(ctx, "a/none"); !errors.Is(err, deltalake.ErrNotFound) {
		t.Fatalf("get of a missing object: %v, want ErrNotFound", err)
	}
	if _, err := s.Stat(ctx, "a/none"); !errors.Is(err, deltalake.ErrNotFound) {
		t.Fatalf("stat of a missing object: %v, want ErrNotFound", err)
	}
	if _, err := s.GetRange(ctx, "a/none", 0, 1); !errors.Is(err, deltalake.ErrNotFound) {
		t.Fatalf("range of a missing object: %v, want ErrNotFound", err)
	}
	must(s.Delete(ctx, "a/none"))
	must(s.PutIfAbsent(ctx, "a/x", []byte("12345")))
	if err := s.PutIfAbsent(ctx, "a/x", []byte("other")); !errors.Is(err, deltalake.ErrExists) {
		t.Fatalf("second put-if-absent: %v, want ErrExists", err)
	}
	if b, err := s.GetRange(ctx, "a/x", 1, 3); err != nil || string(b) != "234" {
		t.Fatalf("range: %q %v", b, err)
	}
	if b, err := s.GetRange(ctx, "a/x", 3, 3); err == nil {
		t.Fatalf("a range behind the end gives %q, want an error", b)
	}
	must(s.Put(ctx, "a/x", []byte("new")))
	if b, err := s.Get(ctx, "a/x"); err != nil || string(b) != "new" {
		t.Fatalf("get: %q %v", b, err)
	}
	w, err := s.Create(ctx, "b")
	must(err)
	_, err = w.Write([]byte("streamed"))
	must(err)
	if _, err := s.Stat(ctx, "b"); err == nil {
		t.Fatal("an object is visible before Close")
	}
	must(w.Close())
	w, err = s.Create(ctx, "c")
	must(err)
	_, err = w.Write([]byte("dropped"))
	must(err)
	must(w.Abort())
	must(s.Put(ctx, "a/y/z", nil))
	must(s.Put(ctx, "a.b", []byte("1")))
	list := func(prefix, after, want string) {
		t.Helper()
		got := ""
		for info, err := range s.List(ctx, prefix, after) {
			must(err)
			got += fmt.Sprintf("%s=%d ", info.Path, info.Size)
		}
		if got != want {
			t.Fatalf("list %q after %q: %q, want %q", prefix, after, got, want)
		}
	}
	list("", "", "a.b=1 a/x=3 a/y/z=0 b=8 ")
	list("a/", "", "a/x=3 a/y/z=0 ")
	list("a/", "a/x", "a/y/z=0 ")
	list("a", "a.b", "a/x=3 a/y/z=0 ")
	must(s.Delete(ctx, "a/x"))
	list("a/x", "", "")
	race(t, s)
}

// race lets many callers put the same names; each has one winner.
func race(t *testing.T, s deltalake.Store) {
	t.Helper()
	ctx := context.Background()
	for round := range 20 {
		path := fmt.Sprintf("race/%03d", round)
		var wg sync.WaitGroup
		wins := make(chan string, 8)
		for i := range 8 {
			wg.Go(func() {
				body := fmt.Sprint("writer ", i)
				if err := s.PutIfAbsent(ctx, path, []byte(body)); err == nil {
					wins <- body
				} else if !errors.Is(err, deltalake.ErrExists) {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		close(wins)
		var won []string
		for b := range wins {
			won = append(won, b)
		}
		b, err := s.Get(ctx, path)
		if len(won) != 1 || err != nil || string(b) != won[0] {
			t.Fatalf("%s: winners %v, stored %q %v", path, won, b, err)
		}
	}
}
