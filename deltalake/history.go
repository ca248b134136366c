package deltalake

import (
	"context"
	"time"
)

// HistoryEntry is one commit as its writer described it.
type HistoryEntry struct {
	Version int64      `json:"version"`
	Time    time.Time  `json:"time"`
	Info    CommitInfo `json:"info"` // zero when the writer left none
}

// History returns the commits that the log still holds, newest first; limit 0
// means all.
func (t *Table) History(ctx context.Context, limit int) ([]HistoryEntry, error) {
	files, err := listLog(ctx, t.store, 0)
	if err != nil {
		return nil, err
	}
	var out []HistoryEntry
	for i := len(files) - 1; i >= 0 && (limit <= 0 || len(out) < limit); i-- {
		f := &files[i]
		if f.kind != logCommit {
			continue
		}
		actions, err := t.readCommit(ctx, f, true)
		if err != nil {
			return nil, err
		}
		h := HistoryEntry{Version: f.version, Time: f.info.Modified}
		for j := range actions {
			if c := actions[j].CommitInfo; c != nil {
				h.Info = *c
				switch {
				case c.InCommitTimestamp != nil:
					h.Time = time.UnixMilli(*c.InCommitTimestamp)
				case c.Timestamp != 0:
					h.Time = time.UnixMilli(c.Timestamp)
				}
			}
		}
		out = append(out, h)
	}
	return out, nil
}
