package codec

import (
	"math"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"
	"unsafe"

	"github.com/weirstream/weir/stream/spi"
)

// sliceBatch is a batch on reflection.
type sliceBatch struct {
	rows reflect.Value
	head spi.Head
}

func newSliceBatch(t reflect.Type) *sliceBatch {
	return &sliceBatch{rows: reflect.New(reflect.SliceOf(t)).Elem()}
}

func (b *sliceBatch) Len() int             { return b.rows.Len() }
func (b *sliceBatch) Head() *spi.Head      { return &b.head }
func (b *sliceBatch) Elem() reflect.Type   { return b.rows.Type().Elem() }
func (b *sliceBatch) Base() unsafe.Pointer { return b.rows.UnsafePointer() }
func (b *sliceBatch) Extend(n int) unsafe.Pointer {
	at := b.Len()
	b.rows.Set(reflect.AppendSlice(b.rows, reflect.MakeSlice(b.rows.Type(), n, n)))
	b.head.Times = append(b.head.Times, make([]int64, n)...)
	b.head.Hashes = b.head.Hashes[:0]
	return unsafe.Add(b.Base(), uintptr(at)*b.Elem().Size())
}
func (b *sliceBatch) Append(spi.Batch, int, int) { panic("not needed") }
func (b *sliceBatch) Truncate(n int) {
	b.rows.SetLen(n)
	b.head.Times = b.head.Times[:n]
	b.head.Hashes = b.head.Hashes[:min(n, len(b.head.Hashes))]
}
func (b *sliceBatch) Reset()            { b.Truncate(0) }
func (b *sliceBatch) New(int) spi.Batch { return newSliceBatch(b.Elem()) }

func randBatch(r *rand.Rand, t reflect.Type, rows int, hashes bool) *sliceBatch {
	b := newSliceBatch(t)
	if rows > 0 {
		b.Extend(rows)
	}
	for i := range rows {
		randFill(r, b.rows.Index(i), 2)
		b.head.Times[i] = 1.7e15 + r.Int64N(1e6)
		if r.IntN(10) == 0 {
			b.head.Times[i] = []int64{math.MinInt64, math.MaxInt64, 0}[r.IntN(3)]
		}
		if hashes {
			b.head.Hashes = append(b.head.Hashes, r.Uint32())
		}
	}
	b.head.Watermark = int64(r.Uint64())
	return b
}

// A batch arrives as it left, also in pieces and behind other rows.
func TestBatchRoundTrip(t *testing.T) {
	r := rand.New(rand.NewPCG(15, 16))
	for range 500 {
		typ := randType(r, 2)
		c, err := Of(typ)
		if err != nil {
			t.Fatal(err)
		}
		in := randBatch(r, typ, r.IntN(40), r.IntN(2) == 0)
		cut := r.IntN(in.Len() + 1)
		first, err := AppendRows(nil, in, 0, cut, c)
		if err != nil {
			t.Fatal(err)
		}
		second, err := AppendRows([]byte("x"), in, cut, in.Len(), c)
		if err != nil {
			t.Fatal(err)
		}
		out := newSliceBatch(typ)
		for _, src := range [][]byte{first, second[1:]} {
			if err := DecodeBatch(src, out, c, new(spi.Arena)); err != nil {
				t.Fatalf("%s: %v", typ, err)
			}
		}
		if in.Len() > 0 && !reflect.DeepEqual(in.rows.Interface(), out.rows.Interface()) {
			t.Fatalf("%s:\n%#v\nbecame %#v", typ, in.rows, out.rows)
		}
		if in.Len() != out.Len() || in.Len() > 0 && !reflect.DeepEqual(in.head.Times, out.head.Times) || in.head.Watermark != out.head.Watermark ||
			strings.TrimSpace(string(bytesOf(in.head.Hashes))) != strings.TrimSpace(string(bytesOf(out.head.Hashes))) {
			t.Fatalf("head %+v became %+v", in.head, out.head)
		}
		whole, _ := AppendBatch(nil, in, c)
		for range min(20, len(whole)) {
			at := out.Len()
			if err := DecodeBatch(whole[:r.IntN(len(whole))], out, c, nil); err == nil || out.Len() != at {
				t.Fatalf("a part of a batch: %v, %d rows before, %d after", err, at, out.Len())
			}
		}
	}
}

