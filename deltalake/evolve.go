package deltalake

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// widens tells whether every value of type a is one of type b, with the changes
// that Delta's type widening allows.
func widens(a, b *Type) bool {
	rank := func(k Kind) int {
		switch k {
		case KindByte:
			return 1
		case KindShort:
			return 2
		case KindInteger:
			return 3
		case KindLong:
			return 4
		}
		return 0
	}
	digits := [...]int{0, 3, 5, 10, 20}
	ra, rb := rank(a.Kind), rank(b.Kind)
	switch {
	case ra > 0 && rb > 0:
		return ra <= rb
	case a.Kind == KindFloat && b.Kind == KindDouble:
		return true
	case ra > 0 && ra <= 3 && b.Kind == KindDouble:
		return true
	case ra > 0 && b.Kind == KindDecimal:
		return b.Precision-b.Scale >= max(10, digits[ra])
	case a.Kind == KindDecimal && b.Kind == KindDecimal:
		return b.Scale >= a.Scale && b.Precision-b.Scale >= a.Precision-a.Scale
	case a.Kind == KindDate && b.Kind == KindTimestampNTZ:
		return true
	}
	return a.Equal(b)
}

// MergeSchema returns the metadata m changed so that rows of schema s can be
// written: columns that m lacks are added at the end as nullable, and where
// delta.enableTypeWidening is on, narrower types become wider. Columns that s
// lacks stay and read as null. The result is m itself when nothing changes. An
// error names the column that cannot be brought together.
func MergeSchema(m *Metadata, s *Schema) (*Metadata, error) {
	old, err := m.parseSchema()
	if err != nil {
		return nil, err
	}
	mg := merger{
		widen:  strings.EqualFold(m.Configuration["delta.enableTypeWidening"], "true"),
		mapped: m.Configuration["delta.columnMapping.mode"] == "name" || m.Configuration["delta.columnMapping.mode"] == "id",
	}
	if mg.mapped {
		id, err := strconv.Atoi(m.Configuration["delta.columnMapping.maxColumnId"])
		if err != nil {
			return nil, errors.New("deltalake: column mapping is on but delta.columnMapping.maxColumnId is not a number")
		}
		mg.next = int32(id)
	}
	fields := mg.fields(old.Fields, s.Fields, "")
	for _, f := range s.Fields {
		if i := old.Index(f.Name); i >= 0 && containsFold(m.PartitionColumns, f.Name) && !f.Type.Equal(old.Fields[i].Type) {
			mg.errs = append(mg.errs, fmt.Errorf("partition column %q is %s and cannot become %s", f.Name, old.Fields[i].Type, f.Type))
		}
	}
	if err := errors.Join(mg.errs...); err != nil {
		return nil, fmt.Errorf("deltalake: merge schema: %w", err)
	}
	if !mg.changed {
		return m, nil
	}
	text, err := (&Schema{fields}).MarshalJSON()
	if err != nil {
		return nil, err
	}
	c := m.clone()
	c.SchemaString = string(text)
	if mg.mapped {
		c.Configuration["delta.columnMapping.maxColumnId"] = strconv.Itoa(int(mg.next))
	}
	return c, nil
}

type merger struct {
	widen, mapped, changed bool
	next                   int32
	errs                   []error
}

func (mg *merger) fields(old, add []Field, prefix string) []Field {
	out := append([]Field{}, old...)
	for _, f := range add {
		i := fieldIndex(out, f.Name)
		if i < 0 {
			mg.changed = true
			if f.isIdentity() || hasIdentity(f.Type) {
				mg.errs = append(mg.errs, fmt.Errorf("identity column %q cannot be added to a table; create the table with it", prefix+f.Name))
			}
			n := Field{Name: f.Name, Type: f.Type, Nullable: true, Metadata: f.Metadata}
			if mg.mapped {
				n = mapFields([]Field{n}, &mg.next)[0]
			}
			out = append(out, n)
			continue
		}
		typ, widened := mg.types(out[i].Type, f.Type, prefix+out[i].Name)
		if widened && out[i].isIdentity() {
			mg.errs = append(mg.errs, fmt.Errorf("identity column %q is long and stays it", prefix+out[i].Name))
		}
		if widened {
			meta := map[string]json.RawMessage{}
			for k, v := range out[i].Metadata {
				meta[k] = v
			}
			var changes []map[string]string
			if raw, ok := meta["delta.typeChanges"]; ok {
				if err := json.Unmarshal(raw, &changes); err != nil {
					mg.errs = append(mg.errs, fmt.Errorf("column %q has damaged type changes: %w", prefix+f.Name, err))
				}
			}
			changes = append(changes, map[string]string{"fromType": out[i].Type.String(), "toType": typ.String()})
			meta["delta.typeChanges"] = json.RawMessage(jsonText(changes))
			out[i].Metadata = meta
		}
		out[i].Type = typ
	}
	return out
}

