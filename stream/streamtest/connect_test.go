package streamtest_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/weirstream/weir/connectors/files"
	"github.com/weirstream/weir/stream"
	"github.com/weirstream/weir/stream/streamtest"
)

type order struct {
	ID int64
	At time.Time
}

type payment struct {
	Order int64
	Cents int64
	At    time.Time
}

// bill waits for an order and its payments for five minutes after the order.
type bill struct {
	Ordered bool
	Cents   int64
}

func (b *bill) ReceiveLeft(ctx stream.Context[string], o order) {
	b.Ordered = true
	ctx.SetTimer("due", o.At.Add(5*time.Minute))
}

func (b *bill) ReceiveRight(ctx stream.Context[string], p payment) {
	b.Cents += p.Cents
	if !b.Ordered {
		early.Emit(ctx, p.Order)
	}
}

func (b *bill) OnTimer(ctx stream.Context[string], _ string, _ time.Time) {
	ctx.Emit(fmt.Sprintf("%d paid %d", stream.KeyOf[int64](ctx), b.Cents))
	ctx.Clear()
}

var early = stream.NewTag[int64]("early")

func buildBills(g *stream.Graph) error {
	orders := stream.Read(g, "orders", files.Source("o", stream.JSON[order]()),
		stream.EventTime(func(o order) time.Time { return o.At }, 0))
	payments := stream.Read(g, "payments", files.Source("p", stream.JSON[payment]()),
		stream.EventTime(func(p payment) time.Time { return p.At }, 0).Idle(time.Hour))
	bills := stream.Connect(
		stream.KeyBy(orders, func(o order) int64 { return o.ID }),
		stream.KeyBy(payments, func(p payment) int64 { return p.Order }),
		"bills", func() *bill { return new(bill) }, early)
	stream.Write(bills, "out", files.Sink("out", "raw"))
	stream.Write(stream.Side(bills, early), "early out", files.Sink("early", "json"))
	return nil
}

// A job over two inputs is timed by the slower one, and comes out the same however
// it is run.
func TestConnect(t *testing.T) {
	for seed := range uint64(30) {
		rng := rand.New(rand.NewPCG(seed, 9))
		type step struct {
			order   *order
			payment *payment
		}
		var steps []step
		at := start
		for range 60 {
			at = at.Add(time.Duration(rng.IntN(20000)) * time.Millisecond)
			if id := int64(rng.IntN(12)); rng.IntN(3) == 0 {
				steps = append(steps, step{order: &order{id, at}})
			} else {
				steps = append(steps, step{payment: &payment{id, int64(rng.IntN(100)), at}})
			}
		}
		run := func(opts ...streamtest.Option) (out []string, tooEarly []int64) {
			h := streamtest.New(t, buildBills, nil, opts...)
			for i, s := range steps {
				if s.order != nil {
					h.Push("orders", *s.order)
				} else {
					h.Push("payments", *s.payment)
				}
				if i == 30 {
					h.Rescale(int(seed%3) + 1)
				}
			}
			h.Drain()
			out, tooEarly = streamtest.Rows[string](h, "out"), streamtest.Rows[int64](h, "early out")
			slices.Sort(out)
			slices.Sort(tooEarly)
			return out, tooEarly
		}
		var want []string
		var wantEarly []int64
		{ // by maps alone
			due, cents := map[int64]time.Time{}, map[int64]int64{}
			var lastOrder, lastPayment time.Time
			for _, s := range steps {
				if o := s.order; o != nil {
					due[o.ID], lastOrder = o.At.Add(5*time.Minute), o.At
				} else {
					p := s.payment
					cents[p.Order] += p.Cents
					lastPayment = p.At
					if _, ok := due[p.Order]; !ok {
						wantEarly = append(wantEarly, p.Order)
					}
				}
				now := lastOrder
				if lastPayment.Before(now) {
					now = lastPayment
				}
				for id, d := range due {
					if d.Before(now) {
						want = append(want, fmt.Sprintf("%d paid %d", id, cents[id]))
						delete(due, id)
						delete(cents, id)
					}
				}
			}
			for id := range due {
				want = append(want, fmt.Sprintf("%d paid %d", id, cents[id]))
			}
			slices.Sort(want)
			slices.Sort(wantEarly)
		}
		for name, opts := range map[string][]streamtest.Option{
			"plain": nil,
			"hard":  {streamtest.Parallelism(3), streamtest.Room(1), streamtest.EvictAlways(), streamtest.Faults(seed)},
		} {
			out, tooEarly := run(opts...)
			if !slices.Equal(out, want) || !slices.Equal(tooEarly, wantEarly) {
				t.Fatalf("seed %d, %s:\ngot  %v\nwant %v\nearly %v\nwant  %v", seed, name, out, want, tooEarly, wantEarly)
			}
		}
	}
}
