package local

import (
	"os"
	"runtime/debug"
)

// TuneMemory lets the collector use what the state budget leaves: it works little
// while memory is there and hard before the budget plus 512 MiB is reached. Pebble's
// block cache, an eighth of the budget, is C memory that the collector does not see.
// GOGC and GOMEMLIMIT, where set, rule. It is for processes that are all Weir's.
func TuneMemory(stateBudget int64) {
	const working = 240 << 20 // batches, file buffers, the rest of the process
	if os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(stateBudget - stateBudget/8 + working)
	}
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(400)
	}
}

// tuneWorker is TuneMemory for a worker with a share of the budget: a small share is
// no reason to collect for ever what a job without state has in its hands.
func tuneWorker(share int64) { TuneMemory(max(share, 128<<20)) }
