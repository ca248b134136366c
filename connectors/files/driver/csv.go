package driver

import (
	"errors"
	"fmt"
	"math"
	"reflect"
	"strconv"
	"time"
	"unsafe"

	"github.com/weirstream/weir/dataflow"
	"github.com/weirstream/weir/internal/codec"
	"github.com/weirstream/weir/stream/spi"
)

// csvCodec writes and reads one line of comma-separated values per row, in the
// order of the fields, quoted as in RFC 4180 but never over several lines. An
// empty field is null for pointers and the zero value for others; times are RFC
// 3339, or microseconds since 1970 when read.
type csvCodec struct {
	elem reflect.Type
	cols []codec.Column
}

func newCSV(elem reflect.Type) (spi.Codec, error) {
	cols, err := codec.Columns(elem)
	if err != nil {
		return nil, err
	}
	var errs []error
	for i := range cols {
		switch cols[i].Type {
		case codec.ColStruct, codec.ColList, codec.ColMap, codec.ColBytes:
			errs = append(errs, fmt.Errorf("the field %s of %v is a %s, which has no place in a CSV line: use json, or flat fields", cols[i].Path, elem, cols[i].Type))
		}
	}
	return &csvCodec{elem, cols}, errors.Join(errs...)
}

// Schema returns "": lines have none.
func (c *csvCodec) Schema() string { return "" }

// Append appends a line without its end.
func (c *csvCodec) Append(dst []byte, p unsafe.Pointer) ([]byte, error) {
	for i := range c.cols {
		if i > 0 {
			dst = append(dst, ',')
		}
		col := &c.cols[i]
		v := col.Value(p)
		if v == nil {
			continue
		}
		switch col.Type {
		case codec.ColBool:
			dst = strconv.AppendBool(dst, *(*bool)(v))
		case codec.ColInt, codec.ColLong:
			dst = strconv.AppendInt(dst, col.Int64(v), 10)
		case codec.ColFloat:
			dst = strconv.AppendFloat(dst, float64(*(*float32)(v)), 'g', -1, 32)
		case codec.ColDouble:
			dst = strconv.AppendFloat(dst, *(*float64)(v), 'g', -1, 64)
		case codec.ColString:
			var err error
			if dst, err = appendField(dst, col.Bytes(v)); err != nil {
				return dst, fmt.Errorf("field %s: %w", col.Path, err)
			}
		case codec.ColTimestamp:
			dst = (*(*time.Time)(v)).UTC().AppendFormat(dst, time.RFC3339Nano)
		case codec.ColDecimal:
			d, err := col.Decimal(v)
			if err != nil {
				return dst, err
			}
			dst = append(dst, d.String()...)
		}
	}
	return dst, nil
}

// appendField quotes text where it must be. A present empty text is quoted, to
// tell it from null.
func appendField(dst, text []byte) ([]byte, error) {
	quote := len(text) == 0
	for _, b := range text {
		switch b {
		case '\n', '\r':
			return dst, errors.New("it holds a line break")
		case '"', ',':
			quote = true
		}
	}
	if !quote {
		return append(dst, text...), nil
	}
	dst = append(dst, '"')
	for _, b := range text {
		if b == '"' {
			dst = append(dst, '"')
		}
		dst = append(dst, b)
	}
	return append(dst, '"'), nil
}

// Decode sets the zero row at p from a line.
func (c *csvCodec) Decode(src []byte, p unsafe.Pointer, a *spi.Arena) error {
	rest, more := src, true
	for i := range c.cols {
		if !more {
			return fmt.Errorf("the line has %d fields, %v has %d", i, c.elem, len(c.cols))
		}
		var field []byte
		var quoted bool
		var err error
		if field, quoted, rest, more, err = cutField(rest); err == nil && (len(field) > 0 || quoted) {
			err = set(&c.cols[i], p, field, a)
		}
		if err != nil {
			return fmt.Errorf("field %s: %w", c.cols[i].Path, err)
		}
	}
	if more {
		return fmt.Errorf("the line has more than the %d fields of %v", len(c.cols), c.elem)
	}
	return nil
}

// cutField takes the first field off a line; more tells that a comma followed.
func cutField(line []byte) (field []byte, quoted bool, rest []byte, more bool, err error) {
	if len(line) == 0 || line[0] != '"' {
		for i, b := range line {
			if b == ',' {
				return line[:i], false, line[i+1:], true, nil
			}
		}
		return line, false, nil, false, nil
	}
	out := make([]byte, 0, len(line))
	for i := 1; i < len(line); i++ {
		if line[i] != '"' {
			out = append(out, line[i])
			continue
		}
		switch {
		case i+1 == len(line):
			return out, true, nil, false, nil
		case line[i+1] == ',':
			return out, true, line[i+2:], true, nil
		case line[i+1] == '"':
			out = append(out, '"')
			i++
		default:
			return nil, false, nil, false, errors.New("a quote stands inside the text: double it")
		}
	}
	return nil, false, nil, false, errors.New("the quote is not closed (fields over several lines are not read)")
}

// set stores one field. Pointers get a new value.
func set(col *codec.Column, p unsafe.Pointer, field []byte, a *spi.Arena) error {
	v := unsafe.Add(p, col.Offset)
	if col.Pointer {
		fresh := reflect.New(col.Go)
		*(*unsafe.Pointer)(v) = fresh.UnsafePointer()
		v = fresh.UnsafePointer()
	}
	text := unsafe.String(unsafe.SliceData(field), len(field))
	switch col.Type {
	case codec.ColString:
		reflect.NewAt(col.Go, v).Elem().SetString(a.String(field))
	case codec.ColBool:
		b, err := strconv.ParseBool(text)
		if err != nil {
			return fmt.Errorf("%q is neither true nor false", field)
		}
		*(*bool)(v) = b
	case codec.ColInt, codec.ColLong:
		return setWhole(reflect.NewAt(col.Go, v).Elem(), field)
	case codec.ColFloat, codec.ColDouble:
		bits := 64
		if col.Type == codec.ColFloat {
			bits = 32
		}
		f, err := strconv.ParseFloat(text, bits)
		if err != nil || math.IsInf(f, 0) && len(field) > 6 {
			return fmt.Errorf("%q is not a number", field)
		}
		reflect.NewAt(col.Go, v).Elem().SetFloat(f)
	case codec.ColTimestamp:
		t, err := time.Parse(time.RFC3339Nano, text)
		if err != nil {
			micros, e := strconv.ParseInt(text, 10, 64)
			if e != nil {
				return fmt.Errorf("%q is not a time such as 2026-01-31T12:00:00Z", field)
			}
			t = time.UnixMicro(micros)
		}
		*(*time.Time)(v) = t.UTC()
	case codec.ColDecimal:
		if col.Kind != reflect.Struct { // uint64, which tables hold as a decimal
			return setWhole(reflect.NewAt(col.Go, v).Elem(), field)
		}
		d, err := dataflow.ParseDecimal(string(field))
		if err != nil {
			return err
		}
		*(*dataflow.Decimal)(v) = d
	}
	return nil
}

func setWhole(v reflect.Value, field []byte) error {
	if v.CanUint() {
		n, err := strconv.ParseUint(string(field), 10, v.Type().Bits())
		if err != nil {
			return fmt.Errorf("%q is not a whole number of %v", field, v.Type())
		}
		v.SetUint(n)
		return nil
	}
	n, err := strconv.ParseInt(string(field), 10, v.Type().Bits())
	if err != nil {
		return fmt.Errorf("%q is not a whole number of %v", field, v.Type())
	}
	v.SetInt(n)
	return nil
}
