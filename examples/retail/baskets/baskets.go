// Package baskets is the job that follows each shopper's cart and emits one row
// per closed basket: checked out, or left alone for half an hour.
package baskets

import (
	"strconv"
	"time"

	"github.com/weirstream/weir/connectors/delta"
	"github.com/weirstream/weir/connectors/kafka"
	"github.com/weirstream/weir/examples/retail"
	"github.com/weirstream/weir/stream"
)

// IdleAfter is how long a basket may lie untouched.
const IdleAfter = 30 * time.Minute

// A Closed basket is a row of gold/baskets, and a record of the topic.
type Closed struct {
	Household int64          `json:"household_id"`
	Basket    int64          `json:"basket_id"`
	Lines     int64          `json:"lines"`
	Quantity  int64          `json:"quantity"`
	Amount    stream.Decimal `json:"amount" weir:"amount,decimal(12,2)"`
	Opened    time.Time      `json:"opened"`
	Closed    time.Time      `json:"closed"`
	Reason    string         `json:"reason"` // checkout, idle or next
}

// A Shopper is the basket that one household is filling. Its fields are its
// state; the zero value is an empty basket.
type Shopper struct {
	Basket, Lines, Quantity int64
	Amount                  stream.Decimal
	Opened, Last            int64 // event times, microseconds
}

// Receive follows one cart update.
func (s *Shopper) Receive(ctx stream.Context[Closed], e retail.CartUpdate) {
	if s.Lines > 0 && e.Basket != s.Basket {
		s.close(ctx, "next", s.Last)
	}
	if e.Type == retail.Checkout {
		s.Basket = e.Basket
		s.close(ctx, "checkout", e.At.UnixMicro())
		ctx.Clear()
		return
	}
	if s.Lines == 0 {
		*s = Shopper{Basket: e.Basket, Opened: e.At.UnixMicro()}
	}
	s.Lines++
	s.Quantity += e.Quantity
	if err := e.Amount.AddTo(&s.Amount); err != nil {
		panic(err) // beyond 38 digits: not a basket
	}
	s.Last = e.At.UnixMicro()
	ctx.SetTimer("idle", e.At.Add(IdleAfter))
}

// OnTimer closes a basket that was left alone.
func (s *Shopper) OnTimer(ctx stream.Context[Closed], _ string, at time.Time) {
	s.close(ctx, "idle", at.UnixMicro())
	ctx.Clear()
}

func (s *Shopper) close(ctx stream.Context[Closed], reason string, at int64) {
	ctx.Emit(Closed{
		Household: stream.KeyOf[int64](ctx), Basket: s.Basket, Lines: s.Lines, Quantity: s.Quantity, Amount: s.Amount,
		Opened: time.UnixMicro(s.Opened).UTC(), Closed: time.UnixMicro(at).UTC(), Reason: reason,
	})
	*s = Shopper{}
}

// Build is the job.
func Build(g *stream.Graph) error {
	updates := stream.Read(g, "carts", kafka.Topic(retail.CartUpdates, stream.JSON[retail.CartUpdate]()),
		stream.EventTime(func(e retail.CartUpdate) time.Time { return e.At }, 5*time.Minute).Idle(time.Minute))
	byShopper := stream.KeyBy(updates, func(e retail.CartUpdate) int64 { return e.Household })
	closed := stream.Actors(byShopper, "baskets", func() *Shopper { return new(Shopper) })
	stream.Write(closed, "gold baskets", delta.Table("gold/baskets"))
	stream.Write(closed, "closed baskets", kafka.To(retail.ClosedBaskets, kafka.Key(func(c Closed) string { return strconv.FormatInt(c.Household, 10) })))
	return nil
}
