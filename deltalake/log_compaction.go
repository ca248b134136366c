package deltalake

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
)

// compactionProperty asks for a log compaction file every so many commits. Delta
// has no table property for it (Spark reads such files and Delta Kernel counts in
// its own options), so it is ours and other writers ignore it.
const compactionProperty = "weir.logCompactionInterval"

func compactionPath(first, last int64) string {
	return fmt.Sprintf("%s%020d.%020d.compacted.json", logDir, first, last)
}

// reconciled is what a range of commits comes to, by Delta's action
// reconciliation. Unlike a snapshot it keeps every tombstone, of files and of
// domains: they undo what is older than the range.
type reconciled struct {
	protocol *Protocol
	metadata *Metadata
	txns     map[string]Txn
	domains  map[string]DomainMetadata
	adds     map[fileKey]*AddFile
	removes  map[fileKey]*RemoveFile
}

func newReconciled() *reconciled {
	return &reconciled{txns: map[string]Txn{}, domains: map[string]DomainMetadata{}, adds: map[fileKey]*AddFile{}, removes: map[fileKey]*RemoveFile{}}
}

func (r *reconciled) apply(a *action) {
	switch {
	case a.Add != nil:
		k := a.Add.key()
		r.adds[k] = a.Add
		delete(r.removes, k)
	case a.Remove != nil:
		k := a.Remove.key()
		r.removes[k] = a.Remove
		delete(r.adds, k)
	case a.Metadata != nil:
		r.metadata = a.Metadata
	case a.Protocol != nil:
		r.protocol = a.Protocol
	case a.Txn != nil:
		r.txns[a.Txn.AppID] = *a.Txn
	case a.Domain != nil:
		r.domains[a.Domain.Domain] = *a.Domain
	}
}

// has tells whether the range says anything about a file.
func (r *reconciled) has(k fileKey) bool {
	return r.adds[k] != nil || r.removes[k] != nil
}

// actions lists the result in a stable order. Neither commitInfo nor change
// files survive reconciliation.
func (r *reconciled) actions() []action {
	var out []action
	if r.protocol != nil {
		out = append(out, action{Protocol: r.protocol})
	}
	if r.metadata != nil {
		out = append(out, action{Metadata: r.metadata})
	}
	for _, id := range sortedKeys(r.txns) {
		t := r.txns[id]
		out = append(out, action{Txn: &t})
	}
	for _, name := range sortedKeys(r.domains) {
		d := r.domains[name]
		out = append(out, action{Domain: &d})
	}
	for _, k := range sortedFileKeys(r.removes) {
		out = append(out, action{Remove: r.removes[k]})
	}
	for _, k := range sortedFileKeys(r.adds) {
		out = append(out, action{Add: r.adds[k]})
	}
	return out
}

func sortedFileKeys[V any](m map[fileKey]V) []fileKey {
	keys := make([]fileKey, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.SortFunc(keys, func(a, b fileKey) int {
		return cmp.Or(cmp.Compare(a.path, b.path), cmp.Compare(a.dv, b.dv))
	})
	return keys
}

// reconcile reads the commits of a range and reconciles them.
func (t *Table) reconcile(ctx context.Context, first, last int64) (*reconciled, error) {
	r := newReconciled()
	for v := first; v <= last; v++ {
		actions, err := t.readCommit(ctx, &logFile{kind: logCommit, version: v, info: ObjectInfo{Path: commitPath(v)}}, false)
		if err != nil {
			return nil, err
		}
		for i := range actions {
			r.apply(&actions[i])
		}
	}
	return r, nil
}

// CompactLog writes one log compaction file that stands for the commits first to
// last, which must exist, be at least two, and stay where they are: readers that
// know such files open the table with fewer reads, others ignore them. A file for
// the range that is already there is kept.
func (t *Table) CompactLog(ctx context.Context, first, last int64) error {
	s := t.Latest()
	if first < 0 || last <= first || last > s.version {
		return fmt.Errorf("deltalake: compact log: versions %d to %d are not at least two commits of a table at version %d", first, last, s.version)
	}
	if err := s.protocol.checkWrite(); err != nil {
		return err
	}
	r, err := t.reconcile(ctx, first, last)
	if err != nil {
		return fmt.Errorf("deltalake: compact log: %w", err)
	}
	data, err := encodeActions(r.actions())
	if err != nil {
		return err
	}
	if err := t.store.PutIfAbsent(ctx, compactionPath(first, last), data); err != nil && !errors.Is(err, ErrExists) {
		return fmt.Errorf("deltalake: compact log: %w", err)
	}
	return nil
}

// maybeCompactLog writes the log compaction file that a commit made due.
func (t *Table) maybeCompactLog(ctx context.Context, s *Snapshot) error {
	text := s.property(compactionProperty, "")
	if text == "" {
		return nil
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n < 2 || n > 10_000 {
		return fmt.Errorf("deltalake: property %s = %q is not a number from 2 to 10000", compactionProperty, text)
	}
	if (s.version+1)%n != 0 {
		return nil
	}
	return t.CompactLog(ctx, s.version+1-n, s.version)
}
