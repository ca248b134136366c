package deltalake

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"testing"
)

// metadataLine is the metadata of a table with one column of a name and type.
func metadataLine(name, typ, conf string) string {
	return fmt.Sprintf(`{"metaData":{"id":"t","format":{"provider":"parquet","options":{}},"schemaString":"{\"type\":\"struct\",\"fields\":[{\"name\":\"%s\",\"type\":\"%s\",\"nullable\":true,\"metadata\":{\"delta.columnMapping.id\":1,\"delta.columnMapping.physicalName\":\"%s\"}}]}","partitionColumns":[],"configuration":{%s}}}`,
		name, typ, name, conf) + "\n"
}

// wantSentence checks that an error is one line with the words.
func wantSentence(t *testing.T, what string, err error, words ...string) {
	t.Helper()
	if err == nil || strings.Contains(err.Error(), "\n") {
		t.Errorf("%s: error %v, want one sentence", what, err)
		return
	}
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("%s: %v, want %q in it", what, err, w)
		}
	}
}

// v2Table is a table at version 3 whose V2 checkpoint has sidecars and a JSON head,
// and no older commits. It returns the head's path.
func v2Table(t *testing.T) (*MemoryStore, string) {
	t.Helper()
	ctx := context.Background()
	store := NewMemoryStore(nil)
	tbl, err := Create(ctx, store, CreateOptions{Schema: interopSchema(), Properties: map[string]string{"delta.checkpointPolicy": "v2"}})
	if err != nil {
		t.Fatal(err)
	}
	for i := range 3 {
		appendRows(t, tbl, i*10, 10)
	}
	if err := tbl.WriteCheckpointWith(ctx, tbl.Latest(), CheckpointOptions{SidecarFiles: 1, JSON: true}); err != nil {
		t.Fatal(err)
	}
	head := ""
	for info, err := range store.List(ctx, logDir, "") {
		if err != nil {
			t.Fatal(err)
		}
		switch {
		case strings.Contains(info.Path, ".checkpoint."):
			head = info.Path
		case strings.HasSuffix(info.Path, ".json") || strings.HasSuffix(info.Path, ".crc"):
			if err := store.Delete(ctx, info.Path); err != nil {
				t.Fatal(err)
			}
		}
	}
	return store, head
}

func edit(t *testing.T, store Store, path string, change func([]byte) []byte) {
	t.Helper()
	data, err := store.Get(context.Background(), path)
	if err == nil {
		err = store.Put(context.Background(), path, change(data))
	}
	if err != nil {
		t.Fatal(err)
	}
}

// Sidecars may be named absolutely, as other writers do.
func TestAbsoluteSidecars(t *testing.T) {
	for _, root := range []string{"file:///data/t/_delta_log/_sidecars/", "/data/t/_delta_log/_sidecars/", "s3://bucket/a%20b/_delta_log/_sidecars/", "_delta_log/_sidecars/"} {
		store, head := v2Table(t)
		edit(t, store, head, func(b []byte) []byte {
			return bytes.ReplaceAll(b, []byte(`{"sidecar":{"path":"`), []byte(`{"sidecar":{"path":"`+root))
		})
		tbl, err := Open(context.Background(), store, TableOptions{})
		if err != nil {
			t.Errorf("%s: %v", root, err)
			continue
		}
		if n := tbl.Latest().NumFiles(); n != 3 {
			t.Errorf("%s: %d files, want 3", root, n)
		}
	}
}

// A Delta checkpoint that is whole but has no protocol or metadata lost it, so the
// table is refused, whether or not older commits are there; one that a later commit
// makes good is not.
func TestCheckpointWithoutProtocolOrMetadata(t *testing.T) {
	ctx := context.Background()
	for _, lost := range []string{"protocol", "metaData"} {
		store, head := v2Table(t)
		var line []byte
		edit(t, store, head, func(b []byte) []byte {
			var kept [][]byte
			for _, l := range bytes.SplitAfter(b, []byte("\n")) {
				if bytes.HasPrefix(l, []byte(`{"`+lost+`"`)) {
					line = l
				} else {
					kept = append(kept, l)
				}
			}
			return bytes.Join(kept, nil)
		})
		_, err := Open(ctx, store, TableOptions{})
		wantSentence(t, lost, err, "version 3 has no "+strings.ToLower(lost[:1])+strings.ToLower(lost[1:])+" action", "checkpoint of version 3")
		_, err = StreamCheckpoint(ctx, store, TableOptions{}, CheckpointOptions{})
		wantSentence(t, lost+" streamed", err, "checkpoint of version 3")
		if err := store.Put(ctx, commitPath(4), line); err != nil {
			t.Fatal(err)
		}
		if tbl, err := Open(ctx, store, TableOptions{}); err != nil || tbl.Latest().NumFiles() != 3 {
			t.Errorf("%s in a later commit: %v", lost, err)
		}
	}
}

// Where a damaged checkpoint and a missing commit are both to blame, the error is
// one sentence with both.
func TestDamageIsOneSentence(t *testing.T) {
	store, _ := v2Table(t)
	for info, err := range store.List(context.Background(), sidecarDir, "") {
		if err != nil {
			t.Fatal(err)
		}
		if err := store.Delete(context.Background(), info.Path); err != nil {
			t.Fatal(err)
		}
		break
	}
	_, err := Open(context.Background(), store, TableOptions{})
	wantSentence(t, "sidecar", err, "_sidecars/", "no longer has version 0")
}

