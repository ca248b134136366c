package actors_test

import (
	"context"
	"sync/atomic"
	"testing"

	"github.com/weirstream/weir/actors"
	"github.com/weirstream/weir/actors/internal/fake"
	"github.com/weirstream/weir/dataflow"
	"github.com/weirstream/weir/stream/spi"
)

// BenchmarkTwoHops measures rows through source -> rebalance -> operator -> hash ->
// operator, p=1 each, none of which does any work: what the runtime itself costs.
func BenchmarkTwoHops(b *testing.B) {
	rt := actors.New(actors.RuntimeOptions{})
	defer rt.Close()
	j := &fake.Job{Groups: 128}
	j.Add("src", dataflow.KindSource, 1, nil, "")
	j.Add("hop", dataflow.KindOp, 1, func() spi.Runner { return &fake.Pass{} }, dataflow.Rebalance, "src")
	j.Add("end", dataflow.KindOp, 1, func() spi.Runner { return &fake.Pass{Swallow: true} }, dataflow.Rebalance, "hop")
	pl := plan(b, j, 1)
	boss := newBoss(b, &pl, 0)
	a, err := rt.NewAttempt(actors.Options{
		Job: j, Plan: &pl, Attempt: 1, Events: boss,
		Sources: map[string]spi.SourceDriver{"src": &fake.Blank{Rows: int64(b.N) * 1024}},
	})
	if err != nil {
		b.Fatal(err)
	}
	boss.a = a
	boss.wait("ready", func() bool { return boss.ready == 3 })
	b.ResetTimer()
	a.Start()
	boss.wait("the end", func() bool { return len(boss.ended) == 3 })
	b.StopTimer()
	rows := float64(b.N) * 1024
	b.ReportMetric(rows/b.Elapsed().Seconds()/1e6, "Mrows/s")
	var messages int64
	for _, s := range a.Snapshot() {
		messages += s.Messages
	}
	b.ReportMetric(float64(messages)/rows*1e6, "messages/Mrow")
	if err := a.Stop(b.Context()); err != nil {
		b.Fatal(err)
	}
}

// pinger is a source that gives one row whenever it is poked.
type pinger struct {
	fake.Blank
	poke atomic.Bool
	wake func()
}

func (p *pinger) Open(_ context.Context, env spi.Env, _ []dataflow.SplitState, _ spi.SourceRunner) (spi.Reader, error) {
	p.wake = env.Wake
	return pingReader{p}, nil
}

type pingReader struct{ p *pinger }

func (r pingReader) Splits() ([]string, int) { return []string{"0"}, 1 }

func (r pingReader) Poll(b spi.Batch, max int, _ *[]spi.Rejected) (int, int, error) {
	if !r.p.poke.CompareAndSwap(true, false) {
		return 0, 0, nil
	}
	r.p.Rows++
	b.(*fake.Batch[fake.Row]).Push(fake.Row{}, r.p.Rows)
	return 0, 1, nil
}

func (r pingReader) Ended() bool                                     { return false }
func (r pingReader) Snapshot() []dataflow.SplitState                 { return nil }
func (r pingReader) Completed(dataflow.Epoch, []dataflow.SplitState) {}
func (r pingReader) Lag() int64                                      { return -1 }
func (r pingReader) Close() error                                    { return nil }

// BenchmarkPing measures one row at a time from the wake of a source over two hops:
// what an idle runtime adds to latency.
func BenchmarkPing(b *testing.B) {
	rt := actors.New(actors.RuntimeOptions{})
	defer rt.Close()
	arrived := make(chan struct{}, 1)
	j := &fake.Job{Groups: 128}
	j.Add("src", dataflow.KindSource, 1, nil, "")
	j.Add("hop", dataflow.KindOp, 1, func() spi.Runner { return &fake.Pass{} }, dataflow.Rebalance, "src")
	j.Add("end", dataflow.KindOp, 1, func() spi.Runner {
		return &fake.Each{F: func(fake.Row, int64, func(fake.Row, int64)) { arrived <- struct{}{} }}
	}, dataflow.Rebalance, "hop")
	pl := plan(b, j, 1)
	boss := newBoss(b, &pl, 0)
	p := &pinger{}
	a, err := rt.NewAttempt(actors.Options{Job: j, Plan: &pl, Attempt: 1, Events: boss, Sources: map[string]spi.SourceDriver{"src": p}})
	if err != nil {
		b.Fatal(err)
	}
	boss.a = a
	boss.wait("ready", func() bool { return boss.ready == 3 })
	a.Start()
	for b.Loop() {
		p.poke.Store(true)
		p.wake()
		<-arrived
	}
	if err := a.Stop(b.Context()); err != nil {
		b.Fatal(err)
	}
}
