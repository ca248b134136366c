package deltalake

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"
)

// agedTable is a table with what each of its versions must be.
type agedTable struct {
	t     *testing.T
	rng   *rand.Rand
	clock *testClock
	tbl   *Table
	store *MemoryStore
	want  []*Snapshot // by version
	made  []time.Time // by version: when
	next  int
}

// step commits something and writes what the log may hold beside commits.
func (a *agedTable) step() {
	a.t.Helper()
	ctx := context.Background()
	ahead := time.Duration(1+a.rng.IntN(600)) * time.Minute
	if a.tbl.Latest().keepsTime() && a.rng.IntN(4) == 0 {
		ahead = -time.Duration(a.rng.IntN(30)) * time.Minute // clocks go back
	}
	a.clock.at = a.clock.at.Add(ahead)
	var err error
	switch a.rng.IntN(10) {
	case 0:
		_, err = a.tbl.Delete(ctx, mustExpr(a.t, fmt.Sprintf("id %% 7 = %d", a.rng.IntN(7))))
	case 1:
		_, err = a.tbl.Optimize(ctx, OptimizeOptions{})
	case 2:
		on := "true"
		if a.tbl.Latest().keepsTime() && a.rng.IntN(3) == 0 {
			on = "false"
		}
		_, err = a.tbl.SetProperties(ctx, map[string]*string{"delta.enableInCommitTimestamps": &on})
	case 3:
		err = a.tbl.WriteCheckpointWith(ctx, a.tbl.Latest(), CheckpointOptions{SidecarFiles: 1 + a.rng.IntN(5), JSON: a.rng.IntN(2) == 0})
	case 4:
		_, err = StreamCheckpoint(ctx, a.store, TableOptions{Now: a.clock.now}, CheckpointOptions{SidecarFiles: 1 + a.rng.IntN(5)})
	case 5:
		last := a.tbl.Latest().version
		if first := last - 1 - a.rng.Int64N(12); first >= 0 && a.there(first, last) {
			err = a.tbl.CompactLog(ctx, first, last)
		}
	default:
		appendRows(a.t, a.tbl, a.next*3, 3)
		a.next++
	}
	if err != nil {
		a.t.Fatal(err)
	}
	for v := int64(len(a.want)); v <= a.tbl.Latest().version; v++ {
		s, err := a.tbl.At(ctx, v)
		if err != nil {
			a.t.Fatal(err)
		}
		a.want, a.made = append(a.want, s), append(a.made, a.clock.at)
	}
}

func (a *agedTable) there(first, last int64) bool {
	for v := first; v <= last; v++ {
		if _, err := a.store.Stat(context.Background(), commitPath(v)); err != nil {
			return false
		}
	}
	return true
}

// foreignClean deletes a random part of what Delta's protocol lets any writer
// delete: what is older than the newest checkpoint that is older than the
// retention.
func (a *agedTable) foreignClean(retention time.Duration) {
	a.t.Helper()
	ctx := context.Background()
	files, err := listLog(ctx, a.store, 0)
	if err != nil {
		a.t.Fatal(err)
	}
	cutoff := a.clock.at.Add(-retention)
	newest := int64(-1)
	for _, f := range files {
		if f.kind == logCommit {
			if !f.info.Modified.Before(cutoff) {
				break
			}
			newest = f.version
		}
	}
	base := bestCheckpoint(files, newest, nil)
	if len(base) == 0 {
		return
	}
	some := 1 + a.rng.IntN(3)
	for _, f := range files {
		first := f.version
		if f.kind == logCompaction {
			first = f.first - 1
		}
		if first < base[0].version && a.rng.IntN(some) == 0 {
			if err := a.store.Delete(ctx, f.info.Path); err != nil {
				a.t.Fatal(err)
			}
		}
	}
}

// check reads every version that is younger than the retention, and the newest, by
// number and by time.
func (a *agedTable) check(what string, retention time.Duration) {
	a.t.Helper()
	ctx := context.Background()
	tbl, err := Open(ctx, a.store, TableOptions{Now: a.clock.now})
	if err != nil {
		a.t.Fatalf("%s: %v", what, err)
	}
	now := tbl.Latest()
	since, _ := now.metadata.timeSince()
	for v := len(a.want) - 1; v >= 0; v-- {
		if v < len(a.want)-1 && a.made[v].Before(a.clock.at.Add(-retention)) {
			continue
		}
		got, err := tbl.load(ctx, int64(v))
		if err != nil {
			a.t.Fatalf("%s: version %d of %d: %v", what, v, len(a.want), err)
		}
		want := a.want[v]
		if why := want.contradicts(got); why != "" || got.ict != want.ict || got.vectors != want.vectors {
			a.t.Fatalf("%s: version %d: %s, time %d, want %d", what, v, why, got.ict, want.ict)
		}
		if err := sameFiles(want, streamed(a.t, a.store, int64(v))); err != nil {
			a.t.Fatalf("%s: version %d: %v", what, v, err)
		}
		if !now.keepsTime() || int64(v) < since {
			continue
		}
		for _, millis := range []int64{want.ict, a.until(v)} {
			if at, err := tbl.AtTime(ctx, time.UnixMilli(millis)); err != nil || at.version != int64(v) {
				a.t.Fatalf("%s: at the time %d of version %d: %v", what, millis, v, err)
			}
		}
	}
}

