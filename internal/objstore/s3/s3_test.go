package s3

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
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/weirstream/weir/internal/objstore"
	"github.com/weirstream/weir/internal/objstore/objstoretest"
)

// server returns the endpoint of a real S3 server (deploy/real/s3.sh), or skips.
func server(t *testing.T) string {
	t.Helper()
	endpoint := os.Getenv("WEIR_S3_ENDPOINT")
	if endpoint == "" {
		t.Skip("WEIR_S3_ENDPOINT is not set: run deploy/real/s3.sh start; eval \"$(deploy/real/s3.sh env)\"")
	}
	return endpoint
}

// bucket makes a bucket of its own for t and returns its name; it is emptied and
// removed at the end.
func bucket(t *testing.T, endpoint string) string {
	t.Helper()
	name := "weir-" + strings.ToLower(rand.Text()[:12])
	s, err := New(t.Context(), Options{Bucket: name, Endpoint: endpoint})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.client.CreateBucket(t.Context(), &s3.CreateBucketInput{Bucket: &name}); err != nil {
		t.Fatal(err)
	}
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
		if _, err := s.client.DeleteBucket(ctx, &s3.DeleteBucketInput{Bucket: &name}); err != nil {
			t.Error(err)
		}
	})
	return name
}

func TestConforms(t *testing.T) {
	endpoint := server(t)
	name := bucket(t, endpoint)
	n := 0
	open := func(prefix string) func(t *testing.T) objstore.Store {
		return func(t *testing.T) objstore.Store {
			n++
			u := &url.URL{Scheme: "s3", Host: name, Path: fmt.Sprintf(prefix, n), RawQuery: url.Values{
				"endpoint": {endpoint}, "region": {"us-east-1"}, "path_style": {"true"}, "part_bytes": {fmt.Sprint(minPart)},
			}.Encode()}
			s, err := objstore.Openers{"s3": Open}.Open(t.Context(), u.String())
			if err != nil {
				t.Fatal(err)
			}
			return s
		}
	}
	objstoretest.Run(t, objstoretest.Options{LargeBytes: 3*minPart + 11, Ops: 200, RaceKeys: 50}, open("/some where/ü+%%/%d/"))
}

// Without a prefix the bucket's root is the store's.
func TestWholeBucket(t *testing.T) {
	endpoint := server(t)
	s, err := New(t.Context(), Options{Bucket: bucket(t, endpoint), Endpoint: endpoint})
	if err != nil {
		t.Fatal(err)
	}
	for i := range 1100 { // more than S3's page
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

// A copy in parts is the same object.
func TestCopyInParts(t *testing.T) {
	endpoint := server(t)
	s, err := New(t.Context(), Options{Bucket: bucket(t, endpoint), Prefix: "p", Endpoint: endpoint})
	if err != nil {
		t.Fatal(err)
	}
	body := bytes.Repeat([]byte("0123456789abcde"), (2*minPart+100)/15)
	if err := objstore.PutBytes(t.Context(), s, "a b+c", body); err != nil {
		t.Fatal(err)
	}
	info, err := s.Stat(t.Context(), "a b+c")
	if err != nil {
		t.Fatal(err)
	}
	if err := s.copyFrom(t.Context(), "dst", "a b+c", info, minPart); err != nil {
		t.Fatal(err)
	}
	if got, err := objstore.ReadAll(t.Context(), s, "dst"); err != nil || !bytes.Equal(got, body) {
		t.Errorf("the copy differs: %d bytes of %d, %v", len(got), len(body), err)
	}
	if err := objstore.PutBytes(t.Context(), s, "a b+c", append(body[1:], body[0])); err != nil {
		t.Fatal(err)
	}
	if err := s.copyFrom(t.Context(), "dst", "a b+c", info, minPart); err == nil {
		t.Log("this server ignores x-amz-copy-source-if-match on UploadPartCopy")
	} else if !errors.Is(err, objstore.ErrRetry) {
		t.Errorf("copy of a replaced source = %v, want ErrRetry", err)
	}
}

// A missing bucket is an error of its own, not a missing object.
func TestMissingBucket(t *testing.T) {
	s, err := New(t.Context(), Options{Bucket: "weir-no-such-bucket", Endpoint: server(t)})
	if err != nil {
		t.Fatal(err)
	}
	_, err = s.List(t.Context(), "", "", 0)
	if err == nil || errors.Is(err, objstore.ErrNotFound) || !strings.Contains(err.Error(), "make the bucket") {
		t.Errorf("List = %v, want the cure", err)
	}
	if err := objstore.PutBytes(t.Context(), s, "k", nil); err == nil || objstore.Retryable(err) {
		t.Errorf("Put = %v", err)
	}
}

// fake answers every request by answer and counts them.
type fake struct {
	*Store
	requests atomic.Int64
	mu       sync.Mutex
	seen     []string // method and query of each; guarded by mu
}

func newFake(t *testing.T, answer func(w http.ResponseWriter, r *http.Request)) *fake {
	t.Helper()
	return newFakeWaiting(t, 20*time.Second, answer)
}

// newFakeWaiting is newFake with a bound on the wait for answers.
func newFakeWaiting(t *testing.T, wait time.Duration, answer func(w http.ResponseWriter, r *http.Request)) *fake {
	t.Helper()
	f := &fake{}
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		f.requests.Add(1)
		f.mu.Lock()
		f.seen = append(f.seen, r.Method+" "+r.URL.RawQuery)
		f.mu.Unlock()
		answer(w, r)
	}))
	t.Cleanup(srv.Close)
	s, err := New(t.Context(), Options{Bucket: "b", Endpoint: srv.URL, AccessKey: "k", SecretKey: "s", Tries: 1, ResponseTimeout: wait})
	if err != nil {
		t.Fatal(err)
	}
	f.Store = s
	return f
}

