// Package objstore is the thin interface through which Weir keeps objects:
// checkpoints, savepoints, job packs, lakes. It has two drivers of its own, a
// folder (OpenFolder) and memory (NewMem), and Faulty, which lets a driver fail
// from a seed; cloud drivers live in folders below and are handed to Open.
//
// Concurrency: a Store is safe for concurrent use, also by several processes on
// the same place, unless its driver says otherwise.
//
// Durability: when a Put has returned nil, the object survives the crash of this
// process and of the machine, as far as the driver's medium does. An object is
// never seen half-written: it is there whole, or not at all.
package objstore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"time"
)

// What went wrong, for control flow. Drivers wrap these with the key; test with
// errors.Is. An error that is none of them, such as missing permission, is final
// for this call: repeating it will not help.
var (
	// ErrNotFound reports that there is no object under the key.
	ErrNotFound = errors.New("no such object")

	// ErrExists reports that PutIfAbsent found an object under the key that this
	// call did not write. Nothing was changed.
	ErrExists = errors.New("object exists")

	// ErrAmbiguous reports that the answer of a writing call was lost: it may have
	// happened, or not, or happen still. After PutIfAbsent the caller must read the
	// key back and compare (PutOnce does); the other calls may be repeated.
	ErrAmbiguous = errors.New("answer lost, the outcome is unknown")

	// ErrRetry reports a passing failure of a call that had no effect: throttling, a
	// conflict of two racing calls, a broken connection while reading. The same call
	// may be repeated after a pause (Backoff does).
	ErrRetry = errors.New("try again")
)

// Retryable reports whether the same call may be repeated and may then succeed.
// It is false for an ambiguous PutIfAbsent, which needs a read first.
func Retryable(err error) bool {
	return errors.Is(err, ErrRetry) && !errors.Is(err, ErrAmbiguous)
}

// Info describes an object.
type Info struct {
	Key     string
	Size    int64     // bytes
	ModTime time.Time // by the store's clock; never compared to decide anything but age
	ETag    string    // changes when the content does; empty where the driver has none
}

// A Store keeps objects under keys. Keys are UTF-8, at most 1,024 bytes, segments
// joined by '/' (see CheckKey). No key may be another key plus "/..." : a folder
// cannot hold both.
//
// Every method returns early with the cause of ctx when it is done; a writing call
// that was cut off so may have happened, which wraps ErrAmbiguous too.
type Store interface {
	// Get opens the object for reading from its start. The reader fails with an
	// error that wraps ErrRetry if the object's bytes break off early; it must be
	// closed. A reader sees one version of the object, also while it is replaced.
	Get(ctx context.Context, key string) (io.ReadCloser, Info, error)

	// GetRange opens length bytes from offset; length below zero means to the end. A
	// range that ends behind the object is cut short at its end; one that begins
	// behind its last byte fails with ErrRange, except that offset 0 of an empty
	// object and a length of 0 read as empty.
	GetRange(ctx context.Context, key string, offset, length int64) (io.ReadCloser, error)

	// Put writes the object, replacing what is there. Size is the number of bytes
	// that body will yield, or -1; a body of another size is an error and writes
	// nothing. Where body is an io.Seeker, the driver may read it again to retry.
	Put(ctx context.Context, key string, body io.Reader, size int64) error

	// PutIfAbsent writes the object if there is none, else it fails with ErrExists.
	// Of any number of racing callers in any processes exactly one wins.
	PutIfAbsent(ctx context.Context, key string, body io.Reader, size int64) error

	// Copy makes dst an equal object to src, replacing dst, inside the store.
	Copy(ctx context.Context, dst, src string) error

	// List returns one page of the objects whose keys begin with prefix and are
	// greater than startAfter, in byte order of their keys. Limit bounds the page; 0
	// means the driver's best. An empty page is the end; All walks the pages.
	List(ctx context.Context, prefix, startAfter string, limit int) ([]Info, error)

	// Stat describes the object without reading it.
	Stat(ctx context.Context, key string) (Info, error)

	// Delete removes the object. That there is none is no error.
	Delete(ctx context.Context, key string) error

	// Close releases what the store holds. No call may follow.
	Close() error
}

// ErrRange reports that a range begins behind the last byte of its object.
var ErrRange = errors.New("range begins behind the last byte of the object")

// ReadAll returns the whole object.
func ReadAll(ctx context.Context, s Store, key string) ([]byte, error) {
	r, info, err := s.Get(ctx, key)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	b := bytes.NewBuffer(make([]byte, 0, max(info.Size, 0)+bytes.MinRead))
	if _, err := b.ReadFrom(r); err != nil {
		return nil, fmt.Errorf("objstore: read %s: %w", key, err)
	}
	if int64(b.Len()) != info.Size {
		return nil, fmt.Errorf("objstore: read %s: %d bytes of %d: %w", key, b.Len(), info.Size, ErrRetry)
	}
	return b.Bytes(), nil
}

// ReadAt fills p with the bytes of the object from offset on. Fewer bytes than
// len(p) are an error: ErrRange where offset is behind the last byte, otherwise
// io.ErrUnexpectedEOF.
func ReadAt(ctx context.Context, s Store, key string, p []byte, offset int64) error {
	if len(p) == 0 {
		return nil
	}
	r, err := s.GetRange(ctx, key, offset, int64(len(p)))
	if err != nil {
		return err
	}
	defer r.Close()
	switch n, err := io.ReadFull(r, p); {
	case err == nil:
		return nil
	case errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF):
		return fmt.Errorf("objstore: read %s from %d: %d bytes of %d: %w", key, offset, n, len(p), wrapEOF(err))
	default:
		return fmt.Errorf("objstore: read %s from %d: %w", key, offset, err)
	}
}

func wrapEOF(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}

// ReadRange returns length bytes of the object from offset on; see ReadAt.
func ReadRange(ctx context.Context, s Store, key string, offset, length int64) ([]byte, error) {
	p := make([]byte, length)
	if err := ReadAt(ctx, s, key, p, offset); err != nil {
		return nil, err
	}
	return p, nil
}

// PutBytes writes the object; see Store.Put.
func PutBytes(ctx context.Context, s Store, key string, body []byte) error {
	return s.Put(ctx, key, bytes.NewReader(body), int64(len(body)))
}

// PutBytesIfAbsent writes the object if there is none; see Store.PutIfAbsent.
func PutBytesIfAbsent(ctx context.Context, s Store, key string, body []byte) error {
	return s.PutIfAbsent(ctx, key, bytes.NewReader(body), int64(len(body)))
}

// All walks the objects whose keys begin with prefix and are greater than
// startAfter, in byte order of their keys. It ends after the first error.
func All(ctx context.Context, s Store, prefix, startAfter string) iter.Seq2[Info, error] {
	return func(yield func(Info, error) bool) {
		for {
			page, err := s.List(ctx, prefix, startAfter, 0)
			if err != nil {
				yield(Info{}, err)
				return
			}
			if len(page) == 0 {
				return
			}
			for _, info := range page {
				if !yield(info, nil) {
					return
				}
			}
			startAfter = page[len(page)-1].Key
		}
	}
}
