package deltalake

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"strings"
)

// MergeAction is what a clause of a merge does.
type MergeAction uint8

// The clauses of a merge. Update and delete act on rows of the table, insert on
// rows of the source.
const (
	MatchedUpdate MergeAction = iota
	MatchedDelete
	NotMatchedInsert
	NotMatchedBySourceUpdate
	NotMatchedBySourceDelete
)

// MergeClause is one WHEN of a merge. For each row the first clause of its kind
// whose condition is true acts.
type MergeClause struct {
	Action MergeAction
	If     *Expr // nil: always
	// Set gives the new value of columns by name. nil sets every column that the
	// source has too (UPDATE * and INSERT *); not for NotMatchedBySourceUpdate.
	Set map[string]*Expr
}

// Merge describes a MERGE INTO. In its expressions columns are qualified with the
// aliases; a name that only one side has needs none.
type Merge struct {
	Source       iter.Seq2[*Batch, error] // is held in memory
	On           *Expr                    // which rows match; equalities between both sides make it fast
	TargetAlias  string                   // of the table; "target"
	SourceAlias  string                   // "source"
	Clauses      []MergeClause
	EvolveSchema bool // add source columns that the table lacks, for clauses without Set
	Options      WriteOptions
}

// Merge changes, deletes and inserts rows by comparing the table with a source,
// in one commit. Two source rows that would change the same row of the table are
// an error. After a conflict it runs again on the new version.
func (t *Table) Merge(ctx context.Context, m Merge) (*Metrics, error) {
	if m.TargetAlias == "" {
		m.TargetAlias = "target"
	}
	if m.SourceAlias == "" {
		m.SourceAlias = "source"
	}
	if err := m.validate(); err != nil {
		return nil, err
	}
	src, err := collect(m.Source, 4*t.opts.Memory)
	if err != nil {
		return nil, err
	}
	if src == nil { // without a row nothing can match, whatever the names
		src = NewBatch(&Schema{})
		m.On = &Expr{op: "lit", val: boolValue(false), text: "false"}
		all := m.Clauses
		m.Clauses = nil
		for _, c := range all {
			if c.Action >= NotMatchedBySourceUpdate {
				m.Clauses = append(m.Clauses, c)
			}
		}
	}
	return t.retried(ctx, func(s *Snapshot) (*Commit, *changes, error) {
		mg := &merging{t: t, s: s, m: &m, src: src, d: &changes{}}
		c, err := mg.run(ctx)
		return c, mg.d, err
	})
}

func (m *Merge) validate() error {
	var errs []error
	if m.Source == nil {
		errs = append(errs, errors.New("deltalake: merge: Source is not set"))
	}
	if m.On == nil {
		errs = append(errs, errors.New("deltalake: merge: On is not set"))
	}
	if len(m.Clauses) == 0 {
		errs = append(errs, errors.New("deltalake: merge: there are no Clauses"))
	}
	if strings.EqualFold(m.TargetAlias, m.SourceAlias) {
		errs = append(errs, fmt.Errorf("deltalake: merge: both sides are called %q", m.TargetAlias))
	}
	for i, c := range m.Clauses {
		if c.Action == NotMatchedBySourceUpdate && c.Set == nil {
			errs = append(errs, fmt.Errorf("deltalake: merge: clause %d updates rows without source, so it needs Set", i+1))
		}
	}
	return errors.Join(errs...)
}

// collect copies a source into one batch.
func collect(source iter.Seq2[*Batch, error], limit int64) (*Batch, error) {
	var all *Batch
	for b, err := range source {
		if err != nil {
			return nil, err
		}
		if all == nil {
			all = NewBatch(b.Schema)
		} else if b.Schema != all.Schema && !b.Schema.Struct().Equal(all.Schema.Struct()) {
			return nil, errors.New("deltalake: the batches of a source have different schemas")
		}
		all.Gather(b, allRows(b.Len))
		if size := all.Bytes(); size > limit {
			return nil, fmt.Errorf("deltalake: a merge source of more than %d bytes does not fit in memory; merge it in parts", limit)
		}
	}
	return all, nil
}

// merging is one try of a merge on one snapshot.
type merging struct {
	t       *Table
	s       *Snapshot // with the schema that the merge leaves
	m       *Merge
	src     *Batch
	d       *changes
	meta    *Metadata
	matched []bool // source rows that match a row of the table
	keys    []joinKey
	index   *joinIndex
	rw      *rewriter
	ids     *identityFiller

	keyRange *Expr // fulfilled by every row that can match; nil: all rows are of interest
}

