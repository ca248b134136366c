package jobmanager

import (
	"context"
	"errors"
	"time"

	"github.com/weirstream/weir/checkpoint"
	"github.com/weirstream/weir/internal/objstore"
	"github.com/weirstream/weir/jobmanager/fsm"
)

// retain gives up completed epochs that retention no longer keeps, and sweeps
// what they leave behind, now and then.
func (d *driver) retain() {
	p := d.m.machine.pipeline(d.pipeline)
	if gone := p.Expired(d.job.Options.Retain); len(gone) >= dropAtOnce {
		d.beside(func() func() {
			d.m.append(d.ctx, fsm.Command{Drop: &fsm.DropEpochs{Pipeline: p.Name, Epochs: gone}})
			return nil
		})
	}
	if d.now().Sub(d.view.swept) > max(sweepEvery, d.m.opts.Lease) {
		d.startSweep(d.ctx, 2*d.m.opts.Lease)
	}
}

const (
	dropAtOnce  = 16          // a log entry for each epoch would be one too many
	sweepEvery  = time.Minute // a sweep lists all objects of the pipeline
	sweepWithin = 5 * time.Minute
)

// startSweep sweeps what was last touched longer than age ago, on a goroutine of
// its own: it may take long, and checkpoints must not wait for it.
func (d *driver) startSweep(ctx context.Context, age time.Duration) {
	d.view.swept = d.now()
	if !d.sweeping.CompareAndSwap(false, true) {
		return
	}
	cut := d.now().Add(-age)
	d.m.wg.Go(func() {
		defer d.sweeping.Store(false)
		ctx, cancel := context.WithTimeout(ctx, sweepWithin)
		defer cancel()
		if err := d.sweep(ctx, cut); err != nil && ctx.Err() == nil {
			d.log.Warn("sweep of given-up epochs failed, it is tried again", "err", err)
		}
	})
}

// sweep deletes objects of recorded epochs that no kept manifest names and that
// were last touched before cut. It runs on a goroutine of its own.
func (d *driver) sweep(ctx context.Context, cut time.Time) error {
	p := d.m.machine.pipeline(d.pipeline)
	var kept []*checkpoint.Manifest
	for _, rec := range p.Epochs {
		man, err := d.m.objects().Load(ctx, rec.Ref)
		if err != nil {
			return err // what it names is unknown: keep everything
		}
		kept = append(kept, man)
	}
	var listed []string
	for info, err := range objstore.All(ctx, d.m.opts.Store, checkpoint.EpochsDir(p.Name), "") {
		if err != nil {
			return err
		}
		if info.ModTime.Before(cut) {
			listed = append(listed, info.Key)
		}
	}
	var errs []error
	for _, key := range checkpoint.Sweep(p.Name, listed, kept, p.Dead) {
		errs = append(errs, d.m.opts.Store.Delete(ctx, key))
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	if len(p.Orphans) > 0 {
		return d.m.append(ctx, fsm.Command{Forget: &fsm.ForgetEpochs{Pipeline: p.Name, Epochs: p.Orphans}}).Err
	}
	return nil
}

// dropOwn gives up every checkpoint of a cancelled job.
func (d *driver) dropOwn() {
	if gone := d.m.machine.pipeline(d.pipeline).Own(d.job); len(gone) > 0 {
		d.m.append(d.ctx, fsm.Command{Drop: &fsm.DropEpochs{Pipeline: d.pipeline, Epochs: gone, All: true}})
	}
}
