// Package spi is the seam between a job and the engine.
//
// Only job code can instantiate generics for its types, so operators are made in
// the job's plugin (stream and its kernel) and the host sees them through the
// interfaces of this package. Nothing generic crosses: rows travel as Batches
// (one interface value per batch, none per record), state as bytes, functions of
// the job as hooks over unsafe pointers to rows.
//
// Who implements what:
//
//	interface      implemented by                 used by
//	Job            stream (in the plugin)         taskmanager, internal/pack
//	Batch          stream/internal/kernel         everyone
//	Runner, ...    stream/internal/kernel         actors
//	Host           actors                         kernel
//	Codec          internal/codec                 kernel, connector drivers
//	SourceDriver,
//	SinkDriver     connectors/X/driver            actors, through taskmanager
//
// Concurrency: unless a method says otherwise, everything here is called on the
// turn of one subtask, never concurrently.
package spi