func apiError(status int, code string) func(w http.ResponseWriter, r *http.Request) {
	return func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("Content-Type", "application/xml")
		w.WriteHeader(status)
		if code != "" {
			fmt.Fprintf(w, "<Error><Code>%s</Code><Message>m</Message></Error>", code)
		}
	}
}

// lost reads the request and closes the connection: the answer is lost.
func lost(w http.ResponseWriter, r *http.Request) {
	_, _ = io.Copy(io.Discard, r.Body)
	conn, _, err := w.(http.Hijacker).Hijack()
	if err == nil {
		conn.Close()
	}
}

// silent reads the request and does not answer until the client gives up.
func silent(w http.ResponseWriter, r *http.Request) {
	_, _ = io.Copy(io.Discard, r.Body)
	<-r.Context().Done()
}

// What a server may answer to a put-if-absent, and what the caller hears. Whatever
// it is, the request is sent once.
func TestPutIfAbsentAnswers(t *testing.T) {
	for _, tt := range []struct {
		name   string
		answer func(w http.ResponseWriter, r *http.Request)
		want   error
	}{
		{"412", apiError(412, "PreconditionFailed"), objstore.ErrExists},
		{"412 without a body", apiError(412, ""), objstore.ErrExists},
		{"409", apiError(409, "ConditionalRequestConflict"), objstore.ErrRetry},
		{"409 without a body", apiError(409, ""), objstore.ErrRetry},
		{"503 of the API", apiError(503, "SlowDown"), objstore.ErrRetry},
		{"503 of something between", apiError(503, ""), objstore.ErrAmbiguous},
		{"500", apiError(500, "InternalError"), objstore.ErrAmbiguous},
		{"504", apiError(504, ""), objstore.ErrAmbiguous},
		{"lost answer", lost, objstore.ErrAmbiguous},
		{"no answer", silent, objstore.ErrAmbiguous},
		{"403", apiError(403, "AccessDenied"), nil},
		{"missing bucket", apiError(404, "NoSuchBucket"), nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			wait := 20 * time.Second
			if tt.name == "no answer" {
				wait = 300 * time.Millisecond
			}
			f := newFakeWaiting(t, wait, tt.answer)
			err := objstore.PutBytesIfAbsent(t.Context(), f, "k", []byte("x"))
			if err == nil {
				t.Fatal("no error")
			}
			for _, class := range []error{objstore.ErrExists, objstore.ErrRetry, objstore.ErrAmbiguous, objstore.ErrNotFound} {
				if errors.Is(err, class) != (class == tt.want) {
					t.Errorf("%v: is %q = %v", err, class, errors.Is(err, class))
				}
			}
			if n := f.requests.Load(); n != 1 {
				t.Errorf("%d requests, want one: %q", n, f.seen)
			}
		})
	}
}

