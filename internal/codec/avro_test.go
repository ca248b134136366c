package codec

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
	"unsafe"

	"github.com/weirstream/weir/dataflow"
	"github.com/weirstream/weir/stream/spi"
)

// naive writes v by walking the schema's own JSON beside it: what the compiled
// encoder must agree with, byte for byte.
type naive struct{ names map[string]any }

func (n naive) append(b []byte, schema any, v reflect.Value) []byte {
	switch s := schema.(type) {
	case []any:
		if v.IsNil() {
			return append(b, 0)
		}
		if v.Kind() == reflect.Pointer {
			v = v.Elem()
		}
		return n.append(append(b, 2), s[1], v)
	case string:
		if d := n.names[s]; d != nil {
			return n.append(b, d, v)
		}
		switch s {
		case "boolean":
			if v.Bool() {
				return append(b, 1)
			}
			return append(b, 0)
		case "int", "long":
			if v.CanInt() {
				return binary.AppendVarint(b, v.Int())
			}
			return binary.AppendVarint(b, int64(v.Uint()))
		case "float":
			return binary.LittleEndian.AppendUint32(b, math.Float32bits(float32(v.Float())))
		case "double":
			return binary.LittleEndian.AppendUint64(b, math.Float64bits(v.Float()))
		case "string":
			return append(binary.AppendVarint(b, int64(v.Len())), v.String()...)
		case "bytes":
			return append(binary.AppendVarint(b, int64(v.Len())), v.Bytes()...)
		}
	case map[string]any:
		if name, ok := s["name"].(string); ok {
			n.names[name] = s
		}
		switch s["type"] {
		case "fixed":
			if s["name"] == nameUint64 {
				return binary.BigEndian.AppendUint64(b, v.Uint())
			}
			for i := range v.Len() {
				b = append(b, byte(v.Index(i).Uint()))
			}
			return b
		case "array":
			return n.array(b, s["items"], v)
		case "record":
			return n.record(b, s, v)
		}
	}
	panic(fmt.Sprint(schema, v.Type()))
}

func (n naive) record(b []byte, s map[string]any, v reflect.Value) []byte {
	fields := s["fields"].([]any)
	switch {
	case s["name"] == nameTime:
		t := v.Interface().(time.Time)
		return binary.AppendVarint(binary.AppendVarint(b, t.Unix()), int64(t.Nanosecond()))
	case s["name"] == nameDecimal:
		d := v.Interface().(dataflow.Decimal)
		b = append(binary.AppendVarint(b, int64(len(d.Unscaled()))), d.Unscaled()...)
		return binary.AppendVarint(b, int64(d.Scale()))
	case strings.Contains(s["name"].(string), "_box"):
		return n.append(b, fields[0].(map[string]any)["type"], v)
	}
	for _, f := range fields {
		f := f.(map[string]any)
		name := f["name"].(string)
		b = n.append(b, f["type"], v.FieldByNameFunc(func(g string) bool { return snake(g) == name }))
	}
	return b
}

func (n naive) array(b []byte, items any, v reflect.Value) []byte {
	if v.Len() == 0 {
		return append(b, 0)
	}
	b = binary.AppendVarint(b, int64(v.Len()))
	if v.Kind() != reflect.Map {
		for i := range v.Len() {
			b = n.append(b, items, v.Index(i))
		}
		return append(b, 0)
	}
	if name, ok := items.(string); ok {
		items = n.names[name]
	}
	n.names[items.(map[string]any)["name"].(string)] = items
	fields := items.(map[string]any)["fields"].([]any)
	pairs := make([][2][]byte, 0, v.Len())
	// Names are defined where they first stand in the schema, not where a value first
	// needs them.
	n.define(fields[0].(map[string]any)["type"])
	n.define(fields[1].(map[string]any)["type"])
	for _, k := range v.MapKeys() {
		pairs = append(pairs, [2][]byte{n.append(nil, fields[0].(map[string]any)["type"], k),
			n.append(nil, fields[1].(map[string]any)["type"], v.MapIndex(k))})
	}
	slices.SortFunc(pairs, func(a, b [2][]byte) int { return bytes.Compare(a[0], b[0]) })
	for _, p := range pairs {
		b = append(append(b, p[0]...), p[1]...)
	}
	return append(b, 0)
}

func (n naive) define(schema any) {
	switch s := schema.(type) {
	case []any:
		for _, b := range s {
			n.define(b)
		}
	case map[string]any:
		if name, ok := s["name"].(string); ok && s["type"] != nil {
			if _, isType := s["type"].(string); isType && (s["type"] == "record" || s["type"] == "fixed") {
				n.names[name] = s
			}
		}
		if fs, ok := s["fields"].([]any); ok {
			for _, f := range fs {
				n.define(f.(map[string]any)["type"])
			}
		}
		n.define(s["items"])
	}
}

