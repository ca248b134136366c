package state

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"maps"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/weirstream/weir/dataflow"
	"github.com/weirstream/weir/stream/spi"
)

// A dirty is a Frozen made of plain rows.
type dirty struct {
	drops []spi.Span
	rows  map[string][]byte // nil: deleted
	err   error
}

func (d *dirty) Drops() []spi.Span { return d.drops }
func (d *dirty) Done(error)        {}

func (d *dirty) Rows(yield func(key, value []byte) bool) error {
	var buf, val []byte // reused, as a kernel would
	for _, k := range slices.Sorted(maps.Keys(d.rows)) {
		buf = append(buf[:0], k...)
		v := d.rows[k]
		if v != nil {
			val = append(val[:0], v...)
			v = val[:len(v):len(v)]
			if v == nil {
				v = []byte{}
			}
		}
		if !yield(buf, v) {
			return nil
		}
	}
	return d.err
}

// A memObjects is an object store in memory with latency and faults.
type memObjects struct {
	mu      sync.Mutex
	objects map[string][]byte
	latency time.Duration // of every call
	reads   int
	reading int // under way
	most    int // of them at a time
	fetches int
	hold    chan struct{} // Fetch waits until it is closed
}

func newMemObjects() *memObjects { return &memObjects{objects: map[string][]byte{}} }

func (m *memObjects) put(key string, b []byte) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.objects[key] = b
}

func (m *memObjects) get(ctx context.Context, key string, off, n int64) ([]byte, error) {
	if m.latency > 0 {
		select {
		case <-time.After(m.latency):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	b, ok := m.objects[key]
	if !ok || off+n > int64(len(b)) {
		return nil, fmt.Errorf("no bytes %d to %d in object %q", off, off+n, key)
	}
	return b[off : off+n], nil
}

func (m *memObjects) ReadAt(ctx context.Context, key string, p []byte, off int64) error {
	m.mu.Lock()
	m.reads++
	m.reading++
	m.most = max(m.most, m.reading)
	m.mu.Unlock()
	b, err := m.get(ctx, key, off, int64(len(p)))
	m.mu.Lock()
	m.reading--
	m.mu.Unlock()
	copy(p, b)
	return err
}

func (m *memObjects) Fetch(ctx context.Context, key string, off, n int64, w io.Writer) error {
	m.mu.Lock()
	m.fetches++
	hold := m.hold
	m.mu.Unlock()
	if hold != nil {
		select {
		case <-hold:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	b, err := m.get(ctx, key, off, n)
	if err != nil {
		return err
	}
	_, err = w.Write(b)
	return err
}

// upload puts every file that is only local into one object, as a worker does for
// an epoch, and returns the files as a manifest would name them.
func upload(t testing.TB, s *Store, m *memObjects, object string) []dataflow.FileRef {
	t.Helper()
	var all []byte
	files, at := s.Files(), map[string]int64{}
	for i := range files {
		f := &files[i]
		if f.Object != "" {
			f.Local = ""
			continue
		}
		if _, ok := at[f.Local]; !ok {
			b, err := os.ReadFile(f.Local)
			if err != nil {
				t.Fatal(err)
			}
			if int64(len(b)) != f.Length || crc32.Checksum(b, castagnoli) != f.CRC32C {
				t.Fatalf("file %s does not match its FileRef", f.Local)
			}
			at[f.Local] = int64(len(all))
			all = append(all, b...)
		}
		f.Object, f.Offset, f.Local = object, at[f.Local], ""
	}
	if len(all) > 0 {
		m.put(object, all)
	}
	for local, offset := range at {
		s.Uploaded(local, object, offset)
	}
	return files
}

const (
	plainState dataflow.StateID = 1
	paneState  dataflow.StateID = 2
	otherState dataflow.StateID = 3 // not in Infos
)

var infos = []dataflow.StateInfo{{Name: "plain", ID: plainState}, {Name: "paned", ID: paneState, Panes: true}}

// rowKey returns the row key, and the filter hash, of user key n.
func rowKey(state dataflow.StateID, pane int64, n, groups int) ([]byte, uint64) {
	var key [4]byte
	binary.BigEndian.PutUint32(key[:], uint32(n))
	hash := crc32.Checksum(key[:], castagnoli)
	hash ^= hash >> 15
	hash *= 0x85ebca6b
	g := dataflow.GroupOf(hash, groups)
	if state == paneState {
		return dataflow.AppendPaneRowKey(nil, g, state, pane, hash, key[:]), dataflow.FilterHash(state, pane, hash)
	}
	return dataflow.AppendRowKey(nil, g, state, hash, key[:]), dataflow.FilterHash(state, 0, hash)
}

func newShared(t testing.TB) *Shared {
	t.Helper()
	sh, err := NewShared(SharedOptions{CacheBytes: 16 << 20})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(sh.Close)
	return sh
}

func openStore(t testing.TB, o Options) *Store {
	t.Helper()
	if o.Dir == "" {
		o.Dir = t.TempDir()
	}
	if o.Total == 0 {
		o.Total = 16
	}
	if o.Groups == (dataflow.KeyGroups{}) {
		o.Groups = dataflow.KeyGroups{To: o.Total}
	}
	if o.Infos == nil {
		o.Infos = infos
	}
	s, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// loadAll loads keys and returns the rows, nil where absent.
func loadAll(t testing.TB, s *Store, probes []uint64, keys [][]byte) [][]byte {
	t.Helper()
	rows := make([][]byte, len(keys))
	seen := make([]bool, len(keys))
	err := s.Load(probes, keys, func(i int, row []byte) error {
		if seen[i] {
			t.Fatalf("Load gave key %d twice", i)
		}
		seen[i] = true
		if row != nil {
			rows[i] = append([]byte{}, row...)
		}
		return nil
	})
	if err != nil {
		t.Fatalf("Load: %v", err)
	}
	if i := slices.Index(seen, false); i >= 0 {
		t.Fatalf("Load did not give key %d", i)
	}
	return rows
}

func scanAll(t testing.TB, s *Store, from, to []byte) (keys, rows [][]byte) {
	t.Helper()
	for k, v := range s.Scan(from, to) {
		keys = append(keys, bytes.Clone(k))
		rows = append(rows, append([]byte{}, v...))
	}
	if err := s.ScanErr(); err != nil {
		t.Fatalf("Scan: %v", err)
	}
	return keys, rows
}