// A put that nobody can reach had no effect; one that was cut off by its context
// may have had.
func TestUnreachableAndCancelled(t *testing.T) {
	s, err := New(t.Context(), Options{Bucket: "b", Endpoint: "http://127.0.0.1:1", AccessKey: "k", SecretKey: "s", Tries: 2})
	if err != nil {
		t.Fatal(err)
	}
	if err := objstore.PutBytesIfAbsent(t.Context(), s, "k", nil); !objstore.Retryable(err) {
		t.Errorf("PutIfAbsent at a closed port = %v, want ErrRetry", err)
	}
	why := errors.New("why")
	ctx, cancel := context.WithCancelCause(t.Context())
	f := newFake(t, func(_ http.ResponseWriter, r *http.Request) {
		cancel(why)
		<-r.Context().Done()
	})
	if err := objstore.PutBytesIfAbsent(ctx, f, "k", nil); !errors.Is(err, why) || !errors.Is(err, objstore.ErrAmbiguous) {
		t.Errorf("a cut off PutIfAbsent = %v, want the cause and ErrAmbiguous", err)
	}
	ctx, cancel = context.WithCancelCause(t.Context())
	defer cancel(nil)
	if _, err := f.Stat(ctx, "k"); !errors.Is(err, why) || objstore.Retryable(err) {
		t.Errorf("a cut off Stat = %v, want the cause alone", err)
	}
}

// A read that breaks off says so and may be repeated.
func TestBrokenRead(t *testing.T) {
	f := newFake(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", "100")
		_, _ = w.Write(make([]byte, 40))
		panic(http.ErrAbortHandler)
	})
	if b, err := objstore.ReadAll(t.Context(), f, "k"); !errors.Is(err, objstore.ErrRetry) {
		t.Errorf("ReadAll = %d bytes, %v; want ErrRetry", len(b), err)
	}
	if err := objstore.ReadAt(t.Context(), f, "k", make([]byte, 100), 0); !errors.Is(err, objstore.ErrRetry) {
		t.Errorf("ReadAt = %v, want ErrRetry", err)
	}
}

// Of a multipart upload only the last request can leave doubt; every other failure
// aborts it and may be repeated.
func TestMultipartAnswers(t *testing.T) {
	for _, tt := range []struct {
		name           string
		part, complete func(w http.ResponseWriter, r *http.Request)
		want           error
		aborted        bool
	}{
		{"a part is lost", lost, nil, objstore.ErrRetry, true},
		{"a part gets 500", apiError(500, "InternalError"), nil, objstore.ErrRetry, true},
		{"complete is lost", nil, lost, objstore.ErrAmbiguous, false},
		{"complete gets 412", nil, apiError(412, "PreconditionFailed"), objstore.ErrExists, true},
		{"complete gets 409", nil, apiError(409, "ConditionalRequestConflict"), objstore.ErrRetry, true},
		{"complete gets 500 in a 200", nil, apiError(200, "InternalError"), objstore.ErrAmbiguous, false},
		{"complete finds no upload", nil, apiError(404, "NoSuchUpload"), objstore.ErrRetry, true},
		{"complete gets a proxy's 503", nil, apiError(503, ""), objstore.ErrAmbiguous, false},
		{"complete gets 412 in a 200", nil, apiError(200, "PreconditionFailed"), objstore.ErrExists, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			completes, aborts := atomic.Int64{}, atomic.Int64{}
			f := newFake(t, func(w http.ResponseWriter, r *http.Request) {
				q := r.URL.Query()
				switch {
				case r.Method == "HEAD":
					w.WriteHeader(404)
				case r.Method == "POST" && q.Has("uploads"):
					fmt.Fprint(w, "<InitiateMultipartUploadResult><UploadId>u</UploadId></InitiateMultipartUploadResult>")
				case r.Method == "PUT" && tt.part != nil:
					tt.part(w, r)
				case r.Method == "PUT":
					_, _ = io.Copy(io.Discard, r.Body)
					w.Header().Set("ETag", `"e"`)
				case r.Method == "POST":
					completes.Add(1)
					if r.Header.Get("If-None-Match") != "*" {
						t.Error("the deciding request has no If-None-Match")
					}
					tt.complete(w, r)
				case r.Method == "DELETE":
					aborts.Add(1)
					w.WriteHeader(204)
				}
			})
			err := f.PutIfAbsent(t.Context(), "k", bytes.NewReader(make([]byte, 20<<20)), 20<<20)
			if !errors.Is(err, tt.want) {
				t.Errorf("err = %v, want %v", err, tt.want)
			}
			if completes.Load() > 1 || (aborts.Load() > 0) != tt.aborted {
				t.Errorf("%d completes, %d aborts; want at most one, aborted %v", completes.Load(), aborts.Load(), tt.aborted)
			}
		})
	}
}

