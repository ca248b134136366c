package deltalake

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/parquet-go/parquet-go/deprecated"
	"github.com/parquet-go/parquet-go/encoding/thrift"
	"github.com/parquet-go/parquet-go/format"
)

// Bytes that a fuzzer changes anywhere in a Parquet file fail at the first length,
// codec or offset. So each target here fixes what would end the reading early: one
// frames any body and any footer as a file, the other builds a whole file around
// the levels and values of one column, with lies where the fuzzer asks for them.

// framed makes a file of what lies before its footer, and its footer.
func framed(body, footer []byte) []byte {
	out := append([]byte("PAR1"), body...)
	out = append(out, footer...)
	out = binary.LittleEndian.AppendUint32(out, uint32(len(footer)))
	return append(out, "PAR1"...)
}

// unframe is the inverse of framed.
func unframe(file []byte) (body, footer []byte) {
	n := int(binary.LittleEndian.Uint32(file[len(file)-8:]))
	return file[4 : len(file)-8-n], file[len(file)-8-n : len(file)-8]
}

// readHostile reads a file with its own schema and as a Delta checkpoint; it fails
// the test where that takes a lot of memory.
func readHostile(t *testing.T, data []byte) {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	_ = readAll(data)
	_ = readFiltered(t, data)
	store := putLog(t, map[int64]string{0: protoLine + "\n" + metaLine})
	if err := store.Put(context.Background(), logDir+"00000000000000000000.checkpoint.parquet", data); err != nil {
		t.Fatal(err)
	}
	_, _ = Open(context.Background(), store, TableOptions{})
	runtime.ReadMemStats(&after)
	if used := after.TotalAlloc - before.TotalAlloc; used > 1<<30 {
		t.Fatalf("%d bytes of memory for a file of %d", used, len(data))
	}
}

