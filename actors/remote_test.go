package actors_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/weirstream/weir/actors"
	"github.com/weirstream/weir/actors/channel"
	"github.com/weirstream/weir/actors/frame"
	"github.com/weirstream/weir/actors/internal/fake"
	"github.com/weirstream/weir/dataflow"
	"github.com/weirstream/weir/stream/spi"
)

// crew is one attempt over several workers.
type crew []*actors.Attempt

func (c crew) each(f func(*actors.Attempt)) {
	for _, a := range c {
		f(a)
	}
}

func (c crew) Start()                    { c.each((*actors.Attempt).Start) }
func (c crew) Trigger(e dataflow.Epoch)  { c.each(func(a *actors.Attempt) { a.Trigger(e) }) }
func (c crew) Abort(e dataflow.Epoch)    { c.each(func(a *actors.Attempt) { a.Abort(e) }) }
func (c crew) Complete(e dataflow.Epoch) { c.each(func(a *actors.Attempt) { a.Complete(e) }) }
func (c crew) Finished(e dataflow.Epoch) { c.each(func(a *actors.Attempt) { a.Finished(e) }) }

func (c crew) Commit(e dataflow.Epoch, h map[dataflow.OperatorID][]dataflow.CommitHandle) {
	c.each(func(a *actors.Attempt) { a.Commit(e, h) })
}

func (c crew) Snapshot() (all []actors.SubtaskStats) {
	c.each(func(a *actors.Attempt) { all = append(all, a.Snapshot()...) })
	return all
}

func (c crew) Stop(ctx context.Context) error {
	var errs []error
	c.each(func(a *actors.Attempt) { errs = append(errs, a.Stop(ctx)) })
	return errors.Join(errs...)
}

// wire is the link to the worker that runs the subtasks of index i: it delivers at
// once.
type wire struct {
	t  *testing.T
	to func() *actors.Attempt
}

func (w wire) Dial(dataflow.SubtaskID) (actors.Link, error) { return w, nil }

func (w wire) Send(b []byte) {
	if err := w.to().Deliver(b); err != nil {
		w.t.Errorf("deliver: %v", err)
	}
	clear(b) // what was delivered is not kept
}

// A job over two workers, all rows between them as frames, counts every row once.
func TestTwoWorkers(t *testing.T) {
	j := job(2)
	pl := plan(t, j, 2)
	gen, table, world := &fake.Gen{Splits: 4, Rows: 20_000, Keys: 300}, &fake.Table{}, &fake.World{}
	b := newBoss(t, &pl, 1)
	both := make(crew, 2)
	var rts []*actors.Runtime
	for i := range both {
		rt := actors.New(actors.RuntimeOptions{})
		rts = append(rts, rt)
		var here []dataflow.SubtaskID
		for _, s := range pl.Subtasks() {
			if s.Index == i {
				here = append(here, s)
			}
		}
		a, err := rt.NewAttempt(actors.Options{
			Job: j, Plan: &pl, Attempt: 1, Events: b, Subtasks: here,
			Sources: map[string]spi.SourceDriver{"src": gen}, Sinks: map[string]spi.SinkDriver{"out": table},
			OpenStore: func(_ context.Context, id dataflow.SubtaskID) (actors.Store, error) {
				return world.Open(pl.Groups(id), nil), nil
			},
			Dialer: wire{t, func() *actors.Attempt { return both[1-i] }},
			Rows:   func(int) (frame.Codec, error) { return fake.Codec{}, nil },
		})
		if err != nil {
			t.Fatal(err)
		}
		both[i] = a
	}
	b.a = both
	b.wait("ready", func() bool { return b.ready == 4 })
	both.Start()
	for e := dataflow.Epoch(1); ; e++ {
		both.Trigger(e)
		b.wait("an epoch", func() bool { return b.finished == e || b.declined[e] })
		done := false
		b.locked(func() { done = len(b.ended) == 4 })
		if done {
			break
		}
	}
	checkCounts(t, gen, table)

	// A frame that is damaged or strange is refused; a subtask can be failed.
	if err := both[0].Deliver([]byte("what is this, forty-two bytes of nothing?!")); err == nil {
		t.Error("nonsense was delivered")
	}
	if err := both[0].Deliver(frame.AppendCredit(nil, dataflow.ChannelID{Edge: 9}, 1, channel.Credit{})); err == nil || !strings.Contains(err.Error(), "9:0>0") {
		t.Errorf("credit of an unknown channel: %v", err)
	}
	both[0].Fail(dataflow.SubtaskID{Chain: "src"}, errors.New("link lost"))
	b.mu.Lock()
	for len(b.failed) == 0 {
		b.cond.Wait()
	}
	b.mu.Unlock()
	if err := both.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, rt := range rts {
		if err := rt.Close(); err != nil {
			t.Error(err)
		}
	}
}
