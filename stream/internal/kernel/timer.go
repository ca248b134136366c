package kernel

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"math"
	"slices"
	"strings"
	"unsafe"

	"github.com/weirstream/weir/dataflow"
	"github.com/weirstream/weir/stream/spi"
)

// Timers are part of their key's row. In memory each key with timers has one
// element in a queue by time, checked again when it pops: setting a timer later
// costs a store.
//
// Keys that are not in the cache are found by rows of the timer index, whose pane
// is the start of the bucket of the key's earliest timer. An index row may be
// stale (too early) and is then written anew when its bucket comes; it is never
// too late:
//
//   - every stored row with timers has an index row of a bucket at or before its
//     earliest timer, until that bucket was popped;
//   - a popped key stays in the cache while its earliest timer lies in a bucket that
//     was popped;
//   - the rows of a popped bucket are dropped by range once all its timers fired,
//     and keys found there with only later timers were made dirty, so that the same
//     freeze writes their new index row.

const (
	noTimer    = math.MaxInt64
	noBucket   = math.MinInt64
	bucketBits = 24 // a bucket is 16.8 s of event time
)

// bucketOf returns the bucket of a time, noBucket if there is none.
func bucketOf(at int64) int64 {
	if at == noTimer {
		return noBucket
	}
	return at >> bucketBits
}

func bucketStart(b int64) int64 { return b << bucketBits }

// timers is what an entry of a timed table knows of its timers.
type timers struct {
	at      int64  // of the earliest timer (its name is in the head); noTimer
	queued  int64  // time of its element in the queue; noTimer
	indexed int64  // bucket of its index row in the store, as far as known; noBucket
	more    uint32 // index of the others in extra; 0: none
}

// timer is one of several of a key.
type timer struct {
	at   int64
	name uint16
}

// setTimer sets or moves a named timer of a touched entry.
func (t *table) setTimer(p unsafe.Pointer, name uint16, at int64) {
	h, tm := (*head)(p), t.timersOf(p)
	if tm.at == noTimer || tm.more == 0 && h.name == name {
		tm.at, h.name = at, name
		return
	}
	all := t.allTimers(p)
	i := slices.IndexFunc(all, func(x timer) bool { return x.name == name })
	if i >= 0 {
		all[i].at = at
	} else {
		all = append(all, timer{at, name})
	}
	t.putTimers(p, all)
}

// clearTimer drops a named timer of a touched entry.
func (t *table) clearTimer(p unsafe.Pointer, name uint16) {
	h, tm := (*head)(p), t.timersOf(p)
	if tm.at == noTimer || tm.more == 0 && h.name != name {
		return
	}
	all := t.allTimers(p)
	t.putTimers(p, slices.DeleteFunc(all, func(x timer) bool { return x.name == name }))
}

func (t *table) dropTimers(p unsafe.Pointer) {
	tm := t.timersOf(p)
	t.dropExtra(tm)
	tm.at = noTimer
}

func (t *table) dropExtra(tm *timers) {
	if tm.more != 0 {
		t.extra[tm.more] = nil
		tm.more = 0
	}
}

// allTimers returns a copy of an entry's timers.
func (v *view) allTimers(p unsafe.Pointer) []timer {
	tm := v.timersOf(p)
	if tm.at == noTimer {
		return nil
	}
	all := []timer{{tm.at, (*head)(p).name}}
	if tm.more != 0 {
		all = append(all, v.extra[tm.more]...)
	}
	return all
}

// putTimers replaces the timers of a touched entry.
func (t *table) putTimers(p unsafe.Pointer, all []timer) {
	tm := t.timersOf(p)
	slices.SortFunc(all, func(a, b timer) int {
		if a.at != b.at {
			return cmp.Compare(a.at, b.at)
		}
		// Not by number: another attempt may meet the names in another order.
		return strings.Compare((*t.names)[a.name], (*t.names)[b.name])
	})
	t.dropExtra(tm)
	if len(all) == 0 {
		tm.at = noTimer
		return
	}
	tm.at, (*head)(p).name = all[0].at, all[0].name
	if len(all) > 1 {
		if len(t.extra) == 0 {
			t.extra = append(t.extra, nil) // 0 means none
		}
		i := t.freeExtra()
		t.extra[i] = all[1:]
		tm.more = i
	}
}

