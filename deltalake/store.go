package deltalake

import (
	"context"
	"errors"
	"io"
	"iter"
	"strings"
	"time"
)

// ErrNotFound reports that no object has the path asked for. Stores wrap it.
var ErrNotFound = errors.New("deltalake: object not found")

// ErrExists is what Store.PutIfAbsent returns when the path is taken. Nothing
// was written; the caller may read the object that won.
var ErrExists = errors.New("deltalake: object already exists")

// ObjectInfo describes one stored object.
type ObjectInfo struct {
	Path     string    // relative to the store's root, slash separated
	Size     int64     // bytes
	Modified time.Time // as the store tells it
}

// Store is what a table needs from a file system or an object store. Paths are
// relative to the table's root, use slashes and never start with one.
//
// Every method may be called from many goroutines. A read returns all the bytes
// asked for or an error, never a part. An error other than ErrNotFound and
// ErrExists may be ambiguous: the write may or may not have happened.
//
// A store that passes everything on to another, such as one that counts, has a
// method Unwrap() Store: what a table can do only in a folder works through it.
type Store interface {
	// Get returns the whole object, or ErrNotFound.
	Get(ctx context.Context, path string) ([]byte, error)

	// GetRange returns exactly n bytes from off, or ErrNotFound, or an error when
	// the object is shorter.
	GetRange(ctx context.Context, path string, off, n int64) ([]byte, error)

	// Stat returns the object's size and time, or ErrNotFound.
	Stat(ctx context.Context, path string) (ObjectInfo, error)

	// List yields the objects whose path starts with prefix and sorts after
	// `after` (which may be empty), ordered by path. Objects below deeper folders
	// are included. The iteration ends at the first error, which is yielded.
	List(ctx context.Context, prefix, after string) iter.Seq2[ObjectInfo, error]

	// Put stores data under path, replacing what is there. When it returns nil the
	// object is durable and visible whole; readers never see a part.
	Put(ctx context.Context, path string, data []byte) error

	// PutIfAbsent is Put for a path that must be free; ErrExists when it is not.
	// Of several racing callers, in any process, exactly one wins.
	PutIfAbsent(ctx context.Context, path string, data []byte) error

	// Create starts an object that becomes visible and durable at Close.
	Create(ctx context.Context, path string) (ObjectWriter, error)

	// Delete removes the object; nil when it is already gone.
	Delete(ctx context.Context, path string) error
}

// ObjectWriter streams one new object. One goroutine uses it; exactly one of
// Close and Abort must be called, and Abort after Close does nothing.
type ObjectWriter interface {
	io.Writer
	// Close publishes the object. On an error the object may or may not exist.
	Close() error
	// Abort drops what was written; no object appears.
	Abort() error
}

// bare returns the store that wrappers pass everything on to.
func bare(s Store) Store {
	for {
		w, ok := s.(interface{ Unwrap() Store })
		if !ok {
			return s
		}
		s = w.Unwrap()
	}
}

// Sub returns a store whose root is the folder dir of s. It serves tables that
// live beside each other in one bucket.
func Sub(s Store, dir string) Store {
	dir = strings.Trim(dir, "/")
	if dir == "" {
		return s
	}
	return subStore{s, dir + "/"}
}

type subStore struct {
	s   Store
	dir string
}

func (s subStore) Get(ctx context.Context, path string) ([]byte, error) {
	return s.s.Get(ctx, s.dir+path)
}

func (s subStore) GetRange(ctx context.Context, path string, off, n int64) ([]byte, error) {
	return s.s.GetRange(ctx, s.dir+path, off, n)
}

func (s subStore) Stat(ctx context.Context, path string) (ObjectInfo, error) {
	info, err := s.s.Stat(ctx, s.dir+path)
	info.Path = strings.TrimPrefix(info.Path, s.dir)
	return info, err
}

func (s subStore) List(ctx context.Context, prefix, after string) iter.Seq2[ObjectInfo, error] {
	if after != "" {
		after = s.dir + after
	}
	return func(yield func(ObjectInfo, error) bool) {
		for info, err := range s.s.List(ctx, s.dir+prefix, after) {
			info.Path = strings.TrimPrefix(info.Path, s.dir)
			if !yield(info, err) {
				return
			}
		}
	}
}

func (s subStore) Put(ctx context.Context, path string, data []byte) error {
	return s.s.Put(ctx, s.dir+path, data)
}

func (s subStore) PutIfAbsent(ctx context.Context, path string, data []byte) error {
	return s.s.PutIfAbsent(ctx, s.dir+path, data)
}

func (s subStore) Create(ctx context.Context, path string) (ObjectWriter, error) {
	return s.s.Create(ctx, s.dir+path)
}

func (s subStore) Delete(ctx context.Context, path string) error {
	return s.s.Delete(ctx, s.dir+path)
}
