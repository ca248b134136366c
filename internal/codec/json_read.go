package codec

import (
	"encoding"
	"encoding/base64"
	"encoding/json"
	"reflect"
	"strconv"
	"time"
	"unsafe"
)

// value reads the value that begins at i into p.
func (r *jsonReader) value(n *jsonNode, i int, p unsafe.Pointer) int {
	if i >= len(r.src) {
		return r.want(i, "a value")
	}
	if n.detour || r.src[i] == 'n' {
		switch {
		case n.mode != jsonPlain:
			return r.custom(n, i, p)
		case r.src[i] == 'n':
			return r.null(n, i, p)
		}
		return r.inString(n, i, p)
	}
	switch n.kind {
	case kString:
		s, i := r.stringBytes(i, "a string")
		if i >= 0 {
			*(*string)(p) = r.arena.String(s)
		}
		return i
	case kInt64, kInt32, kInt16, kInt8:
		return r.int(n, i, p)
	case kUint64, kUint32, kUint16, kUint8:
		return r.uint(n, i, p)
	case kFloat64, kFloat32:
		return r.float(n, i, p)
	case kTime:
		return r.time(n, i, p)
	case kDecimal:
		return r.decimal(i, p)
	case kStruct:
		return r.object(n, i, p)
	case kBool:
		if r.src[i] != 't' && r.src[i] != 'f' {
			return r.want(i, "true or false")
		}
		if *(*bool)(p) = r.src[i] == 't'; *(*bool)(p) {
			return r.literal(i, "true")
		}
		return r.literal(i, "false")
	case kPtr:
		v := *(*unsafe.Pointer)(p)
		if v == nil {
			v = reflect.New(n.shape.elem.typ).UnsafePointer()
			*(*unsafe.Pointer)(p) = v
		}
		if !r.enter(i) {
			return -1
		}
		i = r.value(n.elem, i, v)
		r.depth--
		return i
	case kMap:
		return r.pairs(n, i, p)
	case kSlice:
		return r.slice(n, i, p)
	case kArray, kFixed:
		return r.array(n, i, p)
	}
	return r.bytes(n, i, p)
}

// null empties what can be nil and leaves the rest alone.
func (r *jsonReader) null(n *jsonNode, i int, p unsafe.Pointer) int {
	if i = r.literal(i, "null"); i < 0 {
		return -1
	}
	switch n.kind {
	case kPtr, kMap:
		*(*unsafe.Pointer)(p) = nil
	case kSlice, kBytes:
		*(*sliceHeader)(p) = sliceHeader{}
	}
	return i
}

// inString reads a scalar with the option ",string".
func (r *jsonReader) inString(n *jsonNode, i int, p unsafe.Pointer) int {
	if r.src[i] != '"' {
		return r.want(i, "a number or boolean within a string")
	}
	plain := *n
	plain.quoted, plain.detour = false, false
	at := i
	if i = r.value(&plain, i+1, p); i < 0 {
		return -1
	}
	if i >= len(r.src) || r.src[i] != '"' {
		return r.fault(at, "the string holds more than a "+n.shape.typ.String())
	}
	return i + 1
}

// custom reads types by their own methods.
func (r *jsonReader) custom(n *jsonNode, i int, p unsafe.Pointer) int {
	at := i
	fail := func(err error) int { return r.fault(at, err.Error()) }
	switch n.mode {
	case jsonValue:
		if i = r.skip(i); i < 0 {
			return -1
		}
		if err := reflect.NewAt(n.shape.typ, p).Interface().(json.Unmarshaler).UnmarshalJSON(r.src[at:i]); err != nil {
			return fail(err)
		}
		return i
	case jsonText:
		if r.src[i] == 'n' {
			return r.null(n, i, p)
		}
		s, i := r.stringBytes(i, "a string")
		if i < 0 {
			return -1
		}
		if err := reflect.NewAt(n.shape.typ, p).Interface().(encoding.TextUnmarshaler).UnmarshalText(s); err != nil {
			return fail(err)
		}
		return i
	}
	// json.Number, as a number or in a string
	switch r.src[i] {
	case 'n':
		return r.null(n, i, p)
	case '"':
		s, i := r.stringBytes(i, "a number")
		if i < 0 {
			return -1
		}
		in := jsonReader{src: s}
		if in.number(0) != len(s) {
			return r.fault(at, "the string holds no number")
		}
		*(*string)(p) = r.arena.String(s)
		return i
	}
	if i = r.number(i); i >= 0 {
		*(*string)(p) = r.arena.String(r.src[at:i])
	}
	return i
}

