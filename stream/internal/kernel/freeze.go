package kernel

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"runtime"
	"slices"
	"sync/atomic"
	"unsafe"

	"github.com/weirstream/weir/dataflow"
	"github.com/weirstream/weir/stream/spi"
)

// A dirtyRef is a place in a dirty list.
//
// claim settles between the actor and the writer who encodes a frozen entry; it
// is used atomically once the list is frozen:
//
//	claimFree -> claimBusy -> claimDone                   by the writer
//	claimFree -> claimBusy -> claimSaved | index<<2       by the actor, before it changes the entry
type dirtyRef struct {
	id    uint32 // 0: the entry is gone
	claim uint32
}

const (
	claimFree = iota
	claimBusy
	claimDone
	claimSaved
	claimMask = 3
)

const sideLen = 256

// A sideRow is a row that was encoded by the actor.
type sideRow struct {
	value []byte // nil: a tombstone
	due   int64  // bucket of the earliest timer, noBucket if none
	index int64  // bucket that the store was known to hold
	err   error
}

// A run is the dirty list of one table, frozen. Its writer side (sort, group)
// works on copies and on frozen entries only and runs off the turn.
type run struct {
	view
	id    dataflow.StateID
	pane  int64
	paned bool
	total int // key groups
	gen   uint32
	refs  []dirtyRef
	tombs []uint32

	// Entries (gone, over] are over: whatever there was of them, the writer deletes
	// what the store has. The actor changes none of them any more.
	gone, over uint32

	side      []*[sideLen]sideRow // sized at the freeze, filled by the actor
	saved     uint32
	sideBytes int64
	arena     []byte

	// Timer index, of timed tables.
	timerID dataflow.StateID
	floor   int64 // buckets up to it have been popped
	written []indexed

	// Writer.
	order   []uint64 // hash<<32 | place in refs, behind them those that are over; sorted
	next    int
	key     []byte
	buf     []byte
	rows    []groupRow
	due     []indexed
	groups  []int32 // that had rows
	claimed int     // rows up to it are claimed
	warmed  uint32  // keeps the reads of claim alive
}

// groupRow is an encoded row of the group being written.
type groupRow struct {
	word     uint64
	from, to int // in buf; to < 0: a tombstone
}

// indexed is an entry whose timer gets a row in the index.
type indexed struct {
	id     uint32
	bucket int64
	word   uint64
}

// freeze makes the current dirty list the frozen one; nil when it is empty.
func (t *table) freeze(paned bool) *run {
	t.reap()
	if t.ndirty == 0 {
		t.dirty = t.dirty[:0]
		return nil
	}
	r := &run{
		view: t.view, id: t.id, pane: t.pane, paned: paned, total: t.groups.total,
		gen: t.gen, refs: t.dirty, tombs: t.tombs,
		side: make([]*[sideLen]sideRow, (len(t.dirty)+sideLen-1)/sideLen),
	}
	if t.names != nil {
		names := *t.names // the slice as of now: the actor may add names
		r.names = &names
	}
	t.frozen, t.again = r, 0
	t.dirty, t.spare = t.spare[:0], nil
	t.tombs, t.reaped, t.ndirty = nil, 0, 0
	t.gen++
	return r
}

// freezeOver is freeze for a table of which entries (gone, over] are over. It costs
// the actor nothing by entry: the writer finds out which have a row to delete.
func (t *table) freezeOver(paned bool, gone, over uint32) *run {
	r := t.freeze(paned)
	if over <= gone {
		return r
	}
	if r == nil {
		// Nothing is dirty, yet the writer must know the entries as of now.
		r = &run{view: t.view, id: t.id, pane: t.pane, paned: paned, total: t.groups.total, gen: t.gen}
		t.frozen = r
		t.gen++
	}
	r.gone, r.over = gone, over
	return r
}

// idOf returns the entry of a word in order.
func (r *run) idOf(word uint64) uint32 {
	i := int(uint32(word))
	if i < len(r.refs) {
		return r.refs[i].id
	}
	return r.gone + 1 + uint32(i-len(r.refs))
}

// isOver reports whether a word in order is of an entry that is over.
func (r *run) isOver(word uint64) bool { return int(uint32(word)) >= len(r.refs) }

