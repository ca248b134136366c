package deltalake

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"
)

// A table that small files are added to for ever holds few of them, and each row is
// rewritten only about as often as its file can double.
func TestLikeSizedBounds(t *testing.T) {
	for _, tt := range []struct {
		name string
		size func(r *rand.Rand) int64
		most float64 // times a byte is rewritten
	}{
		{"equal", func(*rand.Rand) int64 { return 10 << 10 }, 12},
		{"random", func(r *rand.Rand) int64 { return 1<<10 + r.Int64N(100<<10) }, 12},
		{"wild", func(r *rand.Rand) int64 { return 1 << (4 + r.IntN(20)) }, 8},
		{"large", func(r *rand.Rand) int64 { return 40<<20 + r.Int64N(20<<20) }, 3},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := rand.New(rand.NewPCG(1, 2))
			s := &Snapshot{files: newFileSet(), metadata: &Metadata{}}
			o, err := CompactOptions{}.filled(s.metadata)
			if err != nil {
				t.Fatal(err)
			}
			added, written, most, name := int64(0), int64(0), 0, 0
			add := func(size int64) {
				name++
				a := &AddFile{Path: fmt.Sprint(name), Size: size}
				s.files.set(a.key(), a)
			}
			for range 5000 {
				size := tt.size(r)
				added += size
				add(size)
				for bins := s.likeSized(o); len(bins) > 0; bins = s.likeSized(o) {
					for _, bin := range bins {
						sum := int64(0)
						for _, a := range bin {
							sum += a.Size
							s.files.del(a.key())
						}
						written += sum
						add(sum)
					}
				}
				small := 0
				for a := range s.files.all() {
					if a.Size < o.TargetBytes/2 {
						small++
					}
				}
				most = max(most, small)
			}
			times := float64(written) / float64(added)
			t.Logf("at most %d small files, each byte rewritten %.1f times, %d files at the end", most, times, s.files.len())
			if most > 60 || times > tt.most {
				t.Errorf("at most %d small files, want at most 60; each byte rewritten %.1f times, want at most %.1f", most, times, tt.most)
			}
		})
	}
}

