package deltalake

import (
	"context"
	"errors"
	"fmt"
)

// Cursor is a position in a table's history: all data files before File of the
// commit Version have been read. The zero value starts with the first commit; it
// marshals to JSON for a reader's checkpoint.
type Cursor struct {
	Version int64  `json:"version"`        // next commit to read
	File    int    `json:"file,omitempty"` // next data file in it
	Table   string `json:"table,omitempty"`
	// Initial says that Version is being read as a snapshot: all of its live files
	// in path order, then the commits after it.
	Initial bool `json:"initial,omitempty"`
}

// OnChange says what Follow does with commits that remove or change rows.
type OnChange uint8

// The ways to deal with commits that change rows.
const (
	RefuseChanges OnChange = iota // an error that names the version
	SkipChanges                   // pass over the whole commit
	AppendsOnly                   // yield what the commit added, ignore what it removed
)

// FollowOptions configures Follow. A zero field means its default.
type FollowOptions struct {
	MaxFiles int   // data files of one step; 1,000
	MaxBytes int64 // of the data files of one step, at least one file; no limit
	OnChange OnChange
}

// Step is what a follower is to read next.
type Step struct {
	Files []*AddFile
	From  Cursor // where the step began
	Next  Cursor // where the next begins
	// Snapshot is what the files belong to: read them with ReadFiles.
	Snapshot *Snapshot
}

// Follow returns the data files that were added from a cursor on, each exactly
// once, and the cursor behind them. A step without files says that nothing new is
// there. Commits that only rearrange rows, such as Optimize, are passed over. An
// error of type *VersionError says that the log no longer reaches back to the
// cursor: the follower must start from a snapshot again.
func (t *Table) Follow(ctx context.Context, from Cursor, o FollowOptions) (*Step, error) {
	if o.MaxFiles <= 0 {
		o.MaxFiles = 1000
	}
	s, err := t.Refresh(ctx)
	if err != nil {
		return nil, err
	}
	if from.Table != "" && from.Table != s.metadata.ID {
		return nil, fmt.Errorf("deltalake: the cursor belongs to table %s, this one is %s: it was made anew", from.Table, s.metadata.ID)
	}
	st := &Step{From: from, Next: from, Snapshot: s}
	st.Next.Table = s.metadata.ID
	var bytes int64
	take := func(files []*AddFile) bool { // false when the step is full
		for st.Next.File < len(files) {
			a := files[st.Next.File]
			if len(st.Files) >= o.MaxFiles || o.MaxBytes > 0 && len(st.Files) > 0 && bytes+a.Size > o.MaxBytes {
				return false
			}
			st.Files = append(st.Files, a)
			bytes += a.Size
			st.Next.File++
		}
		st.Next.Version, st.Next.File, st.Next.Initial = st.Next.Version+1, 0, false
		return true
	}
	if from.Initial {
		at, err := t.At(ctx, from.Version)
		if err != nil {
			return nil, err
		}
		st.Snapshot = at
		if !take(at.Files()) || len(st.Files) > 0 {
			return st, nil
		}
		st.Snapshot = s
	}
	for st.Next.Version <= s.version {
		files, err := t.addedBy(ctx, st.Next.Version, s.version, o.OnChange)
		if err != nil {
			if len(st.Files) > 0 {
				return st, nil // what came before is good
			}
			return nil, err
		}
		if !take(files) {
			break
		}
	}
	return st, nil
}

// Start returns the cursor that reads a snapshot's rows first and then follows.
func (s *Snapshot) Start() Cursor {
	return Cursor{Version: s.version, Table: s.metadata.ID, Initial: true}
}

// End returns the cursor behind the snapshot: only later commits are read.
func (s *Snapshot) End() Cursor { return Cursor{Version: s.version + 1, Table: s.metadata.ID} }

// addedBy returns the data files that a commit added with new rows.
func (t *Table) addedBy(ctx context.Context, version, newest int64, on OnChange) ([]*AddFile, error) {
	actions, err := t.commitAt(ctx, version)
	if errors.Is(err, ErrNotFound) {
		return nil, &VersionError{Version: version, Newest: newest, Missing: version, Gone: true}
	}
	if err != nil {
		return nil, err
	}
	var files []*AddFile
	changed := false
	for i := range actions {
		a := &actions[i]
		if a.Add != nil && a.Add.DataChange {
			files = append(files, a.Add)
		}
		changed = changed || a.Remove != nil && a.Remove.DataChange
	}
	if changed {
		switch on {
		case RefuseChanges:
			return nil, fmt.Errorf("deltalake: version %d changes or removes rows, which a follower of appends cannot show; skip such commits or read the change feed", version)
		case SkipChanges:
			return nil, nil
		}
	}
	return files, nil
}

// ReadFiles calls fn with the live rows of the given files, in order. It serves
// the steps of Follow.
func (s *Snapshot) ReadFiles(ctx context.Context, files []*AddFile, o ScanOptions, fn func(*Batch) error) error {
	sc, err := s.prepare(o)
	if err != nil {
		return err
	}
	for _, a := range files {
		if err := sc.file(ctx, a, fn); err != nil {
			return err
		}
	}
	return nil
}