// preserve encodes the entry at p, which is frozen in r, unless the writer has
// done so already. It is called on the turn.
func (r *run) preserve(v *view, p unsafe.Pointer) {
	ref := &r.refs[(*head)(p).pos]
	for !atomic.CompareAndSwapUint32(&ref.claim, claimFree, claimBusy) {
		if c := atomic.LoadUint32(&ref.claim); c == claimDone || c&claimMask == claimSaved {
			return
		}
		runtime.Gosched() // the writer is encoding this very row
	}
	n := r.saved
	r.saved++
	if r.side[n/sideLen] == nil {
		r.side[n/sideLen] = new([sideLen]sideRow)
	}
	s := &r.side[n/sideLen][n%sideLen]
	*s = sideRow{due: noBucket, index: noBucket}
	if v.lay.timed {
		tm := v.timersOf(p)
		s.due, s.index = bucketOf(tm.at), tm.indexed
	}
	if (*head)(p).flags&flagAbsent == 0 {
		if cap(r.arena)-len(r.arena) < 512 {
			r.arena = make([]byte, 0, 64<<10)
		}
		from := len(r.arena)
		b, err := v.appendValue(r.arena, p)
		if err == nil {
			if cap(b) == cap(r.arena) {
				r.arena = b
			}
			s.value = b[from:len(b):len(b)]
			r.sideBytes += int64(len(s.value))
		}
		s.err = err
	}
	atomic.StoreUint32(&ref.claim, claimSaved|n<<2)
}

// blockLen is how many rows the writer claims at a time.
const blockLen = 32

// claim takes the next rows of group g, so that the cache misses of encoding them
// overlap: their memory is read ahead level by level. The actor waits if it is
// about to change one of them, which encode releases one by one.
func (r *run) claim(g int) {
	if r.next < r.claimed {
		return
	}
	words := r.order[r.next:min(r.next+blockLen, len(r.order))]
	for i, w := range words {
		if dataflow.GroupOf(uint32(w>>32), r.total) != g {
			words = words[:i]
			break
		}
	}
	r.claimed = r.next + len(words)
	var at [blockLen]unsafe.Pointer
	for i, w := range words {
		at[i] = r.at(r.idOf(w))
	}
	for i, w := range words {
		if r.isOver(w) {
			at[i] = nil
			continue
		}
		ref := &r.refs[uint32(w)]
		for !atomic.CompareAndSwapUint32(&ref.claim, claimFree, claimBusy) {
			if atomic.LoadUint32(&ref.claim)&claimMask == claimSaved {
				at[i] = nil
				break
			}
			runtime.Gosched() // the actor is encoding this very row
		}
		if at[i] != nil {
			r.warmed += (*head)(at[i]).hash
		}
	}
	for _, p := range at[:len(words)] {
		for _, off := range r.lay.strs {
			if p == nil {
				break
			}
			// A string and a slice both begin with the pointer to their bytes and their
			// length.
			if s := *(*string)(unsafe.Add(r.stateOf(p), off)); len(s) > 0 {
				r.warmed += uint32(s[0])
			}
		}
	}
}

// release gives back rows that were claimed and not encoded, because writing
// stopped early.
func (r *run) release() {
	for i := r.next; i < r.claimed; i++ {
		if r.isOver(r.order[i]) {
			continue
		}
		atomic.CompareAndSwapUint32(&r.refs[uint32(r.order[i])].claim, claimBusy, claimFree)
	}
}

// encode appends the row of a word in order, which claim took, to dst. ok is false
// for a tombstone. due and index are as in sideRow.
func (r *run) encode(dst []byte, word uint64) (b []byte, ok bool, due, index int64, err error) {
	if r.isOver(word) {
		return dst, false, noBucket, noBucket, nil
	}
	ref := &r.refs[uint32(word)]
	if c := atomic.LoadUint32(&ref.claim); c&claimMask == claimSaved {
		s := &r.side[c>>2/sideLen][c>>2%sideLen]
		return append(dst, s.value...), s.value != nil, s.due, s.index, s.err
	}
	p := r.at(ref.id)
	due, index = noBucket, noBucket
	if r.lay.timed {
		tm := r.timersOf(p)
		due, index = bucketOf(tm.at), tm.indexed
	}
	ok = (*head)(p).flags&flagAbsent == 0
	if ok {
		dst, err = r.appendValue(dst, p)
	}
	atomic.StoreUint32(&ref.claim, claimDone)
	return dst, ok, due, index, err
}

