package gcs

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/weirstream/weir/internal/objstore"
	"github.com/weirstream/weir/internal/objstore/objstoretest"
	"github.com/weirstream/weir/internal/objstore/rest"
)

// server returns the endpoint of a real server (deploy/real/gcs.sh), or skips.
func server(t *testing.T) string {
	t.Helper()
	endpoint := os.Getenv("WEIR_GCS_ENDPOINT")
	if endpoint == "" {
		t.Skip("SKIPPED: WEIR_GCS_ENDPOINT is not set: run deploy/real/gcs.sh start; eval \"$(deploy/real/gcs.sh env)\"")
	}
	return endpoint
}

// bucket makes a bucket of its own for t and returns its name; it is emptied and
// removed at the end.
func bucket(t *testing.T, endpoint string) string {
	t.Helper()
	name := "weir-" + strings.ToLower(rand.Text()[:12])
	s := open(t, Options{Bucket: name, Endpoint: endpoint, Anonymous: true})
	call := func(ctx context.Context, method, path, body string) {
		t.Helper()
		if _, err := s.client.Send(ctx, rest.Request{Op: "bucket", Method: method, URL: endpoint + path, Body: [][]byte{[]byte(body)}}); err != nil {
			t.Error(err)
		}
	}
	call(t.Context(), http.MethodPost, "/storage/v1/b?project=weir", `{"name":"`+name+`"}`)
	t.Cleanup(func() {
		ctx := context.Background()
		for info, err := range objstore.All(ctx, s, "", "") {
			if err == nil {
				err = s.Delete(ctx, info.Key)
			}
			if err != nil {
				t.Error(err)
				return
			}
		}
		call(ctx, http.MethodDelete, "/storage/v1/b/"+name, "")
	})
	return name
}

func open(t *testing.T, o Options) *Store {
	t.Helper()
	s, err := New(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestConforms(t *testing.T) {
	endpoint := server(t)
	name := bucket(t, endpoint)
	n := 0
	objstoretest.Run(t, objstoretest.Options{LargeBytes: 3*minPart + 11, Ops: 200, RaceKeys: 50}, func(t *testing.T) objstore.Store {
		n++
		u := &url.URL{Scheme: "gs", Host: name, Path: fmt.Sprintf("/some where/ü+%%/%d/", n), RawQuery: url.Values{
			"endpoint": {endpoint}, "anonymous": {"true"}, "part_bytes": {fmt.Sprint(minPart)},
		}.Encode()}
		s, err := objstore.Openers{"gs": Open}.Open(t.Context(), u.String())
		if err != nil {
			t.Fatal(err)
		}
		return s
	})
}

// Without a prefix the bucket's root is the store's; its pages join without a gap.
func TestWholeBucket(t *testing.T) {
	endpoint := server(t)
	s := open(t, Options{Bucket: bucket(t, endpoint), Endpoint: endpoint, Anonymous: true})
	for i := range 1100 { // more than the API's page
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
	if i != 1100 {
		t.Errorf("listed %d objects, want 1100", i)
	}
}

// A missing bucket is an error of its own, not a missing object.
func TestMissingBucket(t *testing.T) {
	s := open(t, Options{Bucket: "weir-no-such-bucket", Endpoint: server(t), Anonymous: true, Tries: 1})
	_, err := s.List(t.Context(), "", "", 0)
	if err == nil || errors.Is(err, objstore.ErrNotFound) || !strings.Contains(err.Error(), "make the bucket") {
		t.Errorf("List = %v, want the cure", err)
	}
	for _, n := range []int{0, 20 << 20} {
		if err := objstore.PutBytes(t.Context(), s, "k", make([]byte, n)); err == nil || objstore.Retryable(err) || !strings.Contains(err.Error(), "make the bucket") {
			t.Errorf("Put of %d bytes = %v, want the cure", n, err)
		}
	}
}

// fake answers every request by answer and counts them.
type fake struct {
	*Store
	requests atomic.Int64
	mu       sync.Mutex
	seen     []string // method and Content-Range of each; guarded by mu
}

type answer func(w http.ResponseWriter, r *http.Request)

func newFake(t *testing.T, do answer) *fake {
	t.Helper()
	return newFakeWaiting(t, 20*time.Second, do)
}

// newFakeWaiting is newFake with a bound on the wait for answers.
func newFakeWaiting(t *testing.T, wait time.Duration, do answer) *fake {
	t.Helper()
	f := &fake{}
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		f.requests.Add(1)
		f.mu.Lock()
		f.seen = append(f.seen, r.Method+" "+r.Header.Get("Content-Range"))
		f.mu.Unlock()
		do(w, r)
	}))
	t.Cleanup(srv.Close)
	f.Store = open(t, Options{Bucket: "b", Endpoint: srv.URL, Anonymous: true, Tries: 2, PartBytes: minPart, ResponseTimeout: wait})
	return f
}

