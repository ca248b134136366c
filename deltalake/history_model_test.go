package deltalake

import (
	"encoding/hex"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// The naive model of a table that histories are judged by: a list of rows, each a
// list of values as testdata/rows.py has them (nil, bool, int64, float64, string,
// []any). It shares nothing with the package but the names of types.

// state is the table at one version. Its slices are never changed.
type state struct {
	schema *Schema
	rows   [][]any
	checks int  // constraints that the table has
	mapped bool // column mapping is on
}

// lookup returns the value of a column; with an alias in a merge.
type lookup func(name string) any

// cond is a condition: SQL that every tool understands, and its meaning, 0 false,
// 1 true, 2 unknown.
type cond struct {
	text string
	eval func(lookup) int
}

func truth(b bool) int {
	if b {
		return 1
	}
	return 0
}

// number makes numbers, days and decimals comparable.
func number(x any) float64 {
	switch x := x.(type) {
	case int64:
		return float64(x)
	case float64:
		return x
	case string:
		f, err := strconv.ParseFloat(x, 64)
		if err != nil {
			panic(err)
		}
		return f
	}
	panic(fmt.Sprintf("number of %T", x))
}

// compares is column op literal, of numbers.
func compares(col, op string, lit float64) cond {
	return comparesText(col, op, strconv.FormatFloat(lit, 'f', -1, 64), lit)
}

// comparesText is compares with a literal of its own form.
func comparesText(col, op, text string, lit float64) cond {
	return cond{fmt.Sprintf("%s %s %s", col, op, text), func(get lookup) int {
		x := get(col)
		if x == nil {
			return 2
		}
		n := number(x)
		return truth(op == "<" && n < lit || op == "<=" && n <= lit || op == "=" && n == lit || op == ">" && n > lit || op == ">=" && n >= lit || op == "<>" && n != lit)
	}}
}

func isText(col string, words ...string) cond {
	text := fmt.Sprintf("%s = '%s'", col, words[0])
	if len(words) > 1 {
		text = fmt.Sprintf("%s IN ('%s')", col, strings.Join(words, "', '"))
	}
	return cond{text, func(get lookup) int {
		x, ok := get(col).(string)
		if !ok {
			return 2
		}
		return truth(slices.Contains(words, x))
	}}
}

func isNull(col string, not bool) cond {
	if not {
		return cond{col + " IS NOT NULL", func(get lookup) int { return truth(get(col) != nil) }}
	}
	return cond{col + " IS NULL", func(get lookup) int { return truth(get(col) == nil) }}
}

func modulo(col string, m, r int64) cond {
	return cond{fmt.Sprintf("%s %% %d = %d", col, m, r), func(get lookup) int {
		x, ok := get(col).(int64)
		if !ok {
			return 2
		}
		return truth(x%m == r)
	}}
}

func both(a, b cond) cond {
	return cond{fmt.Sprintf("(%s) AND (%s)", a.text, b.text), func(get lookup) int {
		x, y := a.eval(get), b.eval(get)
		if x == 0 || y == 0 {
			return 0
		}
		return max(x, y)
	}}
}

func either(a, b cond) cond {
	return cond{fmt.Sprintf("(%s) OR (%s)", a.text, b.text), func(get lookup) int {
		x, y := a.eval(get), b.eval(get)
		if x == 1 || y == 1 {
			return 1
		}
		return max(x, y)
	}}
}

func negated(a cond) cond {
	return cond{"NOT (" + a.text + ")", func(get lookup) int {
		if x := a.eval(get); x != 2 {
			return 1 - x
		}
		return 2
	}}
}

// assignment gives a column a new value.
type assignment struct {
	col, text string
	eval      func(lookup) any
}

// clause is one WHEN of a merge; action is "matched update", "matched delete",
// "insert", "source update" or "source delete".
type clause struct {
	action string
	cond   *cond
	set    []assignment
}

// columnLookup reads the columns of a row.
func columnLookup(s *Schema, row []any, alias string) lookup {
	return func(name string) any {
		i := s.Index(strings.TrimPrefix(name, alias))
		if i < 0 {
			panic("no column " + name)
		}
		if i >= len(row) {
			return nil // added later
		}
		return row[i]
	}
}

func (s state) where(c cond, row []any) bool { return c.eval(columnLookup(s.schema, row, "")) == 1 }

func (s state) deleted(c cond) [][]any {
	var out [][]any
	for _, r := range s.rows {
		if !s.where(c, r) {
			out = append(out, r)
		}
	}
	return out
}

func (s state) updated(c cond, set []assignment) [][]any {
	var out [][]any
	for _, r := range s.rows {
		if s.where(c, r) {
			r = assigned(s.schema, r, set, columnLookup(s.schema, r, ""))
		}
		out = append(out, r)
	}
	return out
}

func assigned(s *Schema, row []any, set []assignment, get lookup) []any {
	n := padded(s, row)
	for _, x := range set {
		n[s.Index(x.col)] = x.eval(get)
	}
	return derive(s, n)
}

// padded copies a row with nulls for columns that are younger than it.
func padded(s *Schema, row []any) []any {
	n := make([]any, len(s.Fields))
	copy(n, row)
	return n
}

// merged is MERGE; keys names the columns that must be equal on both sides. The
// source has the columns of the table and no key twice.
func (s state) merged(source [][]any, keys []string, clauses []clause) [][]any {
	equal := func(a, b []any) bool {
		for _, k := range keys {
			x, y := columnLookup(s.schema, a, "")(k), columnLookup(s.schema, b, "")(k)
			if x == nil || y == nil || x != y {
				return false
			}
		}
		return true
	}
	pair := func(target, src []any) lookup {
		return func(name string) any {
			if strings.HasPrefix(name, "t.") {
				return columnLookup(s.schema, target, "t.")(name)
			}
			return columnLookup(s.schema, src, "s.")(name)
		}
	}
	first := func(kind string, get lookup) *clause {
		for i, c := range clauses {
			if strings.HasPrefix(c.action, kind) && (c.cond == nil || c.cond.eval(get) == 1) {
				return &clauses[i]
			}
		}
		return nil
	}
	var out [][]any
	used := make([]bool, len(source))
	for _, r := range s.rows {
		match := -1
		for i, src := range source {
			if equal(r, src) {
				match, used[i] = i, true
			}
		}
		kind, src := "source", []any(nil)
		if match >= 0 {
			kind, src = "matched", source[match]
		}
		get := pair(r, src)
		c := first(kind, get)
		switch {
		case c == nil:
			out = append(out, r)
		case strings.HasSuffix(c.action, "delete"):
		case c.set == nil:
			out = append(out, src)
		default:
			out = append(out, assigned(s.schema, r, c.set, get))
		}
	}
	for i, src := range source {
		if !used[i] && first("insert", pair(nil, src)) != nil {
			out = append(out, src)
		}
	}
	return out
}

// texts are the rows in canonical form.
func (s state) texts() []string {
	out := make([]string, 0, len(s.rows))
	for _, r := range s.rows {
		out = append(out, string(canonicalRow(s.schema, padded(s.schema, r))))
	}
	return out
}

// modelBatch turns rows of the model into a batch of ours.
func modelBatch(t *testing.T, s *Schema, rows [][]any) *Batch {
	t.Helper()
	b := NewBatch(s)
	for _, r := range rows {
		for i, c := range b.Columns {
			appendModel(t, c, padded(s, r)[i])
		}
		b.Len++
	}
	return b
}

func appendModel(t *testing.T, v *Vector, x any) {
	t.Helper()
	if x == nil {
		v.AppendNull()
		return
	}
	switch x := x.(type) {
	case bool:
		v.AppendBool(x)
	case float64:
		if v.Type.Kind == KindFloat {
			v.AppendFloat(float32(x))
		} else {
			v.AppendDouble(x)
		}
	case int64:
		switch v.Type.Kind {
		case KindLong, KindTimestamp, KindTimestampNTZ:
			v.AppendLong(x)
		default:
			v.AppendInt(int32(x))
		}
	case string:
		switch v.Type.Kind {
		case KindDecimal:
			d, err := ParseDecimal(x, v.Type.Precision, v.Type.Scale)
			if err != nil {
				t.Fatal(err)
			}
			v.AppendDecimal(d)
		case KindBinary:
			raw, err := hex.DecodeString(x)
			if err != nil {
				t.Fatal(err)
			}
			v.AppendBytes(raw)
		default:
			v.AppendString(x)
		}
	case []any:
		for i, e := range x {
			switch v.Type.Kind {
			case KindStruct:
				appendModel(t, v.Children[i], e)
			case KindMap:
				kv, _ := e.([]any)
				appendModel(t, v.Children[0], kv[0])
				appendModel(t, v.Children[1], kv[1])
			default:
				appendModel(t, v.Children[0], e)
			}
		}
		v.AppendElements()
	}
}
