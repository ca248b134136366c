package codec

import (
	"reflect"
	"unsafe"

	"github.com/weirstream/weir/stream/spi"
)

// A Type is a Go type compiled to Avro. It is a spi.Codec of values written with
// its own schema, without a schema number; StateCodec adds that. Safe for
// concurrent use.
type Type struct {
	shape  *shape
	schema string
	name   string
	enc    *encoder
	dec    *Decoder
}

var _ spi.Codec = (*Type)(nil)

// Of compiles t. The error names every part of t that could not come back
// exactly, with its cure.
func Of(t reflect.Type) (*Type, error) {
	s, err := shapeOf(t)
	if err != nil {
		return nil, err
	}
	c := &Type{shape: s, schema: schemaOf(s), name: typeName(t)}
	c.enc = encCompiler{}.encoder(s, c.name)
	if c.dec, err = c.Resolve(c.schema); err != nil {
		return nil, err
	}
	return c, nil
}

// Elem returns the compiled type.
func (t *Type) Elem() reflect.Type { return t.shape.typ }

// Schema returns the Avro schema of t.
func (t *Type) Schema() string { return t.schema }

// Append appends the value at p.
func (t *Type) Append(dst []byte, p unsafe.Pointer) ([]byte, error) { return t.enc.run(dst, p, 0) }

// Decode is as spi.Codec says.
func (t *Type) Decode(src []byte, p unsafe.Pointer, a *spi.Arena) error {
	return t.dec.Decode(src, p, a)
}

// Resolve returns the decoder of values that were written with another Avro
// schema. The error names each field that cannot change so, with its old and its
// new type.
func (t *Type) Resolve(writerSchema string) (*Decoder, error) {
	w, err := parseSchema(writerSchema)
	if err != nil {
		return nil, err
	}
	return resolve(t.shape, w, t.name)
}