func (r *jsonReader) time(n *jsonNode, i int, p unsafe.Pointer) int {
	src := r.src
	if src[i] == '"' {
		end := special(src, i+1)
		if end < len(src) && src[end] == '"' {
			if t, ok := parseTime(src[i+1 : end]); ok {
				*(*time.Time)(p) = t
				return end + 1
			}
			var t time.Time // the standard library takes a little more, such as a comma
			if t.UnmarshalText(src[i+1:end]) == nil {
				*(*time.Time)(p) = t.UTC()
				return end + 1
			}
			return r.fault(i, strconv.Quote(clip(src[i+1:end]))+" is no time: want 2006-01-02T15:04:05Z")
		}
		return r.fault(i, "the string is no time: want 2006-01-02T15:04:05Z")
	}
	if n.epoch == epochNone {
		return r.want(i, "a time such as \"2006-01-02T15:04:05Z\" (integers need the tag millis or micros)")
	}
	var v int64
	at := i
	if i = r.int(&jsonNode{kind: kInt64, shape: n.shape}, i, unsafe.Pointer(&v)); i < 0 {
		return -1
	}
	t := time.UnixMicro(v)
	if n.epoch == epochMillis {
		t = time.UnixMilli(v)
	}
	t = t.UTC()
	if y := t.Year(); y < 0 || y > 9999 {
		return r.fault(at, clip(src[at:i])+" is outside the years 0 to 9999")
	}
	*(*time.Time)(p) = t
	return i
}

// bytes reads base64, or an array of numbers.
func (r *jsonReader) bytes(n *jsonNode, i int, p unsafe.Pointer) int {
	if r.src[i] == '[' {
		return r.byteArray(n, i, p)
	}
	s, next := r.stringBytes(i, "base64 in a string")
	if next < 0 {
		return -1
	}
	room := base64.StdEncoding.DecodedLen(len(s))
	b := make([]byte, room)
	used, err := base64.StdEncoding.Decode(b, s)
	if err != nil {
		return r.fault(i, "bad base64: "+err.Error())
	}
	*(*[]byte)(p) = b[:used:used]
	return next
}

func (r *jsonReader) byteArray(n *jsonNode, i int, p unsafe.Pointer) int {
	b, elem := []byte{}, jsonNode{kind: kUint8, shape: &shape{typ: reflect.TypeFor[uint8]()}}
	next := r.elements(i, func(i int) int {
		b = append(b, 0)
		return r.value(&elem, i, unsafe.Pointer(&b[len(b)-1]))
	})
	if next >= 0 {
		*(*[]byte)(p) = b
	}
	return next
}

// elements calls each for the index of every element of the array at i.
func (r *jsonReader) elements(i int, each func(i int) int) int {
	src := r.src
	if src[i] != '[' {
		return r.want(i, "an array")
	}
	if !r.enter(i) {
		return -1
	}
	if i = skipSpace(src, i+1); i < len(src) && src[i] == ']' {
		r.depth--
		return i + 1
	}
	for k := 0; ; k++ {
		if i = each(i); i < 0 {
			return r.in("[" + strconv.Itoa(k) + "]")
		}
		if i = skipSpace(src, i); i >= len(src) {
			return r.fault(i, "the array does not end")
		}
		if src[i] == ']' {
			r.depth--
			return i + 1
		}
		if src[i] != ',' {
			return r.fault(i, "want a comma or the end of the array, found "+r.found(i))
		}
		i = skipSpace(src, i+1)
	}
}

func (r *jsonReader) slice(n *jsonNode, i int, p unsafe.Pointer) int {
	size := n.shape.elem.size
	var h sliceHeader
	next := r.elements(i, func(i int) int {
		if h.len == h.cap {
			h = growSlice(n.shape, h)
		}
		h.len++
		return r.value(n.elem, i, unsafe.Add(h.data, uintptr(h.len-1)*size))
	})
	if next < 0 {
		return -1
	}
	if h.data == nil {
		h.data = newSlice(n.shape, 0)
	}
	*(*sliceHeader)(p) = h
	return next
}

