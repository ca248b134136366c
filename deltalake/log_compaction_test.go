package deltalake

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"
)

// randomLog makes a table of about n versions by operations of all kinds, with
// applications, metadata domains that come and go, and properties that change.
func randomLog(t *testing.T, rng *rand.Rand, clock *testClock, n int, props map[string]string) (*Table, *MemoryStore) {
	t.Helper()
	ctx := context.Background()
	tbl, store := smallTable(t, clock, props)
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	for i := 0; tbl.Latest().Version() < int64(n); i++ {
		clock.at = clock.at.Add(time.Duration(rng.IntN(100)) * time.Minute)
		switch rng.IntN(8) {
		case 0:
			_, err := tbl.Delete(ctx, mustExpr(t, fmt.Sprintf("id %% 7 = %d", rng.IntN(7))))
			check(err)
		case 1:
			_, err := tbl.Optimize(ctx, OptimizeOptions{})
			check(err)
		case 2:
			_, err := tbl.Commit(ctx, Commit{AppID: fmt.Sprint("app", rng.IntN(3)), AppVersion: int64(i)})
			check(err)
		case 3:
			_, err := tbl.Commit(ctx, Commit{Domains: []DomainMetadata{{Domain: fmt.Sprint("d", rng.IntN(3)), Configuration: fmt.Sprint(i), Removed: rng.IntN(2) == 0}}})
			check(err)
		case 4:
			v := fmt.Sprint(i)
			_, err := tbl.SetProperties(ctx, map[string]*string{"note": &v})
			check(err)
		default:
			appendRows(t, tbl, i*5, 5)
		}
	}
	return tbl, store
}

// sameState compares two snapshots of one version, tombstones included.
func sameState(a, b *Snapshot) error {
	if why := a.contradicts(b); why != "" {
		return errors.New(why)
	}
	if a.version != b.version || a.ict != b.ict || a.bytes != b.bytes || a.vectors != b.vectors {
		return fmt.Errorf("version %d, time %d, %d bytes, vectors %v; want %d, %d, %d, %v", b.version, b.ict, b.bytes, b.vectors, a.version, a.ict, a.bytes, a.vectors)
	}
	if !reflect.DeepEqual(a.txns, b.txns) || !reflect.DeepEqual(a.domains, b.domains) {
		return fmt.Errorf("applications %v and domains %v, want %v and %v", b.txns, b.domains, a.txns, a.domains)
	}
	if a.removes.len() != b.removes.len() {
		return fmt.Errorf("%d tombstones, want %d", b.removes.len(), a.removes.len())
	}
	for r := range a.removes.all() {
		if b.removes.get(r.key()) == nil {
			return fmt.Errorf("no tombstone of %s", r.Path)
		}
	}
	return nil
}