// sort puts the rows in order of hash, then key.
func (r *run) sort() {
	over := int(r.over - r.gone)
	words := make([]uint64, 0, 2*(len(r.refs)+over))
	for i := range r.refs {
		if id := r.refs[i].id; id > r.over { // 0 never is
			words = append(words, uint64(r.head(id).hash)<<32|uint64(i))
		}
	}
	for i := range over {
		h := r.head(r.gone + 1 + uint32(i))
		if h.flags&(flagUsed|flagAbsent) != flagUsed || h.gen == r.gen && h.flags&flagStored == 0 {
			continue // the store never had it
		}
		words = append(words, uint64(h.hash)<<32|uint64(len(r.refs)+i))
	}
	n := len(words)
	r.order = radixSort(words, words[n:2*n])
	for i := 0; i < n; {
		j := i + 1
		for j < n && r.order[j]>>32 == r.order[i]>>32 {
			j++
		}
		if j-i > 1 {
			r.sortTies(r.order[i:j])
		}
		i = j
	}
}

// sortTies sorts rows of equal hash by key.
func (r *run) sortTies(words []uint64) {
	var a, b []byte
	slices.SortFunc(words, func(x, y uint64) int {
		a = r.appendKey(a[:0], r.at(r.idOf(x)))
		b = r.appendKey(b[:0], r.at(r.idOf(y)))
		return bytes.Compare(a, b)
	})
}

// group returns the key group of the next row, or -1.
func (r *run) group() int {
	if r.next == len(r.order) {
		return -1
	}
	return dataflow.GroupOf(uint32(r.order[r.next]>>32), r.total)
}

// prefix starts a row key.
func (r *run) prefix(g int, id dataflow.StateID, paned bool, pane int64) []byte {
	k := dataflow.AppendRowPrefix(r.key[:0], g, id)
	if paned {
		k = dataflow.AppendPane(k, pane)
	}
	return k
}

// suffix completes a row key with the hash and key of an entry.
func (r *run) suffix(k []byte, word uint64) []byte {
	k = binary.BigEndian.AppendUint32(k, uint32(word>>32))
	return r.appendKey(k, r.at(r.idOf(word)))
}

// emit yields the rows of group g, which is that of the next row.
func (r *run) emit(g int, yield func(k, v []byte) bool) (more bool, err error) {
	r.groups = append(r.groups, int32(g))
	pre := r.prefix(g, r.id, r.paned, r.pane)
	n := len(pre)
	for ; r.next < len(r.order) && r.group() == g; r.next++ {
		r.claim(g)
		word := r.order[r.next]
		b, ok, _, _, err := r.encode(r.buf[:0], word)
		if err != nil {
			return false, err
		}
		r.key = r.suffix(pre[:n], word)
		pre = r.key
		if b != nil {
			r.buf = b
		}
		if !yield(r.key, rowValue(b, ok)) {
			return false, nil
		}
	}
	return true, nil
}

var emptyRow = []byte{}

// rowValue tells a tombstone (nil) from an empty row.
func rowValue(b []byte, ok bool) []byte {
	switch {
	case !ok:
		return nil
	case b == nil:
		return emptyRow
	}
	return b
}

// prepare encodes the rows of group g of a timed table: whether a row needs an
// index row shows only then, and the index may sort before it.
func (r *run) prepare(g int) error {
	r.buf, r.rows, r.due = r.buf[:0], r.rows[:0], r.due[:0]
	for ; r.next < len(r.order) && r.group() == g; r.next++ {
		r.claim(g)
		word := r.order[r.next]
		at := len(r.buf)
		b, ok, due, have, err := r.encode(r.buf, word)
		if err != nil {
			return err
		}
		r.buf = b
		end := len(b)
		if !ok {
			end = -1
		}
		r.rows = append(r.rows, groupRow{word, at, end})
		if due != noBucket && (have == noBucket || have <= r.floor || have > due) {
			r.due = append(r.due, indexed{r.refs[uint32(word)].id, due, word})
		}
	}
	return nil
}

// emitPrepared yields the rows that prepare encoded.
func (r *run) emitPrepared(g int, yield func(k, v []byte) bool) bool {
	pre := r.prefix(g, r.id, r.paned, r.pane)
	n := len(pre)
	for _, row := range r.rows {
		r.key = r.suffix(pre[:n], row.word)
		pre = r.key
		var v []byte
		if row.to >= 0 {
			v = rowValue(r.buf[row.from:row.to:row.to], true)
		}
		if !yield(r.key, v) {
			return false
		}
	}
	return true
}

