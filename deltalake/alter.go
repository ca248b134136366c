package deltalake

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"maps"
	"strconv"
	"strings"
)

// SetProperties sets table properties, and removes those whose value is nil. The
// protocol is raised where a property needs a feature; one that this package
// cannot keep is refused by name.
func (t *Table) SetProperties(ctx context.Context, props map[string]*string) (*Snapshot, error) {
	for k, v := range props {
		if strings.HasPrefix(k, "delta.constraints.") {
			return nil, fmt.Errorf("deltalake: %s is a constraint; use AddConstraint or DropConstraint", k)
		}
		if err := keptProperty(k); err != nil {
			return nil, err
		}
		if err := checkProperty(k, v); err != nil {
			return nil, err
		}
	}
	params := map[string]string{"properties": jsonText(props)}
	return t.changeMetadata(ctx, "SET TBLPROPERTIES", params, func(m *Metadata) (*Metadata, error) {
		c := m.clone()
		for k, v := range props {
			if v == nil {
				delete(c.Configuration, k)
			} else {
				c.Configuration[k] = *v
			}
		}
		before, after := mappingMode(m), mappingMode(c)
		switch {
		case before == after:
		case before == "none" && after == "name":
			if err := mapExisting(c); err != nil {
				return nil, err
			}
		default:
			return nil, fmt.Errorf("deltalake: column mapping cannot change from %s to %s; only from none to name", before, after)
		}
		if maps.Equal(c.Configuration, m.Configuration) {
			return m, nil
		}
		return c, nil
	})
}

func mappingMode(m *Metadata) string {
	if mode := m.Configuration["delta.columnMapping.mode"]; mode != "" {
		return mode
	}
	return "none"
}

// mapExisting turns column mapping on for a table that has files: physical names
// are the names so far.
func mapExisting(m *Metadata) error {
	s, err := m.parseSchema()
	if err != nil {
		return err
	}
	next := int32(0)
	var named func(fields []Field) []Field
	var typ func(t *Type) *Type
	named = func(fields []Field) []Field {
		out := make([]Field, len(fields))
		for i, f := range fields {
			meta := maps.Clone(f.Metadata)
			if meta == nil {
				meta = map[string]json.RawMessage{}
			}
			next++
			meta[mapIDKey] = json.RawMessage(strconv.Itoa(int(next)))
			meta[mapNameKey] = json.RawMessage(jsonText(f.Name))
			out[i] = Field{f.Name, typ(f.Type), f.Nullable, meta}
		}
		return out
	}
	typ = func(t *Type) *Type {
		c := *t
		c.Fields = named(t.Fields)
		if t.Elem != nil {
			c.Elem = typ(t.Elem)
		}
		if t.Key != nil {
			c.Key = typ(t.Key)
		}
		return &c
	}
	return m.setSchema(&Schema{named(s.Fields)}, next)
}

// setSchema replaces the schema; maxID is noted when it is above 0.
func (m *Metadata) setSchema(s *Schema, maxID int32) error {
	text, err := s.MarshalJSON()
	if err != nil {
		return err
	}
	m.SchemaString = string(text)
	if maxID > 0 {
		m.Configuration["delta.columnMapping.maxColumnId"] = strconv.Itoa(int(maxID))
	}
	return nil
}

// AddConstraint adds a CHECK constraint after proving that every row fulfils it.
func (t *Table) AddConstraint(ctx context.Context, name, condition string) (*Snapshot, error) {
	e, err := ParseExpr(condition)
	if err != nil {
		return nil, err
	}
	if name == "" || strings.ContainsAny(name, " .`") {
		return nil, fmt.Errorf("deltalake: %q is no name for a constraint", name)
	}
	key := "delta.constraints." + strings.ToLower(name)
	for {
		s, err := t.Refresh(ctx)
		if err != nil {
			return nil, err
		}
		if _, ok := s.metadata.Configuration[key]; ok {
			return nil, fmt.Errorf("deltalake: constraint %q exists already", name)
		}
		bound, err := e.bind(s.spec.schema)
		if err != nil {
			return nil, err
		}
		bound.text = condition
		for b, err := range s.Scan(ctx, ScanOptions{}) {
			if err == nil {
				err = checkConstraints([]constraint{{"new constraint " + name, bound}}, b)
			}
			if err != nil {
				return nil, err
			}
		}
		m := s.metadata.clone()
		m.Configuration[key] = condition
		c := Commit{Operation: "ADD CONSTRAINT", Parameters: map[string]string{"name": name, "expr": condition}, Metadata: m, Base: s, ReadAll: true}
		if c.Protocol, err = raised(s.spec, m, s); err != nil {
			return nil, err
		}
		r, err := t.Commit(ctx, c)
		var conflict *ConflictError
		if err == nil {
			return r.Snapshot, nil
		}
		if !errors.As(err, &conflict) {
			return nil, err
		}
	}
}

