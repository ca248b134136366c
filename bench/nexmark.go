package bench

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/weirstream/weir/bench/nexmark"
)

// NexmarkOptions configures a run of a Nexmark query. A zero field means its
// default.
type NexmarkOptions struct {
	Query       string        // required
	Events      int64         // 10,000,000
	Density     int64         // events per second of event time; 100,000
	Parallelism int           // 2
	StateBudget int64         // bytes; 1 GiB
	Interval    time.Duration // between checkpoints; 10s
	Dump        string        // folder for events and answer as Parquet; "": the answer is discarded
	Start       time.Time     // event time of the first event; the generator's
	Dir         string        // of the cluster; a temporary folder
	Log         *slog.Logger
}

func (o NexmarkOptions) withDefaults() NexmarkOptions {
	if o.Events == 0 {
		o.Events = 10_000_000
	}
	if o.Density == 0 {
		o.Density = 100_000
	}
	if o.Parallelism == 0 {
		o.Parallelism = 2
	}
	if o.StateBudget == 0 {
		o.StateBudget = 1 << 30
	}
	if o.Interval == 0 {
		o.Interval = 10 * time.Second
	}
	return o
}

func (o NexmarkOptions) validate() error {
	var errs []error
	if o.Events < 0 {
		errs = append(errs, fmt.Errorf("bench: Events is %d: want at least 1", o.Events))
	}
	if o.Density < 0 {
		errs = append(errs, fmt.Errorf("bench: Density is %d: want at least 1", o.Density))
	}
	if o.Parallelism < 0 {
		errs = append(errs, fmt.Errorf("bench: Parallelism is %d: want at least 1", o.Parallelism))
	}
	return errors.Join(errs...)
}

// NexmarkResult is one run of a query; the JSON of weir bench nexmark.
type NexmarkResult struct {
	Bench       string  `json:"bench"`
	Query       string  `json:"query"`
	Events      int64   `json:"events"`
	Parallelism int     `json:"parallelism"`
	PerSecond   float64 `json:"events_per_second"`
	PerCPU      float64 `json:"events_per_cpu_second"`
	Generator   float64 `json:"generator_cpu_seconds"` // for as many events, measured apart
	Usage
	AnswerRows int64             `json:"answer_rows,omitempty"` // with a dump
	Settings   map[string]string `json:"settings"`
	Machine    Machine           `json:"machine"`
	Commit     string            `json:"commit"`
}

// Nexmark runs a query.
func Nexmark(ctx context.Context, o NexmarkOptions) (r NexmarkResult, err error) {
	o = o.withDefaults()
	if err := o.validate(); err != nil {
		return r, err
	}
	q, err := nexmark.QueryNamed(o.Query)
	if err != nil {
		return r, err
	}
	r = NexmarkResult{
		Bench: "nexmark", Query: q.Name, Events: o.Events, Parallelism: o.Parallelism, Machine: ThisMachine(), Commit: Commit(),
		Settings: map[string]string{
			"density": strconv.FormatInt(o.Density, 10), "state_budget_bytes": strconv.FormatInt(o.StateBudget, 10),
			"checkpoint_interval": o.Interval.String(), "guarantee": "exactly_once", "sink": "discard",
		},
	}
	generator := nexmark.NewGenerator(nexmark.Config{Density: o.Density, Start: o.Start})
	r.Generator = generatorCPU(generator, o.Events)
	params := map[string]string{"events": strconv.FormatInt(o.Events, 10), "density": strconv.FormatInt(o.Density, 10)}
	if !o.Start.IsZero() {
		params["start"] = strconv.FormatInt(o.Start.UnixMicro(), 10)
	}
	lines := ""
	if o.Dump != "" {
		if o.Dump, err = filepath.Abs(o.Dump); err != nil {
			return r, err
		}
		lines = filepath.Join(o.Dump, q.Name+".lines")
		if err := os.RemoveAll(lines); err != nil { // of an earlier run
			return r, err
		}
		params["answer"], r.Settings["sink"] = lines, "files"
		if err := nexmark.DumpEvents(generator, o.Events, o.Dump); err != nil {
			return r, err
		}
	}
	if r.Usage, err = Run(ctx, Job{Name: q.Name, Build: q.Build, Params: params, Parallelism: o.Parallelism,
		StateBudget: o.StateBudget, Interval: o.Interval, Dir: o.Dir, Log: o.Log}); err != nil {
		return r, err
	}
	r.PerSecond, r.PerCPU = rate(o.Events, r.Seconds), rate(o.Events, r.CPUSeconds)
	if lines != "" {
		if r.AnswerRows, err = q.Convert(lines, filepath.Join(o.Dump, q.Name+".parquet")); err != nil {
			return r, err
		}
		err = os.RemoveAll(lines)
	}
	return r, err
}

// generatorCPU returns the CPU seconds that making n events takes.
func generatorCPU(g *nexmark.Generator, n int64) float64 {
	before := cpuTime()
	rows := make([]nexmark.Event, 1024)
	for i := range n {
		at := i % int64(len(rows))
		if at == 0 {
			clear(rows)
		}
		g.Fill(i, &rows[at])
	}
	return (cpuTime() - before).Seconds()
}
