package deltalake

import (
	"context"
	"fmt"
	"strings"
	"testing"
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
