package kernel

import (
	"testing"
	"unsafe"
)

// A key that decodes, and that some key encodes to, comes back the same.
func FuzzKey(f *testing.F) {
	coder, err := newKeyCoder[pairKey]()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(coder.append(nil, pairKey{A: "a", B: 3, C: [2]bool{true, false}, D: "dd"}))
	f.Fuzz(func(t *testing.T, b []byte) {
		k, ok := coder.decode(b)
		if !ok {
			return
		}
		enc := coder.append(nil, k)
		if again, ok := coder.decode(enc); !ok || again != k {
			t.Fatalf("%+v is written as %x and read as %+v", k, enc, again)
		}
	})
}

// The header or segment of a list decodes to an error or to a cell that survives
// another round.
func FuzzListCell(f *testing.F) {
	c := cellCodec{new(blockPool)}
	for _, cell := range []listCell{{Segments: 2, Values: 7, Data: []byte("abc")}, {Full: true, Data: []byte("xyz")}} {
		b, err := c.Append(nil, unsafe.Pointer(&cell))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var cell, again listCell
		if c.Decode(b, unsafe.Pointer(&cell), nil) != nil {
			return
		}
		enc, err := c.Append(nil, unsafe.Pointer(&cell))
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Decode(enc, unsafe.Pointer(&again), nil); err != nil {
			t.Fatalf("%+v is written as %x: %v", cell, enc, err)
		}
		if cell.Full != again.Full || cell.Segments != again.Segments || cell.Values != again.Values || string(cell.Data) != string(again.Data) {
			t.Fatalf("%+v comes back as %+v", cell, again)
		}
	})
}
