// Package objstoretest holds the tests that every driver of objstore must pass.
// A driver's own tests call Run.
//
// Concurrency: the tests race calls against one store on purpose.
//
// Durability: not tested here; a crash needs a process.
package objstoretest

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/weirstream/weir/internal/objstore"
)

// Options adapts the suite to a driver. A zero field means its default.
type Options struct {
	LargeBytes int // size of the largest body; 6 MiB. Cloud drivers set it above their part size
	Ops        int // length of the random history; 600
	RaceKeys   int // keys that 20 writers race for; 10

	// Refused are keys that this driver refuses although others take them.
	Refused []string
}

// Run tests the stores that open makes: each call returns an empty one.
func Run(t *testing.T, opts Options, open func(t *testing.T) objstore.Store) {
	if opts.LargeBytes == 0 {
		opts.LargeBytes = 6 << 20
	}
	if opts.Ops == 0 {
		opts.Ops = 600
	}
	if opts.RaceKeys == 0 {
		opts.RaceKeys = 10
	}
	for _, tt := range []struct {
		name string
		test func(t *testing.T, s objstore.Store, o Options)
	}{
		{"what was put is read", testRoundTrip},
		{"a body of another size writes nothing", testWrongSize},
		{"ranges", testRanges},
		{"absent objects", testAbsent},
		{"put if absent keeps the first", testPutIfAbsent},
		{"racing puts if absent have one winner", testRace},
		{"racing large puts if absent have one winner", testRaceLarge},
		{"readers see whole objects while they are replaced", testReplace},
		{"a folder that empties under a put", testEmptyingFolder},
		{"list", testList},
		{"strange keys", testStrangeKeys},
		{"bad keys", testBadKeys},
		{"copy", testCopy},
		{"a done context", testContext},
		{"settled put", testPutOnce},
		{"a writer", testWriter},
		{"random history", testHistory},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := open(t)
			defer func() {
				if err := s.Close(); err != nil {
					t.Errorf("Close: %v", err)
				}
			}()
			tt.test(t, s, opts)
		})
	}
}

// onlyReader hides the other methods of a reader.
type onlyReader struct{ io.Reader }

func pattern(n int, seed uint64) []byte {
	b := make([]byte, n)
	r := rand.New(rand.NewPCG(seed, 7))
	for i := 0; i+8 <= n; i += 8 {
		v := r.Uint64()
		for j := range 8 {
			b[i+j] = byte(v >> (8 * j))
		}
	}
	return b
}

func put(t *testing.T, s objstore.Store, key, body string) {
	t.Helper()
	if err := objstore.PutBytes(t.Context(), s, key, []byte(body)); err != nil {
		t.Fatalf("Put(%q): %v", key, err)
	}
}

func get(t *testing.T, s objstore.Store, key string) string {
	t.Helper()
	b, err := objstore.ReadAll(t.Context(), s, key)
	if err != nil {
		t.Fatalf("ReadAll(%q): %v", key, err)
	}
	return string(b)
}

func keys(t *testing.T, s objstore.Store, prefix, after string) []string {
	t.Helper()
	var out []string
	for info, err := range objstore.All(t.Context(), s, prefix, after) {
		if err != nil {
			t.Fatalf("All(%q, %q): %v", prefix, after, err)
		}
		out = append(out, info.Key)
	}
	return out
}

func testRoundTrip(t *testing.T, s objstore.Store, o Options) {
	for i, n := range []int{0, 1, 1 << 10, 1<<20 + 3, o.LargeBytes} {
		for _, known := range []bool{true, false} {
			key := fmt.Sprintf("dir/%d/%v", i, known)
			body := pattern(n, uint64(i))
			size := int64(n)
			var r io.Reader = bytes.NewReader(body)
			if !known {
				size, r = -1, onlyReader{r}
			}
			if err := s.Put(t.Context(), key, r, size); err != nil {
				t.Fatalf("Put of %d bytes, size known %v: %v", n, known, err)
			}
			if got := get(t, s, key); got != string(body) {
				t.Errorf("%d bytes, size known %v: read back %d other bytes", n, known, len(got))
			}
			info, err := s.Stat(t.Context(), key)
			if err != nil || info.Size != int64(n) || info.Key != key || info.ModTime.IsZero() {
				t.Errorf("Stat = %+v, %v; want key %s and size %d", info, err, key, n)
			}
		}
	}
	before, err := s.Stat(t.Context(), "dir/1/true")
	if err != nil {
		t.Fatal(err)
	}
	put(t, s, "dir/1/true", "other")
	after, err := s.Stat(t.Context(), "dir/1/true")
	if err != nil || after.Size != 5 || after.ETag != "" && after.ETag == before.ETag {
		t.Errorf("Stat after replacing = %+v, %v; before %+v", after, err, before)
	}
	if got := get(t, s, "dir/1/true"); got != "other" {
		t.Errorf("read %q after replacing, want \"other\"", got)
	}
}

