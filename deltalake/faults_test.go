package deltalake_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/weirstream/weir/deltalake"
	"github.com/weirstream/weir/deltalake/storetest"
)

// Both built-in stores keep the promises of Store.
func TestStores(t *testing.T) {
	t.Run("folder", func(t *testing.T) { storetest.Check(t, deltalake.NewFolderStore(t.TempDir())) })
	t.Run("memory", func(t *testing.T) { storetest.Check(t, deltalake.NewMemoryStore(nil)) })
	t.Run("sub", func(t *testing.T) { storetest.Check(t, deltalake.Sub(deltalake.NewMemoryStore(nil), "x/y")) })
}

type numbered struct {
	ID   int64  `delta:"id"`
	Part string `delta:"part"`
}

func numberedSchema() *deltalake.Schema {
	return deltalake.NewSchema(deltalake.Col("id", deltalake.Of(deltalake.KindLong)), deltalake.Col("part", deltalake.Of(deltalake.KindString)))
}

func numberedBatch(t testing.TB, from, n int64) *deltalake.Batch {
	t.Helper()
	var rows []numbered
	for i := from; i < from+n; i++ {
		rows = append(rows, numbered{i, fmt.Sprint("p", i%2)})
	}
	b, err := deltalake.BatchOf(numberedSchema(), rows)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// again repeats a read until no injected fault is in its way.
func again[T any](t testing.TB, do func() (T, error)) T {
	t.Helper()
	for range 1000 {
		v, err := do()
		if err == nil {
			return v
		}
		if !errors.Is(err, storetest.ErrInjected) {
			t.Fatal(err)
		}
	}
	t.Fatal("a thousand injected faults in a row")
	panic("unreachable")
}

// Eight writers race for 1,000 versions over a store that loses answers, refuses
// and cuts reads short: every commit that was reported is there once, with its own
// version, there is no gap, and no other commit is there.
func TestRacingWriters(t *testing.T) {
	ctx := context.Background()
	versions := int64(1000)
	if testing.Short() {
		versions = 200
	}
	clean := deltalake.NewMemoryStore(nil)
	if _, err := deltalake.Create(ctx, clean, deltalake.CreateOptions{Schema: numberedSchema()}); err != nil {
		t.Fatal(err)
	}
	type win struct {
		app     string
		epoch   int64
		version int64
	}
	var mu sync.Mutex
	var wins []win
	var wg sync.WaitGroup
	each := versions / 8
	for w := range 8 {
		wg.Go(func() {
			store := storetest.New(clean, storetest.Faults{Ambiguous: 0.2, Conflict: 0.05, Truncate: 0.05, Seed: uint64(w)})
			tbl := again(t, func() (*deltalake.Table, error) { return deltalake.Open(ctx, store, deltalake.TableOptions{}) })
			app := fmt.Sprint("writer-", w)
			for epoch := int64(1); epoch <= each; epoch++ {
				add := &deltalake.AddFile{Path: fmt.Sprintf("%s-%d.parquet", app, epoch), PartitionValues: map[string]*string{}, Size: 1, DataChange: true}
				for {
					r, err := tbl.Commit(ctx, deltalake.Commit{AppID: app, AppVersion: epoch, Adds: []*deltalake.AddFile{add}})
					if err != nil {
						if !errors.Is(err, storetest.ErrInjected) {
							t.Error(err)
							return
						}
						continue
					}
					if !r.AlreadyCommitted {
						mu.Lock()
						wins = append(wins, win{app, epoch, r.Version})
						mu.Unlock()
					}
					break
				}
			}
		})
	}
	wg.Wait()
	tbl, err := deltalake.Open(ctx, clean, deltalake.TableOptions{})
	if err != nil {
		t.Fatal(err)
	}
	s := tbl.Latest()
	if s.Version() != 8*each || int64(s.NumFiles()) != 8*each {
		t.Fatalf("version %d with %d files, want %d of both", s.Version(), s.NumFiles(), 8*each)
	}
	seen := map[int64]bool{}
	for _, w := range wins {
		if seen[w.version] {
			t.Fatalf("version %d was reported twice", w.version)
		}
		seen[w.version] = true
	}
	for v := int64(1); v <= s.Version(); v++ {
		if _, err := clean.Stat(ctx, fmt.Sprintf("_delta_log/%020d.json", v)); err != nil {
			t.Fatalf("version %d: %v", v, err)
		}
	}
	for app, v := range s.Txns() {
		if v != each {
			t.Fatalf("%s is at %d, want %d", app, v, each)
		}
	}
}

// ids reads the sorted set of rows as a text.
func ids(ctx context.Context, s *deltalake.Snapshot) (string, error) {
	out := map[int64]int{}
	for r, err := range deltalake.Read[numbered](ctx, s, deltalake.ScanOptions{}) {
		if err != nil {
			return "", err
		}
		out[r.ID]++
	}
	return fmt.Sprint(out), nil // maps print in key order
}

func rowsNow(t *testing.T, store deltalake.Store) string {
	t.Helper()
	tbl, err := deltalake.Open(context.Background(), store, deltalake.TableOptions{})
	if err != nil {
		t.Fatal(err)
	}
	text, err := ids(context.Background(), tbl.Latest())
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// A crash at any store call of any operation leaves the table at the old or at
// the new version, and the next operation works.
func TestCrashAtEveryCall(t *testing.T) {
	ctx := context.Background()
	expr := func(text string) *deltalake.Expr {
		e, err := deltalake.ParseExpr(text)
		if err != nil {
			t.Fatal(err)
		}
		return e
	}
	setup := func(props map[string]string) *deltalake.MemoryStore {
		store := deltalake.NewMemoryStore(nil)
		tbl, err := deltalake.Create(ctx, store, deltalake.CreateOptions{Schema: numberedSchema(), PartitionColumns: []string{"part"}, Properties: props})
		if err != nil {
			t.Fatal(err)
		}
		for i := range int64(9) { // the next commit writes a Delta checkpoint
			if i == 8 {
				_, err = tbl.Delete(ctx, expr("id = 1"))
			} else {
				_, err = tbl.Append(ctx, deltalake.Batches(numberedBatch(t, i*4, 4)), deltalake.WriteOptions{})
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		return store
	}
	ops := map[string]func(*deltalake.Table) error{
		"append": func(tbl *deltalake.Table) error {
			_, err := tbl.Append(ctx, deltalake.Batches(numberedBatch(t, 100, 5)), deltalake.WriteOptions{})
			return err
		},
		"overwrite": func(tbl *deltalake.Table) error {
			_, err := tbl.Overwrite(ctx, deltalake.Batches(numberedBatch(t, 100, 5)), deltalake.OverwriteOptions{})
			return err
		},
		"replaceWhere": func(tbl *deltalake.Table) error {
			_, err := tbl.Overwrite(ctx, deltalake.Batches(numberedBatch(t, 100, 5)), deltalake.OverwriteOptions{Where: expr("id >= 20")})
			return err
		},
		"delete": func(tbl *deltalake.Table) error { _, err := tbl.Delete(ctx, expr("id % 3 = 0")); return err },
		"update": func(tbl *deltalake.Table) error {
			_, err := tbl.Update(ctx, map[string]*deltalake.Expr{"id": expr("id + 1000")}, expr("id < 9"))
			return err
		},
		"merge": func(tbl *deltalake.Table) error {
			_, err := tbl.Merge(ctx, deltalake.Merge{Source: deltalake.Batches(numberedBatch(t, 30, 10)), On: expr("target.id = source.id"),
				Clauses: []deltalake.MergeClause{{Action: deltalake.MatchedDelete}, {Action: deltalake.NotMatchedInsert}}})
			return err
		},
		"optimize": func(tbl *deltalake.Table) error { _, err := tbl.Optimize(ctx, deltalake.OptimizeOptions{}); return err },
		"compact": func(tbl *deltalake.Table) error {
			_, err := tbl.Compact(ctx, deltalake.CompactOptions{MinFiles: 2})
			return err
		},
		"restore":    func(tbl *deltalake.Table) error { _, err := tbl.Restore(ctx, 4); return err },
		"checkpoint": func(tbl *deltalake.Table) error { return tbl.WriteCheckpoint(ctx, tbl.Latest()) },
		"vacuum": func(tbl *deltalake.Table) error {
			_, err := tbl.Vacuum(ctx, deltalake.VacuumOptions{None: true, Force: true})
			return err
		},
		"properties": func(tbl *deltalake.Table) error {
			v := "7"
			_, err := tbl.SetProperties(ctx, map[string]*string{"delta.checkpointInterval": &v})
			return err
		},
	}
	ops["track rows"] = func(tbl *deltalake.Table) error {
		on := "true"
		_, err := tbl.SetProperties(ctx, map[string]*string{"delta.enableRowTracking": &on})
		return err
	}
	for _, props := range []map[string]string{{}, {"delta.enableDeletionVectors": "true", "delta.enableChangeDataFeed": "true", "delta.enableRowTracking": "true"}} {
		for name, op := range ops {
			t.Run(fmt.Sprintf("%s/%d", name, len(props)), func(t *testing.T) {
				t.Parallel()
				clean := setup(props)
				before := rowsNow(t, clean)
				open := storetest.New(clean, storetest.Faults{})
				tbl, err := deltalake.Open(ctx, open, deltalake.TableOptions{})
				if err != nil {
					t.Fatal(err)
				}
				from := open.Calls()
				if err := op(tbl); err != nil {
					t.Fatal(err)
				}
				calls := open.Calls() - from
				after := rowsNow(t, clean)
				for k := 1; k <= calls; k++ {
					for _, late := range []bool{false, true} {
						store := setup(props)
						bad := storetest.New(store, storetest.Faults{DieAt: from + k, DieAfter: late})
						tbl, err := deltalake.Open(ctx, bad, deltalake.TableOptions{Patience: time.Nanosecond})
						if err != nil {
							t.Fatal(err)
						}
						failed := op(tbl)
						if got := rowsNow(t, store); got != before && got != after {
							t.Fatalf("dead at call %d of %d (late %v): rows %s, want %s or %s", k, calls, late, got, before, after)
						} else if failed == nil && got != after {
							t.Fatalf("dead at call %d: reported as done, but is not", k)
						}
						next, err := deltalake.Open(ctx, store, deltalake.TableOptions{})
						if err != nil {
							t.Fatal(err)
						}
						if err := op(next); err != nil {
							t.Fatalf("after a death at call %d: %v", k, err)
						}
						if _, err := next.Append(ctx, deltalake.Batches(numberedBatch(t, 500, 1)), deltalake.WriteOptions{}); err != nil {
							t.Fatalf("after a death at call %d: %v", k, err)
						}
						rowsNow(t, store)
					}
				}
			})
		}
	}
}
