package deltalake

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// TableOptions configures a Table. A zero field means its default.
type TableOptions struct {
	Now         func() time.Time // stamps commits; time.Now
	Engine      string           // engineInfo of commits; "weir-deltalake"
	Parallelism int              // concurrent reads of the log and of data files; 8
	Attempts    int              // of one commit before a conflict that never ends is reported; 1000
	Patience    time.Duration    // for a store that fails while a commit is written; 5s
	Memory      int64            // bytes of decoded rows that one scan may hold; 256 MiB
	// SkipChecksums leaves out the version checksum file after each commit, which
	// costs one small write and lets others check the table and open it faster.
	SkipChecksums bool
	// NoAutoCompact leaves compaction to the caller, whatever
	// delta.autoOptimize.autoCompact of the table says.
	NoAutoCompact bool
}

func (o TableOptions) filled() (TableOptions, error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Engine == "" {
		o.Engine = "weir-deltalake"
	}
	if o.Parallelism == 0 {
		o.Parallelism = 8
	}
	if o.Attempts == 0 {
		o.Attempts = 1000
	}
	if o.Patience == 0 {
		o.Patience = 5 * time.Second
	}
	if o.Memory == 0 {
		o.Memory = 256 << 20
	}
	var errs []error
	if o.Parallelism < 0 {
		errs = append(errs, fmt.Errorf("deltalake: Parallelism %d is negative", o.Parallelism))
	}
	if o.Attempts < 0 {
		errs = append(errs, fmt.Errorf("deltalake: Attempts %d is negative", o.Attempts))
	}
	if o.Patience < 0 {
		errs = append(errs, fmt.Errorf("deltalake: Patience %v is negative", o.Patience))
	}
	if o.Memory < 0 {
		errs = append(errs, fmt.Errorf("deltalake: Memory %d is negative", o.Memory))
	}
	return o, errors.Join(errs...)
}

// Table is an open Delta table. It remembers the newest snapshot that it has
// seen, so that a commit reads only what is new. It is safe for concurrent use,
// and any number of Tables, processes and machines may use one table.
type Table struct {
	store Store
	opts  TableOptions

	mu struct {
		sync.Mutex
		latest    *Snapshot // newest seen; never nil
		refreshed time.Time
		cleaned   time.Time                   // when old log files were last looked for
		encoded   map[*fileBlock]encodedBlock // row groups of the last Delta checkpoint written
	}
}

// Open reads the newest version of the table at the root of store. A folder
// without a Delta log gives an error that wraps ErrNotFound.
func Open(ctx context.Context, store Store, opts TableOptions) (*Table, error) {
	o, err := opts.filled()
	if err != nil {
		return nil, err
	}
	t := &Table{store: store, opts: o}
	s, err := t.load(ctx, -1)
	if err != nil {
		return nil, err
	}
	t.mu.latest, t.mu.refreshed = s, o.Now()
	return t, nil
}

// ReadVersion reads one version of the table at the root of store. Unlike Open it
// has no need of the newest one, which may be damaged or ask for a feature that this
// package lacks. It refuses what At refuses.
func ReadVersion(ctx context.Context, store Store, version int64, opts TableOptions) (*Snapshot, error) {
	o, err := opts.filled()
	if err != nil {
		return nil, err
	}
	if version < 0 {
		return nil, fmt.Errorf("deltalake: version %d is negative", version)
	}
	t := &Table{store: store, opts: o}
	s, err := t.load(ctx, version)
	if err != nil {
		return nil, err
	}
	t.mu.latest, t.mu.refreshed = s, o.Now()
	return s, nil
}

// Store returns the store that the table lives in.
func (t *Table) Store() Store { return t.store }

// Latest returns the newest snapshot seen so far, without I/O.
func (t *Table) Latest() *Snapshot {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.mu.latest
}

// staleAfter is when a snapshot is so old that the log behind it may have been
// cleaned up, so that a look at the next version proves nothing.
const staleAfter = 24 * time.Hour

// Refresh reads the commits made since the newest snapshot seen and returns the
// newest one.
func (t *Table) Refresh(ctx context.Context) (*Snapshot, error) {
	t.mu.Lock()
	s, at := t.mu.latest, t.mu.refreshed
	t.mu.Unlock()
	now := t.opts.Now()
	var err error
	if now.Sub(at) > staleAfter {
		s, err = t.load(ctx, -1)
	} else {
		s, err = t.advance(ctx, s)
	}
	if err != nil {
		return nil, err
	}
	return t.keep(s, now), nil
}

