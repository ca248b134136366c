package stream

import (
	"strings"
	"testing"
	"time"

	"github.com/weirstream/weir/dataflow"
)

type counterOf struct {
	N     int
	Limit int `state:"-"`
}

func (c *counterOf) Receive(ctx Context[string], e event) { c.N++ }

func (c *counterOf) OnTimer(ctx Context[string], name string, at time.Time) {}

type misTimed struct{ N int }

func (c *misTimed) Receive(ctx Context[string], e event)                {}
func (c *misTimed) OnTimer(ctx Context[int], name string, at time.Time) {}

type forgetful struct{ n int } //lint:ignore U1000 an unexported field is the point

func (c *forgetful) Receive(ctx Context[string], e event) {}

type both struct{}

func (b *both) ReceiveLeft(ctx Context[string], e event)  {}
func (b *both) ReceiveRight(ctx Context[string], r int64) {}

// Keyed operators declare their states, ports and exchanges.
func TestKeyedOperators(t *testing.T) {
	items, log, last, late := NewMap[string, int]("items"), NewList[event]("log"), NewValue[int]("last", TTL(time.Hour)), NewTag[event]("late")
	j, err := Build(nil, func(g *Graph) error {
		events := Read(g, "events", testSource())
		byUser := KeyBy(events, func(e event) string { return e.User })
		counts := Actors(byUser, "count", func() *counterOf { return &counterOf{Limit: 3} }, items, log, last)
		sums := Windowed(byUser, "sums", Tumbling(time.Minute).Lateness(time.Second),
			func(a *int64, e event) { *a += int64(e.N) }, func(a *int64, b int64) { *a += b },
			func(p Pane[string], a int64) int64 { return a }, LateTo(late))
		joined := Connect(byUser, KeyBy(sums, func(int64) string { return "" }), "join", func() *both { return new(both) })
		Discard(Union(counts, joined), "nowhere")
		Discard(Side(sums, late), "late rows")
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	g := j.Graph()
	var names []string
	for _, s := range g.Operator("count").States {
		names = append(names, string(s.Kind)+":"+s.Name)
	}
	if got := strings.Join(names, " "); got != "value:actor timer:timers map:items list:log value:last" {
		t.Errorf("states of count: %s", got)
	}
	for _, i := range g.In("join") {
		if e := g.Edges[i]; e.Exchange != dataflow.Hash {
			t.Errorf("join reads %s by %s", e.From, e.Exchange)
		}
	}
	for _, name := range []dataflow.OperatorID{"count", "sums", "join"} {
		if _, err := j.NewRunner(name); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// What a keyed operator could not do is refused when the job is built.
func TestKeyedFaults(t *testing.T) {
	_, err := Build(nil, func(g *Graph) error {
		byUser := KeyBy(Read(g, "events", testSource()), func(e event) string { return e.User })
		Discard(Actors(byUser, "mistimed", func() *misTimed { return new(misTimed) }), "d1")
		Discard(Actors(byUser, "forgetful", func() *forgetful { return new(forgetful) }), "d2")
		Discard(Actors(byUser, "ageing", func() *counterOf { return new(counterOf) },
			NewList[int]("log", TTL(time.Hour)), NewMap[float64, int]("prices"), NewMap[string, int]("actor")), "d3")
		sum := func(a *int, e event) { *a += e.N }
		merge := func(a *int, b int) { *a += b }
		result := func(p Pane[string], a int) int { return a }
		Discard(Windowed(byUser, "gaps", Sliding(time.Second, time.Minute), sum, merge, result), "d4")
		Discard(Windowed(byUser, "wrong tag", Tumbling(time.Second), sum, merge, result, LateTo(NewTag[int]("late"))), "d5")
		return nil
	})
	if err == nil {
		t.Fatal("no fault found")
	}
	for _, want := range []string{
		`"mistimed": *stream.misTimed has func(`, "would never be called",
		"stream.forgetful.n is unexported",
		`list state "log" of operator "ageing" has a TTL`,
		`map state "prices" of operator "ageing" with keys of float64`,
		`operator "ageing" has two states named "actor"`,
		"windows of 1s every 1m0s leave gaps",
		`operator "wrong tag" is given stream.lateUse[int]`,
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("no fault says %q in:\n%v", want, err)
		}
	}
}
