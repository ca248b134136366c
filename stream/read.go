package stream

import (
	"maps"
	"reflect"

	"github.com/weirstream/weir/dataflow"
	"github.com/weirstream/weir/stream/internal/kernel"
	"github.com/weirstream/weir/stream/spi"
)

// A Source declares where rows of type T come from. Connector packages make
// them: kafka.Topic, files.Source, gen.Sequence. The implementation is linked into
// the worker under Kind.
type Source[T any] struct {
	Kind    string            // of the connector
	Options map[string]string // in snake case
	Codec   Codec[T]          // of values; zero where the connector has none
	Hooks   []spi.Hook        // functions over rows of T
	// Fill generates rows, for generators only: dst[i] becomes row first+i×step. The
	// rows are zero before.
	Fill func(dst []T, first, step int64)
	// Format overrides Codec where the value is not the whole row.
	Format string
	// Err is what is wrong with the declaration; Build reports it.
	Err error
}

// badRecords is the option that holds the policy for bad records in every
// connector that has one.
const badRecords = "bad_records"

// Read returns the rows of a source. Give at most one rule for event time.
func Read[T any](g *Graph, name string, src Source[T], rules ...TimeRule[T]) Stream[T] {
	o := kernel.SourceOptions[T]{}
	if len(rules) > 1 {
		g.fault("source %q has %d rules for event time: give one", name, len(rules))
	}
	if len(rules) > 0 {
		o = rules[0].options(g, name)
	}
	o.Fill = src.Fill
	if src.Err != nil {
		g.fault("source %q: %w", name, src.Err)
	}
	format := src.Format
	if format == "" {
		format = src.Codec.format
	}
	return addOp[T](g, opSpec{
		name: name, typ: "read", kind: dataflow.KindSource,
		connector: &dataflow.Connector{Kind: src.Kind, Options: maps.Clone(src.Options), Format: format},
		hooks:     src.Hooks,
		source:    func() (spi.SourceRunner, error) { return kernel.NewSource(o), nil },
	})
}

// rejects identifies the dead-letter output of sources.
var rejects = new(Tag[Rejected])

// Rejects returns the records that the source which made s could not decode, and
// sets its policy for bad records to DeadLetterBad.
func Rejects[T any](s Stream[T]) Stream[Rejected] {
	out := Stream[Rejected]{g: s.g}
	for _, r := range s.from {
		o := r.op
		if o.kind != dataflow.KindSource {
			s.g.fault("Rejects is read from operator %q, which is not a source", o.name)
			o.outs = append(o.outs, output{tag: rejects, name: "rejects", elem: reflect.TypeFor[Rejected](), read: true})
			out.from = append(out.from, outRef{o, len(o.outs) - 1})
			return out
		}
		switch policy := o.connector.Options[badRecords]; policy {
		case "", string(DeadLetterBad):
			if o.connector.Options == nil {
				o.connector.Options = map[string]string{}
			}
			o.connector.Options[badRecords] = string(DeadLetterBad)
		default:
			s.g.fault("Rejects is read from source %q, whose policy for bad records is %q: leave the policy out", o.name, policy)
		}
		out.from = append(out.from, outRef{o, o.rejectsPort()})
	}
	return out
}

// rejectsPort returns the number of the dead-letter output, made if needed.
func (o *opSpec) rejectsPort() int {
	if len(o.outs) == 1 {
		o.outs = append(o.outs, output{tag: rejects, name: "rejects", elem: reflect.TypeFor[Rejected]()})
	}
	return 1
}

// checkRejects refuses dead letters that nobody reads.
func (g *Graph) checkRejects(o *opSpec) {
	if o.kind == dataflow.KindSource && o.connector.Options[badRecords] == string(DeadLetterBad) && len(o.outs) == 1 {
		g.fault("source %q sends bad records to dead letters, but nothing reads them: Write(Rejects(...)) or choose another policy", o.name)
	}
}
