package deltalake

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"maps"
	"math/big"
	"slices"
	"strconv"
	"strings"
)

// Keys of a field's metadata that make it an identity column.
const (
	identityStart    = "delta.identity.start"
	identityStep     = "delta.identity.step"
	identityMark     = "delta.identity.highWaterMark"
	identityExplicit = "delta.identity.allowExplicitInsert"

	// identityUpdate tags a commit whose metadata moves marks alone, as Spark does.
	identityUpdate = "delta.identity.schemaUpdate"
)

// Identity returns a long column that is GENERATED ALWAYS AS IDENTITY: Append,
// Overwrite and Merge give each new row the next value of start, start+step, ...,
// and rows must not bring their own. Values are unique; an operation that had to
// be done again leaves a gap. It is for the Schema of CreateOptions.
func Identity(name string, start, step int64) Field { return identityField(name, start, step, false) }

// IdentityByDefault is Identity for a column that rows may also bring values
// for. Those do not move the high water mark: see Table.SyncIdentity.
func IdentityByDefault(name string, start, step int64) Field {
	return identityField(name, start, step, true)
}

func identityField(name string, start, step int64, explicit bool) Field {
	return Field{Name: name, Type: Of(KindLong), Nullable: true, Metadata: map[string]json.RawMessage{
		identityStart: json.RawMessage(strconv.FormatInt(start, 10)), identityStep: json.RawMessage(strconv.FormatInt(step, 10)),
		identityExplicit: json.RawMessage(strconv.FormatBool(explicit)),
	}}
}

// identity is what the schema says of one identity column.
type identity struct {
	name        string
	column      int // in the table's schema
	start, step int64
	mark        *int64 // newest value that was generated; nil before the first
	explicit    bool
}

// isIdentity tells whether the table generates the column's values.
func (f *Field) isIdentity() bool {
	_, ok := f.Metadata[identityStart]
	return ok
}

// identities reads the identity columns of a schema.
func (s *Schema) identities() ([]identity, error) {
	var out []identity
	for i := range s.Fields {
		f := &s.Fields[i]
		if !f.isIdentity() {
			continue
		}
		c := identity{name: f.Name, column: i}
		var errs []error
		take := func(key string, to any) {
			if raw, ok := f.Metadata[key]; ok {
				if err := json.Unmarshal(raw, to); err != nil {
					errs = append(errs, fmt.Errorf("deltalake: identity column %q: %s = %s is damaged", f.Name, key, raw))
				}
			}
		}
		take(identityStart, &c.start)
		take(identityStep, &c.step)
		take(identityMark, &c.mark)
		take(identityExplicit, &c.explicit)
		switch {
		case f.Type.Kind != KindLong:
			errs = append(errs, fmt.Errorf("deltalake: identity column %q is %s and must be long", f.Name, f.Type))
		case c.step == 0:
			errs = append(errs, fmt.Errorf("deltalake: identity column %q has step 0", f.Name))
		}
		if err := errors.Join(errs...); err != nil {
			return nil, err
		}
		out = append(out, c)
	}
	return out, nil
}

// checkIdentities names what is wrong with the identity columns of a new table.
func checkIdentities(s *Schema, partition []string) error {
	ids, err := s.identities()
	errs := []error{err}
	for _, c := range ids {
		f := &s.Fields[c.column]
		if containsFold(partition, c.name) {
			errs = append(errs, fmt.Errorf("identity column %q cannot partition a table", c.name))
		}
		for _, key := range []string{"delta.generationExpression", "CURRENT_DEFAULT"} {
			if _, ok := f.Metadata[key]; ok {
				errs = append(errs, fmt.Errorf("identity column %q has a %s too", c.name, key))
			}
		}
	}
	for i := range s.Fields {
		if hasIdentity(s.Fields[i].Type) {
			errs = append(errs, fmt.Errorf("column %q holds an identity column; only columns of the table itself can be one", s.Fields[i].Name))
		}
	}
	return errors.Join(errs...)
}

// hasIdentity tells whether a member of a nested type is marked as identity.
func hasIdentity(t *Type) bool {
	for i := range t.Fields {
		if t.Fields[i].isIdentity() || hasIdentity(t.Fields[i].Type) {
			return true
		}
	}
	return t.Elem != nil && hasIdentity(t.Elem) || t.Key != nil && hasIdentity(t.Key)
}

