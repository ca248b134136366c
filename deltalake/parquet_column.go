package deltalake

import (
	"context"
	"encoding/binary"
	"fmt"
	"slices"
)

// leafReader decodes one column chunk, page by page.
type leafReader struct {
	col   *pqCol
	typ   *Type // of the values wanted; nil when only the levels are
	codec int
	data  []byte // rest of the chunk
	left  int64  // values that the chunk still owes
	late  int    // rows to pass over before the next are read

	paged        bool       // read by the page index: data is the dictionary
	pages        []leafPage // those to come
	row, pageEnd int64      // rows of the group: the next, and where the page at hand ends

	dict *Vector
	page struct {
		reps, defs []uint8 // nil when the column has none
		slots      int     // levels in the page
		at         int     // next level
		vals       *Vector // dense values, or
		idx        []int32 // positions in dict
		next       int     // next value
		dense      bool    // no slot is null
	}
	unpacked []byte
}

func newLeafReader(ctx context.Context, f *pqFile, g *pqGroup, col *pqCol, typ *Type) (*leafReader, error) {
	c := &g.chunks[col.leaf]
	if c.typ != col.typ {
		return nil, fmt.Errorf("%w: column %q changes its type", errThrift, col.name)
	}
	data, err := f.store.GetRange(ctx, f.path, c.start(), c.packed)
	if err != nil {
		return nil, err
	}
	return &leafReader{col: col, typ: typ, codec: c.codec, data: data, left: c.values}, nil
}

// nextPage decodes the next data page; false at the end of the chunk.
func (l *leafReader) nextPage() (bool, error) {
	if l.paged {
		return l.pagedNext()
	}
	for l.left > 0 {
		if len(l.data) == 0 {
			return false, fmt.Errorf("%w: column %q ends %d values early", errPage, l.col.name, l.left)
		}
		h, n, err := parsePageHeader(l.data)
		if err != nil {
			return false, err
		}
		l.data = l.data[n:]
		if h.packed > int64(len(l.data)) {
			return false, fmt.Errorf("%w: a page of column %q is cut off", errPage, l.col.name)
		}
		body := l.data[:h.packed]
		l.data = l.data[h.packed:]
		switch h.kind {
		case 2:
			if err := l.dictionary(&h, body); err != nil {
				return false, err
			}
		case 0, 3:
			if h.values > maxPageValues || h.values > l.left {
				return false, fmt.Errorf("%w: column %q claims %d values in a page", errPage, l.col.name, h.values)
			}
			if h.values == 0 {
				continue
			}
			l.left -= h.values
			return true, l.dataPage(&h, body)
		}
	}
	return false, nil
}

func (l *leafReader) dictionary(h *pageHeader, body []byte) error {
	if l.dict != nil || h.encoding != encPlain && h.encoding != encPlainDict {
		return fmt.Errorf("%w: dictionary of column %q", errPage, l.col.name)
	}
	if l.typ == nil {
		return nil
	}
	raw, err := unpack(l.codec, body, h.raw, nil)
	if err != nil {
		return err
	}
	if h.values > int64(len(raw))*8 {
		return fmt.Errorf("%w: dictionary of column %q claims %d values", errPage, l.col.name, h.values)
	}
	l.dict, err = decodeValues(l.col, l.typ, encPlain, raw, int(h.values))
	return err
}

