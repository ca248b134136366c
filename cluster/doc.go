// Package cluster hosts what nodes agree on: the Raft log, and (with more than
// one node) gossip, leases and blobs. It carries opaque bytes and knows nodes,
// not jobs.
//
// Concurrency: a Log's methods may be called from any goroutine; the Applier is
// called on Raft's own goroutine, one entry at a time.
//
// Durability: an entry is applied only after it is fsynced on a majority of the
// voters (one, for a single node).
package cluster
