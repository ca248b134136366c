package bench

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"os"
	"slices"
	"sync/atomic"
	"time"

	"github.com/weirstream/weir/checkpoint"
	"github.com/weirstream/weir/connectors/gen"
	"github.com/weirstream/weir/internal/clock"
	"github.com/weirstream/weir/jobmanager"
	"github.com/weirstream/weir/jobmanager/fsm"
	"github.com/weirstream/weir/local"
	"github.com/weirstream/weir/stream"
)

// StateOptions configures State. All fields are required but Log.
type StateOptions struct {
	Keys        int64         // loaded
	Touched     int64         // keys touched per epoch, drawn uniformly
	Epochs      int           // of touching
	Interval    time.Duration // of an epoch of touching
	Parallelism int
	Budget      int64 // bytes for state
	Log         *slog.Logger
}

// StateResult is what State measured.
type StateResult struct {
	Bench       string  `json:"bench"`
	Keys        int64   `json:"keys"`
	Touched     int64   `json:"touched_per_epoch"`
	Budget      int64   `json:"budget_bytes"`
	RSSBytes    int64   `json:"rss_bytes"` // peak of the process
	LoadSeconds float64 `json:"load_seconds"`
	LoadedBytes int64   `json:"loaded_bytes"` // named by the checkpoint after the load
	FullMS      float64 `json:"full_checkpoint_ms"`
	// The epochs of touching; Uploaded is without the first, which may hold what
	// the load left.
	Epochs        int     `json:"epochs"`
	EpochMS       float64 `json:"epoch_p50_ms"`
	EpochP99      float64 `json:"epoch_p99_ms"`
	HeldMS        float64 `json:"held_p50_ms"` // how long an epoch kept its slowest subtask from its rows
	HeldP99       float64 `json:"held_p99_ms"`
	EpochBytes    int64   `json:"epoch_p50_bytes"`
	Uploaded      int64   `json:"uploaded_bytes"`
	Changed       int64   `json:"changed_bytes"` // rows touched × bytes of a row
	Amplification float64 `json:"uploaded_per_changed"`
	RestoreMS     float64 `json:"restore_to_first_record_ms"`
	Machine       Machine `json:"machine"`
	Commit        string  `json:"commit"`
}

const (
	probeRows     = 1000                   // of the run that restores
	stateFields   = 12                     // int64 fields of an entry, 96 bytes, and a count
	stateRowBytes = 16 + stateFields*5 + 3 // about what a row takes encoded: its key and varints of random 32-bit numbers
)

type touch struct{ Key int64 }

// A stateJob is what the runs share.
type stateJob struct {
	wall     clock.Clock
	firstRow atomic.Int64 // when the first row met its actor, monotonic nanoseconds; 0: not yet
}

func (j *stateJob) entry() *keyed { return &keyed{job: j} }

// keyed is the state of one key, about 100 bytes, with the way back to the bench.
type keyed struct {
	N   int32
	V   [stateFields]int64
	job *stateJob `state:"-"`
}

// Receive touches the entry.
func (k *keyed) Receive(_ stream.Context[touch], t touch) {
	if k.job.firstRow.Load() == 0 {
		k.job.firstRow.CompareAndSwap(0, int64(k.job.wall.Monotonic()))
	}
	k.N++
	x := uint64(t.Key)*0x9e3779b97f4a7c15 + uint64(k.N)
	for i := range k.V {
		x ^= x >> 29
		x *= 0xbf58476d1ce4e5b9
		k.V[i] = int64(x >> 32)
	}
}

// build makes a job whose source has a name of its own, so that each run starts
// its source anew over the same state.
func (j *stateJob) build(source string, rate float64, key func(i int64) int64) local.Build {
	return func(g *stream.Graph) error {
		options := []gen.Option{gen.Splits(2)}
		if rate > 0 {
			options = append(options, gen.Rate(rate))
		}
		rows := stream.Read(g, source, gen.Sequence(math.MaxInt64/8, func(i int64) touch { return touch{key(i)} }, options...))
		byKey := stream.KeyBy(rows, func(t touch) int64 { return t.Key })
		stream.Discard(stream.Actors(byKey, "entries", j.entry), "nothing")
		return nil
	}
}

