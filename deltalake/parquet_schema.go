package deltalake

import (
	"encoding/json"
	"fmt"

	"github.com/parquet-go/parquet-go/deprecated"
	"github.com/parquet-go/parquet-go/encoding/thrift"
	"github.com/parquet-go/parquet-go/format"
)

// pqNode is one node of the Parquet schema that our files are written with. It
// mirrors a Delta type; the repeated groups of lists and maps are implied.
type pqNode struct {
	typ          *Type
	name         string // logical name with its parents, for messages
	physicalName string
	optional     bool
	maxRep       uint8 // repetition level of the node's own repetition (lists, maps) or of its parent
	children     []*pqNode
	leaf         *leafWriter // of a primitive
	nulls        int64       // null lists or maps written so far
}

// addNulls counts k null rows in the lists and maps at and below n that no list
// or map holds.
func (n *pqNode) addNulls(k int64) {
	switch n.typ.Kind {
	case KindList, KindMap:
		n.nulls += k
	case KindStruct:
		for _, c := range n.children {
			c.addNulls(k)
		}
	}
}

// pqSchema collects the flat schema and the leaves in order.
type pqSchema struct {
	elements []format.SchemaElement
	leaves   []*leafWriter
	roots    []*pqNode
}

func newPqSchema(fields []Field, named func(f *Field) (string, int32)) *pqSchema {
	s := &pqSchema{}
	root := format.SchemaElement{Name: "schema", NumChildren: thrift.New(int32(len(fields)))}
	s.elements = append(s.elements, root)
	for i := range fields {
		f := &fields[i]
		name, id := named(f)
		s.roots = append(s.roots, s.add(f.Type, f.Name, name, id, f.Nullable, nil, 0, 0, named))
	}
	return s
}

// add appends the node and its children; path, rep and def are those of the
// parent.
func (s *pqSchema) add(t *Type, logical, name string, id int32, optional bool, path []string, rep, def uint8, named func(f *Field) (string, int32)) *pqNode {
	n := &pqNode{typ: t, name: logical, physicalName: name, optional: optional, maxRep: rep}
	path = append(path[:len(path):len(path)], name)
	el := format.SchemaElement{Name: name, FieldID: id, RepetitionType: thrift.New(format.Required)}
	if optional {
		el.RepetitionType = thrift.New(format.Optional)
		def++
	}
	repeated := func(name string, children int32) {
		s.elements = append(s.elements, format.SchemaElement{Name: name, RepetitionType: thrift.New(format.Repeated), NumChildren: thrift.New(children)})
	}
	switch t.Kind {
	case KindStruct:
		el.NumChildren = thrift.New(int32(len(t.Fields)))
		s.elements = append(s.elements, el)
		for i := range t.Fields {
			f := &t.Fields[i]
			fname, fid := named(f)
			n.children = append(n.children, s.add(f.Type, logical+"."+f.Name, fname, fid, f.Nullable, path, rep, def, named))
		}
	case KindList:
		el.NumChildren = thrift.New(int32(1))
		el.ConvertedType = thrift.New(deprecated.List)
		el.LogicalType = format.LogicalType{Value: &format.ListType{}}
		s.elements = append(s.elements, el)
		repeated("list", 1)
		n.maxRep = rep + 1
		n.children = append(n.children, s.add(t.Elem, logical+".element", "element", 0, t.ContainsNull, append(path, "list"), rep+1, def+1, named))
	case KindMap:
		el.NumChildren = thrift.New(int32(1))
		el.ConvertedType = thrift.New(deprecated.Map)
		el.LogicalType = format.LogicalType{Value: &format.MapType{}}
		s.elements = append(s.elements, el)
		repeated("key_value", 2)
		n.maxRep = rep + 1
		path = append(path, "key_value")
		n.children = append(n.children,
			s.add(t.Key, logical+".key", "key", 0, false, path, rep+1, def+1, named),
			s.add(t.Elem, logical+".value", "value", 0, t.ContainsNull, path, rep+1, def+1, named))
	default:
		n.leaf = &leafWriter{typ: t, name: logical, path: path, maxRep: rep, maxDef: def}
		leafElement(t, &el, n.leaf)
		s.elements = append(s.elements, el)
		s.leaves = append(s.leaves, n.leaf)
	}
	return n
}

func leafElement(t *Type, el *format.SchemaElement, l *leafWriter) {
	micros := format.TimeUnit{Value: &format.MicroSeconds{}}
	phys := format.ByteArray
	switch t.Kind {
	case KindBoolean:
		phys = format.Boolean
	case KindByte:
		phys = format.Int32
		el.ConvertedType = thrift.New(deprecated.Int8)
		el.LogicalType.Value = &format.IntType{BitWidth: 8, IsSigned: true}
	case KindShort:
		phys = format.Int32
		el.ConvertedType = thrift.New(deprecated.Int16)
		el.LogicalType.Value = &format.IntType{BitWidth: 16, IsSigned: true}
	case KindInteger:
		phys = format.Int32
	case KindDate:
		phys = format.Int32
		el.ConvertedType = thrift.New(deprecated.Date)
		el.LogicalType.Value = &format.DateType{}
	case KindLong:
		phys = format.Int64
	case KindTimestamp:
		phys = format.Int64
		el.ConvertedType = thrift.New(deprecated.TimestampMicros)
		el.LogicalType.Value = &format.TimestampType{IsAdjustedToUTC: true, Unit: micros}
	case KindTimestampNTZ:
		phys = format.Int64
		el.LogicalType.Value = &format.TimestampType{IsAdjustedToUTC: false, Unit: micros}
	case KindFloat:
		phys = format.Float
	case KindDouble:
		phys = format.Double
	case KindString:
		el.ConvertedType = thrift.New(deprecated.UTF8)
		el.LogicalType.Value = &format.StringType{}
	case KindDecimal:
		switch {
		case t.Precision <= 9:
			phys = format.Int32
		case t.Precision <= 18:
			phys = format.Int64
		default:
			phys = format.FixedLenByteArray
			l.width = decimalBytes(t.Precision)
			el.TypeLength = thrift.New(int32(l.width))
		}
		el.ConvertedType = thrift.New(deprecated.Decimal)
		el.Precision = thrift.New(int32(t.Precision))
		el.Scale = thrift.New(int32(t.Scale))
		el.LogicalType.Value = &format.DecimalType{Precision: int32(t.Precision), Scale: int32(t.Scale)}
	}
	el.Type = thrift.New(phys)
	l.phys = phys
}

// The annotations of column mapping in a field's metadata.
const (
	mapIDKey   = "delta.columnMapping.id"
	mapNameKey = "delta.columnMapping.physicalName"
)

// physical returns the name and the field id of f in data files; without column
// mapping they are the logical name and 0.
func (f *Field) physical(mapped bool) (string, int32) {
	if !mapped {
		return f.Name, 0
	}
	name, id := f.Name, int32(0)
	if raw, ok := f.Metadata[mapNameKey]; ok {
		var s string
		if json.Unmarshal(raw, &s) == nil && s != "" {
			name = s
		}
	}
	if raw, ok := f.Metadata[mapIDKey]; ok {
		if _, err := fmt.Sscan(string(raw), &id); err != nil {
			id = 0
		}
	}
	return name, id
}
