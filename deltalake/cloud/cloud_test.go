package cloud

import (
	"context"
	"crypto/rand"
	"os"
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
	bucket := os.Getenv("WEIR_S3_BUCKET")
	if os.Getenv("AWS_ENDPOINT_URL") == "" || bucket == "" {
		t.Skip("SKIPPED: AWS_ENDPOINT_URL and WEIR_S3_BUCKET do not name an S3 server and a bucket")
	}
	ctx := context.Background()
	root := "s3://" + bucket + "/" + rand.Text()
	s, err := Open(ctx, root+"/check")
	if err != nil {
		t.Fatal(err)
	}
	storetest.Check(t, s)
	if s, err = Open(ctx, root+"/table"); err != nil {
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
