package codec

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"
	"time"
	"unsafe"

	"github.com/weirstream/weir/dataflow"
	"github.com/weirstream/weir/stream/spi"
)

// evolve derives a type that can read t: fields go, come, move and widen.
func evolve(r *rand.Rand, t reflect.Type) reflect.Type {
	var fs []reflect.StructField
	for i := range t.NumField() {
		f := t.Field(i)
		if r.IntN(4) == 0 {
			continue
		}
		f.Offset, f.Index = 0, nil
		if r.IntN(2) == 0 {
			f.Type = widen(r, f.Type)
		}
		fs = append(fs, f)
	}
	for i := range r.IntN(3) {
		fs = append(fs, reflect.StructField{Name: fmt.Sprintf("New%d", i), Type: randType(r, 1)})
	}
	r.Shuffle(len(fs), func(i, j int) { fs[i], fs[j] = fs[j], fs[i] })
	return reflect.StructOf(fs)
}

func widen(r *rand.Rand, t reflect.Type) reflect.Type {
	switch t.Kind() {
	case reflect.Int8, reflect.Int16, reflect.Int32, reflect.Uint8, reflect.Uint16:
		return []reflect.Type{reflect.TypeFor[int64](), reflect.TypeFor[float32](), reflect.TypeFor[float64](), reflect.TypeFor[dataflow.Decimal]()}[r.IntN(4)]
	case reflect.Int, reflect.Int64, reflect.Uint32:
		return []reflect.Type{reflect.TypeFor[int64](), reflect.TypeFor[float64](), reflect.TypeFor[dataflow.Decimal]()}[r.IntN(3)]
	case reflect.Float32:
		return reflect.TypeFor[float64]()
	case reflect.String:
		return reflect.TypeFor[[]byte]()
	case reflect.Struct:
		if t.Name() == "" && t.NumField() > 0 {
			return evolve(r, t)
		}
	case reflect.Pointer:
		if t.Elem().Kind() == reflect.Struct || t.Elem().Kind() == reflect.Int16 {
			return reflect.PointerTo(widen(r, t.Elem()))
		}
		return t // of pointers to what is nullable itself, which null is which is not told
	case reflect.Slice:
		if t.Elem().Kind() != reflect.Uint8 && t.Elem().Kind() != reflect.String {
			if e := widen(r, t.Elem()); e.Kind() != reflect.Uint8 {
				return reflect.SliceOf(e)
			}
		}
		return t
	}
	if r.IntN(2) == 0 && t.Kind() != reflect.Struct {
		return reflect.PointerTo(t)
	}
	return t
}

func pointers(t reflect.Type) (n int) {
	for ; t.Kind() == reflect.Pointer; t = t.Elem() {
		n++
	}
	return n
}

// carry copies v into to, as an evolved decoder must.
func carry(to, v reflect.Value) {
	switch {
	case to.Type() == v.Type():
		to.Set(v)
	case to.Type() == typeDecimal:
		if v.CanInt() {
			to.Set(reflect.ValueOf(dataflow.DecimalFromInt(v.Int())))
		} else {
			to.Set(reflect.ValueOf(dataflow.DecimalFromInt(int64(v.Uint()))))
		}
	case to.Kind() == reflect.Pointer:
		if pointers(to.Type()) == pointers(v.Type()) {
			if v.IsNil() {
				return
			}
			v = v.Elem()
		}
		to.Set(reflect.New(to.Type().Elem()))
		carry(to.Elem(), v)
	case to.Kind() == reflect.Slice && v.Kind() == reflect.Slice:
		if !v.IsNil() {
			to.Set(reflect.MakeSlice(to.Type(), v.Len(), v.Len()))
			for i := range v.Len() {
				carry(to.Index(i), v.Index(i))
			}
		}
	case to.Kind() == reflect.Slice: // from a string
		to.SetBytes([]byte(v.String()))
	case to.Kind() == reflect.Struct:
		for i := range to.NumField() {
			if f := v.FieldByName(to.Type().Field(i).Name); f.IsValid() {
				carry(to.Field(i), f)
			}
		}
	case v.CanUint() && (to.Kind() == reflect.Int64 || to.Kind() == reflect.Int):
		to.SetInt(int64(v.Uint()))
	case v.CanUint():
		to.SetFloat(float64(int64(v.Uint())))
	case to.CanFloat() && v.CanInt():
		to.SetFloat(float64(v.Int()))
		if to.Kind() == reflect.Float32 {
			to.SetFloat(float64(float32(v.Int())))
		}
	default:
		to.Set(v.Convert(to.Type()))
	}
}

