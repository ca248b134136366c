package deltalake

import (
	"fmt"
	"strings"
)

// Expr is an expression over the columns of a table, in the part of Spark's SQL
// that predicates, constraints and generated columns use: comparisons, AND, OR,
// NOT, IS NULL, IN, BETWEEN, LIKE, arithmetic, CAST, CASE and common functions.
// An Expr is immutable and safe for concurrent use.
type Expr struct {
	op   string  // "col", "lit", an operator, or "fn:" and a function's name
	args []*Expr // operands
	name []string
	val  value
	typ  *Type // of a cast

	path  []int // of a bound column: positions in the schema and in structs
	field *Type // type of a bound column
	text  string
}

// ParseExpr reads an expression. The error says where it stops making sense.
func ParseExpr(text string) (*Expr, error) {
	p := &exprParser{text: text}
	if err := p.scan(); err != nil {
		return nil, err
	}
	e, err := p.or(0)
	if err == nil && p.pos < len(p.toks) {
		err = p.fail("%q is not expected", p.toks[p.pos].text)
	}
	if err != nil {
		return nil, err
	}
	e.text = text
	return e, nil
}

// String returns the text that the expression was read from.
func (e *Expr) String() string { return e.text }

// And returns the conjunction of two conditions; nil stands for true.
func And(a, b *Expr) *Expr {
	switch {
	case a == nil:
		return b
	case b == nil:
		return a
	}
	return &Expr{op: "and", args: []*Expr{a, b}, text: "(" + a.text + ") AND (" + b.text + ")"}
}

// bind returns a copy of the expression whose columns are resolved in schema.
func (e *Expr) bind(schema *Schema) (*Expr, error) {
	c := *e
	c.args = make([]*Expr, len(e.args))
	for i, a := range e.args {
		b, err := a.bind(schema)
		if err != nil {
			return nil, err
		}
		c.args[i] = b
	}
	if e.op == "col" {
		fields := schema.Fields
		c.path = nil
		for depth, n := range e.name {
			i := fieldIndex(fields, n)
			if i < 0 {
				return nil, fmt.Errorf("deltalake: column %q is not in the table", strings.Join(e.name[:depth+1], "."))
			}
			c.path, c.field = append(c.path, i), fields[i].Type
			fields = fields[i].Type.Fields
		}
		if !c.field.primitive() {
			c.path = c.path[:len(c.path):len(c.path)]
		}
		return &c, nil
	}
	c.coerce()
	return &c, nil
}

// coerce turns text literals into the type of the column they are compared with.
func (e *Expr) coerce() {
	if len(e.args) != 2 {
		return
	}
	switch e.op {
	case "=", "!=", "<", "<=", ">", ">=", "<=>":
	default:
		return
	}
	for i, a := range e.args {
		col := e.args[1-i]
		if a.op == "lit" && a.val.kind == vText && col.op == "col" && col.field != nil && col.field.primitive() &&
			col.field.Kind != KindString && col.field.Kind != KindBinary {
			if v, ok := a.val.cast(col.field); ok {
				c := *a
				c.val = v
				e.args[i] = &c
			}
		}
	}
}

// columns adds the names of the top-level columns that e reads.
func (e *Expr) columns(to map[string]bool) {
	if e == nil {
		return
	}
	if e.op == "col" {
		to[strings.ToLower(e.name[0])] = true
	}
	for _, a := range e.args {
		a.columns(to)
	}
}