// Whatever ranges are compacted, overlapping or not, damaged or lost while they
// are read, every version is what its commits make it.
func TestLogCompaction(t *testing.T) {
	ctx := context.Background()
	for seed := range uint64(6) {
		rng := rand.New(rand.NewPCG(seed, 1))
		clock := &testClock{time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)}
		props := map[string]string{"delta.checkpointInterval": "1000", "delta.feature.domainMetadata": "supported"}
		if seed%2 == 1 {
			props["delta.enableDeletionVectors"], props["delta.enableInCommitTimestamps"] = "true", "true"
		}
		tbl, store := randomLog(t, rng, clock, 30, props)
		want := map[int64]*Snapshot{}
		for v := range tbl.Latest().Version() + 1 {
			s, err := tbl.load(ctx, v)
			if err != nil {
				t.Fatal(err)
			}
			want[v] = s
		}
		if seed%3 == 2 {
			if err := tbl.WriteCheckpoint(ctx, want[rng.Int64N(20)]); err != nil {
				t.Fatal(err)
			}
		}
		for range 6 {
			first := rng.Int64N(29)
			last := first + 1 + rng.Int64N(30-first)
			if err := tbl.CompactLog(ctx, first, min(last, 30)); err != nil {
				t.Fatal(err)
			}
		}
		if p, err := tbl.Fsck(ctx); err != nil || len(p) > 0 {
			t.Fatal(p, err)
		}
		compare := func(what string) {
			t.Helper()
			for v, s := range want {
				got, err := tbl.load(ctx, v)
				if err != nil {
					t.Fatalf("seed %d, %s, version %d: %v", seed, what, v, err)
				}
				if err := sameState(s, got); err != nil {
					t.Fatalf("seed %d, %s, version %d: %v", seed, what, v, err)
				}
			}
		}
		compare("compacted")
		files, err := listLog(ctx, store, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range files {
			if f.kind == logCompaction && rng.IntN(2) == 0 {
				if err := store.Put(ctx, f.info.Path, []byte("{\"add\":")); err != nil {
					t.Fatal(err)
				}
			}
		}
		compare("damaged")
		// What lists the log or reads commits one by one sees commits only.
		if h, err := tbl.History(ctx, 0); err != nil || len(h) != len(want) || h[0].Version != tbl.Latest().Version() {
			t.Fatalf("%d entries of history: %v", len(h), err)
		}
		st, err := tbl.Follow(ctx, Cursor{}, FollowOptions{OnChange: AppendsOnly})
		if err != nil || st.Next.Version != tbl.Latest().Version()+1 {
			t.Fatalf("follow: %v %v", st, err)
		}
	}
}

// The table asks for compaction; a log whose commits are lost under it is still
// read through it, and Fsck tells a compaction that lies.
func TestLogCompactionInterval(t *testing.T) {
	ctx := context.Background()
	clock := &testClock{time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)}
	tbl, store := smallTable(t, clock, map[string]string{compactionProperty: "5", "delta.checkpointInterval": "50"})
	for i := range 13 {
		appendRows(t, tbl, i*10, 10)
	}
	for _, p := range []string{compactionPath(0, 4), compactionPath(5, 9)} {
		if _, err := store.Get(ctx, p); err != nil {
			t.Fatal(err)
		}
	}
	files, err := listLog(ctx, store, 0)
	if err != nil {
		t.Fatal(err)
	}
	seg, err := planSegment(files, -1, nil)
	if err != nil || len(seg.commits) != 6 {
		t.Fatalf("%d files make version 13: %v", len(seg.commits), err)
	}
	if err := store.Delete(ctx, commitPath(7)); err != nil {
		t.Fatal(err)
	}
	again, err := Open(ctx, store, TableOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if n, ok := again.Latest().NumRows(); !ok || n != 130 {
		t.Fatalf("%d rows", n)
	}
	data, err := store.Get(ctx, compactionPath(0, 4))
	if err != nil {
		t.Fatal(err)
	}
	cut := strings.TrimSuffix(string(data), "\n")
	if err := store.Put(ctx, compactionPath(0, 4), []byte(cut[:strings.LastIndexByte(cut, '\n')])); err != nil {
		t.Fatal(err)
	}
	problems, err := again.Fsck(ctx)
	if err != nil || len(problems) != 2 || !strings.Contains(problems[0].Note+problems[1].Note, "contradicts its commits") {
		t.Fatalf("%v %v", problems, err)
	}
	if err := again.CompactLog(ctx, 3, 3); err == nil {
		t.Fatal("one commit was compacted")
	}
	bad := "1"
	if _, err := again.SetProperties(ctx, map[string]*string{compactionProperty: &bad}); err == nil {
		t.Fatal("an interval of 1 was taken")
	}
}

