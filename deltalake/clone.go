package deltalake

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"path/filepath"
)

// Clone makes a shallow clone of the snapshot at the root of target: a table of
// its own whose log names the data files of the source by absolute path. Both must
// be folder stores. The clone breaks when Vacuum takes files from the source that
// it still names; its own Vacuum never touches them.
func (s *Snapshot) Clone(ctx context.Context, target Store, opts TableOptions) (*Table, error) {
	src, ok := bare(s.table.store).(*FolderStore)
	if _, folder := bare(target).(*FolderStore); !ok || !folder {
		return nil, &UnsupportedError{"written", "a shallow clone of or into a store that is not a folder"}
	}
	root, err := filepath.Abs(src.root)
	if err != nil {
		return nil, fmt.Errorf("deltalake: clone: %w", err)
	}
	if err := s.checkWrite(); err != nil {
		return nil, err
	}
	if _, err := Open(ctx, target, opts); err == nil {
		return nil, fmt.Errorf("%w: there is a table at the target of the clone", ErrExists)
	} else if !errors.Is(err, errNoTable) {
		return nil, err
	}
	absolute := func(logPath string) (string, error) {
		store, p, err := s.table.resolve(logPath)
		if err != nil {
			return "", err
		}
		base := root
		if store != s.table.store {
			base = "/"
		}
		u := url.URL{Scheme: "file", Path: filepath.ToSlash(filepath.Join(base, filepath.FromSlash(p)))}
		return u.String(), nil
	}
	meta := s.metadata.clone()
	c := Commit{Operation: "CLONE", Parameters: map[string]string{"source": root, "sourceVersion": fmt.Sprint(s.version), "isShallow": "true"},
		Protocol: s.protocol, Metadata: meta, create: true, preserves: true}
	mark, err := s.rowMark()
	if err != nil {
		return nil, err
	}
	c.rowsTaken = mark + 1
	for _, name := range sortedKeys(s.domains) {
		if name != rowTrackingDomain {
			c.system = append(c.system, s.domains[name])
		}
	}
	for _, a := range s.Files() {
		n := *a
		if n.Path, err = absolute(a.Path); err != nil {
			return nil, err
		}
		if d := a.DeletionVector; d != nil && d.StorageType == "u" {
			file, err := d.file()
			if err != nil {
				return nil, err
			}
			v := *d
			v.StorageType = "p"
			if v.PathOrInlineDv, err = absolute(file); err != nil {
				return nil, err
			}
			n.DeletionVector = &v
		}
		n.DataChange = true
		c.Adds = append(c.Adds, &n)
	}
	o, err := opts.filled()
	if err != nil {
		return nil, err
	}
	t := &Table{store: target, opts: o}
	t.mu.latest = &Snapshot{table: t, version: -1, protocol: s.protocol, metadata: meta, files: newFileSet(), removes: newRemoveMap(),
		txns: map[string]Txn{}, domains: map[string]DomainMetadata{}, base: -1}
	if err := t.mu.latest.finish(); err != nil {
		return nil, err
	}
	t.mu.refreshed = o.Now()
	if _, err := t.Commit(ctx, c); err != nil {
		return nil, err
	}
	return t, nil
}
