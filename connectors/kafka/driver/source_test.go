package driver

import (
	"context"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/weirstream/weir/connectors/kafka"
	"github.com/weirstream/weir/dataflow"
	"github.com/weirstream/weir/internal/clock"
	"github.com/weirstream/weir/stream/spi"
)

func source(options ...string) dataflow.Connector {
	c := dataflow.Connector{Kind: "kafka", Format: "json", Options: map[string]string{"topics": "in"}}
	for i := 0; i < len(options); i += 2 {
		c.Options[options[i]] = options[i+1]
		if options[i] == "topic_pattern" {
			delete(c.Options, "topics")
		}
	}
	return c
}

func open(t *testing.T, env spi.Env, restored []dataflow.SplitState) spi.Reader {
	t.Helper()
	r, err := Source{}.Open(context.Background(), env, restored, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	return r
}

func ids(v []event) (out []int) {
	for _, e := range v {
		out = append(out, e.ID)
	}
	slices.Sort(out)
	return out
}

func upTo(from, to int) (out []int) {
	for i := from; i < to; i++ {
		out = append(out, i)
	}
	return out
}

// Every record is read once by one of the subtasks, and a restore at another
// parallelism goes on exactly where the positions say.
func TestSourceReadsAllOnce(t *testing.T) {
	c := cluster(t, map[string]int32{"in": 5})
	cl := client(t, c.ListenAddrs())
	for p := range int32(5) {
		produce(t, cl, events("in", p, int(p)*100, 100)...)
	}
	var states []dataflow.SplitState
	var got []event
	for i := range 2 {
		w := newWorld()
		r := open(t, w.env("src", i, 2, source(), c.ListenAddrs()), nil)
		names, version := r.Splits()
		if len(names) != version {
			t.Errorf("Splits = %v, %d", names, version)
		}
		part, _ := drain[event](t, r, w, 60)
		got = append(got, part...)
		states = append(states, r.Snapshot()...)
		if r.Ended() {
			t.Error("an unbounded source says it ended")
		}
	}
	for i := range 3 {
		w := newWorld()
		r := open(t, w.env("src", i, 3, source(), c.ListenAddrs()), states)
		left := 0
		for _, st := range r.Snapshot() {
			next, err := nextOf(st)
			if err != nil {
				t.Fatal(err)
			}
			left += 100 - int(next)
		}
		part, _ := drain[event](t, r, w, left)
		got = append(got, part...)
		if lag := r.Lag(); lag != 0 && left > 0 { // where nothing is left to read, no fetch tells where the ends are
			t.Errorf("Lag = %d after everything was read", lag)
		}
	}
	if !slices.Equal(ids(got), upTo(0, 500)) {
		t.Errorf("got %d rows, want each of 500 once", len(got))
	}
}

// A bounded source ends at the last stable offset of its first start, also where
// that lies behind a transaction marker, and a restore does not move the end.
func TestSourceBounded(t *testing.T) {
	c := cluster(t, map[string]int32{"in": 2})
	tx := client(t, c.ListenAddrs(), kgo.TransactionalID("tx"))
	for i, how := range []kgo.TransactionEndTry{kgo.TryCommit, kgo.TryAbort, kgo.TryCommit} {
		if err := tx.BeginTransaction(); err != nil {
			t.Fatal(err)
		}
		produce(t, tx, append(events("in", 0, 10*i, 10), events("in", 1, 100+10*i, 10)...)...)
		if err := tx.EndTransaction(context.Background(), how); err != nil {
			t.Fatal(err)
		}
	}
	if err := tx.BeginTransaction(); err != nil {
		t.Fatal(err)
	}
	produce(t, tx, events("in", 0, 1000, 5)...) // stays open: behind the end

	w := newWorld()
	env := w.env("src", 0, 1, source("end", "latest"), c.ListenAddrs())
	r := open(t, env, nil)
	first := r.Snapshot()
	got, _ := drain[event](t, r, w, -1)
	want := append(upTo(0, 10), upTo(20, 30)...)
	want = append(want, append(upTo(100, 110), upTo(120, 130)...)...)
	if !slices.Equal(ids(got), want) {
		t.Errorf("got %v", ids(got))
	}
	if err := tx.EndTransaction(context.Background(), kgo.TryCommit); err != nil {
		t.Fatal(err)
	}
	again, _ := drain[event](t, open(t, env, first), w, -1)
	if !slices.Equal(ids(again), want) {
		t.Errorf("after a restore: %v", ids(again))
	}
	if r := open(t, env, r.Snapshot()); !r.Ended() {
		t.Error("restored at its end, it has not ended")
	}
}

// Each start and end position picks the records it says.
func TestSourcePositions(t *testing.T) {
	c := cluster(t, map[string]int32{"in": 1})
	cl := client(t, c.ListenAddrs())
	base := time.UnixMilli(1_700_000_000_000)
	recs := events("in", 0, 0, 10)
	for i, r := range recs {
		r.Timestamp = base.Add(time.Duration(i) * time.Second)
	}
	produce(t, cl, recs...)
	var group kadm.Offsets = map[string]map[int32]kadm.Offset{}
	group.AddOffset("in", 0, 6, -1)
	if err := kadm.NewClient(cl).CommitAllOffsets(context.Background(), "team", group); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name     string
		options  []string
		from, to int
	}{
		{"earliest to latest", []string{"end", "latest"}, 0, 10},
		{"latest", []string{"start", "latest", "end", "latest"}, 10, 10},
		{"timestamp", []string{"start", "timestamp", "start_timestamp", "1700000003500", "end", "latest"}, 4, 10},
		{"specific", []string{"start", "specific", "start_offsets", "in/0=3", "end", "specific", "end_offsets", "in/0=5"}, 3, 5},
		{"end by time", []string{"end", "timestamp", "end_timestamp", "2023-11-14T22:13:27Z"}, 0, 7},
		{"committed", []string{"start", "committed", "group.id", "team", "end", "latest"}, 6, 10},
		{"committed with fallback", []string{"start", "committed", "group.id", "nobody", "start_fallback", "latest", "end", "latest"}, 10, 10},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld()
			r := open(t, w.env("src", 0, 1, source(tt.options...), c.ListenAddrs()), nil)
			got, _ := drain[event](t, r, w, -1)
			if !slices.Equal(ids(got), upTo(tt.from, tt.to)) {
				t.Errorf("got %v, want %d..%d", ids(got), tt.from, tt.to)
			}
		})
	}
}

