package codec

import (
	"encoding"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math"
	"reflect"
	"slices"
	"strconv"
	"time"
	"unicode/utf8"
	"unsafe"

	"github.com/weirstream/weir/dataflow"
)

// A jsonWriter is one encoding.
type jsonWriter struct {
	b []byte
}

// A jsonPathError grows a path on its way up.
type jsonPathError struct {
	path string
	err  error
}

func (e *jsonPathError) Error() string { return e.path + ": " + e.err.Error() }
func (e *jsonPathError) Unwrap() error { return e.err }

func inPath(step string, err error) error {
	if e, ok := err.(*jsonPathError); ok {
		e.path = step + e.path
		return e
	}
	return &jsonPathError{step, err}
}

func jsonFail(format string, args ...any) error {
	return &jsonPathError{"", fmt.Errorf(format, args...)}
}

// value appends the value at p.
func (w *jsonWriter) value(n *jsonNode, p unsafe.Pointer, depth int) error {
	if depth > maxDepth {
		return jsonFail("%w", errDepth)
	}
	if n.modeTo != jsonPlain {
		return w.custom(n, p)
	}
	if n.quoted {
		w.b = append(w.b, '"')
	}
	switch n.kind {
	case kString:
		w.b = appendJSONString(w.b, *(*string)(p))
	case kBool:
		w.b = strconv.AppendBool(w.b, *(*bool)(p))
	case kInt8:
		w.b = strconv.AppendInt(w.b, int64(*(*int8)(p)), 10)
	case kInt16:
		w.b = strconv.AppendInt(w.b, int64(*(*int16)(p)), 10)
	case kInt32:
		w.b = strconv.AppendInt(w.b, int64(*(*int32)(p)), 10)
	case kInt64:
		w.b = strconv.AppendInt(w.b, *(*int64)(p), 10)
	case kUint8:
		w.b = strconv.AppendUint(w.b, uint64(*(*uint8)(p)), 10)
	case kUint16:
		w.b = strconv.AppendUint(w.b, uint64(*(*uint16)(p)), 10)
	case kUint32:
		w.b = strconv.AppendUint(w.b, uint64(*(*uint32)(p)), 10)
	case kUint64:
		w.b = strconv.AppendUint(w.b, *(*uint64)(p), 10)
	case kFloat32:
		if err := w.float(float64(*(*float32)(p)), 32); err != nil {
			return err
		}
	case kFloat64:
		if err := w.float(*(*float64)(p), 64); err != nil {
			return err
		}
	case kTime:
		return w.time(n, *(*time.Time)(p))
	case kDecimal:
		w.b = (*dataflow.Decimal)(p).Append(w.b)
	case kStruct:
		return w.object(n, p, depth)
	case kMap:
		return w.pairs(n, p, depth)
	default:
		return w.list(n, p, depth)
	}
	if n.quoted {
		w.b = append(w.b, '"')
	}
	return nil
}

func (w *jsonWriter) object(n *jsonNode, p unsafe.Pointer, depth int) error {
	w.b = append(w.b, '{')
	first := true
	for i := range n.fields {
		f := &n.fields[i]
		v := unsafe.Add(p, f.off)
		if f.omit != omitNever && omitted(f, v) {
			continue
		}
		if !first {
			w.b = append(w.b, ',')
		}
		first = false
		w.b = append(w.b, f.key...)
		if err := w.value(f.node, v, depth+1); err != nil {
			return inPath("."+f.name, err)
		}
	}
	w.b = append(w.b, '}')
	return nil
}

// omitted says whether omitempty or omitzero leaves the field out.
func omitted(f *jsonField, p unsafe.Pointer) bool {
	v := reflect.NewAt(f.node.shape.typ, p).Elem()
	if f.omit == omitZero {
		if z, ok := v.Interface().(interface{ IsZero() bool }); ok {
			if v.Kind() == reflect.Pointer && v.IsNil() {
				return true
			}
			return z.IsZero()
		}
		return v.IsZero()
	}
	switch v.Kind() {
	case reflect.Array, reflect.Map, reflect.Slice, reflect.String:
		return v.Len() == 0
	case reflect.Struct:
		return false
	}
	return v.IsZero()
}

