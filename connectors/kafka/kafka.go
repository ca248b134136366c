// Package kafka declares Kafka sources and sinks for jobs. The implementation is
// linked into the worker (package driver); where the brokers are comes from the
// worker's configuration, under connections.kafka.NAME.
//
// Concurrency: declarations are values; functions given to options run on many
// subtasks at once. Durability: none here.
package kafka

import (
	"fmt"
	"maps"
	"strconv"
	"time"

	"github.com/weirstream/weir/stream"
)

// Kind is the name under which the implementation is linked.
const Kind = "kafka"

// A declaration is a source or sink in the making.
type declaration struct {
	options map[string]string
	format  string
	hooks   []stream.Hook
	errs    []error
}

func declare(name, value string) *declaration {
	return &declaration{options: map[string]string{name: value}}
}

func (d *declaration) set(name, value string) { d.options[name] = value }

func (d *declaration) fault(format string, args ...any) {
	d.errs = append(d.errs, fmt.Errorf(format, args...))
}

// An Option changes a source or a sink.
type Option func(d *declaration)

func (o Option) source(d *declaration) { o(d) }
func (o Option) sink(d *declaration)   { o(d) }

// Connection names the connection of the worker's configuration to use; "default"
// by default. Option connection.
func Connection(name string) Option { return func(d *declaration) { d.set("connection", name) } }

// Properties sets Kafka's own client properties, such as fetch.max.bytes or
// linger.ms. They go before those of the connection.
func Properties(p map[string]string) Option {
	p = maps.Clone(p)
	return func(d *declaration) { maps.Copy(d.options, p) }
}

// StartupTimeout sets how long brokers and topics are waited for at the start;
// 10 s by default. Option startup_timeout.
func StartupTimeout(t time.Duration) Option {
	return func(d *declaration) { d.set("startup_timeout", t.String()) }
}

// BufferBytes bounds the bytes that a subtask holds between the broker and the
// job; 32 MiB by default. Option buffer_bytes.
func BufferBytes(n int) Option {
	return func(d *declaration) { d.set("buffer_bytes", strconv.Itoa(n)) }
}
