package deltalake

import (
	"encoding/hex"
	"fmt"
	"math"
	"strconv"
	"strings"
)

type token struct {
	kind byte // 'i' identifier, 'q' quoted identifier, 's' string, 'n' number, 'o' operator
	text string
	at   int
}

type exprParser struct {
	text string
	toks []token
	pos  int
}

func (p *exprParser) fail(format string, args ...any) error {
	at := len(p.text)
	if p.pos < len(p.toks) {
		at = p.toks[p.pos].at
	}
	return fmt.Errorf("deltalake: expression %q: %s at character %d", p.text, fmt.Sprintf(format, args...), at+1)
}

func (p *exprParser) scan() error {
	s := p.text
	for i := 0; i < len(s); {
		c := s[i]
		start := i
		switch {
		case c == ' ' || c == '\t' || c == '\n' || c == '\r':
			i++
		case c == '\'' || c == '"' || c == '`':
			var b strings.Builder
			for i++; ; i++ {
				if i >= len(s) {
					return fmt.Errorf("deltalake: expression %q: the quote at character %d is not closed", s, start+1)
				}
				if s[i] == c {
					if i+1 < len(s) && s[i+1] == c {
						i++
					} else {
						break
					}
				} else if s[i] == '\\' && c != '`' && i+1 < len(s) {
					i++
				}
				b.WriteByte(s[i])
			}
			i++
			kind := byte('s')
			if c == '`' {
				kind = 'q'
			}
			p.toks = append(p.toks, token{kind, b.String(), start})
		case c >= '0' && c <= '9' || c == '.' && i+1 < len(s) && s[i+1] >= '0' && s[i+1] <= '9':
			for i < len(s) && (s[i] >= '0' && s[i] <= '9' || s[i] == '.' || s[i] == 'e' || s[i] == 'E' ||
				(s[i] == '-' || s[i] == '+') && (s[i-1] == 'e' || s[i-1] == 'E')) {
				i++
			}
			p.toks = append(p.toks, token{'n', s[start:i], start})
			if i < len(s) && strings.IndexByte("LlDdSsYyFf", s[i]) >= 0 && (i+1 == len(s) || !identByte(s[i+1])) {
				i++ // Spark's literal suffixes
			}
		case identByte(c):
			for i < len(s) && identByte(s[i]) {
				i++
			}
			p.toks = append(p.toks, token{'i', s[start:i], start})
		default:
			op := s[i : i+1]
			for _, two := range []string{"<=>", "<=", ">=", "<>", "!=", "==", "||", "&&"} {
				if strings.HasPrefix(s[i:], two) {
					op = two
					break
				}
			}
			if !strings.Contains("<=> <= >= <> != == || && + - * / % ( ) , . < > = !", op) {
				return fmt.Errorf("deltalake: expression %q: %q at character %d is not understood", s, op, i+1)
			}
			p.toks = append(p.toks, token{'o', op, start})
			i += len(op)
		}
	}
	return nil
}

func identByte(c byte) bool {
	return c == '_' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c >= 0x80 || c == '#' || c == '$'
}

func (p *exprParser) op(ops ...string) string {
	if p.pos < len(p.toks) && p.toks[p.pos].kind == 'o' {
		for _, o := range ops {
			if p.toks[p.pos].text == o {
				p.pos++
				return o
			}
		}
	}
	return ""
}

// word consumes a sequence of keywords when all are there.
func (p *exprParser) word(words ...string) bool {
	if p.pos+len(words) > len(p.toks) {
		return false
	}
	for i, w := range words {
		if t := p.toks[p.pos+i]; t.kind != 'i' || !strings.EqualFold(t.text, w) {
			return false
		}
	}
	p.pos += len(words)
	return true
}

func (p *exprParser) need(op string) error {
	if p.op(op) == "" {
		return p.fail("%q is missing", op)
	}
	return nil
}

func binary2(op string, a, b *Expr) *Expr { return &Expr{op: op, args: []*Expr{a, b}} }

const maxExprDepth = 200

func (p *exprParser) or(depth int) (*Expr, error) {
	if depth > maxExprDepth {
		return nil, p.fail("it nests too deep")
	}
	e, err := p.and(depth + 1)
	for err == nil && (p.word("or")) {
		var r *Expr
		if r, err = p.and(depth + 1); err == nil {
			e = binary2("or", e, r)
		}
	}
	return e, err
}