func (l *leafReader) dataPage(h *pageHeader, body []byte) error {
	p := &l.page
	n := int(h.values)
	p.slots, p.at, p.next, p.vals, p.idx = n, 0, 0, nil, nil
	p.reps, p.defs = p.reps[:0], p.defs[:0]
	levels := func(src []byte, top uint8, dst []uint8) ([]uint8, error) {
		dst, err := hybrid(dst, src, levelWidth(top), n)
		if err != nil {
			return dst, err
		}
		for _, x := range dst {
			if x > top {
				return dst, errPage
			}
		}
		return dst, nil
	}
	var err error
	if h.kind == 0 {
		if body, err = unpack(l.codec, body, h.raw, l.unpacked); err != nil {
			return err
		}
		l.unpacked = body
		for _, lv := range []struct {
			top uint8
			dst *[]uint8
		}{{l.col.depth, &p.reps}, {l.col.def, &p.defs}} {
			if lv.top == 0 {
				continue
			}
			if len(body) < 4 || uint64(binary.LittleEndian.Uint32(body)) > uint64(len(body)-4) {
				return errPage
			}
			size := binary.LittleEndian.Uint32(body)
			if *lv.dst, err = levels(body[4:4+size], lv.top, *lv.dst); err != nil {
				return err
			}
			body = body[4+size:]
		}
	} else {
		if h.repLen+h.defLen > int64(len(body)) || h.raw < h.repLen+h.defLen {
			return errPage
		}
		if l.col.depth > 0 {
			if p.reps, err = levels(body[:h.repLen], l.col.depth, p.reps); err != nil {
				return err
			}
		}
		if l.col.def > 0 {
			if p.defs, err = levels(body[h.repLen:h.repLen+h.defLen], l.col.def, p.defs); err != nil {
				return err
			}
		}
		body = body[h.repLen+h.defLen:]
		if !h.uncompressed {
			if body, err = unpack(l.codec, body, h.raw-h.repLen-h.defLen, l.unpacked); err != nil {
				return err
			}
			l.unpacked = body
		}
	}
	values := n
	if l.col.def > 0 {
		values = 0
		for _, d := range p.defs {
			if d == l.col.def {
				values++
			}
		}
	}
	p.dense = values == n
	if l.typ == nil {
		return nil
	}
	if h.encoding == encRLEDict || h.encoding == encPlainDict {
		return l.indexes(body, values)
	}
	p.vals, err = decodeValues(l.col, l.typ, h.encoding, body, values)
	return err
}

func (l *leafReader) indexes(body []byte, n int) error {
	if n == 0 {
		l.page.idx = []int32{}
		return nil
	}
	if l.dict == nil || len(body) == 0 {
		return fmt.Errorf("%w: column %q lacks its dictionary", errPage, l.col.name)
	}
	idx, err := hybrid(make([]int32, 0, n), body[1:], int(body[0]), n)
	if err != nil {
		return err
	}
	for _, i := range idx {
		if uint32(i) >= uint32(l.dict.Len) {
			return fmt.Errorf("%w: column %q points outside its dictionary", errPage, l.col.name)
		}
	}
	l.page.idx = idx
	return nil
}

// take appends the next k values of the page to dst; they are not null.
func (l *leafReader) take(dst *Vector, k int) {
	p := &l.page
	if p.idx != nil {
		dst.appendIndexed(l.dict, p.idx[p.next:p.next+k])
	} else {
		dst.appendRun(p.vals, p.next, p.next+k)
	}
	p.next += k
}

// flat appends rows rows of a column without lists to dst.
func (l *leafReader) flat(dst *Vector, rows int) error {
	if err := l.catchUp(); err != nil {
		return err
	}
	l.row += int64(rows)
	for rows > 0 {
		p := &l.page
		if p.at == p.slots {
			if ok, err := l.nextPage(); err != nil {
				return err
			} else if !ok {
				return fmt.Errorf("%w: column %q has %d rows too few", errPage, l.col.name, rows)
			}
			continue
		}
		k := min(rows, p.slots-p.at)
		if p.dense {
			l.take(dst, k)
		} else {
			for i, end := p.at, p.at+k; i < end; {
				j := i + 1
				for j < end && p.defs[j] == p.defs[i] {
					j++
				}
				if p.defs[i] == l.col.def {
					l.take(dst, j-i)
				} else {
					dst.appendNulls(j - i)
				}
				i = j
			}
		}
		p.at += k
		rows -= k
	}
	return nil
}

