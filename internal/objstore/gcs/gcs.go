// Package gcs keeps objects in a bucket of Google Cloud Storage, or of a server
// that speaks its JSON API and honours ifGenerationMatch.
//
// It calls the API itself: Google's client repeats conditional writes and then
// takes its own object for somebody else's, and brings gRPC with it; gocloud's driver
// over it takes a refusal (403) for an absent object
// (docs/rfc/20261123-gcs-azure-clients.md).
//
// Concurrency: a Store is safe for concurrent use.
//
// Durability: the bucket's. What decides a write is one request: a whole upload, or
// the last one of a resumable upload. A conditional one is sent once, unless the
// server itself says how far the upload is; a lost answer is
// objstore.ErrAmbiguous.
package gcs

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/weirstream/weir/internal/objstore"
	"github.com/weirstream/weir/internal/objstore/rest"
)

// A Store keeps objects below a prefix of a bucket. It implements objstore.Store.
type Store struct {
	client rest.Client
	opts   Options
	base   string // what keys are below: empty, or ends in '/'
}

// New opens one bucket. It makes no request; the credentials are found by the
// first one.
func New(_ context.Context, opts Options) (*Store, error) {
	if err := opts.fill(os.Getenv); err != nil {
		return nil, fmt.Errorf("objstore/gcs: open gs://%s: %w", opts.Bucket, err)
	}
	s := &Store{opts: opts}
	if opts.Prefix != "" {
		s.base = opts.Prefix + "/"
	}
	s.client = rest.Client{
		HTTP: rest.NewHTTP(opts.ResponseTimeout), Label: "objstore/gcs", Name: s.name, Tries: opts.Tries,
		Authorize: authorizer(opts), Judge: judge,
	}
	return s, nil
}

func (s *Store) name(key string) string { return "gs://" + s.opts.Bucket + "/" + s.base + key }

// object is the URL of an object's resource.
func (s *Store) object(key string, query url.Values) string {
	return s.opts.Endpoint + "/storage/v1/b/" + url.PathEscape(s.opts.Bucket) + "/o/" + url.PathEscape(s.base+key) + "?" + query.Encode()
}

// resource is what the API tells of an object.
type resource struct {
	Name       string    `json:"name"`
	Size       int64     `json:"size,string"`
	Updated    time.Time `json:"updated"`
	Generation string    `json:"generation"`
	CRC32C     string    `json:"crc32c"`
}

const fields = "name,size,updated,generation,crc32c"

func (s *Store) info(r resource) objstore.Info {
	return objstore.Info{Key: strings.TrimPrefix(r.Name, s.base), Size: r.Size, ModTime: r.Updated, ETag: r.Generation}
}

// Get implements objstore.Store. The bytes are checked against the object's
// checksum at its end.
func (s *Store) Get(ctx context.Context, key string) (io.ReadCloser, objstore.Info, error) {
	if err := objstore.Check(ctx, key); err != nil {
		return nil, objstore.Info{}, err
	}
	r := s.media(key)
	resp, err := s.client.ReOpen(ctx, r)
	if err != nil {
		return nil, objstore.Info{}, err
	}
	modified, err := http.ParseTime(resp.Header.Get("Last-Modified"))
	if err != nil {
		modified = time.Time{}
	}
	info := objstore.Info{Key: key, Size: resp.ContentLength, ModTime: modified, ETag: resp.Header.Get("X-Goog-Generation")}
	return s.client.Reader(ctx, r, resp.Body, checksum(resp.Header)), info, nil
}

// media is the request for an object's bytes as they are stored.
func (s *Store) media(key string) rest.Request {
	return rest.Request{Op: "get", Key: key, Method: http.MethodGet, URL: s.object(key, url.Values{"alt": {"media"}}),
		Header: map[string]string{"Accept-Encoding": "gzip"}} // else a compressed object would be unpacked on the way
}

