package deltalake

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

func cpuSeconds() float64 {
	var r syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &r) != nil {
		return 0
	}
	return float64(r.Utime.Nano()+r.Stime.Nano()) / 1e9
}

// Our CPU seconds beside those of delta-rs, for the same rows and files, in one
// run: WEIR_DELTA_SPEED holds the number of rows.
func TestSpeedBesideDeltaRS(t *testing.T) {
	rows, err := strconv.Atoi(os.Getenv("WEIR_DELTA_SPEED"))
	if err != nil {
		t.Skip("SKIPPED: WEIR_DELTA_SPEED does not say how many rows to measure with (10000000)")
	}
	ctx := context.Background()
	dir := t.TempDir()
	theirs := runSpeedScript(t, rows, dir)
	batch := benchBatch()
	base := append([]int64{}, batch.Columns[0].Longs...)
	report := func(what string, ours float64) {
		t.Logf("%-24s ours %6.2f CPU s, delta-rs %6.2f, ratio %.2f (%.1f M rows per CPU second)", what, ours, theirs[what], theirs[what]/ours, float64(rows)/ours/1e6)
	}
	store := NewFolderStore(filepath.Join(dir, "ours"))
	tbl, err := Create(ctx, store, CreateOptions{Schema: batch.Schema})
	if err != nil {
		t.Fatal(err)
	}
	c := cpuSeconds()
	_, err = tbl.Append(ctx, func(yield func(*Batch, error) bool) {
		for i := 0; i < rows/batch.Len; i++ {
			for k := range base {
				batch.Columns[0].Longs[k] = int64(i*batch.Len + k)
			}
			if !yield(batch, nil) {
				return
			}
		}
	}, WriteOptions{})
	if err != nil {
		t.Fatal(err)
	}
	report("append", cpuSeconds()-c)
	for what, o := range map[string]ScanOptions{"scan": {}, "filter": {Filter: mustExpr(t, fmt.Sprintf("id >= %d and id < %d", rows/2, rows/2+1000))}} {
		tbl, err := Open(ctx, NewFolderStore(filepath.Join(dir, "theirs")), TableOptions{})
		if err != nil {
			t.Fatal(err)
		}
		c, n := cpuSeconds(), 0
		for b, err := range tbl.Latest().Scan(ctx, o) {
			if err != nil {
				t.Fatal(err)
			}
			n += b.Len
		}
		report(what, cpuSeconds()-c)
		if want := map[string]int{"scan": rows, "filter": 1000}[what]; n != want {
			t.Fatalf("%s: %d rows, want %d", what, n, want)
		}
	}
	src := NewBatch(NewSchema(Col("id", Of(KindLong)), Col("price", Of(KindDouble))))
	for i := range rows / 100 {
		src.Columns[0].AppendLong(int64(i * 100))
		src.Columns[1].AppendDouble(-1)
		src.Len++
	}
	c = cpuSeconds()
	if _, err := tbl.Merge(ctx, Merge{Source: Batches(src), On: mustExpr(t, "target.id = source.id"),
		Clauses: []MergeClause{{Action: MatchedUpdate, Set: map[string]*Expr{"price": mustExpr(t, "source.price")}}}}); err != nil {
		t.Fatal(err)
	}
	report("merge", cpuSeconds()-c)
}

func runSpeedScript(t *testing.T, rows int, dir string) map[string]float64 {
	t.Helper()
	python := os.Getenv("WEIR_PYTHON")
	if python == "" {
		python = "../.real/py/bin/python3"
	}
	began := time.Now()
	out, err := exec.Command(python, "testdata/speed.py", strconv.Itoa(rows), filepath.Join(dir, "theirs"), filepath.Join(dir, "merged")).CombinedOutput()
	if err != nil {
		t.Skipf("SKIPPED: delta-rs cannot be measured: %v: %s", err, out)
	}
	t.Logf("delta-rs took %v in all", time.Since(began))
	res := map[string]float64{}
	for _, line := range strings.Split(string(out), "\n") {
		if name, v, ok := strings.Cut(line, " "); ok {
			if f, err := strconv.ParseFloat(v, 64); err == nil {
				res[name] = f
			}
		}
	}
	return res
}