// types brings two types together; widened is true when a primitive changed.
func (mg *merger) types(old, add *Type, name string) (t *Type, widened bool) {
	switch {
	case old.Kind == KindStruct && add.Kind == KindStruct:
		c := *old
		c.Fields = mg.fields(old.Fields, add.Fields, name+".")
		return &c, false
	case old.Kind == KindList && add.Kind == KindList:
		c := *old
		c.Elem = mg.inner(old.Elem, add.Elem, name+".element")
		return &c, false
	case old.Kind == KindMap && add.Kind == KindMap:
		c := *old
		c.Key, c.Elem = mg.inner(old.Key, add.Key, name+".key"), mg.inner(old.Elem, add.Elem, name+".value")
		return &c, false
	case old.Equal(add), old.primitive() && add.primitive() && widens(add, old):
		return old, false // narrower values are cast when written
	case mg.widen && old.primitive() && add.primitive() && widens(old, add):
		mg.changed = true
		return add, true
	}
	hint := ""
	if widens(old, add) {
		hint = "; set delta.enableTypeWidening to allow it"
	}
	mg.errs = append(mg.errs, fmt.Errorf("column %q is %s and cannot become %s%s", name, old, add, hint))
	return old, false
}

func (mg *merger) inner(old, add *Type, name string) *Type {
	t, widened := mg.types(old, add, name)
	if widened {
		mg.errs = append(mg.errs, fmt.Errorf("%q cannot become wider inside a list or map", name))
		return old
	}
	return t
}

// EvolveSchema makes the table accept rows of schema s (see MergeSchema) with a
// commit of its own, and returns the newest snapshot. Nothing is committed when
// the table accepts them already.
func (t *Table) EvolveSchema(ctx context.Context, s *Schema) (*Snapshot, error) {
	return t.changeMetadata(ctx, "ADD COLUMNS", map[string]string{"columns": jsonText(s)}, func(m *Metadata) (*Metadata, error) {
		return MergeSchema(m, s)
	})
}

// changeMetadata commits what change makes of the metadata, again on a newer
// snapshot when it lost a race.
func (t *Table) changeMetadata(ctx context.Context, op string, params map[string]string, change func(*Metadata) (*Metadata, error)) (*Snapshot, error) {
	s, err := t.Refresh(ctx)
	for try := 0; err == nil; try++ {
		var m *Metadata
		if m, err = change(s.metadata); err != nil || m == s.metadata {
			return s, err
		}
		schema, err := m.parseSchema()
		if err != nil {
			return nil, err
		}
		p, err := neededProtocol(schema, m.Configuration, s.protocol)
		if err != nil {
			return nil, err
		}
		m = m.clone()
		m.dropProtocolProperties()
		c := Commit{Operation: op, Parameters: params, Metadata: m, Base: s}
		if p != s.protocol {
			c.Protocol = p
		}
		if err := s.trackRows(&c); err != nil {
			return nil, err
		}
		r, err := t.Commit(ctx, c)
		var conflict *ConflictError
		if err == nil {
			return r.Snapshot, nil
		}
		if !errors.As(err, &conflict) || try >= t.opts.Attempts {
			return nil, err
		}
		if s, err = t.Refresh(ctx); err != nil {
			return nil, err
		}
	}
	return nil, err
}