// New topics and partitions are found while running and read from their start.
func TestSourceDiscovery(t *testing.T) {
	c := cluster(t, map[string]int32{"in-a": 1, "other": 1})
	cl := client(t, c.ListenAddrs())
	produce(t, cl, events("in-a", 0, 0, 3)...)
	produce(t, cl, events("other", 0, 900, 3)...)
	w := newWorld()
	r := open(t, w.env("src", 0, 1, source("topic_pattern", "in-.*", "discovery_interval", "20ms", "start", "latest"), c.ListenAddrs()), nil)
	admin := kadm.NewClient(cl)
	if _, err := admin.CreatePartitions(context.Background(), 1, "in-a"); err != nil {
		t.Fatal(err)
	}
	if _, err := admin.CreateTopic(context.Background(), 1, 1, nil, "in-b"); err != nil {
		t.Fatal(err)
	}
	cl.ForceMetadataRefresh()
	produce(t, cl, events("in-b", 0, 10, 5)...)
	got, _ := drain[event](t, r, w, 5)
	if !slices.Equal(ids(got), upTo(10, 15)) {
		t.Errorf("got %v", ids(got))
	}
	for {
		if names, _ := r.Splits(); len(names) == 3 {
			if names[0] != "in-a/0" {
				t.Errorf("split 0 became %s", names[0])
			}
			break
		}
		w.await(t)
	}
}

