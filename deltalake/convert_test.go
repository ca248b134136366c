package deltalake

import (
	"context"
	"strings"
	"testing"
)

// Converting a folder is one commit, and passes over what other tools see as hidden.
func TestConvertIsOneCommit(t *testing.T) {
	ctx := context.Background()
	store := NewMemoryStore(nil)
	src, err := Create(ctx, NewMemoryStore(nil), CreateOptions{Schema: NewSchema(Col("id", Of(KindLong)))})
	if err != nil {
		t.Fatal(err)
	}
	b := NewBatch(src.Latest().Schema())
	b.Columns[0].AppendLong(7)
	b.Len = 1
	if _, err := src.Append(ctx, Batches(b), WriteOptions{}); err != nil {
		t.Fatal(err)
	}
	data, err := src.Store().Get(ctx, src.Latest().Files()[0].Path)
	if err != nil {
		t.Fatal(err)
	}
	for path, body := range map[string][]byte{
		"_p=1/a.parquet": data, "_p=2/b.parquet": data, ".tmp/c.parquet": []byte("x"), "_p=1/_temporary/0/d.parquet": []byte("x"), "_p=1/.e.parquet": []byte("x"), "notes.txt": nil,
	} {
		if err := store.Put(ctx, path, body); err != nil {
			t.Fatal(err)
		}
	}
	tbl, err := Convert(ctx, store, []Field{Col("_p", Of(KindInteger))}, TableOptions{})
	if err != nil {
		t.Fatal(err)
	}
	h, err := tbl.History(ctx, 0)
	if err != nil || len(h) != 1 || h[0].Info.Operation != "CONVERT" {
		t.Errorf("history %+v (%v), want one CONVERT", h, err)
	}
	rows, err := snapshotRows(ctx, tbl.Latest(), ScanOptions{})
	if err != nil || strings.Join(rows, " ") != "(i7|i1| (i7|i2|" {
		t.Errorf("rows %v (%v)", rows, err)
	}
}

// Columns of type void, which Spark leaves out of data files, read as null; nothing
// is written to such a table.
func TestVoidColumns(t *testing.T) {
	ctx := context.Background()
	store := NewMemoryStore(nil)
	tbl, err := Create(ctx, store, CreateOptions{Schema: NewSchema(Col("id", Of(KindLong)))})
	if err != nil {
		t.Fatal(err)
	}
	b := NewBatch(tbl.Latest().Schema())
	b.Columns[0].AppendLong(7)
	b.Len = 1
	if _, err := tbl.Append(ctx, Batches(b), WriteOptions{}); err != nil {
		t.Fatal(err)
	}
	meta := `{"metaData":{"id":"t","format":{"provider":"parquet","options":{}},"schemaString":"{\"type\":\"struct\",\"fields\":[{\"name\":\"id\",\"type\":\"long\",\"nullable\":true,\"metadata\":{}},` +
		`{\"name\":\"v\",\"type\":\"void\",\"nullable\":true,\"metadata\":{}},{\"name\":\"s\",\"type\":{\"type\":\"struct\",\"fields\":[{\"name\":\"w\",\"type\":\"void\",\"nullable\":true,\"metadata\":{}}]},\"nullable\":true,\"metadata\":{}}]}","partitionColumns":[],"configuration":{}}}`
	if err := store.Put(ctx, commitPath(2), []byte(meta)); err != nil {
		t.Fatal(err)
	}
	s, err := tbl.Refresh(ctx)
	if err != nil {
		t.Fatal(err)
	}
	rows, err := snapshotRows(ctx, s, ScanOptions{Filter: mustExpr(t, "v is null and id = 7")})
	if err != nil || strings.Join(rows, " ") != "(i7|N|N|" || s.Schema().Fields[1].Type.String() != "void" {
		t.Errorf("rows %v of %v (%v)", rows, s.Schema().Struct(), err)
	}
	_, err = Create(ctx, NewMemoryStore(nil), CreateOptions{Schema: s.Schema()})
	wantSentence(t, "create", err, `type void (column "v") is not supported`)
	_, err = tbl.Append(ctx, Batches(b), WriteOptions{})
	wantSentence(t, "append", err, `type void (column "v") is not supported`)
}
