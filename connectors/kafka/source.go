package kafka

import (
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/weirstream/weir/stream"
)

// Topic declares a source that reads one topic. Each partition is a split.
func Topic[T any](topic string, values stream.Codec[T], options ...SourceOption) stream.Source[T] {
	return Topics([]string{topic}, values, options...)
}

// Topics declares a source that reads several topics of the same row type.
func Topics[T any](topics []string, values stream.Codec[T], options ...SourceOption) stream.Source[T] {
	d := declare("topics", strings.Join(topics, ","))
	if len(topics) == 0 {
		d.fault("kafka: no topic is named")
	}
	for _, t := range topics {
		if err := checkTopic(t); err != nil {
			d.errs = append(d.errs, err)
		}
	}
	return source(d, values, options)
}

// Pattern declares a source that reads every topic whose whole name matches a
// regular expression, those that appear later included.
func Pattern[T any](pattern string, values stream.Codec[T], options ...SourceOption) stream.Source[T] {
	d := declare("topic_pattern", pattern)
	if pattern == "" {
		d.fault("kafka: the topic pattern is empty: use \".*\" for all topics")
	}
	return source(d, values, options)
}

func source[T any](d *declaration, values stream.Codec[T], options []SourceOption) stream.Source[T] {
	if values.Format() == "" {
		d.fault("kafka: the values have no codec: use stream.JSON[T](), stream.Avro[T](), stream.Raw() or stream.Text()")
	}
	for _, o := range options {
		o.source(d)
	}
	return stream.Source[T]{Kind: Kind, Options: d.options, Codec: values, Err: errors.Join(d.errs...)}
}

// A Message is a record with what Kafka says about it. The fields are filled by
// name; Value is decoded with the codec of the source.
type Message[T any] struct {
	Topic     string
	Partition int32
	Offset    int64
	Timestamp time.Time // milliseconds since 1970, UTC
	Key       []byte    // nil for a null key
	Headers   []Header
	Value     T
}

// A Header is a header of a record.
type Header struct {
	Key   string
	Value []byte // nil for null
}

// ValueField returns the field of a Message type that the codec decodes; ok is
// false for types that are not a Message, whose rows are the value themselves. The
// fields before Value lie where they do in every Message type, so that a driver may
// set them through a *Message[struct{}].
func ValueField(row reflect.Type) (value reflect.StructField, ok bool) {
	message := reflect.TypeFor[Message[int]]()
	if row.PkgPath() != message.PkgPath() || !strings.HasPrefix(row.Name(), "Message[") {
		return reflect.StructField{}, false
	}
	return row.FieldByName("Value")
}

// Messages turns a source of values into one of whole records.
//
//	kafka.Messages(kafka.Topic("carts", stream.JSON[CartEvent]()))
func Messages[T any](src stream.Source[T]) stream.Source[Message[T]] {
	return stream.Source[Message[T]]{Kind: src.Kind, Options: src.Options, Format: src.Codec.Format(), Err: src.Err}
}

// A SourceOption changes a source. Its name in the declaration is said with each.
type SourceOption interface{ source(d *declaration) }

// A Position is where reading starts or ends.
type Position struct {
	word     string
	fallback string
	at       time.Time
	offsets  map[string]int64
}

// Earliest is the oldest record that the topic still has.
func Earliest() Position { return Position{word: "earliest"} }

// Latest is the end of the topic as of the start of the job.
func Latest() Position { return Position{word: "latest"} }

// Committed is the offset that the group has stored; fallback, Earliest or Latest,
// is for partitions without one. It can only be a start.
func Committed(fallback Position) Position {
	return Position{word: "committed", fallback: fallback.word}
}

// AtTime is the first record at or after t.
func AtTime(t time.Time) Position { return Position{word: "timestamp", at: t} }

// AtOffsets is an offset per partition, by "topic/partition". As an end it is
// exclusive.
func AtOffsets(offsets map[string]int64) Position {
	return Position{word: "specific", offsets: maps.Clone(offsets)}
}

