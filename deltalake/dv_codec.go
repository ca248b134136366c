package deltalake

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math/bits"
	"sort"
)

// rowSet is a set of row numbers of one file: a roaring bitmap of 64-bit keys,
// kept as the containers of its serialized form.
type rowSet struct {
	chunks map[uint64]*rowChunk // by row >> 16
	count  int64
}

// rowChunk holds 65,536 rows in one of three forms.
type rowChunk struct {
	bits *[1024]uint64
	list []uint16    // sorted
	runs [][2]uint16 // first and last, sorted
}

var errVector = errors.New("deltalake: damaged deletion vector")

const (
	vectorMagic     = 1681511377
	roaringNoRuns   = 12346
	roaringWithRuns = 12347
	maxListRows     = 4096
)

func newRowSet() *rowSet { return &rowSet{chunks: map[uint64]*rowChunk{}} }

// has tells whether a row is in the set.
func (s *rowSet) has(row int64) bool {
	c := s.chunks[uint64(row)>>16]
	if c == nil {
		return false
	}
	return c.has(uint16(row))
}

func (c *rowChunk) has(x uint16) bool {
	switch {
	case c.bits != nil:
		return c.bits[x>>6]>>(x&63)&1 == 1
	case c.runs != nil:
		i := sort.Search(len(c.runs), func(i int) bool { return c.runs[i][1] >= x })
		return i < len(c.runs) && c.runs[i][0] <= x
	}
	i := sort.Search(len(c.list), func(i int) bool { return c.list[i] >= x })
	return i < len(c.list) && c.list[i] == x
}

// toBits turns a chunk into its bitmap form.
func (c *rowChunk) toBits() {
	if c.bits != nil {
		return
	}
	b := new([1024]uint64)
	for _, x := range c.list {
		b[x>>6] |= 1 << (x & 63)
	}
	for _, r := range c.runs {
		for x := int(r[0]); x <= int(r[1]); x++ {
			b[x>>6] |= 1 << (x & 63)
		}
	}
	c.bits, c.list, c.runs = b, nil, nil
}

// add puts a row into the set; false when it was there.
func (s *rowSet) add(row int64) bool {
	k := uint64(row) >> 16
	c := s.chunks[k]
	if c == nil {
		c = &rowChunk{}
		s.chunks[k] = c
	}
	x := uint16(row)
	if c.has(x) {
		return false
	}
	s.count++
	if c.bits == nil && c.runs == nil && len(c.list) < maxListRows {
		i := sort.Search(len(c.list), func(i int) bool { return c.list[i] >= x })
		c.list = append(c.list, 0)
		copy(c.list[i+1:], c.list[i:])
		c.list[i] = x
		return true
	}
	c.toBits()
	c.bits[x>>6] |= 1 << (x & 63)
	return true
}

// clone copies the set.
func (s *rowSet) clone() *rowSet {
	out := &rowSet{chunks: make(map[uint64]*rowChunk, len(s.chunks)), count: s.count}
	for k, c := range s.chunks {
		n := &rowChunk{list: append([]uint16(nil), c.list...), runs: append([][2]uint16(nil), c.runs...)}
		if len(c.list) == 0 {
			n.list = nil
		}
		if len(c.runs) == 0 {
			n.runs = nil
		}
		if c.bits != nil {
			b := *c.bits
			n.bits = &b
		}
		out.chunks[k] = n
	}
	return out
}

func (c *rowChunk) len() int {
	n := len(c.list)
	for _, r := range c.runs {
		n += int(r[1]) - int(r[0]) + 1
	}
	if c.bits != nil {
		for _, w := range c.bits {
			n += bits.OnesCount64(w)
		}
	}
	return n
}

