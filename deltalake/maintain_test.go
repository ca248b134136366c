package deltalake

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
)

// testClock is a time that only the test moves.
type testClock struct{ at time.Time }

func (c *testClock) now() time.Time { return c.at }

func smallTable(t *testing.T, clock *testClock, props map[string]string) (*Table, *MemoryStore) {
	t.Helper()
	store := NewMemoryStore(clock.now)
	tbl, err := Create(context.Background(), store, CreateOptions{Schema: interopSchema(), Properties: props, Table: TableOptions{Now: clock.now}})
	if err != nil {
		t.Fatal(err)
	}
	return tbl, store
}

func appendRows(t *testing.T, tbl *Table, start, n int) *CommitResult {
	t.Helper()
	r, err := tbl.Append(context.Background(), Batches(interopBatch(start, n)), WriteOptions{})
	if err != nil || r.Upkeep != nil {
		t.Fatal(err, r)
	}
	return r
}

// Old commits go once a Delta checkpoint stands for them; versions within the
// retention, and the newest, stay readable.
func TestLogCleanup(t *testing.T) {
	ctx := context.Background()
	clock := &testClock{time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)}
	tbl, store := smallTable(t, clock, map[string]string{"delta.logRetentionDuration": "interval 10 days"})
	for i := range 45 { // one a day
		clock.at = clock.at.Add(24 * time.Hour)
		appendRows(t, tbl, i*10, 10)
	}
	var old *VersionError
	if _, err := tbl.At(ctx, 3); !errors.As(err, &old) || !old.Gone {
		t.Fatalf("version 3: %v, want a VersionError that says it is gone", err)
	}
	for v := int64(36); v <= 45; v++ {
		s, err := tbl.At(ctx, v)
		if err != nil {
			t.Fatal(err)
		}
		if n, ok := s.NumRows(); !ok || n != v*10 {
			t.Fatalf("version %d has %d rows", v, n)
		}
	}
	if _, err := store.Get(ctx, commitPath(0)); !errors.Is(err, ErrNotFound) {
		t.Fatalf("commit 0 is still there: %v", err)
	}
	if _, err := tbl.Follow(ctx, Cursor{Version: 3}, FollowOptions{}); !errors.As(err, &old) {
		t.Fatalf("follow from 3: %v, want a VersionError", err)
	}
}

// Many small files are put together when the table asks for it, and no row is lost.
func TestAutoCompact(t *testing.T) {
	clock := &testClock{time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)}
	tbl, _ := smallTable(t, clock, map[string]string{"delta.autoOptimize.autoCompact": "true"})
	for i := range 120 {
		appendRows(t, tbl, i*3, 3)
	}
	s := tbl.Latest()
	if n, ok := s.NumRows(); !ok || n != 360 || s.NumFiles() > 75 {
		t.Fatalf("%d rows in %d files", n, s.NumFiles())
	}
}

