package deltalake

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// Spark reads what we write, we read what Spark makes of it, and on in turn, for
// every feature that both write. It takes a minute or more: WEIR_SPARK is the
// folder with venv and jars (deploy/real/spark.sh).
func TestSpark(t *testing.T) {
	root := os.Getenv("WEIR_SPARK")
	if root == "" {
		t.Skip("SKIPPED: WEIR_SPARK does not name a folder with a Spark venv and Delta's jars")
	}
	began := time.Now()
	o := startProcess(t, exec.Command(filepath.Join(root, "venv/bin/python3"), "testdata/spark.py", filepath.Join(root, "jars")))
	ctx := context.Background()
	for name, props := range map[string]map[string]string{
		"plain":    nil,
		"vectors":  {"delta.enableDeletionVectors": "true"},
		"mapping":  {"delta.columnMapping.mode": "name"},
		"byID":     {"delta.columnMapping.mode": "id"},
		"feed":     {"delta.enableChangeDataFeed": "true"},
		"v2":       {"delta.checkpointPolicy": "v2", "delta.checkpointInterval": "4"},
		"ict":      {"delta.enableInCommitTimestamps": "true"},
		"together": {"delta.enableDeletionVectors": "true", "delta.columnMapping.mode": "name", "delta.enableChangeDataFeed": "true", "delta.checkpointPolicy": "v2", "delta.checkpointInterval": "3"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "table")
			store := NewFolderStore(dir)
			tbl, err := Create(ctx, store, CreateOptions{Schema: interopSchema(), PartitionColumns: []string{"part"}, Properties: props})
			if err != nil {
				t.Fatal(err)
			}
			for i := range 5 {
				appendRows(t, tbl, i*20, 20)
			}
			if _, err := tbl.Delete(ctx, mustExpr(t, "id % 9 = 4")); err != nil {
				t.Fatal(err)
			}
			o.agree(t, dir, "ours", "spark")
			table := "delta.`" + dir + "`"
			for _, sql := range []string{
				"INSERT INTO " + table + " SELECT id + 1000, name, price, amount, at, part FROM " + table + " WHERE id < 30",
				"DELETE FROM " + table + " WHERE id % 8 = 1", "UPDATE " + table + " SET price = price + 1, name = 'spark' WHERE id BETWEEN 40 AND 60",
			} {
				o.ask(t, map[string]any{"cmd": "sql", "sql": sql})
			}
			tbl = o.agree(t, dir, "Spark's changes", "spark")
			if _, err := tbl.Update(ctx, map[string]*Expr{"price": mustExpr(t, "-price")}, mustExpr(t, "id > 1010")); err != nil {
				t.Fatal(err)
			}
			if _, err := tbl.Merge(ctx, Merge{Source: Batches(interopBatch(90, 20)), On: mustExpr(t, "target.id = source.id"),
				Clauses: []MergeClause{{Action: MatchedUpdate}, {Action: NotMatchedInsert}}}); err != nil {
				t.Fatal(err)
			}
			if _, err := tbl.Optimize(ctx, OptimizeOptions{}); err != nil {
				t.Fatal(err)
			}
			if err := tbl.WriteCheckpoint(ctx, tbl.Latest()); err != nil {
				t.Fatal(err)
			}
			o.agree(t, dir, "ours again", "spark")
			if props["delta.columnMapping.mode"] == "name" {
				o.ask(t, map[string]any{"cmd": "sql", "sql": "ALTER TABLE " + table + " RENAME COLUMN price TO cost"})
				tbl = o.agree(t, dir, "renamed by Spark", "spark")
				if _, err := tbl.DropColumn(ctx, "amount"); err != nil {
					t.Fatal(err)
				}
				o.agree(t, dir, "dropped by us", "spark")
			}
			for v := range tbl.Latest().Version() {
				if v%4 != 1 || props["delta.columnMapping.mode"] != "" {
					continue
				}
				s, err := tbl.At(ctx, v)
				if err != nil {
					t.Fatal(err)
				}
				got, err := sumSnapshot(ctx, s, nil, ScanOptions{})
				if err != nil {
					t.Fatal(err)
				}
				if a := o.ask(t, map[string]any{"cmd": "spark", "path": dir, "version": v}); a.Rows != got.rows || a.Sum != got.String() {
					t.Fatalf("version %d: Spark reads %d rows, we %d", v, a.Rows, got.rows)
				}
			}
		})
		fmt.Fprintln(os.Stderr, "spark:", name, time.Since(began).Round(time.Second))
	}
	for _, f := range sparkFeatures {
		t.Run(f.name, func(t *testing.T) { f.run(t, o) })
		fmt.Fprintln(os.Stderr, "spark:", f.name, time.Since(began).Round(time.Second))
	}
}