// joinKey is one equality between a target and a source expression.
type joinKey struct{ target, source *Expr }

func (mg *merging) run(ctx context.Context) (*Commit, error) {
	for _, c := range mg.m.Clauses {
		if c.Action != NotMatchedInsert {
			if err := mg.s.checkRemoval("MERGE"); err != nil {
				return nil, err
			}
			break
		}
	}
	if err := mg.evolve(); err != nil {
		return nil, err
	}
	base := mg.s
	var err error
	if mg.ids, err = mg.s.spec.filler(); err != nil {
		return nil, err
	}
	mg.matched = make([]bool, mg.src.Len)
	on, err := mg.qualify(mg.m.On, base.spec.schema)
	if err != nil {
		return nil, err
	}
	mg.splitKeys(on)
	mg.buildIndex()
	narrow, err := mg.narrow(on)
	if err != nil {
		return nil, err
	}
	p, err := mg.pairing(on, narrow)
	if err != nil {
		return nil, err
	}
	rw := newRewriter(ctx, mg.t, mg.s, mg.d, mg.m.Options)
	mg.rw = rw
	prune, err := mg.prune(on)
	if err != nil {
		return nil, err
	}
	for _, a := range mg.s.Files() {
		if prune != nil && !mg.s.fileMayMatch(prune, a) {
			continue
		}
		if err := mg.file(ctx, a, p); err != nil {
			return nil, errors.Join(err, rw.abort())
		}
	}
	if err := mg.inserts(); err != nil {
		return nil, errors.Join(err, rw.abort())
	}
	adds, err := rw.out.Close()
	if err == nil && rw.feed != nil {
		mg.d.changes, err = rw.feed.close()
	}
	if err == nil {
		err = rw.writeVectors(ctx)
	}
	if err != nil {
		return nil, errors.Join(err, rw.abort())
	}
	mg.d.adds = append(mg.d.adds, adds...)
	mg.d.m.FilesAdded += len(adds)
	if mg.ids.used() {
		if mg.meta, err = mg.ids.marked(mg.s.metadata); err != nil {
			return nil, errors.Join(err, rw.abort())
		}
	}
	if len(mg.d.adds)+len(mg.d.removes) == 0 && mg.meta == nil {
		return nil, nil
	}
	c := &Commit{Operation: "MERGE", Parameters: map[string]string{"predicate": jsonText([]string{mg.m.On.String()})}, Metadata: mg.meta,
		AppID: mg.m.Options.AppID, AppVersion: mg.m.Options.AppVersion, UserMetadata: mg.m.Options.UserMetadata}
	if c.Filter = mg.unbound(prune); c.Filter == nil {
		c.ReadAll = true
	}
	if mg.meta != nil {
		if c.Protocol, err = raised(mg.s.spec, mg.meta, mg.s); err != nil {
			return nil, errors.Join(err, mg.t.dropMade(ctx, mg.s, mg.d.adds, mg.d.changes))
		}
	}
	return c, nil
}

// unbound returns the pruning condition for conflict checks; binding it again is
// harmless.
func (mg *merging) unbound(e *Expr) *Expr { return e }

// evolve widens the schema for clauses that take all source columns.
func (mg *merging) evolve() error {
	if !mg.m.EvolveSchema {
		return nil
	}
	all := false
	for _, c := range mg.m.Clauses {
		all = all || c.Set == nil && (c.Action == MatchedUpdate || c.Action == NotMatchedInsert)
	}
	if !all || len(mg.src.Schema.Fields) == 0 {
		return nil
	}
	m, err := MergeSchema(mg.s.metadata, mg.src.Schema)
	if err != nil || m == mg.s.metadata {
		return err
	}
	spec, err := mg.s.newSpec(m)
	if err != nil {
		return err
	}
	next := *mg.s
	next.metadata, next.spec = m, spec
	mg.s, mg.meta = &next, m
	return nil
}

