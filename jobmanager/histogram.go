package jobmanager

import (
	"sync"
	"time"
)

// heldBuckets are upper bounds of a Histogram, in seconds.
var heldBuckets = [...]float64{10e-6, 25e-6, 50e-6, 100e-6, 250e-6, 500e-6, 1e-3, 2.5e-3, 5e-3, 10e-3, 25e-3, 50e-3, 100e-3, 250e-3, 1}

// A Histogram counts times, as Prometheus does.
type Histogram struct {
	Count   uint64             `json:"count"`
	Sum     float64            `json:"sum_seconds"`
	Buckets map[float64]uint64 `json:"-"` // by upper bound in seconds, each with those below
}

// histogram is filled by one goroutine and read by any.
type histogram struct {
	mu     sync.Mutex
	count  uint64
	sum    time.Duration
	counts [len(heldBuckets)]uint64 // of each bucket alone
}

func (h *histogram) add(d time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.count++
	h.sum += d
	for i, le := range heldBuckets {
		if d.Seconds() <= le {
			h.counts[i]++
			return
		}
	}
}

func (h *histogram) snapshot() Histogram {
	h.mu.Lock()
	defer h.mu.Unlock()
	out := Histogram{Count: h.count, Sum: h.sum.Seconds(), Buckets: map[float64]uint64{}}
	n := uint64(0)
	for i, le := range heldBuckets {
		n += h.counts[i]
		out.Buckets[le] = n
	}
	return out
}
