package fake

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"iter"
	"slices"
	"sync"

	"github.com/weirstream/weir/dataflow"
	"github.com/weirstream/weir/stream/spi"
)

// World holds every file that was ever written, as an object store would.
type World struct {
	mu    sync.Mutex
	files map[string][]encoded
	n     int
}

func (w *World) put(rows []encoded) string {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.files == nil {
		w.files = map[string][]encoded{}
	}
	w.n++
	name := fmt.Sprint("object-", w.n)
	w.files[name] = rows
	return name
}

func (w *World) get(name string) []encoded {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.files[name]
}

// Store is the state of one subtask: the files of a chain, oldest first, merged.
type Store struct {
	w      *World
	groups dataflow.KeyGroups

	mu    sync.Mutex
	files []dataflow.FileRef
	rows  map[string][]byte
	// Fail, if set, may refuse a write.
	Fail func() error
}

// Open restores a store from the files of all parts, clipped to groups.
func (w *World) Open(groups dataflow.KeyGroups, parts []dataflow.Part) *Store {
	s := &Store{w: w, groups: groups, rows: map[string][]byte{}}
	for _, p := range parts {
		if p.Groups.Intersect(groups).Len() == 0 {
			continue
		}
		s.files = append(s.files, p.Files...)
	}
	// Several parts may name one file, and a file of one may be older than one of
	// another: oldest first over all of them.
	slices.SortStableFunc(s.files, func(a, b dataflow.FileRef) int {
		return cmp.Or(cmp.Compare(a.Epoch, b.Epoch), cmp.Compare(a.Seq, b.Seq), cmp.Compare(a.Object, b.Object))
	})
	s.files = slices.CompactFunc(s.files, func(a, b dataflow.FileRef) bool { return a.Object == b.Object })
	for _, f := range s.files {
		for _, r := range w.get(f.Object) {
			if g, _ := dataflow.RowGroup(r.key); groups.Contains(g) {
				s.apply(r)
			}
		}
	}
	return s
}

func (s *Store) apply(r encoded) {
	if r.value == nil {
		delete(s.rows, string(r.key))
	} else {
		s.rows[string(r.key)] = r.value
	}
}

// Load is of actors.Store, like the methods below.
func (s *Store) Load(probes []uint64, keys [][]byte, got func(i int, row []byte) error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, k := range keys {
		if err := got(i, s.rows[string(k)]); err != nil {
			return err
		}
	}
	return nil
}

// Scan yields rows in order.
func (s *Store) Scan(from, to []byte) iter.Seq2[[]byte, []byte] {
	s.mu.Lock()
	defer s.mu.Unlock()
	var rows []encoded
	for k, v := range s.rows {
		if key := []byte(k); bytes.Compare(from, key) <= 0 && bytes.Compare(key, to) < 0 {
			rows = append(rows, encoded{key, v})
		}
	}
	slices.SortFunc(rows, func(a, b encoded) int { return bytes.Compare(a.key, b.key) })
	return func(yield func(k, v []byte) bool) {
		for _, r := range rows {
			if !yield(r.key, r.value) {
				return
			}
		}
	}
}

// ScanErr is nil.
func (s *Store) ScanErr() error { return nil }

// Empty knows nothing.
func (s *Store) Empty(dataflow.StateID, int) bool { return false }

// WriteEpoch writes one file.
func (s *Store) WriteEpoch(ctx context.Context, epoch dataflow.Epoch, seq int, frozen []spi.Frozen) ([]dataflow.FileRef, error) {
	if s.Fail != nil {
		if err := s.Fail(); err != nil {
			return nil, err
		}
	}
	var rows []encoded
	for _, f := range frozen {
		if err := f.Rows(func(k, v []byte) bool {
			rows = append(rows, encoded{bytes.Clone(k), bytes.Clone(v)})
			return true
		}); err != nil {
			return nil, err
		}
	}
	slices.SortFunc(rows, func(a, b encoded) int { return bytes.Compare(a.key, b.key) })
	ref := dataflow.FileRef{Object: s.w.put(rows), Epoch: epoch, Seq: seq, Level: -1, Rows: int64(len(rows)), Groups: s.groups}
	s.mu.Lock()
	defer s.mu.Unlock()
	if n := len(s.files); n > 0 && (s.files[n-1].Epoch > epoch || s.files[n-1].Epoch == epoch && s.files[n-1].Seq >= seq) {
		return nil, fmt.Errorf("fake: file %d.%d comes after %d.%d", epoch, seq, s.files[n-1].Epoch, s.files[n-1].Seq)
	}
	s.files = append(s.files, ref)
	for _, r := range rows {
		s.apply(r)
	}
	return []dataflow.FileRef{ref}, nil
}

// Files returns the chain.
func (s *Store) Files() []dataflow.FileRef {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.files)
}

// Completed is of no interest.
func (s *Store) Completed(dataflow.Epoch) {}

// Close is of no interest.
func (s *Store) Close() error { return nil }
