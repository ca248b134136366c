package deltalake

import (
	"errors"
	"fmt"
	"math"
	"math/big"
	"strings"
	"time"
	"unicode/utf8"
)

// Truth values of a condition; SQL's third one is unknown.
const (
	no, yes, unknown = int8(0), int8(1), int8(2)
)

// truths evaluates a bound condition for every row of a batch.
func (e *Expr) truths(b *Batch) ([]int8, error) {
	out := make([]int8, b.Len)
	switch e.op {
	case "and", "or":
		x, err := e.args[0].truths(b)
		if err != nil {
			return nil, err
		}
		y, err := e.args[1].truths(b)
		if err != nil {
			return nil, err
		}
		decisive := no
		if e.op == "or" {
			decisive = yes
		}
		for i := range out {
			switch {
			case x[i] == decisive || y[i] == decisive:
				out[i] = decisive
			case x[i] == unknown || y[i] == unknown:
				out[i] = unknown
			default:
				out[i] = 1 - decisive
			}
		}
		return out, nil
	case "not":
		x, err := e.args[0].truths(b)
		if err != nil {
			return nil, err
		}
		for i := range out {
			out[i] = [...]int8{yes, no, unknown}[x[i]]
		}
		return out, nil
	case "=", "!=", "<", "<=", ">", ">=":
		if e.fast(b, out) {
			return out, nil
		}
	}
	for i := range out {
		v, err := e.eval(b, i)
		if err != nil {
			return nil, err
		}
		switch {
		case v.kind == vNull:
			out[i] = unknown
		case v.kind == vBool:
			out[i] = int8(v.i)
		default:
			return nil, fmt.Errorf("deltalake: %q is not a condition", e.text)
		}
	}
	return out, nil
}

// matches returns the rows for which a bound condition is true; nil means all.
func (e *Expr) matches(b *Batch) ([]int32, error) {
	if e == nil {
		return allRows(b.Len), nil
	}
	t, err := e.truths(b)
	if err != nil {
		return nil, err
	}
	rows := make([]int32, 0, b.Len)
	for i, x := range t {
		if x == yes {
			rows = append(rows, int32(i))
		}
	}
	return rows, nil
}

func allRows(n int) []int32 {
	rows := make([]int32, n)
	for i := range rows {
		rows[i] = int32(i)
	}
	return rows
}

// fast compares a column of integers or texts with a literal without boxing.
func (e *Expr) fast(b *Batch, out []int8) bool {
	col, lit, op := e.args[0], e.args[1], e.op
	if col.op == "lit" {
		col, lit = lit, col
		op = map[string]string{"<": ">", "<=": ">=", ">": "<", ">=": "<=", "=": "=", "!=": "!="}[op]
	}
	if col.op != "col" || lit.op != "lit" || len(col.path) != 1 || lit.val.kind == vNull {
		return false
	}
	v := b.Columns[col.path[0]]
	var lt, eq, gt int8
	switch op {
	case "=":
		eq = yes
	case "!=":
		lt, gt = yes, yes
	case "<":
		lt = yes
	case "<=":
		lt, eq = yes, yes
	case ">":
		gt = yes
	case ">=":
		gt, eq = yes, yes
	}
	pick := func(c int) int8 {
		switch {
		case c < 0:
			return lt
		case c > 0:
			return gt
		}
		return eq
	}
	switch {
	case v.Longs != nil && (v.Type.Kind == KindLong && lit.val.kind == vInt || v.Type.Kind != KindLong && lit.val.kind == vTime):
		want := lit.val.i
		for i, x := range v.Longs {
			switch {
			case x < want:
				out[i] = lt
			case x > want:
				out[i] = gt
			default:
				out[i] = eq
			}
		}
	case v.Ints != nil && (v.Type.Kind == KindDate && lit.val.kind == vDate || v.Type.Kind != KindDate && lit.val.kind == vInt):
		want := lit.val.i
		for i, x := range v.Ints {
			out[i] = pick(int(min(max(int64(x)-want, -1), 1)))
		}
	case (v.Type.Kind == KindString || v.Type.Kind == KindBinary) && lit.val.kind == vText:
		for i := range out {
			out[i] = pick(strings.Compare(string(v.Bytes(i)), lit.val.s))
		}
	default:
		return false
	}
	if v.Valid != nil {
		for i, ok := range v.Valid {
			if !ok {
				out[i] = unknown
			}
		}
	}
	return true
}

