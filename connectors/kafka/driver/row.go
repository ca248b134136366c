package driver

import (
	"reflect"
	"unsafe"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/weirstream/weir/stream/spi"
)

// rowShape says how a record becomes a row.
type rowShape struct {
	elem  reflect.Type
	size  uintptr
	codec spi.Codec
}

func rowShapeOf(env spi.Env) (rowShape, error) {
	return rowShape{elem: env.Elem, size: env.Elem.Size(), codec: env.Value}, nil
}

// fill sets the zero row at p from rec.
func (s *rowShape) fill(rec *kgo.Record, p unsafe.Pointer, a *spi.Arena) error {
	if rec.Value == nil {
		return nil
	}
	return s.codec.Decode(rec.Value, p, a)
}

// zero clears the row at p.
func (s *rowShape) zero(p unsafe.Pointer) { reflect.NewAt(s.elem, p).Elem().SetZero() }