// Positions of a complete checkpoint are stored as group offsets.
func TestSourceStoresOffsets(t *testing.T) {
	c := cluster(t, map[string]int32{"in": 1})
	cl := client(t, c.ListenAddrs())
	produce(t, cl, events("in", 0, 0, 9)...)
	w := newWorld()
	r := open(t, w.env("src", 0, 1, source(), c.ListenAddrs()), nil)
	drain[event](t, r, w, 9)
	r.Completed(1, r.Snapshot())
	admin := kadm.NewClient(cl)
	deadline := time.After(time.Minute)
	for {
		os, err := admin.FetchOffsets(context.Background(), "pipe/src")
		if o, ok := os.Lookup("in", 0); err == nil && ok && o.At == 9 {
			break
		}
		select {
		case <-deadline:
			t.Fatalf("the group has %v, %v", os, err)
		default:
		}
	}
}

// Bad records follow their policy, and nothing else is lost by it.
func TestSourceBadRecords(t *testing.T) {
	c := cluster(t, map[string]int32{"in": 1})
	cl := client(t, c.ListenAddrs())
	tomb := record("in", 0, "")
	tomb.Value = nil
	keyless := record("in", 0, `{"id":3}`)
	keyless.Key = nil
	produce(t, cl, record("in", 0, `{"id":1}`), record("in", 0, `{"id":`), tomb, keyless,
		record("in", 0, `{"id":4,"user":"`+strings.Repeat("x", 200)+`"}`), record("in", 0, `{"id":5}`))
	common := []string{"null_keys", "bad", "max_record_bytes", "100", "end", "latest", "bad_records"}
	t.Run("dead-letter", func(t *testing.T) {
		w := newWorld()
		r := open(t, w.env("src", 0, 1, source(append(common, "dead-letter")...), c.ListenAddrs()), nil)
		got, bad := drain[event](t, r, w, -1)
		if !slices.Equal(ids(got), []int{1, 5}) {
			t.Errorf("rows %v", got)
		}
		var why []string
		for _, b := range bad {
			why = append(why, fmt.Sprintf("%s %d %s", b.Split, b.Offset, b.Error))
		}
		want := []string{
			"in/0 1 cannot decode the value as driver.event: unexpected end of JSON input",
			"in/0 2 the value is null (option tombstones takes drop or emit)",
			"in/0 3 the key is null",
			"in/0 4 the value has 218 bytes, more than max_record_bytes 100",
		}
		if !slices.Equal(why, want) {
			t.Errorf("rejected:\n%s", strings.Join(why, "\n"))
		}
		if string(bad[0].Value) != `{"id":` || string(bad[0].Key) != "k" || w.count("bad_records_total") != 4 {
			t.Errorf("first %+v, counted %d", bad[0], w.count("bad_records_total"))
		}
	})
	t.Run("drop", func(t *testing.T) {
		w := newWorld()
		r := open(t, w.env("src", 0, 1, source(append(common, "drop", "tombstones", "drop")...), c.ListenAddrs()), nil)
		got, bad := drain[event](t, r, w, -1)
		if !slices.Equal(ids(got), []int{1, 5}) || len(bad) > 0 || w.count("bad_records_total") != 3 || w.count("tombstones_total") != 1 {
			t.Errorf("rows %v, rejected %v, counted %v", got, bad, w.counts)
		}
	})
	t.Run("fail", func(t *testing.T) {
		w := newWorld()
		r := open(t, w.env("src", 0, 1, source(append(common, "fail")...), c.ListenAddrs()), nil)
		var b rows[event]
		var err error
		for err == nil {
			var bad []spi.Rejected
			var n int
			if _, n, err = r.Poll(&b, 100, &bad); err == nil && n == 0 {
				w.await(t)
			}
		}
		want := `kafka source: topic "in" partition 0 offset 1: cannot decode the value as driver.event: unexpected end of JSON input: set bad_records to drop or dead-letter to go on`
		if err.Error() != want {
			t.Errorf("got %v", err)
		}
		if next, _ := nextOf(r.Snapshot()[0]); next != 0 {
			t.Errorf("the position moved to %d by a failed Poll", next)
		}
	})
}

