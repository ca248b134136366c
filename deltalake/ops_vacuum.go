package deltalake

import (
	"context"
	"errors"
	"fmt"
	"path"
	"sort"
	"strings"
	"time"
)

// VacuumOptions says what to clean. A zero field means its default.
type VacuumOptions struct {
	Retention time.Duration // files removed later than this ago stay; delta.deletedFileRetentionDuration, else 7 days
	// Force allows a Retention below the table's: readers of older versions and
	// slow writers then lose files under their hands.
	Force bool
	// None makes a Retention of zero mean zero, not the default; it needs Force.
	None   bool
	DryRun bool // only tell what would go
	Lite   bool // only files that the log names as removed; finds no orphans, lists nothing
}

// VacuumResult tells what Vacuum deleted, or would.
type VacuumResult struct {
	Files []string // relative to the table
	Bytes int64    // of Files, where known
}

// Vacuum deletes files that no version within the retention names: removed data
// files, their deletion vectors, old change files, and orphans of crashed writers.
// Older versions can then not be read any more.
func (t *Table) Vacuum(ctx context.Context, o VacuumOptions) (*VacuumResult, error) {
	s, err := t.Refresh(ctx)
	if err != nil {
		return nil, err
	}
	if err := s.protocol.checkWrite(); err != nil {
		return nil, err
	}
	keep := s.tombstoneRetention()
	switch {
	case o.Retention < 0:
		return nil, fmt.Errorf("deltalake: vacuum: retention %v is negative", o.Retention)
	case o.Retention == 0 && !o.None:
	case o.Retention < keep && !o.Force:
		return nil, fmt.Errorf("deltalake: vacuum: retention %v is below the table's %v; readers and writers of that time would lose files (Force allows it)", o.Retention, keep)
	default:
		keep = o.Retention
	}
	cutoff := t.opts.Now().Add(-keep)
	used := s.usedFiles(cutoff)
	r := &VacuumResult{}
	if o.Lite {
		for rm := range s.removes.all() {
			p, local := t.local(rm.Path)
			if local && !used[p] && rm.DeletionTimestamp <= cutoff.UnixMilli() {
				r.Files = append(r.Files, p)
				if rm.Size != nil {
					r.Bytes += *rm.Size
				}
			}
		}
	} else if err := t.findUnused(ctx, used, cutoff, s, r); err != nil {
		return nil, err
	}
	sort.Strings(r.Files)
	if o.DryRun {
		return r, nil
	}
	for _, f := range r.Files {
		if err := t.store.Delete(ctx, f); err != nil {
			return r, fmt.Errorf("deltalake: vacuum: %w", err)
		}
	}
	return r, nil
}

// local returns the store path of a log path that is below the table.
func (t *Table) local(logPath string) (string, bool) {
	store, p, err := t.resolve(logPath)
	return p, err == nil && store == t.store
}

// usedFiles are the files that versions since cutoff can name.
func (s *Snapshot) usedFiles(cutoff time.Time) map[string]bool {
	used := make(map[string]bool, s.files.len())
	mark := func(logPath string, d *DeletionVector) {
		if p, ok := s.table.local(logPath); ok {
			used[p] = true
		}
		if d != nil && d.StorageType != "i" {
			if f, err := d.file(); err == nil {
				if p, ok := s.table.local(f); ok {
					used[p] = true
				}
			}
		}
	}
	for a := range s.files.all() {
		mark(a.Path, a.DeletionVector)
	}
	for r := range s.removes.all() {
		if r.DeletionTimestamp > cutoff.UnixMilli() {
			mark(r.Path, r.DeletionVector)
		}
	}
	return used
}

// findUnused lists the table's folder for files that nothing names.
func (t *Table) findUnused(ctx context.Context, used map[string]bool, cutoff time.Time, s *Snapshot, r *VacuumResult) error {
	for info, err := range t.store.List(ctx, "", "") {
		if err != nil {
			return fmt.Errorf("deltalake: vacuum: %w", err)
		}
		if strings.HasPrefix(info.Path, logDir) || used[info.Path] || info.Modified.After(cutoff) || s.hidden(info.Path) {
			continue
		}
		r.Files = append(r.Files, info.Path)
		r.Bytes += info.Size
	}
	return nil
}

// hidden tells whether Delta leaves a path alone: a part of it starts with a
// point or an underscore and is neither a change file nor a partition.
func (s *Snapshot) hidden(p string) bool {
	parts := strings.Split(p, "/")
	for i, part := range parts {
		if !strings.HasPrefix(part, "_") && !strings.HasPrefix(part, ".") || i == 0 && part == changeFolder && len(parts) > 1 {
			continue
		}
		name, _, isPartition := strings.Cut(part, "=")
		known := false
		for j := range s.spec.partition {
			n, _ := s.spec.partition[j].physical(s.spec.mapped)
			known = known || isPartition && n == name
		}
		if !known {
			return true
		}
	}
	return false
}

