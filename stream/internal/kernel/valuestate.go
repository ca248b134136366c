package kernel

import (
	"reflect"

	"github.com/weirstream/weir/dataflow"
)

// A ValueHandle is a value beside the actor's struct: one row per key.
type ValueHandle[V any] struct {
	Name string
	TTL  int64 // microseconds after the last write; 0: none
}

type valueImpl[V any] struct{ *cells }

func (s *ValueHandle[V]) open(c *Core, owner ownerTable) (handleImpl, error) {
	x, _, err := openCells(c, owner, s.Name, dataflow.ValueState, reflect.TypeFor[V](), s.TTL)
	if err != nil {
		return nil, err
	}
	return &valueImpl[V]{x}, nil
}

func (x *valueImpl[V]) clear() {
	x.plainKey()
	x.drop()
}

func (s *ValueHandle[V]) impl(c *Core) *valueImpl[V] { return implOf[*valueImpl[V]](c, s, s.Name) }

// Get returns the value of the current key.
func (s *ValueHandle[V]) Get(c *Core) (v V, ok bool) {
	x := s.impl(c)
	x.plainKey()
	if p := x.peek(); p != nil {
		return *(*V)(p), true
	}
	return v, false
}

// Set sets the value of the current key.
func (s *ValueHandle[V]) Set(c *Core, v V) {
	x := s.impl(c)
	x.plainKey()
	p, _ := x.cells.open(true)
	*(*V)(p) = v
}

// Clear drops the value of the current key.
func (s *ValueHandle[V]) Clear(c *Core) { s.impl(c).clear() }
