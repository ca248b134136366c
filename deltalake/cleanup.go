package deltalake

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"
)

// cleanupEvery is how often one Table looks for old log files; a look lists the
// whole log.
const cleanupEvery = time.Hour

// sidecarGrace is how old a sidecar must be to be taken for an orphan: a younger
// one may belong to a Delta checkpoint that is still being written.
const sidecarGrace = 24 * time.Hour

// maybeCleanLog deletes old log files after a Delta checkpoint, now and then.
func (t *Table) maybeCleanLog(ctx context.Context, s *Snapshot) error {
	if strings.EqualFold(s.property("delta.enableExpiredLogCleanup", ""), "false") {
		return nil
	}
	now := t.opts.Now()
	t.mu.Lock()
	due := now.Sub(t.mu.cleaned) >= cleanupEvery
	if due {
		t.mu.cleaned = now
	}
	t.mu.Unlock()
	if !due {
		return nil
	}
	_, err := t.CleanLog(ctx, s)
	return err
}

// logRetention is how long commits stay readable.
func (s *Snapshot) logRetention() time.Duration {
	if d, err := parseInterval(s.property("delta.logRetentionDuration", "")); err == nil {
		return d
	}
	return 30 * 24 * time.Hour
}

// CleanLog deletes commits, checkpoints and checksums that are older than
// delta.logRetentionDuration and that no version within it needs: those before the
// newest complete Delta checkpoint of that age. It returns how many files went.
func (t *Table) CleanLog(ctx context.Context, s *Snapshot) (int, error) {
	files, err := listLog(ctx, t.store, 0)
	if err != nil {
		return 0, err
	}
	cutoff := t.opts.Now().Add(-s.logRetention())
	expired := int64(-1) // all commits up to it are old
	for i := range files {
		if f := &files[i]; f.kind == logCommit {
			if !f.info.Modified.Before(cutoff) {
				break
			}
			expired = f.version
		}
	}
	// The newest version must stay whole even when all of it is old.
	base := bestCheckpoint(files, min(expired, s.version), nil)
	if len(base) == 0 {
		return 0, nil
	}
	// A checkpoint that cannot be read must not be what is left.
	if err := t.readCheckpoint(ctx, t.emptySnapshot(base[0].version), base); err != nil {
		return 0, err
	}
	n := 0
	for i := range files {
		f := &files[i]
		first := f.version
		if f.kind == logCompaction {
			first = f.first
		}
		if f.kind == logCompaction && first == base[0].version {
			first-- // no reader starts there
		}
		if first >= base[0].version || !f.info.Modified.Before(cutoff) {
			continue
		}
		if err := t.store.Delete(ctx, f.info.Path); err != nil {
			return n, fmt.Errorf("deltalake: clean log: %w", err)
		}
		files[i].kind = logOther
		n++
	}
	orphans, err := t.orphanSidecars(ctx, files)
	for _, o := range orphans {
		if err == nil {
			if err = t.store.Delete(ctx, o.Path); err == nil {
				n++
			}
		}
	}
	if err != nil {
		return n, fmt.Errorf("deltalake: clean log: %w", err)
	}
	return n, nil
}

// orphanSidecars returns the sidecars that no checkpoint among files names and
// that are too old to belong to one that is being written. When a checkpoint
// cannot be read there are none to be sure of.
func (t *Table) orphanSidecars(ctx context.Context, files []logFile) ([]ObjectInfo, error) {
	var old []ObjectInfo
	cutoff := t.opts.Now().Add(-sidecarGrace)
	for info, err := range t.store.List(ctx, sidecarDir, "") {
		if err != nil {
			return nil, fmt.Errorf("deltalake: list sidecars: %w", err)
		}
		if info.Modified.Before(cutoff) {
			old = append(old, info)
		}
	}
	if len(old) == 0 {
		return nil, nil
	}
	named := map[string]bool{}
	for i := range files {
		switch files[i].kind {
		case logCheckpoint, logCheckpointV2:
			paths, _, err := t.sidecarsOf(ctx, &files[i])
			if err != nil {
				return nil, ctx.Err()
			}
			for _, p := range paths {
				named[p] = true
			}
		}
	}
	return slices.DeleteFunc(old, func(o ObjectInfo) bool { return named[o.Path] }), nil
}
