package deltalake

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
)

// hookedStore lets a test act at a write, or fail it.
type hookedStore struct {
	Store
	hook func(path string) error // before Create, Put and PutIfAbsent
}

func (s *hookedStore) Create(ctx context.Context, path string) (ObjectWriter, error) {
	if err := s.hook(path); err != nil {
		return nil, err
	}
	return s.Store.Create(ctx, path)
}

func (s *hookedStore) Put(ctx context.Context, path string, data []byte) error {
	if err := s.hook(path); err != nil {
		return err
	}
	return s.Store.Put(ctx, path, data)
}

func (s *hookedStore) PutIfAbsent(ctx context.Context, path string, data []byte) error {
	if err := s.hook(path); err != nil {
		return err
	}
	return s.Store.PutIfAbsent(ctx, path, data)
}

// leftovers lists the files of a table that no commit of its log names.
func leftovers(t *testing.T, store Store) []string {
	t.Helper()
	ctx := context.Background()
	tbl, err := Open(ctx, store, TableOptions{})
	if err != nil {
		t.Fatal(err)
	}
	named := map[string]bool{}
	vector := func(d *DeletionVector) {
		if d != nil && d.StorageType == "u" {
			file, err := d.file()
			if err != nil {
				t.Fatal(err)
			}
			named[file] = true
		}
	}
	for v := range tbl.Latest().Version() + 1 {
		actions, err := tbl.commitAt(ctx, v)
		if err != nil {
			t.Fatal(err)
		}
		for _, a := range actions {
			switch {
			case a.Add != nil:
				named[decodePath(a.Add.Path)] = true
				vector(a.Add.DeletionVector)
			case a.Change != nil:
				named[decodePath(a.Change.Path)] = true
			}
		}
	}
	var out []string
	for info, err := range store.List(ctx, "", "") {
		if err != nil {
			t.Fatal(err)
		}
		if !strings.HasPrefix(info.Path, logDir) && !named[info.Path] {
			out = append(out, info.Path)
		}
	}
	return out
}

// An operation that fails, or that is done again after a conflict, leaves no file
// behind: no data file, no change file, no deletion vector.
func TestNothingLeftBehind(t *testing.T) {
	ctx := context.Background()
	rows := func(lo, hi int64) *Batch {
		var out []partedRow
		for id := lo; id < hi; id++ {
			out = append(out, partedRow{id, fmt.Sprint("p", id%2)})
		}
		return partedBatch(t, out...)
	}
	ops := map[string]func(*Table) error{
		"append": func(tbl *Table) error {
			_, err := tbl.Append(ctx, Batches(rows(20, 30)), WriteOptions{})
			return err
		},
		"overwrite": func(tbl *Table) error {
			_, err := tbl.Overwrite(ctx, Batches(rows(20, 30)), OverwriteOptions{})
			return err
		},
		"dynamic": func(tbl *Table) error {
			_, err := tbl.Overwrite(ctx, Batches(rows(20, 30)), OverwriteOptions{Dynamic: true})
			return err
		},
		"replaceWhere": func(tbl *Table) error {
			_, err := tbl.Overwrite(ctx, Batches(rows(5, 8)), OverwriteOptions{Where: mustExpr(t, "id >= 4 AND id < 8")})
			return err
		},
		"delete": func(tbl *Table) error {
			_, err := tbl.Delete(ctx, mustExpr(t, "id % 4 < 2"))
			return err
		},
		"update": func(tbl *Table) error {
			_, err := tbl.Update(ctx, map[string]*Expr{"id": mustExpr(t, "id + 100")}, mustExpr(t, "id % 4 < 2"))
			return err
		},
		"merge": func(tbl *Table) error {
			_, err := tbl.Merge(ctx, Merge{Source: Batches(rows(4, 14)), On: mustExpr(t, "target.id = source.id"),
				Clauses: []MergeClause{{Action: MatchedDelete, If: mustExpr(t, "source.id % 4 = 1")}, {Action: MatchedUpdate}, {Action: NotMatchedInsert}}})
			return err
		},
		"optimize": func(tbl *Table) error {
			_, err := tbl.Optimize(ctx, OptimizeOptions{})
			return err
		},
	}
	disk := errors.New("no space left")
	for props, p := range map[string]map[string]string{"plain": {}, "feed": {"delta.enableChangeDataFeed": "true"},
		"vectors": {"delta.enableDeletionVectors": "true"}, "both": {"delta.enableChangeDataFeed": "true", "delta.enableDeletionVectors": "true"}} {
		for _, op := range slices.Sorted(maps.Keys(ops)) {
			setup := func() Store {
				store := NewMemoryStore(nil)
				tbl, err := Create(ctx, store, CreateOptions{Schema: partedSchema(), PartitionColumns: []string{"part"}, Properties: p})
				for lo := int64(0); lo < 12 && err == nil; lo += 4 {
					_, err = tbl.Append(ctx, Batches(rows(lo, lo+4)), WriteOptions{})
				}
				if err != nil {
					t.Fatal(err)
				}
				return store
			}
			open := func(store Store, hook func(string) error) *Table {
				tbl, err := Open(ctx, &hookedStore{store, hook}, TableOptions{})
				if err != nil {
					t.Fatal(err)
				}
				return tbl
			}
			t.Run(op+"/"+props, func(t *testing.T) {
				// The k-th write of a data file fails.
				for k := 0; ; k++ {
					store, n := setup(), 0
					err := ops[op](open(store, func(path string) error {
						if !strings.HasPrefix(path, logDir) {
							if n++; n > k {
								return disk
							}
						}
						return nil
					}))
					if left := leftovers(t, store); len(left) > 0 {
						t.Fatalf("%v after write %d: left %v", err, k, left)
					}
					if err == nil {
						break
					}
					if !errors.Is(err, disk) {
						t.Fatal(err)
					}
				}
				// Another writer removes what the operation read, when it is about to commit.
				store, other := setup(), false
				err := ops[op](open(store, func(path string) error {
					if !strings.HasSuffix(path, ".json") || other {
						return nil
					}
					other = true
					_, err := open(store, func(string) error { return nil }).Overwrite(ctx, Batches(rows(0, 12)), OverwriteOptions{})
					return err
				}))
				var conflict *ConflictError
				if err != nil && !errors.As(err, &conflict) {
					t.Fatal(err)
				}
				if left := leftovers(t, store); len(left) > 0 || !other {
					t.Fatalf("after a conflict (%v): left %v", err, left)
				}
			})
		}
	}
}
