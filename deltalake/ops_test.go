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

	states map[int64]map[int64]modelRow // by version
}

// merge changes, deletes and inserts by a random source.
func (m *modelTable) merge(rng *rand.Rand) error {
	var rows []modelRow
	for id := range m.want {
		if id%3 == rng.Int64N(3) && len(rows) < 12 {
			r := m.want[id]
			r.Price = -r.Price
			rows = append(rows, r)
		}
	}
	rows = append(rows, m.fresh(4)...)
	deleted := rng.Int64N(4)
	bySource := rng.IntN(3) == 0
	mg := Merge{Source: Batches(m.batch(rows)), On: mustExpr(m.t, "t.id = s.id"), TargetAlias: "t", SourceAlias: "s", Clauses: []MergeClause{
		{Action: MatchedDelete, If: mustExpr(m.t, fmt.Sprintf("t.id %% 4 = %d", deleted))},
		{Action: MatchedUpdate, Set: map[string]*Expr{"price": mustExpr(m.t, "s.price - 1"), "name": mustExpr(m.t, "concat('m', s.id)")}},
		{Action: NotMatchedInsert, If: mustExpr(m.t, "s.id % 5 != 0")},
	}}
	if bySource {
		mg.Clauses = append(mg.Clauses, MergeClause{Action: NotMatchedBySourceDelete, If: mustExpr(m.t, "t.price > 20 and t.part = 'p1'")},
			MergeClause{Action: NotMatchedBySourceUpdate, If: mustExpr(m.t, "t.part = 'p2'"), Set: map[string]*Expr{"price": mustExpr(m.t, "t.price + 0.5")}})
	}
	if _, err := m.tbl.Merge(context.Background(), mg); err != nil {
		return err
	}
	src := map[int64]modelRow{}
	for _, r := range rows {
		src[r.ID] = r
	}
	for id, r := range m.want {
		s, ok := src[id]
		delete(src, id)
		switch {
		case ok && id%4 == deleted:
			delete(m.want, id)
		case ok:
			n := fmt.Sprint("m", id)
			r.Price, r.Name = s.Price-1, &n
			m.want[id] = r
		case bySource && r.Price > 20 && r.Part == "p1":
			delete(m.want, id)
		case bySource && r.Part == "p2":
			r.Price += 0.5
			m.want[id] = r
		}
	}
	for id, r := range src {
		if id%5 != 0 {
			m.want[id] = r
		}
	}
	return nil
}

// checkFeed folds the change feed from the first version and expects the rows.
func (m *modelTable) checkFeed() {
	m.t.Helper()
	got := map[int64]int{}
	ids := map[string]int{}
	for b, err := range m.tbl.Changes(context.Background(), ChangeOptions{}) {
		if err != nil {
			m.t.Fatal(err)
		}
		for i := range b.Len {
			key := fmt.Sprint(b.Column("id").Value(i), b.Column("name").Value(i), b.Column("price").Value(i), b.Column("part").Value(i))
			switch b.Column(ChangeType).StringAt(i) {
			case "insert", "update_postimage":
				ids[key]++
				got[b.Column("id").Longs[i]]++
			default:
				ids[key]--
				got[b.Column("id").Longs[i]]--
			}
		}
	}
	for _, r := range m.want {
		var name any
		if r.Name != nil {
			name = *r.Name
		}
		ids[fmt.Sprint(r.ID, name, r.Price, r.Part)]--
	}
	for key, n := range ids {
		if n != 0 {
			m.t.Fatalf("change feed leaves %d too many of row %s", n, key)
		}
	}
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
	switch op := rng.IntN(14); op {
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
	case 8:
		return fail("merge", m.merge(rng))
	case 9:
		_, err := m.tbl.Optimize(ctx, OptimizeOptions{})
		return fail("optimize", err)
	case 10:
		_, err := m.tbl.Optimize(ctx, OptimizeOptions{ZOrder: []string{"id", "price"}})
		return fail("zorder", err)
	case 11:
		_, err := m.tbl.Vacuum(ctx, VacuumOptions{})
		return fail("vacuum", err)
	case 12:
		v := max(0, m.tbl.Latest().Version()-rng.Int64N(3))
		_, err := m.tbl.Restore(ctx, v)
		if err == nil {
			m.want = maps.Clone(m.states[v])
		}
		return fail("restore", err)
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
				m := &modelTable{t: t, tbl: tbl, want: map[int64]modelRow{}, states: map[int64]map[int64]modelRow{0: {}}}
				for i := range 30 {
					what := fmt.Sprintf("step %d: ", i) + m.step(rng)
					m.check(what)
					m.states[m.tbl.Latest().Version()] = maps.Clone(m.want)
				}
				for v, rows := range m.states {
					old, err := m.tbl.At(ctx, v)
					if err != nil {
						t.Fatal(err)
					}
					n := 0
					for b, err := range old.Scan(ctx, ScanOptions{Columns: []string{"id"}}) {
						if err != nil {
							t.Fatal(err)
						}
						n += b.Len
					}
					if n != len(rows) {
						t.Fatalf("version %d has %d rows, want %d", v, n, len(rows))
					}
				}
				if m.tbl.Latest().tracksChanges() {
					m.checkFeed()
				}
				if problems, err := m.tbl.Fsck(ctx); err != nil {
					t.Fatal(err)
				} else {
					for _, p := range problems {
						if p.Kind != "orphan" {
							t.Fatalf("fsck: %v", p)
						}
					}
				}
				if m.tbl, err = Open(ctx, store, TableOptions{}); err != nil {
					t.Fatal(err)
				}
				m.check("reopened")
			})
		}
	}
}
