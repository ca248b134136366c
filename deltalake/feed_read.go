package deltalake

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"strings"
	"time"
)

// ChangeOptions says which changes to read. A zero field means its default.
type ChangeOptions struct {
	From  int64 // first version
	To    int64 // last version when Until is set
	Until bool  // stop at To; the newest version
	// FromTime and ToTime, where they are set, stand for From and To: the first
	// version that was not committed before FromTime, the last not after ToTime.
	FromTime, ToTime time.Time
	Columns          []string // of the table; all
	Filter           *Expr    // on the table's columns
}

// Columns that Changes adds behind the table's.
const (
	ChangeType      = "_change_type"      // insert, delete, update_preimage or update_postimage
	CommitVersion   = "_commit_version"   // long
	CommitTimestamp = "_commit_timestamp" // timestamp
)

// Changes yields the rows that each version of a range added and removed, oldest
// version first, with the columns _change_type, _commit_version and
// _commit_timestamp behind the table's. The feed must have been on
// (delta.enableChangeDataFeed) in all of the range. Columns are those of the
// range's last version; a range over a column mapping change is refused.
func (t *Table) Changes(ctx context.Context, o ChangeOptions) iter.Seq2[*Batch, error] {
	return func(yield func(*Batch, error) bool) {
		s, err := t.Refresh(ctx)
		if err != nil {
			yield(nil, err)
			return
		}
		if err := t.changeTimes(ctx, &o); err != nil {
			yield(nil, err)
			return
		}
		if o.Until && o.To < o.From {
			yield(nil, fmt.Errorf("deltalake: the change feed is to end at version %d, before its first, %d", o.To, o.From))
			return
		}
		if o.Until && o.To < s.version {
			s, err = t.At(ctx, o.To)
		}
		if err == nil && (o.From < 0 || o.From > s.version) {
			err = &VersionError{Version: o.From, Newest: s.version}
		}
		if err != nil {
			yield(nil, err)
			return
		}
		f := &feedReader{t: t, s: s}
		if err := f.prepare(o); err != nil {
			yield(nil, err)
			return
		}
		for v := o.From; v <= s.version; v++ {
			if err := f.version(ctx, v, v == o.From, yield); err != nil {
				if !errors.Is(err, errStopped) {
					yield(nil, err)
				}
				return
			}
		}
	}
}

// changeTimes turns the times of a range into versions.
func (t *Table) changeTimes(ctx context.Context, o *ChangeOptions) (err error) {
	if !o.FromTime.IsZero() {
		before, err := t.versionAt(ctx, o.FromTime.Add(-time.Millisecond))
		var old *tooOldError
		switch {
		case errors.As(err, &old):
			o.From = old.oldest
		case err != nil:
			return err
		default:
			o.From = before + 1
		}
		if newest := t.Latest().version; o.From > newest {
			return fmt.Errorf("deltalake: no version is as young as %s, the newest is %d", o.FromTime.UTC().Format(time.RFC3339Nano), newest)
		}
	}
	if !o.ToTime.IsZero() {
		o.Until = true
		o.To, err = t.versionAt(ctx, o.ToTime)
	}
	return err
}

// errStopped ends an iteration whose consumer has left.
var errStopped = errors.New("deltalake: the consumer stopped")

type feedReader struct {
	t    *Table
	s    *Snapshot
	sc   *scan
	out  *Schema
	feed *Schema // columns of change files: those read and the kind of change
}

func (f *feedReader) prepare(o ChangeOptions) error {
	if !f.s.tracksChanges() {
		return fmt.Errorf("deltalake: the table keeps no change feed at version %d; set delta.enableChangeDataFeed", f.s.version)
	}
	sc, err := f.s.prepare(ScanOptions{Columns: o.Columns})
	if err != nil {
		return err
	}
	if o.Filter != nil {
		full, err := f.s.prepare(ScanOptions{Columns: o.Columns, Filter: o.Filter})
		if err != nil {
			return err
		}
		sc = full
	}
	f.sc = sc
	f.out = &Schema{append(append([]Field{}, sc.out.Fields...), Col(ChangeType, Of(KindString)), Col(CommitVersion, Of(KindLong)), Col(CommitTimestamp, Of(KindTimestamp)))}
	f.feed = &Schema{append(append([]Field{}, sc.read.Fields...), Col(changeTypeColumn, Of(KindString)))}
	return nil
}

// version yields the changes of one commit.
func (f *feedReader) version(ctx context.Context, v int64, first bool, yield func(*Batch, error) bool) error {
	actions, err := f.t.commitAt(ctx, v)
	if errors.Is(err, ErrNotFound) {
		return &VersionError{Version: v, Newest: f.s.version, Missing: v, Gone: true}
	}
	if err != nil {
		return err
	}
	micros := int64(0)
	if info, err := f.t.store.Stat(ctx, commitPath(v)); err == nil {
		micros = info.Modified.UnixMicro()
	}
	var changes []*ChangeFile
	for i := range actions {
		a := &actions[i]
		switch {
		case a.CommitInfo != nil && a.CommitInfo.InCommitTimestamp != nil:
			micros = *a.CommitInfo.InCommitTimestamp * 1000
		case a.Change != nil:
			changes = append(changes, a.Change)
		case a.Metadata != nil:
			if err := f.compatible(v, a.Metadata); err != nil {
				return err
			}
		}
	}
	if first {
		if err := f.wasOn(ctx, v); err != nil {
			return err
		}
	}
	if changes != nil {
		for _, c := range changes {
			if err := f.changeFile(ctx, c, v, micros, yield); err != nil {
				return err
			}
		}
		return nil
	}
	return f.dataFiles(ctx, actions, v, micros, yield)
}

