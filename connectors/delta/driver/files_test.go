package driver

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/weirstream/weir/dataflow"
	"github.com/weirstream/weir/deltalake"
	"github.com/weirstream/weir/stream/spi"
)

// Over the epochs of a commit interval the rows of a partition go to one file, and at
// every moment the state of the writer holds all rows that are not handed over.
func TestFilesOverEpochs(t *testing.T) {
	s := newStage(t)
	e := env[purchase](s, 0, 1, "partition_by", "day", "commit_interval", "10s", "auto_compact", "false")
	w, c := s.writer(e, nil), s.committer(e)
	s.now = 1e6
	const perEpoch = 50
	for i := range 30 {
		write(s, w, purchases(i*perEpoch, (i+1)*perEpoch)...)
		h, state := s.prepare(w, 0, dataflow.Epoch(i+1))
		s.now += 1e6
		if due := (i+1)%11 == 0; due != (len(h) > 0) {
			t.Fatalf("epoch %d: %d handles", i+1, len(h))
		}
		if len(h) > 0 {
			s.commit(c, dataflow.Epoch(i+1), h)
			if n := s.snapshot().NumFiles(); n != (i+1)/11*5 {
				t.Fatalf("epoch %d: %d files in the table", i+1, n)
			}
			continue
		}
		// A crash after this epoch loses nothing: what is restored is handed over.
		if i%7 != 3 {
			continue
		}
		restored := s.writer(e, map[int][]byte{0: state})
		p, err := prepareErr(restored, dataflow.Epoch(1000+i), true)
		if err != nil {
			t.Fatal(err)
		}
		var rows int64
		for _, a := range added(t, p) {
			n, _ := a.NumRecords()
			rows += n
		}
		have, _ := s.snapshot().NumRows()
		if rows+have != int64((i+1)*perEpoch) {
			t.Fatalf("epoch %d: %d rows in the table and %d restored, want %d", i+1, have, rows, (i+1)*perEpoch)
		}
	}
	p, err := prepareErr(w, 31, true)
	if err != nil {
		t.Fatal(err)
	}
	s.commit(c, 31, handles(0, 31, p))
	if got := s.ids(); !slices.Equal(got, upTo(0, 30*perEpoch)) {
		t.Errorf("%d rows in the table", len(got))
	}
}

// added returns the files that a Prepare hands over.
func added(t *testing.T, p spi.Prepared) (adds []*deltalake.AddFile) {
	t.Helper()
	for _, h := range p.Handles {
		var f files
		if err := json.Unmarshal(h, &f); err != nil {
			t.Fatal(err)
		}
		adds = append(adds, f.Adds...)
	}
	return adds
}

// A file that a restored state waits for and that somebody removed stops the job
// before it breaks the table.
func TestHeldFileGone(t *testing.T) {
	s := newStage(t)
	e := env[purchase](s, 0, 1, "commit_interval", "10s")
	w := s.writer(e, nil)
	s.now = 1
	write(s, w, purchases(0, 10)...)
	_, state := s.prepare(w, 0, 1)
	files, err := filepath.Glob(filepath.Join(s.folder, "gold/t/*.parquet"))
	if err != nil || len(files) != 1 {
		t.Fatalf("files %v, %v", files, err)
	}
	if err := os.Remove(files[0]); err != nil {
		t.Fatal(err)
	}
	if _, err := (Sink{}).OpenWriter(context.Background(), e, map[int][]byte{0: state}); err == nil || !strings.Contains(err.Error(), "that file is gone") {
		t.Errorf("got %v", err)
	}
}

// sinkhole is a store that forgets what data files hold.
type sinkhole struct {
	deltalake.Store
	files, open, most atomic.Int64
}

func (s *sinkhole) Create(context.Context, string) (deltalake.ObjectWriter, error) {
	s.files.Add(1)
	n := s.open.Add(1)
	for m := s.most.Load(); n > m && !s.most.CompareAndSwap(m, n); m = s.most.Load() {
	}
	return &hole{s: s}, nil
}

type hole struct {
	s    *sinkhole
	over bool
}

func (h *hole) Write(p []byte) (int, error) { return len(p), nil }
func (h *hole) Close() error                { return h.Abort() }
func (h *hole) Abort() error {
	if !h.over {
		h.s.open.Add(-1)
	}
	h.over = true
	return nil
}

// Rows that fall into ten thousand partitions at random take the memory of the
// write buffer and the open files, whatever the order, and make one file per
// partition and epoch as long as they fit.
func TestManyPartitions(t *testing.T) {
	type visit struct {
		ID   int64
		User string
		Shop int64
	}
	for _, tt := range []struct {
		name             string
		partitions, rows int
		buffer           string
		files            int64 // at most
	}{
		{"fits", 10_000, 50_000, "64MiB", 10_000},
		{"does not fit", 5_000, 30_000, "4608KiB", 15_000},
		{"one row each", 5_000, 5_000, "64MiB", 5_000},
	} {
		t.Run(tt.name, func(t *testing.T) {
			defer debug.SetGCPercent(debug.SetGCPercent(20))
			hole := &sinkhole{Store: deltalake.NewMemoryStore(nil)}
			sink := Sink{Store: func(context.Context, string, map[string]string) (deltalake.Store, error) { return hole, nil }}
			s := newStage(t)
			e := env[visit](s, 0, 1, "path", "mem://t", "partition_by", "shop", "write_buffer", tt.buffer)
			w, err := sink.OpenWriter(context.Background(), e, nil)
			if err != nil {
				t.Fatal(err)
			}
			defer w.Close()
			heap := func() uint64 {
				var m runtime.MemStats
				runtime.ReadMemStats(&m)
				return m.HeapAlloc
			}
			runtime.GC()
			before, most := heap(), uint64(0)
			hole.files.Store(0)
			total := int64(0)
			{
				var batch []visit
				for i := range tt.rows {
					batch = append(batch, visit{int64(i), "user", int64(i) * 2654435761 % int64(tt.partitions)})
					if len(batch) == 4096 || i == tt.rows-1 {
						write(s, w, batch...)
						batch = batch[:0]
						most = max(most, heap())
					}
				}
				p, err := prepareErr(w, 1, false)
				if err != nil {
					t.Fatal(err)
				}
				for _, a := range added(t, p) {
					n, _ := a.NumRecords()
					total += n
				}
				most = max(most, heap())
			}
			used := int64(most-before) >> 20
			t.Logf("%d partitions: %d files, %d open at most, %d MiB at most", tt.partitions, hole.files.Load(), hole.most.Load(), used)
			if total != int64(tt.rows) {
				t.Errorf("%d rows were written, want %d", total, tt.rows)
			}
			if hole.files.Load() > tt.files {
				t.Errorf("%d files, want at most %d", hole.files.Load(), tt.files)
			}
			if used > 120 {
				t.Errorf("%d MiB were in use", used)
			}
		})
	}
}
