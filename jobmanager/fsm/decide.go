package fsm

import (
	"fmt"
	"slices"

	"github.com/weirstream/weir/checkpoint"
	"github.com/weirstream/weir/dataflow"
)

// What follows is decided from the state alone, for the driver of a job and for the
// simulation of one alike.

// defaultRetain is how many completed checkpoints are kept.
const defaultRetain = 2

// Start returns where a submission without a restore path starts: nil means afresh, and
// a sink that is ahead of that refuses. p may be nil.
func (p *Pipeline) Start() (*EpochRecord, error) {
	if p == nil || p.Latest() == nil {
		return nil, nil
	}
	last := p.Latest()
	switch {
	case last.Epoch != p.Completed:
		return nil, fmt.Errorf("pipeline %q had checkpoints up to epoch %d, the newest kept is %s %d: say --restore %s if that is meant, or start under another --name", p.Name, p.Completed, last.Kind, last.Epoch, last.Key)
	case last.Kind == checkpoint.Final:
		return nil, fmt.Errorf("pipeline %q was drained at epoch %d, all its sources ended: start under another --name, or restore a savepoint with --restore", p.Name, p.Completed)
	}
	return last, nil
}

// Record returns what p has of an epoch, nil if it is not complete or not kept. p may be nil.
func (p *Pipeline) Record(e dataflow.Epoch) *EpochRecord {
	if p == nil {
		return nil
	}
	if i := slices.IndexFunc(p.Epochs, func(r EpochRecord) bool { return r.Epoch == e }); i >= 0 {
		return &p.Epochs[i]
	}
	return nil
}

// Adopting reports that j starts from a checkpoint of another pipeline or cluster and
// has no copy of it yet. A job never runs on objects that someone else may dispose of.
func (p *Pipeline) Adopting(j *Job) bool {
	return j.Adopt != 0 && j.Copy == nil && p.Completed < j.Adopt
}

// RestoreRef returns where the next attempt of j starts, passing over avoid; nil for a
// fresh start.
func (p *Pipeline) RestoreRef(j *Job, avoid map[dataflow.Epoch]bool) *checkpoint.Ref {
	for _, rec := range slices.Backward(p.Epochs) {
		if j.Restore != nil && rec.Epoch <= j.After {
			break // of an earlier job: this one was told to start elsewhere
		}
		if !avoid[rec.Epoch] && !rec.Abandoned {
			return &rec.Ref
		}
	}
	if j.Copy != nil && !avoid[j.Copy.Epoch] {
		return &j.Copy.Ref
	}
	return j.Restore
}

// Uncommitted returns the complete epochs up to the one that j restores whose output may
// not all be committed, oldest first, without those that j was told to leave behind:
// their output is not in the state that it goes on from.
func (p *Pipeline) Uncommitted(j *Job, avoid map[dataflow.Epoch]bool) (out []checkpoint.Ref) {
	ref := p.RestoreRef(j, avoid)
	for _, rec := range p.Epochs {
		if ref != nil && !rec.Finished && rec.Epoch <= ref.Epoch && !avoid[rec.Epoch] && !rec.Abandoned && !j.Abandons(rec.Epoch) {
			out = append(out, rec.Ref)
		}
	}
	return out
}

// Own returns the checkpoints that go when j is cancelled: savepoints stay, with what is
// to be committed before them, and what j resumed from, for an earlier job made that and
// its output may not be committed yet.
func (p *Pipeline) Own(j *Job) (out []dataflow.Epoch) {
	var saved dataflow.Epoch
	for _, rec := range p.Epochs {
		if rec.Kind == checkpoint.Savepoint {
			saved = rec.Epoch
		}
	}
	for _, rec := range p.Epochs {
		if rec.Kind != checkpoint.Savepoint && rec.Epoch > j.After && (rec.Finished || rec.Epoch > saved) {
			out = append(out, rec.Epoch)
		}
	}
	return out
}

// Expired returns the epochs that retention no longer keeps; retain 0 is the default.
func (p *Pipeline) Expired(retain int) (out []dataflow.Epoch) {
	if retain == 0 {
		retain = defaultRetain
	}
	refs := make([]checkpoint.Ref, 0, len(p.Epochs))
	for _, rec := range p.Epochs {
		refs = append(refs, rec.Ref)
	}
	_, drop := checkpoint.Keep(refs, retain, func(e dataflow.Epoch) bool { return p.Record(e).Finished })
	for _, r := range drop {
		out = append(out, r.Epoch)
	}
	return out
}

// Dead reports that objects under epoch e may be deleted if no kept manifest names them:
// it was opened here, and nobody writes there any more.
func (p *Pipeline) Dead(e dataflow.Epoch) bool {
	return p.Recorded(e) && (e < p.Completed || p.Job == "")
}
