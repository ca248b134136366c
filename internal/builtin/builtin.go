// Package builtin is the table of everything that is linked into the binary:
// connector drivers by kind and object-store drivers by scheme.
//
// The maps are made anew at each call and belong to the caller.
package builtin

import (
	"reflect"

	deltadecl "github.com/weirstream/weir/connectors/delta"
	delta "github.com/weirstream/weir/connectors/delta/driver"
	filesdecl "github.com/weirstream/weir/connectors/files"
	files "github.com/weirstream/weir/connectors/files/driver"
	gendecl "github.com/weirstream/weir/connectors/gen"
	gen "github.com/weirstream/weir/connectors/gen/driver"
	kafkadecl "github.com/weirstream/weir/connectors/kafka"
	kafka "github.com/weirstream/weir/connectors/kafka/driver"
	"github.com/weirstream/weir/dataflow"
	"github.com/weirstream/weir/internal/codec"
	"github.com/weirstream/weir/internal/objstore"
	"github.com/weirstream/weir/internal/objstore/azure"
	"github.com/weirstream/weir/internal/objstore/gcs"
	"github.com/weirstream/weir/internal/objstore/s3"
	"github.com/weirstream/weir/stream/spi"
)

// Sources returns the source drivers by kind.
func Sources() map[string]spi.SourceDriver {
	return map[string]spi.SourceDriver{
		kafkadecl.Kind: kafka.Source{}, gendecl.Kind: gen.Source{}, filesdecl.Kind: files.Source{},
	}
}

// Sinks returns the sink drivers by kind.
func Sinks() map[string]spi.SinkDriver {
	return map[string]spi.SinkDriver{
		kafkadecl.Kind: kafka.Sink{Producers: new(kafka.Producers)}, deltadecl.Kind: delta.Sink{Store: delta.Objects(Openers())}, filesdecl.Kind: files.Sink{},
	}
}

// Openers returns the object-store drivers by URL scheme.
func Openers() objstore.Openers {
	o := objstore.Openers{"s3": s3.Open, "gs": gcs.Open}
	for _, scheme := range azure.Schemes() {
		o[scheme] = azure.Open
	}
	return o
}

// ValueCodec makes the codec of a connector's format: for the rows of op, or for
// the value within them where they are whole Kafka records.
func ValueCodec(op dataflow.Operator, elem reflect.Type) (spi.Codec, error) {
	if op.Connector.Kind == filesdecl.Kind && op.Connector.Format == "csv" {
		return nil, nil // lines are not values one by one: the driver has its own
	}
	if value, ok := kafkadecl.ValueField(elem); ok && op.Kind == dataflow.KindSource {
		elem = value.Type
	}
	return codec.ForFormat(op.Connector.Format, elem)
}
