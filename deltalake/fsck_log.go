package deltalake

import (
	"context"
	"errors"
	"fmt"
	"slices"
)

// logCheck walks the log in order of versions with the state that the commits
// make, and compares whatever else claims to tell that state.
type logCheck struct {
	t       *Table
	state   *Snapshot // after version state.version; nil while it is not known
	last    int64     // newest commit seen; -1 before the first
	commits map[int64]bool
	out     []Problem
}

func (c *logCheck) problem(f *logFile, format string, args ...any) {
	c.out = append(c.out, Problem{"log", f.info.Path, fmt.Sprintf(format, args...)})
}

func (t *Table) fsckLog(ctx context.Context) ([]Problem, error) {
	files, err := listLog(ctx, t.store, 0)
	if err != nil {
		return nil, err
	}
	c := &logCheck{t: t, last: -1, commits: map[int64]bool{}}
	parts := map[[2]int64][]logFile{}
	for i := range files {
		f := &files[i]
		switch f.kind {
		case logCommit:
			c.commits[f.version] = true
		case logCheckpointPart:
			k := [2]int64{f.version, int64(f.parts)}
			parts[k] = append(parts[k], *f)
		}
	}
	// A commit comes before what stands for its version.
	slices.SortStableFunc(files, func(a, b logFile) int {
		if a.version != b.version {
			return int(max(-1, min(1, a.version-b.version)))
		}
		return int(a.kind) - int(b.kind)
	})
	for i := range files {
		f := &files[i]
		switch f.kind {
		case logCommit:
			c.commit(ctx, f)
		case logCheckpoint, logCheckpointV2:
			c.checkpoint(ctx, []logFile{*f})
		case logCheckpointPart:
			if group := parts[[2]int64{f.version, int64(f.parts)}]; f.part == f.parts && len(group) == f.parts {
				c.checkpoint(ctx, group)
			} else if f.part == f.parts {
				c.problem(f, "%d of %d parts of this checkpoint are missing; readers ignore it", f.parts-len(group), f.parts)
			}
		case logCompaction:
			c.compaction(ctx, f)
		case logChecksum:
			c.checksum(ctx, f)
		}
		if ctx.Err() != nil {
			return c.out, ctx.Err()
		}
	}
	orphans, err := t.orphanSidecars(ctx, files)
	for _, o := range orphans {
		c.out = append(c.out, Problem{"orphan", o.Path, "no Delta checkpoint names this sidecar"})
	}
	return c.out, errors.Join(err, ctx.Err())
}

func (c *logCheck) commit(ctx context.Context, f *logFile) {
	if c.last >= 0 && f.version != c.last+1 {
		c.problem(f, "versions %d to %d are missing before it", c.last+1, f.version-1)
	}
	c.last = f.version
	actions, err := c.t.readCommit(ctx, f, true)
	if err != nil {
		c.problem(f, "%v", err)
		c.state = nil
		return
	}
	if f.version == 0 {
		c.state = c.t.emptySnapshot(-1)
	}
	if c.state == nil || c.state.version != f.version-1 {
		c.state = nil
		return
	}
	c.state.version, c.state.ict = f.version, 0
	for i := range actions {
		if err := c.state.apply(&actions[i]); err != nil {
			c.problem(f, "%v", err)
		}
	}
}

func (c *logCheck) checkpoint(ctx context.Context, files []logFile) {
	f := &files[0]
	s := c.t.emptySnapshot(f.version)
	if err := c.t.readCheckpoint(ctx, s, files); err != nil {
		c.problem(f, "%v", err)
		return
	}
	if c.state == nil {
		c.state = s
		return
	}
	if c.state.version == f.version {
		if why := c.state.contradicts(s); why != "" {
			c.problem(f, "the checkpoint contradicts the commits: %s", why)
		}
	}
}

// contradicts tells how another account of the same version differs.
func (s *Snapshot) contradicts(o *Snapshot) string {
	if a, b := s.files.len(), o.files.len(); a != b {
		return fmt.Sprintf("%d files instead of %d", b, a)
	}
	for a := range s.files.bare() {
		if b, ok := o.files.find(a.key()); !ok || b.size != a.Size {
			return fmt.Sprintf("file %s is not the same", a.Path)
		}
	}
	if why := sameHead(s.protocol, o.protocol, s.metadata, o.metadata); why != "" {
		return why
	}
	for id, v := range o.txns {
		if s.txns[id].Version != v.Version {
			return fmt.Sprintf("application %q is at version %d instead of %d", id, v.Version, s.txns[id].Version)
		}
	}
	return ""
}

// sameHead compares protocol and metadata as Delta does: features are sets.
func sameHead(p, q *Protocol, m, n *Metadata) string {
	plain := func(p *Protocol) string {
		if p == nil {
			return ""
		}
		c := *p
		for _, l := range []**[]string{&c.ReaderFeatures, &c.WriterFeatures} {
			if *l != nil {
				s := slices.Sorted(slices.Values(**l))
				*l = &s
			}
		}
		return jsonText(c)
	}
	if a, b := plain(p), plain(q); a != b {
		return fmt.Sprintf("protocol %s instead of %s", b, a)
	}
	if m == nil || n == nil {
		if m != n {
			return "one has metadata, the other has none"
		}
		return ""
	}
	a, b := m.clone(), n.clone()
	for _, c := range []*Metadata{a, b} {
		if len(c.Format.Options) == 0 {
			c.Format.Options = nil
		}
	}
	if jsonText(a) != jsonText(b) {
		return "the metadata is not the same"
	}
	return ""
}

func (c *logCheck) compaction(ctx context.Context, f *logFile) {
	actions, err := c.t.readCommit(ctx, f, false)
	if err != nil {
		c.problem(f, "%v", err)
		return
	}
	for v := f.first; v <= f.version; v++ {
		if !c.commits[v] {
			return // nothing to compare it with
		}
	}
	want, err := c.t.reconcile(ctx, f.first, f.version)
	if err != nil {
		return // the commit itself was reported
	}
	got := newReconciled()
	for i := range actions {
		got.apply(&actions[i])
	}
	if why := want.contradicts(got); why != "" {
		c.problem(f, "the log compaction contradicts its commits: %s", why)
	}
}

// contradicts tells how another reconciliation of the same commits differs. It may
// leave out tombstones of files that the range itself added, as some writers do.
func (r *reconciled) contradicts(o *reconciled) string {
	if a, b := len(r.adds), len(o.adds); a != b {
		return fmt.Sprintf("%d files are added instead of %d", b, a)
	}
	for k, a := range r.adds {
		if b := o.adds[k]; b == nil || b.Size != a.Size {
			return fmt.Sprintf("file %s is not the same", k.path)
		}
	}
	for k := range o.removes {
		if r.removes[k] == nil {
			return fmt.Sprintf("file %s is removed", k.path)
		}
	}
	for id, v := range r.txns {
		if o.txns[id].Version != v.Version {
			return fmt.Sprintf("application %q is at version %d instead of %d", id, o.txns[id].Version, v.Version)
		}
	}
	return sameHead(r.protocol, o.protocol, r.metadata, o.metadata)
}

func (c *logCheck) checksum(ctx context.Context, f *logFile) {
	sum, err := c.t.readChecksum(ctx, f.info.Path)
	if err != nil {
		c.problem(f, "%v", err)
		return
	}
	if c.state == nil || c.state.version != f.version {
		return
	}
	if why := sum.contradicts(c.state); why != "" {
		c.problem(f, "the checksum contradicts the commits: %s", why)
	}
}
