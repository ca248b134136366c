package s3

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
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
	s := open(t, Options{Bucket: name, Endpoint: endpoint})
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
		u := &url.URL{Scheme: "s3", Host: name, Path: fmt.Sprintf("/some where/ü+%%/%d/", n), RawQuery: url.Values{
			"endpoint": {endpoint}, "region": {"us-east-1"}, "path_style": {"true"}, "part_bytes": {fmt.Sprint(minPart)},
		}.Encode()}
		s, err := objstore.Openers{"s3": Open}.Open(t.Context(), u.String())
		if err != nil {
			t.Fatal(err)
		}
		return s
	})
}

// Without a prefix the bucket's root is the store's.
func TestWholeBucket(t *testing.T) {
	endpoint := server(t)
	objstoretest.RunRoot(t, open(t, Options{Bucket: bucket(t, endpoint), Endpoint: endpoint}))
}

// A copy in parts is the same object.
func TestCopyInParts(t *testing.T) {
	endpoint := server(t)
	s := open(t, Options{Bucket: bucket(t, endpoint), Prefix: "p", Endpoint: endpoint})
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

func TestMissingBucket(t *testing.T) {
	objstoretest.RunMissing(t, open(t, Options{Bucket: "weir-no-such-bucket", Endpoint: server(t)}), "make the bucket")
}

func openFake(t *testing.T, endpoint string, wait time.Duration) objstore.Store {
	t.Helper()
	return open(t, Options{Bucket: "b", Endpoint: endpoint, AccessKey: "k", SecretKey: "s", Tries: 1, ResponseTimeout: wait})
}

// newFake returns a store whose server answers every request by do.
func newFake(t *testing.T, do http.HandlerFunc) *Store {
	t.Helper()
	return openFake(t, objstoretest.Serve(t, do).URL, 20*time.Second).(*Store)
}

func apiError(status int, code string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("Content-Type", "application/xml")
		w.WriteHeader(status)
		if code != "" {
			fmt.Fprintf(w, "<Error><Code>%s</Code><Message>m</Message></Error>", code)
		}
	}
}

func TestAnswers(t *testing.T) {
	says := objstoretest.Says
	objstoretest.RunHTTP(t, objstoretest.HTTP{Open: openFake, Answers: []objstoretest.Answer{
		says("412", apiError(412, "PreconditionFailed"), objstore.ErrExists),
		says("412 without a body", apiError(412, ""), objstore.ErrExists),
		says("409", apiError(409, "ConditionalRequestConflict"), objstore.ErrRetry),
		says("409 without a body", apiError(409, ""), objstore.ErrRetry),
		says("503 of the API", apiError(503, "SlowDown"), objstore.ErrRetry),
		says("503 of something between", apiError(503, ""), objstore.ErrAmbiguous),
		says("500", apiError(500, "InternalError"), objstore.ErrAmbiguous),
		says("504", apiError(504, ""), objstore.ErrAmbiguous),
		says("403", apiError(403, "AccessDenied"), nil),
		says("missing bucket", apiError(404, "NoSuchBucket"), nil),
	}})
}

// Of a multipart upload only the last request can leave doubt; every other failure
// aborts it and may be repeated.
func TestMultipartAnswers(t *testing.T) {
	for _, tt := range []struct {
		name           string
		part, complete http.HandlerFunc
		want           error
		aborted        bool
	}{
		{"a part is lost", objstoretest.Lost, nil, objstore.ErrRetry, true},
		{"a part gets 500", apiError(500, "InternalError"), nil, objstore.ErrRetry, true},
		{"complete is lost", nil, objstoretest.Lost, objstore.ErrAmbiguous, false},
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
		answer    http.HandlerFunc
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