// next returns the value after the mark, and false where longs end.
func (c *identity) next() (int64, bool) {
	if c.mark == nil {
		return c.start, true
	}
	start, step := big.NewInt(c.start), big.NewInt(c.step)
	// The smallest k with start + k*step beyond the mark, which another writer may
	// have put between two values.
	k := new(big.Int).Sub(big.NewInt(*c.mark), start)
	if c.step < 0 {
		k.Neg(k)
		step.Neg(step)
	}
	k.Div(k, step) // rounds down
	k.Add(k, big.NewInt(1))
	if k.Sign() < 0 {
		k.SetInt64(0)
	}
	v := k.Mul(k, big.NewInt(c.step))
	v.Add(v, start)
	return v.Int64(), v.IsInt64()
}

// last returns the value n-1 steps after first, and false on overflow.
func (c *identity) last(first, n int64) (int64, bool) {
	v := new(big.Int).Mul(big.NewInt(c.step), big.NewInt(n-1))
	v.Add(v, big.NewInt(first))
	return v.Int64(), v.IsInt64()
}

// beyond tells whether a comes after b.
func (c *identity) beyond(a, b int64) bool { return c.step > 0 && a > b || c.step < 0 && a < b }

func (c *identity) overflow() error {
	return fmt.Errorf("deltalake: identity column %q has no values left: the next one does not fit a long", c.name)
}

// identityFiller gives the new rows of one transaction their identity values. It
// is confined to one goroutine. A nil filler has no columns.
type identityFiller struct {
	cols    []identity
	first   []int64 // generated here, by column
	count   []int64 // values generated here
	brought []bool  // rows brought values too
}

// filler starts a transaction on the table's marks.
func (s *FileSpec) filler() (*identityFiller, error) {
	ids, err := s.schema.identities()
	if err != nil || ids == nil {
		return nil, err
	}
	return &identityFiller{ids, make([]int64, len(ids)), make([]int64, len(ids)), make([]bool, len(ids))}, nil
}

// find returns the number of the filler's column that is column i of the table.
func (f *identityFiller) find(i int) int {
	if f != nil {
		for k := range f.cols {
			if f.cols[k].column == i {
				return k
			}
		}
	}
	return -1
}

// given refuses values for a column that rows must not bring.
func (f *identityFiller) given(i int) error {
	k := f.find(i)
	if k < 0 {
		return nil
	}
	if !f.cols[k].explicit {
		return fmt.Errorf("deltalake: column %q is generated always as identity and takes no values; leave it out of the rows", f.cols[k].name)
	}
	f.brought[k] = true
	return nil
}

// values generates n values of column k.
func (f *identityFiller) values(k, n int) (*Vector, error) {
	v := NewVector(Of(KindLong))
	if n == 0 {
		return v, nil
	}
	c := &f.cols[k]
	at, ok := c.next()
	if ok {
		var last int64
		if last, ok = c.last(at, int64(n)); ok {
			if f.count[k] == 0 {
				f.first[k] = at
			}
			f.count[k] += int64(n)
			c.mark = &last
		}
	}
	if !ok {
		return nil, c.overflow()
	}
	for range n {
		v.AppendLong(at)
		at += c.step
	}
	return v, nil
}

// used tells whether a value was generated.
func (f *identityFiller) used() bool {
	if f != nil {
		for _, n := range f.count {
			if n > 0 {
				return true
			}
		}
	}
	return false
}

// movable tells whether all values of the columns that were used are generated,
// so that they can be moved as one.
func (f *identityFiller) movable() bool {
	if !f.used() {
		return false
	}
	for k := range f.cols {
		if f.count[k] > 0 && f.brought[k] {
			return false
		}
	}
	return true
}

// marked returns m with the marks that the filler reached.
func (f *identityFiller) marked(m *Metadata) (*Metadata, error) {
	if !f.used() {
		return m, nil
	}
	s, err := m.parseSchema()
	if err != nil {
		return nil, err
	}
	for k, c := range f.cols {
		if f.count[k] > 0 {
			s.Fields[c.column].setMark(&c)
		}
	}
	out := m.clone()
	return out, out.setSchema(s, 0)
}

// setMark notes a column's high water mark; it never goes back.
func (f *Field) setMark(c *identity) {
	var old *int64
	if raw, ok := f.Metadata[identityMark]; ok && json.Unmarshal(raw, &old) == nil && old != nil && c.beyond(*old, *c.mark) {
		return
	}
	meta := map[string]json.RawMessage{}
	for k, v := range f.Metadata {
		meta[k] = v
	}
	meta[identityMark] = json.RawMessage(strconv.FormatInt(*c.mark, 10))
	f.Metadata = meta
}

