package fsm

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/weirstream/weir/checkpoint"
	"github.com/weirstream/weir/dataflow"
)

// Phase is where a job stands; the words are Flink's.
type Phase string

// The phases of a job.
const (
	Created      Phase = "created"      // submitted, waits for slots
	Initializing Phase = "initializing" // an attempt is being deployed and restored
	Running      Phase = "running"
	Stopping     Phase = "stopping" // draining, or stopping with a savepoint
	Restarting   Phase = "restarting"
	Cancelling   Phase = "cancelling"
	Suspended    Phase = "suspended" // stopped by the cluster's own shutdown; resumes with it
	Canceled     Phase = "canceled"
	Failed       Phase = "failed"
	Finished     Phase = "finished"
)

// Terminal reports whether a job in this phase is over.
func (p Phase) Terminal() bool { return p == Canceled || p == Failed || p == Finished }

// Options are a job's settings that checkpointing and restarts need. Durations
// are in nanoseconds in JSON; a zero field means its default.
type Options struct {
	Checkpoint     checkpoint.Options `json:"checkpoint"`
	Retain         int                `json:"retain,omitempty"`           // completed checkpoints kept; 2
	RetainOnCancel bool               `json:"retain_on_cancel,omitempty"` // keep checkpoints when the job is cancelled
	MaxRestarts    int                `json:"max_restarts,omitempty"`     // 0: no limit; -1: none
}

// A Job is one submission.
type Job struct {
	ID        dataflow.JobID    `json:"id"`
	Pipeline  dataflow.Pipeline `json:"pipeline"`
	Pack      string            `json:"pack"` // where the worker finds it
	PackHash  string            `json:"pack_hash"`
	Params    map[string]string `json:"params,omitempty"`
	Graph     dataflow.Graph    `json:"graph"` // as written: what a plan at another parallelism is made of
	Plan      dataflow.Plan     `json:"plan"`
	Options   Options           `json:"options"`
	Phase     Phase             `json:"phase"`
	Reason    string            `json:"reason,omitempty"` // of the last failure, or why it is over
	Attempt   dataflow.Attempt  `json:"attempt"`
	Restarts  int               `json:"restarts"`
	Submitted int64             `json:"submitted_us"`
	Changed   int64             `json:"changed_us"`        // last phase change
	Restore   *checkpoint.Ref   `json:"restore,omitempty"` // where the first attempt starts, when no own epoch is complete
	After     dataflow.Epoch    `json:"after,omitempty"`   // newest epoch opened when it was submitted: later ones are its own
	Adopt     dataflow.Epoch    `json:"adopt,omitempty"`   // as which Restore is to be copied first, if another owns it; 0: it is the pipeline's own
	Copy      *EpochRecord      `json:"copy,omitempty"`    // of Restore, as Adopt; it becomes the pipeline's when the job runs
	Drain     bool              `json:"drain,omitempty"`   // its sources are to end
	Ended     int               `json:"ended,omitempty"`   // the how manieth it was to be over; 0: it is not
	SkipState bool              `json:"allow_non_restored_state,omitempty"`
	// Request is the submitter's own mark: an entry that comes again, because its answer
	// was lost, is answered with the job that it made.
	Request string `json:"request,omitempty"`
}

// Abandons reports that j was told to start from a checkpoint before e, or from another
// pipeline's, so that what of e is not committed yet must never be: j's own epochs make
// that output anew, or never.
func (j *Job) Abandons(e dataflow.Epoch) bool {
	return j.Restore != nil && e <= j.After && (j.Adopt != 0 || e > j.Restore.Epoch)
}

// An EpochRecord is a completed epoch.
type EpochRecord struct {
	checkpoint.Ref
	Term     dataflow.Term `json:"term,omitempty"` // of the leader that completed it
	Finished bool          `json:"finished"`
	// Abandoned: a later job started elsewhere before all its output was committed,
	// which therefore never is.
	Abandoned bool  `json:"abandoned,omitempty"`
	At        int64 `json:"at_us"`
	Bytes     int64 `json:"data_bytes"` // of all files that its parts name
}

// Epochs is a range of epochs, both ends in it.
type Epochs struct {
	From dataflow.Epoch `json:"from"`
	To   dataflow.Epoch `json:"to"`
}

