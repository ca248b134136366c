package deltalake

import (
	"encoding/binary"
	"encoding/json"
	"math"
	"strings"
)

// colBounds is what is known about a column's values in a file, row group or page.
type colBounds struct {
	lo, hi   value // null when unknown
	someNull bool  // a null is possible
	allNull  bool  // nothing but nulls
}

// unknownBounds excludes nothing.
func unknownBounds() colBounds { return colBounds{someNull: true} }

// possible tells which truth values a bound condition can take in rows whose
// columns are within bounds.
func (e *Expr) possible(bounds func(col *Expr) colBounds) (canBeTrue, canBeFalse bool) {
	switch e.op {
	case "and":
		t1, f1 := e.args[0].possible(bounds)
		t2, f2 := e.args[1].possible(bounds)
		return t1 && t2, f1 || f2
	case "or":
		t1, f1 := e.args[0].possible(bounds)
		t2, f2 := e.args[1].possible(bounds)
		return t1 || t2, f1 && f2
	case "not":
		t, f := e.args[0].possible(bounds)
		return f, t
	case "lit":
		if e.val.kind == vBool {
			return e.val.i == 1, e.val.i == 0
		}
		return false, false
	case "isnull":
		if a := e.args[0]; a.op == "col" {
			b := bounds(a)
			return b.someNull || b.allNull, !b.allNull
		}
	case "=", "!=", "<", "<=", ">", ">=":
		col, lit, op := e.args[0], e.args[1], e.op
		if col.op == "lit" {
			col, lit = lit, col
			op = map[string]string{"<": ">", "<=": ">=", ">": "<", ">=": "<=", "=": "=", "!=": "!="}[op]
		}
		if col.op == "col" && lit.op == "lit" && lit.val.kind != vNull {
			return compareBounds(op, bounds(col), lit.val)
		}
	}
	return true, true
}

func compareBounds(op string, b colBounds, x value) (canBeTrue, canBeFalse bool) {
	if b.allNull {
		return false, false
	}
	if b.lo.kind == vText && x.kind != vText && b.lo != b.hi {
		return true, true // texts are compared as what they spell, which orders them otherwise
	}
	below, at, above := true, true, true // the column can be below, equal to, above x
	if b.lo.kind != vNull {
		if c, ok := b.lo.compare(x); ok {
			below = c < 0
			at = at && c <= 0
		}
	}
	if b.hi.kind != vNull {
		if c, ok := b.hi.compare(x); ok {
			above = c > 0
			at = at && c >= 0
		}
	}
	switch op {
	case "=":
		return at, below || above
	case "!=":
		return below || above, at
	case "<":
		return below, at || above
	case "<=":
		return below || at, above
	case ">":
		return above, at || below
	}
	return above || at, below
}

// mayMatch tells whether the file can hold a row for which the condition is
// true, by its partition values and statistics.
func (s *Snapshot) mayMatch(e *Expr, a *AddFile) bool {
	if e == nil {
		return true
	}
	b, err := e.bind(s.spec.schema)
	if err != nil {
		return true
	}
	return s.fileMayMatch(b, a)
}

// fileMayMatch is mayMatch for a bound condition.
func (s *Snapshot) fileMayMatch(bound *Expr, a *AddFile) bool {
	can, _ := bound.possible(s.fileBounds(a))
	return can
}

// fileBounds returns the bounds of a file's columns.
func (s *Snapshot) fileBounds(a *AddFile) func(*Expr) colBounds {
	var st *fileStatistics
	return func(col *Expr) colBounds {
		field := &s.spec.schema.Fields[col.path[0]]
		if containsFold(s.metadata.PartitionColumns, field.Name) {
			return s.spec.partitionBounds(field, a)
		}
		if st == nil {
			st = parseStatistics(a.Stats)
		}
		return st.bounds(s.spec, col)
	}
}

func (s *FileSpec) partitionBounds(f *Field, a *AddFile) colBounds {
	name, _ := f.physical(s.mapped)
	text, ok := a.PartitionValues[name]
	if !ok {
		return unknownBounds()
	}
	v := NewVector(f.Type)
	if ParsePartitionValue(v, text) != nil {
		return unknownBounds()
	}
	x := valueAt(v, 0)
	return colBounds{lo: x, hi: x, someNull: x.kind == vNull, allNull: x.kind == vNull}
}

// bounds looks a column up in the statistics, by its physical names.
func (st *fileStatistics) bounds(spec *FileSpec, col *Expr) colBounds {
	b := unknownBounds()
	if !col.field.primitive() {
		return b
	}
	var names []string
	fields := spec.schema.Fields
	for _, i := range col.path {
		name, _ := fields[i].physical(spec.mapped)
		names = append(names, name)
		fields = fields[i].Type.Fields
	}
	var nulls int64
	if raw := st.lookup(nullStats, names); raw != nil && json.Unmarshal(raw, &nulls) == nil {
		b.someNull = nulls > 0
		b.allNull = st.NumRecords != nil && nulls == *st.NumRecords && nulls > 0
	}
	b.lo = statValue(st.lookup(minStats, names), col.field, false)
	b.hi = statValue(st.lookup(maxStats, names), col.field, true)
	return b
}

