package deltalake

import (
	"context"
	"fmt"
	"iter"
	"reflect"
	"strings"
	"time"
	"unicode"
)

// structField is one exported field of a Go row type, with its column's name.
type structField struct {
	name  string
	index []int
}

// structFields maps a struct's fields to columns: the name of tag `delta`, else
// `weir`, else `json`, else the field's name in snake case; "-" leaves it out.
func structFields(t reflect.Type) []structField {
	var out []structField
	for i := range t.NumField() {
		f := t.Field(i)
		name, tagged := "", false
		for _, key := range []string{"delta", "weir", "json"} {
			if tag, ok := f.Tag.Lookup(key); ok {
				if name, _, _ = strings.Cut(tag, ","); name != "" {
					tagged = true
					break
				}
			}
		}
		if name == "-" || !f.IsExported() {
			continue
		}
		if f.Anonymous && !tagged && f.Type.Kind() == reflect.Struct && f.Type != timeType {
			for _, in := range structFields(f.Type) {
				out = append(out, structField{in.name, append([]int{i}, in.index...)})
			}
			continue
		}
		if !tagged {
			name = snakeCase(f.Name)
		}
		out = append(out, structField{name, []int{i}})
	}
	return out
}

func snakeCase(s string) string {
	var b strings.Builder
	r := []rune(s)
	for i, c := range r {
		if unicode.IsUpper(c) && i > 0 && (unicode.IsLower(r[i-1]) || unicode.IsDigit(r[i-1]) || i+1 < len(r) && unicode.IsLower(r[i+1])) {
			b.WriteByte('_')
		}
		b.WriteRune(unicode.ToLower(c))
	}
	return b.String()
}

var (
	timeType    = reflect.TypeFor[time.Time]()
	decimalType = reflect.TypeFor[Decimal]()
	bytesType   = reflect.TypeFor[[]byte]()
)

// SchemaOf returns the schema of a Go struct type: pointers, slices, maps and
// []byte are nullable, time.Time is timestamp, int is long, Decimal is
// decimal(38,0). Column names follow tag `delta`, `weir` or `json`, else snake
// case.
func SchemaOf[T any]() (*Schema, error) {
	t := reflect.TypeFor[T]()
	if t.Kind() != reflect.Struct {
		return nil, fmt.Errorf("deltalake: rows must be structs, %s is not", t)
	}
	typ, _, err := goType(t, 0)
	if err != nil {
		return nil, err
	}
	return &Schema{typ.Fields}, nil
}

func goType(t reflect.Type, depth int) (*Type, bool, error) {
	if depth > 32 {
		return nil, false, fmt.Errorf("deltalake: type %s contains itself", t)
	}
	switch t {
	case timeType:
		return Of(KindTimestamp), false, nil
	case decimalType:
		return DecimalOf(38, 0), false, nil
	case bytesType:
		return Of(KindBinary), true, nil
	}
	switch t.Kind() {
	case reflect.Pointer:
		in, _, err := goType(t.Elem(), depth+1)
		return in, true, err
	case reflect.Bool:
		return Of(KindBoolean), false, nil
	case reflect.Int8:
		return Of(KindByte), false, nil
	case reflect.Int16, reflect.Uint8:
		return Of(KindShort), false, nil
	case reflect.Int32, reflect.Uint16:
		return Of(KindInteger), false, nil
	case reflect.Int, reflect.Int64, reflect.Uint32:
		return Of(KindLong), false, nil
	case reflect.Float32:
		return Of(KindFloat), false, nil
	case reflect.Float64:
		return Of(KindDouble), false, nil
	case reflect.String:
		return Of(KindString), false, nil
	case reflect.Slice:
		in, null, err := goType(t.Elem(), depth+1)
		return &Type{Kind: KindList, Elem: in, ContainsNull: null}, true, err
	case reflect.Map:
		key, _, err := goType(t.Key(), depth+1)
		if err != nil {
			return nil, false, err
		}
		in, null, err := goType(t.Elem(), depth+1)
		return &Type{Kind: KindMap, Key: key, Elem: in, ContainsNull: null}, true, err
	case reflect.Struct:
		s := &Type{Kind: KindStruct}
		for _, f := range structFields(t) {
			in, null, err := goType(t.FieldByIndex(f.index).Type, depth+1)
			if err != nil {
				return nil, false, fmt.Errorf("%w (field %s of %s)", err, t.FieldByIndex(f.index).Name, t)
			}
			s.Fields = append(s.Fields, Field{Name: f.name, Type: in, Nullable: null})
		}
		return s, false, nil
	}
	return nil, false, fmt.Errorf("deltalake: Go type %s has no Delta type", t)
}

