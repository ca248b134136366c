package deltalake

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"sort"
	"strconv"
	"time"
)

// The properties that tell from when on commits carry their time, where the table
// has older ones.
const (
	timeSinceVersion = "delta.inCommitTimestampEnablementVersion"
	timeSinceMillis  = "delta.inCommitTimestampEnablementTimestamp"
)

// keepsTime tells whether commits of a table carry their time.
func (m *Metadata) keepsTime() bool {
	return m.Configuration["delta.enableInCommitTimestamps"] == "true"
}

// timeSince returns the version and the time, in milliseconds, from which on
// commits carry their time; both are 0 when all do.
func (m *Metadata) timeSince() (version, millis int64) {
	version, err := strconv.ParseInt(m.Configuration[timeSinceVersion], 10, 64)
	millis, err2 := strconv.ParseInt(m.Configuration[timeSinceMillis], 10, 64)
	if err != nil || err2 != nil {
		return 0, 0
	}
	return version, millis
}

// stamp returns the in-commit timestamp of the commit after latest, nil where the
// table keeps none, and the metadata that the commit sets, which notes when
// timestamps began.
func (t *Table) stamp(ctx context.Context, c *Commit, latest *Snapshot, now int64) (*int64, *Metadata, error) {
	meta := latest.metadata
	if c.Metadata != nil {
		meta = c.Metadata
	}
	if !meta.keepsTime() {
		return nil, c.Metadata, nil
	}
	ict := max(now, latest.ict+1)
	since := map[string]string{}
	switch {
	case latest.version < 0: // from the first commit on
	case latest.metadata.keepsTime():
		for _, k := range []string{timeSinceVersion, timeSinceMillis} {
			if v, ok := latest.metadata.Configuration[k]; ok {
				since[k] = v
			}
		}
	default:
		info, err := t.store.Stat(ctx, commitPath(latest.version))
		if err != nil && !errors.Is(err, ErrNotFound) {
			return nil, nil, err
		}
		ict = max(now, latest.millis+1, info.Modified.UnixMilli()+1)
		since[timeSinceVersion], since[timeSinceMillis] = fmt.Sprint(latest.version+1), fmt.Sprint(ict)
	}
	if c.Metadata == nil {
		return &ict, nil, nil
	}
	noted := c.Metadata.clone()
	for _, k := range []string{timeSinceVersion, timeSinceMillis} {
		delete(noted.Configuration, k)
		if v, ok := since[k]; ok {
			noted.Configuration[k] = v
		}
	}
	if maps.Equal(noted.Configuration, c.Metadata.Configuration) {
		return &ict, c.Metadata, nil
	}
	return &ict, noted, nil
}

// versionAt returns the newest version committed at or before a time: by the times
// in the commits where the table keeps them, else by those of the log's files,
// which are made to grow, as Delta does, where clocks went back.
func (t *Table) versionAt(ctx context.Context, at time.Time) (int64, error) {
	s, err := t.Refresh(ctx)
	if err != nil {
		return 0, err
	}
	files, err := listLog(ctx, t.store, 0)
	if err != nil {
		return 0, err
	}
	var old, timed []logFile
	since, sinceMillis := s.metadata.timeSince()
	for _, f := range files {
		switch {
		case f.kind != logCommit || f.version > s.version:
		case s.keepsTime() && f.version >= since:
			timed = append(timed, f)
		default:
			old = append(old, f)
		}
	}
	want := at.UnixMilli()
	if len(timed) > 0 && (want >= sinceMillis || len(old) == 0) {
		return t.timedVersion(ctx, timed, want)
	}
	if len(old) == 0 {
		return 0, errNoTable
	}
	best, last := int64(-1), int64(-1<<62)
	for i := range old {
		if last = max(old[i].info.Modified.UnixMilli(), last+1); last <= want {
			best = old[i].version
		}
	}
	if best < 0 {
		return 0, tooOld(want, old[0].info.Modified.UnixMilli(), old[0].version)
	}
	return best, nil
}

// tooOldError reports a time before the oldest version.
type tooOldError struct {
	text   string
	oldest int64 // version
}

// Error implements error.
func (e *tooOldError) Error() string { return e.text }

func tooOld(want, oldest, version int64) error {
	text := func(millis int64) string { return time.UnixMilli(millis).UTC().Format(time.RFC3339Nano) }
	return &tooOldError{fmt.Sprintf("deltalake: no version is as old as %s, the oldest is of %s", text(want), text(oldest)), version}
}

// timedVersion finds the newest of commits, whose times grow, that is not after
// want. It reads few of them.
func (t *Table) timedVersion(ctx context.Context, commits []logFile, want int64) (int64, error) {
	var failed error
	millis := func(i int) int64 {
		m, err := t.commitMillis(ctx, &commits[i])
		failed = errors.Join(failed, err)
		return m
	}
	after := sort.Search(len(commits), func(i int) bool { return failed != nil || millis(i) > want })
	if failed == nil && after == 0 {
		oldest := millis(0)
		if failed == nil {
			return 0, tooOld(want, oldest, commits[0].version)
		}
	}
	if failed != nil {
		return 0, failed
	}
	return commits[after-1].version, nil
}

// commitMillis returns the in-commit timestamp of a commit, or its file's time.
func (t *Table) commitMillis(ctx context.Context, f *logFile) (int64, error) {
	actions, err := t.readCommit(ctx, f, true)
	if err != nil {
		return 0, err
	}
	for i := range actions {
		if c := actions[i].CommitInfo; c != nil && c.InCommitTimestamp != nil {
			return *c.InCommitTimestamp, nil
		}
	}
	return f.info.Modified.UnixMilli(), nil
}
