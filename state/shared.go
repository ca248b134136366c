package state

import (
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2"
)

// SharedOptions configures a Shared. A zero field means its default.
type SharedOptions struct {
	CacheBytes  int64 // block cache of all stores; 64 MiB
	OpenFiles   int   // files that Pebble keeps open; 4,096
	Compactions int   // compactions that run at a time; half the CPUs, at least 1
	Fetches     int   // objects fetched at a time, by all stores; 16
}

func (o SharedOptions) withDefaults() SharedOptions {
	if o.CacheBytes == 0 {
		o.CacheBytes = 64 << 20
	}
	if o.OpenFiles == 0 {
		o.OpenFiles = 4096
	}
	if o.Compactions == 0 {
		o.Compactions = max(1, runtime.GOMAXPROCS(0)/2)
	}
	if o.Fetches == 0 {
		o.Fetches = 16
	}
	return o
}

func (o SharedOptions) validate() error {
	var errs []error
	if o.CacheBytes < 1<<20 {
		errs = append(errs, fmt.Errorf("CacheBytes %d is below 1 MiB", o.CacheBytes))
	}
	if o.OpenFiles < 64 {
		errs = append(errs, fmt.Errorf("OpenFiles %d is below 64", o.OpenFiles))
	}
	if o.Compactions < 1 {
		errs = append(errs, fmt.Errorf("Compactions %d is below 1", o.Compactions))
	}
	if o.Fetches < 1 {
		errs = append(errs, fmt.Errorf("Fetches %d is below 1", o.Fetches))
	}
	if len(errs) > 0 {
		return fmt.Errorf("state: %w", errors.Join(errs...))
	}
	return nil
}

// A Shared is what the stores of one worker have in common: one block cache, one
// cache of open files, the turns of their compactions and fetches. The worker owns
// it and closes it after its stores.
type Shared struct {
	opts    SharedOptions
	cache   *pebble.Cache
	files   *pebble.FileCache
	fetches chan struct{} // holds a token per fetch that runs
	filters atomic.Int64  // bytes of all absence filters
	poke    chan struct{} // wakes the granter
	stop    chan struct{}
	done    sync.WaitGroup

	mu      sync.Mutex // guards what follows and the fields of queues
	idle    *sync.Cond // a queue's calls went to zero
	queues  []*queue
	running int // compactions that run now
}

// NewShared returns a Shared without stores.
func NewShared(o SharedOptions) (*Shared, error) {
	o = o.withDefaults()
	if err := o.validate(); err != nil {
		return nil, err
	}
	s := &Shared{
		opts:    o,
		cache:   pebble.NewCache(o.CacheBytes),
		files:   pebble.NewFileCache(runtime.GOMAXPROCS(0), o.OpenFiles),
		fetches: make(chan struct{}, o.Fetches),
		poke:    make(chan struct{}, 1),
		stop:    make(chan struct{}),
	}
	s.idle = sync.NewCond(&s.mu)
	s.done.Add(1)
	go s.grantLoop()
	return s, nil
}

// Memory returns the bytes that the stores hold outside the typed cache: the block
// cache (C memory when built with cgo, at its full size, so that it can be
// subtracted from a memory limit) and the absence filters.
func (s *Shared) Memory() (blocks, filters int64) {
	return s.opts.CacheBytes, s.filters.Load()
}

// Close releases the caches. Every store must be closed before.
func (s *Shared) Close() {
	close(s.stop)
	s.done.Wait()
	s.files.Unref()
	s.cache.Unref()
}
