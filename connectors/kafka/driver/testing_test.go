package driver

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"reflect"
	"sync"
	"testing"
	"time"
	"unsafe"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/weirstream/weir/dataflow"
	"github.com/weirstream/weir/internal/clock"
	"github.com/weirstream/weir/stream/spi"
)

// rows is a batch for tests.
type rows[T any] struct {
	values []T
	head   spi.Head
}

func (b *rows[T]) Len() int             { return len(b.values) }
func (b *rows[T]) Head() *spi.Head      { return &b.head }
func (b *rows[T]) Elem() reflect.Type   { return reflect.TypeFor[T]() }
func (b *rows[T]) Base() unsafe.Pointer { return unsafe.Pointer(unsafe.SliceData(b.values)) }
func (b *rows[T]) Extend(n int) unsafe.Pointer {
	at := len(b.values)
	b.values = append(b.values, make([]T, n)...)
	b.head.Times = append(b.head.Times, make([]int64, n)...)
	return unsafe.Pointer(&b.values[at : at+n : len(b.values)][0])
}
func (b *rows[T]) Append(src spi.Batch, from, to int) {
	b.values = append(b.values, src.(*rows[T]).values[from:to]...)
	b.head.Times = append(b.head.Times, src.Head().Times[from:to]...)
}
func (b *rows[T]) Truncate(n int) {
	clear(b.values[n:])
	b.values, b.head.Times = b.values[:n], b.head.Times[:n]
}
func (b *rows[T]) Reset()              { b.Truncate(0) }
func (b *rows[T]) New(n int) spi.Batch { return &rows[T]{values: make([]T, 0, n)} }
func batchOf[T any](v ...T) *rows[T] {
	return &rows[T]{values: v, head: spi.Head{Times: make([]int64, len(v))}}
}

// jsonCodec is the value codec of tests.
type jsonCodec[T any] struct{}

func (jsonCodec[T]) Schema() string { return "" }
func (jsonCodec[T]) Append(dst []byte, p unsafe.Pointer) ([]byte, error) {
	b, err := json.Marshal((*T)(p))
	return append(dst, b...), err
}
func (jsonCodec[T]) Decode(src []byte, p unsafe.Pointer, _ *spi.Arena) error {
	return json.Unmarshal(src, (*T)(p))
}

// event is a row of tests.
type event struct {
	ID   int    `json:"id"`
	User string `json:"user"`
}

// world is what a test's operators share: counters and wake-ups.
type world struct {
	mu     sync.Mutex
	counts map[string]int64
	wake   chan struct{}
}

func newWorld() *world { return &world{counts: map[string]int64{}, wake: make(chan struct{}, 1)} }

func (w *world) count(name string) int64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.counts[name]
}

// await waits for a wake-up.
func (w *world) await(t *testing.T) {
	t.Helper()
	select {
	case <-w.wake:
	case <-time.After(time.Minute):
		t.Fatal("no wake-up for a minute")
	}
}

func (w *world) env(operator string, index, parallelism int, c dataflow.Connector, brokers []string) spi.Env {
	return envOf[event](w, operator, index, parallelism, c, brokers)
}

func envOf[T any](w *world, operator string, index, parallelism int, c dataflow.Connector, brokers []string) spi.Env {
	settings := map[string]string{}
	for i, b := range brokers {
		if i > 0 {
			settings["connections.kafka.default.bootstrap.servers"] += ","
		}
		settings["connections.kafka.default.bootstrap.servers"] += b
	}
	return spi.Env{
		Pipeline: "pipe", Operator: dataflow.OperatorID(operator), Attempt: 1, Index: index, Parallelism: parallelism,
		Connector: c, Settings: settings, Elem: reflect.TypeFor[T](), Value: jsonCodec[T]{},
		Log: slog.New(slog.NewTextHandler(io.Discard, nil)),
		Now: func() int64 { return 0 },
		Wake: func() {
			select {
			case w.wake <- struct{}{}:
			default:
			}
		},
		Count: func(metric string, n int64) {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.counts[metric] += n
		},
	}
}

// hasty is a clock that runs twenty times as fast, so that a try may take its time and
// the wait for what does not come is over soon.
type hasty struct{ clock.Clock }

func (h hasty) Monotonic() time.Duration { return 20 * h.Clock.Monotonic() }

func (h hasty) NewTimer(d time.Duration) clock.Timer { return h.Clock.NewTimer(d / 20) }

// cluster starts a fake cluster with topics of so many partitions.
func cluster(t *testing.T, topics map[string]int32, opts ...kfake.Opt) *kfake.Cluster {
	t.Helper()
	opts = append(opts, kfake.NumBrokers(1))
	for name, n := range topics {
		opts = append(opts, kfake.SeedTopics(n, name))
	}
	c, err := kfake.NewCluster(opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func client(t *testing.T, brokers []string, opts ...kgo.Opt) *kgo.Client {
	t.Helper()
	cl, err := kgo.NewClient(append(opts, kgo.SeedBrokers(brokers...), kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.DisableClientMetrics(), kgo.MetadataMinAge(10*time.Millisecond))...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cl.Close)
	return cl
}

func record(topic string, partition int32, value string) *kgo.Record {
	return &kgo.Record{Topic: topic, Partition: partition, Key: []byte("k"), Value: []byte(value)}
}

func produce(t *testing.T, cl *kgo.Client, recs ...*kgo.Record) {
	t.Helper()
	if err := cl.ProduceSync(context.Background(), recs...).FirstErr(); err != nil {
		t.Fatal(err)
	}
}

// events makes n records with ids from on.
func events(topic string, partition int32, from, n int) (out []*kgo.Record) {
	for i := range n {
		out = append(out, record(topic, partition, fmt.Sprintf(`{"id":%d,"user":"u%d"}`, from+i, i%7)))
	}
	return out
}

// drain polls until want rows came or, with want < 0, the reader has ended.
func drain[T any](t *testing.T, r spi.Reader, w *world, want int) (out []T, bad []spi.Rejected) {
	t.Helper()
	for {
		if want >= 0 && len(out)+len(bad) >= want {
			return out, bad
		}
		if want < 0 && r.Ended() {
			return out, bad
		}
		var b rows[T]
		_, n, err := r.Poll(&b, 100, &bad)
		if err != nil {
			t.Fatal(err)
		}
		if n != b.Len() || len(b.head.Times) != n {
			t.Fatalf("Poll says %d rows, the batch has %d with %d times", n, b.Len(), len(b.head.Times))
		}
		out = append(out, b.values...)
		if n == 0 && !(want < 0 && r.Ended()) && len(out)+len(bad) < want || n == 0 && want < 0 && !r.Ended() {
			w.await(t)
		}
	}
}
