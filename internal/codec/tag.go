package codec

import (
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"unicode"

	"github.com/weirstream/weir/dataflow"
)

// A fieldTag is what the tags of a field say.
type fieldTag struct {
	name     string // "" when none says
	skip     bool   // weir:"-"
	jsonSkip bool   // json:"-"
	omit     jsonOmit
	quoted   bool
	epoch    epochUnit
	prec     int
	scale    int
}

// parseTag reads `weir:"name,decimal(12,2)"` and `json:"name,omitempty"`.
func parseTag(tag reflect.StructTag) (t fieldTag, err error) {
	if j := tag.Get("json"); j == "-" {
		t.jsonSkip = true
	} else {
		parts := strings.Split(j, ",")
		if validJSONName(parts[0]) {
			t.name = parts[0]
		}
		for _, o := range parts[1:] {
			switch o {
			case "omitempty":
				t.omit = omitEmpty
			case "omitzero":
				t.omit = omitZero
			case "string":
				t.quoted = true
			}
		}
	}
	w, ok := tag.Lookup("weir")
	if !ok {
		return t, nil
	}
	if w == "-" {
		t.skip = true
		return t, nil
	}
	name, opts, _ := strings.Cut(w, ",")
	if name != "" {
		t.name = name
	}
	for opts != "" {
		var o string
		if i := strings.IndexByte(opts, ')'); strings.HasPrefix(opts, "decimal(") && i > 0 {
			o, opts = opts[:i+1], strings.TrimPrefix(opts[i+1:], ",")
		} else {
			o, opts, _ = strings.Cut(opts, ",")
		}
		switch {
		case o == "millis":
			t.epoch = epochMillis
		case o == "micros":
			t.epoch = epochMicros
		case strings.HasPrefix(o, "decimal("):
			if t.prec, t.scale, ok = parseDecimalType(o); !ok {
				return t, fmt.Errorf("tag %q: want decimal(p,s) with 1 ≤ p ≤ %d and 0 ≤ s ≤ p", o, dataflow.MaxDecimalDigits)
			}
		default:
			return t, fmt.Errorf("unknown option %q in its weir tag: the options are decimal(p,s), millis and micros", o)
		}
	}
	return t, nil
}

// validJSONName follows encoding/json, which ignores a tag with other characters.
func validJSONName(s string) bool {
	for _, c := range s {
		if !strings.ContainsRune("!#$%&()*+-./:;<=>?@[]^_{|}~ ", c) && !unicode.IsLetter(c) && !unicode.IsDigit(c) {
			return false
		}
	}
	return true
}

func parseDecimalType(s string) (prec, scale int, ok bool) {
	p, sc, ok := strings.Cut(strings.TrimSuffix(strings.TrimPrefix(s, "decimal("), ")"), ",")
	if !ok {
		sc = "0"
	}
	prec, err1 := strconv.Atoi(strings.TrimSpace(p))
	scale, err2 := strconv.Atoi(strings.TrimSpace(sc))
	return prec, scale, err1 == nil && err2 == nil && prec >= 1 && prec <= dataflow.MaxDecimalDigits && scale >= 0 && scale <= prec
}

// snake turns a Go name into snake case: UserID to user_id, HTTPCode to
// http_code.
func snake(s string) string {
	r := []rune(s)
	var b strings.Builder
	for i, c := range r {
		if unicode.IsUpper(c) && i > 0 && r[i-1] != '_' &&
			(!unicode.IsUpper(r[i-1]) || i+1 < len(r) && unicode.IsLower(r[i+1])) {
			b.WriteByte('_')
		}
		b.WriteRune(unicode.ToLower(c))
	}
	return b.String()
}