// A table may have no columns yet, or only partition columns: it is read, and
// refused when files are to be written.
func TestTablesWithoutDataColumns(t *testing.T) {
	ctx := context.Background()
	for name, meta := range map[string]string{
		"no schema":       `{"metaData":{"id":"t","format":{"provider":"parquet","options":{}},"partitionColumns":[],"configuration":{}}}`,
		"empty schema":    `{"metaData":{"id":"t","format":{"provider":"parquet","options":{}},"schemaString":"{\"type\":\"struct\",\"fields\":[]}","partitionColumns":[],"configuration":{}}}`,
		"partitions only": strings.Replace(metadataLine("id", "long", ""), `"partitionColumns":[]`, `"partitionColumns":["id"]`, 1),
	} {
		tbl, err := Open(ctx, writeLog(t, foreignProtocol+meta), TableOptions{})
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		s := tbl.Latest()
		if got, err := sumSnapshot(ctx, s, nil, ScanOptions{}); err != nil || got.rows != 0 || s.NumFiles() != 0 {
			t.Errorf("%s: %v rows, %v", name, got, err)
		}
		if !bytes.HasPrefix(s.Info().Schema, []byte(`{"type":"struct"`)) {
			t.Errorf("%s: schema %s", name, s.Info().Schema)
		}
		if name == "partitions only" {
			b := NewBatch(s.Schema())
			b.Columns[0].AppendLong(1)
			b.Len = 1
			_, err = tbl.Append(ctx, Batches(b), WriteOptions{})
			wantSentence(t, name, err, "every column is a partition column")
		}
	}
}

// What the metadata says of columns and makes no sense is refused.
func TestMetadataRefusals(t *testing.T) {
	for words, meta := range map[string]string{
		`delta.columnMapping.mode = "weird"`: metadataLine("id", "long", `"delta.columnMapping.mode":"weird"`),
		`column "id" twice`: `{"metaData":{"id":"t","schemaString":"{\"type\":\"struct\",\"fields\":[{\"name\":\"id\",\"type\":\"long\",\"nullable\":true,\"metadata\":{}},` +
			`{\"name\":\"id\",\"type\":\"long\",\"nullable\":true,\"metadata\":{}}]}","partitionColumns":[],"configuration":{}}}`,
	} {
		_, err := Open(context.Background(), writeLog(t, foreignProtocol+meta), TableOptions{})
		wantSentence(t, words, err, words)
	}
}

// What a table's protocol forbids is not done by a change that would replace it.
func TestAlterKeepsForeignProtocol(t *testing.T) {
	ctx := context.Background()
	for _, version := range []string{"0", "8", "99"} {
		store := writeLog(t, strings.ReplaceAll(foreignProtocol, `"minWriterVersion":2`, `"minWriterVersion":`+version)+foreignMetadata)
		tbl, err := Open(ctx, store, TableOptions{})
		if err != nil {
			t.Fatal(err)
		}
		on := "true"
		_, err = tbl.AddConstraint(ctx, "c", "id > 0")
		wantSentence(t, "constraint", err, "writer version "+version)
		_, err = tbl.SetProperties(ctx, map[string]*string{"delta.enableDeletionVectors": &on})
		wantSentence(t, "property", err, "writer version "+version)
		if _, err := store.Stat(ctx, commitPath(1)); err == nil {
			t.Errorf("writer version %s: a commit was made", version)
		}
	}
}

// A version can be read though the newest cannot.
func TestReadVersion(t *testing.T) {
	ctx := context.Background()
	store := writeLog(t, foreignProtocol+foreignMetadata, `{"protocol":{"minReaderVersion":3,"minWriterVersion":7,"readerFeatures":["fancy"],"writerFeatures":["fancy"]}}`, `{"damaged`)
	s, err := ReadVersion(ctx, store, 0, TableOptions{})
	if err != nil || s.Version() != 0 || len(s.Schema().Fields) != 1 {
		t.Errorf("version 0: %v", err)
	}
	_, err = ReadVersion(ctx, store, 1, TableOptions{})
	wantSentence(t, "version 1", err, "reader feature fancy")
	_, err = ReadVersion(ctx, store, 2, TableOptions{})
	wantSentence(t, "version 2", err, "version 2")
	_, err = ReadVersion(ctx, store, 3, TableOptions{})
	wantSentence(t, "version 3", err, "the newest is 2")
}

// Data files that do not fit the table are refused rather than read wrong: decimals
// of more digits, and files without field ids where columns are mapped by id.
func TestFilesThatDoNotFit(t *testing.T) {
	ctx := context.Background()
	store := NewMemoryStore(nil)
	tbl, err := Create(ctx, store, CreateOptions{Schema: NewSchema(Col("v", DecimalOf(10, 2)))})
	if err != nil {
		t.Fatal(err)
	}
	b := NewBatch(tbl.Latest().Schema())
	for _, v := range []int64{12345, 99999, -99999, 1234567} {
		b.Columns[0].AppendDecimal(DecimalFromInt64(v))
		b.Len++
	}
	if _, err := tbl.Append(ctx, Batches(b), WriteOptions{}); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ proto, meta, words string }{
		{foreignProtocol, metadataLine("v", "decimal(5,2)", ""), "does not fit decimal(5,2)"},
		{strings.ReplaceAll(foreignProtocol, `"minReaderVersion":1`, `"minReaderVersion":2`), metadataLine("v", "decimal(10,2)", `"delta.columnMapping.mode":"id"`), "no column of the data file has one"},
		{foreignProtocol, metadataLine("v", "decimal(7,2)", ""), ""},
	} {
		if err := store.Put(ctx, commitPath(2), []byte(tt.proto+tt.meta)); err != nil {
			t.Fatal(err)
		}
		s, err := ReadVersion(ctx, store, 2, TableOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if _, err = sumSnapshot(ctx, s, nil, ScanOptions{}); tt.words != "" {
			wantSentence(t, tt.words, err, tt.words)
		} else if err != nil {
			t.Error(err)
		}
	}
}
