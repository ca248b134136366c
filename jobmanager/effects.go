package jobmanager

import (
	"errors"
	"fmt"

	"github.com/weirstream/weir/checkpoint"
	"github.com/weirstream/weir/internal/control"
	"github.com/weirstream/weir/internal/failpoint"
	"github.com/weirstream/weir/jobmanager/fsm"
)

// act carries out one effect of the Coordinator.
func (d *driver) act(e checkpoint.Effect) {
	switch e := e.(type) {
	case checkpoint.OpenEpoch:
		d.beside(func() func() {
			r := d.m.append(d.ctx, fsm.Command{Open: &fsm.OpenEpoch{Job: d.id, Attempt: e.Attempt}})
			return d.back(checkpoint.Opened{Attempt: e.Attempt, Epoch: r.Epoch, Err: r.Err})
		})
	case checkpoint.Trigger:
		d.m.down.Send(control.Trigger{To: d.to(), Epoch: e.Epoch, Complete: e.Complete})
	case checkpoint.PublishManifest:
		d.publish(e)
	case checkpoint.RecordComplete:
		d.complete(e)
	case checkpoint.NotifyComplete:
		d.m.down.Send(control.Complete{To: d.to(), Epoch: e.Epoch})
		d.log.Info("checkpoint complete", "epoch", e.Epoch, "attempt", e.Attempt)
	case checkpoint.Commit:
		d.m.down.Send(control.Commit{To: d.to(), Epoch: e.Epoch, Sink: e.Sink, Handles: e.Handles})
	case checkpoint.RecordFinished:
		d.finish(e)
	case checkpoint.NotifyFinished:
		d.m.down.Send(control.Finished{To: d.to(), Epoch: e.Epoch})
		d.retain()
	case checkpoint.Abort:
		d.log.Warn("checkpoint aborted", "epoch", e.Epoch, "reason", e.Reason)
		d.m.down.Send(control.Abort{To: d.to(), Epoch: e.Epoch, Reason: e.Reason})
	case checkpoint.Start:
		d.m.down.Send(control.Start{To: d.to()})
	case checkpoint.Fail:
		d.failed(control.Failed{To: d.to(), Reason: e.Reason, Stop: e.Stop})
	case checkpoint.Answer:
		d.answer(e)
	case checkpoint.JobEnded:
		d.end(ending{phase: fsm.Finished})
	default:
		panic(fmt.Sprintf("jobmanager: unhandled effect %T", e))
	}
}

// back returns what hands ev to the Coordinator on the driver's goroutine.
func (d *driver) back(ev checkpoint.Event) func() { return func() { d.step(ev) } }

func (d *driver) publish(e checkpoint.PublishManifest) {
	p := d.m.machine.pipeline(d.pipeline)
	man := &checkpoint.Manifest{
		Version: checkpoint.ManifestVersion, Pipeline: d.pipeline, Job: d.id, Attempt: e.Attempt, Term: d.m.term,
		Epoch: e.Epoch, Kind: e.Kind, TimeMicros: e.Opened.UnixMicro(), Pack: d.job.PackHash, Plan: d.job.Plan, States: p.States, Parts: e.Parts,
	}
	d.beside(func() func() {
		ref, err := d.m.objects().Publish(d.ctx, man)
		return d.back(checkpoint.Published{Epoch: e.Epoch, Ref: ref, Err: err})
	})
}

// complete appends the entry that makes an epoch complete. Whether it is applied
// is never left open: append tries until the log answers. The marker, which only a
// restore by path asks for, is put while the sinks commit, but before a user is
// told of an epoch that they asked for.
func (d *driver) complete(e checkpoint.RecordComplete) {
	d.beside(func() func() {
		failpoint.Hit(failpoint.RaftBefore, failpoint.Int("epoch", int64(e.Ref.Epoch)))
		r := d.m.append(d.ctx, fsm.Command{Complete: &fsm.CompleteEpoch{Job: d.id, Attempt: e.Attempt, Ref: e.Ref, Bytes: e.Bytes}})
		if d.ctx.Err() != nil {
			return nil // shut down: the next leader reads the log
		}
		completed := d.back(checkpoint.Completed{Epoch: e.Ref.Epoch, Key: e.Ref.Key, Err: r.Err})
		if r.Err != nil {
			return completed
		}
		failpoint.Hit(failpoint.RaftAfter, failpoint.Int("epoch", int64(e.Ref.Epoch)))
		if e.Ref.Kind == checkpoint.Periodic {
			d.inbox.Put(completed)
			completed = nil
		}
		if err := d.m.objects().Mark(d.ctx, d.pipeline, e.Ref); err != nil {
			d.log.Warn("the epoch is complete, its marker is missing: it can be restored here, but not by its path", "epoch", e.Ref.Epoch, "err", err)
		}
		return completed
	})
}

// finish appends the entry that ends an epoch, and tells it beside the manifest: a
// restore by path in another cluster, which has not this log, asks whether all
// output of the epoch is committed. Periodic epochs do not wait for that.
func (d *driver) finish(e checkpoint.RecordFinished) {
	d.beside(func() func() {
		r := d.m.append(d.ctx, fsm.Command{Finish: &fsm.FinishEpoch{Pipeline: d.pipeline, Epoch: e.Epoch}})
		recorded := d.back(checkpoint.FinishRecorded{Epoch: e.Epoch, Err: r.Err})
		ref, ok := d.m.recorded(d.pipeline, e.Epoch)
		if r.Err != nil || !ok {
			return recorded
		}
		if ref.Kind == checkpoint.Periodic {
			d.inbox.Put(recorded)
			recorded = nil
		}
		if err := d.m.objects().MarkFinished(d.ctx, d.pipeline, ref); err != nil && d.ctx.Err() == nil {
			d.log.Warn("all output of the epoch is committed, but other clusters are not told: they refuse it", "epoch", e.Epoch, "err", err)
		}
		return recorded
	})
}

func (d *driver) answer(e checkpoint.Answer) {
	reply := d.waiting[e.ID]
	delete(d.waiting, e.ID)
	if reply == nil {
		return
	}
	if e.Reason != "" {
		reply <- answer{err: errors.New(e.Reason)}
		return
	}
	reply <- answer{ref: checkpoint.Ref{Epoch: e.Epoch, Kind: e.Kind, Key: e.Key}}
}
