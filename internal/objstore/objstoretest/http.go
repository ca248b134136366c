package objstoretest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/weirstream/weir/internal/objstore"
)

// A Server answers every request by one function, counts them, and closes with its
// test.
type Server struct {
	URL      string
	Requests atomic.Int64

	came chan struct{} // closed by the first request
	once sync.Once

	mu   sync.Mutex
	seen []string // guarded by mu
}

// Serve starts a server that answers by do.
func Serve(t *testing.T, do http.HandlerFunc) *Server {
	t.Helper()
	s := &Server{came: make(chan struct{})}
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.Requests.Add(1)
		s.mu.Lock()
		s.seen = append(s.seen, strings.TrimSpace(r.Method+" "+r.URL.RawQuery+" "+r.Header.Get("Content-Range")))
		s.mu.Unlock()
		s.once.Do(func() { close(s.came) })
		do(w, r)
	}))
	t.Cleanup(srv.Close)
	s.URL = srv.URL
	return s
}

// Seen returns what each request was: its method, query and range.
func (s *Server) Seen() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string(nil), s.seen...)
}

// Status answers with a status and a body.
func Status(code int, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.WriteHeader(code)
		_, _ = io.WriteString(w, body)
	}
}

// Lost reads the request and closes the connection: the answer is lost.
func Lost(w http.ResponseWriter, r *http.Request) {
	_, _ = io.Copy(io.Discard, r.Body)
	if conn, _, err := w.(http.Hijacker).Hijack(); err == nil {
		conn.Close()
	}
}

// silent reads the request and does not answer until the client gives up.
func silent(_ http.ResponseWriter, r *http.Request) {
	_, _ = io.Copy(io.Discard, r.Body)
	<-r.Context().Done()
}

// WantClass fails t unless err is of the class want and of no other; nil wants an
// error that is final.
func WantClass(t *testing.T, err, want error) {
	t.Helper()
	if err == nil {
		t.Fatal("no error")
	}
	for _, class := range []error{objstore.ErrExists, objstore.ErrRetry, objstore.ErrAmbiguous, objstore.ErrNotFound} {
		if errors.Is(err, class) != (class == want) {
			t.Errorf("%v: is %q = %v", err, class, errors.Is(err, class))
		}
	}
}

// HTTP adapts RunHTTP to a driver that calls a server.
type HTTP struct {
	// Open returns a store at a server that waits at most so long for an answer.
	Open func(t *testing.T, endpoint string, wait time.Duration) objstore.Store

	// Answers are what the driver's server may say to a put-if-absent.
	Answers []Answer

	// WrongSum are headers that name a checksum which "not that" does not have; nil
	// for a driver that leaves checksums to another's code.
	WrongSum map[string]string
}

// An Answer is what a server says, and the class of error that the caller hears;
// nil is an error of no class.
type Answer struct {
	Name string
	Do   http.HandlerFunc
	Want error
}

// Says makes an Answer.
func Says(name string, do http.HandlerFunc, want error) Answer { return Answer{name, do, want} }

// RunHTTP tests how a driver takes the answers of a server, and their absence.
func RunHTTP(t *testing.T, h HTTP) {
	const patient = time.Minute
	open := func(t *testing.T, do http.HandlerFunc, wait time.Duration) (objstore.Store, *Server) {
		srv := Serve(t, do)
		return h.Open(t, srv.URL, wait), srv
	}
	// Whatever a put-if-absent is told, it is sent once.
	putIfAbsent := func(name string, do http.HandlerFunc, want error, wait time.Duration) {
		t.Run("put if absent hears "+name, func(t *testing.T) {
			s, srv := open(t, do, wait)
			WantClass(t, objstore.PutBytesIfAbsent(t.Context(), s, "k", []byte("x")), want)
			<-srv.came // a short wait may be over before a busy machine has read what was sent
			if n := srv.Requests.Load(); n != 1 {
				t.Errorf("%d requests, want one: %q", n, srv.Seen())
			}
		})
	}
	for _, a := range h.Answers {
		putIfAbsent(a.Name, a.Do, a.Want, patient)
	}
	putIfAbsent("a lost answer", Lost, objstore.ErrAmbiguous, patient)
	putIfAbsent("no answer", silent, objstore.ErrAmbiguous, 300*time.Millisecond)

	t.Run("a put that nobody can reach had no effect", func(t *testing.T) {
		s := h.Open(t, "http://127.0.0.1:1", patient)
		if err := objstore.PutBytesIfAbsent(t.Context(), s, "k", nil); !objstore.Retryable(err) {
			t.Errorf("PutIfAbsent at a closed port = %v, want ErrRetry", err)
		}
	})
	for name, call := range map[string]func(ctx context.Context, s objstore.Store) error{
		"put if absent": func(ctx context.Context, s objstore.Store) error { return objstore.PutBytesIfAbsent(ctx, s, "k", nil) },
		"put":           func(ctx context.Context, s objstore.Store) error { return objstore.PutBytes(ctx, s, "k", nil) },
		"stat":          func(ctx context.Context, s objstore.Store) error { _, err := s.Stat(ctx, "k"); return err },
	} {
		t.Run("a "+name+" cut off by its context", func(t *testing.T) {
			ctx, cancel := context.WithCancelCause(t.Context())
			why := errors.New("why")
			s, _ := open(t, func(w http.ResponseWriter, r *http.Request) { cancel(why); silent(w, r) }, patient)
			if err := call(ctx, s); !errors.Is(err, why) || objstore.Retryable(err) || errors.Is(err, objstore.ErrAmbiguous) != (name != "stat") {
				t.Errorf("%v, want the cause, ambiguous for writes", err)
			}
		})
	}
	t.Run("a read that breaks off may be repeated", func(t *testing.T) {
		s, _ := open(t, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Length", "100")
			_, _ = w.Write(make([]byte, 40))
			panic(http.ErrAbortHandler)
		}, patient)
		if b, err := objstore.ReadAll(t.Context(), s, "k"); !errors.Is(err, objstore.ErrRetry) {
			t.Errorf("ReadAll = %d bytes, %v; want ErrRetry", len(b), err)
		}
		if err := objstore.ReadAt(t.Context(), s, "k", make([]byte, 100), 0); !errors.Is(err, objstore.ErrRetry) {
			t.Errorf("ReadAt = %v, want ErrRetry", err)
		}
	})
	t.Run("an ignored range", func(t *testing.T) {
		s, _ := open(t, func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, "0123456789") }, patient)
		if b, err := objstore.ReadRange(t.Context(), s, "k", 4, 2); err == nil {
			t.Errorf("bytes 4 and 5 are %q", b)
		}
		if b, err := objstore.ReadRange(t.Context(), s, "k", 0, 3); err != nil || string(b) != "012" {
			t.Errorf("the first three bytes are %q, %v", b, err)
		}
	})
	if h.WrongSum != nil {
		t.Run("other bytes than the store says", func(t *testing.T) {
			s, _ := open(t, func(w http.ResponseWriter, r *http.Request) {
				for name, value := range h.WrongSum {
					w.Header().Set(name, value)
				}
				_, _ = w.Write([]byte("not that"))
			}, patient)
			if b, err := objstore.ReadAll(t.Context(), s, "k"); !errors.Is(err, objstore.ErrRetry) {
				t.Errorf("ReadAll = %d bytes, %v; want ErrRetry", len(b), err)
			}
		})
	}
}

