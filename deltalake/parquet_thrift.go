package deltalake

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
)

// The reader decodes Parquet's Thrift structures by hand: a list grows as its
// elements are met, so that no claimed size costs memory.

var errThrift = errors.New("deltalake: damaged Parquet metadata")

const (
	tTrue, tFalse                    = 1, 2
	tByte, tI16, tI32, tI64, tDouble = 3, 4, 5, 6, 7
	tBinary, tList, tSet, tMap       = 8, 9, 10, 11
	tStruct                          = 12
)

// thriftReader reads the compact protocol; the first fault sticks.
type thriftReader struct {
	b     []byte
	pos   int
	depth int
	bad   bool
}

func (r *thriftReader) byte() byte {
	if r.bad || r.pos >= len(r.b) {
		r.bad = true
		return 0
	}
	r.pos++
	return r.b[r.pos-1]
}

func (r *thriftReader) uvarint() uint64 {
	if r.bad {
		return 0
	}
	v, n := binary.Uvarint(r.b[r.pos:])
	if n <= 0 {
		r.bad = true
		return 0
	}
	r.pos += n
	return v
}

func (r *thriftReader) int() int64 {
	u := r.uvarint()
	return int64(u>>1) ^ -int64(u&1)
}

func (r *thriftReader) bytes() []byte {
	n := r.uvarint()
	if r.bad || n > uint64(len(r.b)-r.pos) {
		r.bad = true
		return nil
	}
	r.pos += int(n)
	return r.b[r.pos-int(n) : r.pos]
}

// fields calls fn for every field of a struct; fn consumes the value.
func (r *thriftReader) fields(fn func(id int16, typ byte)) {
	if r.depth++; r.depth > 32 {
		r.bad = true
	}
	id := int16(0)
	for !r.bad {
		h := r.byte()
		typ := h & 15
		if typ == 0 {
			break
		}
		if d := h >> 4; d != 0 {
			id += int16(d)
		} else {
			id = int16(r.int())
		}
		fn(id, typ)
	}
	r.depth--
}

// list calls fn for every element.
func (r *thriftReader) list(fn func(typ byte)) {
	h := r.byte()
	n := uint64(h >> 4)
	if n == 15 {
		n = r.uvarint()
	}
	if n > uint64(len(r.b)) {
		r.bad = true
	}
	for ; n > 0 && !r.bad; n-- {
		fn(h & 15)
	}
}

func (r *thriftReader) skip(typ byte) {
	switch typ {
	case tTrue, tFalse:
	case tByte:
		r.byte()
	case tI16, tI32, tI64:
		r.uvarint()
	case tDouble:
		if r.bad || len(r.b)-r.pos < 8 {
			r.bad = true
			return
		}
		r.pos += 8
	case tBinary:
		r.bytes()
	case tList, tSet:
		r.list(func(t byte) {
			if t <= tFalse {
				r.byte()
			} else {
				r.skip(t)
			}
		})
	case tMap:
		n := r.uvarint()
		if n == 0 {
			return
		}
		kv := r.byte()
		if n > uint64(len(r.b)) {
			r.bad = true
		}
		for ; n > 0 && !r.bad; n-- {
			r.skip(kv >> 4)
			r.skip(kv & 15)
		}
	case tStruct:
		r.fields(func(_ int16, t byte) { r.skip(t) })
	default:
		r.bad = true
	}
}

// Physical types, codecs and encodings, as Parquet numbers them.
const (
	pqBoolean, pqInt32, pqInt64, pqInt96, pqFloat, pqDouble, pqBytes, pqFixed = 0, 1, 2, 3, 4, 5, 6, 7

	encPlain, encPlainDict, encRLE, encBitPacked, encDelta, encDeltaLength, encDeltaBytes, encRLEDict, encSplit = 0, 2, 3, 4, 5, 6, 7, 8, 9

	unitMillis, unitMicros, unitNanos = 1, 2, 3
)

// pqElement is one node of a file's flat schema.
type pqElement struct {
	name             string
	typ              int // -1 for a group
	width            int
	rep              int // 0 required, 1 optional, 2 repeated
	children         int
	converted        int // -1 when absent
	scale, precision int
	fieldID          int
	hasID            bool
	unit             int  // of a timestamp
	unsigned         bool // integers
	local            bool // a timestamp without zone
}

// pqChunk is one column of one row group.
type pqChunk struct {
	typ, codec         int
	values             int64
	packed             int64
	dataOff, dictOff   int64
	min, max           []byte
	hasMin, hasMax     bool
	nulls              int64 // -1 when unknown
	external, isCipher bool
	offsetIndex        span // where its page index is; zero when it has none
	columnIndex        span
}

type pqGroup struct {
	rows   int64
	chunks []pqChunk
}

type pqMeta struct {
	rows     int64
	elements []pqElement
	groups   []pqGroup
}

func parseFooter(b []byte) (*pqMeta, error) {
	r := &thriftReader{b: b}
	m := &pqMeta{}
	r.fields(func(id int16, typ byte) {
		switch id {
		case 2:
			r.list(func(byte) { m.elements = append(m.elements, r.element()) })
		case 3:
			m.rows = r.int()
		case 4:
			r.list(func(byte) { m.groups = append(m.groups, r.group()) })
		default:
			r.skip(typ)
		}
	})
	if r.bad || m.rows < 0 {
		return nil, errThrift
	}
	return m, nil
}