// A version whose last file is a compaction or a Delta checkpoint still has its
// in-commit timestamp, and the next commit is later although the clock went back.
func TestTimeOfCompactedVersion(t *testing.T) {
	ctx := context.Background()
	for _, how := range []string{"compaction", "checkpoint"} {
		clock := &testClock{time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)}
		tbl, store := smallTable(t, clock, map[string]string{"delta.enableInCommitTimestamps": "true"})
		for i := range 4 {
			appendRows(t, tbl, i, 1)
		}
		last := tbl.Latest().ict
		var err error
		if how == "compaction" {
			err = tbl.CompactLog(ctx, 1, 4)
		} else {
			err = tbl.WriteCheckpoint(ctx, tbl.Latest())
		}
		if err != nil {
			t.Fatal(err)
		}
		clock.at = clock.at.Add(-time.Hour)
		again, err := Open(ctx, store, TableOptions{Now: clock.now})
		if err != nil || again.Latest().ict != last || last == 0 {
			t.Fatalf("%s: time %d, want %d: %v", how, again.Latest().ict, last, err)
		}
		if r := appendRows(t, again, 9, 1); r.Snapshot.ict <= last {
			t.Fatalf("%s: the next commit is of %d, the one before of %d", how, r.Snapshot.ict, last)
		}
	}
}

// Checksums are what replay comes to, version by version; damaged, wrong or
// missing ones change nothing but what Fsck says.
func TestChecksums(t *testing.T) {
	ctx := context.Background()
	for seed := range uint64(4) {
		rng := rand.New(rand.NewPCG(seed, 2))
		clock := &testClock{time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)}
		props := map[string]string{"delta.feature.domainMetadata": "supported"}
		if seed%2 == 1 {
			props["delta.enableDeletionVectors"], props["delta.enableInCommitTimestamps"] = "true", "true"
		}
		tbl, store := randomLog(t, rng, clock, 35, props)
		for v := range tbl.Latest().Version() + 1 {
			s, err := tbl.load(ctx, v)
			if err != nil {
				t.Fatal(err)
			}
			c, err := tbl.readChecksum(ctx, checksumPath(v))
			if err != nil {
				t.Fatal(err)
			}
			if why := c.contradicts(s); why != "" {
				t.Fatalf("seed %d version %d: %s", seed, v, why)
			}
			if got, want := jsonText(c), jsonText(s.checksum(c.TxnID)); got != want {
				t.Fatalf("seed %d version %d: %s, want %s", seed, v, got, want)
			}
		}
		if p, err := tbl.Fsck(ctx); err != nil || len(p) > 0 {
			t.Fatal(p, err)
		}
		for v, damage := range []string{"", "{", "null", `{"numFiles":-1}`, "gone", "wrong"} {
			path := checksumPath(int64(v) + 30)
			var err error
			switch damage {
			case "gone":
				err = store.Delete(ctx, path)
			case "wrong":
				data, _ := store.Get(ctx, path)
				err = store.Put(ctx, path, []byte(strings.Replace(string(data), `"numFiles":`, `"numFiles":1`, 1)))
			default:
				err = store.Put(ctx, path, []byte(damage))
			}
			if err != nil {
				t.Fatal(err)
			}
			again, err := Open(ctx, store, TableOptions{Now: clock.now})
			if err != nil {
				t.Fatal(err)
			}
			if err := sameState(tbl.Latest(), again.Latest()); err != nil {
				t.Fatal(err)
			}
		}
		if p, err := tbl.Fsck(ctx); err != nil || len(p) != 5 {
			t.Fatal(p, err)
		}
	}
}

// Spark's own checksums, checkpoints and compactions agree with its commits.
func TestConformanceFsck(t *testing.T) {
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
		tbl, err := Open(ctx, NewFolderStore(dir), TableOptions{})
		if err != nil {
			t.Fatal(dir, err)
		}
		problems, err := tbl.Fsck(ctx)
		if err != nil {
			t.Fatal(dir, err)
		}
		for _, p := range problems {
			if strings.Contains(p.Note, "contradict") || strings.Contains(p.Path, ".crc") || strings.Contains(p.Path, "_sidecars") {
				t.Errorf("%s: %v", dir, p)
			}
		}
	}
}
