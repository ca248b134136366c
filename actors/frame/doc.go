// Package frame is how channels cross a connection: items and credit as frames of
// at most 256 KiB, each with its channel, attempt, sequence number and checksum.
// An item that is larger travels as continuation frames.
//
// How rows are encoded is not known here: see Codec.
//
// Concurrency: a Reader and an Assembler belong to one goroutine; functions are
// pure.
//
// Durability: none. The layout is drawn in docs/format/frame.md.
package frame
