package deltalake

import (
	"context"
	"fmt"
	"runtime/debug"
	"slices"
)

// groupReader yields the rows of one row group in batches of dense columns.
type groupReader struct {
	plans  []*colPlan
	leaves []*leafReader
	ranges []rowRange // rows still to be read
	at     int64      // the row of the group that is read next
	first  int64      // the row of the group that the last batch began with
}

// planFile resolves the columns of a schema in a file.
func planFile(f *pqFile, fields []Field, spec *FileSpec) (*planner, []*colPlan, error) {
	p := &planner{slots: map[int]int{}}
	if spec != nil {
		p.mapped, p.byID = spec.mapped, spec.meta.Configuration["delta.columnMapping.mode"] == "id"
	}
	if p.byID && len(f.root.nodes) > 0 && !slices.ContainsFunc(f.root.nodes, func(n *pqCol) bool { return n.hasID }) {
		return nil, nil, fmt.Errorf("deltalake: the table maps columns by id, but no column of the data file has one (%s)", f.path)
	}
	var plans []*colPlan
	for i := range fields {
		cp, err := p.plan(fields[i].Type, p.find(f.root, &fields[i]), fields[i].Name)
		if err != nil {
			return nil, nil, fmt.Errorf("%w (%s)", err, f.path)
		}
		plans = append(plans, cp)
	}
	return p, plans, nil
}

func newGroupReader(ctx context.Context, f *pqFile, group int, p *planner, plans []*colPlan) (*groupReader, error) {
	g := &f.meta.groups[group]
	r := &groupReader{plans: plans, ranges: []rowRange{{0, g.rows}}}
	types := make([]*Type, len(p.leaves))
	for _, cp := range plans {
		cp.leafTypes(types)
	}
	for slot, col := range p.leaves {
		l, err := newLeafReader(ctx, f, g, col, types[slot])
		if err != nil {
			return nil, fmt.Errorf("deltalake: read %s: %w", f.path, err)
		}
		r.leaves = append(r.leaves, l)
	}
	return r, nil
}

// leafTypes notes the value type that each leaf is read as.
func (cp *colPlan) leafTypes(types []*Type) {
	if cp.node != nil && cp.typ.primitive() {
		types[cp.leafSlot] = cp.typ
	}
	for _, c := range cp.children {
		c.leafTypes(types)
	}
}

// next returns up to rows rows that follow each other, or nil at the end of the group. Damaged pages
// give errors, also where a decoder met them with a panic.
func (r *groupReader) next(rows int) ([]*Vector, int, error) {
	cols, n, _, err := r.nextIf(rows, nil, nil)
	return cols, n, err
}

// nextIf is next for rows of which perhaps none is wanted: it reads the columns
// that first marks, asks wanted about them, and passes over the others where the
// answer is no, without unpacking them.
func (r *groupReader) nextIf(rows int, first []bool, wanted func(cols []*Vector, n int) (bool, error)) (cols []*Vector, n int, ok bool, err error) {
	defer func() {
		if p := recover(); p != nil {
			cols, err = nil, fmt.Errorf("%w: %v at %s", errPage, p, firstLine(debug.Stack()))
		}
	}()
	if n = r.advance(rows); n == 0 {
		return nil, 0, false, nil
	}
	levels := make([]*leafLevels, len(r.leaves))
	cols = make([]*Vector, len(r.plans))
	read := func(when func(i int) bool) error {
		for i, cp := range r.plans {
			if !when(i) {
				continue
			}
			if cols[i], err = r.column(cp, n, levels); err != nil {
				return err
			}
		}
		return nil
	}
	if wanted == nil {
		return cols, n, true, read(func(int) bool { return true })
	}
	if err := read(func(i int) bool { return first[i] }); err != nil {
		return nil, 0, false, err
	}
	if ok, err = wanted(cols, n); err != nil {
		return nil, 0, false, err
	}
	if ok {
		return cols, n, true, read(func(i int) bool { return !first[i] })
	}
	touched := make([]bool, len(r.leaves))
	for i, cp := range r.plans {
		if first[i] {
			cp.slots(touched)
		}
	}
	for slot, l := range r.leaves {
		if !touched[slot] {
			l.late += n
		}
	}
	return nil, n, false, nil
}

// advance goes to the next rows that are to be read, at most max, and returns how
// many they are.
func (r *groupReader) advance(max int) int {
	for len(r.ranges) > 0 && r.ranges[0].lo == r.ranges[0].hi {
		r.ranges = r.ranges[1:]
	}
	if len(r.ranges) == 0 {
		return 0
	}
	next := &r.ranges[0]
	if next.lo > r.at {
		for _, l := range r.leaves {
			l.late += int(next.lo - r.at)
		}
	}
	n := min(int64(max), next.hi-next.lo)
	r.first = next.lo
	next.lo += n
	r.at = next.lo
	return int(n)
}

// slots marks the leaves that a plan reads.
func (cp *colPlan) slots(to []bool) {
	if cp.node == nil {
		return
	}
	to[cp.first] = true
	for _, c := range cp.children {
		c.slots(to)
	}
}

