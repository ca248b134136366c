package deltalake

import (
	"bytes"
	"encoding/binary"
	"hash/maphash"
	"math"
	"math/bits"

	"github.com/parquet-go/parquet-go/encoding/rle"
	"github.com/parquet-go/parquet-go/encoding/thrift"
	"github.com/parquet-go/parquet-go/format"
)

const (
	maxPageRows  = 20_000
	maxDictBytes = 1 << 20
)

// leafWriter encodes one leaf column of a file: it gathers a page, encodes and
// compresses it into the chunk of the current row group, and keeps statistics.
type leafWriter struct {
	typ            *Type
	name           string
	path           []string
	phys           format.Type
	width          int // of a fixed-length byte array
	maxRep, maxDef uint8

	// The page being filled.
	reps, defs []uint8
	slots      int    // levels in the page, nulls included
	nulls      int64  // of the page
	plain      []byte // values, PLAIN
	flags      []byte // boolean values, one byte each
	codes      []int32
	pageStats  leafStats // of the values that have no code

	// Dictionary of the chunk; byte arrays only.
	dict    dictionary
	useDict bool

	// The chunk being filled.
	chunk      []byte // encoded pages, without the dictionary page
	dictPage   []byte
	rawBytes   int64 // uncompressed pages with headers
	numValues  int64
	chunkNulls int64
	dictPages  int32
	plainPages int32
	scratch    []byte
	packed     []byte
	chunkStats leafStats // of the pages that have ended, and of the dictionary
	pages      []pageNote
	fileStats  leafStats
}

// dictionary maps byte strings to codes.
type dictionary struct {
	seed    maphash.Seed
	table   []int32 // code+1, 0 is free; length a power of two
	offsets []uint32
	hashes  []uint32
	data    []byte
}

func (d *dictionary) reset() {
	if d.table == nil {
		d.seed = maphash.MakeSeed()
		d.table = make([]int32, 1024)
		d.offsets = append(d.offsets, 0)
		return
	}
	clear(d.table)
	d.offsets, d.hashes, d.data = d.offsets[:1], d.hashes[:0], d.data[:0]
}

func (d *dictionary) len() int { return len(d.hashes) }

func (d *dictionary) at(code int32) []byte { return d.data[d.offsets[code]:d.offsets[code+1]] }

// code returns the code of v and whether it is new.
func (d *dictionary) code(v []byte) (int32, bool) {
	h := uint32(maphash.Bytes(d.seed, v))
	mask := uint32(len(d.table) - 1)
	i := h & mask
	for ; d.table[i] != 0; i = (i + 1) & mask {
		c := d.table[i] - 1
		if d.hashes[c] == h && bytes.Equal(d.at(c), v) {
			return c, false
		}
	}
	c := int32(len(d.hashes))
	d.table[i] = c + 1
	d.hashes = append(d.hashes, h)
	d.data = append(d.data, v...)
	d.offsets = append(d.offsets, uint32(len(d.data)))
	if 2*len(d.hashes) > len(d.table) {
		d.grow()
	}
	return c, true
}

func (d *dictionary) grow() {
	d.table = make([]int32, 2*len(d.table))
	mask := uint32(len(d.table) - 1)
	for c, h := range d.hashes {
		i := h & mask
		for d.table[i] != 0 {
			i = (i + 1) & mask
		}
		d.table[i] = int32(c) + 1
	}
}

// level adds the levels of one slot.
func (l *leafWriter) level(rep, def uint8) {
	if l.maxRep > 0 {
		l.reps = append(l.reps, rep)
	}
	if l.maxDef > 0 {
		l.defs = append(l.defs, def)
	}
	l.slots++
	if def < l.maxDef {
		l.nulls++
	}
}

// nullLevels adds k slots in which the whole row is null.
func (l *leafWriter) nullLevels(k int) {
	if l.maxRep > 0 {
		l.reps = append(l.reps, make([]uint8, k)...)
	}
	if l.maxDef > 0 {
		l.defs = append(l.defs, make([]uint8, k)...)
		l.nulls += int64(k)
	}
	l.slots += k
}

