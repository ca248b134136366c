package kafka

import (
	"errors"
	"strconv"
	"time"

	"github.com/weirstream/weir/stream"
)

// To declares a sink that writes rows to a topic, as JSON unless Format says
// otherwise, exactly once unless Deliver says otherwise.
func To(topic string, options ...SinkOption) stream.Sink {
	d := declare("topic", topic)
	d.format = "json"
	if err := checkTopic(topic); err != nil {
		d.errs = append(d.errs, err)
	}
	for _, o := range options {
		o.sink(d)
	}
	return stream.Sink{Kind: Kind, Options: d.options, Format: d.format, Hooks: d.hooks, Err: errors.Join(d.errs...)}
}

// A SinkOption changes a sink. Its name in the declaration is said with each.
type SinkOption interface{ sink(d *declaration) }

type sinkOption func(d *declaration)

func (o sinkOption) sink(d *declaration) { o(d) }

func sinkSetting(name, value string) SinkOption {
	return sinkOption(func(d *declaration) { d.set(name, value) })
}

func hook(h stream.Hook) SinkOption {
	return sinkOption(func(d *declaration) {
		for _, other := range d.hooks {
			if other.Name == h.Name {
				d.fault("kafka: the %s of a record is given twice", h.Name)
			}
		}
		d.hooks = append(d.hooks, h)
	})
}

// Key sets the key of each record from its row. Without one keys are null. Hook
// "key".
func Key[T any](f func(row T) string) SinkOption { return hook(stream.BytesHook("key", f)) }

// KeyBytes is Key for bytes; nil is a null key. Hook "key".
func KeyBytes[T any](f func(row T) []byte) SinkOption { return hook(stream.BytesHook("key", f)) }

// Headers sets the headers of each record. Hook "headers".
func Headers[T any](f func(row T, add func(key string, value []byte))) SinkOption {
	return hook(stream.PairsHook("headers", f))
}

// Timestamp sets the timestamp of each record; by default it is the row's event
// time. Hook "timestamp".
func Timestamp[T any](f func(row T) time.Time) SinkOption {
	return hook(stream.TimeHook("timestamp", f))
}

// Partition sets the partition of each record, from 0 to partitions-1. By default
// keys are hashed as Kafka's own producer does. Hook "partition".
func Partition[T any](f func(row T, partitions int) int) SinkOption {
	return hook(stream.IntHook("partition", f))
}

// Format sets how values are encoded: "json", "avro" or "raw" (rows of []byte or
// string).
func Format(name string) SinkOption {
	return sinkOption(func(d *declaration) { d.format = name })
}

// A Guarantee says how often a row is in the topic after failures.
type Guarantee string

// The guarantees; ExactlyOnce is the default.
const (
	ExactlyOnce Guarantee = "exactly_once"  // for read_committed consumers, once a checkpoint is complete
	AtLeastOnce Guarantee = "at_least_once" // at once, perhaps twice
	NoGuarantee Guarantee = "none"          // at once, perhaps lost
)

// Deliver sets the guarantee. Option guarantee.
func Deliver(g Guarantee) SinkOption { return sinkSetting("guarantee", string(g)) }

// RoundRobin deals records to partitions in turn, whatever their key. Option
// partitioner.
func RoundRobin() SinkOption { return sinkSetting("partitioner", "round_robin") }

// TransactionalIDs sets the prefix of the transactional ids of an exactly-once
// sink ("pipeline-operator" by default) and how many a subtask begins with (5).
// Options transactional_id_prefix, transactional_ids.
func TransactionalIDs(prefix string, count int) SinkOption {
	return sinkOption(func(d *declaration) {
		if prefix != "" {
			d.set("transactional_id_prefix", prefix)
		}
		if count != 0 {
			d.set("transactional_ids", strconv.Itoa(count))
		}
	})
}
