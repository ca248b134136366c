package jobmanager

import (
	"errors"
	"fmt"
	"maps"

	"github.com/weirstream/weir/checkpoint"
	"github.com/weirstream/weir/dataflow"
	"github.com/weirstream/weir/internal/control"
	"github.com/weirstream/weir/internal/objstore"
)

// restore builds the Deploy of the current attempt from the newest complete
// epoch, or the one the job was submitted with. It runs on the slow goroutine.
func (d *driver) restore(avoid map[dataflow.Epoch]bool) (control.Deploy, error) {
	j, p := d.m.machine.job(d.id), d.m.machine.pipeline(d.pipeline)
	msg := control.Deploy{
		To: control.To{Job: d.id, Attempt: j.Attempt}, Pipeline: j.Pipeline, Term: d.m.term, Pack: j.Pack, Params: j.Params,
		Plan: j.Plan, States: p.States, Subtasks: j.Plan.Subtasks(), LastEpoch: p.Epoch,
	}
	ref := p.RestoreRef(j, avoid)
	if ref == nil {
		return msg, nil
	}
	man, err := d.m.objects().Load(d.ctx, *ref)
	if err != nil {
		return msg, err
	}
	if err := checkRestore(man, &j.Plan, j.SkipState); err != nil {
		return msg, fmt.Errorf("%w: %w", errRefused, err)
	}
	msg.Restored, msg.Parts = man.Committed(), man.Parts
	return msg, nil
}

// errRefused marks what no restart can cure.
var errRefused = errors.New("restore refused")

func retryable(err error) bool {
	var corrupt *checkpoint.CorruptError
	return !errors.Is(err, errRefused) && !errors.As(err, &corrupt)
}

// unfinished returns the epochs that are to be committed before rows flow, with their
// handles. It runs on the slow goroutine.
func (d *driver) unfinished(avoid map[dataflow.Epoch]bool) (out []checkpoint.Unfinished, err error) {
	j, p := d.m.machine.job(d.id), d.m.machine.pipeline(d.pipeline)
	for _, ref := range p.Uncommitted(j, avoid) {
		man, err := d.m.objects().Load(d.ctx, ref)
		if err != nil {
			return nil, err
		}
		handles := checkpoint.HandlesOf(man.Parts)
		maps.DeleteFunc(handles, func(op dataflow.OperatorID, _ []dataflow.CommitHandle) bool { return j.Plan.Graph.Operator(op) == nil })
		out = append(out, checkpoint.Unfinished{Epoch: ref.Epoch, Handles: handles})
	}
	return out, nil
}

// passOver gives the newest epoch up because an object of it is corrupt, if that
// cannot lose or double anything: nothing of it was committed, or every sink
// takes duplicates.
func (d *driver) passOver() error {
	j, p := d.m.machine.job(d.id), d.m.machine.pipeline(d.pipeline)
	ref := p.RestoreRef(j, d.avoid)
	if ref == nil {
		return errors.New("there is no checkpoint to fall back from")
	}
	avoid := maps.Clone(d.avoid)
	avoid[ref.Epoch] = true
	to := p.RestoreRef(j, avoid)
	if to == nil || to == j.Restore && (j.Adopt != 0 || avoid[to.Epoch]) { // an adopted one is gone, its origin is not ours
		return fmt.Errorf("there is no checkpoint before epoch %d to fall back to", ref.Epoch)
	}
	man, err := d.m.objects().Load(d.ctx, *ref)
	if err != nil && objstore.Retryable(err) {
		return nil // the restart meets the object again, when the store answers
	}
	if !allAtLeastOnce(&j.Plan.Graph) { // a manifest that is damaged itself does not say what it committed
		if man == nil || len(checkpoint.HandlesOf(man.Parts)) > 0 {
			return fmt.Errorf("epoch %d may already be committed to a sink, so falling back to epoch %d would double its output: restore the object, or start a savepoint of a copy of the tables", ref.Epoch, to.Epoch)
		}
	}
	d.avoid = avoid
	d.log.Warn("falling back to the checkpoint before", "corrupt", ref.Epoch, "epoch", to.Epoch)
	return nil
}

func allAtLeastOnce(g *dataflow.Graph) bool {
	for _, op := range g.Operators {
		if op.Kind == dataflow.KindSink && op.Connector.Options["guarantee"] != "at_least_once" && op.Connector.Options["guarantee"] != "none" {
			return false
		}
	}
	return true
}