func status(code int, body string) answer {
	return func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.WriteHeader(code)
		_, _ = io.WriteString(w, body)
	}
}

func api(code int, reason string) answer {
	return status(code, fmt.Sprintf(`{"error":{"code":%d,"message":"m","errors":[{"reason":%q}]}}`, code, reason))
}

// lost reads the request and closes the connection: the answer is lost.
func lost(w http.ResponseWriter, r *http.Request) {
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

func isClass(t *testing.T, err, want error) {
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

// What a server may answer to a put-if-absent, and what the caller hears. Whatever
// it is, the request is sent once.
func TestPutIfAbsentAnswers(t *testing.T) {
	for _, tt := range []struct {
		name string
		do   answer
		want error
	}{
		{"412", api(412, "conditionNotMet"), objstore.ErrExists},
		{"412 without a body", status(412, ""), objstore.ErrExists},
		{"409", api(409, "conflict"), objstore.ErrRetry},
		{"429", api(429, "rateLimitExceeded"), objstore.ErrRetry},
		{"403 for speed", api(403, "userRateLimitExceeded"), objstore.ErrRetry},
		{"503 of the API", api(503, "backendError"), objstore.ErrAmbiguous},
		{"503 of something between", status(503, ""), objstore.ErrAmbiguous},
		{"500", api(500, "backendError"), objstore.ErrAmbiguous},
		{"504", status(504, ""), objstore.ErrAmbiguous},
		{"408 of the API", api(408, "timeout"), objstore.ErrRetry},
		{"408 of something between", status(408, ""), objstore.ErrAmbiguous},
		{"lost answer", lost, objstore.ErrAmbiguous},
		{"no answer", silent, objstore.ErrAmbiguous},
		{"403", api(403, "forbidden"), nil},
		{"a redirect", status(307, ""), nil},
		{"missing bucket", api(404, "notFound"), nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			wait := 20 * time.Second
			if tt.name == "no answer" {
				wait = 300 * time.Millisecond
			}
			f := newFakeWaiting(t, wait, tt.do)
			isClass(t, objstore.PutBytesIfAbsent(t.Context(), f, "k", []byte("x")), tt.want)
			if n := f.requests.Load(); n != 1 {
				t.Errorf("%d requests, want one: %q", n, f.seen)
			}
		})
	}
}

// What may be repeated is: the second answer counts.
func TestRepeats(t *testing.T) {
	for _, first := range []answer{api(503, "backendError"), api(429, "rateLimitExceeded"), lost} {
		var f *fake
		f = newFake(t, func(w http.ResponseWriter, r *http.Request) {
			if f.requests.Load() == 1 {
				first(w, r)
				return
			}
			status(200, `{"name":"k","size":"3","done":true}`)(w, r)
		})
		for name, do := range map[string]func() error{
			"Put":    func() error { return objstore.PutBytes(t.Context(), f, "k", []byte("x")) },
			"Stat":   func() error { _, err := f.Stat(t.Context(), "k"); return err },
			"Copy":   func() error { return f.Copy(t.Context(), "k", "l") },
			"Delete": func() error { return f.Delete(t.Context(), "k") },
			"List":   func() error { _, err := f.List(t.Context(), "", "", 0); return err },
			"Get":    func() error { _, err := objstore.ReadAll(t.Context(), f, "k"); return err },
		} {
			f.requests.Store(0)
			if err := do(); err != nil || f.requests.Load() != 2 {
				t.Errorf("%s: %v after %d requests, want success after 2", name, err, f.requests.Load())
			}
		}
	}
}

// A put that nobody can reach had no effect; one that was cut off by its context
// may have had.
func TestUnreachableAndCancelled(t *testing.T) {
	s := open(t, Options{Bucket: "b", Endpoint: "http://127.0.0.1:1", Anonymous: true, Tries: 2})
	if err := objstore.PutBytesIfAbsent(t.Context(), s, "k", nil); !objstore.Retryable(err) {
		t.Errorf("PutIfAbsent at a closed port = %v, want ErrRetry", err)
	}
	why := errors.New("why")
	for _, name := range []string{"PutIfAbsent", "Put", "Stat"} {
		ctx, cancel := context.WithCancelCause(t.Context())
		f := newFake(t, func(_ http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
			cancel(why)
			<-r.Context().Done()
		})
		var err error
		switch name {
		case "PutIfAbsent":
			err = objstore.PutBytesIfAbsent(ctx, f, "k", nil)
		case "Put":
			err = objstore.PutBytes(ctx, f, "k", nil)
		case "Stat":
			_, err = f.Stat(ctx, "k")
		}
		if !errors.Is(err, why) || objstore.Retryable(err) || errors.Is(err, objstore.ErrAmbiguous) != (name != "Stat") {
			t.Errorf("a cut off %s = %v, want the cause, ambiguous for writes", name, err)
		}
	}
}

// A read that breaks off, or has other bytes than the store says, may be repeated.
func TestBrokenRead(t *testing.T) {
	f := newFake(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", "100")
		_, _ = w.Write(make([]byte, 40))
		panic(http.ErrAbortHandler)
	})
	if b, err := objstore.ReadAll(t.Context(), f, "k"); !errors.Is(err, objstore.ErrRetry) {
		t.Errorf("ReadAll = %d bytes, %v; want ErrRetry", len(b), err)
	}
	f = newFake(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Goog-Hash", "md5=aaaa,crc32c=AAAAAA==")
		_, _ = w.Write([]byte("not that"))
	})
	if b, err := objstore.ReadAll(t.Context(), f, "k"); !errors.Is(err, objstore.ErrRetry) {
		t.Errorf("ReadAll of damaged bytes = %d bytes, %v; want ErrRetry", len(b), err)
	}
	if b, err := objstore.ReadRange(t.Context(), f, "k", 3, 2); err == nil {
		t.Errorf("an ignored range gives %q", b)
	}
}

