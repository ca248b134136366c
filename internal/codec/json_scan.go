package codec

import (
	"encoding/binary"
	"math/bits"
	"strconv"
	"unicode/utf16"
	"unicode/utf8"
	"unsafe"
)

const (
	ones  = 0x0101010101010101
	highs = 0x8080808080808080
)

// special returns the index from i on of the first byte that a string cannot just
// be copied over: a quote, a backslash, a control character, or what is not ASCII.
// It is len(src) if there is none.
func special(src []byte, i int) int {
	for len(src)-i >= 16 {
		w, x := binary.LittleEndian.Uint64(src[i:]), binary.LittleEndian.Uint64(src[i+8:])
		m, k := flags(w), flags(x)
		if (m|k)&highs == 0 {
			i += 16
			continue
		}
		if m &= highs; m != 0 {
			return i + bits.TrailingZeros64(m)>>3
		}
		return i + 8 + bits.TrailingZeros64(k&highs)>>3
	}
	if len(src)-i >= 8 {
		if m := flags(binary.LittleEndian.Uint64(src[i:])) & highs; m != 0 {
			return i + bits.TrailingZeros64(m)>>3
		}
		i += 8
	}
	for i < len(src) && src[i] >= ' ' && src[i] != '"' && src[i] != '\\' && src[i] < utf8.RuneSelf {
		i++
	}
	return i
}

// flags sets the high bit of every byte of w that special looks for. In the
// lowest byte that is flagged the test is exact; borrows only reach higher ones.
func flags(w uint64) uint64 {
	return ((w ^ '"'*ones) - ones) | ((w ^ '\\'*ones) - ones) | (w - ' '*ones) | w
}

// stringBytes reads the string that begins at i. The bytes are src's own or the
// scratch's: valid until the next string.
func (r *jsonReader) stringBytes(i int, what string) (s []byte, next int) {
	src := r.src
	if i >= len(src) || src[i] != '"' {
		return nil, r.want(i, what)
	}
	start := i + 1
	end := special(src, start)
	if end < len(src) && src[end] == '"' {
		return src[start:end], end + 1
	}
	for end < len(src) && src[end] >= utf8.RuneSelf { // UTF-8 without escapes
		for end < len(src) && src[end] >= utf8.RuneSelf {
			end++
		}
		end = special(src, end)
	}
	if end < len(src) && src[end] == '"' && utf8.Valid(src[start:end]) {
		return src[start:end], end + 1
	}
	return r.unquote(start)
}

// unquote reads a string from behind its opening quote with everything that may
// be in one; what is not UTF-8 becomes U+FFFD.
func (r *jsonReader) unquote(i int) (s []byte, next int) {
	src, out := r.src, r.scratch[:0]
	for {
		j := special(src, i)
		out = append(out, src[i:j]...)
		if i = j; i >= len(src) {
			return nil, r.fault(i, "the string does not end")
		}
		switch c := src[i]; {
		case c == '"':
			r.scratch = out
			if out == nil {
				out = []byte{}
			}
			return out, i + 1
		case c < ' ':
			return nil, r.fault(i, "control character "+strconv.QuoteRune(rune(c))+" in a string")
		case c >= utf8.RuneSelf:
			c, size := utf8.DecodeRune(src[i:])
			out = utf8.AppendRune(out, c)
			i += size
		default: // a backslash
			c, size := unescape(src[i:])
			if size == 0 {
				return nil, r.fault(i, "bad escape in a string")
			}
			out = utf8.AppendRune(out, c)
			i += size
		}
	}
}

// unescape reads the escape at the beginning of b, two for a pair of surrogates;
// size is 0 if it is none.
func unescape(b []byte) (c rune, size int) {
	if len(b) < 2 {
		return 0, 0
	}
	switch b[1] {
	case '"', '\\', '/':
		return rune(b[1]), 2
	case 'b':
		return '\b', 2
	case 'f':
		return '\f', 2
	case 'n':
		return '\n', 2
	case 'r':
		return '\r', 2
	case 't':
		return '\t', 2
	case 'u':
		c, ok := hex4(b)
		if !ok {
			return 0, 0
		}
		if utf16.IsSurrogate(c) {
			if low, ok := hex4(b[6:]); ok {
				if pair := utf16.DecodeRune(c, low); pair != utf8.RuneError {
					return pair, 12
				}
			}
			return utf8.RuneError, 6
		}
		return c, 6
	}
	return 0, 0
}

