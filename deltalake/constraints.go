package deltalake

import (
	"encoding/json"
	"fmt"
	"sort"
	"strings"
)

// constraint is a condition that every row must fulfil.
type constraint struct {
	name string
	expr *Expr // bound to the table's schema
}

// constraints collects the CHECK constraints, column invariants and generation
// expressions of a table.
func (s *FileSpec) constraints() ([]constraint, error) {
	var out []constraint
	add := func(name, text string) error {
		e, err := ParseExpr(text)
		if err == nil {
			e, err = e.bind(s.schema)
		}
		if err != nil {
			return fmt.Errorf("deltalake: the table cannot be written: %s: %w", name, err)
		}
		e.text = text
		out = append(out, constraint{name, e})
		return nil
	}
	for _, k := range sortedKeys(s.meta.Configuration) {
		if name, ok := strings.CutPrefix(k, "delta.constraints."); ok {
			if err := add("constraint "+name, s.meta.Configuration[k]); err != nil {
				return nil, err
			}
		}
	}
	for i := range s.schema.Fields {
		f := &s.schema.Fields[i]
		if raw, ok := f.Metadata["delta.generationExpression"]; ok {
			var text string
			if err := json.Unmarshal(raw, &text); err != nil {
				return nil, fmt.Errorf("deltalake: generation expression of column %q: %w", f.Name, err)
			}
			if err := add("generated column "+f.Name, "`"+strings.ReplaceAll(f.Name, "`", "``")+"` <=> ("+text+")"); err != nil {
				return nil, err
			}
		}
		if raw, ok := f.Metadata["delta.invariants"]; ok {
			var text string
			var inv struct {
				Expression struct {
					Expression string `json:"expression"`
				} `json:"expression"`
			}
			if err := json.Unmarshal(raw, &text); err != nil {
				return nil, fmt.Errorf("deltalake: invariant of column %q: %w", f.Name, err)
			}
			if err := json.Unmarshal([]byte(text), &inv); err != nil {
				return nil, fmt.Errorf("deltalake: invariant of column %q: %w", f.Name, err)
			}
			if err := add("invariant of column "+f.Name, inv.Expression.Expression); err != nil {
				return nil, err
			}
		}
	}
	return out, nil
}

// ConstraintError says that a row breaks a rule of the table.
type ConstraintError struct {
	Name string // of the constraint
	Rule string // its condition
	Row  string // the row's values that the condition reads
}

// Error implements error.
func (e *ConstraintError) Error() string {
	return fmt.Sprintf("deltalake: %s (%s) is violated by a row with %s", e.Name, e.Rule, e.Row)
}

// checkConstraints evaluates all rules on a batch with the table's columns.
func checkConstraints(rules []constraint, b *Batch) error {
	for _, c := range rules {
		t, err := c.expr.truths(b)
		if err != nil {
			return fmt.Errorf("deltalake: %s: %w", c.name, err)
		}
		for i, x := range t {
			if x == yes {
				continue
			}
			cols := map[string]bool{}
			c.expr.columns(cols)
			var parts []string
			for j, f := range b.Schema.Fields {
				if cols[strings.ToLower(f.Name)] && f.Type.primitive() {
					parts = append(parts, f.Name+" = "+valueAt(b.Columns[j], i).text())
				}
			}
			sort.Strings(parts)
			return &ConstraintError{c.name, c.expr.text, strings.Join(parts, ", ")}
		}
	}
	return nil
}

// withPartition completes a batch of data columns to one of all columns.
func (w *FileWriter) withPartition(b *Batch) (*Batch, error) {
	if len(w.spec.partition) == 0 {
		return &Batch{Schema: w.spec.schema, Len: b.Len, Columns: b.Columns}, nil
	}
	out := &Batch{Schema: w.spec.schema, Len: b.Len}
	next := 0
	for i := range w.spec.schema.Fields {
		f := &w.spec.schema.Fields[i]
		if !containsFold(w.spec.meta.PartitionColumns, f.Name) {
			out.Columns = append(out.Columns, b.Columns[next])
			next++
			continue
		}
		name, _ := f.physical(w.spec.mapped)
		one := NewVector(f.Type)
		if err := ParsePartitionValue(one, w.values[name]); err != nil {
			return nil, err
		}
		out.Columns = append(out.Columns, repeatValue(one, b.Len))
	}
	return out, nil
}
