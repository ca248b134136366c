package cloud

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/weirstream/weir/deltalake"
	"github.com/weirstream/weir/deltalake/storetest"
	"github.com/weirstream/weir/internal/objstore"
)

// The adapter keeps the promises of deltalake.Store over an object store.
func TestAdapter(t *testing.T) {
	storetest.Check(t, &store{s: objstore.NewMem(nil)})
}

// Passing failures of the object store are waited out; a lost answer is told, since
// only the table can settle it.
func TestPassingFailures(t *testing.T) {
	for _, tt := range []struct {
		fault error
		calls int
		want  error
	}{{objstore.ErrRetry, 2, nil}, {objstore.ErrAmbiguous, 1, objstore.ErrAmbiguous}} {
		f := &failing{Store: objstore.NewMem(nil), fault: tt.fault}
		s := &store{s: f}
		if err := s.PutIfAbsent(t.Context(), "k", []byte("x")); !errors.Is(err, tt.want) || f.calls != tt.calls {
			t.Errorf("after %v: PutIfAbsent = %v after %d calls, want %v after %d", tt.fault, err, f.calls, tt.want, tt.calls)
		}
	}
}

// failing fails its first put if absent.
type failing struct {
	objstore.Store
	fault error
	calls int
}

func (f *failing) PutIfAbsent(ctx context.Context, key string, body io.Reader, size int64) error {
	if f.calls++; f.calls == 1 {
		return fmt.Errorf("injected: %w", f.fault)
	}
	return f.Store.PutIfAbsent(ctx, key, body, size)
}

// What cannot be opened is refused in one sentence that names it.
func TestOpen(t *testing.T) {
	ctx := context.Background()
	for _, uri := range []string{"ftp://x/y", "s3://b/t?colour=red", "gs://b/t?colour=red", "az://c/t?colour=red", "gs:///t", "az:///t?account=a", "hdfs://n/t"} {
		if _, err := Open(ctx, uri); err == nil || strings.Count(err.Error(), "\n") > 0 {
			t.Errorf("%s: error %v, want one sentence", uri, err)
		}
	}
	for _, uri := range []string{"s3a://b/t", "gs://b/t", "az://c/t?account=a", "abfss://c@a.dfs.core.windows.net/t"} {
		if _, err := Open(ctx, uri); err != nil {
			t.Errorf("%s: %v", uri, err)
		}
	}
	for _, uri := range []string{t.TempDir(), "file://" + t.TempDir()} {
		s, err := Open(ctx, uri)
		if err != nil {
			t.Fatal(err)
		}
		storetest.Check(t, s)
	}
	spaced := filepath.Join(t.TempDir(), "a b%20c")
	if err := os.Mkdir(spaced, 0o755); err != nil {
		t.Fatal(err)
	}
	escaped := strings.NewReplacer(" ", "%20", "%", "%25").Replace(spaced)
	for _, uri := range []string{"file:" + spaced, "file://" + spaced, "file://localhost" + spaced, "file://" + escaped} {
		s, err := Open(ctx, uri)
		if f, ok := s.(*deltalake.FolderStore); err != nil || !ok || f.Root() != spaced {
			t.Errorf("%s is %v (%v), want %s", uri, s, err, spaced)
		}
	}
	if _, err := Open(ctx, "file://server/share"); err == nil || !strings.Contains(err.Error(), "file:///") {
		t.Errorf("a URI with a host gave %v", err)
	}
}

// real is one real server.
type real struct {
	root, query string            // URI of a folder of its own, and the options
	options     map[string]string // what delta-rs is told
	readOnly    bool              // delta-rs cannot write there
}

// need returns a variable that a script of deploy/real sets, or skips.
func need(t *testing.T, script, name string) string {
	t.Helper()
	v := os.Getenv(name)
	if v == "" {
		t.Skipf("SKIPPED: %s is not set: run deploy/real/%s start; eval \"$(deploy/real/%s env)\"", name, script, script)
	}
	return v
}

