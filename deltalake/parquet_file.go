package deltalake

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"

	"github.com/klauspost/compress/s2"
	"github.com/klauspost/compress/zstd"
	"github.com/parquet-go/parquet-go/encoding/thrift"
	"github.com/parquet-go/parquet-go/format"
)

// Compression names the codec of new data files.
type Compression string

// The codecs that files can be written with. The zero value means Snappy.
const (
	Snappy       Compression = "snappy"
	Zstd         Compression = "zstd"
	Uncompressed Compression = "none"
)

// compressor packs pages of one file.
type compressor struct {
	codec format.CompressionCodec
	zstd  *zstd.Encoder
	buf   []byte
}

func newCompressor(c Compression) (*compressor, error) {
	switch c {
	case Snappy, "":
		return &compressor{codec: format.Snappy}, nil
	case Uncompressed:
		return &compressor{codec: format.Uncompressed}, nil
	case Zstd:
		enc, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithEncoderLevel(zstd.SpeedFastest))
		return &compressor{codec: format.Zstd, zstd: enc}, err
	}
	return nil, fmt.Errorf("deltalake: compression %q is not one of snappy, zstd, none", c)
}

// compress returns the packed page, valid until the next call.
func (c *compressor) compress(body []byte) ([]byte, error) {
	switch c.codec {
	case format.Snappy:
		if n := s2.MaxEncodedLen(len(body)); n < 0 {
			return nil, fmt.Errorf("deltalake: a page of %d bytes is too large", len(body))
		} else if cap(c.buf) < n {
			c.buf = make([]byte, n)
		}
		c.buf = s2.EncodeSnappy(c.buf[:cap(c.buf)], body)
		return c.buf, nil
	case format.Zstd:
		c.buf = c.zstd.EncodeAll(body, c.buf[:0])
		return c.buf, nil
	}
	return body, nil
}

// pqWriter writes one Parquet file of columns to w. It buffers the pages of one
// row group.
type pqWriter struct {
	w         io.Writer
	schema    *pqSchema
	comp      *compressor
	groupSize int64 // bytes of encoded pages that end a row group
	pageSize  int
	pos       int64
	rows      int64 // of the file, the open row group included
	groupRows int64
	groups    []format.RowGroup
	kv        []format.KeyValue
	noDict    []bool         // per leaf: its values hardly repeat
	indexes   []writtenIndex // of all column chunks written, in order
	copied    *bytes.Buffer  // takes all that is written; nil
}

const (
	defaultGroupBytes = 64 << 20
	defaultPageBytes  = 1 << 20
	maxGroupRows      = 1 << 20
)

func newPqWriter(w io.Writer, s *pqSchema, comp *compressor, groupSize int64) *pqWriter {
	if groupSize <= 0 {
		groupSize = defaultGroupBytes
	}
	p := &pqWriter{w: w, schema: s, comp: comp, groupSize: groupSize, pageSize: defaultPageBytes, noDict: make([]bool, len(s.leaves))}
	p.startGroup()
	return p
}

func (p *pqWriter) startGroup() {
	p.groupRows = 0
	for i, l := range p.schema.leaves {
		l.startChunk(!p.noDict[i])
	}
}

// write adds the rows of the columns, which match the schema's roots.
func (p *pqWriter) write(columns []*Vector, rows int) error {
	for lo := 0; lo < rows; {
		hi := min(rows, lo+maxPageRows/2, lo+int(maxGroupRows-p.groupRows))
		for i, n := range p.schema.roots {
			if err := p.column(n, columns[i], lo, hi); err != nil {
				return err
			}
		}
		p.rows += int64(hi - lo)
		p.groupRows += int64(hi - lo)
		lo = hi
		if p.groupRows >= maxGroupRows || p.buffered() >= p.groupSize {
			if err := p.endGroup(); err != nil {
				return err
			}
		}
	}
	return nil
}

// buffered is the size of the open row group.
func (p *pqWriter) buffered() int64 {
	var n int64
	for _, l := range p.schema.leaves {
		n += int64(len(l.chunk) + l.pending() + len(l.dict.data))
	}
	return n
}

func (p *pqWriter) column(n *pqNode, v *Vector, lo, hi int) error {
	if n.leaf != nil {
		if !n.optional && v.Valid != nil {
			for i := lo; i < hi; i++ {
				if !v.Valid[i] {
					return fmt.Errorf("deltalake: column %q is not nullable and row %d is null", n.name, i)
				}
			}
		}
		n.leaf.flat(v, lo, hi)
		return p.maybeEndPage(n.leaf)
	}
	for i := lo; i < hi; {
		for end := min(hi, (i/256+1)*256); i < end; {
			nulls := 0
			for n.optional && i+nulls < end && v.Null(i+nulls) {
				nulls++
			}
			if nulls > 0 {
				n.addNulls(int64(nulls))
				n.blank(nulls)
				i += nulls
				continue
			}
			if err := n.row(v, i, 0, 0); err != nil {
				return err
			}
			i++
		}
		if err := p.maybeEndPages(n); err != nil {
			return err
		}
	}
	return nil
}

// blank writes the levels of k rows in which the column is null to its leaves.
func (n *pqNode) blank(k int) {
	if n.leaf != nil {
		n.leaf.nullLevels(k)
		return
	}
	for _, c := range n.children {
		c.blank(k)
	}
}

func (p *pqWriter) maybeEndPage(l *leafWriter) error {
	if l.slots >= maxPageRows || l.pending() >= p.pageSize {
		return l.endPage(p.comp)
	}
	return nil
}

