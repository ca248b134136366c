package state

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/sstable/block"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/weirstream/weir/dataflow"
	"github.com/weirstream/weir/internal/clock"
)

// Options configures a Store. A zero field means its default; Dir, Shared and Total
// have none.
type Options struct {
	Dir     string             // of this attempt alone; what is in it is removed
	Shared  *Shared            // of the worker
	Groups  dataflow.KeyGroups // owned
	Total   int                // key groups of the pipeline
	Objects Objects            // the checkpoint store; nil: only local files can be restored
	Infos   []dataflow.StateInfo
	Log     *slog.Logger // discarded

	FileBytes    int64       // an epoch's file is split at about this size; 64 MiB
	MergeFiles   int         // chains of more epoch files than this are merged; 48
	MergeFanIn   int         // files that are merged into one; 16
	RebaseBytes  int64       // shorter chains are never rebased; 1 MiB
	FS           FS          // the disk
	Clock        clock.Clock // pauses between tries to fetch; the wall clock
	NoBackground bool        // merges and filter rebuilds run inside WriteEpoch and Restore, for simulation
}

// FS is the file system that local state lies in.
type FS = vfs.FS

// Disk returns the file system of this machine.
func Disk() FS { return vfs.Default }

func (o Options) withDefaults() Options {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.FileBytes == 0 {
		o.FileBytes = 64 << 20
	}
	if o.MergeFiles == 0 {
		o.MergeFiles = 48
	}
	if o.MergeFanIn == 0 {
		o.MergeFanIn = 16
	}
	if o.RebaseBytes == 0 {
		o.RebaseBytes = 1 << 20
	}
	if o.Clock == nil {
		o.Clock = clock.Wall()
	}
	if o.FS == nil {
		o.FS = Disk()
	}
	return o
}

func (o Options) validate() error {
	var errs []error
	if o.Dir == "" {
		errs = append(errs, errors.New("Dir is missing"))
	}
	if o.Shared == nil {
		errs = append(errs, errors.New("Shared is missing"))
	}
	if o.Total < 1 || o.Total > dataflow.MaxKeyGroups {
		errs = append(errs, fmt.Errorf("Total %d is outside 1..%d", o.Total, dataflow.MaxKeyGroups))
	}
	if o.Groups.From < 0 || o.Groups.To > o.Total || o.Groups.Len() < 0 {
		errs = append(errs, fmt.Errorf("Groups %v is not within [0,%d)", o.Groups, o.Total))
	}
	if o.FileBytes < 1<<10 {
		errs = append(errs, fmt.Errorf("FileBytes %d is below 1 KiB", o.FileBytes))
	}
	if o.MergeFiles < 1 {
		errs = append(errs, fmt.Errorf("MergeFiles %d is below 1", o.MergeFiles))
	}
	if o.MergeFanIn < 2 {
		errs = append(errs, fmt.Errorf("MergeFanIn %d is below 2", o.MergeFanIn))
	}
	seen := map[dataflow.StateID]bool{}
	for _, s := range o.Infos {
		if s.ID == 0 || seen[s.ID] {
			errs = append(errs, fmt.Errorf("state %q has id %d, which is zero or another's", s.Name, s.ID))
		}
		seen[s.ID] = true
	}
	if len(errs) > 0 {
		return fmt.Errorf("state: %w", errors.Join(errs...))
	}
	return nil
}

// A Store holds the rows of one subtask.
//
// Invariants:
//   - the files of chain, linked in order, yield exactly the rows that Pebble holds
//     within the owned groups;
//   - a row that Pebble holds is in the filter, or the filter is not asked.
type Store struct {
	opts    Options
	fs      vfs.FS
	dir     string // of the sorted files
	db      *pebble.DB
	queue   *queue
	storage *storage
	panes   map[dataflow.StateID]bool // known states, and whether they have panes
	ctx     context.Context           // ends with Close
	cancel  context.CancelCauseFunc
	work    sync.WaitGroup // goroutines of this store
	names   atomic.Int64   // temporary file names

	filter  atomic.Pointer[filter] // nil: not built since a restore, ask Pebble
	present presence
	failure atomic.Pointer[error] // first error that makes the store useless
	mended  atomic.Bool           // a bad local copy was replaced
	scanErr error                 // of the last Scan; the subtask's turn only
	ask     []int                 // buffer of Load; the subtask's turn only

	// write is held by whatever changes the rows that Pebble holds: WriteEpoch,
	// Restore, Excise. It is taken before mu.
	write sync.Mutex

	mu       sync.Mutex          // guards what follows
	groups   dataflow.KeyGroups  // owned
	chain    []dataflow.FileRef  // in restore order
	epoch    dataflow.Epoch      // newest written
	seq      int                 // next Seq of epoch
	named    []named             // what Files returned, by epoch, that is not subsumed
	owned    map[string]struct{} // files in dir that are ours to remove
	pins     map[uint64]*pin     // Pebble's tables that were linked for a rebase, by number
	next     *build              // filter being built; gets what filter gets
	rebuilt  int64               // keys of the filter when it was built last
	unlocal  int                 // restores whose files are not all local
	local    chan struct{}       // closed while unlocal is 0
	merging  bool                // a merge runs
	pinning  bool                // pinAhead runs
	building bool                // a filter is being built
	written  Written             // totals
	closed   bool
}

