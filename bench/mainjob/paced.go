package mainjob

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/weirstream/weir/internal/clock"
)

// PacedOptions says how records are sent for latencies to be taken.
type PacedOptions struct {
	Brokers   string
	To, From  string        // topics; Paced and Out. The same one twice takes the floor: no engine in between
	Rate      int64         // records per second
	Keys      int           // users
	Warm      time.Duration // not counted
	Run       time.Duration // counted
	Committed bool          // read what is committed only
}

// Latencies are the times from the planned send of a record to its arrival at a
// consumer of the output, in milliseconds.
type Latencies struct {
	Sent     int64   `json:"sent"`
	Received int64   `json:"received"`
	P50      float64 `json:"p50_ms"`
	P99      float64 `json:"p99_ms"`
	P999     float64 `json:"p99_9_ms"`
	Max      float64 `json:"max_ms"`
	// What sender and consumer, one process, did for it, the warm-up included.
	CPU             float64 `json:"sender_cpu_ms_per_second"`
	ProduceRequests int64   `json:"sender_produce_requests"`
	FetchRequests   int64   `json:"consumer_fetch_requests"`
}

// requests counts what a client sends, by kind.
type requests struct{ produce, fetch atomic.Int64 }

// OnBrokerWrite is called by the client for every request.
func (r *requests) OnBrokerWrite(_ kgo.BrokerMetadata, key int16, _ int, _, _ time.Duration, _ error) {
	switch kmsg.Key(key) {
	case kmsg.Produce:
		r.produce.Add(1)
	case kmsg.Fetch:
		r.fetch.Add(1)
	}
}

// Pace sends records on schedule, whatever becomes of them, and takes the time at
// which each comes out.
func Pace(ctx context.Context, o PacedOptions) (l Latencies, err error) {
	if o.To == "" {
		o.To = Paced
	}
	if o.From == "" {
		o.From = Out
	}
	var sent requests
	brokers := kgo.SeedBrokers(strings.Split(o.Brokers, ",")...)
	producer, err := kgo.NewClient(brokers, kgo.DefaultProduceTopic(o.To), kgo.ProducerLinger(0), kgo.WithHooks(&sent))
	if err != nil {
		return l, err
	}
	defer producer.Close()
	isolation := kgo.FetchIsolationLevel(kgo.ReadUncommitted())
	if o.Committed {
		isolation = kgo.FetchIsolationLevel(kgo.ReadCommitted())
	}
	consumer, err := kgo.NewClient(brokers, kgo.WithHooks(&sent), kgo.ConsumeTopics(o.From), kgo.ConsumeResetOffset(kgo.NewOffset().AtEnd()), isolation,
		kgo.FetchMaxWait(500*time.Millisecond), kgo.FetchMinBytes(1))
	if err != nil {
		return l, err
	}
	defer consumer.Close()
	wall := clock.Wall()
	begin := wall.Now().Add(500 * time.Millisecond).UnixMicro()
	counted, end := begin+o.Warm.Microseconds(), begin+(o.Warm+o.Run).Microseconds()
	total := o.Rate * (o.Warm + o.Run).Microseconds() / 1_000_000
	counts := o.Rate * o.Run.Microseconds() / 1_000_000
	var took []time.Duration
	received := make(chan error, 1)
	ctx, cancel := context.WithTimeout(ctx, o.Warm+o.Run+30*time.Second)
	defer cancel()
	go func() { received <- receive(ctx, consumer, wall, counted, end, counts, &took) }()
	if err := send(ctx, producer, wall, begin, total, o.Rate, o.Keys); err != nil {
		return l, err
	}
	if err := <-received; err != nil && !errors.Is(err, context.DeadlineExceeded) {
		return l, err
	}
	slices.Sort(took)
	l.Sent, l.Received = counts, int64(len(took))
	at := func(p float64) float64 {
		if len(took) == 0 {
			return 0
		}
		return float64(took[min(int(p*float64(len(took))), len(took)-1)].Microseconds()) / 1000
	}
	l.ProduceRequests, l.FetchRequests = sent.produce.Load(), sent.fetch.Load()
	l.P50, l.P99, l.P999, l.Max = at(0.5), at(0.99), at(0.999), at(1)
	return l, nil
}

// send makes the records that are due and hands them to the client in one go, about
// every millisecond: one request then takes them all.
func send(ctx context.Context, cl *kgo.Client, wall clock.Clock, begin, total, rate int64, keys int) error {
	m := NewMaker(keys)
	failed := make(chan error, 1)
	promise := func(_ *kgo.Record, err error) {
		if err != nil {
			select {
			case failed <- err:
			default:
			}
		}
	}
	var due []*kgo.Record
	for i := int64(0); i < total; {
		now := wall.Now().UnixMicro()
		due = due[:0]
		for ; i < total; i++ {
			at := begin + i*1_000_000/rate
			if at > now {
				break
			}
			due = append(due, &kgo.Record{Value: m.AppendJSON(make([]byte, 0, RecordBytes), i, at)})
		}
		for _, r := range due {
			cl.Produce(ctx, r, promise)
		}
		select {
		case err := <-failed:
			return err
		default:
		}
		if err := clock.Sleep(ctx, wall, 500*time.Microsecond); err != nil {
			return err
		}
	}
	return cl.Flush(ctx)
}

func receive(ctx context.Context, cl *kgo.Client, wall clock.Clock, from, to, counts int64, took *[]time.Duration) error {
	for int64(len(*took)) < counts {
		fetches := cl.PollFetches(ctx)
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := fetches.Err0(); err != nil {
			return err
		}
		now := wall.Now().UnixMicro()
		for it := fetches.RecordIter(); !it.Done(); {
			var row struct {
				At int64 `json:"at"`
			}
			if err := json.Unmarshal(it.Next().Value, &row); err != nil {
				return err
			}
			if row.At >= from && row.At < to {
				*took = append(*took, time.Duration(now-row.At)*time.Microsecond)
			}
		}
	}
	return nil
}
