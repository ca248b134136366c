package stream

import (
	"maps"

	"github.com/weirstream/weir/dataflow"
	"github.com/weirstream/weir/stream/spi"
)

// A Sink declares where rows go. Connector packages make them: delta.Table,
// kafka.To, files.Sink. It carries no row type: Write knows it.
type Sink struct {
	Kind    string            // of the connector
	Options map[string]string // in snake case
	Format  string            // of values: "json", "avro", ...; "" where the connector has none
	Hooks   []spi.Hook        // functions over rows; Build compares their type with that of the rows
	// Err is what is wrong with the declaration; Build reports it.
	Err error
}

// Written is a sink of the graph, for its options.
type Written struct {
	g  *Graph
	op *opSpec
}

// Write sends the rows of the stream to a sink.
func Write[T any](s Stream[T], name string, sink Sink) Written {
	if sink.Err != nil {
		s.g.fault("sink %q: %w", name, sink.Err)
	}
	op := s.g.add(&opSpec{
		name: name, typ: "write", kind: dataflow.KindSink, ins: []input{s.in()},
		connector: &dataflow.Connector{Kind: sink.Kind, Options: maps.Clone(sink.Options), Format: sink.Format},
		hooks:     sink.Hooks,
	})
	return Written{s.g, op}
}

// Parallelism sets how many subtasks the sink has; by default as many as the job.
func (w Written) Parallelism(n int) Written {
	w.op.setParallelism(w.g, n)
	return w
}

// Describe sets a sentence about the sink for people.
func (w Written) Describe(text string) Written {
	w.op.describe = text
	return w
}

// NoChain keeps the sink out of chains.
func (w Written) NoChain() Written {
	w.op.noChain = true
	return w
}

// SlotGroup places the sink's subtasks in slots of that group.
func (w Written) SlotGroup(group string) Written {
	w.op.slotGroup = group
	return w
}
