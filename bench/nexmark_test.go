package bench

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/weirstream/weir/bench/nexmark"
)

// python returns the interpreter that has DuckDB, or skips the test saying so;
// with WEIR_NO_SKIP=1 it fails.
func python(t *testing.T) string {
	t.Helper()
	out, err := exec.Command("../deploy/real/py.sh", "path").Output()
	if err == nil {
		return string(out[:len(out)-1])
	}
	if os.Getenv("WEIR_NO_SKIP") == "1" {
		t.Fatalf("DuckDB is missing: run deploy/real/py.sh: %v", err)
	}
	t.Skip("the answers of Nexmark's queries are not compared with DuckDB's, which is missing: run deploy/real/py.sh")
	return ""
}

// Every answer is what DuckDB makes of the same events, also where the state does
// not fit into memory. The day changes within the events.
func TestNexmarkAnswers(t *testing.T) {
	py := python(t)
	for _, tt := range []struct {
		name   string
		events int64
		opts   NexmarkOptions
	}{
		{"density 100k", 60_000, NexmarkOptions{Density: 100_000, Start: time.Date(2015, 7, 15, 23, 59, 59, 700_000_000, time.UTC)}},
		{"density 1k", 40_000, NexmarkOptions{Density: 1000, Start: time.Date(2015, 7, 15, 23, 59, 40, 0, time.UTC), Parallelism: 3}},
		{"little memory", 40_000, NexmarkOptions{Density: 100_000, StateBudget: 1 << 20}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			folder := t.TempDir()
			args := []string{"nexmark/sql/check.py", folder}
			for _, q := range nexmark.Queries() {
				o := tt.opts
				o.Query, o.Events, o.Dump, o.Interval = q.Name, tt.events, folder, 100*time.Millisecond
				ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
				r, err := Nexmark(ctx, o)
				cancel()
				if err != nil {
					t.Fatalf("%s: %v", q.Name, err)
				}
				if _, err := os.Stat(filepath.Join(folder, q.Name+".parquet")); err != nil || r.AnswerRows == 0 {
					t.Errorf("%s: %d rows, %v", q.Name, r.AnswerRows, err)
				}
				args = append(args, q.Name)
			}
			out, err := exec.CommandContext(t.Context(), py, args...).CombinedOutput()
			if err != nil {
				t.Errorf("check.py: %v", err)
			}
			t.Logf("%s", out)
		})
	}
}