// A follower sees every appended row once, however it is stopped, over Optimize.
func TestFollow(t *testing.T) {
	ctx := context.Background()
	clock := &testClock{time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)}
	tbl, _ := smallTable(t, clock, nil)
	appendRows(t, tbl, 0, 10)
	appendRows(t, tbl, 10, 10)
	seen := map[int64]int{}
	at := tbl.Latest().Start()
	drain := func() {
		for {
			step, err := tbl.Follow(ctx, at, FollowOptions{MaxFiles: 1})
			if err != nil {
				t.Fatal(err)
			}
			err = step.Snapshot.ReadFiles(ctx, step.Files, ScanOptions{Columns: []string{"id"}}, func(b *Batch) error {
				for _, id := range b.Columns[0].Longs {
					seen[id]++
				}
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
			at = step.Next
			if len(step.Files) == 0 {
				return
			}
		}
	}
	drain()
	for i := 2; i < 8; i++ {
		appendRows(t, tbl, i*10, 10)
		if i == 5 {
			if _, err := tbl.Optimize(ctx, OptimizeOptions{}); err != nil {
				t.Fatal(err)
			}
			drain()
		}
	}
	drain()
	for id := range int64(80) {
		if seen[id] != 1 {
			t.Fatalf("row %d was seen %d times", id, seen[id])
		}
	}
	if _, err := tbl.Delete(ctx, mustExpr(t, "id = 5")); err != nil {
		t.Fatal(err)
	}
	if _, err := tbl.Follow(ctx, at, FollowOptions{}); err == nil || !strings.Contains(err.Error(), "changes or removes rows") {
		t.Fatalf("follow over a delete: %v, want a refusal", err)
	}
	if step, err := tbl.Follow(ctx, at, FollowOptions{OnChange: SkipChanges}); err != nil || len(step.Files) != 0 {
		t.Fatalf("skipping: %v %v", step, err)
	}
}

// Vacuum deletes exactly what no version within the retention names.
func TestVacuum(t *testing.T) {
	ctx := context.Background()
	clock := &testClock{time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)}
	tbl, store := smallTable(t, clock, nil)
	appendRows(t, tbl, 0, 10)
	if _, err := tbl.Delete(ctx, mustExpr(t, "id < 5")); err != nil {
		t.Fatal(err)
	}
	if err := store.Put(ctx, "orphan.parquet", []byte("x")); err != nil {
		t.Fatal(err)
	}
	if _, err := tbl.Vacuum(ctx, VacuumOptions{Retention: time.Hour}); err == nil || !strings.Contains(err.Error(), "below the table's") {
		t.Fatalf("short retention: %v, want a refusal", err)
	}
	if r, err := tbl.Vacuum(ctx, VacuumOptions{}); err != nil || len(r.Files) != 0 {
		t.Fatalf("young files: %v %v, want none", r, err)
	}
	clock.at = clock.at.Add(8 * 24 * time.Hour)
	lite, err := tbl.Vacuum(ctx, VacuumOptions{Lite: true, DryRun: true})
	if err != nil || len(lite.Files) != 1 {
		t.Fatalf("lite: %v %v, want the removed file", lite, err)
	}
	r, err := tbl.Vacuum(ctx, VacuumOptions{})
	if err != nil || len(r.Files) != 2 {
		t.Fatalf("vacuum: %v %v, want two files", r, err)
	}
	if got, err := sumSnapshot(ctx, tbl.Latest(), nil, ScanOptions{}); err != nil || got.rows != 5 {
		t.Fatalf("after vacuum: %v %v", got, err)
	}
}

// Writers that contradict each other get the class that Delta's documentation names.
func TestConflicts(t *testing.T) {
	ctx := context.Background()
	clock := &testClock{time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)}
	add := func(name string) []*AddFile {
		return []*AddFile{{Path: name, PartitionValues: map[string]*string{}, Size: 1, DataChange: true, Stats: `{"numRecords":1,"minValues":{"id":5},"maxValues":{"id":5},"nullCount":{"id":0}}`}}
	}
	remove := func(s *Snapshot, i int) []*RemoveFile {
		r := s.Files()[i].remove(1, true)
		return []*RemoveFile{&r}
	}
	for _, tt := range []struct {
		name   string
		winner func(s *Snapshot) Commit
		loser  func(s *Snapshot) Commit
		want   ConflictClass
	}{
		{"two appends", func(*Snapshot) Commit { return Commit{Adds: add("w")} }, func(*Snapshot) Commit { return Commit{Adds: add("l")} }, ""},
		{"append to what was read", func(*Snapshot) Commit { return Commit{Adds: add("w")} },
			func(s *Snapshot) Commit { return Commit{Base: s, ReadAll: true, Adds: add("l")} }, ConcurrentAppend},
		{"append beside what was read", func(*Snapshot) Commit { return Commit{Adds: add("w")} },
			func(s *Snapshot) Commit { return Commit{Base: s, Filter: mustExpr(t, "id > 100"), Adds: add("l")} }, ""},
		{"append into the range read", func(*Snapshot) Commit { return Commit{Adds: add("w")} },
			func(s *Snapshot) Commit { return Commit{Base: s, Filter: mustExpr(t, "id = 5"), Adds: add("l")} }, ConcurrentAppend},
		{"same file removed", func(s *Snapshot) Commit { return Commit{Base: s, Removes: remove(s, 0)} },
			func(s *Snapshot) Commit { return Commit{Base: s, Removes: remove(s, 0)} }, ConcurrentDeleteDelete},
		{"read file removed", func(s *Snapshot) Commit { return Commit{Base: s, Removes: remove(s, 0)} },
			func(s *Snapshot) Commit { return Commit{Base: s, Reads: s.Files()[:1], Removes: remove(s, 1)} }, ConcurrentDeleteRead},
		{"metadata", func(s *Snapshot) Commit { return Commit{Base: s, Metadata: s.Metadata()} },
			func(s *Snapshot) Commit { return Commit{Base: s, ReadAll: true, Adds: add("l")} }, MetadataChanged},
		{"metadata and a blind append that still fits", func(s *Snapshot) Commit { return Commit{Base: s, Metadata: s.Metadata().clone()} },
			func(s *Snapshot) Commit { return Commit{Adds: add("l"), Spec: s.FileSpec()} }, ""},
		{"protocol", func(s *Snapshot) Commit {
			return Commit{Base: s, Protocol: &Protocol{MinReaderVersion: 1, MinWriterVersion: 3}}
		}, func(*Snapshot) Commit { return Commit{Adds: add("l")} }, ProtocolChanged},
		{"a constraint and a blind append", func(s *Snapshot) Commit {
			m := s.Metadata().clone()
			m.Configuration["delta.constraints.small"] = "id < 5"
			return Commit{Base: s, Metadata: m}
		}, func(s *Snapshot) Commit { return Commit{Adds: add("l"), Spec: s.FileSpec()} }, MetadataChanged},
		{"a property and a blind append", func(s *Snapshot) Commit {
			m := s.Metadata().clone()
			m.Configuration["owner"] = "me"
			return Commit{Base: s, Metadata: m}
		}, func(s *Snapshot) Commit { return Commit{Adds: add("l"), Spec: s.FileSpec()} }, ""},
		{"same application", func(*Snapshot) Commit { return Commit{AppID: "a", AppVersion: 1} },
			func(s *Snapshot) Commit { return Commit{Base: s, AppID: "a", AppVersion: 2} }, ConcurrentTransaction},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tbl, store := smallTable(t, clock, nil)
			appendRows(t, tbl, 0, 3)
			appendRows(t, tbl, 10, 3)
			late, err := Open(ctx, store, TableOptions{})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := tbl.Commit(ctx, tt.winner(tbl.Latest())); err != nil {
				t.Fatal(err)
			}
			_, err = late.Commit(ctx, tt.loser(late.Latest()))
			var c *ConflictError
			if errors.As(err, &c); (tt.want == "") != (err == nil) || err != nil && (c == nil || c.Class != tt.want) {
				t.Fatalf("error %v, want class %q", err, tt.want)
			}
		})
	}
}

