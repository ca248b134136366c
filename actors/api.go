package actors

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"reflect"
	"slices"
	"time"

	"github.com/weirstream/weir/actors/frame"
	"github.com/weirstream/weir/dataflow"
	"github.com/weirstream/weir/internal/clock"
	"github.com/weirstream/weir/stream/spi"
)

// A Store keeps the keyed rows of one subtask.
type Store interface {
	// Load, Scan, ScanErr and Empty are as in spi.Host; they are called on the
	// subtask's turn.
	Load(probes []uint64, keys [][]byte, got func(i int, row []byte) error) error
	Scan(from, to []byte) iter.Seq2[[]byte, []byte]
	ScanErr() error
	Empty(id dataflow.StateID, group int) bool
	// WriteEpoch writes the drops and rows of frozen (disjoint row keys) as the file
	// (epoch, seq), makes them readable here and returns what is new: one file, or
	// none if there was nothing to write. It is called in the background,
	// concurrently with the turn's reads, never twice at a time. After an error
	// nothing was written.
	WriteEpoch(ctx context.Context, epoch dataflow.Epoch, seq int, frozen []spi.Frozen) ([]dataflow.FileRef, error)
	// Files returns every file that the store reads, oldest first, with the Object of
	// those uploaded meanwhile. It is called on the turn, after WriteEpoch returned.
	Files() []dataflow.FileRef
	// Completed tells on the turn that the epoch is complete.
	Completed(epoch dataflow.Epoch)
	// Close is called once, when no other call is running. It may block.
	Close() error
}

// Events is how an attempt reports. Methods are called on the turn of the subtask
// concerned (or while it is opened or closed), thus concurrently for different
// subtasks; they must not block and must not call Stop or Snapshot.
type Events interface {
	// Ready: the subtask is restored and opened and waits for Start.
	Ready(s dataflow.SubtaskID)
	// Acked: the part of the epoch is complete as far as the subtask is concerned.
	// fresh are the files of part without an Object, those to be uploaded; a file may
	// be fresh in several acks until the store knows its object. The receiver owns
	// both.
	Acked(s dataflow.SubtaskID, epoch dataflow.Epoch, part dataflow.Part, fresh []dataflow.FileRef)
	// Declined: the subtask takes no part in the epoch. The job goes on.
	Declined(s dataflow.SubtaskID, epoch dataflow.Epoch, err error)
	// Committed answers Commit: everything of sink up to epoch is visible. result
	// is for people.
	Committed(sink dataflow.OperatorID, epoch dataflow.Epoch, result string)
	// CommitRetry: a commit failed for the tries-th time and is tried again.
	CommitRetry(sink dataflow.OperatorID, epoch dataflow.Epoch, tries int, err error)
	// Failed: the subtask is dead, and the attempt with it. stop tells that no
	// restart can help (spi.ErrStop). It is reported once per subtask.
	Failed(s dataflow.SubtaskID, err error, stop bool)
	// Ended: the subtask has nothing left to do: its inputs ended and, if it has a
	// sink, an epoch that contains the end is finished. It keeps answering Trigger
	// with its last part until the attempt is stopped.
	Ended(s dataflow.SubtaskID)
}

// An Executor runs work that may block, off the turns.
type Executor interface {
	// Background runs f some time, on another goroutine. It must not be refused.
	Background(f func())
}

// Goroutines is the Executor of production: a goroutine for each piece of work.
type Goroutines struct{}

// Background runs f on a goroutine of its own.
func (Goroutines) Background(f func()) { go f() }

// A Dialer reaches the workers in which other subtasks of the attempt run.
type Dialer interface {
	// Dial returns the link to the worker of s. It is called while the attempt is
	// made, once per channel, and should answer with one link per worker.
	Dial(s dataflow.SubtaskID) (Link, error)
}

// A Link is one direction of the connection between two workers.
type Link interface {
	// Send sends whole frames (package frame), in the order of the calls. It is
	// called on turns, of different subtasks concurrently, keeps b, and never
	// blocks: what cannot be sent now is queued, which credit bounds. A link that
	// breaks is told by Attempt.Fail.
	Send(b []byte)
}