func (p *exprParser) and(depth int) (*Expr, error) {
	e, err := p.not(depth + 1)
	for err == nil && (p.word("and") || p.op("&&") != "") {
		var r *Expr
		if r, err = p.not(depth + 1); err == nil {
			e = binary2("and", e, r)
		}
	}
	return e, err
}

func (p *exprParser) not(depth int) (*Expr, error) {
	if depth > maxExprDepth {
		return nil, p.fail("it nests too deep")
	}
	if p.word("not") || p.op("!") != "" {
		e, err := p.not(depth + 1)
		if err != nil {
			return nil, err
		}
		return &Expr{op: "not", args: []*Expr{e}}, nil
	}
	return p.compare(depth + 1)
}

func (p *exprParser) compare(depth int) (*Expr, error) {
	e, err := p.sum(depth + 1)
	for err == nil {
		if o := p.op("<=>", "<=", ">=", "<>", "!=", "==", "=", "<", ">"); o != "" {
			switch o {
			case "<>":
				o = "!="
			case "==":
				o = "="
			}
			var r *Expr
			if r, err = p.sum(depth + 1); err == nil {
				e = binary2(o, e, r)
			}
			continue
		}
		negate := false
		switch {
		case p.word("is", "not", "null"):
			e = &Expr{op: "not", args: []*Expr{{op: "isnull", args: []*Expr{e}}}}
			continue
		case p.word("is", "null"):
			e = &Expr{op: "isnull", args: []*Expr{e}}
			continue
		case p.word("is", "not", "distinct", "from"):
			var r *Expr
			if r, err = p.sum(depth + 1); err == nil {
				e = binary2("<=>", e, r)
			}
			continue
		case p.word("is", "distinct", "from"):
			var r *Expr
			if r, err = p.sum(depth + 1); err == nil {
				e = &Expr{op: "not", args: []*Expr{binary2("<=>", e, r)}}
			}
			continue
		case p.word("is", "true"):
			e = isTruth(e, true)
			continue
		case p.word("is", "false"):
			e = isTruth(e, false)
			continue
		case p.word("is", "not", "true"):
			e = &Expr{op: "not", args: []*Expr{isTruth(e, true)}}
			continue
		case p.word("is", "not", "false"):
			e = &Expr{op: "not", args: []*Expr{isTruth(e, false)}}
			continue
		case p.word("not", "in"), p.word("not", "between"), p.word("not", "like"):
			negate = true
			p.pos--
		}
		var n *Expr
		switch {
		case p.word("in"):
			n, err = p.in(e, depth)
		case p.word("between"):
			n, err = p.between(e, depth)
		case p.word("like"):
			var r *Expr
			if r, err = p.sum(depth + 1); err == nil {
				n = binary2("like", e, r)
			}
		default:
			return e, nil
		}
		if e = n; negate && err == nil {
			e = &Expr{op: "not", args: []*Expr{n}}
		}
	}
	return e, err
}

// isTruth is e IS TRUE, or e IS FALSE: never null.
func isTruth(e *Expr, is bool) *Expr {
	return binary2("<=>", e, &Expr{op: "lit", val: boolValue(is)})
}

func (p *exprParser) in(e *Expr, depth int) (*Expr, error) {
	args, err := p.list(depth)
	if err != nil {
		return nil, err
	}
	if len(args) == 0 {
		return nil, p.fail("IN needs a list")
	}
	var out *Expr
	for _, a := range args {
		if c := binary2("=", e, a); out == nil {
			out = c
		} else {
			out = binary2("or", out, c)
		}
	}
	return out, nil
}

func (p *exprParser) between(e *Expr, depth int) (*Expr, error) {
	lo, err := p.sum(depth + 1)
	if err != nil {
		return nil, err
	}
	if !p.word("and") {
		return nil, p.fail("BETWEEN needs AND")
	}
	hi, err := p.sum(depth + 1)
	if err != nil {
		return nil, err
	}
	return binary2("and", binary2(">=", e, lo), binary2("<=", e, hi)), nil
}