// Written are totals since Open.
type Written struct {
	Rows        int64 // frozen rows written to epoch files
	RowBytes    int64 // keys and values of those
	EpochBytes  int64 // epoch files
	MergeBytes  int64 // merged epoch files
	RebaseBytes int64 // Pebble's tables named by a rebase
	Merges      int64
	Rebases     int64
}

// named is what Files answered last for an epoch.
type named struct {
	epoch dataflow.Epoch
	files map[string]bool // local paths
}

// filesDir is where a store keeps its sorted files, below Options.Dir.
const filesDir = "files"

// Open returns an empty store. Whatever is in Dir is removed.
func Open(o Options) (*Store, error) {
	o = o.withDefaults()
	if err := o.validate(); err != nil {
		return nil, err
	}
	s := &Store{
		opts: o, fs: lazyFS{o.FS}, groups: o.Groups,
		queue:   &queue{shared: o.Shared, ready: true},
		storage: &storage{sources: map[string]*source{}},
		panes:   map[dataflow.StateID]bool{},
		pins:    map[uint64]*pin{},
		owned:   map[string]struct{}{},
		local:   make(chan struct{}),
	}
	close(s.local)
	s.dir = s.fs.PathJoin(o.Dir, filesDir)
	for _, i := range o.Infos {
		s.panes[i.ID] = i.Panes
	}
	s.ctx, s.cancel = context.WithCancelCause(context.Background())
	dbDir := s.fs.PathJoin(o.Dir, "pebble")
	for _, d := range []string{dbDir, s.dir} {
		if err := s.fs.RemoveAll(d); err != nil {
			return nil, fmt.Errorf("state: emptying %s: %w", d, err)
		}
		if err := s.fs.MkdirAll(d, 0o755); err != nil {
			return nil, fmt.Errorf("state: making %s: %w", d, err)
		}
	}
	db, err := pebble.Open(dbDir, s.pebbleOptions())
	if err != nil {
		s.cancel(ErrClosed)
		return nil, fmt.Errorf("state: opening Pebble in %s: %w", dbDir, err)
	}
	s.db = db
	s.setFilter(newFilter(0))
	return s, nil
}

func (s *Store) pebbleOptions() *pebble.Options {
	o := &pebble.Options{
		Cache:              s.opts.Shared.cache,
		FileCache:          s.opts.Shared.files,
		FS:                 s.fs,
		FormatMajorVersion: storeFormat,
		DisableWAL:         true,
		MemTableSize:       256 << 10, // never used
		// Epoch files arrive far more often than memtables would be flushed, and our own
		// filter answers most absent keys: more sublevels cost few reads and save much
		// rewriting (Nexmark q20, 10 M events: 434 to 609 K events per CPU second).
		L0CompactionThreshold: 12,
		LBaseMaxBytes:         512 << 20,
		L0StopWritesThreshold: 1 << 30, // nothing is ever written but by ingestion
		Logger:                pebbleLog{s.opts.Log},
		// The scheduler of the worker decides; this is what one store may have.
		CompactionConcurrencyRange: func() (int, int) { return 1, s.opts.Shared.opts.Compactions },
	}
	for i := range o.Levels {
		o.Levels[i].BlockSize = blockBytes
		o.Levels[i].IndexBlockSize = indexBlockBytes
		o.Levels[i].FilterPolicy = bloomBits
		o.Levels[i].FilterType = pebble.TableFilter
		o.Levels[i].Compression = func() *block.CompressionProfile { return block.FastestCompression }
	}
	for i := range o.TargetFileSizes {
		o.TargetFileSizes[i] = 8 << 20
	}
	// By default Pebble ends the process here. Who reads gets the error anyhow, and a
	// bad local copy is replaced (readFailed).
	o.EventListener = &pebble.EventListener{DataCorruption: func(i pebble.DataCorruptionInfo) {
		s.opts.Log.Warn("corrupt state file", "dir", s.opts.Dir, "path", i.Path, "error", i.Details)
	}}
	o.Experimental.CompactionScheduler = s.queue
	o.Experimental.RemoteStorage = s.storage
	return o
}

