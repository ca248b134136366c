package deltalake

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
)

// Problem is one fault that Fsck found.
type Problem struct {
	Kind string `json:"kind"` // "missing file", "wrong size", "orphan", "log"
	Path string `json:"path"`
	Note string `json:"note,omitempty"`
}

// Fsck compares the log with the store: live files that are missing or have
// another size, files that nothing names, commits that cannot be read, versions
// that are missing; and the log with itself: Delta checkpoints, log compaction and
// checksum files that contradict the commits, sidecars that are missing or that no
// checkpoint names. It changes nothing.
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
