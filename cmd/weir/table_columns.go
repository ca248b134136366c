package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"strconv"
	"strings"

	"github.com/weirstream/weir/deltalake"
)

// parseColumns reads columns as SQL's CREATE TABLE has them, or Delta's JSON schema.
func parseColumns(specs []string) (*deltalake.Schema, error) {
	s := &deltalake.Schema{}
	for _, spec := range specs {
		if strings.HasPrefix(strings.TrimSpace(spec), "{") {
			if err := json.Unmarshal([]byte(spec), s); err != nil {
				return nil, fmt.Errorf("--columns is no schema in Delta's JSON: %w", err)
			}
			return s, nil
		}
		p := &columnParser{text: spec}
		for {
			f, err := p.column()
			if err != nil {
				return nil, err
			}
			s.Fields = append(s.Fields, f)
			if p.end() {
				break
			}
			if !p.next(',') {
				return nil, p.fail("a comma is missing")
			}
		}
	}
	if len(s.Fields) == 0 {
		return nil, errors.New("--columns names the columns, as in 'id long, name string'")
	}
	return s, nil
}

// columnParser reads a list of columns.
type columnParser struct {
	text string
	at   int
}

func (p *columnParser) fail(what string) error {
	return fmt.Errorf("columns %q: %s at character %d, write them as in 'id long not null, tags array<string>'", p.text, what, p.at+1)
}

func (p *columnParser) space() {
	for p.at < len(p.text) && strings.IndexByte(" \t\r\n", p.text[p.at]) >= 0 {
		p.at++
	}
}

func (p *columnParser) end() bool {
	p.space()
	return p.at >= len(p.text)
}

// next takes the character c when it comes next.
func (p *columnParser) next(c byte) bool {
	if p.end() || p.text[p.at] != c {
		return false
	}
	p.at++
	return true
}

// word takes a name: all up to a space or a sign, or what quotes hold.
func (p *columnParser) word() (string, error) {
	if p.end() {
		return "", p.fail("a name is missing")
	}
	if q := p.text[p.at]; q == '`' || q == '"' {
		return p.quoted()
	}
	start := p.at
	for p.at < len(p.text) && strings.IndexByte(" \t\r\n,:<>()", p.text[p.at]) < 0 {
		p.at++
	}
	if start == p.at {
		return "", p.fail("a name is missing")
	}
	return p.text[start:p.at], nil
}

// quoted takes what quotes hold; a doubled quote stands for one.
func (p *columnParser) quoted() (string, error) {
	q := p.text[p.at : p.at+1]
	var out strings.Builder
	for rest := p.text[p.at+1:]; ; rest = rest[1:] {
		in, after, ok := strings.Cut(rest, q)
		if !ok {
			return "", p.fail("the quote is not closed")
		}
		out.WriteString(in)
		if rest = after; !strings.HasPrefix(rest, q) {
			p.at = len(p.text) - len(rest)
			return out.String(), nil
		}
		out.WriteString(q)
	}
}

// until takes the text up to a comma or a closing sign that no parentheses or quotes
// hold.
func (p *columnParser) until() string {
	p.space()
	start, level, quote := p.at, 0, byte(0)
	for ; p.at < len(p.text); p.at++ {
		switch c := p.text[p.at]; {
		case quote != 0:
			if c == quote {
				quote = 0
			}
		case c == '\'' || c == '"' || c == '`':
			quote = c
		case c == '(':
			level++
		case c == ')':
			level--
		case (c == ',' || c == '>') && level == 0:
			return strings.TrimSpace(p.text[start:p.at])
		}
	}
	return strings.TrimSpace(p.text[start:])
}

// column reads "name type" and what follows; in a struct a colon may stand between.
func (p *columnParser) column() (f deltalake.Field, err error) {
	if f.Name, err = p.word(); err != nil {
		return f, err
	}
	if f.Nullable = true; p.next(':') || !p.end() {
		f.Type, err = p.kind(f.Name, 0)
	} else {
		err = fmt.Errorf("column %q needs a type, as in 'id long'", f.Name)
	}
	if err != nil {
		return f, err
	}
	for rest := p.until(); rest != ""; {
		if rest, err = columnClause(&f, rest); err != nil {
			return f, err
		}
	}
	return f, nil
}

// kind reads a type.
func (p *columnParser) kind(column string, depth int) (*deltalake.Type, error) {
	if depth > 50 {
		return nil, p.fail("types nest too deep")
	}
	at := p.at
	name, err := p.word()
	if err != nil {
		return nil, fmt.Errorf("column %q needs a type, as in 'id long'", column)
	}
	name = strings.ToLower(name)
	switch {
	case name == "array" && p.next('<'):
		elem, err := p.kind(column, depth+1)
		if err == nil && !p.next('>') {
			err = p.fail("> is missing")
		}
		return deltalake.ListOf(elem), err
	case name == "map" && p.next('<'):
		key, err := p.kind(column, depth+1)
		if err == nil && !p.next(',') {
			err = p.fail("a comma is missing")
		}
		if err != nil {
			return nil, err
		}
		value, err := p.kind(column, depth+1)
		if err == nil && !p.next('>') {
			err = p.fail("> is missing")
		}
		return deltalake.MapOf(key, value), err
	case name == "struct" && p.next('<'):
		t := deltalake.StructOf()
		for {
			f, err := p.column()
			if err != nil {
				return nil, err
			}
			if t.Fields = append(t.Fields, f); p.next('>') {
				return t, nil
			}
			if !p.next(',') {
				return nil, p.fail("> is missing")
			}
		}
	}
	if p.next('(') {
		args, _, ok := strings.Cut(p.text[p.at:], ")")
		if !ok {
			return nil, p.fail(") is missing")
		}
		p.at += len(args) + 1
		name += "(" + strings.ReplaceAll(args, " ", "") + ")"
	}
	t, err := plainType(name)
	if err != nil {
		p.at = at
		return nil, fmt.Errorf("column %q: %w", column, err)
	}
	return t, nil
}

