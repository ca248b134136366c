// Package control holds the messages between a job manager and its task
// managers, and their encoding.
//
// The set is sealed. A message is a plain value that its receiver owns; it may
// arrive twice or late, and receivers compare Attempt first and drop what is
// stale. In one process messages are handed over as values; between processes
// Encode and Decode carry them (JSON: control traffic is a few messages a
// second).
package control

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/weirstream/weir/dataflow"
)

// Message is a control message.
//
//	message       from  answer              if lost
//	Deploy        JM    Ready or Failed     attempt fails at its deadline
//	Start         JM    none                a Trigger says it too
//	Trigger       JM    Acked or Declined   epoch times out
//	Abort         JM    none                freeze is closed at the next epoch
//	Complete      JM    none                the next Trigger says it too
//	Commit        JM    Committed           repeated
//	Finished      JM    none                transactional ids stay taken until the next
//	Drain         JM    Ended               repeated by the user
//	Cancel        JM    Stopped             repeated
//	Ready         TM    Start               attempt fails at its deadline
//	Acked         TM    none                epoch times out
//	Declined      TM    none                epoch times out
//	Committed     TM    Finished            Commit is repeated
//	CommitFailed  TM    none                the next failure says it too
//	Failed        TM    Cancel              repeated with every report
//	Ended         TM    none                repeated with every report
//	Stopped       TM    none                attempt is taken for stopped at its deadline
//	Report        TM    none                the next one comes in a second
type Message interface{ message() }

// To is what every message to or from an attempt begins with.
type To struct {
	Job     dataflow.JobID   `json:"job"`
	Attempt dataflow.Attempt `json:"attempt"`
}

// Target returns the job and attempt of a message.
func (t To) Target() To { return t }

// The messages.
type (
	// Deploy brings up subtasks of one attempt.
	Deploy struct {
		To
		Pipeline  dataflow.Pipeline    `json:"pipeline"`
		Term      dataflow.Term        `json:"term"`
		Pack      string               `json:"pack"` // path or hash of the pack
		Params    map[string]string    `json:"params,omitempty"`
		Plan      dataflow.Plan        `json:"plan"`
		States    []dataflow.StateInfo `json:"states,omitempty"`
		Subtasks  []dataflow.SubtaskID `json:"subtasks"`             // those for the receiver
		LastEpoch dataflow.Epoch       `json:"last_epoch,omitempty"` // newest ever opened
		Restored  dataflow.Epoch       `json:"restored,omitempty"`   // 0: fresh start
		Parts     []dataflow.Part      `json:"parts,omitempty"`      // all of the restored manifest
	}
	// Start lets sources run.
	Start struct{ To }
	// Trigger starts an epoch. It carries the newest complete one, for the word of
	// that may have been lost.
	Trigger struct {
		To
		Epoch    dataflow.Epoch `json:"epoch"`
		Complete dataflow.Epoch `json:"complete,omitempty"`
	}
	// Abort gives an epoch up.
	Abort struct {
		To
		Epoch  dataflow.Epoch `json:"epoch"`
		Reason string         `json:"reason"`
	}
	// Complete says that an epoch is complete.
	Complete struct {
		To
		Epoch dataflow.Epoch `json:"epoch"`
	}
	// Commit asks the committer of a sink to make an epoch visible.
	Commit struct {
		To
		Epoch   dataflow.Epoch          `json:"epoch"`
		Sink    dataflow.OperatorID     `json:"sink"`
		Handles []dataflow.CommitHandle `json:"handles"`
	}
	// Finished says that every sink has committed an epoch.
	Finished struct {
		To
		Epoch dataflow.Epoch `json:"epoch"`
	}
	// Drain ends all sources as if their input had ended.
	Drain struct{ To }
	// Cancel stops an attempt at once; nothing more is prepared or committed.
	Cancel struct {
		To
		Final bool `json:"final,omitempty"` // no attempt of the job follows here: local copies may go
	}

	// Ready says that all subtasks of a Deploy are restored. States has the numbers
	// and schemas as this job version compiled them.
	Ready struct {
		To
		States []dataflow.StateInfo `json:"states,omitempty"`
	}
	// Acked brings a durable part.
	Acked struct {
		To
		Epoch dataflow.Epoch `json:"epoch"`
		Part  dataflow.Part  `json:"part"`
	}
	// Declined says why a subtask takes no part in an epoch.
	Declined struct {
		To
		Epoch   dataflow.Epoch     `json:"epoch"`
		Subtask dataflow.SubtaskID `json:"subtask"`
		Reason  string             `json:"reason"`
	}
	// Committed answers Commit.
	Committed struct {
		To
		Epoch  dataflow.Epoch      `json:"epoch"`
		Sink   dataflow.OperatorID `json:"sink"`
		Result string              `json:"result,omitempty"`
	}
	// CommitFailed says that a commit failed and is tried again.
	CommitFailed struct {
		To
		Epoch  dataflow.Epoch      `json:"epoch"`
		Sink   dataflow.OperatorID `json:"sink"`
		Tries  int                 `json:"tries"` // failures of this attempt
		Reason string              `json:"reason"`
	}
	// Failed says that the attempt cannot go on. Stop: no restart can cure it.
	Failed struct {
		To
		Subtask dataflow.SubtaskID `json:"subtask"`
		Reason  string             `json:"reason"`
		Stop    bool               `json:"stop,omitempty"`
		Corrupt string             `json:"corrupt,omitempty"` // object of the restored checkpoint that cannot be trusted
	}
	// Ended says that a subtask processed the end of its inputs.
	Ended struct {
		To
		Subtask dataflow.SubtaskID `json:"subtask"`
	}
	// Stopped answers Cancel, and follows Failed when everything is released.
	Stopped struct{ To }
	// Report is the attempt's metrics, for people.
	Report struct {
		To
		At        time.Time        `json:"at"`
		Operators []OperatorReport `json:"operators"`
		Edges     []EdgeReport     `json:"edges"`
	}
)

