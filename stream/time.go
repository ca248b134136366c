package stream

import (
	"time"

	"github.com/weirstream/weir/stream/internal/kernel"
)

// A TimeRule says where the event time of a source's rows comes from and how far
// out of order they may be. Without one, rows keep the time that the connector
// gave them and the source makes no watermarks: it does not hold back the time of
// others, and windows over it alone fire only at its end.
type TimeRule[T any] struct {
	at   func(T) time.Time
	lag  time.Duration
	idle time.Duration
}

// EventTime takes the event time of a row from f. Within a split (a partition, a
// file) rows may be up to lag older than the newest one; what is older is late.
func EventTime[T any](f func(T) time.Time, lag time.Duration) TimeRule[T] {
	return TimeRule[T]{at: f, lag: lag}
}

// RecordTime takes the event time from the connector, such as the timestamp of a
// Kafka record.
func RecordTime[T any](lag time.Duration) TimeRule[T] { return TimeRule[T]{lag: lag} }

// Idle lets time go on without a split that has given nothing for d although its
// rows were asked for. By default an empty split holds time back for ever.
func (r TimeRule[T]) Idle(d time.Duration) TimeRule[T] {
	r.idle = d
	return r
}

// options translates the rule for the kernel.
func (r TimeRule[T]) options(g *Graph, source string) kernel.SourceOptions[T] {
	if r.lag < 0 {
		g.fault("source %q has an event-time lag of %v: it must not be negative", source, r.lag)
	}
	if r.idle < 0 {
		g.fault("source %q has an idle time of %v: it must not be negative", source, r.idle)
	}
	return kernel.SourceOptions[T]{At: r.at, Watermarks: true, Lag: r.lag.Microseconds(), Idle: r.idle.Microseconds()}
}
