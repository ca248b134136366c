package codec

import (
	"fmt"
	"reflect"
	"slices"
	"unsafe"

	"github.com/weirstream/weir/stream/spi"
)

// MaxSchemas is the most schemas that one state can have had.
const MaxSchemas = 255

// stateCodec writes rows of keyed state:
//
//	| number (1 byte) | value as Avro, by the schema of that number |
//
// It writes with the newest schema and reads with the one the row names.
type stateCodec struct {
	typ      *Type
	number   byte
	decoders []*Decoder // by number
}

// NewStateCodec returns the codec of a state whose values had these schemas by
// number, as the manifest keeps them. The schema of t joins the list if it is not
// in it; schemasOut is the list to keep from now on. A schema of the list that t
// cannot read is refused here, before any row is touched. Errors of Decode other
// than of Append mean that the row is damaged.
func NewStateCodec(t reflect.Type, schemas []string) (c spi.Codec, schemasOut []string, err error) {
	typ, err := Of(t)
	if err != nil {
		return nil, nil, err
	}
	schemasOut = slices.Clone(schemas)
	number := slices.Index(schemasOut, typ.schema)
	if number < 0 {
		number = len(schemasOut)
		schemasOut = append(schemasOut, typ.schema)
	}
	if len(schemasOut) > MaxSchemas {
		return nil, nil, fmt.Errorf("codec: %s has had %d schemas, more than %d: start the state anew under another name", typ.name, len(schemasOut), MaxSchemas)
	}
	s := &stateCodec{typ: typ, number: byte(number)}
	for i, text := range schemasOut {
		d := typ.dec
		if i != number {
			if d, err = typ.Resolve(text); err != nil {
				return nil, nil, err
			}
		}
		s.decoders = append(s.decoders, d)
	}
	return s, schemasOut, nil
}

// Schema returns the schema that rows are written with.
func (c *stateCodec) Schema() string { return c.typ.schema }

func (c *stateCodec) Append(dst []byte, p unsafe.Pointer) ([]byte, error) {
	return c.typ.enc.run(append(dst, c.number), p, 0)
}

func (c *stateCodec) Decode(src []byte, p unsafe.Pointer, a *spi.Arena) error {
	if len(src) == 0 {
		return fmt.Errorf("codec: %s: the row is empty, not even a schema number", c.typ.name)
	}
	if int(src[0]) >= len(c.decoders) {
		return fmt.Errorf("codec: %s: the row was written with schema number %d, but there are %d", c.typ.name, src[0], len(c.decoders))
	}
	return c.decoders[src[0]].Decode(src[1:], p, a)
}
