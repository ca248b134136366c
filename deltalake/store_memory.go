package deltalake

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"iter"
	"sort"
	"strings"
	"sync"
	"time"
)

// MemoryStore keeps objects in memory: for tests and short-lived tables. It is
// safe for concurrent use; the zero value is not ready, call NewMemoryStore.
type MemoryStore struct {
	now func() time.Time

	mu struct {
		sync.RWMutex
		objects map[string]memoryObject
	}
}

type memoryObject struct {
	data     []byte // never changed once stored
	modified time.Time
}

// NewMemoryStore returns an empty store whose objects are stamped by now; nil
// means time.Now.
func NewMemoryStore(now func() time.Time) *MemoryStore {
	if now == nil {
		now = time.Now
	}
	m := &MemoryStore{now: now}
	m.mu.objects = map[string]memoryObject{}
	return m
}

func (m *MemoryStore) get(ctx context.Context, path string) (memoryObject, error) {
	if err := ctx.Err(); err != nil {
		return memoryObject{}, err
	}
	m.mu.RLock()
	defer m.mu.RUnlock()
	o, ok := m.mu.objects[path]
	if !ok {
		return o, fmt.Errorf("%w: %s", ErrNotFound, path)
	}
	return o, nil
}

// Get implements Store.
func (m *MemoryStore) Get(ctx context.Context, path string) ([]byte, error) {
	o, err := m.get(ctx, path)
	return bytes.Clone(o.data), err
}

// GetRange implements Store.
func (m *MemoryStore) GetRange(ctx context.Context, path string, off, n int64) ([]byte, error) {
	o, err := m.get(ctx, path)
	if err != nil {
		return nil, err
	}
	size := int64(len(o.data))
	if off < 0 || n < 0 || n > size || off > size-n {
		return nil, fmt.Errorf("deltalake: %s has %d bytes, %d from %d were asked for: %w", path, size, n, off, io.ErrUnexpectedEOF)
	}
	return bytes.Clone(o.data[off : off+n]), nil
}

// Stat implements Store.
func (m *MemoryStore) Stat(ctx context.Context, path string) (ObjectInfo, error) {
	o, err := m.get(ctx, path)
	return ObjectInfo{Path: path, Size: int64(len(o.data)), Modified: o.modified}, err
}

// List implements Store; it yields the objects as they were when it began.
func (m *MemoryStore) List(ctx context.Context, prefix, after string) iter.Seq2[ObjectInfo, error] {
	return func(yield func(ObjectInfo, error) bool) {
		if err := ctx.Err(); err != nil {
			yield(ObjectInfo{}, err)
			return
		}
		m.mu.RLock()
		var infos []ObjectInfo
		for path, o := range m.mu.objects {
			if strings.HasPrefix(path, prefix) && path > after {
				infos = append(infos, ObjectInfo{path, int64(len(o.data)), o.modified})
			}
		}
		m.mu.RUnlock()
		sort.Slice(infos, func(i, j int) bool { return infos[i].Path < infos[j].Path })
		for _, info := range infos {
			if !yield(info, nil) {
				return
			}
		}
	}
}

// Put implements Store.
func (m *MemoryStore) Put(ctx context.Context, path string, data []byte) error {
	return m.put(ctx, path, data, false)
}

// PutIfAbsent implements Store.
func (m *MemoryStore) PutIfAbsent(ctx context.Context, path string, data []byte) error {
	return m.put(ctx, path, data, true)
}

func (m *MemoryStore) put(ctx context.Context, path string, data []byte, absent bool) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, ok := m.mu.objects[path]; ok && absent {
		return fmt.Errorf("%w: %s", ErrExists, path)
	}
	m.mu.objects[path] = memoryObject{bytes.Clone(data), m.now()}
	return nil
}

// Create implements Store.
func (m *MemoryStore) Create(ctx context.Context, path string) (ObjectWriter, error) {
	return &memoryWriter{m: m, ctx: ctx, path: path}, ctx.Err()
}

// Delete implements Store.
func (m *MemoryStore) Delete(ctx context.Context, path string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.mu.objects, path)
	return nil
}

type memoryWriter struct {
	bytes.Buffer
	m    *MemoryStore
	ctx  context.Context
	path string
	done bool
}

func (w *memoryWriter) Close() error {
	if w.done {
		return fmt.Errorf("deltalake: %s is already closed", w.path)
	}
	w.done = true
	return w.m.put(w.ctx, w.path, w.Bytes(), false)
}

func (w *memoryWriter) Abort() error {
	w.done = true
	return nil
}