// eval computes a bound expression for one row.
func (e *Expr) eval(b *Batch, row int) (value, error) {
	switch e.op {
	case "lit":
		return e.val, nil
	case "col":
		v := b.Columns[e.path[0]]
		for _, p := range e.path[1:] {
			if v.Null(row) {
				return value{}, nil
			}
			v = v.Children[p]
		}
		return valueAt(v, row), nil
	case "and", "or":
		return e.logic(b, row)
	case "case":
		for i := 0; i+1 < len(e.args); i += 2 {
			c, err := e.args[i].eval(b, row)
			if err != nil {
				return c, err
			}
			if c.kind == vBool && c.i == 1 {
				return e.args[i+1].eval(b, row)
			}
		}
		return e.args[len(e.args)-1].eval(b, row)
	}
	args := make([]value, len(e.args), 4)
	for i, a := range e.args {
		v, err := a.eval(b, row)
		if err != nil {
			return v, err
		}
		args[i] = v
	}
	switch e.op {
	case "isnull":
		return boolValue(args[0].kind == vNull), nil
	case "<=>":
		if args[0].kind == vNull || args[1].kind == vNull {
			return boolValue(args[0].kind == args[1].kind), nil
		}
	case "cast":
		v, ok := args[0].cast(e.typ)
		if !ok {
			return value{}, nil // as Spark without ANSI mode
		}
		return v, nil
	case "fn:coalesce", "fn:nvl", "fn:ifnull":
		for _, a := range args {
			if a.kind != vNull {
				return a, nil
			}
		}
		return value{}, nil
	case "fn:if":
		if args[0].kind == vBool && args[0].i == 1 {
			return args[1], nil
		}
		return args[2], nil
	case "fn:nullif":
		if c, ok := args[0].compare(args[1]); ok && c == 0 {
			return value{}, nil
		}
		return args[0], nil
	}
	for _, a := range args {
		if a.kind == vNull {
			return value{}, nil
		}
	}
	return e.apply(args)
}

func (e *Expr) logic(b *Batch, row int) (value, error) {
	decisive := int64(0)
	if e.op == "or" {
		decisive = 1
	}
	null := false
	for _, a := range e.args {
		v, err := a.eval(b, row)
		switch {
		case err != nil:
			return v, err
		case v.kind == vNull:
			null = true
		case v.kind != vBool:
			return v, errors.New("deltalake: AND and OR need conditions")
		case v.i == decisive:
			return v, nil
		}
	}
	if null {
		return value{}, nil
	}
	return boolValue(decisive == 0), nil
}

// apply computes an operator whose arguments are not null.
func (e *Expr) apply(a []value) (value, error) {
	switch e.op {
	case "not":
		if a[0].kind != vBool {
			return a[0], errors.New("deltalake: NOT needs a condition")
		}
		return boolValue(a[0].i == 0), nil
	case "=", "!=", "<", "<=", ">", ">=", "<=>":
		c, ok := a[0].compare(a[1])
		if !ok {
			return value{}, fmt.Errorf("deltalake: %s and %s cannot be compared", a[0].text(), a[1].text())
		}
		switch e.op {
		case "=", "<=>":
			return boolValue(c == 0), nil
		case "!=":
			return boolValue(c != 0), nil
		case "<":
			return boolValue(c < 0), nil
		case "<=":
			return boolValue(c <= 0), nil
		case ">":
			return boolValue(c > 0), nil
		}
		return boolValue(c >= 0), nil
	case "like":
		return boolValue(like(a[0].text(), a[1].text())), nil
	case "neg":
		v, ok := a[0].negate()
		if !ok {
			return v, fmt.Errorf("deltalake: -%s is not a number", a[0].text())
		}
		return v, nil
	case "+", "-", "*", "/", "%":
		return arith(e.op, a[0], a[1])
	case "||":
		return textValue(a[0].text() + a[1].text()), nil
	}
	return call(strings.TrimPrefix(e.op, "fn:"), a)
}