// checksum checks a body against the CRC32C of its headers, where they have one.
func checksum(h http.Header) *rest.Sum {
	for _, line := range h.Values("X-Goog-Hash") {
		for part := range strings.SplitSeq(line, ",") {
			name, want, _ := strings.Cut(strings.TrimSpace(part), "=")
			if name == "crc32c" && want != "" {
				sum := crc32.New(castagnoli)
				return &rest.Sum{Writer: sum, OK: func() bool { return encodeSum(sum.Sum32()) == want }}
			}
		}
	}
	return nil
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func encodeSum(sum uint32) string {
	return base64.StdEncoding.EncodeToString(binary.BigEndian.AppendUint32(nil, sum))
}

// GetRange implements objstore.Store.
func (s *Store) GetRange(ctx context.Context, key string, offset, length int64) (io.ReadCloser, error) {
	if err := objstore.Check(ctx, key); err != nil {
		return nil, err
	}
	return s.client.GetRange(ctx, s, s.media(key), offset, length)
}

// Stat implements objstore.Store.
func (s *Store) Stat(ctx context.Context, key string) (objstore.Info, error) {
	if err := objstore.Check(ctx, key); err != nil {
		return objstore.Info{}, err
	}
	r := rest.Request{Op: "stat", Key: key, Method: http.MethodGet, URL: s.object(key, url.Values{"fields": {fields}})}
	a, err := s.client.Repeat(ctx, r)
	if err != nil {
		return objstore.Info{}, err
	}
	var o resource
	if err := json.Unmarshal(a.Body, &o); err != nil {
		return objstore.Info{}, s.client.Fail(ctx, r, rest.Verdict{}, err)
	}
	return s.info(o), nil
}

// List implements objstore.Store. Keys that no store takes, such as the folder
// marks of other tools, are left out.
func (s *Store) List(ctx context.Context, prefix, startAfter string, limit int) ([]objstore.Info, error) {
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	if limit <= 0 || limit > 999 {
		limit = 999
	}
	// startOffset is the first name, which startAfter is not: one more is asked for.
	query := url.Values{"prefix": {s.base + prefix}, "maxResults": {strconv.Itoa(limit + 1)}, "fields": {"nextPageToken,items(" + fields + ")"}}
	if startAfter != "" {
		query.Set("startOffset", s.base+startAfter)
	}
	for {
		r := rest.Request{Op: "list", Key: prefix, Method: http.MethodGet,
			URL: s.opts.Endpoint + "/storage/v1/b/" + url.PathEscape(s.opts.Bucket) + "/o?" + query.Encode()}
		a, err := s.client.Repeat(ctx, r)
		if err != nil {
			return nil, bucketMissing(err)
		}
		var out struct {
			Items []resource `json:"items"`
			Next  string     `json:"nextPageToken"`
		}
		if err := json.Unmarshal(a.Body, &out); err != nil {
			return nil, s.client.Fail(ctx, r, rest.Verdict{}, err)
		}
		var page []objstore.Info
		for _, o := range out.Items {
			i := s.info(o)
			if strings.HasPrefix(o.Name, s.base) && i.Key > startAfter && objstore.CheckKey(i.Key) == nil && len(page) < limit {
				page = append(page, i)
			}
		}
		if len(page) > 0 || out.Next == "" {
			return page, nil
		}
		query.Set("pageToken", out.Next)
	}
}

// Copy implements objstore.Store, on the server, which may want to be asked several
// times for one large object.
func (s *Store) Copy(ctx context.Context, dst, src string) error {
	if err := objstore.Check(ctx, dst, src); err != nil {
		return err
	}
	token := ""
	for {
		query := url.Values{"fields": {"done,rewriteToken"}}
		if token != "" {
			query.Set("rewriteToken", token)
		}
		to := "/rewriteTo/b/" + url.PathEscape(s.opts.Bucket) + "/o/" + url.PathEscape(s.base+dst)
		from, _, _ := strings.Cut(s.object(src, nil), "?")
		r := rest.Request{Op: "copy from " + src + " to", Key: dst, Effect: rest.Writing, Method: http.MethodPost, URL: from + to + "?" + query.Encode()}
		a, err := s.client.Repeat(ctx, r)
		if err != nil {
			return err
		}
		var out struct {
			Done  bool   `json:"done"`
			Token string `json:"rewriteToken"`
		}
		switch err := json.Unmarshal(a.Body, &out); {
		case err != nil: // broken off
			return s.client.Fail(ctx, r, rest.Lost(rest.Writing), err)
		case out.Done:
			return nil
		case out.Token == "":
			return s.client.Fail(ctx, r, rest.Verdict{}, errors.New("the answer has neither an end nor a rewriteToken"))
		}
		token = out.Token
	}
}

// Delete implements objstore.Store.
func (s *Store) Delete(ctx context.Context, key string) error {
	if err := objstore.Check(ctx, key); err != nil {
		return err
	}
	u, _, _ := strings.Cut(s.object(key, nil), "?")
	_, err := s.client.Repeat(ctx, rest.Request{Op: "delete", Key: key, Effect: rest.Writing, Method: http.MethodDelete, URL: u})
	if errors.Is(err, objstore.ErrNotFound) {
		return nil
	}
	return err
}

// Close implements objstore.Store.
func (s *Store) Close() error {
	s.client.HTTP.CloseIdleConnections()
	return nil
}

// judge tells what an error of the API means.
//
//	status                               reading      writing
//	404                                  ErrNotFound  ErrNotFound
//	404 that speaks of the bucket        final        final
//	416                                  ErrRange     -
//	412 conditionNotMet                  -            ErrExists
//	409, 429, 403 rateLimitExceeded,
//	408 by the API                       ErrRetry     ErrRetry (no effect)
//	5xx, 408 by something between        ErrRetry     ErrAmbiguous
//	anything else                        final        final
//
// A 503 does not promise here that nothing happened, as S3's does.
func judge(e rest.Effect, a *rest.Answer) rest.Verdict {
	var said struct {
		Error struct {
			Message string `json:"message"`
			Errors  []struct {
				Reason string `json:"reason"`
			} `json:"errors"`
		} `json:"error"`
	}
	fromAPI := json.Unmarshal(a.Body, &said) == nil && said.Error.Message != ""
	reason := ""
	if len(said.Error.Errors) > 0 {
		reason = said.Error.Errors[0].Reason
	}
	switch {
	case a.Status == http.StatusNotFound && bytes.Contains(bytes.ToLower(a.Body), []byte("bucket does not exist")):
		return rest.Verdict{Hint: missingBucket}
	case a.Status == http.StatusNotFound:
		return rest.Verdict{Class: objstore.ErrNotFound}
	case a.Status == http.StatusRequestedRangeNotSatisfiable:
		return rest.Verdict{Class: objstore.ErrRange}
	case a.Status == http.StatusPreconditionFailed:
		return rest.Verdict{Class: objstore.ErrExists}
	case a.Status == http.StatusConflict, a.Status == http.StatusTooManyRequests,
		a.Status == http.StatusRequestTimeout && fromAPI,
		a.Status == http.StatusForbidden && strings.HasSuffix(strings.ToLower(reason), "ratelimitexceeded"):
		return rest.Verdict{Class: objstore.ErrRetry}
	case a.Status >= 500, a.Status == http.StatusRequestTimeout:
		return rest.Lost(e)
	case a.Status == http.StatusUnauthorized, a.Status == http.StatusForbidden:
		return rest.Verdict{Hint: "check the credentials and the bucket's permissions"}
	}
	return rest.Verdict{}
}

const missingBucket = "make the bucket, or correct the URL"

// bucketMissing turns a missing object into a missing bucket, for requests that
// name no object.
func bucketMissing(err error) error {
	if errors.Is(err, objstore.ErrNotFound) {
		return fmt.Errorf("%v (%s)", err, missingBucket) // it must not be taken for a missing object
	}
	return err
}
