package driver

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/weirstream/weir/dataflow"
	"github.com/weirstream/weir/internal/clock"
	"github.com/weirstream/weir/stream/spi"
)

// Source is the spi.SourceDriver of kind "kafka". The zero value is ready to use.
type Source struct {
	Clock clock.Clock // nil: the wall clock
}

// Check refuses a declaration that Open would refuse without asking a broker.
func (s Source) Check(c dataflow.Connector, settings map[string]string) error {
	_, err := readSource(c, settings, "", "")
	return err
}

// Open finds the partitions, fixes where each starts and ends, and starts to
// fetch those that this subtask owns. It waits at most startup_timeout for
// brokers and topics.
func (s Source) Open(ctx context.Context, env spi.Env, restored []dataflow.SplitState, _ spi.SourceRunner) (spi.Reader, error) {
	cfg, err := readSource(env.Connector, env.Settings, env.Pipeline, env.Operator)
	if err != nil {
		return nil, err
	}
	row, err := rowShapeOf(env)
	if err != nil {
		return nil, err
	}
	opts, err := clientOptions(sourceSide, cfg.props, env)
	if err != nil {
		return nil, err
	}
	client, err := kgo.NewClient(append(opts, cfg.fetchOptions()...)...)
	if err != nil {
		return nil, fmt.Errorf("kafka source: %w", err)
	}
	r := &reader{
		env: env, cfg: cfg, row: row, client: client, admin: kadm.NewClient(client),
		clock: s.Clock, numbers: map[string]int{}, arena: new(spi.Arena),
	}
	if r.clock == nil {
		r.clock = clock.Wall()
	}
	r.space = sync.NewCond(&r.mu)
	r.ctx, r.cancel = context.WithCancelCause(context.Background())
	if err := r.start(ctx, restored); err != nil {
		r.cancel(errClosed)
		client.Close()
		return nil, err
	}
	r.wg.Add(1)
	go r.fetch()
	if cfg.discovery > 0 && !cfg.bounded() {
		r.wg.Add(1)
		go r.discover()
	}
	return r, nil
}

var errClosed = errors.New("kafka source: closed")

func (c *sourceConfig) fetchOptions() []kgo.Opt {
	level := kgo.ReadUncommitted()
	if c.committed {
		level = kgo.ReadCommitted()
	}
	maxBytes := number(def(c.props["fetch.max.bytes"], strconv.Itoa(8<<20)))
	reset := kgo.NoResetOffset()
	switch c.reset {
	case "earliest":
		reset = kgo.NewOffset().AtStart()
	case "latest":
		reset = kgo.NewOffset().AtEnd()
	}
	return []kgo.Opt{
		kgo.FetchIsolationLevel(level),
		kgo.FetchMaxWait(millis(def(c.props["fetch.max.wait.ms"], "500"))),
		kgo.KeepControlRecords(), // a bounded split may end behind a transaction marker
		kgo.FetchMaxBytes(int32(maxBytes)),
		kgo.FetchMaxPartitionBytes(int32(min(maxBytes, number(def(c.props["max.partition.fetch.bytes"], strconv.Itoa(1<<20)))))),
		kgo.BrokerMaxReadBytes(int32(max(100<<20, 2*maxBytes))),
		kgo.ConsumeResetOffset(reset),
		kgo.WithPools(&pool{}),
	}
}

// A reader is the spi.Reader of one subtask.
type reader struct {
	env    spi.Env
	cfg    *sourceConfig
	row    rowShape
	client *kgo.Client
	admin  *kadm.Client
	clock  clock.Clock
	ctx    context.Context // done when closed
	cancel context.CancelCauseFunc
	wg     sync.WaitGroup

	// Owned by the subtask's turn.
	arena *spi.Arena
	head  chunk // being decoded; no records: none

	// mu guards what the turn shares with the goroutines.
	mu       sync.Mutex
	space    *sync.Cond // signalled when buffered falls, and at the end
	splits   []*split   // grows, never shrinks: the index is the split's number
	ids      []string
	numbers  map[string]int // by id
	queue    []chunk
	buffered int64 // bytes of queue and head
	failure  error // fatal; the next Poll returns it

	commit committing
}

// A split is one partition and how far it was handed out. next belongs to the
// turn once the reader has started.
type split struct {
	id        string
	topic     string
	partition int32
	next      int64 // offset after the last record handed out
	end       int64 // exclusive; -1: unbounded
	high      int64 // guarded by reader.mu: end of the partition as of the last fetch; -1 unknown
}

func (s *split) ended() bool { return s.end >= 0 && s.next >= s.end }

