package streamtest

import (
	"bytes"
	"fmt"
	"reflect"
	"unsafe"

	"github.com/weirstream/weir/internal/codec"
	"github.com/weirstream/weir/stream/spi"
)

// A stateCodec encodes with the plain codec and sees for every value that the
// engine's own codec gives it back as it was.
type stateCodec struct {
	plainCodec
	engine spi.Codec
}

// newStateCodec refuses a type that the engine would refuse.
func newStateCodec(t reflect.Type) (spi.Codec, error) {
	engine, _, err := codec.NewStateCodec(t, nil)
	if err != nil {
		return nil, err
	}
	return stateCodec{plainCodec{t}, engine}, nil
}

// Append implements spi.Codec.
func (c stateCodec) Append(dst []byte, p unsafe.Pointer) ([]byte, error) {
	plain, err := c.plainCodec.Append(nil, p)
	if err != nil {
		return nil, err
	}
	encoded, err := c.engine.Append(nil, p)
	if err != nil {
		return nil, err
	}
	back := reflect.New(c.t)
	if err := c.engine.Decode(encoded, back.UnsafePointer(), nil); err != nil {
		return nil, fmt.Errorf("streamtest: a value of %v cannot be read back: %w", c.t, err)
	}
	again, err := c.plainCodec.Append(nil, back.UnsafePointer())
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(plain, again) {
		return nil, fmt.Errorf("streamtest: %+v of %v comes back from its encoding as %+v", reflect.NewAt(c.t, p).Elem(), c.t, back.Elem())
	}
	return append(dst, plain...), nil
}