// Rules of a table hold for every writer, and columns can be renamed and dropped.
func TestRulesAndColumns(t *testing.T) {
	ctx := context.Background()
	clock := &testClock{time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)}
	tbl, _ := smallTable(t, clock, nil)
	appendRows(t, tbl, 0, 10)
	if _, err := tbl.AddConstraint(ctx, "small", "id < 5"); err == nil {
		t.Fatal("a constraint that rows break was added")
	}
	if _, err := tbl.AddConstraint(ctx, "small", "id < 50"); err != nil {
		t.Fatal(err)
	}
	var broken *ConstraintError
	if _, err := tbl.Append(ctx, Batches(interopBatch(45, 10)), WriteOptions{}); !errors.As(err, &broken) {
		t.Fatalf("append over a constraint: %v, want a ConstraintError", err)
	}
	if _, err := tbl.DropConstraint(ctx, "small"); err != nil {
		t.Fatal(err)
	}
	if _, err := tbl.DropColumn(ctx, "name"); err == nil || !strings.Contains(err.Error(), "column mapping") {
		t.Fatalf("drop without mapping: %v, want a refusal", err)
	}
	mode := "name"
	if _, err := tbl.SetProperties(ctx, map[string]*string{"delta.columnMapping.mode": &mode}); err != nil {
		t.Fatal(err)
	}
	if _, err := tbl.RenameColumn(ctx, "price", "cost"); err != nil {
		t.Fatal(err)
	}
	if _, err := tbl.DropColumn(ctx, "name"); err != nil {
		t.Fatal(err)
	}
	s, err := tbl.EvolveSchema(ctx, NewSchema(Col("name", Of(KindLong))))
	if err != nil {
		t.Fatal(err)
	}
	for b, err := range s.Scan(ctx, ScanOptions{}) {
		if err != nil {
			t.Fatal(err)
		}
		if b.Column("cost").Doubles[1] != 0.25 || !b.Column("name").Null(0) {
			t.Fatalf("renamed column %v, new column %v", b.Column("cost").Value(1), b.Column("name").Value(0))
		}
	}
	if _, err := tbl.EvolveSchema(ctx, NewSchema(Col("id", Of(KindString)))); err == nil || !strings.Contains(err.Error(), "cannot become") {
		t.Fatalf("long to string: %v, want a refusal", err)
	}
	if _, err := tbl.Append(ctx, Batches(NewBatch(NewSchema(Col("more", Of(KindLong))))), WriteOptions{}); err == nil {
		t.Fatal("a column that the table lacks was taken")
	}
	on := "true"
	if _, err := tbl.SetProperties(ctx, map[string]*string{"delta.appendOnly": &on}); err != nil {
		t.Fatal(err)
	}
	if _, err := tbl.Delete(ctx, nil); err == nil || !strings.Contains(err.Error(), "append-only") {
		t.Fatalf("delete of an append-only table: %v, want a refusal", err)
	}
}

