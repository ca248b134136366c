package jobmanager

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/weirstream/weir/checkpoint"
	"github.com/weirstream/weir/jobmanager/fsm"
)

// adopt copies what the job starts from under the pipeline's own prefix and records
// the copy as its first checkpoint. The savepoint cannot be disposed of meanwhile.
func (d *driver) adopt() {
	d.enter(adopting)
	ctx, cancel := context.WithCancel(d.ctx)
	d.stopCopy = cancel
	j := d.job
	d.log.Info("copying a savepoint", "from", j.Restore.Key, "epoch", j.Adopt)
	d.beside(func() func() {
		defer cancel()
		err := d.copy(ctx, j)
		return func() {
			d.view.copying("")
			switch {
			case d.stage != adopting: // it was cancelled
			case err != nil && !retryable(err):
				d.enter(idle)
				d.end(ending{phase: fsm.Failed, reason: err.Error()})
			case err != nil:
				d.log.Warn("savepoint was not copied, it is tried again", "err", err)
				d.enter(idle)
				d.end(ending{phase: fsm.Restarting, reason: err.Error()})
			default:
				d.job = d.m.machine.job(d.id)
				d.enter(idle)
			}
		}
	})
}

// copy runs on the slow goroutine.
func (d *driver) copy(ctx context.Context, j *fsm.Job) error {
	o := d.m.objects()
	man, err := o.Load(ctx, *j.Restore)
	if err != nil {
		return err
	}
	if sinks := slices.Sorted(maps.Keys(checkpoint.HandlesOf(man.Parts))); len(sinks) > 0 && !d.committed(man, j.Restore) {
		d.log.Warn("sinks prepared output for this epoch that only its own cluster commits: if that ended before it did, these rows are missing from them, so compare them before going on", "pipeline", man.Pipeline, "epoch", man.Epoch, "sinks", sinks)
	}
	ref, own, err := o.Adopt(ctx, man, *j.Restore, j.Pipeline, j.Adopt, func(c checkpoint.Copying) {
		d.view.copying(fmt.Sprintf("copying savepoint %d of pipeline %q: %d of %d objects", man.Epoch, man.Pipeline, c.Done, c.Objects))
	})
	if err != nil {
		return err
	}
	total, _ := own.Bytes()
	if r := d.m.append(ctx, fsm.Command{Adopt: &fsm.Adopt{Job: j.ID, Ref: ref, Bytes: total}}); r.Err != nil {
		return r.Err
	}
	if err := o.Mark(ctx, j.Pipeline, ref); err != nil {
		d.log.Warn("the copy is made, its marker is missing: it can be restored here, but not by its path", "epoch", ref.Epoch, "err", err)
	}
	return nil
}

// committed reports that all output of what the job starts from is known to be.
func (d *driver) committed(man *checkpoint.Manifest, ref *checkpoint.Ref) bool {
	p := d.m.machine.pipeline(man.Pipeline)
	return man.Kind == checkpoint.Adopted || p != nil && slices.ContainsFunc(p.Epochs, func(e fsm.EpochRecord) bool { return e.Ref == *ref && e.Finished })
}
