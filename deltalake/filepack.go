package deltalake

import (
	"encoding/binary"
	"fmt"
	"hash/maphash"
	"slices"
	"sort"
	"strings"

	"github.com/klauspost/compress/s2"
)

// A filePack holds many data files in little memory: their paths in one piece per
// block, their statistics compressed, partition values shared. A file is a row; it
// is decoded when it is asked for. Rows are found by a hash table of row numbers
// and never move; one that is gone is marked.
//
// A pack is filled by one goroutine and does not change once it is sealed; then it
// is safe for concurrent use.
type filePack struct {
	blocks []*fileBlock
	starts []uint32 // first row of each block
	rows   uint32   // of all blocks
	gone   []uint64 // bit per row
	lost   int      // rows that are gone
	index  []uint64 // open addressing: hash<<32 | row+1; 0 is free
	open   *packer  // of the last block; nil when the pack is sealed
}

// Bounds of a block, and of a piece of statistics that is compressed at once.
const (
	blockRows     = 1 << 15
	blockBytes    = 64 << 20
	chunkRows     = 64
	chunkBytes    = 32 << 10
	chunkMaxBytes = 64 << 20 // statistics of a file beyond it stay as they are
)

// fileBlock is a run of rows, immutable when it is sealed.
type fileBlock struct {
	n        int
	paths    string
	pathEnds []uint32
	parts    []map[string]*string // shared between equal ones
	sizes    []int64
	modified []int64
	marks    []uint8 // mark*
	rowIDs   []int64 // BaseRowID; nil where no file has one
	versions []int64 // DefaultRowCommitVersion; nil where no file has one
	rare     map[int]*rareFields

	stats     []byte // chunks, compressed
	statLens  []uint32
	chunkRow  []uint32 // first row of each chunk
	chunkEnds []uint32 // in stats
}

const (
	markChange  = 1 << iota // DataChange
	markRowID               // BaseRowID is set
	markVersion             // DefaultRowCommitVersion is set
	markRare                // rare has an entry
)

// rareFields are those that most files do not have.
type rareFields struct {
	stats              string // too large to be in a chunk
	tags               map[string]*string
	vector             *DeletionVector
	clusteringProvider string
}

// packer is what a block needs only while it is filled.
type packer struct {
	b      *fileBlock
	paths  []byte
	raw    []byte // statistics of the open chunk
	shared partitionTexts
}

// packSeed makes the hash of paths one that nobody outside can foresee.
var packSeed = maphash.MakeSeed()

func (k fileKey) hash() uint32 {
	h := maphash.String(packSeed, k.path)
	if k.dv != "" {
		h = h*0x9e3779b97f4a7c15 ^ maphash.String(packSeed, k.dv)
	}
	return uint32(h ^ h>>32)
}

func (p *filePack) len() int {
	if p == nil {
		return 0
	}
	return int(p.rows) - p.lost
}

func (p *filePack) isGone(row uint32) bool { return p.gone[row/64]>>(row%64)&1 != 0 }

// at returns the block of a row and its number there.
func (p *filePack) at(row uint32) (*fileBlock, int) {
	i := sort.Search(len(p.starts), func(i int) bool { return p.starts[i] > row }) - 1
	return p.blocks[i], int(row - p.starts[i])
}

// find returns the row of a file.
func (p *filePack) find(k fileKey) (uint32, bool) {
	if p == nil || len(p.index) == 0 {
		return 0, false
	}
	h := k.hash()
	mask := uint32(len(p.index) - 1)
	for i := h & mask; ; i = (i + 1) & mask {
		e := p.index[i]
		if e == 0 {
			return 0, false
		}
		if uint32(e>>32) != h {
			continue
		}
		if row := uint32(e) - 1; !p.isGone(row) && p.is(row, k) {
			return row, true
		}
	}
}