// A folder of Parquet files becomes a table with the same rows.
func TestConvert(t *testing.T) {
	ctx := context.Background()
	clock := &testClock{time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)}
	tbl, store := smallTable(t, clock, nil)
	appendRows(t, tbl, 0, 20)
	want, err := sumSnapshot(ctx, tbl.Latest(), nil, ScanOptions{})
	if err != nil {
		t.Fatal(err)
	}
	bare := NewMemoryStore(nil)
	for _, a := range tbl.Latest().Files() {
		data, err := store.Get(ctx, a.Path)
		if err != nil {
			t.Fatal(err)
		}
		if err := bare.Put(ctx, "sub/"+a.Path, data); err != nil {
			t.Fatal(err)
		}
	}
	conv, err := Convert(ctx, bare, nil, TableOptions{})
	if err != nil {
		t.Fatal(err)
	}
	got, err := sumSnapshot(ctx, conv.Latest(), nil, ScanOptions{})
	if err != nil || *got != *want {
		t.Fatalf("%v: %v, want %v", err, got, want)
	}
}

// A widened column reads old and new files with the wider type.
func TestTypeWidening(t *testing.T) {
	ctx := context.Background()
	store := NewMemoryStore(nil)
	tbl, err := Create(ctx, store, CreateOptions{Schema: NewSchema(Col("n", Of(KindInteger)), Col("d", DecimalOf(5, 1))), Properties: map[string]string{"delta.enableTypeWidening": "true"}})
	if err != nil {
		t.Fatal(err)
	}
	for i, s := range []*Schema{tbl.Latest().Schema(), NewSchema(Col("n", Of(KindLong)), Col("d", DecimalOf(20, 3)))} {
		b := NewBatch(s)
		if i == 0 {
			b.Columns[0].AppendInt(7)
			b.Columns[1].AppendDecimal(DecimalFromInt64(15))
		} else {
			b.Columns[0].AppendLong(1 << 40)
			b.Columns[1].AppendDecimal(DecimalFromInt64(2500))
		}
		b.Len = 1
		if _, err := tbl.Append(ctx, Batches(b), WriteOptions{MergeSchema: true}); err != nil {
			t.Fatal(err)
		}
	}
	sum := map[string]bool{}
	for r, err := range tbl.Latest().Rows(ctx, ScanOptions{}) {
		if err != nil {
			t.Fatal(err)
		}
		sum[fmt.Sprintf("%v %v", r["n"], r["d"])] = true
	}
	if !sum["7 1.500"] || !sum["1099511627776 2.500"] || len(sum) != 2 {
		t.Fatalf("rows %v", sum)
	}
}

// A shallow clone has the rows of its source and goes its own way.
func TestClone(t *testing.T) {
	ctx := context.Background()
	dir := t.TempDir()
	store := NewFolderStore(dir + "/a b")
	tbl, err := Create(ctx, store, CreateOptions{Schema: interopSchema(), PartitionColumns: []string{"part"}, Properties: map[string]string{"delta.enableDeletionVectors": "true"}})
	if err != nil {
		t.Fatal(err)
	}
	appendRows(t, tbl, 0, 30)
	if _, err := tbl.Delete(ctx, mustExpr(t, "id = 7")); err != nil {
		t.Fatal(err)
	}
	c, err := tbl.Latest().Clone(ctx, NewFolderStore(dir+"/clone"), TableOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Delete(ctx, mustExpr(t, "id = 8")); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Vacuum(ctx, VacuumOptions{None: true, Force: true}); err != nil {
		t.Fatal(err)
	}
	appendRows(t, c, 100, 2)
	if c, err = Open(ctx, c.Store(), TableOptions{}); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		tbl  *Table
		rows int64
	}{{tbl, 29}, {c, 30}} {
		if got, err := sumSnapshot(ctx, tt.tbl.Latest(), nil, ScanOptions{}); err != nil || got.rows != tt.rows {
			t.Fatalf("%v rows, want %d: %v", got, tt.rows, err)
		}
	}
}
