package gcs

import (
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"net/http"
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

// Without a prefix the bucket's root is the store's.
func TestWholeBucket(t *testing.T) {
	endpoint := server(t)
	objstoretest.RunRoot(t, open(t, Options{Bucket: bucket(t, endpoint), Endpoint: endpoint, Anonymous: true}))
}

func TestMissingBucket(t *testing.T) {
	objstoretest.RunMissing(t, open(t, Options{Bucket: "weir-no-such-bucket", Endpoint: server(t), Anonymous: true, Tries: 1}), "make the bucket")
}

func openFake(t *testing.T, endpoint string, wait time.Duration) objstore.Store {
	t.Helper()
	return open(t, Options{Bucket: "b", Endpoint: endpoint, Anonymous: true, Tries: 2, PartBytes: minPart, ResponseTimeout: wait})
}

func api(code int, reason string) http.HandlerFunc {
	return objstoretest.Status(code, fmt.Sprintf(`{"error":{"code":%d,"message":"m","errors":[{"reason":%q}]}}`, code, reason))
}

func TestAnswers(t *testing.T) {
	says := objstoretest.Says
	objstoretest.RunHTTP(t, objstoretest.HTTP{Open: openFake, WrongSum: map[string]string{"X-Goog-Hash": "md5=aaaa,crc32c=AAAAAA=="}, Answers: []objstoretest.Answer{
		says("412", api(412, "conditionNotMet"), objstore.ErrExists),
		says("412 without a body", objstoretest.Status(412, ""), objstore.ErrExists),
		says("409", api(409, "conflict"), objstore.ErrRetry),
		says("429", api(429, "rateLimitExceeded"), objstore.ErrRetry),
		says("403 for speed", api(403, "userRateLimitExceeded"), objstore.ErrRetry),
		says("503 of the API", api(503, "backendError"), objstore.ErrAmbiguous),
		says("503 of something between", objstoretest.Status(503, ""), objstore.ErrAmbiguous),
		says("500", api(500, "backendError"), objstore.ErrAmbiguous),
		says("504", objstoretest.Status(504, ""), objstore.ErrAmbiguous),
		says("408 of the API", api(408, "timeout"), objstore.ErrRetry),
		says("408 of something between", objstoretest.Status(408, ""), objstore.ErrAmbiguous),
		says("403", api(403, "forbidden"), nil),
		says("a redirect", objstoretest.Status(307, ""), nil),
		says("missing bucket", api(404, "notFound"), nil),
	}})
}

func TestRepeats(t *testing.T) {
	open := func(t *testing.T, endpoint string) objstore.Store { return openFake(t, endpoint, 20*time.Second) }
	objstoretest.RunRepeats(t, open, objstoretest.Status(200, `{"name":"k","size":"3","done":true}`),
		api(503, "backendError"), api(429, "rateLimitExceeded"), objstoretest.Lost)
}

// uploads is a server of one resumable upload that can fail on the way.
type uploads struct {
	mu   sync.Mutex
	have []byte
	made bool
	take int                      // bytes of a chunk that are taken, if above 0
	do   map[int]http.HandlerFunc // instead of the n-th PUT
	then map[int]http.HandlerFunc // after the n-th PUT was served
	n    int                      // PUTs so far
	gone atomic.Bool              // a DELETE came
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
		{"a chunk is lost before", &uploads{do: map[int]http.HandlerFunc{2: objstoretest.Lost}}, nil, true, false},
		{"a chunk is lost after", &uploads{then: map[int]http.HandlerFunc{2: objstoretest.Lost}}, nil, true, false},
		{"a chunk gets 503", &uploads{do: map[int]http.HandlerFunc{1: objstoretest.Status(503, "")}}, nil, true, false},
		{"the last is lost before", &uploads{do: map[int]http.HandlerFunc{3: objstoretest.Lost}}, nil, true, false},
		{"the last is lost after", &uploads{then: map[int]http.HandlerFunc{3: objstoretest.Lost}}, nil, true, false},
		{"the last gets 500 and the question 404", &uploads{do: map[int]http.HandlerFunc{3: objstoretest.Status(500, ""), 4: objstoretest.Status(404, "")}}, objstore.ErrAmbiguous, false, false},
		{"the last is objstoretest.Lost, the question too", &uploads{then: map[int]http.HandlerFunc{3: objstoretest.Lost, 4: objstoretest.Lost}}, objstore.ErrAmbiguous, true, false},
		{"the last gets 412", &uploads{do: map[int]http.HandlerFunc{3: api(412, "conditionNotMet")}}, objstore.ErrExists, false, false},
		{"the last is objstoretest.Lost, then 412", &uploads{do: map[int]http.HandlerFunc{3: objstoretest.Lost, 5: api(412, "conditionNotMet")}}, objstore.ErrAmbiguous, false, false},
		{"the upload is gone", &uploads{do: map[int]http.HandlerFunc{2: objstoretest.Status(410, "")}}, nil, false, true},
		{"refused", &uploads{do: map[int]http.HandlerFunc{2: api(403, "forbidden")}}, nil, false, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			srv := objstoretest.Serve(t, tt.u.serve)
			err := openFake(t, srv.URL, 20*time.Second).PutIfAbsent(t.Context(), "k", bytes.NewReader(body), int64(len(body)))
			tt.u.mu.Lock() // a handler whose answer was lost may still be at work
			defer tt.u.mu.Unlock()
			if tt.made && tt.want == nil {
				if err != nil || !bytes.Equal(tt.u.have, body) {
					t.Errorf("%v, the server has %d bytes of %d: %q", err, len(tt.u.have), len(body), srv.Seen())
				}
			} else {
				objstoretest.WantClass(t, err, tt.want)
			}
			if tt.u.made != tt.made || tt.u.gone.Load() != tt.cancels {
				t.Errorf("made %v, cancelled %v; want %v, %v: %q", tt.u.made, tt.u.gone.Load(), tt.made, tt.cancels, srv.Seen())
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
