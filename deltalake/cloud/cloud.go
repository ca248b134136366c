// Package cloud opens the stores of Delta tables by URI: folders (a path or
// file://) and S3 and what speaks its protocol (s3://, s3a://).
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
	"path/filepath"
	"strings"

	"github.com/weirstream/weir/deltalake"
	"github.com/weirstream/weir/internal/objstore"
	"github.com/weirstream/weir/internal/objstore/s3"
)

// Open returns the store whose root is the table at uri: a path, file:///path, or
// s3://bucket/path with options such as endpoint, region and path_style in the
// query. Credentials come from the AWS environment where the query has none. It
// makes no request. Other schemes are refused by name.
func Open(ctx context.Context, uri string) (deltalake.Store, error) {
	scheme, rest, ok := strings.Cut(uri, "://")
	if !ok {
		return deltalake.NewFolderStore(uri), nil
	}
	switch scheme {
	case "file":
		return deltalake.NewFolderStore(filepath.FromSlash(rest)), nil
	case "s3", "s3a":
		u, err := url.Parse(uri)
		if err != nil {
			return nil, fmt.Errorf("deltalake/cloud: %w", err)
		}
		u.Scheme = "s3"
		u.Path = strings.Trim(u.Path, "/")
		if u.Path != "" {
			u.Path += "/"
		}
		s, err := s3.Open(ctx, u)
		if err != nil {
			return nil, fmt.Errorf("deltalake/cloud: %w", err)
		}
		return &store{s}, nil
	}
	return nil, fmt.Errorf("deltalake/cloud: scheme %q of %s is not supported, use a path, file:// or s3://", scheme, uri)
}

// store adapts an object store.
type store struct{ s objstore.Store }

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

func (c *store) Get(ctx context.Context, path string) ([]byte, error) {
	b, err := objstore.ReadAll(ctx, c.s, path)
	return b, outcome(err)
}

func (c *store) GetRange(ctx context.Context, path string, off, n int64) ([]byte, error) {
	if n < 0 || off < 0 {
		return nil, fmt.Errorf("deltalake/cloud: range of %d bytes from %d of %s", n, off, path)
	}
	b, err := objstore.ReadRange(ctx, c.s, path, off, n)
	return b, outcome(err)
}

func (c *store) Stat(ctx context.Context, path string) (deltalake.ObjectInfo, error) {
	i, err := c.s.Stat(ctx, path)
	return deltalake.ObjectInfo{Path: path, Size: i.Size, Modified: i.ModTime}, outcome(err)
}

func (c *store) List(ctx context.Context, prefix, after string) iter.Seq2[deltalake.ObjectInfo, error] {
	return func(yield func(deltalake.ObjectInfo, error) bool) {
		for i, err := range objstore.All(ctx, c.s, prefix, after) {
			if !yield(deltalake.ObjectInfo{Path: i.Key, Size: i.Size, Modified: i.ModTime}, outcome(err)) {
				return
			}
		}
	}
}

func (c *store) Put(ctx context.Context, path string, data []byte) error {
	return outcome(objstore.PutBytes(ctx, c.s, path, data))
}

func (c *store) PutIfAbsent(ctx context.Context, path string, data []byte) error {
	return outcome(objstore.PutBytesIfAbsent(ctx, c.s, path, data))
}

func (c *store) Delete(ctx context.Context, path string) error {
	return outcome(c.s.Delete(ctx, path))
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
