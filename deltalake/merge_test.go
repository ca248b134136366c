package deltalake

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"testing"
)

// Merges by one number or by several columns, of sources that fall into a part of the
// files, row groups and batches, do what a map would, with and without vectors.
func TestMergeAgainstMap(t *testing.T) {
	ctx := context.Background()
	schema := NewSchema(Col("id", Of(KindInteger)), Col("kind", Of(KindString)), Col("n", Of(KindLong)), Col("tags", ListOf(Of(KindString))))
	type row struct {
		n   int64
		tag string
	}
	fill := func(b *Batch, id int32, null bool, r row) {
		if null {
			b.Columns[0].AppendNull()
		} else {
			b.Columns[0].AppendInt(id)
		}
		b.Columns[1].AppendString(fmt.Sprint("k", id%7))
		b.Columns[2].AppendLong(r.n)
		b.Columns[3].Children[0].AppendString(r.tag)
		b.Columns[3].AppendElements()
		b.Len++
	}
	for seed := range uint64(12) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			r := rand.New(rand.NewPCG(seed, 9))
			props := map[string]string{}
			if seed%2 == 0 {
				props["delta.enableDeletionVectors"] = "true"
			}
			if seed%5 == 0 {
				props["delta.enableChangeDataFeed"] = "true"
			}
			tbl, err := Create(ctx, NewMemoryStore(nil), CreateOptions{Schema: schema, Properties: props})
			if err != nil {
				t.Fatal(err)
			}
			want, nulls := map[int32]row{}, 0
			for file := range 2 {
				b := NewBatch(schema)
				for i := range int32(20_000) {
					id := int32(file)*20_000 + i
					null := r.IntN(1000) == 0
					v := row{int64(id) * 3, "t"}
					fill(b, id, null, v)
					if null {
						nulls++
					} else {
						want[id] = v
					}
				}
				if _, err := tbl.Append(ctx, Batches(b), WriteOptions{File: FileOptions{RowGroupBytes: 32 << 10}}); err != nil {
					t.Fatal(err)
				}
			}
			for range 3 {
				mergeOnce(t, r, tbl, want, func(id int32, v int64) row { return row{v, "t"} }, func(x row) int64 { return x.n })
				got := map[int32]row{}
				gotNulls := 0
				for b, err := range tbl.Latest().Scan(ctx, ScanOptions{}) {
					if err != nil {
						t.Fatal(err)
					}
					for i := range b.Len {
						if b.Columns[0].Null(i) {
							gotNulls++
							continue
						}
						id, tags := b.Columns[0].Ints[i], b.Columns[3]
						if _, twice := got[id]; twice || string(b.Columns[1].Bytes(i)) != fmt.Sprint("k", id%7) {
							t.Fatalf("row %d is there twice (%v) or has kind %s", id, twice, b.Columns[1].Bytes(i))
						}
						got[id] = row{b.Columns[2].Longs[i], "t"}
						if !tags.Null(i) && tags.Offsets[i] < tags.Offsets[i+1] {
							got[id] = row{b.Columns[2].Longs[i], string(tags.Children[0].Bytes(int(tags.Offsets[i])))}
						}
					}
				}
				if !maps.Equal(got, want) || gotNulls != nulls {
					t.Fatalf("%d rows and %d without id, want %d and %d", len(got), gotNulls, len(want), nulls)
				}
			}
		})
	}
}

// mergeOnce merges a random source into the table and into the map.
func mergeOnce[R any](t *testing.T, r *rand.Rand, tbl *Table, want map[int32]R, made func(id int32, n int64) R, n func(R) int64) {
	t.Helper()
	src := NewBatch(NewSchema(Col("id", Of(KindLong)), Col("kind", Of(KindString)), Col("v", Of(KindLong))))
	from, step := r.Int32N(42_000), 1+r.Int32N(200)
	on, count := "target.id = source.id", 1+r.Int32N(300)
	if r.IntN(2) == 0 {
		on += " and target.kind = source.kind"
	}
	src.Columns[0].AppendNull()
	src.Columns[1].AppendString("k0")
	src.Columns[2].AppendLong(1)
	src.Len++
	clauses := []MergeClause{{Action: MatchedUpdate, Set: map[string]*Expr{"n": mustExpr(t, "target.n + source.v")}}}
	insert, drop := r.IntN(2) == 0, r.IntN(3) == 0
	if drop {
		clauses = append([]MergeClause{{Action: MatchedDelete, If: mustExpr(t, "source.v % 2 = 0")}}, clauses...)
	}
	if insert {
		clauses = append(clauses, MergeClause{Action: NotMatchedInsert, If: mustExpr(t, "source.id is not null"), Set: map[string]*Expr{
			"id": mustExpr(t, "source.id + 0"), "kind": mustExpr(t, "source.kind"), "n": mustExpr(t, "source.v")}})
	}
	var updated, deleted, inserted int64
	for k := range count {
		id, v := from+k*step, int64(k)
		src.Columns[0].AppendLong(int64(id))
		src.Columns[1].AppendString(fmt.Sprint("k", id%7))
		src.Columns[2].AppendLong(v)
		src.Len++
		old, ok := want[id]
		switch {
		case ok && drop && v%2 == 0:
			delete(want, id)
			deleted++
		case ok:
			want[id] = made(id, n(old)+v)
			updated++
		case insert:
			want[id] = made(id, v)
			inserted++
		}
	}
	m, err := tbl.Merge(context.Background(), Merge{Source: Batches(src), On: mustExpr(t, on), Clauses: clauses})
	if err != nil {
		t.Fatal(err)
	}
	if m.RowsUpdated != updated || m.RowsDeleted != deleted || m.RowsInserted != inserted {
		t.Fatalf("%d updated, %d deleted, %d inserted, want %d, %d, %d", m.RowsUpdated, m.RowsDeleted, m.RowsInserted, updated, deleted, inserted)
	}
}