func (r *thriftReader) element() pqElement {
	e := pqElement{typ: -1, converted: -1}
	r.fields(func(id int16, typ byte) {
		switch id {
		case 1:
			e.typ = int(r.int())
		case 2:
			e.width = int(r.int())
		case 3:
			e.rep = int(r.int())
		case 4:
			e.name = string(r.bytes())
		case 5:
			e.children = int(r.int())
		case 6:
			e.converted = int(r.int())
			switch e.converted {
			case 9:
				e.unit = unitMillis
			case 10:
				e.unit = unitMicros
			case 11, 12, 13, 14:
				e.unsigned = true
			}
		case 7:
			e.scale = int(r.int())
		case 8:
			e.precision = int(r.int())
		case 9:
			e.fieldID, e.hasID = int(r.int()), true
		case 10:
			r.logical(&e)
		default:
			r.skip(typ)
		}
	})
	return e
}

// logical reads the union of logical types.
func (r *thriftReader) logical(e *pqElement) {
	r.fields(func(id int16, typ byte) {
		if typ != tStruct {
			r.skip(typ)
			return
		}
		if c, ok := map[int16]int{1: 0, 2: 1, 3: 3, 6: 6}[id]; ok && e.converted < 0 {
			e.converted = c // the older annotation of the same meaning
		}
		r.fields(func(inner int16, typ byte) {
			switch {
			case id == 8 && inner == 1:
				e.local = typ == tFalse
			case id == 5 && inner == 1:
				e.scale = int(r.int())
			case id == 5 && inner == 2:
				e.precision = int(r.int())
			case id == 8 && inner == 2 && typ == tStruct:
				r.fields(func(unit int16, typ byte) {
					e.unit = int(unit)
					r.skip(typ)
				})
			case id == 10 && inner == 2 && typ == tFalse:
				e.unsigned = true
			default:
				r.skip(typ)
			}
		})
	})
}

func (r *thriftReader) group() pqGroup {
	g := pqGroup{}
	r.fields(func(id int16, typ byte) {
		switch id {
		case 1:
			r.list(func(byte) { g.chunks = append(g.chunks, r.chunk()) })
		case 3:
			g.rows = r.int()
		default:
			r.skip(typ)
		}
	})
	return g
}

func (r *thriftReader) chunk() pqChunk {
	c := pqChunk{nulls: -1}
	r.fields(func(id int16, typ byte) {
		switch id {
		case 1:
			c.external = len(r.bytes()) > 0
		case 3:
			r.columnMeta(&c)
		case 4:
			c.offsetIndex.off = r.int()
		case 5:
			c.offsetIndex.size = r.int()
		case 6:
			c.columnIndex.off = r.int()
		case 7:
			c.columnIndex.size = r.int()
		case 8, 9:
			c.isCipher = true
			r.skip(typ)
		default:
			r.skip(typ)
		}
	})
	return c
}

func (r *thriftReader) columnMeta(c *pqChunk) {
	r.fields(func(id int16, typ byte) {
		switch id {
		case 1:
			c.typ = int(r.int())
		case 4:
			c.codec = int(r.int())
		case 5:
			c.values = r.int()
		case 7:
			c.packed = r.int()
		case 9:
			c.dataOff = r.int()
		case 11:
			c.dictOff = r.int()
		case 12:
			r.fields(func(id int16, typ byte) {
				switch id {
				case 3:
					c.nulls = r.int()
				case 5:
					c.max, c.hasMax = r.bytes(), true
				case 6:
					c.min, c.hasMin = r.bytes(), true
				default:
					r.skip(typ)
				}
			})
		default:
			r.skip(typ)
		}
	})
}

// pageHeader is the head of a page, of either version.
type pageHeader struct {
	kind         int // 0 data, 1 index, 2 dictionary, 3 data v2
	raw, packed  int64
	values       int64
	encoding     int
	repLen       int64 // v2
	defLen       int64 // v2
	uncompressed bool  // v2
}

// parsePageHeader returns the header and its length.
func parsePageHeader(b []byte) (pageHeader, int, error) {
	r := &thriftReader{b: b}
	h := pageHeader{}
	r.fields(func(id int16, typ byte) {
		switch {
		case id == 1:
			h.kind = int(r.int())
		case id == 2:
			h.raw = r.int()
		case id == 3:
			h.packed = r.int()
		case (id == 5 || id == 7 || id == 8) && typ == tStruct:
			v2 := id == 8
			r.fields(func(id int16, typ byte) {
				switch {
				case id == 1:
					h.values = r.int()
				case id == 2 && !v2, id == 4 && v2:
					h.encoding = int(r.int())
				case id == 5 && v2:
					h.defLen = r.int()
				case id == 6 && v2:
					h.repLen = r.int()
				case id == 7 && v2 && typ == tFalse:
					h.uncompressed = true
				default:
					r.skip(typ)
				}
			})
		default:
			r.skip(typ)
		}
	})
	if r.bad || h.raw < 0 || h.packed < 0 || h.values < 0 || h.repLen < 0 || h.defLen < 0 || h.raw > math.MaxInt32 {
		return h, 0, fmt.Errorf("%w: page header", errThrift)
	}
	return h, r.pos, nil
}