// DropConstraint removes a CHECK constraint.
func (t *Table) DropConstraint(ctx context.Context, name string) (*Snapshot, error) {
	key := "delta.constraints." + strings.ToLower(name)
	return t.changeMetadata(ctx, "DROP CONSTRAINT", map[string]string{"name": name}, func(m *Metadata) (*Metadata, error) {
		c := m.clone()
		for k := range c.Configuration {
			if strings.EqualFold(k, key) {
				delete(c.Configuration, k)
				return c, nil
			}
		}
		return nil, fmt.Errorf("deltalake: there is no constraint %q", name)
	})
}

// usesColumn names what in the table depends on a column; "" when nothing does.
func usesColumn(m *Metadata, s *Schema, name string) string {
	reads := func(text string) bool {
		e, err := ParseExpr(text)
		if err != nil {
			return true
		}
		cols := map[string]bool{}
		e.columns(cols)
		return cols[strings.ToLower(name)]
	}
	if containsFold(m.PartitionColumns, name) {
		return "the partitioning"
	}
	for k, v := range m.Configuration {
		if c, ok := strings.CutPrefix(k, "delta.constraints."); ok && reads(v) {
			return "constraint " + c
		}
	}
	for _, f := range s.Fields {
		var text string
		if raw, ok := f.Metadata["delta.generationExpression"]; ok && json.Unmarshal(raw, &text) == nil && !strings.EqualFold(f.Name, name) && reads(text) {
			return "generated column " + f.Name
		}
	}
	return ""
}

// RenameColumn gives a top-level column another name. The table needs column
// mapping; data files are not touched.
func (t *Table) RenameColumn(ctx context.Context, from, to string) (*Snapshot, error) {
	return t.changeMetadata(ctx, "RENAME COLUMN", map[string]string{"oldColumnPath": from, "newColumnPath": to}, func(m *Metadata) (*Metadata, error) {
		s, i, err := mappedColumn(m, from, "renamed")
		if err != nil {
			return nil, err
		}
		if to == "" || s.Index(to) >= 0 && !strings.EqualFold(from, to) {
			return nil, fmt.Errorf("deltalake: column %q exists already", to)
		}
		c := m.clone()
		for k, p := range c.PartitionColumns {
			if strings.EqualFold(p, from) {
				c.PartitionColumns[k] = to
			}
		}
		if use := usesColumn(m, s, from); use != "" && use != "the partitioning" {
			return nil, fmt.Errorf("deltalake: column %q cannot be renamed: %s uses it", from, use)
		}
		s.Fields[i].Name = to
		return c, c.setSchema(s, 0)
	})
}

// DropColumn removes a top-level column. The table needs column mapping; its
// values stay in old files until they are rewritten.
func (t *Table) DropColumn(ctx context.Context, name string) (*Snapshot, error) {
	return t.changeMetadata(ctx, "DROP COLUMNS", map[string]string{"columns": jsonText([]string{name})}, func(m *Metadata) (*Metadata, error) {
		s, i, err := mappedColumn(m, name, "dropped")
		if err != nil {
			return nil, err
		}
		// A change of the clustering columns meanwhile is a conflict of this commit.
		for _, c := range t.Latest().spec.clustered {
			if top, _, _ := strings.Cut(c, "."); strings.EqualFold(c, name) || strings.EqualFold(top, name) {
				return nil, fmt.Errorf("deltalake: column %q cannot be dropped: the table is clustered by it", name)
			}
		}
		if use := usesColumn(m, s, name); use != "" {
			return nil, fmt.Errorf("deltalake: column %q cannot be dropped: %s uses it", name, use)
		}
		if len(s.Fields)-len(m.PartitionColumns) == 1 {
			return nil, fmt.Errorf("deltalake: column %q cannot be dropped: it is the last one", name)
		}
		s.Fields = append(s.Fields[:i:i], s.Fields[i+1:]...)
		c := m.clone()
		return c, c.setSchema(s, 0)
	})
}