// is tells whether a row is the file of a key.
func (p *filePack) is(row uint32, k fileKey) bool {
	b, i := p.at(row)
	if b.vector(i).uniqueID() != k.dv {
		return false
	}
	lo, hi := b.span(i)
	if p.open != nil && b == p.open.b {
		raw := p.open.paths[lo:hi]
		return string(raw) == k.path || canonicalPath(string(raw)) == k.path
	}
	return b.paths[lo:hi] == k.path || canonicalPath(b.paths[lo:hi]) == k.path
}

func (b *fileBlock) span(i int) (lo, hi uint32) {
	if i > 0 {
		lo = b.pathEnds[i-1]
	}
	return lo, b.pathEnds[i]
}

func (b *fileBlock) vector(i int) *DeletionVector {
	if b.marks[i]&markRare == 0 {
		return nil
	}
	return b.rare[i].vector
}

// drop marks a row as gone.
func (p *filePack) drop(row uint32) {
	p.gone[row/64] |= 1 << (row % 64)
	p.lost++
}

// add appends a file that is not in the pack; what a points to is copied.
func (p *filePack) add(k fileKey, a *AddFile) {
	if p.open == nil {
		p.open = &packer{}
	}
	w := p.open
	if b := w.b; b == nil || b.n == blockRows || len(w.paths)+len(b.stats)+len(w.raw) > blockBytes {
		w.seal()
		w.b = &fileBlock{}
		p.blocks, p.starts = append(p.blocks, w.b), append(p.starts, p.rows)
	}
	w.add(a)
	row := p.rows
	p.rows++
	if int(row/64) == len(p.gone) {
		p.gone = append(p.gone, 0)
	}
	if 4*uint64(p.rows) > 3*uint64(len(p.index)) {
		p.resize(2 * len(p.index))
	}
	p.enter(uint64(k.hash())<<32 | uint64(row+1))
}

func (p *filePack) enter(e uint64) {
	mask := uint32(len(p.index) - 1)
	i := uint32(e>>32) & mask
	for p.index[i] != 0 {
		i = (i + 1) & mask
	}
	p.index[i] = e
}

// resize makes the hash table anew, without the rows that are gone.
func (p *filePack) resize(n int) {
	size := 64
	for size < n {
		size *= 2
	}
	old := p.index
	p.index = make([]uint64, size)
	for _, e := range old {
		if row := uint32(e) - 1; e != 0 && row < p.rows && !p.isGone(row) {
			p.enter(e)
		}
	}
}

// seal ends the filling of the pack.
func (p *filePack) seal() {
	if p.open != nil {
		p.open.seal()
		p.open = nil
	}
}

func (w *packer) add(a *AddFile) {
	b, i := w.b, w.b.n
	b.n++
	w.paths = append(w.paths, a.Path...)
	b.pathEnds = append(b.pathEnds, uint32(len(w.paths)))
	b.parts = append(b.parts, w.shared.of(a.PartitionValues))
	b.sizes, b.modified = append(b.sizes, a.Size), append(b.modified, a.ModificationTime)
	mark := uint8(0)
	if a.DataChange {
		mark |= markChange
	}
	b.rowIDs = optionalLong(b.rowIDs, i, a.BaseRowID, &mark, markRowID)
	b.versions = optionalLong(b.versions, i, a.DefaultRowCommitVersion, &mark, markVersion)
	stats := a.Stats
	if big := len(stats) > chunkMaxBytes; big || a.Tags != nil || a.DeletionVector != nil || a.ClusteringProvider != "" {
		r := &rareFields{tags: a.Tags, vector: a.DeletionVector, clusteringProvider: strings.Clone(a.ClusteringProvider)}
		if big {
			r.stats, stats = strings.Clone(stats), ""
		}
		if b.rare == nil {
			b.rare = map[int]*rareFields{}
		}
		b.rare[i] = r
		mark |= markRare
	}
	b.marks = append(b.marks, mark)
	if i == 0 || len(w.raw) >= chunkBytes || i-int(b.chunkRow[len(b.chunkRow)-1]) >= chunkRows {
		w.endChunk()
		b.chunkRow = append(b.chunkRow, uint32(i))
	}
	w.raw = append(w.raw, stats...)
	b.statLens = append(b.statLens, uint32(len(stats)))
}

