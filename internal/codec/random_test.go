package codec

import (
	"fmt"
	"math"
	"math/rand/v2"
	"reflect"
	"strings"
	"time"

	"github.com/weirstream/weir/dataflow"
)

type (
	namedInt    int
	namedString string
	namedBytes  []byte
)

// namedStructs are what reflect.StructOf cannot make.
type embedding struct {
	colBase
	Extra string
}

type tree struct {
	Name  string
	Kids  []*tree
	Left  *tree
	Named map[string]tree
}

var leafTypes = []reflect.Type{
	reflect.TypeFor[bool](), reflect.TypeFor[int](), reflect.TypeFor[int8](), reflect.TypeFor[int16](), reflect.TypeFor[int32](),
	reflect.TypeFor[int64](), reflect.TypeFor[uint](), reflect.TypeFor[uint8](), reflect.TypeFor[uint16](), reflect.TypeFor[uint32](),
	reflect.TypeFor[uint64](), reflect.TypeFor[float32](), reflect.TypeFor[float64](), reflect.TypeFor[string](), reflect.TypeFor[[]byte](),
	reflect.TypeFor[[5]byte](), reflect.TypeFor[[0]byte](), reflect.TypeFor[time.Time](), reflect.TypeFor[time.Duration](),
	reflect.TypeFor[dataflow.Decimal](), reflect.TypeFor[namedInt](), reflect.TypeFor[namedString](), reflect.TypeFor[namedBytes](),
	reflect.TypeFor[embedding](), reflect.TypeFor[tree](), reflect.TypeFor[struct{}](),
}

var keyTypes = []reflect.Type{
	reflect.TypeFor[string](), reflect.TypeFor[int](), reflect.TypeFor[uint64](), reflect.TypeFor[namedString](), reflect.TypeFor[[3]byte](),
	reflect.TypeFor[struct {
		A string
		B int32
	}](), reflect.TypeFor[bool](), reflect.TypeFor[dataflow.Decimal](),
}

// randType draws a type that the codecs take.
func randType(r *rand.Rand, depth int) reflect.Type {
	if depth == 0 {
		return leafTypes[r.IntN(len(leafTypes))]
	}
	switch r.IntN(9) {
	case 0:
		return reflect.PointerTo(randType(r, depth-1))
	case 1:
		return reflect.SliceOf(randType(r, depth-1))
	case 2:
		return reflect.ArrayOf(r.IntN(4), randType(r, depth-1))
	case 3:
		return reflect.MapOf(keyTypes[r.IntN(len(keyTypes))], randType(r, depth-1))
	case 4, 5, 6:
		return randStruct(r, depth-1)
	}
	return leafTypes[r.IntN(len(leafTypes))]
}

func randStruct(r *rand.Rand, depth int) reflect.Type {
	var fs []reflect.StructField
	for i := range 1 + r.IntN(8) {
		name := fmt.Sprintf("F%d", i)
		fs = append(fs, reflect.StructField{Name: name, Type: randType(r, depth),
			Tag: reflect.StructTag(fmt.Sprintf("json:%q", strings.ToLower(name)))})
	}
	return reflect.StructOf(fs)
}

// randFill sets v to something that a codec may find hard.
func randFill(r *rand.Rand, v reflect.Value, depth int) {
	edge := r.IntN(4) == 0
	switch v.Type() {
	case typeTime:
		switch r.IntN(4) {
		case 0:
		case 1:
			v.Set(reflect.ValueOf(time.Unix(r.Int64N(1<<40)-1<<39, r.Int64N(1e9)).UTC()))
		default:
			v.Set(reflect.ValueOf(time.UnixMicro(1.7e15 + r.Int64N(1e14)).UTC()))
		}
		return
	case typeDecimal:
		d, err := dataflow.DecimalFromParts(r.Int64N(1<<60)-1<<59, r.Uint64(), r.IntN(39))
		if edge || err != nil {
			d = dataflow.DecimalFromInt(r.Int64N(2000) - 1000)
		}
		v.Set(reflect.ValueOf(d))
		return
	}
	switch v.Kind() {
	case reflect.Bool:
		v.SetBool(r.IntN(2) == 0)
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		x := int64(r.Uint64())
		if !edge {
			x >>= r.IntN(64)
		}
		if v.SetInt(x); v.OverflowInt(x) {
			v.SetInt(x >> (64 - v.Type().Bits()))
		}
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		v.SetUint(r.Uint64() >> (64 - v.Type().Bits()) >> r.IntN(v.Type().Bits()))
	case reflect.Float32, reflect.Float64:
		v.SetFloat([]float64{0, math.Copysign(0, -1), math.Inf(1), math.MaxFloat64, math.SmallestNonzeroFloat64, r.NormFloat64(), float64(r.IntN(1000)), 0.1}[r.IntN(8)])
		if v.Kind() == reflect.Float32 {
			v.SetFloat(float64(float32(v.Float())))
		}
	case reflect.String:
		v.SetString(randString(r))
	case reflect.Struct:
		for i := range v.NumField() {
			if f := v.Field(i); f.CanSet() {
				randFill(r, f, depth)
			} else if v.Type().Field(i).Anonymous {
				randFill(r, v.FieldByName("ID"), depth)
				randFill(r, v.FieldByName("Kind"), depth)
			}
		}
	case reflect.Array:
		for i := range v.Len() {
			randFill(r, v.Index(i), depth)
		}
	case reflect.Pointer:
		if depth > 0 && r.IntN(3) > 0 {
			v.Set(reflect.New(v.Type().Elem()))
			randFill(r, v.Elem(), depth-1)
		}
	case reflect.Slice:
		if n := randLen(r, depth); n >= 0 {
			v.Set(reflect.MakeSlice(v.Type(), n, n))
			for i := range n {
				randFill(r, v.Index(i), depth-1)
			}
		}
	case reflect.Map:
		if n := randLen(r, depth); n >= 0 {
			v.Set(reflect.MakeMap(v.Type()))
			for range n {
				k, e := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
				randFill(r, k, 1)
				randFill(r, e, depth-1)
				v.SetMapIndex(k, e)
			}
		}
	default:
		panic(v.Type())
	}
}

// randLen is -1 for nil.
func randLen(r *rand.Rand, depth int) int {
	if depth <= 0 || r.IntN(4) == 0 {
		return r.IntN(2) - 1
	}
	return r.IntN(5)
}

func randString(r *rand.Rand) string {
	switch r.IntN(5) {
	case 0:
		return ""
	case 1:
		return strings.Repeat("long ", r.IntN(60))
	case 2:
		return "tab\t \"q\" \\ é \u2028 😀 <&>"
	}
	return fmt.Sprintf("user-%d", r.IntN(1e6))
}
