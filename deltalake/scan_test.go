package deltalake

import (
	"context"
	"fmt"
	"math/rand/v2"
	"testing"
)

// A filter yields exactly the rows for which it is true in a full scan, whatever
// files, row groups and pages it lets the reader pass over.
func TestFilterAgainstFullScan(t *testing.T) {
	ctx := context.Background()
	rng := rand.New(rand.NewPCG(3, 4))
	store := NewMemoryStore(nil)
	schema := NewSchema(append(testSchema().Fields, Col("part", Of(KindInteger)))...)
	tbl, err := Create(ctx, store, CreateOptions{Schema: schema, PartitionColumns: []string{"part"}, Properties: map[string]string{"delta.enableDeletionVectors": "true"}})
	if err != nil {
		t.Fatal(err)
	}
	for p := range 3 {
		b := NewBatch(schema)
		fillRows(b, p*6_000, p*6_000+6_000)
		for range b.Len {
			b.Columns[8].AppendInt(int32(p))
		}
		if _, err := tbl.Append(ctx, Batches(b), WriteOptions{File: FileOptions{RowGroupBytes: 100_000}}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := tbl.Delete(ctx, mustExpr(t, "id % 17 = 4")); err != nil {
		t.Fatal(err)
	}
	var all []*Batch
	for b, err := range tbl.Latest().Scan(ctx, ScanOptions{}) {
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, b)
	}
	for range 40 {
		k := rng.IntN(18_000)
		filters := []string{
			fmt.Sprintf("id >= %d and id < %d", k, k+rng.IntN(600)), fmt.Sprintf("name = 'name-%d' and id > %d", k%100, k), fmt.Sprintf("part = %d", k%4),
			fmt.Sprintf("not (id < %d) and name is null", k), fmt.Sprintf("pos.x between %d and %d", k, k+9), fmt.Sprintf("price < %d.5 or amount > %d", k/40, 899-k%50),
			fmt.Sprintf("at = timestamp '2023-11-14T22:13:20.%06dZ'", k), "tags is null and part in (1, 2)", fmt.Sprintf("id %% 1000 = %d and part <> 1", k%1000),
		}
		text := filters[rng.IntN(len(filters))]
		e := mustExpr(t, text)
		bound, err := e.bind(schema)
		if err != nil {
			t.Fatal(err)
		}
		var want, got checksum
		for _, b := range all {
			rows, err := bound.matches(b)
			if err != nil {
				t.Fatal(err)
			}
			part := NewBatch(schema)
			part.Gather(b, rows)
			want.add(part, nil)
		}
		for b, err := range tbl.Latest().Scan(ctx, ScanOptions{Filter: e, BatchRows: 100 + rng.IntN(2000)}) {
			if err != nil {
				t.Fatalf("%s: %v", text, err)
			}
			got.add(b, nil)
		}
		if got != want {
			t.Fatalf("%s: %d rows, want %d", text, got.rows, want.rows)
		}
	}
}

// Expressions have the values that Spark gives them.
func TestExpressions(t *testing.T) {
	b := NewBatch(testSchema())
	fillRows(b, 3, 4) // id 3, name null, price 0.75, amount -0.47
	for text, want := range map[string]int8{
		"id = 3": yes, "id <> 3": no, "name = 'x'": unknown, "name is null": yes, "name <=> null": yes, "not (name = 'x')": unknown,
		"id in (1, 2, 3)": yes, "id not in (1, 2)": yes, "id between 2 and 4": yes, "price * 4 = id": yes, "amount < 0": yes, "amount = -0.470": yes,
		"id / 2 = 1.5": yes, "id % 2 = 1": yes, "name = 'x' or id = 3": yes, "name = 'x' and id = 4": no, "cast(id as string) = '3'": yes,
		"cast('12.5' as decimal(10,1)) > 12": yes, "upper('ab') || 'c' = 'ABc'": yes, "'abc' like 'a_c'": yes, "'abc' like '%d%'": no, "'a%c' like 'a\\%c'": yes,
		"case when id > 5 then 1 else 2 end = 2": yes, "coalesce(name, 'z') = 'z'": yes, "substring('hello', 2, 3) = 'ell'": yes, "year(at) = 2023": yes,
		"cast(at as date) = '2023-11-14'": yes, "date_format(at, 'yyyy-MM') = '2023-11'": yes, "length('été') = 3": yes, "-id = -3": yes,
		"pos.x = 3": yes, "pos.y is null": yes, "at > '2023-01-01'": yes, "1 = 1.0": yes, "if(id = 3, 'a', 'b') = 'a'": yes, "abs(amount) = 0.47": yes,
		"name is distinct from 'x'": yes, "name is distinct from null": no, "(name = 'x') is true": no, "(name = 'x') is not true": yes, "id = 3 is true": yes,
		"(id = 4) is false": yes, "(name = 'x') is not false": yes, "X'616263' = 'abc'": yes, "x'' = ''": yes,
	} {
		e := mustExpr(t, text)
		bound, err := e.bind(b.Schema)
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		got, err := bound.truths(b)
		if err != nil || got[0] != want {
			t.Errorf("%s = %v (%v), want %v", text, got, err, want)
		}
	}
	for _, text := range []string{"", "id =", "(id = 1", "id = 1)", "nosuch(id)", "id = 'a", "year()", "cast(id as foo)", "id @ 2", "X'6' = 'a'", "id is distinct 3"} {
		if _, err := ParseExpr(text); err == nil {
			t.Errorf("%q was parsed", text)
		}
	}
}
