package deltalake

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
)

// Commit is one transaction. The zero value of each field means "not part of it".
type Commit struct {
	Operation    string            // for history; "WRITE"
	Parameters   map[string]string // of the operation, for history
	Metrics      map[string]string // of the operation, for history
	UserMetadata string            // free text, for history

	// AppID and AppVersion make the commit idempotent: it is made only if the
	// table's version of AppID is below AppVersion, and then records AppVersion.
	AppID      string
	AppVersion int64

	Adds    []*AddFile
	Removes []*RemoveFile
	Changes []*ChangeFile
	Domains []DomainMetadata

	// Protocol and Metadata replace the table's.
	Protocol *Protocol
	Metadata *Metadata

	// Spec is what the added files were written with. When the table's metadata
	// has changed since, the commit goes on only if the files still fit it, and no
	// constraint, invariant, generated column or default was added. Who cannot say
	// what his files were written with, or finds another FileSpec.Layout or Rules
	// noted with them, asks Table.CheckFiles first.
	Spec *FileSpec

	// Base is the snapshot that the transaction read; nil for a blind append.
	// Commits made since are checked for conflicts with what was read.
	Base *Snapshot
	// ReadAll says that all rows of Base were read; Filter narrows it down.
	ReadAll bool
	Filter  *Expr
	// Reads are files of Base that were read, beside Filter.
	Reads []*AddFile

	create     bool            // version 0 or nothing
	rearranges bool            // no row changes: optimize
	preserves  bool            // rows that are updated or copied keep their ids
	replaces   map[string]bool // partitions, by partitionKey, whose rows are replaced whole
	rowsTaken  int64           // row ids below it are in use, whatever the table's mark says
	system     []DomainMetadata
}

// CommitResult says what became of a Commit.
type CommitResult struct {
	Version          int64     // of the commit; of the newest snapshot when AlreadyCommitted
	AlreadyCommitted bool      // AppVersion was recorded before; nothing was done
	Snapshot         *Snapshot // the table after it
	Attempts         int       // versions that were tried
	// Upkeep is what failed after the commit, such as writing a Delta checkpoint.
	// The commit stands; the next one tries again.
	Upkeep error
}

// A ConflictError says that a commit made meanwhile contradicts what a
// transaction read. The transaction must be done again on a new snapshot.
type ConflictError struct {
	Class   ConflictClass
	Version int64  // the commit that won
	Detail  string // what they disagree on
}

// ConflictClass names why two transactions exclude each other, in the words of
// Delta's documentation.
type ConflictClass string

// The classes of conflicts.
const (
	ConcurrentAppend       ConflictClass = "concurrent append"
	ConcurrentDeleteRead   ConflictClass = "concurrent delete-read"
	ConcurrentDeleteDelete ConflictClass = "concurrent delete-delete"
	MetadataChanged        ConflictClass = "metadata changed"
	ProtocolChanged        ConflictClass = "protocol changed"
	ConcurrentTransaction  ConflictClass = "concurrent transaction"
)

// Error implements error.
func (e *ConflictError) Error() string {
	return fmt.Sprintf("deltalake: %s: version %d %s; run the operation again on the new version", e.Class, e.Version, e.Detail)
}

// Commit makes the next version of the table. It rebases over commits of others
// that do not contradict it, resolves ambiguous answers of the store by reading
// back, and is idempotent by AppID and AppVersion. After a *ConflictError or an
// *UnsupportedError nothing of the commit is in the table; after another error, or
// a cancelled context, it may be: give it an AppID and send it again.
func (t *Table) Commit(ctx context.Context, c Commit) (*CommitResult, error) {
	if err := c.validate(); err != nil {
		return nil, &refusal{err}
	}
	latest, err := t.fresh(ctx)
	if err != nil {
		return nil, &refusal{err}
	}
	blind := c.Base == nil && len(c.Removes) == 0
	checked := latest
	if c.Base != nil {
		checked = c.Base
	}
	base := checked
	txnID := uuid.NewString()
	for attempt := 1; attempt <= t.opts.Attempts; attempt++ {
		if latest.version > checked.version {
			if err := t.checkConflicts(ctx, &c, checked.version, latest); err != nil {
				return nil, &refusal{err}
			}
			checked = latest
		}
		if c.AppID != "" {
			if v, ok := latest.TxnVersion(c.AppID); ok && v >= c.AppVersion {
				// What we remember may be behind, but a recorded version never goes back.
				return &CommitResult{Version: latest.version, AlreadyCommitted: true, Snapshot: latest, Attempts: attempt - 1}, nil
			}
		}
		if c.create && latest.version >= 0 {
			return nil, &refusal{fmt.Errorf("%w: the table is at version %d", ErrExists, latest.version)}
		}
		if err := t.allowed(&c, latest); err != nil {
			return nil, &refusal{err}
		}
		actions, err := t.commitActions(ctx, &c, latest, base, txnID, blind)
		if err != nil {
			return nil, &refusal{err}
		}
		data, err := encodeActions(actions)
		if err != nil {
			return nil, &refusal{err}
		}
		won, err := t.publish(ctx, latest.version+1, data, txnID)
		if err != nil {
			return nil, err
		}
		if won {
			return t.committed(ctx, &c, latest, actions, attempt)
		}
		if latest, err = t.advance(ctx, latest); err != nil {
			return nil, &refusal{err}
		}
		latest = t.keep(latest, t.opts.Now())
	}
	return nil, &refusal{fmt.Errorf("deltalake: commit lost %d races in a row; give it more Attempts or fewer writers", t.opts.Attempts)}
}

