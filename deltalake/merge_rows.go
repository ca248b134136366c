package deltalake

import (
	"context"
	"fmt"
	"sort"
)

// file decides about the rows of one file and carries it out.
func (mg *merging) file(ctx context.Context, a *AddFile, p *pairing) error {
	old, err := mg.t.deletedRows(ctx, a.DeletionVector)
	if err != nil {
		return err
	}
	mg.d.reads = append(mg.d.reads, a)
	filter, err := mg.within(p.schema)
	if err != nil {
		return err
	}
	var todo []verdict
	live, seen := int64(0), int64(0)
	err = mg.s.readPath(ctx, a.Path, a.Size, a.PartitionValues, old, p.schema, filter, defaultBatchRows, func(b *Batch, first int64, alive []int32) error {
		if alive == nil {
			alive = allRows(b.Len)
		}
		live, seen = live+int64(len(alive)), seen+int64(b.Len)
		more, err := mg.decide(b, first, alive, p)
		todo = append(todo, more...)
		return err
	})
	if err != nil || len(todo) == 0 {
		return err
	}
	sort.Slice(todo, func(i, j int) bool { return todo[i].row < todo[j].row })
	hit := newRowSet()
	for _, v := range todo {
		hit.add(v.row)
	}
	rw := mg.rw
	mg.d.remove(a, rw.now)
	vectors := mg.s.usesVectors()
	rest := hit
	n, known := a.NumRecords()
	whole := hit.count == live && (filter == nil || known && n == seen) // no row stays
	if vectors || whole {
		rest = nil
	}
	if err := mg.carryOut(ctx, a, old, todo, rest); err != nil {
		return err
	}
	if vectors && !whole {
		all := newRowSet()
		if old != nil {
			all = old.clone()
		}
		for _, v := range todo {
			all.add(v.row)
		}
		rw.vectors = append(rw.vectors, pendingVector{a, all})
	}
	return nil
}

// within returns the range of keys as a filter of rows, nil for none.
func (mg *merging) within(s *Schema) (*Expr, error) {
	if mg.keyRange == nil {
		return nil, nil
	}
	return mg.keyRange.bind(s)
}

// decide finds what happens to the rows of a narrow batch.
func (mg *merging) decide(b *Batch, first int64, alive []int32, p *pairing) ([]verdict, error) {
	trows, srows := mg.match(b, alive)
	if p.rest != nil && len(trows) > 0 {
		keep, err := p.rest.matches(pairBatch(p.pair, b, trows, mg.src, srows))
		if err != nil {
			return nil, err
		}
		var kt, ks []int32
		for _, i := range keep {
			kt, ks = append(kt, trows[i]), append(ks, srows[i])
		}
		trows, srows = kt, ks
	}
	out, err := mg.matchedRows(b, first, trows, srows, p)
	if err != nil {
		return nil, err
	}
	rest, err := mg.alone(b, first, alive, trows, p)
	return append(out, rest...), err
}

// matchedRows applies the clauses for matched rows; trows is ascending.
func (mg *merging) matchedRows(b *Batch, first int64, trows, srows []int32, p *pairing) ([]verdict, error) {
	if len(trows) == 0 {
		return nil, nil
	}
	for _, s := range srows {
		mg.matched[s] = true
	}
	chosen := make([]int, len(trows))
	for i := range chosen {
		chosen[i] = -1
	}
	var pairs *Batch
	deletesOnly := true
	count := 0
	for c := range mg.m.Clauses {
		act := mg.m.Clauses[c].Action
		if act != MatchedUpdate && act != MatchedDelete {
			continue
		}
		count++
		deletesOnly = deletesOnly && act == MatchedDelete && p.ifs[c] == nil
		var truths []int8
		if p.ifs[c] != nil {
			if pairs == nil {
				pairs = pairBatch(p.pair, b, trows, mg.src, srows)
			}
			var err error
			if truths, err = p.ifs[c].truths(pairs); err != nil {
				return nil, err
			}
		}
		for i := range chosen {
			if chosen[i] < 0 && (truths == nil || truths[i] == yes) {
				chosen[i] = c
			}
		}
	}
	var out []verdict
	for i, c := range chosen {
		if c < 0 {
			continue
		}
		row := first + int64(trows[i])
		if n := len(out); n > 0 && out[n-1].row == row {
			if deletesOnly && count == 1 {
				continue
			}
			return nil, fmt.Errorf("deltalake: merge: several source rows match the same row of the table (%s); make the source unique by the merge condition", mg.describe(srows[i]))
		}
		out = append(out, verdict{row, srows[i], c})
	}
	return out, nil
}

