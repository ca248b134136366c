package deltalake

import (
	"bytes"
	"slices"

	"github.com/parquet-go/parquet-go/format"
)

// encodedGroup is a row group as it was written, to be written again as it is into
// another file of the same schema. It is immutable.
type encodedGroup struct {
	data   []byte
	group  format.RowGroup // offsets count from the beginning of data
	pages  []writtenIndex  // likewise
	leaves int
}

// capture writes what fill does as row groups of its own, and returns the row group
// if it is one.
func (p *pqWriter) capture(fill func() error) (*encodedGroup, error) {
	if err := p.endGroup(); err != nil {
		return nil, err
	}
	groups, pages, start := len(p.groups), len(p.indexes), max(p.pos, 4)
	data := &bytes.Buffer{}
	p.copied = data
	err := fill()
	if err == nil {
		err = p.endGroup()
	}
	p.copied = nil
	if err != nil || len(p.groups) != groups+1 {
		return nil, err
	}
	raw := data.Bytes()
	e := &encodedGroup{data: bytes.Clone(raw[int64(len(raw))-(p.pos-start):]), leaves: len(p.schema.leaves)} // without the file's first bytes
	e.group, e.pages = movedGroup(p.groups[groups], p.indexes[pages:], -start)
	return e, nil
}

// repeat writes a row group again.
func (p *pqWriter) repeat(e *encodedGroup) error {
	if err := p.endGroup(); err != nil {
		return err
	}
	g, pages := movedGroup(e.group, e.pages, max(p.pos, 4))
	g.Ordinal = int16(len(p.groups))
	if err := p.emit(e.data); err != nil {
		return err
	}
	p.rows += g.NumRows
	p.groups, p.indexes = append(p.groups, g), append(p.indexes, pages...)
	return nil
}

// movedGroup is a row group with its page indexes at another place of a file.
func movedGroup(g format.RowGroup, pages []writtenIndex, by int64) (format.RowGroup, []writtenIndex) {
	g.FileOffset += by
	g.Columns = slices.Clone(g.Columns)
	for i := range g.Columns {
		m := &g.Columns[i].MetaData
		m.DataPageOffset += by
		if slices.Contains(m.Encoding, format.RLEDictionary) {
			m.DictionaryPageOffset += by
		}
	}
	pages = slices.Clone(pages)
	for i := range pages {
		if pages[i].where == nil {
			continue
		}
		w := *pages[i].where
		w.PageLocations = slices.Clone(w.PageLocations)
		for k := range w.PageLocations {
			w.PageLocations[k].Offset += by
		}
		pages[i].where = &w
	}
	return g, pages
}
