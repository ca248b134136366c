package driver

import (
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/weirstream/weir/connectors/internal/option"
	"github.com/weirstream/weir/dataflow"
	"github.com/weirstream/weir/stream/spi"
)

// The options of a source declaration, besides Kafka's own dotted properties.
func sourceOptions() []option.Option {
	return []option.Option{
		{Name: "connection"},
		{Name: "topics"},        // comma-separated
		{Name: "topic_pattern"}, // regular expression over whole names
		{Name: "start", Type: option.Choice, Choices: []string{"earliest", "latest", "committed", "timestamp", "specific"}},
		{Name: "start_fallback", Type: option.Choice, Choices: []string{"earliest", "latest", "fail"}},
		{Name: "start_timestamp", Type: option.Moment},
		{Name: "start_offsets"}, // topic/partition=offset,...
		{Name: "end", Type: option.Choice, Choices: []string{"never", "latest", "timestamp", "specific"}},
		{Name: "end_timestamp", Type: option.Moment},
		{Name: "end_offsets"},
		{Name: "discovery_interval", Type: option.Span},
		{Name: "commit_offsets", Type: option.Switch},
		{Name: "startup_timeout", Type: option.Span},
		{Name: "buffer_bytes", Type: option.Size, Min: 1 << 10},
		{Name: "bad_records", Type: option.Choice, Choices: []string{string(spi.BadFail), string(spi.BadDrop), string(spi.BadRoute)}},
		{Name: "max_record_bytes", Type: option.Size, Min: 1},
		{Name: "tombstones", Type: option.Choice, Choices: []string{"bad", "drop", "emit"}},
		{Name: "null_keys", Type: option.Choice, Choices: []string{"allow", "bad"}},
	}
}

// sourceConfig is a checked source declaration.
type sourceConfig struct {
	connection string
	topics     []string
	pattern    *regexp.Regexp // nil: topics
	start      string
	fallback   string
	startAt    time.Time
	startOffs  map[string]int64 // by split id
	end        string           // "never": unbounded
	endAt      time.Time
	endOffs    map[string]int64
	discovery  time.Duration // 0: never
	group      string        // "": offsets are not stored
	startup    time.Duration // how long to wait for brokers and topics
	buffer     int64         // bytes fetched and not yet decoded
	bad        spi.BadRecords
	maxRecord  int
	tombstones string
	nullKeys   string
	reset      string // auto.offset.reset
	committed  bool   // read_committed
	props      map[string]string
}

func (c *sourceConfig) bounded() bool { return c.end != "never" }

