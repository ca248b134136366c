package mainjob

import (
	"fmt"

	"github.com/weirstream/weir/connectors/delta"
	"github.com/weirstream/weir/connectors/gen"
	"github.com/weirstream/weir/connectors/kafka"
	"github.com/weirstream/weir/stream"
)

// The topics of the workload.
const (
	Topic = "bench_records"
	Paced = "bench_paced" // of the latency workload
	Out   = "bench_out"
	Floor = "bench_floor" // the same without a job
)

// A Tally is what a user's actor emits for each record.
type Tally struct {
	User    string  `json:"user"`
	Type    string  `json:"type"`
	Product int64   `json:"product"`
	At      int64   `json:"at"`
	Count   int64   `json:"count"`
	Spent   float64 `json:"spent"`
}

// user is one user's state.
type user struct {
	Count int64
	Spent float64
}

// Receive counts a record and emits the tally as it is now.
func (u *user) Receive(ctx stream.Context[Tally], r Record) {
	u.Count++
	if r.Type == "checkout" {
		u.Spent += r.Price
	}
	ctx.Emit(Tally{r.User, r.Type, r.Product, r.At, u.Count, u.Spent})
}

// counter counts one user's records.
type counter struct{ N int64 }

// A Count is the number of records of a user so far.
type Count struct {
	User string `json:"user"`
	N    int64  `json:"n"`
}

// Receive counts a record and emits the count.
func (c *counter) Receive(ctx stream.Context[Count], r Record) {
	c.N++
	ctx.Emit(Count{r.User, c.N})
}

func fromKafka(g *stream.Graph, topic string, options ...kafka.SourceOption) stream.Stream[Record] {
	return stream.Read(g, "records", kafka.Topic(topic, stream.JSON[Record](), options...))
}

func tallies(records stream.Stream[Record]) stream.Stream[Tally] {
	byUser := stream.KeyBy(records, func(r Record) string { return r.User })
	return stream.Actors(byUser, "tally", func() *user { return new(user) })
}

// KafkaToDelta is the whole: Kafka, a keyed actor, a Delta table.
func KafkaToDelta(g *stream.Graph) error {
	stream.Write(tallies(fromKafka(g, Topic, kafka.End(kafka.Latest()))), "table", delta.Table("bench/tallies"))
	return nil
}

// KafkaToNothing reads and decodes.
func KafkaToNothing(g *stream.Graph) error {
	stream.Discard(fromKafka(g, Topic, kafka.End(kafka.Latest())), "nothing")
	return nil
}

// KafkaToCount counts by key.
func KafkaToCount(g *stream.Graph) error {
	byUser := stream.KeyBy(fromKafka(g, Topic, kafka.End(kafka.Latest())), func(r Record) string { return r.User })
	stream.Discard(stream.Actors(byUser, "count", func() *counter { return new(counter) }), "nothing")
	return nil
}

// MadeToActors makes the records in the job. Parameters: events and keys.
func MadeToActors(g *stream.Graph) error {
	m := NewMaker(stream.Param(g, "keys", 10_000))
	records := stream.Read(g, "records", gen.Fill(stream.Param(g, "events", int64(0)), m.Fill))
	stream.Discard(tallies(records), "nothing")
	return nil
}

// KafkaToKafka is the latency workload; it has no end. Parameter guarantee:
// exactly_once, at_least_once or none.
func KafkaToKafka(g *stream.Graph) error {
	deliver := kafka.Guarantee(stream.Param(g, "guarantee", string(kafka.ExactlyOnce)))
	switch deliver {
	case kafka.ExactlyOnce, kafka.AtLeastOnce, kafka.NoGuarantee:
	default:
		return fmt.Errorf("guarantee %q: want exactly_once, at_least_once or none", deliver)
	}
	stream.Write(tallies(fromKafka(g, Paced, kafka.Start(kafka.Latest()))), "out",
		kafka.To(Out, kafka.Key(func(t Tally) string { return t.User }), kafka.Deliver(deliver)))
	return nil
}
