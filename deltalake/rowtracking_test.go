package deltalake

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
)

// tracked is what row tracking knows of one row.
type trackedRow struct {
	val, id, version int64
}

type trackedModel map[int64]trackedRow // by key

func trackedBatch(rows map[int64]int64) *Batch {
	b := NewBatch(NewSchema(Col("key", Of(KindLong)), Col("val", Of(KindLong)), Col("part", Of(KindInteger))))
	for k, v := range rows {
		b.Columns[0].AppendLong(k)
		b.Columns[1].AppendLong(v)
		b.Columns[2].AppendInt(int32(k % 3))
		b.Len++
	}
	return b
}

// readTracked reads all rows with their ids, and fails where an id comes twice.
func readTracked(t *testing.T, s *Snapshot) trackedModel {
	t.Helper()
	out, seen := trackedModel{}, map[int64]bool{}
	mark, err := s.rowMark()
	if err != nil {
		t.Fatal(err)
	}
	for b, err := range s.Scan(context.Background(), ScanOptions{Columns: []string{"key", "val"}, RowIDs: true}) {
		if err != nil {
			t.Fatal(err)
		}
		for i := range b.Len {
			k, id := b.Columns[0].Longs[i], b.Column(RowID).Longs[i]
			if seen[id] || id > mark {
				t.Fatalf("row id %d comes twice or is above the mark %d", id, mark)
			}
			seen[id] = true
			out[k] = trackedRow{b.Columns[1].Longs[i], id, b.Column(RowCommitVersion).Longs[i]}
		}
	}
	return out
}