func testWrongSize(t *testing.T, s objstore.Store, _ Options) {
	broken := errors.New("broken body")
	for _, ifAbsent := range []bool{false, true} {
		write := s.Put
		if ifAbsent {
			write = s.PutIfAbsent
		}
		for _, size := range []int64{0, 3, 5, 1 << 20} {
			if err := write(t.Context(), "k", onlyReader{strings.NewReader("four")}, size); err == nil {
				t.Errorf("ifAbsent %v: a body of 4 bytes announced as %d was taken", ifAbsent, size)
			}
		}
		for _, size := range []int64{-1, 8} {
			r := io.MultiReader(strings.NewReader("four"), errReader{broken})
			if err := write(t.Context(), "k", r, size); !errors.Is(err, broken) {
				t.Errorf("ifAbsent %v: a failing body gave %v, want its error", ifAbsent, err)
			}
		}
	}
	if got := keys(t, s, "", ""); len(got) > 0 {
		t.Errorf("failed puts left %q", got)
	}
}

type errReader struct{ err error }

func (e errReader) Read([]byte) (int, error) { return 0, e.err }

func testRanges(t *testing.T, s objstore.Store, _ Options) {
	put(t, s, "k", "0123456789")
	put(t, s, "empty", "")
	for _, tt := range []struct {
		key            string
		offset, length int64
		want           string
		err            error
	}{
		{"k", 0, 10, "0123456789", nil},
		{"k", 0, -1, "0123456789", nil},
		{"k", 3, 4, "3456", nil},
		{"k", 9, 1, "9", nil},
		{"k", 9, 100, "9", nil},
		{"k", 4, -1, "456789", nil},
		{"k", 4, 0, "", nil},
		{"k", 10, 1, "", objstore.ErrRange},
		{"k", 10, -1, "", objstore.ErrRange},
		{"k", 11, 5, "", objstore.ErrRange},
		{"empty", 0, -1, "", nil},
		{"empty", 0, 5, "", nil},
		{"empty", 1, 1, "", objstore.ErrRange},
		{"absent", 1, 1, "", objstore.ErrNotFound},
		{"absent", 0, -1, "", objstore.ErrNotFound},
	} {
		r, err := s.GetRange(t.Context(), tt.key, tt.offset, tt.length)
		if !errors.Is(err, tt.err) || (err == nil) != (tt.err == nil) {
			t.Errorf("GetRange(%s, %d, %d) fails with %v, want %v", tt.key, tt.offset, tt.length, err, tt.err)
			continue
		}
		if err != nil {
			continue
		}
		b, err := io.ReadAll(r)
		if err != nil || string(b) != tt.want {
			t.Errorf("GetRange(%s, %d, %d) reads %q, %v; want %q", tt.key, tt.offset, tt.length, b, err, tt.want)
		}
		if err := r.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	}
	if _, err := s.GetRange(t.Context(), "k", -1, 2); err == nil {
		t.Error("a negative offset was taken")
	}
	if b, err := objstore.ReadRange(t.Context(), s, "k", 2, 5); err != nil || string(b) != "23456" {
		t.Errorf("ReadRange = %q, %v", b, err)
	}
	if _, err := objstore.ReadRange(t.Context(), s, "k", 8, 5); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("ReadRange past the end = %v, want io.ErrUnexpectedEOF", err)
	}
}

