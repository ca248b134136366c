// Package revenue is the job that sums sales per product category and day of
// event time, in exact decimals.
package revenue

import (
	"time"

	"github.com/weirstream/weir/connectors/delta"
	"github.com/weirstream/weir/connectors/kafka"
	"github.com/weirstream/weir/examples/retail"
	"github.com/weirstream/weir/stream"
)

// A Day is a row of gold/revenue: one category's sales of one day. A line that
// comes late, but within a day, yields the row again with one more line.
type Day struct {
	Category    string         `json:"category"`
	WindowStart time.Time      `json:"window_start"`
	WindowEnd   time.Time      `json:"window_end"`
	Lines       int64          `json:"lines"`
	Quantity    int64          `json:"quantity"`
	Revenue     stream.Decimal `json:"revenue" weir:"revenue,decimal(18,2)"`
}

// sums is what a window remembers.
type sums struct {
	Lines, Quantity int64
	Revenue         stream.Decimal
}

func (s *sums) add(lines, quantity int64, amount stream.Decimal) {
	s.Lines += lines
	s.Quantity += quantity
	if err := amount.AddTo(&s.Revenue); err != nil {
		panic(err) // beyond 38 digits: not a day's sales
	}
}

// Build is the job.
func Build(g *stream.Graph) error {
	late := stream.NewTag[retail.CheckoutLine]("too late")
	lines := stream.Read(g, "checkouts", kafka.Topic(retail.CheckoutEvents, stream.JSON[retail.CheckoutLine]()),
		stream.EventTime(func(l retail.CheckoutLine) time.Time { return l.At }, 10*time.Minute).Idle(time.Minute))
	byCategory := stream.KeyBy(lines, func(l retail.CheckoutLine) string { return l.Category })
	days := stream.Windowed(byCategory, "revenue", stream.Tumbling(24*time.Hour).Lateness(24*time.Hour),
		func(s *sums, l retail.CheckoutLine) { s.add(1, l.Quantity, l.Amount) },
		func(s *sums, o sums) { s.add(o.Lines, o.Quantity, o.Revenue) },
		func(p stream.Pane[string], s sums) Day {
			return Day{p.Key, p.Start, p.End, s.Lines, s.Quantity, s.Revenue}
		}, stream.LateTo(late))
	stream.Write(days, "gold revenue", delta.Table("gold/revenue"))
	stream.Write(stream.Side(days, late), "too late lines", delta.Table("gold/revenue_late"))
	return nil
}