// growSlice doubles a slice of shape s.
func growSlice(s *shape, h sliceHeader) sliceHeader {
	n := max(4, 2*h.cap)
	grown := sliceHeader{newSlice(s, n), h.len, n}
	if h.len > 0 {
		reflect.Copy(reflect.NewAt(s.typ, unsafe.Pointer(&grown)).Elem(), reflect.NewAt(s.typ, unsafe.Pointer(&h)).Elem())
	}
	return grown
}

// array fills an array; further elements are passed over and missing ones zero.
func (r *jsonReader) array(n *jsonNode, i int, p unsafe.Pointer) int {
	elem, size, k := n.elem, uintptr(1), 0
	if n.kind == kFixed {
		elem = &jsonNode{kind: kUint8, shape: &shape{typ: reflect.TypeFor[uint8]()}}
	} else {
		size = n.shape.elem.size
	}
	next := r.elements(i, func(i int) int {
		if k >= n.shape.n {
			return r.skip(i)
		}
		k++
		return r.value(elem, i, unsafe.Add(p, uintptr(k-1)*size))
	})
	if next >= 0 && k < n.shape.n {
		v := reflect.NewAt(n.shape.typ, p).Elem()
		for ; k < n.shape.n; k++ {
			v.Index(k).SetZero()
		}
	}
	return next
}

func (r *jsonReader) pairs(n *jsonNode, i int, p unsafe.Pointer) int {
	src := r.src
	if src[i] != '{' {
		return r.want(i, "an object")
	}
	if !r.enter(i) {
		return -1
	}
	m := reflect.NewAt(n.shape.typ, p).Elem()
	if m.IsNil() {
		m.Set(reflect.MakeMap(n.shape.typ))
	}
	if i = skipSpace(src, i+1); i < len(src) && src[i] == '}' {
		r.depth--
		return i + 1
	}
	k, v := reflect.New(n.shape.typ.Key()), reflect.New(n.shape.typ.Elem())
	for {
		k.Elem().SetZero()
		v.Elem().SetZero()
		at := i
		s, next := r.stringBytes(i, "a key")
		if next < 0 {
			return -1
		}
		if r.mapKey(n.key, s, at, k) < 0 {
			return -1
		}
		if i = skipSpace(src, next); i >= len(src) || src[i] != ':' {
			return r.fault(i, "want a colon, found "+r.found(i))
		}
		if i = r.value(n.elem, skipSpace(src, i+1), v.UnsafePointer()); i < 0 {
			return r.in("[" + clip(src[at:next]) + "]")
		}
		m.SetMapIndex(k.Elem(), v.Elem())
		if i = skipSpace(src, i); i >= len(src) {
			return r.fault(i, "the object does not end")
		}
		if src[i] == '}' {
			r.depth--
			return i + 1
		}
		if src[i] != ',' {
			return r.fault(i, "want a comma or the end of the object, found "+r.found(i))
		}
		i = skipSpace(src, i+1)
	}
}

// mapKey sets the key from the text of its name, which began at i.
func (r *jsonReader) mapKey(n *jsonNode, s []byte, i int, k reflect.Value) int {
	switch {
	case n.kind == kString && n.mode != jsonText:
		k.Elem().SetString(r.arena.String(s))
	case n.mode == jsonText:
		if err := k.Interface().(encoding.TextUnmarshaler).UnmarshalText(s); err != nil {
			return r.fault(i, err.Error())
		}
	case n.kind == kDecimal:
		return r.setDecimal(s, i, i, k.UnsafePointer())
	case n.kind <= kInt64:
		v, err := strconv.ParseInt(string(s), 10, n.shape.typ.Bits())
		if err != nil {
			return r.fault(i, strconv.Quote(clip(s))+" is no key of type "+n.shape.typ.String())
		}
		k.Elem().SetInt(v)
	default:
		v, err := strconv.ParseUint(string(s), 10, n.shape.typ.Bits())
		if err != nil {
			return r.fault(i, strconv.Quote(clip(s))+" is no key of type "+n.shape.typ.String())
		}
		k.Elem().SetUint(v)
	}
	return i
}