// readSource checks a source declaration and reports all faults at once.
func readSource(c dataflow.Connector, settings map[string]string, pipeline dataflow.Pipeline, op dataflow.OperatorID) (*sourceConfig, error) {
	const who = "kafka source"
	o, err := option.Read(who, sourceOptions(), c.Options, func(name, v string) (bool, error) {
		return checkProperty(sourceSide, name, v)
	})
	errs := []error{err}
	fault := func(format string, args ...any) { errs = append(errs, fmt.Errorf(who+": "+format, args...)) }
	s := &sourceConfig{
		connection: o.Text("connection", "default"),
		topics:     o.List("topics"),
		start:      o.Text("start", "earliest"),
		fallback:   o.Text("start_fallback", "earliest"),
		startAt:    o.Moment("start_timestamp"),
		end:        o.Text("end", "never"),
		endAt:      o.Moment("end_timestamp"),
		discovery:  o.Span("discovery_interval", 30*time.Second),
		startup:    o.Span("startup_timeout", 10*time.Second),
		buffer:     o.Size("buffer_bytes", 32<<20),
		bad:        spi.BadRecords(o.Text("bad_records", string(spi.BadFail))),
		maxRecord:  int(o.Size("max_record_bytes", 16<<20)),
		tombstones: o.Text("tombstones", "bad"),
		nullKeys:   o.Text("null_keys", "allow"),
	}
	if p := o.Text("topic_pattern", ""); p != "" {
		if s.pattern, err = regexp.Compile("^(?:" + p + ")$"); err != nil {
			fault("option \"topic_pattern\" is %q: %w", p, err)
		}
		if len(s.topics) > 0 {
			fault("options \"topics\" and \"topic_pattern\" exclude each other")
		}
	} else if len(s.topics) == 0 {
		fault("option \"topics\" is missing (or \"topic_pattern\")")
	}
	if s.startOffs, err = parseOffsets(o.Text("start_offsets", "")); err != nil {
		fault("option \"start_offsets\": %w", err)
	}
	if s.endOffs, err = parseOffsets(o.Text("end_offsets", "")); err != nil {
		fault("option \"end_offsets\": %w", err)
	}
	for _, p := range []struct{ choice, value, needs string }{
		{"start", s.start, "timestamp"}, {"start", s.start, "specific"}, {"end", s.end, "timestamp"}, {"end", s.end, "specific"},
	} {
		extra := p.choice + "_" + map[string]string{"timestamp": "timestamp", "specific": "offsets"}[p.needs]
		if p.value == p.needs && !o.Has(extra) {
			fault("option %q is %q but %q is missing", p.choice, p.value, extra)
		}
		if p.value != p.needs && o.Has(extra) {
			fault("option %q needs %q to be %q", extra, p.choice, p.needs)
		}
	}
	if s.props, err = gather(s.connection, settings, c.Options); err != nil {
		errs = append(errs, err)
	}
	s.reset = def(s.props["auto.offset.reset"], "none")
	s.committed = def(s.props["isolation.level"], "read_committed") == "read_committed"
	if o.Switch("commit_offsets", true) {
		s.group = def(s.props["group.id"], string(pipeline)+"/"+string(op))
	}
	if s.start == "committed" && s.props["group.id"] == "" && s.group == "" {
		fault("option \"start\" is \"committed\" but no group is known: set group.id")
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return s, nil
}

// groupOfStart is the group whose offsets "committed" starts from.
func (c *sourceConfig) groupOfStart() string { return def(c.group, c.props["group.id"]) }

func def(v, other string) string {
	if v == "" {
		return other
	}
	return v
}

// parseOffsets reads topic/partition=offset,...
func parseOffsets(text string) (map[string]int64, error) {
	if text == "" {
		return nil, nil
	}
	out := map[string]int64{}
	for w := range strings.SplitSeq(text, ",") {
		id, num, ok := strings.Cut(strings.TrimSpace(w), "=")
		_, _, valid := parseSplit(id)
		n, err := strconv.ParseInt(num, 10, 64)
		if !ok || !valid || err != nil || n < 0 {
			return nil, fmt.Errorf("%q: want topic/partition=offset, separated by commas", w)
		}
		out[id] = n
	}
	return out, nil
}

// splitID names a partition as a split.
func splitID(topic string, partition int32) string {
	return topic + "/" + strconv.Itoa(int(partition))
}

func parseSplit(id string) (topic string, partition int32, ok bool) {
	i := strings.LastIndexByte(id, '/')
	if i <= 0 {
		return "", 0, false
	}
	n, err := strconv.ParseInt(id[i+1:], 10, 32)
	return id[:i], int32(n), err == nil && splitID(id[:i], int32(n)) == id && n >= 0
}

// The guarantees of a sink.
const (
	exactlyOnce = "exactly_once"
	atLeastOnce = "at_least_once"
	noGuarantee = "none"
)

// The options of a sink declaration, besides Kafka's own dotted properties.
func sinkOptions() []option.Option {
	return []option.Option{
		{Name: "connection"},
		{Name: "topic", Required: true},
		{Name: "guarantee", Type: option.Choice, Choices: []string{exactlyOnce, atLeastOnce, noGuarantee}},
		{Name: "partitioner", Type: option.Choice, Choices: []string{"default", "round_robin"}},
		{Name: "transactional_id_prefix"},
		{Name: "transactional_ids", Type: option.Whole, Min: 2}, // per subtask, to begin with
		{Name: "commit_markers", Type: option.Switch},
		{Name: "startup_timeout", Type: option.Span},
		{Name: "buffer_bytes", Type: option.Size, Min: 1 << 10},
	}
}

// sinkConfig is a checked sink declaration.
type sinkConfig struct {
	connection  string
	topic       string
	guarantee   string
	partitioner string
	prefix      string // of transactional ids
	ids         int    // size of a fresh pool
	markers     bool   // a commit marker in each transaction
	startup     time.Duration
	buffer      int64         // bytes produced and not yet acknowledged
	txnTimeout  time.Duration // of a prepared transaction
	props       map[string]string
}

// readSink checks a sink declaration and reports all faults at once.
func readSink(c dataflow.Connector, settings map[string]string, pipeline dataflow.Pipeline, op dataflow.OperatorID) (*sinkConfig, error) {
	const who = "kafka sink"
	o, err := option.Read(who, sinkOptions(), c.Options, func(name, v string) (bool, error) {
		return checkProperty(sinkSide, name, v)
	})
	errs := []error{err}
	s := &sinkConfig{
		connection:  o.Text("connection", "default"),
		topic:       o.Text("topic", ""),
		guarantee:   o.Text("guarantee", exactlyOnce),
		partitioner: o.Text("partitioner", "default"),
		prefix:      o.Text("transactional_id_prefix", string(pipeline)+"/"+string(op)),
		ids:         int(o.Whole("transactional_ids", 5)),
		markers:     o.Switch("commit_markers", true),
		startup:     o.Span("startup_timeout", 10*time.Second),
	}
	if s.props, err = gather(s.connection, settings, c.Options); err != nil {
		errs = append(errs, err)
	}
	s.buffer = o.Size("buffer_bytes", int64(number(def(s.props["buffer.memory"], "33554432"))))
	s.txnTimeout = millis(def(s.props["transaction.timeout.ms"], "900000"))
	if s.guarantee == exactlyOnce {
		if a := s.props["acks"]; a != "" && a != "all" && a != "-1" {
			errs = append(errs, fmt.Errorf("%s: acks is %q but guarantee %q needs all: drop acks, or set guarantee to %q", who, a, exactlyOnce, noGuarantee))
		}
		if s.props["enable.idempotence"] == "false" {
			errs = append(errs, fmt.Errorf("%s: enable.idempotence is false but guarantee %q needs it: drop it, or set guarantee to %q", who, exactlyOnce, atLeastOnce))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return s, nil
}