func testAbsent(t *testing.T, s objstore.Store, _ Options) {
	ctx := t.Context()
	put(t, s, "dir/sub/there", "x")
	for _, key := range []string{"absent", "dir/absent", "dir", "dir/sub", "no/such/dir"} {
		if _, _, err := s.Get(ctx, key); !errors.Is(err, objstore.ErrNotFound) {
			t.Errorf("Get(%s) = %v, want ErrNotFound", key, err)
		}
		if _, err := s.Stat(ctx, key); !errors.Is(err, objstore.ErrNotFound) {
			t.Errorf("Stat(%s) = %v, want ErrNotFound", key, err)
		}
		if err := s.Copy(ctx, "dst", key); !errors.Is(err, objstore.ErrNotFound) {
			t.Errorf("Copy from %s = %v, want ErrNotFound", key, err)
		}
		if err := s.Delete(ctx, key); err != nil {
			t.Errorf("Delete(%s) = %v, want nil", key, err)
		}
	}
	if got := keys(t, s, "", ""); !slices.Equal(got, []string{"dir/sub/there"}) {
		t.Errorf("keys %q, want only dir/sub/there", got)
	}
	for range 2 {
		if err := s.Delete(ctx, "dir/sub/there"); err != nil {
			t.Errorf("Delete = %v", err)
		}
	}
	put(t, s, "dir", "an object where a folder was")
	if got := keys(t, s, "", ""); !slices.Equal(got, []string{"dir"}) {
		t.Errorf("keys %q, want only dir", got)
	}
}

func testPutIfAbsent(t *testing.T, s objstore.Store, o Options) {
	ctx := t.Context()
	for i, n := range []int{0, 10, o.LargeBytes} {
		key := fmt.Sprintf("log/%d", i)
		first, second := pattern(n, 1), pattern(n+1, 2)
		if err := objstore.PutBytesIfAbsent(ctx, s, key, first); err != nil {
			t.Fatalf("first PutIfAbsent: %v", err)
		}
		if err := objstore.PutBytesIfAbsent(ctx, s, key, second); !errors.Is(err, objstore.ErrExists) {
			t.Errorf("second PutIfAbsent = %v, want ErrExists", err)
		}
		if err := s.PutIfAbsent(ctx, key, onlyReader{bytes.NewReader(second)}, -1); !errors.Is(err, objstore.ErrExists) {
			t.Errorf("second PutIfAbsent of unknown size = %v, want ErrExists", err)
		}
		if got := get(t, s, key); got != string(first) {
			t.Errorf("the object was changed by a refused put")
		}
		if err := s.Delete(ctx, key); err != nil {
			t.Fatal(err)
		}
		if err := s.PutIfAbsent(ctx, key, onlyReader{bytes.NewReader(second)}, -1); err != nil {
			t.Errorf("PutIfAbsent after Delete: %v", err)
		}
		if got := get(t, s, key); got != string(second) {
			t.Errorf("PutIfAbsent after Delete wrote something else")
		}
	}
}

func testRace(t *testing.T, s objstore.Store, o Options) { race(t, s, o.RaceKeys, 20, 100) }

func testRaceLarge(t *testing.T, s objstore.Store, o Options) { race(t, s, 1, 4, o.LargeBytes) }

func race(t *testing.T, s objstore.Store, rounds, writers, size int) {
	for round := range rounds {
		key := fmt.Sprintf("race/%d", round)
		errs := make([]error, writers)
		start := make(chan struct{})
		var wg sync.WaitGroup
		for w := range writers {
			wg.Go(func() {
				body := pattern(size, uint64(w))
				<-start
				for {
					errs[w] = objstore.PutBytesIfAbsent(t.Context(), s, key, body)
					if !objstore.Retryable(errs[w]) {
						return
					}
				}
			})
		}
		close(start)
		wg.Wait()
		winner, unclear := -1, []int(nil)
		for w, err := range errs {
			switch {
			case err == nil && winner >= 0:
				t.Fatalf("%s: writers %d and %d both won", key, winner, w)
			case err == nil:
				winner = w
			case errors.Is(err, objstore.ErrAmbiguous):
				unclear = append(unclear, w)
			case !errors.Is(err, objstore.ErrExists):
				t.Fatalf("%s: writer %d: %v, want ErrExists", key, w, err)
			}
		}
		got := get(t, s, key)
		if winner < 0 {
			for _, w := range unclear {
				if got == string(pattern(size, uint64(w))) {
					winner = w
				}
			}
		}
		if winner < 0 || got != string(pattern(size, uint64(winner))) {
			t.Errorf("%s: the object is not the winner's (%d)", key, winner)
		}
	}
}

