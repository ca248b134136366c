package deltalake

import (
	"context"
	"fmt"
	"slices"
	"sort"
)

// The page index of a Parquet file tells, for each page of a column chunk, where
// it lies and its first row (OffsetIndex) and the bounds of its values
// (ColumnIndex). A scan with a filter uses it to pass over pages. It is a hint: an
// index that is absent, damaged or does not agree with itself, with the footer or
// with the headers of the pages is as good as none.

// pageSpot is one page of a column chunk.
type pageSpot struct {
	off, size int64 // with its header
	lo, hi    int64 // its rows in the row group
}

// columnIndex holds what is known of the values of each page of a chunk.
type columnIndex struct {
	empty    []bool // nothing but nulls
	min, max [][]byte
	nulls    []int64 // nil when unknown
}

// rowRange is the rows [lo, hi) of a row group.
type rowRange struct{ lo, hi int64 }

const (
	maxIndexBytes = 8 << 20 // of one column chunk; a longer index is not read
	maxIndexPages = 1 << 16
	joinedGap     = 64 << 10 // bytes between two reads that are read along
	maxPageReads  = 8        // of one column chunk
)

// span is a part of a file.
type span struct{ off, size int64 }

func (s span) end() int64 { return s.off + s.size }

// readSpans reads parts of the file, near ones at once; nearer than gap.
func (f *pqFile) readSpans(ctx context.Context, spans []span, gap int64) ([][]byte, error) {
	order := make([]int, len(spans))
	for i := range order {
		order[i] = i
	}
	sort.Slice(order, func(a, b int) bool { return spans[order[a]].off < spans[order[b]].off })
	out := make([][]byte, len(spans))
	for len(order) > 0 {
		all := spans[order[0]]
		n := 1
		for ; n < len(order) && spans[order[n]].off-all.end() <= gap; n++ {
			all.size = max(all.end(), spans[order[n]].end()) - all.off
		}
		data, err := f.part(ctx, all)
		if err != nil {
			return nil, err
		}
		for _, i := range order[:n] {
			at := spans[i].off - all.off
			out[i] = data[at : at+spans[i].size]
		}
		order = order[n:]
	}
	return out, nil
}

// part reads one part of the file, which is inside of it; the end of the file was
// read with the footer.
func (f *pqFile) part(ctx context.Context, s span) ([]byte, error) {
	if at := s.off - (f.size - int64(len(f.tail))); at >= 0 {
		return f.tail[at : at+s.size], nil
	}
	data, err := f.store.GetRange(ctx, f.path, s.off, s.size)
	if err == nil && int64(len(data)) != s.size {
		err = fmt.Errorf("%w: %d bytes instead of %d", errPage, len(data), s.size)
	}
	return data, err
}

// readIndexes reads the indexes that some chunks have at the given places; nil
// stands for one that is absent or cannot be read.
func (f *pqFile) readIndexes(ctx context.Context, spans []span) [][]byte {
	out := make([][]byte, len(spans))
	var ask []span
	var of []int
	for i, s := range spans {
		if s.size > 0 && s.size <= maxIndexBytes && s.off > 0 && s.off <= f.size-s.size {
			ask, of = append(ask, s), append(of, i)
		}
	}
	if data, err := f.readSpans(ctx, ask, joinedGap); err == nil {
		for k, i := range of {
			out[i] = data[k]
		}
	}
	return out
}

// pageSpots reads the OffsetIndex of a chunk; nil when it has none that fits.
func pageSpots(raw []byte, c *pqChunk, rows int64) []pageSpot {
	if raw == nil {
		return nil
	}
	var spots []pageSpot
	r := &thriftReader{b: raw}
	r.fields(func(id int16, typ byte) {
		if id != 1 || typ != tList {
			r.skip(typ)
			return
		}
		r.list(func(typ byte) {
			if typ != tStruct || len(spots) >= maxIndexPages {
				r.bad = true
				return
			}
			var p pageSpot
			r.fields(func(id int16, typ byte) {
				switch id {
				case 1:
					p.off = r.int()
				case 2:
					p.size = r.int()
				case 3:
					p.lo = r.int()
				default:
					r.skip(typ)
				}
			})
			spots = append(spots, p)
		})
	})
	if r.bad || len(spots) == 0 {
		return nil
	}
	// Pages follow each other from the first row and, but for a dictionary, from
	// the chunk's start to its end.
	off, row := spots[0].off, int64(0)
	if off < c.start() {
		return nil
	}
	for i := range spots {
		p := &spots[i]
		if p.hi = rows; i+1 < len(spots) {
			p.hi = spots[i+1].lo
		}
		if p.off != off || p.lo != row || p.hi <= p.lo || p.size <= 0 || p.size > c.start()+c.packed-p.off {
			return nil
		}
		off, row = off+p.size, p.hi
	}
	if off != c.start()+c.packed || row != rows {
		return nil
	}
	return spots
}