// value adds the value of row i of v, without levels.
func (l *leafWriter) value(v *Vector, i int) {
	switch l.typ.Kind {
	case KindBoolean:
		b := byte(0)
		if v.Bools[i] {
			b = 1
		}
		l.flags = append(l.flags, b)
	case KindByte, KindShort, KindInteger, KindDate:
		x := v.Ints[i]
		l.pageStats.int(int64(x))
		l.plain = binary.LittleEndian.AppendUint32(l.plain, uint32(x))
	case KindLong, KindTimestamp, KindTimestampNTZ:
		x := v.Longs[i]
		l.pageStats.int(x)
		l.plain = binary.LittleEndian.AppendUint64(l.plain, uint64(x))
	case KindFloat:
		x := v.Floats[i]
		l.pageStats.float(float64(x))
		l.plain = binary.LittleEndian.AppendUint32(l.plain, math.Float32bits(x))
	case KindDouble:
		x := v.Doubles[i]
		l.pageStats.float(x)
		l.plain = binary.LittleEndian.AppendUint64(l.plain, math.Float64bits(x))
	case KindDecimal:
		x := v.Decimals[i]
		l.pageStats.decimal(x)
		switch l.phys {
		case format.Int32:
			l.plain = binary.LittleEndian.AppendUint32(l.plain, uint32(x.Lo))
		case format.Int64:
			l.plain = binary.LittleEndian.AppendUint64(l.plain, x.Lo)
		default:
			l.plain = appendDecimal(l.plain, x, l.width)
		}
	case KindString, KindBinary:
		l.bytes(v.Data[v.Offsets[i]:v.Offsets[i+1]])
	}
}

func (l *leafWriter) bytes(b []byte) {
	if l.useDict {
		c, fresh := l.dict.code(b)
		if fresh {
			l.chunkStats.bytes(b)
		}
		l.codes = append(l.codes, c)
		return
	}
	l.pageStats.bytes(b)
	l.plain = binary.LittleEndian.AppendUint32(l.plain, uint32(len(b)))
	l.plain = append(l.plain, b...)
}

// flat adds rows [lo, hi) of a top-level column: the fast path.
func (l *leafWriter) flat(v *Vector, lo, hi int) {
	n := hi - lo
	if l.maxDef > 0 {
		start := len(l.defs)
		l.defs = append(l.defs, make([]uint8, n)...)
		defs := l.defs[start:]
		if v.Valid == nil {
			for i := range defs {
				defs[i] = 1
			}
		} else {
			nulls := n
			for i, ok := range v.Valid[lo:hi] {
				if ok {
					defs[i] = 1
					nulls--
				}
			}
			l.slots += n
			l.nulls += int64(nulls)
			if nulls > 0 {
				for i := lo; i < hi; i++ {
					if v.Valid[i] {
						l.value(v, i)
					}
				}
				return
			}
			l.slots -= n
		}
	}
	l.slots += n
	l.dense(v, lo, hi)
}

// dense adds the values of rows [lo, hi), none of which is null.
func (l *leafWriter) dense(v *Vector, lo, hi int) {
	switch l.typ.Kind {
	case KindByte, KindShort, KindInteger, KindDate:
		xs := v.Ints[lo:hi]
		mn, mx := xs[0], xs[0]
		at := len(l.plain)
		l.plain = growBytes(l.plain, 4*len(xs))
		out := l.plain[at:]
		for i, x := range xs {
			mn, mx = min(mn, x), max(mx, x)
			binary.LittleEndian.PutUint32(out[4*i:], uint32(x))
		}
		l.pageStats.int(int64(mn))
		l.pageStats.int(int64(mx))
	case KindLong, KindTimestamp, KindTimestampNTZ:
		xs := v.Longs[lo:hi]
		mn, mx := xs[0], xs[0]
		at := len(l.plain)
		l.plain = growBytes(l.plain, 8*len(xs))
		out := l.plain[at:]
		for i, x := range xs {
			mn, mx = min(mn, x), max(mx, x)
			binary.LittleEndian.PutUint64(out[8*i:], uint64(x))
		}
		l.pageStats.int(mn)
		l.pageStats.int(mx)
	case KindDouble:
		xs := v.Doubles[lo:hi]
		at := len(l.plain)
		l.plain = growBytes(l.plain, 8*len(xs))
		out := l.plain[at:]
		for i, x := range xs {
			l.pageStats.float(x)
			binary.LittleEndian.PutUint64(out[8*i:], math.Float64bits(x))
		}
	default:
		for i := lo; i < hi; i++ {
			l.value(v, i)
		}
	}
}

func growBytes(b []byte, n int) []byte {
	if cap(b)-len(b) < n {
		nb := make([]byte, len(b), max(2*cap(b), len(b)+n))
		copy(nb, b)
		b = nb
	}
	return b[:len(b)+n]
}

// pending is the size of the page being filled, uncompressed.
func (l *leafWriter) pending() int {
	return len(l.plain) + len(l.flags)/8 + 2*len(l.codes) + len(l.defs)/8
}

