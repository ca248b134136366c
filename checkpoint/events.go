package checkpoint

import (
	"time"

	"github.com/weirstream/weir/dataflow"
)

// Events of the Coordinator. Each may come late or twice; what is stale by
// attempt or epoch is dropped.
//
//	event           from             answers
//	Tick            job driver       -
//	Deployed        job driver       -
//	Stopped         job driver       -
//	Request         user             -
//	Opened          Raft             OpenEpoch
//	Acked, Declined subtask          Trigger
//	Published       object store     PublishManifest
//	Completed       Raft             RecordComplete
//	Committed       committer        Commit
//	CommitFailed    committer        Commit
//	FinishRecorded  Raft             RecordFinished
//	Ended           subtask          -
type Event interface{ event() }

// The events.
type (
	// Tick says that time has passed.
	Tick struct{}
	// Deployed says that every subtask of a new attempt is ready. Unfinished lists
	// the complete epochs up to the restored one, oldest first, whose commits must
	// be repeated before rows flow.
	Deployed struct {
		Attempt    dataflow.Attempt
		Subtasks   []dataflow.SubtaskID
		Unfinished []Unfinished
	}
	// Stopped says that the attempt is over.
	Stopped struct{ Reason string }
	// Request asks for an epoch; its outcome comes as the Answer with the same ID.
	// Last: once it is complete the attempt opens no other, for the job is to stop
	// there and its output must not go beyond.
	Request struct {
		ID   string
		Kind Kind
		Last bool
	}
	// Opened gives the number that Raft recorded.
	Opened struct {
		Attempt dataflow.Attempt
		Epoch   dataflow.Epoch
		Err     error
	}
	// Acked brings the durable part of one subtask.
	Acked struct {
		Epoch dataflow.Epoch
		Part  dataflow.Part
	}
	// Declined says that a subtask could not take part.
	Declined struct {
		Epoch   dataflow.Epoch
		Subtask dataflow.SubtaskID
		Reason  string
	}
	// Published says where the manifest lies.
	Published struct {
		Epoch dataflow.Epoch
		Ref   Ref
		Err   error
	}
	// Completed says that the epoch's Raft entry is applied, or was refused.
	Completed struct {
		Epoch dataflow.Epoch
		Key   string
		Err   error
	}
	// Committed says that a sink has made an epoch's output visible.
	Committed struct {
		Epoch dataflow.Epoch
		Sink  dataflow.OperatorID
	}
	// CommitFailed says that a sink's commit failed and is tried again. Tries counts
	// the failures of this attempt, Reason is the last one.
	CommitFailed struct {
		Epoch  dataflow.Epoch
		Sink   dataflow.OperatorID
		Tries  int
		Reason string
	}
	// FinishRecorded says that Raft has recorded an epoch as finished.
	FinishRecorded struct {
		Epoch dataflow.Epoch
		Err   error
	}
	// Ended says that a subtask has processed the end of all its inputs.
	Ended struct {
		Attempt dataflow.Attempt
		Subtask dataflow.SubtaskID
	}
)

func (Tick) event()           {}
func (Deployed) event()       {}
func (Stopped) event()        {}
func (Request) event()        {}
func (Opened) event()         {}
func (Acked) event()          {}
func (Declined) event()       {}
func (Published) event()      {}
func (Completed) event()      {}
func (Committed) event()      {}
func (CommitFailed) event()   {}
func (FinishRecorded) event() {}
func (Ended) event()          {}

// An Effect is something the job driver must do, in order.
type Effect interface{ effect() }

// The effects.
type (
	// OpenEpoch records a new epoch in Raft; Opened answers.
	OpenEpoch struct {
		Attempt dataflow.Attempt
		Kind    Kind
	}
	// Trigger starts the epoch at all subtasks; those with live inputs wait for the
	// barrier. Complete is the newest complete epoch of the attempt, 0 if none: its
	// NotifyComplete may have been lost, and a subtask that does not know of it would
	// hand over again what is committed already.
	Trigger struct {
		Attempt  dataflow.Attempt
		Epoch    dataflow.Epoch
		Complete dataflow.Epoch
	}
	// PublishManifest puts the manifest; Published answers.
	PublishManifest struct {
		Attempt dataflow.Attempt
		Epoch   dataflow.Epoch
		Kind    Kind
		Opened  time.Time
		Parts   []dataflow.Part
	}
	// RecordComplete makes the epoch complete in Raft, then puts its marker;
	// Completed answers.
	RecordComplete struct {
		Attempt dataflow.Attempt
		Ref     Ref
		Bytes   int64 // of all files named
	}
	// NotifyComplete tells all subtasks.
	NotifyComplete struct {
		Attempt dataflow.Attempt
		Epoch   dataflow.Epoch
	}
	// Commit sends handles to a sink's committer; Committed answers. It is repeated.
	Commit struct {
		Attempt dataflow.Attempt
		Epoch   dataflow.Epoch
		Sink    dataflow.OperatorID
		Handles []dataflow.CommitHandle
	}
	// RecordFinished records in Raft that every sink has answered.
	RecordFinished struct {
		Attempt dataflow.Attempt
		Epoch   dataflow.Epoch
	}
	// NotifyFinished tells all subtasks.
	NotifyFinished struct {
		Attempt dataflow.Attempt
		Epoch   dataflow.Epoch
	}
	// Abort tells all subtasks that the epoch was given up.
	Abort struct {
		Attempt dataflow.Attempt
		Epoch   dataflow.Epoch
		Reason  string
	}
	// Start lets the sources of the attempt run.
	Start struct{ Attempt dataflow.Attempt }
	// Fail fails the attempt. Stop: no restart is tried, the job fails with it.
	Fail struct {
		Attempt dataflow.Attempt
		Reason  string
		Stop    bool
	}
	// Answer settles a Request: a key on success, else a reason.
	Answer struct {
		ID     string
		Epoch  dataflow.Epoch
		Kind   Kind
		Key    string
		Reason string
	}
	// JobEnded says that all input is processed and all output committed.
	JobEnded struct{ Attempt dataflow.Attempt }
)

func (OpenEpoch) effect()       {}
func (Trigger) effect()         {}
func (PublishManifest) effect() {}
func (RecordComplete) effect()  {}
func (NotifyComplete) effect()  {}
func (Commit) effect()          {}
func (RecordFinished) effect()  {}
func (NotifyFinished) effect()  {}
func (Abort) effect()           {}
func (Start) effect()           {}
func (Fail) effect()            {}
func (Answer) effect()          {}
func (JobEnded) effect()        {}
