package stream_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/weirstream/weir/connectors/delta"
	"github.com/weirstream/weir/connectors/kafka"
	"github.com/weirstream/weir/stream"
	"github.com/weirstream/weir/stream/streamtest"
)

type CartEvent struct {
	User string    `json:"user"`
	Type string    `json:"type"`
	At   time.Time `json:"at"`
}

type Abandoned struct {
	Items int
	Last  int64
}

// Cart is one shopper's cart. One Cart lives per user; its fields are its state.
type Cart struct {
	Items int
	Last  int64 // event time of the last add, microseconds
}

func (c *Cart) Receive(ctx stream.Context[Abandoned], e CartEvent) {
	switch e.Type {
	case "add_to_cart":
		c.Items++
		c.Last = e.At.UnixMicro()
		ctx.SetTimer("abandon", e.At.Add(5*time.Minute))
	case "checkout":
		ctx.Clear()
	}
}

func (c *Cart) OnTimer(ctx stream.Context[Abandoned], name string, at time.Time) {
	ctx.Emit(Abandoned{Items: c.Items, Last: c.Last})
	ctx.Clear()
}

func Build(g *stream.Graph) error {
	events := stream.Read(g, "carts", kafka.Topic("cart_updates", stream.JSON[CartEvent]()),
		stream.EventTime(func(e CartEvent) time.Time { return e.At }, 10*time.Second).Idle(time.Minute))
	byUser := stream.KeyBy(events, func(e CartEvent) string { return e.User })
	alerts := stream.Actors(byUser, "abandonment", func() *Cart { return new(Cart) })
	stream.Write(alerts, "alerts", delta.Table("gold/abandoned_carts"))
	return nil
}

// The job of the package documentation: carts left alone for five minutes are
// reported, those checked out are not, and no option changes that.
func TestCarts(t *testing.T) {
	noon := time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	for name, options := range map[string][]streamtest.Option{
		"plain":  nil,
		"hard":   {streamtest.Parallelism(3), streamtest.Room(1), streamtest.EvictAlways()},
		"faults": {streamtest.Parallelism(2), streamtest.Faults(1)},
	} {
		t.Run(name, func(t *testing.T) {
			h := streamtest.New(t, Build, nil, options...)
			h.Push("carts",
				CartEvent{"ann", "add_to_cart", noon},
				CartEvent{"bob", "add_to_cart", noon.Add(time.Second)},
				CartEvent{"ann", "add_to_cart", noon.Add(2 * time.Second)})
			h.Push("carts", CartEvent{"bob", "checkout", noon.Add(time.Minute)})
			h.Restart()
			h.Watermark("carts", noon.Add(5*time.Minute))
			if got := streamtest.Rows[Abandoned](h, "alerts"); len(got) != 0 {
				t.Errorf("alerts before their time: %v", got)
			}
			h.Drain()
			want := []Abandoned{{Items: 2, Last: noon.Add(2 * time.Second).UnixMicro()}}
			if got := streamtest.Rows[Abandoned](h, "alerts"); !slices.Equal(got, want) {
				t.Errorf("got %v, want %v", got, want)
			}
			if n := h.State("abandonment"); n != 0 {
				t.Errorf("%d rows of state are left", n)
			}
		})
	}
}

// An option with a function of another row type is refused by name.
func TestHookOfAnotherType(t *testing.T) {
	_, err := stream.Build(nil, func(g *stream.Graph) error {
		events := stream.Read(g, "carts", kafka.Topic("cart_updates", stream.JSON[CartEvent]()))
		stream.Write(events, "copy", kafka.To("copies", kafka.Key(func(a Abandoned) string { return "" })))
		stream.Write(events, "bad topic", kafka.To("no spaces"))
		return nil
	})
	for _, want := range []string{`its option key is a function of stream_test.Abandoned`, `"no spaces" is not a topic name`} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("no sentence with %q in: %v", want, err)
		}
	}
}