func naiveAppend(t *testing.T, schema string, v reflect.Value) []byte {
	t.Helper()
	var s any
	if err := json.Unmarshal([]byte(schema), &s); err != nil {
		t.Fatalf("schema %s: %v", schema, err)
	}
	n := naive{map[string]any{}}
	n.define(s)
	return n.append(nil, s, v)
}

// Any value of any type comes back deeply equal, and its bytes are those of a
// naive Avro writer.
func TestRoundTripRandom(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	arena := new(spi.Arena)
	for range 600 {
		typ := randType(r, 3)
		c, err := Of(typ)
		if err != nil {
			t.Fatalf("Of(%s): %v", typ, err)
		}
		for range 4 {
			v := reflect.New(typ)
			randFill(r, v.Elem(), 3)
			b, err := c.Append([]byte("prefix"), v.UnsafePointer())
			if err != nil {
				t.Fatalf("Append(%s): %v", typ, err)
			}
			b = b[len("prefix"):]
			if want := naiveAppend(t, c.Schema(), v.Elem()); !bytes.Equal(b, want) {
				t.Fatalf("%s\n%#v\nencodes as % x\nwant % x", c.Schema(), v.Elem(), b, want)
			}
			got := reflect.New(typ)
			if err := c.Decode(b, got.UnsafePointer(), arena); err != nil {
				t.Fatalf("Decode(%s): %v", typ, err)
			}
			if !reflect.DeepEqual(got.Interface(), v.Interface()) {
				t.Fatalf("%s\ncame back as %#v\nwant %#v", c.Schema(), got.Elem(), v.Elem())
			}
			for range min(len(b), 10) {
				cut := r.IntN(len(b))
				if err := c.Decode(b[:cut], reflect.New(typ).UnsafePointer(), nil); err == nil {
					t.Fatalf("%s: %d of %d bytes decode", typ, cut, len(b))
				}
			}
		}
	}
}

// The bits of a NaN, the zero time, nil and empty survive.
func TestRoundTripEdges(t *testing.T) {
	type row struct {
		F    float64
		G    float32
		T    time.Time
		A, B []string
		M, N map[string]int
		X, Y []byte
		P    **int
		Q    *[]int
	}
	nilInt := (*int)(nil)
	in := row{F: math.Float64frombits(0x7ff8dead00000001), G: math.Float32frombits(0x7fa00001), B: []string{}, N: map[string]int{}, Y: []byte{}, P: &nilInt, Q: new([]int)}
	c, err := Of(reflect.TypeFor[row]())
	if err != nil {
		t.Fatal(err)
	}
	b, err := c.Append(nil, unsafe.Pointer(&in))
	if err != nil {
		t.Fatal(err)
	}
	var out row
	if err := c.Decode(b, unsafe.Pointer(&out), nil); err != nil {
		t.Fatal(err)
	}
	if math.Float64bits(out.F) != 0x7ff8dead00000001 || math.Float32bits(out.G) != 0x7fa00001 {
		t.Errorf("NaN came back as %x and %x", math.Float64bits(out.F), math.Float32bits(out.G))
	}
	if !out.T.IsZero() || out.T != (time.Time{}) {
		t.Errorf("the zero time came back as %#v", out.T)
	}
	if out.A != nil || out.B == nil || out.M != nil || out.N == nil || out.X != nil || out.Y == nil {
		t.Errorf("nil and empty came back as %#v", out)
	}
	if out.P == nil || *out.P != nil || out.Q == nil || *out.Q != nil {
		t.Errorf("pointers to nil came back as %#v", out)
	}
	local := time.Now()
	in.T = local
	b, _ = c.Append(b[:0], unsafe.Pointer(&in))
	out = row{}
	if err := c.Decode(b, unsafe.Pointer(&out), nil); err != nil || !out.T.Equal(local) || out.T.Location() != time.UTC {
		t.Errorf("%v came back as %v, %v", local, out.T, err)
	}
}

