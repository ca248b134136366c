// Package driver implements the delta connector: a sink that appends rows to a
// Delta table, exactly once.
//
// A writer copies rows out of batches into column vectors by address, sorted by
// partition, and hands them to one goroutine per subtask that encodes Parquet.
// Prepare closes the files and hands over the actions that would add them; with
// commit_interval files stay open over epochs, and tails hold their rows meanwhile
// (docs/rfc/20261122-small-files.md). The committer of the sink adds all files of an
// epoch in one commit with txn(appId = pipeline/sink, version = epoch), which makes
// it idempotent.
//
// A table that gets files with every epoch would drown in small ones, so a compactor
// beside the committer merges them by commits of its own, without row changes.
//
// Concurrency: a Writer belongs to its subtask's turn; the mutex of its filer
// guards what they and the closers of files share. A Committer is used by one
// goroutine; its compactor is another one, which shares only the table with it.
//
// Durability: a file is durable when Prepare answers, rows are in the table when
// Commit does. Files of aborted epochs ride with the next complete one; files that
// no epoch names are orphans, which vacuum removes.
package driver