// list appends pointers, bytes, slices and arrays.
func (w *jsonWriter) list(n *jsonNode, p unsafe.Pointer, depth int) error {
	elem, count := n.elem, n.shape.n
	switch n.kind {
	case kPtr:
		v := *(*unsafe.Pointer)(p)
		if v == nil {
			w.b = append(w.b, "null"...)
			return nil
		}
		return w.value(n.elem, v, depth+1)
	case kBytes:
		v := *(*[]byte)(p)
		if v == nil {
			w.b = append(w.b, "null"...)
			return nil
		}
		w.b = append(w.b, '"')
		w.b = base64.StdEncoding.AppendEncode(w.b, v)
		w.b = append(w.b, '"')
		return nil
	case kSlice:
		h := *(*sliceHeader)(p)
		if h.data == nil {
			w.b = append(w.b, "null"...)
			return nil
		}
		p, count = h.data, h.len
	case kFixed:
		w.b = append(w.b, '[')
		for i, c := range unsafe.Slice((*byte)(p), count) {
			if i > 0 {
				w.b = append(w.b, ',')
			}
			w.b = strconv.AppendUint(w.b, uint64(c), 10)
		}
		w.b = append(w.b, ']')
		return nil
	}
	w.b = append(w.b, '[')
	for i := range count {
		if i > 0 {
			w.b = append(w.b, ',')
		}
		if err := w.value(elem, unsafe.Add(p, uintptr(i)*n.shape.elem.size), depth+1); err != nil {
			return inPath("["+strconv.Itoa(i)+"]", err)
		}
	}
	w.b = append(w.b, ']')
	return nil
}

// pairs appends a map in the order of its keys as strings.
func (w *jsonWriter) pairs(n *jsonNode, p unsafe.Pointer, depth int) error {
	m := reflect.NewAt(n.shape.typ, p).Elem()
	if m.IsNil() {
		w.b = append(w.b, "null"...)
		return nil
	}
	type entry struct {
		name  string
		value reflect.Value
	}
	entries := make([]entry, 0, m.Len())
	for it := m.MapRange(); it.Next(); {
		name, err := keyName(n.key, it.Key())
		if err != nil {
			return jsonFail("%w", err)
		}
		entries = append(entries, entry{name, it.Value()})
	}
	slices.SortFunc(entries, func(a, b entry) int {
		switch {
		case a.name < b.name:
			return -1
		case a.name > b.name:
			return 1
		}
		return 0
	})
	v := reflect.New(n.shape.typ.Elem())
	w.b = append(w.b, '{')
	for i, e := range entries {
		if i > 0 {
			w.b = append(w.b, ',')
		}
		w.b = appendJSONString(w.b, e.name)
		w.b = append(w.b, ':')
		v.Elem().Set(e.value)
		if err := w.value(n.elem, v.UnsafePointer(), depth+1); err != nil {
			return inPath("["+strconv.Quote(e.name)+"]", err)
		}
	}
	w.b = append(w.b, '}')
	return nil
}

func keyName(n *jsonNode, k reflect.Value) (string, error) {
	switch {
	case n.kind == kString:
		return k.String(), nil
	case n.modeTo == jsonText || n.kind == kDecimal:
		b, err := k.Interface().(encoding.TextMarshaler).MarshalText()
		return string(b), err
	case k.CanInt():
		return strconv.FormatInt(k.Int(), 10), nil
	}
	return strconv.FormatUint(k.Uint(), 10), nil
}

// custom writes types by their own methods.
func (w *jsonWriter) custom(n *jsonNode, p unsafe.Pointer) error {
	switch n.modeTo {
	case jsonValue:
		b, err := json.Marshal(reflect.NewAt(n.shape.typ, p).Interface()) // checks and compacts
		if err != nil {
			return jsonFail("%w", err)
		}
		w.b = append(w.b, b...)
	case jsonText:
		b, err := reflect.NewAt(n.shape.typ, p).Interface().(encoding.TextMarshaler).MarshalText()
		if err != nil {
			return jsonFail("%w", err)
		}
		w.b = appendJSONString(w.b, view(b))
	case jsonNumber:
		s := *(*string)(p)
		if s == "" {
			s = "0"
		}
		r := jsonReader{src: []byte(s)}
		if r.number(0) != len(s) {
			return jsonFail("%q is no number", clip(r.src))
		}
		w.b = append(w.b, s...)
	}
	return nil
}