// What S3 turned away for speed is sent again: the body of a large object may not
// come twice. A conflict is not; the upload is spoilt.
func TestCompleteThrottled(t *testing.T) {
	for _, tt := range []struct {
		name      string
		answer    func(w http.ResponseWriter, r *http.Request)
		completes int64
		want      error
	}{
		{"SlowDown", apiError(503, "SlowDown"), 2, nil},
		{"conflict", apiError(409, "ConditionalRequestConflict"), 1, objstore.ErrRetry},
	} {
		completes := atomic.Int64{}
		f := newFake(t, func(w http.ResponseWriter, r *http.Request) {
			switch q := r.URL.Query(); {
			case r.Method == "POST" && q.Has("uploads"):
				fmt.Fprint(w, "<InitiateMultipartUploadResult><UploadId>u</UploadId></InitiateMultipartUploadResult>")
			case r.Method == "PUT":
				_, _ = io.Copy(io.Discard, r.Body)
				w.Header().Set("ETag", `"e"`)
			case r.Method == "POST":
				if completes.Add(1) == 1 {
					tt.answer(w, r)
					return
				}
				fmt.Fprint(w, "<CompleteMultipartUploadResult/>")
			}
		})
		f.opts.Tries = 2
		if err := f.Put(t.Context(), "k", bytes.NewReader(make([]byte, 20<<20)), -1); !errors.Is(err, tt.want) || completes.Load() != tt.completes {
			t.Errorf("%s: Put = %v after %d completes, want %v after %d", tt.name, err, completes.Load(), tt.want, tt.completes)
		}
	}
}

// A key that XML cannot hold does not spoil the list of all others.
func TestListForeignKeys(t *testing.T) {
	f := newFake(t, func(w http.ResponseWriter, r *http.Request) {
		bad, encoding := "a&#x1;", ""
		if r.URL.Query().Get("encoding-type") == "url" {
			bad, encoding = "a%01", "<EncodingType>url</EncodingType>"
		}
		fmt.Fprintf(w, "<ListBucketResult>%s<Contents><Key>%s</Key><Size>1</Size></Contents><Contents><Key>b+c%%2Bd%%20e</Key><Size>1</Size></Contents></ListBucketResult>", encoding, bad)
	})
	page, err := f.List(t.Context(), "", "", 0)
	if err != nil || len(page) != 1 || page[0].Key != "b c+d e" {
		t.Errorf("List = %+v, %v; want the one key that a store takes", page, err)
	}
}

// A server that ignores a range does not get its first bytes taken for others.
func TestIgnoredRange(t *testing.T) {
	f := newFake(t, func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, "0123456789") })
	if b, err := objstore.ReadRange(t.Context(), f, "k", 4, 2); err == nil {
		t.Errorf("bytes 4 and 5 are %q", b)
	}
	if r, err := f.GetRange(t.Context(), "k", 0, 3); err != nil {
		t.Error(err)
	} else if b, err := io.ReadAll(r); err != nil || string(b) != "012" {
		t.Errorf("the first three bytes are %q, %v", b, err)
	}
}

// A bad URL is refused with all its faults, and without its secret.
func TestOpenFaults(t *testing.T) {
	u, err := url.Parse("s3:///p?endpoint=ftp://x&path_style=maybe&part_bytes=12&secret_key=hush&regoin=x")
	if err != nil {
		t.Fatal(err)
	}
	_, err = Open(t.Context(), u)
	if err == nil {
		t.Fatal("opened")
	}
	for _, want := range []string{"path_style", "regoin: unknown option: want one of access_key"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("err = %v, want %q in it", err, want)
		}
	}
	_, err = New(t.Context(), Options{Endpoint: "ftp://x", PartBytes: 12, SecretKey: "hush"})
	for _, want := range []string{"the bucket is missing", "endpoint \"ftp://x\": want http", "give both or none", "smallest part"} {
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "hush") {
			t.Errorf("err = %v, want %q in it", err, want)
		}
	}
}