func TestOfRefuses(t *testing.T) {
	type inner struct{ Ch chan int }
	type self []self
	for _, tt := range []struct {
		t    reflect.Type
		want string
	}{
		{reflect.TypeFor[struct{ F func() }](), "codec: struct.F: func type func() cannot be encoded: change its type, or tag the field `state:\"-\"` if it is set anew after every load"},
		{reflect.TypeFor[struct{ In []inner }](), "codec: struct.In[].Ch: chan type chan int cannot be encoded: change its type"},
		{reflect.TypeFor[struct{ A any }](), "codec: struct.A: interface type interface {} cannot be encoded"},
		{reflect.TypeFor[complex128](), "codec: complex128: complex128 cannot be encoded: use a type made of"},
		{reflect.TypeFor[struct{ hidden int }](), "codec: struct.hidden: an unexported field cannot be encoded: export it, or tag it `state:\"-\"`"},
		{reflect.TypeFor[struct {
			A int `weir:"x"`
			B int `json:"x"`
		}](), "codec: struct.B: it has the same name \"x\" as the field A"},
		{reflect.TypeFor[map[float64]int](), "codec: map[float64]int: the key of the map has the type float64: a float cannot be a key"},
		{reflect.TypeFor[map[any]int](), "an interface cannot be a key"},
		{reflect.TypeFor[self](), "the slice type codec.self holds itself"},
		{reflect.TypeFor[struct {
			A int `weir:"a,decimal(12,2)"`
		}](), "the tag decimal(12,2) is for Decimal, not for int"},
		{reflect.TypeFor[struct {
			A int `weir:"a,milis"`
		}](), "unknown option \"milis\""},
	} {
		if _, err := Of(tt.t); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("Of(%s): %v\nwant %s", tt.t, err, tt.want)
		}
	}
	_, err := Of(reflect.TypeFor[struct {
		A chan int
		B func()
	}]())
	if err == nil || strings.Count(err.Error(), "codec: struct.") != 2 {
		t.Errorf("two faults: %v", err)
	}
}

func TestKeys(t *testing.T) {
	type good struct {
		A string
		B [2]int32
		C dataflow.Decimal
	}
	for _, typ := range []reflect.Type{reflect.TypeFor[string](), reflect.TypeFor[int](), reflect.TypeFor[good](), reflect.TypeFor[bool](), reflect.TypeFor[time.Duration]()} {
		if err := Keys(typ); err != nil {
			t.Errorf("Keys(%s): %v", typ, err)
		}
	}
	for _, tt := range []struct {
		t    reflect.Type
		want string
	}{
		{reflect.TypeFor[*int](), "codec: key type *int: a pointer cannot be a key: use the value it points to"},
		{reflect.TypeFor[struct{ At time.Time }](), "codec: key type struct.At: a time.Time cannot be a key, for equal times differ in their location: use UnixMicro"},
		{reflect.TypeFor[struct{ F [2]float32 }](), "codec: key type struct.F: a float cannot be a key"},
		{reflect.TypeFor[any](), "an interface cannot be a key"},
		{reflect.TypeFor[[]byte](), "a slice cannot be a key: use a string or an array"},
		{reflect.TypeFor[struct{ hidden int }](), "must all be exported"},
	} {
		if err := Keys(tt.t); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("Keys(%s): %v, want %s", tt.t, err, tt.want)
		}
	}
}

type flatRow struct {
	User   string
	Type   string
	Item   int64
	Price  float64
	Count  int32
	Active bool
	At     time.Time
}

var flatValue = flatRow{"user-123456", "add_to_cart", 987654321, 12.5, 3, true, time.UnixMicro(1700000000123456).UTC()}

func BenchmarkAvro(b *testing.B) {
	c, err := Of(reflect.TypeFor[flatRow]())
	if err != nil {
		b.Fatal(err)
	}
	row := flatValue
	enc, _ := c.Append(nil, unsafe.Pointer(&row))
	b.Run("Append", func(b *testing.B) {
		defer cpuPerOp(b)()
		buf := make([]byte, 0, 1024)
		for b.Loop() {
			buf, _ = c.Append(buf[:0], unsafe.Pointer(&row))
		}
	})
	b.Run("Decode", func(b *testing.B) {
		defer cpuPerOp(b)()
		arena := new(spi.Arena)
		out := make([]flatRow, 1024)
		for i := 0; b.Loop(); i++ {
			if err := c.Decode(enc, unsafe.Pointer(&out[i&1023]), arena); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// Reading by words agrees with encoding/binary on every length.
func TestUvarint(t *testing.T) {
	r := rand.New(rand.NewPCG(23, 24))
	for range 50_000 {
		want := r.Uint64() >> r.IntN(64)
		b := append(binary.AppendUvarint([]byte{1}, want), make([]byte, r.IntN(10))...)
		got, next := uvarint(b, 1)
		if size := len(binary.AppendUvarint(nil, want)); got != want || next != 1+size {
			t.Fatalf("% x reads as %d up to %d, want %d", b, got, next, want)
		}
		if size := len(binary.AppendUvarint(nil, want)); size > 1 {
			if _, next := uvarint(b[:size], 1); next != 0 {
				t.Fatalf("% x ends at %d", b[:size], next)
			}
		}
	}
	if _, next := uvarint([]byte("\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02"), 0); next != 0 {
		t.Error("65 bits are taken")
	}
}
