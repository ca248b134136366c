package spi

import (
	"iter"
	"reflect"

	"github.com/weirstream/weir/dataflow"
)

// A Job is a built graph with the code to run it. The value is safe for
// concurrent use; what its methods return belongs to one subtask.
type Job interface {
	// Graph returns the logical graph. StateInfo in it has names and kinds but no
	// ids or schemas: the host compiles those from States.
	Graph() dataflow.Graph
	// States lists the named states of an operator with their Go types.
	States(op dataflow.OperatorID) []StateType
	// Elem returns the row type of an output port (of the input for a sink).
	Elem(op dataflow.OperatorID, port int) reflect.Type
	// NewRunner makes the runner of one subtask of an operator that is neither
	// source nor sink.
	NewRunner(op dataflow.OperatorID) (Runner, error)
	// NewSource makes the typed half of one subtask of a source.
	NewSource(op dataflow.OperatorID) (SourceRunner, error)
	// NewRouter makes the typed half of one sender of graph edge i.
	NewRouter(edge int) (Router, error)
	// Hooks returns the functions of the job that its connector asked for.
	Hooks(op dataflow.OperatorID) []Hook
}

// StateType is a named state before its codecs are compiled.
type StateType struct {
	Name  string
	Kind  dataflow.StateKind
	Panes bool
	Key   reflect.Type // nil: none beyond the row's own key
	Value reflect.Type // nil: rows have no value
}

// A Runner is one operator of one subtask. It starts no goroutine, reads no
// clock and does no I/O but through its Host. Every error it returns fails the
// attempt.
//
// Steps are resumable: a method that reports less than asked has run out of
// output room and is called again with the rest when there is some.
type Runner interface {
	// Open is called once, before anything else. State is already restored, extra
	// is what Extra returned at the restored epoch, nil on a fresh start.
	Open(h Host, extra []byte) error
	// NewBatch returns an empty batch for input port p.
	NewBatch(p, capacity int) Batch
	// Step consumes rows [from, Len) of in, which it must not modify or keep, and
	// returns how many it consumed. Fewer means that room ran out.
	Step(p int, in Batch, from int) (consumed int, err error)
	// Advance tells that event time reached wm: every timer and window up to it
	// fires, at most budget of them. done is false when room or budget ran out: call
	// again with the same wm. Step is not called in between.
	Advance(wm int64, budget int) (done bool, err error)
	// NextTimer returns the earliest event time at which Advance would emit, or
	// dataflow.MaxTime.
	NextTimer() int64
	// End is called after the last row and watermark; done as for Advance.
	End() (done bool, err error)
	// Freeze fixes the dirty rows as of now, between two rows, in O(1), and starts a
	// new dirty list. nil means nothing is dirty. At most one Frozen is open: the
	// host calls its Done before the next Freeze.
	Freeze() (Frozen, error)
	// Extra returns small state that is not rows (what Open receives), or nil. What is
	// there at subtask 0 alone is the whole operator's: every subtask of a restore
	// receives it, at any parallelism. Otherwise each receives its own, and another
	// parallelism is refused.
	Extra() []byte
	// Memory returns the bytes held and how many of them are dirty or frozen, thus
	// not evictable.
	Memory() (total, dirty int64)
	// Evict drops clean rows until at least n bytes were freed or none is left, and
	// returns the bytes freed.
	Evict(n int64) int64
}

// Frozen are the rows that were dirty at a freeze.
type Frozen interface {
	// Drops lists the key ranges [From, To) that were dropped as a whole; they apply
	// before Rows. Rows yields the rows sorted by key, each key once; a nil value is
	// a deletion, an empty one is not. Slices are valid until the next row. Both are
	// called once, off the subtask's turn, concurrently with it.
	Drops() []Span
	Rows(yield func(key, value []byte) bool) error
	// Done is called on the subtask's turn when Rows has returned. With nil the rows
	// are in the store: they are clean and may be evicted. Otherwise nothing was
	// written: they are dirty again.
	Done(err error)
}