// Row ids and commit versions follow a naive model through every operation: new
// rows get ids that were never used, updated ones the commit's version, and copied
// ones keep both.
func TestRowTrackingModel(t *testing.T) {
	ctx := context.Background()
	for _, props := range []map[string]string{
		{}, {"delta.enableDeletionVectors": "true"}, {"delta.enableChangeDataFeed": "true", "delta.columnMapping.mode": "name"},
		{"delta.enableDeletionVectors": "true", "delta.columnMapping.mode": "id", "delta.enableChangeDataFeed": "true", "delta.checkpointInterval": "5"},
	} {
		for seed := range uint64(4) {
			t.Run(fmt.Sprint(len(props), "/", seed), func(t *testing.T) {
				rng := rand.New(rand.NewPCG(seed, 7))
				store := NewMemoryStore(nil)
				conf := maps.Clone(props)
				late := seed == 3 // turned on for a table that has rows
				if !late {
					conf["delta.enableRowTracking"] = "true"
				}
				tbl, err := Create(ctx, store, CreateOptions{Schema: trackedBatch(nil).Schema, PartitionColumns: []string{"part"}, Properties: conf})
				if err != nil {
					t.Fatal(err)
				}
				next := int64(0)
				fresh := func(n int) map[int64]int64 {
					rows := map[int64]int64{}
					for range n {
						rows[next] = rng.Int64N(100)
						next++
					}
					return rows
				}
				if late {
					for range 3 {
						if _, err := tbl.Append(ctx, Batches(trackedBatch(fresh(9))), WriteOptions{}); err != nil {
							t.Fatal(err)
						}
					}
					on := "true"
					if _, err := tbl.SetProperties(ctx, map[string]*string{"delta.enableRowTracking": &on}); err != nil {
						t.Fatal(err)
					}
				}
				model := readTracked(t, tbl.Latest())
				if late && len(model) != 27 {
					t.Fatalf("%d rows after the backfill", len(model))
				}
				used := map[int64]bool{}
				for _, r := range model {
					used[r.id] = true
				}
				history := map[int64]trackedModel{tbl.Latest().Version(): maps.Clone(model)}
				check := func(what string, want trackedModel, inserted map[int64]int64) {
					t.Helper()
					if tbl, err = Open(ctx, store, TableOptions{}); err != nil {
						t.Fatal(err)
					}
					s := tbl.Latest()
					got := readTracked(t, s)
					for k, v := range inserted {
						r := got[k]
						if r.val != v || used[r.id] || r.version != s.Version() {
							t.Fatalf("%s at version %d: new row %d is %+v (id used before: %v)", what, s.Version(), k, r, used[r.id])
						}
						used[r.id] = true
						want[k] = r
					}
					if !maps.Equal(got, want) {
						t.Fatalf("%s at version %d:\n got %v\nwant %v", what, s.Version(), got, want)
					}
					model = want
					history[s.Version()] = maps.Clone(want)
				}
				for range 14 {
					want := maps.Clone(model)
					cut := rng.Int64N(next + 1)
					then := tbl.Latest().Version() + 1
					switch what := []string{"append", "update", "delete", "merge", "merge", "optimize", "zorder", "replace", "restore"}[rng.IntN(9)]; what {
					case "append":
						rows := fresh(1 + rng.IntN(8))
						if _, err := tbl.Append(ctx, Batches(trackedBatch(rows)), WriteOptions{}); err != nil {
							t.Fatal(err)
						}
						check(what, want, rows)
					case "update":
						if _, err := tbl.Update(ctx, map[string]*Expr{"val": mustExpr(t, "val + 1")}, mustExpr(t, fmt.Sprintf("key %% 4 = %d", cut%4))); err != nil {
							t.Fatal(err)
						}
						for k, r := range want {
							if k%4 == cut%4 {
								want[k] = trackedRow{r.val + 1, r.id, then}
							}
						}
						check(what, want, nil)
					case "delete":
						if _, err := tbl.Delete(ctx, mustExpr(t, fmt.Sprintf("key %% 7 = %d", cut%7))); err != nil {
							t.Fatal(err)
						}
						maps.DeleteFunc(want, func(k int64, _ trackedRow) bool { return k%7 == cut%7 })
						check(what, want, nil)
					case "merge":
						source := map[int64]int64{}
						for k := range model {
							if k%5 == cut%5 || k%5 == (cut+1)%5 {
								source[k] = 1000 + k
							}
						}
						inserted := fresh(2)
						maps.Copy(source, inserted)
						clauses := []MergeClause{{Action: MatchedDelete, If: mustExpr(t, fmt.Sprintf("target.key %% 5 = %d", cut%5))}, {Action: MatchedUpdate}, {Action: NotMatchedInsert}}
						bySource := rng.IntN(2) == 0
						if bySource {
							clauses = append(clauses, MergeClause{Action: NotMatchedBySourceUpdate, If: mustExpr(t, "target.key % 11 = 3"), Set: map[string]*Expr{"val": mustExpr(t, "-1")}})
						}
						if _, err := tbl.Merge(ctx, Merge{Source: Batches(trackedBatch(source)), On: mustExpr(t, "target.key = source.key"), Clauses: clauses}); err != nil {
							t.Fatal(err)
						}
						for k, r := range want {
							switch {
							case k%5 == cut%5:
								delete(want, k)
							case k%5 == (cut+1)%5:
								want[k] = trackedRow{1000 + k, r.id, then}
							case bySource && k%11 == 3:
								want[k] = trackedRow{-1, r.id, then}
							}
						}
						check(what, want, inserted)
					case "optimize", "zorder":
						var o OptimizeOptions
						if what == "zorder" {
							o.ZOrder = []string{"val"}
						}
						if _, err := tbl.Optimize(ctx, o); err != nil {
							t.Fatal(err)
						}
						check(what, want, nil)
					case "replace":
						rows := map[int64]int64{}
						for k := range model {
							if k%6 == cut%6 {
								delete(want, k)
							}
						}
						for k, v := range fresh(6) {
							if k%6 == cut%6 {
								rows[k] = v
							}
						}
						if _, err := tbl.Overwrite(ctx, Batches(trackedBatch(rows)), OverwriteOptions{Where: mustExpr(t, fmt.Sprintf("key %% 6 = %d", cut%6))}); err != nil {
							t.Fatal(err)
						}
						check(what, want, rows)
					case "restore":
						versions := slices.Sorted(maps.Keys(history))
						v := versions[rng.IntN(len(versions))]
						if _, err := tbl.Restore(ctx, v); err != nil {
							t.Fatal(err)
						}
						check(what, maps.Clone(history[v]), nil)
					}
				}
			})
		}
	}
}

