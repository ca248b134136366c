package deltalake

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"sort"
	"strings"
)

// constraint is a condition that every row must fulfil.
type constraint struct {
	name string
	expr *Expr // bound to the table's schema
}

// ruleText is a rule as the metadata says it.
type ruleText struct{ name, text string }

// constraints parses the rules of a table.
func (s *FileSpec) constraints() ([]constraint, error) {
	texts, err := s.ruleTexts()
	if err != nil {
		return nil, err
	}
	var out []constraint
	for _, r := range texts {
		e, err := ParseExpr(r.text)
		if err == nil {
			e, err = e.bind(s.schema)
		}
		if err != nil {
			return nil, fmt.Errorf("deltalake: the table cannot be written: %s: %w", r.name, err)
		}
		e.text = r.text
		out = append(out, constraint{r.name, e})
	}
	return out, nil
}

// ruleTexts collects the CHECK constraints, column invariants and generation
// expressions of a table.
func (s *FileSpec) ruleTexts() ([]ruleText, error) {
	var out []ruleText
	for _, k := range sortedKeys(s.meta.Configuration) {
		if name, ok := strings.CutPrefix(k, "delta.constraints."); ok {
			out = append(out, ruleText{"constraint " + name, s.meta.Configuration[k]})
		}
	}
	for i := range s.schema.Fields {
		f := &s.schema.Fields[i]
		if raw, ok := f.Metadata["delta.generationExpression"]; ok {
			var text string
			if err := json.Unmarshal(raw, &text); err != nil {
				return nil, fmt.Errorf("deltalake: generation expression of column %q: %w", f.Name, err)
			}
			out = append(out, ruleText{"generated column " + f.Name, "`" + strings.ReplaceAll(f.Name, "`", "``") + "` <=> (" + text + ")"})
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
			out = append(out, ruleText{"invariant of column " + f.Name, inv.Expression.Expression})
		}
	}
	return out, nil
}

// ruled returns the spec whose rules the files follow.
func (s *FileSpec) ruled() *FileSpec {
	if s.rules != nil {
		return s.rules
	}
	return s
}

// UnderRules returns s for files whose rows were found to follow the rules of
// another spec of the table too, as by Table.CheckFiles: a Commit with it asks for
// the layout of s and the rules of t.
func (s *FileSpec) UnderRules(t *FileSpec) *FileSpec {
	out := *s
	out.rules = t.ruled()
	return &out
}

// Rules identifies the rules that rows of the spec follow: CHECK constraints, column
// invariants and generated columns. It is "" without any, and equal for equal rules.
func (s *FileSpec) Rules() string {
	texts, err := s.ruled().ruleTexts()
	if err != nil {
		return "damaged"
	}
	if len(texts) == 0 {
		return ""
	}
	h := sha256.New()
	for _, r := range texts {
		fmt.Fprintf(h, "%q %q\n", r.name, r.text)
	}
	return hex.EncodeToString(h.Sum(nil)[:8])
}

// rulesFit tells which rule of t the rows written for s were not checked against,
// or would have been given other values by.
func (s *FileSpec) rulesFit(t *FileSpec) error {
	have, err := s.ruleTexts()
	if err != nil {
		return err
	}
	want, err := t.ruleTexts()
	if err != nil {
		return err
	}
	for _, r := range want {
		if !slices.Contains(have, r) {
			return fmt.Errorf("added %s (%s)", r.name, r.text)
		}
	}
	for i := range t.schema.Fields {
		f := &t.schema.Fields[i]
		text, ok := f.Metadata["CURRENT_DEFAULT"]
		if !ok {
			continue
		}
		j := s.schema.Index(f.Name)
		if j < 0 || !bytes.Equal(s.schema.Fields[j].Metadata["CURRENT_DEFAULT"], text) {
			return fmt.Errorf("gave column %q the default %s", f.Name, text)
		}
	}
	return nil
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