// list reads parenthesized expressions.
func (p *exprParser) list(depth int) ([]*Expr, error) {
	if err := p.need("("); err != nil {
		return nil, err
	}
	var args []*Expr
	for p.op(")") == "" {
		if len(args) > 0 {
			if err := p.need(","); err != nil {
				return nil, err
			}
		}
		a, err := p.or(depth + 1)
		if err != nil {
			return nil, err
		}
		args = append(args, a)
	}
	return args, nil
}

func (p *exprParser) sum(depth int) (*Expr, error) {
	e, err := p.product(depth + 1)
	for err == nil {
		o := p.op("+", "-", "||")
		if o == "" {
			break
		}
		var r *Expr
		if r, err = p.product(depth + 1); err == nil {
			e = binary2(o, e, r)
		}
	}
	return e, err
}

func (p *exprParser) product(depth int) (*Expr, error) {
	e, err := p.unary(depth + 1)
	for err == nil {
		o := p.op("*", "/", "%")
		if o == "" {
			break
		}
		var r *Expr
		if r, err = p.unary(depth + 1); err == nil {
			e = binary2(o, e, r)
		}
	}
	return e, err
}

func (p *exprParser) unary(depth int) (*Expr, error) {
	if depth > maxExprDepth {
		return nil, p.fail("it nests too deep")
	}
	if p.op("-") != "" {
		e, err := p.unary(depth + 1)
		if err != nil {
			return nil, err
		}
		if e.op == "lit" {
			v, ok := e.val.negate()
			if ok {
				return &Expr{op: "lit", val: v}, nil
			}
		}
		return &Expr{op: "neg", args: []*Expr{e}}, nil
	}
	p.op("+")
	return p.atom(depth + 1)
}

func (p *exprParser) atom(depth int) (*Expr, error) {
	if p.op("(") != "" {
		e, err := p.or(depth + 1)
		if err != nil {
			return nil, err
		}
		return e, p.need(")")
	}
	if p.pos >= len(p.toks) {
		return nil, p.fail("a value is missing")
	}
	t := p.toks[p.pos]
	p.pos++
	switch t.kind {
	case 's':
		return &Expr{op: "lit", val: textValue(t.text)}, nil
	case 'n':
		v, ok := numberValue(t.text)
		if !ok {
			p.pos--
			return nil, p.fail("%q is not a number", t.text)
		}
		return &Expr{op: "lit", val: v}, nil
	case 'i':
		if e, err := p.keyword(strings.ToLower(t.text), depth); e != nil || err != nil {
			return e, err
		}
		if p.pos < len(p.toks) && p.toks[p.pos].kind == 'o' && p.toks[p.pos].text == "(" {
			args, err := p.list(depth + 1)
			if err != nil {
				return nil, err
			}
			return newCall(strings.ToLower(t.text), args)
		}
	case 'o':
		p.pos--
		return nil, p.fail("a value is expected, not %q,", t.text)
	}
	e := &Expr{op: "col", name: []string{t.text}}
	for p.op(".") != "" {
		if p.pos >= len(p.toks) || p.toks[p.pos].kind != 'i' && p.toks[p.pos].kind != 'q' {
			return nil, p.fail("a name is missing after the point")
		}
		e.name = append(e.name, p.toks[p.pos].text)
		p.pos++
	}
	return e, nil
}

// keyword reads the forms that start with a word; nil when it is none of them.
func (p *exprParser) keyword(w string, depth int) (*Expr, error) {
	lit := func(v value) (*Expr, error) { return &Expr{op: "lit", val: v}, nil }
	str := p.pos < len(p.toks) && p.toks[p.pos].kind == 's'
	switch {
	case w == "true" || w == "false":
		return lit(boolValue(w == "true"))
	case w == "null":
		return lit(value{})
	case w == "x" && str:
		raw, err := hex.DecodeString(p.toks[p.pos].text)
		if err != nil {
			return nil, p.fail("X'%s' is not binary in hexadecimal digits", p.toks[p.pos].text)
		}
		p.pos++
		return lit(textValue(string(raw)))
	case w == "date" && str:
		d, err := parseDate(p.toks[p.pos].text)
		if err != nil {
			return nil, err
		}
		p.pos++
		return lit(value{kind: vDate, i: int64(d)})
	case (w == "timestamp" || w == "timestamp_ntz") && str:
		us, err := parseTimestamp(p.toks[p.pos].text)
		if err != nil {
			return nil, err
		}
		p.pos++
		return lit(value{kind: vTime, i: us})
	case w == "cast":
		return p.cast(depth)
	case w == "case":
		return p.caseWhen(depth)
	}
	return nil, nil
}

