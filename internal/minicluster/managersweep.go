package minicluster

import (
	"errors"
	"slices"
	"time"

	"github.com/weirstream/weir/checkpoint"
	"github.com/weirstream/weir/internal/objstore"
	"github.com/weirstream/weir/jobmanager/fsm"
)

// retain gives up epochs and sweeps what they leave behind.
func (m *manager) retain() {
	p := m.pipeline()
	drop := p.Expired(m.s.shape.retain)
	if m.s.without == SavepointsStay {
		drop = nil
		for _, rec := range p.Epochs[:max(0, len(p.Epochs)-m.s.shape.retain)] {
			if rec.Finished {
				drop = append(drop, rec.Epoch)
			}
		}
	}
	sweep := m.s.now-m.swept > m.s.shape.lease
	if len(drop) < 4 && !sweep {
		return
	}
	m.swept = m.s.now
	cut := clock(m.s.now - 2*m.s.shape.lease)
	m.beside(func() func() {
		if len(drop) > 0 {
			m.append(fsm.Command{Drop: &fsm.DropEpochs{Pipeline: p.Name, Epochs: drop}})
		}
		if m.s.user.on {
			m.startSweep(cut)
		} else if err := m.sweep(m.pipeline(), cut); err != nil {
			m.s.tracef("sweep: %v", err)
		}
		return nil
	})
}

// startSweep sweeps the pipeline beside everything else: much may happen between what it
// reads and what it deletes.
func (m *manager) startSweep(cut time.Time) {
	if len(m.sweeps) > 0 {
		return
	}
	p := m.pipeline()
	m.sweeps = append(m.sweeps, func() {
		m.s.tracef("sweep of %s", p.Name)
		if err := m.sweep(p, cut); err != nil {
			m.s.tracef("sweep: %v", err)
		}
	})
}

func (m *manager) sweep(p *fsm.Pipeline, cut time.Time) error {
	var kept []*checkpoint.Manifest
	for _, rec := range p.Epochs {
		man, err := m.objects().Load(m.s.ctx, rec.Ref)
		if err != nil {
			return err
		}
		kept = append(kept, man)
	}
	var listed []string
	for info, err := range objstore.All(m.s.ctx, m.disk(), checkpoint.EpochsDir(p.Name), "") {
		if err != nil {
			return err
		}
		if info.ModTime.Before(cut) {
			listed = append(listed, info.Key)
		}
	}
	gone := checkpoint.Sweep(p.Name, listed, kept, p.Dead)
	var errs []error
	for _, key := range slices.Sorted(slices.Values(gone)) {
		errs = append(errs, m.disk().Delete(m.s.ctx, key))
	}
	m.s.stats.Swept += len(gone)
	if err := errors.Join(errs...); err != nil {
		return err
	}
	if len(p.Orphans) > 0 {
		return m.append(fsm.Command{Forget: &fsm.ForgetEpochs{Pipeline: p.Name, Epochs: p.Orphans}}).Err
	}
	return nil
}
