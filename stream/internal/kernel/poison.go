//go:build invariants

package kernel

import (
	"unsafe"

	"github.com/weirstream/weir/dataflow"
)

// poison overwrites rows and times that were dropped, so that code which goes on
// using them is found out. Rows with pointers are zeroed already.
func (r *Rows[T]) poison(from int) {
	for i := from; i < len(r.Meta.Times); i++ {
		r.Meta.Times[i] = dataflow.MinTime + 0xdead
	}
	if r.pointers || from == len(r.Values) {
		return
	}
	size := int(unsafe.Sizeof(r.Values[0])) * (len(r.Values) - from)
	b := unsafe.Slice((*byte)(unsafe.Pointer(&r.Values[from])), size)
	for i := range b {
		b[i] = 0xdb
	}
}