// getter stores row i of v in dst, which is settable.
type getter func(v *Vector, i int, dst reflect.Value) error

// Read yields the rows of a scan as Go structs. Columns are matched by name (see
// SchemaOf); only those that T names are read. A null needs a pointer, slice or
// map field.
func Read[T any](ctx context.Context, s *Snapshot, o ScanOptions) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		var zero T
		t := reflect.TypeFor[T]()
		if t.Kind() != reflect.Struct {
			yield(zero, fmt.Errorf("deltalake: rows must be structs, %s is not", t))
			return
		}
		fields := structFields(t)
		gets := make([]getter, len(fields))
		o.Columns = []string{}
		for i, f := range fields {
			j := s.spec.schema.Index(f.name)
			if j < 0 {
				yield(zero, fmt.Errorf("deltalake: column %q of %s is not in the table", f.name, t))
				return
			}
			o.Columns = append(o.Columns, f.name)
			var err error
			if gets[i], err = newGetter(s.spec.schema.Fields[j].Type, t.FieldByIndex(f.index).Type, f.name); err != nil {
				yield(zero, err)
				return
			}
		}
		for b, err := range s.Scan(ctx, o) {
			if err != nil {
				yield(zero, err)
				return
			}
			for i := range b.Len {
				var row T
				rv := reflect.ValueOf(&row).Elem()
				for k := range fields {
					if err := gets[k](b.Columns[k], i, rv.FieldByIndex(fields[k].index)); err != nil {
						yield(zero, err)
						return
					}
				}
				if !yield(row, nil) {
					return
				}
			}
		}
	}
}

func newGetter(t *Type, g reflect.Type, name string) (getter, error) {
	if g.Kind() == reflect.Pointer {
		in, err := newGetter(t, g.Elem(), name)
		if err != nil {
			return nil, err
		}
		return func(v *Vector, i int, dst reflect.Value) error {
			if v.Null(i) {
				dst.SetZero()
				return nil
			}
			p := reflect.New(g.Elem())
			dst.Set(p)
			return in(v, i, p.Elem())
		}, nil
	}
	get, err := plainGetter(t, g, name)
	if err != nil {
		return nil, err
	}
	nullable := g.Kind() == reflect.Slice || g.Kind() == reflect.Map
	return func(v *Vector, i int, dst reflect.Value) error {
		if v.Null(i) {
			if !nullable {
				return fmt.Errorf("deltalake: column %q is null in a row; make its Go field a pointer", name)
			}
			dst.SetZero()
			return nil
		}
		return get(v, i, dst)
	}, nil
}

