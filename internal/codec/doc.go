// Package codec turns Go values into bytes and back: Avro for state, network
// frames and Avro topics, JSON and raw bytes for topics and files. Everything is
// compiled once per reflect.Type into a list of instructions over field offsets;
// no row is touched by reflection, save for maps and for types that bring their
// own JSON methods.
//
// A type is first walked into a shape (shape.go): names, offsets, kinds, and the
// refusal, by name, of whatever could not come back exactly as it was. From the
// shape come the Avro schema and its encoder, the decoder for any compatible
// schema of the past (resolve.go), the JSON scanner and printer, and the columns
// that table sinks copy from batches.
//
// What is exact: a value decoded from its encoding is deeply equal to it, with nil
// and empty slices and maps kept apart and the bits of floats kept, except that a
// time.Time comes back in UTC without its monotonic reading.
//
// Field names: tag `weir:"name"`, else `json:"name"`, else the Go name in snake
// case. `state:"-"` leaves a field out everywhere.
//
// Concurrency: compiled types and codecs are immutable and may be used from
// anywhere; an Arena is its user's alone. Durability: none. Formats are drawn in
// docs/format/values.md.
package codec
