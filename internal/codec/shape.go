package codec

import (
	"encoding"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"time"

	"github.com/weirstream/weir/dataflow"
)

// kind is what a value is to the codecs.
type kind uint8

const (
	kBool kind = iota
	kInt8
	kInt16
	kInt32
	kInt64 // and int, time.Duration
	kUint8
	kUint16
	kUint32
	kUint64 // and uint
	kFloat32
	kFloat64
	kString
	kBytes // []byte
	kFixed // [n]byte
	kTime
	kDecimal
	kStruct
	kPtr
	kSlice
	kArray
	kMap
)

var (
	typeTime        = reflect.TypeFor[time.Time]()
	typeDecimal     = reflect.TypeFor[dataflow.Decimal]()
	typeNumber      = reflect.TypeFor[json.Number]()
	typeUnmarshal   = reflect.TypeFor[json.Unmarshaler]()
	typeMarshal     = reflect.TypeFor[json.Marshaler]()
	typeUnmarshalTx = reflect.TypeFor[encoding.TextUnmarshaler]()
	typeMarshalTx   = reflect.TypeFor[encoding.TextMarshaler]()
)

// A shape is a Go type as the codecs see it. Recursive types make cyclic shapes.
type shape struct {
	kind   kind
	typ    reflect.Type
	size   uintptr
	name   string   // of the Avro record; kStruct, and kMap for its entries
	fields []field  // kStruct, embedded structs flattened
	elem   *shape   // kPtr, kSlice, kArray, kMap
	key    *shape   // kMap
	n      int      // kArray, kFixed: length
	flat   bool     // holds no pointers: may be allocated without a type
	boxed  bool     // kPtr: elem is itself nullable, so the schema wraps it in a record
	jsonIn jsonMode // how JSON reads and writes it when not by kind
	jsonTo jsonMode
}

// jsonMode says which methods of the type JSON goes through.
type jsonMode uint8

const (
	jsonPlain  jsonMode = iota
	jsonValue           // MarshalJSON, UnmarshalJSON
	jsonText            // MarshalText, UnmarshalText
	jsonNumber          // json.Number
)

// A field of a struct shape.
type field struct {
	name    string // as in JSON and tables
	avro    string // name with what Avro does not allow replaced
	path    string // Go path within the struct, "Base.ID"
	off     uintptr
	shape   *shape
	skipped bool // json:"-": not in JSON
	omit    jsonOmit
	quoted  bool      // json:",string"
	epoch   epochUnit // of a time.Time read from integers
	prec    int       // decimal(p,s); 0: not given
	scale   int
}

type jsonOmit uint8

const (
	omitNever jsonOmit = iota
	omitEmpty
	omitZero
)

type epochUnit uint8

const (
	epochNone epochUnit = iota
	epochMillis
	epochMicros
)

// nullable says that the Avro schema is a union with null.
func (s *shape) nullable() bool {
	return s.kind == kPtr || s.kind == kSlice || s.kind == kMap || s.kind == kBytes
}

// A walker makes shapes and gathers every fault on the way.
type walker struct {
	shapes map[reflect.Type]*shape
	names  map[string]bool // Avro names given out
	errs   []error
}

// shapeOf walks t.
func shapeOf(t reflect.Type) (*shape, error) {
	if t == nil {
		return nil, errors.New("codec: no type given")
	}
	w := &walker{shapes: map[reflect.Type]*shape{}, names: map[string]bool{nameTime: true, nameDecimal: true, nameUint64: true}}
	s := w.walk(t, typeName(t), "")
	if err := errors.Join(w.errs...); err != nil {
		return nil, err
	}
	return s, nil
}

// typeName names t in errors.
func typeName(t reflect.Type) string {
	if t.Name() != "" || t.Kind() != reflect.Struct {
		return t.String()
	}
	return "struct"
}

func (w *walker) fault(path, format string, args ...any) {
	w.errs = append(w.errs, fmt.Errorf("codec: %s: %s", path, fmt.Sprintf(format, args...)))
}

