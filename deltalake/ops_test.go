package deltalake

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"testing"
)

// modelRow is one row of the tables that the random histories work on.
type modelRow struct {
	ID    int64   `delta:"id"`
	Name  *string `delta:"name"`
	Price float64 `delta:"price"`
	Part  string  `delta:"part"`
}

func mustExpr(t testing.TB, text string) *Expr {
	t.Helper()
	e, err := ParseExpr(text)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func modelRows(ids ...int64) []modelRow {
	var rows []modelRow
	for _, id := range ids {
		r := modelRow{ID: id, Price: float64(id) / 2, Part: fmt.Sprintf("p%d", id%3)}
		if id%4 != 1 {
			n := fmt.Sprint("n", id)
			r.Name = &n
		}
		rows = append(rows, r)
	}
	return rows
}

// modelTable pairs a table with what its rows must be.
type modelTable struct {
	t    testing.TB
	tbl  *Table
	want map[int64]modelRow
	next int64
}

func (m *modelTable) batch(rows []modelRow) *Batch {
	s, err := SchemaOf[modelRow]()
	if err != nil {
		m.t.Fatal(err)
	}
	for i := range s.Fields {
		s.Fields[i].Nullable = true
	}
	b, err := BatchOf(s, rows)
	if err != nil {
		m.t.Fatal(err)
	}
	return b
}

func (m *modelTable) fresh(n int) []modelRow {
	var ids []int64
	for range n {
		m.next++
		ids = append(ids, m.next)
	}
	return modelRows(ids...)
}

func (m *modelTable) put(rows []modelRow) {
	for _, r := range rows {
		m.want[r.ID] = r
	}
}

func (m *modelTable) drop(cond func(modelRow) bool) {
	maps.DeleteFunc(m.want, func(_ int64, r modelRow) bool { return cond(r) })
}

func (m *modelTable) check(what string) {
	m.t.Helper()
	got := map[int64]modelRow{}
	for r, err := range Read[modelRow](context.Background(), m.tbl.Latest(), ScanOptions{}) {
		if err != nil {
			m.t.Fatalf("%s: %v", what, err)
		}
		if _, ok := got[r.ID]; ok {
			m.t.Fatalf("%s: id %d twice", what, r.ID)
		}
		got[r.ID] = r
	}
	if len(got) != len(m.want) {
		m.t.Fatalf("%s: %d rows, want %d", what, len(got), len(m.want))
	}
	for id, w := range m.want {
		g := got[id]
		if g.Price != w.Price || g.Part != w.Part || (g.Name == nil) != (w.Name == nil) || g.Name != nil && *g.Name != *w.Name {
			m.t.Fatalf("%s: row %d is %+v, want %+v", what, id, g, w)
		}
	}
}

// step does one random operation on the table and on the model.
func (m *modelTable) step(rng *rand.Rand) string {
	ctx := context.Background()
	k := rng.Int64N(m.next + 2)
	fail := func(what string, err error) string {
		if err != nil {
			m.t.Fatalf("%s: %v", what, err)
		}
		return what
	}
	switch op := rng.IntN(9); op {
	case 0, 1:
		rows := m.fresh(1 + rng.IntN(40))
		_, err := m.tbl.Append(ctx, Batches(m.batch(rows)), WriteOptions{})
		m.put(rows)
		return fail("append", err)
	case 2:
		_, err := m.tbl.Delete(ctx, mustExpr(m.t, fmt.Sprintf("id >= %d and id < %d", k, k+7)))
		m.drop(func(r modelRow) bool { return r.ID >= k && r.ID < k+7 })
		return fail("delete range", err)
	case 3:
		_, err := m.tbl.Delete(ctx, mustExpr(m.t, fmt.Sprintf("part = 'p%d' and name is null", k%3)))
		m.drop(func(r modelRow) bool { return r.Part == fmt.Sprint("p", k%3) && r.Name == nil })
		return fail("delete nulls", err)
	case 4:
		p := fmt.Sprint("p", (k+1)%3)
		_, err := m.tbl.Update(ctx, map[string]*Expr{"price": mustExpr(m.t, "price + 1"), "part": mustExpr(m.t, "'"+p+"'")},
			mustExpr(m.t, fmt.Sprintf("id %% 5 = %d", k%5)))
		for id, r := range m.want {
			if id%5 == k%5 {
				r.Price++
				r.Part = p
				m.want[id] = r
			}
		}
		return fail("update", err)
	case 5:
		rows := m.fresh(20)
		_, err := m.tbl.Overwrite(ctx, Batches(m.batch(rows)), OverwriteOptions{})
		m.want = map[int64]modelRow{}
		m.put(rows)
		return fail("overwrite", err)
	case 6:
		var rows []modelRow
		for _, r := range m.fresh(9) {
			r.Part = fmt.Sprint("p", k%3)
			rows = append(rows, r)
		}
		_, err := m.tbl.Overwrite(ctx, Batches(m.batch(rows)), OverwriteOptions{Where: mustExpr(m.t, fmt.Sprintf("part = 'p%d'", k%3))})
		m.drop(func(r modelRow) bool { return r.Part == fmt.Sprint("p", k%3) })
		m.put(rows)
		return fail("replaceWhere", err)
	case 7:
		lo := m.next + 1
		rows := m.fresh(5)
		_, err := m.tbl.Overwrite(ctx, Batches(m.batch(rows)), OverwriteOptions{Where: mustExpr(m.t, fmt.Sprintf("id >= %d", lo-6))})
		m.drop(func(r modelRow) bool { return r.ID >= lo-6 && r.ID < lo })
		m.put(rows)
		return fail("replaceWhere by id", err)
	default:
		before := m.tbl.Latest()
		rows := m.fresh(3)[:1+rng.IntN(2)]
		_, err := m.tbl.Overwrite(ctx, Batches(m.batch(rows)), OverwriteOptions{Dynamic: true})
		touched := map[string]bool{}
		for _, r := range rows {
			touched[r.Part] = true
		}
		m.drop(func(r modelRow) bool { return touched[r.Part] || len(before.metadata.PartitionColumns) == 0 })
		m.put(rows)
		return fail("dynamic overwrite", err)
	}
}

// Any history of row operations leaves exactly the rows that a map in memory
// says, with every combination of table properties, also when reopened.
func TestRandomHistories(t *testing.T) {
	ctx := context.Background()
	for _, tt := range []struct {
		name  string
		parts []string
		props map[string]string
	}{
		{"plain", nil, nil},
		{"partitioned", []string{"part"}, nil},
		{"vectors", []string{"part"}, map[string]string{"delta.enableDeletionVectors": "true"}},
		{"mapped with feed", []string{"part"}, map[string]string{"delta.columnMapping.mode": "name", "delta.enableChangeDataFeed": "true"}},
		{"all", nil, map[string]string{"delta.columnMapping.mode": "id", "delta.enableChangeDataFeed": "true", "delta.enableDeletionVectors": "true",
			"delta.enableInCommitTimestamps": "true", "delta.checkpointPolicy": "v2"}},
	} {
		for seed := range uint64(6) {
			t.Run(fmt.Sprintf("%s/%d", tt.name, seed), func(t *testing.T) {
				t.Parallel()
				rng := rand.New(rand.NewPCG(seed, 1))
				schema, err := SchemaOf[modelRow]()
				if err != nil {
					t.Fatal(err)
				}
				for i := range schema.Fields {
					schema.Fields[i].Nullable = true
				}
				store := NewMemoryStore(nil)
				tbl, err := Create(ctx, store, CreateOptions{Schema: schema, PartitionColumns: tt.parts, Properties: tt.props})
				if err != nil {
					t.Fatal(err)
				}
				m := &modelTable{t: t, tbl: tbl, want: map[int64]modelRow{}}
				for i := range 30 {
					what := fmt.Sprintf("step %d: ", i) + m.step(rng)
					m.check(what)
				}
				if m.tbl, err = Open(ctx, store, TableOptions{}); err != nil {
					t.Fatal(err)
				}
				m.check("reopened")
			})
		}
	}
}
