package deltalake

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// logRun is what one process needed for one operation.
type logRun struct {
	What  string  `json:"what"`
	By    string  `json:"by"`
	Wall  float64 `json:"wall_seconds"`
	CPU   float64 `json:"cpu_seconds"`
	RSS   int64   `json:"peak_rss_bytes"`
	Heap  int64   `json:"heap_bytes,omitempty"` // that an open table holds, after a collection
	Files int     `json:"files"`
}

// Operations on large logs, ours beside those of delta-rs, each in a process of its
// own on the same files in one run: WEIR_DELTA_LOG_SPEED is the number of files
// (1000000); the long log has a twentieth as many commits. Some gigabytes of
// memory and disk, and minutes.
func TestLogSpeedBesideDeltaRS(t *testing.T) {
	files, err := strconv.Atoi(os.Getenv("WEIR_DELTA_LOG_SPEED"))
	if err != nil {
		t.Skip("SKIPPED: WEIR_DELTA_LOG_SPEED does not say how many files to measure with (1000000)")
	}
	dir := t.TempDir()
	var runs []logRun
	run := func(what, table string, theirs string) {
		t.Helper()
		at := filepath.Join(dir, table)
		r := logChild(t, what, at)
		runs = append(runs, r)
		line := fmt.Sprintf("%-28s ours %6.2f s, %6.2f CPU s, %5d MB, heap %4d MB", what+" "+table, r.Wall, r.CPU, r.RSS>>20, r.Heap>>20)
		if theirs != "" {
			d := logScript(t, theirs, at)
			d.What = r.What
			runs = append(runs, d)
			line += fmt.Sprintf("; delta-rs %6.2f s, %6.2f CPU s, %5d MB; ratio of CPU %.2f", d.Wall, d.CPU, d.RSS>>20, d.CPU/r.CPU)
			if d.Files != r.Files {
				t.Errorf("%s: %d files, delta-rs %d", what, r.Files, d.Files)
			}
		}
		t.Log(line)
	}
	writeLargeLog(t, filepath.Join(dir, "wide"), files, max(1, files/10_000))
	run("open", "wide", "open")
	copyLog(t, filepath.Join(dir, "wide"), filepath.Join(dir, "theirs"))
	run("checkpoint", "wide", "")
	d := logScript(t, "checkpoint", filepath.Join(dir, "theirs"))
	t.Logf("%-28s delta-rs %6.2f s, %6.2f CPU s, %5d MB", "checkpoint wide", d.Wall, d.CPU, d.RSS>>20)
	runs = append(runs, d)
	run("open-checkpoint", "wide", "open")
	run("open-checkpoint", "theirs", "open")
	run("stream-files", "wide", "")
	run("stream-checkpoint", "wide", "")
	writeLargeLog(t, filepath.Join(dir, "long"), files/20, files/20)
	run("open", "long", "open")
	run("checkpoint", "long", "")
	run("open-checkpoint", "long", "open")
	out, err := json.Marshal(map[string]any{"bench": "delta-log", "files": files, "runs": runs, "cores": runtime.NumCPU(), "go": runtime.Version(), "load_average": loadAverage()})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%s", out)
}

func loadAverage() string {
	b, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return ""
	}
	return strings.Fields(string(b))[0]
}

// speedAdd is the n-th data file of a large log: 7 columns of statistics.
func speedAdd(n int) *AddFile {
	day := fmt.Sprintf("2026-01-%02d", n%28+1)
	return &AddFile{
		Path: fmt.Sprintf("day=%s/part-%08d-9c0f6c1e-2a35-4c1b-9a77-%012d-c000.snappy.parquet", day, n, n), PartitionValues: map[string]*string{"day": &day},
		Size: 100_000 + int64(n%1000), ModificationTime: 1_767_225_600_000 + int64(n), DataChange: true,
		Stats: fmt.Sprintf(`{"numRecords":1000,"minValues":{"id":%d,"user":"user-%d","price":0.25,"qty":0,"at":"2026-01-01T00:00:00.000Z","url":"https://example.org/item/%d"},"maxValues":{"id":%d,"user":"user-%d","price":996.5,"qty":19,"at":"2026-01-01T01:00:00.000Z","url":"https://example.org/item/%d"},"nullCount":{"id":0,"user":0,"price":0,"qty":0,"at":0,"ok":0,"url":0}}`,
			n*1000, n%5000, n, n*1000+999, n%5000+17, n+999),
	}
}