// emitIndex yields the index rows of the group just encoded.
func (r *run) emitIndex(g int, yield func(k, v []byte) bool) bool {
	// Stable: within a bucket the order of hash and key stays.
	slices.SortStableFunc(r.due, func(a, b indexed) int { return cmp.Compare(a.bucket, b.bucket) })
	for _, d := range r.due {
		r.key = r.suffix(r.prefix(g, r.timerID, true, bucketStart(d.bucket)), d.word)
		if !yield(r.key, emptyRow) {
			return false
		}
	}
	r.written = append(r.written, r.due...)
	return true
}

// thaw ends a freeze, on the turn.
func (t *table) thaw(err error) {
	r := t.frozen
	if r == nil {
		return
	}
	t.frozen, t.swept = nil, false
	if err != nil {
		t.undo(r)
		return
	}
	for _, id := range r.tombs {
		h := t.head(id)
		switch {
		case h.flags&flagAbsent == 0:
			h.flags &^= flagTomb
		case h.gen == r.gen:
			h.flags &^= flagTomb
			t.remove(id)
		default: // died again since
			t.tombs = append(t.tombs, id)
		}
	}
	if t.spare == nil && cap(r.refs) <= 1<<16 {
		t.spare = r.refs[:0]
	}
}

// undo makes the entries of r dirty again. What the store holds of them is
// unknown from here on.
func (t *table) undo(r *run) {
	for i := range r.refs {
		id := r.refs[i].id
		if id == 0 {
			continue
		}
		h := t.head(id)
		h.flags |= flagStored
		if h.gen != r.gen {
			continue // dirty again already
		}
		h.gen, h.pos = t.gen, uint32(len(t.dirty))
		t.dirty = append(t.dirty, dirtyRef{id: id})
		t.ndirty++
	}
	t.tombs = append(t.tombs, r.tombs...)
}

// frozenRows is the spi.Frozen of a runner.
type frozenRows struct {
	runs  []*run
	drops []spi.Span
	done  func(err error)
}

func (f *frozenRows) Drops() []spi.Span { return f.drops }

// A section is one state's share of the rows of every group.
type section struct {
	r     *run
	index bool // the timer index of r, not its rows
	id    dataflow.StateID
}

// sections returns what makes up a group, in the order of row keys.
func (f *frozenRows) sections() []section {
	var out []section
	for _, r := range f.runs {
		out = append(out, section{r, false, r.id})
		if r.lay.timed {
			out = append(out, section{r, true, r.timerID})
		}
	}
	slices.SortStableFunc(out, func(a, b section) int {
		if a.id != b.id {
			return cmp.Compare(a.id, b.id)
		}
		return cmp.Compare(a.r.pane, b.r.pane)
	})
	return out
}

// Rows implements spi.Frozen.
func (f *frozenRows) Rows(yield func(key, value []byte) bool) error {
	defer func() {
		for _, r := range f.runs {
			r.release()
		}
	}()
	for _, r := range f.runs {
		r.sort()
	}
	sections := f.sections()
	for {
		g := -1
		for _, r := range f.runs {
			if n := r.group(); n >= 0 && (g < 0 || n < g) {
				g = n
			}
		}
		if g < 0 {
			return nil
		}
		more, err := f.emitGroup(g, sections, yield)
		if err != nil || !more {
			return err
		}
	}
}

// emitGroup yields the rows of group g.
func (f *frozenRows) emitGroup(g int, sections []section, yield func(k, v []byte) bool) (more bool, err error) {
	for _, r := range f.runs {
		r.rows, r.due = r.rows[:0], r.due[:0]
		if r.lay.timed && r.group() == g {
			if err := r.prepare(g); err != nil {
				return false, err
			}
		}
	}
	for _, s := range sections {
		switch {
		case s.index:
			more = s.r.emitIndex(g, yield)
		case s.r.lay.timed:
			more = s.r.emitPrepared(g, yield)
		case s.r.group() == g:
			more, err = s.r.emit(g, yield)
		default:
			more = true
		}
		if err != nil || !more {
			return false, err
		}
	}
	return true, nil
}

func (f *frozenRows) Done(err error) { f.done(err) }