func mappedColumn(m *Metadata, name, what string) (*Schema, int, error) {
	if mappingMode(m) == "none" {
		return nil, 0, fmt.Errorf("deltalake: columns can be %s only with column mapping; set delta.columnMapping.mode to name first", what)
	}
	s, err := m.parseSchema()
	if err != nil {
		return nil, 0, err
	}
	i := s.Index(name)
	if i < 0 {
		return nil, 0, fmt.Errorf("deltalake: column %q is not in the table", name)
	}
	return s, i, nil
}

// schema derives Delta's schema from a Parquet file; every column is nullable.
func (f *pqFile) schema() (*Schema, error) {
	s := &Schema{}
	for _, n := range f.root.nodes {
		t, err := n.deltaType()
		if err != nil {
			return nil, fmt.Errorf("column %q: %w", n.name, err)
		}
		s.Fields = append(s.Fields, Col(n.name, t))
	}
	return s, nil
}

func (c *pqCol) deltaType() (*Type, error) {
	if c.leaf < 0 {
		return c.groupType()
	}
	switch {
	case c.rep == 2:
		return nil, errors.New("a repeated field without a list has no Delta type")
	case c.converted == 5 || c.precision > 0:
		return DecimalOf(c.precision, c.scale), nil
	case c.unsigned:
		return nil, errors.New("unsigned integers have no Delta type")
	case c.typ == pqBoolean:
		return Of(KindBoolean), nil
	case c.typ == pqInt32:
		switch c.converted {
		case 6:
			return Of(KindDate), nil
		case 15:
			return Of(KindByte), nil
		case 16:
			return Of(KindShort), nil
		}
		return Of(KindInteger), nil
	case c.typ == pqInt64 && c.unit > 0 && c.local:
		return Of(KindTimestampNTZ), nil
	case c.typ == pqInt64 && c.unit > 0, c.typ == pqInt96:
		return Of(KindTimestamp), nil
	case c.typ == pqInt64:
		return Of(KindLong), nil
	case c.typ == pqFloat:
		return Of(KindFloat), nil
	case c.typ == pqDouble:
		return Of(KindDouble), nil
	case c.typ == pqBytes && c.converted == 0:
		return Of(KindString), nil
	case c.typ == pqBytes || c.typ == pqFixed:
		return Of(KindBinary), nil
	}
	return nil, errors.New("its Parquet type has no Delta type")
}

func (c *pqCol) groupType() (*Type, error) {
	if len(c.nodes) == 1 && c.nodes[0].rep == 2 && (c.converted == 3 || c.converted == 1 || c.converted == 2) {
		in := c.nodes[0]
		if c.converted == 3 {
			if in.leaf < 0 && len(in.nodes) == 1 {
				in = in.nodes[0]
			}
			e, err := in.deltaType()
			if err != nil {
				return nil, err
			}
			return ListOf(e), nil
		}
		if len(in.nodes) == 2 {
			k, err := in.nodes[0].deltaType()
			if err != nil {
				return nil, err
			}
			v, err := in.nodes[1].deltaType()
			if err != nil {
				return nil, err
			}
			return MapOf(k, v), nil
		}
	}
	s := &Type{Kind: KindStruct}
	for _, n := range c.nodes {
		t, err := n.deltaType()
		if err != nil {
			return nil, err
		}
		s.Fields = append(s.Fields, Col(n.name, t))
	}
	return s, nil
}

// ReadParquet yields the rows of one Parquet file with the schema that its
// footer tells.
func ReadParquet(ctx context.Context, store Store, file string) iter.Seq2[*Batch, error] {
	return func(yield func(*Batch, error) bool) {
		f, err := openParquet(ctx, store, file, 0)
		if err != nil {
			yield(nil, err)
			return
		}
		s, err := f.schema()
		if err != nil {
			yield(nil, fmt.Errorf("deltalake: read %s: %w", file, err))
			return
		}
		p, plans, err := planFile(f, s.Fields, nil)
		if err != nil {
			yield(nil, err)
			return
		}
		if f.meta.rows == 0 && !yield(NewBatch(s), nil) {
			return // the schema alone
		}
		for g := range f.meta.groups {
			r, err := newGroupReader(ctx, f, g, p, plans)
			if err != nil {
				yield(nil, err)
				return
			}
			for {
				cols, n, err := r.next(defaultBatchRows)
				if err != nil {
					yield(nil, fmt.Errorf("%w (file %s)", err, file))
					return
				}
				if n == 0 {
					break
				}
				if !yield(&Batch{Schema: s, Len: n, Columns: cols}, nil) {
					return
				}
			}
		}
	}
}
