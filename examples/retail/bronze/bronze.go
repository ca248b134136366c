// Package bronze is the job that keeps every record of the input topics, with
// where it came from, in one table per topic.
package bronze

import (
	"time"

	"github.com/weirstream/weir/connectors/delta"
	"github.com/weirstream/weir/connectors/kafka"
	"github.com/weirstream/weir/examples/retail"
	"github.com/weirstream/weir/stream"
)

// Origin is where a row came from.
type Origin struct {
	Topic      string
	Partition  int32
	Offset     int64
	IngestedAt time.Time
	EventDate  string // of the event, UTC: the partition column
}

// A Checkout is a row of bronze/checkout_events.
type Checkout struct {
	retail.CheckoutLine
	Origin
}

// A Cart is a row of bronze/cart_updates.
type Cart struct {
	retail.CartUpdate
	Origin
}

// Build is the job.
func Build(g *stream.Graph) error {
	lines := stream.Read(g, "checkouts", kafka.Messages(kafka.Topic(retail.CheckoutEvents, stream.JSON[retail.CheckoutLine]())))
	carts := stream.Read(g, "carts", kafka.Messages(kafka.Topic(retail.CartUpdates, stream.JSON[retail.CartUpdate]())))

	checkoutRows := stream.Map(lines, "checkout rows", func(m kafka.Message[retail.CheckoutLine]) Checkout {
		return Checkout{m.Value, origin(m.Topic, m.Partition, m.Offset, m.Value.At)}
	})
	cartRows := stream.Map(carts, "cart rows", func(m kafka.Message[retail.CartUpdate]) Cart {
		return Cart{m.Value, origin(m.Topic, m.Partition, m.Offset, m.Value.At)}
	})

	stream.Write(checkoutRows, "bronze checkouts", delta.Table("bronze/"+retail.CheckoutEvents, delta.PartitionBy("event_date")))
	stream.Write(cartRows, "bronze carts", delta.Table("bronze/"+retail.CartUpdates, delta.PartitionBy("event_date")))
	return nil
}

func origin(topic string, partition int32, offset int64, at time.Time) Origin {
	return Origin{Topic: topic, Partition: partition, Offset: offset, IngestedAt: time.Now().Truncate(time.Microsecond), EventDate: at.UTC().Format(time.DateOnly)}
}
