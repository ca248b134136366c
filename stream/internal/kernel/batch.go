package kernel

import (
	"reflect"
	"slices"
	"unsafe"

	"github.com/weirstream/weir/dataflow"
	"github.com/weirstream/weir/stream/spi"
)

// Rows is a batch of rows of type T; *Rows[T] is the only spi.Batch there is.
//
// Values and Meta.Times always have the same length. Code that holds a batch may
// append to both; to shorten it call Truncate or Reset, which keep the invariant
// that memory behind the last row holds no pointers.
type Rows[T any] struct {
	Values []T
	Meta   spi.Head

	pointers bool
}

var _ spi.Batch = (*Rows[int])(nil)

// NewRows returns an empty batch with room for capacity rows.
func NewRows[T any](capacity int) *Rows[T] {
	r := &Rows[T]{pointers: hasPointers(reflect.TypeFor[T]())}
	r.Meta.Watermark = dataflow.MinTime
	if capacity > 0 {
		r.Values = make([]T, 0, capacity)
		r.Meta.Times = make([]int64, 0, capacity)
	}
	return r
}

// Len implements spi.Batch.
func (r *Rows[T]) Len() int { return len(r.Values) }

// Head implements spi.Batch.
func (r *Rows[T]) Head() *spi.Head { return &r.Meta }

// Elem implements spi.Batch.
func (r *Rows[T]) Elem() reflect.Type { return reflect.TypeFor[T]() }

// Base implements spi.Batch.
func (r *Rows[T]) Base() unsafe.Pointer { return unsafe.Pointer(unsafe.SliceData(r.Values)) }

// Add appends one row.
func (r *Rows[T]) Add(v T, time int64) {
	r.Values = append(r.Values, v)
	r.Meta.Times = append(r.Meta.Times, time)
}

// Grow appends n rows and times, whose content is undefined, and returns the
// index of the first of them: the caller sets them all. Hashes are dropped.
func (r *Rows[T]) Grow(n int) int {
	at := len(r.Values)
	r.Values = slices.Grow(r.Values, n)[:at+n]
	r.Meta.Times = slices.Grow(r.Meta.Times, n)[:at+n]
	r.Meta.Hashes = r.Meta.Hashes[:0]
	return at
}

// Extend implements spi.Batch.
func (r *Rows[T]) Extend(n int) unsafe.Pointer {
	at := r.Grow(n)
	clear(r.Values[at:])
	clear(r.Meta.Times[at:])
	if n == 0 {
		return r.Base()
	}
	return unsafe.Pointer(&r.Values[at])
}

// Append implements spi.Batch. It panics if src holds rows of another type.
func (r *Rows[T]) Append(src spi.Batch, from, to int) {
	s := src.(*Rows[T])
	if len(s.Meta.Hashes) == len(s.Values) && len(r.Meta.Hashes) == len(r.Values) {
		r.Meta.Hashes = append(r.Meta.Hashes, s.Meta.Hashes[from:to]...)
	} else {
		r.Meta.Hashes = r.Meta.Hashes[:0]
	}
	r.Values = append(r.Values, s.Values[from:to]...)
	r.Meta.Times = append(r.Meta.Times, s.Meta.Times[from:to]...)
}

// Truncate implements spi.Batch.
func (r *Rows[T]) Truncate(n int) {
	if r.pointers {
		clear(r.Values[n:])
	}
	r.poison(n)
	r.Values = r.Values[:n]
	r.Meta.Times = r.Meta.Times[:n]
	if len(r.Meta.Hashes) > n {
		r.Meta.Hashes = r.Meta.Hashes[:n]
	}
}

// Reset implements spi.Batch.
func (r *Rows[T]) Reset() {
	r.Truncate(0)
	r.Meta.Watermark = dataflow.MinTime
}

// New implements spi.Batch.
func (r *Rows[T]) New(capacity int) spi.Batch { return NewRows[T](capacity) }

// hasPointers reports whether the collector has to look into values of t.
func hasPointers(t reflect.Type) bool {
	switch t.Kind() {
	case reflect.Bool, reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64,
		reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64, reflect.Uintptr,
		reflect.Float32, reflect.Float64, reflect.Complex64, reflect.Complex128:
		return false
	case reflect.Array:
		return t.Len() > 0 && hasPointers(t.Elem())
	case reflect.Struct:
		for i := range t.NumField() {
			if hasPointers(t.Field(i).Type) {
				return true
			}
		}
		return false
	default:
		return true
	}
}
