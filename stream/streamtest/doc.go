// Package streamtest runs a job inside a test: one goroutine, a clock that the
// test moves, sources that the test feeds and sinks that it reads.
//
//	h := streamtest.New(t, Build, nil)
//	h.Push("carts", CartEvent{User: "ann", Type: "add_to_cart", At: noon})
//	h.Watermark("carts", noon.Add(6*time.Minute))
//	got := streamtest.Rows[Abandoned](h, "alerts")
//
// Every call runs the job until nothing is left to do. No connector is involved:
// rows enter behind the source's decoder and are taken where the sink would get
// them. The options of a Harness make the same test harder: several subtasks,
// little output room, state that is written and evicted after every step, and
// failures that restore a checkpoint; none of them may change what a correct job
// writes, except for the order of rows of different keys.
//
// It is an executor of its own, simple rather than fast, so that it also serves as
// a reference for the engine's.
//
// Concurrency: a Harness belongs to the goroutine of its test. Durability: none.
package streamtest
