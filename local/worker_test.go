package local

import (
	"context"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/weirstream/weir/checkpoint"
	"github.com/weirstream/weir/connectors/delta"
	"github.com/weirstream/weir/connectors/gen"
	"github.com/weirstream/weir/dataflow"
	"github.com/weirstream/weir/internal/clock"
	"github.com/weirstream/weir/jobmanager"
	"github.com/weirstream/weir/jobmanager/fsm"
	"github.com/weirstream/weir/stream"
)

// workedRows is how many rows the job of a worker's test makes.
const workedRows = 30_000

// workedJob makes rows for about two seconds.
func workedJob(g *stream.Graph) error {
	rows := gen.Sequence(workedRows, func(i int64) event { return event{User: string(rune('a' + i%8)), Price: i} }, gen.Rate(15_000), gen.Splits(2))
	return counts(stream.Read(g, "events", rows))
}

func brokenJob(g *stream.Graph) error {
	rows := stream.Read(g, "events", gen.Sequence(10, func(i int64) event { return event{Price: i} }))
	broken := stream.Map(rows, "broken", func(e event) event {
		if e.Price == 5 {
			os.Exit(7)
		}
		return e
	})
	stream.Write(broken, "totals", delta.Table("gold/totals"))
	return nil
}

// The test binary is the executable of a static pack when it is called as one.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && strings.HasPrefix(os.Args[1], "weir-") {
		if os.Getenv("WEIR_TEST_JOB") == "broken" {
			Main(brokenJob)
		}
		Main(workedJob)
	}
	os.Exit(m.Run())
}

func startWorked(t *testing.T) (*Cluster, string) {
	t.Helper()
	dir := t.TempDir()
	c, err := Start(t.Context(), Options{Dir: dir, Log: testLog(t), Jobs: map[string]Build{"worked": workedJob, "broken": brokenJob}})
	if err != nil {
		t.Fatal(err)
	}
	c.procs.exe = func(string) (string, error) { return os.Executable() }
	return c, dir
}

// A job in a worker process counts each row once though the process is killed, and
// leaves no process and no folder behind.
func TestWorkerIsKilled(t *testing.T) {
	c, dir := startWorked(t)
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	id, err := c.Run(ctx, RunRequest{Pack: "worked", Parallelism: 2, Options: fsm.Options{Checkpoint: checkpoint.Options{Interval: 50 * time.Millisecond}}})
	if err != nil {
		t.Fatal(err)
	}
	killed := 0
	var last jobmanager.Info
	for !last.Phase.Terminal() {
		if err := clock.Sleep(ctx, clock.Wall(), 10*time.Millisecond); err != nil {
			t.Fatalf("%s is %s (%s): %v", id, last.Phase, last.Reason, err)
		}
		last = c.Jobs.Jobs()[0]
		if e := last.Epochs; killed == last.Restarts && killed < 2 && last.Phase == fsm.Running && len(e) > 0 && int(e[len(e)-1].Epoch) > 3*(killed+1) {
			killed++
			p := c.procs.of(id)
			if p == nil {
				t.Fatal("the job has no worker process")
			}
			if err := p.cmd.Process.Kill(); err != nil {
				t.Fatal(err)
			}
		}
	}
	if last.Phase != fsm.Finished || killed == 0 || last.Restarts != killed {
		t.Errorf("%s is %s after %d kills and %d restarts: %s", id, last.Phase, killed, last.Restarts, last.Reason)
	}
	if rows := tableRows(t, dir); rows != workedRows {
		t.Errorf("the table has %d rows, want %d", rows, workedRows)
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	if p := c.procs.of(id); p != nil {
		t.Error("a worker is left")
	}
}

// of returns the process of a job, nil without one.
func (w *workers) of(job dataflow.JobID) *worker {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.byJob[job]
}

// A worker that ends by itself fails the job with how it ended.
func TestWorkerEnds(t *testing.T) {
	t.Setenv("WEIR_TEST_JOB", "broken")
	c, _ := startWorked(t)
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	_, err := c.Run(ctx, RunRequest{Pack: "broken", Options: fsm.Options{MaxRestarts: -1}})
	if err != nil {
		t.Fatal(err)
	}
	var last jobmanager.Info
	if err := c.Wait(ctx, 10*time.Millisecond, func(infos []jobmanager.Info) { last = infos[0] }); err != nil {
		t.Fatalf("%s (%s): %v", last.Phase, last.Reason, err)
	}
	if last.Phase != fsm.Failed || !strings.Contains(last.Reason, "the worker process ended: exit status 7") {
		t.Errorf("phase %s, reason %q", last.Phase, last.Reason)
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
}