// qualify puts the alias in front of names that have none, and checks the others.
func (mg *merging) qualify(e *Expr, target *Schema) (*Expr, error) {
	if e == nil {
		return nil, nil
	}
	c := *e
	c.args = make([]*Expr, len(e.args))
	for i, a := range e.args {
		q, err := mg.qualify(a, target)
		if err != nil {
			return nil, err
		}
		c.args[i] = q
	}
	if e.op != "col" {
		return &c, nil
	}
	if len(e.name) > 1 {
		if strings.EqualFold(e.name[0], mg.m.TargetAlias) {
			c.name = append([]string{"t"}, e.name[1:]...)
			return &c, nil
		}
		if strings.EqualFold(e.name[0], mg.m.SourceAlias) {
			c.name = append([]string{"s"}, e.name[1:]...)
			return &c, nil
		}
	}
	inT, inS := target.Index(e.name[0]) >= 0, mg.src.Schema.Index(e.name[0]) >= 0
	switch {
	case inT && inS:
		return nil, fmt.Errorf("deltalake: merge: column %q is on both sides; write %s.%s or %s.%s", e.name[0], mg.m.TargetAlias, e.name[0], mg.m.SourceAlias, e.name[0])
	case inT:
		c.name = append([]string{"t"}, e.name...)
	case inS:
		c.name = append([]string{"s"}, e.name...)
	default:
		return nil, fmt.Errorf("deltalake: merge: column %q is on neither side, which are called %s and %s", e.name[0], mg.m.TargetAlias, mg.m.SourceAlias)
	}
	return &c, nil
}

// sides tells which sides an expression reads.
func sides(e *Expr) (target, source bool) {
	if e.op == "col" {
		return e.name[0] == "t", e.name[0] == "s"
	}
	for _, a := range e.args {
		t, s := sides(a)
		target, source = target || t, source || s
	}
	return target, source
}

// splitKeys finds the equalities between both sides in a conjunction.
func (mg *merging) splitKeys(e *Expr) {
	switch {
	case e.op == "and":
		mg.splitKeys(e.args[0])
		mg.splitKeys(e.args[1])
	case e.op == "=":
		lt, ls := sides(e.args[0])
		rt, rs := sides(e.args[1])
		var k joinKey
		switch {
		case lt && !ls && rs && !rt:
			k = joinKey{e.args[0], e.args[1]}
		case ls && !lt && rt && !rs:
			k = joinKey{e.args[1], e.args[0]}
		default:
			return
		}
		if mg.hashable(k) {
			mg.keys = append(mg.keys, k)
		}
	}
}

// hashable tells whether equal values of both sides have equal key texts: plain
// columns of the same family of types.
func (mg *merging) hashable(k joinKey) bool {
	family := func(e *Expr, s *Schema) int {
		if e.op != "col" || len(e.name) != 2 {
			return 0
		}
		i := s.Index(e.name[1])
		if i < 0 {
			return 0
		}
		switch s.Fields[i].Type.Kind {
		case KindByte, KindShort, KindInteger, KindLong:
			return 1
		case KindString, KindBinary:
			return 2
		case KindDate:
			return 3
		case KindTimestamp, KindTimestampNTZ:
			return 4
		case KindBoolean:
			return 5
		}
		return 0
	}
	f := family(k.target, mg.s.spec.schema)
	return f != 0 && f == family(k.source, mg.src.Schema)
}

// appendKey adds a value to a key; false when it is null, which equals nothing.
func appendKey(b []byte, v *Vector, i int) ([]byte, bool) {
	if v.Null(i) {
		return b, false
	}
	var x int64
	switch v.Type.Kind {
	case KindString, KindBinary:
		raw := v.Bytes(i)
		n := len(raw)
		b = append(b, byte(n), byte(n>>8), byte(n>>16), byte(n>>24))
		return append(b, raw...), true
	case KindLong, KindTimestamp, KindTimestampNTZ:
		x = v.Longs[i]
	case KindBoolean:
		if v.Bools[i] {
			x = 1
		}
	default:
		x = int64(v.Ints[i])
	}
	return append(b, byte(x), byte(x>>8), byte(x>>16), byte(x>>24), byte(x>>32), byte(x>>40), byte(x>>48), byte(x>>56)), true
}

// prune returns a condition on the table, bound, that every row which can match
// fulfils; nil when all rows are of interest.
func (mg *merging) prune(on *Expr) (*Expr, error) {
	for _, c := range mg.m.Clauses {
		if c.Action == NotMatchedBySourceUpdate || c.Action == NotMatchedBySourceDelete {
			return nil, nil
		}
	}
	var out *Expr
	if mg.src.Len == 0 {
		out = &Expr{op: "lit", val: boolValue(false), text: "false"}
	}
	for _, k := range mg.keys {
		v := mg.src.Column(k.source.name[1])
		var lo, hi value
		for i := range v.Len {
			x := valueAt(v, i)
			if x.kind == vNull {
				continue
			}
			if c, ok := x.compare(lo); lo.kind == vNull || ok && c < 0 {
				lo = x
			}
			if c, ok := x.compare(hi); hi.kind == vNull || ok && c > 0 {
				hi = x
			}
		}
		if lo.kind == vNull {
			continue
		}
		col := &Expr{op: "col", name: k.target.name[1:], text: k.target.name[1]}
		lit := func(x value) *Expr { return &Expr{op: "lit", val: x, text: x.text()} }
		out = And(out, And(binary2(">=", col, lit(lo)), binary2("<=", col, lit(hi))))
	}
	mg.keyRange = out
	for _, c := range conjuncts(on, nil) {
		if t, s := sides(c); t && !s {
			out = And(out, unqualify(c))
		}
	}
	if out == nil {
		return nil, nil
	}
	return out.bind(mg.s.spec.schema)
}

