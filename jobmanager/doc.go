// Package jobmanager runs jobs: it records decisions in the Raft log, deploys
// attempts to task managers, drives their checkpoints, restarts them after
// failures and answers users.
//
// What is decided lies in jobmanager/fsm (replicated) and in checkpoint's
// Coordinator (per attempt); this package wires them to the log, the object
// store and the links. It never opens user code: a job arrives as a plan.
//
// Concurrency: Manager's methods may be called from any goroutine. Each live job
// has one driver goroutine that owns its Coordinator, and one beside it for
// calls that block (Raft, object store).
//
// Durability: what a method has answered is in the Raft log.
package jobmanager