func testReplace(t *testing.T, s objstore.Store, _ Options) {
	body := func(v int) []byte { return bytes.Repeat([]byte{byte('a' + v%26)}, 50_000+v) }
	if err := objstore.PutBytes(t.Context(), s, "k", body(0)); err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			for {
				b, err := objstore.ReadAll(t.Context(), s, "k")
				if err != nil {
					t.Errorf("read while replaced: %v", err)
					return
				}
				if v := len(b) - 50_000; v < 0 || !bytes.Equal(b, body(v)) {
					t.Errorf("read a mixture of %d bytes", len(b))
					return
				}
				select {
				case <-done:
					return
				default:
				}
			}
		})
	}
	for v := 1; v < 40; v++ {
		if err := objstore.PutBytes(t.Context(), s, "k", body(v)); err != nil {
			t.Error(err)
			break
		}
	}
	close(done)
	wg.Wait()
}

func testEmptyingFolder(t *testing.T, s objstore.Store, _ Options) {
	var b objstore.Backoff // a server over folders may answer that two calls conflict
	var wg sync.WaitGroup
	for w := range 4 {
		wg.Go(func() {
			key := fmt.Sprintf("a/b/c/%d", w)
			for i := range 30 {
				if err := b.Do(t.Context(), func() error { return objstore.PutBytes(t.Context(), s, key, []byte{byte(i)}) }); err != nil {
					t.Errorf("put %s: %v", key, err)
				}
				if got, err := objstore.ReadAll(t.Context(), s, key); err != nil || len(got) != 1 || got[0] != byte(i) {
					t.Errorf("read %s: %v, %v; want %d", key, got, err, i)
				}
				if err := b.Do(t.Context(), func() error { return s.Delete(t.Context(), key) }); err != nil {
					t.Errorf("delete %s: %v", key, err)
				}
			}
		})
	}
	wg.Wait()
	if got := keys(t, s, "", ""); len(got) > 0 {
		t.Errorf("%q are left", got)
	}
}

func testWriter(t *testing.T, s objstore.Store, o Options) {
	body := pattern(o.LargeBytes, 5)
	write := func(w *objstore.Writer) {
		t.Helper()
		for rest := body; len(rest) > 0; {
			n := min(len(rest), 70_001)
			if _, err := w.Write(rest[:n]); err != nil {
				t.Fatal(err)
			}
			rest = rest[n:]
		}
	}
	w := objstore.NewWriter(t.Context(), s.Put, "closed")
	write(w)
	if got := keys(t, s, "", ""); len(got) > 0 {
		t.Errorf("%q are seen before Close", got)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	w.Abort() // does nothing any more
	if get(t, s, "closed") != string(body) {
		t.Error("the object is not what was written")
	}
	if err := objstore.NewWriter(t.Context(), s.Put, "empty").Close(); err != nil {
		t.Fatal(err)
	}
	w = objstore.NewWriter(t.Context(), s.Put, "aborted")
	write(w)
	w.Abort()
	if w.Close() == nil {
		t.Error("Close after Abort says that all is well")
	}
	objstore.NewWriter(t.Context(), s.Put, "aborted at once").Abort()
	w = objstore.NewWriter(t.Context(), s.PutIfAbsent, "closed")
	_, _ = w.Write([]byte("x")) // may fail already
	if err := w.Close(); !errors.Is(err, objstore.ErrExists) {
		t.Errorf("Close on a taken key = %v, want ErrExists", err)
	}
	w = objstore.NewWriter(t.Context(), s.Put, "../bad")
	if _, err := w.Write([]byte("x")); !errors.Is(err, objstore.ErrKey) {
		t.Errorf("Write under a bad key = %v, want ErrKey", err)
	}
	if err := w.Close(); !errors.Is(err, objstore.ErrKey) {
		t.Errorf("Close under a bad key = %v, want ErrKey", err)
	}
	if got := keys(t, s, "", ""); !slices.Equal(got, []string{"closed", "empty"}) {
		t.Errorf("keys %q, want closed and empty", got)
	}
}