// decodeRows reads the serialized bitmap with its magic number.
func decodeRows(b []byte) (*rowSet, error) {
	if len(b) < 12 || binary.LittleEndian.Uint32(b) != vectorMagic {
		return nil, errVector
	}
	count := binary.LittleEndian.Uint64(b[4:])
	b = b[12:]
	if count > uint64(len(b))/4 {
		return nil, errVector
	}
	s := newRowSet()
	prev := int64(-1)
	for range count {
		if len(b) < 4 {
			return nil, errVector
		}
		key := binary.LittleEndian.Uint32(b)
		if int64(key) <= prev || key > 1<<30 {
			return nil, errVector
		}
		prev = int64(key)
		rest, err := s.decodeBitmap(uint64(key), b[4:])
		if err != nil {
			return nil, err
		}
		b = rest
	}
	return s, nil
}

// decodeBitmap reads one standard 32-bit roaring bitmap.
func (s *rowSet) decodeBitmap(key uint64, b []byte) ([]byte, error) {
	if len(b) < 4 {
		return nil, errVector
	}
	cookie := binary.LittleEndian.Uint32(b)
	b = b[4:]
	size := 0
	var runFlags []byte
	switch {
	case cookie&0xffff == roaringWithRuns:
		size = int(cookie>>16) + 1
		if len(b) < (size+7)/8 {
			return nil, errVector
		}
		runFlags, b = b[:(size+7)/8], b[(size+7)/8:]
	case cookie == roaringNoRuns:
		if len(b) < 4 || binary.LittleEndian.Uint32(b) > 1<<16 {
			return nil, errVector
		}
		size, b = int(binary.LittleEndian.Uint32(b)), b[4:]
	default:
		return nil, errVector
	}
	if len(b) < 4*size {
		return nil, errVector
	}
	heads := b[:4*size]
	b = b[4*size:]
	if runFlags == nil || size >= 4 { // offsets are redundant: containers follow in order
		if len(b) < 4*size {
			return nil, errVector
		}
		b = b[4*size:]
	}
	for i := range size {
		c := &rowChunk{}
		high, card := binary.LittleEndian.Uint16(heads[4*i:]), int(binary.LittleEndian.Uint16(heads[4*i+2:]))+1
		var err error
		isRun := runFlags != nil && runFlags[i/8]>>(i%8)&1 == 1
		if b, err = c.decode(b, card, isRun); err != nil {
			return nil, err
		}
		k := key<<16 | uint64(high)
		if s.chunks[k] != nil {
			return nil, errVector
		}
		s.chunks[k] = c
		s.count += int64(c.len())
	}
	return b, nil
}

func (c *rowChunk) decode(b []byte, card int, isRun bool) ([]byte, error) {
	switch {
	case isRun:
		if len(b) < 2 || len(b) < 2+4*int(binary.LittleEndian.Uint16(b)) {
			return nil, errVector
		}
		n := int(binary.LittleEndian.Uint16(b))
		b = b[2:]
		last := -1
		c.runs = make([][2]uint16, n)
		for i := range n {
			first, more := int(binary.LittleEndian.Uint16(b[4*i:])), int(binary.LittleEndian.Uint16(b[4*i+2:]))
			if first <= last || first+more > 0xffff {
				return nil, errVector
			}
			last = first + more
			c.runs[i] = [2]uint16{uint16(first), uint16(last)}
		}
		return b[4*n:], nil
	case card <= maxListRows:
		if len(b) < 2*card {
			return nil, errVector
		}
		c.list = make([]uint16, card)
		for i := range c.list {
			c.list[i] = binary.LittleEndian.Uint16(b[2*i:])
			if i > 0 && c.list[i] <= c.list[i-1] {
				return nil, errVector
			}
		}
		return b[2*card:], nil
	}
	if len(b) < 8192 {
		return nil, errVector
	}
	c.bits = new([1024]uint64)
	for i := range c.bits {
		c.bits[i] = binary.LittleEndian.Uint64(b[8*i:])
	}
	return b[8192:], nil
}

