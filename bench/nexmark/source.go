package nexmark

import (
	"time"

	"github.com/weirstream/weir/connectors/files"
	"github.com/weirstream/weir/connectors/gen"
	"github.com/weirstream/weir/stream"
)

// Late is how far behind the newest event of its split the watermark stays, as in
// the other editions.
const Late = 4 * time.Second

// Events reads the generated stream. Parameters of the job: events, density, seed
// and start (event time of the first event, microseconds).
func Events(g *stream.Graph) stream.Stream[Event] {
	events := stream.Param(g, "events", int64(1_000_000))
	c := Config{Seed: uint64(stream.Param(g, "seed", int64(0))), Density: stream.Param(g, "density", int64(0))}
	if start := stream.Param(g, "start", int64(0)); start != 0 {
		c.Start = time.UnixMicro(start)
	}
	generator := NewGenerator(c)
	return stream.Read(g, "nexmark", gen.Fill(events, generator.Fill),
		stream.EventTime(func(e Event) time.Time { return e.Time() }, Late))
}

// Bids are the bids among the events.
func Bids(events stream.Stream[Event]) stream.Stream[Bid] {
	return stream.Process(events, "bids", func(out stream.Emitter[Bid], e Event) {
		if e.IsBid() {
			out.Emit(e.Bid)
		}
	})
}

// Auctions are the auctions among the events that where lets pass.
func Auctions(events stream.Stream[Event], where func(*Auction) bool) stream.Stream[Auction] {
	return stream.Process(events, "auctions", func(out stream.Emitter[Auction], e Event) {
		if e.Auction != nil && where(e.Auction) {
			out.Emit(*e.Auction)
		}
	})
}

// Persons are the persons among the events that where lets pass.
func Persons(events stream.Stream[Event], where func(*Person) bool) stream.Stream[Person] {
	return stream.Process(events, "persons", func(out stream.Emitter[Person], e Event) {
		if e.Person != nil && where(e.Person) {
			out.Emit(*e.Person)
		}
	})
}

// Answer writes the answer as lines to the folder of parameter answer; without one
// the rows are counted and dropped.
func Answer[T any](g *stream.Graph, rows stream.Stream[T]) error {
	if folder := stream.Param(g, "answer", ""); folder != "" {
		stream.Write(rows, "answer", files.Sink(folder, "json"))
	} else {
		stream.Discard(rows, "answer")
	}
	return nil
}