// column reads n rows of one column.
func (r *groupReader) column(cp *colPlan, n int, levels []*leafLevels) (*Vector, error) {
	if cp.node != nil && cp.typ.primitive() && cp.node.depth == 0 {
		v := NewVector(cp.typ)
		v.reserve(n)
		return v, r.leaves[cp.leafSlot].flat(v, n)
	}
	if cp.node != nil {
		if err := r.need(cp, n, levels); err != nil {
			return nil, err
		}
	}
	return cp.assemble(levels, 0, 0, n)
}

func firstLine(stack []byte) string {
	return string(stack[:min(len(stack), 300)])
}

// need reads the levels of all leaves of a nested column.
func (r *groupReader) need(cp *colPlan, n int, levels []*leafLevels) error {
	if cp.node == nil {
		return nil
	}
	if levels[cp.first] == nil {
		lv, err := r.leaves[cp.first].nested(n)
		if err != nil {
			return err
		}
		levels[cp.first] = lv
	}
	for _, c := range cp.children {
		if err := r.need(c, n, levels); err != nil {
			return err
		}
	}
	return nil
}

// assemble builds the vector of a plan node. Its slots are the levels of its
// first leaf whose repetition is at most depth and whose definition is at least
// base: the places where the enclosing list or map has an element.
func (cp *colPlan) assemble(levels []*leafLevels, depth, base uint8, slots int) (*Vector, error) {
	v := NewVector(cp.typ)
	if cp.node == nil {
		v.appendNulls(slots)
		return v, nil
	}
	lv := levels[cp.first]
	rep := func(i int) uint8 {
		if lv.reps == nil {
			return 0
		}
		return lv.reps[i]
	}
	def := func(i int) uint8 {
		if lv.defs == nil {
			return 0
		}
		return lv.defs[i]
	}
	switch cp.typ.Kind {
	case KindStruct:
		for i := range lv.n {
			if rep(i) <= depth && def(i) >= base {
				v.Len++
				v.mark(def(i) >= cp.node.def)
			}
		}
		for i, c := range cp.children {
			child, err := c.assemble(levels, depth, base, slots)
			if err != nil {
				return nil, err
			}
			v.Children[i] = child
		}
	case KindList, KindMap:
		count, have := int32(0), cp.list.def
		whole := have - 1 // level at which the list is there, perhaps empty
		if cp.list == cp.node {
			whole = base
		}
		v.Offsets = v.Offsets[:0]
		for i := range lv.n {
			if rep(i) <= depth && def(i) >= base {
				v.Offsets = append(v.Offsets, count)
				v.Len++
				v.mark(def(i) >= whole)
			}
			if rep(i) <= cp.list.depth && def(i) >= have {
				count++
			}
		}
		v.Offsets = append(v.Offsets, count)
		for i, c := range cp.children {
			child, err := c.assemble(levels, cp.list.depth, have, int(count))
			if err != nil {
				return nil, err
			}
			v.Children[i] = child
		}
	default:
		next, run, nulls := 0, 0, 0
		flush := func() {
			if run > 0 {
				v.appendRun(lv.vals, next, next+run)
			}
			v.appendNulls(nulls)
			next, run, nulls = next+run, 0, 0
		}
		for i := range lv.n {
			d := def(i)
			if rep(i) > depth || d < base {
				continue
			}
			if d == cp.node.def {
				if nulls > 0 {
					flush()
				}
				run++
			} else {
				nulls++
			}
		}
		if v.Len == 0 && nulls == 0 && run == lv.vals.Len {
			v = lv.vals // nobody else reads the values of this leaf
		} else {
			flush()
		}
	}
	if v.Len != slots {
		return nil, fmt.Errorf("%w: column %q has %d slots instead of %d", errPage, cp.node.name, v.Len, slots)
	}
	return v, nil
}

// mark notes the validity of the row that was just counted.
func (v *Vector) mark(ok bool) {
	if v.Valid == nil {
		if ok {
			return
		}
		v.Valid = make([]bool, v.Len-1, v.Len+64)
		for i := range v.Valid {
			v.Valid[i] = true
		}
	}
	v.Valid = append(v.Valid, ok)
}

// reserve makes room for n more rows of a primitive type.
func (v *Vector) reserve(n int) {
	switch v.Type.Kind {
	case KindBoolean:
		v.Bools = make([]bool, 0, n)
	case KindByte, KindShort, KindInteger, KindDate:
		v.Ints = make([]int32, 0, n)
	case KindLong, KindTimestamp, KindTimestampNTZ:
		v.Longs = make([]int64, 0, n)
	case KindFloat:
		v.Floats = make([]float32, 0, n)
	case KindDouble:
		v.Doubles = make([]float64, 0, n)
	case KindDecimal:
		v.Decimals = make([]Decimal, 0, n)
	default:
		v.Offsets = append(make([]int32, 0, n+1), 0)
		v.Data = make([]byte, 0, 8*n)
	}
}
