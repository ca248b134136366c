package state

import (
	"context"
	"errors"
	"fmt"
	"io"
	iofs "io/fs"
	"sync"

	"github.com/cockroachdb/pebble/v2/objstorage/remote"
)

// locator is the name under which Pebble knows the one storage of a store.
const locator remote.Locator = "weir"

// A storage is how Pebble reaches sources: by name, read-only.
type storage struct {
	mu      sync.RWMutex
	sources map[string]*source
}

var (
	_ remote.StorageFactory = (*storage)(nil)
	_ remote.Storage        = (*storage)(nil)
	_ remote.ObjectReader   = (*sourceReader)(nil)
)

var errReadOnly = errors.New("state: Pebble's external files are read-only")

func (s *storage) get(name string) *source {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.sources[name]
}

// CreateStorage is part of remote.StorageFactory.
func (s *storage) CreateStorage(l remote.Locator) (remote.Storage, error) {
	if l != locator {
		return nil, fmt.Errorf("state: unknown storage %q", l)
	}
	return s, nil
}

// ReadObject is part of remote.Storage.
func (s *storage) ReadObject(_ context.Context, name string) (remote.ObjectReader, int64, error) {
	src := s.get(name)
	if src == nil {
		return nil, 0, fmt.Errorf("state: file %s: %w", name, iofs.ErrNotExist)
	}
	if err := src.open(); err != nil {
		return nil, 0, err
	}
	return &sourceReader{src}, src.length, nil
}

// Size is part of remote.Storage.
func (s *storage) Size(name string) (int64, error) {
	if src := s.get(name); src != nil {
		return src.length, nil
	}
	return 0, fmt.Errorf("state: file %s: %w", name, iofs.ErrNotExist)
}

// IsNotExistError is part of remote.Storage.
func (s *storage) IsNotExistError(err error) bool { return errors.Is(err, iofs.ErrNotExist) }

// CreateObject is part of remote.Storage; Pebble never calls it, for it creates
// nothing on shared storage.
func (s *storage) CreateObject(string) (io.WriteCloser, error) { return nil, errReadOnly }

// Delete is part of remote.Storage; external objects are not Pebble's to delete.
func (s *storage) Delete(string) error { return errReadOnly }

// List is part of remote.Storage.
func (s *storage) List(string, string) ([]string, error) { return nil, errReadOnly }

// Close is part of remote.Storage.
func (s *storage) Close() error { return nil }

type sourceReader struct{ src *source }

// ReadAt is part of remote.ObjectReader.
func (r *sourceReader) ReadAt(ctx context.Context, p []byte, off int64) error {
	return r.src.readAt(ctx, p, off)
}

// Close is part of remote.ObjectReader.
func (r *sourceReader) Close() error { return r.src.close() }

func (s *storage) put(src *source) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sources[src.name] = src
}

func (s *storage) remove(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.sources, name)
}