// setFilter replaces the filter; nil means that Pebble is asked instead.
func (s *Store) setFilter(f *filter) {
	var grown int64
	if f != nil {
		_, grown = f.stats()
	}
	if old := s.filter.Swap(f); old != nil {
		_, n := old.stats()
		grown -= n
	}
	s.opts.Shared.filters.Add(grown)
}

// Groups returns the key groups owned.
func (s *Store) Groups() dataflow.KeyGroups {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.groups
}

// Written returns totals since Open. Any goroutine.
func (s *Store) Written() Written {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.written
}

// SubLevels returns how many sorted runs a read may have to ask in Pebble's level 0;
// above 20 the checkpoint interval should be stretched. Any goroutine.
func (s *Store) SubLevels() int { return int(s.db.Metrics().Levels[0].Sublevels) }

// Bytes returns the size of the tables that Pebble holds: the live rows, and what
// compactions have yet to remove. Any goroutine.
func (s *Store) Bytes() int64 {
	n, err := s.tableBytes()
	if err != nil {
		return 0
	}
	return n
}

// Err returns the error that made the store useless, such as a *CorruptError; nil
// while it is not. Any goroutine.
func (s *Store) Err() error {
	if p := s.failure.Load(); p != nil {
		return *p
	}
	return nil
}

// fail makes err the answer of everything from now on, unless there is one.
func (s *Store) fail(err error) {
	if s.failure.CompareAndSwap(nil, &err) && !errors.Is(err, ErrClosed) {
		s.opts.Log.Error("state store failed", "dir", s.opts.Dir, "error", err)
	}
}

// Local is closed when every restored file is on this disk and its checksum is
// right, or the store failed (see Err). Any goroutine.
func (s *Store) Local() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.local
}

// spawn runs f in the background, or at once if there is none; f ends soon after
// s.ctx. It does nothing once the store is closed. s.mu must not be held.
func (s *Store) spawn(f func()) {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return
	}
	s.work.Add(1)
	s.mu.Unlock()
	if s.opts.NoBackground {
		defer s.work.Done()
		f()
		return
	}
	go func() {
		defer s.work.Done()
		f()
	}()
}

// Close stops what runs in the background and closes Pebble; files stay for the
// next attempt to link. No Scan may be under way. It is idempotent.
func (s *Store) Close() error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil
	}
	s.closed = true
	s.mu.Unlock()
	s.cancel(ErrClosed)
	s.work.Wait()
	s.write.Lock() // a WriteEpoch that is under way ends first
	defer s.write.Unlock()
	err := s.db.Close()
	s.setFilter(nil)
	s.fail(ErrClosed)
	if rerr := s.fs.RemoveAll(s.fs.PathJoin(s.opts.Dir, "pebble")); err == nil {
		err = rerr
	}
	if err != nil {
		return fmt.Errorf("state: closing the store in %s: %w", s.opts.Dir, err)
	}
	return nil
}

// Remove closes the store and removes everything under its directory.
func (s *Store) Remove() error {
	err := s.Close()
	if rerr := s.fs.RemoveAll(s.opts.Dir); err == nil && rerr != nil {
		err = fmt.Errorf("state: removing %s: %w", s.opts.Dir, rerr)
	}
	return err
}

// pebbleLog hands Pebble's log on.
type pebbleLog struct{ log *slog.Logger }

func (l pebbleLog) Infof(format string, args ...any) {
	if l.log.Enabled(context.Background(), slog.LevelDebug) {
		l.log.Debug("pebble", "message", fmt.Sprintf(format, args...))
	}
}

func (l pebbleLog) Errorf(format string, args ...any) {
	l.log.Error("pebble", "message", fmt.Sprintf(format, args...))
}

// Fatalf must not return: Pebble's state is broken, and so is this process's.
func (l pebbleLog) Fatalf(format string, args ...any) {
	l.Errorf(format, args...)
	panic("state: pebble: " + fmt.Sprintf(format, args...))
}