func arith(op string, a, b value) (value, error) {
	for _, p := range []*value{&a, &b} {
		if p.kind == vText {
			if v, ok := p.cast(&Type{Kind: KindDouble}); ok {
				*p = v
			}
		}
		if p.kind != vInt && p.kind != vFloat && p.kind != vDecimal {
			if p.kind == vDate && p == &a && (op == "+" || op == "-") && b.kind == vInt {
				continue
			}
			return value{}, fmt.Errorf("deltalake: %s is not a number", p.text())
		}
	}
	if a.kind == vDate {
		if op == "-" {
			b.i = -b.i
		}
		a.i += b.i
		return a, nil
	}
	if a.kind == vInt && b.kind == vInt && op != "/" {
		return arithInt(op, a.i, b.i)
	}
	if a.kind != vFloat && b.kind != vFloat && op != "/" && op != "%" {
		return arithDecimal(op, a, b)
	}
	x, y := a.float(), b.float()
	v := value{kind: vFloat}
	switch op {
	case "+":
		v.f = x + y
	case "-":
		v.f = x - y
	case "*":
		v.f = x * y
	case "/":
		if y == 0 {
			return value{}, nil
		}
		v.f = x / y
	case "%":
		if y == 0 {
			return value{}, nil
		}
		v.f = math.Mod(x, y)
	}
	return v, nil
}

func arithInt(op string, a, b int64) (value, error) {
	overflow := fmt.Errorf("deltalake: %d %s %d overflows", a, op, b)
	v := value{kind: vInt}
	switch op {
	case "+":
		v.i = a + b
		if (v.i > a) != (b > 0) && b != 0 {
			return v, overflow
		}
	case "-":
		v.i = a - b
		if (v.i < a) != (b > 0) && b != 0 {
			return v, overflow
		}
	case "*":
		v.i = a * b
		if a != 0 && (v.i/a != b || a == -1 && b == math.MinInt64) {
			return v, overflow
		}
	case "%":
		if b == 0 {
			return value{}, nil
		}
		if b != -1 {
			v.i = a % b
		}
	}
	return v, nil
}

func arithDecimal(op string, a, b value) (value, error) {
	toBig := func(v value) (*big.Int, int) {
		if v.kind == vDecimal {
			return v.d.Big(), v.scale
		}
		return big.NewInt(v.i), 0
	}
	x, xs := toBig(a)
	y, ys := toBig(b)
	scale := max(xs, ys)
	if op == "*" {
		scale = xs + ys
		x.Mul(x, y)
	} else {
		x.Mul(x, pow10(scale-xs).Big())
		y.Mul(y, pow10(scale-ys).Big())
		if op == "+" {
			x.Add(x, y)
		} else {
			x.Sub(x, y)
		}
	}
	d, ok := decimalFromBig(x)
	if !ok || scale > 38 {
		return value{}, fmt.Errorf("deltalake: %s %s %s overflows", a.text(), op, b.text())
	}
	return value{kind: vDecimal, d: d, scale: scale}, nil
}

