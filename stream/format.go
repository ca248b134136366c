package stream

import "github.com/weirstream/weir/stream/spi"

// A Codec names how values of type T are encoded in a source or sink. The zero
// value names none.
type Codec[T any] struct{ format string }

// Format returns the name of the encoding: "json", "avro", "csv", "raw".
func (c Codec[T]) Format() string { return c.format }

// JSON is one JSON object per value; its fields are those of the struct T, by tag
// `weir:"name"`, else `json:"name"`, else in snake case.
func JSON[T any]() Codec[T] { return Codec[T]{"json"} }

// Avro is one Avro record per value, of the schema of T.
func Avro[T any]() Codec[T] { return Codec[T]{"avro"} }

// CSV is one line of comma-separated values per value, in the order of the fields
// of T, which must be flat.
func CSV[T any]() Codec[T] { return Codec[T]{"csv"} }

// Raw is the bytes as they are.
func Raw() Codec[[]byte] { return Codec[[]byte]{"raw"} }

// Text is the bytes as a string; what is not UTF-8 is a bad record.
func Text() Codec[string] { return Codec[string]{"raw"} }

// BadRecords is what a source does with a record that it cannot decode.
type BadRecords = spi.BadRecords

// The policies. The default is FailOnBad.
const (
	FailOnBad     = spi.BadFail  // the job fails, naming the record
	DropBad       = spi.BadDrop  // the record is dropped and counted
	DeadLetterBad = spi.BadRoute // the record is sent to what reads Rejects
)

// Rejected is a record that could not be decoded, as Rejects gives it.
type Rejected = spi.Rejected