// fresh returns the newest snapshot seen, after a look at the log if that was
// long ago.
func (t *Table) fresh(ctx context.Context) (*Snapshot, error) {
	t.mu.Lock()
	s, at := t.mu.latest, t.mu.refreshed
	t.mu.Unlock()
	if s.version >= 0 && t.opts.Now().Sub(at) > staleAfter {
		return t.Refresh(ctx)
	}
	return s, nil
}

// keep remembers s when it is the newest, and returns the newest.
func (t *Table) keep(s *Snapshot, now time.Time) *Snapshot {
	t.mu.Lock()
	defer t.mu.Unlock()
	if s.version > t.mu.latest.version {
		t.mu.latest = s
	}
	t.mu.refreshed = now
	return t.mu.latest
}

// At returns the snapshot of one version. A *VersionError says that it does not
// exist or no longer does.
func (t *Table) At(ctx context.Context, version int64) (*Snapshot, error) {
	if version < 0 {
		return nil, fmt.Errorf("deltalake: version %d is negative", version)
	}
	if s := t.Latest(); s.version == version {
		return s, nil
	}
	return t.load(ctx, version)
}

// AtTime returns the newest snapshot that is not younger than at.
func (t *Table) AtTime(ctx context.Context, at time.Time) (*Snapshot, error) {
	v, err := t.versionAt(ctx, at)
	if err != nil {
		return nil, err
	}
	return t.At(ctx, v)
}

// CreateOptions describes a new table. Schema is required.
type CreateOptions struct {
	Schema           *Schema
	PartitionColumns []string
	ClusterBy        []string          // columns that Optimize clusters rows by; not with PartitionColumns
	Properties       map[string]string // for example delta.appendOnly
	Name             string
	Description      string
	IfNotExists      bool // open the table when there is one, whatever its schema
	Table            TableOptions
}

// Create makes a table at the root of store with version 0 and opens it. An
// error that wraps ErrExists says that there is one already.
func Create(ctx context.Context, store Store, opts CreateOptions) (*Table, error) {
	return create(ctx, store, opts, Commit{Operation: "CREATE TABLE"})
}

// create makes a table whose first commit also holds what first says.
func create(ctx context.Context, store Store, opts CreateOptions, first Commit) (*Table, error) {
	o, err := opts.Table.filled()
	if err != nil {
		return nil, err
	}
	if opts.Schema == nil {
		return nil, errors.New("deltalake: CreateOptions.Schema is not set")
	}
	t, err := Open(ctx, store, o)
	switch {
	case err == nil && opts.IfNotExists:
		return t, nil
	case err == nil:
		return nil, fmt.Errorf("%w: the table is at version %d", ErrExists, t.Latest().version)
	case !errors.Is(err, errNoTable):
		return nil, err
	}
	meta, protocol, err := newMetadata(&opts, o.Now())
	if err != nil {
		return nil, err
	}
	var system []DomainMetadata
	if opts.ClusterBy != nil {
		spec, err := NewFileSpec(meta)
		if err == nil {
			err = spec.clusterable(opts.ClusterBy)
		}
		if err != nil {
			return nil, fmt.Errorf("deltalake: create table: %w", err)
		}
		system = append(system, spec.clusteringAction(opts.ClusterBy))
	}
	t = &Table{store: store, opts: o}
	t.mu.latest = &Snapshot{
		table: t, version: -1, protocol: protocol, metadata: meta, files: newFileSet(), removes: newRemoveMap(),
		txns: map[string]Txn{}, domains: map[string]DomainMetadata{}, base: -1,
	}
	if err := t.mu.latest.finish(); err != nil {
		return nil, err
	}
	if err := t.mu.latest.spec.holdsData(); err != nil {
		return nil, err
	}
	t.mu.refreshed = o.Now()
	if first.Parameters == nil {
		first.Parameters = map[string]string{"partitionBy": jsonText(meta.PartitionColumns), "properties": jsonText(meta.Configuration), "isManaged": "false"}
	}
	first.Protocol, first.Metadata, first.create, first.system = protocol, meta, true, system
	_, err = t.Commit(ctx, first)
	var lost *ConflictError // another writer created the table first
	if opts.IfNotExists && (errors.Is(err, ErrExists) || errors.As(err, &lost)) {
		return Open(ctx, store, o)
	}
	if err != nil {
		return nil, err
	}
	return t, nil
}

// jsonText writes v as JSON; v always encodes.
func jsonText(v any) string {
	b, err := marshalPlain(v)
	if err != nil {
		return ""
	}
	return string(b)
}
