package gcs

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/weirstream/weir/internal/objstore"
	"github.com/weirstream/weir/internal/objstore/rest"
)

// Put implements objstore.Store. A body up to Options.PartBytes is one request, a
// larger one a resumable upload; memory is twice PartBytes.
func (s *Store) Put(ctx context.Context, key string, body io.Reader, size int64) error {
	return s.put(ctx, key, body, size, false)
}

// PutIfAbsent implements objstore.Store by ifGenerationMatch=0, which the server
// checks when the object is made.
func (s *Store) PutIfAbsent(ctx context.Context, key string, body io.Reader, size int64) error {
	return s.put(ctx, key, body, size, true)
}

func (s *Store) put(ctx context.Context, key string, body io.Reader, size int64, ifAbsent bool) error {
	if err := objstore.Check(ctx, key); err != nil {
		return err
	}
	c := objstore.NewCutter("objstore/gcs: put "+s.name(key), body, size, s.opts.PartBytes, 0)
	first, err := c.First(ctx, s, key, ifAbsent)
	if err != nil {
		return err
	}
	query := url.Values{"name": {s.base + key}, "fields": {"generation"}}
	if ifAbsent {
		query.Set("ifGenerationMatch", "0")
	}
	if c.Done() {
		return s.putWhole(ctx, key, first, query, ifAbsent)
	}
	return s.putParts(ctx, key, c, first, query)
}

func (s *Store) uploadURL(query url.Values) string {
	return s.opts.Endpoint + "/upload/storage/v1/b/" + url.PathEscape(s.opts.Bucket) + "/o?" + query.Encode()
}

// putWhole writes the object in one request, with its checksum.
func (s *Store) putWhole(ctx context.Context, key string, b []byte, query url.Values, ifAbsent bool) error {
	query.Set("uploadType", "multipart")
	mark := rand.Text() // 130 random bits: no body has it
	head := fmt.Sprintf("--%[1]s\r\nContent-Type: application/json\r\n\r\n{\"crc32c\":%[2]q}\r\n--%[1]s\r\nContent-Type: application/octet-stream\r\n\r\n",
		mark, encodeSum(crc32.Checksum(b, castagnoli)))
	return bucketMissing(s.client.Decide(ctx, rest.Request{
		Op: "put", Key: key, Method: http.MethodPost, URL: s.uploadURL(query),
		Header: map[string]string{"Content-Type": "multipart/related; boundary=" + mark},
		Body:   [][]byte{[]byte(head), b, []byte("\r\n--" + mark + "--\r\n")},
	}, ifAbsent))
}

// putParts writes the object by a resumable upload, whose URL the server gives and
// which it forgets after a week. One that fails is cancelled.
func (s *Store) putParts(ctx context.Context, key string, c *objstore.Cutter, first []byte, query url.Values) (err error) {
	query.Set("uploadType", "resumable")
	a, err := s.client.Repeat(ctx, rest.Request{Op: "put", Key: key, Method: http.MethodPost, URL: s.uploadURL(query),
		Header: map[string]string{"X-Upload-Content-Type": "application/octet-stream"}})
	if err != nil {
		return bucketMissing(err)
	}
	u := &upload{store: s, key: key, url: a.Header.Get("Location")}
	if u.url == "" {
		return fmt.Errorf("objstore/gcs: put %s: the server names no upload", s.name(key))
	}
	defer func() {
		if err != nil && !errors.Is(err, objstore.ErrAmbiguous) && !errors.Is(err, objstore.ErrExists) {
			u.cancel(ctx)
		}
	}()
	part := first
	for {
		u.sum = crc32.Update(u.sum, castagnoli, part)
		if err := u.send(ctx, part, c.Done()); err != nil || c.Done() {
			return err
		}
		if part, err = c.Next(); err != nil {
			return err
		}
	}
}

// upload is a resumable upload under way.
type upload struct {
	store *Store
	key   string
	url   string
	sent  int64  // bytes that the server has
	sum   uint32 // CRC32C of them and the part being sent
}

const resume = http.StatusPermanentRedirect // 308: send on