// parseColumnIndex reads the ColumnIndex of a chunk of so many pages; nil when it
// does not fit.
func parseColumnIndex(raw []byte, pages int) *columnIndex {
	if raw == nil {
		return nil
	}
	x := &columnIndex{}
	r := &thriftReader{b: raw}
	list := func(typ, of byte, add func() int) {
		if typ != tList {
			r.skip(typ)
			return
		}
		r.list(func(typ byte) {
			if typ != of && (of != tTrue || typ != tFalse) || add() > pages {
				r.bad = true
			}
		})
	}
	texts := func(to *[][]byte) func() int {
		return func() int { *to = append(*to, r.bytes()); return len(*to) }
	}
	r.fields(func(id int16, typ byte) {
		switch id {
		case 1:
			list(typ, tTrue, func() int { x.empty = append(x.empty, r.byte() == 1); return len(x.empty) })
		case 2:
			list(typ, tBinary, texts(&x.min))
		case 3:
			list(typ, tBinary, texts(&x.max))
		case 5:
			list(typ, tI64, func() int { x.nulls = append(x.nulls, r.int()); return len(x.nulls) })
		default:
			r.skip(typ)
		}
	})
	if r.bad || len(x.empty) != pages || len(x.min) != pages || len(x.max) != pages || x.nulls != nil && len(x.nulls) != pages {
		return nil
	}
	return x
}

// bounds returns those of each page of a column without lists, or nil when the
// index contradicts itself.
func (x *columnIndex) bounds(spots []pageSpot, node *pqCol, t *Type) []colBounds {
	out := make([]colBounds, len(spots))
	for i, p := range spots {
		b := unknownBounds()
		if x.nulls != nil {
			n := x.nulls[i]
			if n < 0 || n > p.hi-p.lo || (n == p.hi-p.lo) != x.empty[i] || n > 0 && node.def == 0 {
				return nil
			}
			b.someNull = n > 0
		}
		if b.allNull = x.empty[i]; !b.allNull {
			b.lo, b.hi = chunkValue(node, t, x.min[i], false), chunkValue(node, t, x.max[i], true)
			if c, ok := b.lo.compare(b.hi); ok && c > 0 && b.lo.kind != vNull && b.hi.kind != vNull {
				return nil
			}
		}
		out[i] = b
	}
	return out
}

// pagedColumn is a column of the filter with the bounds of its pages.
type pagedColumn struct {
	spots  []pageSpot
	bounds []colBounds
	at     int // page of the rows that are asked about
}

// pageRanges returns the rows of a row group for which the filter can be true by
// the page index, in order. The filter can be true somewhere by the footer.
func (f *pqFile) pageRanges(ctx context.Context, g *pqGroup, filter *Expr, plans []*colPlan) []rowRange {
	all := []rowRange{{0, g.rows}}
	cols := f.pagedColumns(ctx, g, filter, plans)
	if len(cols) == 0 {
		return all
	}
	var borders []int64
	for _, c := range cols {
		for _, p := range c.spots {
			borders = append(borders, p.lo)
		}
	}
	slices.Sort(borders)
	borders = append(slices.Compact(borders), g.rows)
	footer := f.chunkBounds(g, plans)
	bounds := func(col *Expr) colBounds {
		cp := planAt(col, plans)
		if cp == nil || cp.node == nil || cols[cp.node.leaf] == nil {
			return footer(col)
		}
		c := cols[cp.node.leaf]
		return c.bounds[c.at]
	}
	var out []rowRange
	for i, lo := range borders[:len(borders)-1] {
		for _, c := range cols {
			for c.spots[c.at].hi <= lo {
				c.at++
			}
		}
		if can, _ := filter.possible(bounds); !can {
			continue
		}
		if n := len(out); n > 0 && out[n-1].hi == lo {
			out[n-1].hi = borders[i+1]
		} else {
			out = append(out, rowRange{lo, borders[i+1]})
		}
	}
	return out
}

