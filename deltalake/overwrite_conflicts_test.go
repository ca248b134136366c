package deltalake

import (
	"context"
	"errors"
	"iter"
	"strings"
	"testing"
)

type partedRow struct {
	ID   int64  `delta:"id"`
	Part string `delta:"part"`
}

func partedBatch(t *testing.T, rows ...partedRow) *Batch {
	t.Helper()
	b, err := BatchOf(partedSchema(), rows)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func partedSchema() *Schema {
	return NewSchema(Col("id", Of(KindLong)), Col("part", Of(KindString)))
}

// An overwrite of partitions reads what it replaces: rows that come there meanwhile
// are a conflict, unless they are a blind append and the table is WriteSerializable.
func TestOverwriteConflicts(t *testing.T) {
	ctx := context.Background()
	for _, tt := range []struct {
		name  string
		props map[string]string
		part  string // that the other writer appends to
		where string // "" for a dynamic overwrite
		want  ConflictClass
	}{
		{"dynamic, same partition", nil, "a", "", ConcurrentAppend},
		{"dynamic, other partition", nil, "b", "", ""},
		{"dynamic, write serializable", map[string]string{"delta.isolationLevel": "WriteSerializable"}, "a", "", ""},
		{"condition, same partition", nil, "a", "part = 'a'", ConcurrentAppend},
		{"condition, other partition", nil, "b", "part = 'a'", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tbl, err := Create(ctx, NewMemoryStore(nil), CreateOptions{Schema: partedSchema(), PartitionColumns: []string{"part"}, Properties: tt.props})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := tbl.Append(ctx, Batches(partedBatch(t, partedRow{1, "a"}, partedRow{2, "b"})), WriteOptions{}); err != nil {
				t.Fatal(err)
			}
			// The other writer commits while the source is read.
			var source iter.Seq2[*Batch, error] = func(yield func(*Batch, error) bool) {
				_, err := tbl.Append(ctx, Batches(partedBatch(t, partedRow{3, tt.part})), WriteOptions{})
				yield(partedBatch(t, partedRow{4, "a"}), err)
			}
			o := OverwriteOptions{Dynamic: tt.where == ""}
			if tt.where != "" {
				o.Where = mustExpr(t, tt.where)
			}
			_, err = tbl.Overwrite(ctx, source, o)
			var c *ConflictError
			if errors.As(err, &c); (tt.want == "") != (err == nil) || err != nil && (c == nil || c.Class != tt.want) {
				t.Fatalf("error %v, want class %q", err, tt.want)
			}
		})
	}
}

var errFull = errors.New("the store is full")

// fullStore refuses change files after some.
type fullStore struct {
	Store
	left int
}

func (f *fullStore) Create(ctx context.Context, path string) (ObjectWriter, error) {
	if strings.HasPrefix(path, "_change_data/") {
		if f.left--; f.left < 0 {
			return nil, errFull
		}
	}
	return f.Store.Create(ctx, path)
}

// An overwrite of a condition that fails at its change files leaves no data files
// behind, and those of the table alone.
func TestOverwriteLeavesNoOrphans(t *testing.T) {
	ctx := context.Background()
	for _, vectors := range []string{"false", "true"} {
		store := &fullStore{NewMemoryStore(nil), 1}
		tbl, err := Create(ctx, store, CreateOptions{Schema: partedSchema(), Properties: map[string]string{"delta.enableChangeDataFeed": "true", "delta.enableDeletionVectors": vectors}})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := tbl.Append(ctx, Batches(partedBatch(t, partedRow{1, "a"}, partedRow{2, "b"})), WriteOptions{}); err != nil {
			t.Fatal(err)
		}
		files := func() (n int) {
			for info, err := range store.List(ctx, "", "") {
				if err != nil {
					t.Fatal(err)
				}
				if strings.HasPrefix(info.Path, "part-") {
					n++
				}
			}
			return n
		}
		before := files()
		_, err = tbl.Overwrite(ctx, Batches(partedBatch(t, partedRow{1, "c"})), OverwriteOptions{Where: mustExpr(t, "id = 1")})
		if !errors.Is(err, errFull) {
			t.Fatalf("error %v", err)
		}
		if after := files(); after != before {
			t.Errorf("deletion vectors %s: %d data files, were %d", vectors, after, before)
		}
		for _, err := range tbl.Latest().Scan(ctx, ScanOptions{}) {
			if err != nil {
				t.Error(err)
			}
		}
	}
}
