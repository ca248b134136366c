// Package minicluster is the simulated cluster that the design asks for. Tier 1 runs
// a whole job on one goroutine from a seed.
//
// Real are the decisions: the log's state machine (jobmanager/fsm), the
// checkpoint coordinator, publishing, retention and rescaling (checkpoint), the
// subtasks and their channels (actors/subtask, actors/channel). Simulated are the
// drivers around them, each written after the real one and with its failures:
//
//	manager*.go                jobmanager: the driver of one job at a time over a log of entries
//	user.go                    who submits jobs, in a third of the seeds: takes savepoints and
//	                           disposes of them, stops, cancels, drains, rescales, suspends, goes
//	                           on, starts from older checkpoints and from other pipelines' ones
//	worker.go, uploader.go     taskmanager: attempts, uploads, committers
//	node.go                    actors: one subtask's mail and background work
//	store.go, counter.go       state and kernel: epoch files, dirty and frozen rows
//	actorjob.go, row.go        the job, by hand or with the real kernel (stream.Build)
//	input.go                   a topic that grows: splits with offsets
//	table.go                   a Delta table: commits with txn, put-if-absent
//	broker.go, producer.go     Kafka's transactions as REAL.md's table has them
//	world.go                   the object store, and the crash of a process between
//	                           any two things it does outside itself
//	schedule.go                the seeded scheduler: what happens next, which faults
//
// check.go, checkjob.go and verify.go judge from outside: they share no code with the engine, read what
// it wrote with decoders of their own, and look at every moment: no row is
// visible twice, nothing is visible that no complete epoch names, the state in
// every manifest is the state of exactly the rows before its positions, nothing
// is deleted that somebody may still read. A job that was told to start elsewhere begins
// a line of output of its own: exactly once holds in each line, and nothing of one that
// was left becomes visible any more. A submission or disposal may be refused, and a job
// stopped by its table, only where the checker finds the reason itself.
//
// A seed decides everything, so a failing one can be run again with a trace:
//
//	WEIR_SIM_SEED=n            one seed, with everything that happened if it fails
//	WEIR_SIM_SEEDS=20000       how many seeds TestSimulation runs, from WEIR_SIM_FROM on
//	WEIR_SIM_USER=1            all of them have a user
//	WEIR_SIM_CURES=400         how many seeds need each cure of a driver (Cures)
//
// regression_test.go keeps the seeds that found something.
//
// Not simulated: Pebble, Raft's own messages, protoactor, the network between two
// workers; a job manager that goes on beside its successor; damaged objects; two
// jobs at a time; another cluster's checkpoints.
//
// Tier 2 is in tier2_test.go: the real job manager and task manager over the real
// protoactor, Raft (log and transport in memory) and Pebble (file system in memory),
// in a bubble of virtual time, with lost messages, lost nodes and leaders, failed
// attempts, an object store that goes away, aborted epochs, rescales. Its topic and table
// are its own and judge it. A seed gives the odds, not a replay: goroutines run as they
// like. WEIR_TIER2_SEEDS says how many. Not in it: two workers, three voters.
//
// Concurrency of tier 1: none. A run starts no goroutine and reads no clock; runs may go on
// beside each other unless a guard is switched off.
//
// Durability: none; what survives a simulated crash is in memory.
package minicluster