// catchUp passes over the rows that were not wanted.
func (l *leafReader) catchUp() error {
	n := l.late
	l.late = 0
	if n > 0 && l.paged {
		n = int(l.passPages(int64(n)))
	}
	if n == 0 {
		return nil
	}
	if l.col.depth == 0 {
		l.row += int64(n)
		return l.skip(n)
	}
	_, err := l.nested(n)
	return err
}

// skip passes over rows of a column without lists; pages that are passed over
// whole are not unpacked.
func (l *leafReader) skip(rows int) error {
	for rows > 0 {
		p := &l.page
		if p.at < p.slots {
			k := min(rows, p.slots-p.at)
			values := k
			if !p.dense {
				values = 0
				for _, d := range p.defs[p.at : p.at+k] {
					if d == l.col.def {
						values++
					}
				}
			}
			p.at += k
			p.next += values
			rows -= k
			continue
		}
		if h, n, err := parsePageHeader(l.data); err == nil && (h.kind == 0 || h.kind == 3) && h.values <= int64(rows) && h.values <= l.left && h.packed <= int64(len(l.data)-n) {
			l.data = l.data[int64(n)+h.packed:]
			l.left -= h.values
			rows -= int(h.values)
			if l.left > 0 || rows == 0 {
				continue
			}
		}
		if ok, err := l.nextPage(); err != nil {
			return err
		} else if !ok {
			return fmt.Errorf("%w: column %q has %d rows too few", errPage, l.col.name, rows)
		}
	}
	return nil
}

// levels holds what one leaf contributes to a batch of nested rows.
type leafLevels struct {
	reps, defs []uint8 // reps is nil without lists
	n          int
	vals       *Vector // dense
}

// nested reads the levels and values of rows rows.
func (l *leafReader) nested(rows int) (*leafLevels, error) {
	if err := l.catchUp(); err != nil {
		return nil, err
	}
	l.row += int64(rows)
	out := &leafLevels{}
	if l.typ != nil {
		out.vals = NewVector(l.typ)
	}
	seen := 0
	for {
		p := &l.page
		if p.at == p.slots {
			if l.left == 0 || l.paged && seen == rows { // an index's pages begin with a row
				break
			}
			if ok, err := l.nextPage(); err != nil {
				return nil, err
			} else if !ok {
				break
			}
			continue
		}
		i := p.at
		if l.col.depth == 0 {
			i += min(rows-seen, p.slots-p.at)
			seen += i - p.at
		} else {
			for ; i < p.slots; i++ {
				if p.reps[i] == 0 {
					if seen == rows {
						break
					}
					seen++
				}
			}
			out.reps = append(out.reps, p.reps[p.at:i]...)
		}
		count := i - p.at
		if l.col.def > 0 {
			out.defs = append(out.defs, p.defs[p.at:i]...)
			count = 0
			for _, d := range p.defs[p.at:i] {
				if d == l.col.def {
					count++
				}
			}
		}
		out.n += i - p.at
		if l.typ != nil {
			l.take(out.vals, count)
		}
		p.at = i
		if p.at < p.slots || seen == rows && l.col.depth == 0 {
			break
		}
	}
	if seen != rows || l.col.depth > 0 && out.n > 0 && out.reps[0] != 0 {
		return nil, fmt.Errorf("%w: column %q has %d rows instead of %d", errPage, l.col.name, seen, rows)
	}
	return out, nil
}

