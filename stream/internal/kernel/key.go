package kernel

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"reflect"
	"strings"
	"time"
	"unsafe"
)

// Keys have one encoding, used for hashing and as the key part of rows:
//
//	bool          1 byte, 0 or 1
//	intN, uintN   N/8 bytes big-endian (int and uint: 8)
//	string        the bytes; inside a struct or array a uvarint length, then the bytes
//	array         its elements
//	struct        its fields in order, those named _ left out
//
// The hash of a key is CRC32C over its encoding, then a mixer. Both are part of
// the format of checkpoints: changing them loses state.

// HasherOf returns the hash function of keys of type K. It refuses, naming the
// part that is to blame, types whose equality is not that of their encoding:
// pointers, interfaces, floats, channels and time.Time.
//
// The function is stable across processes and versions and safe for concurrent
// use.
func HasherOf[K comparable]() (func(k K) uint32, error) {
	c, err := coderOf[K]()
	if err != nil {
		return nil, err
	}
	steps := c.steps
	switch c.shape {
	case shapeString:
		return func(k K) uint32 { return hashString(*(*string)(unsafe.Pointer(&k))) }, nil
	case shapeWord:
		switch c.steps[0].size {
		case 8:
			return func(k K) uint32 { return hashWord(*(*uint64)(unsafe.Pointer(&k))) }, nil
		case 4:
			return func(k K) uint32 { return hashWord4(*(*uint32)(unsafe.Pointer(&k))) }, nil
		}
	}
	return func(k K) uint32 {
		var buf [96]byte
		return hashBytes(appendKey(buf[:0], unsafe.Pointer(&k), steps))
	}, nil
}

// keyShape says how keys of a type are kept in a table.
type keyShape uint8

const (
	shapeWord    keyShape = iota // one integer or bool: by value
	shapeFlat                    // no strings: by value
	shapeString                  // a string: bytes in the arena
	shapeEncoded                 // holds strings: encoding in the arena
)

// A keyStep is a leaf of a key type.
type keyStep struct {
	off  uintptr
	size uint8 // of an integer or bool; 0: a string
	last bool  // the whole key is this string: no length
}

// A keyCoder encodes keys of type K.
type keyCoder[K comparable] struct {
	steps []keyStep
	shape keyShape
	hash  func(K) uint32
}

func coderOf[K comparable]() (keyCoder[K], error) {
	t := reflect.TypeFor[K]()
	var c keyCoder[K]
	var err error
	if c.steps, err = keySteps(nil, t, 0, t.String()); err != nil {
		return c, err
	}
	c.shape = shapeFlat
	if len(c.steps) == 1 && t.Kind() != reflect.Struct && t.Kind() != reflect.Array {
		c.shape = shapeWord
	}
	for _, s := range c.steps {
		if s.size == 0 {
			c.shape = shapeEncoded
		}
	}
	if t.Kind() == reflect.String {
		c.shape = shapeString
		c.steps[0].last = true
	}
	return c, nil
}

// newKeyCoder returns the coder of K with its hash function.
func newKeyCoder[K comparable]() (keyCoder[K], error) {
	c, err := coderOf[K]()
	if err != nil {
		return c, err
	}
	c.hash, err = HasherOf[K]()
	return c, err
}

const maxKeySteps = 4096

// keySteps appends the leaves of t, which lies at off; path names it in errors.
func keySteps(steps []keyStep, t reflect.Type, off uintptr, path string) ([]keyStep, error) {
	refuse := func(why, cure string) ([]keyStep, error) {
		return nil, fmt.Errorf("stream: %s (%v) cannot be part of a key, %s: %s", path, t, why, cure)
	}
	if t == reflect.TypeFor[time.Time]() {
		return refuse("equal times can differ in their zone", "use t.UnixMicro()")
	}
	if len(steps) > maxKeySteps {
		return refuse("the key has too many parts", "use a string made of them")
	}
	switch t.Kind() {
	case reflect.Bool, reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64,
		reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return append(steps, keyStep{off: off, size: uint8(t.Size())}), nil
	case reflect.String:
		return append(steps, keyStep{off: off}), nil
	case reflect.Array:
		var err error
		for i := range t.Len() {
			steps, err = keySteps(steps, t.Elem(), off+uintptr(i)*t.Elem().Size(), path+"[i]")
			if err != nil {
				return nil, err
			}
		}
		return steps, nil
	case reflect.Struct:
		var err error
		for i := range t.NumField() {
			f := t.Field(i)
			if f.Name == "_" {
				continue
			}
			steps, err = keySteps(steps, f.Type, off+f.Offset, strings.TrimPrefix(path+"."+f.Name, "."))
			if err != nil {
				return nil, err
			}
		}
		return steps, nil
	case reflect.Float32, reflect.Float64, reflect.Complex64, reflect.Complex128:
		return refuse("floats have no exact equality", "use an integer, such as cents")
	case reflect.Pointer, reflect.UnsafePointer, reflect.Chan:
		return refuse("a pointer means nothing in another process", "use the value")
	case reflect.Interface:
		return refuse("an interface has no fixed type", "use a concrete type")
	}
	return refuse("its kind is not supported", "use integers, strings, bools, and arrays and structs of them")
}