// Restored is the checkpoint an attempt starts from.
type Restored struct {
	Epoch dataflow.Epoch
	// Parts are all parts of the manifest, of all former subtasks at the former
	// parallelism. They are matched by the names of operators.
	Parts []dataflow.Part
}

// Options configures an Attempt. A zero field means its default; those without
// one are required.
type Options struct {
	Job      spi.Job
	Plan     *dataflow.Plan
	Pipeline dataflow.Pipeline
	Attempt  dataflow.Attempt
	// Subtasks are those to run here; nil: all of the plan.
	Subtasks []dataflow.SubtaskID
	Events   Events

	// LastEpoch is the newest epoch number ever opened for the pipeline; files that
	// are spilled before the first barrier are numbered after it.
	LastEpoch dataflow.Epoch
	// Restored is nil on a fresh start.
	Restored *Restored

	// OpenStore opens the restored store of a subtask. It is called in the
	// background for chains that have states. nil is allowed for jobs without state.
	OpenStore func(ctx context.Context, s dataflow.SubtaskID) (Store, error)
	// State answers spi.Host.State. nil is allowed for jobs without state.
	State func(op dataflow.OperatorID, name string) (id dataflow.StateID, key, value spi.Codec, err error)
	// Sources and Sinks are the drivers by dataflow.Connector.Kind.
	Sources map[string]spi.SourceDriver
	Sinks   map[string]spi.SinkDriver
	// Value makes the codec of a connector's format; nil where no connector of the
	// job has one.
	Value func(op dataflow.Operator, elem reflect.Type) (spi.Codec, error)
	// Log is what the attempt says, with the fields job and attempt; the runtime's.
	Log *slog.Logger
	// Settings are the worker's named connections and lake settings.
	Settings map[string]string
	// Dialer reaches subtasks elsewhere; nil: all subtasks must be here. What arrives
	// from there is given to Attempt.Deliver.
	Dialer Dialer
	// Rows makes the codec of the rows of a graph edge; needed with a Dialer.
	Rows func(edge int) (frame.Codec, error)

	// MemoryBudget returns the number of bytes that the runners of each keyed subtask
	// may hold now; nil is 64 MiB. Half of it may be dirty before it is spilled. Every
	// turn asks, from goroutines of its own.
	MemoryBudget func() int64
	// CommitBackoff is the pause after a failed commit, doubled up to 64 times its
	// value; 100 ms.
	CommitBackoff time.Duration
	// BatchRows is the number of rows at which a batch is full; 1024.
	BatchRows int
}

func (o *Options) defaults() {
	if o.Subtasks == nil && o.Plan != nil {
		o.Subtasks = o.Plan.Subtasks()
	}
	if o.MemoryBudget == nil {
		o.MemoryBudget = func() int64 { return 64 << 20 }
	}
	if o.CommitBackoff == 0 {
		o.CommitBackoff = 100 * time.Millisecond
	}
	if o.BatchRows == 0 {
		o.BatchRows = 1024
	}
}

func (o *Options) validate() error {
	var errs []error
	need := func(missing bool, what string) {
		if missing {
			errs = append(errs, fmt.Errorf("%s is missing", what))
		}
	}
	need(o.Job == nil, "Job")
	need(o.Events == nil, "Events")
	need(o.Attempt == 0, "Attempt")
	need(o.Plan == nil, "Plan")
	need(o.Dialer != nil && o.Rows == nil, "Rows, which a Dialer needs,")
	if o.BatchRows < 0 || o.CommitBackoff < 0 {
		errs = append(errs, errors.New("BatchRows and CommitBackoff must not be negative"))
	}
	if o.Plan != nil {
		all := o.Plan.Subtasks()
		for _, s := range o.Subtasks {
			if !slices.Contains(all, s) {
				errs = append(errs, fmt.Errorf("subtask %s is not in the plan", s))
			}
		}
		for _, op := range o.Plan.Graph.Operators {
			if op.Connector == nil {
				continue
			}
			switch op.Kind {
			case dataflow.KindSource:
				need(o.Sources[op.Connector.Kind] == nil, fmt.Sprintf("the source driver %q of operator %q", op.Connector.Kind, op.Name))
			case dataflow.KindSink:
				need(o.Sinks[op.Connector.Kind] == nil, fmt.Sprintf("the sink driver %q of operator %q", op.Connector.Kind, op.Name))
			}
		}
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("actors: options: %w", err)
	}
	return nil
}

