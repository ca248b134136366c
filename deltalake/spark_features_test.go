package deltalake

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"testing"
)

// sparkFeatures are writer features that both sides write, in one Spark session.
var sparkFeatures = []struct {
	name string
	run  func(t *testing.T, o *others)
}{{"identity", sparkIdentity}, {"rowTracking", sparkRowTracking}, {"clustering", sparkClustering}}

// sparkRows runs a query and decodes its rows into []T.
func sparkRows[T any](t *testing.T, o *others, sql string) []T {
	t.Helper()
	var out []T
	for _, h := range o.ask(t, map[string]any{"cmd": "rows", "sql": sql}).H {
		var r T
		if err := json.Unmarshal([]byte(h), &r); err != nil {
			t.Fatalf("%s: %v", h, err)
		}
		out = append(out, r)
	}
	return out
}

func openFolder(t *testing.T, dir string) *Table {
	t.Helper()
	tbl, err := Open(context.Background(), NewFolderStore(dir), TableOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return tbl
}

// Spark goes on with the values that we gave, and we with Spark's.
func sparkIdentity(t *testing.T, o *others) {
	ctx := context.Background()
	for _, id := range []Field{Identity("id", 5, 3), IdentityByDefault("id", 100, -7)} {
		for _, props := range []map[string]string{{"delta.columnMapping.mode": "name", "delta.enableDeletionVectors": "true", "delta.enableRowTracking": "true"}} {
			if id.Metadata[identityExplicit][0] == 'f' {
				props = nil
			}
			dir := filepath.Join(t.TempDir(), "t")
			tbl := identityTable(t, NewFolderStore(dir), id, props)
			table := "delta.`" + dir + "`"
			step := int64(3)
			if string(id.Metadata[identityExplicit]) == "true" {
				step = -7
			}
			total := 0
			agree := func(what string, added int) {
				t.Helper()
				total += added
				tbl = openFolder(t, dir)
				ours := longs(t, tbl, "id")
				var theirs []int64
				for _, r := range sparkRows[struct{ ID int64 }](t, o, "SELECT id FROM "+table) {
					theirs = append(theirs, r.ID)
				}
				slices.Sort(theirs)
				if len(ours) != total || !slices.Equal(ours, theirs) || len(slices.Compact(slices.Clone(ours))) != total {
					t.Fatalf("%s: we read %v, Spark %v, want %d different ones", what, ours, theirs, total)
				}
				mark := markOf(t, tbl, "id")
				for _, x := range ours {
					if step > 0 && x > mark || step < 0 && x < mark || (x-mark)%step != 0 {
						t.Fatalf("%s: value %d against mark %d", what, x, mark)
					}
				}
			}
			appendWords(t, tbl, "a", "b", "c")
			agree("our append", 3)
			o.ask(t, map[string]any{"cmd": "sql", "sql": "INSERT INTO " + table + " (word) VALUES ('d'), ('e')"})
			agree("Spark's insert", 2)
			appendWords(t, tbl, "f")
			agree("our append after it", 1)
			o.ask(t, map[string]any{"cmd": "sql", "sql": "MERGE INTO " + table + " t USING (SELECT 'a' w UNION ALL SELECT 'z') s ON t.word = s.w WHEN MATCHED THEN UPDATE SET word = 'A' WHEN NOT MATCHED THEN INSERT (word) VALUES (s.w)"})
			agree("Spark's merge", 1)
			if _, err := tbl.Merge(ctx, Merge{Source: Batches(words([]string{"y", "z"})), On: mustExpr(t, "target.word = source.word"),
				Clauses: []MergeClause{{Action: MatchedUpdate}, {Action: NotMatchedInsert}}}); err != nil {
				t.Fatal(err)
			}
			agree("our merge", 1)
		}
	}
}

// Spark reads the row ids and commit versions that we keep, and we those that it
// keeps, through changes by both.
func sparkRowTracking(t *testing.T, o *others) {
	ctx := context.Background()
	for name, props := range map[string]map[string]string{
		"vectors": {"delta.enableDeletionVectors": "true", "delta.columnMapping.mode": "name"}, "byID": {"delta.columnMapping.mode": "id"}, "late": nil,
	} {
		dir := filepath.Join(t.TempDir(), "t")
		conf := map[string]string{}
		if props != nil {
			conf["delta.enableRowTracking"] = "true"
		}
		maps.Copy(conf, props)
		tbl, err := Create(ctx, NewFolderStore(dir), CreateOptions{Schema: trackedBatch(nil).Schema, Properties: conf})
		if err != nil {
			t.Fatal(err)
		}
		table := "delta.`" + dir + "`"
		rows := func(from, to int64) map[int64]int64 {
			out := map[int64]int64{}
			for k := from; k < to; k++ {
				out[k] = k * 10
			}
			return out
		}
		add := func(from, to int64) {
			t.Helper()
			if _, err := tbl.Append(ctx, Batches(trackedBatch(rows(from, to))), WriteOptions{}); err != nil {
				t.Fatal(err)
			}
		}
		add(0, 10)
		add(10, 20)
		if props == nil {
			on := "true"
			if _, err := tbl.SetProperties(ctx, map[string]*string{rowTrackingProperty: &on}); err != nil {
				t.Fatal(err)
			}
		}
		var before trackedModel
		agree := func(what string) {
			t.Helper()
			tbl = openFolder(t, dir)
			ours, theirs := readTracked(t, tbl.Latest()), trackedModel{}
			for _, r := range sparkRows[struct{ Key, Val, ID, Version int64 }](t, o, "SELECT key, val, _metadata.row_id AS id, _metadata.row_commit_version AS version FROM "+table) {
				theirs[r.Key] = trackedRow{r.Val, r.ID, r.Version}
			}
			if !maps.Equal(ours, theirs) {
				t.Fatalf("%s, %s:\nwe read %v\nSpark   %v", name, what, ours, theirs)
			}
			for k, r := range before {
				if now, ok := ours[k]; ok && (now.id != r.id || now.version < r.version) {
					t.Fatalf("%s, %s: row %d was %+v and is %+v", name, what, k, r, now)
				}
			}
			before = ours
		}
		agree("our appends")
		for i, step := range []any{
			"UPDATE " + table + " SET val = val + 1 WHERE key % 4 = 1",
			func() error {
				_, err := tbl.Update(ctx, map[string]*Expr{"val": mustExpr(t, "val + 1")}, mustExpr(t, "key % 3 = 1"))
				return err
			},
			"DELETE FROM " + table + " WHERE key = 7",
			func() error {
				_, err := tbl.Merge(ctx, Merge{Source: Batches(trackedBatch(rows(15, 25))), On: mustExpr(t, "target.key = source.key"),
					Clauses: []MergeClause{{Action: MatchedUpdate, If: mustExpr(t, "target.key > 17")}, {Action: NotMatchedInsert}}})
				return err
			},
			"MERGE INTO " + table + " t USING (SELECT explode(sequence(22, 30)) k) s ON t.key = s.k WHEN MATCHED THEN UPDATE SET val = 1 WHEN NOT MATCHED THEN INSERT (key, val, part) VALUES (s.k, 2, 0)",
			func() error { _, err := tbl.Delete(ctx, mustExpr(t, "key = 12 OR key = 28")); return err },
			func() error { _, err := tbl.Optimize(ctx, OptimizeOptions{}); return err },
			"UPDATE " + table + " SET val = -val WHERE key % 5 = 2",
			"OPTIMIZE " + table,
			func() error { _, err := tbl.Optimize(ctx, OptimizeOptions{ZOrder: []string{"val"}}); return err },
			"INSERT INTO " + table + " VALUES (90, 1, 1), (91, 2, 1)",
			func() error { add(60, 64); return nil },
		} {
			what := fmt.Sprintf("step %d", i)
			if sql, ok := step.(string); ok {
				what = sql[:8]
				o.ask(t, map[string]any{"cmd": "sql", "sql": sql})
			} else if err := step.(func() error)(); err != nil {
				t.Fatal(err)
			}
			agree(what)
		}
	}
}

// Spark sees our clustering columns, optimizes after us, and we after it; a table
// that Spark clusters goes on with us.
func sparkClustering(t *testing.T, o *others) {
	ctx := context.Background()
	rng := rand.New(rand.NewPCG(3, 4))
	type detail struct{ ClusteringColumns []string }
	for _, mode := range []string{"none", "name"} {
		dir := filepath.Join(t.TempDir(), "t")
		table := "delta.`" + dir + "`"
		tbl, err := Create(ctx, NewFolderStore(dir), CreateOptions{Schema: pointSchema(), ClusterBy: []string{"x", "y"}, Properties: map[string]string{"delta.columnMapping.mode": mode}})
		if err != nil {
			t.Fatal(err)
		}
		add := func(from int) {
			t.Helper()
			if _, err := tbl.Append(ctx, Batches(points(rng, from, 50)), WriteOptions{}); err != nil {
				t.Fatal(err)
			}
		}
		agree := func(what string, columns ...string) {
			t.Helper()
			tbl = openFolder(t, dir)
			if got := sparkRows[detail](t, o, "DESCRIBE DETAIL "+table); len(got) != 1 || !slices.Equal(got[0].ClusteringColumns, columns) {
				t.Fatalf("%s: Spark says %+v, want %v", what, got, columns)
			}
			if got := tbl.Latest().ClusteringColumns(); !slices.Equal(got, columns) {
				t.Fatalf("%s: clustering columns %v, want %v", what, got, columns)
			}
			a := sparkRows[struct{ N, S int64 }](t, o, "SELECT count(*) n, sum(key) s FROM "+table)
			n, sum := 0, int64(0)
			for _, k := range longs(t, tbl, "key") {
				n, sum = n+1, sum+k
			}
			if a[0].N != int64(n) || a[0].S != sum {
				t.Fatalf("%s: Spark counts %+v, we %d with sum %d", what, a, n, sum)
			}
		}
		liquid := func(what string) {
			t.Helper()
			for _, a := range tbl.Latest().Files() {
				if _, same := a.cube([]string{"x", "y"}); a.ClusteringProvider != clusterProvider || !same {
					t.Fatalf("%s: file %s", what, jsonText(a))
				}
			}
		}
		add(0)
		add(50)
		if _, err := tbl.Optimize(ctx, OptimizeOptions{}); err != nil {
			t.Fatal(err)
		}
		agree("our optimize", "x", "y")
		add(100)
		o.ask(t, map[string]any{"cmd": "sql", "sql": "INSERT INTO " + table + " VALUES (1, 2, 1000), (3, 4, 1001)"})
		o.ask(t, map[string]any{"cmd": "sql", "sql": "OPTIMIZE " + table})
		agree("Spark's optimize", "x", "y")
		liquid("Spark's optimize")
		add(150)
		if m, err := tbl.Optimize(ctx, OptimizeOptions{}); err != nil || !m.Committed {
			t.Fatal(m, err)
		}
		agree("ours after it", "x", "y")
		liquid("ours after it")
		o.ask(t, map[string]any{"cmd": "sql", "sql": "ALTER TABLE " + table + " CLUSTER BY (y)"})
		agree("Spark's change", "y")
		if _, err := tbl.ClusterBy(ctx, "key", "x"); err != nil {
			t.Fatal(err)
		}
		agree("our change", "key", "x")
		if _, err := tbl.ClusterBy(ctx); err != nil {
			t.Fatal(err)
		}
		agree("none")
	}
}