// Compactions beside appends and deletes lose and double nothing, yield to deletes
// of the same files, and never make an append fail.
func TestCompactBesideWriters(t *testing.T) {
	ctx := context.Background()
	schema := NewSchema(Col("id", Of(KindLong)), Col("part", Of(KindInteger)))
	store := NewMemoryStore(nil)
	_, err := Create(ctx, store, CreateOptions{Schema: schema, PartitionColumns: []string{"part"}, Table: TableOptions{NoAutoCompact: true}})
	if err != nil {
		t.Fatal(err)
	}
	const writers, each = 4, 60
	var writing, others sync.WaitGroup
	over := make(chan struct{})
	for w := range writers {
		writing.Go(func() {
			own, err := Open(ctx, store, TableOptions{NoAutoCompact: true})
			if err != nil {
				t.Error(err)
				return
			}
			for i := range each {
				b := NewBatch(schema)
				for k := range 3 {
					b.Columns[0].AppendLong(int64(w*10_000 + i*3 + k))
					b.Columns[1].AppendInt(int32(k % 2))
					b.Len++
				}
				if _, err := own.Append(ctx, Batches(b), WriteOptions{AppID: fmt.Sprint(w), AppVersion: int64(i + 1)}); err != nil {
					t.Errorf("append %d of %d: %v", i, w, err)
				}
			}
		})
	}
	merged, yielded, deleted := 0, 0, map[int64]bool{}
	others.Go(func() {
		own, err := Open(ctx, store, TableOptions{NoAutoCompact: true})
		for err == nil {
			select {
			case <-over:
				return
			default:
			}
			var m *Metrics
			var conflict *ConflictError
			switch m, err = own.Compact(ctx, CompactOptions{MinFiles: 3}); {
			case errors.As(err, &conflict):
				yielded, err = yielded+1, nil
			case err == nil && m.Committed:
				merged++
			}
		}
		t.Error(err)
	})
	others.Go(func() {
		own, err := Open(ctx, store, TableOptions{NoAutoCompact: true})
		for i := 0; err == nil; i++ {
			select {
			case <-over:
				return
			default:
			}
			id, m := int64(i%writers*10_000+i/writers%(each*3)), (*Metrics)(nil)
			if m, err = own.Delete(ctx, mustExpr(t, fmt.Sprintf("id = %d", id))); err == nil && m.RowsDeleted > 0 {
				deleted[id] = true
			}
		}
		t.Error(err)
	})
	writing.Wait()
	close(over)
	others.Wait()
	now, err := Open(ctx, store, TableOptions{NoAutoCompact: true})
	if err != nil {
		t.Fatal(err)
	}
	for more := true; more; { // nobody is in the way now
		m, err := now.Compact(ctx, CompactOptions{MinFiles: 3})
		if err != nil {
			t.Fatal(err)
		}
		if more = m.Committed; more {
			merged++
		}
	}
	var got []int64
	for b, err := range now.Latest().Scan(ctx, ScanOptions{Columns: []string{"id"}}) {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, b.Columns[0].Longs...)
	}
	slices.Sort(got)
	if n := len(slices.Compact(slices.Clone(got))); n != len(got) {
		t.Errorf("%d rows, %d distinct", len(got), n)
	}
	for w := range writers {
		for k := range int64(each * 3) {
			id := int64(w)*10_000 + k
			if _, there := slices.BinarySearch(got, id); there == deleted[id] {
				t.Fatalf("row %d: there %v, deleted %v", id, there, deleted[id])
			}
		}
	}
	if len(got)+len(deleted) != writers*each*3 {
		t.Errorf("%d rows and %d deletes, want %d", len(got), len(deleted), writers*each*3)
	}
	t.Logf("%d merges, %d yielded, %d deletes, %d files of %d are left", merged, yielded, len(deleted), now.Latest().NumFiles(), writers*each*2)
	if n := now.Latest().NumFiles(); merged == 0 || n > 40 {
		t.Errorf("%d files are left after %d merges", n, merged)
	}
	orphans := 0
	live := map[string]bool{}
	for v := int64(0); v <= now.Latest().Version(); v++ {
		actions, err := now.commitAt(ctx, v)
		if err != nil {
			t.Fatal(err)
		}
		for i := range actions {
			if a := actions[i].Add; a != nil {
				live[decodePath(a.Path)] = true
			}
		}
	}
	for o, err := range store.List(ctx, "part=", "") {
		if err != nil {
			t.Fatal(err)
		}
		if !live[o.Path] {
			orphans++
		}
	}
	if orphans > 0 {
		t.Errorf("%d files were left behind by those that gave way", orphans)
	}
}

// A table that is kept open while files come and go for weeks forgets tombstones
// that are older than it has to remember, and does not remember what was in the files.
func TestTombstonesAreForgotten(t *testing.T) {
	ctx := context.Background()
	clock := &testClock{time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)}
	tbl, _ := smallTable(t, clock, map[string]string{"delta.deletedFileRetentionDuration": "interval 1 days"})
	var last *AddFile
	for i := range 1000 {
		clock.at = clock.at.Add(10 * time.Minute)
		a := &AddFile{Path: fmt.Sprint("f", i), Size: 1, DataChange: true, PartitionValues: map[string]*string{}, Stats: `{"numRecords":1}`}
		for _, c := range tbl.Latest().metadata.PartitionColumns {
			a.PartitionValues[c] = nil
		}
		c := Commit{Adds: []*AddFile{a}, Base: tbl.Latest()}
		if last != nil {
			r := last.remove(clock.at.UnixMilli(), true)
			c.Removes = []*RemoveFile{&r}
		}
		if _, err := tbl.Commit(ctx, c); err != nil {
			t.Fatal(err)
		}
		last = a
	}
	s := tbl.Latest()
	if n := s.removes.len(); n < 24*6 || n > 2*24*6 {
		t.Errorf("%d tombstones are in memory, want those of a day (144) and a few", n)
	}
	for r := range s.removes.all() {
		if r.Stats != "" {
			t.Fatal("a tombstone has statistics")
		}
	}
}