// send sends one part; the last one makes the object. A lost answer is settled by
// asking the server how far the upload is: the request that makes the object is
// never repeated blindly.
func (u *upload) send(ctx context.Context, part []byte, last bool) error {
	start, goal := u.sent, u.sent+int64(len(part))
	first, lost := true, false // lost: a try may have made the object
	err := u.store.client.Again(ctx, func() error {
		if !first {
			if done, err := u.ask(ctx); done || err != nil {
				return err
			}
			if u.sent < start || u.sent > goal {
				return fmt.Errorf("objstore/gcs: put %s: the server has %d bytes, %d to %d were sent", u.store.name(u.key), u.sent, start, goal)
			}
		}
		first = false
		err := u.chunks(ctx, part[u.sent-start:], goal, last)
		lost = lost || errors.Is(err, objstore.ErrAmbiguous)
		return err
	})
	if err != nil && lost && !errors.Is(err, objstore.ErrAmbiguous) {
		// Of the later failure only the text is kept: an "exists" may be our own object.
		if cause := context.Cause(ctx); cause != nil {
			return fmt.Errorf("%w: %w: %v", objstore.ErrAmbiguous, cause, err)
		}
		return fmt.Errorf("%w: %v", objstore.ErrAmbiguous, err)
	}
	return err
}

// chunks sends what is left of a part, as much at a time as the server takes.
func (u *upload) chunks(ctx context.Context, b []byte, goal int64, last bool) error {
	for len(b) > 0 {
		done, err := u.chunk(ctx, b, goal, last)
		if done || err != nil {
			return err
		}
		if u.sent > goal {
			return fmt.Errorf("objstore/gcs: put %s: the server has %d bytes, %d were sent", u.store.name(u.key), u.sent, goal)
		}
		b = b[int64(len(b))-(goal-u.sent):]
	}
	if last {
		return fmt.Errorf("objstore/gcs: put %s: the server has all %d bytes and makes no object: %w", u.store.name(u.key), goal, objstore.ErrAmbiguous)
	}
	return nil
}

// chunk sends the bytes up to goal and learns how many the server has now; done
// says that the object is made.
func (u *upload) chunk(ctx context.Context, b []byte, goal int64, last bool) (done bool, err error) {
	r := rest.Request{Op: "put", Key: u.key, Method: http.MethodPut, URL: u.url, Body: [][]byte{b}, Also: resume, Header: map[string]string{
		"Content-Range": fmt.Sprintf("bytes %d-%d/*", u.sent, goal-1), "Content-Type": "application/octet-stream",
	}}
	if last {
		r.Effect = rest.Writing
		r.Header["Content-Range"] = fmt.Sprintf("bytes %d-%d/%d", u.sent, goal-1, goal)
		r.Header["X-Goog-Hash"] = "crc32c=" + encodeSum(u.sum)
	}
	before := u.sent
	done, err = u.learn(u.store.client.Send(ctx, r))
	if err == nil && !done && u.sent <= before {
		return false, u.store.client.Fail(ctx, r, rest.Verdict{Class: objstore.ErrRetry}, errors.New("the server took nothing"))
	}
	return done, err
}

// ask asks how far the upload is.
func (u *upload) ask(ctx context.Context) (done bool, err error) {
	return u.learn(u.store.client.Send(ctx, rest.Request{Op: "put", Key: u.key, Method: http.MethodPut, URL: u.url, Also: resume,
		Header: map[string]string{"Content-Range": "bytes */*"}}))
}

// learn reads from an answer how many bytes the server has.
func (u *upload) learn(a *rest.Answer, err error) (done bool, _ error) {
	switch {
	case errors.Is(err, objstore.ErrNotFound): // the upload is gone, not an object
		return false, fmt.Errorf("%v: %w", err, objstore.ErrRetry)
	case err != nil:
		return false, err
	case a.Status != resume:
		return true, nil
	}
	_, end, ok := strings.Cut(a.Header.Get("Range"), "-") // bytes=0-N; none: no byte yet
	if !ok {
		u.sent = 0
		return false, nil
	}
	n, err := strconv.ParseInt(end, 10, 64)
	if err != nil {
		return false, fmt.Errorf("objstore/gcs: put %s: the server has the range %q", u.store.name(u.key), a.Header.Get("Range"))
	}
	u.sent = n + 1
	return false, nil
}

// cancel drops the upload. One that cannot be dropped ends in a week.
func (u *upload) cancel(ctx context.Context) {
	ctx, stop := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer stop()
	_, _ = u.store.client.Send(ctx, rest.Request{Op: "cancel the upload of", Key: u.key, Method: http.MethodDelete, URL: u.url, Also: 499})
}
