package deltalake

import "slices"

// patches tells whether the rows of a rewritten file are updated in their place. Where
// rows are tracked, updated rows go through putUpdated instead.
func (mg *merging) patches() bool {
	_, tracked := mg.s.trackedColumns(mg.rw.wide)
	return !tracked
}

// patch writes the live rows of a batch with the given verdicts, in the order of
// rows, carried out. Columns that no clause sets are passed on as they were read.
func (mg *merging) patch(b *Batch, first int64, alive []int32, todo []verdict, updates []func(*Batch, *Batch) (*Batch, error)) error {
	if len(todo) == 0 && alive == nil {
		mg.d.m.RowsCopied += int64(b.Len)
		return mg.rw.out.Write(b)
	}
	out := &Batch{Schema: b.Schema, Len: b.Len, Columns: append([]*Vector{}, b.Columns...)}
	var gone []int32
	updated := 0
	trows, srows := make([][]int32, len(mg.m.Clauses)), make([][]int32, len(mg.m.Clauses))
	for _, v := range todo {
		trows[v.clause] = append(trows[v.clause], int32(v.row-first))
		srows[v.clause] = append(srows[v.clause], v.source)
		if act := mg.m.Clauses[v.clause].Action; act == MatchedDelete || act == NotMatchedBySourceDelete {
			gone = append(gone, int32(v.row-first))
		} else {
			updated++
		}
	}
	for c := range mg.m.Clauses {
		if len(trows[c]) == 0 {
			continue
		}
		before := NewBatch(b.Schema)
		before.Gather(b, trows[c])
		after, err := mg.change(c, updates, before, srows[c])
		if err != nil {
			return err
		}
		if after == nil {
			continue
		}
		for i, v := range after.Columns {
			if v != before.Columns[i] {
				out.Columns[i] = spliced(out.Columns[i], v, trows[c])
			}
		}
	}
	keep := b.Len
	if len(gone) > 0 || alive != nil {
		if alive == nil {
			alive = allRows(b.Len)
		}
		rows := make([]int32, 0, len(alive))
		for _, r := range alive {
			for len(gone) > 0 && gone[0] < r {
				gone = gone[1:]
			}
			if len(gone) == 0 || gone[0] != r {
				rows = append(rows, r)
			}
		}
		rest := NewBatch(b.Schema)
		rest.Gather(out, rows)
		out, keep = rest, len(rows)
	}
	mg.d.m.RowsCopied += int64(keep - updated)
	return mg.rw.out.Write(out)
}

// spliced returns v with the given rows, in order, replaced by those of by.
func spliced(v, by *Vector, rows []int32) *Vector {
	out := NewVector(v.Type)
	if v.Type.primitive() {
		out.reserve(v.Len)
		out.Data = slices.Grow(out.Data, len(v.Data)+len(by.Data))
	}
	span := func(src *Vector, lo, hi int) {
		if src.Type.primitive() {
			if lo < hi {
				out.appendSlots(src, lo, hi)
			}
			return
		}
		for i := lo; i < hi; i++ {
			out.appendFrom(src, i)
		}
	}
	at := 0
	for k, r := range rows {
		span(v, at, int(r))
		span(by, k, k+1)
		at = int(r) + 1
	}
	span(v, at, v.Len)
	return out
}
