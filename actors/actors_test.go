package actors_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/weirstream/weir/actors"
	"github.com/weirstream/weir/actors/internal/fake"
	"github.com/weirstream/weir/dataflow"
	"github.com/weirstream/weir/stream/spi"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// attempt is an actors.Attempt, or several.
type attempt interface {
	Start()
	Trigger(dataflow.Epoch)
	Abort(dataflow.Epoch)
	Complete(dataflow.Epoch)
	Commit(dataflow.Epoch, map[dataflow.OperatorID][]dataflow.CommitHandle)
	Finished(dataflow.Epoch)
	Snapshot() []actors.SubtaskStats
	Stop(context.Context) error
}

// boss is a small coordinator: it completes epochs whose parts are all in.
type boss struct {
	t     testing.TB
	a     attempt
	plan  *dataflow.Plan
	sinks int

	mu       sync.Mutex
	cond     *sync.Cond
	ready    int
	parts    map[dataflow.Epoch]map[dataflow.SubtaskID]dataflow.Part
	commits  map[dataflow.Epoch]int
	complete dataflow.Epoch
	finished dataflow.Epoch
	declined map[dataflow.Epoch]bool
	ended    map[dataflow.SubtaskID]bool
	failed   []error
	stop     bool
	retries  int
	manifest *actors.Restored
}

func newBoss(t testing.TB, plan *dataflow.Plan, sinks int) *boss {
	b := &boss{t: t, plan: plan, sinks: sinks, parts: map[dataflow.Epoch]map[dataflow.SubtaskID]dataflow.Part{},
		commits: map[dataflow.Epoch]int{}, declined: map[dataflow.Epoch]bool{}, ended: map[dataflow.SubtaskID]bool{}}
	b.cond = sync.NewCond(&b.mu)
	return b
}

func (b *boss) locked(f func()) {
	b.mu.Lock()
	f()
	b.cond.Broadcast()
	b.mu.Unlock()
}

func (b *boss) Ready(dataflow.SubtaskID) { b.locked(func() { b.ready++ }) }

func (b *boss) Acked(s dataflow.SubtaskID, e dataflow.Epoch, p dataflow.Part, fresh []dataflow.FileRef) {
	var handles map[dataflow.OperatorID][]dataflow.CommitHandle
	b.locked(func() {
		if b.parts[e] == nil {
			b.parts[e] = map[dataflow.SubtaskID]dataflow.Part{}
		}
		b.parts[e][s] = p
		if len(b.parts[e]) < len(b.plan.Subtasks()) || b.declined[e] {
			return
		}
		b.complete = e
		b.manifest = &actors.Restored{Epoch: e, Parts: slices.Collect(maps.Values(b.parts[e]))}
		handles = b.handles()
	})
	if handles != nil {
		b.a.Complete(e)
		b.a.Commit(e, handles)
	}
}

func (b *boss) handles() map[dataflow.OperatorID][]dataflow.CommitHandle {
	handles := map[dataflow.OperatorID][]dataflow.CommitHandle{"out": nil}
	for _, p := range b.manifest.Parts {
		for _, h := range p.Commits {
			handles[h.Sink] = append(handles[h.Sink], h)
		}
	}
	return handles
}

func (b *boss) Declined(s dataflow.SubtaskID, e dataflow.Epoch, err error) {
	b.locked(func() { b.declined[e] = true })
	b.a.Abort(e)
}

func (b *boss) Committed(sink dataflow.OperatorID, e dataflow.Epoch, result string) {
	done := false
	b.locked(func() {
		b.commits[e]++
		done = b.commits[e] == b.sinks
		if done {
			b.finished = max(b.finished, e)
		}
	})
	if done {
		b.a.Finished(e)
	}
}

func (b *boss) CommitRetry(sink dataflow.OperatorID, e dataflow.Epoch, _ int, err error) {
	b.locked(func() { b.retries++ })
}

func (b *boss) Failed(s dataflow.SubtaskID, err error, stop bool) {
	b.locked(func() { b.failed, b.stop = append(b.failed, err), b.stop || stop })
}

func (b *boss) Ended(s dataflow.SubtaskID) { b.locked(func() { b.ended[s] = true }) }

// wait waits until ok, which is called with mu held.
func (b *boss) wait(what string, ok func() bool) {
	b.t.Helper()
	late := time.AfterFunc(time.Minute, func() { b.locked(func() { b.failed = append(b.failed, fmt.Errorf("waited too long for %s", what)) }) })
	defer late.Stop()
	b.mu.Lock()
	defer b.mu.Unlock()
	for !ok() && len(b.failed) == 0 {
		b.cond.Wait()
	}
	if !ok() {
		b.t.Fatalf("%v (waiting for %s); %+v", b.failed, what, b.a.Snapshot())
	}
}

