package objstore

import (
	"context"
	"errors"
	"io"
)

// A Writer streams one object into a store, for producers that push their bytes.
// Nothing is seen of the object before Close. One goroutine uses a Writer; exactly
// one of Close and Abort ends it, and with it the goroutine that it runs.
type Writer struct {
	pipe *io.PipeWriter
	done chan error // receives the outcome of the put, once
	over bool
	err  error // what Close returned
}

// errAborted is what a put reads from the body of an aborted Writer.
var errAborted = errors.New("objstore: the writer was aborted")

// NewWriter begins an object under key; put is the method of a store that will
// take it, Put or PutIfAbsent:
//
//	w := objstore.NewWriter(ctx, store.Put, key)
func NewWriter(ctx context.Context, put func(ctx context.Context, key string, body io.Reader, size int64) error, key string) *Writer {
	r, pipe := io.Pipe()
	w := &Writer{pipe: pipe, done: make(chan error, 1)}
	go func() {
		err := put(ctx, key, r, -1)
		if err == nil {
			// The store took the object without reading to its end: writes that come
			// still would be lost.
			r.CloseWithError(io.ErrClosedPipe)
		} else {
			r.CloseWithError(err)
		}
		w.done <- err
	}()
	return w
}

// Write hands p to the store and returns when it has taken it. After the put has
// failed it returns that error.
func (w *Writer) Write(p []byte) (int, error) { return w.pipe.Write(p) }

// Close ends the object and returns what the put returned: nil means that it is
// durable and visible.
func (w *Writer) Close() error {
	if w.over {
		return w.err
	}
	w.over = true
	w.pipe.Close()
	w.err = <-w.done
	return w.err
}

// Abort drops the object and waits until the store has let go of it. After Close
// it does nothing.
func (w *Writer) Abort() {
	if w.over {
		return
	}
	w.over = true
	w.err = errAborted
	w.pipe.CloseWithError(errAborted)
	<-w.done
}
