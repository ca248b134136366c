package kafka_test

import (
	"maps"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/weirstream/weir/connectors/kafka"
	"github.com/weirstream/weir/connectors/kafka/driver"
	"github.com/weirstream/weir/dataflow"
	"github.com/weirstream/weir/stream"
)

type row struct{ A int }

// Options of a source appear under the names that they document.
func TestSourceOptions(t *testing.T) {
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	src := kafka.Topics([]string{"a", "b"}, stream.JSON[row](),
		kafka.Start(kafka.Committed(kafka.Latest())), kafka.End(kafka.AtTime(at)),
		kafka.Group("g"), kafka.StoreOffsets(false), kafka.DiscoverEvery(time.Minute),
		kafka.BadRecords(stream.DropBad), kafka.Tombstones(kafka.TombstoneDrop), kafka.RefuseNullKeys(),
		kafka.MaxRecordBytes(5), kafka.Connection("other"), kafka.StartupTimeout(time.Second),
		kafka.BufferBytes(4096), kafka.Properties(map[string]string{"fetch.max.bytes": "7"}))
	want := map[string]string{
		"topics": "a,b", "start": "committed", "start_fallback": "latest", "end": "timestamp",
		"end_timestamp": "2026-01-02T03:04:05Z", "group.id": "g", "commit_offsets": "false",
		"discovery_interval": "1m0s", "bad_records": "drop", "tombstones": "drop", "null_keys": "bad",
		"max_record_bytes": "5", "connection": "other", "startup_timeout": "1s", "buffer_bytes": "4096",
		"fetch.max.bytes": "7",
	}
	if src.Err != nil || src.Kind != "kafka" || !maps.Equal(src.Options, want) {
		t.Errorf("got %v (%v), want %v", src.Options, src.Err, want)
	}
	settings := map[string]string{"connections.kafka.other.bootstrap.servers": "localhost:9092"}
	if err := (driver.Source{}).Check(dataflow.Connector{Kind: "kafka", Options: src.Options, Format: "json"}, settings); err != nil {
		t.Errorf("the driver refuses what the declaration offers: %v", err)
	}
	specific := kafka.Pattern("x.*", stream.Text(), kafka.Start(kafka.AtOffsets(map[string]int64{"x/1": 4, "x/0": 3})))
	if got := specific.Options["start_offsets"]; got != "x/0=3,x/1=4" || specific.Options["topic_pattern"] != "x.*" {
		t.Errorf("got %v", specific.Options)
	}
}

// A wrong declaration says what is wrong, all at once.
func TestFaults(t *testing.T) {
	src := kafka.Topics([]string{"", "a b"}, stream.Codec[row]{}, kafka.End(kafka.Earliest()), kafka.Start(kafka.Committed(kafka.Position{})))
	for _, want := range []string{"a topic has no name", `"a b" is not a topic name`, "no codec", `cannot end at "earliest"`, "fallback"} {
		if src.Err == nil || !strings.Contains(src.Err.Error(), want) {
			t.Errorf("no sentence with %q in: %v", want, src.Err)
		}
	}
	sink := kafka.To("t", kafka.Key(func(r row) string { return "" }), kafka.KeyBytes(func(r row) []byte { return nil }))
	if sink.Err == nil || !strings.Contains(sink.Err.Error(), "given twice") {
		t.Errorf("two keys: %v", sink.Err)
	}
}

// The hooks of a sink are the functions it was given, over pointers to rows.
func TestHooks(t *testing.T) {
	sink := kafka.To("t", kafka.Key(func(r row) string { return strings.Repeat("k", r.A) }),
		kafka.Partition(func(r row, n int) int { return r.A % n }),
		kafka.Timestamp(func(r row) time.Time { return time.UnixMicro(int64(r.A)) }),
		kafka.Headers(func(r row, add func(string, []byte)) { add("h", []byte{byte(r.A)}) }),
		kafka.Deliver(kafka.AtLeastOnce), kafka.Format("avro"), kafka.RoundRobin(), kafka.TransactionalIDs("p", 3))
	if sink.Err != nil || len(sink.Hooks) != 4 || sink.Format != "avro" {
		t.Fatalf("got %+v", sink)
	}
	settings := map[string]string{"connections.kafka.default.bootstrap.servers": "localhost:9092"}
	if err := (driver.Sink{}).Check(dataflow.Connector{Kind: "kafka", Options: sink.Options, Format: sink.Format}, settings); err != nil {
		t.Errorf("the driver refuses what the declaration offers: %v", err)
	}
	r := row{A: 3}
	p := reflect.ValueOf(&r).UnsafePointer()
	header := ""
	sink.Hooks[3].Pairs(p, func(k string, v []byte) { header = k + string(rune('0'+v[0])) })
	if k, n, at := sink.Hooks[0].Bytes(nil, p), sink.Hooks[1].Int(p, 2), sink.Hooks[2].Time(p); string(k) != "kkk" || n != 1 || at != 3 || header != "h3" {
		t.Errorf("hooks gave %q %d %d %q", k, n, at, header)
	}
}

// The value of a whole record is found in its row type, and in no other.
func TestMessages(t *testing.T) {
	src := kafka.Messages(kafka.Topic("t", stream.JSON[row]()))
	if src.Format != "json" || src.Options["topics"] != "t" {
		t.Errorf("got %+v", src)
	}
	f, ok := kafka.ValueField(reflect.TypeFor[kafka.Message[row]]())
	if !ok || f.Type != reflect.TypeFor[row]() {
		t.Errorf("got %v %v", f, ok)
	}
	if _, ok := kafka.ValueField(reflect.TypeFor[row]()); ok {
		t.Error("a plain row has no value field")
	}
}