// Keyed counts the subtasks of d that own key groups.
func (d Deploy) Keyed() (n int) {
	for _, s := range d.Subtasks {
		if d.Plan.Groups(s).Len() > 0 {
			n++
		}
	}
	return n
}

// OperatorReport is what one subtask says of one operator.
type OperatorReport struct {
	Operator  dataflow.OperatorID `json:"operator"`
	Subtask   dataflow.SubtaskID  `json:"subtask"`
	In        int64               `json:"rows_in"`
	Out       int64               `json:"rows_out"`
	Watermark int64               `json:"watermark"`
	Lag       int64               `json:"lag,omitempty"` // sources: records waiting; -1 unknown
	State     int64               `json:"state_bytes,omitempty"`
	Dirty     int64               `json:"dirty_bytes,omitempty"`
	Counts    map[string]int64    `json:"counts,omitempty"`
	Busy      float64             `json:"busy"`          // of the subtask's time, 0..1
	Held      float64             `json:"backpressured"` // 0..1
}

// EdgeReport is what one subtask says of one outgoing plan edge.
type EdgeReport struct {
	Edge  int                `json:"edge"`
	From  dataflow.SubtaskID `json:"from"`
	Rows  int64              `json:"rows"`
	Bytes int64              `json:"bytes"`
	Held  float64            `json:"backpressured"`
}

func (Deploy) message()       {}
func (Start) message()        {}
func (Trigger) message()      {}
func (Abort) message()        {}
func (Complete) message()     {}
func (Commit) message()       {}
func (Finished) message()     {}
func (Drain) message()        {}
func (Cancel) message()       {}
func (Ready) message()        {}
func (Acked) message()        {}
func (Declined) message()     {}
func (Committed) message()    {}
func (CommitFailed) message() {}
func (Failed) message()       {}
func (Ended) message()        {}
func (Stopped) message()      {}
func (Report) message()       {}

// A Link carries messages one way, in order, without blocking for long. A message
// that cannot be delivered is lost; the table of Message says what that means.
type Link interface{ Send(Message) }

type envelope struct {
	Type string          `json:"type"`
	Body json.RawMessage `json:"body"`
}

// Encode returns the bytes of m.
func Encode(m Message) ([]byte, error) {
	name, ok := nameOf(m)
	if !ok {
		return nil, fmt.Errorf("control: unknown message %T", m)
	}
	body, err := json.Marshal(m)
	if err != nil {
		return nil, fmt.Errorf("control: %s: %w", name, err)
	}
	return json.Marshal(envelope{name, body})
}

// Decode is the inverse of Encode.
func Decode(b []byte) (Message, error) {
	var e envelope
	if err := json.Unmarshal(b, &e); err != nil {
		return nil, fmt.Errorf("control: message is damaged: %w", err)
	}
	dec, ok := decoders[e.Type]
	if !ok {
		return nil, fmt.Errorf("control: unknown message %q: the sender runs another version", e.Type)
	}
	m, err := dec(e.Body)
	if err != nil {
		return nil, fmt.Errorf("control: %s is damaged: %w", e.Type, err)
	}
	return m, nil
}

func decoder[M Message](b []byte) (Message, error) {
	var m M
	err := json.Unmarshal(b, &m)
	return m, err
}

var decoders = map[string]func([]byte) (Message, error){
	"deploy": decoder[Deploy], "start": decoder[Start], "trigger": decoder[Trigger], "abort": decoder[Abort],
	"complete": decoder[Complete], "commit": decoder[Commit], "finished": decoder[Finished], "drain": decoder[Drain],
	"cancel": decoder[Cancel], "ready": decoder[Ready], "acked": decoder[Acked], "declined": decoder[Declined],
	"committed": decoder[Committed], "commit_failed": decoder[CommitFailed], "failed": decoder[Failed], "ended": decoder[Ended], "stopped": decoder[Stopped],
	"report": decoder[Report],
}

func nameOf(m Message) (string, bool) {
	switch m.(type) {
	case Deploy:
		return "deploy", true
	case Start:
		return "start", true
	case Trigger:
		return "trigger", true
	case Abort:
		return "abort", true
	case Complete:
		return "complete", true
	case Commit:
		return "commit", true
	case Finished:
		return "finished", true
	case Drain:
		return "drain", true
	case Cancel:
		return "cancel", true
	case Ready:
		return "ready", true
	case Acked:
		return "acked", true
	case Declined:
		return "declined", true
	case Committed:
		return "committed", true
	case CommitFailed:
		return "commit_failed", true
	case Failed:
		return "failed", true
	case Ended:
		return "ended", true
	case Stopped:
		return "stopped", true
	case Report:
		return "report", true
	}
	return "", false
}
