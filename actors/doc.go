// Package actors runs the subtasks of a job on protoactor: one actor per chain
// of operators, its mailbox makes it single-threaded, its turns last about a
// millisecond, its channels are bounded by credit.
//
// Files: api.go is what a worker programs against; attempt.go opens, starts and
// stops subtasks; driver.go is the actor around a subtask.Machine; mailbox.go
// keeps control and turns apart; remote.go carries channels to other workers as
// frames; commit.go runs the committers of sinks.
// What a subtask decides lives in actors/subtask, which is pure.
//
// Concurrency: a Runtime and an Attempt are safe for concurrent use. Everything
// of spi is called on the turn of its subtask unless spi says otherwise. Events
// are delivered on turns and must not block.
//
// Durability: none. An attempt that fails is discarded whole; the job restores
// from a complete checkpoint.
package actors
