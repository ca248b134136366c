package deltalake

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// tools are other readers and writers of Delta, each a process that answers JSON
// lines, and this package under the name "weir".
type tools struct {
	names []string // that take turns in a history
	procs map[string]*process
	count map[string]int
	spent map[string]time.Duration
}

type process struct {
	in  io.WriteCloser
	out *bufio.Scanner
}

// readVersion is one version of a table as a tool reads it.
type readVersion struct {
	Version int64
	Columns []string
	Rows    [][]any
	Error   string
}

type toolAnswer struct {
	Error    string
	H        []string
	Number   int64
	Count    int64
	Versions []readVersion
}

// startTools starts delta-rs with DuckDB, and Spark where WEIR_SPARK names the
// folder that deploy/real/spark.sh fills; it skips the test when Python lacks them.
func startTools(t *testing.T) *tools {
	t.Helper()
	python := os.Getenv("WEIR_PYTHON")
	if python == "" {
		python = "../.real/py/bin/python3"
	}
	if _, err := os.Stat(python); err != nil {
		skip(t, "no Python with deltalake and duckdb at %s: run deploy/real/py.sh or set WEIR_PYTHON", python)
	}
	if err := exec.Command(python, "-c", "import deltalake, duckdb, duckdb_extension_delta, pyarrow").Run(); err != nil {
		skip(t, "%s lacks deltalake, duckdb, duckdb-extension-delta or pyarrow: run deploy/real/py.sh", python)
	}
	x := &tools{names: []string{"weir", "deltars"}, procs: map[string]*process{}, count: map[string]int{}, spent: map[string]time.Duration{}}
	x.procs["deltars"] = startProcess(t, exec.Command(python, "testdata/interop.py"))
	if root := os.Getenv("WEIR_SPARK"); root != "" {
		x.names = append(x.names, "spark")
		x.procs["spark"] = startProcess(t, exec.Command(filepath.Join(root, "venv/bin/python3"), "testdata/spark.py", filepath.Join(root, "jars"), t.TempDir()))
	}
	return x
}

// skip skips a test, or fails it where WEIR_NO_SKIP asks for all of them.
func skip(t *testing.T, format string, args ...any) {
	t.Helper()
	if os.Getenv("WEIR_NO_SKIP") != "" {
		t.Fatalf(format, args...)
	}
	t.Skipf("SKIPPED: "+format, args...)
}

// startProcess talks to a process in JSON lines.
func startProcess(t *testing.T, cmd *exec.Cmd) *process {
	t.Helper()
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
	sc.Buffer(nil, 1<<26)
	return &process{in, sc}
}

// ask sends a command to a tool; the error is the tool's.
func (x *tools) ask(t *testing.T, name string, args map[string]any) (*toolAnswer, error) {
	t.Helper()
	began := time.Now()
	defer func() { x.spent[name] += time.Since(began) }()
	raw, err := json.Marshal(args)
	if err != nil {
		t.Fatal(err)
	}
	p := x.procs[name]
	if _, err := p.in.Write(append(raw, '\n')); err != nil {
		t.Fatal(err)
	}
	if !p.out.Scan() {
		t.Fatalf("the process of %s ended at %s", name, raw)
	}
	d := json.NewDecoder(bytes.NewReader(p.out.Bytes()))
	d.UseNumber()
	var a toolAnswer
	if err := d.Decode(&a); err != nil {
		t.Fatalf("%s answers %.200s: %v", name, p.out.Bytes(), err)
	}
	if a.Error != "" {
		return nil, errors.New(a.Error)
	}
	return &a, nil
}

// do has a tool do a step of a history.
func (x *tools) do(t *testing.T, name, dir string, st *step) error {
	t.Helper()
	if name == "weir" {
		began := time.Now()
		defer func() { x.spent[name] += time.Since(began) }()
		return doOurs(t, dir, st)
	}
	_, err := x.ask(t, name, st.command(dir))
	return err
}

// create has a tool make a table.
func (x *tools) create(t *testing.T, name, dir string, s *Schema, part, cluster []string, props map[string]string) error {
	t.Helper()
	if name == "weir" {
		_, err := Create(context.Background(), NewFolderStore(dir), CreateOptions{Schema: s, PartitionColumns: part, ClusterBy: cluster, Properties: props})
		return err
	}
	if part == nil {
		part = []string{}
	}
	_, err := x.ask(t, name, map[string]any{"cmd": "create", "path": dir, "schema": s, "partition": part, "cluster": cluster, "props": props})
	return err
}