// hex4 reads \u and four digits at the beginning of b.
func hex4(b []byte) (c rune, ok bool) {
	if len(b) < 6 || b[0] != '\\' || b[1] != 'u' {
		return 0, false
	}
	for _, d := range b[2:6] {
		switch {
		case d-'0' <= 9:
			d -= '0'
		case d|0x20 >= 'a' && d|0x20 <= 'f':
			d = d | 0x20 - 'a' + 10
		default:
			return 0, false
		}
		c = c<<4 | rune(d)
	}
	return c, true
}

// number returns the end of the number that begins at i, by JSON's grammar.
func (r *jsonReader) number(i int) int {
	src, start := r.src, i
	digits := func() bool {
		at := i
		for i < len(src) && src[i]-'0' <= 9 {
			i++
		}
		return i > at
	}
	if i < len(src) && src[i] == '-' {
		i++
	}
	if i < len(src) && src[i] == '0' {
		i++
	} else if !digits() {
		return r.want(start, "a number")
	}
	if i < len(src) && src[i] == '.' {
		if i++; !digits() {
			return r.fault(start, "a number has no digits behind its point")
		}
	}
	if i < len(src) && src[i]|0x20 == 'e' {
		if i++; i < len(src) && (src[i] == '-' || src[i] == '+') {
			i++
		}
		if !digits() {
			return r.fault(start, "a number has no digits in its exponent")
		}
	}
	return i
}

// literal returns the end of lit at i.
func (r *jsonReader) literal(i int, lit string) int {
	if len(r.src)-i < len(lit) || string(r.src[i:i+len(lit)]) != lit {
		return r.fault(i, "unexpected "+r.found(i)+", is it "+lit+"?")
	}
	return i + len(lit)
}

// skip passes over a value, which must be valid.
func (r *jsonReader) skip(i int) int {
	src := r.src
	if i >= len(src) {
		return r.want(i, "a value")
	}
	switch src[i] {
	case '"':
		return r.skipString(i + 1)
	case 't':
		return r.literal(i, "true")
	case 'f':
		return r.literal(i, "false")
	case 'n':
		return r.literal(i, "null")
	case '{', '[':
		return r.skipMembers(i)
	}
	return r.number(i)
}

func (r *jsonReader) skipString(i int) int {
	src := r.src
	for {
		if i = special(src, i); i >= len(src) {
			return r.fault(i, "the string does not end")
		}
		switch c := src[i]; {
		case c == '"':
			return i + 1
		case c == '\\':
			_, size := unescape(src[i:])
			if size == 0 {
				return r.fault(i, "bad escape in a string")
			}
			i += size
		case c < ' ':
			return r.fault(i, "control character "+strconv.QuoteRune(rune(c))+" in a string")
		default:
			i++
		}
	}
}

// skipMembers passes over an object or array.
func (r *jsonReader) skipMembers(i int) int {
	src := r.src
	if !r.enter(i) {
		return -1
	}
	object, end := src[i] == '{', src[i]+2 // '{' and '}', '[' and ']' are 2 apart
	if i = skipSpace(src, i+1); i < len(src) && src[i] == end {
		r.depth--
		return i + 1
	}
	for {
		if object {
			if i >= len(src) || src[i] != '"' {
				return r.want(i, "a field name")
			}
			if i = r.skipString(i + 1); i < 0 {
				return -1
			}
			if i = skipSpace(src, i); i >= len(src) || src[i] != ':' {
				return r.fault(i, "want a colon, found "+r.found(i))
			}
			i = skipSpace(src, i+1)
		}
		if i = r.skip(i); i < 0 {
			return -1
		}
		if i = skipSpace(src, i); i >= len(src) {
			return r.fault(i, "the value does not end")
		}
		if src[i] == end {
			r.depth--
			return i + 1
		}
		if src[i] != ',' {
			return r.fault(i, "want a comma, found "+r.found(i))
		}
		i = skipSpace(src, i+1)
	}
}

// view is b as a string, for calls that do not keep it.
func view(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }
