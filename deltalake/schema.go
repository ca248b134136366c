package deltalake

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// Kind says which of Delta's types a Type is.
type Kind uint8

// The kinds of Delta's types. The comments name the Vector field that holds
// their values.
const (
	KindInvalid      Kind = iota
	KindBoolean           // Bools
	KindByte              // Ints
	KindShort             // Ints
	KindInteger           // Ints
	KindLong              // Longs
	KindFloat             // Floats
	KindDouble            // Doubles
	KindDecimal           // Decimals
	KindString            // Offsets and Data
	KindBinary            // Offsets and Data
	KindDate              // Ints: days since 1970-01-01
	KindTimestamp         // Longs: microseconds since 1970-01-01 UTC
	KindTimestampNTZ      // Longs: microseconds of a wall clock without zone
	KindStruct            // Children, one per field
	KindList              // Offsets and Children[0]
	KindMap               // Offsets, Children[0] keys and Children[1] values
)

var kindNames = [...]string{"invalid", "boolean", "byte", "short", "integer", "long", "float", "double", "decimal",
	"string", "binary", "date", "timestamp", "timestamp_ntz", "struct", "array", "map"}

// String returns Delta's name of the kind.
func (k Kind) String() string {
	if int(k) < len(kindNames) {
		return kindNames[k]
	}
	return "invalid"
}

// Type is one Delta data type. Types are immutable once they are part of a
// table; they may be shared.
type Type struct {
	Kind         Kind
	Precision    int     // of a decimal, 1 to 38
	Scale        int     // of a decimal, 0 to Precision
	Fields       []Field // of a struct
	Elem         *Type   // of a list: its elements; of a map: its values
	Key          *Type   // of a map
	ContainsNull bool    // whether list elements or map values may be null

	void bool // Spark's void, which no file holds: a boolean that is always null
}

// Field is one column of a table or one member of a struct.
type Field struct {
	Name     string
	Type     *Type
	Nullable bool
	// Metadata holds Delta's annotations (column mapping, generation expressions,
	// comments) as raw JSON by key. It may be nil.
	Metadata map[string]json.RawMessage
}

// Schema is the ordered columns of a table.
type Schema struct {
	Fields []Field
}

// Of returns the type of a primitive kind; it panics for decimal, struct, list
// and map, which need parameters.
func Of(k Kind) *Type {
	if k == KindInvalid || k == KindDecimal || k >= KindStruct {
		panic("deltalake: kind " + k.String() + " needs parameters")
	}
	return &Type{Kind: k}
}

// DecimalOf returns decimal(precision, scale).
func DecimalOf(precision, scale int) *Type {
	return &Type{Kind: KindDecimal, Precision: precision, Scale: scale}
}

// ListOf returns a list of elem whose elements may be null.
func ListOf(elem *Type) *Type { return &Type{Kind: KindList, Elem: elem, ContainsNull: true} }

// MapOf returns a map from key to value whose values may be null.
func MapOf(key, value *Type) *Type {
	return &Type{Kind: KindMap, Key: key, Elem: value, ContainsNull: true}
}

// StructOf returns a struct of the given fields.
func StructOf(fields ...Field) *Type { return &Type{Kind: KindStruct, Fields: fields} }

// NewSchema returns a schema of the given columns.
func NewSchema(fields ...Field) *Schema { return &Schema{Fields: fields} }

// Col returns a nullable field.
func Col(name string, t *Type) Field { return Field{Name: name, Type: t, Nullable: true} }

// String returns the type as Delta and SQL write it, for example
// "array<decimal(10,2)>".
func (t *Type) String() string {
	if t.void {
		return "void"
	}
	switch t.Kind {
	case KindDecimal:
		return fmt.Sprintf("decimal(%d,%d)", t.Precision, t.Scale)
	case KindList:
		return "array<" + t.Elem.String() + ">"
	case KindMap:
		return "map<" + t.Key.String() + "," + t.Elem.String() + ">"
	case KindStruct:
		var b strings.Builder
		b.WriteString("struct<")
		for i, f := range t.Fields {
			if i > 0 {
				b.WriteByte(',')
			}
			b.WriteString(f.Name + ":" + f.Type.String())
		}
		return b.String() + ">"
	default:
		return t.Kind.String()
	}
}

// Equal tells whether two types hold the same values in the same shape. Field
// metadata and nullability are ignored.
func (t *Type) Equal(u *Type) bool {
	if t.Kind != u.Kind || t.Precision != u.Precision || t.Scale != u.Scale || len(t.Fields) != len(u.Fields) {
		return false
	}
	for i := range t.Fields {
		if t.Fields[i].Name != u.Fields[i].Name || !t.Fields[i].Type.Equal(u.Fields[i].Type) {
			return false
		}
	}
	if (t.Elem == nil) != (u.Elem == nil) || (t.Key == nil) != (u.Key == nil) {
		return false
	}
	return (t.Elem == nil || t.Elem.Equal(u.Elem)) && (t.Key == nil || t.Key.Equal(u.Key))
}

