// Package stream is the user API of Weir: a job is a function that reads sources,
// derives streams from streams with typed functions, and writes them to sinks.
//
// Build calls the function with a Graph. The same function runs in a test
// (package streamtest), in one process (package local), as a plugin and as a
// static executable.
//
// Concurrency: a Graph is built by one goroutine. The functions of a job run on
// many subtasks at once, each on one at a time: they must not share variables that
// they write. State belongs into actors.
//
// Durability: the state of actors, windows and sources is part of every
// checkpoint; variables are not.
package stream
