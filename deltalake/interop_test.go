package deltalake

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// others is a Python process with delta-rs and DuckDB.
type others struct {
	in  io.WriteCloser
	out *bufio.Scanner
}

type otherAnswer struct {
	Error   string
	Rows    int64
	Sum     string
	Version int64
	H       []string
}

// startOthers runs testdata/interop.py, or skips the test with the reason.
func startOthers(t *testing.T) *others {
	t.Helper()
	python := os.Getenv("WEIR_PYTHON")
	if python == "" {
		python = "../.real/py/bin/python3"
	}
	if _, err := os.Stat(python); err != nil {
		t.Skipf("SKIPPED: no Python with deltalake and duckdb at %s (set WEIR_PYTHON)", python)
	}
	if err := exec.Command(python, "-c", "import deltalake, duckdb, duckdb_extension_delta, pyarrow").Run(); err != nil {
		t.Skipf("SKIPPED: %s lacks deltalake, duckdb, duckdb-extension-delta or pyarrow", python)
	}
	cmd := exec.Command(python, "testdata/interop.py")
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { in.Close(); cmd.Wait() })
	sc := bufio.NewScanner(out)
	sc.Buffer(nil, 1<<24)
	return &others{in, sc}
}

func (o *others) ask(t *testing.T, args map[string]any) otherAnswer {
	t.Helper()
	raw, err := json.Marshal(args)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := o.in.Write(append(raw, '\n')); err != nil {
		t.Fatal(err)
	}
	if !o.out.Scan() {
		t.Fatalf("the Python process ended at %s", raw)
	}
	var a otherAnswer
	if err := json.Unmarshal(o.out.Bytes(), &a); err != nil {
		t.Fatal(err)
	}
	if a.Error != "" {
		t.Fatalf("%s: %s", raw, a.Error)
	}
	return a
}

// agree compares our rows of the newest version with delta-rs and DuckDB.
func (o *others) agree(t *testing.T, dir, what string, readers ...string) *Table {
	t.Helper()
	ctx := context.Background()
	tbl, err := Open(ctx, NewFolderStore(dir), TableOptions{})
	if err != nil {
		t.Fatalf("%s: %v", what, err)
	}
	got, err := sumSnapshot(ctx, tbl.Latest(), nil, ScanOptions{})
	if err != nil {
		t.Fatalf("%s: %v", what, err)
	}
	for _, r := range readers {
		a := o.ask(t, map[string]any{"cmd": r, "path": dir})
		if a.Rows != got.rows || a.Sum != got.String() {
			t.Fatalf("%s: %s reads %d rows with sum %s, we %d with %s", what, r, a.Rows, a.Sum, got.rows, got)
		}
	}
	return tbl
}

// What we append, delta-rs and DuckDB read, through our checkpoints too; what
// delta-rs writes, we read.
func TestInteropAppend(t *testing.T) {
	o := startOthers(t)
	ctx := context.Background()
	dir := filepath.Join(t.TempDir(), "ours")
	store := NewFolderStore(dir)
	tbl, err := Create(ctx, store, CreateOptions{Schema: testSchema()})
	if err != nil {
		t.Fatal(err)
	}
	for i := range 12 {
		for _, c := range []Compression{Snappy, Zstd, Uncompressed}[i%3 : i%3+1] {
			spec := tbl.Latest().FileSpec()
			w, err := NewFileWriter(ctx, store, spec, nil, FileOptions{Compression: c, RowGroupBytes: 20_000})
			if err != nil {
				t.Fatal(err)
			}
			b := NewBatch(spec.DataSchema())
			fillRows(b, i*1000, i*1000+1000)
			if err := w.Write(b); err != nil {
				t.Fatal(err)
			}
			add, err := w.Close()
			if err != nil {
				t.Fatal(err)
			}
			if _, err := tbl.Commit(ctx, Commit{Adds: []*AddFile{add}, Spec: spec}); err != nil {
				t.Fatal(err)
			}
		}
	}
	o.agree(t, dir, "our appends", "deltars", "duckdb")

	theirs := filepath.Join(t.TempDir(), "theirs")
	for i := range 3 {
		o.ask(t, map[string]any{"cmd": "append", "path": theirs, "start": i * 500, "n": 500, "create": i == 0})
	}
	o.ask(t, map[string]any{"cmd": "delete", "path": theirs, "where": "id % 5 = 2"})
	o.ask(t, map[string]any{"cmd": "checkpoint", "path": theirs})
	o.ask(t, map[string]any{"cmd": "update", "path": theirs, "set": map[string]string{"name": "'x'"}, "where": "id < 100"})
	o.agree(t, theirs, "their table", "deltars", "duckdb")
}
