package deltalake

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
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
	return startProcess(t, exec.Command(python, "testdata/interop.py"))
}

// startProcess talks to a process in JSON lines.
func startProcess(t *testing.T, cmd *exec.Cmd) *others {
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

// Other readers and writers of Delta agree with us; one process serves all parts.
func TestInterop(t *testing.T) {
	o := startOthers(t)
	t.Run("append", func(t *testing.T) { interopAppend(t, o) })
	t.Run("histories", func(t *testing.T) { interopHistories(t, o) })
	t.Run("encodings", func(t *testing.T) { interopEncodings(t, o) })
	t.Run("features", func(t *testing.T) { interopFeatures(t, o) })
}

// What we append, delta-rs and DuckDB read, through our checkpoints too; what
// delta-rs writes, we read.
func interopAppend(t *testing.T, o *others) {
	t.Helper()
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

// interopSchema is the schema of the tables of testdata/interop.py.
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

// Tables that we and delta-rs write in turn read the same by us, delta-rs and
// DuckDB after every step.
func interopHistories(t *testing.T, o *others) {
	t.Helper()
	ctx := context.Background()
	histories := 1
	if n, err := strconv.Atoi(os.Getenv("WEIR_INTEROP_HISTORIES")); err == nil {
		histories = n
	}
	for seed := range histories {
		rng := rand.New(rand.NewPCG(uint64(seed), 7))
		dir := filepath.Join(t.TempDir(), "table")
		store := NewFolderStore(dir)
		if seed%2 == 0 {
			o.ask(t, map[string]any{"cmd": "append", "path": dir, "start": 0, "n": 50, "create": true})
		} else if _, err := Create(ctx, store, CreateOptions{Schema: interopSchema()}); err != nil {
			t.Fatal(err)
		}
		next := 50
		for step := range 12 {
			what := interopStep(t, o, store, dir, rng, &next)
			readers := []string{"deltars"}
			if step%4 == 3 {
				readers = append(readers, "duckdb")
			}
			tbl := o.agree(t, dir, fmt.Sprintf("seed %d step %d: %s", seed, step, what), readers...)
			if step == 11 {
				for v := range tbl.Latest().Version() {
					checkOldVersion(t, o, tbl, dir, v)
				}
			}
		}
	}
}

func checkOldVersion(t *testing.T, o *others, tbl *Table, dir string, v int64) {
	t.Helper()
	ctx := context.Background()
	s, err := tbl.At(ctx, v)
	if err != nil {
		t.Fatal(err)
	}
	got, err := sumSnapshot(ctx, s, nil, ScanOptions{})
	if err != nil {
		t.Fatal(err)
	}
	raw, err := json.Marshal(map[string]any{"cmd": "deltars", "path": dir, "version": v})
	if err != nil {
		t.Fatal(err)
	}
	var args map[string]any
	if err := json.Unmarshal(raw, &args); err != nil {
		t.Fatal(err)
	}
	a := o.ask(t, args)
	if a.Rows != got.rows || a.Sum != got.String() {
		t.Fatalf("version %d: delta-rs reads %d rows, we %d", v, a.Rows, got.rows)
	}
}

// interopStep does one operation, by one of the writers.
func interopStep(t *testing.T, o *others, store Store, dir string, rng *rand.Rand, next *int) string {
	t.Helper()
	ctx := context.Background()
	ours := rng.IntN(2) == 0
	k := rng.IntN(*next)
	n := 5 + rng.IntN(40)
	ops := []string{"append", "append", "delete", "update", "merge", "optimize", "checkpoint", "overwrite"}
	op := ops[rng.IntN(len(ops))]
	where := fmt.Sprintf("id >= %d and id < %d", k, k+9)
	start := *next
	if op == "append" || op == "overwrite" {
		*next += n
	}
	if op == "merge" {
		start = max(0, *next-n/2)
		*next = start + n
	}
	if !ours {
		o.ask(t, map[string]any{"cmd": op, "path": dir, "start": start, "n": n, "where": where, "set": map[string]string{"name": "'x'", "price": "price + 1"}})
		return "delta-rs " + op
	}
	tbl, err := Open(ctx, store, TableOptions{})
	if err != nil {
		t.Fatal(err)
	}
	switch op {
	case "append":
		_, err = tbl.Append(ctx, Batches(interopBatch(start, n)), WriteOptions{})
	case "overwrite":
		_, err = tbl.Overwrite(ctx, Batches(interopBatch(start, n)), OverwriteOptions{})
	case "delete":
		_, err = tbl.Delete(ctx, mustExpr(t, where))
	case "update":
		_, err = tbl.Update(ctx, map[string]*Expr{"name": mustExpr(t, "'y'"), "price": mustExpr(t, "price + 2")}, mustExpr(t, where))
	case "merge":
		_, err = tbl.Merge(ctx, Merge{Source: Batches(interopBatch(start, n)), On: mustExpr(t, "target.id = source.id"),
			Clauses: []MergeClause{{Action: MatchedUpdate}, {Action: NotMatchedInsert}}})
	case "optimize":
		_, err = tbl.Optimize(ctx, OptimizeOptions{})
	case "checkpoint":
		err = tbl.WriteCheckpoint(ctx, tbl.Latest())
	}
	if err != nil {
		t.Fatalf("our %s: %v", op, err)
	}
	return "our " + op
}

// Tables with the features that only we write here read the same elsewhere.
func interopFeatures(t *testing.T, o *others) {
	t.Helper()
	ctx := context.Background()
	for name, tt := range map[string]struct {
		props   map[string]string
		readers []string
	}{
		"vectors":   {map[string]string{"delta.enableDeletionVectors": "true"}, []string{"duckdb"}}, // to_pyarrow_table of delta-rs refuses vectors
		"mapping":   {map[string]string{"delta.columnMapping.mode": "name"}, []string{"duckdb"}},
		"mappingID": {map[string]string{"delta.columnMapping.mode": "id"}, []string{"duckdb"}},
		"feed":      {map[string]string{"delta.enableChangeDataFeed": "true"}, []string{"deltars", "duckdb"}},
		"v2":        {map[string]string{"delta.checkpointPolicy": "v2", "delta.checkpointInterval": "5"}, []string{"duckdb"}},
		"ict":       {map[string]string{"delta.enableInCommitTimestamps": "true"}, []string{"duckdb"}},
	} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "table")
			parts := []string{"part"}
			if strings.HasPrefix(name, "mapping") {
				parts = nil // DuckDB 1.5.5 looks for mapped partition values by the logical name and reads null
			}
			tbl, err := Create(ctx, NewFolderStore(dir), CreateOptions{Schema: interopSchema(), PartitionColumns: parts, Properties: tt.props})
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
			o.agree(t, dir, name, tt.readers...)
			for range 8 { // over a checkpoint with vectors
				if _, err := tbl.Append(ctx, Batches(interopBatch(5000, 10)), WriteOptions{}); err != nil {
					t.Fatal(err)
				}
			}
			o.agree(t, dir, name+" with checkpoint", tt.readers...)
		})
	}
}

// Every encoding, codec and page version that Arrow writes reads the same, with
// nested columns, pages of a few rows and INT96.
func interopEncodings(t *testing.T, o *others) {
	t.Helper()
	ctx := context.Background()
	dir := filepath.Join(t.TempDir(), "files")
	want := o.ask(t, map[string]any{"cmd": "encodings", "path": dir})
	tbl, err := Convert(ctx, NewFolderStore(dir), nil, TableOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for _, rows := range []int{0, 1, 13} {
		got, err := sumSnapshot(ctx, tbl.Latest(), nil, ScanOptions{BatchRows: rows})
		if err != nil {
			t.Fatal(err)
		}
		if got.rows != want.Rows || got.String() != want.Sum {
			t.Fatalf("batches of %d: %d rows with sum %s, Arrow has %d with %s", rows, got.rows, got, want.Rows, want.Sum)
		}
	}
}