// describe shows the key values of a source row.
func (mg *merging) describe(row int32) string {
	s := ""
	for i, k := range mg.keys {
		if i > 0 {
			s += ", "
		}
		s += k.source.name[1] + " = " + valueAt(mg.src.Column(k.source.name[1]), int(row)).text()
	}
	if s == "" {
		return fmt.Sprintf("source row %d", row)
	}
	return s
}

// alone applies the clauses for rows that no source row matches.
func (mg *merging) alone(b *Batch, first int64, alive, trows []int32, p *pairing) ([]verdict, error) {
	var left []int32
	wanted := false
	for _, c := range mg.m.Clauses {
		wanted = wanted || c.Action >= NotMatchedBySourceUpdate
	}
	if !wanted {
		return nil, nil
	}
	for i, r := 0, 0; r < len(alive); r++ {
		for i < len(trows) && trows[i] < alive[r] {
			i++
		}
		if i == len(trows) || trows[i] != alive[r] {
			left = append(left, alive[r])
		}
	}
	if len(left) == 0 {
		return nil, nil
	}
	var out []verdict
	pairs := pairBatch(p.pair, b, left, nil, nil)
	done := make([]bool, len(left))
	for c, clause := range mg.m.Clauses {
		if clause.Action < NotMatchedBySourceUpdate {
			continue
		}
		var truths []int8
		if p.ifs[c] != nil {
			var err error
			if truths, err = p.ifs[c].truths(pairs); err != nil {
				return nil, err
			}
		}
		for i, r := range left {
			if !done[i] && (truths == nil || truths[i] == yes) {
				done[i] = true
				out = append(out, verdict{first + int64(r), -1, c})
			}
		}
	}
	return out, nil
}

// carryOut reads a file's rows that are changed and writes what they become, and
// copies the live rows that are not in rest; nil copies none.
func (mg *merging) carryOut(ctx context.Context, a *AddFile, old *rowSet, todo []verdict, rest *rowSet) error {
	full := mg.rw.wide
	updates := make([]func(*Batch, *Batch) (*Batch, error), len(mg.m.Clauses))
	next := 0
	if mg.rw.feed == nil {
		writes := false
		for _, v := range todo {
			writes = writes || mg.m.Clauses[v.clause].Action == MatchedUpdate || mg.m.Clauses[v.clause].Action == NotMatchedBySourceUpdate
		}
		if !writes { // only deletes: no row is needed
			mg.d.m.RowsDeleted += int64(len(todo))
			if rest == nil {
				return nil
			}
			return mg.rw.copyRest(ctx, a, old, rest)
		}
	}
	var filter *Expr
	if rest == nil { // only rows that matched are wanted
		var err error
		if filter, err = mg.within(full); err != nil {
			return err
		}
	}
	return mg.s.readRows(ctx, a, old, full, filter, defaultBatchRows, func(b *Batch, first int64, alive []int32) error {
		if rest != nil && mg.patches() {
			from := next
			for next < len(todo) && todo[next].row < first+int64(b.Len) {
				next++
			}
			return mg.patch(b, first, alive, todo[from:next], updates)
		}
		if err := mg.rw.copyBatch(b, first, alive, rest); err != nil {
			return err
		}
		byClause := map[int][]int{}
		for ; next < len(todo) && todo[next].row < first+int64(b.Len); next++ {
			byClause[todo[next].clause] = append(byClause[todo[next].clause], next)
		}
		for c := range mg.m.Clauses {
			if len(byClause[c]) == 0 {
				continue
			}
			var trows, srows []int32
			for _, i := range byClause[c] {
				trows = append(trows, int32(todo[i].row-first))
				srows = append(srows, todo[i].source)
			}
			before := NewBatch(full)
			before.Gather(b, trows)
			if err := mg.apply(c, updates, before, srows); err != nil {
				return err
			}
		}
		return nil
	})
}

