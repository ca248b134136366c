package objstore

import (
	"bytes"
	"context"
	"fmt"
	"hash/fnv"
	"io"
	"slices"
	"strings"
	"sync"
	"time"
)

// A Mem keeps objects in memory, for tests and simulation. It starts no goroutine
// and reads no clock but the one it is given. Its zero value is an empty store.
type Mem struct {
	now func() time.Time // nil: every write is a millisecond after the one before

	mu      sync.Mutex
	keys    []string             // sorted; guarded by mu, as all below
	objects map[string]memObject // what an object holds is never changed
	writes  int64
}

type memObject struct {
	body []byte
	info Info
}

// NewMem returns an empty store that stamps objects with now. A nil now makes
// every write a millisecond later than the one before, from the year 2000 on.
func NewMem(now func() time.Time) *Mem { return &Mem{now: now} }

func (m *Mem) lookup(ctx context.Context, op, key string) (memObject, error) {
	if err := Check(ctx, key); err != nil {
		return memObject{}, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	o, ok := m.objects[key]
	if !ok {
		return memObject{}, fmt.Errorf("objstore: %s mem:%s: %w", op, key, ErrNotFound)
	}
	return o, nil
}

// Get implements Store.
func (m *Mem) Get(ctx context.Context, key string) (io.ReadCloser, Info, error) {
	o, err := m.lookup(ctx, "get", key)
	if err != nil {
		return nil, Info{}, err
	}
	return io.NopCloser(bytes.NewReader(o.body)), o.info, nil
}

// GetRange implements Store.
func (m *Mem) GetRange(ctx context.Context, key string, offset, length int64) (io.ReadCloser, error) {
	o, err := m.lookup(ctx, "get", key)
	if err != nil {
		return nil, err
	}
	n, err := clip(key, offset, length, o.info.Size)
	if err != nil {
		return nil, err
	}
	return io.NopCloser(bytes.NewReader(o.body[min(offset, o.info.Size):][:n])), nil
}

// clip returns how many bytes a range has in an object of the given size.
func clip(key string, offset, length, size int64) (int64, error) {
	if offset < 0 {
		return 0, fmt.Errorf("objstore: get %s: offset %d is below zero", key, offset)
	}
	if length == 0 || offset == 0 && size == 0 {
		return 0, nil
	}
	if offset >= size {
		return 0, fmt.Errorf("objstore: get %s from %d of %d: %w", key, offset, size, ErrRange)
	}
	if rest := size - offset; length < 0 || length > rest {
		return rest, nil
	}
	return length, nil
}

// Put implements Store.
func (m *Mem) Put(ctx context.Context, key string, body io.Reader, size int64) error {
	return m.write(ctx, key, body, size, false)
}

// PutIfAbsent implements Store.
func (m *Mem) PutIfAbsent(ctx context.Context, key string, body io.Reader, size int64) error {
	return m.write(ctx, key, body, size, true)
}

func (m *Mem) write(ctx context.Context, key string, body io.Reader, size int64, ifAbsent bool) error {
	if err := Check(ctx, key); err != nil {
		return err
	}
	b, err := io.ReadAll(body)
	if err != nil {
		return fmt.Errorf("objstore: put mem:%s: read the body: %w", key, err)
	}
	if size >= 0 && int64(len(b)) != size {
		return fmt.Errorf("objstore: put mem:%s: the body has %d bytes, %d were announced", key, len(b), size)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, ok := m.objects[key]; ok && ifAbsent {
		return fmt.Errorf("objstore: put mem:%s: %w", key, ErrExists)
	}
	m.put(key, b)
	return nil
}

// put stores b under key; mu is held and b is not changed again.
func (m *Mem) put(key string, b []byte) {
	m.writes++
	at := time.Date(2000, 1, 1, 0, 0, 0, int(m.writes%1000)*1e6, time.UTC).Add(time.Duration(m.writes/1000) * time.Second)
	if m.now != nil {
		at = m.now()
	}
	h := fnv.New64a()
	h.Write(b)
	if m.objects == nil {
		m.objects = map[string]memObject{}
	}
	if i, ok := slices.BinarySearch(m.keys, key); !ok {
		m.keys = slices.Insert(m.keys, i, key)
	}
	m.objects[key] = memObject{b, Info{Key: key, Size: int64(len(b)), ModTime: at, ETag: fmt.Sprintf("%016x", h.Sum64())}}
}

// Copy implements Store.
func (m *Mem) Copy(ctx context.Context, dst, src string) error {
	if err := Check(ctx, dst, src); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	o, ok := m.objects[src]
	if !ok {
		return fmt.Errorf("objstore: copy mem:%s to %s: %w", src, dst, ErrNotFound)
	}
	m.put(dst, o.body)
	return nil
}

// List implements Store.
func (m *Mem) List(ctx context.Context, prefix, startAfter string, limit int) ([]Info, error) {
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	i, _ := slices.BinarySearch(m.keys, prefix)
	if j, ok := slices.BinarySearch(m.keys, startAfter); j+btoi(ok) > i {
		i = j + btoi(ok)
	}
	if limit <= 0 {
		limit = localPage
	}
	var page []Info
	for ; i < len(m.keys) && len(page) < limit && strings.HasPrefix(m.keys[i], prefix); i++ {
		page = append(page, m.objects[m.keys[i]].info)
	}
	return page, nil
}

// localPage is the page of List where nobody asked for a size and pages cost no
// round trip.
const localPage = 100_000

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}

// Stat implements Store.
func (m *Mem) Stat(ctx context.Context, key string) (Info, error) {
	o, err := m.lookup(ctx, "stat", key)
	return o.info, err
}

// Delete implements Store.
func (m *Mem) Delete(ctx context.Context, key string) error {
	if err := Check(ctx, key); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if i, ok := slices.BinarySearch(m.keys, key); ok {
		m.keys = slices.Delete(m.keys, i, i+1)
		delete(m.objects, key)
	}
	return nil
}

// Close implements Store. The objects stay: a simulation reopens the store after
// the crash of a process.
func (m *Mem) Close() error { return nil }
