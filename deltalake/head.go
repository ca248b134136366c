package deltalake

import (
	"context"
)

// Head is a version of a table without its files.
type Head struct {
	Version  int64
	Protocol *Protocol
	Metadata *Metadata
	Schema   *Schema
	Files    int64            // live data files
	Bytes    int64            // of them
	Txns     map[string]int64 // last version of each application
	// Checksum says that the version checksum file told all of this, so that no
	// Delta checkpoint and no commit was read.
	Checksum bool
}

// ReadHead reads what the newest version of a table is without its files: from the
// version checksum file where the last writer left a sound one, else from the log,
// in memory that does not grow with the table. It refuses what Open refuses.
func ReadHead(ctx context.Context, store Store, opts TableOptions) (*Head, error) {
	o, err := opts.filled()
	if err != nil {
		return nil, err
	}
	t := &Table{store: store, opts: o}
	if h, err := t.checksumHead(ctx); h != nil || err != nil {
		return h, err
	}
	l, err := openStream(ctx, store, -1, anyCheckpoint, o)
	if err != nil {
		return nil, err
	}
	h := l.head.asHead()
	err = l.files(ctx, func(a *action) error {
		if a.Add != nil {
			h.Files++
			h.Bytes += a.Add.Size
		}
		return nil
	})
	return h, err
}

// checksumHead is the head as the checksum file of the newest commit tells it; nil
// when there is none that tells all.
func (t *Table) checksumHead(ctx context.Context) (*Head, error) {
	hint, err := readHint(ctx, t.store)
	if err != nil {
		return nil, err
	}
	files, err := listLog(ctx, t.store, hint)
	if err != nil {
		return nil, err
	}
	commit, sum := int64(-1), int64(-1)
	for i := range files {
		switch f := &files[i]; f.kind {
		case logCommit:
			commit = max(commit, f.version)
		case logChecksum:
			sum = max(sum, f.version)
		}
	}
	if commit < 0 || commit != sum {
		return nil, nil
	}
	c, err := t.readChecksum(ctx, checksumPath(commit))
	if err != nil || c.SetTransactions == nil {
		return nil, ctx.Err() // the log tells as well
	}
	s := t.emptySnapshot(commit)
	s.protocol, s.metadata = c.Protocol, c.Metadata
	for _, x := range *c.SetTransactions {
		s.txns[x.AppID] = x
	}
	if err := s.finish(); err != nil {
		return nil, err
	}
	h := s.asHead()
	h.Files, h.Bytes, h.Checksum = c.NumFiles, c.TableSizeBytes, true
	return h, nil
}

func (s *Snapshot) asHead() *Head {
	return &Head{Version: s.version, Protocol: s.protocol, Metadata: s.metadata, Schema: s.spec.schema, Txns: s.Txns()}
}
