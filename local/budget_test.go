package local

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/weirstream/weir/dataflow"
	"github.com/weirstream/weir/internal/clock"
	"github.com/weirstream/weir/internal/control"
)

// One budget is divided over the keyed subtasks that run, in whatever process, and
// each process hears its share when it changes.
func TestBudgetIsDivided(t *testing.T) {
	dir := t.TempDir()
	told := filepath.Join(dir, "told")
	exe := filepath.Join(dir, "worker") // keeps what it is told
	if err := os.WriteFile(exe, []byte("#!/bin/sh\ncat <&3 >"+told+"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	var here int64 // the share of this process; w.mu guards it
	got := heard{make(chan control.Message, 9)}
	w := &workers{here: got, up: got, log: slog.New(slog.DiscardHandler), byJob: map[dataflow.JobID]*worker{}, starter: newStarter(),
		shares: shares{budget: 1200}, resize: func(b int64) { here = b }, config: workerConfig{Dir: dir},
		exe: func(pack string) (string, error) { return pack, nil }}
	defer w.Close()
	deploy := func(job dataflow.JobID, keyed int, pack string) {
		plan := dataflow.Plan{KeyGroups: 8, Chains: []dataflow.Chain{{ID: "in", Parallelism: 1}, {ID: "count", Parallelism: keyed, Keyed: true}}}
		w.Send(control.Deploy{To: control.To{Job: job, Attempt: 1}, Pack: pack, Plan: plan, Subtasks: plan.Subtasks()})
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	heard := 0 // bytes of what it was told
	hears := func(budget string) {
		t.Helper()
		want := `{"state_budget":` + budget + "}\n"
		for {
			b, _ := os.ReadFile(told)
			if i := strings.Index(string(b[heard:]), want); i >= 0 {
				heard += i + len(want)
				return
			}
			if clock.Sleep(ctx, clock.Wall(), time.Millisecond) != nil {
				t.Fatalf("the worker was told %q, then not %q", b, want)
			}
		}
	}
	ours := func(want int64) {
		t.Helper()
		w.mu.Lock()
		defer w.mu.Unlock()
		if here != want {
			t.Errorf("this process has %d bytes, want %d", here, want)
		}
	}
	deploy("static", 2, exe)
	hears("1200")
	ours(0)
	deploy("linked", 4, "")
	if d := (<-got.got).(control.Deploy); d.Job != "linked" {
		t.Fatalf("got %v first", d.To)
	}
	hears("400")
	ours(800)
	w.stopped(control.To{Job: "linked", Attempt: 1})
	hears("1200")
	ours(0)
}

// A line of a worker's input is a budget or a message.
func TestBudgetOf(t *testing.T) {
	if b, ok := budgetOf([]byte(`{"state_budget":7}`)); b != 7 || !ok {
		t.Errorf("budgetOf = %d, %v", b, ok)
	}
	line, err := control.Encode(control.Start{To: control.To{Job: "j", Attempt: 1}})
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := budgetOf(line); ok {
		t.Errorf("%s is taken for a budget", line)
	}
}
