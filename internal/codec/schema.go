package codec

import "strconv"

// Names of the records and fixed types that stand for Go types without an exact
// Avro type. A job's own types of these names get a number behind.
const (
	nameTime    = "weir_time"
	nameDecimal = "weir_decimal"
	nameUint64  = "weir_uint64"
)

// schemaWriter writes the Avro schema of a shape. Named types are written out
// once and then referred to, which also ends recursion.
type schemaWriter struct {
	b       []byte
	written map[string]bool
}

// schemaOf returns the schema as JSON without white space; the same type always
// gives the same text.
func schemaOf(s *shape) string {
	w := schemaWriter{written: map[string]bool{}}
	w.shape(s)
	return string(w.b)
}

// named writes a reference to name if it is known already; else it tells the
// caller to define it.
func (w *schemaWriter) named(name string) (known bool) {
	if w.written[name] {
		w.str(name)
		return true
	}
	w.written[name] = true
	return false
}

func (w *schemaWriter) str(s string)  { w.b = strconv.AppendQuote(w.b, s) }
func (w *schemaWriter) text(s string) { w.b = append(w.b, s...) }

func (w *schemaWriter) record(name string, fields func()) {
	if w.named(name) {
		return
	}
	w.text(`{"type":"record","name":`)
	w.str(name)
	w.text(`,"fields":[`)
	fields()
	w.text(`]}`)
}

func (w *schemaWriter) shape(s *shape) {
	switch s.kind {
	case kBytes:
		w.text(`["null","bytes"]`)
	case kFixed:
		w.fixed(s.name, s.n)
	case kUint64:
		w.fixed(nameUint64, 8)
	case kTime:
		w.record(nameTime, func() { w.text(`{"name":"seconds","type":"long"},{"name":"nanos","type":"int"}`) })
	case kDecimal:
		w.record(nameDecimal, func() { w.text(`{"name":"unscaled","type":"bytes"},{"name":"scale","type":"int"}`) })
	case kStruct:
		w.record(s.name, func() { w.fields(s.fields) })
	case kPtr:
		w.text(`["null",`)
		if s.boxed {
			w.record(s.name, func() { w.fields([]field{{avro: "value", shape: s.elem}}) })
		} else {
			w.shape(s.elem)
		}
		w.text(`]`)
	case kSlice:
		w.text(`["null",{"type":"array","items":`)
		w.shape(s.elem)
		w.text(`}]`)
	case kArray:
		w.text(`{"type":"array","items":`)
		w.shape(s.elem)
		w.text(`,"length":` + strconv.Itoa(s.n) + `}`)
	case kMap:
		w.text(`["null",{"type":"array","items":`)
		w.record(s.name, func() { w.fields([]field{{avro: "key", shape: s.key}, {avro: "value", shape: s.elem}}) })
		w.text(`}]`)
	default:
		w.str(scalarName(s.kind))
	}
}

func (w *schemaWriter) fixed(name string, size int) {
	if w.named(name) {
		return
	}
	w.text(`{"type":"fixed","name":`)
	w.str(name)
	w.text(`,"size":` + strconv.Itoa(size) + `}`)
}

func (w *schemaWriter) fields(fs []field) {
	for i, f := range fs {
		if i > 0 {
			w.text(`,`)
		}
		w.text(`{"name":`)
		w.str(f.avro)
		w.text(`,"type":`)
		w.shape(f.shape)
		// Defaults are for readers other than ours, which fills in zeros anyway.
		switch {
		case f.shape.nullable():
			w.text(`,"default":null`)
		case f.shape.kind == kString:
			w.text(`,"default":""`)
		case f.shape.kind == kBool:
			w.text(`,"default":false`)
		case f.shape.kind <= kFloat64 && f.shape.kind != kUint64:
			w.text(`,"default":0`)
		}
		w.text(`}`)
	}
}

// scalarName returns the Avro type of a scalar kind.
func scalarName(k kind) string {
	switch k {
	case kBool:
		return "boolean"
	case kInt8, kInt16, kInt32, kUint8, kUint16:
		return "int"
	case kInt64, kUint32:
		return "long"
	case kFloat32:
		return "float"
	case kFloat64:
		return "double"
	case kString:
		return "string"
	}
	return ""
}

// describe names a shape as schemas do, for people.
func describe(s *shape) string {
	switch s.kind {
	case kBytes:
		return "nullable bytes"
	case kFixed:
		return "fixed(" + strconv.Itoa(s.n) + ")"
	case kUint64:
		return "uint64"
	case kTime:
		return "time"
	case kDecimal:
		return "decimal"
	case kStruct:
		return "record " + s.name
	case kPtr:
		if s.boxed {
			return "nullable box"
		}
		return "nullable " + describe(s.elem)
	case kSlice:
		return "nullable array"
	case kArray:
		return "array of length " + strconv.Itoa(s.n)
	case kMap:
		return "map"
	}
	return scalarName(s.kind)
}