func (p *exprParser) cast(depth int) (*Expr, error) {
	if err := p.need("("); err != nil {
		return nil, err
	}
	e, err := p.or(depth + 1)
	if err != nil {
		return nil, err
	}
	if !p.word("as") {
		return nil, p.fail("CAST needs AS")
	}
	var name strings.Builder
	level := 0
	for ; p.pos < len(p.toks); p.pos++ {
		t := p.toks[p.pos].text
		if t == "(" {
			level++
		} else if t == ")" {
			if level == 0 {
				break
			}
			level--
		}
		name.WriteString(strings.ToLower(t))
	}
	typ, err := parsePrimitive(name.String())
	if err != nil {
		return nil, err
	}
	return &Expr{op: "cast", args: []*Expr{e}, typ: typ}, p.need(")")
}

// caseWhen reads CASE WHEN c THEN v ... ELSE v END as pairs and a rest.
func (p *exprParser) caseWhen(depth int) (*Expr, error) {
	e := &Expr{op: "case"}
	for p.word("when") {
		c, err := p.or(depth + 1)
		if err != nil {
			return nil, err
		}
		if !p.word("then") {
			return nil, p.fail("CASE needs THEN")
		}
		v, err := p.or(depth + 1)
		if err != nil {
			return nil, err
		}
		e.args = append(e.args, c, v)
	}
	if len(e.args) == 0 {
		return nil, p.fail("CASE needs WHEN")
	}
	rest := &Expr{op: "lit"}
	if p.word("else") {
		var err error
		if rest, err = p.or(depth + 1); err != nil {
			return nil, err
		}
	}
	e.args = append(e.args, rest)
	if !p.word("end") {
		return nil, p.fail("CASE needs END")
	}
	return e, nil
}

// numberValue reads a numeric literal: whole numbers as long, with a point as
// decimal, with an exponent as double.
func numberValue(s string) (value, bool) {
	if !strings.ContainsAny(s, ".eE") {
		if n, err := strconv.ParseInt(s, 10, 64); err == nil {
			return value{kind: vInt, i: n}, true
		}
	}
	if !strings.ContainsAny(s, "eE") {
		_, frac, _ := strings.Cut(s, ".")
		if d, err := ParseDecimal(s, 38, len(frac)); err == nil {
			return value{kind: vDecimal, d: d, scale: len(frac)}, true
		}
	}
	f, err := strconv.ParseFloat(s, 64)
	return value{kind: vFloat, f: f}, err == nil && !math.IsInf(f, 0)
}

// functions are the callable names with their least and most arguments.
func functionArity(name string) (least, most int) {
	switch name {
	case "year", "month", "day", "dayofmonth", "hour", "minute", "second", "to_date", "date", "upper", "lower", "length", "abs", "trim", "isnull", "isnotnull":
		return 1, 1
	case "coalesce", "concat":
		return 1, 64
	case "substring", "substr":
		return 2, 3
	case "date_format", "date_trunc", "mod", "nvl", "ifnull", "startswith", "nullif":
		return 2, 2
	case "if":
		return 3, 3
	}
	return -1, -1
}

func newCall(name string, args []*Expr) (*Expr, error) {
	least, most := functionArity(name)
	if least < 0 {
		return nil, fmt.Errorf("deltalake: function %q is not supported in expressions", name)
	}
	if len(args) < least || len(args) > most {
		return nil, fmt.Errorf("deltalake: function %q does not take %d arguments", name, len(args))
	}
	switch name {
	case "isnull":
		return &Expr{op: "isnull", args: args}, nil
	case "isnotnull":
		return &Expr{op: "not", args: []*Expr{{op: "isnull", args: args}}}, nil
	}
	return &Expr{op: "fn:" + name, args: args}, nil
}
