package driver

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"
	"unsafe"

	"github.com/weirstream/weir/deltalake"
	"github.com/weirstream/weir/internal/codec"
)

// rowsAt addresses some rows of a batch: row i is at base + at[i]×size.
type rowsAt struct {
	base unsafe.Pointer
	size uintptr
	at   []int32
}

func (r *rowsAt) row(i int) unsafe.Pointer {
	return unsafe.Add(r.base, uintptr(r.at[i])*r.size)
}

// A filler appends one column of the given rows to a vector.
type filler func(v *deltalake.Vector, r *rowsAt) error

// An appender appends the one value that stands at the column's place in the
// struct, row or element at p.
type appender func(v *deltalake.Vector, p unsafe.Pointer) error

// compile makes the filler of column c for vectors of type t. A nil column makes
// nulls. Flat columns that cannot be null get a loop of their own.
func compile(c *codec.Column, t *deltalake.Type) filler {
	if c == nil {
		return func(v *deltalake.Vector, r *rowsAt) error {
			for range r.at {
				v.AppendNull()
			}
			return nil
		}
	}
	if !c.Nullable {
		if f := flat(c, t); f != nil {
			return f
		}
	}
	one := compileOne(c, t)
	return func(v *deltalake.Vector, r *rowsAt) error {
		for i := range r.at {
			if err := one(v, r.row(i)); err != nil {
				return err
			}
		}
		return nil
	}
}

// flat returns the loop for the common kinds, nil for others.
func flat(c *codec.Column, t *deltalake.Type) filler {
	switch {
	case c.Kind == reflect.Int64 && t.Kind == deltalake.KindLong, c.Kind == reflect.Int && t.Kind == deltalake.KindLong:
		return longs(c.Offset, func(p unsafe.Pointer) int64 { return *(*int64)(p) })
	case c.Kind == reflect.Int32 && t.Kind == deltalake.KindLong:
		return longs(c.Offset, func(p unsafe.Pointer) int64 { return int64(*(*int32)(p)) })
	case c.Kind == reflect.Int32 && t.Kind == deltalake.KindInteger:
		off := c.Offset
		return func(v *deltalake.Vector, r *rowsAt) error {
			for i := range r.at {
				v.Ints = append(v.Ints, *(*int32)(unsafe.Add(r.row(i), off)))
			}
			grown(v, len(r.at))
			return nil
		}
	case c.Type == codec.ColDouble:
		off := c.Offset
		return func(v *deltalake.Vector, r *rowsAt) error {
			for i := range r.at {
				v.Doubles = append(v.Doubles, *(*float64)(unsafe.Add(r.row(i), off)))
			}
			grown(v, len(r.at))
			return nil
		}
	case c.Type == codec.ColString:
		off := c.Offset
		return func(v *deltalake.Vector, r *rowsAt) error {
			for i := range r.at {
				v.Data = append(v.Data, *(*string)(unsafe.Add(r.row(i), off))...)
				v.Offsets = append(v.Offsets, int32(len(v.Data)))
			}
			grown(v, len(r.at))
			return nil
		}
	case c.Type == codec.ColTimestamp:
		off := c.Offset
		return func(v *deltalake.Vector, r *rowsAt) error {
			for i := range r.at {
				at := (*time.Time)(unsafe.Add(r.row(i), off))
				if sec := at.Unix(); at.Nanosecond()%1000 == 0 && sec > -1<<42 && sec < 1<<42 {
					v.Longs = append(v.Longs, sec*1e6+int64(at.Nanosecond()/1000))
					continue
				}
				if _, err := c.Micros(unsafe.Pointer(at)); err != nil {
					return fmt.Errorf("%s: %w", who, err)
				}
				v.Longs = append(v.Longs, at.UnixMicro())
			}
			grown(v, len(r.at))
			return nil
		}
	}
	return nil
}

func longs(off uintptr, load func(p unsafe.Pointer) int64) filler {
	return func(v *deltalake.Vector, r *rowsAt) error {
		from := len(v.Longs)
		v.Longs = slices.Grow(v.Longs, len(r.at))[:from+len(r.at)]
		for i := range r.at {
			v.Longs[from+i] = load(unsafe.Add(r.row(i), off))
		}
		grown(v, len(r.at))
		return nil
	}
}

// grown accounts for n rows whose slots were appended directly.
func grown(v *deltalake.Vector, n int) {
	v.Len += n
	if v.Valid != nil {
		for range n {
			v.Valid = append(v.Valid, true)
		}
	}
}

