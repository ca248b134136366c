// Package bench runs workloads in one process and tells what they cost.
//
// A run starts a whole cluster (package local) in a folder of its own, runs one
// job to its end with exactly-once checkpoints on, and measures the CPU time of
// the whole process meanwhile: job, checkpoints, generator and garbage collection
// included. CPU time, unlike seconds, means the same on a machine that others use.
//
// Concurrency: one run at a time in a process, for CPU time is the process's.
// Durability: none; folders are removed at the end.
package bench
