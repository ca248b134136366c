package codec

import (
	"errors"
	"fmt"
	"math"
	"reflect"
	"time"
	"unsafe"

	"github.com/weirstream/weir/dataflow"
)

// A ColumnType is the type of a column as tables know it.
type ColumnType string

// The types of columns, and the Go types that have them.
const (
	ColBool      ColumnType = "boolean"
	ColInt       ColumnType = "int"       // int8, int16, int32, uint8, uint16
	ColLong      ColumnType = "long"      // int, int64, uint32, time.Duration (nanoseconds)
	ColFloat     ColumnType = "float"     // float32
	ColDouble    ColumnType = "double"    // float64
	ColString    ColumnType = "string"    // string
	ColBytes     ColumnType = "binary"    // []byte, [n]byte
	ColTimestamp ColumnType = "timestamp" // time.Time: microseconds UTC
	ColDecimal   ColumnType = "decimal"   // dataflow.Decimal; uint and uint64 as decimal(20,0)
	ColStruct    ColumnType = "struct"
	ColList      ColumnType = "list" // slices and arrays
	ColMap       ColumnType = "map"
)

// DefaultPrecision and DefaultScale are those of a Decimal without a tag such as
// `weir:"price,decimal(12,2)"`: Spark's default.
const (
	DefaultPrecision = 38
	DefaultScale     = 18
)

// A Column describes one field of a row type, so that a sink can copy values out
// of a batch by address. Fields of embedded structs stand beside the others;
// other structs are columns with Fields.
type Column struct {
	Name     string
	Path     string       // of the Go field within its struct, "Base.ID"; "" for elements and bare rows
	Type     ColumnType   // of the value, behind the pointer if there is one
	Go       reflect.Type // of the value, behind the pointer if there is one
	Kind     reflect.Kind // of Go
	Offset   uintptr      // from the start of the value that holds it: the row, or for Fields the struct
	Size     uintptr      // of what stands at Offset: a pointer's, if Pointer
	Pointer  bool         // at Offset stands a pointer; nil is null
	Nullable bool         // Pointer, slice, []byte or map: nil is null
	Len      int          // of [n]byte and arrays
	Precision,
	Scale int // ColDecimal

	Fields []Column // ColStruct
	Elem   *Column  // ColList, ColMap: the values; Offset 0
	Key    *Column  // ColMap; Offset 0
}

// Columns describes the fields of t in the order of their declaration. A type
// that is no struct has one column, "value". The error names all fields that no
// table can hold.
func Columns(t reflect.Type) ([]Column, error) {
	s, err := shapeOf(t)
	if err != nil {
		return nil, err
	}
	c := columnWalk{open: map[*shape]bool{}}
	var cols []Column
	if s.kind == kStruct {
		cols = c.fields(s, typeName(t))
	} else {
		cols = []Column{c.column(s, typeName(t), field{name: "value", shape: s})}
	}
	if err := errors.Join(c.errs...); err != nil {
		return nil, err
	}
	return cols, nil
}

type columnWalk struct {
	open map[*shape]bool // structs being walked
	errs []error
}

func (w *columnWalk) fields(s *shape, path string) []Column {
	if w.open[s] {
		w.errs = append(w.errs, fmt.Errorf("codec: %s: a table cannot hold the recursive type %s", path, s.typ))
		return nil
	}
	w.open[s] = true
	defer delete(w.open, s)
	cols := make([]Column, 0, len(s.fields))
	for _, f := range s.fields {
		cols = append(cols, w.column(f.shape, path+"."+f.path, f))
	}
	return cols
}

func (w *columnWalk) column(s *shape, path string, f field) Column {
	c := Column{Name: f.name, Path: f.path, Offset: f.off, Size: s.size, Nullable: s.nullable()}
	if s.kind == kPtr {
		c.Pointer = true
		s = s.elem
		if s.nullable() {
			w.errs = append(w.errs, fmt.Errorf("codec: %s: a table cannot hold a pointer to %s, which can be nil itself: drop the pointer", path, s.typ))
			return c
		}
	}
	c.Go, c.Kind, c.Len = s.typ, s.typ.Kind(), s.n
	elem := func(s *shape, name string) *Column {
		e := w.column(s, path+"[]", field{name: name, shape: s, prec: f.prec, scale: f.scale})
		return &e
	}
	switch s.kind {
	case kBool:
		c.Type = ColBool
	case kInt8, kInt16, kInt32, kUint8, kUint16:
		c.Type = ColInt
	case kInt64, kUint32:
		c.Type = ColLong
	case kUint64:
		c.Type, c.Precision = ColDecimal, 20
	case kFloat32:
		c.Type = ColFloat
	case kFloat64:
		c.Type = ColDouble
	case kString:
		c.Type = ColString
	case kBytes, kFixed:
		c.Type = ColBytes
	case kTime:
		c.Type = ColTimestamp
	case kDecimal:
		c.Type, c.Precision, c.Scale = ColDecimal, f.prec, f.scale
		if f.prec == 0 {
			c.Precision, c.Scale = DefaultPrecision, DefaultScale
		}
	case kStruct:
		c.Type, c.Fields = ColStruct, w.fields(s, path)
	case kSlice, kArray:
		c.Type, c.Elem = ColList, elem(s.elem, "element")
	case kMap:
		c.Type, c.Key, c.Elem = ColMap, elem(s.key, "key"), elem(s.elem, "value")
	}
	return c
}

