package checkpoint

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weirstream/weir/dataflow"
	"github.com/weirstream/weir/internal/clock"
	"github.com/weirstream/weir/internal/objstore"
)

// A store that does not answer must not look like a damaged checkpoint: a job
// waits for the one and stops for the other.
func TestLoadTellsOutageFromDamage(t *testing.T) {
	ctx := context.Background()
	mem := objstore.NewMem(nil)
	store := objstore.NewFaulty(mem, objstore.FaultyOptions{})
	objects := Objects{Store: store}
	ref, err := objects.Publish(ctx, &Manifest{Version: ManifestVersion, Pipeline: "p", Epoch: 3})
	if err != nil {
		t.Fatal(err)
	}
	var corrupt *CorruptError
	store.Down(true)
	if _, err := objects.Load(ctx, ref); !objstore.Retryable(err) || errors.As(err, &corrupt) {
		t.Errorf("Load from a store that is away: %v, want an error that a retry may cure", err)
	}
	store.Down(false)
	if m, err := objects.Load(ctx, ref); err != nil || m.Epoch != 3 {
		t.Errorf("Load: %v, %v", m, err)
	}
	if err := objstore.PutBytes(ctx, mem, ref.Key, []byte("{}")); err != nil {
		t.Fatal(err)
	}
	if _, err := objects.Load(ctx, ref); !errors.As(err, &corrupt) || corrupt.Object != ref.Key {
		t.Errorf("Load of other bytes: %v, want a CorruptError that names %s", err, ref.Key)
	}
}

// A file that two parts share after a rescale holds old rows of the other's key
// groups: each part gives its own of them only.
func TestFilesAreCutToTheirPart(t *testing.T) {
	g := dataflow.Graph{Operators: []dataflow.Operator{{Name: "count", Kind: dataflow.KindOp, Keyed: true, Parallelism: 1}}}
	plan, err := dataflow.MakePlan(g, 1, 8)
	if err != nil {
		t.Fatal(err)
	}
	shared := dataflow.FileRef{Object: "old", Groups: dataflow.KeyGroups{From: 0, To: 8}}
	part := func(i, from, to int, files ...dataflow.FileRef) dataflow.Part {
		return dataflow.Part{Subtask: dataflow.SubtaskID{Chain: "count", Index: i}, Groups: dataflow.KeyGroups{From: from, To: to},
			Files: files, Operators: map[dataflow.OperatorID]dataflow.OpState{"count": {}}}
	}
	newer := dataflow.FileRef{Object: "new", Groups: dataflow.KeyGroups{From: 1, To: 2}}
	got := Files([]dataflow.Part{part(0, 0, 4, shared, newer), part(1, 4, 8, shared)}, &plan, dataflow.SubtaskID{Chain: "count"})
	want := []dataflow.KeyGroups{{From: 0, To: 4}, {From: 1, To: 2}, {From: 4, To: 8}}
	if len(got) != len(want) {
		t.Fatalf("%d files, want %d", len(got), len(want))
	}
	for i := range got {
		if got[i].Groups != want[i] {
			t.Errorf("file %d (%s) has groups %v, want %v", i, got[i].Object, got[i].Groups, want[i])
		}
	}
}

// A Trigger names the newest complete epoch of its attempt, for the word of that
// may have been lost.
func TestTriggerNamesTheCompleteEpoch(t *testing.T) {
	c := NewCoordinator(Options{Interval: time.Second})
	now := time.Unix(1000, 0)
	s := dataflow.SubtaskID{Chain: "in"}
	epoch := func(e dataflow.Epoch) (complete dataflow.Epoch) {
		now = now.Add(time.Second)
		c.Step(now, Tick{})
		for _, ef := range c.Step(now, Opened{Attempt: 1, Epoch: e}) {
			if tr, ok := ef.(Trigger); ok {
				complete = tr.Complete
			}
		}
		c.Step(now, Acked{Epoch: e, Part: dataflow.Part{Subtask: s}})
		c.Step(now, Published{Epoch: e, Ref: Ref{Epoch: e}})
		c.Step(now, Completed{Epoch: e})
		c.Step(now, FinishRecorded{Epoch: e})
		return complete
	}
	c.Step(now, Deployed{Attempt: 1, Subtasks: []dataflow.SubtaskID{s}})
	if got := epoch(4); got != 0 {
		t.Errorf("the first Trigger names epoch %d, want none", got)
	}
	if got := epoch(5); got != 4 {
		t.Errorf("the second Trigger names epoch %d, want 4", got)
	}
}

// Tries at a store that is away are spread over seconds, with jitter, and end with the
// context.
func TestTriesPause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := objstore.NewFaulty(objstore.NewMem(nil), objstore.FaultyOptions{})
		store.Down(true)
		man := &Manifest{Version: ManifestVersion, Pipeline: "p", Epoch: 3}
		for _, tt := range []struct {
			name string
			do   func(context.Context, Objects) error
		}{
			{"Publish", func(ctx context.Context, o Objects) error { _, err := o.Publish(ctx, man); return err }},
			{"Load", func(ctx context.Context, o Objects) error { _, err := o.Load(ctx, Ref{Epoch: 3, Key: "k"}); return err }},
		} {
			took := func(jitter float64) time.Duration {
				begin := time.Now()
				if err := tt.do(t.Context(), Objects{Store: store, Clock: clock.Wall(), Jitter: func() float64 { return jitter }}); !objstore.Retryable(err) {
					t.Errorf("%s of a store that is away: %v", tt.name, err)
				}
				return time.Since(begin)
			}
			least, most := took(0), took(0.999)
			if least < 2*time.Second || most < 2*least || most > 20*time.Second {
				t.Errorf("%s gave up after %v to %v", tt.name, least, most)
			}
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			begin := time.Now()
			if err := tt.do(ctx, Objects{Store: store, Clock: clock.Wall()}); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("%s cut off: %v", tt.name, err)
			}
			if d := time.Since(begin); d > time.Second {
				t.Errorf("%s went on for %v after it was cut off", tt.name, d-time.Second)
			}
			cancel()
		}
	})
}
