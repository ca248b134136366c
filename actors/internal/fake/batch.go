// Package fake is a small job for the tests of package actors and below: a batch,
// a source, a few operators with state, a sink and a store, all in memory and all
// deterministic.
//
// Concurrency: as spi asks; World and Table are safe for concurrent use.
//
// Durability: World stands for what survives a crash.
package fake

import (
	"reflect"
	"unsafe"

	"github.com/weirstream/weir/stream/spi"
)

// Row is the one row type.
type Row struct {
	Key uint64
	Val int64
}

// Batch is a batch of values of T.
type Batch[T any] struct {
	Values []T
	head   spi.Head
}

var _ spi.Batch = (*Batch[Row])(nil)

// NewBatch returns an empty batch.
func NewBatch[T any](capacity int) *Batch[T] {
	return &Batch[T]{Values: make([]T, 0, capacity), head: spi.Head{Times: make([]int64, 0, capacity)}}
}

// Len is of spi.Batch, like the methods below.
func (b *Batch[T]) Len() int { return len(b.Values) }

// Head returns times, hashes and watermark.
func (b *Batch[T]) Head() *spi.Head { return &b.head }

// Elem returns T.
func (b *Batch[T]) Elem() reflect.Type { return reflect.TypeFor[T]() }

// Base returns the address of the first row.
func (b *Batch[T]) Base() unsafe.Pointer { return unsafe.Pointer(unsafe.SliceData(b.Values)) }

// Extend appends zero rows.
func (b *Batch[T]) Extend(n int) unsafe.Pointer {
	at := len(b.Values)
	b.Values = append(b.Values, make([]T, n)...)
	b.head.Times = append(b.head.Times, make([]int64, n)...)
	b.head.Hashes = b.head.Hashes[:0]
	return unsafe.Pointer(&b.Values[at])
}

// Append appends rows of src.
func (b *Batch[T]) Append(src spi.Batch, from, to int) {
	s := src.(*Batch[T])
	if len(s.head.Hashes) > 0 && len(b.head.Hashes) == len(b.Values) {
		b.head.Hashes = append(b.head.Hashes, s.head.Hashes[from:to]...)
	} else {
		b.head.Hashes = b.head.Hashes[:0]
	}
	b.Values = append(b.Values, s.Values[from:to]...)
	b.head.Times = append(b.head.Times, s.head.Times[from:to]...)
}

// Push appends one row.
func (b *Batch[T]) Push(v T, time int64) {
	b.Values = append(b.Values, v)
	b.head.Times = append(b.head.Times, time)
}

// Truncate drops rows.
func (b *Batch[T]) Truncate(n int) {
	b.Values, b.head.Times = b.Values[:n], b.head.Times[:n]
	b.head.Hashes = b.head.Hashes[:min(n, len(b.head.Hashes))]
}

// Reset drops all rows.
func (b *Batch[T]) Reset() {
	clear(b.Values)
	b.Truncate(0)
	b.head.Watermark = 0
}

// New returns an empty batch of T.
func (b *Batch[T]) New(capacity int) spi.Batch { return NewBatch[T](capacity) }

// Router sends rows where their key belongs.
type Router struct{ Groups int }

var _ spi.Router = Router{}

// NewBatch returns an empty batch.
func (Router) NewBatch(capacity int) spi.Batch { return NewBatch[Row](capacity) }

// Hash is the hash of a key.
func Hash(key uint64) uint32 { return uint32((key*0x9e3779b97f4a7c15 + 0x632be59bd9b4e019) >> 32) }

// Route is of spi.Router.
func (r Router) Route(in spi.Batch, from int, owner []int32, room []int, out []spi.Batch) int {
	b := in.(*Batch[Row])
	for i := from; i < len(b.Values); i++ {
		h := Hash(b.Values[i].Key)
		to := owner[uint64(h)*uint64(r.Groups)>>32]
		if room[to] == 0 {
			return i - from
		}
		room[to]--
		o := out[to].(*Batch[Row])
		o.Push(b.Values[i], b.head.Times[i])
		o.head.Hashes = append(o.head.Hashes, h)
	}
	return len(b.Values) - from
}