// read has a tool read versions of a table.
func (x *tools) read(t *testing.T, name, dir string, versions []int64) []readVersion {
	t.Helper()
	if name != "weir" {
		a, err := x.ask(t, name, map[string]any{"cmd": "read", "path": dir, "versions": versions})
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		return a.Versions
	}
	began := time.Now()
	defer func() { x.spent[name] += time.Since(began) }()
	ctx := context.Background()
	tbl, err := Open(ctx, NewFolderStore(dir), TableOptions{})
	if err != nil {
		t.Fatal(err)
	}
	var out []readVersion
	for _, v := range versions {
		r := readVersion{Version: v}
		s, err := tbl.At(ctx, v)
		if err == nil {
			for _, f := range s.Schema().Fields {
				r.Columns = append(r.Columns, f.Name)
			}
			r.Rows, err = plainRows(ctx, s)
		}
		if err != nil {
			r.Error = err.Error()
		}
		out = append(out, r)
	}
	return out
}

// feed has a tool read the changes of a range of versions.
func (x *tools) feed(t *testing.T, name, dir string, from, to int64) (*readVersion, error) {
	t.Helper()
	if name != "weir" {
		a, err := x.ask(t, name, map[string]any{"cmd": "feed", "path": dir, "from": from, "to": to})
		if err != nil {
			return nil, err
		}
		return &a.Versions[0], nil
	}
	ctx := context.Background()
	tbl, err := Open(ctx, NewFolderStore(dir), TableOptions{})
	if err != nil {
		return nil, err
	}
	var r readVersion
	for b, err := range tbl.Changes(ctx, ChangeOptions{From: from, To: to, Until: true}) {
		if err != nil {
			return nil, err
		}
		r.Columns = nil
		for _, f := range b.Schema.Fields {
			r.Columns = append(r.Columns, f.Name)
		}
		r.Rows = append(r.Rows, plainBatch(b)...)
	}
	return &r, nil
}

// plainRows reads a snapshot into rows as testdata/rows.py has them.
func plainRows(ctx context.Context, s *Snapshot) ([][]any, error) {
	var rows [][]any
	for b, err := range s.Scan(ctx, ScanOptions{}) {
		if err != nil {
			return nil, err
		}
		rows = append(rows, plainBatch(b)...)
	}
	return rows, nil
}

func plainBatch(b *Batch) [][]any {
	var rows [][]any
	for i := range b.Len {
		var row []any
		for _, c := range b.Columns {
			row = append(row, plainValue(c, i))
		}
		rows = append(rows, row)
	}
	return rows
}

func plainValue(v *Vector, i int) any {
	if v.Null(i) {
		return nil
	}
	switch v.Type.Kind {
	case KindDate:
		return int64(v.Ints[i])
	case KindTimestamp, KindTimestampNTZ:
		return v.Longs[i]
	case KindBinary:
		return fmt.Sprintf("%x", v.Bytes(i))
	case KindFloat:
		return float64(v.Floats[i])
	case KindStruct:
		out := []any{}
		for _, c := range v.Children {
			out = append(out, plainValue(c, i))
		}
		return out
	case KindList, KindMap:
		out := []any{}
		for k := int(v.Offsets[i]); k < int(v.Offsets[i+1]); k++ {
			if v.Type.Kind == KindMap {
				out = append(out, []any{plainValue(v.Children[0], k), plainValue(v.Children[1], k)})
			} else {
				out = append(out, plainValue(v.Children[0], k))
			}
		}
		return out
	}
	return v.Value(i)
}

// agree compares our rows of the newest version with those of other readers.
func (x *tools) agree(t *testing.T, dir, what string, readers ...string) *Table {
	t.Helper()
	ctx := context.Background()
	tbl, err := Open(ctx, NewFolderStore(dir), TableOptions{})
	if err != nil {
		t.Fatalf("%s: %v", what, err)
	}
	s := tbl.Latest()
	got, err := snapshotRows(ctx, s, ScanOptions{})
	if err != nil {
		t.Fatalf("%s: %v", what, err)
	}
	for _, r := range readers {
		args := map[string]any{"cmd": "read", "path": dir, "versions": []int64{s.Version()}}
		tool := r
		if r == "duckdb" {
			tool, args = "deltars", map[string]any{"cmd": "duckdb", "path": dir}
		}
		a, err := x.ask(t, tool, args)
		if err != nil {
			t.Fatalf("%s: %s: %v", what, r, err)
		}
		x.same(t, what+": as "+r+" reads it", s.Schema(), got, a.Versions[0])
	}
	return tbl
}

func (x *tools) same(t *testing.T, what string, s *Schema, got []string, want readVersion) {
	t.Helper()
	if want.Error != "" {
		t.Fatalf("%s: %s", what, want.Error)
	}
	var rows []string
	for _, r := range want.Rows {
		rows = append(rows, string(canonicalRow(s, r)))
	}
	if d := rowDiff(got, rows); d != "" {
		t.Fatalf("%s: we read %s", what, d)
	}
}