func (c *Commit) validate() error {
	var errs []error
	for _, a := range c.Adds {
		if a == nil || a.Path == "" {
			errs = append(errs, errors.New("deltalake: Commit.Adds holds a file without a path"))
		}
	}
	for _, d := range c.Domains {
		if strings.HasPrefix(d.Domain, "delta.") {
			errs = append(errs, fmt.Errorf("deltalake: the metadata domain %q belongs to Delta itself", d.Domain))
		}
	}
	if (len(c.Removes) > 0 || c.ReadAll || c.Filter != nil || len(c.Reads) > 0) && c.Base == nil {
		errs = append(errs, errors.New("deltalake: a Commit that reads or removes needs the Base snapshot it read"))
	}
	return errors.Join(errs...)
}

// allowed checks a commit against the rules of the table it would land on.
func (t *Table) allowed(c *Commit, s *Snapshot) error {
	protocol, meta := s.protocol, s.metadata
	if c.Protocol != nil {
		protocol = c.Protocol
	}
	if c.Metadata != nil {
		meta = c.Metadata
	}
	if err := s.protocol.checkWrite(); err != nil { // also where the commit would change it
		return err
	}
	if err := protocol.checkWrite(); err != nil {
		return err
	}
	if err := protocol.checkRowTracking(meta); err != nil {
		return err
	}
	if c.Metadata != nil {
		spec, err := NewFileSpec(meta)
		if err == nil {
			err = spec.holdsData()
		}
		if err != nil {
			return err
		}
	}
	if protocol.hasWriter("clustering") && len(meta.PartitionColumns) > 0 {
		return errors.New("deltalake: a table with partition columns cannot have the feature clustering")
	}
	if _, _, err := s.clustering(); err != nil {
		return err
	}
	if len(c.Domains)+len(c.system) > 0 && !protocol.hasWriter("domainMetadata") {
		return errors.New("deltalake: the table has no metadata domains; set delta.feature.domainMetadata to supported first")
	}
	for _, r := range c.Removes {
		if r.DataChange {
			if err := appendOnly(protocol, meta, c.Operation); err != nil {
				return err
			}
			break
		}
	}
	if c.Spec != nil && c.Metadata == nil && (s.metadata != c.Spec.meta || c.Spec.rules != nil) {
		if err := c.Spec.fits(s.spec); err != nil {
			return &ConflictError{MetadataChanged, s.version, err.Error()}
		}
	}
	return nil
}

// commitActions builds the log lines of a try; commitInfo is first.
func (t *Table) commitActions(ctx context.Context, c *Commit, latest, base *Snapshot, txnID string, blind bool) ([]action, error) {
	now := t.opts.Now().UnixMilli()
	info := &CommitInfo{
		Timestamp: now, Operation: c.Operation, OperationParameters: c.Parameters, OperationMetrics: c.Metrics,
		UserMetadata: c.UserMetadata, EngineInfo: t.opts.Engine, TxnID: txnID, IsBlindAppend: &blind, IsolationLevel: latest.isolation(),
	}
	if info.Operation == "" {
		info.Operation = "WRITE"
	}
	if info.OperationParameters == nil {
		info.OperationParameters = map[string]string{}
		if c.Operation == "" {
			info.OperationParameters["mode"] = "Append"
		}
	}
	if base.version >= 0 {
		v := base.version
		info.ReadVersion = &v
	}
	meta := latest.metadata
	ict, set, err := t.stamp(ctx, c, latest, now)
	if err != nil {
		return nil, err
	}
	if info.InCommitTimestamp = ict; set != nil {
		meta = set
	}
	protocol := latest.protocol
	if c.Protocol != nil {
		protocol = c.Protocol
	}
	adds, rowDomain, err := c.numberRows(latest, protocol, meta)
	if err != nil {
		return nil, err
	}
	if meta.tracksRows() {
		info.Tags = map[string]string{rowsPreserved: strconv.FormatBool(c.preserves || len(c.Removes) == 0)}
	}
	if c.Metadata != nil && latest.version >= 0 && meta.movesMarks(latest.metadata) {
		if info.Tags == nil {
			info.Tags = map[string]string{}
		}
		info.Tags[identityUpdate] = "true"
	}
	actions := []action{{CommitInfo: info}}
	if c.Protocol != nil {
		actions = append(actions, action{Protocol: c.Protocol})
	}
	if set != nil {
		actions = append(actions, action{Metadata: set})
	}
	if c.AppID != "" {
		actions = append(actions, action{Txn: &Txn{AppID: c.AppID, Version: c.AppVersion, LastUpdated: &now}})
	}
	for i := range c.Domains {
		actions = append(actions, action{Domain: &c.Domains[i]})
	}
	for i := range c.system {
		actions = append(actions, action{Domain: &c.system[i]})
	}
	if rowDomain != nil {
		actions = append(actions, action{Domain: rowDomain})
	}
	for _, r := range c.Removes {
		actions = append(actions, action{Remove: r})
	}
	for _, a := range adds {
		actions = append(actions, action{Add: a})
	}
	for _, f := range c.Changes {
		actions = append(actions, action{Change: f})
	}
	return actions, nil
}

