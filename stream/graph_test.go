package stream

import (
	"iter"
	"strings"
	"testing"
	"time"

	"github.com/weirstream/weir/dataflow"
)

type event struct {
	User string
	N    int
	At   time.Time
}

func testSource() Source[event] {
	return Source[event]{Kind: "gen", Options: map[string]string{"count": "3"}}
}

// A job becomes a graph with its operators in order and an edge per reader.
func TestBuild(t *testing.T) {
	j, err := Build(map[string]string{"n": "7"}, func(g *Graph) error {
		n := Param(g, "n", 1)
		events := Read(g, "events", testSource(), EventTime(func(e event) time.Time { return e.At }, time.Second)).Parallelism(n)
		users := Map(events, "user", func(e event) string { return e.User }).Describe("the user")
		letters := FlatMap(Union(users, users), "letters", func(s string) iter.Seq[rune] {
			return func(yield func(rune) bool) {}
		})
		Discard(Rebalance(letters), "nowhere").NoChain()
		Write(Rejects(events), "bad", Sink{Kind: "files"})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	g := j.Graph()
	if len(g.Operators) != 5 || len(g.Edges) != 5 {
		t.Fatalf("got %d operators and %d edges, want 5 and 5: %+v", len(g.Operators), len(g.Edges), g)
	}
	if p := g.Operator("events").Parallelism; p != 7 {
		t.Errorf("parallelism %d, want 7", p)
	}
	if e := g.Edges[4]; e.From != "events" || e.Port != 1 || e.To != "bad" {
		t.Errorf("dead letters leave by %+v", e)
	}
	if g.Edges[3].Exchange != dataflow.Rebalance {
		t.Errorf("got exchange %v, want rebalance", g.Edges[3].Exchange)
	}
	if _, err := dataflow.MakePlan(g, 2, 0); err != nil {
		t.Error(err)
	}
}

// Every fault of a job is reported, each in a sentence that names it.
func TestFaults(t *testing.T) {
	tag := NewTag[int]("late")
	_, err := Build(map[string]string{"limti": "3", "n": "x"}, func(g *Graph) error {
		Param(g, "limit", 1)
		Param(g, "n", 1)
		events := Read(g, "events", testSource())
		Map(events, "events", func(e event) int { return 1 })
		Map(events, "", func(e event) int { return 1 }).Parallelism(0)
		Discard(Side(events, tag), "side")
		return nil
	})
	if err == nil {
		t.Fatal("no fault found")
	}
	for _, want := range []string{
		`"limti": did you mean "limit"`, `n="x": want a whole number`, `two operators are named "events"`,
		`map operator number 3 has no name`, `parallelism 0`, `side output "late" is read from operator "events"`,
		`nothing reads the output of operator "events"`,
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("no sentence with %q in:\n%v", want, err)
		}
	}
}

// A panic of the build function, such as for a stream that does not exist, is an
// error.
func TestBuildPanics(t *testing.T) {
	_, err := Build(nil, func(g *Graph) error {
		Discard(Stream[int]{}, "nowhere")
		return nil
	})
	if err == nil || !strings.Contains(err.Error(), `operator "nowhere" reads a stream that no operator made`) {
		t.Errorf("got %v", err)
	}
}
