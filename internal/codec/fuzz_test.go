package codec

import (
	"math/rand/v2"
	"reflect"
	"testing"
	"unsafe"

	"github.com/weirstream/weir/stream/spi"
)

// FuzzState feeds rows to the decoder of a type that has everything: no panic, no
// more memory than the row's size allows, and what decodes encodes again.
func FuzzState(f *testing.F) {
	typ := reflect.TypeFor[tree]()
	c, schemas, err := NewStateCodec(typ, []string{`{"type":"record","name":"t","fields":[{"name":"gone","type":["null","string",{"type":"map","values":{"type":"array","items":"double"}}]},{"name":"name","type":"bytes"}]}`})
	if err != nil || len(schemas) != 2 {
		f.Fatal(err)
	}
	r := rand.New(rand.NewPCG(17, 18))
	for range 20 {
		v := reflect.New(typ)
		randFill(r, v.Elem(), 3)
		row, err := c.Append(nil, v.UnsafePointer())
		if err != nil {
			f.Fatal(err)
		}
		f.Add(row)
	}
	f.Add([]byte("\x00\x04\x01\x10\x02k\x00\x00\x06abc"))
	f.Fuzz(func(t *testing.T, row []byte) {
		var v tree
		if err := c.Decode(row, unsafe.Pointer(&v), new(spi.Arena)); err != nil {
			return
		}
		again, err := c.Append(nil, unsafe.Pointer(&v))
		if err != nil {
			t.Fatal(err)
		}
		var w tree
		if err := c.Decode(again, unsafe.Pointer(&w), nil); err != nil || !reflect.DeepEqual(v, w) {
			t.Fatalf("%+v came back as %+v, %v", v, w, err)
		}
	})
}

// FuzzSchema feeds writer schemas and rows: neither may do more than fail.
func FuzzSchema(f *testing.F) {
	c, err := Of(reflect.TypeFor[hostile]())
	if err != nil {
		f.Fatal(err)
	}
	r := rand.New(rand.NewPCG(19, 20))
	for range 30 {
		old := randStruct(r, 2)
		o, err := Of(old)
		if err != nil {
			f.Fatal(err)
		}
		v := reflect.New(old)
		randFill(r, v.Elem(), 2)
		row, _ := o.Append(nil, v.UnsafePointer())
		f.Add(o.Schema(), row)
	}
	f.Add(c.Schema(), []byte{})
	f.Add(`{"type":"record","name":"a","fields":[{"name":"f0","type":"a"}]}`, []byte{1, 2})
	f.Add(`{"type":"record","name":"a","fields":[{"name":"gone","type":{"type":"array","items":"a"}}]}`, []byte{1, 2})
	f.Fuzz(func(t *testing.T, schema string, row []byte) {
		d, err := c.Resolve(schema)
		if err != nil {
			return
		}
		_ = d.Decode(row, unsafe.Pointer(new(hostile)), new(spi.Arena))
	})
}

type hostile struct {
	F0 []tree
	F1 map[string]int64
	F2 *float64
	F3 [2]embedding
	F4 **[]string
	F5 struct{ F0, F1 string }
	F6 []struct{}
}

// FuzzBatch feeds frames: no panic, and a batch is whole or not there.
func FuzzBatch(f *testing.F) {
	typ := reflect.TypeFor[flatRow]()
	c, err := Of(typ)
	if err != nil {
		f.Fatal(err)
	}
	r := rand.New(rand.NewPCG(21, 22))
	for i := range 10 {
		frame, err := AppendBatch(nil, randBatch(r, typ, i, i%2 == 0), c)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(frame)
	}
	f.Fuzz(func(t *testing.T, frame []byte) {
		b := newSliceBatch(typ)
		if err := DecodeBatch(frame, b, c, new(spi.Arena)); err != nil {
			if b.Len() != 0 {
				t.Fatalf("%v, but %d rows", err, b.Len())
			}
			return
		}
		again, err := AppendBatch(nil, b, c)
		if err != nil {
			t.Fatal(err)
		}
		o := newSliceBatch(typ)
		if err := DecodeBatch(again, o, c, nil); err != nil || o.Len() != b.Len() {
			t.Fatalf("%d rows came back as %d, %v", b.Len(), o.Len(), err)
		}
	})
}
