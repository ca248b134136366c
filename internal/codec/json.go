package codec

import (
	"encoding/binary"
	"errors"
	"fmt"
	"reflect"
	"strconv"
	"unsafe"

	"github.com/weirstream/weir/stream/spi"
)

// A jsonNode is a shape as JSON reads and writes it.
type jsonNode struct {
	kind   kind
	mode   jsonMode // reading
	modeTo jsonMode // writing
	shape  *shape
	fields []jsonField
	index  map[string]int // of fields by name
	elem   *jsonNode
	key    *jsonNode
	quoted bool      // ",string": in a string
	epoch  epochUnit // kTime
	detour bool      // mode or quoted: not read by kind alone
}

type jsonField struct {
	name string // as it is
	key  string // "name": with its quotes and colon, escaped as we write it
	off  uintptr
	node *jsonNode
	omit jsonOmit
	i    int // its index

	// The first and the last 8 bytes of key as words, head under a mask where key is
	// shorter: they tell most names apart without a call.
	head, mask, tail uint64
}

func newJSONField(f field, i int, n *jsonNode) jsonField {
	j := jsonField{name: f.name, key: string(appendJSONString(nil, f.name)) + ":", off: f.off, node: n, omit: f.omit, i: i}
	var b [8]byte
	copy(b[:], j.key)
	j.head, j.mask = binary.LittleEndian.Uint64(b[:]), ^uint64(0)
	if len(j.key) < 8 {
		j.mask = 1<<(8*len(j.key)) - 1
	} else {
		j.tail = binary.LittleEndian.Uint64([]byte(j.key[len(j.key)-8:]))
	}
	return j
}

// is reports whether key stands at src[i:], of which word are the first 8 bytes.
func (f *jsonField) is(src []byte, i int, word uint64) bool {
	if word&f.mask != f.head {
		return false
	}
	n := len(f.key)
	if n <= 8 {
		return true
	}
	if n > len(src)-i || binary.LittleEndian.Uint64(src[i+n-8:]) != f.tail {
		return false
	}
	return n <= 16 || string(src[i+8:i+n-8]) == f.key[8:n-8]
}

// A jsonCodec reads and writes values as JSON objects, arrays and scalars.
//
// It agrees with encoding/json on what is valid, on escapes, invalid UTF-8, null,
// base64 and numbers, except that, on purpose,
//
//   - names are compared exactly, and fields without a tag are in snake case;
//   - times come back in UTC, may be written "2006-01-02 15:04:05" with or without a
//     zone (UTC then), and with the tags millis and micros as integers;
//   - Decimal is read digit by digit;
//   - a name that occurs twice replaces a slice instead of writing into it;
//   - an embedded pointer to a struct is a field, not a set of fields;
//   - nesting ends at 1,000 levels instead of 10,000;
//   - HTML is not escaped.
type jsonCodec struct {
	typ  *Type
	root *jsonNode
}

// NewJSON returns the JSON codec of t.
func NewJSON(t reflect.Type) (spi.Codec, error) {
	typ, err := Of(t)
	if err != nil {
		return nil, err
	}
	c := jsonCompiler{nodes: map[*shape]*jsonNode{}}
	root := c.node(typ.shape, typ.name)
	if err := errors.Join(c.errs...); err != nil {
		return nil, err
	}
	return &jsonCodec{typ, root}, nil
}

// Schema returns the Avro schema of the row type.
func (c *jsonCodec) Schema() string { return c.typ.schema }

func (c *jsonCodec) Append(dst []byte, p unsafe.Pointer) ([]byte, error) {
	w := jsonWriter{b: dst}
	if err := w.value(c.root, p, 0); err != nil {
		return nil, fmt.Errorf("codec: %s%w", c.typ.name, err)
	}
	return w.b, nil
}

func (c *jsonCodec) Decode(src []byte, p unsafe.Pointer, a *spi.Arena) error {
	r := jsonReader{src: src, arena: a}
	i := r.value(c.root, skipSpace(src, 0), p)
	if i >= 0 {
		if i = skipSpace(src, i); i == len(src) {
			return nil
		}
		r.fault(i, "unexpected "+r.found(i)+" after the value")
	}
	return fmt.Errorf("codec: %s%s at byte %d: %s", c.typ.name, r.path, r.off, r.msg)
}

// A jsonCompiler makes one node per shape; fields with options get copies.
type jsonCompiler struct {
	nodes map[*shape]*jsonNode
	errs  []error
}

func (c *jsonCompiler) node(s *shape, path string) *jsonNode {
	if n := c.nodes[s]; n != nil {
		return n
	}
	n := &jsonNode{kind: s.kind, mode: s.jsonIn, modeTo: s.jsonTo, shape: s, detour: s.jsonIn != jsonPlain}
	c.nodes[s] = n
	switch s.kind {
	case kPtr, kSlice, kArray:
		n.elem = c.node(s.elem, path)
	case kMap:
		n.key, n.elem = c.node(s.key, path), c.node(s.elem, path)
		if !jsonKey(n.key) {
			c.errs = append(c.errs, fmt.Errorf("codec: %s: JSON has no map with keys of type %s: use strings or integers", path, s.key.typ))
		}
	case kStruct:
		n.index = map[string]int{}
		for _, f := range s.fields {
			if f.skipped {
				continue
			}
			fn := c.field(f, path+"."+f.path)
			i := len(n.fields)
			n.index[f.name] = i
			n.fields = append(n.fields, newJSONField(f, i, fn))
		}
	}
	return n
}

