package faults

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// run starts the job on a running weir and returns the job's id.
func (r *run) run(args ...string) (string, error) {
	out, err := r.weir(append(append([]string{"run", "--checkpoint-interval", "500ms"}, args...), filepath.Join(r.w.bin, pipeline+".wj"))...)
	return strings.TrimSpace(out), err
}

// stopWithSavepoint runs the job at parallelism 2 while numbers come in, stops it with
// a savepoint that leaves some of them unread, and returns the savepoint and the
// first number that was not sent.
func (w *world) stopWithSavepoint() (savepoint string, next int64) {
	w.t.Helper()
	w.startFeed(3000, 9000)
	r := w.start()
	r.until("some numbers are in the topic", func() bool { return w.sink.distinct() > 1500 })
	out, err := r.weir("stop", pipeline)
	if err != nil {
		w.fatalf(r, "stop: %v", err)
	}
	next = w.finishFeed(false)
	r.interrupt()
	if left := next - w.sink.distinct(); left <= 0 {
		w.t.Logf("the savepoint contains all %d numbers: nothing is left to read again", next)
	}
	return strings.TrimSpace(out), next
}

// complete feeds the last numbers to a job that runs, drains it and judges.
func (w *world) complete(r *run, first, n int64) {
	w.t.Helper()
	w.feedFrom(first, 4000, n)
	w.finishFeed(false)
	r.until(fmt.Sprintf("all %d numbers are in the topic", n), func() bool { return w.sink.distinct() >= n })
	r.drain()
	w.mustBeClean(n)
}

// A savepoint taken at parallelism 2 goes on at 1, 3 and 8, each over its own copy of
// everything, and the rows are those that follow from the input alone.
func TestSavepointRestoresAtAnotherParallelism(t *testing.T) {
	python(t)
	base := scratch(t)
	w := openWorld(t, 1009, filepath.Join(base, "2"))
	savepoint, next := w.stopWithSavepoint()
	w.stop()
	for _, p := range []struct {
		parallelism string
		flags       []string
	}{{"1", nil}, {"3", []string{"--state-budget", "1048576"}}, {"8", []string{"--slots", "8"}}} {
		t.Run(p.parallelism, func(t *testing.T) {
			dir := filepath.Join(base, p.parallelism)
			if err := os.CopyFS(dir, os.DirFS(filepath.Join(base, "2"))); err != nil {
				t.Fatal(err)
			}
			w := openWorld(t, 1009, dir)
			w.flags = p.flags
			r := w.startWith(nil)
			if _, err := r.run("-p", p.parallelism, "--restore", savepoint); err != nil {
				t.Fatal(err)
			}
			w.complete(r, next, 12_000)
		})
	}
}

// A running job is rescaled up and down, and every number stays counted once.
func TestRescale(t *testing.T) {
	python(t)
	w := newWorld(t, 1009)
	w.startFeed(2000, 0)
	r := w.start()
	for _, p := range []string{"5", "1", "3"} {
		before := w.sink.distinct()
		r.until("more numbers are in the topic", func() bool { return w.sink.distinct() > before+500 })
		out, err := r.weir("rescale", pipeline, "-p", p)
		if err != nil {
			w.fatalf(r, "rescale to %s: %v", p, err)
		}
		t.Log(strings.TrimSpace(out))
	}
	if _, err := r.weir("rescale", pipeline, "-p", "60"); err == nil || !strings.Contains(err.Error(), "60 slots") {
		t.Errorf("60 of 6 slots: %v", err)
	}
	n := w.finishFeed(true)
	r.until("all numbers are in the topic", func() bool { return w.sink.distinct() >= n })
	r.drain()
	w.mustBeClean(n)
}

// A job whose state type gained, lost and widened fields goes on from the savepoint
// of the version before; one whose type cannot read it is refused while that job
// runs on.
func TestStateTypesEvolve(t *testing.T) {
	python(t)
	w := newWorld(t, 1009)
	savepoint, next := w.stopWithSavepoint()
	r := w.startWith(nil)
	if _, err := r.run("-p", "2", "--restore", savepoint, "--param", "version=3"); err == nil {
		t.Error("a state of another type was accepted")
	} else if !regexp.MustCompile(`totals.*[Cc]ount.*string`).MatchString(err.Error()) {
		t.Errorf("the refusal does not name operator, field and type: %v", err)
	}
	if _, err := r.run("-p", "2", "--restore", savepoint, "--param", "version=2"); err != nil {
		t.Fatal(err)
	}
	r.until("the next version has completed an epoch", func() bool { c, _, _ := r.epochs(); return c > 0 })
	if _, err := r.run("-p", "2", "--restore", savepoint, "--param", "version=3"); err == nil {
		t.Error("a state of another type was accepted beside the running job")
	}
	w.complete(r, next, 12_000)
}

// An operator that is gone is named, and its state is dropped only if that is asked
// for.
func TestRemovedOperatorIsRefused(t *testing.T) {
	w := newWorld(t, 1009)
	savepoint, _ := w.stopWithSavepoint()
	r := w.startWith(nil)
	_, err := r.run("-p", "2", "--restore", savepoint, "--param", "version=4")
	if err == nil || !strings.Contains(err.Error(), "totals") || !strings.Contains(err.Error(), "--allow-non-restored-state") {
		t.Errorf("the refusal does not name the operator and the cure: %v", err)
	}
	if _, err := r.run("-p", "2", "--restore", savepoint, "--param", "version=4", "--allow-non-restored-state"); err != nil {
		t.Fatal(err)
	}
	r.until("it has completed an epoch", func() bool { c, _, _ := r.epochs(); return c > 0 })
}

// A savepoint that the table is ahead of is refused: its rows would be doubled.
func TestOlderSavepointIsRefused(t *testing.T) {
	python(t)
	w := newWorld(t, 97)
	savepoint, n := w.beyondSavepoint()
	epoch := strings.TrimLeft(regexp.MustCompile(`epochs/0*(\d+)/`).FindStringSubmatch(savepoint)[1], "0")
	r := w.startWith(nil)
	_, err := r.run("-p", "2", "--restore", savepoint)
	if err == nil {
		t.Fatal("the savepoint was accepted")
	}
	m := regexp.MustCompile(`already holds epoch (\d+).*restored from epoch (\d+)`).FindStringSubmatch(err.Error())
	if m == nil || m[2] != epoch {
		t.Errorf("the refusal does not name both epochs (savepoint %s): %v", epoch, err)
	}
	t.Log(err)
	r.interrupt()
	for _, v := range w.judgeTable(n) {
		if !v.clean() {
			t.Errorf("%s; the refused job wrote", v)
		}
	}
}
