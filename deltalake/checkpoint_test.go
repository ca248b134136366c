package deltalake

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// streamed collects what StreamFiles yields.
func streamed(t *testing.T, store Store, version int64) map[fileKey]*AddFile {
	t.Helper()
	got := map[fileKey]*AddFile{}
	for a, err := range StreamFiles(context.Background(), store, version, TableOptions{}) {
		if err != nil {
			t.Fatal(err)
		}
		if got[a.key()] != nil {
			t.Fatalf("%s is yielded twice", a.Path)
		}
		got[a.key()] = a
	}
	return got
}

func sameFiles(s *Snapshot, got map[fileKey]*AddFile) error {
	if s.NumFiles() != len(got) {
		return fmt.Errorf("%d files, want %d", len(got), s.NumFiles())
	}
	for a := range s.files.all() {
		if b := got[a.key()]; b == nil || b.Size != a.Size || b.Stats != a.Stats || jsonText(b.PartitionValues) != jsonText(a.PartitionValues) {
			return fmt.Errorf("file %s is not the same", a.Path)
		}
	}
	return nil
}

// In whatever form a checkpoint is written, by a snapshot or by a stream, the table
// opens from it to the state that its commits make.
func TestCheckpointForms(t *testing.T) {
	ctx := context.Background()
	for seed := range uint64(8) {
		rng := rand.New(rand.NewPCG(seed, 3))
		clock := &testClock{time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)}
		props := map[string]string{"delta.checkpointInterval": "1000", "delta.feature.domainMetadata": "supported"}
		v2 := seed%4 > 0
		if v2 {
			props["delta.checkpointPolicy"] = "v2"
		}
		if seed%2 == 1 {
			props["delta.enableDeletionVectors"] = "true"
		}
		o := CheckpointOptions{SidecarFiles: 2 + rng.IntN(4), JSON: seed%4 == 2}
		tbl, store := randomLog(t, rng, clock, 12, props)
		for round := range 3 {
			want := tbl.Latest()
			if round == 1 {
				v, err := StreamCheckpoint(ctx, store, TableOptions{Now: clock.now}, o)
				if err != nil || v != want.version {
					t.Fatalf("seed %d: version %d: %v", seed, v, err)
				}
			} else if err := tbl.WriteCheckpointWith(ctx, want, o); err != nil {
				t.Fatal(err)
			}
			again, err := Open(ctx, store, TableOptions{Now: clock.now})
			if err != nil {
				t.Fatal(err)
			}
			if again.Latest().base != want.version {
				t.Fatalf("seed %d: version %d was replayed from %d", seed, want.version, again.Latest().base)
			}
			if err := sameState(want, again.Latest()); err != nil {
				t.Fatalf("seed %d round %d: %v", seed, round, err)
			}
			if err := sameFiles(want, streamed(t, store, -1)); err != nil {
				t.Fatalf("seed %d round %d: %v", seed, round, err)
			}
			if p, err := tbl.Fsck(ctx); err != nil || len(p) > 0 {
				t.Fatal(p, err)
			}
			checkHint(t, store, want, v2)
			if tbl = again; round < 2 {
				for i := range 4 {
					appendRows(t, tbl, 1000*round+i*5, 5)
				}
				if _, err := tbl.Delete(ctx, mustExpr(t, "id % 5 = 1")); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
}

// checkHint compares _last_checkpoint with the checkpoint that it names.
func checkHint(t *testing.T, store *MemoryStore, s *Snapshot, v2 bool) {
	t.Helper()
	ctx := context.Background()
	data, err := store.Get(ctx, lastCheckpoint)
	if err != nil {
		t.Fatal(err)
	}
	var h checkpointHint
	if err := json.Unmarshal(data, &h); err != nil {
		t.Fatal(err)
	}
	if h.Version != s.version || *h.NumOfAddFiles != int64(s.NumFiles()) || h.Size < *h.NumOfAddFiles+2 || v2 != (h.V2 != nil) {
		t.Fatalf("hint %s of version %d with %d files", data, s.version, s.NumFiles())
	}
	if h.V2 == nil {
		return
	}
	total := h.V2.SizeInBytes
	for _, sc := range h.V2.SidecarFiles {
		info, err := store.Stat(ctx, sidecarDir+sc.Path)
		if err != nil || info.Size != sc.SizeInBytes || info.Modified.UnixMilli() != sc.ModificationTime {
			t.Fatal(info, sc, err)
		}
		total += sc.SizeInBytes
	}
	if info, err := store.Stat(ctx, logDir+h.V2.Path); err != nil || info.Size != h.V2.SizeInBytes || total != *h.SizeInBytes {
		t.Fatalf("hint %s: %v %v, %d bytes in all", data, info, err, total)
	}
}

// Spark's checkpoints of every form stream the files that they replay to.
func TestConformanceStream(t *testing.T) {
	root := os.Getenv("WEIR_DELTA_DATA")
	if root == "" {
		t.Skip("SKIPPED: WEIR_DELTA_DATA does not name the conformance data")
	}
	ctx := context.Background()
	tables, err := filepath.Glob(filepath.Join(root, "*", "*", "delta"))
	if err != nil || len(tables) < 40 {
		t.Fatal(tables, err)
	}
	for _, dir := range tables {
		store := NewFolderStore(dir)
		tbl, err := Open(ctx, store, TableOptions{})
		if err != nil {
			t.Fatal(dir, err)
		}
		for v := range tbl.Latest().version + 1 {
			s, err := tbl.At(ctx, v)
			var gone *VersionError
			if errors.As(err, &gone) {
				continue
			}
			if err != nil {
				t.Fatal(dir, err)
			}
			if err := sameFiles(s, streamed(t, store, v)); err != nil {
				t.Errorf("%s version %d: %v", dir, v, err)
			}
		}
	}
}

// Sidecars live as long as a checkpoint names them; those of checkpoints that were
// cleaned up and of writers that died go after a day, by CleanLog and by Vacuum.
func TestSidecarCleanup(t *testing.T) {
	ctx := context.Background()
	for _, by := range []string{"clean", "vacuum"} {
		clock := &testClock{time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)}
		tbl, store := smallTable(t, clock, map[string]string{
			"delta.checkpointPolicy": "v2", "delta.checkpointInterval": "1000", "delta.logRetentionDuration": "interval 2 days", "delta.enableExpiredLogCleanup": "false"})
		count := func() (n int) {
			for _, err := range store.List(ctx, sidecarDir, "") {
				if err != nil {
					t.Fatal(err)
				}
				n++
			}
			return n
		}
		for day := range 6 {
			appendRows(t, tbl, day*10, 10)
			if err := tbl.WriteCheckpointWith(ctx, tbl.Latest(), CheckpointOptions{SidecarFiles: 2, JSON: day%2 == 0}); err != nil {
				t.Fatal(err)
			}
			clock.at = clock.at.Add(24 * time.Hour)
		}
		if err := store.Put(ctx, sidecarDir+"young.parquet", []byte("x")); err != nil {
			t.Fatal(err)
		}
		before := count()
		heads, err := listLog(ctx, store, 0)
		if err != nil {
			t.Fatal(err)
		}
		if by == "vacuum" { // the heads are gone, Vacuum finds what they leave behind
			for _, f := range heads {
				if f.kind == logCheckpointV2 && f.version < 4 {
					if err := store.Delete(ctx, f.info.Path); err != nil {
						t.Fatal(err)
					}
				}
			}
			clock.at = clock.at.Add(8 * 24 * time.Hour)
			if err := store.Put(ctx, sidecarDir+"young.parquet", []byte("x")); err != nil {
				t.Fatal(err)
			}
			r, err := tbl.Vacuum(ctx, VacuumOptions{})
			if err != nil || len(r.Files) == 0 || !strings.HasPrefix(r.Files[0], sidecarDir) {
				t.Fatal(r, err)
			}
		} else if n, err := tbl.CleanLog(ctx, tbl.Latest()); err != nil || n == 0 {
			t.Fatal(n, err)
		}
		after := count()
		if after >= before || after < 4 {
			t.Fatalf("%s: %d sidecars of %d are left", by, after, before)
		}
		if _, err := store.Get(ctx, sidecarDir+"young.parquet"); err != nil {
			t.Fatal(err)
		}
		again, err := Open(ctx, store, TableOptions{Now: clock.now})
		if err != nil || again.Latest().base != 6 {
			t.Fatal(err)
		}
		for v := int64(5); v <= 6; v++ {
			s, err := again.At(ctx, v)
			if err != nil {
				t.Fatalf("%s: version %d: %v", by, v, err)
			}
			if n, ok := s.NumRows(); !ok || n != v*10 {
				t.Fatalf("version %d has %d rows", v, n)
			}
		}
	}
}