func optionalLong(to []int64, i int, x *int64, mark *uint8, bit uint8) []int64 {
	if x == nil && to == nil {
		return nil
	}
	if to == nil {
		to = make([]int64, i, max(16, i))
	}
	if x == nil {
		return append(to, 0)
	}
	*mark |= bit
	return append(to, *x)
}

// endChunk compresses the open chunk, if there is one.
func (w *packer) endChunk() {
	b := w.b
	if len(b.chunkEnds) == len(b.chunkRow) {
		return
	}
	at := len(b.stats)
	b.stats = slices.Grow(b.stats, s2.MaxEncodedLen(len(w.raw)))
	b.stats = b.stats[:at+len(s2.Encode(b.stats[at:cap(b.stats)], w.raw))]
	b.chunkEnds = append(b.chunkEnds, uint32(len(b.stats)))
	w.raw = w.raw[:0]
}

// seal makes the open block as small as it can be.
func (w *packer) seal() {
	b := w.b
	if b == nil {
		return
	}
	w.endChunk()
	b.paths, w.paths = string(w.paths), w.paths[:0]
	b.pathEnds, b.parts, b.marks = fit(b.pathEnds), fit(b.parts), fit(b.marks)
	b.sizes, b.modified, b.rowIDs, b.versions = fit(b.sizes), fit(b.modified), fit(b.rowIDs), fit(b.versions)
	b.stats, b.statLens, b.chunkRow, b.chunkEnds = fit(b.stats), fit(b.statLens), fit(b.chunkRow), fit(b.chunkEnds)
	w.b = nil
}

// fit drops the room that a slice has left.
func fit[T any](s []T) []T {
	if cap(s)-len(s) <= len(s)/16 {
		return s
	}
	return append(make([]T, 0, len(s)), s...)
}

// file decodes a row but for its statistics.
func (b *fileBlock) file(i int) *AddFile {
	lo, hi := b.span(i)
	a := &AddFile{
		Path: b.paths[lo:hi], PartitionValues: b.parts[i], Size: b.sizes[i], ModificationTime: b.modified[i], DataChange: b.marks[i]&markChange != 0,
	}
	if b.marks[i]&markRowID != 0 {
		x := b.rowIDs[i]
		a.BaseRowID = &x
	}
	if b.marks[i]&markVersion != 0 {
		x := b.versions[i]
		a.DefaultRowCommitVersion = &x
	}
	if b.marks[i]&markRare != 0 {
		r := b.rare[i]
		a.Tags, a.DeletionVector, a.ClusteringProvider = r.tags, r.vector, r.clusteringProvider
	}
	return a
}

// chunk unpacks the statistics of a chunk.
func (b *fileBlock) chunk(c int) string {
	lo := uint32(0)
	if c > 0 {
		lo = b.chunkEnds[c-1]
	}
	raw, err := s2.Decode(nil, b.stats[lo:b.chunkEnds[c]])
	if err != nil {
		panic(fmt.Sprintf("deltalake: statistics in memory are damaged: %v", err))
	}
	return string(raw)
}

// get decodes one row.
func (p *filePack) get(row uint32) *AddFile {
	b, i := p.at(row)
	a := b.file(i)
	if b.marks[i]&markRare != 0 && b.rare[i].stats != "" {
		a.Stats = b.rare[i].stats
	} else if n := b.statLens[i]; n > 0 {
		c := sort.Search(len(b.chunkRow), func(c int) bool { return int(b.chunkRow[c]) > i }) - 1
		off := uint32(0)
		for k := int(b.chunkRow[c]); k < i; k++ {
			off += b.statLens[k]
		}
		a.Stats = strings.Clone(b.chunk(c)[off : off+n])
	}
	return a
}

