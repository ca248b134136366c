package deltalake

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
)

// logTable is a table of 24 versions with Delta checkpoints at 10 and 20.
func logTable(t *testing.T) *MemoryStore {
	t.Helper()
	tbl, store := smallTable(t, &testClock{time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)}, nil)
	for i := range 24 {
		if i%6 == 5 {
			if _, err := tbl.Delete(context.Background(), mustExpr(t, fmt.Sprintf("id %% 10 = %d", i%10))); err != nil {
				t.Fatal(err)
			}
			continue
		}
		appendRows(t, tbl, i*5, 5)
	}
	return store
}

// However the log is stored, damaged where it can be, or hinted at, a version has
// the same rows.
func TestLogShapes(t *testing.T) {
	ctx := context.Background()
	checkpoint := func(v int) string { return fmt.Sprintf("%s%020d.checkpoint.parquet", logDir, v) }
	put := func(t *testing.T, s Store, path, text string) {
		t.Helper()
		if err := s.Put(ctx, path, []byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	drop := func(t *testing.T, s Store, from, to int64) {
		t.Helper()
		for v := from; v <= to; v++ {
			if err := s.Delete(ctx, commitPath(v)); err != nil {
				t.Fatal(err)
			}
		}
	}
	// compact writes the reconciled actions of a range, as the protocol describes.
	compact := func(t *testing.T, s *MemoryStore, from, to int64) {
		t.Helper()
		tbl, err := Open(ctx, s, TableOptions{})
		if err != nil {
			t.Fatal(err)
		}
		sum := &Snapshot{files: newFileSet(), removes: newRemoveMap(), txns: map[string]Txn{}, domains: map[string]DomainMetadata{}}
		for v := from; v <= to; v++ {
			actions, err := tbl.commitAt(ctx, v)
			if err != nil {
				t.Fatal(err)
			}
			for i := range actions {
				if err := sum.apply(&actions[i]); err != nil {
					t.Fatal(err)
				}
			}
		}
		var out []action
		if sum.protocol != nil {
			out = append(out, action{Protocol: sum.protocol}, action{Metadata: sum.metadata})
		}
		for r := range sum.removes.all() {
			out = append(out, action{Remove: r})
		}
		for a := range sum.files.all() {
			out = append(out, action{Add: a})
		}
		data, err := encodeActions(out)
		if err != nil {
			t.Fatal(err)
		}
		put(t, s, fmt.Sprintf("%s%020d.%020d.compacted.json", logDir, from, to), string(data))
	}
	tbl, err := Open(ctx, logTable(t), TableOptions{})
	if err != nil {
		t.Fatal(err)
	}
	want, err := sumSnapshot(ctx, tbl.Latest(), nil, ScanOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(t *testing.T, s *MemoryStore){
		"as it is":                 func(*testing.T, *MemoryStore) {},
		"no hint":                  func(t *testing.T, s *MemoryStore) { s.Delete(ctx, lastCheckpoint) },
		"hint is not JSON":         func(t *testing.T, s *MemoryStore) { put(t, s, lastCheckpoint, "{oops") },
		"hint is stale":            func(t *testing.T, s *MemoryStore) { put(t, s, lastCheckpoint, `{"version":10,"size":1}`) },
		"hint is of the future":    func(t *testing.T, s *MemoryStore) { put(t, s, lastCheckpoint, `{"version":99,"size":1}`) },
		"hint names no checkpoint": func(t *testing.T, s *MemoryStore) { put(t, s, lastCheckpoint, `{"version":13,"size":1}`) },
		"old commits are gone":     func(t *testing.T, s *MemoryStore) { drop(t, s, 0, 19) },
		"old commits are damaged": func(t *testing.T, s *MemoryStore) {
			put(t, s, commitPath(3), "{")
			put(t, s, commitPath(12), "not json")
		},
		"checkpoint is damaged": func(t *testing.T, s *MemoryStore) {
			data, err := s.Get(ctx, checkpoint(20))
			if err != nil {
				t.Fatal(err)
			}
			put(t, s, checkpoint(20), string(data[:len(data)/2]))
		},
		"checkpoint is damaged inside": func(t *testing.T, s *MemoryStore) {
			data, err := s.Get(ctx, checkpoint(20))
			if err != nil {
				t.Fatal(err)
			}
			copy(data[10:], bytes.Repeat([]byte{0xff}, 400))
			put(t, s, checkpoint(20), string(data))
		},
		"both checkpoints are empty": func(t *testing.T, s *MemoryStore) {
			put(t, s, checkpoint(20), "")
			put(t, s, checkpoint(10), "")
		},
		"incomplete parts": func(t *testing.T, s *MemoryStore) {
			put(t, s, fmt.Sprintf("%s%020d.checkpoint.%010d.%010d.parquet", logDir, 23, 1, 2), "half")
		},
		"compacted": func(t *testing.T, s *MemoryStore) { compact(t, s, 21, 24) },
		"compacted whole": func(t *testing.T, s *MemoryStore) {
			compact(t, s, 0, 24)
			s.Delete(ctx, checkpoint(10))
			s.Delete(ctx, checkpoint(20))
		},
		"compacted to 22": func(t *testing.T, s *MemoryStore) { compact(t, s, 21, 22) },
		"bad compaction": func(t *testing.T, s *MemoryStore) {
			put(t, s, fmt.Sprintf("%s%020d.%020d.compacted.json", logDir, 21, 23), "{")
		},
		"foreign files": func(t *testing.T, s *MemoryStore) {
			put(t, s, logDir+"readme.txt", "x")
			put(t, s, logDir+".0.json.crc", "x")
		},
		"wrong checksum": func(t *testing.T, s *MemoryStore) { put(t, s, fmt.Sprintf("%s%020d.crc", logDir, 24), "{") },
		"spaces and lines": func(t *testing.T, s *MemoryStore) {
			b, _ := s.Get(ctx, commitPath(24))
			put(t, s, commitPath(24), "\n\r\n  "+string(b)+"\n\n")
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := logTable(t)
			change(t, s)
			tbl, err := Open(ctx, s, TableOptions{})
			if err != nil {
				t.Fatal(err)
			}
			got, err := sumSnapshot(ctx, tbl.Latest(), nil, ScanOptions{})
			if err != nil || tbl.Latest().Version() != 24 || got.rows != want.rows {
				t.Fatalf("%v: version %d with %v rows, want 24 with %d", err, tbl.Latest().Version(), got, want.rows)
			}
			if name == "as it is" {
				appendRows(t, tbl, 900, 3)
			}
		})
	}
	t.Run("checkpoint damaged and its commits gone", func(t *testing.T) {
		s := logTable(t)
		put(t, s, checkpoint(20), "PAR1 nonsense PAR1")
		drop(t, s, 11, 19)
		if _, err := Open(ctx, s, TableOptions{}); err == nil || !strings.Contains(err.Error(), "checkpoint") {
			t.Fatalf("error %v, want one about the checkpoint", err)
		}
	})
	t.Run("version before the log", func(t *testing.T) {
		s := logTable(t)
		drop(t, s, 0, 15)
		tbl, err := Open(ctx, s, TableOptions{})
		if err != nil {
			t.Fatal(err)
		}
		var gone *VersionError
		if _, err := tbl.At(ctx, 14); !errors.As(err, &gone) {
			t.Fatalf("version 14: %v, want a VersionError", err)
		}
		if _, err := tbl.At(ctx, 10); err != nil {
			t.Fatalf("version 10 has a checkpoint of its own: %v", err)
		}
	})
}
