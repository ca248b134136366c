package local

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/weirstream/weir/checkpoint"
	"github.com/weirstream/weir/connectors/delta"
	"github.com/weirstream/weir/connectors/gen"
	"github.com/weirstream/weir/dataflow"
	"github.com/weirstream/weir/internal/clock"
	"github.com/weirstream/weir/internal/control"
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

// parentJob starts a child that outlives it and has its output.
func parentJob(g *stream.Graph) error {
	rows := stream.Read(g, "events", gen.Sequence(1_000_000, func(i int64) event { return event{Price: i} }, gen.Rate(1000)))
	parent := stream.Map(rows, "parent", func(e event) event {
		if e.Price == 5 {
			child := exec.Command("sleep", "300")
			child.Stdout, child.Stderr = os.Stdout, os.Stderr
			if err := child.Start(); err != nil {
				os.Exit(8)
			}
			if err := os.WriteFile(os.Getenv("WEIR_TEST_BORN"), nil, 0o644); err != nil {
				os.Exit(9)
			}
		}
		return e
	})
	stream.Write(parent, "totals", delta.Table("gold/totals"))
	return nil
}

// The test binary is the executable of a static pack when it is called as one.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && strings.HasPrefix(os.Args[1], "weir-") {
		switch os.Getenv("WEIR_TEST_JOB") {
		case "broken":
			Main(brokenJob)
		case "parent":
			Main(parentJob)
		}
		Main(workedJob)
	}
	os.Exit(m.Run())
}

func startWorked(t *testing.T) (*Cluster, string) {
	t.Helper()
	dir := t.TempDir()
	c, err := Start(t.Context(), Options{Dir: dir, Log: testLog(t), Jobs: map[string]Build{"worked": workedJob, "broken": brokenJob, "parent": parentJob}})
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
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
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
		if e := last.Epochs; killed == last.Restarts && killed < 2 && last.Phase == fsm.Running && len(e) > 0 && int(e[len(e)-1].Epoch) > 3*killed {
			p := c.procs.of(id)
			if p == nil {
				continue // it has just ended
			}
			if err := p.cmd.Process.Kill(); err == nil {
				killed++
			} else if !errors.Is(err, os.ErrProcessDone) {
				t.Fatal(err)
			}
		}
	}
	// The last kill may have met a process that had told its end already.
	if last.Phase != fsm.Finished || last.Restarts == 0 || last.Restarts > killed {
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
	noFolders(t, dir)
}

