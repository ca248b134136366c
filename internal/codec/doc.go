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
// Values as bytes, in Avro's binary encoding; varint is Avro's zigzag:
//
//	bool, int*, uint8..32   boolean; int or long as a varint
//	uint, uint64            fixed(8) weir_uint64, big-endian
//	float32, float64        float, double: the bits, little-endian
//	string                  string
//	[]byte                  union of null and bytes
//	[n]byte                 fixed(n)
//	time.Time               record weir_time {seconds long, nanos int}, UTC, since 1970
//	time.Duration           long, nanoseconds
//	Decimal                 record weir_decimal {unscaled bytes, scale int}
//	struct                  record; embedded structs flattened
//	*T                      union of null and T; of a record {value T} if T is a union
//	[]T                     union of null and array of T, in one block
//	[n]T                    array of T
//	map[K]V                 union of null and array of records {key K, value V},
//	                        sorted by the bytes of the key
//
// A row of state has its schema's number before it (state.go), a row of a frame
// its length (batch.go).
//
// Concurrency: compiled types and codecs are immutable and may be used from
// anywhere; an Arena is its user's alone. Durability: none.
package codec
