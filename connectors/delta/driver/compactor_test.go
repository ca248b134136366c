package driver

import (
	"context"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/weirstream/weir/dataflow"
	"github.com/weirstream/weir/deltalake"
	"github.com/weirstream/weir/internal/clock"
)

// until waits for a condition, and lets the fake clock of compactions run meanwhile.
func (s *stage) until(what string, is func() bool) {
	s.t.Helper()
	for late := time.Now().Add(30 * time.Second); !is(); <-time.After(2 * time.Millisecond) {
		if f, ok := s.clock.(*clock.Fake); ok {
			f.Advance(compactEvery)
		}
		if time.Now().After(late) {
			s.t.Fatalf("waited 30 s in vain until %s", what)
		}
	}
}

// open opens the table anew, as another process would.
func (s *stage) open() *deltalake.Table {
	s.t.Helper()
	t, err := deltalake.Open(context.Background(), deltalake.NewFolderStore(filepath.Join(s.folder, "gold/t")), deltalake.TableOptions{})
	if err != nil {
		s.t.Fatal(err)
	}
	return t
}

// A table that is committed to often ends with few files, though every epoch is
// visible at once, and who follows it meanwhile sees every row once.
func TestCompactionBesideCommits(t *testing.T) {
	const epochs, perEpoch = 60, 20
	s := newStage(t)
	s.clock = clock.NewFake(time.Unix(0, 0))
	e := env[purchase](s, 0, 1, "partition_by", "day")
	w, c := s.writer(e, nil), s.committer(e)
	table, seen := s.open(), map[int64]int{}
	at := deltalake.Cursor{}
	follow := func() {
		for {
			step, err := table.Follow(context.Background(), at, deltalake.FollowOptions{MaxFiles: 3})
			if err != nil {
				t.Fatal(err)
			}
			if len(step.Files) == 0 {
				return
			}
			at = step.Next
			err = step.Snapshot.ReadFiles(context.Background(), step.Files, deltalake.ScanOptions{Columns: []string{"id"}}, func(b *deltalake.Batch) error {
				for _, id := range b.Columns[0].Longs {
					seen[id]++
				}
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	for i := range epochs {
		write(s, w, purchases(i*perEpoch, (i+1)*perEpoch)...)
		h, _ := s.prepare(w, 0, dataflow.Epoch(i+1))
		s.commit(c, dataflow.Epoch(i+1), h)
		s.clock.(*clock.Fake).Advance(300 * time.Millisecond)
		if i%20 == 0 {
			follow()
		}
		now, err := table.Refresh(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		if n, ok := now.NumRows(); !ok || n != int64((i+1)*perEpoch) {
			t.Fatalf("after epoch %d the table has %d rows", i+1, n)
		}
	}
	s.until("few files are left", func() bool { return s.snapshot().NumFiles() <= 5*16 })
	follow()
	if got := s.ids(); !slices.Equal(got, upTo(0, epochs*perEpoch)) {
		t.Errorf("%d rows in the table", len(got))
	}
	for id := range int64(epochs * perEpoch) {
		if seen[id] != 1 {
			t.Fatalf("the follower saw row %d %d times", id, seen[id])
		}
	}
	history, err := table.History(context.Background(), 1000)
	if err != nil {
		t.Fatal(err)
	}
	merges := 0
	for _, h := range history {
		if h.Info.Operation == "OPTIMIZE" {
			merges++
		}
	}
	t.Logf("%d epochs of 5 files, %d merges, %d files are left", epochs, merges, s.snapshot().NumFiles())
	if merges == 0 {
		t.Error("no merge was made")
	}
	if v, _ := s.snapshot().TxnVersion("pipe/snk"); v != epochs {
		t.Errorf("the table says epoch %d, want %d", v, epochs)
	}
}

// What the table or the declaration says decides whether anything is merged.
func TestCompactionOff(t *testing.T) {
	for _, tt := range []struct {
		name    string
		options []string
		merged  bool
	}{
		{"by default", nil, true},
		{"property off", []string{"delta.autoOptimize.autoCompact", "false"}, false},
		{"option off", []string{"auto_compact", "false", "delta.autoOptimize.autoCompact", "true"}, false},
		{"option over property", []string{"auto_compact", "true", "delta.autoOptimize.autoCompact", "false"}, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newStage(t)
			s.clock = clock.NewFake(time.Unix(0, 0))
			e := env[purchase](s, 0, 1, append(tt.options, "compact_min_files", "3")...)
			w, c := s.writer(e, nil), s.committer(e)
			for i := range 30 {
				write(s, w, purchases(i, i+1)...)
				h, _ := s.prepare(w, 0, dataflow.Epoch(i+1))
				s.commit(c, dataflow.Epoch(i+1), h)
			}
			if tt.merged {
				s.until("files are merged", func() bool { return s.snapshot().NumFiles() < 10 })
			} else if c.(*committer).compactor != nil {
				t.Error("there is a compactor")
			} else if n := s.snapshot().NumFiles(); n != 30 {
				t.Errorf("%d files, want 30", n)
			}
			if got := s.ids(); !slices.Equal(got, upTo(0, 30)) {
				t.Errorf("rows %v", got)
			}
		})
	}
}
