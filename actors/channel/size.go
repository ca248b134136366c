package channel

import (
	"reflect"
	"unsafe"

	"github.com/weirstream/weir/stream/spi"
)

// A Sizer estimates the bytes of the rows of one type: their fixed size and what
// the strings and byte slices in them hold. It follows nested structs and arrays,
// not pointers, maps or slices of anything but bytes; those count a flat 64 bytes.
type Sizer struct {
	fixed   int64
	strings []uintptr // offsets of string headers; the length is their second word
	slices  []uintptr // offsets of byte slice headers; the same
	size    uintptr
}

// flat is what a value behind a pointer is taken for.
const flat = 64

// NewSizer compiles the sizer of a row type.
func NewSizer(t reflect.Type) *Sizer {
	s := &Sizer{fixed: int64(t.Size()) + 8, size: t.Size()} // a row has a time, too
	s.walk(t, 0)
	return s
}

func (s *Sizer) walk(t reflect.Type, at uintptr) {
	switch t.Kind() {
	case reflect.String:
		s.strings = append(s.strings, at)
	case reflect.Slice:
		if t.Elem().Kind() == reflect.Uint8 {
			s.slices = append(s.slices, at)
		} else {
			s.fixed += flat
		}
	case reflect.Pointer, reflect.Map, reflect.Interface:
		s.fixed += flat
	case reflect.Struct:
		for i := range t.NumField() {
			f := t.Field(i)
			s.walk(f.Type, at+f.Offset)
		}
	case reflect.Array:
		if t.Len() <= 16 {
			for i := range t.Len() {
				s.walk(t.Elem(), at+uintptr(i)*t.Elem().Size())
			}
		}
	}
}

// samples is how many rows of a batch are looked at.
const samples = 16

// Bytes estimates rows [from, to) of b from a sample of them.
func (s *Sizer) Bytes(b spi.Batch, from, to int) int64 {
	n := to - from
	if n <= 0 {
		return 0
	}
	if len(s.strings)+len(s.slices) == 0 {
		return s.fixed * int64(n)
	}
	base := b.Base()
	step := max(1, n/samples)
	var sum, seen int64
	for i := from; i < to; i += step {
		row := unsafe.Add(base, uintptr(i)*s.size)
		for _, at := range s.strings {
			sum += int64(len(*(*string)(unsafe.Add(row, at))))
		}
		for _, at := range s.slices {
			sum += int64(len(*(*[]byte)(unsafe.Add(row, at))))
		}
		seen++
	}
	return s.fixed*int64(n) + sum*int64(n)/seen
}