// appendRun adds rows [lo, hi) of src, a vector without nulls of the same
// primitive type.
func (v *Vector) appendRun(src *Vector, lo, hi int) {
	switch v.Type.Kind {
	case KindBoolean:
		v.Bools = append(v.Bools, src.Bools[lo:hi]...)
	case KindByte, KindShort, KindInteger, KindDate:
		v.Ints = append(v.Ints, src.Ints[lo:hi]...)
	case KindLong, KindTimestamp, KindTimestampNTZ:
		v.Longs = append(v.Longs, src.Longs[lo:hi]...)
	case KindFloat:
		v.Floats = append(v.Floats, src.Floats[lo:hi]...)
	case KindDouble:
		v.Doubles = append(v.Doubles, src.Doubles[lo:hi]...)
	case KindDecimal:
		v.Decimals = append(v.Decimals, src.Decimals[lo:hi]...)
	default:
		shift := int32(len(v.Data)) - src.Offsets[lo]
		v.Data = append(v.Data, src.Data[src.Offsets[lo]:src.Offsets[hi]]...)
		for _, o := range src.Offsets[lo+1 : hi+1] {
			v.Offsets = append(v.Offsets, o+shift)
		}
	}
	v.pushRun(hi - lo)
}

func (v *Vector) pushRun(n int) {
	v.Len += n
	if v.Valid != nil {
		for range n {
			v.Valid = append(v.Valid, true)
		}
	}
}

// appendIndexed adds src's rows idx; src has no nulls.
func (v *Vector) appendIndexed(src *Vector, idx []int32) {
	switch v.Type.Kind {
	case KindBoolean:
		for _, i := range idx {
			v.Bools = append(v.Bools, src.Bools[i])
		}
	case KindByte, KindShort, KindInteger, KindDate:
		for _, i := range idx {
			v.Ints = append(v.Ints, src.Ints[i])
		}
	case KindLong, KindTimestamp, KindTimestampNTZ:
		for _, i := range idx {
			v.Longs = append(v.Longs, src.Longs[i])
		}
	case KindFloat:
		for _, i := range idx {
			v.Floats = append(v.Floats, src.Floats[i])
		}
	case KindDouble:
		for _, i := range idx {
			v.Doubles = append(v.Doubles, src.Doubles[i])
		}
	case KindDecimal:
		for _, i := range idx {
			v.Decimals = append(v.Decimals, src.Decimals[i])
		}
	default:
		size := len(v.Data)
		for _, i := range idx {
			size += int(src.Offsets[i+1] - src.Offsets[i])
		}
		if cap(v.Data) < size {
			grown := make([]byte, len(v.Data), max(size, len(v.Data)+len(v.Data)/2))
			copy(grown, v.Data)
			v.Data = grown
		}
		for _, i := range idx {
			v.Data = append(v.Data, src.Data[src.Offsets[i]:src.Offsets[i+1]]...)
			v.Offsets = append(v.Offsets, int32(len(v.Data)))
		}
	}
	v.pushRun(len(idx))
}

// appendNulls adds n null rows.
func (v *Vector) appendNulls(n int) {
	if n <= 0 {
		return
	}
	if v.Valid == nil {
		v.Valid = make([]bool, v.Len, v.Len+n)
		for i := range v.Valid {
			v.Valid[i] = true
		}
	}
	v.Valid = append(v.Valid, make([]bool, n)...)
	v.Len += n
	switch v.Type.Kind {
	case KindBoolean:
		v.Bools = append(v.Bools, make([]bool, n)...)
	case KindByte, KindShort, KindInteger, KindDate:
		v.Ints = append(v.Ints, make([]int32, n)...)
	case KindLong, KindTimestamp, KindTimestampNTZ:
		v.Longs = append(v.Longs, make([]int64, n)...)
	case KindFloat:
		v.Floats = append(v.Floats, make([]float32, n)...)
	case KindDouble:
		v.Doubles = append(v.Doubles, make([]float64, n)...)
	case KindDecimal:
		v.Decimals = append(v.Decimals, make([]Decimal, n)...)
	case KindString, KindBinary, KindList, KindMap:
		last := v.Offsets[len(v.Offsets)-1]
		v.Offsets = slices.Grow(v.Offsets, n)
		for range n {
			v.Offsets = append(v.Offsets, last)
		}
	case KindStruct:
		for i, c := range v.Children {
			if v.Type.Fields[i].Nullable {
				c.appendNulls(n)
				continue
			}
			for range n {
				c.appendZero()
			}
		}
	}
}