// pagedColumns reads the page index of the columns that the filter compares, by
// their leaf, if there is one and it divides the row group.
func (f *pqFile) pagedColumns(ctx context.Context, g *pqGroup, filter *Expr, plans []*colPlan) map[int]*pagedColumn {
	leaves := map[int]*colPlan{}
	filter.compared(func(col *Expr) {
		if cp := planAt(col, plans); cp != nil && cp.node != nil && cp.node.leaf >= 0 && cp.node.depth == 0 {
			if c := &g.chunks[cp.node.leaf]; c.offsetIndex.size > 0 && c.columnIndex.size > 0 {
				leaves[cp.node.leaf] = cp
			}
		}
	})
	var order []int
	var spans []span
	for leaf := range leaves {
		order = append(order, leaf)
		spans = append(spans, g.chunks[leaf].offsetIndex)
	}
	var several []int
	cols := map[int]*pagedColumn{}
	for i, raw := range f.readIndexes(ctx, spans) {
		if spots := pageSpots(raw, &g.chunks[order[i]], g.rows); len(spots) > 1 {
			cols[order[i]] = &pagedColumn{spots: spots}
			several = append(several, order[i])
		}
	}
	spans = spans[:0]
	for _, leaf := range several {
		spans = append(spans, g.chunks[leaf].columnIndex)
	}
	for i, raw := range f.readIndexes(ctx, spans) {
		leaf := several[i]
		c, cp := cols[leaf], leaves[leaf]
		if x := parseColumnIndex(raw, len(c.spots)); x != nil && g.chunks[leaf].typ == cp.node.typ {
			c.bounds = x.bounds(c.spots, cp.node, cp.typ)
		}
		if c.bounds == nil {
			delete(cols, leaf)
		}
	}
	return cols
}

// countReads is how many reads take the spans, which are in order.
func countReads(spans []span, gap int64) int {
	n := 1
	for i := 1; i < len(spans); i++ {
		if spans[i].off-spans[i-1].end() > gap {
			n++
		}
	}
	return n
}

// leafPage is a page that is read by its place in the page index.
type leafPage struct {
	pageSpot
	data []byte // with the header; nil of a page that no wanted row is in
}

// wantedPages reads the pages of a chunk that hold rows of the ranges, and the
// dictionary; nil when the index cannot be trusted.
func (f *pqFile) wantedPages(ctx context.Context, c *pqChunk, col *pqCol, spots []pageSpot, ranges []rowRange) (dict []byte, pages []leafPage) {
	var spans []span
	var of []int
	if n := spots[0].off - c.start(); n > 0 {
		spans, of = append(spans, span{c.start(), n}), append(of, -1)
	}
	pages = make([]leafPage, len(spots))
	r := 0
	for i, p := range spots {
		pages[i].pageSpot = p
		for r < len(ranges) && ranges[r].hi <= p.lo {
			r++
		}
		if r < len(ranges) && ranges[r].lo < p.hi {
			spans, of = append(spans, span{p.off, p.size}), append(of, i)
		}
	}
	gap := int64(joinedGap)
	for countReads(spans, gap) > maxPageReads {
		gap *= 2
	}
	data, err := f.readSpans(ctx, spans, gap)
	if err != nil {
		return nil, nil
	}
	for k, i := range of {
		h, n, err := parsePageHeader(data[k])
		if err != nil || int64(n)+h.packed != int64(len(data[k])) {
			return nil, nil
		}
		switch {
		case i < 0 && h.kind == 2:
			dict = data[k]
		case i >= 0 && (h.kind == 0 || h.kind == 3) && (h.values == spots[i].hi-spots[i].lo || col.depth > 0 && h.values > spots[i].hi-spots[i].lo):
			pages[i].data = data[k]
		default:
			return nil, nil
		}
	}
	return dict, pages
}