// each yields the files of the blocks from lo to hi, in the order of their rows;
// without statistics when these are not asked for. It returns false when yield did.
func (p *filePack) each(lo, hi int, stats bool, hidden map[uint32]bool, yield func(*AddFile) bool) bool {
	for k := lo; k < hi; k++ {
		b := p.blocks[k]
		text, off, next := "", uint32(0), 0 // of the chunk; the chunk after it
		unpacked := false
		for i := range b.n {
			if next < len(b.chunkRow) && int(b.chunkRow[next]) == i {
				unpacked, off = false, 0
				next++
			}
			n := b.statLens[i]
			off += n
			if row := p.starts[k] + uint32(i); p.isGone(row) || hidden[row] {
				continue
			}
			a := b.file(i)
			if stats && n > 0 {
				if !unpacked {
					text, unpacked = b.chunk(next-1), true
				}
				a.Stats = text[off-n : off]
			}
			if stats && b.marks[i]&markRare != 0 && b.rare[i].stats != "" {
				a.Stats = b.rare[i].stats
			}
			if !yield(a) {
				return false
			}
		}
	}
	return true
}

// fold returns a pack of the same files with changes: a nil takes one out. The
// blocks are shared but for the last ones, which are merged while they are small,
// so that there are few and a row is packed a logarithm of times.
func (p *filePack) fold(changes map[fileKey]*AddFile) *filePack {
	n := &filePack{blocks: slices.Clone(p.blocks), starts: slices.Clone(p.starts), rows: p.rows, gone: slices.Clone(p.gone), lost: p.lost}
	fresh := 0
	for k, a := range changes {
		if row, ok := p.find(k); ok {
			n.drop(row)
		}
		if a != nil {
			fresh++
		}
	}
	keep := len(n.blocks)
	if n.lost > 1024+int(n.rows)/4 {
		keep = 0
	}
	for taken := fresh; keep > 0 && n.blocks[keep-1].n < 2*taken && n.blocks[keep-1].n+taken <= blockRows; keep-- {
		taken += n.blocks[keep-1].n
	}
	files := make([]*AddFile, 0, fresh)
	n.each(keep, len(n.blocks), true, nil, func(a *AddFile) bool {
		files = append(files, a)
		return true
	})
	for _, k := range sortedFileKeys(changes) {
		if a := changes[k]; a != nil {
			files = append(files, a)
		}
	}
	n.cut(keep)
	n.index = p.index
	n.resize(4*(int(n.rows)+len(files))/3 + 1)
	for _, a := range files {
		n.add(a.key(), a)
	}
	n.seal()
	return n
}

// cut takes the blocks from keep on out.
func (p *filePack) cut(keep int) {
	if keep == len(p.blocks) {
		return
	}
	end := p.starts[keep]
	for row := end; row < p.rows; row++ {
		if p.isGone(row) {
			p.lost--
		}
	}
	p.gone = p.gone[:(end+63)/64]
	if end%64 != 0 {
		p.gone[end/64] &= 1<<(end%64) - 1
	}
	p.blocks, p.starts, p.rows = p.blocks[:keep:keep], p.starts[:keep:keep], end
}

// partitionTexts shares equal partition values.
type partitionTexts struct {
	known map[string]map[string]*string
	key   []byte
}

// of returns a map that is equal to m, which nobody changes.
func (t *partitionTexts) of(m map[string]*string) map[string]*string {
	if m == nil {
		return nil
	}
	t.key = t.key[:0]
	if len(m) == 1 {
		for k, v := range m {
			t.add(k, v)
		}
	} else {
		for _, k := range sortedKeys(m) {
			t.add(k, m[k])
		}
	}
	if old, ok := t.known[string(t.key)]; ok {
		return old
	}
	if t.known == nil || len(t.known) >= 10_000 {
		t.known = map[string]map[string]*string{}
	}
	t.known[string(t.key)] = m
	return m
}

func (t *partitionTexts) add(k string, v *string) {
	t.key = binary.AppendUvarint(t.key, uint64(len(k)))
	t.key = append(t.key, k...)
	if v == nil {
		t.key = append(t.key, 0)
		return
	}
	t.key = append(t.key, 1)
	t.key = binary.AppendUvarint(t.key, uint64(len(*v)))
	t.key = append(t.key, *v...)
}