// position is how a split's state is stored.
type position struct {
	Next int64  `json:"next"`
	End  *int64 `json:"end,omitempty"`
}

func (s *split) state() dataflow.SplitState {
	b := append([]byte(nil), `{"next":`...)
	b = strconv.AppendInt(b, s.next, 10)
	if s.end >= 0 {
		b = append(b, `,"end":`...)
		b = strconv.AppendInt(b, s.end, 10)
	}
	return dataflow.SplitState{Split: s.id, Position: append(b, '}')}
}

// nextOf returns the offset that a state says to read next.
func nextOf(st dataflow.SplitState) (int64, error) {
	var p position
	if err := json.Unmarshal(st.Position, &p); err != nil {
		return 0, err
	}
	return p.Next, nil
}

// restore makes splits of the states that this subtask owns and that the
// declaration still names.
func (r *reader) restore(states []dataflow.SplitState, topics map[string]int) ([]*split, error) {
	var out []*split
	for _, st := range states {
		topic, partition, ok := parseSplit(st.Split)
		var p position
		if err := json.Unmarshal(st.Position, &p); err != nil || !ok || p.Next < 0 {
			return nil, fmt.Errorf("kafka source: restored state of split %q is damaged: %q", st.Split, st.Position)
		}
		if !spi.OwnsSplit(topic, int(partition), r.env.Index, r.env.Parallelism) {
			continue
		}
		count, named := topics[topic]
		if !named && !r.cfg.reads(topic) {
			r.env.Log.Warn("kafka source: a restored split is no longer read", "split", st.Split, "next", p.Next)
			continue
		}
		if int(partition) >= count {
			return nil, fmt.Errorf("kafka source: partition %d of topic %q is gone: the topic has %d; it was deleted or made anew since the checkpoint", partition, topic, count)
		}
		s := &split{id: st.Split, topic: topic, partition: partition, next: p.Next, end: -1, high: -1}
		if p.End != nil {
			s.end = *p.End
		}
		out = append(out, s)
	}
	return out, nil
}

func (c *sourceConfig) reads(topic string) bool {
	if c.pattern != nil {
		return c.pattern.MatchString(topic)
	}
	return slices.Contains(c.topics, topic)
}

// addSplits takes up new splits, in order of topic and partition, and starts to
// fetch those that are not at their end.
func (r *reader) addSplits(fresh []*split) {
	slices.SortFunc(fresh, func(a, b *split) int {
		if a.topic != b.topic {
			return compare(a.topic, b.topic)
		}
		return int(a.partition) - int(b.partition)
	})
	assign := map[string]map[int32]kgo.Offset{}
	r.mu.Lock()
	ids := slices.Clone(r.ids) // Splits hands out the old slice
	for _, s := range fresh {
		r.numbers[s.id] = len(r.splits)
		r.splits = append(r.splits, s)
		ids = append(ids, s.id)
		if s.ended() {
			continue
		}
		if assign[s.topic] == nil {
			assign[s.topic] = map[int32]kgo.Offset{}
		}
		assign[s.topic][s.partition] = kgo.NewOffset().At(s.next)
	}
	r.ids = ids
	r.mu.Unlock()
	r.client.AddConsumePartitions(assign)
}

func compare(a, b string) int {
	if a < b {
		return -1
	}
	return 1
}

// Splits returns the partitions owned; new ones are appended.
func (r *reader) Splits() (ids []string, version int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.ids, len(r.ids)
}

// Ended reports whether every split is bounded and read to its end.
func (r *reader) Ended() bool {
	if !r.cfg.bounded() {
		return false
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, s := range r.splits {
		if !s.ended() {
			return false
		}
	}
	return true
}

// Snapshot returns the position of every split owned.
func (r *reader) Snapshot() []dataflow.SplitState {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := make([]dataflow.SplitState, len(r.splits))
	for i, s := range r.splits {
		out[i] = s.state()
	}
	return out
}

// Lag returns the records between what was handed out and the ends of the
// partitions as of their last fetch.
func (r *reader) Lag() int64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	lag, known := int64(0), false
	for _, s := range r.splits {
		if s.high >= 0 {
			known = true
			lag += max(0, s.high-s.next)
		}
	}
	if !known {
		return -1
	}
	return lag
}

// Close stops fetching and leaves the brokers. Offsets on their way to the group
// are given up.
func (r *reader) Close() error {
	r.cancel(errClosed)
	r.mu.Lock()
	r.space.Broadcast()
	r.mu.Unlock()
	r.client.Close()
	r.wg.Wait()
	return nil
}