func conjuncts(e *Expr, to []*Expr) []*Expr {
	if e.op == "and" {
		return conjuncts(e.args[1], conjuncts(e.args[0], to))
	}
	return append(to, e)
}

// unqualify turns a condition on the target alone into one on the table.
func unqualify(e *Expr) *Expr {
	c := *e
	c.args = make([]*Expr, len(e.args))
	for i, a := range e.args {
		c.args[i] = unqualify(a)
	}
	if e.op == "col" {
		c.name = e.name[1:]
	}
	return &c
}

// narrow is the schema of the target columns that decide what happens to a row.
func (mg *merging) narrow(on *Expr) (*Schema, error) {
	need := map[string]bool{}
	var walk func(e *Expr)
	walk = func(e *Expr) {
		if e.op == "col" && e.name[0] == "t" {
			need[strings.ToLower(e.name[1])] = true
		}
		for _, a := range e.args {
			walk(a)
		}
	}
	walk(on)
	for _, c := range mg.m.Clauses {
		if c.If == nil {
			continue
		}
		q, err := mg.qualify(c.If, mg.s.spec.schema)
		if err != nil {
			return nil, err
		}
		walk(q)
	}
	out := &Schema{}
	for _, f := range mg.s.spec.schema.Fields {
		if need[strings.ToLower(f.Name)] {
			out.Fields = append(out.Fields, f)
		}
	}
	if len(out.Fields) == 0 {
		out.Fields = mg.s.spec.schema.Fields[:1]
	}
	return out, nil
}

// pairing holds what decides about rows, bound to pairs of a narrow target row
// and a source row.
type pairing struct {
	schema *Schema // narrow
	pair   *Schema // struct t, struct s
	rest   *Expr   // of the condition, all of it; nil when the keys say it all
	ifs    []*Expr // of the clauses
}

func (mg *merging) pairing(on *Expr, narrow *Schema) (*pairing, error) {
	p := &pairing{schema: narrow, pair: NewSchema(Col("t", narrow.Struct()), Col("s", mg.src.Schema.Struct()))}
	if len(conjuncts(on, nil)) > len(mg.keys) {
		e, err := on.bind(p.pair)
		if err != nil {
			return nil, err
		}
		p.rest = e
	}
	for _, c := range mg.m.Clauses {
		var e *Expr
		if c.If != nil {
			q, err := mg.qualify(c.If, mg.s.spec.schema)
			if err == nil {
				e, err = q.bind(p.pair)
			}
			if err != nil {
				return nil, err
			}
			if t, s := sides(q); t && c.Action == NotMatchedInsert || s && c.Action >= NotMatchedBySourceUpdate {
				return nil, fmt.Errorf("deltalake: merge: condition %q reads the side that is not there", c.If)
			}
		}
		p.ifs = append(p.ifs, e)
	}
	return p, nil
}

// pairBatch lines up rows of both sides.
func pairBatch(pair *Schema, target *Batch, trows []int32, source *Batch, srows []int32) *Batch {
	gather := func(typ *Type, b *Batch, rows []int32, n int) *Vector {
		v := &Vector{Type: typ, Len: n}
		for i := range typ.Fields {
			c := NewVector(typ.Fields[i].Type)
			if b == nil {
				c.appendNulls(n)
			} else {
				c.Gather(b.Columns[i], rows)
			}
			v.Children = append(v.Children, c)
		}
		return v
	}
	n := max(len(trows), len(srows))
	return &Batch{Schema: pair, Len: n, Columns: []*Vector{
		gather(pair.Fields[0].Type, target, trows, n), gather(pair.Fields[1].Type, source, srows, n),
	}}
}

// verdict is what happens to one row of the table.
type verdict struct {
	row    int64 // in the file
	source int32 // -1 without
	clause int
}