// encode writes the set with its magic number, as decodeRows reads it.
func (s *rowSet) encode() []byte {
	byKey := map[uint32][]uint64{}
	for k := range s.chunks {
		byKey[uint32(k>>16)] = append(byKey[uint32(k>>16)], k)
	}
	keys := make([]uint32, 0, len(byKey))
	for k := range byKey {
		keys = append(keys, k)
	}
	sort.Slice(keys, func(i, j int) bool { return keys[i] < keys[j] })
	le := binary.LittleEndian
	b := le.AppendUint64(le.AppendUint32(nil, vectorMagic), uint64(len(keys)))
	for _, key := range keys {
		chunks := byKey[key]
		sort.Slice(chunks, func(i, j int) bool { return chunks[i] < chunks[j] })
		b = le.AppendUint32(b, key)
		start := len(b)
		b = le.AppendUint32(le.AppendUint32(b, roaringNoRuns), uint32(len(chunks)))
		for _, k := range chunks {
			b = le.AppendUint16(le.AppendUint16(b, uint16(k)), uint16(s.chunks[k].len()-1))
		}
		offsets := len(b)
		b = append(b, make([]byte, 4*len(chunks))...)
		for i, k := range chunks {
			le.PutUint32(b[offsets+4*i:], uint32(len(b)-start))
			c := *s.chunks[k]
			c.toBits()
			if c.len() <= maxListRows {
				for w, word := range c.bits {
					for ; word != 0; word &= word - 1 {
						b = le.AppendUint16(b, uint16(w*64+bits.TrailingZeros64(word)))
					}
				}
				continue
			}
			for _, word := range c.bits {
				b = le.AppendUint64(b, word)
			}
		}
	}
	return b
}

// encodeVectorFile frames serialized sets as a deletion vector file; offsets are
// where each begins.
func encodeVectorFile(sets [][]byte) (file []byte, offsets []int32) {
	file = []byte{1}
	for _, s := range sets {
		offsets = append(offsets, int32(len(file)))
		file = binary.BigEndian.AppendUint32(file, uint32(len(s)))
		file = append(file, s...)
		file = binary.BigEndian.AppendUint32(file, crc32.ChecksumIEEE(s))
	}
	return file, offsets
}

// decodeFramed reads one set of a deletion vector file.
func decodeFramed(b []byte, size int32) ([]byte, error) {
	if len(b) < 8 || size < 0 || int(size) > len(b)-8 || binary.BigEndian.Uint32(b) != uint32(size) {
		return nil, errVector
	}
	data := b[4 : 4+size]
	if binary.BigEndian.Uint32(b[4+size:]) != crc32.ChecksumIEEE(data) {
		return nil, fmt.Errorf("%w: its checksum does not match", errVector)
	}
	return data, nil
}

const z85Digits = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.-:+=^!/*?&<>()[]{}@%$#"

// z85Encode writes bytes, padded with zeros to a multiple of four.
func z85Encode(b []byte) string {
	b = append(append([]byte(nil), b...), make([]byte, (4-len(b)%4)%4)...)
	var out []byte
	for ; len(b) > 0; b = b[4:] {
		v := binary.BigEndian.Uint32(b)
		var five [5]byte
		for i := 4; i >= 0; i-- {
			five[i] = z85Digits[v%85]
			v /= 85
		}
		out = append(out, five[:]...)
	}
	return string(out)
}

func z85Decode(s string) ([]byte, error) {
	if len(s)%5 != 0 {
		return nil, errVector
	}
	var table [256]int8
	for i := range table {
		table[i] = -1
	}
	for i := range len(z85Digits) {
		table[z85Digits[i]] = int8(i)
	}
	out := make([]byte, 0, len(s)/5*4)
	for i := 0; i < len(s); i += 5 {
		var v uint64
		for _, c := range []byte(s[i : i+5]) {
			if table[c] < 0 {
				return nil, errVector
			}
			v = v*85 + uint64(table[c])
		}
		if v > 0xffffffff {
			return nil, errVector
		}
		out = binary.BigEndian.AppendUint32(out, uint32(v))
	}
	return out, nil
}