func plainGetter(t *Type, g reflect.Type, name string) (getter, error) {
	mismatch := fmt.Errorf("deltalake: column %q is %s, which a Go field of type %s cannot hold", name, t, g)
	isInt := g.Kind() >= reflect.Int && g.Kind() <= reflect.Int64
	switch {
	case t.Kind == KindBoolean && g.Kind() == reflect.Bool:
		return func(v *Vector, i int, dst reflect.Value) error { dst.SetBool(v.Bools[i]); return nil }, nil
	case (t.Kind == KindByte || t.Kind == KindShort || t.Kind == KindInteger || t.Kind == KindLong || t.Kind == KindDate) && isInt:
		wide := t.Kind == KindLong
		return func(v *Vector, i int, dst reflect.Value) error {
			var x int64
			if wide {
				x = v.Longs[i]
			} else {
				x = int64(v.Ints[i])
			}
			if dst.OverflowInt(x) {
				return fmt.Errorf("deltalake: column %q holds %d, which its Go field cannot hold", name, x)
			}
			dst.SetInt(x)
			return nil
		}, nil
	case t.Kind == KindFloat && (g.Kind() == reflect.Float32 || g.Kind() == reflect.Float64):
		return func(v *Vector, i int, dst reflect.Value) error { dst.SetFloat(float64(v.Floats[i])); return nil }, nil
	case t.Kind == KindDouble && g.Kind() == reflect.Float64:
		return func(v *Vector, i int, dst reflect.Value) error { dst.SetFloat(v.Doubles[i]); return nil }, nil
	case t.Kind == KindDecimal && g == decimalType:
		return func(v *Vector, i int, dst reflect.Value) error { dst.Set(reflect.ValueOf(v.Decimals[i])); return nil }, nil
	case t.Kind == KindDecimal && g.Kind() == reflect.String:
		return func(v *Vector, i int, dst reflect.Value) error {
			dst.SetString(v.Decimals[i].Text(t.Scale))
			return nil
		}, nil
	case (t.Kind == KindString || t.Kind == KindBinary) && g.Kind() == reflect.String:
		return func(v *Vector, i int, dst reflect.Value) error { dst.SetString(v.StringAt(i)); return nil }, nil
	case (t.Kind == KindString || t.Kind == KindBinary) && g == bytesType:
		return func(v *Vector, i int, dst reflect.Value) error {
			dst.SetBytes(append([]byte{}, v.Bytes(i)...))
			return nil
		}, nil
	case (t.Kind == KindTimestamp || t.Kind == KindTimestampNTZ) && g == timeType:
		return func(v *Vector, i int, dst reflect.Value) error {
			dst.Set(reflect.ValueOf(time.UnixMicro(v.Longs[i]).UTC()))
			return nil
		}, nil
	case t.Kind == KindDate && g == timeType:
		return func(v *Vector, i int, dst reflect.Value) error {
			dst.Set(reflect.ValueOf(time.Unix(int64(v.Ints[i])*86400, 0).UTC()))
			return nil
		}, nil
	case (t.Kind == KindTimestamp || t.Kind == KindTimestampNTZ) && isInt && g.Size() == 8:
		return func(v *Vector, i int, dst reflect.Value) error { dst.SetInt(v.Longs[i]); return nil }, nil
	case t.Kind == KindList && g.Kind() == reflect.Slice:
		return listGetter(t, g, name)
	case t.Kind == KindMap && g.Kind() == reflect.Map:
		return mapGetter(t, g, name)
	case t.Kind == KindStruct && g.Kind() == reflect.Struct:
		return structGetter(t, g, name)
	}
	return nil, mismatch
}

func listGetter(t *Type, g reflect.Type, name string) (getter, error) {
	elem, err := newGetter(t.Elem, g.Elem(), name+".element")
	if err != nil {
		return nil, err
	}
	return func(v *Vector, i int, dst reflect.Value) error {
		lo, hi := int(v.Offsets[i]), int(v.Offsets[i+1])
		s := reflect.MakeSlice(g, hi-lo, hi-lo)
		for k := lo; k < hi; k++ {
			if err := elem(v.Children[0], k, s.Index(k-lo)); err != nil {
				return err
			}
		}
		dst.Set(s)
		return nil
	}, nil
}

func mapGetter(t *Type, g reflect.Type, name string) (getter, error) {
	key, err := newGetter(t.Key, g.Key(), name+".key")
	if err != nil {
		return nil, err
	}
	val, err := newGetter(t.Elem, g.Elem(), name+".value")
	if err != nil {
		return nil, err
	}
	return func(v *Vector, i int, dst reflect.Value) error {
		m := reflect.MakeMap(g)
		for k := int(v.Offsets[i]); k < int(v.Offsets[i+1]); k++ {
			kv, vv := reflect.New(g.Key()).Elem(), reflect.New(g.Elem()).Elem()
			if err := key(v.Children[0], k, kv); err != nil {
				return err
			}
			if err := val(v.Children[1], k, vv); err != nil {
				return err
			}
			m.SetMapIndex(kv, vv)
		}
		dst.Set(m)
		return nil
	}, nil
}

