package files_test

import (
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/weirstream/weir/connectors/files"
	"github.com/weirstream/weir/connectors/files/driver"
	"github.com/weirstream/weir/dataflow"
	"github.com/weirstream/weir/stream"
)

type row struct{ A int }

// Options appear under the names that they document, and faults are named.
func TestDeclarations(t *testing.T) {
	src := files.Source("in/*.csv", stream.CSV[row](), files.Watch(time.Second), files.Header(),
		files.BadRecords(stream.DropBad), files.MaxLineBytes(9))
	want := map[string]string{"path": "in/*.csv", "watch_interval": "1s", "header": "true", "bad_records": "drop", "max_record_bytes": "9"}
	if src.Err != nil || src.Codec.Format() != "csv" || !maps.Equal(src.Options, want) {
		t.Errorf("got %v (%v), want %v", src.Options, src.Err, want)
	}
	if err := (driver.Source{}).Check(dataflow.Connector{Kind: src.Kind, Options: src.Options, Format: "csv"}, nil); err != nil {
		t.Errorf("the driver refuses what the declaration offers: %v", err)
	}
	sink := files.Sink("out", "csv", files.TargetFileSize(5), files.WriteHeader())
	want = map[string]string{"path": "out", "target_file_size": "5", "header": "true"}
	if sink.Err != nil || sink.Format != "csv" || !maps.Equal(sink.Options, want) {
		t.Errorf("got %v (%v), want %v", sink.Options, sink.Err, want)
	}
	if err := (driver.Sink{}).Check(dataflow.Connector{Kind: sink.Kind, Options: sink.Options, Format: sink.Format}, nil); err != nil {
		t.Errorf("the driver refuses what the declaration offers: %v", err)
	}
	if bad := files.Sink("out", "xml"); bad.Err == nil || !strings.Contains(bad.Err.Error(), `"xml"`) {
		t.Errorf("xml: %v", bad.Err)
	}
	if bad := files.Source("", stream.Codec[row]{}); bad.Err == nil || !strings.Contains(bad.Err.Error(), "no codec") {
		t.Errorf("no codec: %v", bad.Err)
	}
}
