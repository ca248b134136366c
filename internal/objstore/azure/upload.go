package azure

import (
	"bytes"
	"context"
	"crypto/md5"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"

	"golang.org/x/sync/errgroup"

	"github.com/weirstream/weir/internal/objstore"
	"github.com/weirstream/weir/internal/objstore/rest"
)

// Put implements objstore.Store. A body up to Options.PartBytes is one request, a
// larger one is sent in blocks; memory is at most PartBytes times Parallel plus
// two.
func (s *Store) Put(ctx context.Context, key string, body io.Reader, size int64) error {
	return s.put(ctx, key, body, size, false)
}

// PutIfAbsent implements objstore.Store by If-None-Match on the request that
// decides.
func (s *Store) PutIfAbsent(ctx context.Context, key string, body io.Reader, size int64) error {
	return s.put(ctx, key, body, size, true)
}

func (s *Store) put(ctx context.Context, key string, body io.Reader, size int64, ifAbsent bool) error {
	if err := check(ctx, key); err != nil {
		return err
	}
	part := s.opts.PartBytes
	if size/part >= maxBlocks {
		part = size/(maxBlocks-1) + 1
	}
	c := objstore.NewCutter(body, part, size)
	first, err := c.Next()
	if err != nil {
		return fmt.Errorf("objstore/azure: put %s: %w", s.name(key), err)
	}
	if c.Done() {
		return s.commit(ctx, ifAbsent, rest.Request{
			Op: "put", Key: key, URL: s.blob(key), Body: [][]byte{first},
			Header: map[string]string{"X-Ms-Blob-Type": "BlockBlob", "Content-Type": "application/octet-stream", "Content-MD5": digest(first)},
		})
	}
	if ifAbsent { // spares sending a large body for nothing
		if _, err := s.Stat(ctx, key); err == nil {
			return fmt.Errorf("objstore/azure: put %s: %w", s.name(key), objstore.ErrExists)
		} else if !errors.Is(err, objstore.ErrNotFound) {
			return err
		}
	}
	list, err := s.sendBlocks(ctx, key, c, first)
	if err != nil {
		return err
	}
	return s.commit(ctx, ifAbsent, rest.Request{
		Op: "put", Key: key, URL: s.blob(key) + "?comp=blocklist", Body: [][]byte{list},
		Header: map[string]string{"Content-Type": "application/xml", "Content-MD5": digest(list), "X-Ms-Blob-Content-Type": "application/octet-stream"},
	})
}

// commit sends the request that makes the object, once if it is conditional.
func (s *Store) commit(ctx context.Context, ifAbsent bool, r rest.Request) (err error) {
	r.Effect, r.Method = rest.Writing, http.MethodPut
	if ifAbsent {
		r.Header["If-None-Match"] = "*"
		_, err = s.client.Send(ctx, r)
	} else {
		_, err = s.client.Repeat(ctx, r)
	}
	return err
}

// sendBlocks sends first and what c still has, Parallel blocks at a time, and
// returns the list that makes them an object. Blocks that no list names are seen by
// nobody; Azure drops them after a week, or when the key is next written. They
// cannot be dropped otherwise.
func (s *Store) sendBlocks(ctx context.Context, key string, c *objstore.Cutter, first []byte) ([]byte, error) {
	caller := ctx
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(s.opts.Parallel)
	upload := rand.Text() // two uploads to one key must not mix; all names are equally long
	list := bytes.NewBufferString(`<?xml version="1.0" encoding="utf-8"?><BlockList>`)
	n := 0
	send := func(b []byte) {
		id := base64.StdEncoding.EncodeToString(fmt.Appendf(nil, "%s-%05d", upload, n))
		fmt.Fprintf(list, "<Latest>%s</Latest>", id)
		n++
		g.Go(func() error {
			_, err := s.client.Repeat(ctx, rest.Request{
				Op: "put", Key: key, Method: http.MethodPut, URL: s.blob(key) + "?" + url.Values{"comp": {"block"}, "blockid": {id}}.Encode(),
				Body: [][]byte{b}, Header: map[string]string{"Content-MD5": digest(b)},
			})
			return err
		})
	}
	for send(first); !c.Done() && ctx.Err() == nil; {
		b, err := c.Next()
		if err == nil && n == maxBlocks {
			err = fmt.Errorf("over %d blocks of %d bytes: announce the size, or raise part_bytes", maxBlocks, c.Part())
		}
		if err != nil {
			_ = g.Wait() // the body's error is the cause
			return nil, fmt.Errorf("objstore/azure: put %s: %w", s.name(key), err)
		}
		send(b)
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	if !c.Done() { // the caller's context ended between two blocks
		return nil, fmt.Errorf("objstore/azure: put %s: %w", s.name(key), context.Cause(caller))
	}
	list.WriteString("</BlockList>")
	return list.Bytes(), nil
}

// digest is what the server compares a body with.
func digest(b []byte) string {
	sum := md5.Sum(b)
	return base64.StdEncoding.EncodeToString(sum[:])
}
