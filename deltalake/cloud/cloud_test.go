package cloud

import (
	"context"
	"crypto/rand"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/weirstream/weir/deltalake"
	"github.com/weirstream/weir/deltalake/storetest"
	"github.com/weirstream/weir/internal/objstore"
)

// The adapter keeps the promises of deltalake.Store over an object store.
func TestAdapter(t *testing.T) {
	storetest.Check(t, &store{objstore.NewMem(nil)})
}

// What cannot be opened is refused in one sentence that names it.
func TestOpen(t *testing.T) {
	ctx := context.Background()
	for _, uri := range []string{"gs://b/t", "ftp://x/y", "s3://b/t?colour=red"} {
		if _, err := Open(ctx, uri); err == nil || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: error %v, want one sentence", uri, err)
		}
	}
	for _, uri := range []string{t.TempDir(), "file://" + t.TempDir()} {
		s, err := Open(ctx, uri)
		if err != nil {
			t.Fatal(err)
		}
		storetest.Check(t, s)
	}
}

// A table lives on a real S3 server: the store's promises, appends, a merge.
func TestRealS3(t *testing.T) {
	endpoint, data := os.Getenv("WEIR_S3_ENDPOINT"), os.Getenv("WEIR_S3_DATA")
	if endpoint == "" || data == "" {
		t.Skip("SKIPPED: WEIR_S3_ENDPOINT is not set: run deploy/real/s3.sh start; eval \"$(deploy/real/s3.sh env)\"")
	}
	bucket := "cloud-" + strings.ToLower(rand.Text()[:12])
	if err := os.Mkdir(filepath.Join(data, bucket), 0o755); err != nil { // a bucket of that server
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(filepath.Join(data, bucket)); err != nil {
			t.Error(err)
		}
	})
	ctx := context.Background()
	query := "?endpoint=" + url.QueryEscape(endpoint)
	root := "s3://" + bucket
	s, err := Open(ctx, root+"/check"+query)
	if err != nil {
		t.Fatal(err)
	}
	storetest.Check(t, s)
	if s, err = Open(ctx, root+"/table"+query); err != nil {
		t.Fatal(err)
	}
	schema := deltalake.NewSchema(deltalake.Col("id", deltalake.Of(deltalake.KindLong)))
	tbl, err := deltalake.Create(ctx, s, deltalake.CreateOptions{Schema: schema})
	if err != nil {
		t.Fatal(err)
	}
	for i := range int64(12) {
		b := deltalake.NewBatch(schema)
		b.Columns[0].AppendLong(i)
		b.Len = 1
		if r, err := tbl.Append(ctx, deltalake.Batches(b), deltalake.WriteOptions{}); err != nil || r.Upkeep != nil {
			t.Fatal(err, r)
		}
	}
	again, err := deltalake.Open(ctx, s, deltalake.TableOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if n, ok := again.Latest().NumRows(); !ok || n != 12 {
		t.Fatalf("%d rows, want 12", n)
	}
}
