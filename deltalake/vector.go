package deltalake

import (
	"fmt"
	"math"
)

// Vector holds the values of one column, or of one member of a nested column,
// for the rows of a batch. The field that Kind's comment names is in use, with
// one slot per row also where the row is null. Valid is nil when no row is null.
//
// A Vector may be filled through its fields or the Append methods, not both at
// once for lists and maps. It is not safe for concurrent use.
type Vector struct {
	Type     *Type
	Len      int    // rows
	Valid    []bool // nil: none is null
	Bools    []bool
	Ints     []int32
	Longs    []int64
	Floats   []float32
	Doubles  []float64
	Decimals []Decimal
	Offsets  []int32 // Len+1 positions, of bytes in Data or of slots in Children
	Data     []byte
	Children []*Vector
}

// NewVector returns an empty vector of type t.
func NewVector(t *Type) *Vector {
	v := &Vector{Type: t}
	switch t.Kind {
	case KindString, KindBinary:
		v.Offsets = []int32{0}
	case KindList:
		v.Offsets = []int32{0}
		v.Children = []*Vector{NewVector(t.Elem)}
	case KindMap:
		v.Offsets = []int32{0}
		v.Children = []*Vector{NewVector(t.Key), NewVector(t.Elem)}
	case KindStruct:
		for _, f := range t.Fields {
			v.Children = append(v.Children, NewVector(f.Type))
		}
	}
	return v
}

// Reset empties the vector and keeps its memory.
func (v *Vector) Reset() {
	v.Len, v.Valid = 0, nil
	v.Bools, v.Ints, v.Longs = v.Bools[:0], v.Ints[:0], v.Longs[:0]
	v.Floats, v.Doubles, v.Decimals, v.Data = v.Floats[:0], v.Doubles[:0], v.Decimals[:0], v.Data[:0]
	if v.Offsets != nil {
		v.Offsets = append(v.Offsets[:0], 0)
	}
	for _, c := range v.Children {
		c.Reset()
	}
}

// Null tells whether row i is null.
func (v *Vector) Null(i int) bool { return v.Valid != nil && !v.Valid[i] }

func (v *Vector) push() {
	v.Len++
	if v.Valid != nil {
		v.Valid = append(v.Valid, true)
	}
}

// AppendNull adds a null row.
func (v *Vector) AppendNull() {
	if v.Valid == nil {
		v.Valid = make([]bool, v.Len, v.Len+16)
		for i := range v.Valid {
			v.Valid[i] = true
		}
	}
	v.appendZero()
	v.Valid[v.Len-1] = false
}

// appendZero adds a row with the zero value of the type.
func (v *Vector) appendZero() {
	switch v.Type.Kind {
	case KindBoolean:
		v.Bools = append(v.Bools, false)
	case KindByte, KindShort, KindInteger, KindDate:
		v.Ints = append(v.Ints, 0)
	case KindLong, KindTimestamp, KindTimestampNTZ:
		v.Longs = append(v.Longs, 0)
	case KindFloat:
		v.Floats = append(v.Floats, 0)
	case KindDouble:
		v.Doubles = append(v.Doubles, 0)
	case KindDecimal:
		v.Decimals = append(v.Decimals, Decimal{})
	case KindString, KindBinary, KindList, KindMap:
		v.Offsets = append(v.Offsets, v.Offsets[len(v.Offsets)-1])
	case KindStruct:
		for i, c := range v.Children {
			if v.Type.Fields[i].Nullable {
				c.AppendNull()
			} else {
				c.appendZero()
			}
		}
	}
	v.push()
}

// AppendBool adds a boolean.
func (v *Vector) AppendBool(x bool) { v.Bools = append(v.Bools, x); v.push() }

// AppendInt adds a byte, short, integer or date (days since 1970-01-01).
func (v *Vector) AppendInt(x int32) { v.Ints = append(v.Ints, x); v.push() }

// AppendLong adds a long or a timestamp (microseconds since 1970-01-01).
func (v *Vector) AppendLong(x int64) { v.Longs = append(v.Longs, x); v.push() }

// AppendFloat adds a float.
func (v *Vector) AppendFloat(x float32) { v.Floats = append(v.Floats, x); v.push() }

// AppendDouble adds a double.
func (v *Vector) AppendDouble(x float64) { v.Doubles = append(v.Doubles, x); v.push() }

// AppendDecimal adds an unscaled decimal value.
func (v *Vector) AppendDecimal(x Decimal) { v.Decimals = append(v.Decimals, x); v.push() }

// AppendString adds a string, whose bytes are copied.
func (v *Vector) AppendString(x string) {
	v.Data = append(v.Data, x...)
	v.Offsets = append(v.Offsets, int32(len(v.Data)))
	v.push()
}

// AppendBytes adds a binary value or a string in UTF-8, copied.
func (v *Vector) AppendBytes(x []byte) {
	v.Data = append(v.Data, x...)
	v.Offsets = append(v.Offsets, int32(len(v.Data)))
	v.push()
}

// AppendElements closes a list or map row whose elements were appended to the
// children, or a struct row whose members were.
func (v *Vector) AppendElements() {
	if v.Type.Kind != KindStruct {
		v.Offsets = append(v.Offsets, int32(v.Children[0].Len))
	}
	v.push()
}

// Bytes returns the bytes of row i of a string or binary vector; they belong to
// the vector.
func (v *Vector) Bytes(i int) []byte { return v.Data[v.Offsets[i]:v.Offsets[i+1]] }