// append appends the encoding of k.
func (c *keyCoder[K]) append(dst []byte, k K) []byte {
	return appendKey(dst, unsafe.Pointer(&k), c.steps)
}

// appendKey appends the encoding of the key at p.
func appendKey(dst []byte, p unsafe.Pointer, steps []keyStep) []byte {
	for i := range steps {
		s := &steps[i]
		q := unsafe.Add(p, s.off)
		switch s.size {
		case 0:
			v := *(*string)(q)
			if !s.last {
				dst = binary.AppendUvarint(dst, uint64(len(v)))
			}
			dst = append(dst, v...)
		case 1:
			dst = append(dst, *(*byte)(q))
		case 2:
			dst = binary.BigEndian.AppendUint16(dst, *(*uint16)(q))
		case 4:
			dst = binary.BigEndian.AppendUint32(dst, *(*uint32)(q))
		default:
			dst = binary.BigEndian.AppendUint64(dst, *(*uint64)(q))
		}
	}
	return dst
}

// decode is the inverse of append; strings are copied.
func (c *keyCoder[K]) decode(b []byte) (k K, ok bool) {
	ok = decodeKey(b, unsafe.Pointer(&k), c.steps)
	return k, ok
}

// decodeKey sets the key at p from b.
func decodeKey(b []byte, p unsafe.Pointer, steps []keyStep) bool {
	for i := range steps {
		s := &steps[i]
		q := unsafe.Add(p, s.off)
		n := int(s.size)
		if n == 0 {
			n = len(b)
			if !s.last {
				l, w := binary.Uvarint(b)
				if w <= 0 || l > uint64(len(b)-w) {
					return false
				}
				b, n = b[w:], int(l)
			}
			*(*string)(q) = string(b[:n])
			b = b[n:]
			continue
		}
		if len(b) < n {
			return false
		}
		switch n {
		case 1:
			*(*byte)(q) = b[0]
		case 2:
			*(*uint16)(q) = binary.BigEndian.Uint16(b)
		case 4:
			*(*uint32)(q) = binary.BigEndian.Uint32(b)
		default:
			*(*uint64)(q) = binary.BigEndian.Uint64(b)
		}
		b = b[n:]
	}
	return len(b) == 0
}

// Tables of CRC32C eight bytes at a time: short keys are hashed here, without the
// set-up and the escaping buffer of hash/crc32.
var (
	castagnoli = crc32.MakeTable(crc32.Castagnoli)
	crcTables  = makeCRCTables()
)

func makeCRCTables() *[8][256]uint32 {
	var t [8][256]uint32
	t[0] = *castagnoli
	for i := range 256 {
		c := t[0][i]
		for j := 1; j < 8; j++ {
			c = t[0][c&0xff] ^ (c >> 8)
			t[j][i] = c
		}
	}
	return &t
}

// crcWord continues crc (inverted) over eight bytes given in little-endian order.
func crcWord(crc uint32, w uint64) uint32 {
	t := crcTables
	lo, hi := crc^uint32(w), uint32(w>>32)
	return t[7][lo&0xff] ^ t[6][lo>>8&0xff] ^ t[5][lo>>16&0xff] ^ t[4][lo>>24] ^
		t[3][hi&0xff] ^ t[2][hi>>8&0xff] ^ t[1][hi>>16&0xff] ^ t[0][hi>>24]
}

// mix spreads a CRC over all bits; it is a bijection (the finisher of
// MurmurHash3).
func mix(h uint32) uint32 {
	h ^= h >> 16
	h *= 0x85ebca6b
	h ^= h >> 13
	h *= 0xc2b2ae35
	h ^= h >> 16
	return h
}

func hashWord(v uint64) uint32 { return mix(^crcWord(^uint32(0), reverse8(v))) }

func hashWord4(v uint32) uint32 {
	t := crcTables
	c := ^uint32(0)
	for _, b := range [4]byte{byte(v >> 24), byte(v >> 16), byte(v >> 8), byte(v)} {
		c = t[0][byte(c)^b] ^ (c >> 8)
	}
	return mix(^c)
}

func reverse8(v uint64) uint64 {
	v = v>>8&0x00ff00ff00ff00ff | v&0x00ff00ff00ff00ff<<8
	v = v>>16&0x0000ffff0000ffff | v&0x0000ffff0000ffff<<16
	return v>>32 | v<<32
}

// longKey is where hash/crc32's instructions beat the tables.
const longKey = 64

func hashString(s string) uint32 {
	if len(s) >= longKey {
		return mix(crc32.Update(0, castagnoli, unsafe.Slice(unsafe.StringData(s), len(s))))
	}
	return hashBytes(unsafe.Slice(unsafe.StringData(s), len(s)))
}

// hashBytes is the hash of an encoded key. b does not escape.
func hashBytes(b []byte) uint32 {
	c := ^uint32(0)
	for len(b) >= 8 {
		c = crcWord(c, binary.LittleEndian.Uint64(b))
		b = b[8:]
	}
	t := crcTables
	for _, x := range b {
		c = t[0][byte(c)^x] ^ (c >> 8)
	}
	return mix(^c)
}