func bytesOf(h []uint32) (b []byte) {
	for _, x := range h {
		b = append(b, byte(x), byte(x>>8), byte(x>>16), byte(x>>24))
	}
	return b
}

func TestForFormat(t *testing.T) {
	for _, tt := range []struct {
		format string
		t      reflect.Type
		value  any
		want   string
	}{
		{"json", reflect.TypeFor[map[string]int](), &map[string]int{"a": 1}, `{"a":1}`},
		{"avro", reflect.TypeFor[string](), new(string), "\x00"},
		{"raw", reflect.TypeFor[namedString](), func() *namedString { s := namedString("as is"); return &s }(), "as is"},
		{"raw", reflect.TypeFor[[]byte](), &[]byte{0, 255}, "\x00\xff"},
	} {
		c, err := ForFormat(tt.format, tt.t)
		if err != nil {
			t.Fatal(err)
		}
		b, err := c.Append(nil, reflect.ValueOf(tt.value).UnsafePointer())
		if err != nil || string(b) != tt.want {
			t.Errorf("%s: %q, %v, want %q", tt.format, b, err, tt.want)
		}
		back := reflect.New(tt.t)
		if err := c.Decode(b, back.UnsafePointer(), nil); err != nil || !reflect.DeepEqual(back.Interface(), tt.value) {
			t.Errorf("%s: came back as %v, %v", tt.format, back.Elem(), err)
		}
	}
	for _, tt := range []struct {
		format string
		t      reflect.Type
		want   string
	}{
		{"jsn", reflect.TypeFor[string](), `codec: unknown format "jsn": the formats are avro, json and raw`},
		{"raw", reflect.TypeFor[int](), "codec: the format raw is for rows of type string or []byte, not int: use json or avro"},
		{"avro", reflect.TypeFor[func()](), "codec: func(): func type func() cannot be encoded: use a type made of numbers, strings, times, structs, slices and maps"},
	} {
		if c, err := ForFormat(tt.format, tt.t); err == nil || c != nil || err.Error() != tt.want {
			t.Errorf("ForFormat(%s, %s): %v\nwant %s", tt.format, tt.t, err, tt.want)
		}
	}
}

func BenchmarkBatch(b *testing.B) {
	c, err := Of(reflect.TypeFor[flatRow]())
	if err != nil {
		b.Fatal(err)
	}
	const rows = 1024
	in := newSliceBatch(reflect.TypeFor[flatRow]())
	in.Extend(rows)
	for i := range rows {
		in.rows.Index(i).Set(reflect.ValueOf(flatValue))
		in.head.Times[i] = 1.7e15 + int64(i)
		in.head.Hashes = append(in.head.Hashes, uint32(i)*2654435761)
	}
	frame, err := AppendBatch(nil, in, c)
	if err != nil {
		b.Fatal(err)
	}
	perRow := func(b *testing.B) {
		b.ReportMetric(float64(len(frame))/rows, "bytes/row")
	}
	b.Run("Append1024", func(b *testing.B) {
		defer cpuPerOp(b)()
		defer perRow(b)
		var buf []byte
		for b.Loop() {
			buf, _ = AppendBatch(buf[:0], in, c)
		}
	})
	b.Run("Decode1024", func(b *testing.B) {
		defer cpuPerOp(b)()
		out, arena := newSliceBatch(in.Elem()), new(spi.Arena)
		for b.Loop() {
			out.Reset()
			if err := DecodeBatch(frame, out, c, arena); err != nil {
				b.Fatal(err)
			}
		}
	})
}
