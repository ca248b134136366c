package kernel

import (
	"fmt"

	"github.com/weirstream/weir/stream/spi"
)

// A Port collects the rows of one output port of a running operator. The zero
// value is not usable: see NewPort.
type Port[T any] struct {
	port int
	Rows *Rows[T]
}

// NewPort returns an empty output port.
func NewPort[T any](port int) *Port[T] { return &Port[T]{port: port} }

// Room returns how many more rows the port takes, those it holds counted.
func (p *Port[T]) Room(h spi.Host) int {
	room := h.Room(p.port)
	if p.Rows != nil {
		room -= len(p.Rows.Values)
	}
	return max(room, 0)
}

// Batch returns the rows collected since the last Flush, for appending.
func (p *Port[T]) Batch() *Rows[T] {
	if p.Rows == nil {
		p.Rows = NewRows[T](0)
	}
	return p.Rows
}

// Flush sends what was collected.
func (p *Port[T]) Flush(h spi.Host) {
	if p.Rows != nil && len(p.Rows.Values) > 0 {
		p.Rows = h.Send(p.port, p.Rows).(*Rows[T])
	}
}

// A SidePort is a Port of whatever row type.
type SidePort interface {
	Room(h spi.Host) int
	Flush(h spi.Host)
}

// Sides are the side outputs of one running operator, found by their tag. The
// zero value has none.
type Sides struct {
	// At is the event time of rows emitted now, in microseconds; the runner sets it
	// before every user call.
	At    int64
	tags  []any
	ports []SidePort
}

// Add registers the port of a tag. Tags are compared by identity.
func (s *Sides) Add(tag any, p SidePort) {
	s.tags = append(s.tags, tag)
	s.ports = append(s.ports, p)
}

// Room returns the least room of all side outputs, at most most.
func (s *Sides) Room(h spi.Host, most int) int {
	for _, p := range s.ports {
		most = min(most, p.Room(h))
	}
	return most
}

// Flush sends what was collected on every side output.
func (s *Sides) Flush(h spi.Host) {
	for _, p := range s.ports {
		p.Flush(h)
	}
}

// EmitSide appends a row to the side output of a tag. It panics, which fails the
// attempt, when the operator was not given the tag.
func EmitSide[T any](s *Sides, tag any, name string, v T) {
	for i, t := range s.tags {
		if t == tag {
			s.ports[i].(*Port[T]).Batch().Add(v, s.At)
			return
		}
	}
	panic(fmt.Sprintf("stream: emit to side output %q, which the operator does not have: list the tag in the operator's call", name))
}
