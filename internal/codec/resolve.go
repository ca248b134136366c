package codec

import (
	"errors"
	"fmt"
	"time"
	"unsafe"

	"github.com/weirstream/weir/stream/spi"
)

// A Decoder reads values of one Go type that were written with one Avro schema.
// It is immutable.
type Decoder struct {
	prog *program
	name string
}

// Decode sets the value at p, which is zero, from all of src. On an error the
// value at p is undefined.
func (d *Decoder) Decode(src []byte, p unsafe.Pointer, a *spi.Arena) error {
	n, err := d.prog.run(src, 0, p, a, 0)
	if err == nil && n != len(src) {
		err = fmt.Errorf("codec: %s: %d bytes are left over behind byte %d", d.name, len(src)-n, n)
	}
	return err
}

// A resolver compiles the program that reads a wireType into a shape. The rules
// are Avro's, with names of types ignored:
//
//   - a field that only the writer has is skipped, one that only the reader has
//     stays zero; order is free;
//   - int may become long, float or double, long float or double, float double;
//     besides Avro, int and long may become uint64 or Decimal;
//   - string and bytes may become each other;
//   - T may become *T; not the other way, for a null would have nowhere to go.
//
// Numbers are checked against the Go type when they are read.
type resolver struct {
	progs map[resolvePair]*program
	errs  []error
}

type resolvePair struct {
	s *shape
	w *wireType
}

// resolve compiles a decoder, or says what stands in the way, one sentence per
// field.
func resolve(s *shape, w *wireType, name string) (*Decoder, error) {
	r := resolver{progs: map[resolvePair]*program{}}
	p := r.program(s, w, name)
	if err := errors.Join(r.errs...); err != nil {
		return nil, err
	}
	return &Decoder{p, name}, nil
}

func (r *resolver) program(s *shape, w *wireType, path string) *program {
	key := resolvePair{s, w}
	if p := r.progs[key]; p != nil {
		return p
	}
	p := &program{min: w.minBytes()}
	r.progs[key] = p
	r.add(p, s, w, 0, path)
	return p
}

func (r *resolver) refuse(path string, w *wireType, s *shape) {
	r.errs = append(r.errs, fmt.Errorf("codec: %s cannot change from %s to %s: keep the old type, or give the field a new name to start it empty",
		path, w, describe(s)))
}

// add appends the instructions for a value of shape s at off.
func (r *resolver) add(p *program, s *shape, w *wireType, off uintptr, path string) {
	op := decOp{off: off, sh: s, path: path, n: s.n}
	other, null, nullable := w.nullUnion()
	op.null = uint8(null)
	switch s.kind {
	case kStruct:
		r.record(p, s, w, off, path)
		return
	case kPtr:
		r.pointer(&op, s, w, other, nullable, path)
	case kBytes:
		op.code = dBytesValue
		if nullable {
			op.code, w = dBytes, other
		}
		if w.kind != "bytes" && w.kind != "string" {
			r.refuse(path, w, s)
		}
	case kSlice:
		op.code = dSliceValue
		if nullable {
			op.code, w = dSlice, other
		}
		if w.kind != "array" {
			r.refuse(path, w, s)
			return
		}
		op.sub, op.size = r.program(s.elem, w.items, path), s.elem.size
	case kArray:
		op.code = dArray
		if w.kind != "array" || w.length >= 0 && w.length != s.n {
			r.refuse(path, w, s)
			return
		}
		op.sub, op.size = r.program(s.elem, w.items, path), s.elem.size
	case kMap:
		op.code = dMapValue
		if nullable {
			op.code, w = dMap, other
		}
		if !r.pairs(&op, s, w, path) {
			r.refuse(path, w, s)
			return
		}
	default:
		if !scalarOp(&op, s, w) {
			r.refuse(path, w, s)
		}
	}
	p.ops = append(p.ops, op)
}

