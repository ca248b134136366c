// Package driver implements the kafka connector: a source that reads partitions
// as splits with positions of its own, and a sink that writes by prepared
// transactions.
//
// Source. No consumer group takes part: subtasks own partitions by spi.OwnsSplit,
// start where the restored positions say, and store group offsets only so that
// lag tools can be used. One goroutine fetches into a queue bounded in bytes; Poll
// decodes from its head into the batch and never waits.
//
// Sink, exactly once. A subtask owns a pool of transactional ids
// "pipeline-sink-subtask-k"; each epoch with records takes a free one. Prepare
// flushes and hands over (id, producer id, producer epoch, EndTxn version); after
// it nothing is produced under that id until Finished. The committer sends a raw
// EndTxn for every handle. Start calls InitProducerID for the whole pool, which
// fences what no manifest names.
//
// Concurrency: Reader and Writer belong to their subtask's turn; what their
// goroutines share with it is behind a mutex named in each struct. A Committer
// is used by one goroutine.
//
// Durability: positions and pool state are in the checkpoint. A prepared
// transaction is durable in the broker for transaction.timeout.ms.
package driver