func (p *pqWriter) maybeEndPages(n *pqNode) error {
	if n.leaf != nil {
		return p.maybeEndPage(n.leaf)
	}
	for _, c := range n.children {
		if err := p.maybeEndPages(c); err != nil {
			return err
		}
	}
	return nil
}

// absent writes the levels of a missing value to all leaves of n.
func (n *pqNode) absent(rep, def uint8) {
	if n.leaf != nil {
		n.leaf.level(rep, def)
		return
	}
	for _, c := range n.children {
		c.absent(rep, def)
	}
}

// row shreds row i of v.
func (n *pqNode) row(v *Vector, i int, rep, def uint8) error {
	if v.Null(i) {
		if !n.optional {
			return fmt.Errorf("deltalake: column %q is not nullable and row %d is null", n.name, i)
		}
		n.addNulls(1)
		n.absent(rep, def)
		return nil
	}
	if n.optional {
		def++
	}
	switch n.typ.Kind {
	case KindStruct:
		for j, c := range n.children {
			if err := c.row(v.Children[j], i, rep, def); err != nil {
				return err
			}
		}
	case KindList, KindMap:
		lo, hi := v.Offsets[i], v.Offsets[i+1]
		if lo == hi {
			n.absent(rep, def)
			return nil
		}
		for k := lo; k < hi; k++ {
			for j, c := range n.children {
				if err := c.row(v.Children[j], int(k), rep, def+1); err != nil {
					return err
				}
			}
			rep = n.maxRep
		}
	default:
		n.leaf.level(rep, def)
		n.leaf.value(v, i)
	}
	return nil
}

func (p *pqWriter) emit(b []byte) error {
	if len(b) == 0 {
		return nil
	}
	if p.pos == 0 {
		p.pos = 4
		if _, err := io.WriteString(p.w, "PAR1"); err != nil {
			return err
		}
	}
	p.pos += int64(len(b))
	if p.copied != nil {
		p.copied.Write(b)
	}
	_, err := p.w.Write(b)
	return err
}

// endGroup writes the buffered row group.
func (p *pqWriter) endGroup() error {
	if p.groupRows == 0 {
		return nil
	}
	start := max(p.pos, 4)
	g := format.RowGroup{NumRows: p.groupRows, FileOffset: start, Ordinal: int16(len(p.groups))}
	for i, l := range p.schema.leaves {
		tried := l.useDict
		if err := l.endPage(p.comp); err != nil {
			return err
		}
		if tried && !l.useDict && l.dictPages == 0 {
			p.noDict[i] = true
		}
		if err := l.endDict(p.comp); err != nil {
			return err
		}
		p.noDict[i] = p.noDict[i] || l.phys == format.ByteArray && l.dictPages == 0
		cs := &l.chunkStats
		cs.nulls = l.chunkNulls
		l.fileStats.merge(cs)
		md := format.ColumnMetaData{
			Type: l.phys, Encoding: []format.Encoding{format.RLE}, PathInSchema: l.path, Codec: p.comp.codec,
			NumValues: l.numValues, TotalUncompressedSize: l.rawBytes, TotalCompressedSize: int64(len(l.dictPage) + len(l.chunk)),
			Statistics: cs.parquet(l),
		}
		if l.plainPages > 0 {
			md.Encoding = append(md.Encoding, format.Plain)
			md.EncodingStats = append(md.EncodingStats, format.PageEncodingStats{PageType: format.DataPage, Encoding: format.Plain, Count: l.plainPages})
		}
		if l.dictPages > 0 {
			md.Encoding = append(md.Encoding, format.RLEDictionary)
			md.EncodingStats = append(md.EncodingStats,
				format.PageEncodingStats{PageType: format.DictionaryPage, Encoding: format.Plain, Count: 1},
				format.PageEncodingStats{PageType: format.DataPage, Encoding: format.RLEDictionary, Count: l.dictPages})
			md.DictionaryPageOffset = max(p.pos, 4)
			if l.plainPages == 0 {
				md.Encoding = append(md.Encoding, format.Plain)
			}
		}
		md.DataPageOffset = max(p.pos, 4) + int64(len(l.dictPage))
		g.TotalByteSize += md.TotalUncompressedSize
		g.TotalCompressedSize += md.TotalCompressedSize
		g.Columns = append(g.Columns, format.ColumnChunk{MetaData: md})
		if err := p.emit(l.dictPage); err != nil {
			return err
		}
		if err := p.emit(l.chunk); err != nil {
			return err
		}
	}
	p.groupIndex(&g)
	p.groups = append(p.groups, g)
	p.startGroup()
	return nil
}

// close ends the file and returns its size in bytes.
func (p *pqWriter) close() (int64, error) {
	if err := p.endGroup(); err != nil {
		return 0, err
	}
	if err := p.emitIndexes(); err != nil {
		return 0, err
	}
	meta := format.FileMetaData{
		Version: 1, Schema: p.schema.elements, NumRows: p.rows, RowGroups: p.groups, KeyValueMetadata: p.kv,
		CreatedBy: "weir-deltalake version 1.0.0 (build 0)",
	}
	for range p.schema.leaves {
		meta.ColumnOrders = append(meta.ColumnOrders, format.ColumnOrder{Value: &format.TypeDefinedOrder{}})
	}
	raw, err := thrift.Marshal(new(thrift.CompactProtocol), &meta)
	if err != nil {
		return 0, fmt.Errorf("deltalake: encode footer: %w", err)
	}
	raw = binary.LittleEndian.AppendUint32(raw, uint32(len(raw)))
	raw = append(raw, "PAR1"...)
	if err := p.emit(raw); err != nil {
		return 0, err
	}
	if p.comp.zstd != nil {
		p.comp.zstd.Close()
	}
	return p.pos, nil
}
