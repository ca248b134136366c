package faults

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

// A verdict is what a judge found.
type verdict struct {
	Reader string `json:"reader"`
	Rows   int64  `json:"rows"`
	Lost   int64  `json:"lost"`  // ids without a row
	Twice  int64  `json:"twice"` // rows beyond the first of their id
	Wrong  int64  `json:"wrong"` // rows whose key, count or sum is not what follows from the id
}

func (v verdict) String() string {
	return fmt.Sprintf("%s: %d rows, %d lost, %d twice, %d wrong", v.Reader, v.Rows, v.Lost, v.Twice, v.Wrong)
}

func (v verdict) clean() bool { return v.Lost == 0 && v.Twice == 0 && v.Wrong == 0 }

// python returns the interpreter of the outside readers. Without one the test is
// skipped, or fails if WEIR_NO_SKIP is set.
func python(t *testing.T) string {
	t.Helper()
	out, err := exec.Command("../../deploy/real/py.sh").Output()
	if err != nil {
		if os.Getenv("WEIR_NO_SKIP") != "" {
			t.Fatalf("delta-rs and DuckDB cannot be had: %v", err)
		}
		t.Skipf("SKIPPED: the judges delta-rs and DuckDB are missing (deploy/real/py.sh: %v)", err)
	}
	return strings.TrimSpace(string(out))
}

// judgeTable lets delta-rs and DuckDB read the table that must hold ids 0..n-1.
func (w *world) judgeTable(n int64) (out []verdict) {
	w.t.Helper()
	t, table := w.t, w.at
	args := []string{"testdata/judge.py", table, fmt.Sprint(n), fmt.Sprint(w.keys)}
	if w.folder != "" {
		args = append(args, w.folder)
	}
	cmd := exec.Command(python(t), args...)
	cmd.Env = append(os.Environ(), w.env...)
	var said strings.Builder
	cmd.Stderr = &said
	b, err := cmd.Output()
	if err != nil {
		t.Fatalf("judge of %s: %v: %s", table, err, said.String())
	}
	for _, line := range strings.Split(strings.TrimSpace(string(b)), "\n") {
		var v verdict
		if err := json.Unmarshal([]byte(line), &v); err != nil {
			t.Fatalf("judge said %q: %v", line, err)
		}
		out = append(out, v)
	}
	if len(out) != 2 {
		t.Fatalf("%d judges answered, want 2: %s", len(out), b)
	}
	return out
}

// judgeSpark lets Spark read tables, if WEIR_SPARK=1: it takes minutes.
func (w *world) judgeSpark(args ...any) {
	w.t.Helper()
	if os.Getenv("WEIR_SPARK") == "" {
		w.t.Log("SKIPPED: Spark did not read the tables: WEIR_SPARK=1 lets it")
		return
	}
	run := []string{"run", "testdata/spark.py"}
	for _, a := range args {
		run = append(run, fmt.Sprint(a))
	}
	out, err := scriptOutput("spark.sh", run...)
	if err != nil {
		w.t.Fatal(err)
	}
	checks := 0
	for _, line := range strings.Split(out, "\n") {
		var v struct {
			Check     string
			Got, Want int64
		}
		if json.Unmarshal([]byte(line), &v) != nil || v.Check == "" {
			continue
		}
		checks++
		w.t.Logf("spark: %s: %d", v.Check, v.Got)
		if v.Got != v.Want {
			w.t.Errorf("spark: %s: %d, want %d", v.Check, v.Got, v.Want)
		}
	}
	if checks < 3 {
		w.t.Errorf("spark made %d checks: %s", checks, out)
	}
}

// A tally is what a read_committed consumer has seen of the rows in a topic.
type tally struct {
	keys int64

	mu    sync.Mutex
	seen  []uint8 // by id, saturated
	ids   int64   // distinct
	rows  int64
	wrong int64
	first string // the first row that is wrong or doubled
	err   error
}