// endPage encodes the page into the chunk.
func (l *leafWriter) endPage(c *compressor) error {
	if l.slots == 0 {
		return nil
	}
	if l.useDict && l.dictPages == 0 && l.dict.len() > 64 && 3*l.dict.len() > 2*len(l.codes) {
		l.dropDict()
	}
	body := l.scratch[:0]
	var err error
	if l.maxRep > 0 {
		if body, err = l.appendLevels(body, l.reps, l.maxRep); err != nil {
			return err
		}
	}
	if l.maxDef > 0 {
		if body, err = l.appendLevels(body, l.defs, l.maxDef); err != nil {
			return err
		}
	}
	enc := format.Plain
	switch {
	case l.useDict:
		enc = format.RLEDictionary
		width := bits.Len(uint(max(l.dict.len()-1, 0)))
		body = append(body, byte(width))
		if width > 0 {
			r := rle.Encoding{BitWidth: width}
			if l.packed, err = r.EncodeInt32(l.packed[:0], l.codes); err != nil {
				return err
			}
			body = append(body, l.packed...)
		} else if len(l.codes) > 0 {
			body = binary.AppendUvarint(body, uint64(len(l.codes))<<1)
		}
		l.dictPages++
	case l.phys == format.Boolean:
		body = appendBits(body, l.flags)
		l.plainPages++
	default:
		body = append(body, l.plain...)
		l.plainPages++
	}
	l.scratch = body
	head := format.PageHeader{Type: format.DataPage, DataPageHeader: thrift.New(format.DataPageHeader{
		NumValues: int32(l.slots), Encoding: enc, DefinitionLevelEncoding: format.RLE, RepetitionLevelEncoding: format.RLE,
		Statistics: format.Statistics{NullCount: l.nulls},
	})}
	start := len(l.chunk)
	if l.chunk, err = l.appendPage(l.chunk, &head, body, c); err != nil {
		return err
	}
	l.notePage(len(l.chunk) - start)
	l.numValues += int64(l.slots)
	l.chunkNulls += l.nulls
	l.slots, l.nulls = 0, 0
	l.reps, l.defs, l.plain, l.flags, l.codes = l.reps[:0], l.defs[:0], l.plain[:0], l.flags[:0], l.codes[:0]
	if l.useDict && len(l.dict.data) > maxDictBytes {
		return l.endDict(c)
	}
	return nil
}

// dropDict turns the first page of a chunk back to PLAIN: its values hardly repeat.
func (l *leafWriter) dropDict() {
	for _, c := range l.codes {
		b := l.dict.at(c)
		l.plain = binary.LittleEndian.AppendUint32(l.plain, uint32(len(b)))
		l.plain = append(l.plain, b...)
	}
	l.codes = l.codes[:0]
	l.useDict = false
	l.dict = dictionary{}
}

// endDict fixes the dictionary page; later pages of the chunk are PLAIN.
func (l *leafWriter) endDict(c *compressor) error {
	if !l.useDict {
		return nil
	}
	l.useDict = false
	if l.dictPages == 0 {
		return nil
	}
	body := l.scratch[:0]
	for i := range l.dict.len() {
		b := l.dict.at(int32(i))
		body = binary.LittleEndian.AppendUint32(body, uint32(len(b)))
		body = append(body, b...)
	}
	l.scratch = body
	head := format.PageHeader{Type: format.DictionaryPage, DictionaryPageHeader: thrift.New(format.DictionaryPageHeader{
		NumValues: int32(l.dict.len()), Encoding: format.Plain,
	})}
	var err error
	l.dictPage, err = l.appendPage(l.dictPage[:0], &head, body, c)
	return err
}

func (l *leafWriter) appendPage(dst []byte, head *format.PageHeader, body []byte, c *compressor) ([]byte, error) {
	packed, err := c.compress(body)
	if err != nil {
		return dst, err
	}
	head.UncompressedPageSize = int32(len(body))
	head.CompressedPageSize = int32(len(packed))
	raw, err := thrift.Marshal(new(thrift.CompactProtocol), head)
	if err != nil {
		return dst, err
	}
	l.rawBytes += int64(len(raw) + len(body))
	return append(append(dst, raw...), packed...), nil
}

func (l *leafWriter) appendLevels(dst []byte, levels []uint8, top uint8) ([]byte, error) {
	r := rle.Encoding{BitWidth: bits.Len8(top)}
	var err error
	if l.packed, err = r.EncodeLevels(l.packed[:0], levels); err != nil {
		return dst, err
	}
	dst = binary.LittleEndian.AppendUint32(dst, uint32(len(l.packed)))
	return append(dst, l.packed...), nil
}

func appendBits(dst []byte, flags []byte) []byte {
	for len(flags) > 0 {
		n := min(8, len(flags))
		var b byte
		for i, f := range flags[:n] {
			b |= f << i
		}
		dst = append(dst, b)
		flags = flags[n:]
	}
	return dst
}

// startChunk prepares for a new row group.
func (l *leafWriter) startChunk(tryDict bool) {
	l.chunk, l.dictPage = l.chunk[:0], l.dictPage[:0]
	l.rawBytes, l.numValues, l.chunkNulls, l.dictPages, l.plainPages = 0, 0, 0, 0, 0
	l.chunkStats, l.pageStats, l.pages = leafStats{}, leafStats{}, l.pages[:0]
	l.useDict = tryDict && l.phys == format.ByteArray
	if l.useDict {
		l.dict.reset()
	}
}