// job is source -> filter -> hash -> counter -> sink.
func job(p int) *fake.Job {
	j := &fake.Job{Groups: 128}
	j.Add("src", dataflow.KindSource, p, nil, "")
	j.Add("even", dataflow.KindOp, p, func() spi.Runner {
		return &fake.Each{F: func(r fake.Row, t int64, emit func(fake.Row, int64)) { emit(r, t) }}
	}, dataflow.Forward, "src")
	j.Add("count", dataflow.KindOp, p, func() spi.Runner { return &fake.Counter{} }, dataflow.Hash, "even")
	j.Stateful["count"] = true
	j.Add("out", dataflow.KindSink, p, nil, dataflow.Forward, "count")
	return j
}

type setup struct {
	job   *fake.Job
	gen   *fake.Gen
	table *fake.Table
	world *fake.World
	plan  dataflow.Plan
	tune  func(*actors.Options)
}

// start opens an attempt, commits what was restored and starts it.
func (s *setup) start(t testing.TB, rt *actors.Runtime, attempt dataflow.Attempt, last dataflow.Epoch, from *actors.Restored) *boss {
	b := newBoss(t, &s.plan, 1)
	o := actors.Options{
		Job: s.job, Plan: &s.plan, Pipeline: "p", Attempt: attempt, Events: b, LastEpoch: last, Restored: from,
		Sources: map[string]spi.SourceDriver{"src": s.gen}, Sinks: map[string]spi.SinkDriver{"out": s.table},
		OpenStore: func(ctx context.Context, id dataflow.SubtaskID) (actors.Store, error) {
			var parts []dataflow.Part
			if from != nil {
				parts = from.Parts
			}
			return s.world.Open(s.plan.Groups(id), parts), nil
		},
	}
	if s.tune != nil {
		s.tune(&o)
	}
	a, err := rt.NewAttempt(o)
	if err != nil {
		t.Fatal(err)
	}
	b.a = a
	b.wait("ready", func() bool { return b.ready == len(s.plan.Subtasks()) })
	if from != nil {
		b.manifest = from
		a.Commit(from.Epoch, b.handles())
		b.wait("the restored commit", func() bool { return b.commits[from.Epoch] == 1 })
	}
	a.Start()
	return b
}

func plan(t testing.TB, j *fake.Job, p int) dataflow.Plan {
	pl, err := dataflow.MakePlan(j.G, p, j.Groups)
	if err != nil {
		t.Fatal(err)
	}
	return pl
}

// checkCounts holds what a table shows against the rows of the generator: every
// count of every key once, from 1 to the number of its rows.
func checkCounts(t testing.TB, g *fake.Gen, table *fake.Table) {
	t.Helper()
	want := map[uint64]int64{}
	for k := range g.Splits {
		for i := range g.Rows {
			r, _ := g.At(k, i)
			want[r.Key]++
		}
	}
	rows, _ := table.Rows()
	got := map[fake.Row]int{}
	for _, r := range rows {
		got[r]++
	}
	for key, n := range want {
		for i := int64(1); i <= n; i++ {
			if c := got[fake.Row{Key: key, Val: i}]; c != 1 {
				t.Fatalf("count %d of key %d is visible %d times, want once", i, key, c)
			}
		}
	}
	if total := int64(g.Splits) * g.Rows; int64(len(rows)) != total {
		t.Fatalf("%d rows visible, want %d", len(rows), total)
	}
}

