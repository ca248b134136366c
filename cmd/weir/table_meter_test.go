package main

import (
	"bytes"
	"context"
	"errors"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/weirstream/weir/deltalake"
)

// A meter counts what a table reads, writes and deletes, hides nothing of the store
// below it, and tells.
func TestMeter(t *testing.T) {
	ctx, dir := t.Context(), t.TempDir()
	m := newMeter(deltalake.NewFolderStore(dir))
	if got := m.text(time.Second); got != "listed 0 objects" {
		t.Errorf("at first %q", got)
	}
	schema := deltalake.NewSchema(deltalake.Field{Name: "id", Type: deltalake.Of(deltalake.KindLong)})
	tbl, err := deltalake.Create(ctx, m, deltalake.CreateOptions{Schema: schema})
	if err != nil {
		t.Fatal(err)
	}
	b := deltalake.NewBatch(schema)
	for i := range 1000 {
		b.Columns[0].AppendLong(int64(i))
	}
	b.Len = 1000
	for range 3 {
		if _, err := tbl.Append(ctx, m.counted(deltalake.Batches(b)), deltalake.WriteOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	if got := m.text(2 * time.Second); !strings.HasPrefix(got, "3000 rows (1500/s)") || !strings.Contains(got, "wrote 3 files, 0.0 MB") {
		t.Errorf("after three appends %q", got)
	}
	if _, err := tbl.Optimize(ctx, deltalake.OptimizeOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := tbl.Vacuum(ctx, deltalake.VacuumOptions{None: true, Force: true}); err != nil {
		t.Fatal(err)
	}
	if got := m.text(time.Second); !strings.Contains(got, "read 3 files") || !strings.Contains(got, "wrote 4 files") || !strings.Contains(got, "deleted 3 files (3/s)") {
		t.Errorf("after optimize and vacuum %q", got)
	}
	// A clone names files by absolute path, which only a folder can serve.
	clone, err := tbl.Latest().Clone(ctx, newMeter(deltalake.NewFolderStore(filepath.Join(dir, "clone"))), deltalake.TableOptions{})
	if err != nil {
		t.Fatal(err)
	}
	rows := 0
	for b, err := range clone.Latest().Scan(ctx, deltalake.ScanOptions{}) {
		if err != nil {
			t.Fatal(err)
		}
		rows += b.Len
	}
	if rows != 3000 {
		t.Errorf("the clone has %d rows", rows)
	}
}

// What the work returns comes back, and nothing is told of short work.
func TestMeterDuring(t *testing.T) {
	var said bytes.Buffer
	want := errors.New("no")
	if err := newMeter(nil).during(&said, "work", func() error { return want }); !errors.Is(err, want) || said.Len() > 0 {
		t.Errorf("error %v, said %q", err, said.String())
	}
}

// A wrong output format is refused before anything is changed.
func TestTableFormatFirst(t *testing.T) {
	dir := t.TempDir()
	if _, err := weirTable(t, "create", dir, "--columns", "id long"); err != nil {
		t.Fatal(err)
	}
	if _, err := weirTable(t, "properties", dir, "--set", "a=b", "-o", "xml"); err == nil || !strings.Contains(err.Error(), "want table or json") {
		t.Errorf("error %v", err)
	}
	tbl, err := openTable(context.Background(), dir)
	if err != nil {
		t.Fatal(err)
	}
	if v := tbl.Latest().Version(); v != 0 {
		t.Errorf("the table is at version %d", v)
	}
}