// uploads is a server of one resumable upload that can fail on the way.
type uploads struct {
	mu   sync.Mutex
	have []byte
	made bool
	take int            // bytes of a chunk that are taken, if above 0
	do   map[int]answer // instead of the n-th PUT
	then map[int]answer // after the n-th PUT was served
	n    int            // PUTs so far
	gone atomic.Bool    // a DELETE came
}

func (u *uploads) serve(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	u.mu.Lock()
	defer u.mu.Unlock()
	switch r.Method {
	case http.MethodGet:
		w.WriteHeader(404)
		return
	case http.MethodPost:
		w.Header().Set("Location", "http://"+r.Host+"/session")
		return
	case http.MethodDelete:
		u.gone.Store(true)
		w.WriteHeader(499)
		return
	}
	u.n++
	if do := u.do[u.n]; do != nil {
		do(w, r)
		return
	}
	var from, to, total int
	head := r.Header.Get("Content-Range")
	if _, err := fmt.Sscanf(head, "bytes %d-%d/", &from, &to); err == nil {
		if from != len(u.have) || to-from+1 != len(body) {
			w.WriteHeader(400)
			return
		}
		if u.take > 0 && len(body) > u.take {
			body = body[:u.take]
		}
		u.have = append(u.have, body...)
	}
	if _, end, ok := strings.Cut(head, "/"); ok && end != "*" {
		_, _ = fmt.Sscan(end, &total)
		u.made = u.made || len(u.have) == total
	}
	if then := u.then[u.n]; then != nil {
		then(w, r)
		return
	}
	if u.made {
		_, _ = io.WriteString(w, "{}")
		return
	}
	if len(u.have) > 0 {
		w.Header().Set("Range", fmt.Sprintf("bytes=0-%d", len(u.have)-1))
	}
	w.WriteHeader(resume)
}

