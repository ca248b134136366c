// Package rest sends the requests of object stores that Weir drives by plain
// HTTP: Google Cloud Storage and Azure Blob Storage. It knows what may have
// happened when an answer is lost, and repeats only what may be repeated. What an
// answer means is its user's business.
//
// Concurrency: a Client is safe for concurrent use.
//
// Durability: none of its own.
package rest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/url"
	"time"

	"github.com/weirstream/weir/internal/objstore"
)

// Effect says what a request may have done when its answer is lost.
type Effect uint8

const (
	Reading Effect = iota // nothing that anyone sees: a read, or a part of an upload
	Writing               // it may have happened
)

// A Verdict is what an answer means.
type Verdict struct {
	Class error  // one of objstore's errors; nil is final
	Hint  string // the cure, or empty
}

// Lost is the verdict on an answer that does not say whether the request was done:
// a 5xx of something in between, a broken connection.
func Lost(e Effect) Verdict {
	if e == Writing {
		return Verdict{Class: objstore.ErrAmbiguous}
	}
	return Verdict{Class: objstore.ErrRetry}
}

// A Client sends requests to one store. Its fields are set once.
type Client struct {
	HTTP  *http.Client
	Label string                  // begins every error: "objstore/gcs"
	Name  func(key string) string // how errors name an object
	Tries int                     // calls in all of Repeat

	// Authorize adds credentials to a request that is otherwise complete. It is called
	// for each try, before anything is sent.
	Authorize func(ctx context.Context, r *http.Request) error

	// Judge tells what an answer above 299 means, from its status and its body.
	Judge func(e Effect, a *Answer) Verdict
}

