package deltalake

import (
	"encoding/json"
	"strconv"
	"strings"
	"unicode/utf8"
)

// parseStatistics reads AddFile.Stats; what is not statistics tells nothing.
func parseStatistics(text string) *fileStatistics {
	if st, ok := walkStatistics(text); ok {
		return st
	}
	st := &fileStatistics{}
	if text == "" || json.Unmarshal([]byte(text), st) != nil {
		return &fileStatistics{}
	}
	return st
}

// statKeys are the parts of statistics that hold a value for each column.
var statKeys = [...]string{"minValues", "maxValues", "nullCount"}

const (
	minStats = iota
	maxStats
	nullStats
)

// lookup returns the value of a column in a part of the statistics; nil when it has
// none.
func (st *fileStatistics) lookup(part int, names []string) json.RawMessage {
	if st.walked {
		raw := st.parts[part]
		for _, name := range names {
			if raw = memberOf(raw, name); raw == "" {
				return nil
			}
		}
		return json.RawMessage(raw)
	}
	return dig([...]map[string]json.RawMessage{st.MinValues, st.MaxValues, st.NullCount}[part], names)
}

// walkStatistics reads statistics of the shape that writers give them, as JSON
// without spaces. Whatever else it meets it gives up, and encoding/json reads the
// text; where it does not, it tells what that would.
func walkStatistics(text string) (*fileStatistics, bool) {
	w := jsonWalk{text: text}
	st := &fileStatistics{walked: true}
	seen := 0
	ok := w.object(func(key string) bool {
		for part, name := range statKeys {
			if key == name && seen&(1<<part) == 0 && w.at() == '{' {
				seen |= 1 << part
				from := w.i
				if !w.value(0) {
					return false
				}
				st.parts[part] = text[from:w.i]
				return true
			}
			if strings.EqualFold(key, name) {
				return false
			}
		}
		switch {
		case key == "numRecords" && st.NumRecords == nil:
			from := w.i
			if !w.number() || w.i-from > 18 {
				return false
			}
			n, err := strconv.ParseInt(text[from:w.i], 10, 64)
			st.NumRecords = &n
			return err == nil
		case strings.EqualFold(key, "numRecords") || strings.EqualFold(key, "tightBounds") && !(w.at() == 't' || w.at() == 'f'):
			return false
		}
		return w.value(0)
	})
	return st, ok && w.i == len(text)
}

// memberOf returns the last member of that name in the text of an object, which is
// known to be sound; "" when it is none or has none.
func memberOf(object, name string) (raw string) {
	w := jsonWalk{text: object}
	ok := w.object(func(key string) bool {
		from := w.i
		if !w.value(0) {
			return false
		}
		if key == name {
			raw = object[from:w.i]
		}
		return true
	})
	if !ok {
		return ""
	}
	return raw
}

// jsonWalk passes over JSON that has no spaces. Each method tells whether what it
// is to pass is there, and sound.
type jsonWalk struct {
	text string
	i    int
}

// walkDepth bounds how deep values are nested.
const walkDepth = 64

func (w *jsonWalk) at() byte {
	if w.i < len(w.text) {
		return w.text[w.i]
	}
	return 0
}

func (w *jsonWalk) take(c byte) bool {
	if w.at() != c {
		return false
	}
	w.i++
	return true
}

// object passes an object; member must pass the value of each key, which has no
// escapes.
func (w *jsonWalk) object(member func(key string) bool) bool {
	if !w.take('{') {
		return false
	}
	if w.take('}') {
		return true
	}
	for {
		from := w.i + 1
		if !w.string() {
			return false
		}
		key := w.text[from : w.i-1]
		if strings.IndexByte(key, '\\') >= 0 || !utf8.ValidString(key) || !w.take(':') || !member(key) {
			return false
		}
		if !w.take(',') {
			return w.take('}')
		}
	}
}

func (w *jsonWalk) value(depth int) bool {
	switch c := w.at(); {
	case c == '"':
		return w.string()
	case c == '{' && depth < walkDepth:
		return w.object(func(string) bool { return w.value(depth + 1) })
	case c == '[' && depth < walkDepth:
		w.i++
		if w.take(']') {
			return true
		}
		for w.value(depth + 1) {
			if !w.take(',') {
				return w.take(']')
			}
		}
		return false
	case c == '-' || c >= '0' && c <= '9':
		return w.number()
	}
	for _, word := range [...]string{"true", "false", "null"} {
		if strings.HasPrefix(w.text[w.i:], word) {
			w.i += len(word)
			return true
		}
	}
	return false
}

func (w *jsonWalk) string() bool {
	if !w.take('"') {
		return false
	}
	for w.i < len(w.text) {
		c := w.text[w.i]
		w.i++
		switch {
		case c == '"':
			return true
		case c < 0x20:
			return false
		case c == '\\':
			e := w.at()
			if e == 0 {
				return false
			}
			w.i++
			if e == 'u' {
				for range 4 {
					if h := w.at() | 0x20; !(h >= '0' && h <= '9' && w.at() >= '0' || h >= 'a' && h <= 'f') {
						return false
					}
					w.i++
				}
			} else if strings.IndexByte(`"\/bfnrt`, e) < 0 {
				return false
			}
		}
	}
	return false
}

func (w *jsonWalk) digits() int {
	from := w.i
	for w.i < len(w.text) && w.text[w.i] >= '0' && w.text[w.i] <= '9' {
		w.i++
	}
	return w.i - from
}

// number passes a number.
func (w *jsonWalk) number() bool {
	w.take('-')
	from := w.i
	if n := w.digits(); n == 0 || n > 1 && w.text[from] == '0' {
		return false
	}
	if w.take('.') && w.digits() == 0 {
		return false
	}
	if c := w.at(); c == 'e' || c == 'E' {
		w.i++
		if !w.take('-') {
			w.take('+')
		}
		return w.digits() > 0
	}
	return true
}
