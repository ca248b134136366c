package driver

import (
	"context"
	"errors"
	"fmt"
	"iter"

	"github.com/weirstream/weir/deltalake"
	"github.com/weirstream/weir/internal/objstore"
)

// heldBytes is what of a new object is kept in memory, so that its put can be
// repeated; a larger one is streamed and cannot.
const heldBytes = 16 << 20

// Objects lets tables live in the object stores that open opens: it is the Store
// of a Sink.
func Objects(open objstore.Openers) func(ctx context.Context, location string, _ map[string]string) (deltalake.Store, error) {
	return func(ctx context.Context, location string, _ map[string]string) (deltalake.Store, error) {
		s, err := open.Open(ctx, location)
		if err != nil {
			return nil, err
		}
		return objects{s, objstore.Backoff{}}, nil
	}
}

// objects makes an object store a table's store. Passing failures are waited out;
// an ambiguous put-if-absent is left to the table, which reads back.
type objects struct {
	s    objstore.Store
	wait objstore.Backoff
}

// translate gives the table its own sentinels.
func translate(err error) error {
	switch {
	case errors.Is(err, objstore.ErrNotFound):
		return fmt.Errorf("%w: %w", deltalake.ErrNotFound, err)
	case errors.Is(err, objstore.ErrExists):
		return fmt.Errorf("%w: %w", deltalake.ErrExists, err)
	}
	return err
}

func (o objects) Get(ctx context.Context, path string) (b []byte, err error) {
	err = o.wait.Do(ctx, func() (e error) {
		b, e = objstore.ReadAll(ctx, o.s, path)
		return e
	})
	return b, translate(err)
}

func (o objects) GetRange(ctx context.Context, path string, off, n int64) (b []byte, err error) {
	err = o.wait.Do(ctx, func() (e error) {
		b, e = objstore.ReadRange(ctx, o.s, path, off, n)
		return e
	})
	return b, translate(err)
}

func (o objects) Stat(ctx context.Context, path string) (deltalake.ObjectInfo, error) {
	var info objstore.Info
	err := o.wait.Do(ctx, func() (e error) {
		info, e = o.s.Stat(ctx, path)
		return e
	})
	return deltalake.ObjectInfo{Path: info.Key, Size: info.Size, Modified: info.ModTime}, translate(err)
}

func (o objects) List(ctx context.Context, prefix, after string) iter.Seq2[deltalake.ObjectInfo, error] {
	return func(yield func(deltalake.ObjectInfo, error) bool) {
		for {
			var page []objstore.Info
			err := o.wait.Do(ctx, func() (e error) {
				page, e = o.s.List(ctx, prefix, after, 0)
				return e
			})
			if err != nil {
				yield(deltalake.ObjectInfo{}, translate(err))
				return
			}
			if len(page) == 0 {
				return
			}
			for _, i := range page {
				if !yield(deltalake.ObjectInfo{Path: i.Key, Size: i.Size, Modified: i.ModTime}, nil) {
					return
				}
			}
			after = page[len(page)-1].Key
		}
	}
}

func (o objects) Put(ctx context.Context, path string, data []byte) error {
	lost := 0
	return translate(o.wait.Do(ctx, func() error {
		err := objstore.PutBytes(ctx, o.s, path, data)
		if errors.Is(err, objstore.ErrAmbiguous) && lost < 3 { // the same bytes again do no harm
			lost++
			return fmt.Errorf("%w after a lost answer", objstore.ErrRetry)
		}
		return err
	}))
}

func (o objects) PutIfAbsent(ctx context.Context, path string, data []byte) error {
	return translate(o.wait.Do(ctx, func() error { return objstore.PutBytesIfAbsent(ctx, o.s, path, data) }))
}

func (o objects) Create(ctx context.Context, path string) (deltalake.ObjectWriter, error) {
	return &objectWriter{o: o, ctx: ctx, path: path}, nil
}

func (o objects) Delete(ctx context.Context, path string) error {
	err := o.wait.Do(ctx, func() error { return o.s.Delete(ctx, path) })
	if errors.Is(err, objstore.ErrNotFound) {
		return nil
	}
	return translate(err)
}

// An objectWriter keeps a small object and streams a large one.
type objectWriter struct {
	o      objects
	ctx    context.Context
	path   string
	held   []byte
	stream *objstore.Writer
	over   bool
}

func (w *objectWriter) Write(p []byte) (int, error) {
	if w.stream != nil {
		return w.stream.Write(p)
	}
	w.held = append(w.held, p...)
	if len(w.held) < heldBytes {
		return len(p), nil
	}
	w.stream = objstore.NewWriter(w.ctx, w.o.s.Put, w.path)
	if _, err := w.stream.Write(w.held); err != nil {
		return 0, err
	}
	w.held = nil
	return len(p), nil
}

func (w *objectWriter) Close() error {
	if w.over {
		return nil
	}
	w.over = true
	if w.stream != nil {
		return translate(w.stream.Close())
	}
	return w.o.Put(w.ctx, w.path, w.held)
}

func (w *objectWriter) Abort() error {
	if w.over {
		return nil
	}
	w.over = true
	if w.stream != nil {
		w.stream.Abort()
	}
	return nil
}