func (r *resolver) record(p *program, s *shape, w *wireType, off uintptr, path string) {
	if w.kind != "record" || w.isTime() || w.isDecimal() {
		r.refuse(path, w, s)
		return
	}
next:
	for _, wf := range w.fields {
		for _, f := range s.fields {
			if f.avro == wf.name {
				r.add(p, f.shape, wf.typ, off+f.off, path+"."+f.name)
				continue next
			}
		}
		p.ops = append(p.ops, decOp{code: dSkip, wire: wf.typ, path: path + "." + wf.name})
	}
}

func (r *resolver) pointer(op *decOp, s *shape, w, other *wireType, nullable bool, path string) {
	if nullable && s.boxed {
		if other.kind == "record" && len(other.fields) == 1 && other.fields[0].name == "value" {
			op.code, op.sub = dPtr, r.program(s.elem, other.fields[0].typ, path)
			return
		}
		nullable = false // the null is the element's own
	}
	if nullable {
		op.code, op.sub = dPtr, r.program(s.elem, other, path)
		return
	}
	op.code, op.sub = dPtrValue, r.program(s.elem, w, path)
}

func (r *resolver) pairs(op *decOp, s *shape, w *wireType, path string) bool {
	if w.kind == "map" {
		if s.key.kind != kString {
			return false
		}
		op.key, op.sub = r.program(s.key, newWireType("string"), path), r.program(s.elem, w.items, path)
		return true
	}
	if w.kind != "array" || w.items.kind != "record" || len(w.items.fields) != 2 ||
		w.items.fields[0].name != "key" || w.items.fields[1].name != "value" {
		return false
	}
	op.key = r.program(s.key, w.items.fields[0].typ, path+" (key)")
	op.sub = r.program(s.elem, w.items.fields[1].typ, path)
	return true
}

// scalarOp chooses the instruction that reads w into a scalar; ok is false where
// the rules do not allow it.
func scalarOp(op *decOp, s *shape, w *wireType) (ok bool) {
	integer := w.kind == "int" || w.kind == "long"
	switch s.kind {
	case kBool:
		op.code = dBool
		return w.kind == "boolean"
	case kInt8, kInt16, kInt32, kUint8, kUint16:
		op.code = map[kind]decCode{kInt8: dInt8, kInt16: dInt16, kInt32: dInt32, kUint8: dUint8, kUint16: dUint16}[s.kind]
		return w.kind == "int"
	case kInt64:
		op.code = dInt64
		return integer
	case kUint32:
		op.code = dUint32
		return integer
	case kUint64:
		op.code = dUint64
		if integer {
			op.code = dUint64Long
		}
		return integer || w.kind == "fixed" && w.size == 8 && w.name == nameUint64
	case kFloat32:
		op.code = dFloat32
		if integer {
			op.code = dFloat32Long
		}
		return integer || w.kind == "float"
	case kFloat64:
		op.code = dFloat64
		if integer {
			op.code = dFloat64Long
		} else if w.kind == "float" {
			op.code = dFloat64Float
		}
		return integer || w.kind == "float" || w.kind == "double"
	case kString:
		op.code = dString
		return w.kind == "string" || w.kind == "bytes"
	case kFixed:
		op.code = dFixed
		return w.kind == "fixed" && w.size == s.n && w.name != nameUint64
	case kTime:
		op.code = dTime
		if w.kind == "long" {
			op.code = dTimeUnit
			op.n = map[string]int{"timestamp-millis": int(time.Millisecond), "timestamp-micros": int(time.Microsecond), "timestamp-nanos": 1}[w.logical]
			return op.n > 0
		}
		return w.isTime()
	case kDecimal:
		op.n = w.scale
		switch {
		case integer:
			op.code = dDecimalLong
		case w.kind == "bytes":
			op.code = dDecimalBytes
			return w.logical == "decimal"
		case w.kind == "fixed":
			op.code, op.size = dDecimalFixed, uintptr(w.size)
			return w.logical == "decimal"
		default:
			op.code = dDecimal
			return w.isDecimal()
		}
		return true
	}
	return false
}