// A row written by any schema is read by any later, compatible one: what stayed
// keeps its value, what is new is zero.
func TestResolveRandom(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 8))
	for range 2000 {
		old := randStruct(r, 2)
		now := evolve(r, old)
		first, schemas, err := NewStateCodec(old, nil)
		if err != nil {
			t.Fatal(err)
		}
		second, schemas, err := NewStateCodec(now, schemas)
		if err != nil {
			t.Fatalf("%s\nto %s:\n%v", old, now, err)
		}
		in := reflect.New(old)
		randFill(r, in.Elem(), 3)
		row, err := first.Append(nil, in.UnsafePointer())
		if err != nil {
			t.Fatal(err)
		}
		got, want := reflect.New(now), reflect.New(now)
		if err := second.Decode(row, got.UnsafePointer(), new(spi.Arena)); err != nil {
			t.Fatalf("%v\n%s", err, schemas)
		}
		carry(want.Elem(), in.Elem())
		if !reflect.DeepEqual(got.Interface(), want.Interface()) {
			t.Fatalf("%#v\nbecame %#v\nwant %#v", in.Elem(), got.Elem(), want.Elem())
		}
	}
}

func TestResolveRefuses(t *testing.T) {
	type Cart struct {
		N    int32
		S    string
		L    []int32
		P    *int64
		In   struct{ X int64 }
		When time.Time
	}
	c, err := Of(reflect.TypeFor[Cart]())
	if err != nil {
		t.Fatal(err)
	}
	const cure = ": keep the old type, or give the field a new name to start it empty"
	for _, tt := range []struct{ field, want string }{
		{`{"name":"n","type":"long"}`, "codec: codec.Cart.n cannot change from long to int" + cure},
		{`{"name":"s","type":"long"}`, "codec: codec.Cart.s cannot change from long to string" + cure},
		{`{"name":"s","type":["null","string"]}`, "codec: codec.Cart.s cannot change from nullable string to string" + cure},
		{`{"name":"l","type":{"type":"array","items":"string"}}`, "codec: codec.Cart.l cannot change from string to int" + cure},
		{`{"name":"l","type":"int"}`, "codec: codec.Cart.l cannot change from int to nullable array" + cure},
		{`{"name":"p","type":["null","double"]}`, "codec: codec.Cart.p cannot change from double to long" + cure},
		{`{"name":"in","type":{"type":"record","name":"I","fields":[{"name":"x","type":"double"}]}}`, "codec: codec.Cart.in.x cannot change from double to long" + cure},
		{`{"name":"when","type":"long"}`, "codec: codec.Cart.when cannot change from long to time" + cure},
		{`{"name":"when","type":"nothing"}`, `codec: bad Avro schema: field when of Cart: unknown type "nothing"`},
	} {
		_, err := c.Resolve(`{"type":"record","name":"Cart","fields":[` + tt.field + `]}`)
		if err == nil || err.Error() != tt.want {
			t.Errorf("%s: %v\nwant %s", tt.field, err, tt.want)
		}
	}
	if _, err := c.Resolve(`{"type":"record","name":"Cart","fields":[{"name":"when","type":{"type":"long","logicalType":"timestamp-micros"}}]}`); err != nil {
		t.Errorf("timestamp-micros: %v", err)
	}
}

