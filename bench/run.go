package bench

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/weirstream/weir/checkpoint"
	"github.com/weirstream/weir/dataflow"
	"github.com/weirstream/weir/internal/clock"
	"github.com/weirstream/weir/jobmanager"
	"github.com/weirstream/weir/jobmanager/fsm"
	"github.com/weirstream/weir/local"
	"github.com/weirstream/weir/stream"
)

// Job is a bounded job to run and measure.
type Job struct {
	Name        string
	Build       func(*stream.Graph) error
	Params      map[string]string
	Settings    map[string]string // named connections
	Parallelism int
	StateBudget int64                       // bytes
	Interval    time.Duration               // between checkpoints
	Dir         string                      // for everything the cluster writes; a temporary folder
	Log         *slog.Logger                // nil: none
	Poll        time.Duration               // between looks at the job; 50ms
	Started     func(context.Context) error // called when the job runs; may be nil
	// Enough says when the job is to be cancelled; nil: it ends by itself.
	Enough func(jobmanager.Info) bool
}

// Usage is what a run took.
type Usage struct {
	Seconds     float64     `json:"seconds"`
	CPUSeconds  float64     `json:"cpu_seconds"`
	StateBytes  int64       `json:"state_bytes"` // most that the runners' tables held
	Checkpoints Checkpoints `json:"checkpoints"`
	RSSBytes    int64       `json:"rss_bytes"` // peak of the process
	// What connectors counted by name, requests to brokers among it.
	Counts map[string]int64 `json:"counts,omitempty"`
}

// Checkpoints sums the completed checkpoints of a run.
type Checkpoints struct {
	Count int     `json:"count"`
	P50   float64 `json:"p50_ms"`
	P99   float64 `json:"p99_ms"`
	Bytes int64   `json:"bytes"` // uploaded
}

// Run runs a job to its end.
func Run(ctx context.Context, j Job) (u Usage, err error) {
	if j.Dir == "" {
		if j.Dir, err = os.MkdirTemp("", "weir-bench-*"); err != nil {
			return u, err
		}
		defer func() { err = errors.Join(err, os.RemoveAll(j.Dir)) }()
	}
	if j.Poll == 0 {
		j.Poll = 50 * time.Millisecond
	}
	c, err := local.Start(ctx, local.Options{Dir: j.Dir, StateBudget: j.StateBudget, Log: j.Log, Slots: max(6, j.Parallelism),
		Settings: j.Settings, Jobs: map[string]local.Build{j.Name: j.Build}})
	if err != nil {
		return u, err
	}
	defer func() { err = errors.Join(err, c.Close()) }()
	wall := clock.Wall()
	began, cpu := wall.Monotonic(), cpuTime()
	id, err := c.Run(ctx, local.RunRequest{Pack: j.Name, Params: j.Params, Parallelism: j.Parallelism,
		Options: fsm.Options{Checkpoint: checkpoint.Options{Interval: j.Interval}, MaxRestarts: -1}})
	if err != nil {
		return u, err
	}
	seen := map[dataflow.Epoch]checkpoint.Stat{}
	started := j.Started == nil
	enough := false
	var last jobmanager.Info
	err = c.Wait(ctx, j.Poll, func(infos []jobmanager.Info) {
		i := slices.IndexFunc(infos, func(i jobmanager.Info) bool { return i.ID == id })
		last = infos[i]
		state, counts := int64(0), map[string]int64{}
		for _, o := range last.Operators {
			state += o.State
			for name, n := range o.Counts {
				counts[name] += n
			}
		}
		if len(counts) > 0 { // the end takes them away
			u.Counts = counts
		}
		u.StateBytes = max(u.StateBytes, state)
		for _, s := range last.Checkpoints {
			seen[s.Epoch] = s
		}
		for _, e := range last.Epochs { // the last one, of which nobody is left to tell how long it took
			if s := seen[e.Epoch]; s.Status != "completed" && s.Status != "finished" {
				seen[e.Epoch] = checkpoint.Stat{Epoch: e.Epoch, Status: "finished"}
			}
		}
		if !started && last.Phase == fsm.Running {
			started = true
			if err := j.Started(ctx); err != nil {
				last.Reason = err.Error()
				_ = c.Jobs.Cancel(ctx, id)
			}
		}
		if !enough && j.Enough != nil && j.Enough(last) {
			enough = true
			u.Seconds, u.CPUSeconds = (wall.Monotonic() - began).Seconds(), (cpuTime() - cpu).Seconds()
			_ = c.Jobs.Cancel(ctx, id)
		}
	})
	if err != nil {
		return u, err
	}
	if !enough {
		u.Seconds, u.CPUSeconds = (wall.Monotonic() - began).Seconds(), (cpuTime() - cpu).Seconds()
	}
	u.RSSBytes = peakRSS()
	u.Checkpoints = sumCheckpoints(seen)
	if last.Phase != fsm.Finished && !enough {
		return u, fmt.Errorf("bench: job %s is %s: %s", j.Name, last.Phase, last.Reason)
	}
	return u, nil
}

func sumCheckpoints(seen map[dataflow.Epoch]checkpoint.Stat) (c Checkpoints) {
	var took []time.Duration
	for _, s := range seen {
		if s.Status != "completed" && s.Status != "finished" {
			continue
		}
		c.Count++
		c.Bytes += s.NewBytes
		if s.Duration > 0 {
			took = append(took, s.Duration)
		}
	}
	slices.Sort(took)
	c.P50, c.P99 = Percentile(took, 0.50), Percentile(took, 0.99)
	return c
}

// Percentile returns the p-th part of sorted durations in milliseconds, 0 if there
// are none.
func Percentile(sorted []time.Duration, p float64) float64 {
	if len(sorted) == 0 {
		return 0
	}
	i := min(int(p*float64(len(sorted))), len(sorted)-1)
	return float64(sorted[i].Microseconds()) / 1000
}

// LogTo returns a logger into a file of a folder, or none for an empty path.
func LogTo(path string) (log *slog.Logger, done func() error, err error) {
	if path == "" {
		return nil, func() error { return nil }, nil
	}
	f, err := os.OpenFile(filepath.Clean(path), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, nil, err
	}
	return slog.New(slog.NewTextHandler(f, nil)), f.Close, nil
}

// rate returns n per second of seconds, 0 if there were none.
func rate(n int64, seconds float64) float64 {
	if seconds <= 0 {
		return 0
	}
	return float64(n) / seconds
}
