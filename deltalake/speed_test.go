package deltalake

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"runtime/pprof"
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

// A used is what one operation took.
type used struct {
	CPU float64 `json:"cpu_seconds"`
	MiB int     `json:"peak_mib"` // beyond what was resident at its start
}

// memory reads a line of /proc/self/status, in MiB.
func memory(what string) int {
	b, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0
	}
	_, rest, _ := strings.Cut(string(b), what+":")
	n := 0
	fmt.Sscan(rest, &n)
	return n / 1024
}

// timed runs one operation. WEIR_DELTA_SPEED_PROFILE names a folder for its profile.
func timed(t *testing.T, what string, fn func() error) used {
	t.Helper()
	runtime.GC()
	debug.FreeOSMemory()
	_ = os.WriteFile("/proc/self/clear_refs", []byte("5"), 0o600) // else the peak is that of all before
	if dir := os.Getenv("WEIR_DELTA_SPEED_PROFILE"); dir != "" {
		f, err := os.Create(filepath.Join(dir, what+".prof"))
		if err == nil {
			err = pprof.StartCPUProfile(f)
		}
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		defer pprof.StopCPUProfile()
	}
	before, cpu := memory("VmRSS"), cpuSeconds()
	if err := fn(); err != nil {
		t.Fatalf("%s: %v", what, err)
	}
	return used{cpuSeconds() - cpu, memory("VmHWM") - before}
}

// A compared is one line of bench/results/delta.json.
type compared struct {
	Operation string  `json:"operation"`
	Ours      used    `json:"ours"`
	DeltaRS   used    `json:"delta_rs"`
	Ratio     float64 `json:"ratio"` // of CPU seconds, above 1: ours is faster
	RowsPer   float64 `json:"rows_per_cpu_second"`
}

