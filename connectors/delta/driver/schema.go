package driver

import (
	"fmt"
	"slices"
	"strings"

	"github.com/weirstream/weir/deltalake"
	"github.com/weirstream/weir/internal/codec"
)

// schemaOf derives a table's schema from the columns of a row type. All columns
// can be null, so that later versions of a job may leave some out.
func schemaOf(cols []codec.Column) *deltalake.Schema {
	s := &deltalake.Schema{}
	for i := range cols {
		s.Fields = append(s.Fields, deltalake.Col(cols[i].Name, typeOf(&cols[i])))
	}
	return s
}

func typeOf(c *codec.Column) *deltalake.Type {
	switch c.Type {
	case codec.ColBool:
		return deltalake.Of(deltalake.KindBoolean)
	case codec.ColInt:
		return deltalake.Of(deltalake.KindInteger)
	case codec.ColLong:
		return deltalake.Of(deltalake.KindLong)
	case codec.ColFloat:
		return deltalake.Of(deltalake.KindFloat)
	case codec.ColDouble:
		return deltalake.Of(deltalake.KindDouble)
	case codec.ColString:
		return deltalake.Of(deltalake.KindString)
	case codec.ColBytes:
		return deltalake.Of(deltalake.KindBinary)
	case codec.ColTimestamp:
		return deltalake.Of(deltalake.KindTimestamp)
	case codec.ColDecimal:
		return deltalake.DecimalOf(c.Precision, c.Scale)
	case codec.ColList:
		return deltalake.ListOf(typeOf(c.Elem))
	case codec.ColMap:
		return deltalake.MapOf(typeOf(c.Key), typeOf(c.Elem))
	case codec.ColStruct:
		return deltalake.StructOf(schemaOf(c.Fields).Fields...)
	}
	panic(fmt.Sprintf("delta sink: column type %q has no type in tables", c.Type))
}

// accepts tells whether values of type from can be stored as type to without
// loss.
func accepts(to, from *deltalake.Type) bool {
	switch {
	case to.Kind == deltalake.KindLong && from.Kind == deltalake.KindInteger,
		to.Kind == deltalake.KindDouble && from.Kind == deltalake.KindFloat:
		return true
	case to.Kind == deltalake.KindDecimal && from.Kind == deltalake.KindDecimal:
		return to.Scale >= from.Scale && to.Precision-to.Scale >= from.Precision-from.Scale
	case to.Kind != from.Kind:
		return false
	case to.Kind == deltalake.KindList:
		return accepts(to.Elem, from.Elem)
	case to.Kind == deltalake.KindMap:
		return accepts(to.Key, from.Key) && accepts(to.Elem, from.Elem)
	case to.Kind == deltalake.KindStruct:
		return len(mismatches(to.Fields, from.Fields, "")) == 0
	}
	return true
}

// mismatches lists in words why rows of the fields from cannot be stored in a
// table of the fields to.
func mismatches(to, from []deltalake.Field, prefix string) (out []string) {
	find := func(fields []deltalake.Field, name string) *deltalake.Field {
		i := slices.IndexFunc(fields, func(f deltalake.Field) bool { return strings.EqualFold(f.Name, name) })
		if i < 0 {
			return nil
		}
		return &fields[i]
	}
	for i := range from {
		f := &from[i]
		t := find(to, f.Name)
		switch {
		case t == nil:
			out = append(out, fmt.Sprintf("column %q (%s) is not in the table", prefix+f.Name, f.Type))
		case t.Type.Kind == deltalake.KindStruct && f.Type.Kind == deltalake.KindStruct:
			out = append(out, mismatches(t.Type.Fields, f.Type.Fields, prefix+f.Name+".")...)
		case !accepts(t.Type, f.Type):
			out = append(out, fmt.Sprintf("column %q is %s in the table and %s in the rows", prefix+f.Name, t.Type, f.Type))
		}
	}
	for i := range to {
		if !to[i].Nullable && find(from, to[i].Name) == nil {
			out = append(out, fmt.Sprintf("column %q of the table must not be null and is not in the rows", prefix+to[i].Name))
		}
	}
	return out
}

// ungenerated lists in words the columns of a table whose values the table would
// have to make, for rows of the fields from: a sink writes what rows bring, else
// null.
//
// Identity values are refused on purpose: they come from the table's high-water
// mark, which moves with each commit, while the subtasks of a sink write the files of
// an epoch side by side and perhaps while earlier ones wait for theirs. Values that
// a subtask took ahead would be lost or given twice whenever an epoch is aborted or
// another writer commits in between.
func ungenerated(to, from []deltalake.Field) (out []string) {
	for i := range to {
		has := func(key string) bool { _, ok := to[i].Metadata[key]; return ok }
		brought := slices.ContainsFunc(from, func(f deltalake.Field) bool { return strings.EqualFold(f.Name, to[i].Name) })
		switch {
		case has("delta.identity.start"):
			out = append(out, fmt.Sprintf("column %q is an identity column, whose values the table gives out commit by commit, and a sink writes its files before: "+
				"make the key in the job, or append to this table with weir table append", to[i].Name))
		case has("delta.generationExpression") && !brought:
			out = append(out, fmt.Sprintf("column %q is generated, so rows must bring it", to[i].Name))
		case has("CURRENT_DEFAULT") && !brought:
			out = append(out, fmt.Sprintf("column %q has a default, so rows must bring it", to[i].Name))
		}
	}
	return out
}