// Restore brings the table back to what it was at an older version, in a new
// commit. Files that Vacuum deleted meanwhile make it fail.
func (t *Table) Restore(ctx context.Context, version int64) (*Metrics, error) {
	return t.retried(ctx, func(s *Snapshot) (*Commit, *changes, error) {
		d := &changes{}
		old, err := t.At(ctx, version)
		if err != nil {
			return nil, d, err
		}
		now := t.opts.Now().UnixMilli()
		for _, a := range old.Files() {
			if s.files.get(a.key()) != nil {
				continue
			}
			store, p, err := t.resolve(a.Path)
			if err == nil {
				_, err = store.Stat(ctx, p)
			}
			if err != nil {
				return nil, d, fmt.Errorf("deltalake: version %d cannot be restored: data file %s is gone: %w", version, path.Base(a.Path), err)
			}
			n := *a
			n.DataChange = true
			d.adds = append(d.adds, &n)
			d.m.FilesAdded++
		}
		for _, a := range s.Files() {
			if old.files.get(a.key()) == nil {
				d.remove(a, now)
			}
		}
		c := &Commit{Operation: "RESTORE", Parameters: map[string]string{"version": fmt.Sprint(version)}, ReadAll: true}
		if jsonText(old.metadata) != jsonText(s.metadata) {
			c.Metadata = old.metadata
		}
		if len(d.adds)+len(d.removes) == 0 && c.Metadata == nil {
			return nil, d, nil
		}
		// The protocol only grows: what newer versions promised stays promised.
		need, err := neededProtocol(old.spec.schema, old.metadata.Configuration, s.protocol)
		if err != nil {
			return nil, d, err
		}
		if need != s.protocol {
			c.Protocol = need
		}
		return c, d, nil
	})
}

// Problem is one fault that Fsck found.
type Problem struct {
	Kind string `json:"kind"` // "missing file", "wrong size", "orphan", "log"
	Path string `json:"path"`
	Note string `json:"note,omitempty"`
}

// Fsck compares the log with the store: live files that are missing or have
// another size, files that nothing names, commits that cannot be read and
// versions that are missing. It changes nothing.
func (t *Table) Fsck(ctx context.Context) ([]Problem, error) {
	s, err := t.Refresh(ctx)
	if err != nil {
		return nil, err
	}
	var out []Problem
	seen := map[string]int64{}
	for info, err := range t.store.List(ctx, "", "") {
		if err != nil {
			return nil, err
		}
		if !strings.HasPrefix(info.Path, logDir) {
			seen[info.Path] = info.Size
		}
	}
	for _, a := range s.Files() {
		p, local := t.local(a.Path)
		size, ok := seen[p]
		if !local {
			store, p, err := t.resolve(a.Path)
			if err != nil {
				out = append(out, Problem{"missing file", a.Path, err.Error()})
				continue
			}
			info, err := store.Stat(ctx, p)
			size, ok = info.Size, err == nil
		}
		switch {
		case !ok:
			out = append(out, Problem{"missing file", a.Path, "a live version names it"})
		case size != a.Size:
			out = append(out, Problem{"wrong size", a.Path, fmt.Sprintf("%d bytes, the log says %d", size, a.Size)})
		}
	}
	used := s.usedFiles(time.UnixMilli(0))
	for _, p := range sortedKeys(seen) {
		if !used[p] && !s.hidden(p) && !strings.HasPrefix(p, changeFolder+"/") {
			out = append(out, Problem{"orphan", p, "no version that the log still knows names it"})
		}
	}
	logs, err := t.fsckLog(ctx)
	return append(out, logs...), err
}

func (t *Table) fsckLog(ctx context.Context) ([]Problem, error) {
	files, err := listLog(ctx, t.store, 0)
	if err != nil {
		return nil, err
	}
	var out []Problem
	last := int64(-1)
	for i := range files {
		f := &files[i]
		switch f.kind {
		case logCommit:
			if last >= 0 && f.version != last+1 {
				out = append(out, Problem{"log", f.info.Path, fmt.Sprintf("versions %d to %d are missing before it", last+1, f.version-1)})
			}
			last = f.version
			if _, err := t.readCommit(ctx, f, true); err != nil {
				out = append(out, Problem{"log", f.info.Path, err.Error()})
			}
		case logCheckpoint:
			s := &Snapshot{table: t, version: f.version, files: newFileMap[*AddFile](), removes: newFileMap[*RemoveFile](), txns: map[string]Txn{}, domains: map[string]DomainMetadata{}}
			if err := t.readCheckpoint(ctx, s, []logFile{*f}); err != nil {
				out = append(out, Problem{"log", f.info.Path, err.Error()})
			}
		}
	}
	return out, ctx.Err()
}

// Repair takes live files that are missing from the store out of the table, in a
// commit that history shows. Their rows are lost.
func (t *Table) Repair(ctx context.Context) (*Metrics, error) {
	return t.retried(ctx, func(s *Snapshot) (*Commit, *changes, error) {
		d := &changes{}
		now := t.opts.Now().UnixMilli()
		for _, a := range s.Files() {
			store, p, err := t.resolve(a.Path)
			if err != nil {
				return nil, d, err
			}
			if _, err := store.Stat(ctx, p); errors.Is(err, ErrNotFound) {
				d.remove(a, now)
			} else if err != nil {
				return nil, d, err
			}
		}
		if len(d.removes) == 0 {
			return nil, d, nil
		}
		return &Commit{Operation: "FSCK REPAIR"}, d, nil
	})
}