// NewHTTP returns a client whose wait for the first byte of an answer is bounded.
// It neither follows redirects, which signatures do not survive, nor unpacks
// compressed bodies: an object is the bytes that are stored.
func NewHTTP(responseTimeout time.Duration) *http.Client {
	dialer := &net.Dialer{Timeout: 10 * time.Second, KeepAlive: 30 * time.Second}
	return &http.Client{
		Transport: &http.Transport{
			Proxy: http.ProxyFromEnvironment, DialContext: dialer.DialContext, ForceAttemptHTTP2: true,
			TLSHandshakeTimeout: 10 * time.Second, ResponseHeaderTimeout: responseTimeout, ExpectContinueTimeout: time.Second,
			MaxIdleConnsPerHost: 64, IdleConnTimeout: 90 * time.Second, DisableCompression: true,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// A Request is one request, as often as it is sent.
type Request struct {
	Op, Key string // what it does and to which object, for errors
	Effect  Effect
	Method  string
	URL     string
	Header  map[string]string
	Body    [][]byte // sent one behind the other; nil sends none
	Also    int      // a status above 299 that is an answer and no error, or 0
}

// An Answer is an answer that was read whole.
type Answer struct {
	Status int
	Header http.Header
	Body   []byte // of an error at most 64 KiB
}

// apiError is what a server said.
type apiError struct{ a *Answer }

func (e apiError) Error() string {
	body := bytes.TrimSpace(e.a.Body)
	if len(body) > 300 {
		body = append(body[:300:300], "..."...)
	}
	if len(body) == 0 {
		return fmt.Sprintf("HTTP status %d", e.a.Status)
	}
	return fmt.Sprintf("HTTP status %d: %q", e.a.Status, body)
}

// Open sends r once; the answer's body is the caller's to read and close. An error
// wraps one of objstore's classes, or is final.
func (c *Client) Open(ctx context.Context, r Request) (*http.Response, error) {
	req, err := r.build(ctx)
	if err == nil {
		err = c.Authorize(ctx, req)
	}
	if err != nil { // nothing was sent
		return nil, c.fail(ctx, r, Verdict{Class: unsent(err)}, err)
	}
	resp, err := c.HTTP.Do(req)
	if err != nil {
		var ue *url.Error
		if errors.As(err, &ue) {
			err = ue.Err // without the URL, which may be signed
		}
		var op *net.OpError
		if errors.As(err, &op) && op.Op == "dial" {
			return nil, c.fail(ctx, r, Verdict{objstore.ErrRetry, "is the endpoint right and up?"}, err)
		}
		return nil, c.fail(ctx, r, Lost(r.Effect), err)
	}
	if resp.StatusCode < 300 || resp.StatusCode == r.Also {
		return resp, nil
	}
	defer resp.Body.Close()
	a := &Answer{Status: resp.StatusCode, Header: resp.Header}
	a.Body, _ = io.ReadAll(io.LimitReader(resp.Body, 64<<10)) // the status is what counts
	return nil, c.fail(ctx, r, c.Judge(r.Effect, a), apiError{a})
}

func (r Request) build(ctx context.Context) (*http.Request, error) {
	req, err := http.NewRequestWithContext(ctx, r.Method, r.URL, http.NoBody)
	if err != nil {
		return nil, err
	}
	for _, b := range r.Body {
		req.ContentLength += int64(len(b))
	}
	if req.ContentLength > 0 {
		// With GetBody an idle connection that turns out to be closed, before anything was
		// written to it, costs nothing.
		req.GetBody = func() (io.ReadCloser, error) {
			parts := make([]io.Reader, len(r.Body))
			for i, b := range r.Body {
				parts[i] = bytes.NewReader(b)
			}
			return io.NopCloser(io.MultiReader(parts...)), nil
		}
		if req.Body, err = req.GetBody(); err != nil {
			return nil, err
		}
	}
	for name, value := range r.Header {
		req.Header.Set(name, value)
	}
	return req, nil
}

// unsent is the class of an error that came before the request: a token's server
// that is not reached may be reached later.
func unsent(err error) error {
	var network net.Error
	if errors.Is(err, objstore.ErrRetry) || errors.As(err, &network) {
		return objstore.ErrRetry
	}
	return nil
}

// Send sends r once and reads the answer. The body of an answer to a write is not
// waited for: that it came says that it is done. Such an answer may lack it.
func (c *Client) Send(ctx context.Context, r Request) (*Answer, error) {
	resp, err := c.Open(ctx, r)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	a := &Answer{Status: resp.StatusCode, Header: resp.Header}
	if a.Body, err = io.ReadAll(resp.Body); err != nil && r.Effect == Reading {
		return nil, c.fail(ctx, r, Lost(Reading), err)
	}
	return a, nil
}

// again makes an ambiguous failure one that Backoff repeats.
type again struct{ err error }

func (a again) Error() string        { return a.err.Error() }
func (a again) Is(target error) bool { return target == objstore.ErrRetry }
func (c *Client) pause() (b objstore.Backoff) {
	return objstore.Backoff{Tries: c.Tries, First: 100 * time.Millisecond}
}

// Repeat is Send for requests that may be sent again whatever became of the last
// try: reads, and writes without a condition.
func (c *Client) Repeat(ctx context.Context, r Request) (a *Answer, err error) {
	err = c.Again(ctx, func() (e error) { a, e = c.Send(ctx, r); return e })
	return a, err
}

// Decide sends a write that makes an object: once if it must be told from another's
// object, else like Repeat.
func (c *Client) Decide(ctx context.Context, r Request, once bool) error {
	r.Effect = Writing
	send := c.Repeat
	if once {
		send = c.Send
	}
	_, err := send(ctx, r)
	return err
}

// GetRange is objstore.Store's GetRange for the bytes that r asks for whole. S
// answers what HTTP has no range for: no bytes, and all.
func (c *Client) GetRange(ctx context.Context, s objstore.Store, r Request, offset, length int64) (io.ReadCloser, error) {
	switch {
	case offset < 0:
		return nil, fmt.Errorf("%s: get %s: offset %d is below zero", c.Label, c.Name(r.Key), offset)
	case length == 0:
		_, err := s.Stat(ctx, r.Key)
		return http.NoBody, err
	case offset == 0 && length < 0:
		all, _, err := s.Get(ctx, r.Key)
		return all, err
	}
	span := fmt.Sprintf("bytes=%d-", offset)
	if length > 0 {
		span += fmt.Sprint(offset + length - 1)
	}
	r.Header = maps.Clone(r.Header)
	if r.Header == nil {
		r.Header = map[string]string{}
	}
	r.Header["Range"] = span
	resp, err := c.ReOpen(ctx, r)
	if err != nil {
		if offset == 0 && errors.Is(err, objstore.ErrRange) { // an empty object
			return http.NoBody, nil
		}
		return nil, err
	}
	body := c.Reader(ctx, r, resp.Body, nil)
	switch {
	case resp.ContentLength == 0 && offset > 0: // Azurite's answer at the very end, where others say 416
		body.Close()
		return nil, c.fail(ctx, r, Verdict{Class: objstore.ErrRange}, errors.New("no byte is there"))
	case resp.StatusCode == http.StatusPartialContent:
		return body, nil
	case offset == 0: // the whole object, from a server that may answer so
		return &limited{io.LimitReader(body, length), body}, nil
	}
	body.Close()
	return nil, fmt.Errorf("%s: get %s: the server ignored the range: status %d", c.Label, c.Name(r.Key), resp.StatusCode)
}

type limited struct {
	io.Reader
	io.Closer
}

// ReOpen is Open, repeated like Repeat.
func (c *Client) ReOpen(ctx context.Context, r Request) (resp *http.Response, err error) {
	err = c.Again(ctx, func() (e error) { resp, e = c.Open(ctx, r); return e })
	return resp, err
}

// Again calls f until it succeeds or fails for good, or the tries are used up. A
// lost answer counts as a reason to repeat: f must bear it.
func (c *Client) Again(ctx context.Context, f func() error) error {
	err := c.pause().Do(ctx, func() error {
		err := f()
		if errors.Is(err, objstore.ErrAmbiguous) {
			return again{err}
		}
		return err
	})
	var a again
	if !errors.As(err, &a) {
		return err
	}
	if cause := context.Cause(ctx); cause != nil && !errors.Is(a.err, cause) {
		return fmt.Errorf("%w (gave up waiting: %w)", a.err, cause)
	}
	return a.err
}

// Fail makes the error of r, for failures that its user finds: v is what it means.
func (c *Client) Fail(ctx context.Context, r Request, v Verdict, err error) error {
	return c.fail(ctx, r, v, err)
}

func (c *Client) fail(ctx context.Context, r Request, v Verdict, err error) error {
	if ctx.Err() != nil && (v.Class == objstore.ErrRetry || v.Class == objstore.ErrAmbiguous) {
		err = context.Cause(ctx)
		if v.Class == objstore.ErrRetry {
			v.Class = nil // not the store's failure: repeating it will not help
		}
	}
	hint := v.Hint
	if hint != "" {
		hint = " (" + hint + ")"
	}
	if v.Class == nil || errors.Is(err, v.Class) {
		return fmt.Errorf("%s: %s %s: %w%s", c.Label, r.Op, c.Name(r.Key), err, hint)
	}
	return fmt.Errorf("%s: %s %s: %w%s: %w", c.Label, r.Op, c.Name(r.Key), v.Class, hint, err)
}

// Reader makes the body of an answer one whose failures are told as objstore's: a
// body that breaks off fails with ErrRetry. Check, if not nil, sees every byte and
// is asked at the end.
func (c *Client) Reader(ctx context.Context, r Request, body io.ReadCloser, check *Sum) io.ReadCloser {
	return &reader{c, ctx, r, body, check}
}

// A Sum checks what was read.
type Sum struct {
	io.Writer
	OK func() bool
}

type reader struct {
	c     *Client
	ctx   context.Context
	r     Request
	body  io.ReadCloser
	check *Sum
}

func (b *reader) Read(p []byte) (int, error) {
	n, err := b.body.Read(p)
	if b.check != nil {
		_, _ = b.check.Write(p[:n]) // a hash takes everything
	}
	switch {
	case err == io.EOF && b.check != nil && !b.check.OK():
		return n, b.c.fail(b.ctx, b.r, Verdict{Class: objstore.ErrRetry}, errors.New("the bytes do not have the checksum that the store names"))
	case err != nil && err != io.EOF:
		return n, b.c.fail(b.ctx, b.r, Lost(Reading), err)
	}
	return n, err
}

func (b *reader) Close() error { return b.body.Close() }
