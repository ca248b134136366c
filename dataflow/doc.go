// Package dataflow holds the nouns of Weir: typed ids, key groups, the logical
// graph, the physical plan, parts of a checkpoint, row keys and decimals, with
// their encodings.
//
// Everything here is a plain value: no I/O, no goroutines, no clocks. Values are
// safe to share once built; nothing in this package mutates its inputs.
//
// Encodings: graphs, plans and parts are JSON (they are read by people and by
// tools); row keys are order-preserving bytes (docs/format/rows.md).
package dataflow