// consume reads a topic from its beginning until the test ends.
func consume(t *testing.T, brokers, topic string, keys int64) *tally {
	t.Helper()
	cl, err := kgo.NewClient(kgo.SeedBrokers(brokers), kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()))
	if err != nil {
		t.Fatal(err)
	}
	y := &tally{keys: keys}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for ctx.Err() == nil {
			fs := cl.PollFetches(ctx)
			y.mu.Lock()
			fs.EachError(func(topic string, p int32, err error) {
				if ctx.Err() == nil && y.err == nil && !kgo.IsRetryableBrokerErr(err) && !kerr.IsRetriable(err) {
					y.err = fmt.Errorf("%s/%d: %w", topic, p, err)
				}
			})
			fs.EachRecord(y.add)
			y.mu.Unlock()
		}
	}()
	t.Cleanup(func() { stop(); <-done; cl.Close() })
	return y
}

// again reads the topic out anew from its beginning until nothing more comes: a
// consumer that lived through kills of a real broker may have been sent back by it.
func (w *world) again(n int64) *tally {
	w.t.Helper()
	y := consume(w.t, w.brokers, "out", w.keys)
	late := time.Now().Add(w.patience())
	for rows, since := int64(-1), time.Now(); time.Since(since) < 2*time.Second || y.distinct() < min(n, w.sink.distinct()) && time.Now().Before(late); <-time.After(20 * time.Millisecond) {
		y.mu.Lock()
		if y.rows != rows {
			rows, since = y.rows, time.Now()
		}
		y.mu.Unlock()
	}
	return y
}

func (y *tally) add(r *kgo.Record) {
	var row struct{ ID, Key, Count, Sum int64 }
	y.rows++
	bad := false
	if err := json.Unmarshal(r.Value, &row); err != nil || row.ID < 0 {
		bad = true
	} else {
		count := row.ID/y.keys + 1
		sum := count*(row.ID%y.keys) + y.keys*(count*(count-1)/2)
		bad = row.Key != row.ID%y.keys || row.Count != count || row.Sum != sum || string(r.Key) != fmt.Sprint(row.Key)
		for int64(len(y.seen)) <= row.ID {
			y.seen = append(y.seen, make([]uint8, max(1024, len(y.seen)))...)
		}
		if y.seen[row.ID] == 0 {
			y.ids++
		} else if y.first == "" {
			y.first = fmt.Sprintf("doubled: %s at %d/%d", r.Value, r.Partition, r.Offset)
		}
		y.seen[row.ID] = min(y.seen[row.ID]+1, 200)
	}
	if bad {
		y.wrong++
		if y.first == "" {
			y.first = fmt.Sprintf("wrong: %s at %d/%d", r.Value, r.Partition, r.Offset)
		}
	}
}

// distinct returns how many ids were seen.
func (y *tally) distinct() int64 {
	y.mu.Lock()
	defer y.mu.Unlock()
	return y.ids
}

// has reports whether all of some ids were seen.
func (y *tally) has(ids ...int64) bool {
	y.mu.Lock()
	defer y.mu.Unlock()
	for _, id := range ids {
		if id >= int64(len(y.seen)) || y.seen[id] == 0 {
			return false
		}
	}
	return true
}

// judge says what is wrong with a topic that must hold ids 0..n-1.
func (y *tally) judge(n int64) verdict {
	y.mu.Lock()
	defer y.mu.Unlock()
	v := verdict{Reader: "read_committed", Rows: y.rows, Twice: y.rows - y.ids, Wrong: y.wrong}
	for id := range n {
		if id >= int64(len(y.seen)) || y.seen[id] == 0 {
			v.Lost++
		}
	}
	v.Wrong += y.ids - (n - v.Lost) // ids that were never sent
	if y.err != nil {
		v.Reader += " (" + y.err.Error() + ")"
	}
	if y.first != "" {
		v.Reader += " (first " + y.first + ")"
	}
	return v
}

// lastLine returns the last line of a file, "" if there is none.
func lastLine(path string) string {
	f, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer f.Close()
	last := ""
	for s := bufio.NewScanner(f); s.Scan(); {
		last = s.Text()
	}
	return last
}
