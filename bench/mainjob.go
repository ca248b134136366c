package bench

import (
	"context"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/weirstream/weir/bench/mainjob"
	"github.com/weirstream/weir/internal/clock"
	"github.com/weirstream/weir/jobmanager"
	"github.com/weirstream/weir/stream"
)

// MainJobOptions configures a run of the main job or a part of it. A zero field
// means its default.
type MainJobOptions struct {
	Workload    string        // one of Workloads; required
	Brokers     string        // of Kafka; required unless the records are made in the job
	Kafka       string        // what the broker is, for people
	Events      int64         // 5,000,000
	Keys        int           // users; 10,000. The topic holds records of as many
	Parallelism int           // 2
	StateBudget int64         // bytes; 1 GiB
	Interval    time.Duration // between checkpoints; 1s
	Log         *slog.Logger

	// For the latency workload.
	Rate      int64  // records per second; 10,000
	Guarantee string // exactly_once, at_least_once or none; exactly_once
	// Pace sends records and takes latencies, in a process of its own.
	Pace func(ctx context.Context) (mainjob.Latencies, error)
	// Floor takes those of the same records through one topic and no job, before
	// the job starts; nil: not taken.
	Floor func(ctx context.Context) (mainjob.Latencies, error)
	Idle  time.Duration     // after the last record, to see what the job costs without any; 0: not seen
	Kgo   map[string]string // client properties of both connectors
}

// The workloads.
const (
	KafkaDelta   = "kafka-actor-delta"
	KafkaNothing = "kafka-nothing"
	KafkaCount   = "kafka-count"
	MadeActor    = "made-actor-nothing"
	Latency      = "latency"
)

// Workloads returns those of throughput, in the order in which all runs them.
func Workloads() []string { return []string{KafkaDelta, KafkaNothing, KafkaCount, MadeActor} }

func (o MainJobOptions) withDefaults() MainJobOptions {
	if o.Events == 0 {
		o.Events = 5_000_000
	}
	if o.Parallelism == 0 {
		o.Parallelism = 2
	}
	if o.StateBudget == 0 {
		o.StateBudget = 1 << 30
	}
	if o.Interval == 0 {
		o.Interval = time.Second
	}
	if o.Keys == 0 {
		o.Keys = 10_000
	}
	if o.Rate == 0 {
		o.Rate = 10_000
	}
	if o.Guarantee == "" {
		o.Guarantee = "exactly_once"
	}
	return o
}

// MainJobResult is one run; the JSON of weir bench mainjob.
type MainJobResult struct {
	Bench       string  `json:"bench"`
	Workload    string  `json:"workload"`
	Events      int64   `json:"events"`
	Parallelism int     `json:"parallelism"`
	PerSecond   float64 `json:"events_per_second"`
	PerCPU      float64 `json:"events_per_cpu_second"`
	Usage
	// Of the latency workload: CPU time of this process while records came and
	// while none did; from planned send to arrival through the job; and without it.
	LoadCPU  float64            `json:"cpu_ms_per_second,omitempty"`
	IdleCPU  float64            `json:"idle_cpu_ms_per_second,omitempty"`
	Latency  *mainjob.Latencies `json:"latency,omitempty"`
	Floor    *mainjob.Latencies `json:"floor,omitempty"`
	Settings map[string]string  `json:"settings"`
	Machine  Machine            `json:"machine"`
	Commit   string             `json:"commit"`
}

// MainJob runs a workload; its topic holds the records already.
func MainJob(ctx context.Context, o MainJobOptions) (r MainJobResult, err error) {
	o = o.withDefaults()
	builds := map[string]func(*stream.Graph) error{
		KafkaDelta: mainjob.KafkaToDelta, KafkaNothing: mainjob.KafkaToNothing, KafkaCount: mainjob.KafkaToCount,
		MadeActor: mainjob.MadeToActors, Latency: mainjob.KafkaToKafka,
	}
	build := builds[o.Workload]
	if build == nil {
		return r, fmt.Errorf("bench: there is no workload %q: there are %s and %s", o.Workload, strings.Join(Workloads(), ", "), Latency)
	}
	if o.Brokers == "" && o.Workload != MadeActor {
		return r, fmt.Errorf("bench: workload %s needs a Kafka broker", o.Workload)
	}
	r = MainJobResult{
		Bench: "mainjob", Workload: o.Workload, Events: o.Events, Parallelism: o.Parallelism, Machine: ThisMachine(), Commit: Commit(),
		Settings: map[string]string{"checkpoint_interval": o.Interval.String(), "state_budget_bytes": strconv.FormatInt(o.StateBudget, 10),
			"record_bytes": strconv.Itoa(mainjob.RecordBytes), "keys": strconv.Itoa(o.Keys), "broker": o.Kafka},
	}
	j := Job{Name: o.Workload, Build: build, Parallelism: o.Parallelism, StateBudget: o.StateBudget, Interval: o.Interval, Log: o.Log,
		Settings: map[string]string{"connections.kafka.default.bootstrap.servers": o.Brokers}}
	for k, v := range o.Kgo {
		j.Settings["connections.kafka.default."+k] = v
		r.Settings[k] = v
	}
	switch o.Workload {
	case MadeActor:
		j.Params = map[string]string{"events": strconv.FormatInt(o.Events, 10), "keys": strconv.Itoa(o.Keys)}
		r.Settings["broker"] = "none"
	case Latency:
		r.Settings["guarantee"], r.Settings["rate"] = o.Guarantee, strconv.FormatInt(o.Rate, 10)
		return paced(ctx, o, r, j)
	}
	if r.Usage, err = Run(ctx, j); err != nil {
		return r, err
	}
	r.PerSecond, r.PerCPU = rate(o.Events, r.Seconds), rate(o.Events, r.CPUSeconds)
	return r, nil
}

// paced runs the latency workload until the sender has its figures and the job has
// idled.
func paced(ctx context.Context, o MainJobOptions, r MainJobResult, j Job) (MainJobResult, error) {
	if o.Floor != nil {
		floor, err := o.Floor(ctx)
		if err != nil {
			return r, fmt.Errorf("bench: without the job: %w", err)
		}
		r.Floor = &floor
	}
	type outcome struct {
		l          mainjob.Latencies
		load, idle float64
		err        error
	}
	var result atomic.Pointer[outcome]
	wall := clock.Wall()
	j.Poll = 250 * time.Millisecond // of a run that has time: looking is not free either
	j.Params = map[string]string{"guarantee": o.Guarantee}
	j.Started = func(ctx context.Context) error {
		go func() {
			got := new(outcome)
			got.load, got.err = CPU(func() (err error) {
				got.l, err = o.Pace(ctx)
				return err
			})
			if o.Idle > 0 && got.err == nil {
				got.err = clock.Sleep(ctx, wall, settle)
			}
			if o.Idle > 0 && got.err == nil {
				got.idle, got.err = CPU(func() error { return clock.Sleep(ctx, wall, o.Idle) })
			}
			result.Store(got)
		}()
		return nil
	}
	j.Enough = func(jobmanager.Info) bool { return result.Load() != nil }
	var err error
	if r.Usage, err = Run(ctx, j); err != nil {
		return r, err
	}
	got := result.Load()
	if got.err != nil {
		return r, got.err
	}
	r.Latency, r.Events, r.LoadCPU, r.IdleCPU = &got.l, got.l.Received, got.load, got.idle
	r.PerSecond, r.PerCPU = rate(r.Events, r.Seconds), rate(r.Events, r.CPUSeconds)
	return r, nil
}

// settle is how long after the last record a job counts as idle.
const settle = 2 * time.Second
