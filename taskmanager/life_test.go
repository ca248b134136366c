package taskmanager

import (
	"context"
	"errors"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/weirstream/weir/actors"
	"github.com/weirstream/weir/dataflow"
	"github.com/weirstream/weir/internal/clock"
	"github.com/weirstream/weir/internal/control"
	"github.com/weirstream/weir/internal/objstore"
	"github.com/weirstream/weir/stream/spi"
)

// noJob is a Loader whose packs are all broken.
type noJob struct{}

func (noJob) Load(pack string, _ map[string]string) (spi.Job, error) {
	return nil, errors.New("pack " + pack + " is broken")
}

func newTestManager(t *testing.T, up control.Link) *Manager {
	t.Helper()
	m, err := New(Options{Dir: "/state", FS: vfs.NewMem(), Store: objstore.NewMem(nil), Up: up, Loader: noJob{}, StateBudget: 8 << 20,
		Value: func(dataflow.Operator, reflect.Type) (spi.Codec, error) { return nil, errors.New("none") }})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func of[M control.Message](all []control.Message) (out []M) {
	for _, m := range all {
		if m, ok := m.(M); ok {
			out = append(out, m)
		}
	}
	return out
}

func deployOf(attempt dataflow.Attempt) control.Deploy {
	return control.Deploy{To: control.To{Job: "j", Attempt: attempt}, Pack: "x.wj"}
}

// What an attempt failed of is told until the job manager cancels it, for one word may
// be lost; then it is over, and a Cancel of what is not here is answered all the same.
func TestFailureIsToldUntilCancelled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		up := new(sent)
		m := newTestManager(t, up)
		m.Send(deployOf(1))
		clock.Sleep(t.Context(), clock.Wall(), 3500*time.Millisecond)
		said := of[control.Failed](up.take())
		if len(said) != 4 || !strings.Contains(said[0].Reason, "x.wj is broken") || said[0].Attempt != 1 {
			t.Errorf("in 3.5 s it said %+v, want the failure 4 times", said)
		}
		m.Send(control.Cancel{To: control.To{Job: "j", Attempt: 1}, Final: true})
		m.Send(control.Cancel{To: control.To{Job: "other", Attempt: 9}})
		synctest.Wait()
		stopped := of[control.Stopped](up.take())
		if len(stopped) != 2 {
			t.Errorf("two Cancels were answered with %+v", stopped)
		}
		if err := m.Close(); err != nil {
			t.Error(err)
		}
	})
}

// A new attempt ends the one before it, and a Deploy that comes late begins nothing.
func TestNewAttemptEndsTheFormer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		up := new(sent)
		m := newTestManager(t, up)
		m.Send(deployOf(3))
		synctest.Wait()
		m.Send(deployOf(5))
		m.Send(deployOf(4)) // late
		m.Send(deployOf(5)) // doubled
		synctest.Wait()
		said := up.take()
		if s := of[control.Stopped](said); len(s) != 1 || s[0].Attempt != 3 {
			t.Errorf("stopped: %+v, want attempt 3", s)
		}
		var failed []dataflow.Attempt
		for _, f := range of[control.Failed](said) {
			failed = append(failed, f.Attempt)
		}
		if !slices.Equal(failed, []dataflow.Attempt{3, 5}) {
			t.Errorf("attempts %v were begun, want 3 and 5", failed)
		}
		if err := m.Close(); err != nil {
			t.Error(err)
		}
	})
}

// endless never ends and hands out a row per Poll.
type endless struct{ spi.Reader }

func (endless) Poll(spi.Batch, int, *[]spi.Rejected) (int, int, error) { return 0, 1, nil }
func (endless) Ended() bool                                            { return false }

type endlessDriver struct{ spi.SourceDriver }

func (endlessDriver) Open(context.Context, spi.Env, []dataflow.SplitState, spi.SourceRunner) (spi.Reader, error) {
	return endless{}, nil
}

// A drained source hands out nothing more and reports its end, whether it was opened
// before or after the word came; those that wait are woken.
func TestDrainEndsSources(t *testing.T) {
	var d drain
	woken := 0
	drivers := d.sources(map[string]spi.SourceDriver{"x": endlessDriver{}})
	open := func() spi.Reader {
		r, err := drivers["x"].Open(t.Context(), spi.Env{Wake: func() { woken++ }}, nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	before := open()
	if _, n, _ := before.Poll(nil, 1, nil); n != 1 || before.Ended() {
		t.Errorf("a source that is not drained gives %d rows, ended %v", n, before.Ended())
	}
	d.start()
	after := open()
	for name, r := range map[string]spi.Reader{"opened before": before, "opened after": after} {
		if _, n, _ := r.Poll(nil, 1, nil); n != 0 || !r.Ended() {
			t.Errorf("%s: %d rows, ended %v", name, n, r.Ended())
		}
	}
	if woken != 1 {
		t.Errorf("%d sources were woken, want the one that waited", woken)
	}
}

// The shares of a report are of the time since the one before, within 0 and 1.
func TestShares(t *testing.T) {
	for _, tt := range []struct {
		part, all int64
		want      float64
	}{{0, 0, 0}, {5, 0, 0}, {25, 100, 0.25}, {100, 100, 1}} {
		if got := share(tt.part, tt.all); got != tt.want {
			t.Errorf("share(%d, %d) = %v, want %v", tt.part, tt.all, got, tt.want)
		}
	}
	got := edges(actors.SubtaskStats{Subtask: dataflow.SubtaskID{Chain: "c", Index: 1}, Outputs: []actors.EdgeStats{{Edge: 2, Rows: 7, Bytes: 70}}}, 0.5)
	want := []control.EdgeReport{{Edge: 2, From: dataflow.SubtaskID{Chain: "c", Index: 1}, Rows: 7, Bytes: 70, Held: 0.5}}
	if !slices.Equal(got, want) {
		t.Errorf("edges %+v, want %+v", got, want)
	}
}

// Memory for keyed state is split over the keyed subtasks of all jobs, and anew when
// the budget changes.
func TestBudget(t *testing.T) {
	plan := dataflow.Plan{KeyGroups: 8, Chains: []dataflow.Chain{{ID: "in", Parallelism: 2}, {ID: "count", Parallelism: 2, Keyed: true}}}
	if got := (control.Deploy{Plan: plan, Subtasks: plan.Subtasks()}).Keyed(); got != 2 {
		t.Errorf("%d keyed subtasks, want 2", got)
	}
	m := &Manager{}
	for _, tt := range []struct{ budget, keyed, want int64 }{{400, 0, 300}, {400, 2, 150}, {400, 6, 50}, {200, 6, 25}, {0, 6, 1}} {
		m.SetStateBudget(tt.budget)
		m.keyed.Store(tt.keyed)
		if got := m.typedCache(); got != tt.want {
			t.Errorf("each of %d keyed subtasks gets %d of %d, want %d", tt.keyed, got, tt.budget, tt.want)
		}
	}
}
