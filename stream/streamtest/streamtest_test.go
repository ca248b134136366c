package streamtest_test

import (
	"fmt"
	"iter"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/weirstream/weir/connectors/files"
	"github.com/weirstream/weir/connectors/gen"
	"github.com/weirstream/weir/stream"
	"github.com/weirstream/weir/stream/streamtest"
)

type line struct {
	Text string
	At   time.Time
}

var start = time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)

func buildWords(g *stream.Graph) error {
	lines := stream.Read(g, "lines", files.Source("in", stream.JSON[line]()),
		stream.EventTime(func(l line) time.Time { return l.At }, time.Second).Idle(time.Minute))
	words := stream.FlatMap(lines, "words", func(l line) iter.Seq[string] { return strings.FieldsSeq(l.Text) })
	long := stream.Filter(stream.Rebalance(words), "long", func(w string) bool { return len(w) > 3 })
	upper := stream.Map(long, "upper", strings.ToUpper)
	stream.Write(upper, "out", files.Sink("out", "raw"))
	return nil
}

func sentence(i int) line {
	return line{Text: strings.Repeat(fmt.Sprintf("w%d word%d ", i, i), i%7), At: start.Add(time.Duration(i) * time.Second)}
}

// A stateless job writes the same rows whatever the options, failures included.
func TestStateless(t *testing.T) {
	var want []string
	for i := range 30 {
		for range i % 7 {
			want = append(want, fmt.Sprintf("WORD%d", i))
		}
	}
	slices.Sort(want)
	options := map[string][]streamtest.Option{
		"plain":    nil,
		"parallel": {streamtest.Parallelism(3), streamtest.Room(1), streamtest.EvictAlways()},
	}
	for seed := range uint64(50) {
		options[fmt.Sprint("faults ", seed)] = []streamtest.Option{streamtest.Parallelism(int(seed%4) + 1), streamtest.Faults(seed), streamtest.Room(2)}
	}
	for name, opts := range options {
		h := streamtest.New(t, buildWords, nil, opts...)
		for i := 0; i < 30; i += 2 {
			h.PushSplit("lines", fmt.Sprint(i%3), sentence(i), sentence(i+1))
			if i == 10 {
				h.Rescale(i % 4)
			}
		}
		h.Drain()
		got := streamtest.Rows[string](h, "out")
		slices.Sort(got)
		if !slices.Equal(got, want) {
			t.Fatalf("%s: got %d rows %v, want %d", name, len(got), got, len(want))
		}
	}
}

// Generated rows are all made, once, and a restart makes no others.
func TestGenerated(t *testing.T) {
	h := streamtest.New(t, func(g *stream.Graph) error {
		n := stream.Param(g, "count", 1000)
		s := stream.Read(g, "numbers", gen.Sequence(int64(n), func(i int64) int64 { return i * i }))
		stream.Discard(s, "nowhere")
		return nil
	}, map[string]string{"count": "700"}, streamtest.Parallelism(2))
	h.Generate("numbers", 300)
	h.Checkpoint()
	h.Generate("numbers", 100)
	h.Restart()
	h.Drain()
	got := streamtest.Rows[int64](h, "numbers")
	if len(got) != 700 || got[699] != 699*699 {
		t.Fatalf("got %d rows, the last is %v", len(got), got[len(got)-1])
	}
	if n := h.Counter("nowhere", "records_discarded_total"); n != 400 {
		t.Errorf("%d rows were discarded since the restart, want 400", n)
	}
}
