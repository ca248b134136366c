package streamtest

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"reflect"
	"slices"
	"sort"
	"time"
	"unsafe"

	"github.com/weirstream/weir/stream/spi"
)

// A plainCodec encodes values by walking them with reflection: slow, exact, and
// not the code that the engine uses, so that a fault there does not hide here.
type plainCodec struct{ t reflect.Type }

var _ spi.Codec = plainCodec{}

// Schema implements spi.Codec.
func (plainCodec) Schema() string { return "" }

// Append implements spi.Codec.
func (c plainCodec) Append(dst []byte, p unsafe.Pointer) ([]byte, error) {
	return appendValue(dst, reflect.NewAt(c.t, p).Elem())
}

// Decode implements spi.Codec.
func (c plainCodec) Decode(src []byte, p unsafe.Pointer, _ *spi.Arena) (err error) {
	d := &decoder{b: src}
	d.value(reflect.NewAt(c.t, p).Elem())
	if d.err == nil && len(d.b) > 0 {
		d.err = fmt.Errorf("%d bytes left", len(d.b))
	}
	if d.err != nil {
		return fmt.Errorf("streamtest: decode %v: %w", c.t, d.err)
	}
	return nil
}

var timeType = reflect.TypeFor[time.Time]()

// fields yields the fields that are state.
func fields(v reflect.Value, yield func(f reflect.Value)) {
	t := v.Type()
	for i := range t.NumField() {
		f := t.Field(i)
		if f.Tag.Get("state") == "-" {
			continue
		}
		w := v.Field(i)
		if !f.IsExported() && v.CanAddr() {
			w = reflect.NewAt(f.Type, w.Addr().UnsafePointer()).Elem()
		}
		yield(w)
	}
}

func appendValue(dst []byte, v reflect.Value) (_ []byte, err error) {
	if v.Type() == timeType {
		t := v.Interface().(time.Time)
		dst = binary.BigEndian.AppendUint64(dst, uint64(t.Unix()))
		return binary.BigEndian.AppendUint32(dst, uint32(t.Nanosecond())), nil
	}
	switch v.Kind() {
	case reflect.Bool:
		if v.Bool() {
			return append(dst, 1), nil
		}
		return append(dst, 0), nil
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		return binary.BigEndian.AppendUint64(dst, uint64(v.Int())), nil
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64, reflect.Uintptr:
		return binary.BigEndian.AppendUint64(dst, v.Uint()), nil
	case reflect.Float32, reflect.Float64:
		return binary.BigEndian.AppendUint64(dst, math.Float64bits(v.Float())), nil
	case reflect.String:
		return append(binary.AppendUvarint(dst, uint64(v.Len())), v.String()...), nil
	case reflect.Pointer:
		if v.IsNil() {
			return append(dst, 0), nil
		}
		return appendValue(append(dst, 1), v.Elem())
	case reflect.Slice:
		if v.IsNil() {
			return append(dst, 0), nil
		}
		dst = binary.AppendUvarint(append(dst, 1), uint64(v.Len()))
		fallthrough
	case reflect.Array:
		for i := 0; i < v.Len() && err == nil; i++ {
			dst, err = appendValue(dst, v.Index(i))
		}
		return dst, err
	case reflect.Map:
		return appendMap(dst, v)
	case reflect.Struct:
		fields(v, func(f reflect.Value) {
			if err == nil {
				dst, err = appendValue(dst, f)
			}
		})
		return dst, err
	}
	return nil, fmt.Errorf("streamtest: a value of %v cannot be state", v.Type())
}

// appendMap writes the entries in the order of their encoded keys.
func appendMap(dst []byte, v reflect.Value) ([]byte, error) {
	if v.IsNil() {
		return append(dst, 0), nil
	}
	dst = binary.AppendUvarint(append(dst, 1), uint64(v.Len()))
	var entries []string
	for it := v.MapRange(); it.Next(); {
		e, err := appendValue(nil, it.Key())
		if err == nil {
			e, err = appendValue(e, it.Value())
		}
		if err != nil {
			return nil, err
		}
		entries = append(entries, string(e))
	}
	sort.Strings(entries)
	for _, e := range entries {
		dst = append(dst, e...)
	}
	return dst, nil
}

// A decoder takes values off b until the first error.
type decoder struct {
	b   []byte
	err error
}

var errShort = errors.New("the row is too short")

