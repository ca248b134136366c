// Package subtask decides what one subtask does: it drives a chain of operators
// batch by batch, aligns barriers, keeps watermarks, freezes state, prepares
// sinks and assembles what it contributes to an epoch.
//
// A Machine is told of events (items and credit that arrived, orders of the job
// manager, background work that ended) by methods that only file them, and acts in
// Turn, which does at most one piece of work more than its budget allows. What it
// wants done outside it says through Effects.
//
// Invariants:
//   - rows enter the chain only while no row of an earlier batch and no watermark
//     is stuck in it, so rows, watermarks and barriers keep their order;
//   - a barrier leaves after every row that preceded it on any input, and what is
//     snapshotted is exactly the effect of those rows;
//   - an ack carries every file and commit handle made since the last epoch that
//     this subtask knows to be complete;
//   - the open batches of output channels never exceed the credit of their channel.
//
// Files: machine.go is the loop; op.go and host.go the chain; out.go the sending
// side, input.go and align.go the receiving side; epoch.go checkpoints; end.go the
// end of input; source.go reading; memory.go budget, spill and windows.
//
// Concurrency: a Machine belongs to one goroutine at a time. Current alone may be
// called from anywhere. There is no goroutine, no clock and no I/O in here.
//
// Durability: none.
package subtask
