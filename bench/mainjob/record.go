package mainjob

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// A Record is one event of the workload.
type Record struct {
	ID      int64   `json:"id"`
	User    string  `json:"user"`
	Type    string  `json:"type"`
	Product int64   `json:"product"`
	Price   float64 `json:"price"`
	At      int64   `json:"at"` // microseconds since 1970 UTC
	Note    string  `json:"note"`
}

// RecordBytes is the length of every record.
const RecordBytes = 255

// A Maker makes records by number. It is immutable and safe for concurrent use.
type Maker struct {
	names string // of all users, each userBytes long: records must not cost the source a cache miss each
	users uint64
	note  string
}

const userBytes = len("user-000000")

// MostUsers is how many users there may be.
const MostUsers = 1_000_000

var types = [...]string{"view", "search", "add_to_cart", "checkout"}

// NewMaker returns a Maker of records of so many users, at most MostUsers, which are
// the keys.
func NewMaker(users int) *Maker {
	var names strings.Builder
	for i := range users {
		fmt.Fprintf(&names, "user-%06d", i%MostUsers)
	}
	return &Maker{names: names.String(), users: uint64(users), note: strings.Repeat("the quick brown fox jumps over the lazy dog ", 6)}
}

// Fill sets *r to record i.
func (m *Maker) Fill(i int64, r *Record) {
	x := mix(uint64(i))
	user := int(x%m.users) * userBytes
	*r = Record{ID: i, User: m.names[user : user+userBytes], Type: types[x>>20%uint64(len(types))], Product: int64(x >> 24 % 50_000),
		Price: float64(x>>40%100_000) / 100, At: epoch + i*10}
	r.Note = m.note[:120]
}

const epoch = 1_760_000_000_000_000

// AppendJSON appends record i, RecordBytes long.
func (m *Maker) AppendJSON(dst []byte, i, at int64) []byte {
	var r Record
	m.Fill(i, &r)
	from := len(dst)
	dst = fmt.Appendf(dst, `{"id":%d,"user":%q,"type":%q,"product":%d,"price":%.2f,"at":%d,"note":"`, r.ID, r.User, r.Type, r.Product, r.Price, at)
	dst = append(dst, m.note[:RecordBytes-2-(len(dst)-from)]...)
	return append(dst, `"}`...)
}

// At returns the time of record i.
func At(i int64) int64 { return epoch + i*10 }

func mix(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// CreateTopic creates a topic if it is absent.
func CreateTopic(ctx context.Context, brokers, topic string, partitions int32) error {
	cl, err := kgo.NewClient(kgo.SeedBrokers(strings.Split(brokers, ",")...))
	if err != nil {
		return err
	}
	defer cl.Close()
	req := kmsg.NewPtrCreateTopicsRequest()
	t := kmsg.NewCreateTopicsRequestTopic()
	t.Topic, t.NumPartitions, t.ReplicationFactor = topic, partitions, 1
	req.Topics, req.TimeoutMillis = append(req.Topics, t), 10_000
	resp, err := req.RequestWith(ctx, cl)
	if err != nil {
		return err
	}
	for _, t := range resp.Topics {
		if err := kerr.ErrorForCode(t.ErrorCode); err != nil && !errors.Is(err, kerr.TopicAlreadyExists) {
			return fmt.Errorf("topic %s: %w", t.Topic, err)
		}
	}
	return nil
}

// Load writes records 0 to n-1 of so many users into a topic, dealt to its
// partitions.
func Load(ctx context.Context, brokers, topic string, n int64, users int) error {
	cl, err := kgo.NewClient(kgo.SeedBrokers(strings.Split(brokers, ",")...), kgo.DefaultProduceTopic(topic),
		kgo.RecordPartitioner(kgo.RoundRobinPartitioner()), kgo.ProducerBatchMaxBytes(900<<10), kgo.MaxBufferedRecords(200_000),
		kgo.ProducerBatchCompression(kgo.NoCompression()))
	if err != nil {
		return err
	}
	defer cl.Close()
	m := NewMaker(users)
	var mu sync.Mutex
	var first error
	for i := range n {
		cl.Produce(ctx, &kgo.Record{Value: m.AppendJSON(make([]byte, 0, RecordBytes), i, At(i))}, func(_ *kgo.Record, err error) {
			if err != nil {
				mu.Lock()
				first = errors.Join(first, err)
				mu.Unlock()
			}
		})
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
	if err := cl.Flush(ctx); err != nil {
		return err
	}
	mu.Lock()
	defer mu.Unlock()
	return first
}
