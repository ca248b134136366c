// Package local runs a whole cluster in one process: a job manager with one Raft
// voter, and a task manager, which talk through the messages that otherwise
// cross the network.
//
// Concurrency: a Cluster's methods may be called from any goroutine.
//
// Durability: the Raft log and packs lie in Options.Dir, checkpoints in
// Options.Checkpoints. A killed process loses nothing that was complete: the
// next Start with the same folders resumes every job.
package local