// movesMarks tells whether metadata differs from old in the marks of identity
// columns alone: who gives out no values need not mind.
func (m *Metadata) movesMarks(old *Metadata) bool {
	bare := func(m *Metadata) string {
		s, err := m.parseSchema()
		if err != nil {
			return ""
		}
		found := false
		for i := range s.Fields {
			if f := &s.Fields[i]; f.isIdentity() {
				found = true
				f.Metadata = maps.Clone(f.Metadata)
				delete(f.Metadata, identityMark)
			}
		}
		c := m.clone()
		if !found || c.setSchema(s, 0) != nil {
			return ""
		}
		return jsonText(c)
	}
	a := bare(m)
	return a != "" && a == bare(old)
}

// keepMarks returns the schema text of old with marks that are not behind those
// of now: a table that goes back to an older schema does not give values twice.
func keepMarks(old, now *Metadata) (*Metadata, error) {
	a, err := old.parseSchema()
	if err != nil {
		return nil, err
	}
	b, err := now.parseSchema()
	if err != nil {
		return nil, err
	}
	ids, err := b.identities()
	if err != nil {
		return nil, err
	}
	changed := false
	for _, c := range ids {
		name, _ := b.Fields[c.column].physical(true)
		for i := range a.Fields {
			f := &a.Fields[i]
			if n, _ := f.physical(true); n == name && f.isIdentity() && c.mark != nil {
				f.setMark(&c)
				changed = true
			}
		}
	}
	if !changed {
		return old, nil
	}
	out := old.clone()
	return out, out.setSchema(a, 0)
}

// succeeded returns the schema that replaces s, rows and all. An identity column of it
// that s has with the same start and step goes on behind the values given so far. One
// that s generates always cannot become a plain column: rows would bring its values.
func (s *Schema) succeeded(next *Schema, partition []string) (*Schema, error) {
	ids, err := s.identities()
	if err != nil {
		return nil, err
	}
	out := &Schema{append([]Field{}, next.Fields...)}
	for i := range out.Fields {
		f := &out.Fields[i]
		if f.isIdentity() {
			f.Metadata = maps.Clone(f.Metadata)
			delete(f.Metadata, identityMark)
		}
		k := slices.IndexFunc(ids, func(c identity) bool { return strings.EqualFold(c.name, f.Name) })
		switch {
		case k < 0:
		case !f.isIdentity() && !ids[k].explicit:
			return nil, fmt.Errorf("column %q is generated always as identity and takes no values; leave it out of the schema, or give it there as an identity column again", f.Name)
		case f.isIdentity() && ids[k].mark != nil:
			if now, err := (&Schema{out.Fields[i : i+1]}).identities(); err == nil && now[0].start == ids[k].start && now[0].step == ids[k].step {
				f.setMark(&ids[k])
			}
		}
	}
	return out, checkIdentities(out, partition)
}

// reserve moves the marks in a commit of its own by what the filler used, so that
// nobody else gets those values, and returns by how much each column's values
// move. It is for files whose own commit lost a race.
func (t *Table) reserve(ctx context.Context, f *identityFiller) (*Snapshot, []int64, error) {
	shift := make([]int64, len(f.cols))
	s, err := t.changeMetadata(ctx, "RESERVE IDENTITY", nil, func(m *Metadata) (*Metadata, error) {
		schema, err := m.parseSchema()
		if err != nil {
			return nil, err
		}
		ids, err := schema.identities()
		if err != nil {
			return nil, err
		}
		for k, c := range f.cols {
			if f.count[k] == 0 {
				continue
			}
			i := -1
			for j := range ids {
				if strings.EqualFold(ids[j].name, c.name) && ids[j].start == c.start && ids[j].step == c.step {
					i = j
				}
			}
			if i < 0 {
				return nil, &ConflictError{MetadataChanged, t.Latest().version, fmt.Sprintf("changed identity column %q", c.name)}
			}
			first, ok := ids[i].next()
			if !ok {
				return nil, ids[i].overflow()
			}
			last, ok := ids[i].last(first, f.count[k])
			if !ok {
				return nil, ids[i].overflow()
			}
			ids[i].mark = &last
			schema.Fields[ids[i].column].setMark(&ids[i])
			shift[k] = first - f.first[k] // may wrap; so does the sum that undoes it
		}
		out := m.clone()
		return out, out.setSchema(schema, 0)
	})
	return s, shift, err
}