func structGetter(t *Type, g reflect.Type, name string) (getter, error) {
	type member struct {
		child int
		index []int
		get   getter
	}
	var members []member
	for _, f := range structFields(g) {
		i := fieldIndex(t.Fields, f.name)
		if i < 0 {
			return nil, fmt.Errorf("deltalake: member %q of column %q is not in the table", f.name, name)
		}
		get, err := newGetter(t.Fields[i].Type, g.FieldByIndex(f.index).Type, name+"."+f.name)
		if err != nil {
			return nil, err
		}
		members = append(members, member{i, f.index, get})
	}
	return func(v *Vector, i int, dst reflect.Value) error {
		for _, m := range members {
			if err := m.get(v.Children[m.child], i, dst.FieldByIndex(m.index)); err != nil {
				return err
			}
		}
		return nil
	}, nil
}

// BatchOf turns Go structs into a batch of schema s. Columns are matched by name;
// columns that T lacks are null.
func BatchOf[T any](s *Schema, rows []T) (*Batch, error) {
	b := NewBatch(s)
	t := reflect.TypeFor[T]()
	if t.Kind() != reflect.Struct {
		return nil, fmt.Errorf("deltalake: rows must be structs, %s is not", t)
	}
	index := make([][]int, len(s.Fields))
	for _, f := range structFields(t) {
		i := s.Index(f.name)
		if i < 0 {
			return nil, fmt.Errorf("deltalake: field %q of %s is not a column of the table", f.name, t)
		}
		index[i] = f.index
	}
	for r := range rows {
		rv := reflect.ValueOf(&rows[r]).Elem()
		for i, c := range b.Columns {
			if index[i] == nil {
				c.AppendNull()
			} else if err := c.appendGo(rv.FieldByIndex(index[i]), s.Fields[i].Name); err != nil {
				return nil, err
			}
		}
	}
	b.Len = len(rows)
	return b, nil
}

// appendGo adds a Go value to the vector.
func (v *Vector) appendGo(x reflect.Value, name string) error {
	if (x.Kind() == reflect.Pointer || x.Kind() == reflect.Slice || x.Kind() == reflect.Map || x.Kind() == reflect.Interface) && x.IsNil() {
		v.AppendNull()
		return nil
	}
	if x.Kind() == reflect.Pointer || x.Kind() == reflect.Interface {
		return v.appendGo(x.Elem(), name)
	}
	var a value
	switch {
	case x.Type() == timeType:
		tm, _ := x.Interface().(time.Time)
		if tm.Nanosecond()%1000 != 0 {
			return fmt.Errorf("deltalake: column %q: %s is finer than a microsecond; truncate it first", name, tm.Format(time.RFC3339Nano))
		}
		a = value{kind: vTime, i: tm.Unix()*1e6 + int64(tm.Nanosecond())/1000}
	case x.Type() == decimalType:
		d, _ := x.Interface().(Decimal)
		a = value{kind: vDecimal, d: d, scale: v.Type.Scale}
	case x.Type() == bytesType:
		a = textValue(string(x.Bytes()))
	case x.CanInt():
		a = value{kind: vInt, i: x.Int()}
		if v.Type.Kind == KindTimestamp || v.Type.Kind == KindTimestampNTZ {
			a.kind = vTime
		} else if v.Type.Kind == KindDate {
			a.kind = vDate
		}
	case x.CanUint() && x.Uint() < 1<<63:
		a = value{kind: vInt, i: int64(x.Uint())}
	case x.CanFloat():
		a = value{kind: vFloat, f: x.Float()}
	case x.Kind() == reflect.Bool:
		a = boolValue(x.Bool())
	case x.Kind() == reflect.String:
		a = textValue(x.String())
	default:
		return v.appendNested(x, name)
	}
	if !v.Type.primitive() || !v.appendValue(a) {
		return fmt.Errorf("deltalake: column %q is %s and cannot hold %s", name, v.Type, a.text())
	}
	return nil
}