// writeLargeLog writes a log of so many files in so many commits, without going through
// commits.
func writeLargeLog(t *testing.T, dir string, files, commits int) {
	t.Helper()
	schema := NewSchema(append(append([]Field{}, benchBatch().Schema.Fields...), Col("day", Of(KindString)))...)
	if _, err := Create(context.Background(), NewFolderStore(dir), CreateOptions{Schema: schema, PartitionColumns: []string{"day"},
		Properties: map[string]string{"delta.checkpointInterval": "1000000"}, Table: TableOptions{SkipChecksums: true}}); err != nil {
		t.Fatal(err)
	}
	n := 0
	for v := 1; v <= commits; v++ {
		actions := []action{{CommitInfo: &CommitInfo{Operation: "WRITE", Timestamp: 1_767_225_600_000 + int64(v)}}}
		for ; n < files*v/commits; n++ {
			actions = append(actions, action{Add: speedAdd(n)})
		}
		data, err := encodeActions(actions)
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, commitPath(int64(v))), data, 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

func copyLog(t *testing.T, from, to string) {
	t.Helper()
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
}

func logChild(t *testing.T, what, dir string) logRun {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe, "-test.run=^TestLogSpeedChild$", "-test.v")
	cmd.Env = append(os.Environ(), "WEIR_LOG_SPEED_CHILD="+what+" "+dir)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v: %s", what, err, out)
	}
	r := logAnswer(t, string(out))
	r.RSS = cmd.ProcessState.SysUsage().(*syscall.Rusage).Maxrss << 10
	r.What, r.By = what, "weir"
	return r
}

func logScript(t *testing.T, what, dir string) logRun {
	t.Helper()
	python := os.Getenv("WEIR_PYTHON")
	if python == "" {
		python = "../.real/py/bin/python3"
	}
	cmd := exec.Command(python, "testdata/log_speed.py", what, dir)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Skipf("SKIPPED: delta-rs cannot be measured: %v: %s", err, out)
	}
	r := logAnswer(t, string(out))
	r.RSS = cmd.ProcessState.SysUsage().(*syscall.Rusage).Maxrss << 10
	r.What, r.By = what, "delta-rs"
	return r
}

func logAnswer(t *testing.T, out string) (r logRun) {
	t.Helper()
	for _, line := range strings.Split(out, "\n") {
		if strings.HasPrefix(line, `{"wall_seconds"`) {
			if err := json.Unmarshal([]byte(line), &r); err != nil {
				t.Fatal(err)
			}
			return r
		}
	}
	t.Fatalf("no figures in %s", out)
	return r
}

// TestLogSpeedChild is one operation of TestLogSpeedBesideDeltaRS.
func TestLogSpeedChild(t *testing.T) {
	what, dir, ok := strings.Cut(os.Getenv("WEIR_LOG_SPEED_CHILD"), " ")
	if !ok {
		t.Skip("a part of TestLogSpeedBesideDeltaRS")
	}
	ctx := context.Background()
	store := NewFolderStore(dir)
	began, cpu := time.Now(), cpuSeconds()
	files, heap := 0, uint64(0)
	switch what {
	case "stream-files":
		for _, err := range StreamFiles(ctx, store, -1, TableOptions{}) {
			if err != nil {
				t.Fatal(err)
			}
			files++
		}
	case "stream-checkpoint": // of the next version
		tbl, err := newestCommit(t, store)
		if err != nil {
			t.Fatal(err)
		}
		data, err := encodeActions([]action{{CommitInfo: &CommitInfo{Operation: "WRITE"}}, {Add: speedAdd(100_000_000)}})
		if err == nil {
			err = store.PutIfAbsent(ctx, commitPath(tbl+1), data)
		}
		if err != nil {
			t.Fatal(err)
		}
		if _, err := StreamCheckpoint(ctx, store, TableOptions{}, CheckpointOptions{}); err != nil {
			t.Fatal(err)
		}
	default:
		tbl, err := Open(ctx, store, TableOptions{})
		if err != nil {
			t.Fatal(err)
		}
		files = tbl.Latest().NumFiles()
		if what == "checkpoint" {
			if err := tbl.WriteCheckpoint(ctx, tbl.Latest()); err != nil {
				t.Fatal(err)
			}
		} else {
			defer runtime.KeepAlive(tbl)
			heap = 1
		}
	}
	wall, used := time.Since(began).Seconds(), cpuSeconds()-cpu
	if heap > 0 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		heap = m.HeapAlloc
	}
	fmt.Printf("\n{\"wall_seconds\":%f,\"cpu_seconds\":%f,\"files\":%d,\"heap_bytes\":%d}\n", wall, used, files, heap)
}

// newestCommit returns the newest version by its name alone.
func newestCommit(t *testing.T, store Store) (int64, error) {
	t.Helper()
	files, err := listLog(context.Background(), store, 0)
	newest := int64(-1)
	for _, f := range files {
		newest = max(newest, f.version)
	}
	return newest, err
}
