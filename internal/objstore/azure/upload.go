package azure

import (
	"bytes"
	"context"
	"crypto/md5"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"sync/atomic"

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
	c := objstore.NewCutter("objstore/azure: put "+s.name(key), body, size, s.opts.PartBytes, maxBlocks)
	first, err := c.First(ctx, s, key, ifAbsent)
	if err != nil {
		return err
	}
	r := rest.Request{Op: "put", Key: key, Method: http.MethodPut, URL: s.blob(key), Header: map[string]string{}}
	if c.Done() {
		r.Body = [][]byte{first}
		r.Header["X-Ms-Blob-Type"], r.Header["Content-Type"] = "BlockBlob", "application/octet-stream"
	} else {
		list, err := s.sendBlocks(ctx, key, c, first)
		if err != nil {
			return err
		}
		r.URL += "?comp=blocklist"
		r.Body = [][]byte{list}
		r.Header["Content-Type"], r.Header["X-Ms-Blob-Content-Type"] = "application/xml", "application/octet-stream"
	}
	r.Header["Content-MD5"] = digest(r.Body[0])
	if ifAbsent {
		r.Header["If-None-Match"] = "*"
	}
	return s.client.Decide(ctx, r, ifAbsent)
}

// sendBlocks sends first and what c still has, Parallel blocks at a time, and
// returns the list that makes them an object. Blocks that no list names are seen by
// nobody; Azure drops them after a week, or when the key is next written. They
// cannot be dropped otherwise.
func (s *Store) sendBlocks(ctx context.Context, key string, c *objstore.Cutter, first []byte) ([]byte, error) {
	upload := rand.Text() // two uploads to one key must not mix; all names are equally long
	name := func(number int) string {
		return base64.StdEncoding.EncodeToString(fmt.Appendf(nil, "%s-%05d", upload, number))
	}
	var blocks atomic.Int64
	err := c.Send(ctx, first, s.opts.Parallel, func(ctx context.Context, number int, part []byte) error {
		blocks.Add(1)
		_, err := s.client.Repeat(ctx, rest.Request{
			Op: "put", Key: key, Method: http.MethodPut, URL: s.blob(key) + "?" + url.Values{"comp": {"block"}, "blockid": {name(number)}}.Encode(),
			Body: [][]byte{part}, Header: map[string]string{"Content-MD5": digest(part)},
		})
		return err
	})
	if err != nil {
		return nil, err
	}
	list := bytes.NewBufferString(`<?xml version="1.0" encoding="utf-8"?><BlockList>`)
	for number := range int(blocks.Load()) {
		fmt.Fprintf(list, "<Latest>%s</Latest>", name(number))
	}
	list.WriteString("</BlockList>")
	return list.Bytes(), nil
}

// digest is what the server compares a body with.
func digest(b []byte) string {
	sum := md5.Sum(b)
	return base64.StdEncoding.EncodeToString(sum[:])
}