// apply carries out one clause on rows of the table.
func (mg *merging) apply(c int, updates []func(*Batch, *Batch) (*Batch, error), before *Batch, srows []int32) error {
	after, err := mg.change(c, updates, before, srows)
	if err != nil || after == nil {
		return err
	}
	return mg.rw.putUpdated(after)
}

// change computes what a clause makes of rows of the table, nil for no rows, and
// writes the change feed.
func (mg *merging) change(c int, updates []func(*Batch, *Batch) (*Batch, error), before *Batch, srows []int32) (after *Batch, err error) {
	clause := &mg.m.Clauses[c]
	feed := mg.rw.feed
	if clause.Action == MatchedDelete || clause.Action == NotMatchedBySourceDelete {
		mg.d.m.RowsDeleted += int64(before.Len)
		if feed == nil {
			return nil, nil
		}
		return nil, feed.write(before, "delete")
	}
	mg.d.m.RowsUpdated += int64(before.Len)
	if updates[c] == nil {
		if updates[c], err = mg.updater(clause); err != nil {
			return nil, err
		}
	}
	src := (*Batch)(nil)
	if clause.Action == MatchedUpdate {
		src = NewBatch(mg.src.Schema)
		src.Gather(mg.src, srows)
	}
	if after, err = updates[c](before, src); err != nil || feed == nil {
		return after, err
	}
	if err := feed.write(before, "update_preimage"); err != nil {
		return nil, err
	}
	return after, feed.write(after, "update_postimage")
}

// setter is one column's new value in a pair.
type setter struct {
	column int // of the table
	expr   *Expr
}

// setters compiles the Set of a clause, or takes all source columns.
func (mg *merging) setters(clause *MergeClause, pair *Schema) ([]setter, error) {
	var out []setter
	full := mg.s.spec.schema
	if clause.Set == nil {
		for i, f := range full.Fields {
			j := mg.src.Schema.Index(f.Name)
			if j < 0 {
				continue
			}
			e, err := (&Expr{op: "col", name: []string{"s", mg.src.Schema.Fields[j].Name}}).bind(pair)
			if err != nil {
				return nil, err
			}
			out = append(out, setter{i, e})
		}
		for _, f := range mg.src.Schema.Fields {
			if full.Index(f.Name) < 0 {
				return nil, fmt.Errorf("deltalake: merge: column %q is not in the table; set EvolveSchema to add it", f.Name)
			}
		}
		return out, nil
	}
	for _, name := range sortedKeys(clause.Set) {
		i := full.Index(name)
		if i < 0 {
			return nil, fmt.Errorf("deltalake: merge: column %q is not in the table", name)
		}
		q, err := mg.qualify(clause.Set[name], full)
		if err == nil {
			q, err = q.bind(pair)
		}
		if err != nil {
			return nil, err
		}
		out = append(out, setter{i, q})
	}
	return out, nil
}

func (mg *merging) fullPair() *Schema {
	return NewSchema(Col("t", mg.s.spec.schema.Struct()), Col("s", mg.src.Schema.Struct()))
}