// until is the last moment of a version that carries its time.
func (a *agedTable) until(v int) int64 {
	if v+1 < len(a.want) {
		return a.want[v+1].ict - 1
	}
	return a.want[v].ict + 1_000_000
}

// Whatever log cleanup deletes, ours or another's that stops half way, every version
// that is within the retention reads as it was, by number and by time, through Delta
// checkpoints of every form, log compactions, checksums and in-commit timestamps
// that are turned on and off. WEIR_CLEANUP_SEEDS sets how many histories.
func TestCleanupKeepsWhatMustBeReadable(t *testing.T) {
	seeds := 8
	if n, err := strconv.Atoi(os.Getenv("WEIR_CLEANUP_SEEDS")); err == nil {
		seeds = n
	}
	const retention = 48 * time.Hour
	cleaned, deleted := 0, 0
	for seed := range uint64(seeds) {
		props := map[string]string{"delta.logRetentionDuration": "interval 2 days", "delta.enableExpiredLogCleanup": "false", "delta.checkpointInterval": "7"}
		rng := rand.New(rand.NewPCG(seed, 4))
		if seed%3 > 0 {
			props["delta.checkpointPolicy"] = "v2"
		}
		if seed%4 == 1 {
			props["delta.enableDeletionVectors"] = "true"
		}
		if seed%2 == 1 {
			props["delta.enableInCommitTimestamps"], props[compactionProperty] = "true", "4"
		}
		a := &agedTable{t: t, rng: rng, clock: &testClock{time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)}}
		a.tbl, a.store = smallTable(t, a.clock, props)
		for i := range 60 {
			a.step()
			if i%6 != 5 {
				continue
			}
			what := fmt.Sprintf("seed %d step %d", seed, i)
			if rng.IntN(2) == 0 {
				n, err := a.tbl.CleanLog(context.Background(), a.tbl.Latest())
				if err != nil {
					t.Fatal(what, err)
				}
				cleaned, deleted = cleaned+1, deleted+n
			} else {
				a.foreignClean(retention)
			}
			a.check(what, retention)
		}
		if problems, err := a.tbl.Fsck(context.Background()); err != nil {
			t.Fatal(err)
		} else {
			for _, p := range problems {
				if strings.Contains(p.Note, "contradicts") {
					t.Fatalf("seed %d: %v", seed, p)
				}
			}
		}
	}
	if cleaned == 0 || deleted < cleaned {
		t.Fatalf("%d cleanups deleted %d files", cleaned, deleted)
	}
}

// Turned on for a table with history, in-commit timestamps are noted from when on;
// older versions are found by the times of their files, newer ones by their own.
func TestInCommitTimestampsTurnedOn(t *testing.T) {
	ctx := context.Background()
	clock := &testClock{time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)}
	tbl, store := smallTable(t, clock, nil)
	start := clock.at
	for i := range 3 {
		clock.at = start.Add(time.Duration(i+1) * time.Hour)
		appendRows(t, tbl, i, 1)
	}
	clock.at = start.Add(90 * time.Minute) // it went back
	on := "true"
	s, err := tbl.SetProperties(ctx, map[string]*string{"delta.enableInCommitTimestamps": &on})
	if err != nil {
		t.Fatal(err)
	}
	if v, at := s.metadata.timeSince(); v != 4 || at != s.ict || at != start.Add(3*time.Hour).UnixMilli()+1 {
		t.Fatalf("since version %d at %d, the version is of %d", v, at, s.ict)
	}
	appendRows(t, tbl, 9, 1)
	for _, tt := range []struct {
		at   time.Time
		want int64
	}{{start, 0}, {start.Add(time.Hour), 1}, {start.Add(150 * time.Minute), 2}, {start.Add(3 * time.Hour), 3}, {time.UnixMilli(s.ict), 4}, {time.UnixMilli(s.ict + 1), 5}, {start.Add(99 * time.Hour), 5}} {
		again, err := Open(ctx, store, TableOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if got, err := again.AtTime(ctx, tt.at); err != nil || got.version != tt.want {
			t.Fatalf("at %v: %v, want version %d", tt.at, err, tt.want)
		}
	}
	if _, err := tbl.AtTime(ctx, start.Add(-time.Second)); err == nil {
		t.Fatal("a version before the first")
	}
	if _, err := tbl.SetProperties(ctx, map[string]*string{timeSinceVersion: &on}); err == nil {
		t.Fatalf("%s was set by hand", timeSinceVersion)
	}
	h, err := tbl.History(ctx, 1)
	if err != nil || h[0].Time.UnixMilli() != tbl.Latest().ict {
		t.Fatal(h, err)
	}
	clone, err := Open(ctx, store, TableOptions{})
	if err != nil {
		t.Fatal(err)
	}
	off := "false"
	for _, v := range []*string{&off, &on} { // off and on again: from now on
		if s, err = clone.SetProperties(ctx, map[string]*string{"delta.enableInCommitTimestamps": v}); err != nil {
			t.Fatal(err)
		}
	}
	if v, at := s.metadata.timeSince(); v != 7 || at != s.ict {
		t.Fatalf("since version %d at %d", v, at)
	}
}
