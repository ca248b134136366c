package deltalake

import (
	"fmt"
	"unicode/utf8"

	"github.com/parquet-go/parquet-go/encoding/thrift"
	"github.com/parquet-go/parquet-go/format"
)

// pageNote is what the page index says of one page that was written.
type pageNote struct {
	size     int // with its header
	rows     int
	nulls    int64
	empty    bool   // nothing but nulls
	min, max []byte // nil when unknown
}

// narrowCodes is the most entries of a dictionary that are looked at for the bounds
// of a page.
const narrowCodes = 1024

// notePage ends the statistics of the page being filled, of so many bytes packed.
func (l *leafWriter) notePage(size int) {
	l.chunkStats.merge(&l.pageStats)
	n := pageNote{size: size, rows: l.slots, nulls: l.nulls, empty: l.nulls == int64(l.slots)}
	if l.maxRep > 0 {
		n.rows = 0
		for _, rep := range l.reps {
			if rep == 0 {
				n.rows++
			}
		}
	}
	if !n.empty {
		s := &l.pageStats
		if !s.set {
			s = l.codeStats()
		}
		if s.set && (l.typ.Kind == KindString || l.typ.Kind == KindBinary) {
			n.min, n.max = cutMin(s.minByte, l.typ.Kind), cutMax(s.maxByte, l.typ.Kind)
		} else {
			st := s.parquet(l)
			n.min, n.max = st.MinValue, st.MaxValue
		}
	}
	l.pages = append(l.pages, n)
	l.pageStats = leafStats{minByte: l.pageStats.minByte[:0], maxByte: l.pageStats.maxByte[:0]}
}

// codeStats are bounds of a page of codes: those of the dictionary's entries
// between the lowest and the highest code, or where these are many, of all values
// of the chunk so far.
func (l *leafWriter) codeStats() *leafStats {
	if len(l.codes) == 0 {
		return &l.chunkStats
	}
	lo, hi := l.codes[0], l.codes[0]
	for _, c := range l.codes {
		lo, hi = min(lo, c), max(hi, c)
	}
	if hi-lo >= narrowCodes {
		return &l.chunkStats
	}
	s := &l.pageStats
	for c := lo; c <= hi; c++ {
		s.bytes(l.dict.at(c))
	}
	return s
}

// cutBytes is the most bytes of a value in a page index.
const cutBytes = 64

// cut is the length of what is left of a long value: whole characters of a text.
func cut(b []byte, k Kind) int {
	n := min(len(b), cutBytes)
	for k == KindString && n < len(b) && n > 0 && !utf8.RuneStart(b[n]) {
		n--
	}
	return n
}

// cutMin returns a lower bound of few bytes for b.
func cutMin(b []byte, k Kind) []byte { return append([]byte{}, b[:cut(b, k)]...) }

// cutMax returns an upper bound of few bytes for b: where it is cut, its last
// character or byte that has a greater one is raised; nil when there is none.
func cutMax(b []byte, k Kind) []byte {
	n := cut(b, k)
	out := append([]byte{}, b[:n]...)
	if n == len(b) {
		return out
	}
	for len(out) > 0 {
		last, size := rune(out[len(out)-1]), 1
		if k == KindString {
			last, size = utf8.DecodeLastRune(out)
		}
		out = out[:len(out)-size]
		switch {
		case k == KindBinary && last < 0xff:
			return append(out, byte(last+1))
		case k == KindString && last == 0xd7ff: // what follows are no characters
			return utf8.AppendRune(out, 0xe000)
		case k == KindString && last < utf8.MaxRune && !(last == utf8.RuneError && size == 1):
			return utf8.AppendRune(out, last+1)
		}
	}
	return nil
}

// chunkIndex is the page index of a column chunk whose first page lies at off; the
// ColumnIndex is nil where the bounds of a page are not known.
func chunkIndex(pages []pageNote, off int64) (*format.OffsetIndex, *format.ColumnIndex) {
	where, what := &format.OffsetIndex{}, &format.ColumnIndex{}
	row := int64(0)
	for _, n := range pages {
		where.PageLocations = append(where.PageLocations, format.PageLocation{Offset: off, CompressedPageSize: int32(n.size), FirstRowIndex: row})
		off, row = off+int64(n.size), row+int64(n.rows)
		if what == nil || !n.empty && (n.min == nil || n.max == nil) {
			what = nil
			continue
		}
		what.NullPages = append(what.NullPages, n.empty)
		what.MinValues = append(what.MinValues, n.min)
		what.MaxValues = append(what.MaxValues, n.max)
		what.NullCounts = append(what.NullCounts, n.nulls)
	}
	return where, what
}

// groupIndex notes the page indexes of the row group that was just written, unless
// each of its columns is one page, of which the footer tells all.
func (p *pqWriter) groupIndex(g *format.RowGroup) {
	several := false
	for _, l := range p.schema.leaves {
		several = several || len(l.pages) > 1
	}
	for i, l := range p.schema.leaves {
		var x writtenIndex
		if several {
			x.where, x.what = chunkIndex(l.pages, g.Columns[i].MetaData.DataPageOffset)
		}
		p.indexes = append(p.indexes, x)
	}
}

// writtenIndex is the page index of one column chunk of the file; nil when it has
// none.
type writtenIndex struct {
	where *format.OffsetIndex
	what  *format.ColumnIndex
}

// emitIndexes writes the page indexes, first all bounds and then all places, and
// tells the row groups where they are.
func (p *pqWriter) emitIndexes() error {
	leaves := len(p.schema.leaves)
	put := func(x any) (int64, int32, error) {
		raw, err := thrift.Marshal(new(thrift.CompactProtocol), x)
		if err != nil {
			return 0, 0, fmt.Errorf("deltalake: encode page index: %w", err)
		}
		at := p.pos
		return at, int32(len(raw)), p.emit(raw)
	}
	for i, x := range p.indexes {
		if x.what == nil {
			continue
		}
		c := &p.groups[i/leaves].Columns[i%leaves]
		var err error
		if c.ColumnIndexOffset, c.ColumnIndexLength, err = put(x.what); err != nil {
			return err
		}
	}
	for i, x := range p.indexes {
		if x.where == nil {
			continue
		}
		c := &p.groups[i/leaves].Columns[i%leaves]
		var err error
		if c.OffsetIndexOffset, c.OffsetIndexLength, err = put(x.where); err != nil {
			return err
		}
	}
	return nil
}
