package deltalake

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"strings"
)

// logStream is a version of a table whose files pass by instead of being held: in
// memory is what the commits after the last Delta checkpoint say, and one batch.
type logStream struct {
	t    *Table
	head *Snapshot // all of the version but its files
	base []logFile // the checkpoint
	late *reconciled
	same []logFile // of all checkpoints of the version
}

// openStream finds a version, -1 the newest, and reads what is not of files. It does
// not use checkpoints of version below and later.
func openStream(ctx context.Context, store Store, version, below int64, opts TableOptions) (*logStream, error) {
	o, err := opts.filled()
	if err != nil {
		return nil, err
	}
	t := &Table{store: store, opts: o}
	var l *logStream
	err = t.withSegment(ctx, version, below, func(seg *segment) ([]logFile, error) {
		l = &logStream{t: t, head: t.emptySnapshot(seg.version), base: seg.checkpoint, late: newReconciled(), same: seg.others}
		for i := range l.base {
			l.head.base = l.base[i].version
			if err := l.readHead(ctx, &l.base[i]); err != nil {
				return l.base, err
			}
		}
		failed, err := t.applyCommits(ctx, seg.commits, func(a *action) error {
			if a.Add != nil || a.Remove != nil {
				l.late.apply(a)
				return nil
			}
			return l.head.apply(a)
		})
		if err != nil {
			if failed != nil && failed.kind == logCompaction {
				return []logFile{*failed}, err
			}
			return nil, err
		}
		return nil, l.head.finish()
	})
	return l, err
}

// plainFields are the columns of a checkpoint that are not of files.
func plainFields() []Field {
	all := readFields()
	return append([]Field{all[0]}, all[3:]...)
}

func (l *logStream) readHead(ctx context.Context, f *logFile) error {
	plain := func(a *action) error {
		if a.Add != nil || a.Remove != nil {
			return nil
		}
		return l.head.apply(a)
	}
	if strings.HasSuffix(f.info.Path, ".json") {
		actions, err := l.t.readCommit(ctx, f, false)
		for i := range actions {
			err = errors.Join(err, plain(&actions[i]))
		}
		return err
	}
	d := &actionDecoder{}
	return l.t.checkpointColumns(ctx, f.info.Path, f.info.Size, plainFields(), func(c *actionColumns, n int) error {
		return d.decode(c, n, plain)
	})
}

// files calls fn with each live file and each tombstone of the version, once; the
// action is the stream's again when fn returns.
func (l *logStream) files(ctx context.Context, fn func(*action) error) error {
	for _, rm := range l.late.removes {
		if err := fn(&action{Remove: rm}); err != nil {
			return err
		}
	}
	for _, a := range l.late.adds {
		if err := fn(&action{Add: a}); err != nil {
			return err
		}
	}
	old := func(a *action) error {
		if a.Add != nil && l.late.has(a.Add.key()) || a.Remove != nil && l.late.has(a.Remove.key()) || a.Add == nil && a.Remove == nil {
			return nil
		}
		return fn(a)
	}
	for i := range l.base {
		if err := l.checkpointFiles(ctx, &l.base[i], old); err != nil {
			return err
		}
	}
	return nil
}

// checkpointFiles passes the file actions of one file of a checkpoint, and of its
// sidecars, to fn.
func (l *logStream) checkpointFiles(ctx context.Context, f *logFile, fn func(*action) error) error {
	all := readFields()
	type ref struct {
		path string
		size int64
	}
	var refs []ref
	d := &actionDecoder{}
	if strings.HasSuffix(f.info.Path, ".json") {
		actions, err := l.t.readCommit(ctx, f, false)
		if err != nil {
			return err
		}
		for i := range actions {
			if sc := actions[i].Sidecar; sc != nil {
				refs = append(refs, ref{sc.Path, sc.SizeInBytes})
			} else if err := fn(&actions[i]); err != nil {
				return err
			}
		}
	} else {
		err := l.t.checkpointColumns(ctx, f.info.Path, f.info.Size, []Field{all[1], all[2], all[6]}, func(c *actionColumns, n int) error {
			for i := range n {
				if path, size, ok := c.sidecarAt(i); ok {
					refs = append(refs, ref{path, size})
				}
			}
			return d.decode(c, n, fn)
		})
		if err != nil {
			return err
		}
	}
	for _, r := range refs {
		err := l.t.checkpointColumns(ctx, sidecarPath(r.path), r.size, all[1:3], func(c *actionColumns, n int) error {
			return d.decode(c, n, fn)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// StreamFiles yields the live data files of a version, -1 the newest, in no order
// and without holding them: memory is bounded by the commits since the last Delta
// checkpoint, whatever the size of the table. It ends at the first error.
func StreamFiles(ctx context.Context, store Store, version int64, opts TableOptions) iter.Seq2[*AddFile, error] {
	return func(yield func(*AddFile, error) bool) {
		stop := errors.New("stopped")
		l, err := openStream(ctx, store, version, anyCheckpoint, opts)
		if err == nil {
			err = l.files(ctx, func(a *action) error {
				if a.Add != nil && !yield(a.Add, nil) {
					return stop
				}
				return nil
			})
		}
		if err != nil && !errors.Is(err, stop) {
			yield(nil, err)
		}
	}
}

// rows is how many actions a file of a checkpoint and its sidecars hold.
func (l *logStream) rows(ctx context.Context, f *logFile) (int64, error) {
	names, n, err := l.t.sidecarsOf(ctx, f)
	if err != nil {
		return 0, err
	}
	if n == 0 {
		names = append(names, f.info.Path)
	}
	for _, name := range names {
		p, err := openParquet(ctx, l.t.store, name, 0)
		if err != nil {
			return 0, err
		}
		n += p.meta.rows
	}
	return n, nil
}

// sidecarsOf returns the paths of the sidecars that a file of a checkpoint names,
// and of a JSON file how many actions it holds itself.
func (t *Table) sidecarsOf(ctx context.Context, f *logFile) (paths []string, actions int64, err error) {
	if strings.HasSuffix(f.info.Path, ".json") {
		actions, err := t.readCommit(ctx, f, false)
		for i := range actions {
			if sc := actions[i].Sidecar; sc != nil {
				paths = append(paths, sidecarPath(sc.Path))
			}
		}
		return paths, int64(len(actions)), err
	}
	err = t.checkpointColumns(ctx, f.info.Path, f.info.Size, readFields()[6:], func(c *actionColumns, n int) error {
		for i := range n {
			if path, _, ok := c.sidecarAt(i); ok {
				paths = append(paths, sidecarPath(path))
			}
		}
		return nil
	})
	if err != nil {
		return nil, 0, fmt.Errorf("deltalake: sidecars: %w", err)
	}
	return paths, 0, nil
}
