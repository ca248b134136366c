package deltalake

import (
	"bytes"
	"unicode/utf8"
)

// lineReader reads log lines of the shape that nearly all have: an add of the
// common fields, written without spaces. Whatever else it meets, it gives up, and
// encoding/json reads the line; what it does read is what that would.
type lineReader struct {
	b   []byte
	i   int
	bad bool
	buf []byte
}

var addHead = []byte(`{"add":{"`)

// add returns the file that a line adds; nil when the line is of another shape.
func (r *lineReader) add(line []byte) *AddFile {
	if !bytes.HasPrefix(line, addHead) || !utf8.Valid(line) {
		return nil
	}
	r.b, r.i, r.bad = line, len(addHead)-1, false
	a := &AddFile{}
	seen := 0
	once := func(bit int) {
		r.bad = r.bad || seen&bit != 0
		seen |= bit
	}
	for !r.bad {
		key := r.text()
		r.expect(':')
		switch string(key) {
		case "path":
			once(1)
			a.Path = string(r.text())
		case "partitionValues":
			once(2)
			a.PartitionValues = r.texts()
		case "size":
			once(4)
			a.Size = r.number()
		case "modificationTime":
			once(8)
			a.ModificationTime = r.number()
		case "dataChange":
			once(16)
			a.DataChange = r.flag()
		case "stats":
			once(32)
			a.Stats = string(r.text())
		default:
			return nil
		}
		if r.at() == ',' {
			r.i++
			continue
		}
		r.expect('}')
		r.expect('}')
		if r.i != len(line) {
			return nil
		}
		break
	}
	if r.bad {
		return nil
	}
	return a
}

func (r *lineReader) at() byte {
	if r.i < len(r.b) {
		return r.b[r.i]
	}
	r.bad = true
	return 0
}

func (r *lineReader) expect(c byte) {
	if r.at() != c {
		r.bad = true
	}
	r.i++
}

func (r *lineReader) word(w string) bool {
	if bytes.HasPrefix(r.b[min(r.i, len(r.b)):], []byte(w)) {
		r.i += len(w)
		return true
	}
	return false
}

func (r *lineReader) flag() bool {
	if r.word("true") {
		return true
	}
	r.bad = r.bad || !r.word("false")
	return false
}

// number reads an integer of at most 18 digits.
func (r *lineReader) number() int64 {
	sign := int64(1)
	if r.at() == '-' {
		sign = -1
		r.i++
	}
	start, n := r.i, int64(0)
	for r.i < len(r.b) && r.b[r.i] >= '0' && r.b[r.i] <= '9' && r.i-start < 19 {
		n = n*10 + int64(r.b[r.i]-'0')
		r.i++
	}
	if digits := r.i - start; digits == 0 || digits > 18 || digits > 1 && r.b[start] == '0' {
		r.bad = true
	}
	return sign * n
}

// text reads a string; the bytes are the reader's until the next call.
func (r *lineReader) text() []byte {
	r.expect('"')
	if r.bad {
		return nil
	}
	start := r.i
	for ; r.i < len(r.b); r.i++ {
		switch c := r.b[r.i]; {
		case c == '"':
			r.i++
			return r.b[start : r.i-1]
		case c == '\\':
			return r.escaped(start)
		case c < 0x20:
			r.bad = true
			return nil
		}
	}
	r.bad = true
	return nil
}

// escaped reads the rest of a string that has escapes.
func (r *lineReader) escaped(start int) []byte {
	r.buf = append(r.buf[:0], r.b[start:r.i]...)
	for r.i < len(r.b) {
		c := r.b[r.i]
		r.i++
		switch {
		case c == '"':
			return r.buf
		case c < 0x20:
			r.bad = true
			return nil
		case c == '\\':
			e := r.at()
			r.i++
			switch e {
			case '"', '\\', '/':
				r.buf = append(r.buf, e)
			case 'n':
				r.buf = append(r.buf, '\n')
			case 't':
				r.buf = append(r.buf, '\t')
			case 'r':
				r.buf = append(r.buf, '\r')
			default:
				r.bad = true
				return nil
			}
		default:
			// A run without escapes at once.
			from := r.i - 1
			for r.i < len(r.b) && r.b[r.i] != '"' && r.b[r.i] != '\\' && r.b[r.i] >= 0x20 {
				r.i++
			}
			r.buf = append(r.buf, r.b[from:r.i]...)
		}
	}
	r.bad = true
	return nil
}

// texts reads a map of strings or nulls.
func (r *lineReader) texts() map[string]*string {
	m := map[string]*string{}
	r.expect('{')
	if r.at() == '}' {
		r.i++
		return m
	}
	for !r.bad {
		key := string(r.text())
		r.expect(':')
		if r.word("null") {
			m[key] = nil
		} else {
			v := string(r.text())
			m[key] = &v
		}
		if r.at() != ',' {
			break
		}
		r.i++
	}
	r.expect('}')
	return m
}