// What cannot be opened is refused in one sentence after a bounded wait.
func TestSourceOpenFaults(t *testing.T) {
	c := cluster(t, map[string]int32{"in": 1})
	for _, tt := range []struct {
		name    string
		brokers []string
		options []string
		want    string
	}{
		{"missing topic", c.ListenAddrs(), []string{"topics", "in,absent"}, `kafka: topic "absent" does not exist on ` + c.ListenAddrs()[0] + `: create it, or correct the name`},
		{"no match", c.ListenAddrs(), []string{"topic_pattern", "x.*", "end", "latest"}, `kafka source: no topic on ` + c.ListenAddrs()[0] + ` matches "^(?:x.*)$": create one, or correct topic_pattern`},
		{"unreachable", []string{"127.0.0.1:1"}, []string{"startup_timeout", "300ms"}, `kafka: no broker of 127.0.0.1:1 answered within 300ms: `},
		{"no group offset", c.ListenAddrs(), []string{"start", "committed", "start_fallback", "fail"}, `kafka source: group "pipe/src" has no offset of in/0: set start_fallback to earliest or latest to begin there`},
		{"end not named", c.ListenAddrs(), []string{"end", "specific", "end_offsets", "in/7=3"}, `kafka source: option "end_offsets" does not name in/0`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld()
			env := w.env("src", 0, 1, source(append([]string{"startup_timeout", "10s"}, tt.options...)...), tt.brokers)
			_, err := Source{Clock: hasty{clock.Wall()}}.Open(context.Background(), env, nil, nil)
			if err == nil || !strings.HasPrefix(err.Error(), tt.want) || strings.Contains(err.Error(), "\n") {
				t.Errorf("got  %v\nwant %s", err, tt.want)
			}
		})
	}
}

// A position that the log no longer has fails with the cure, or is reset where
// the job asked for it.
func TestSourceOutOfRange(t *testing.T) {
	c := cluster(t, map[string]int32{"in": 1})
	cl := client(t, c.ListenAddrs())
	produce(t, cl, events("in", 0, 0, 5)...)
	w := newWorld()
	state := []dataflow.SplitState{{Split: "in/0", Position: []byte(`{"next":77}`)}}
	r := open(t, w.env("src", 0, 1, source(), c.ListenAddrs()), state)
	var err error
	for err == nil {
		var b rows[event]
		var n int
		if _, n, err = r.Poll(&b, 10, new([]spi.Rejected)); err == nil && n == 0 {
			w.await(t)
		}
	}
	if want := `kafka source: topic "in" partition 0 no longer has offset 77 (retention, or the topic was made anew): set auto.offset.reset to earliest or latest to go on without what is missing`; err.Error() != want {
		t.Errorf("got %v", err)
	}
	w = newWorld()
	r = open(t, w.env("src", 0, 1, source("auto.offset.reset", "earliest"), c.ListenAddrs()), state)
	got, _ := drain[event](t, r, w, 5)
	if !slices.Equal(ids(got), upTo(0, 5)) {
		t.Errorf("after a reset: %v", got)
	}
}