// dig walks nested statistics.
func dig(m map[string]json.RawMessage, names []string) json.RawMessage {
	for i, n := range names {
		raw, ok := m[n]
		if !ok {
			return nil
		}
		if i == len(names)-1 {
			return raw
		}
		m = nil
		if json.Unmarshal(raw, &m) != nil {
			return nil
		}
	}
	return nil
}

// statValue reads a bound. Upper bounds of timestamps may have been cut to
// milliseconds, so that they are raised by one; NaN may hide above any upper
// bound of floating point columns, so that they have none.
func statValue(raw json.RawMessage, t *Type, upper bool) value {
	if raw == nil || string(raw) == "null" {
		return value{}
	}
	text := string(raw)
	if strings.HasPrefix(text, `"`) {
		if json.Unmarshal(raw, &text) != nil {
			return value{}
		}
	}
	if (t.Kind == KindFloat || t.Kind == KindDouble) && upper || t.Kind == KindBinary {
		return value{}
	}
	v, ok := textValue(text).cast(t)
	if !ok {
		return value{}
	}
	if v.kind == vTime && upper {
		v.i += 999
	}
	return v
}

// compared calls fn for the columns whose bounds possible asks for.
func (e *Expr) compared(fn func(col *Expr)) {
	switch e.op {
	case "and", "or", "not":
		for _, a := range e.args {
			a.compared(fn)
		}
	case "isnull", "=", "!=", "<", "<=", ">", ">=":
		e.possible(func(col *Expr) colBounds {
			fn(col)
			return unknownBounds()
		})
	}
}

// planAt is the plan of a primitive column or field of structs by the plans of the
// schema's columns; nil when the file does not hold the column.
func planAt(col *Expr, plans []*colPlan) *colPlan {
	cp := plans[col.path[0]]
	for _, i := range col.path[1:] {
		if cp == nil || cp.node == nil {
			return cp
		}
		cp = cp.children[i]
	}
	if !col.field.primitive() {
		return nil
	}
	return cp
}

// chunkBounds are the bounds of a row group's columns by its footer.
func (f *pqFile) chunkBounds(g *pqGroup, plans []*colPlan) func(*Expr) colBounds {
	return func(col *Expr) colBounds {
		b := unknownBounds()
		cp := planAt(col, plans)
		if cp == nil {
			return b
		}
		node := cp.node
		if node == nil {
			return colBounds{someNull: true, allNull: true}
		}
		c := &g.chunks[node.leaf]
		if c.nulls >= 0 && (node.def == 0 || c.nulls <= c.values) {
			b.someNull = c.nulls > 0
			b.allNull = c.nulls == c.values && c.values > 0
		}
		if node.typ == pqFixed && col.field.Kind == KindDecimal {
			return b // some older writers ordered them as bytes here; those have no page index
		}
		if c.hasMin {
			b.lo = chunkValue(node, col.field, c.min, false)
		}
		if c.hasMax {
			b.hi = chunkValue(node, col.field, c.max, true)
		}
		return b
	}
}

// chunkValue reads a bound of a row group or page.
func chunkValue(c *pqCol, t *Type, raw []byte, upper bool) value {
	switch t.Kind {
	case KindByte, KindShort, KindInteger, KindDate, KindLong, KindTimestamp, KindTimestampNTZ:
		var v *Vector
		var err error
		if c.typ == pqInt32 && len(raw) == 4 || c.typ == pqInt64 && len(raw) == 8 {
			if v, err = decodeValues(c, t, encPlain, raw, 1); err == nil {
				x := valueAt(v, 0)
				if upper && c.unit == unitNanos && x.kind == vTime {
					x.i++
				}
				return x
			}
		}
	case KindString, KindBinary:
		return textValue(string(raw))
	case KindDecimal:
		if c.typ == pqInt32 && len(raw) == 4 || c.typ == pqInt64 && len(raw) == 8 || c.typ == pqFixed && len(raw) == c.width {
			if v, err := decodeValues(c, t, encPlain, raw, 1); err == nil {
				return valueAt(v, 0)
			}
		}
	case KindFloat, KindDouble: // NaN, which is the largest, may hide above any upper bound
		x := math.NaN()
		switch {
		case upper:
		case c.typ == pqDouble && len(raw) == 8:
			x = math.Float64frombits(binary.LittleEndian.Uint64(raw))
		case c.typ == pqFloat && len(raw) == 4:
			x = float64(math.Float32frombits(binary.LittleEndian.Uint32(raw)))
		}
		if !math.IsNaN(x) {
			return value{kind: vFloat, f: x}
		}
	}
	return value{}
}