// Racing writers are given ids that do not overlap, and the mark covers them all.
func TestRowTrackingRace(t *testing.T) {
	ctx := context.Background()
	store := NewMemoryStore(nil)
	if _, err := Create(ctx, store, CreateOptions{Schema: trackedBatch(nil).Schema, Properties: map[string]string{"delta.enableRowTracking": "true"}}); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	errs := make(chan error, 8)
	for w := range int64(8) {
		wg.Go(func() {
			tbl, err := Open(ctx, store, TableOptions{})
			for r := int64(0); r < 5 && err == nil; r++ {
				_, err = tbl.Append(ctx, Batches(trackedBatch(map[int64]int64{w*100 + r*2: 1, w*100 + r*2 + 1: 2})), WriteOptions{})
			}
			errs <- err
		})
	}
	wg.Wait()
	for range 8 {
		if err := <-errs; err != nil {
			t.Fatal(err)
		}
	}
	tbl, err := Open(ctx, store, TableOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if rows := readTracked(t, tbl.Latest()); len(rows) != 80 {
		t.Fatalf("%d rows", len(rows))
	}
	if mark, err := tbl.Latest().rowMark(); err != nil || mark != 79 {
		t.Fatalf("mark %d %v, want 79", mark, err)
	}
}

// What row tracking cannot promise is refused in one sentence, before a commit.
func TestRowTrackingRefusals(t *testing.T) {
	ctx := context.Background()
	store := NewMemoryStore(nil)
	tbl, err := Create(ctx, store, CreateOptions{Schema: trackedBatch(nil).Schema})
	if err != nil {
		t.Fatal(err)
	}
	for range tbl.Latest().Scan(ctx, ScanOptions{RowIDs: true}) {
	}
	for b, err := range tbl.Latest().Scan(ctx, ScanOptions{RowIDs: true}) {
		if err == nil || !strings.Contains(err.Error(), rowTrackingProperty) {
			t.Fatal(b, err)
		}
	}
	bare := writeTracked(t, tbl)
	bare.Stats = ""
	if _, err := tbl.Commit(ctx, Commit{Adds: []*AddFile{bare}}); err != nil {
		t.Fatal(err)
	}
	on, name, bad := "true", "x", "maybe"
	for _, props := range []map[string]*string{{rowTrackingProperty: &on}, {rowIDProperty: &name}, {suspendedProperty: &on, rowTrackingProperty: &on}, {rowTrackingProperty: &bad}, {suspendedProperty: &bad}} {
		if _, err := tbl.SetProperties(ctx, props); err == nil || strings.Contains(err.Error(), "\n") {
			t.Errorf("%v: %v, want one sentence", jsonText(props), err)
		}
	}
	if _, err := tbl.Commit(ctx, Commit{Domains: []DomainMetadata{{Domain: rowTrackingDomain, Configuration: "{}"}}}); err == nil {
		t.Error("a commit may set the mark")
	}
	if tbl.Latest().Version() != 1 || tbl.Latest().Protocol().MinWriterVersion != 2 {
		t.Fatal("a refusal left something")
	}
}

func writeTracked(t *testing.T, tbl *Table) *AddFile {
	t.Helper()
	w, err := NewFileWriter(context.Background(), tbl.Store(), tbl.Latest().FileSpec(), nil, FileOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Write(trackedBatch(map[int64]int64{1: 1})); err != nil {
		t.Fatal(err)
	}
	a, err := w.Close()
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// While row tracking is suspended new files have no row ids and the mark stays; when
// it is turned on again, every row gets an id that none had before.
func TestRowTrackingSuspended(t *testing.T) {
	ctx := context.Background()
	for _, vectors := range []string{"false", "true"} {
		t.Run("vectors "+vectors, func(t *testing.T) {
			tbl, err := Create(ctx, NewMemoryStore(nil), CreateOptions{Schema: trackedBatch(nil).Schema,
				Properties: map[string]string{rowTrackingProperty: "true", "delta.enableDeletionVectors": vectors}})
			check := func(err error) {
				t.Helper()
				if err != nil {
					t.Fatal(err)
				}
			}
			check(err)
			add := func(from int64) {
				t.Helper()
				_, err := tbl.Append(ctx, Batches(trackedBatch(map[int64]int64{from: 1, from + 1: 1, from + 2: 1})), WriteOptions{})
				check(err)
			}
			set := func(tracks, suspended string) error {
				_, err := tbl.SetProperties(ctx, map[string]*string{rowTrackingProperty: &tracks, suspendedProperty: &suspended})
				return err
			}
			add(0)
			check(set("false", "true"))
			add(10)
			_, err = tbl.Update(ctx, map[string]*Expr{"val": mustExpr(t, "7")}, mustExpr(t, "key = 10"))
			check(err)
			_, err = tbl.Delete(ctx, mustExpr(t, "key = 0 OR key = 11"))
			check(err)
			with := 0
			for _, a := range tbl.Latest().Files() {
				if (a.BaseRowID == nil) != (a.DefaultRowCommitVersion == nil) {
					t.Errorf("half an id: %v", jsonText(a))
				}
				if a.BaseRowID != nil {
					with++
				}
			}
			if want := truth(vectors == "true"); with != want {
				t.Errorf("%d files with row ids, want %d", with, want)
			}
			if mark, err := tbl.Latest().rowMark(); err != nil || mark != 2 {
				t.Errorf("mark %d, %v, want 2", mark, err)
			}
			if err := set("true", "true"); err == nil || !strings.Contains(err.Error(), "cannot both be true") {
				t.Errorf("both: %v", err)
			}
			check(set("true", "false"))
			add(20)
			if rows := readTracked(t, tbl.Latest()); len(rows) != 7 {
				t.Errorf("rows %v, want 7 with ids of their own", rows)
			}
			if p, err := tbl.Fsck(ctx); err != nil || len(p) > 0 {
				t.Error(p, err)
			}
		})
	}
}