// publish tries to write a version. It returns whether our commit is the one that
// stands there; an error leaves that open.
func (t *Table) publish(ctx context.Context, version int64, data []byte, txnID string) (bool, error) {
	path := commitPath(version)
	var firstErr error
	wait := time.Millisecond
	for spent := time.Duration(0); spent <= t.opts.Patience; wait *= 2 {
		if firstErr != nil {
			spent += wait
			if err := pause(ctx, wait); err != nil {
				return false, err
			}
		}
		err := t.store.PutIfAbsent(ctx, path, data)
		if err == nil {
			return true, nil
		}
		if firstErr == nil {
			firstErr = err
		}
		if ctx.Err() != nil {
			return false, ctx.Err()
		}
		// Taken, refused or unknown: what stands there decides. An earlier try of
		// ours may have landed although its answer was lost.
		actions, rerr := t.commitAt(ctx, version)
		switch {
		case rerr == nil:
			return ours(actions, txnID), nil
		case errors.Is(rerr, ErrNotFound):
			continue // nothing there yet: the same bytes may be tried again
		case ctx.Err() != nil:
			return false, ctx.Err()
		}
	}
	return false, fmt.Errorf("deltalake: version %d cannot be written: %w", version, firstErr)
}

// pause waits, or ends early with the context's error.
func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func ours(actions []action, txnID string) bool {
	for i := range actions {
		if c := actions[i].CommitInfo; c != nil && c.TxnID == txnID {
			return true
		}
	}
	return false
}

// committed moves the table to the version just written and does what is due.
func (t *Table) committed(ctx context.Context, c *Commit, latest *Snapshot, actions []action, attempts int) (*CommitResult, error) {
	next := latest.fork()
	next.version++
	next.ict = 0
	for i := range actions {
		if err := next.apply(&actions[i]); err != nil {
			return nil, err
		}
	}
	next.millis = actions[0].CommitInfo.Timestamp
	if err := next.finish(); err != nil {
		return nil, err
	}
	t.keep(next, t.opts.Now())
	t.writeChecksum(ctx, next, actions[0].CommitInfo.TxnID)
	r := &CommitResult{Version: next.version, Snapshot: next, Attempts: attempts}
	r.Upkeep = t.upkeep(ctx, next)
	if !c.rearranges && len(c.Adds) > 0 {
		r.Upkeep = errors.Join(r.Upkeep, t.autoCompact(ctx, next))
	}
	return r, nil
}

// isolation returns the table's isolation level.
func (s *Snapshot) isolation() string {
	if strings.EqualFold(s.property("delta.isolationLevel", ""), "WriteSerializable") {
		return "WriteSerializable"
	}
	return "Serializable"
}

// checkConflicts looks at the commits after `after` up to latest.
func (t *Table) checkConflicts(ctx context.Context, c *Commit, after int64, latest *Snapshot) error {
	reads := map[fileKey]bool{}
	for _, a := range c.Reads {
		reads[a.key()] = true
	}
	removes := map[fileKey]bool{}
	for _, r := range c.Removes {
		removes[r.key()] = true
	}
	for v := after + 1; v <= latest.version; v++ {
		actions, err := t.commitAt(ctx, v)
		if err != nil {
			return err
		}
		if err := c.conflict(v, actions, latest, reads, removes); err != nil {
			return err
		}
	}
	return nil
}

