package driver

import (
	"encoding/binary"
	"fmt"
	"unsafe"

	"github.com/weirstream/weir/deltalake"
	"github.com/weirstream/weir/internal/codec"
)

// A part is one set of partition values with the rows that wait for its file.
// file belongs to the filer, the rest to the turn.
type part struct {
	key    string
	values map[string]*string
	batch  *deltalake.Batch // nil: no rows wait
	rows   []int32          // of the batch at hand
	used   uint64           // tick of the last use
	file   *deltalake.FileWriter
}

// A splitter finds the part of each row. It belongs to the turn.
type splitter struct {
	keys  []func(dst []byte, row unsafe.Pointer) ([]byte, error)
	texts []func(row unsafe.Pointer) (*string, error)
	names []string
	parts map[string]*part
	last  *part
	buf   []byte
	tick  uint64
}

func newSplitter(cols []codec.Column, fields []deltalake.Field) (*splitter, error) {
	s := &splitter{parts: map[string]*part{}}
	for i := range fields {
		c := columnFor(cols, fields[i].Name)
		if c == nil {
			return nil, fmt.Errorf("%s: the rows have no column %q, by which the table is partitioned", who, fields[i].Name)
		}
		text := textOf(c, fields[i].Type)
		s.names = append(s.names, fields[i].Name)
		s.texts = append(s.texts, text)
		s.keys = append(s.keys, keyOf(c, text))
	}
	return s, nil
}

// textOf writes a partition value as the log does.
func textOf(c *codec.Column, t *deltalake.Type) func(row unsafe.Pointer) (*string, error) {
	one, v := compileOne(c, t), deltalake.NewVector(t)
	return func(row unsafe.Pointer) (*string, error) {
		v.Reset()
		if err := one(v, row); err != nil {
			return nil, err
		}
		return deltalake.FormatPartitionValue(v, 0), nil
	}
}

// keyOf appends what tells values of a column apart, fast for the common kinds.
func keyOf(c *codec.Column, text func(row unsafe.Pointer) (*string, error)) func(dst []byte, row unsafe.Pointer) ([]byte, error) {
	switch c.Type {
	case codec.ColString:
		return func(dst []byte, row unsafe.Pointer) ([]byte, error) {
			q := c.Value(row)
			if q == nil {
				return append(dst, 0), nil
			}
			b := c.Bytes(q)
			dst = binary.AppendUvarint(append(dst, 1), uint64(len(b)))
			return append(dst, b...), nil
		}
	case codec.ColInt, codec.ColLong:
		return func(dst []byte, row unsafe.Pointer) ([]byte, error) {
			q := c.Value(row)
			if q == nil {
				return append(dst, 0), nil
			}
			return binary.LittleEndian.AppendUint64(append(dst, 1), uint64(c.Int64(q))), nil
		}
	}
	return func(dst []byte, row unsafe.Pointer) ([]byte, error) {
		s, err := text(row)
		if err != nil || s == nil {
			return append(dst, 0), err
		}
		dst = binary.AppendUvarint(append(dst, 1), uint64(len(*s)))
		return append(dst, *s...), nil
	}
}

// find returns the part of the row at p, a new one if there is none.
func (s *splitter) find(p unsafe.Pointer) (*part, error) {
	buf := s.buf[:0]
	var err error
	for _, key := range s.keys {
		if buf, err = key(buf, p); err != nil {
			return nil, err
		}
	}
	s.buf = buf
	if s.last != nil && s.last.key == string(buf) {
		return s.last, nil
	}
	pt := s.parts[string(buf)]
	if pt == nil {
		pt = &part{key: string(buf), values: map[string]*string{}}
		for i, text := range s.texts {
			if pt.values[s.names[i]], err = text(p); err != nil {
				return nil, err
			}
		}
		s.parts[pt.key] = pt
	}
	s.last = pt
	return pt, nil
}

// oldest returns the part that was not used for longest.
func (s *splitter) oldest() *part {
	var old *part
	for _, p := range s.parts {
		if old == nil || p.used < old.used || p.used == old.used && p.key < old.key {
			old = p
		}
	}
	return old
}

func (s *splitter) forget(p *part) {
	delete(s.parts, p.key)
	if s.last == p {
		s.last = nil
	}
}