// compileOne makes the appender of column c for vectors of type t; nil c makes
// nulls.
func compileOne(c *codec.Column, t *deltalake.Type) appender {
	if c == nil {
		return func(v *deltalake.Vector, _ unsafe.Pointer) error { v.AppendNull(); return nil }
	}
	value := compileValue(c, t)
	return func(v *deltalake.Vector, p unsafe.Pointer) error {
		q := c.Value(p)
		if q == nil {
			v.AppendNull()
			return nil
		}
		return value(v, q)
	}
}

// compileValue makes the appender of a value that is not null, given its address.
func compileValue(c *codec.Column, t *deltalake.Type) appender {
	switch c.Type {
	case codec.ColBool:
		return func(v *deltalake.Vector, q unsafe.Pointer) error { v.AppendBool(*(*bool)(q)); return nil }
	case codec.ColInt, codec.ColLong:
		if t.Kind == deltalake.KindLong {
			return func(v *deltalake.Vector, q unsafe.Pointer) error { v.AppendLong(c.Int64(q)); return nil }
		}
		return func(v *deltalake.Vector, q unsafe.Pointer) error { v.AppendInt(int32(c.Int64(q))); return nil }
	case codec.ColFloat:
		if t.Kind == deltalake.KindDouble {
			return func(v *deltalake.Vector, q unsafe.Pointer) error { v.AppendDouble(float64(*(*float32)(q))); return nil }
		}
		return func(v *deltalake.Vector, q unsafe.Pointer) error { v.AppendFloat(*(*float32)(q)); return nil }
	case codec.ColDouble:
		return func(v *deltalake.Vector, q unsafe.Pointer) error { v.AppendDouble(*(*float64)(q)); return nil }
	case codec.ColString, codec.ColBytes:
		return func(v *deltalake.Vector, q unsafe.Pointer) error { v.AppendBytes(c.Bytes(q)); return nil }
	case codec.ColTimestamp:
		return func(v *deltalake.Vector, q unsafe.Pointer) error {
			micros, err := c.Micros(q)
			if err != nil {
				return fmt.Errorf("%s: %w", who, err)
			}
			v.AppendLong(micros)
			return nil
		}
	case codec.ColDecimal:
		return compileDecimal(c, t)
	case codec.ColStruct:
		return compileStruct(c, t)
	case codec.ColList:
		return compileList(c, t)
	case codec.ColMap:
		return compileMap(c, t)
	}
	panic(fmt.Sprintf("delta sink: column %q of type %q has no conversion", c.Name, c.Type))
}

func compileDecimal(c *codec.Column, t *deltalake.Type) appender {
	return func(v *deltalake.Vector, q unsafe.Pointer) error {
		d, err := c.Decimal(q)
		if err == nil && d.Scale() != t.Scale { // the table's own scale is larger
			d, err = d.Rescale(t.Scale)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", who, err)
		}
		hi, lo := d.Parts()
		v.AppendDecimal(deltalake.Decimal{Hi: hi, Lo: lo})
		return nil
	}
}

func compileStruct(c *codec.Column, t *deltalake.Type) appender {
	members := make([]appender, len(t.Fields))
	for i := range t.Fields {
		members[i] = compileOne(columnFor(c.Fields, t.Fields[i].Name), t.Fields[i].Type)
	}
	return func(v *deltalake.Vector, q unsafe.Pointer) error {
		for i, m := range members {
			if err := m(v.Children[i], q); err != nil {
				return err
			}
		}
		v.AppendElements()
		return nil
	}
}

func compileList(c *codec.Column, t *deltalake.Type) appender {
	elem := compileOne(c.Elem, t.Elem)
	return func(v *deltalake.Vector, q unsafe.Pointer) error {
		base, n := c.List(q)
		for i := range n {
			if err := elem(v.Children[0], unsafe.Add(base, uintptr(i)*c.Elem.Size)); err != nil {
				return err
			}
		}
		v.AppendElements()
		return nil
	}
}

func compileMap(c *codec.Column, t *deltalake.Type) appender {
	key, value := compileOne(c.Key, t.Key), compileOne(c.Elem, t.Elem)
	return func(v *deltalake.Vector, q unsafe.Pointer) error {
		var err error
		c.Map(q, func(k, e unsafe.Pointer) bool {
			if err = key(v.Children[0], k); err == nil {
				err = value(v.Children[1], e)
			}
			return err == nil
		})
		if err != nil {
			return err
		}
		v.AppendElements()
		return nil
	}
}

// columnFor finds the column of a table's field; Delta's names ignore case.
func columnFor(cols []codec.Column, name string) *codec.Column {
	for i := range cols {
		if strings.EqualFold(cols[i].Name, name) {
			return &cols[i]
		}
	}
	return nil
}
