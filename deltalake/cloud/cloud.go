// Package cloud opens the stores of Delta tables by URI: folders (a path or
// file://), S3 and what speaks its protocol (s3://, s3a://), Google Cloud Storage
// (gs://) and Azure Blob Storage (az://, abfss:// and Azure's other schemes).
//
// Concurrency: stores are safe for concurrent use, also by several processes on
// the same table: put-if-absent is the server's conditional write.
//
// Durability: that of the folder (synced files) or of the object store.
package cloud

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"github.com/weirstream/weir/deltalake"
	"github.com/weirstream/weir/internal/objstore"
	"github.com/weirstream/weir/internal/objstore/azure"
	"github.com/weirstream/weir/internal/objstore/gcs"
	"github.com/weirstream/weir/internal/objstore/s3"
)

// openers are the drivers by scheme.
func openers() objstore.Openers {
	o := objstore.Openers{"s3": s3.Open, "s3a": s3.Open, "gs": gcs.Open}
	for _, scheme := range azure.Schemes() {
		o[scheme] = azure.Open
	}
	return o
}

// Open returns the store whose root is the table at uri:
//
//	path, file:///path
//	s3://bucket/path
//	gs://bucket/path
//	az://container/path, abfss://container@account.dfs.core.windows.net/path
//
// Options such as endpoint, region, anonymous, account or part_bytes stand in the
// query, under delta-rs's names too; docs/deltalake.md lists them. Credentials come
// from the environment that AWS's, Google's and Azure's own tools read, where the
// query has none. It makes no request. Other schemes are refused by name.
func Open(ctx context.Context, uri string) (deltalake.Store, error) {
	if rest, ok := strings.CutPrefix(uri, "file:"); ok && strings.HasPrefix(rest, "/") {
		path := filePath(rest)
		if path == "" {
			return nil, fmt.Errorf("deltalake/cloud: %s names a host or a path that is not absolute, write file:///path", uri)
		}
		return deltalake.NewFolderStore(filepath.FromSlash(path)), nil
	}
	scheme, _, ok := strings.Cut(uri, "://")
	if !ok {
		return deltalake.NewFolderStore(uri), nil
	}
	if openers()[scheme] == nil {
		return nil, fmt.Errorf("deltalake/cloud: scheme %q of %s is not supported, use a path, file://, s3://, gs://, az:// or abfss://", scheme, uri)
	}
	s, err := openers().Open(ctx, uri)
	if err != nil {
		return nil, fmt.Errorf("deltalake/cloud: %w", err)
	}
	return &store{s: s}, nil
}

// filePath is the folder that a file URI without its scheme names, "" when that is on
// another host. Escapes are undone, unless a folder has the very name: Hadoop's tools
// do not escape.
func filePath(rest string) string {
	path := rest
	if host, ok := strings.CutPrefix(rest, "//"); ok {
		if path = strings.TrimPrefix(host, "localhost"); !strings.HasPrefix(path, "/") {
			return ""
		}
	}
	if plain, err := url.PathUnescape(path); err == nil && plain != path {
		if _, err := os.Stat(filepath.FromSlash(path)); err != nil {
			return plain
		}
	}
	return path
}

// store adapts an object store. Passing failures are waited out; a lost answer of a
// put-if-absent is left to the table, which reads back.
type store struct {
	s    objstore.Store
	wait objstore.Backoff
}

// outcome turns an object store's error into deltalake's.
func outcome(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, objstore.ErrNotFound):
		return fmt.Errorf("%w: %w", deltalake.ErrNotFound, err)
	case errors.Is(err, objstore.ErrExists):
		return fmt.Errorf("%w: %w", deltalake.ErrExists, err)
	}
	return err
}

func (c *store) Get(ctx context.Context, path string) (b []byte, err error) {
	err = c.wait.Do(ctx, func() (e error) { b, e = objstore.ReadAll(ctx, c.s, path); return e })
	return b, outcome(err)
}

func (c *store) GetRange(ctx context.Context, path string, off, n int64) (b []byte, err error) {
	if n < 0 || off < 0 {
		return nil, fmt.Errorf("deltalake/cloud: range of %d bytes from %d of %s", n, off, path)
	}
	err = c.wait.Do(ctx, func() (e error) { b, e = objstore.ReadRange(ctx, c.s, path, off, n); return e })
	return b, outcome(err)
}

func (c *store) Stat(ctx context.Context, path string) (deltalake.ObjectInfo, error) {
	var i objstore.Info
	err := c.wait.Do(ctx, func() (e error) { i, e = c.s.Stat(ctx, path); return e })
	return deltalake.ObjectInfo{Path: path, Size: i.Size, Modified: i.ModTime}, outcome(err)
}

func (c *store) List(ctx context.Context, prefix, after string) iter.Seq2[deltalake.ObjectInfo, error] {
	return func(yield func(deltalake.ObjectInfo, error) bool) {
		for {
			var page []objstore.Info
			if err := c.wait.Do(ctx, func() (e error) { page, e = c.s.List(ctx, prefix, after, 0); return e }); err != nil {
				yield(deltalake.ObjectInfo{}, outcome(err))
				return
			}
			for _, i := range page {
				if !yield(deltalake.ObjectInfo{Path: i.Key, Size: i.Size, Modified: i.ModTime}, nil) {
					return
				}
			}
			if len(page) == 0 {
				return
			}
			after = page[len(page)-1].Key
		}
	}
}

func (c *store) Put(ctx context.Context, path string, data []byte) error {
	return outcome(c.wait.Do(ctx, func() error { return objstore.PutBytes(ctx, c.s, path, data) }))
}

func (c *store) PutIfAbsent(ctx context.Context, path string, data []byte) error {
	return outcome(c.wait.Do(ctx, func() error { return objstore.PutBytesIfAbsent(ctx, c.s, path, data) }))
}

func (c *store) Delete(ctx context.Context, path string) error {
	return outcome(c.wait.Do(ctx, func() error { return c.s.Delete(ctx, path) }))
}

func (c *store) Create(ctx context.Context, path string) (deltalake.ObjectWriter, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	r, w := io.Pipe()
	o := &upload{w: w, done: make(chan error, 1)}
	go func() {
		err := c.s.Put(ctx, path, r, -1)
		r.CloseWithError(errors.Join(err, io.ErrClosedPipe)) // a writer must not wait for a reader that has gone
		o.done <- outcome(err)
	}()
	return o, nil
}

// errAborted breaks off an upload.
var errAborted = errors.New("deltalake/cloud: the upload was aborted")

// upload streams one object through a pipe into Put.
type upload struct {
	w     *io.PipeWriter
	done  chan error
	ended bool
}

func (o *upload) Write(p []byte) (int, error) { return o.w.Write(p) }

func (o *upload) Close() error {
	if o.ended {
		return errors.New("deltalake/cloud: the upload has ended")
	}
	o.ended = true
	o.w.Close()
	return <-o.done
}

func (o *upload) Abort() error {
	if o.ended {
		return nil
	}
	o.ended = true
	o.w.CloseWithError(errAborted)
	if err := <-o.done; err != nil && !errors.Is(err, errAborted) {
		return err
	}
	return nil
}