// Other readers of Delta agree with us; one process serves all parts.
func TestInterop(t *testing.T) {
	x := startTools(t)
	t.Run("append", func(t *testing.T) { interopAppend(t, x) })
	t.Run("encodings", func(t *testing.T) { interopEncodings(t, x) })
	t.Run("features", func(t *testing.T) { interopFeatures(t, x) })
}

// What we append in several codecs and row groups, delta-rs and DuckDB read,
// through our checkpoints too.
func interopAppend(t *testing.T, x *tools) {
	t.Helper()
	ctx := context.Background()
	dir := filepath.Join(t.TempDir(), "ours")
	store := NewFolderStore(dir)
	tbl, err := Create(ctx, store, CreateOptions{Schema: testSchema()})
	if err != nil {
		t.Fatal(err)
	}
	for i := range 12 {
		spec := tbl.Latest().FileSpec()
		w, err := NewFileWriter(ctx, store, spec, nil, FileOptions{Compression: []Compression{Snappy, Zstd, Uncompressed}[i%3], RowGroupBytes: 20_000})
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
	x.agree(t, dir, "our appends", "deltars", "duckdb")
}

// interopSchema is the schema of the tables of interopFeatures and of the speed
// test.
func interopSchema() *Schema {
	return NewSchema(Col("id", Of(KindLong)), Col("name", Of(KindString)), Col("price", Of(KindDouble)), Col("amount", DecimalOf(12, 2)),
		Col("at", Of(KindTimestamp)), Col("part", Of(KindString)))
}

func interopBatch(start, n int) *Batch {
	b := NewBatch(interopSchema())
	for i := start; i < start+n; i++ {
		c := b.Columns
		c[0].AppendLong(int64(i))
		if i%7 == 3 {
			c[1].AppendNull()
		} else {
			c[1].AppendString(fmt.Sprintf("n%d", i%50))
		}
		c[2].AppendDouble(float64(i) / 4)
		c[3].AppendDecimal(DecimalFromInt64(int64(i) - 50))
		c[4].AppendLong(1_700_000_000_000_000 + int64(i))
		c[5].AppendString(fmt.Sprintf("p%d", i%3))
		b.Len++
	}
	return b
}

// Larger tables with the features that only we write here read the same elsewhere.
func interopFeatures(t *testing.T, x *tools) {
	t.Helper()
	ctx := context.Background()
	for name, props := range map[string]map[string]string{
		"vectors":   {"delta.enableDeletionVectors": "true"},
		"mapping":   {"delta.columnMapping.mode": "name"},
		"mappingID": {"delta.columnMapping.mode": "id"},
		"feed":      {"delta.enableChangeDataFeed": "true"},
		"v2":        {"delta.checkpointPolicy": "v2", "delta.checkpointInterval": "5"},
		"ict":       {"delta.enableInCommitTimestamps": "true"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "table")
			parts := []string{"part"}
			if strings.HasPrefix(name, "mapping") {
				parts = nil // DuckDB 1.5.5 looks for mapped partition values by the logical name and reads null
			}
			tbl, err := Create(ctx, NewFolderStore(dir), CreateOptions{Schema: interopSchema(), PartitionColumns: parts, Properties: props})
			if err != nil {
				t.Fatal(err)
			}
			for i := range 11 {
				if _, err := tbl.Append(ctx, Batches(interopBatch(i*100, 100)), WriteOptions{}); err != nil {
					t.Fatal(err)
				}
			}
			if _, err := tbl.Delete(ctx, mustExpr(t, "id % 11 = 3")); err != nil {
				t.Fatal(err)
			}
			if _, err := tbl.Update(ctx, map[string]*Expr{"price": mustExpr(t, "0.5")}, mustExpr(t, "id < 77")); err != nil {
				t.Fatal(err)
			}
			x.agree(t, dir, name, "deltars", "duckdb")
			for range 8 { // over a checkpoint with vectors
				if _, err := tbl.Append(ctx, Batches(interopBatch(5000, 10)), WriteOptions{}); err != nil {
					t.Fatal(err)
				}
			}
			x.agree(t, dir, name+" with checkpoint", "deltars", "duckdb")
		})
	}
}

// Every encoding, codec and page version that Arrow writes reads the same, with
// nested columns, pages of a few rows and INT96.
func interopEncodings(t *testing.T, x *tools) {
	t.Helper()
	ctx := context.Background()
	dir := filepath.Join(t.TempDir(), "files")
	want, err := x.ask(t, "deltars", map[string]any{"cmd": "encodings", "path": dir})
	if err != nil {
		t.Fatal(err)
	}
	tbl, err := Convert(ctx, NewFolderStore(dir), nil, TableOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for _, rows := range []int{0, 1, 13} {
		got, err := snapshotRows(ctx, tbl.Latest(), ScanOptions{BatchRows: rows})
		if err != nil {
			t.Fatal(err)
		}
		x.same(t, fmt.Sprintf("batches of %d", rows), tbl.Latest().Schema(), got, want.Versions[0])
	}
}
