package actors_test

import (
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