// freeExtra finds a place for further timers. Few keys have any, so a short look
// behind is enough; the list grows otherwise.
func (t *table) freeExtra() uint32 {
	for i := max(1, len(t.extra)-64); i < len(t.extra); i++ {
		if t.extra[i] == nil {
			return uint32(i)
		}
	}
	t.extra = append(t.extra, nil)
	return uint32(len(t.extra) - 1)
}

// appendTimers appends the timers section of a row: a count, then name and time
// of each.
func (v *view) appendTimers(dst []byte, p unsafe.Pointer) []byte {
	tm := v.timersOf(p)
	if tm.at == noTimer {
		return append(dst, 0)
	}
	if tm.more == 0 {
		dst = append(dst, 1)
		return v.appendTimer(dst, timer{tm.at, (*head)(p).name})
	}
	rest := v.extra[tm.more]
	dst = binary.AppendUvarint(dst, uint64(1+len(rest)))
	dst = v.appendTimer(dst, timer{tm.at, (*head)(p).name})
	for _, x := range rest {
		dst = v.appendTimer(dst, x)
	}
	return dst
}

func (v *view) appendTimer(dst []byte, x timer) []byte {
	name := (*v.names)[x.name]
	dst = binary.AppendUvarint(dst, uint64(len(name)))
	dst = append(dst, name...)
	return binary.AppendVarint(dst, x.at)
}

// loadTimers reads the timers section of row and returns what follows.
func (t *table) loadTimers(p unsafe.Pointer, row []byte) ([]byte, error) {
	n, w := binary.Uvarint(row)
	if w <= 0 || n > uint64(len(row)) {
		return nil, fmt.Errorf("stream: a row of %d bytes has no timers section", len(row))
	}
	row = row[w:]
	var all []timer
	for range n {
		l, w := binary.Uvarint(row)
		if w <= 0 || l > uint64(len(row)-w) {
			return nil, fmt.Errorf("stream: a row ends inside its timers section")
		}
		name := row[w : w+int(l)]
		row = row[w+int(l):]
		at, w := binary.Varint(row)
		if w <= 0 {
			return nil, fmt.Errorf("stream: a row ends inside its timers section")
		}
		row = row[w:]
		if t.lay.timed {
			all = append(all, timer{at, t.intern(string(name))})
		}
	}
	if len(all) > 0 {
		t.putTimers(p, all)
	}
	return row, nil
}

// intern returns the number of a timer name.
func (t *table) intern(name string) uint16 {
	for i, n := range *t.names {
		if n == name {
			return uint16(i)
		}
	}
	if len(*t.names) > math.MaxUint16 {
		panic(fmt.Sprintf("stream: more than %d names of timers, the last is %q: keep data in the state, not in timer names", math.MaxUint16, name))
	}
	*t.names = append(*t.names, name)
	return uint16(len(*t.names) - 1)
}

// A queueItem asks to look at an entry's timers at a time. It is stale unless the
// entry says that it is queued for that time.
type queueItem struct {
	at int64
	id uint32
}

// A timerQueue is a binary heap by time, then id.
type timerQueue []queueItem

func (a queueItem) less(b queueItem) bool { return a.at < b.at || a.at == b.at && a.id < b.id }

func (q *timerQueue) push(x queueItem) {
	s := append(*q, x)
	i := len(s) - 1
	for i > 0 {
		up := (i - 1) / 2
		if !x.less(s[up]) {
			break
		}
		s[i] = s[up]
		i = up
	}
	s[i] = x
	*q = s
}

func (q *timerQueue) pop() queueItem {
	s := *q
	top, x := s[0], s[len(s)-1]
	s = s[:len(s)-1]
	i := 0
	for {
		c := 2*i + 1
		if c >= len(s) {
			break
		}
		if c+1 < len(s) && s[c+1].less(s[c]) {
			c++
		}
		if !s[c].less(x) {
			break
		}
		s[i] = s[c]
		i = c
	}
	if len(s) > 0 {
		s[i] = x
	}
	*q = s
	return top
}