// conflict compares the transaction with one commit that won.
func (c *Commit) conflict(v int64, actions []action, latest *Snapshot, reads, removes map[fileKey]bool) error {
	blind := false
	for i := range actions {
		if info := actions[i].CommitInfo; info != nil && info.IsBlindAppend != nil {
			blind = *info.IsBlindAppend
		}
	}
	lenient := blind && latest.isolation() == "WriteSerializable" && c.Metadata == nil
	for i := range actions {
		a := &actions[i]
		switch {
		case a.Protocol != nil && !(c.create && v == 0):
			return &ConflictError{ProtocolChanged, v, "changed the protocol"}
		case a.Metadata != nil && c.Metadata == nil && c.Base != nil && a.Metadata.movesMarks(c.Base.metadata):
			// This one gives out no identity values, and the marks stay as they are now.
		case a.Metadata != nil && (c.Base != nil || c.Metadata != nil):
			return &ConflictError{MetadataChanged, v, "changed the schema or the properties"}
		case a.Txn != nil && a.Txn.AppID == c.AppID && c.AppID != "" && a.Txn.Version < c.AppVersion && c.Base != nil:
			return &ConflictError{ConcurrentTransaction, v, fmt.Sprintf("recorded version %d of application %q", a.Txn.Version, a.Txn.AppID)}
		case a.Domain != nil && a.Domain.Domain == clusteringDomain && c.Metadata != nil:
			return &ConflictError{MetadataChanged, v, "changed the clustering columns"}
		case a.Domain != nil:
			for _, d := range append(c.Domains[:len(c.Domains):len(c.Domains)], c.system...) {
				if d.Domain == a.Domain.Domain {
					return &ConflictError{MetadataChanged, v, fmt.Sprintf("changed the metadata domain %q", d.Domain)}
				}
			}
		case a.Add != nil && a.Add.DataChange && !lenient && !c.rearranges:
			if c.ReadAll || c.replaces[partitionKey(a.Add.PartitionValues)] || c.Filter != nil && c.Base.mayMatch(c.Filter, a.Add) {
				return &ConflictError{ConcurrentAppend, v, "added rows to what was read"}
			}
		case a.Remove != nil:
			k := a.Remove.key()
			if removes[k] {
				return &ConflictError{ConcurrentDeleteDelete, v, fmt.Sprintf("removed %s, which this one removes too", k.path)}
			}
			read := reads[k]
			if old := removedFile(c.Base, k); !read && old != nil && a.Remove.DataChange && !c.rearranges {
				read = c.ReadAll || c.Filter != nil && c.Base.mayMatch(c.Filter, old)
			}
			if read {
				return &ConflictError{ConcurrentDeleteRead, v, fmt.Sprintf("removed %s, which was read", k.path)}
			}
		}
	}
	return nil
}

func removedFile(base *Snapshot, k fileKey) *AddFile {
	if base == nil {
		return nil
	}
	return base.files.get(k)
}

// fits tells why files written for s cannot be added to a table that now asks
// for t.
func (s *FileSpec) fits(t *FileSpec) error {
	if err := s.laidOutFor(t); err != nil {
		return err
	}
	return s.ruled().rulesFit(t)
}

// laidOutFor is fits for who only reads: rules of rows are of no concern.
func (s *FileSpec) laidOutFor(t *FileSpec) error {
	if s.mapped != t.mapped {
		return errors.New("changed column mapping")
	}
	if len(s.partition) != len(t.partition) {
		return errors.New("changed the partition columns")
	}
	for i := range s.partition {
		if s.partition[i].Name != t.partition[i].Name || !s.partition[i].Type.Equal(t.partition[i].Type) {
			return fmt.Errorf("changed partition column %q", s.partition[i].Name)
		}
	}
	return fieldsFit(s.data.Fields, t.data.Fields, s.mapped, "")
}

func fieldsFit(written, now []Field, mapped bool, prefix string) error {
	seen := map[string]*Field{}
	for i := range written {
		name, _ := written[i].physical(mapped)
		seen[name] = &written[i]
	}
	for i := range now {
		f := &now[i]
		name, _ := f.physical(mapped)
		w := seen[name]
		delete(seen, name)
		switch {
		case w == nil && !f.Nullable:
			return fmt.Errorf("added column %q, which may not be null", prefix+f.Name)
		case w == nil:
		case w.Nullable && !f.Nullable:
			return fmt.Errorf("made column %q not nullable", prefix+f.Name)
		case w.Type.Kind == KindStruct && f.Type.Kind == KindStruct:
			if err := fieldsFit(w.Type.Fields, f.Type.Fields, mapped, prefix+f.Name+"."); err != nil {
				return err
			}
		case !w.Type.Equal(f.Type) && !widens(w.Type, f.Type):
			return fmt.Errorf("changed column %q from %s to %s", prefix+f.Name, w.Type, f.Type)
		}
	}
	for _, w := range seen {
		return fmt.Errorf("dropped column %q", prefix+w.Name)
	}
	return nil
}