// Value returns the address of the column's value in the struct (or row, or
// element) at p, nil if it is null.
func (c *Column) Value(p unsafe.Pointer) unsafe.Pointer {
	p = unsafe.Add(p, c.Offset)
	if !c.Nullable {
		return p
	}
	// Pointers, slices and maps all begin with a pointer that only nil has as nil.
	if q := *(*unsafe.Pointer)(p); c.Pointer || q == nil {
		return q
	}
	return p
}

// Int64 returns the integer at v, an address from Value of a ColInt or ColLong
// column.
func (c *Column) Int64(v unsafe.Pointer) int64 {
	switch c.Kind {
	case reflect.Int8:
		return int64(*(*int8)(v))
	case reflect.Int16:
		return int64(*(*int16)(v))
	case reflect.Int32:
		return int64(*(*int32)(v))
	case reflect.Uint8:
		return int64(*(*uint8)(v))
	case reflect.Uint16:
		return int64(*(*uint16)(v))
	case reflect.Uint32:
		return int64(*(*uint32)(v))
	}
	return *(*int64)(v)
}

// Bytes returns the bytes at v, an address from Value of a ColString or ColBytes
// column. They are the row's own.
func (c *Column) Bytes(v unsafe.Pointer) []byte {
	switch c.Kind {
	case reflect.String:
		s := *(*string)(v)
		return unsafe.Slice(unsafe.StringData(s), len(s))
	case reflect.Array:
		return unsafe.Slice((*byte)(v), c.Len)
	}
	return *(*[]byte)(v)
}

// Micros returns the time at v, an address from Value of a ColTimestamp column,
// in microseconds. A finer time is an error: tables cannot hold it.
func (c *Column) Micros(v unsafe.Pointer) (int64, error) {
	t := *(*time.Time)(v)
	sec, nanos := t.Unix(), t.Nanosecond()
	if nanos%1000 != 0 {
		return 0, fmt.Errorf("codec: column %s: %s is finer than a microsecond: truncate it", c.Name, t.UTC().Format(time.RFC3339Nano))
	}
	if sec > math.MaxInt64/1_000_000-1 || sec < math.MinInt64/1_000_000+1 {
		return 0, fmt.Errorf("codec: column %s: the year %d is out of range", c.Name, t.Year())
	}
	return sec*1e6 + int64(nanos/1000), nil
}

// Decimal returns the number at v, an address from Value of a ColDecimal column,
// with the column's scale. A number that does not fit the column's type exactly
// is an error.
func (c *Column) Decimal(v unsafe.Pointer) (dataflow.Decimal, error) {
	if c.Kind != reflect.Struct {
		return dataflow.DecimalFromParts(0, *(*uint64)(v), 0)
	}
	d, err := (*dataflow.Decimal)(v).Rescale(c.Scale)
	if err != nil {
		return d, fmt.Errorf("codec: column %s: %w", c.Name, err)
	}
	if d.Precision() > c.Precision {
		return d, fmt.Errorf("codec: column %s: %s has more digits than decimal(%d,%d)", c.Name, d, c.Precision, c.Scale)
	}
	return d, nil
}

// List returns the address of the first element and the number of elements at v,
// an address from Value of a ColList column. Elements are Elem.Size apart.
func (c *Column) List(v unsafe.Pointer) (base unsafe.Pointer, n int) {
	if c.Kind == reflect.Array {
		return v, c.Len
	}
	s := *(*[]byte)(v) // any slice has this header
	return unsafe.Pointer(unsafe.SliceData(s)), len(s)
}

// Map calls yield with the addresses of a copy of each key and value at v, an
// address from Value of a ColMap column, in no order. They are valid during the
// call.
func (c *Column) Map(v unsafe.Pointer, yield func(key, value unsafe.Pointer) bool) {
	m := reflect.NewAt(c.Go, v).Elem()
	key, val := reflect.New(c.Go.Key()), reflect.New(c.Go.Elem())
	for it := m.MapRange(); it.Next(); {
		key.Elem().SetIterKey(it)
		val.Elem().SetIterValue(it)
		if !yield(key.UnsafePointer(), val.UnsafePointer()) {
			return
		}
	}
}
