package deltalake

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Spark opens tables through the checksums, log compactions and Delta checkpoints
// that we write, finds its own state equal to our checksums, and goes on; its
// checksums are equal to our state. WEIR_SPARK as for TestSpark.
func TestSparkLog(t *testing.T) {
	if os.Getenv("WEIR_SPARK") == "" {
		t.Skip("SKIPPED: WEIR_SPARK does not name a folder with a Spark venv and Delta's jars")
	}
	o := &others{startTools(t)}
	for name, c := range map[string]struct {
		props map[string]string
		form  CheckpointOptions
	}{
		"plain":   {props: map[string]string{"delta.checkpointInterval": "100"}},
		"vectors": {props: map[string]string{"delta.enableDeletionVectors": "true", "delta.enableInCommitTimestamps": "true", compactionProperty: "3", "delta.checkpointInterval": "100"}},
		"v2":      {props: map[string]string{"delta.checkpointPolicy": "v2", "delta.checkpointInterval": "100", "delta.feature.domainMetadata": "supported"}, form: CheckpointOptions{SidecarFiles: 3}},
		"v2json":  {props: map[string]string{"delta.checkpointPolicy": "v2", "delta.checkpointInterval": "100", "delta.enableDeletionVectors": "true"}, form: CheckpointOptions{SidecarFiles: 3, JSON: true}},
	} {
		t.Run(name, func(t *testing.T) { sparkLog(t, o, c.props, c.form) })
	}
}

func sparkLog(t *testing.T, o *others, props map[string]string, form CheckpointOptions) {
	t.Helper()
	ctx := context.Background()
	dir := filepath.Join(t.TempDir(), "table")
	tbl, err := Create(ctx, NewFolderStore(dir), CreateOptions{Schema: interopSchema(), PartitionColumns: []string{"part"}, Properties: props})
	if err != nil {
		t.Fatal(err)
	}
	sound := func(what string) {
		t.Helper()
		problems, err := tbl.Fsck(ctx)
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range problems {
			if p.Kind == "log" {
				t.Fatalf("%s: %v", what, p)
			}
		}
	}
	for round := range 2 {
		base := round * 1000
		for i := range 4 {
			appendRows(t, tbl, base+i*20, 20)
		}
		if _, err := tbl.Commit(ctx, Commit{AppID: "app", AppVersion: int64(round + 1)}); err != nil {
			t.Fatal(err)
		}
		if _, ok := props["delta.feature.domainMetadata"]; ok {
			if _, err := tbl.Commit(ctx, Commit{Domains: []DomainMetadata{{Domain: "weir.test", Configuration: fmt.Sprint(round), Removed: round == 1}}}); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := tbl.Delete(ctx, mustExpr(t, fmt.Sprintf("id %% 9 = %d", 2+round))); err != nil {
			t.Fatal(err)
		}
		a := o.ask(t, map[string]any{"cmd": "validate", "path": dir})
		if a.Version != tbl.Latest().Version() || a.Rows != int64(tbl.Latest().NumFiles()) {
			t.Fatalf("Spark is at version %d with %d files, we at %d with %d", a.Version, a.Rows, tbl.Latest().Version(), tbl.Latest().NumFiles())
		}
		if props[compactionProperty] != "" && !strings.Contains(strings.Join(a.H, " "), "compacted.json") {
			t.Fatalf("Spark read no log compaction: %v", a.H)
		}
		o.agree(t, dir, "ours", "spark")
		if err := tbl.WriteCheckpointWith(ctx, tbl.Latest(), form); err != nil {
			t.Fatal(err)
		}
		o.ask(t, map[string]any{"cmd": "validate", "path": dir})
		o.agree(t, dir, "our checkpoint", "spark")
		table := "delta.`" + dir + "`"
		for _, sql := range []string{
			fmt.Sprintf("INSERT INTO %s SELECT id + 500, name, price, amount, at, part FROM %s WHERE id BETWEEN %d AND %d", table, table, base, base+30),
			fmt.Sprintf("DELETE FROM %s WHERE id %% 11 = %d", table, round),
		} {
			o.ask(t, map[string]any{"cmd": "sql", "sql": sql})
		}
		tbl = o.agree(t, dir, "Spark's changes", "spark")
		if _, err := os.Stat(filepath.Join(dir, checksumPath(tbl.Latest().Version()))); err != nil {
			t.Fatal("Spark wrote no checksum: ", err)
		}
		sound("Spark's log")
	}
}