// State loads many keys into a small budget, then touches few of them per epoch,
// then restores, and measures what each costs.
func State(ctx context.Context, o StateOptions) (r StateResult, err error) {
	dir, err := os.MkdirTemp("", "weir-bench-*")
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	j := &stateJob{wall: clock.Wall()}
	perEpoch := float64(o.Touched) / o.Interval.Seconds()
	uniform := func(i int64) int64 {
		x := uint64(i)*0x9e3779b97f4a7c15 + 0x1234567
		x = (x ^ x>>31) * 0xbf58476d1ce4e5b9
		return int64((x ^ x>>29) % uint64(o.Keys))
	}
	c, err := local.Start(ctx, local.Options{Dir: dir, StateBudget: o.Budget, Log: o.Log, Slots: max(6, o.Parallelism), Jobs: map[string]local.Build{
		"load":  j.build("load", 0, func(i int64) int64 { return i % o.Keys }),
		"touch": j.build("touch", perEpoch, uniform),
		"probe": j.build("probe", probeRows, uniform),
	}})
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, c.Close()) }()
	r = StateResult{Bench: "state", Keys: o.Keys, Touched: o.Touched, Budget: o.Budget, Machine: ThisMachine(), Commit: Commit()}

	began := j.wall.Monotonic()
	load, err := j.run(ctx, c, o, "load", o.Keys, time.Second)
	if err != nil {
		return r, err
	}
	r.LoadSeconds = (j.wall.Monotonic() - began).Seconds()
	for _, s := range load {
		if s.Bytes >= r.LoadedBytes {
			r.LoadedBytes = s.Bytes
		}
		r.FullMS = max(r.FullMS, float64(s.Duration.Microseconds())/1000)
	}
	touched, err := j.run(ctx, c, o, "touch", int64(o.Epochs+2)*o.Touched, o.Interval)
	if err != nil {
		return r, err
	}
	r.sum(touched)
	r.Changed = int64(r.Epochs) * o.Touched * stateRowBytes
	r.Amplification = float64(r.Uploaded) / float64(r.Changed)

	j.firstRow.Store(0)
	began = j.wall.Monotonic()
	if _, err := j.run(ctx, c, o, "probe", probeRows, time.Second); err != nil {
		return r, err
	}
	r.RestoreMS = float64((time.Duration(j.firstRow.Load()) - began).Microseconds()) / 1000
	r.RSSBytes = peakRSS()
	return r, nil
}

// sum takes the figures of the epochs of touching.
func (r *StateResult) sum(stats []checkpoint.Stat) {
	var took, held []time.Duration
	var fresh []int64
	for i, s := range stats {
		if i == 0 {
			continue
		}
		took, held, fresh = append(took, s.Duration), append(held, s.Held), append(fresh, s.NewBytes)
		r.Uploaded += s.NewBytes
	}
	r.Epochs = len(took)
	slices.Sort(took)
	slices.Sort(held)
	r.HeldMS, r.HeldP99 = Percentile(held, 0.5), Percentile(held, 0.99)
	slices.Sort(fresh)
	r.EpochMS, r.EpochP99 = Percentile(took, 0.5), Percentile(took, 0.99)
	if len(fresh) > 0 {
		r.EpochBytes = fresh[len(fresh)/2]
	}
}

// run runs one of the jobs over the pipeline's state and returns its completed
// epochs in order.
func (j *stateJob) run(ctx context.Context, c *local.Cluster, o StateOptions, job string, count int64, interval time.Duration) ([]checkpoint.Stat, error) {
	id, err := c.Run(ctx, local.RunRequest{Pack: job, Name: "state", Parallelism: o.Parallelism, SkipState: true,
		Options: fsm.Options{Checkpoint: checkpoint.Options{Interval: interval}, MaxRestarts: -1}})
	if err != nil {
		return nil, err
	}
	seen := map[int64]checkpoint.Stat{}
	var last jobmanager.Info
	stopped := make(chan error, 1)
	stopping := false
	if err := c.Wait(ctx, 20*time.Millisecond, func(infos []jobmanager.Info) {
		last = infos[slices.IndexFunc(infos, func(i jobmanager.Info) bool { return i.ID == id })]
		for _, s := range last.Checkpoints {
			if s.Status == "completed" || s.Status == "finished" {
				seen[int64(s.Epoch)] = s
			}
		}
		for _, op := range last.Operators {
			if op.Operator == "entries" && op.In >= count && !stopping {
				stopping = true
				go func() {
					_, err := c.Jobs.Stop(ctx, id, false)
					stopped <- err
				}()
			}
		}
	}); err != nil {
		return nil, err
	}
	if err := <-stopped; err != nil {
		return nil, err
	}
	if last.Phase != fsm.Finished {
		return nil, fmt.Errorf("bench: job %s is %s: %s", job, last.Phase, last.Reason)
	}
	out := make([]checkpoint.Stat, 0, len(seen))
	for _, s := range seen {
		out = append(out, s)
	}
	slices.SortFunc(out, func(a, b checkpoint.Stat) int { return int(a.Epoch) - int(b.Epoch) })
	return out, nil
}