func (v *Vector) appendNested(x reflect.Value, name string) error {
	switch {
	case v.Type.Kind == KindList && x.Kind() == reflect.Slice:
		for i := range x.Len() {
			if err := v.Children[0].appendGo(x.Index(i), name+".element"); err != nil {
				return err
			}
		}
	case v.Type.Kind == KindMap && x.Kind() == reflect.Map:
		for it := x.MapRange(); it.Next(); {
			if err := v.Children[0].appendGo(it.Key(), name+".key"); err != nil {
				return err
			}
			if err := v.Children[1].appendGo(it.Value(), name+".value"); err != nil {
				return err
			}
		}
	case v.Type.Kind == KindStruct && x.Kind() == reflect.Struct:
		index := make([][]int, len(v.Children))
		for _, f := range structFields(x.Type()) {
			if i := fieldIndex(v.Type.Fields, f.name); i >= 0 {
				index[i] = f.index
			}
		}
		for i, c := range v.Children {
			if index[i] == nil {
				c.AppendNull()
			} else if err := c.appendGo(x.FieldByIndex(index[i]), name+"."+v.Type.Fields[i].Name); err != nil {
				return err
			}
		}
	default:
		return fmt.Errorf("deltalake: column %q is %s, which Go type %s does not match", name, v.Type, x.Type())
	}
	v.AppendElements()
	return nil
}

// Row is one row as Go values by column name: nil, bool, int32, int64, float32,
// float64, string, []byte, Number (decimal), time.Time (timestamps and dates),
// []any, []Entry (map) and Row (struct).
type Row map[string]any

// Number is the text of a decimal.
type Number string

// Entry is one pair of a map.
type Entry struct{ Key, Value any }

// Rows yields the rows of a scan as generic Go values.
func (s *Snapshot) Rows(ctx context.Context, o ScanOptions) iter.Seq2[Row, error] {
	return func(yield func(Row, error) bool) {
		for b, err := range s.Scan(ctx, o) {
			if err != nil {
				yield(nil, err)
				return
			}
			for i := range b.Len {
				row := make(Row, len(b.Columns))
				for j, c := range b.Columns {
					row[b.Schema.Fields[j].Name] = c.Value(i)
				}
				if !yield(row, nil) {
					return
				}
			}
		}
	}
}

// Value returns row i as a Go value, as Row describes.
func (v *Vector) Value(i int) any {
	if v.Null(i) {
		return nil
	}
	switch v.Type.Kind {
	case KindBoolean:
		return v.Bools[i]
	case KindByte, KindShort, KindInteger:
		return v.Ints[i]
	case KindLong:
		return v.Longs[i]
	case KindFloat:
		return v.Floats[i]
	case KindDouble:
		return v.Doubles[i]
	case KindDecimal:
		return Number(v.Decimals[i].Text(v.Type.Scale))
	case KindString:
		return v.StringAt(i)
	case KindBinary:
		return append([]byte{}, v.Bytes(i)...)
	case KindDate:
		return time.Unix(int64(v.Ints[i])*86400, 0).UTC()
	case KindTimestamp, KindTimestampNTZ:
		return time.UnixMicro(v.Longs[i]).UTC()
	case KindStruct:
		row := make(Row, len(v.Children))
		for j, c := range v.Children {
			row[v.Type.Fields[j].Name] = c.Value(i)
		}
		return row
	}
	lo, hi := int(v.Offsets[i]), int(v.Offsets[i+1])
	if v.Type.Kind == KindList {
		list := make([]any, 0, hi-lo)
		for k := lo; k < hi; k++ {
			list = append(list, v.Children[0].Value(k))
		}
		return list
	}
	entries := make([]Entry, 0, hi-lo)
	for k := lo; k < hi; k++ {
		entries = append(entries, Entry{v.Children[0].Value(k), v.Children[1].Value(k)})
	}
	return entries
}
