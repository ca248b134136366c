// Package nexmark is the Nexmark benchmark on keyed actors: a generator of an
// auction site's events and the queries over them, each an ordinary job in a file
// of its own.
//
// The model is that of the Apache Beam and Flink editions: of 50 events 1 is a
// person who registers, 3 are auctions that open and 46 are bids; half of the bids
// go to a hot auction, three quarters come from a hot bidder, three quarters of
// the auctions belong to a hot seller. Event i is a pure function of (seed, i), so
// the stream is the same at any parallelism; Density, the events per second of
// event time, is apart from the rate at which they are made.
//
// README.md lists the columns of every answer, and the folder sql holds the same
// queries for an outside reader.
//
// Concurrency: a Generator is immutable and used by all subtasks at once.
// Durability: that of jobs: positions and state are in the checkpoint.
package nexmark