func (d *decoder) take(n int) []byte {
	if n < 0 || len(d.b) < n {
		d.err = errShort
		d.b = nil
		return make([]byte, min(max(n, 0), 16))
	}
	p := d.b[:n]
	d.b = d.b[n:]
	return p
}

func (d *decoder) word() uint64 { return binary.BigEndian.Uint64(d.take(8)) }

func (d *decoder) count() int {
	v, n := binary.Uvarint(d.b)
	if n <= 0 || v > uint64(len(d.b)) {
		d.err = errShort
		return 0
	}
	d.b = d.b[n:]
	return int(v)
}

func (d *decoder) value(v reflect.Value) {
	if d.err != nil {
		return
	}
	if v.Type() == timeType {
		sec, nsec := int64(d.word()), binary.BigEndian.Uint32(d.take(4))
		v.Set(reflect.ValueOf(time.Unix(sec, int64(nsec)).UTC()))
		return
	}
	switch v.Kind() {
	case reflect.Bool:
		v.SetBool(d.take(1)[0] == 1)
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		v.SetInt(int64(d.word()))
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64, reflect.Uintptr:
		v.SetUint(d.word())
	case reflect.Float32, reflect.Float64:
		v.SetFloat(math.Float64frombits(d.word()))
	case reflect.String:
		v.SetString(string(d.take(d.count())))
	case reflect.Pointer:
		if d.take(1)[0] == 1 {
			v.Set(reflect.New(v.Type().Elem()))
			d.value(v.Elem())
		}
	case reflect.Slice:
		if d.take(1)[0] == 1 {
			n := d.count()
			v.Set(reflect.MakeSlice(v.Type(), n, n))
			d.elements(v)
		}
	case reflect.Array:
		d.elements(v)
	case reflect.Map:
		if d.take(1)[0] == 1 {
			d.mapping(v)
		}
	case reflect.Struct:
		fields(v, d.value)
	default:
		d.err = fmt.Errorf("a value of %v cannot be state", v.Type())
	}
}

func (d *decoder) elements(v reflect.Value) {
	for i := range v.Len() {
		d.value(v.Index(i))
	}
}

func (d *decoder) mapping(v reflect.Value) {
	v.Set(reflect.MakeMap(v.Type()))
	for range d.count() {
		k, e := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
		d.value(k)
		d.value(e)
		if d.err != nil {
			return
		}
		v.SetMapIndex(k, e)
	}
}

// A table is the rows of one subtask's state, by key.
type table struct {
	rows   map[string][]byte
	sorted []string // keys, nil when rows were added or deleted since
}

func newTable() *table { return &table{rows: map[string][]byte{}} }

func (t *table) put(key, value []byte) {
	_, had := t.rows[string(key)]
	if value == nil {
		delete(t.rows, string(key))
	} else {
		t.rows[string(key)] = append([]byte{}, value...)
	}
	if had != (value != nil) {
		t.sorted = nil
	}
}

// span returns the keys in [from, to), sorted.
func (t *table) span(from, to []byte) []string {
	if t.sorted == nil {
		t.sorted = make([]string, 0, len(t.rows))
		for k := range t.rows {
			t.sorted = append(t.sorted, k)
		}
		slices.Sort(t.sorted)
	}
	lo, _ := slices.BinarySearch(t.sorted, string(from))
	hi, _ := slices.BinarySearch(t.sorted, string(to))
	return t.sorted[lo:max(lo, hi)]
}

// apply takes a freeze over: its drops, then its rows.
func (t *table) apply(f spi.Frozen) error {
	for _, d := range f.Drops() {
		for _, k := range slices.Clone(t.span(d.From, d.To)) {
			t.put([]byte(k), nil)
		}
	}
	last := ""
	var fault error
	err := f.Rows(func(key, value []byte) bool {
		if last != "" && string(key) <= last {
			fault = fmt.Errorf("streamtest: frozen rows are not sorted: %x comes after %x", key, last)
			return false
		}
		last = string(key)
		t.put(key, value)
		return true
	})
	return errors.Join(err, fault)
}

// clone copies the rows whose key lies in a group for which keep is true.
func (t *table) clone(keep func(key []byte) bool) *table {
	c := newTable()
	for k, v := range t.rows {
		if keep([]byte(k)) {
			c.rows[k] = v
		}
	}
	return c
}