// updater returns the function that updates rows by a clause.
func (mg *merging) updater(clause *MergeClause) (func(before, src *Batch) (*Batch, error), error) {
	pair := mg.fullPair()
	sets, err := mg.setters(clause, pair)
	if err != nil {
		return nil, err
	}
	for _, s := range sets {
		if f := &mg.s.spec.schema.Fields[s.column]; f.isIdentity() {
			return nil, fmt.Errorf("deltalake: merge: identity column %q cannot be updated; name the columns to set", f.Name)
		}
	}
	return func(before, src *Batch) (*Batch, error) {
		out := &Batch{Schema: before.Schema, Len: before.Len, Columns: append([]*Vector{}, before.Columns...)}
		rows := allRows(before.Len)
		pairs := pairBatch(pair, before, rows, src, rows)
		set := map[int]bool{}
		for _, s := range sets {
			v, err := s.expr.pairColumn(pairs, before.Schema.Fields[s.column])
			if err != nil {
				return nil, err
			}
			out.Columns[s.column] = v
			set[s.column] = true
		}
		return out, mg.generate(out, set)
	}, nil
}

// generate computes the generated columns that a clause does not set.
func (mg *merging) generate(b *Batch, set map[int]bool) error {
	for i, f := range b.Schema.Fields {
		if _, ok := f.Metadata["delta.generationExpression"]; !ok || set[i] {
			continue
		}
		v, err := mg.s.spec.generated(i, b)
		if err != nil {
			return err
		}
		b.Columns[i] = v
	}
	return nil
}

// pairColumn evaluates an expression over pairs as the values of a field.
func (e *Expr) pairColumn(pairs *Batch, f Field) (*Vector, error) {
	if e.op == "col" && len(e.path) == 2 {
		return castVector(pairs.Columns[e.path[0]].Children[e.path[1]], f.Type, f.Name)
	}
	return e.column(pairs, f)
}

// inserts applies the insert clauses to the source rows that matched nothing.
func (mg *merging) inserts() error {
	var left []int32
	for i, m := range mg.matched {
		if !m {
			left = append(left, int32(i))
		}
	}
	full := mg.s.spec.schema
	pair := mg.fullPair()
	for c := range mg.m.Clauses {
		clause := &mg.m.Clauses[c]
		if clause.Action != NotMatchedInsert || len(left) == 0 {
			continue
		}
		pairs := pairBatch(pair, nil, nil, mg.src, left)
		take := left
		if clause.If != nil {
			q, err := mg.qualify(clause.If, full)
			if err == nil {
				q, err = q.bind(pair)
			}
			if err != nil {
				return err
			}
			rows, err := q.matches(pairs)
			if err != nil {
				return err
			}
			take = make([]int32, 0, len(rows))
			chosen := make([]bool, len(left))
			for _, r := range rows {
				take = append(take, left[r])
				chosen[r] = true
			}
			rest := left[:0:0]
			for i, r := range left {
				if !chosen[i] {
					rest = append(rest, r)
				}
			}
			left = rest
			pairs = pairBatch(pair, nil, nil, mg.src, take)
		} else {
			left = nil
		}
		if err := mg.insert(clause, pair, pairs, len(take)); err != nil {
			return err
		}
	}
	return nil
}

func (mg *merging) insert(clause *MergeClause, pair *Schema, pairs *Batch, n int) error {
	if n == 0 {
		return nil
	}
	sets, err := mg.setters(clause, pair)
	if err != nil {
		return err
	}
	for _, s := range sets {
		if err := mg.ids.given(s.column); err != nil {
			return err
		}
	}
	full := mg.s.spec.schema
	out := &Batch{Schema: full, Len: n, Columns: make([]*Vector, len(full.Fields))}
	set := map[int]bool{}
	for _, s := range sets {
		if out.Columns[s.column], err = s.expr.pairColumn(pairs, full.Fields[s.column]); err != nil {
			return err
		}
		set[s.column] = true
	}
	for i := range full.Fields {
		if out.Columns[i] == nil {
			if out.Columns[i], err = full.Fields[i].absent(i, n, mg.ids); err != nil {
				return err
			}
		}
	}
	if err := mg.generate(out, set); err != nil {
		return err
	}
	mg.d.m.RowsInserted += int64(n)
	if err := mg.rw.putInserted(out); err != nil || mg.rw.feed == nil {
		return err
	}
	return mg.rw.feed.write(out, "insert")
}
