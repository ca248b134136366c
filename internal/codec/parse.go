package codec

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
)

// A wireType is a parsed Avro schema: the type that a value was written with.
type wireType struct {
	kind    string // "null", "int", ..., "record", "fixed", "enum", "array", "map", "union"
	name    string
	logical string
	scale   int // logical decimal
	size    int // fixed
	length  int // array: our own attribute, -1 if absent
	fields  []wireField
	items   *wireType   // array, map
	union   []*wireType // union
	least   int         // fewest bytes of a value, capped; -1 while unknown
}

type wireField struct {
	name string
	typ  *wireType
}

// schemaParser holds the named types met so far.
type schemaParser struct {
	names map[string]*wireType
}

const maxSchemaDepth = 200

// parseSchema reads an Avro schema.
func parseSchema(text string) (*wireType, error) {
	var v any
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		return nil, fmt.Errorf("codec: the Avro schema is not valid JSON: %w", err)
	}
	p := schemaParser{names: map[string]*wireType{}}
	t, err := p.parse(v, "", 0)
	if err != nil {
		return nil, fmt.Errorf("codec: bad Avro schema: %w", err)
	}
	t.settle(map[*wireType]bool{})
	return t, nil
}

// settle computes least for t and all it holds, for decoders only read it.
func (t *wireType) settle(seen map[*wireType]bool) {
	if t == nil || seen[t] {
		return
	}
	seen[t] = true
	t.minBytes()
	t.items.settle(seen)
	for _, f := range t.fields {
		f.typ.settle(seen)
	}
	for _, b := range t.union {
		b.settle(seen)
	}
}

func (p *schemaParser) parse(v any, space string, depth int) (*wireType, error) {
	if depth > maxSchemaDepth {
		return nil, fmt.Errorf("it is nested more than %d deep", maxSchemaDepth)
	}
	switch v := v.(type) {
	case string:
		return p.reference(v, space)
	case []any:
		t := newWireType("union")
		if len(v) == 0 {
			return nil, fmt.Errorf("a union has no branches")
		}
		for _, b := range v {
			bt, err := p.parse(b, space, depth+1)
			if err != nil {
				return nil, err
			}
			if bt.kind == "union" {
				return nil, fmt.Errorf("a union holds a union")
			}
			t.union = append(t.union, bt)
		}
		return t, nil
	case map[string]any:
		return p.object(v, space, depth)
	}
	return nil, fmt.Errorf("%v is no type", v)
}

func newWireType(kind string) *wireType { return &wireType{kind: kind, length: -1, least: -1} }

func (p *schemaParser) reference(name, space string) (*wireType, error) {
	switch name {
	case "null", "boolean", "int", "long", "float", "double", "bytes", "string":
		return newWireType(name), nil
	}
	if t := p.names[fullName(name, space)]; t != nil {
		return t, nil
	}
	if t := p.names[name]; t != nil {
		return t, nil
	}
	return nil, fmt.Errorf("unknown type %q", name)
}

func fullName(name, space string) string {
	if space == "" || strings.Contains(name, ".") {
		return name
	}
	return space + "." + name
}

func (p *schemaParser) object(v map[string]any, space string, depth int) (*wireType, error) {
	kind, ok := v["type"].(string)
	if !ok {
		if v["type"] == nil {
			return nil, fmt.Errorf("a type has no \"type\"")
		}
		return p.parse(v["type"], space, depth+1)
	}
	t := newWireType(kind)
	switch kind {
	case "record", "error", "fixed", "enum":
		t.name, _ = v["name"].(string)
		if t.name == "" {
			return nil, fmt.Errorf("a %s has no name", kind)
		}
		if s, ok := v["namespace"].(string); ok {
			space = s
		}
		full := fullName(t.name, space)
		if i := strings.LastIndexByte(full, '.'); i >= 0 {
			space = full[:i]
		}
		if p.names[full] != nil {
			return nil, fmt.Errorf("%q is defined twice", full)
		}
		p.names[full] = t
	}
	t.logical, _ = v["logicalType"].(string)
	t.scale = intAttr(v, "scale", 0)
	switch kind {
	case "record", "error":
		t.kind = "record"
		return t, p.recordFields(t, v, space, depth)
	case "fixed":
		if t.size = intAttr(v, "size", -1); t.size < 0 || t.size > 1<<30 {
			return nil, fmt.Errorf("fixed %q has no valid size", t.name)
		}
		return t, nil
	case "enum":
		return t, nil
	case "array", "map":
		t.length = intAttr(v, "length", -1)
		attr := map[string]string{"array": "items", "map": "values"}[kind]
		items, err := p.parse(v[attr], space, depth+1)
		t.items = items
		return t, err
	}
	r, err := p.reference(kind, space)
	if err != nil || t.logical == "" {
		return r, err
	}
	c := *r // a primitive with a logical type
	c.logical, c.scale = t.logical, t.scale
	return &c, nil
}