// pagedParquet is a file with a page index.
func pagedParquet(t testing.TB) []byte {
	t.Helper()
	store := NewMemoryStore(nil)
	writePages(t, store, "f", rand.New(rand.NewPCG(1, 2)), 300)
	data, err := store.Get(context.Background(), "f")
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// readFiltered reads the ids of a file as a table's, by a filter that leaves few of
// its pages.
func readFiltered(t testing.TB, data []byte) error {
	ctx := context.Background()
	store := putLog(t, map[int64]string{0: protoLine + "\n" + metaLine + "\n" + fmt.Sprintf(`{"add":{"path":"f","partitionValues":{},"size":%d,"modificationTime":0,"dataChange":true}}`, len(data))})
	if err := store.Put(ctx, "f", data); err != nil {
		t.Fatal(err)
	}
	tbl, err := Open(ctx, store, TableOptions{})
	if err != nil {
		t.Fatal(err)
	}
	rows := 0
	for b, err := range tbl.Latest().Scan(ctx, ScanOptions{Filter: mustExpr(t, "id between 40 and 60 or id is null or id > 290")}) {
		if err != nil {
			return err
		}
		if rows += b.Len; rows > 1<<20 {
			break // all null: cheap to claim
		}
	}
	return nil
}

func FuzzParquet(f *testing.F) {
	seed := func(file []byte) {
		body, footer := unframe(file)
		f.Add(body, footer)
	}
	seed(goodParquet(f))
	seed(pagedParquet(f))
	if root := os.Getenv("WEIR_DELTA_DATA"); root != "" {
		files, _ := filepath.Glob(filepath.Join(root, "*/*/delta/*.parquet"))
		for i, p := range files {
			if data, err := os.ReadFile(p); err == nil && len(data) < 4000 && i%5 == 0 {
				seed(data)
			}
		}
	}
	f.Fuzz(func(t *testing.T, body, footer []byte) { readHostile(t, framed(body, footer)) })
}

// A columnShape is what the first bytes of FuzzParquetPages say of the file.
type columnShape struct {
	physical  format.Type
	converted int    // ConvertedType; -1: none
	width     int32  // of fixed-length values
	nesting   byte   // 0 required, 1 optional, 2 list, 3 repeated leaf, 4 struct in list
	codec     int    // index of codecs
	encoding  int32  // as is
	v2, dict  bool   // data page V2; a dictionary page before it
	values    int32  // of the data page
	lies      uint16 // which claims are false, a bit each
}

var pageCodecs = []Compression{Uncompressed, Snappy, Zstd}

func shapeOf(b []byte) (s columnShape) {
	at := func(i int) int {
		if i < len(b) {
			return int(b[i])
		}
		return 0
	}
	s.physical = format.Type(at(0) % 9) // one more than there are
	s.converted = at(1)%23 - 1
	s.width = int32(at(2) % 40)
	s.nesting = byte(at(3) % 5)
	s.codec = at(4) % len(pageCodecs)
	s.encoding = int32(at(5) % 11)
	s.v2, s.dict = at(6)&1 != 0, at(6)&2 != 0
	s.values = int32(at(7) | at(8)<<8)
	s.lies = uint16(at(9) | at(10)<<8)
	return s
}

// lie returns v, or a false value if the shape asks for that lie.
func (s columnShape) lie(bit int, v, wrong int64) int64 {
	if s.lies>>bit&1 != 0 {
		return wrong
	}
	return v
}

// schema returns the elements, the path of the leaf and its highest levels.
func (s columnShape) schema() (els []format.SchemaElement, path []string, rep, def uint8) {
	leaf := format.SchemaElement{Name: "v", Type: thrift.New(s.physical), TypeLength: thrift.New(s.width), RepetitionType: thrift.New(format.Required)}
	if s.converted == int(deprecated.Decimal) {
		leaf.Precision, leaf.Scale = thrift.New(int32(s.lie(0, 9, 77))), thrift.New(int32(s.lie(1, 2, -5)))
	}
	if s.converted >= 0 {
		leaf.ConvertedType = thrift.New(deprecated.ConvertedType(s.converted))
	}
	root := format.SchemaElement{Name: "schema", NumChildren: thrift.New(int32(s.lie(2, 1, 3)))}
	group := func(name string, r format.FieldRepetitionType) format.SchemaElement {
		return format.SchemaElement{Name: name, NumChildren: thrift.New(int32(1)), RepetitionType: thrift.New(r)}
	}
	switch s.nesting {
	case 1:
		leaf.RepetitionType = thrift.New(format.Optional)
		return []format.SchemaElement{root, leaf}, []string{"v"}, 0, 1
	case 2:
		list := group("v", format.Optional)
		list.ConvertedType = thrift.New(deprecated.List)
		leaf.Name, leaf.RepetitionType = "element", thrift.New(format.Optional)
		return []format.SchemaElement{root, list, group("list", format.Repeated), leaf}, []string{"v", "list", "element"}, 1, 3
	case 3:
		leaf.RepetitionType = thrift.New(format.Repeated)
		return []format.SchemaElement{root, leaf}, []string{"v"}, 1, 1
	case 4:
		list := group("v", format.Required)
		list.ConvertedType = thrift.New(deprecated.List)
		return []format.SchemaElement{root, list, group("list", format.Repeated), group("element", format.Optional), leaf}, []string{"v", "list", "element", "v"}, 1, 2
	}
	return []format.SchemaElement{root, leaf}, []string{"v"}, 0, 0
}

// file builds a Parquet file of one column with one data page: its levels and
// values, and its dictionary, are given.
func (s columnShape) file(levels, values, dict []byte) ([]byte, error) {
	els, path, rep, def := s.schema()
	comp, err := newCompressor(pageCodecs[s.codec])
	if err != nil {
		return nil, err
	}
	body := []byte("PAR1")
	page := func(head *format.PageHeader, plain, packable []byte) error {
		packed := packable
		if len(packable) > 0 {
			if packed, err = comp.compress(packable); err != nil {
				return err
			}
		}
		head.UncompressedPageSize = int32(s.lie(3, int64(len(plain)+len(packable)), 1<<30))
		head.CompressedPageSize = int32(s.lie(4, int64(len(plain)+len(packed)), int64(len(packed)/2)))
		raw, err := thrift.Marshal(new(thrift.CompactProtocol), head)
		if err != nil {
			return err
		}
		body = append(append(append(body, raw...), plain...), packed...)
		return nil
	}
	meta := format.ColumnMetaData{Type: format.Type(s.lie(5, int64(s.physical), 2)), PathInSchema: path, Codec: comp.codec, NumValues: s.lie(6, int64(s.values), 1<<40)}
	if s.dict {
		meta.DictionaryPageOffset = int64(len(body))
		count := int32(s.lie(7, int64(max(len(dict)/4, 1)), 1<<30))
		if err := page(&format.PageHeader{Type: format.DictionaryPage, DictionaryPageHeader: thrift.New(format.DictionaryPageHeader{NumValues: count})}, nil, dict); err != nil {
			return nil, err
		}
	}
	meta.DataPageOffset = s.lie(8, int64(len(body)), 3)
	head := &format.PageHeader{Type: format.DataPage}
	nulls := int32(s.lie(9, 0, 1<<20))
	if s.v2 {
		head.Type = format.DataPageV2
		repBytes := 0
		if rep > 0 {
			repBytes = len(levels) / 2
		}
		head.DataPageHeaderV2 = thrift.New(format.DataPageHeaderV2{NumValues: s.values, NumNulls: nulls, NumRows: s.values, Encoding: format.Encoding(s.encoding),
			RepetitionLevelsByteLength: int32(s.lie(10, int64(repBytes), 1<<29)), DefinitionLevelsByteLength: int32(len(levels) - repBytes)})
		err = page(head, levels, values)
	} else {
		head.DataPageHeader = thrift.New(format.DataPageHeader{NumValues: s.values, Encoding: format.Encoding(s.encoding), DefinitionLevelEncoding: format.RLE, RepetitionLevelEncoding: format.RLE})
		if rep+def > 0 {
			levels = v1Levels(levels, rep, def)
		}
		err = page(head, nil, append(bytes.Clone(levels), values...))
	}
	if err != nil {
		return nil, err
	}
	meta.TotalCompressedSize = s.lie(11, int64(len(body)-4), 1<<50)
	meta.TotalUncompressedSize = meta.TotalCompressedSize
	rows := s.lie(12, int64(s.values), 1<<44)
	footer, err := thrift.Marshal(new(thrift.CompactProtocol), &format.FileMetaData{Version: 1, Schema: els, NumRows: rows,
		RowGroups: []format.RowGroup{{NumRows: rows, Columns: []format.ColumnChunk{{MetaData: meta}}}}})
	if err != nil {
		return nil, err
	}
	return framed(body[4:], footer), nil
}

// v1Levels gives each kind of levels the length that a V1 page begins it with.
func v1Levels(levels []byte, rep, def uint8) []byte {
	var out []byte
	add := func(b []byte) { out = append(binary.LittleEndian.AppendUint32(out, uint32(len(b))), b...) }
	if rep > 0 {
		add(levels[:len(levels)/2])
		levels = levels[len(levels)/2:]
	}
	if def > 0 {
		add(levels)
	}
	return out
}

// pageSeeds are a shape, levels, values and a dictionary for every encoding and
// physical type that are read; those of one value each read well.
func pageSeeds() (seeds [][4][]byte) {
	ints := []byte{1, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0, 4, 0, 0, 0, 5, 0, 0, 0, 6, 0, 0, 0, 7, 0, 0, 0, 8, 0, 0, 0}
	text := []byte{2, 0, 0, 0, 'a', 'b', 0, 0, 0, 0, 1, 0, 0, 0, 'c', 3, 0, 0, 0, 'd', 'e', 'f'}
	delta := []byte{0x80, 1, 4, 4, 2, 2, 0, 0, 0, 0} // block 128, 4 miniblocks, 4 values of step 1
	levels := map[byte][]byte{0: nil, 1: {8, 1}, 2: {8, 0, 8, 3}, 3: {8, 0, 8, 1}, 4: {8, 0, 8, 2}}
	for physical := range byte(8) {
		values := ints
		if physical == 6 {
			values = text
		}
		for nesting, l := range levels {
			seeds = append(seeds, [4][]byte{{physical, 0, 4, nesting, nesting % 3, 0, nesting % 2, 4}, l, values, nil})
		}
		for _, encoding := range []byte{3, 5, 6, 7, 8, 9} {
			v, flags := values, byte(0)
			switch encoding {
			case 3:
				v = []byte{2, 0, 0, 0, 8, 1}
			case 5:
				v = delta
			case 6:
				v = append(bytes.Clone(delta), "abcdefghij"...)
			case 7:
				v = append(append([]byte{0x80, 1, 4, 4, 0, 0, 0, 0, 0, 0}, delta...), "abcdefghij"...) // no prefixes
			case 8:
				v, flags = []byte{2, 8, 1}, 2
			}
			seeds = append(seeds, [4][]byte{{physical, 0, 4, 0, 0, encoding, flags, 4}, nil, v, values}, [4][]byte{{physical, 0, 4, 1, 1, encoding, flags | 1, 4}, {8, 1}, v, values})
		}
	}
	return seeds
}

func FuzzParquetPages(f *testing.F) {
	for _, s := range pageSeeds() {
		f.Add(s[0], s[1], s[2], s[3])
	}
	f.Fuzz(func(t *testing.T, shape, levels, values, dict []byte) {
		data, err := shapeOf(shape).file(levels, values, dict)
		if err != nil {
			return
		}
		readHostile(t, data)
	})
}

// The seeds of FuzzParquetPages reach the decoders: most files of every encoding
// that is told the truth about read without an error.
func TestPageSeedsRead(t *testing.T) {
	read, all := map[byte]int{}, map[byte]int{}
	for _, s := range pageSeeds() {
		data, err := shapeOf(s[0]).file(s[1], s[2], s[3])
		if err != nil {
			t.Fatal(err)
		}
		all[s[0][5]]++
		if err := readAll(data); err == nil {
			read[s[0][5]]++
		} else if testing.Verbose() {
			t.Logf("%v: %v", s[0], err)
		}
	}
	for _, encoding := range []byte{0, 3, 5, 6, 7, 8, 9} {
		if read[encoding] == 0 {
			t.Errorf("no file of encoding %d of %d reads", encoding, all[encoding])
		}
	}
	t.Logf("read %v of %v", read, all)
}