// A bounded job counts every row once, commits its tail and ends, with barriers
// on the way.
func TestBoundedJob(t *testing.T) {
	rt := actors.New(actors.RuntimeOptions{})
	defer rt.Close()
	j := job(2)
	s := &setup{job: j, gen: &fake.Gen{Splits: 4, Rows: 50_000, Keys: 1000}, table: &fake.Table{}, world: &fake.World{}, plan: plan(t, j, 2)}
	b := s.start(t, rt, 1, 0, nil)
	for e := dataflow.Epoch(1); ; e++ {
		b.a.Trigger(e)
		b.wait("an epoch", func() bool { return b.finished == e || b.declined[e] })
		done := false
		b.locked(func() { done = len(b.ended) == len(s.plan.Subtasks()) })
		if done {
			break
		}
	}
	checkCounts(t, s.gen, s.table)
	if err := b.a.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// Killed at any moment and restored, also at another parallelism, the job counts
// every row once.
func TestRestore(t *testing.T) {
	rt := actors.New(actors.RuntimeOptions{})
	defer rt.Close()
	gen := &fake.Gen{Splits: 4, Rows: 40_000, Keys: 500}
	table, world := &fake.Table{}, &fake.World{}
	var from *actors.Restored
	var last dataflow.Epoch
	for attempt := dataflow.Attempt(1); ; attempt++ {
		p := []int{2, 1, 3}[attempt%3]
		j := job(p)
		s := &setup{job: j, gen: gen, table: table, world: world, plan: plan(t, j, p), tune: func(o *actors.Options) {
			o.MemoryBudget = func() int64 { return 8 << 10 } // spills
		}}
		b := s.start(t, rt, attempt, last, from)
		// Two epochs, the second in flight when everything is dropped; in the end until
		// all is done.
		ended := func() (ok bool) { b.locked(func() { ok = len(b.ended) == len(s.plan.Subtasks()) }); return ok }
		for n := 0; n < 2 || attempt > 6 && !ended(); n++ {
			last++
			b.a.Trigger(last)
			b.wait("an epoch", func() bool { return b.finished == last || b.declined[last] })
		}
		over := ended()
		last++
		b.a.Trigger(last)
		if err := b.a.Stop(t.Context()); err != nil {
			t.Fatal(err)
		}
		if b.manifest != nil {
			from = b.manifest
		}
		if over {
			break
		}
	}
	checkCounts(t, gen, table)
}

// A panic of user code fails the subtask with the operator's name and stack, and
// the attempt still stops cleanly.
func TestPanic(t *testing.T) {
	rt := actors.New(actors.RuntimeOptions{})
	defer rt.Close()
	j := job(2)
	j.Runners["even"] = func() spi.Runner {
		return &fake.Each{F: func(r fake.Row, tm int64, emit func(fake.Row, int64)) {
			if tm > 1000 {
				panic("boom")
			}
			emit(r, tm)
		}}
	}
	s := &setup{job: j, gen: &fake.Gen{Splits: 2, Rows: 50_000, Keys: 10}, table: &fake.Table{}, world: &fake.World{}, plan: plan(t, j, 2)}
	b := s.start(t, rt, 1, 0, nil)
	b.mu.Lock()
	for len(b.failed) == 0 {
		b.cond.Wait()
	}
	err := b.failed[0].Error()
	b.mu.Unlock()
	for _, want := range []string{`operator "even"`, "boom", "actors_test.go"} {
		if !strings.Contains(err, want) {
			t.Errorf("the failure does not say %q: %s", want, err)
		}
	}
	if err := b.a.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// A commit that fails is tried again, in order; one that says stop fails the
// attempt for good.
func TestCommitRetry(t *testing.T) {
	rt := actors.New(actors.RuntimeOptions{})
	defer rt.Close()
	j := job(1)
	var mu sync.Mutex
	tries := 0
	var answer error = errors.New("try later")
	table := &fake.Table{Fail: func(dataflow.Epoch) error {
		mu.Lock()
		defer mu.Unlock()
		if tries++; tries > 3 {
			return nil
		}
		return answer
	}}
	s := &setup{job: j, gen: &fake.Gen{Splits: 1, Rows: 1000, Keys: 10}, table: table, world: &fake.World{}, plan: plan(t, j, 1),
		tune: func(o *actors.Options) { o.CommitBackoff = time.Millisecond }}
	b := s.start(t, rt, 1, 0, nil)
	for e := dataflow.Epoch(1); ; e++ {
		b.a.Trigger(e)
		b.wait("an epoch", func() bool { return b.finished == e })
		done := false
		b.locked(func() { done = len(b.ended) == len(s.plan.Subtasks()) })
		if done {
			break
		}
	}
	if b.retries != 3 {
		t.Errorf("%d retries told, want 3", b.retries)
	}
	checkCounts(t, s.gen, table)
	if err := b.a.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}

	mu.Lock()
	tries, answer = 0, fmt.Errorf("table gone: %w", spi.ErrStop)
	mu.Unlock()
	s.gen.Rows = 2000
	b = s.start(t, rt, 2, 1000, nil)
	b.a.Trigger(1001)
	b.mu.Lock()
	for len(b.failed) == 0 {
		if b.finished == 1001 { // nothing was in the first epoch
			b.mu.Unlock()
			b.a.Trigger(1002)
			b.mu.Lock()
		}
		b.cond.Wait()
	}
	if !b.stop || !strings.Contains(b.failed[0].Error(), "table gone") {
		t.Errorf("failure %v, stop %v", b.failed, b.stop)
	}
	b.mu.Unlock()
	if err := b.a.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// Rows pass through the actors, and not one by one.
func TestMessages(t *testing.T) {
	rt := actors.New(actors.RuntimeOptions{})
	defer rt.Close()
	j := job(2)
	s := &setup{job: j, gen: &fake.Gen{Splits: 4, Rows: 250_000, Keys: 100}, table: &fake.Table{}, world: &fake.World{}, plan: plan(t, j, 2)}
	b := s.start(t, rt, 1, 0, nil)
	var last []actors.SubtaskStats
	for e := dataflow.Epoch(1); ; e++ {
		b.a.Trigger(e)
		b.wait("an epoch", func() bool { return b.finished == e || b.declined[e] })
		done := false
		b.locked(func() { done = len(b.ended) == len(s.plan.Subtasks()) })
		if done {
			break
		}
	}
	last = b.a.Snapshot()
	var messages, rows int64
	for _, st := range last {
		messages += st.Messages
		for _, o := range st.Outputs {
			rows += o.Rows
		}
	}
	t.Logf("%d mailbox messages for %d rows", messages, rows)
	if rows != 1_000_000 {
		t.Errorf("%d rows passed the exchange, want 1000000", rows)
	}
	if messages == 0 || messages > 10_000 {
		t.Errorf("%d mailbox messages for a million rows, want 1..10000", messages)
	}
	if err := b.a.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
}