// A Pipeline is what outlives its jobs: epochs, attempts, state numbers.
type Pipeline struct {
	Name      dataflow.Pipeline    `json:"name"`
	KeyGroups int                  `json:"key_groups"`
	Epoch     dataflow.Epoch       `json:"epoch"`            // last opened
	Attempt   dataflow.Attempt     `json:"attempt"`          // last started
	Completed dataflow.Epoch       `json:"completed"`        // newest completed ever, kept or not
	Epochs    []EpochRecord        `json:"epochs,omitempty"` // completed and kept, in order
	Job       dataflow.JobID       `json:"job,omitempty"`    // the live one; "" when none
	States    []dataflow.StateInfo `json:"states,omitempty"`
	NextState dataflow.StateID     `json:"next_state"`
	Orphans   []dataflow.Epoch     `json:"orphans,omitempty"` // epochs whose objects a sweep may delete
	Foreign   []Epochs             `json:"foreign,omitempty"` // epochs of another cluster, whose objects no sweep may touch
}

// Recorded reports whether e was opened here, so that what lies under it is ours.
func (p *Pipeline) Recorded(e dataflow.Epoch) bool {
	return e <= p.Epoch && !slices.ContainsFunc(p.Foreign, func(f Epochs) bool { return f.From <= e && e <= f.To })
}

// Latest returns the newest completed epoch, nil if there is none.
func (p *Pipeline) Latest() *EpochRecord {
	if len(p.Epochs) == 0 {
		return nil
	}
	return &p.Epochs[len(p.Epochs)-1]
}

// State is the machine's whole state, and its snapshot.
type State struct {
	Version   int                             `json:"version"`
	Jobs      map[dataflow.JobID]*Job         `json:"jobs"`
	Pipelines map[dataflow.Pipeline]*Pipeline `json:"pipelines"`
	NextJob   int                             `json:"next_job"`
	Ends      int                             `json:"ends,omitempty"` // jobs that are over, remembered or not
	Term      dataflow.Term                   `json:"term,omitempty"` // newest of an applied entry
}

// A Machine applies commands to a State.
type Machine struct{ s State }

// New returns a Machine with an empty state.
func New() *Machine {
	return &Machine{State{Version: 1, Jobs: map[dataflow.JobID]*Job{}, Pipelines: map[dataflow.Pipeline]*Pipeline{}}}
}

// Snapshot returns the encoded state. The same history gives the same bytes.
func (m *Machine) Snapshot() ([]byte, error) { return json.Marshal(m.s) }

// Restore replaces the state by a snapshot.
func (m *Machine) Restore(b []byte) error {
	fresh := New()
	if err := json.Unmarshal(b, &fresh.s); err != nil {
		return fmt.Errorf("fsm: snapshot is damaged: %w", err)
	}
	if fresh.s.Version != 1 {
		return fmt.Errorf("fsm: snapshot has version %d, this weir reads 1: use a newer weir", fresh.s.Version)
	}
	if fresh.s.Jobs == nil || fresh.s.Pipelines == nil {
		return errors.New("fsm: snapshot is damaged: it has no jobs or no pipelines")
	}
	for _, id := range slices.Sorted(maps.Keys(fresh.s.Jobs)) {
		if j := fresh.s.Jobs[id]; j == nil || j.ID != id {
			return fmt.Errorf("fsm: snapshot is damaged: job %q has no record of its own", id)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(fresh.s.Pipelines)) {
		if p := fresh.s.Pipelines[name]; p == nil || p.Name != name {
			return fmt.Errorf("fsm: snapshot is damaged: pipeline %q has no record of its own", name)
		}
	}
	m.s = fresh.s
	return nil
}

// Job returns a deep copy of a job, or nil.
func (m *Machine) Job(id dataflow.JobID) *Job { return clone(m.s.Jobs[id]) }

// Pipeline returns a deep copy of a pipeline, or nil.
func (m *Machine) Pipeline(p dataflow.Pipeline) *Pipeline { return clone(m.s.Pipelines[p]) }

// Jobs returns deep copies of all jobs, oldest first.
func (m *Machine) Jobs() (out []*Job) {
	for _, id := range slices.Sorted(maps.Keys(m.s.Jobs)) {
		out = append(out, clone(m.s.Jobs[id]))
	}
	slices.SortStableFunc(out, func(a, b *Job) int { return cmp.Compare(a.Submitted, b.Submitted) })
	return out
}

// clone copies by encoding: reads are rare beside what they would cost a reader
// that saw a half-applied command.
func clone[T any](v *T) *T {
	if v == nil {
		return nil
	}
	b, err := json.Marshal(v)
	if err != nil {
		panic(fmt.Sprintf("fsm: state does not encode: %v", err))
	}
	c := new(T)
	if err := json.Unmarshal(b, c); err != nil {
		panic(fmt.Sprintf("fsm: state does not decode: %v", err))
	}
	return c
}