// field returns the node of a field, a copy of its type's where the field has
// options.
func (c *jsonCompiler) field(f field, path string) *jsonNode {
	n := c.node(f.shape, path)
	if f.epoch == epochNone && !f.quoted {
		return n
	}
	own := *n
	at := &own
	for at.kind == kPtr {
		e := *at.elem
		at.elem = &e
		at = &e
	}
	at.epoch = f.epoch
	if f.quoted && at.mode == jsonPlain && at.modeTo == jsonPlain {
		switch {
		case at.kind == kString:
			c.errs = append(c.errs, fmt.Errorf("codec: %s: the json option string on a string is not supported: drop it", path))
		case at.kind <= kFloat64:
			at.quoted, at.detour = true, true
		}
	}
	return &own
}

func jsonKey(n *jsonNode) bool {
	switch {
	case n.mode == jsonText && n.modeTo == jsonText:
		return true
	case n.kind == kString || n.kind == kDecimal:
		return true
	}
	return n.kind >= kInt8 && n.kind <= kUint64
}

// A jsonReader is one decoding. Its methods take and return the index of the next
// byte, -1 after a fault.
type jsonReader struct {
	src     []byte
	arena   *spi.Arena
	depth   int
	scratch []byte // the last unquoted string
	// the fault
	off  int
	msg  string
	path string
}

func (r *jsonReader) fault(i int, msg string) int {
	r.off, r.msg, r.path = i, msg, ""
	return -1
}

// want is the fault of meeting another kind of value.
func (r *jsonReader) want(i int, what string) int {
	return r.fault(i, "want "+what+", found "+r.found(i))
}

// in adds a step to the path of the fault.
func (r *jsonReader) in(step string) int {
	if len(r.path) < 200 {
		r.path = step + r.path
	}
	return -1
}

// found names what stands at i.
func (r *jsonReader) found(i int) string {
	if i >= len(r.src) {
		return "the end"
	}
	switch c := r.src[i]; c {
	case '"':
		return "a string"
	case '{':
		return "an object"
	case '[':
		return "an array"
	case 't', 'f':
		return "a boolean"
	case 'n':
		return "null"
	default:
		if c == '-' || c-'0' <= 9 {
			return "a number"
		}
		return strconv.QuoteRune(rune(c))
	}
}

func (r *jsonReader) enter(i int) bool {
	if r.depth++; r.depth > maxDepth {
		r.fault(i, "nested more than "+strconv.Itoa(maxDepth)+" deep")
		return false
	}
	return true
}

// skipSpace returns the index of the first byte from i on that is not white
// space.
func skipSpace(src []byte, i int) int {
	for i < len(src) && (src[i] == ' ' || src[i] == '\n' || src[i] == '\t' || src[i] == '\r') {
		i++
	}
	return i
}

// object reads an object into the struct at p. Fields are expected in the order
// of the struct, which costs one comparison each; others are looked up.
func (r *jsonReader) object(n *jsonNode, i int, p unsafe.Pointer) int {
	src := r.src
	if src[i] != '{' {
		return r.want(i, "an object")
	}
	if !r.enter(i) {
		return -1
	}
	if i = skipSpace(src, i+1); i < len(src) && src[i] == '}' {
		r.depth--
		return i + 1
	}
	for next := 0; ; {
		var f *jsonField
		if len(src)-i >= 8 {
			word := binary.LittleEndian.Uint64(src[i:])
			for k := next; k < len(n.fields) && k < next+4; k++ {
				if c := &n.fields[k]; c.is(src, i, word) {
					f = c
					i += len(c.key)
					break
				}
			}
		}
		if f == nil {
			if f, i = r.name(n, i); i < 0 {
				return -1
			}
		}
		if i < len(src) && src[i] <= ' ' {
			i = skipSpace(src, i)
		}
		if f != nil {
			next = f.i + 1
			if i = r.value(f.node, i, unsafe.Add(p, f.off)); i < 0 {
				return r.in("." + f.name)
			}
		} else if i = r.skip(i); i < 0 {
			return -1
		}
		if i < len(src) && src[i] <= ' ' {
			i = skipSpace(src, i)
		}
		if i >= len(src) {
			return r.fault(i, "the object does not end")
		}
		switch src[i] {
		case ',':
			if i++; i < len(src) && src[i] <= ' ' {
				i = skipSpace(src, i)
			}
		case '}':
			r.depth--
			return i + 1
		default:
			return r.fault(i, "want a comma or the end of the object, found "+r.found(i))
		}
	}
}

// name reads a name and its colon; f is nil for names that the struct lacks.
func (r *jsonReader) name(n *jsonNode, i int) (f *jsonField, next int) {
	s, i := r.stringBytes(i, "a field name")
	if i < 0 {
		return nil, -1
	}
	if at, ok := n.index[string(s)]; ok {
		f = &n.fields[at]
	}
	if i = skipSpace(r.src, i); i >= len(r.src) || r.src[i] != ':' {
		return nil, r.fault(i, "want a colon, found "+r.found(i))
	}
	return f, i + 1
}