// primitive tells whether the type has no inner types.
func (t *Type) primitive() bool { return t.Kind < KindStruct }

// MarshalJSON writes the type in Delta's schema format.
func (t *Type) MarshalJSON() ([]byte, error) {
	switch t.Kind {
	case KindStruct:
		return (&Schema{t.Fields}).MarshalJSON()
	case KindList:
		return marshalPlain(struct {
			Type     string `json:"type"`
			Elem     *Type  `json:"elementType"`
			Nullable bool   `json:"containsNull"`
		}{"array", t.Elem, t.ContainsNull})
	case KindMap:
		return marshalPlain(struct {
			Type     string `json:"type"`
			Key      *Type  `json:"keyType"`
			Value    *Type  `json:"valueType"`
			Nullable bool   `json:"valueContainsNull"`
		}{"map", t.Key, t.Elem, t.ContainsNull})
	case KindInvalid:
		return nil, errors.New("deltalake: a type of the schema is not set")
	default:
		return marshalPlain(t.String())
	}
}

// UnmarshalJSON reads Delta's schema format.
func (t *Type) UnmarshalJSON(data []byte) error {
	return t.decode(data, 0)
}

// maxTypeDepth bounds nesting, so that a hostile schema cannot exhaust the stack.
const maxTypeDepth = 100

func (t *Type) decode(data []byte, depth int) error {
	if depth > maxTypeDepth {
		return errors.New("deltalake: the schema nests deeper than 100 types")
	}
	data = bytes.TrimSpace(data)
	if len(data) > 0 && data[0] == '"' {
		var s string
		if err := json.Unmarshal(data, &s); err != nil {
			return fmt.Errorf("deltalake: schema: %w", err)
		}
		p, err := parsePrimitive(s)
		if err != nil {
			return err
		}
		*t = *p
		return nil
	}
	var j struct {
		Type              string          `json:"type"`
		Fields            []fieldJSON     `json:"fields"`
		ElementType       json.RawMessage `json:"elementType"`
		ContainsNull      bool            `json:"containsNull"`
		KeyType           json.RawMessage `json:"keyType"`
		ValueType         json.RawMessage `json:"valueType"`
		ValueContainsNull bool            `json:"valueContainsNull"`
	}
	if err := json.Unmarshal(data, &j); err != nil {
		return fmt.Errorf("deltalake: schema: %w", err)
	}
	inner := func(raw json.RawMessage) (*Type, error) {
		if raw == nil {
			return nil, fmt.Errorf("deltalake: schema: type %q lacks its inner type", j.Type)
		}
		var in Type
		return &in, in.decode(raw, depth+1)
	}
	var err error
	switch j.Type {
	case "struct":
		*t = Type{Kind: KindStruct, Fields: make([]Field, 0, len(j.Fields))}
		for _, f := range j.Fields {
			ft, err := inner(f.Type)
			if err != nil {
				return fmt.Errorf("%w (field %q)", err, f.Name)
			}
			t.Fields = append(t.Fields, Field{f.Name, ft, f.Nullable, f.Metadata})
		}
	case "array":
		*t = Type{Kind: KindList, ContainsNull: j.ContainsNull}
		t.Elem, err = inner(j.ElementType)
	case "map":
		*t = Type{Kind: KindMap, ContainsNull: j.ValueContainsNull}
		if t.Key, err = inner(j.KeyType); err == nil {
			t.Elem, err = inner(j.ValueType)
		}
	default:
		return fmt.Errorf("deltalake: type %q is not supported", j.Type)
	}
	return err
}

type fieldJSON struct {
	Name     string                     `json:"name"`
	Type     json.RawMessage            `json:"type"`
	Nullable bool                       `json:"nullable"`
	Metadata map[string]json.RawMessage `json:"metadata"`
}

// MarshalJSON writes the schema in Delta's format.
func (s *Schema) MarshalJSON() ([]byte, error) {
	var b bytes.Buffer
	b.WriteString(`{"type":"struct","fields":[`)
	for i, f := range s.Fields {
		if i > 0 {
			b.WriteByte(',')
		}
		if f.Type == nil {
			return nil, fmt.Errorf("deltalake: column %q has no type", f.Name)
		}
		meta := f.Metadata
		if meta == nil {
			meta = map[string]json.RawMessage{}
		}
		raw, err := marshalPlain(struct {
			Name     string                     `json:"name"`
			Type     *Type                      `json:"type"`
			Nullable bool                       `json:"nullable"`
			Metadata map[string]json.RawMessage `json:"metadata"`
		}{f.Name, f.Type, f.Nullable, meta})
		if err != nil {
			return nil, err
		}
		b.Write(raw)
	}
	b.WriteString("]}")
	return b.Bytes(), nil
}

