package deltalake

import "math/bits"

// A joinIndex finds the rows of a merge's source by their key.
//
// A single integer, date or timestamp is looked up in a table of numbers, which is
// what large merges are about; other keys as texts.
type joinIndex struct {
	texts map[string][]int32

	// Numbers: nil next means that keys are texts.
	nums   []int64 // by slot
	heads  []int32 // by slot: 1 + the first row with that key; 0: free
	next   []int32 // by row: 1 + the next row with the same key; 0: none
	shift  uint
	lo, hi int64 // of the keys
}

// numeric tells whether a key column is looked up by number.
func numeric(t *Type) bool {
	switch t.Kind {
	case KindByte, KindShort, KindInteger, KindLong, KindDate, KindTimestamp, KindTimestampNTZ:
		return true
	}
	return false
}

// number returns value i of a column of numbers.
func (v *Vector) number(i int) int64 {
	if v.Longs != nil {
		return v.Longs[i]
	}
	return int64(v.Ints[i])
}

func (mg *merging) buildIndex() {
	if len(mg.keys) == 1 {
		if v := mg.src.Column(mg.keys[0].source.name[1]); numeric(v.Type) {
			mg.index = newNumberIndex(v)
			return
		}
	}
	x := &joinIndex{texts: make(map[string][]int32, mg.src.Len)}
	mg.index = x
	var key []byte
	for i := range mg.src.Len {
		key = key[:0]
		ok := true
		for _, k := range mg.keys {
			if key, ok = appendKey(key, mg.src.Column(k.source.name[1]), i); !ok {
				break
			}
		}
		if ok {
			x.texts[string(key)] = append(x.texts[string(key)], int32(i))
		}
	}
}

func newNumberIndex(v *Vector) *joinIndex {
	width := max(4, bits.Len(uint(2*v.Len)))
	x := &joinIndex{nums: make([]int64, 1<<width), heads: make([]int32, 1<<width), next: make([]int32, v.Len), shift: uint(64 - width), lo: 1}
	mask := uint64(len(x.heads) - 1)
	for i := v.Len - 1; i >= 0; i-- { // backwards, so that chains run forwards
		if v.Null(i) {
			continue
		}
		n := v.number(i)
		if x.lo > x.hi {
			x.lo, x.hi = n, n
		}
		x.lo, x.hi = min(x.lo, n), max(x.hi, n)
		at := x.slot(n)
		for x.heads[at] != 0 && x.nums[at] != n {
			at = (at + 1) & mask
		}
		x.nums[at], x.next[i], x.heads[at] = n, x.heads[at], int32(i)+1
	}
	return x
}

func (x *joinIndex) slot(n int64) uint64 { return uint64(n) * 0x9E3779B97F4A7C15 >> x.shift }

// matchNumbers appends the pairs of rows of v, which are the given ones, and rows of
// the source with the same key.
func (x *joinIndex) matchNumbers(v *Vector, rows, trows, srows []int32) (t, s []int32) {
	mask := uint64(len(x.heads) - 1)
	longs, ints := v.Longs, v.Ints
	for _, r := range rows {
		var n int64
		if longs != nil {
			n = longs[r]
		} else {
			n = int64(ints[r])
		}
		if n < x.lo || n > x.hi || v.Null(int(r)) {
			continue
		}
		at := x.slot(n)
		for x.heads[at] != 0 && x.nums[at] != n {
			at = (at + 1) & mask
		}
		for s := x.heads[at]; s != 0; s = x.next[s-1] {
			trows, srows = append(trows, r), append(srows, s-1)
		}
	}
	return trows, srows
}

// match returns the pairs of live rows of a narrow batch and rows of the source with
// the same key; rows of the table ascend.
func (mg *merging) match(b *Batch, alive []int32) (trows, srows []int32) {
	cols := make([]*Vector, len(mg.keys))
	for k, key := range mg.keys {
		cols[k] = b.Column(key.target.name[1])
	}
	if mg.index.next != nil {
		return mg.index.matchNumbers(cols[0], alive, nil, nil)
	}
	var key []byte
	for _, r := range alive {
		key = key[:0]
		ok := true
		for _, v := range cols {
			if key, ok = appendKey(key, v, int(r)); !ok {
				break
			}
		}
		if !ok {
			continue
		}
		for _, s := range mg.index.texts[string(key)] {
			trows, srows = append(trows, r), append(srows, s)
		}
	}
	return trows, srows
}