// enqueue makes sure that the queue looks at the entry by its earliest timer.
func (q *timerQueue) enqueue(tm *timers, id uint32) {
	if tm.at < tm.queued {
		tm.queued = tm.at
		q.push(queueItem{tm.at, id})
	}
}

// A timerIndex knows what the store holds of the timer index.
type timerIndex struct {
	id      dataflow.StateID
	groups  groupSet           // only from and total
	next    []int64            // by group: earliest bucket not popped, noTimer if none
	floor   int64              // buckets up to it were popped
	stored  map[int64]struct{} // popped buckets that may have rows in the store
	dropped []int64            // buckets dropped by the open freeze
}

// open finds the earliest bucket of every group.
func (x *timerIndex) open(h spi.Host, id dataflow.StateID) error {
	owned, total := h.Groups()
	x.id, x.groups = id, groupSet{from: owned.From, total: total}
	x.next = make([]int64, max(owned.Len(), 0))
	x.floor = noBucket
	x.stored = map[int64]struct{}{}
	for i := range x.next {
		x.next[i] = noTimer
		if h.Empty(id, owned.From+i) {
			continue
		}
		if _, err := x.scan(h, i, noBucket, nil); err != nil {
			return err
		}
	}
	return nil
}

// scan yields the keys of group i in buckets up to and including most, and sets
// next to the first bucket behind it.
func (x *timerIndex) scan(h spi.Host, i int, most int64, yield func(k dataflow.RowKey, bucket int64) error) (n int, err error) {
	g := x.groups.from + i
	from := dataflow.AppendRowPrefix(nil, g, x.id)
	to := dataflow.AppendRowPrefix(nil, g, x.id+1)
	if n := x.next[i]; n != noTimer {
		from = dataflow.AppendPane(from, bucketStart(n))
	}
	x.next[i] = noTimer
	for row := range h.Scan(from, to) {
		k, ok := dataflow.ParseRowKey(row, true)
		if !ok {
			return n, fmt.Errorf("stream: timer index row %x is too short", row)
		}
		b := k.Pane >> bucketBits
		if b > most || most == noBucket {
			x.next[i] = b
			break
		}
		x.stored[b] = struct{}{}
		if err = yield(k, b); err != nil {
			return n, err
		}
		n++
	}
	return n, h.ScanErr()
}

// earliest returns the least bucket not popped, noTimer if none.
func (x *timerIndex) earliest() int64 {
	b := int64(noTimer)
	for _, n := range x.next {
		b = min(b, n)
	}
	return b
}

// wrote tells that index rows are in the store now.
func (x *timerIndex) wrote(t *table, written []indexed) {
	for _, w := range written {
		i := dataflow.GroupOf(uint32(w.word>>32), x.groups.total) - x.groups.from
		if w.bucket > x.floor {
			x.next[i] = min(x.next[i], w.bucket)
		} else {
			x.stored[w.bucket] = struct{}{}
		}
		t.timersOf(t.at(w.id)).indexed = w.bucket
	}
}

// drops returns the spans of popped buckets whose timers, all before pending,
// have fired.
func (x *timerIndex) drops(pending int64) (spans []spi.Span) {
	x.dropped = x.dropped[:0]
	lo, hi := int64(math.MaxInt64), int64(noBucket)
	unpopped := x.earliest()
	for b := range x.stored {
		if b < unpopped && (pending == noTimer || bucketStart(b+1) <= pending) {
			x.dropped = append(x.dropped, b)
			lo, hi = min(lo, b), max(hi, b)
		}
	}
	if len(x.dropped) == 0 {
		return nil
	}
	for _, b := range x.dropped {
		delete(x.stored, b)
	}
	slices.Sort(x.dropped)
	for i := range x.next {
		g := x.groups.from + i
		from := dataflow.AppendPane(dataflow.AppendRowPrefix(nil, g, x.id), bucketStart(lo))
		to := dataflow.AppendPane(dataflow.AppendRowPrefix(nil, g, x.id), bucketStart(hi+1))
		spans = append(spans, spi.Span{From: from, To: to})
	}
	return spans
}

// undo takes drops back: nothing was written.
func (x *timerIndex) undo() {
	for _, b := range x.dropped {
		x.stored[b] = struct{}{}
	}
	x.dropped = x.dropped[:0]
}