// A table lives on a real S3 server: the store's promises, appends, another reader.
func TestRealS3(t *testing.T) {
	endpoint, data := need(t, "s3.sh", "WEIR_S3_ENDPOINT"), need(t, "s3.sh", "WEIR_S3_DATA")
	bucket := "cloud-" + strings.ToLower(rand.Text()[:12])
	if err := os.Mkdir(filepath.Join(data, bucket), 0o755); err != nil { // a bucket of that server
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(filepath.Join(data, bucket)); err != nil {
			t.Error(err)
		}
	})
	live(t, real{"s3://" + bucket, "endpoint=" + url.QueryEscape(endpoint), map[string]string{
		"AWS_ENDPOINT_URL": endpoint, "AWS_ALLOW_HTTP": "true", "AWS_REGION": "us-east-1", "aws_conditional_put": "etag",
	}, false})
}

// The same on a server of Google Cloud Storage's protocol.
func TestRealGCS(t *testing.T) {
	endpoint, bucket := need(t, "gcs.sh", "WEIR_GCS_ENDPOINT"), need(t, "gcs.sh", "WEIR_GCS_BUCKET")
	account, err := json.Marshal(map[string]any{"gcs_base_url": endpoint, "disable_oauth": true, "client_email": "", "private_key": "", "private_key_id": ""})
	if err != nil {
		t.Fatal(err)
	}
	options := map[string]string{"google_service_account_key": string(account), "allow_http": "true"}
	// delta-rs writes by the XML API, which this server has for reading only.
	live(t, real{"gs://" + bucket + "/" + rand.Text(), "google_service_account_key=" + url.QueryEscape(string(account)), options, true})
}

// The same on Microsoft's emulator of Azure Blob Storage.
func TestRealAzure(t *testing.T) {
	endpoint, container := need(t, "azure.sh", "WEIR_AZURE_ENDPOINT"), need(t, "azure.sh", "WEIR_AZURE_CONTAINER")
	t.Setenv("AZURITE_BLOB_STORAGE_URL", strings.TrimSuffix(endpoint, "/"+os.Getenv("AZURE_STORAGE_ACCOUNT")))
	options := map[string]string{"azure_storage_use_emulator": "true", "allow_http": "true"}
	live(t, real{"az://" + container + "/" + rand.Text(), "azure_storage_use_emulator=true", options, false})
}

// live checks the store's promises at a server, and lets a table live there.
func live(t *testing.T, at real) {
	t.Helper()
	ctx := t.Context()
	s, err := Open(ctx, at.root+"/check?"+at.query)
	if err != nil {
		t.Fatal(err)
	}
	storetest.Check(t, s)
	if s, err = Open(ctx, at.root+"/table?"+at.query); err != nil {
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
	judgedByDeltaRS(t, at)
	again, err := deltalake.Open(ctx, s, deltalake.TableOptions{})
	if err != nil {
		t.Fatal(err)
	}
	want := int64(13)
	if at.readOnly {
		want = 12
	}
	if n, ok := again.Latest().NumRows(); !ok || n != want {
		t.Fatalf("%d rows, want %d", n, want)
	}
}

// judgedByDeltaRS lets delta-rs read the table's rows and append one.
func judgedByDeltaRS(t *testing.T, at real) {
	t.Helper()
	python := os.Getenv("WEIR_PYTHON")
	if python == "" {
		python = "../../.real/py/bin/python3"
	}
	if _, err := os.Stat(python); err != nil {
		t.Skipf("SKIPPED: the judgement of delta-rs: no Python with deltalake at %s (run deploy/real/py.sh, or set WEIR_PYTHON)", python)
	}
	options, err := json.Marshal(at.options)
	if err != nil {
		t.Fatal(err)
	}
	out, err := exec.CommandContext(t.Context(), python, "-c", `
import json, sys
import pyarrow
from deltalake import DeltaTable, write_deltalake
uri, options = sys.argv[1], json.loads(sys.argv[2])
table = DeltaTable(uri, storage_options=options)
assert table.version() == 12, table.version()
ids = sorted(table.to_pyarrow_table()["id"].to_pylist())
assert ids == list(range(12)), ids
if sys.argv[3] == "false":
    write_deltalake(table, pyarrow.table({"id": pyarrow.array([12], pyarrow.int64())}), mode="append", storage_options=options)
`, at.root+"/table", string(options), strconv.FormatBool(at.readOnly)).CombinedOutput()
	if err != nil {
		t.Fatalf("delta-rs: %v\n%s", err, out)
	}
}