// call computes a function whose arguments are not null.
func call(name string, a []value) (value, error) {
	moment := func(v value) (time.Time, bool) {
		c, ok := v.cast(&Type{Kind: KindTimestamp})
		return time.UnixMicro(c.i).UTC(), ok
	}
	num := func(n int) (value, error) { return value{kind: vInt, i: int64(n)}, nil }
	switch name {
	case "year", "month", "day", "dayofmonth", "hour", "minute", "second":
		t, ok := moment(a[0])
		if !ok {
			return value{}, nil
		}
		switch name {
		case "year":
			return num(t.Year())
		case "month":
			return num(int(t.Month()))
		case "hour":
			return num(t.Hour())
		case "minute":
			return num(t.Minute())
		case "second":
			return num(t.Second())
		}
		return num(t.Day())
	case "to_date", "date":
		v, ok := a[0].cast(&Type{Kind: KindDate})
		if !ok {
			return value{}, nil
		}
		return v, nil
	case "upper":
		return textValue(strings.ToUpper(a[0].text())), nil
	case "lower":
		return textValue(strings.ToLower(a[0].text())), nil
	case "trim":
		return textValue(strings.Trim(a[0].text(), " ")), nil
	case "length":
		return num(utf8.RuneCountInString(a[0].text()))
	case "abs":
		if c, ok := a[0].compare(value{kind: vInt}); ok && c < 0 {
			v, _ := a[0].negate()
			return v, nil
		}
		return a[0], nil
	case "mod":
		return arith("%", a[0], a[1])
	case "concat":
		var b strings.Builder
		for _, v := range a {
			b.WriteString(v.text())
		}
		return textValue(b.String()), nil
	case "startswith":
		return boolValue(strings.HasPrefix(a[0].text(), a[1].text())), nil
	case "substring", "substr":
		return textValue(substring(a)), nil
	case "date_trunc":
		t, ok := moment(a[1])
		if !ok {
			return value{}, nil
		}
		return truncTime(strings.ToLower(a[0].text()), t)
	case "date_format":
		t, ok := moment(a[0])
		if !ok {
			return value{}, nil
		}
		return dateFormat(t, a[1].text())
	}
	return value{}, fmt.Errorf("deltalake: function %q is not supported in expressions", name)
}

func substring(a []value) string {
	r := []rune(a[0].text())
	from := int(min(max(a[1].i, math.MinInt32), math.MaxInt32))
	switch {
	case from > 0:
		from--
	case from < 0:
		from = len(r) + from
	}
	to := len(r)
	if len(a) == 3 {
		to = from + int(min(max(a[2].i, 0), int64(len(r)+abs(from))))
	}
	from, to = max(0, min(from, len(r))), max(0, min(to, len(r)))
	if to <= from {
		return ""
	}
	return string(r[from:to])
}

func abs(n int) int { return max(n, -n) }

func truncTime(unit string, t time.Time) (value, error) {
	y, m, d := t.Date()
	switch unit {
	case "year":
		t = time.Date(y, 1, 1, 0, 0, 0, 0, time.UTC)
	case "month":
		t = time.Date(y, m, 1, 0, 0, 0, 0, time.UTC)
	case "day":
		t = time.Date(y, m, d, 0, 0, 0, 0, time.UTC)
	case "hour", "minute", "second":
		t = t.Truncate(map[string]time.Duration{"hour": time.Hour, "minute": time.Minute, "second": time.Second}[unit])
	default:
		return value{}, fmt.Errorf("deltalake: date_trunc to %q is not supported", unit)
	}
	return value{kind: vTime, i: t.UnixMicro()}, nil
}

// dateFormat writes the patterns that partition columns are generated with.
func dateFormat(t time.Time, pattern string) (value, error) {
	layout := strings.NewReplacer("yyyy", "2006", "MM", "01", "dd", "02", "HH", "15", "mm", "04", "ss", "05").Replace(pattern)
	if rest := strings.Trim(layout, "0123456789-/:. _"); rest != "" {
		return value{}, fmt.Errorf("deltalake: date_format with %q is not supported", pattern)
	}
	return textValue(t.Format(layout)), nil
}

// like matches SQL's % and _, with a backslash as escape.
func like(s, pattern string) bool {
	p := []rune(pattern)
	r := []rune(s)
	i, j, star, mark := 0, 0, -1, 0
	for i < len(r) {
		switch {
		case j < len(p) && p[j] == '%':
			star, mark = j, i
			j++
		case j+1 < len(p) && p[j] == '\\' && p[j+1] == r[i]:
			i, j = i+1, j+2
		case j < len(p) && p[j] != '\\' && (p[j] == '_' || p[j] == r[i]):
			i, j = i+1, j+1
		case star >= 0:
			mark++
			i, j = mark, star+1
		default:
			return false
		}
	}
	for j < len(p) && p[j] == '%' {
		j++
	}
	return j == len(p)
}
