package driver

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/weirstream/weir/deltalake"
	"github.com/weirstream/weir/internal/clock"
	"github.com/weirstream/weir/stream/spi"
)

const (
	compactEvery  = time.Second     // at least between two compactions
	compactRest   = 3               // times what the last one took, after it
	compactPatrol = 5 * time.Minute // at most, after failures
	compactBytes  = 256 << 20       // of the files that one compaction reads
	paceEvery     = 20 * time.Millisecond
)

// A compactor merges a table's small files beside the commits of its sink, one step
// at a time on one goroutine. It never holds a commit up: a step is a commit of its own
// without row changes, over which the sink's blind appends rebase, and which gives way
// to whoever changed the same files. It knows no epoch and takes part in no
// checkpoint: what a crash or Close leaves behind are files that no version names.
//
// It works at most half of the time, and rests three times as long as a step took.
type compactor struct {
	table *deltalake.Table
	opts  deltalake.CompactOptions
	name  string
	log   *slog.Logger
	clock clock.Clock
	count func(metric string, n int64)
	wake  chan struct{}

	// Owned by the committer's goroutine.
	recent  map[string]int // files added to a partition since the last wake-up
	started bool
	stop    context.CancelFunc

	ended  sync.WaitGroup
	worked time.Duration // monotonic time of the last pause of a step; owned by the goroutine
}

func newCompactor(o *opened, env spi.Env, c clock.Clock) *compactor {
	k := &compactor{
		table: o.table, name: o.cfg.path, log: env.Log, clock: c, count: env.Count, wake: make(chan struct{}, 1), recent: map[string]int{},
		opts: deltalake.CompactOptions{
			TargetBytes: o.cfg.fileSize, MinFiles: o.cfg.minFiles, MaxBytes: compactBytes,
			File: deltalake.FileOptions{Compression: o.cfg.compression, RowGroupBytes: min(64<<20, o.cfg.fileSize)},
		},
	}
	k.opts.Pace = k.pace
	return k
}

// added notes the files of a commit and wakes the goroutine when a partition may
// have got enough of them; the first commit always does, for what is there already
// is not known.
func (k *compactor) added(adds []*deltalake.AddFile) {
	due := !k.started
	for _, a := range adds {
		if a.Size >= k.opts.TargetBytes*3/4 {
			continue
		}
		key := a.PartitionKey()
		k.recent[key]++
		due = due || k.recent[key] >= max(2, k.opts.MinFiles/2)
	}
	if !due {
		return
	}
	clear(k.recent)
	if !k.started {
		k.started = true
		var ctx context.Context
		ctx, k.stop = context.WithCancel(context.Background())
		k.ended.Go(func() { k.run(ctx) })
	}
	select {
	case k.wake <- struct{}{}:
	default:
	}
}

// close ends the goroutine and waits for it.
func (k *compactor) close() {
	if k.started {
		k.stop()
		k.ended.Wait()
	}
}

// run makes steps while there is something to do, and waits for the next wake-up.
func (k *compactor) run(ctx context.Context) {
	failures := 0
	for {
		select {
		case <-k.wake:
		case <-ctx.Done():
			return
		}
		for more := true; more; {
			var err error
			began := k.clock.Monotonic()
			k.worked = began
			more, err = k.step(ctx)
			var unsupported *deltalake.UnsupportedError
			switch {
			case ctx.Err() != nil:
				return
			case errors.As(err, &unsupported):
				k.log.Info("delta sink: the table cannot be compacted; its small files stay", "table", k.name, "reason", err)
				return
			case err != nil:
				failures++
				k.log.Warn("delta sink: a compaction failed and is tried again", "table", k.name, "failures", failures, "error", err)
			default:
				failures = 0
			}
			pause := max(compactEvery, compactRest*(k.clock.Monotonic()-began))
			for range min(failures, 10) {
				pause = min(2*pause, max(pause, compactPatrol))
			}
			if clock.Sleep(ctx, k.clock, pause) != nil {
				return
			}
		}
	}
}

// step merges once and tells whether there may be more to do.
func (k *compactor) step(ctx context.Context) (more bool, err error) {
	m, err := k.table.Compact(ctx, k.opts)
	var conflict *deltalake.ConflictError
	if errors.As(err, &conflict) {
		k.log.Debug("delta sink: a compaction gave way", "table", k.name, "to", conflict)
		return true, nil
	}
	if m == nil || !m.Committed {
		return err != nil, err
	}
	k.count("sink_compactions_total", 1)
	k.count("sink_compacted_files_total", int64(m.FilesRemoved))
	k.log.Debug("delta sink: small files were merged", "table", k.name, "version", m.Version, "files", m.FilesRemoved, "into", m.FilesAdded, "bytes", m.BytesAdded)
	return true, err
}

// pace rests as long as it was worked since the last rest.
func (k *compactor) pace(ctx context.Context) error {
	now := k.clock.Monotonic()
	busy := now - k.worked
	if busy < paceEvery {
		return nil
	}
	err := clock.Sleep(ctx, k.clock, busy)
	k.worked = k.clock.Monotonic()
	return err
}