// UnmarshalJSON reads Delta's schema format.
func (s *Schema) UnmarshalJSON(data []byte) error {
	var t Type
	if err := t.UnmarshalJSON(data); err != nil {
		return err
	}
	if t.Kind != KindStruct {
		return fmt.Errorf("deltalake: a table's schema must be a struct, not %s", t.Kind)
	}
	s.Fields = t.Fields
	return nil
}

// Struct returns the schema as a struct type, sharing its fields.
func (s *Schema) Struct() *Type { return &Type{Kind: KindStruct, Fields: s.Fields} }

// Index returns the position of the column called name, letter case ignored as
// Delta does, or -1.
func (s *Schema) Index(name string) int { return fieldIndex(s.Fields, name) }

func fieldIndex(fields []Field, name string) int {
	for i := range fields {
		if fields[i].Name == name {
			return i
		}
	}
	for i := range fields {
		if strings.EqualFold(fields[i].Name, name) {
			return i
		}
	}
	return -1
}

// Without returns the schema without the named columns.
func (s *Schema) Without(names []string) *Schema {
	out := &Schema{}
	for _, f := range s.Fields {
		if !containsFold(names, f.Name) {
			out.Fields = append(out.Fields, f)
		}
	}
	return out
}

func containsFold(names []string, name string) bool {
	for _, n := range names {
		if strings.EqualFold(n, name) {
			return true
		}
	}
	return false
}

// marshalPlain is json.Marshal without escaping <, > and &.
func marshalPlain(v any) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimRight(b.Bytes(), "\n"), nil
}

// parsePrimitive reads a primitive type's name.
func parsePrimitive(s string) (*Type, error) {
	for k := KindBoolean; k < KindStruct; k++ {
		if k != KindDecimal && kindNames[k] == s {
			return &Type{Kind: k}, nil
		}
	}
	switch s {
	case "int":
		return &Type{Kind: KindInteger}, nil
	case "bigint":
		return &Type{Kind: KindLong}, nil
	case "decimal":
		return DecimalOf(10, 0), nil
	case "void":
		return &Type{Kind: KindBoolean, void: true}, nil
	}
	if in, ok := strings.CutPrefix(s, "decimal("); ok {
		if in, ok = strings.CutSuffix(in, ")"); ok {
			ps, ss, found := strings.Cut(in, ",")
			if !found {
				ss = "0"
			}
			p, err1 := strconv.Atoi(strings.TrimSpace(ps))
			sc, err2 := strconv.Atoi(strings.TrimSpace(ss))
			if err1 == nil && err2 == nil && p >= 1 && p <= 38 && sc >= 0 && sc <= p {
				return DecimalOf(p, sc), nil
			}
		}
	}
	return nil, fmt.Errorf("deltalake: type %q is not supported", s)
}

// validate names every fault of a schema that is to be written.
func (s *Schema) validate() error {
	var errs []error
	if len(s.Fields) == 0 {
		errs = append(errs, errors.New("the schema has no columns"))
	}
	validateFields(s.Fields, "", &errs)
	return errors.Join(errs...)
}

func validateFields(fields []Field, prefix string, errs *[]error) {
	seen := map[string]bool{}
	for _, f := range fields {
		name := prefix + f.Name
		if f.Name == "" {
			*errs = append(*errs, fmt.Errorf("a column of %q has no name", strings.TrimSuffix(prefix, ".")))
		}
		if seen[strings.ToLower(f.Name)] {
			*errs = append(*errs, fmt.Errorf("column %q appears twice", name))
		}
		seen[strings.ToLower(f.Name)] = true
		validateType(f.Type, name, errs)
	}
}

func validateType(t *Type, name string, errs *[]error) {
	if t == nil || t.Kind == KindInvalid {
		*errs = append(*errs, fmt.Errorf("column %q has no type", name))
		return
	}
	switch t.Kind {
	case KindDecimal:
		if t.Precision < 1 || t.Precision > 38 || t.Scale < 0 || t.Scale > t.Precision {
			*errs = append(*errs, fmt.Errorf("column %q: decimal(%d,%d) is outside 1..38 digits", name, t.Precision, t.Scale))
		}
	case KindStruct:
		validateFields(t.Fields, name+".", errs)
	case KindList:
		validateType(t.Elem, name+".element", errs)
	case KindMap:
		validateType(t.Key, name+".key", errs)
		validateType(t.Elem, name+".value", errs)
	}
}