// wasOn checks the first version of a range.
func (f *feedReader) wasOn(ctx context.Context, v int64) error {
	s, err := f.t.At(ctx, v)
	if err != nil {
		return err
	}
	return f.compatible(v, s.metadata)
}

func (f *feedReader) compatible(v int64, m *Metadata) error {
	if !strings.EqualFold(m.Configuration["delta.enableChangeDataFeed"], "true") {
		return fmt.Errorf("deltalake: the table kept no change feed at version %d; read a range without it", v)
	}
	spec, err := NewFileSpec(m)
	if err != nil {
		return err
	}
	if err := spec.laidOutFor(f.s.spec); err != nil {
		return fmt.Errorf("deltalake: the change feed cannot be read across version %d, which has another schema: the table since %w; read the ranges apart", v, err)
	}
	return nil
}

func (f *feedReader) emit(b *Batch, rows []int32, kind func(row int) string, v, micros int64, yield func(*Batch, error) bool) error {
	if len(rows) == 0 {
		return nil
	}
	out := &Batch{Schema: f.out, Len: len(rows)}
	for _, i := range f.sc.pick {
		g := NewVector(b.Columns[i].Type)
		g.Gather(b.Columns[i], rows)
		out.Columns = append(out.Columns, g)
	}
	kinds, versions, times := NewVector(Of(KindString)), NewVector(Of(KindLong)), NewVector(Of(KindTimestamp))
	for _, r := range rows {
		kinds.AppendString(kind(int(r)))
		versions.AppendLong(v)
		times.AppendLong(micros)
	}
	out.Columns = append(out.Columns, kinds, versions, times)
	if !yield(out, nil) {
		return errStopped
	}
	return nil
}

func (f *feedReader) changeFile(ctx context.Context, c *ChangeFile, v, micros int64, yield func(*Batch, error) bool) error {
	return f.s.readPath(ctx, c.Path, c.Size, c.PartitionValues, nil, f.feed, nil, defaultBatchRows, func(b *Batch, _ int64, _ []int32) error {
		kinds := b.Columns[len(b.Columns)-1]
		rows, err := liveMatches(b, nil, f.sc.filter)
		if err != nil {
			return err
		}
		return f.emit(b, rows, kinds.StringAt, v, micros, yield)
	})
}

// dataFiles derives the changes of a commit without change files.
func (f *feedReader) dataFiles(ctx context.Context, actions []action, v, micros int64, yield func(*Batch, error) bool) error {
	removed := map[string]*RemoveFile{}
	for i := range actions {
		if r := actions[i].Remove; r != nil && r.DataChange {
			removed[r.Path] = r
		}
	}
	emit := func(path string, size int64, values map[string]*string, gone *rowSet, only *rowSet, kind string) error {
		return f.s.readPath(ctx, path, size, values, gone, f.sc.read, nil, defaultBatchRows, func(b *Batch, first int64, live []int32) error {
			rows, err := liveMatches(b, live, f.sc.filter)
			if err != nil {
				return err
			}
			if only != nil {
				kept := rows[:0:0]
				for _, r := range rows {
					if only.has(first + int64(r)) {
						kept = append(kept, r)
					}
				}
				rows = kept
			}
			return f.emit(b, rows, func(int) string { return kind }, v, micros, yield)
		})
	}
	for i := range actions {
		a := actions[i].Add
		if a == nil || !a.DataChange {
			continue
		}
		now, err := f.t.deletedRows(ctx, a.DeletionVector)
		if err != nil {
			return err
		}
		r := removed[a.Path]
		if r == nil {
			if err := emit(a.Path, a.Size, a.PartitionValues, now, nil, "insert"); err != nil {
				return err
			}
			continue
		}
		// The same file with another deletion vector: the difference changed.
		delete(removed, a.Path)
		before, err := f.t.deletedRows(ctx, r.DeletionVector)
		if err != nil {
			return err
		}
		if now != nil {
			if err := emit(a.Path, a.Size, a.PartitionValues, before, now, "delete"); err != nil {
				return err
			}
		}
		if before != nil {
			if err := emit(a.Path, a.Size, a.PartitionValues, now, before, "insert"); err != nil {
				return err
			}
		}
	}
	for _, p := range sortedKeys(removed) {
		r := removed[p]
		old, err := f.t.deletedRows(ctx, r.DeletionVector)
		if err != nil {
			return err
		}
		size := int64(0)
		if r.Size != nil {
			size = *r.Size
		}
		if err := emit(r.Path, size, r.PartitionValues, old, nil, "delete"); err != nil {
			return err
		}
	}
	return nil
}
