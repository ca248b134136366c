package actors_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weirstream/weir/actors"
	"github.com/weirstream/weir/actors/internal/fake"
	"github.com/weirstream/weir/dataflow"
	"github.com/weirstream/weir/internal/clock"
	"github.com/weirstream/weir/stream/spi"
)

// lockedBuffer is a log that may be read while it is written.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// An operator that does not let go of its turn is named in the log, Snapshot does
// not wait for it, and Stop gives up when told to, and succeeds later.
func TestWatchdog(t *testing.T) {
	log := &lockedBuffer{}
	c := clock.NewFake(time.Time{})
	rt := actors.New(actors.RuntimeOptions{Clock: c, Log: slog.New(slog.NewTextHandler(log, nil))})
	j := job(1)
	entered, leave := make(chan struct{}), make(chan struct{})
	var once sync.Once
	j.Runners["even"] = func() spi.Runner {
		return &fake.Each{F: func(r fake.Row, tm int64, emit func(fake.Row, int64)) {
			once.Do(func() { close(entered); <-leave })
			emit(r, tm)
		}}
	}
	s := &setup{job: j, gen: &fake.Gen{Splits: 1, Rows: 1000, Keys: 10}, table: &fake.Table{}, world: &fake.World{}, plan: plan(t, j, 1)}
	b := s.start(t, rt, 1, 0, nil)
	<-entered
	c.Advance(3 * time.Second)
	if out := log.String(); !strings.Contains(out, "holds its turn") || !strings.Contains(out, "operator=even") {
		t.Errorf("the log does not name the operator: %s", out)
	}
	if n := len(b.a.Snapshot()); n != 2 {
		t.Errorf("Snapshot tells of %d subtasks, want 2", n)
	}
	late, cancel := context.WithCancel(t.Context())
	cancel()
	if err := b.a.Stop(late); !errors.Is(err, context.Canceled) {
		t.Errorf("Stop = %v, want the context's error", err)
	}
	if err := rt.Close(); err == nil {
		t.Error("the runtime was closed under a running attempt")
	}
	close(leave)
	if err := b.a.Stop(t.Context()); err != nil {
		t.Error(err)
	}
	if err := rt.Close(); err != nil {
		t.Error(err)
	}
}

// What cannot be opened fails its subtask, with the cause; what was opened before
// is closed.
func TestOpenFails(t *testing.T) {
	rt := actors.New(actors.RuntimeOptions{})
	defer rt.Close()
	j := job(1)
	gone := errors.New("bucket gone")
	s := &setup{job: j, gen: &fake.Gen{Splits: 1, Rows: 10, Keys: 1}, table: &fake.Table{}, world: &fake.World{}, plan: plan(t, j, 1)}
	b := newBoss(t, &s.plan, 1)
	a, err := rt.NewAttempt(actors.Options{
		Job: j, Plan: &s.plan, Attempt: 1, Events: b,
		Sources:   map[string]spi.SourceDriver{"src": s.gen},
		Sinks:     map[string]spi.SinkDriver{"out": s.table},
		OpenStore: func(context.Context, dataflow.SubtaskID) (actors.Store, error) { return nil, gone },
	})
	if err != nil {
		t.Fatal(err)
	}
	b.mu.Lock()
	for len(b.failed) == 0 {
		b.cond.Wait()
	}
	if err := b.failed[0]; !errors.Is(err, gone) || !strings.Contains(err.Error(), "count/0") {
		t.Errorf("failure %v does not name the subtask and the cause", err)
	}
	b.mu.Unlock()
	if err := a.Stop(t.Context()); err != nil {
		t.Error(err)
	}
}

// An attempt may be stopped while it opens.
func TestStopWhileOpening(t *testing.T) {
	rt := actors.New(actors.RuntimeOptions{})
	defer rt.Close()
	j := job(2)
	s := &setup{job: j, gen: &fake.Gen{Splits: 2, Rows: 10, Keys: 1}, table: &fake.Table{}, world: &fake.World{}, plan: plan(t, j, 2)}
	for range 50 {
		b := newBoss(t, &s.plan, 1)
		a, err := rt.NewAttempt(actors.Options{
			Job: j, Plan: &s.plan, Attempt: 1, Events: b,
			Sources: map[string]spi.SourceDriver{"src": s.gen},
			Sinks:   map[string]spi.SinkDriver{"out": s.table},
			OpenStore: func(ctx context.Context, id dataflow.SubtaskID) (actors.Store, error) {
				if id.Index == 1 {
					<-ctx.Done()
					return nil, ctx.Err()
				}
				return s.world.Open(s.plan.Groups(id), nil), nil
			},
		})
		if err != nil {
			t.Fatal(err)
		}
		if err := a.Stop(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
}

// All faults of options are told at once, by name.
func TestOptions(t *testing.T) {
	rt := actors.New(actors.RuntimeOptions{})
	defer rt.Close()
	j := job(1)
	pl := plan(t, j, 1)
	_, err := rt.NewAttempt(actors.Options{Job: j, Plan: &pl, Subtasks: []dataflow.SubtaskID{{Chain: "nobody"}}})
	if err == nil {
		t.Fatal("no error")
	}
	for _, want := range []string{"Events is missing", "Attempt is missing", "nobody/0", `source driver "src"`, `sink driver "out"`} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("the error does not tell %s: %v", want, err)
		}
	}
}

// In a bubble, where time moves only when nothing else does, a job ends without
// waiting for any clock but that of its idle sources: nothing is stuck.
func TestBubble(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rt := actors.New(actors.RuntimeOptions{})
		j := job(3)
		s := &setup{job: j, gen: &fake.Gen{Splits: 5, Rows: 3000, Keys: 100}, table: &fake.Table{}, world: &fake.World{}, plan: plan(t, j, 3)}
		begin := time.Now()
		b := s.start(t, rt, 1, 0, nil)
		for e := dataflow.Epoch(1); ; e++ {
			b.a.Trigger(e)
			b.wait("an epoch", func() bool { return b.finished == e || b.declined[e] })
			done := false
			b.locked(func() { done = len(b.ended) == len(s.plan.Subtasks()) })
			if done {
				break
			}
			synctest.Wait() // until only time could move anything
		}
		checkCounts(t, s.gen, s.table)
		if err := b.a.Stop(t.Context()); err != nil {
			t.Error(err)
		}
		if err := rt.Close(); err != nil {
			t.Error(err)
		}
		if took := time.Since(begin); took > 100*time.Millisecond {
			t.Errorf("the job took %v of the bubble's time: something waited for a clock", took)
		}
	})
}