// walk returns the shape of t, found at path; hint names an anonymous struct.
func (w *walker) walk(t reflect.Type, path, hint string) *shape {
	if s := w.shapes[t]; s != nil {
		return s
	}
	s := &shape{typ: t, size: t.Size(), flat: flat(t)}
	w.shapes[t] = s
	s.jsonIn, s.jsonTo = jsonModes(t)
	switch {
	case t == typeTime:
		s.kind = kTime
	case t == typeDecimal:
		s.kind = kDecimal
	case w.scalar(s, t):
	case t.Kind() == reflect.Struct:
		s.kind, s.name = kStruct, w.avroName(t, hint)
		w.fields(s, t, 0, "", path)
	case t.Kind() == reflect.Pointer:
		s.kind = kPtr
		s.elem = w.walk(t.Elem(), path, hint)
		s.boxed = s.elem.nullable()
		if s.boxed {
			s.name = w.unique(nameOr(hint, "Value") + "_box")
		}
	case t.Kind() == reflect.Slice && t.Elem().Kind() == reflect.Uint8:
		s.kind = kBytes
	case t.Kind() == reflect.Slice:
		s.kind = kSlice
		s.elem = w.walk(t.Elem(), path+"[]", hint)
		for e := s.elem; e != nil && (e.kind == kSlice || e.kind == kArray); e = e.elem {
			if e == s {
				w.fault(path, "the slice type %s holds itself and has no Avro schema: put a struct in between", t)
				break
			}
		}
	case t.Kind() == reflect.Array && t.Elem().Kind() == reflect.Uint8:
		s.kind, s.n, s.name = kFixed, t.Len(), w.avroName(t, nameOr(hint, "Bytes")+strconv.Itoa(t.Len()))
	case t.Kind() == reflect.Array:
		s.kind, s.n = kArray, t.Len()
		s.elem = w.walk(t.Elem(), path+"[]", hint)
	case t.Kind() == reflect.Map:
		s.kind, s.name = kMap, w.unique(nameOr(avroIdent(bareName(t)), nameOr(hint, "Map"))+"_entry")
		s.key = w.walk(t.Key(), path+" (key)", nameOr(hint, "Map")+"_key")
		s.elem = w.walk(t.Elem(), path+"[]", hint)
		w.mapKey(t.Key(), path)
	default:
		w.fault(path, "%s cannot be encoded: %s", an(t), refusalCure(path))
	}
	return s
}

func refusalCure(path string) string {
	if strings.ContainsAny(path, ".[") {
		return "change its type, or tag the field `state:\"-\"` if it is set anew after every load"
	}
	return "use a type made of numbers, strings, times, structs, slices and maps"
}

// an names a type that is refused by what it is.
func an(t reflect.Type) string {
	k := t.Kind().String()
	if k == t.String() {
		return k
	}
	return k + " type " + t.String()
}

func (w *walker) scalar(s *shape, t reflect.Type) bool {
	switch t.Kind() {
	case reflect.Bool:
		s.kind = kBool
	case reflect.Int8:
		s.kind = kInt8
	case reflect.Int16:
		s.kind = kInt16
	case reflect.Int32:
		s.kind = kInt32
	case reflect.Int64, reflect.Int:
		s.kind = kInt64
	case reflect.Uint8:
		s.kind = kUint8
	case reflect.Uint16:
		s.kind = kUint16
	case reflect.Uint32:
		s.kind = kUint32
	case reflect.Uint64, reflect.Uint:
		s.kind = kUint64
	case reflect.Float32:
		s.kind = kFloat32
	case reflect.Float64:
		s.kind = kFloat64
	case reflect.String:
		s.kind = kString
	default:
		return false
	}
	return true
}

// mapKey refuses keys under which a decoded map could differ from the encoded
// one: NaN is never equal to itself, a time has a location, a pointer an address.
func (w *walker) mapKey(t reflect.Type, path string) {
	if fault := keyFault(t, ""); fault != "" {
		w.fault(path, "the key of the map %s", fault)
	}
}

