package codec

import (
	"fmt"
	"reflect"
	"unsafe"

	"github.com/weirstream/weir/stream/spi"
)

// ForFormat returns the codec of a connector's format for rows of type t:
//
//	json  one JSON value per record (NewJSON)
//	avro  Avro binary by the schema of t, without a header (Of)
//	raw   the record's bytes as they are; t is a string or []byte (NewRaw)
func ForFormat(name string, t reflect.Type) (spi.Codec, error) {
	switch name {
	case "json":
		return NewJSON(t)
	case "avro":
		c, err := Of(t)
		if err != nil {
			return nil, err // not c: a nil *Type is no nil Codec
		}
		return c, nil
	case "raw":
		return NewRaw(t)
	}
	return nil, fmt.Errorf("codec: unknown format %q: the formats are avro, json and raw", name)
}

// rawCodec takes records as they are.
type rawCodec struct{ text bool }

// NewRaw returns the codec of rows that are the record's bytes: t is a string or
// []byte type. An empty record is an empty, non-nil slice; nil is written as an
// empty record.
func NewRaw(t reflect.Type) (spi.Codec, error) {
	switch {
	case t != nil && t.Kind() == reflect.String:
		return rawCodec{text: true}, nil
	case t != nil && t.Kind() == reflect.Slice && t.Elem().Kind() == reflect.Uint8:
		return rawCodec{}, nil
	}
	return nil, fmt.Errorf("codec: the format raw is for rows of type string or []byte, not %v: use json or avro", t)
}

// Schema returns "": raw bytes have none.
func (rawCodec) Schema() string { return "" }

func (c rawCodec) Append(dst []byte, p unsafe.Pointer) ([]byte, error) {
	if c.text {
		return append(dst, *(*string)(p)...), nil
	}
	return append(dst, *(*[]byte)(p)...), nil
}

func (c rawCodec) Decode(src []byte, p unsafe.Pointer, a *spi.Arena) error {
	if c.text {
		*(*string)(p) = a.String(src)
		return nil
	}
	*(*[]byte)(p) = a.Bytes(src)
	return nil
}