// String returns row i of a string or binary vector as a copy.
func (v *Vector) StringAt(i int) string { return string(v.Bytes(i)) }

// check tells whether the slots agree with Len and offsets are in order.
func (v *Vector) check(name string) error {
	slots := v.Len
	switch v.Type.Kind {
	case KindBoolean:
		slots = len(v.Bools)
	case KindByte, KindShort, KindInteger, KindDate:
		slots = len(v.Ints)
	case KindLong, KindTimestamp, KindTimestampNTZ:
		slots = len(v.Longs)
	case KindFloat:
		slots = len(v.Floats)
	case KindDouble:
		slots = len(v.Doubles)
	case KindDecimal:
		slots = len(v.Decimals)
	case KindString, KindBinary, KindList, KindMap:
		slots = len(v.Offsets) - 1
	}
	if slots != v.Len || v.Valid != nil && len(v.Valid) != v.Len {
		return fmt.Errorf("deltalake: column %q: %d slots and %d validity marks for %d rows", name, slots, len(v.Valid), v.Len)
	}
	if v.Offsets != nil && v.Len >= 0 {
		end := len(v.Data)
		if len(v.Children) > 0 {
			end = v.Children[0].Len
		}
		prev := int32(0)
		for _, o := range v.Offsets {
			if o < prev {
				return fmt.Errorf("deltalake: column %q: offsets go back (more than %d bytes in one batch?)", name, math.MaxInt32)
			}
			prev = o
		}
		if int(prev) > end {
			return fmt.Errorf("deltalake: column %q: offsets point behind the data", name)
		}
	}
	for i, c := range v.Children {
		child := name
		if v.Type.Kind == KindStruct {
			child += "." + v.Type.Fields[i].Name
			if c.Len != v.Len {
				return fmt.Errorf("deltalake: column %q has %d rows, its struct %d", child, c.Len, v.Len)
			}
		}
		if err := c.check(child); err != nil {
			return err
		}
	}
	return nil
}

// Batch is a set of rows in columns. Batches that a scan yields belong to the
// caller until it asks for the next; what it keeps, it copies.
type Batch struct {
	Schema  *Schema
	Len     int // rows
	Columns []*Vector
}

// NewBatch returns an empty batch of the schema's columns.
func NewBatch(s *Schema) *Batch {
	b := &Batch{Schema: s, Columns: make([]*Vector, len(s.Fields))}
	for i, f := range s.Fields {
		b.Columns[i] = NewVector(f.Type)
	}
	return b
}

// Reset empties the batch and keeps its memory.
func (b *Batch) Reset() {
	b.Len = 0
	for _, c := range b.Columns {
		c.Reset()
	}
}

// Column returns the vector of the named column, or nil.
func (b *Batch) Column(name string) *Vector {
	if i := b.Schema.Index(name); i >= 0 {
		return b.Columns[i]
	}
	return nil
}

// appendFrom adds row i of src, which has the same type.
func (v *Vector) appendFrom(src *Vector, i int) {
	if src.Null(i) {
		v.AppendNull()
		return
	}
	switch v.Type.Kind {
	case KindBoolean:
		v.AppendBool(src.Bools[i])
	case KindByte, KindShort, KindInteger, KindDate:
		v.AppendInt(src.Ints[i])
	case KindLong, KindTimestamp, KindTimestampNTZ:
		v.AppendLong(src.Longs[i])
	case KindFloat:
		v.AppendFloat(src.Floats[i])
	case KindDouble:
		v.AppendDouble(src.Doubles[i])
	case KindDecimal:
		v.AppendDecimal(src.Decimals[i])
	case KindString, KindBinary:
		v.AppendBytes(src.Bytes(i))
	case KindStruct:
		for j, c := range v.Children {
			c.appendFrom(src.Children[j], i)
		}
		v.AppendElements()
	case KindList, KindMap:
		for k := src.Offsets[i]; k < src.Offsets[i+1]; k++ {
			for j, c := range v.Children {
				c.appendFrom(src.Children[j], int(k))
			}
		}
		v.AppendElements()
	}
}

// Gather adds the given rows of src, in order; both have the same type.
func (v *Vector) Gather(src *Vector, rows []int32) {
	if !v.Type.primitive() {
		for _, i := range rows {
			v.appendFrom(src, int(i))
		}
		return
	}
	for i := 0; i < len(rows); {
		j := i + 1
		for j < len(rows) && rows[j] == rows[j-1]+1 {
			j++
		}
		v.appendSlots(src, int(rows[i]), int(rows[i])+j-i)
		i = j
	}
}

// appendSlots adds rows [lo, hi) of a primitive vector, nulls included.
func (v *Vector) appendSlots(src *Vector, lo, hi int) {
	if src.Valid != nil && v.Valid == nil {
		v.Valid = make([]bool, v.Len, v.Len+hi-lo)
		for i := range v.Valid {
			v.Valid[i] = true
		}
	}
	v.appendRun(src, lo, hi)
	if src.Valid != nil {
		copy(v.Valid[v.Len-(hi-lo):], src.Valid[lo:hi])
	}
}

// Gather adds the given rows of src, which has the same schema.
func (b *Batch) Gather(src *Batch, rows []int32) {
	for i, c := range b.Columns {
		c.Gather(src.Columns[i], rows)
	}
	b.Len += len(rows)
}