// fields adds the fields of struct type t, which lies at base within s.
func (w *walker) fields(s *shape, t reflect.Type, base uintptr, prefix, path string) {
	for i := range t.NumField() {
		f := t.Field(i)
		goPath := prefix + f.Name
		at := path + "." + f.Name
		if f.Name == "_" || f.Tag.Get("state") == "-" {
			continue
		}
		tag, err := parseTag(f.Tag)
		if err != nil {
			w.fault(at, "%v", err)
			continue
		}
		if tag.skip {
			continue
		}
		if f.Anonymous && tag.name == "" && f.Type.Kind() == reflect.Struct && f.Type != typeTime && f.Type != typeDecimal {
			w.fields(s, f.Type, base+f.Offset, goPath+".", at)
			continue
		}
		if !f.IsExported() {
			w.fault(at, "an unexported field cannot be encoded: export it, or tag it `state:\"-\"` if it is set anew after every load")
			continue
		}
		name := nameOr(tag.name, snake(f.Name))
		fd := field{name: name, avro: avroIdent(name), path: goPath, off: base + f.Offset,
			skipped: tag.jsonSkip, omit: tag.omit, quoted: tag.quoted, epoch: tag.epoch, prec: tag.prec, scale: tag.scale}
		for _, o := range s.fields {
			if o.avro == fd.avro {
				w.fault(at, "it has the same name %q as the field %s: give one of them another `weir` tag", name, o.path)
			}
		}
		fd.shape = w.walk(f.Type, at, nameOr(s.name, "Row")+"_"+fd.avro)
		base := fd.shape
		for base.kind == kPtr && base.elem != nil {
			base = base.elem
		}
		if fd.epoch != epochNone && base.kind != kTime {
			w.fault(at, "the tags millis and micros are for time.Time, not for %s", f.Type)
		}
		if fd.prec != 0 && base.kind != kDecimal {
			w.fault(at, "the tag decimal(%d,%d) is for Decimal, not for %s", fd.prec, fd.scale, f.Type)
		}
		s.fields = append(s.fields, fd)
	}
}

// avroName gives a struct or fixed type its name in the schema: the Go name
// without its package, so that moving a type does not change the schema.
func (w *walker) avroName(t reflect.Type, hint string) string {
	return w.unique(nameOr(avroIdent(bareName(t)), nameOr(hint, "Row")))
}

// bareName is the type's name with the packages of its type arguments removed.
func bareName(t reflect.Type) string {
	name := t.Name()
	open := strings.IndexByte(name, '[')
	if open < 0 {
		return name
	}
	var b strings.Builder
	b.WriteString(name[:open])
	for _, arg := range strings.FieldsFunc(name[open:], func(r rune) bool { return strings.ContainsRune("[],*", r) }) {
		arg = arg[strings.LastIndexByte(arg, '/')+1:]
		b.WriteByte('_')
		b.WriteString(arg[strings.LastIndexByte(arg, '.')+1:])
	}
	return b.String()
}

func (w *walker) unique(name string) string {
	n := name
	for i := 2; w.names[n]; i++ {
		n = name + "_" + strconv.Itoa(i)
	}
	w.names[n] = true
	return n
}

func nameOr(name, other string) string {
	if name == "" {
		return other
	}
	return name
}

// avroIdent replaces what Avro does not allow in a name.
func avroIdent(s string) string {
	b := []byte(s)
	for i, c := range b {
		if !(c == '_' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9') {
			b[i] = '_'
		}
	}
	if len(b) > 0 && b[0] >= '0' && b[0] <= '9' {
		return "_" + string(b)
	}
	return string(b)
}

// flat says that values of t hold no pointers.
func flat(t reflect.Type) bool {
	switch t.Kind() {
	case reflect.Array:
		return t.Len() == 0 || flat(t.Elem())
	case reflect.Struct:
		for i := range t.NumField() {
			if !flat(t.Field(i).Type) {
				return false
			}
		}
		return true
	}
	return t.Kind() >= reflect.Bool && t.Kind() <= reflect.Complex128
}

func jsonModes(t reflect.Type) (in, to jsonMode) {
	if t == typeTime || t == typeDecimal {
		return jsonPlain, jsonPlain
	}
	if t == typeNumber {
		return jsonNumber, jsonNumber
	}
	if t.Kind() == reflect.Pointer || t.Kind() == reflect.Interface {
		return jsonPlain, jsonPlain // null is ours, the rest its element's
	}
	p := reflect.PointerTo(t)
	switch {
	case p.Implements(typeUnmarshal):
		in = jsonValue
	case p.Implements(typeUnmarshalTx):
		in = jsonText
	}
	switch {
	case p.Implements(typeMarshal):
		to = jsonValue
	case p.Implements(typeMarshalTx):
		to = jsonText
	}
	return in, to
}