// RunRepeats tests that what may be sent again is, after each of the failures: the
// second answer, ok, counts. Open must try twice.
func RunRepeats(t *testing.T, open func(t *testing.T, endpoint string) objstore.Store, ok http.HandlerFunc, failures ...http.HandlerFunc) {
	for i, fail := range failures {
		var srv *Server
		srv = Serve(t, func(w http.ResponseWriter, r *http.Request) {
			if srv.Requests.Load() == 1 {
				fail(w, r)
				return
			}
			ok(w, r)
		})
		s := open(t, srv.URL)
		for name, do := range map[string]func() error{
			"Copy":   func() error { return s.Copy(t.Context(), "k", "l") },
			"Put":    func() error { return objstore.PutBytes(t.Context(), s, "k", []byte("x")) },
			"Stat":   func() error { _, err := s.Stat(t.Context(), "k"); return err },
			"Delete": func() error { return s.Delete(t.Context(), "k") },
			"List":   func() error { _, err := s.List(t.Context(), "", "", 0); return err },
			"Get":    func() error { _, err := objstore.ReadAll(t.Context(), s, "k"); return err },
		} {
			srv.Requests.Store(0)
			want := int64(2)
			err := do()
			if name == "Copy" && srv.Requests.Load() > want {
				want++ // it reads and writes
			}
			if err != nil || srv.Requests.Load() != want {
				t.Errorf("failure %d, %s: %v after %d requests, want success after %d", i, name, err, srv.Requests.Load(), want)
			}
		}
	}
}

// RunRoot tests a store that has a whole bucket, and is empty: its pages join
// without a gap.
func RunRoot(t *testing.T, s objstore.Store) {
	const objects = 1100 // more than the page of any API
	for i := range objects {
		if err := objstore.PutBytes(t.Context(), s, fmt.Sprintf("k/%04d", i), nil); err != nil {
			t.Fatal(err)
		}
	}
	i := 0
	for info, err := range objstore.All(t.Context(), s, "", "") {
		if want := fmt.Sprintf("k/%04d", i); err != nil || info.Key != want {
			t.Fatalf("object %d is %s, %v; want %s", i, info.Key, err, want)
		}
		i++
	}
	if i != objects {
		t.Errorf("listed %d objects, want %d", i, objects)
	}
}

// RunMissing tests a store whose bucket is missing: that is an error of its own
// which names the cure, and not a missing object.
func RunMissing(t *testing.T, s objstore.Store, cure string) {
	_, err := s.List(t.Context(), "", "", 0)
	if err == nil || errors.Is(err, objstore.ErrNotFound) || !strings.Contains(err.Error(), cure) {
		t.Errorf("List = %v, want %q", err, cure)
	}
	for _, n := range []int{0, 20 << 20} {
		if err := objstore.PutBytes(t.Context(), s, "k", make([]byte, n)); err == nil || objstore.Retryable(err) || !strings.Contains(err.Error(), cure) {
			t.Errorf("Put of %d bytes = %v, want %q", n, err, cure)
		}
	}
}
