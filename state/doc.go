// Package state keeps the keyed state of one subtask: a byte store on Pebble
// whose rows arrive as one sorted file per epoch and leave as the same file.
//
// A Store owns one contiguous key-group range. Rows sort by key group first, so
// moving a range to another subtask is a list of files and bounds, never a rehash.
// Nothing passes through Pebble's log or memtable: WriteEpoch merges the frozen
// rows of an epoch into a file (an SST), links it into Pebble as an external file,
// and names it in Files, from where it is uploaded. Restore links such files again,
// oldest first; those that are not on this disk yet are read from the object store
// until they have been fetched.
//
// What is where:
//
//	shared.go    what all stores of a worker share
//	schedule.go  which store may compact now
//	store.go     Open, Close
//	read.go      Load, Scan, Empty
//	filter.go    the absence filter
//	write.go     WriteEpoch
//	sst.go       writing and reading sorted files
//	source.go    one sorted file: its local copy, its object, its verification
//	storage.go   Pebble's way to sources
//	restore.go   Restore and the fetching behind it
//	chain.go     Files, Uploaded, SetComplete: what a checkpoint must name
//	merge.go     epoch files merged among themselves
//	rebase.go    Pebble's own tables in place of a long chain
//
// Concurrency: Load, Scan, ScanErr and Empty belong to the subtask's turn. All other
// methods may be called from one other goroutine at a time, concurrently with
// them, unless they say otherwise. A Shared is safe for concurrent use.
//
// Durability: none on its own. Nothing is synced; after a crash the directory is
// worth what the checksums of its files say, and the subtask restores the last
// complete checkpoint. Row layout and file properties: docs/format/rows.md.
package state