// time appends RFC 3339 in UTC, or an integer where the field's tag says so.
func (w *jsonWriter) time(n *jsonNode, t time.Time) error {
	t = t.UTC()
	switch n.epoch {
	case epochMillis:
		if t.Nanosecond()%1e6 != 0 {
			return jsonFail("%s is finer than a millisecond: use the tag micros, or truncate it", t.Format(time.RFC3339Nano))
		}
		w.b = strconv.AppendInt(w.b, t.UnixMilli(), 10)
		return nil
	case epochMicros:
		if t.Nanosecond()%1e3 != 0 {
			return jsonFail("%s is finer than a microsecond: truncate it", t.Format(time.RFC3339Nano))
		}
		w.b = strconv.AppendInt(w.b, t.UnixMicro(), 10)
		return nil
	}
	if y := t.Year(); y < 0 || y > 9999 {
		return jsonFail("the year %d is outside 0 to 9999", y)
	}
	w.b = append(w.b, '"')
	w.b = t.AppendFormat(w.b, time.RFC3339Nano)
	w.b = append(w.b, '"')
	return nil
}

// float writes as encoding/json does: ES6's form of the shortest digits.
func (w *jsonWriter) float(f float64, bits int) error {
	if math.IsInf(f, 0) || math.IsNaN(f) {
		return jsonFail("JSON has no %v", f)
	}
	abs, format := math.Abs(f), byte('f')
	if abs != 0 {
		if bits == 64 && (abs < 1e-6 || abs >= 1e21) || bits == 32 && (float32(abs) < 1e-6 || float32(abs) >= 1e21) {
			format = 'e'
		}
	}
	w.b = strconv.AppendFloat(w.b, f, format, -1, bits)
	if n := len(w.b); format == 'e' && n >= 4 && w.b[n-4] == 'e' && (w.b[n-3] == '-' || w.b[n-3] == '+') && w.b[n-2] == '0' {
		w.b[n-2] = w.b[n-1] // e-09 to e-9
		w.b = w.b[:n-1]
	}
	return nil
}

const hexDigits = "0123456789abcdef"

// appendJSONString appends s in quotes. HTML's characters are not escaped, the
// line separators of JavaScript are, and what is not UTF-8 becomes U+FFFD.
func appendJSONString(dst []byte, s string) []byte {
	dst = append(dst, '"')
	b := unsafe.Slice(unsafe.StringData(s), len(s))
	for i := 0; ; {
		j := special(b, i)
		dst = append(dst, b[i:j]...)
		if i = j; i >= len(b) {
			return append(dst, '"')
		}
		c := b[i]
		if c >= utf8.RuneSelf {
			c, size := utf8.DecodeRune(b[i:])
			switch {
			case c == utf8.RuneError && size == 1:
				dst = append(dst, `\ufffd`...)
			case c == '\u2028' || c == '\u2029':
				dst = append(dst, `\u202`...)
				dst = append(dst, hexDigits[c&15])
			default:
				dst = append(dst, b[i:i+size]...)
			}
			i += size
			continue
		}
		i++
		switch c {
		case '"', '\\':
			dst = append(dst, '\\', c)
		case '\b':
			dst = append(dst, '\\', 'b')
		case '\f':
			dst = append(dst, '\\', 'f')
		case '\n':
			dst = append(dst, '\\', 'n')
		case '\r':
			dst = append(dst, '\\', 'r')
		case '\t':
			dst = append(dst, '\\', 't')
		default:
			dst = append(dst, `\u00`...)
			dst = append(dst, hexDigits[c>>4], hexDigits[c&15])
		}
	}
}
