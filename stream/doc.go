// Package stream is the user API of Weir: a job is a function that reads sources,
// derives streams from streams with typed functions, and writes them to sinks.
//
//	// Cart is one shopper's cart. One Cart lives per user; its fields are its state.
//	type Cart struct {
//		Items int
//		Last  int64 // event time of the last add, microseconds
//	}
//
//	func (c *Cart) Receive(ctx stream.Context[Abandoned], e CartEvent) {
//		switch e.Type {
//		case "add_to_cart":
//			c.Items++
//			c.Last = e.At.UnixMicro()
//			ctx.SetTimer("abandon", e.At.Add(5*time.Minute))
//		case "checkout":
//			ctx.Clear()
//		}
//	}
//
//	func (c *Cart) OnTimer(ctx stream.Context[Abandoned], name string, at time.Time) {
//		ctx.Emit(Abandoned{Items: c.Items, Last: c.Last})
//		ctx.Clear()
//	}
//
//	func Build(g *stream.Graph) error {
//		events := stream.Read(g, "carts", kafka.Topic("cart_updates", stream.JSON[CartEvent]()),
//			stream.EventTime(func(e CartEvent) time.Time { return e.At }, 10*time.Second).Idle(time.Minute))
//		byUser := stream.KeyBy(events, func(e CartEvent) string { return e.User })
//		alerts := stream.Actors(byUser, "abandonment", func() *Cart { return new(Cart) })
//		stream.Write(alerts, "alerts", delta.Table("gold/abandoned_carts"))
//		return nil
//	}
//
// The same Build runs in a test (package streamtest), in one process (package
// local), as a plugin and as a static executable.
//
// Streams are values: a stream may be read several times, and every reader gets all
// rows. Every output must be read; Discard says that one is not needed. Rows are
// read-only once they were emitted, and so is everything they point to.
//
// Concurrency: a Graph is built by one goroutine. The functions of a job run on
// many subtasks at once, each on one at a time: they must not share variables that
// they write. State belongs into actors.
//
// Durability: the state of actors, windows and sources is part of every
// checkpoint; variables are not.
package stream