// Start says where a fresh job starts to read; Earliest by default. A restored job
// goes on where it was. Options start, start_fallback, start_timestamp,
// start_offsets.
func Start(p Position) SourceOption {
	return sourceOption(func(d *declaration) {
		d.position("start", p)
		switch p.fallback {
		case "":
			if p.word == "committed" {
				d.fault("kafka: the fallback of Start(Committed(...)) must be Earliest() or Latest()")
			}
		case "earliest", "latest":
			d.set("start_fallback", p.fallback)
		default:
			d.fault("kafka: the fallback of Start(Committed(...)) is %q: it must be Earliest() or Latest()", p.fallback)
		}
	})
}

// End makes the source bounded: it ends when every partition is read up to p.
// Options end, end_timestamp, end_offsets.
func End(p Position) SourceOption {
	return sourceOption(func(d *declaration) {
		if p.word == "earliest" || p.word == "committed" {
			d.fault("kafka: reading cannot end at %q: use Latest(), AtTime(...) or AtOffsets(...)", p.word)
			return
		}
		d.position("end", p)
	})
}

func (d *declaration) position(side string, p Position) {
	if p.word == "" {
		d.fault("kafka: the %s position is empty: use Earliest(), Latest(), Committed(...), AtTime(...) or AtOffsets(...)", side)
		return
	}
	d.set(side, p.word)
	switch p.word {
	case "timestamp":
		d.set(side+"_timestamp", p.at.UTC().Format(time.RFC3339Nano))
	case "specific":
		var parts []string
		for _, id := range slices.Sorted(maps.Keys(p.offsets)) {
			parts = append(parts, id+"="+strconv.FormatInt(p.offsets[id], 10))
		}
		d.set(side+"_offsets", strings.Join(parts, ","))
	}
}

// DiscoverEvery sets how often new partitions and topics are looked for; 30 s by
// default, 0 for never. Option discovery_interval.
func DiscoverEvery(interval time.Duration) SourceOption {
	return sourceSetting("discovery_interval", interval.String())
}

// Group sets the consumer group under which positions are stored at each
// checkpoint, for tools that watch lag; "pipeline-operator" by default. Client
// property group.id.
func Group(id string) SourceOption { return sourceSetting("group.id", id) }

// StoreOffsets says whether positions are stored under the group at all; true by
// default. Option commit_offsets.
func StoreOffsets(on bool) SourceOption {
	return sourceSetting("commit_offsets", strconv.FormatBool(on))
}

// BadRecords sets what happens to a record that cannot be decoded; the job fails
// by default. Option bad_records.
func BadRecords(policy stream.BadRecords) SourceOption {
	return sourceSetting("bad_records", string(policy))
}

// A Tombstone policy is what happens to records with a null value.
type Tombstone string

// The policies for tombstones; TombstoneBad is the default.
const (
	TombstoneBad  Tombstone = "bad"  // a bad record
	TombstoneDrop Tombstone = "drop" // dropped
	TombstoneEmit Tombstone = "emit" // a row whose value is zero
)

// Tombstones sets what happens to records with a null value. Option tombstones.
func Tombstones(policy Tombstone) SourceOption { return sourceSetting("tombstones", string(policy)) }

// RefuseNullKeys makes a record with a null key a bad record. Option null_keys.
func RefuseNullKeys() SourceOption { return sourceSetting("null_keys", "bad") }

// MaxRecordBytes makes a larger record a bad record; 16 MiB by default. Option
// max_record_bytes.
func MaxRecordBytes(n int) SourceOption { return sourceSetting("max_record_bytes", strconv.Itoa(n)) }

type sourceOption func(d *declaration)

func (o sourceOption) source(d *declaration) { o(d) }

func sourceSetting(name, value string) SourceOption {
	return sourceOption(func(d *declaration) { d.set(name, value) })
}

// checkTopic refuses names that no broker accepts.
func checkTopic(topic string) error {
	valid := func(r rune) bool {
		return 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' || r == '.' || r == '_' || r == '-'
	}
	switch {
	case topic == "":
		return errors.New("kafka: a topic has no name")
	case len(topic) > 249 || topic == "." || topic == ".." || strings.ContainsFunc(topic, func(r rune) bool { return !valid(r) }):
		return fmt.Errorf("kafka: %q is not a topic name: use up to 249 letters, digits, dots, underscores and hyphens", topic)
	}
	return nil
}
