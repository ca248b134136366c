package jobmanager

import (
	"errors"
	"slices"
	"time"

	"github.com/weirstream/weir/checkpoint"
	"github.com/weirstream/weir/dataflow"
	"github.com/weirstream/weir/internal/objstore"
	"github.com/weirstream/weir/jobmanager/fsm"
)

// retain gives up completed epochs that retention no longer keeps, and sweeps
// what they leave behind, now and then.
func (d *driver) retain() {
	p := d.m.machine.pipeline(d.job.Pipeline)
	refs, done := make([]checkpoint.Ref, 0, len(p.Epochs)), map[dataflow.Epoch]bool{}
	for _, rec := range p.Epochs {
		refs = append(refs, rec.Ref)
		done[rec.Epoch] = rec.Finished
	}
	retain := d.job.Options.Retain
	if retain == 0 {
		retain = 2
	}
	_, drop := checkpoint.Keep(refs, retain, func(e dataflow.Epoch) bool { return done[e] }, 0)
	sweep := d.now().Sub(d.view.swept) > d.m.opts.Lease
	if len(drop) < 16 && !sweep {
		return // a log entry for each epoch would be one too many
	}
	d.view.swept = d.now()
	cut := d.now().Add(-2 * d.m.opts.Lease)
	d.beside(func() func() {
		if len(drop) > 0 {
			var gone []dataflow.Epoch
			for _, r := range drop {
				gone = append(gone, r.Epoch)
			}
			d.m.append(d.ctx, fsm.Command{Drop: &fsm.DropEpochs{Pipeline: p.Name, Epochs: gone}})
		}
		if err := d.sweep(cut); err != nil && d.ctx.Err() == nil {
			d.log.Warn("sweep of given-up epochs failed, it is tried again", "err", err)
		}
		return nil
	})
}

// sweep deletes objects of recorded epochs that no kept manifest names and that
// were last touched before cut. It runs on the slow goroutine.
func (d *driver) sweep(cut time.Time) error {
	p := d.m.machine.pipeline(d.job.Pipeline)
	latest := p.Latest()
	if latest == nil {
		return nil
	}
	var kept []*checkpoint.Manifest
	for _, rec := range p.Epochs {
		man, err := checkpoint.Load(d.ctx, d.m.opts.Store, rec.Ref)
		if err != nil {
			return err // what it names is unknown: keep everything
		}
		kept = append(kept, man)
	}
	var listed []string
	for info, err := range objstore.All(d.ctx, d.m.opts.Store, checkpoint.EpochsDir(p.Name), "") {
		if err != nil {
			return err
		}
		if info.ModTime.Before(cut) {
			listed = append(listed, info.Key)
		}
	}
	var errs []error
	for _, key := range checkpoint.Sweep(p.Name, listed, kept, func(e dataflow.Epoch) bool { return e < latest.Epoch }) {
		errs = append(errs, d.m.opts.Store.Delete(d.ctx, key))
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	if len(p.Orphans) > 0 {
		return d.m.append(d.ctx, fsm.Command{Forget: &fsm.ForgetEpochs{Pipeline: p.Name, Epochs: p.Orphans}}).Err
	}
	return nil
}

// dropAll gives up every checkpoint of a cancelled job; savepoints stay.
func (d *driver) dropAll() {
	p := d.m.machine.pipeline(d.job.Pipeline)
	var gone []dataflow.Epoch
	for _, rec := range p.Epochs {
		if rec.Kind != checkpoint.Savepoint {
			gone = append(gone, rec.Epoch)
		}
	}
	if slices.Sort(gone); len(gone) > 0 {
		d.m.append(d.ctx, fsm.Command{Drop: &fsm.DropEpochs{Pipeline: p.Name, Epochs: gone, All: true}})
	}
}