// Avro that others wrote: millisecond times, maps, decimals, blocks with sizes,
// removed fields of every type.
func TestResolveForeign(t *testing.T) {
	type Row struct {
		At    time.Time
		M     map[string]int64
		Price dataflow.Decimal
		Cost  dataflow.Decimal
		L     []int64
	}
	c, err := Of(reflect.TypeFor[Row]())
	if err != nil {
		t.Fatal(err)
	}
	d, err := c.Resolve(`{"type":"record","name":"x.Row","fields":[
		{"name":"gone","type":["null","string",{"type":"map","values":"double"}]},
		{"name":"color","type":{"type":"enum","name":"Color","symbols":["A","B"]}},
		{"name":"at","type":{"type":"long","logicalType":"timestamp-millis"}},
		{"name":"m","type":{"type":"map","values":"int"}},
		{"name":"price","type":{"type":"bytes","logicalType":"decimal","precision":9,"scale":2}},
		{"name":"cost","type":{"type":"fixed","name":"F","size":3,"logicalType":"decimal","precision":5,"scale":1}},
		{"name":"l","type":{"type":"array","items":"int"}}]}`)
	if err != nil {
		t.Fatal(err)
	}
	src := []byte{
		4, 1, 16, 2, 'k', 0, 0, 0, 0, 0, 0, 0, 0, // union branch 2: a map in a sized block of one entry
	}
	src = append(src, 0, 2, 1) // end of map, enum B, -1 ms
	src = append(src, 2, 2, 'a', 6, 0, 4, 0xff, 0x85, 0xff, 0xff, 0x85)
	src = append(src, 2, 2, 3, 2, 4, 0) // two blocks: [1], and a sized one [2]
	src[len(src)-6], src[len(src)-5], src[len(src)-4], src[len(src)-3], src[len(src)-2] = 2, 2, 1, 2, 4
	var got Row
	if err := d.Decode(src, unsafe.Pointer(&got), nil); err != nil {
		t.Fatal(err)
	}
	want := Row{time.UnixMilli(-1).UTC(), map[string]int64{"a": 3}, dataflow.MustParseDecimal("-1.23"), dataflow.MustParseDecimal("-12.3"), []int64{1, 2}}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

func TestStateCodec(t *testing.T) {
	type v struct{ A int32 }
	c, schemas, err := NewStateCodec(reflect.TypeFor[v](), nil)
	if err != nil || len(schemas) != 1 {
		t.Fatal(schemas, err)
	}
	if _, again, err := NewStateCodec(reflect.TypeFor[v](), schemas); err != nil || len(again) != 1 {
		t.Errorf("the same schema again: %d schemas, %v", len(again), err)
	}
	x := v{-1}
	row, err := c.Append(nil, unsafe.Pointer(&x))
	if err != nil || string(row) != "\x00\x01" {
		t.Errorf("row % x, %v", row, err)
	}
	for _, tt := range []struct{ row, want string }{
		{"", "the row is empty"},
		{"\x01\x01", "schema number 1, but there are 1"},
		{"\x00\x01\x01", "1 bytes are left over"},
		{"\x00", "codec.v.a at byte 0: the row ends too early"},
		{"\x00\xff\xff\xff\xff\xff\x01", "does not fit int32"},
	} {
		if err := c.Decode([]byte(tt.row), unsafe.Pointer(new(v)), nil); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("Decode(%q): %v, want %s", tt.row, err, tt.want)
		}
	}
	many := make([]string, MaxSchemas)
	for i := range many {
		many[i] = fmt.Sprintf(`{"type":"record","name":"v%d","fields":[]}`, i)
	}
	if _, _, err := NewStateCodec(reflect.TypeFor[v](), many); err == nil || !strings.Contains(err.Error(), "more than 255") {
		t.Errorf("256 schemas: %v", err)
	}
	if _, out, err := NewStateCodec(reflect.TypeFor[v](), many[:254]); err != nil || len(out) != 255 {
		t.Errorf("255 schemas: %v", err)
	}
}

// Hostile counts and depths are refused before memory is spent.
func TestDecodeHostile(t *testing.T) {
	type empty struct{}
	type row struct {
		L []int64
		E []empty
		S string
	}
	c, err := Of(reflect.TypeFor[row]())
	if err != nil {
		t.Fatal(err)
	}
	huge := []byte{2, 0xfe, 0xff, 0xff, 0xff, 0xff, 0x7f}
	for _, src := range [][]byte{
		huge, append([]byte{0}, huge...), append([]byte{0, 0}, huge[1:]...),
		{2, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01, 0}, // the smallest long as a count
		{2, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01},
	} {
		n := testing.AllocsPerRun(1, func() {
			if err := c.Decode(src, unsafe.Pointer(new(row)), nil); err == nil {
				t.Errorf("% x decodes", src)
			}
		})
		if n > 20 {
			t.Errorf("% x: %v allocations", src, n)
		}
	}
	deep, err := Of(reflect.TypeFor[recursive]())
	if err != nil {
		t.Fatal(err)
	}
	src := make([]byte, 0, 1<<20)
	for range 1 << 19 {
		src = append(src, 0, 2)
	}
	if err := deep.Decode(src, unsafe.Pointer(new(recursive)), nil); err == nil || !strings.Contains(err.Error(), "nested more than") {
		t.Errorf("half a million levels: %v", err)
	}
	loop := recursive{}
	loop.Next = &loop
	if _, err := deep.Append(nil, unsafe.Pointer(&loop)); err == nil || !strings.Contains(err.Error(), "nested more than") {
		t.Errorf("a value that points to itself: %v", err)
	}
}
