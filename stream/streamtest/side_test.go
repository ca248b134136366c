package streamtest_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/weirstream/weir/connectors/files"
	"github.com/weirstream/weir/stream"
	"github.com/weirstream/weir/stream/streamtest"
)

var short = stream.NewTag[string]("short")

func buildSides(g *stream.Graph) error {
	lines := stream.Read(g, "lines", files.Source("in", stream.Text()))
	long := stream.Process(lines, "split", func(out stream.Emitter[int], s string) {
		for w := range strings.FieldsSeq(s) {
			if len(w) < 4 {
				short.Emit(out, w)
			} else {
				out.Emit(len(w))
			}
		}
	}, short)
	stream.Write(stream.Map(long, "half", func(n int) int { return n / 2 }), "long", files.Sink("a", "json"))
	stream.Write(stream.Side(long, short), "short", files.Sink("b", "raw"))
	return nil
}

// A process function emits to its main and side outputs.
func TestSides(t *testing.T) {
	for _, opts := range [][]streamtest.Option{nil, {streamtest.Room(1), streamtest.Faults(3)}} {
		h := streamtest.New(t, buildSides, nil, opts...)
		h.Push("lines", "one four five seven", "a bb")
		h.Push("lines", "eleven")
		h.Drain()
		if got := streamtest.Rows[int](h, "long"); !slices.Equal(got, []int{2, 2, 2, 3}) {
			t.Errorf("long words: %v", got)
		}
		if got := streamtest.Rows[string](h, "short"); !slices.Equal(got, []string{"one", "a", "bb"}) {
			t.Errorf("short words: %v", got)
		}
	}
}
