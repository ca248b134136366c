package deltalake

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"strings"
	"testing"
)

// Files that wait to be committed are compared with the table that they would land
// on: what fits it may be committed, and reads as it was written; the rest is refused
// by the name of what does not fit.
func TestCheckFiles(t *testing.T) {
	ctx := context.Background()
	str, long := Of(KindString), Of(KindLong)
	inner := func(required bool) *Type {
		return StructOf(Field{Name: "x", Type: long, Nullable: !required}, Col("y", str))
	}
	schema := func() *Schema {
		return NewSchema(Col("id", Of(KindInteger)), Col("name", str), Col("st", inner(false)), Col("list", ListOf(inner(false))), Col("map", MapOf(str, long)), Col("part", str))
	}
	batch := func(t *testing.T) *Batch {
		return modelBatch(t, schema(), [][]any{
			{int64(1), "a", []any{int64(1), "y"}, []any{[]any{int64(1), nil}}, []any{[]any{"k", int64(1)}}, "p"},
			{int64(2), nil, nil, []any{}, nil, "p"},
			{int64(3), "c", []any{int64(3), nil}, nil, []any{[]any{"k", nil}}, nil},
			{int64(4), "d", []any{int64(4), nil}, []any{[]any{nil, "only"}}, []any{}, "q"},
		})
	}
	type change func(m *Metadata, s *Schema)
	field := func(name string, f func(*Field)) change {
		return func(_ *Metadata, s *Schema) { f(&s.Fields[s.Index(name)]) }
	}
	required := func(name string) change { return field(name, func(f *Field) { f.Nullable = false }) }
	typed := func(name string, typ *Type) change { return field(name, func(f *Field) { f.Type = typ }) }
	noNulls := func(t *Type) *Type { c := *t; c.ContainsNull = false; return &c }
	for _, tt := range []struct {
		name   string
		change change
		want   string // "" when the files fit
	}{
		{"nothing", func(*Metadata, *Schema) {}, ""},
		{"required, without nulls", required("id"), ""},
		{"required, with nulls", required("name"), `column "name" may not be null`},
		{"required partition column", required("part"), `column "part" may not be null`},
		{"required struct", required("st"), `column "st" may not be null`},
		{"required member, of structs that are there", typed("st", inner(true)), ""},
		{"required member of elements", typed("list", ListOf(inner(true))), `column "list.element.x" may not be null`},
		{"required map values", typed("map", noNulls(MapOf(str, long))), `column "map.element" may not be null`},
		{"wider", typed("id", long), ""},
		{"narrower", typed("id", Of(KindShort)), `changed column "id"`},
		{"other member", typed("st", StructOf(Col("x", str), Col("y", str))), `changed column "st`},
		{"member less", typed("st", StructOf(Col("x", long))), `dropped column "st.y"`},
		{"member more", typed("st", StructOf(append(inner(false).Fields, Col("z", long))...)), ""},
		{"column less", func(_ *Metadata, s *Schema) { s.Fields = s.Fields[1:] }, `dropped column "id"`},
		{"column more", func(_ *Metadata, s *Schema) { s.Fields = append(s.Fields, Col("more", str)) }, ""},
		{"required column more", func(_ *Metadata, s *Schema) { s.Fields = append(s.Fields, Field{Name: "more", Type: str}) }, `column "more" may not be null`},
		{"column more with a default", func(_ *Metadata, s *Schema) {
			s.Fields = append(s.Fields, Field{Name: "more", Type: str, Nullable: true, Metadata: map[string]json.RawMessage{"CURRENT_DEFAULT": json.RawMessage(`"'x'"`)}})
		}, `gave column "more" the default`},
		{"constraint", func(m *Metadata, _ *Schema) { m.Configuration["delta.constraints.c"] = "id < 4" }, "constraint c (id < 4) is violated"},
		{"constraint that rows follow", func(m *Metadata, _ *Schema) { m.Configuration["delta.constraints.c"] = "id < 5" }, ""},
		{"no partitions", func(m *Metadata, _ *Schema) { m.PartitionColumns = nil }, "changed the partition columns"},
		{"other partitions", func(m *Metadata, _ *Schema) { m.PartitionColumns = []string{"name"} }, `changed partition column "name"`},
		{"other partition type", typed("part", long), `changed partition column "part"`},
		{"column mapping", func(m *Metadata, s *Schema) {
			m.Configuration["delta.columnMapping.mode"] = "name"
			if err := mapExisting(m); err != nil {
				t.Fatal(err)
			}
			mapped, err := m.parseSchema()
			if err != nil {
				t.Fatal(err)
			}
			*s = *mapped
		}, ""},
		{"columns of the same names under column mapping", func(m *Metadata, s *Schema) {
			m.Configuration["delta.columnMapping.mode"] = "name"
			next := int32(0)
			s.Fields = mapFields(s.Fields, &next)
		}, `changed partition column "part"`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			store := NewMemoryStore(nil)
			tbl, err := Create(ctx, store, CreateOptions{Schema: schema(), PartitionColumns: []string{"part"}})
			if err != nil {
				t.Fatal(err)
			}
			was := tbl.Latest().FileSpec()
			w := NewPartitionWriter(ctx, store, was, WriteOptions{})
			if err := w.Write(batch(t)); err != nil {
				t.Fatal(err)
			}
			adds, err := w.Close()
			if err != nil {
				t.Fatal(err)
			}
			m, s := tbl.Latest().metadata.clone(), schema()
			m.Configuration = maps.Clone(m.Configuration)
			tt.change(m, s)
			if err := m.setSchema(s, 0); err != nil {
				t.Fatal(err)
			}
			p := &Protocol{MinReaderVersion: 3, MinWriterVersion: 7, ReaderFeatures: &[]string{"columnMapping"},
				WriterFeatures: &[]string{"columnMapping", "checkConstraints", "invariants", "allowColumnDefaults"}}
			if _, err := tbl.Commit(ctx, Commit{Base: tbl.Latest(), Metadata: m, Protocol: p}); err != nil {
				t.Fatal(err)
			}
			now := tbl.Latest()
			if same := was.Layout() == now.spec.Layout(); same != (tt.name == "nothing" || strings.HasPrefix(tt.name, "constraint")) {
				t.Errorf("equal layouts: %v", same)
			}
			err = tbl.CheckFiles(ctx, now, adds)
			if tt.want != "" {
				var conflict *ConflictError
				var broken *ConstraintError
				if err == nil || !strings.Contains(err.Error(), tt.want) || !errors.As(err, &conflict) && !errors.As(err, &broken) {
					t.Fatalf("got %v, want %s", err, tt.want)
				}
				return
			}
			if err == nil {
				_, err = tbl.Commit(ctx, Commit{Adds: adds, Spec: now.FileSpec()})
			}
			if err != nil {
				t.Fatal(err)
			}
			rows, err := plainRows(ctx, tbl.Latest())
			if err != nil || len(rows) != 4 {
				t.Fatalf("%d rows, %v", len(rows), err)
			}
		})
	}
}

// A partition column that may not be null refuses rows without a value for it.
func TestRequiredPartitionColumn(t *testing.T) {
	ctx := context.Background()
	schema := NewSchema(Col("id", Of(KindLong)), Field{Name: "part", Type: Of(KindString)})
	tbl, err := Create(ctx, NewMemoryStore(nil), CreateOptions{Schema: schema, PartitionColumns: []string{"part"}})
	if err != nil {
		t.Fatal(err)
	}
	_, err = tbl.Append(ctx, Batches(modelBatch(t, schema, [][]any{{int64(1), nil}})), WriteOptions{})
	if err == nil || !strings.Contains(err.Error(), `column "part" is not nullable`) {
		t.Fatalf("got %v", err)
	}
	if left := leftovers(t, tbl.Store()); len(left) > 0 || tbl.Latest().NumFiles() > 0 {
		t.Errorf("left %v", left)
	}
}