// RuntimeOptions configures a Runtime. A zero field means its default.
type RuntimeOptions struct {
	Clock    clock.Clock  // the wall clock
	Log      *slog.Logger // discards
	Executor Executor     // Goroutines
}

// The life of an Attempt, as a worker drives it; methods return at once and may be
// called from any goroutine unless noted:
//
//	func New(o RuntimeOptions) *Runtime
//	func (r *Runtime) NewAttempt(o Options) (*Attempt, error) // opening begins; Events.Ready for each subtask
//	func (r *Runtime) Close() error                           // after every attempt was stopped
//
//	func (a *Attempt) Commit(epoch dataflow.Epoch, handles map[dataflow.OperatorID][]dataflow.CommitHandle)
//	      // before Start: the restored epoch, if it is not finished. handles of all subtasks, for the sinks that
//	      // are keys of the map; each whose committer (subtask 0) runs here answers Events.Committed, also when its
//	      // list is empty. Repeat freely.
//	func (a *Attempt) Start()                       // after every Ready of the job and those answers
//	func (a *Attempt) Trigger(epoch dataflow.Epoch) // to every subtask here; each answers Acked or Declined.
//	      // Complete(newest complete epoch) must precede it: let the order of a barrier carry that epoch too.
//	func (a *Attempt) Abort(epoch dataflow.Epoch)
//	func (a *Attempt) Complete(epoch dataflow.Epoch) // the manifest is in force
//	func (a *Attempt) Finished(epoch dataflow.Epoch) // every sink has committed it
//	func (a *Attempt) Deliver(frames []byte) error // what a link of another worker sent
//	func (a *Attempt) Fail(s dataflow.SubtaskID, err error)
//	func (a *Attempt) Snapshot() []SubtaskStats
//	func (a *Attempt) Stop(ctx context.Context) error // always, also after Failed; blocks until all is closed

// SubtaskStats are the counters of one subtask since it was opened. Times are
// nanoseconds of the runtime's clock.
type SubtaskStats struct {
	Subtask   dataflow.SubtaskID
	Running   bool
	Ended     bool
	Failed    string // the error; "" while alive
	Busy      int64  // inside turns
	Blocked   int64  // between turns, for want of credit or room in a sink
	Idle      int64  // between turns, for want of input
	Turns     int64
	Messages  int64 // mailbox messages received
	Epoch     dataflow.Epoch
	Lag       int64 // of a source: records known to wait; -1 if unknown or none
	Queued    int64 // rows waiting in the inputs
	Memory    int64 // bytes held by the runners
	Dirty     int64 // bytes of them not evictable
	AlignNano int64 // spent aligning, last epoch
	Operators []OperatorStats
	Outputs   []EdgeStats
}

// OperatorStats are the counters of one operator of a subtask.
type OperatorStats struct {
	Operator  dataflow.OperatorID
	RowsIn    int64
	RowsOut   int64
	Watermark int64            // reached, timers fired; dataflow.MinTime before any
	Counts    map[string]int64 // what the operator or connector counted by name
}

// EdgeStats are the counters of one outgoing channel group: an edge of the plan.
type EdgeStats struct {
	Edge    int // index into Plan.Edges
	Rows    int64
	Bytes   int64 // estimated from samples for local channels
	Batches int64
	Credit  int64 // rows that the receivers take now, the least of them
}
