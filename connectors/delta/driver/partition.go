package driver

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"slices"
	"unsafe"

	"github.com/weirstream/weir/deltalake"
	"github.com/weirstream/weir/internal/codec"
)

// A part is one set of partition values with the rows that wait for its file.
type part struct {
	key    string
	values map[string]*string

	// Owned by the turn.
	batch *deltalake.Batch // rows of this part alone that wait; nil: none
	rows  []int32          // of the batch at hand
	bytes int64            // what batch counts for in splitter.bytes

	// Owned by the filer.
	file  *deltalake.FileWriter
	tail  *deltalake.FileWriter // what the epoch at hand added to file; nil: nothing
	tails []*deltalake.AddFile  // what former epochs added to file
}

// knownParts is how many parts are remembered without rows that wait.
const knownParts = 1024

// A splitter finds the part of each row. It belongs to the turn.
//
// A part that gets many rows at a time has a batch of its own. The rows of all others
// wait in one batch, mixed, for a batch per part would be mostly overhead where parts
// are many and rows few.
type splitter struct {
	keys  []func(dst []byte, row unsafe.Pointer) ([]byte, error)
	texts []func(row unsafe.Pointer) (*string, error)
	names []string
	parts map[string]*part
	bytes int64 // of the batches of parts, roughly
	last  *part

	mixed  *deltalake.Batch
	owners []*part // of the rows in mixed
	buf    []byte
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

// ownRows is how many rows of one run give a part a batch of its own.
const ownRows = 32

// What an empty vector and a part take.
const vectorBytes, partBytes = 320, 768

// counted notes what the rows that wait in p take: their vectors, which grow by
// doubling.
func (s *splitter) counted(p *part) {
	n := int64(0)
	if p.batch != nil {
		n = p.batch.Bytes()*3/2 + int64(len(p.batch.Columns))*vectorBytes
	}
	s.bytes += n - p.bytes
	p.bytes = n
}

// waiting is the memory of all rows that wait and of what is known of their parts.
func (s *splitter) waiting() int64 {
	n := s.bytes + int64(len(s.parts))*partBytes + int64(len(s.owners))*12
	if s.mixed != nil {
		n += s.mixed.Bytes() * 3 / 2
	}
	return n
}

// sort sets rows of each part to its rows in mixed and returns all parts with rows
// that wait, those with most first, and what each has.
func (s *splitter) sort() (parts []*part, bytes []int64) {
	perRow := int64(0)
	if len(s.owners) > 0 {
		perRow = s.mixed.Bytes()*3/2/int64(len(s.owners)) + 12
	}
	for i, p := range s.owners {
		if len(p.rows) == 0 && p.batch == nil {
			parts = append(parts, p)
		}
		p.rows = append(p.rows, int32(i))
	}
	for _, p := range s.parts {
		if p.batch != nil {
			parts = append(parts, p)
		}
	}
	size := func(p *part) int64 { return p.bytes + int64(len(p.rows))*perRow }
	slices.SortFunc(parts, func(a, b *part) int { return cmp.Or(cmp.Compare(size(b), size(a)), cmp.Compare(a.key, b.key)) })
	for _, p := range parts {
		bytes = append(bytes, size(p))
	}
	return parts, bytes
}

// keep makes the given rows all that is mixed.
func (s *splitter) keep(parts []*part) {
	old := s.mixed
	s.mixed, s.owners = nil, s.owners[:0]
	if len(parts) == 0 && old != nil && old.Bytes() < 1<<20 {
		old.Reset()
		s.mixed = old
		return
	}
	for _, p := range parts {
		if len(p.rows) > 0 {
			if s.mixed == nil {
				s.mixed = deltalake.NewBatch(old.Schema)
			}
			s.mixed.Gather(old, p.rows)
			for range p.rows {
				s.owners = append(s.owners, p)
			}
		}
		p.rows = nil
	}
}

// tidy forgets parts without rows that wait, when there are many.
func (s *splitter) tidy() {
	if len(s.parts) <= knownParts {
		return
	}
	wait := map[*part]bool{}
	for _, p := range s.owners {
		wait[p] = true
	}
	for k, p := range s.parts {
		if p.batch == nil && !wait[p] {
			delete(s.parts, k)
		}
	}
	s.last = nil
}
