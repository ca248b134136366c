// Package checkpoint decides when checkpoints are taken, what makes one
// complete, and how long it is kept.
//
// The Coordinator and the retention rules are pure: events in, effects out, no
// goroutine, clock, log or I/O. The publishing functions (Publish, Mark, Load)
// are the only I/O, through an objstore.Store and on the caller's goroutine.
//
// Durability: an epoch is complete when, and only when, the Raft entry that
// carries its manifest's hash is applied. The manifest lies there before, the
// marker beside it after. Format: docs/format/manifest.md.
package checkpoint
