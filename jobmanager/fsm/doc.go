// Package fsm is the job manager's replicated state machine: the decisions about
// jobs, attempts, epochs and savepoints that every voter must agree on.
//
// Apply is deterministic: no clock, no I/O, no randomness, no map order in any
// output. Times come in with the command. A Machine is not safe for concurrent
// use; the Raft host calls Apply, Snapshot and Restore one at a time, and readers
// go through copies made by View.
//
// Entries and snapshots are JSON: docs/format/raft.md.
package fsm