// newPrunedReader is newGroupReader for some rows of the group. It reads only the
// pages that hold them, where the page index tells which these are.
func newPrunedReader(ctx context.Context, f *pqFile, group int, p *planner, plans []*colPlan, ranges []rowRange) (*groupReader, error) {
	g := &f.meta.groups[group]
	r := &groupReader{plans: plans, ranges: slices.Clone(ranges)}
	types := make([]*Type, len(p.leaves))
	for _, cp := range plans {
		cp.leafTypes(types)
	}
	spans := make([]span, len(p.leaves))
	for slot, col := range p.leaves {
		spans[slot] = g.chunks[col.leaf].offsetIndex
	}
	for slot, raw := range f.readIndexes(ctx, spans) {
		col := p.leaves[slot]
		c := &g.chunks[col.leaf]
		var l *leafReader
		if spots := pageSpots(raw, c, g.rows); len(spots) > 1 && c.typ == col.typ {
			dict, pages := f.wantedPages(ctx, c, col, spots, ranges)
			if pages == nil { // nor can the ranges be
				return newGroupReader(ctx, f, group, p, plans)
			}
			l = &leafReader{col: col, typ: types[slot], codec: c.codec, data: dict, left: c.values, paged: true, pages: pages}
		} else {
			var err error
			if l, err = newLeafReader(ctx, f, g, col, types[slot]); err != nil {
				return nil, fmt.Errorf("deltalake: read %s: %w", f.path, err)
			}
		}
		r.leaves = append(r.leaves, l)
	}
	return r, nil
}

// filtered returns a reader of the rows of a group that the filter (nil: none), bound
// to the schema of bySchema, can be true for.
func (f *pqFile) filtered(ctx context.Context, group int, p *planner, plans []*colPlan, filter *Expr, bySchema []*colPlan) (*groupReader, error) {
	g := &f.meta.groups[group]
	if filter == nil {
		return newGroupReader(ctx, f, group, p, plans)
	}
	ranges := f.pageRanges(ctx, g, filter, bySchema)
	switch {
	case len(ranges) == 0:
		return &groupReader{plans: plans, at: g.rows}, nil
	case ranges[0] == rowRange{0, g.rows}:
		return newGroupReader(ctx, f, group, p, plans)
	}
	return newPrunedReader(ctx, f, group, p, plans, ranges)
}

// paged tells whether pages are found by the page index.
func (r *groupReader) paged() bool {
	return slices.ContainsFunc(r.leaves, func(l *leafReader) bool { return l.paged })
}

// pagedNext decodes the next of the pages that are wanted.
func (l *leafReader) pagedNext() (bool, error) {
	for len(l.data) > 0 { // the dictionary
		h, n, err := parsePageHeader(l.data)
		if err != nil {
			return false, err
		}
		body := l.data[n:]
		l.data = nil
		if err := l.dictionary(&h, body); err != nil {
			return false, err
		}
	}
	if len(l.pages) == 0 {
		return false, nil
	}
	p := l.pages[0]
	l.pages = l.pages[1:]
	h, n, err := parsePageHeader(p.data)
	if err != nil {
		return false, err
	}
	if h.values > maxPageValues || h.values > l.left {
		return false, fmt.Errorf("%w: column %q claims %d values in a page", errPage, l.col.name, h.values)
	}
	l.left -= h.values
	l.pageEnd = p.hi
	if err := l.dataPage(&h, p.data[n:]); err != nil || l.col.depth == 0 {
		return err == nil, err
	}
	rows := int64(0)
	for _, rep := range l.page.reps {
		if rep == 0 {
			rows++
		}
	}
	if rows != p.hi-p.lo || l.page.reps[0] != 0 {
		return false, fmt.Errorf("%w: column %q has %d rows in a page of %d", errPage, l.col.name, rows, p.hi-p.lo)
	}
	return true, nil
}

// passPages passes over n rows as far as they are the rest of the page at hand and
// whole pages, and returns how many are left to pass over.
func (l *leafReader) passPages(n int64) int64 {
	target := l.row + n
	if target < l.pageEnd {
		return n
	}
	l.page.at, l.row = l.page.slots, l.pageEnd
	for len(l.pages) > 0 && l.pages[0].hi <= target {
		l.row, l.pageEnd = l.pages[0].hi, l.pages[0].hi
		l.pages = l.pages[1:]
	}
	return target - l.row
}
