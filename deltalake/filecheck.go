package deltalake

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
)

// Layout identifies how files of the spec hold a table: the columns by their names
// in files, their types, whether they may be null, and the partition columns. Specs
// of equal layout can stand for each other's files; the rules of rows are apart, in
// Rules. It is meant to be noted with files that are committed later, perhaps by
// another process.
func (s *FileSpec) Layout() string {
	h := sha256.New()
	fmt.Fprintf(h, "%q\n", mappingMode(s.meta))
	for _, f := range s.partition {
		fmt.Fprintf(h, "partition %s\n", f.layout(s.mapped))
	}
	fields := slices.Clone(s.data.Fields)
	slices.SortFunc(fields, func(a, b Field) int { return strings.Compare(a.layout(s.mapped), b.layout(s.mapped)) })
	for _, f := range fields {
		fmt.Fprintf(h, "%s\n", f.layout(s.mapped))
	}
	return hex.EncodeToString(h.Sum(nil)[:8])
}

func (f *Field) layout(mapped bool) string {
	name, id := f.physical(mapped)
	return fmt.Sprintf("%q %d %v %s", name, id, f.Nullable, f.Type.layout(mapped))
}

func (t *Type) layout(mapped bool) string {
	switch t.Kind {
	case KindStruct:
		out := "struct("
		for i := range t.Fields {
			out += t.Fields[i].layout(mapped) + ","
		}
		return out + ")"
	case KindList:
		return fmt.Sprintf("list(%s %v)", t.Elem.layout(mapped), t.ContainsNull)
	case KindMap:
		return fmt.Sprintf("map(%s %s %v)", t.Key.layout(mapped), t.Elem.layout(mapped), t.ContainsNull)
	}
	return t.String()
}

// CheckFiles reads files that are not in the table yet and tells whether s can take
// them, whatever they were written for: their columns must be columns of s of a type
// that fits, with a value in each row where s asks for one, and their rows must
// follow the constraints, invariants and generated columns of s. A file that does not
// fit is a *ConflictError of class MetadataChanged, the first row that breaks a rule
// a *ConstraintError. Commit the files with the FileSpec of s.
func (t *Table) CheckFiles(ctx context.Context, s *Snapshot, files []*AddFile) error {
	rules, err := s.spec.constraints()
	if err != nil {
		return err
	}
	for _, a := range files {
		if err := s.checkLayout(ctx, a); err != nil {
			return err
		}
		err := s.readPath(ctx, a.Path, a.Size, a.PartitionValues, nil, s.spec.schema, nil, defaultBatchRows, func(b *Batch, _ int64, _ []int32) error {
			for i := range b.Schema.Fields {
				f := &b.Schema.Fields[i]
				if name := b.Columns[i].nullIn(f.Name, f.Nullable, nil); name != "" {
					return &ConstraintError{fmt.Sprintf("column %q may not be null", name), name + " IS NOT NULL", name + " = NULL"}
				}
			}
			return checkConstraints(rules, b)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// checkLayout compares a file's partition values and columns with the table's.
func (s *Snapshot) checkLayout(ctx context.Context, a *AddFile) error {
	conflict := func(format string, args ...any) error {
		return &ConflictError{MetadataChanged, s.version, fmt.Sprintf(format, args...) + " (file " + a.Path + ")"}
	}
	for i := range s.spec.partition {
		f := &s.spec.partition[i]
		name, _ := f.physical(s.spec.mapped)
		text, ok := a.PartitionValues[name]
		if !ok || ParsePartitionValue(NewVector(f.Type), text) != nil {
			return conflict("changed partition column %q", f.Name)
		}
	}
	if len(a.PartitionValues) != len(s.spec.partition) {
		return conflict("changed the partition columns")
	}
	store, path, err := s.table.resolve(a.Path)
	if err != nil {
		return err
	}
	f, err := openParquet(ctx, store, path, a.Size)
	if err != nil {
		return err
	}
	p, _, err := planFile(f, nil, s.spec)
	if err != nil {
		return err
	}
	for i := range s.spec.data.Fields {
		c := &s.spec.data.Fields[i]
		cp, err := p.plan(c.Type, p.find(f.root, c), c.Name)
		if err != nil {
			return conflict("changed %s", strings.TrimPrefix(err.Error(), "deltalake: "))
		}
		if cp.node == nil {
			if text, ok := c.Metadata["CURRENT_DEFAULT"]; ok {
				return conflict("gave column %q the default %s", c.Name, text)
			}
			continue
		}
		if name, old, now := cp.otherType(c.Name); name != "" {
			return conflict("changed column %q from %s to %s", name, old, now)
		}
	}
	if name := f.root.unread(p, ""); name != "" {
		return conflict("dropped column %q", name)
	}
	return nil
}

// otherType names the first column of the plan whose values in the file are not of
// its type, nor of one that may become it; "" without.
func (cp *colPlan) otherType(name string) (column, old, now string) {
	if cp.node == nil {
		return "", "", ""
	}
	if cp.typ.primitive() {
		t, err := cp.node.deltaType()
		if err != nil {
			return name, "something without a type", cp.typ.String()
		}
		if !t.Equal(cp.typ) && !widens(t, cp.typ) {
			return name, t.String(), cp.typ.String()
		}
		return "", "", ""
	}
	for i, c := range cp.children {
		child := name + ".element"
		if cp.typ.Kind == KindStruct {
			child = name + "." + cp.typ.Fields[i].Name
		}
		if column, old, now = c.otherType(child); column != "" {
			return column, old, now
		}
	}
	return "", "", ""
}

// unread names the first column below c that a plan has no use for; "" without.
func (c *pqCol) unread(p *planner, name string) string {
	if c.leaf >= 0 {
		if _, ok := p.slots[c.leaf]; !ok {
			return name
		}
		return ""
	}
	for _, n := range c.nodes {
		if bad := n.unread(p, strings.TrimPrefix(name+"."+n.name, ".")); bad != "" {
			return bad
		}
	}
	return ""
}

// nullIn names the first column of v, or below it, that is null where it may not be;
// "" without. present tells which rows are there at all; nil means all.
func (v *Vector) nullIn(name string, nullable bool, present []bool) string {
	if nullable && v.Type.primitive() || v.Valid == nil && v.Type.primitive() {
		return ""
	}
	here := make([]bool, v.Len)
	for i := range here {
		here[i] = present == nil || present[i]
		if v.Null(i) {
			if here[i] && !nullable {
				return name
			}
			here[i] = false
		}
	}
	switch v.Type.Kind {
	case KindStruct:
		for i, c := range v.Children {
			f := &v.Type.Fields[i]
			if bad := c.nullIn(name+"."+f.Name, f.Nullable, here); bad != "" {
				return bad
			}
		}
	case KindList, KindMap:
		elems := make([]bool, v.Children[0].Len)
		for i := range here {
			for k := v.Offsets[i]; here[i] && k < v.Offsets[i+1]; k++ {
				elems[k] = true
			}
		}
		if v.Type.Kind == KindMap {
			if bad := v.Children[0].nullIn(name+".key", false, elems); bad != "" {
				return bad
			}
		}
		return v.Children[len(v.Children)-1].nullIn(name+".element", v.Type.ContainsNull, elems)
	}
	return ""
}