// Check names every fault of a declaration without asking a broker.
func TestSourceCheck(t *testing.T) {
	settings := map[string]string{"connections.kafka.default.bootstrap.servers": "h:1", "connections.kafka.odd.bootstrap.servers": "h:1", "connections.kafka.odd.fetch.max.bites": "1"}
	for _, tt := range []struct {
		name    string
		options map[string]string
		want    string
	}{
		{"misspelt", map[string]string{"topics": "a", "strat": "latest"}, `kafka source: unknown option "strat": did you mean "start"?`},
		{"wrong type", map[string]string{"topics": "a", "discovery_interval": "often"}, `kafka source: option "discovery_interval" is "often": want a duration such as 500ms or 10s`},
		{"no topic", nil, `kafka source: option "topics" is missing (or "topic_pattern")`},
		{"both", map[string]string{"topics": "a", "topic_pattern": "b"}, `kafka source: options "topics" and "topic_pattern" exclude each other`},
		{"bad pattern", map[string]string{"topic_pattern": "("}, "kafka source: option \"topic_pattern\" is \"(\": error parsing regexp: missing closing ): `^(?:()$`"},
		{"unknown property", map[string]string{"topics": "a", "fetch.max.byte": "1"}, `kafka source: unknown client property "fetch.max.byte": did you mean "fetch.max.bytes"?`},
		{"property of sinks", map[string]string{"topics": "a", "linger.ms": "1"}, `kafka source: client property "linger.ms" is for sinks only`},
		{"property type", map[string]string{"topics": "a", "fetch.max.bytes": "big"}, `kafka source: client property "fetch.max.bytes" is "big": want a whole number`},
		{"missing companion", map[string]string{"topics": "a", "start": "timestamp"}, `kafka source: option "start" is "timestamp" but "start_timestamp" is missing`},
		{"idle companion", map[string]string{"topics": "a", "end_offsets": "a/0=1"}, `kafka source: option "end_offsets" needs "end" to be "specific"`},
		{"offsets", map[string]string{"topics": "a", "start": "specific", "start_offsets": "a=1"}, `kafka source: option "start_offsets": "a=1": want topic/partition=offset, separated by commas`},
		{"no connection", map[string]string{"topics": "a", "connection": "west"}, `kafka: no broker is known for connection "west": set connections.kafka.west.bootstrap.servers=HOST:PORT`},
		{"bad connection", map[string]string{"topics": "a", "connection": "odd"}, `kafka connection "odd": unknown client property "fetch.max.bites": did you mean "fetch.max.bytes"?`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			err := Source{}.Check(dataflow.Connector{Options: tt.options}, settings)
			if err == nil || !slices.Contains(strings.Split(err.Error(), "\n"), tt.want) {
				t.Errorf("got  %v\nwant %s", err, tt.want)
			}
		})
	}
}

// A source of messages gives the record's own fields beside the value, also of
// tombstones.
func TestSourceMessages(t *testing.T) {
	c := cluster(t, map[string]int32{"in": 2})
	cl := client(t, c.ListenAddrs())
	full := record("in", 1, `{"id":7,"user":"u"}`)
	full.Timestamp = time.UnixMilli(1_700_000_000_123)
	full.Headers = []kgo.RecordHeader{{Key: "a", Value: []byte("1")}, {Key: "b"}}
	tomb := record("in", 1, "")
	tomb.Value, tomb.Key = nil, []byte("gone")
	produce(t, cl, full, tomb)
	w := newWorld()
	r := open(t, envOf[kafka.Message[event]](w, "src", 0, 1, source("end", "latest", "tombstones", "emit"), c.ListenAddrs()), nil)
	got, _ := drain[kafka.Message[event]](t, r, w, -1)
	if len(got) != 2 {
		t.Fatalf("%d rows", len(got))
	}
	want := kafka.Message[event]{
		Topic: "in", Partition: 1, Timestamp: time.UnixMilli(1_700_000_000_123).UTC(), Key: []byte("k"),
		Headers: []kafka.Header{{Key: "a", Value: []byte("1")}, {Key: "b"}}, Value: event{7, "u"},
	}
	if !reflect.DeepEqual(got[0], want) {
		t.Errorf("got  %+v\nwant %+v", got[0], want)
	}
	if g := got[1]; g.Offset != 1 || string(g.Key) != "gone" || g.Value != (event{}) || g.Headers != nil {
		t.Errorf("tombstone: %+v", g)
	}
}
