package taskmanager

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"time"

	"github.com/weirstream/weir/actors"
	"github.com/weirstream/weir/checkpoint"
	"github.com/weirstream/weir/dataflow"
	"github.com/weirstream/weir/internal/control"
	"github.com/weirstream/weir/internal/failpoint"
	"github.com/weirstream/weir/internal/queue"
	"github.com/weirstream/weir/state"
	"github.com/weirstream/weir/stream/spi"
)

const (
	reportEvery = time.Second
	stopWithin  = 20 * time.Second
)

// An attempt runs the subtasks of one Deploy. Its goroutine owns it; subtasks
// report through the inbox.
type attempt struct {
	m      *Manager
	deploy control.Deploy
	log    *slog.Logger
	inbox  *queue.Queue[any] // control.Message from above, event from the subtasks
	ctx    context.Context
	cancel context.CancelFunc

	former []string      // store folders of earlier attempts
	final  bool          // no attempt of the job follows
	over   chan struct{} // closed when nothing of it is left

	live   *actors.Attempt
	states *stateTable
	up     *uploader
	ready  map[dataflow.SubtaskID]bool
	start  bool              // the subtasks were told to start
	again  []control.Message // Failed and Ended, told again with every report: one may be lost
	failed bool
	drain  drain
	spent  map[dataflow.SubtaskID]shares // at the last report
}

func newAttempt(m *Manager, d control.Deploy) *attempt {
	a := &attempt{m: m, deploy: d, over: make(chan struct{}), inbox: queue.New[any](), ready: map[dataflow.SubtaskID]bool{}, spent: newSpent(),
		log: m.opts.Log.With("job", d.Job, "attempt", d.Attempt)}
	a.ctx, a.cancel = background()
	a.up = newUploader(a)
	return a
}

// run lives from the Deploy to the Cancel.
func (a *attempt) run() {
	defer a.cancel()
	if err := a.open(); err != nil {
		a.fail(dataflow.SubtaskID{}, err, stopsJob(err))
	}
	tick := a.m.opts.Clock.NewTimer(reportEvery)
	defer tick.Stop()
	for done := false; !done; {
		select {
		case <-a.inbox.Ready():
			for _, msg := range a.inbox.Take() {
				if c, ok := msg.(control.Cancel); ok {
					done, a.final = true, c.Final
					break
				}
				a.handle(msg)
			}
		case <-tick.C():
			a.report()
			for _, msg := range a.again {
				a.send(msg)
			}
			tick.Reset(reportEvery)
		}
	}
	a.close()
}

func (a *attempt) open() error {
	d := a.deploy
	job, err := a.m.opts.Loader.Load(d.Pack, d.Params)
	if err != nil {
		return fmt.Errorf("load job: %w", err)
	}
	if a.states, err = compileStates(job, d.States); err != nil {
		return err
	}
	opts := actors.Options{
		Job: job, Plan: &d.Plan, Pipeline: d.Pipeline, Attempt: d.Attempt, Subtasks: d.Subtasks, Events: events{a},
		LastEpoch: d.LastEpoch, OpenStore: a.openStore, State: a.states.lookup,
		Sources: a.drain.sources(a.m.opts.Sources), Sinks: a.m.opts.Sinks, Value: a.value, Settings: a.m.opts.Settings,
		MemoryBudget: a.m.typedCache, Log: a.log,
	}
	if d.Restored != 0 {
		opts.Restored = &actors.Restored{Epoch: d.Restored, Parts: d.Parts}
	}
	a.live, err = a.m.rt.NewAttempt(opts)
	return err
}

func (a *attempt) close() {
	a.up.close()
	if a.live != nil {
		ctx, cancel := context.WithTimeout(context.Background(), stopWithin)
		if err := a.live.Stop(ctx); err != nil {
			a.log.Error("attempt did not stop cleanly", "err", err)
		}
		cancel()
	}
	if a.final {
		a.remove(a.m.localDir(a.deploy))
	}
	for _, dir := range a.former {
		a.remove(dir)
	}
}

func (a *attempt) remove(dir string) {
	if err := a.m.opts.FS.RemoveAll(dir); err != nil {
		a.log.Warn("local state was not removed", "err", err)
	}
}

// left returns the store folders that a later attempt may link files from.
func (a *attempt) left() (dirs []string) {
	if a.final {
		return nil
	}
	for _, s := range a.deploy.Subtasks {
		if a.deploy.Plan.Groups(s).Len() > 0 {
			dirs = append(dirs, a.storeDir(s))
		}
	}
	return dirs
}

