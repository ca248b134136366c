package spi

import (
	"context"
	"log/slog"
	"reflect"
	"unsafe"

	"github.com/weirstream/weir/dataflow"
)

// Pointer is the address of a row.
type Pointer = unsafe.Pointer

// BadRecords is what to do with a record that cannot be decoded or stored.
type BadRecords string

// The policies. Fail is the default.
const (
	BadFail  BadRecords = "fail"        // the attempt fails, naming the record
	BadDrop  BadRecords = "drop"        // counted in bad_records_total
	BadRoute BadRecords = "dead-letter" // sent to output port 1 as a Rejected
)

// Rejected is a record that could not be used, as a dead letter.
type Rejected struct {
	Source string `json:"source"` // topic, file, table
	Split  string `json:"split"`
	Offset int64  `json:"offset"`
	Error  string `json:"error"`
	Key    []byte `json:"key"`
	Value  []byte `json:"value"`
}

// Env is what every connector is opened with.
type Env struct {
	Pipeline    dataflow.Pipeline
	Operator    dataflow.OperatorID
	Attempt     dataflow.Attempt
	Index       int
	Parallelism int
	Connector   dataflow.Connector
	Settings    map[string]string // named connection and lake settings of the worker: "connections.kafka.default.bootstrap.servers", "lake.root", ...
	Elem        reflect.Type      // row type
	Schema      string            // Avro schema of the row type
	Value       Codec             // of Connector.Format; nil where there is none
	Hooks       []Hook
	Log         *slog.Logger
	Now         func() int64 // processing time, microseconds
	// Wake may be called from any goroutine: the subtask polls or writes again soon.
	Wake  func()
	Count func(metric string, n int64) // any goroutine
}

// A SourceDriver is the implementation behind a source declaration's Kind.
type SourceDriver interface {
	// Check refuses unknown options (naming the nearest known one), wrong types and
	// missing settings, without touching the outside.
	Check(c dataflow.Connector, settings map[string]string) error
	// Open starts reading. restored holds the states of all splits of the operator,
	// over all former subtasks; nil on a fresh start. The reader takes those it
	// owns by OwnsSplit. Open may block.
	Open(ctx context.Context, env Env, restored []dataflow.SplitState, gen SourceRunner) (Reader, error)
}

// A Reader reads the splits that one source subtask owns.
type Reader interface {
	// Splits returns the ids of the splits owned, in a stable order, and a version
	// that changes when they do. Poll numbers index that slice.
	Splits() (ids []string, version int)
	// Poll appends up to max rows of one split to b and never blocks. n counts the
	// rows appended (0: nothing now; Env.Wake will be called). Rejected records of the
	// BadRoute policy are appended to bad.
	Poll(b Batch, max int, bad *[]Rejected) (split, n int, err error)
	// Ended reports that every split is bounded, read to its end, and no new one can
	// appear.
	Ended() bool
	// Snapshot returns the position after the last row that Poll handed out, of every
	// split owned.
	Snapshot() []dataflow.SplitState
	// Completed tells that the checkpoint holding these positions is complete. It
	// may be used to store offsets in the outside; failures are only logged.
	Completed(epoch dataflow.Epoch, at []dataflow.SplitState)
	// Lag returns the records known to be waiting, -1 if unknown.
	Lag() int64
	// Close releases everything; it may block shortly.
	Close() error
}

// OwnsSplit says whether subtask index owns the n-th split of a family with the
// given id (a topic's partition n; a file by hash). Ownership is a pure function,
// so discovery needs no coordinator.
func OwnsSplit(family string, n, index, parallelism int) bool {
	h := uint32(2166136261)
	for i := range len(family) {
		h = (h ^ uint32(family[i])) * 16777619
	}
	return int((uint64(h)+uint64(n))%uint64(parallelism)) == index
}

// A SinkDriver is the implementation behind a sink declaration's Kind.
type SinkDriver interface {
	// Check is as for SourceDriver.
	Check(c dataflow.Connector, settings map[string]string) error
	// OpenWriter prepares a subtask's writer. restored holds what Prepared.Writer was
	// at the restored epoch, of all former subtasks, by index. It refuses what can
	// be refused before the first epoch (schema, permissions). It may block.
	OpenWriter(ctx context.Context, env Env, restored map[int][]byte) (Writer, error)
	// OpenCommitter opens the one committer of a sink operator; it runs beside
	// subtask 0. It may block.
	OpenCommitter(ctx context.Context, env Env) (Committer, error)
}

// Prepared is the answer to Writer.Prepare.
type Prepared struct {
	Handles [][]byte // what a Committer needs; empty when nothing was written
	Writer  []byte   // state of the writer, restored to OpenWriter
}

// A Writer writes the rows of one sink subtask.
//
// Order: Start, then Write and Prepare in the order of rows and barriers.
type Writer interface {
	// Start is called when everything that the restored manifest prepared has been
	// committed, before the first Write. It may block.
	Start(ctx context.Context) error
	// Write takes rows from index from on, without blocking for I/O, and returns how
	// many; fewer means its buffers are full: Env.Wake is called when they are not.
	Write(b Batch, from int) (consumed int, err error)
	// Prepare makes the rows so far durable but invisible. It returns at once; done
	// is called once, from any goroutine. A failure declines the epoch; the rows
	// must then come with the next Prepare. last: no row follows.
	Prepare(epoch dataflow.Epoch, last bool, done func(Prepared, error))
	// Finished tells that everything prepared up to epoch has been committed.
	Finished(epoch dataflow.Epoch)
	// Close drops what was not prepared. It may block shortly.
	Close() error
}

// A Committer makes prepared output visible. It runs off the subtask's turn, on
// one goroutine.
type Committer interface {
	// Commit makes handles visible as of epoch; handles may stem from several
	// subtasks and earlier, aborted epochs, ordered by (epoch, subtask, seq). It is
	// called again after failures and restarts with the same epoch and handles: it
	// must be idempotent. result is for people ("version 17"). ErrStop-wrapped errors
	// stop the job; others are retried.
	Commit(ctx context.Context, epoch dataflow.Epoch, handles []dataflow.CommitHandle) (result string, err error)
	// Check refuses a restore from epoch where the outside is already ahead of it.
	// It is called once, before the job starts.
	Check(ctx context.Context, restored dataflow.Epoch) error
	Close() error
}