func (p *schemaParser) recordFields(t *wireType, v map[string]any, space string, depth int) error {
	fields, ok := v["fields"].([]any)
	if !ok {
		return fmt.Errorf("record %q has no fields", t.name)
	}
	for _, f := range fields {
		m, _ := f.(map[string]any)
		name, _ := m["name"].(string)
		if name == "" {
			return fmt.Errorf("a field of record %q has no name", t.name)
		}
		ft, err := p.parse(m["type"], space, depth+1)
		if err != nil {
			return fmt.Errorf("field %s of %s: %w", name, t.name, err)
		}
		t.fields = append(t.fields, wireField{name, ft})
	}
	return nil
}

func intAttr(v map[string]any, name string, absent int) int {
	f, ok := v[name].(float64)
	if !ok || f != float64(int(f)) {
		return absent
	}
	return int(f)
}

// minBytes returns the fewest bytes that a value of t takes, at most a few
// thousand: what a count of items is held against before room is made for them.
func (t *wireType) minBytes() int {
	const enough = 4096
	if t.least >= 0 {
		return t.least
	}
	t.least = 0 // within itself
	n := 0
	switch t.kind {
	case "null":
	case "float":
		n = 4
	case "double":
		n = 8
	case "fixed":
		n = t.size
	case "record":
		for _, f := range t.fields {
			n = min(n+f.typ.minBytes(), enough)
		}
	case "array":
		n = 1
		if t.length > 0 {
			n = min(2+min(t.length, enough)*t.items.minBytes(), enough)
		}
	default:
		n = 1
	}
	t.least = min(n, enough)
	return t.least
}

// nullUnion takes apart a union of null and one other type; null is the index of
// the null branch.
func (t *wireType) nullUnion() (other *wireType, null int, ok bool) {
	if t.kind != "union" || len(t.union) != 2 {
		return nil, 0, false
	}
	for i, b := range t.union {
		if b.kind == "null" && t.union[1-i].kind != "null" {
			return t.union[1-i], i, true
		}
	}
	return nil, 0, false
}

// isTime and isDecimal recognise our own records.
func (t *wireType) isTime() bool {
	return t.kind == "record" && len(t.fields) == 2 && t.fields[0].name == "seconds" && t.fields[0].typ.kind == "long" &&
		t.fields[1].name == "nanos" && t.fields[1].typ.kind == "int"
}

func (t *wireType) isDecimal() bool {
	return t.kind == "record" && len(t.fields) == 2 && t.fields[0].name == "unscaled" && t.fields[0].typ.kind == "bytes" &&
		t.fields[1].name == "scale" && t.fields[1].typ.kind == "int"
}

// String names t for people, as describe does for shapes.
func (t *wireType) String() string {
	if other, _, ok := t.nullUnion(); ok {
		if other.kind == "array" && other.items.kind == "record" && strings.HasSuffix(other.items.name, "_entry") {
			return "map"
		}
		return "nullable " + other.String()
	}
	switch {
	case t.isTime():
		return "time"
	case t.isDecimal():
		return "decimal"
	case t.name == nameUint64:
		return "uint64"
	case t.kind == "record":
		return "record " + t.name
	case t.kind == "fixed":
		return "fixed(" + strconv.Itoa(t.size) + ")"
	case t.logical != "":
		return t.logical
	case t.length >= 0:
		return "array of length " + strconv.Itoa(t.length)
	}
	return t.kind
}
