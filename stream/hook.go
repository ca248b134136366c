package stream

import (
	"reflect"
	"time"

	"github.com/weirstream/weir/stream/spi"
)

// A Hook is a function of a job over the rows of an operator, given to a
// connector's option. Connector packages make hooks with the functions below;
// Build compares the type of their rows with that of the operator.
type Hook = spi.Hook

// BytesHook makes a hook that returns text or bytes; a nil slice means none.
func BytesHook[T any, B string | []byte](name string, f func(T) B) Hook {
	return Hook{Name: name, Elem: reflect.TypeFor[T](), Bytes: func(dst []byte, p spi.Pointer) []byte {
		return append(dst, f(*(*T)(p))...)
	}}
}

// IntHook makes a hook that returns a number for a row and a limit n, such as a
// partition below n.
func IntHook[T any](name string, f func(row T, n int) int) Hook {
	return Hook{Name: name, Elem: reflect.TypeFor[T](), Int: func(p spi.Pointer, n int) int {
		return f(*(*T)(p), n)
	}}
}

// TimeHook makes a hook that returns a time.
func TimeHook[T any](name string, f func(T) time.Time) Hook {
	return Hook{Name: name, Elem: reflect.TypeFor[T](), Time: func(p spi.Pointer) int64 {
		return f(*(*T)(p)).UnixMicro()
	}}
}

// PairsHook makes a hook that yields pairs of text and bytes, in order.
func PairsHook[T any](name string, f func(row T, yield func(key string, value []byte))) Hook {
	return Hook{Name: name, Elem: reflect.TypeFor[T](), Pairs: func(p spi.Pointer, yield func(string, []byte)) {
		f(*(*T)(p), yield)
	}}
}
