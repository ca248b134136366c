package main

import (
	"context"
	"fmt"
	"io"
	"iter"
	"strings"
	"sync"
	"time"

	"github.com/weirstream/weir/deltalake"
)

// A meter is a store that counts what goes through it, for progress lines. It is
// safe for concurrent use, as every store.
type meter struct {
	deltalake.Store

	mu      sync.Mutex
	files   map[string]bool // data files read
	written int             // data files
	deleted int             // objects
	in, out int64           // bytes
	rows    int64           // that passed counted
	listed  int             // objects
}

func newMeter(s deltalake.Store) *meter { return &meter{Store: s, files: map[string]bool{}} }

// Unwrap lets a table see what kind of store it has.
func (m *meter) Unwrap() deltalake.Store { return m.Store }

func (m *meter) Get(ctx context.Context, path string) ([]byte, error) {
	b, err := m.Store.Get(ctx, path)
	m.read(path, len(b))
	return b, err
}

func (m *meter) GetRange(ctx context.Context, path string, off, n int64) ([]byte, error) {
	b, err := m.Store.GetRange(ctx, path, off, n)
	m.read(path, len(b))
	return b, err
}

func (m *meter) List(ctx context.Context, prefix, after string) iter.Seq2[deltalake.ObjectInfo, error] {
	return func(yield func(deltalake.ObjectInfo, error) bool) {
		for o, err := range m.Store.List(ctx, prefix, after) {
			m.mu.Lock()
			m.listed++
			m.mu.Unlock()
			if !yield(o, err) {
				return
			}
		}
	}
}

func (m *meter) Put(ctx context.Context, path string, data []byte) error {
	err := m.Store.Put(ctx, path, data)
	m.wrote(path, int64(len(data)), true)
	return err
}

func (m *meter) PutIfAbsent(ctx context.Context, path string, data []byte) error {
	err := m.Store.PutIfAbsent(ctx, path, data)
	m.wrote(path, int64(len(data)), true)
	return err
}

func (m *meter) Create(ctx context.Context, path string) (deltalake.ObjectWriter, error) {
	w, err := m.Store.Create(ctx, path)
	if err != nil {
		return nil, err
	}
	return &meteredWriter{w, m, path}, nil
}

func (m *meter) Delete(ctx context.Context, path string) error {
	err := m.Store.Delete(ctx, path)
	m.mu.Lock()
	m.deleted++
	m.mu.Unlock()
	return err
}

type meteredWriter struct {
	deltalake.ObjectWriter
	m    *meter
	path string
}

func (w *meteredWriter) Write(b []byte) (int, error) {
	n, err := w.ObjectWriter.Write(b)
	w.m.wrote(w.path, int64(n), false)
	return n, err
}

func (w *meteredWriter) Close() error {
	err := w.ObjectWriter.Close()
	w.m.wrote(w.path, 0, true)
	return err
}

func isData(path string) bool {
	return strings.HasSuffix(path, ".parquet") && !strings.HasPrefix(path, "_delta_log/")
}

func (m *meter) read(path string, n int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.in += int64(n)
	if isData(path) {
		m.files[path] = true
	}
}

func (m *meter) wrote(path string, n int64, whole bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.out += n
	if whole && isData(path) {
		m.written++
	}
}

// counted counts the rows of a source.
func (m *meter) counted(source iter.Seq2[*deltalake.Batch, error]) iter.Seq2[*deltalake.Batch, error] {
	return func(yield func(*deltalake.Batch, error) bool) {
		for b, err := range source {
			if b != nil {
				m.mu.Lock()
				m.rows += int64(b.Len)
				m.mu.Unlock()
			}
			if !yield(b, err) {
				return
			}
		}
	}
}

// text says what was done in d.
func (m *meter) text(d time.Duration) string {
	m.mu.Lock()
	defer m.mu.Unlock()
	var parts []string
	add := func(n int64, format string, args ...any) {
		if n > 0 {
			parts = append(parts, fmt.Sprintf(format, args...))
		}
	}
	mb := func(n int64) float64 { return float64(n) / 1e6 }
	s := d.Seconds()
	add(m.rows, "%s rows (%s/s)", short(m.rows), short(int64(float64(m.rows)/s)))
	add(m.in, "read %d files, %.1f MB (%.1f MB/s)", len(m.files), mb(m.in), mb(m.in)/s)
	add(m.out, "wrote %d files, %.1f MB (%.1f MB/s)", m.written, mb(m.out), mb(m.out)/s)
	add(int64(m.deleted), "deleted %d files (%.0f/s)", m.deleted, float64(m.deleted)/s)
	if len(parts) == 0 || m.listed > 1000 && m.in == 0 {
		parts = append(parts, fmt.Sprintf("listed %d objects", m.listed))
	}
	return strings.Join(parts, ", ")
}

// during shows on said what the meter counts until work, named what, has ended.
func (m *meter) during(said io.Writer, what string, work func() error) error {
	p := newProgress(said, 5*time.Second)
	began, over, gone := time.Now(), make(chan struct{}), make(chan struct{})
	p.last = began
	go func() {
		defer close(gone)
		defer p.wipe()
		tick := time.NewTicker(250 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case now := <-tick.C:
				if d := now.Sub(began); d > waitedFor {
					p.show(now, fmt.Sprintf("%4.0fs  %s: %s", d.Seconds(), what, m.text(d)))
				}
			case <-over:
				return
			}
		}
	}()
	err := work()
	close(over)
	<-gone
	return err
}