// A Span is a range of row keys [From, To).
type Span struct{ From, To []byte }

// A Host is the engine as one operator of one subtask sees it. All methods are
// called on the subtask's turn.
type Host interface {
	// Subtask returns this subtask's index and the operator's parallelism.
	Subtask() (index, parallelism int)
	// Groups returns the key groups owned, and the pipeline's total.
	Groups() (owned dataflow.KeyGroups, total int)
	// Room returns how many rows output port p takes now; 0 means stop.
	Room(p int) int
	// Send gives b to output port p and returns an empty batch of the same type to
	// fill next (perhaps b itself). It may overshoot Room by what one user call
	// emits; the overflow is bounded in bytes and an excess is an error of the step.
	Send(p int, b Batch) Batch
	// State returns the number and codecs of a state listed by Job.States. key is nil
	// if StateType.Key is; the value codec writes and resolves the schema number.
	State(name string) (id dataflow.StateID, key, value Codec, err error)
	// Load reads the rows keys[i], whose filter hashes are probes[i], in one call.
	// got is called for each in any order, with nil for absent rows; row is valid
	// during the call only.
	Load(probes []uint64, keys [][]byte, got func(i int, row []byte) error) error
	// Scan yields the rows of the store in [from, to), sorted. Rows in the runner's
	// own cache or frozen are not seen. The error is reported by ScanErr.
	Scan(from, to []byte) iter.Seq2[[]byte, []byte]
	ScanErr() error
	// Empty reports whether the store holds no row of the state in the group, so that
	// a cache miss is an absence.
	Empty(id dataflow.StateID, group int) bool
	// Now returns the processing time at which the turn began, in microseconds UTC.
	Now() int64
	// Watermark returns the input watermark reached, its timers fired.
	Watermark() int64
	// Count adds to a counter metric of this operator.
	Count(metric string, n int64)
}

// A Router is the typed half of the sending end of an edge that is not a plain
// hand-over: it copies rows to the batch of their receiver.
type Router interface {
	// NewBatch returns an empty batch of the edge's row type.
	NewBatch(capacity int) Batch
	// Route appends rows of in from index from on to out, one batch per receiver,
	// and sets their hashes if the edge is keyed. Receiver i takes at most room[i]
	// more rows: Route stops at the first row whose receiver has none and returns
	// the rows consumed. owner maps a key group to its receiver. A batch of which rows
	// are left is not changed before it, or a copy of them, is given to Route again.
	Route(in Batch, from int, owner []int32, room []int, out []Batch) (consumed int)
}

// A SourceRunner is the typed half of one subtask of a source: it stamps event
// times and keeps a watermark per split.
type SourceRunner interface {
	NewBatch(capacity int) Batch
	// Assign replaces the set of splits by ids; numbers used by Stamp are indexes
	// into it. marks holds the restored watermark of each, dataflow.MinTime if none.
	Assign(ids []string, marks []int64)
	// Stamp sets the times of rows [from, Len) of b, read from split n, and moves its
	// watermark. now is processing time in microseconds.
	Stamp(n int, b Batch, from int, now int64) error
	// Mark returns the watermark of split n.
	Mark(n int) int64
	// Watermark returns the minimum over splits that are not idle; idle when all are
	// (or there are none). A split is idle when it gave nothing for the job's idle
	// time while there was room for its rows; the host reports with held whether
	// there was none.
	Watermark(now int64, held bool) (wm int64, idle bool)
	// Generate fills b with rows [at, at+n) of generated split k of total; it is an
	// error for sources that have no generator.
	Generate(b Batch, k, total int, at int64, n int) error
}

// A Hook is a function of the job that a connector declaration asked for, such as
// the key of a Kafka record. Elem must be the operator's row type; exactly one
// function is set. p points to a row.
type Hook struct {
	Name  string
	Elem  reflect.Type
	Bytes func(dst []byte, p Pointer) []byte
	Int   func(p Pointer, n int) int
	Time  func(p Pointer) int64
	Pairs func(p Pointer, yield func(key string, value []byte))
}