// Our CPU seconds beside those of delta-rs, for the same rows and files, in one
// run: WEIR_DELTA_SPEED holds the number of rows, WEIR_DELTA_SPEED_OUT the file for
// the figures.
func TestSpeedBesideDeltaRS(t *testing.T) {
	rows, err := strconv.Atoi(os.Getenv("WEIR_DELTA_SPEED"))
	if err != nil {
		t.Skip("SKIPPED: WEIR_DELTA_SPEED does not say how many rows to measure with (10000000)")
	}
	dir := t.TempDir()
	began := time.Now()
	theirs := runSpeedScript(t, rows, dir)
	t.Logf("delta-rs took %v in all", time.Since(began).Round(time.Second))
	var lines []compared
	report := func(what string, ours used) {
		l := compared{what, ours, theirs[what], theirs[what].CPU / ours.CPU, float64(rows) / ours.CPU}
		lines = append(lines, l)
		t.Logf("%-8s ours %6.2f CPU s and %4d MiB, delta-rs %6.2f and %4d MiB, ratio %.2f (%.1f M rows per CPU second)",
			what, ours.CPU, ours.MiB, l.DeltaRS.CPU, l.DeltaRS.MiB, l.Ratio, l.RowsPer/1e6)
	}
	tbl := speedAppend(t, rows, dir, report)
	speedScans(t, rows, dir, report)
	speedMerges(t, rows, dir, tbl, report)
	first, last, firstCPU, lastCPU := tinyAppends(t, dir)
	t.Logf("1,000 appends of one row: the first hundred %.1f ms each, the last %.1f (CPU %.2f and %.2f); delta-rs %.1f and %.1f", first, last, firstCPU, lastCPU, theirs["first"].CPU, theirs["last"].CPU)
	if lastCPU > 2*firstCPU+1 {
		t.Errorf("tiny appends grow from %.2f to %.2f ms of CPU", firstCPU, lastCPU)
	}
	if out := os.Getenv("WEIR_DELTA_SPEED_OUT"); out != "" {
		b, err := json.MarshalIndent(map[string]any{
			"rows": rows, "columns": 7, "cpus": runtime.NumCPU(), "go": runtime.Version(), "busy": os.Getenv("WEIR_BUSY") != "", "beside": "delta-rs 1.6.6",
			"operations": lines, "tiny_appends_ms": map[string]float64{"ours_first_100": first, "ours_last_100": last, "ours_first_100_cpu": firstCPU, "ours_last_100_cpu": lastCPU, "delta_rs_first_100": theirs["first"].CPU, "delta_rs_last_100": theirs["last"].CPU},
		}, "", "  ")
		if err == nil {
			err = os.WriteFile(out, append(b, '\n'), 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

func speedAppend(t *testing.T, rows int, dir string, report func(string, used)) *Table {
	ctx := context.Background()
	batch := benchBatch()
	base := append([]int64{}, batch.Columns[0].Longs...)
	tbl, err := Create(ctx, NewFolderStore(filepath.Join(dir, "ours")), CreateOptions{Schema: batch.Schema})
	if err != nil {
		t.Fatal(err)
	}
	report("append", timed(t, "append", func() error {
		_, err := tbl.Append(ctx, func(yield func(*Batch, error) bool) {
			for i := 0; i < rows/batch.Len; i++ {
				for k := range base {
					batch.Columns[0].Longs[k] = int64(i*batch.Len + k)
				}
				if !yield(batch, nil) {
					return
				}
			}
		}, WriteOptions{})
		return err
	}))
	return tbl
}

// speedScans reads delta-rs's table.
func speedScans(t *testing.T, rows int, dir string, report func(string, used)) {
	ctx := context.Background()
	for _, tt := range []struct {
		what string
		o    ScanOptions
		want int
	}{
		{"scan", ScanOptions{}, rows},
		{"filter", ScanOptions{Filter: mustExpr(t, fmt.Sprintf("id >= %d and id < %d", rows/2, rows/2+1000))}, 1000},
	} {
		report(tt.what, timed(t, tt.what, func() error {
			tbl, err := Open(ctx, NewFolderStore(filepath.Join(dir, "theirs")), TableOptions{})
			if err != nil {
				return err
			}
			n := 0
			for b, err := range tbl.Latest().Scan(ctx, tt.o) {
				if err != nil {
					return err
				}
				n += b.Len
			}
			if n != tt.want {
				t.Errorf("%s: %d rows, want %d", tt.what, n, tt.want)
			}
			return nil
		}))
	}
}

// speedMerges updates one column in every hundredth row; and once more, of a copy,
// with deletion vectors, which delta-rs does not write.
func speedMerges(t *testing.T, rows int, dir string, tbl *Table, report func(string, used)) {
	ctx := context.Background()
	src := NewBatch(NewSchema(Col("id", Of(KindLong)), Col("price", Of(KindDouble))))
	for i := range rows / 100 {
		src.Columns[0].AppendLong(int64(i * 100))
		src.Columns[1].AppendDouble(-1)
		src.Len++
	}
	merge := func() error {
		m, err := tbl.Merge(ctx, Merge{Source: Batches(src), On: mustExpr(t, "target.id = source.id"),
			Clauses: []MergeClause{{Action: MatchedUpdate, Set: map[string]*Expr{"price": mustExpr(t, "source.price")}}}})
		if err == nil && m.RowsUpdated != int64(rows/100) {
			t.Errorf("%d rows were updated", m.RowsUpdated)
		}
		return err
	}
	report("merge", timed(t, "merge", merge))
	on := "true"
	if _, err := tbl.SetProperties(ctx, map[string]*string{"delta.enableDeletionVectors": &on}); err != nil {
		t.Fatal(err)
	}
	u := timed(t, "merge-dv", merge)
	t.Logf("merge with deletion vectors: %.2f CPU s and %d MiB", u.CPU, u.MiB)
}

// tinyAppends returns the milliseconds of an append of one row, by the clock and of the
// CPU, at the beginning and after 900 of them.
func tinyAppends(t *testing.T, dir string) (first, last, firstCPU, lastCPU float64) {
	ctx := context.Background()
	one := benchBatch()
	b := NewBatch(one.Schema)
	b.Gather(one, []int32{0})
	tbl, err := Create(ctx, NewFolderStore(filepath.Join(dir, "tiny")), CreateOptions{Schema: b.Schema})
	if err != nil {
		t.Fatal(err)
	}
	for i := range 1000 {
		began, cpu := time.Now(), cpuSeconds()
		if _, err := tbl.Append(ctx, Batches(b), WriteOptions{}); err != nil {
			t.Fatal(err)
		}
		ms, cpuMs := time.Since(began).Seconds()*10, (cpuSeconds()-cpu)*10
		switch {
		case i < 100:
			first, firstCPU = first+ms, firstCPU+cpuMs
		case i >= 900:
			last, lastCPU = last+ms, lastCPU+cpuMs
		}
	}
	return first, last, firstCPU, lastCPU
}

// What an append of one row costs does not grow with the table: WEIR_DELTA_TINY is
// the number of appends (5000, some minutes).
func TestTinyAppendsStayFlat(t *testing.T) {
	n, err := strconv.Atoi(os.Getenv("WEIR_DELTA_TINY"))
	if err != nil {
		t.Skip("SKIPPED: WEIR_DELTA_TINY does not say how many appends to make (5000)")
	}
	ctx := context.Background()
	one := benchBatch()
	b := NewBatch(one.Schema)
	b.Gather(one, []int32{0})
	tbl, err := Create(ctx, NewFolderStore(t.TempDir()), CreateOptions{Schema: b.Schema})
	if err != nil {
		t.Fatal(err)
	}
	began, first, last := cpuSeconds(), 0.0, 0.0
	for i := 1; i <= n; i++ {
		if _, err := tbl.Append(ctx, Batches(b), WriteOptions{}); err != nil {
			t.Fatal(err)
		}
		if i%100 > 0 {
			continue
		}
		now := cpuSeconds()
		if last, began = (now-began)*10, now; i == 100 {
			first = last
		}
		if i == 100 || i%1000 == 0 {
			t.Logf("append %5d: %.2f ms of CPU, by the last hundred", i, last)
		}
	}
	if last > 2*first+1 {
		t.Errorf("tiny appends grow from %.2f to %.2f ms of CPU", first, last)
	}
}

func runSpeedScript(t *testing.T, rows int, dir string) map[string]used {
	t.Helper()
	python := os.Getenv("WEIR_PYTHON")
	if python == "" {
		python = "../.real/py/bin/python3"
	}
	out, err := exec.Command(python, "testdata/speed.py", strconv.Itoa(rows), filepath.Join(dir, "theirs"), filepath.Join(dir, "merged")).CombinedOutput()
	if err != nil {
		t.Skipf("SKIPPED: delta-rs cannot be measured: %v: %s", err, out)
	}
	res := map[string]used{}
	for _, line := range strings.Split(string(out), "\n") {
		var name string
		var u used
		if n, _ := fmt.Sscan(line, &name, &u.CPU, &u.MiB); n == 3 {
			res[name] = u
		}
	}
	return res
}