// A resumable upload goes on where the server is; what the last request did is
// asked for, not guessed.
func TestResume(t *testing.T) {
	body := bytes.Repeat([]byte("0123456789abcdef"), (2*minPart+100)/16) // 3 parts
	for _, tt := range []struct {
		name    string
		u       *uploads
		want    error // nil: the object is there
		made    bool
		cancels bool
	}{
		{"all is well", &uploads{}, nil, true, false},
		{"chunks are taken in part", &uploads{take: 100_000}, nil, true, false},
		{"a chunk is lost before", &uploads{do: map[int]answer{2: lost}}, nil, true, false},
		{"a chunk is lost after", &uploads{then: map[int]answer{2: lost}}, nil, true, false},
		{"a chunk gets 503", &uploads{do: map[int]answer{1: status(503, "")}}, nil, true, false},
		{"the last is lost before", &uploads{do: map[int]answer{3: lost}}, nil, true, false},
		{"the last is lost after", &uploads{then: map[int]answer{3: lost}}, nil, true, false},
		{"the last gets 500 and the question 404", &uploads{do: map[int]answer{3: status(500, ""), 4: status(404, "")}}, objstore.ErrAmbiguous, false, false},
		{"the last is lost, the question too", &uploads{then: map[int]answer{3: lost, 4: lost}}, objstore.ErrAmbiguous, true, false},
		{"the last gets 412", &uploads{do: map[int]answer{3: api(412, "conditionNotMet")}}, objstore.ErrExists, false, false},
		{"the last is lost, then 412", &uploads{do: map[int]answer{3: lost, 5: api(412, "conditionNotMet")}}, objstore.ErrAmbiguous, false, false},
		{"the upload is gone", &uploads{do: map[int]answer{2: status(410, "")}}, nil, false, true},
		{"refused", &uploads{do: map[int]answer{2: api(403, "forbidden")}}, nil, false, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := newFake(t, tt.u.serve)
			err := f.PutIfAbsent(t.Context(), "k", bytes.NewReader(body), int64(len(body)))
			tt.u.mu.Lock() // a handler whose answer was lost may still be at work
			defer tt.u.mu.Unlock()
			f.mu.Lock()
			defer f.mu.Unlock()
			if tt.made && tt.want == nil {
				if err != nil || !bytes.Equal(tt.u.have, body) {
					t.Errorf("%v, the server has %d bytes of %d: %q", err, len(tt.u.have), len(body), f.seen)
				}
			} else {
				isClass(t, err, tt.want)
			}
			if tt.u.made != tt.made || tt.u.gone.Load() != tt.cancels {
				t.Errorf("made %v, cancelled %v; want %v, %v: %q", tt.u.made, tt.u.gone.Load(), tt.made, tt.cancels, f.seen)
			}
		})
	}
}

// Options come from the URL, the environment and the file, with all their faults
// told and no secret.
func TestOptions(t *testing.T) {
	u, err := url.Parse("gs:///p?endpoint=ftp://x&anonymous=maybe&part_bytes=12&google_service_account=/no/such/file&regoin=x")
	if err != nil {
		t.Fatal(err)
	}
	_, err = Open(t.Context(), u)
	for _, want := range []string{"anonymous", "regoin: unknown option: want one of anonymous"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("err = %v, want %q in it", err, want)
		}
	}
	_, err = New(t.Context(), Options{Endpoint: "ftp://x", PartBytes: 12, CredentialsJSON: "hush"})
	for _, want := range []string{"the bucket is missing", "endpoint \"ftp://x\": want http", "not JSON", "multiple of"} {
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "hush") {
			t.Errorf("err = %v, want %q in it", err, want)
		}
	}
	file := filepath.Join(t.TempDir(), "account.json")
	if err := os.WriteFile(file, []byte(`{"gcs_base_url":"http://127.0.0.1:9","disable_oauth":true,"client_email":"","private_key":""}`), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name string
		o    Options
		env  map[string]string
		want string // endpoint, and whether anonymous
	}{
		{"nothing", Options{}, nil, "https://storage.googleapis.com false"},
		{"emulator", Options{}, map[string]string{"STORAGE_EMULATOR_HOST": "127.0.0.1:9"}, "http://127.0.0.1:9 true"},
		{"emulator by URL", Options{}, map[string]string{"STORAGE_EMULATOR_HOST": "http://127.0.0.1:9/"}, "http://127.0.0.1:9 true"},
		{"endpoint before the environment", Options{Endpoint: "https://x/"}, map[string]string{"STORAGE_EMULATOR_HOST": "127.0.0.1:9"}, "https://x false"},
		{"an account names an emulator", Options{CredentialsFile: file}, nil, "http://127.0.0.1:9 true"},
		{"the same by the environment", Options{}, map[string]string{"GOOGLE_SERVICE_ACCOUNT": file}, "http://127.0.0.1:9 true"},
	} {
		tt.o.Bucket = "b"
		if err := tt.o.fill(func(name string) string { return tt.env[name] }); err != nil {
			t.Errorf("%s: %v", tt.name, err)
		} else if got := fmt.Sprint(tt.o.Endpoint, " ", tt.o.Anonymous); got != tt.want {
			t.Errorf("%s: %s, want %s", tt.name, got, tt.want)
		}
	}
}
