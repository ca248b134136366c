package deltalake

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/parquet-go/parquet-go"
)

// writeLog puts commits, each a list of JSON lines, into a new store.
func writeLog(t testing.TB, commits ...string) *MemoryStore {
	t.Helper()
	store := NewMemoryStore(nil)
	for v, lines := range commits {
		if err := store.Put(context.Background(), commitPath(int64(v)), []byte(lines)); err != nil {
			t.Fatal(err)
		}
	}
	return store
}

const (
	foreignProtocol = `{"protocol":{"minReaderVersion":1,"minWriterVersion":2}}` + "\n"
	foreignMetadata = `{"metaData":{"id":"t","format":{"provider":"parquet","options":{}},"schemaString":"{\"type\":\"struct\",\"fields\":[{\"name\":\"id\",\"type\":\"long\",\"nullable\":true,\"metadata\":{}}]}","partitionColumns":[],"configuration":{},"createdTime":1}}` + "\n"
)

// However a writer spells the path of one file, a remove takes out its add.
func TestOneFileHasManySpellings(t *testing.T) {
	for _, tt := range []struct {
		add, remove string
		same        bool
	}{
		{"a.parquet", "a.parquet", true},
		{"a.parquet", "b.parquet", false},
		{"p=x%20y/a.parquet", "p=x y/a.parquet", true},
		{"p=x%2520y/a.parquet", "p=x%20y/a.parquet", false},
		{"/some/unqualified/with%20space/p@%23h", "file:///some/unqualified/with%20space/p@%23h", true},
		{"/some/path", "file:/some/path", true},
		{"file:/some/path", "file:///some/path", true},
		{"s3://bucket/a", "s3://other/a", false},
		{"some/path", "/some/path", false},
	} {
		add := fmt.Sprintf(`{"add":{"path":%q,"partitionValues":{},"size":1,"modificationTime":1,"dataChange":true}}`, tt.add)
		remove := fmt.Sprintf(`{"remove":{"path":%q,"deletionTimestamp":200,"dataChange":true}}`, tt.remove)
		tbl, err := Open(context.Background(), writeLog(t, foreignProtocol+foreignMetadata+add, remove), TableOptions{})
		if err != nil {
			t.Fatal(err)
		}
		s, err := tbl.Refresh(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		if got := s.NumFiles() == 0; got != tt.same {
			t.Errorf("add %s, remove %s: one file is %v, want %v", tt.add, tt.remove, got, tt.same)
		}
	}
}

// Properties, format options, parameters and metrics that are not strings keep
// their JSON text; a null is no property.
func TestPropertiesThatAreNotStrings(t *testing.T) {
	metadata := strings.Replace(foreignMetadata, `"configuration":{}`,
		`"configuration":{"delta.writePartitionColumnsToParquet":false,"delta.checkpointInterval":7,"delta.appendOnly":"true","gone":null}`, 1)
	info := `{"commitInfo":{"timestamp":5,"operation":"WRITE","operationParameters":{"partitionBy":["a"],"n":3,"o":{"x":null}},"operationMetrics":{"numFiles":3}}}`
	tbl, err := Open(context.Background(), writeLog(t, foreignProtocol+metadata+info), TableOptions{})
	if err != nil {
		t.Fatal(err)
	}
	s, err := tbl.Refresh(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	got := s.Metadata().Configuration
	want := map[string]string{"delta.writePartitionColumnsToParquet": "false", "delta.checkpointInterval": "7", "delta.appendOnly": "true"}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("properties %v, want %v", got, want)
	}
	if _, err := tbl.History(context.Background(), 0); err != nil {
		t.Errorf("History: %v", err)
	}
}

// The columns of a Delta checkpoint whose statistics are columns only.
type (
	foreignCheckpoint struct {
		Add      *foreignAdd      `parquet:"add"`
		Metadata *foreignMetaData `parquet:"metaData"`
		Protocol *foreignVersions `parquet:"protocol"`
	}
	foreignAdd struct {
		Path            string            `parquet:"path"`
		PartitionValues map[string]string `parquet:"partitionValues"`
		Size            int64             `parquet:"size"`
		ModTime         int64             `parquet:"modificationTime"`
		DataChange      bool              `parquet:"dataChange"`
		Stats           *string           `parquet:"stats"`
		Parsed          *foreignStats     `parquet:"stats_parsed"`
	}
	foreignStats struct {
		Rows  *int64         `parquet:"numRecords"`
		Min   *foreignBounds `parquet:"minValues"`
		Max   *foreignBounds `parquet:"maxValues"`
		Nulls *foreignCounts `parquet:"nullCount"`
	}
	foreignBounds struct {
		ID   *int64     `parquet:"id"`
		Name *string    `parquet:"name"`
		At   *time.Time `parquet:"at,timestamp(microsecond)"`
		X    *float64   `parquet:"x"`
		Deep *struct {
			Day *int32 `parquet:"day,date"`
		} `parquet:"deep"`
	}
	foreignCounts struct {
		ID   *int64 `parquet:"id"`
		Name *int64 `parquet:"name"`
	}
	foreignMetaData struct {
		ID     string `parquet:"id"`
		Format struct {
			Provider string            `parquet:"provider"`
			Options  map[string]string `parquet:"options"`
		} `parquet:"format"`
		Schema    string            `parquet:"schemaString"`
		Partition []string          `parquet:"partitionColumns,list"`
		Config    map[string]string `parquet:"configuration"`
	}
	foreignVersions struct {
		Reader int32 `parquet:"minReaderVersion"`
		Writer int32 `parquet:"minWriterVersion"`
	}
)

// Statistics that a checkpoint holds as columns only are used as JSON ones are.
func TestStatisticsAsColumnsOnly(t *testing.T) {
	ptr := func(x int64) *int64 { return &x }
	name, at, nan, day := `q"uote`, time.Date(2024, 2, 29, 1, 2, 3, 456789000, time.UTC), math.NaN(), int32(19782)
	text := `{"numRecords":4,"minValues":{"id":100},"maxValues":{"id":200},"nullCount":{"id":0}}`
	bounds := &foreignBounds{ID: ptr(7), Name: &name, At: &at, X: &nan}
	bounds.Deep = &struct {
		Day *int32 `parquet:"day,date"`
	}{&day}
	meta := &foreignMetaData{ID: "t", Schema: `{"type":"struct","fields":[{"name":"id","type":"long","nullable":true,"metadata":{}}]}`}
	meta.Format.Provider = "parquet"
	var b bytes.Buffer
	w := parquet.NewGenericWriter[foreignCheckpoint](&b)
	if _, err := w.Write([]foreignCheckpoint{
		{Protocol: &foreignVersions{1, 2}}, {Metadata: meta},
		{Add: &foreignAdd{Path: "a", Size: 1, Parsed: &foreignStats{Rows: ptr(5), Min: bounds, Nulls: &foreignCounts{ID: ptr(1)}}}},
		{Add: &foreignAdd{Path: "b", Size: 1, Stats: &text, Parsed: &foreignStats{Rows: ptr(99)}}},
		{Add: &foreignAdd{Path: "c", Size: 1}},
	}); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	store := NewMemoryStore(nil)
	if err := store.Put(context.Background(), logDir+"00000000000000000003.checkpoint.parquet", b.Bytes()); err != nil {
		t.Fatal(err)
	}
	tbl, err := Open(context.Background(), store, TableOptions{})
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{
		"a": `{"numRecords":5,"minValues":{"id":7,"name":"q\"uote","at":"2024-02-29T01:02:03.456789Z","deep":{"day":"2024-02-29"}},"nullCount":{"id":1}}`,
		"b": text, "c": "",
	}
	for _, f := range tbl.Latest().Files() {
		if f.Stats != want[f.Path] {
			t.Errorf("file %s has statistics %s, want %s", f.Path, f.Stats, want[f.Path])
		}
		delete(want, f.Path)
	}
	if len(want) > 0 {
		t.Errorf("not found: %v", want)
	}
}

// A file that is replaced or deleted takes the checksum that Spark's file system
// keeps beside it along: with a stale one, Spark would refuse the new bytes.
func TestFolderDropsStaleSums(t *testing.T) {
	ctx, dir := context.Background(), t.TempDir()
	store := NewFolderStore(dir)
	for _, step := range []func() error{
		func() error { return store.Put(ctx, logDir+"_last_checkpoint", []byte("new")) },
		func() error { return store.Delete(ctx, logDir+"_last_checkpoint") },
	} {
		sum := filepath.Join(dir, logDir, "._last_checkpoint.crc")
		if err := os.MkdirAll(filepath.Dir(sum), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(sum, []byte("crc"), 0o644); err != nil {
			t.Fatal(err)
		}
		if err := step(); err != nil {
			t.Fatal(err)
		}
		if _, err := os.Stat(sum); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("the stale checksum is still there: %v", err)
		}
	}
}