// handle acts on one message of the job manager or event of a subtask.
func (a *attempt) handle(msg any) {
	if a.live == nil {
		return // failed to open: only Cancel counts
	}
	switch msg := msg.(type) {
	case control.Start:
		a.begin()
	case control.Trigger:
		a.begin() // no epoch is opened before Start, which may have been lost
		a.up.Begin(msg.Epoch)
		if msg.Complete != 0 {
			a.live.Complete(msg.Complete)
		}
		a.live.Trigger(msg.Epoch)
	case control.Abort:
		a.up.Abort(msg.Epoch)
		a.live.Abort(msg.Epoch)
	case control.Complete:
		a.up.Complete(msg.Epoch)
		a.live.Complete(msg.Epoch)
	case control.Commit:
		a.live.Commit(msg.Epoch, map[dataflow.OperatorID][]dataflow.CommitHandle{msg.Sink: msg.Handles})
	case control.Finished:
		a.live.Finished(msg.Epoch)
	case control.Drain:
		a.drain.start()
	case control.Deploy: // doubled
	case isReady:
		a.ready[msg.subtask] = true
		if len(a.ready) == len(a.deploy.Subtasks) {
			a.send(control.Ready{To: a.deploy.To, States: a.states.infos})
		}
	case isAcked:
		if failpoint.SpoilOf(int64(msg.epoch)) == failpoint.DeclineEarly {
			a.send(control.Declined{To: a.deploy.To, Epoch: msg.epoch, Subtask: msg.subtask, Reason: failpoint.EnvSpoil})
			break
		}
		a.up.acked(msg)
	case uploaded:
		a.up.uploaded(msg)
	case isFailed:
		a.fail(msg.subtask, msg.err, msg.stop)
	case isEnded:
		m := control.Ended{To: a.deploy.To, Subtask: msg.subtask}
		a.again = append(a.again, m)
		a.send(m)
	default:
		panic(fmt.Sprintf("taskmanager: unhandled message %T", msg))
	}
}

func (a *attempt) fail(s dataflow.SubtaskID, err error, stop bool) {
	a.log.Error("subtask failed", "subtask", s.String(), "err", err)
	if a.failed {
		return // the first failure is the cause; the rest are its echo
	}
	a.failed = true
	msg := control.Failed{To: a.deploy.To, Subtask: s, Reason: err.Error(), Stop: stop}
	var corrupt *state.CorruptError
	if errors.As(err, &corrupt) {
		msg.Stop, msg.Corrupt = true, cmp.Or(corrupt.Object, corrupt.Local)
	}
	a.again = append(a.again, msg)
	a.send(msg)
}

// begin starts the subtasks, once: a second Start of a sink's writers would abort
// what the first one's have written.
func (a *attempt) begin() {
	if a.start || len(a.ready) < len(a.deploy.Subtasks) {
		return
	}
	a.start = true
	a.live.Start()
}

func (a *attempt) send(m control.Message) { a.m.opts.Up.Send(m) }

// openStore opens and restores the rows of a keyed subtask.
func (a *attempt) openStore(ctx context.Context, s dataflow.SubtaskID) (actors.Store, error) {
	return openStore(ctx, a, s, checkpoint.Files(a.deploy.Parts, &a.deploy.Plan, s))
}

// value makes the codec of a connector's format.
func (a *attempt) value(op dataflow.Operator, elem reflect.Type) (spi.Codec, error) {
	c, err := a.m.opts.Value(op, elem)
	if err != nil {
		return nil, &RefusedError{fmt.Errorf("operator %q: %w", op.Name, err)}
	}
	return c, nil
}

// events turns what subtasks report into mail of the attempt's goroutine, or
// sends it on where order does not matter.
type events struct{ a *attempt }

type (
	isReady struct{ subtask dataflow.SubtaskID }
	isAcked struct {
		subtask dataflow.SubtaskID
		epoch   dataflow.Epoch
		part    dataflow.Part
	}
	isEnded  struct{ subtask dataflow.SubtaskID }
	isFailed struct {
		subtask dataflow.SubtaskID
		err     error
		stop    bool
	}
)

func (e events) Ready(s dataflow.SubtaskID) { e.a.inbox.Put(isReady{s}) }

func (e events) Acked(s dataflow.SubtaskID, epoch dataflow.Epoch, part dataflow.Part, _ []dataflow.FileRef) {
	e.a.inbox.Put(isAcked{s, epoch, part})
}

func (e events) Declined(s dataflow.SubtaskID, epoch dataflow.Epoch, err error) {
	e.a.send(control.Declined{To: e.a.deploy.To, Epoch: epoch, Subtask: s, Reason: err.Error()})
}

func (e events) Committed(sink dataflow.OperatorID, epoch dataflow.Epoch, result string) {
	e.a.send(control.Committed{To: e.a.deploy.To, Epoch: epoch, Sink: sink, Result: result})
}

func (e events) CommitRetry(sink dataflow.OperatorID, epoch dataflow.Epoch, tries int, err error) {
	e.a.send(control.CommitFailed{To: e.a.deploy.To, Epoch: epoch, Sink: sink, Tries: tries, Reason: err.Error()})
}

func (e events) Failed(s dataflow.SubtaskID, err error, stop bool) {
	e.a.inbox.Put(isFailed{s, err, stop})
}

func (e events) Ended(s dataflow.SubtaskID) { e.a.inbox.Put(isEnded{s}) }

// stopsJob reports that no restart can cure err.
func stopsJob(err error) bool {
	var refused *RefusedError
	return errors.As(err, &refused)
}

// A RefusedError is a fault of the job itself: it would fail the same way at
// every restart.
type RefusedError struct{ Err error }

// Error returns the fault.
func (e *RefusedError) Error() string { return e.Err.Error() }

// Unwrap returns the fault.
func (e *RefusedError) Unwrap() error { return e.Err }
