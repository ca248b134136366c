package deltalake

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
)

// load rebuilds a version from the log; -1 is the newest.
func (t *Table) load(ctx context.Context, version int64) (s *Snapshot, err error) {
	err = t.withSegment(ctx, version, anyCheckpoint, func(seg *segment) (bad []logFile, err error) {
		s, bad, err = t.replay(ctx, seg)
		return bad, err
	})
	return s, err
}

// anyCheckpoint lets withSegment start from the newest Delta checkpoint.
const anyCheckpoint = math.MaxInt64

// withSegment hands the log files that make a version to use, and others when it
// names some that it found bad. Checkpoints of version below and later are not used.
func (t *Table) withSegment(ctx context.Context, version, below int64, use func(*segment) (bad []logFile, err error)) error {
	hint, err := readHint(ctx, t.store)
	if err != nil {
		return err
	}
	if version >= 0 && hint > version || hint >= below {
		hint = 0 // the checkpoint is behind what is wanted
	}
	files, err := listLog(ctx, t.store, hint)
	if err != nil {
		return err
	}
	if hint > 0 && len(bestCheckpoint(files, hint, nil)) == 0 {
		hint = 0 // a hint without its checkpoint
		if files, err = listLog(ctx, t.store, 0); err != nil {
			return err
		}
	}
	skip := map[string]bool{}
	for _, f := range files {
		if f.version >= below && (f.kind == logCheckpoint || f.kind == logCheckpointPart || f.kind == logCheckpointV2) {
			skip[f.info.Path] = true
		}
	}
	var firstErr error
	for {
		seg, err := planSegment(files, version, skip)
		var gone *VersionError
		if err != nil && hint > 0 && (firstErr != nil || errors.As(err, &gone)) {
			hint = 0
			if files, err = listLog(ctx, t.store, 0); err != nil {
				return err
			}
			continue
		}
		if err != nil && firstErr != nil {
			return fmt.Errorf("%w; and without it %w", firstErr, err)
		}
		if err != nil {
			return err
		}
		bad, err := use(seg)
		if err == nil || len(bad) == 0 || ctx.Err() != nil {
			return err
		}
		// A checkpoint or compaction is damaged: an older way may still lead there.
		if firstErr == nil {
			firstErr = err
		}
		for _, f := range bad {
			skip[f.info.Path] = true
		}
	}
}

// emptySnapshot is where a replay starts.
func (t *Table) emptySnapshot(version int64) *Snapshot {
	return &Snapshot{
		table: t, version: version, files: newFileSet(), removes: newRemoveMap(),
		txns: map[string]Txn{}, domains: map[string]DomainMetadata{}, base: -1,
	}
}

// replay applies a segment. bad names the files that can be done without.
func (t *Table) replay(ctx context.Context, seg *segment) (s *Snapshot, bad []logFile, err error) {
	s = t.emptySnapshot(seg.version)
	if len(seg.checkpoint) > 0 {
		s.base = seg.checkpoint[0].version
		if err := t.readCheckpoint(ctx, s, seg.checkpoint); err != nil {
			return nil, seg.checkpoint, err
		}
	}
	if failed, err := t.applyCommits(ctx, seg.commits, s.apply); err != nil {
		if failed != nil && failed.kind == logCompaction {
			bad = []logFile{*failed}
		}
		return nil, bad, err
	}
	if seg.latest != nil {
		s.millis = seg.latest.info.Modified.UnixMilli()
	}
	if err := s.finish(); err != nil {
		return nil, nil, err
	}
	if err := t.settleTime(ctx, s); err != nil {
		return nil, nil, err
	}
	return s, nil, nil
}

// settleTime finds the in-commit timestamp of a version whose commit was not
// among the files that were read: the next commit must be later than it.
func (t *Table) settleTime(ctx context.Context, s *Snapshot) error {
	if s.ict != 0 || !s.keepsTime() {
		return nil
	}
	actions, err := t.commitAt(ctx, s.version)
	if errors.Is(err, ErrNotFound) {
		return nil // cleaned up: the snapshot is good without
	}
	for i := range actions {
		if c := actions[i].CommitInfo; c != nil && c.InCommitTimestamp != nil {
			s.ict = *c.InCommitTimestamp
		}
	}
	return err
}

// applyCommits reads the commits ahead in parallel and applies them in order. On an
// error it tells which one failed.
func (t *Table) applyCommits(ctx context.Context, commits []logFile, apply func(*action) error) (*logFile, error) {
	if len(commits) == 0 {
		return nil, nil
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	type result struct {
		actions []action
		err     error
	}
	window := max(2, t.opts.Parallelism)
	results := make(chan chan result, window)
	go func() {
		defer close(results)
		for i := range commits {
			c := make(chan result, 1)
			select {
			case results <- c:
			case <-ctx.Done():
				return
			}
			go func() {
				actions, err := t.readCommit(ctx, &commits[i], i == len(commits)-1)
				c <- result{actions, err}
			}()
		}
	}()
	i := 0
	for c := range results {
		r := <-c
		if r.err != nil {
			return &commits[i], r.err
		}
		for j := range r.actions {
			if err := apply(&r.actions[j]); err != nil {
				return &commits[i], fmt.Errorf("%w (version %d)", err, commits[i].version)
			}
		}
		i++
	}
	return nil, ctx.Err()
}

// readCommit reads one commit file whole. A body shorter than listed was cut on
// its way and is asked for again.
func (t *Table) readCommit(ctx context.Context, f *logFile, withInfo bool) ([]action, error) {
	var data []byte
	var err error
	for try := 0; try < 5; try++ {
		data, err = t.store.Get(ctx, f.info.Path)
		if err == nil && int64(len(data)) < f.info.Size {
			err = fmt.Errorf("deltalake: %s has %d of %d bytes: %w", f.info.Path, len(data), f.info.Size, io.ErrUnexpectedEOF)
		}
		if err == nil || errors.Is(err, ErrNotFound) || ctx.Err() != nil {
			break
		}
	}
	if err != nil {
		return nil, fmt.Errorf("deltalake: version %d: %w", f.version, err)
	}
	var actions []action
	if err := decodeActions(data, withInfo, func(a *action) error { actions = append(actions, *a); return nil }); err != nil {
		return nil, fmt.Errorf("deltalake: version %d: %w", f.version, err)
	}
	return actions, nil
}

// commitAt reads the commit of one version by its name; ErrNotFound when there
// is none yet.
func (t *Table) commitAt(ctx context.Context, version int64) ([]action, error) {
	return t.readCommit(ctx, &logFile{kind: logCommit, version: version, info: ObjectInfo{Path: commitPath(version)}}, true)
}

// advance applies the commits after s.
func (t *Table) advance(ctx context.Context, s *Snapshot) (*Snapshot, error) {
	next := s
	for {
		actions, err := t.commitAt(ctx, next.version+1)
		if errors.Is(err, ErrNotFound) {
			break
		}
		if err != nil {
			return nil, err
		}
		if next == s {
			next = s.fork()
		}
		next.version++
		next.ict = 0
		for i := range actions {
			if err := next.apply(&actions[i]); err != nil {
				return nil, fmt.Errorf("%w (version %d)", err, next.version)
			}
		}
	}
	if next == s {
		return s, nil
	}
	if info, err := t.store.Stat(ctx, commitPath(next.version)); err == nil {
		next.millis = info.Modified.UnixMilli()
	}
	return next, next.finish()
}