// appendReserved commits the rows of an append whose identity values were taken
// by another writer meanwhile: with values reserved in a commit before.
func (t *Table) appendReserved(ctx context.Context, w *written, c Commit, opts WriteOptions) (*CommitResult, error) {
	s, shift, err := t.reserve(ctx, w.ids)
	if err == nil {
		if ferr := w.spec.fits(s.spec); ferr != nil {
			err = &ConflictError{MetadataChanged, s.version, ferr.Error()}
		}
	}
	if err != nil {
		return nil, errors.Join(err, t.drop(ctx, w.adds))
	}
	out := newPartitionWriter(ctx, t.store, s.spec, opts)
	for _, a := range w.adds {
		err := s.readPath(ctx, a.Path, a.Size, a.PartitionValues, nil, s.spec.schema, nil, defaultBatchRows, func(b *Batch, _ int64, _ []int32) error {
			for k := range w.ids.cols {
				if w.ids.count[k] == 0 {
					continue
				}
				i := s.spec.schema.Index(w.ids.cols[k].name)
				v := NewVector(b.Columns[i].Type)
				for r := range b.Len {
					if b.Columns[i].Null(r) {
						v.AppendNull()
					} else {
						v.AppendLong(b.Columns[i].Longs[r] + shift[k])
					}
				}
				b.Columns[i] = v
			}
			return out.Write(b)
		})
		if err != nil {
			return nil, errors.Join(err, out.Abort(), t.drop(ctx, w.adds))
		}
	}
	adds, err := out.Close()
	if err = errors.Join(err, t.drop(ctx, w.adds)); err != nil {
		return nil, errors.Join(err, out.Abort())
	}
	c.Adds, c.Spec, c.Base, c.Metadata, c.Protocol = adds, s.spec, nil, nil, nil
	r, err := t.Commit(ctx, c)
	if err != nil {
		return nil, errors.Join(err, t.dropAfter(ctx, err, adds))
	}
	return r, nil
}

// SyncIdentity moves the high water mark of an identity column behind the values
// that rows have, where some brought their own. It never moves back. The snapshot
// is the newest one; nothing is committed when the mark is right already.
func (t *Table) SyncIdentity(ctx context.Context, column string) (*Snapshot, error) {
	for {
		s, err := t.Refresh(ctx)
		if err != nil {
			return nil, err
		}
		ids, err := s.spec.schema.identities()
		if err != nil {
			return nil, err
		}
		k := -1
		for i := range ids {
			if strings.EqualFold(ids[i].name, column) {
				k = i
			}
		}
		if k < 0 {
			return nil, fmt.Errorf("deltalake: %q is no identity column of the table", column)
		}
		c := &ids[k]
		far, found, err := extreme(s.Scan(ctx, ScanOptions{Columns: []string{c.name}}), c.step > 0)
		if err != nil {
			return nil, err
		}
		behind := c.mark == nil && !c.beyond(c.start, far) || c.mark != nil && c.beyond(far, *c.mark)
		if !found || !behind {
			return s, nil
		}
		mark := far
		c.mark = &mark
		if n, ok := c.next(); ok { // the value of the sequence that is not before far
			if far != n-c.step {
				c.mark = &n
			}
		}
		m := s.metadata.clone()
		schema := &Schema{append([]Field{}, s.spec.schema.Fields...)}
		schema.Fields[c.column].setMark(c)
		if err := m.setSchema(schema, 0); err != nil {
			return nil, err
		}
		r, err := t.Commit(ctx, Commit{Operation: "SYNC IDENTITY", Parameters: map[string]string{"column": c.name}, Metadata: m, Base: s, ReadAll: true})
		var conflict *ConflictError
		if err == nil {
			return r.Snapshot, nil
		}
		if !errors.As(err, &conflict) {
			return nil, err
		}
	}
}

// extreme returns the largest, or smallest, value of a scan's only column.
func extreme(scan iter.Seq2[*Batch, error], largest bool) (at int64, found bool, err error) {
	for b, err := range scan {
		if err != nil {
			return 0, false, err
		}
		for i := range b.Len {
			if b.Columns[0].Null(i) {
				continue
			}
			if x := b.Columns[0].Longs[i]; !found || largest == (x > at) && x != at {
				at, found = x, true
			}
		}
	}
	return at, found, nil
}
