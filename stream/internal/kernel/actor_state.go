package kernel

import (
	"fmt"
	"reflect"
	"unsafe"

	"github.com/weirstream/weir/dataflow"
	"github.com/weirstream/weir/stream/spi"
)

// stateTag is the tag of fields that are parameters and not state.
const stateTag = "state"

// isParam reports whether a field is set by the factory and never stored.
func isParam(f reflect.StructField) bool { return f.Tag.Get(stateTag) == "-" }

// CheckActor refuses actor types that could not be kept: A must be a pointer to a
// struct whose fields are exported or tagged `state:"-"`.
func CheckActor[A any]() error {
	t := reflect.TypeFor[A]()
	if t.Kind() != reflect.Pointer || t.Elem().Kind() != reflect.Struct {
		return fmt.Errorf("actor type %v must be a pointer to a struct", t)
	}
	e := t.Elem()
	for i := range e.NumField() {
		if f := e.Field(i); !f.IsExported() && !isParam(f) {
			return fmt.Errorf("field %v.%s is unexported and would be lost at the first checkpoint: export it or tag it `state:\"-\"`", e, f.Name)
		}
	}
	return nil
}

// ActorStates lists the states of an actor operator of type A, without those of
// handles.
func ActorStates[A any](timed bool) []spi.StateType {
	states := []spi.StateType{{Name: ActorState, Kind: dataflow.ValueState, Value: reflect.TypeFor[A]().Elem()}}
	if timed {
		states = append(states, spi.StateType{Name: ActorTimers, Kind: dataflow.TimerIndex, Panes: true})
	}
	return states
}

func actorLayout[K comparable, A any](c keyCoder[K], timed bool) *layout {
	l := newLayout(reflect.TypeFor[K](), c.shape, c.steps, reflect.TypeFor[A]().Elem(), timed, false, false)
	l.timers = true
	return l
}

// copyState copies a state from one place to another.
func copyState(l *layout, to, from unsafe.Pointer) {
	if l.ptrs {
		reflect.NewAt(l.state, to).Elem().Set(reflect.NewAt(l.state, from).Elem())
		return
	}
	copy(unsafe.Slice((*byte)(to), l.bytes), unsafe.Slice((*byte)(from), l.bytes))
}

// resetOf returns the function that sets a loaded state's parameters anew, nil if
// it has none.
func resetOf[A any](init func() A) func(state unsafe.Pointer) {
	type param struct {
		off uintptr
		typ reflect.Type
	}
	var params []param
	t := reflect.TypeFor[A]().Elem()
	for i := range t.NumField() {
		if f := t.Field(i); isParam(f) {
			params = append(params, param{f.Offset, f.Type})
		}
	}
	if len(params) == 0 {
		return nil
	}
	return func(state unsafe.Pointer) {
		a := init()
		from := *(*unsafe.Pointer)(unsafe.Pointer(&a))
		for _, f := range params {
			reflect.NewAt(f.typ, unsafe.Add(state, f.off)).Elem().Set(reflect.NewAt(f.typ, unsafe.Add(from, f.off)).Elem())
		}
	}
}

// A Handle is a named state beside the actor's struct.
type Handle interface {
	// open makes the part of one subtask.
	open(c *Core, owner ownerTable) (handleImpl, error)
}

// A handleImpl is a Handle in one subtask.
type handleImpl interface {
	clear()  // drops what the current key has
	settle() // is called when no user call runs
	freeze(runs []*run) []*run
	thaw(err error)
	memory() (total, dirty int64)
	evict(n int64) int64
}

type boundHandle struct {
	handle Handle
	impl   handleImpl
}

// An ownerTable encodes the current key; it is the actor's table.
type ownerTable interface {
	appendKey(dst []byte, p unsafe.Pointer) []byte
}

// implOf returns the part of a handle in the running operator. It panics, which
// fails the attempt, if the operator was not given the handle.
func implOf[T handleImpl](c *Core, h Handle, name string) T {
	for i := range c.handles {
		if c.handles[i].handle == h {
			return c.handles[i].impl.(T)
		}
	}
	panic(fmt.Sprintf("stream: state %q is not one of this operator: list it in the operator's call", name))
}
