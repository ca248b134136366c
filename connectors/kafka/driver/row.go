package driver

import (
	"fmt"
	"reflect"
	"strings"
	"time"
	"unsafe"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/weirstream/weir/internal/codec"
	"github.com/weirstream/weir/stream/spi"
)

// rowShape says how a record becomes a row: as its value, or as a kafka.Message
// around the value.
type rowShape struct {
	elem  reflect.Type
	size  uintptr
	codec spi.Codec
	value uintptr // offset of the value in the row
	meta  *metaShape
}

// metaShape holds the offsets of a message's fields.
type metaShape struct {
	topic, partition, offset, timestamp, key, headers uintptr
	headerType                                        reflect.Type // a slice of struct{Key string; Value []byte}
}

// header has the layout of kafka.Header, which rowShapeOf verifies.
type header struct {
	Key   string
	Value []byte
}

func rowShapeOf(env spi.Env) (rowShape, error) {
	s := rowShape{elem: env.Elem, size: env.Elem.Size(), codec: env.Value}
	if isMessage(env.Elem) {
		value, _ := env.Elem.FieldByName("Value")
		meta, err := metaOf(env.Elem)
		if err != nil {
			return s, err
		}
		c, err := codec.ForFormat(env.Connector.Format, value.Type)
		if err != nil {
			return s, fmt.Errorf("kafka source: the value of %v: %w", env.Elem, err)
		}
		s.codec, s.value, s.meta = c, value.Offset, meta
	}
	if s.codec == nil {
		return s, fmt.Errorf("kafka source: no format is set for rows of %v: use json, avro or raw", env.Elem)
	}
	return s, nil
}

// isMessage tells whether t is kafka.Message of some type. It goes by name, for
// the declaration package may be linked under a vendor's path.
func isMessage(t reflect.Type) bool {
	return t.Kind() == reflect.Struct && strings.HasPrefix(t.Name(), "Message[") && strings.HasSuffix(t.PkgPath(), "connectors/kafka")
}

func metaOf(t reflect.Type) (*metaShape, error) {
	m := new(metaShape)
	for _, f := range []struct {
		name string
		typ  reflect.Type
		at   *uintptr
	}{
		{"Topic", reflect.TypeFor[string](), &m.topic}, {"Partition", reflect.TypeFor[int32](), &m.partition}, {"Offset", reflect.TypeFor[int64](), &m.offset},
		{"Timestamp", reflect.TypeFor[time.Time](), &m.timestamp}, {"Key", reflect.TypeFor[[]byte](), &m.key}, {"Headers", nil, &m.headers},
	} {
		sf, ok := t.FieldByName(f.name)
		if !ok || f.typ != nil && sf.Type != f.typ {
			return nil, fmt.Errorf("kafka source: %v has no field %s that this worker knows: build job and worker from the same version of Weir", t, f.name)
		}
		*f.at = sf.Offset
		if f.name == "Headers" {
			m.headerType = sf.Type
			if sf.Type.Kind() != reflect.Slice || !sf.Type.Elem().ConvertibleTo(reflect.TypeFor[header]()) {
				return nil, fmt.Errorf("kafka source: the headers of %v are %v, which this worker does not know: build job and worker from the same version of Weir", t, sf.Type)
			}
		}
	}
	return m, nil
}

// fill sets the zero row at p from rec.
func (s *rowShape) fill(rec *kgo.Record, p unsafe.Pointer, a *spi.Arena) error {
	if s.meta != nil {
		s.meta.fill(rec, p, a)
	}
	if rec.Value == nil {
		return nil
	}
	return s.codec.Decode(rec.Value, unsafe.Add(p, s.value), a)
}

func (m *metaShape) fill(rec *kgo.Record, p unsafe.Pointer, a *spi.Arena) {
	*(*string)(unsafe.Add(p, m.topic)) = rec.Topic
	*(*int32)(unsafe.Add(p, m.partition)) = rec.Partition
	*(*int64)(unsafe.Add(p, m.offset)) = rec.Offset
	*(*time.Time)(unsafe.Add(p, m.timestamp)) = rec.Timestamp.UTC()
	if rec.Key != nil {
		*(*[]byte)(unsafe.Add(p, m.key)) = a.Bytes(rec.Key)
	}
	if len(rec.Headers) == 0 {
		return
	}
	// The slice is made with its own type, then filled through the equal layout.
	hs := reflect.MakeSlice(m.headerType, len(rec.Headers), len(rec.Headers))
	reflect.NewAt(m.headerType, unsafe.Add(p, m.headers)).Elem().Set(hs)
	out := unsafe.Slice((*header)(hs.UnsafePointer()), len(rec.Headers))
	for i, h := range rec.Headers {
		out[i].Key = a.String([]byte(h.Key))
		if h.Value != nil {
			out[i].Value = a.Bytes(h.Value)
		}
	}
}

// zero clears the row at p.
func (s *rowShape) zero(p unsafe.Pointer) { reflect.NewAt(s.elem, p).Elem().SetZero() }
