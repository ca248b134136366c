package deltalake

import (
	"context"
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
// files, their deletion vectors, old change files, orphans of crashed writers, and
// sidecars that no Delta checkpoint names.
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
		return nil, fmt.Errorf("deltalake: vacuum: retention %v is below the table's %v; readers and writers of that time would lose files (Force, --force, allows it)", o.Retention, keep)
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
	for a := range s.files.bare() {
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
	logs, err := listLog(ctx, t.store, 0)
	if err != nil {
		return err
	}
	orphans, err := t.orphanSidecars(ctx, logs)
	for _, o := range orphans {
		if !o.Modified.After(cutoff) {
			r.Files = append(r.Files, o.Path)
			r.Bytes += o.Size
		}
	}
	return err
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
			if s.files.has(a.key()) {
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
			if !old.files.has(a.key()) {
				d.remove(a, now)
			}
		}
		c := &Commit{Operation: "RESTORE", Parameters: map[string]string{"version": fmt.Sprint(version)}, ReadAll: true}
		meta, err := keepMarks(old.metadata, s.metadata)
		if err != nil {
			return nil, d, err
		}
		if jsonText(meta) != jsonText(s.metadata) {
			c.Metadata = meta
		}
		c.system = s.restoredClustering(old)
		if len(d.adds)+len(d.removes)+len(c.system) == 0 && c.Metadata == nil {
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