// noFolders checks that no worker's local state is left.
func noFolders(t *testing.T, dir string) {
	t.Helper()
	left, err := filepath.Glob(filepath.Join(dir, "workers", "*"))
	if err != nil || len(left) > 0 {
		t.Errorf("local state of workers is left: %v %v", left, err)
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
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
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

// The death of a worker is noticed though a child of its job lives on and holds its
// output open.
func TestWorkerDiesBeforeItsChild(t *testing.T) {
	born := filepath.Join(t.TempDir(), "born")
	t.Setenv("WEIR_TEST_JOB", "parent")
	t.Setenv("WEIR_TEST_BORN", born)
	c, dir := startWorked(t)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	id, err := c.Run(ctx, RunRequest{Pack: "parent", Options: fsm.Options{MaxRestarts: -1, Checkpoint: checkpoint.Options{Interval: 50 * time.Millisecond}}})
	if err != nil {
		t.Fatal(err)
	}
	group := 0 // of the worker and its child
	defer func() {
		if group != 0 {
			syscall.Kill(-group, syscall.SIGKILL)
		}
	}()
	var last jobmanager.Info
	for !last.Phase.Terminal() {
		if err := clock.Sleep(ctx, clock.Wall(), 10*time.Millisecond); err != nil {
			t.Fatalf("%s is %s (%s): %v", id, last.Phase, last.Reason, err)
		}
		last = c.Jobs.Jobs()[0]
		p := c.procs.of(id)
		if _, err := os.Stat(born); err == nil && group == 0 && p != nil {
			group = p.cmd.Process.Pid
			if err := p.cmd.Process.Kill(); err != nil {
				t.Fatal(err)
			}
		}
	}
	if group == 0 || last.Phase != fsm.Failed || !strings.Contains(last.Reason, "the worker process ended: signal: killed") {
		t.Errorf("phase %s, reason %q", last.Phase, last.Reason)
	}
	if err := syscall.Kill(-group, 0); err != nil {
		t.Errorf("the child is gone, so nothing was tested: %v", err)
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	noFolders(t, dir)
}

// heard is a link that keeps what it is sent.
type heard struct{ got chan control.Message }

func (h heard) Send(m control.Message) { h.got <- m }

// While one job's executable is looked for, messages of others pass, and its own
// keep their order.
func TestSendDoesNotWait(t *testing.T) {
	for _, fault := range []error{nil, errors.New("no such pack")} {
		here, up, found := heard{make(chan control.Message, 9)}, heard{make(chan control.Message, 9)}, make(chan struct{})
		w := &workers{here: here, up: up, log: slog.New(slog.DiscardHandler), byJob: map[dataflow.JobID]*worker{}, starter: newStarter(),
			exe: func(string) (string, error) { <-found; return "", fault }}
		slow, other := control.To{Job: "slow", Attempt: 1}, control.To{Job: "other", Attempt: 1}
		sent := make(chan struct{})
		go func() {
			defer close(sent)
			w.Send(control.Deploy{To: slow})
			w.Send(control.Cancel{To: slow})
			w.Send(control.Start{To: other})
		}()
		select {
		case <-sent:
		case <-time.After(time.Minute):
			t.Fatal("a message waits for the executable of another job")
		}
		if m := <-here.got; m != (control.Start{To: other}) {
			t.Errorf("got %#v first", m)
		}
		close(found)
		if fault == nil {
			if d, ok := (<-here.got).(control.Deploy); !ok || d.To != slow {
				t.Errorf("got %#v, want the Deploy", d)
			}
		} else if f, ok := (<-up.got).(control.Failed); !ok || f.To != slow || f.Reason != fault.Error() {
			t.Errorf("got %#v, want Failed", f)
		}
		if m := <-here.got; m != (control.Cancel{To: slow}) {
			t.Errorf("got %#v, want the Cancel", m)
		}
		w.Close()
	}
}

// A process that is to die with its parent outlives the thread that asked for it.
func TestStarterOutlivesThreads(t *testing.T) {
	s := newStarter()
	defer s.close()
	cmd := exec.Command("cat")
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	cmd.Stdout = &out
	started := make(chan error, 1)
	var thread int
	go func() {
		runtime.LockOSThread() // and never unlocks: the thread ends with the goroutine
		thread = syscall.Gettid()
		started <- s.start(cmd)
	}()
	if err := <-started; err != nil {
		t.Fatal(err)
	}
	for {
		if _, err := os.Stat(fmt.Sprintf("/proc/self/task/%d", thread)); err != nil || thread == os.Getpid() {
			break // the main thread never ends
		}
		if err := clock.Sleep(t.Context(), clock.Wall(), time.Millisecond); err != nil {
			t.Fatal(err)
		}
	}
	_, err = io.WriteString(in, "alive")
	if err := errors.Join(err, in.Close(), cmd.Wait()); err != nil || out.String() != "alive" {
		t.Errorf("the process says %q: %v", out.String(), err)
	}
}

func TestSayings(t *testing.T) {
	var logged bytes.Buffer
	s := &sayings{log: slog.New(slog.NewTextHandler(&logged, nil))}
	say := func(text string) {
		t.Helper()
		if n, err := io.WriteString(s, text); n != len(text) || err != nil {
			t.Fatalf("Write: %d, %v", n, err)
		}
	}
	say("weir: a hiccup, long ago\nall is well\n\npan")
	say("ic: at last\ngoroutine 1\n")
	if s.last() != "panic: at last" {
		t.Errorf("last is %q", s.last())
	}
	for range 64 {
		say(strings.Repeat("x", 10_000))
		if len(s.rest) > maxSaying {
			t.Fatalf("%d bytes are kept of a line", len(s.rest))
		}
	}
	say("y\nweir: after it\n")
	if n := strings.Count(logged.String(), "x"); n < maxSaying || n > maxSaying+100 {
		t.Errorf("%d bytes of a long line are logged", n)
	}
	if s.last() != "weir: after it" {
		t.Errorf("last is %q", s.last())
	}
}
