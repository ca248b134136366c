package spi

import (
	"reflect"
	"unsafe"
)

// A Batch is a run of rows of one type. It is owned by whoever holds it; sending
// it gives it away. Rows are read-only once sent, and so is everything they
// point to, for ever: only the container is recycled.
type Batch interface {
	// Len returns the number of rows.
	Len() int
	// Head returns the columns that are not user values. It is never nil and
	// belongs to the batch.
	Head() *Head
	// Elem returns the type of a row.
	Elem() reflect.Type
	// Base returns the address of row 0; row i is at Base + i×Elem().Size(). It is
	// valid until the next Extend, Append, Truncate or Reset.
	Base() unsafe.Pointer
	// Extend appends n zero rows (and n zero times) and returns the address of the
	// first of them. Hashes are dropped.
	Extend(n int) unsafe.Pointer
	// Append appends rows [from, to) of src, which has the same type, with their
	// times and, if src has them (and b had them or was empty), hashes.
	Append(src Batch, from, to int)
	// Truncate drops the rows from n on.
	Truncate(n int)
	// Reset drops all rows and zeroes the memory that held pointers. The capacity
	// stays.
	Reset()
	// New returns an empty batch of the same type with room for capacity rows.
	New(capacity int) Batch
}

// Head is what a batch carries beside user values.
type Head struct {
	// Times holds the event time of each row in microseconds UTC; always as long as
	// the batch.
	Times []int64
	// Hashes holds the key hash of each row, set by the Router of a hash edge;
	// empty before that.
	Hashes []uint32
	// Watermark holds after the last row; dataflow.MinTime where none is known.
	// Batches are cut where the watermark changes.
	Watermark int64
}

// An Arena hands out immutable strings and byte slices cut from chunks, so that
// decoding a batch allocates per chunk and not per field. The zero value is ready
// to use; a nil *Arena allocates each string by itself. Not safe for concurrent
// use.
type Arena struct {
	free []byte
}

const arenaChunk = 32 << 10

// Bytes returns an immutable copy of b.
func (a *Arena) Bytes(b []byte) []byte {
	if len(b) == 0 {
		return []byte{}
	}
	if a == nil || len(b) > arenaChunk/4 {
		return append([]byte(nil), b...)
	}
	if len(a.free) < len(b) {
		a.free = make([]byte, arenaChunk)
	}
	c := a.free[:len(b):len(b)]
	a.free = a.free[len(b):]
	copy(c, b)
	return c
}

// String returns an immutable copy of b as a string.
func (a *Arena) String(b []byte) string {
	if len(b) == 0 {
		return ""
	}
	c := a.Bytes(b)
	return unsafe.String(unsafe.SliceData(c), len(c))
}

// A Codec converts values of one Go type, addressed by pointer. It is stateless
// and safe for concurrent use.
type Codec interface {
	// Schema returns the Avro schema of the encoding, "" for formats without one.
	Schema() string
	// Append appends the encoding of the value at p.
	Append(dst []byte, p unsafe.Pointer) ([]byte, error)
	// Decode sets the value at p, which is zero, from src. Strings and bytes are
	// taken from a; src may be reused afterwards. On an error the value at p is
	// undefined.
	Decode(src []byte, p unsafe.Pointer, a *Arena) error
}