// plainType is a type without types in it, by Delta's name or SQL's.
func plainType(name string) (*deltalake.Type, error) {
	base, args, _ := strings.Cut(name, "(")
	switch base {
	case "tinyint":
		base = "byte"
	case "smallint":
		base = "short"
	case "bigint":
		base = "long"
	case "real":
		base = "float"
	case "bool":
		base = "boolean"
	case "text":
		base = "string"
	case "bytea", "blob":
		base = "binary"
	case "numeric", "dec":
		base = "decimal"
	case "varchar", "char":
		return nil, fmt.Errorf("type %s is not supported: write string, with a constraint on its length", name)
	}
	if args != "" {
		base += "(" + args
	}
	raw, err := json.Marshal(base)
	if err != nil {
		return nil, err
	}
	var t deltalake.Type
	if err := json.Unmarshal(raw, &t); err != nil {
		return nil, fmt.Errorf("type %s is not supported: boolean, byte, short, int, long, float, double, decimal(p,s), string, binary, date, timestamp, timestamp_ntz, array<..>, map<.., ..> and struct<..> are", name)
	}
	return &t, nil
}

var (
	notNullPattern = regexp.MustCompile(`(?i)^not\s+null\b`)
	nullPattern    = regexp.MustCompile(`(?i)^null\b`)
	commentPattern = regexp.MustCompile(`(?i)^comment\s+(?:'((?:[^']|'')*)'|"([^"]*)")`)
	defaultPattern = regexp.MustCompile(`(?i)^default\s+(.+?)(\s+(?:not\s+null|comment\s.*))?$`)
	formulaPattern = regexp.MustCompile(`(?i)^generated\s+always\s+as\s*\((.*)\)(\s+(?:not\s+null|comment\s.*))?$`)
)

// columnClause reads one clause that follows a column's type, and returns the rest.
func columnClause(f *deltalake.Field, text string) (string, error) {
	note := func(key string, value any) error {
		raw, err := json.Marshal(value)
		if err == nil {
			all := map[string]json.RawMessage{key: raw}
			maps.Copy(all, f.Metadata)
			f.Metadata = all
		}
		return err
	}
	if m := notNullPattern.FindString(text); m != "" {
		f.Nullable = false
		return strings.TrimSpace(text[len(m):]), nil
	}
	if m := nullPattern.FindString(text); m != "" {
		return strings.TrimSpace(text[len(m):]), nil
	}
	if m := commentPattern.FindStringSubmatch(text); m != nil {
		return strings.TrimSpace(text[len(m[0]):]), note("comment", strings.ReplaceAll(m[1], "''", "'")+m[2])
	}
	if m := defaultPattern.FindStringSubmatch(text); m != nil {
		if _, err := deltalake.ParseExpr(m[1]); err != nil {
			return "", fmt.Errorf("column %q: default: %w", f.Name, err)
		}
		return strings.TrimSpace(m[2]), note("CURRENT_DEFAULT", m[1])
	}
	if m := formulaPattern.FindStringSubmatch(text); m != nil {
		formula := strings.TrimSpace(m[1])
		if _, err := deltalake.ParseExpr(formula); err != nil {
			return "", fmt.Errorf("column %q: generated always as: %w", f.Name, err)
		}
		return strings.TrimSpace(m[2]), note("delta.generationExpression", formula)
	}
	if kind, generated, ok := strings.Cut(strings.ToLower(text), "generated "); ok && kind == "" {
		id, err := parseIdentity(f.Name, generated)
		if err != nil {
			return "", err
		}
		maps.Copy(id.Metadata, f.Metadata)
		f.Metadata = id.Metadata
		return "", nil
	}
	return "", fmt.Errorf("column %q: %q is not understood: not null, comment '..', default .., generated always as (..) and generated .. as identity are", f.Name, text)
}

var identityPattern = regexp.MustCompile(`^(always|by default) as identity(?: *\( *(?:start with (-?\d+))? *(?:increment by (-?\d+))? *\))?$`)

// parseIdentity reads what follows GENERATED in a column.
func parseIdentity(name, text string) (deltalake.Field, error) {
	m := identityPattern.FindStringSubmatch(strings.Join(strings.Fields(text), " "))
	if m == nil {
		return deltalake.Field{}, fmt.Errorf("column %q: generated %s is not understood; write 'generated always as identity (start with 1 increment by 1)' or 'generated by default as identity'", name, text)
	}
	number := func(s string) (int64, error) {
		if s == "" {
			return 1, nil
		}
		n, err := strconv.ParseInt(s, 10, 64)
		if err != nil {
			return 0, fmt.Errorf("column %q: %s does not fit a long", name, s)
		}
		return n, nil
	}
	start, err := number(m[2])
	if err != nil {
		return deltalake.Field{}, err
	}
	step, err := number(m[3])
	if err != nil {
		return deltalake.Field{}, err
	}
	if m[1] == "always" {
		return deltalake.Identity(name, start, step), nil
	}
	return deltalake.IdentityByDefault(name, start, step), nil
}

func parseProperties(props []string) (map[string]*string, error) {
	out := map[string]*string{}
	for _, p := range props {
		k, v, ok := strings.Cut(p, "=")
		if !ok || k == "" {
			return nil, fmt.Errorf("%q is not key=value", p)
		}
		out[k] = &v
	}
	return out, nil
}
