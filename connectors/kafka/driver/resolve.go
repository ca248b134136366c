package driver

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/weirstream/weir/dataflow"
	"github.com/weirstream/weir/internal/clock"
	"github.com/weirstream/weir/stream/spi"
)

// retryEvery is the pause between two tries of a request at the start.
const retryEvery = 100 * time.Millisecond

// startTry bounds one try, so that an unreachable broker is noticed in time.
const startTry = 3 * time.Second

// until repeats try until it succeeds, fails for good or the time is over; its
// last error is then returned.
func until(ctx context.Context, clk clock.Clock, limit time.Duration, try func(ctx context.Context) (retry bool, err error)) error {
	deadline := clk.Monotonic() + limit
	for {
		one, cancel := context.WithTimeout(ctx, min(limit, startTry))
		retry, err := try(one)
		cancel()
		if err == nil || !retry || ctx.Err() != nil {
			return err
		}
		if clk.Monotonic()+retryEvery > deadline {
			return err
		}
		if clock.Sleep(ctx, clk, retryEvery) != nil {
			return err
		}
	}
}

// errUnreachable makes the sentence for a cluster that does not answer.
func errUnreachable(connection string, props map[string]string, limit time.Duration, err error) error {
	what := " and that the broker runs"
	if p := props["security.protocol"]; p != "" && p != "PLAINTEXT" {
		what = ", that the broker runs, and what it asks for besides " + p
	}
	return fmt.Errorf("kafka: no broker of %s answered within %v: %w: check %sbootstrap.servers%s",
		props["bootstrap.servers"], limit, err, connectionPrefix(connection), what)
}

// errMissing makes the sentence for topics that are not there.
func errMissing(topics []string, servers string) error {
	what := "topic"
	if len(topics) > 1 {
		what = "topics"
	}
	return fmt.Errorf("kafka: %s %s does not exist on %s: create it, or correct the name", what, quoted(topics), servers)
}

func quoted(words []string) string {
	out := make([]string, len(words))
	for i, w := range words {
		out[i] = fmt.Sprintf("%q", w)
	}
	return strings.Join(out, ", ")
}

// lookup lists the partitions of the declared topics. It asks a broker itself:
// the client's own metadata may be seconds old.
func (r *reader) lookup(ctx context.Context) (topics map[string]int, missing []string, err error) {
	req := kmsg.NewPtrMetadataRequest()
	for _, t := range r.cfg.topics {
		rt := kmsg.NewMetadataRequestTopic()
		rt.Topic = kmsg.StringPtr(t)
		req.Topics = append(req.Topics, rt)
	}
	resp, err := req.RequestWith(ctx, r.client)
	if err != nil {
		return nil, nil, err
	}
	topics = map[string]int{}
	for _, t := range resp.Topics {
		if t.Topic == nil || t.IsInternal || r.cfg.pattern != nil && !r.cfg.pattern.MatchString(*t.Topic) {
			continue
		}
		err := kerr.ErrorForCode(t.ErrorCode)
		if err != nil && !errors.Is(err, kerr.UnknownTopicOrPartition) {
			return nil, nil, fmt.Errorf("topic %q: %w", *t.Topic, err)
		}
		if err == nil {
			topics[*t.Topic] = len(t.Partitions)
		}
	}
	for _, t := range r.cfg.topics {
		if topics[t] == 0 {
			missing = append(missing, t)
		}
	}
	return topics, missing, nil
}

// start finds the partitions and where they begin and end.
func (r *reader) start(ctx context.Context, restored []dataflow.SplitState) error {
	var topics map[string]int
	err := until(ctx, r.clock, r.cfg.startup, func(ctx context.Context) (bool, error) {
		found, missing, err := r.lookup(ctx)
		if errors.Is(err, kerr.TopicAuthorizationFailed) {
			return false, fmt.Errorf("kafka source: %w", err)
		}
		if err != nil {
			return true, errUnreachable(r.cfg.connection, r.cfg.props, r.cfg.startup, err)
		}
		topics = found
		if len(missing) > 0 {
			return true, errMissing(missing, r.cfg.props["bootstrap.servers"])
		}
		if len(topics) == 0 && (r.cfg.bounded() || r.cfg.discovery == 0) {
			return true, fmt.Errorf("kafka source: no topic on %s matches %q: create one, or correct topic_pattern", r.cfg.props["bootstrap.servers"], r.cfg.pattern)
		}
		return false, nil
	})
	if err != nil {
		return err
	}
	var splits []*split
	if restored != nil {
		if splits, err = r.restore(restored, topics); err != nil {
			return err
		}
		if r.cfg.bounded() {
			r.addSplits(splits)
			return nil
		}
	}
	known := map[string]bool{}
	for _, s := range restored {
		known[s.Split] = true
	}
	fresh := r.owned(topics, known)
	if err := r.resolveRetrying(ctx, fresh, restored == nil); err != nil {
		return err
	}
	r.addSplits(append(splits, fresh...))
	return nil
}

// owned makes splits of the partitions that this subtask owns and does not know.
func (r *reader) owned(topics map[string]int, known map[string]bool) (out []*split) {
	for _, topic := range slices.Sorted(maps.Keys(topics)) {
		for p := range topics[topic] {
			id := splitID(topic, int32(p))
			if !known[id] && spi.OwnsSplit(topic, p, r.env.Index, r.env.Parallelism) {
				out = append(out, &split{id: id, topic: topic, partition: int32(p), end: -1, high: -1})
			}
		}
	}
	return out
}

// resolveRetrying fixes next (and end, if bounded) of new splits. first tells that
// the job begins: otherwise they appeared since and are read whole.
func (r *reader) resolveRetrying(ctx context.Context, splits []*split, first bool) error {
	if len(splits) == 0 {
		return nil
	}
	return until(ctx, r.clock, r.cfg.startup, func(ctx context.Context) (bool, error) {
		err := r.resolve(ctx, splits, first)
		var final *finalError
		return !errors.As(err, &final), err
	})
}

// A finalError is not worth another try.
type finalError struct{ error }

func (r *reader) resolve(ctx context.Context, splits []*split, first bool) error {
	topics := map[string]bool{}
	for _, s := range splits {
		topics[s.topic] = true
	}
	ask := asker{r: r, ctx: ctx, topics: slices.Sorted(maps.Keys(topics))}
	start := r.cfg.start
	if !first {
		start = "earliest"
	}
	for _, s := range splits {
		next, err := r.startOf(&ask, s, start)
		if err != nil {
			return err
		}
		end := int64(-1)
		switch r.cfg.end {
		case "latest":
			end, err = ask.latest(s)
		case "timestamp":
			end, err = ask.after(s, r.cfg.endAt)
		case "specific":
			var ok bool
			if end, ok = r.cfg.endOffs[s.id]; !ok {
				return &finalError{fmt.Errorf("kafka source: option \"end_offsets\" does not name %s", s.id)}
			}
		}
		if err != nil {
			return err
		}
		s.next, s.end = next, end
	}
	return nil
}

func (r *reader) startOf(ask *asker, s *split, start string) (int64, error) {
	fallback := func(why string) (int64, error) {
		switch r.cfg.fallback {
		case "earliest":
			return ask.earliest(s)
		case "latest":
			return ask.latest(s)
		}
		return 0, &finalError{fmt.Errorf("kafka source: %s: set start_fallback to earliest or latest to begin there", why)}
	}
	switch start {
	case "latest":
		return ask.latest(s)
	case "timestamp":
		return ask.after(s, r.cfg.startAt)
	case "specific":
		if n, ok := r.cfg.startOffs[s.id]; ok {
			return n, nil
		}
		return fallback(fmt.Sprintf("option \"start_offsets\" does not name %s", s.id))
	case "committed":
		n, ok, err := ask.committed(s)
		if err != nil || ok {
			return n, err
		}
		return fallback(fmt.Sprintf("group %q has no offset of %s", r.cfg.groupOfStart(), s.id))
	}
	return ask.earliest(s)
}

// An asker asks the brokers for offsets, each kind once.
type asker struct {
	r      *reader
	ctx    context.Context
	topics []string
	lists  map[string]kadm.ListedOffsets
	group  kadm.OffsetResponses
}

func (a *asker) list(kind string, s *split, ask func() (kadm.ListedOffsets, error)) (int64, error) {
	l, ok := a.lists[kind]
	if !ok {
		var err error
		if l, err = ask(); err != nil {
			return 0, errUnreachable(a.r.cfg.connection, a.r.cfg.props, a.r.cfg.startup, err)
		}
		if a.lists == nil {
			a.lists = map[string]kadm.ListedOffsets{}
		}
		a.lists[kind] = l
	}
	o, ok := l.Lookup(s.topic, s.partition)
	if !ok {
		return 0, fmt.Errorf("kafka source: the brokers gave no %s offset of %s", kind, s.id)
	}
	if o.Err != nil {
		return 0, fmt.Errorf("kafka source: %s offset of %s: %w", kind, s.id, o.Err)
	}
	return o.Offset, nil
}

func (a *asker) earliest(s *split) (int64, error) {
	return a.list("earliest", s, func() (kadm.ListedOffsets, error) { return a.r.admin.ListStartOffsets(a.ctx, a.topics...) })
}

// latest is the end of what may be read: the last stable offset unless
// uncommitted records are wanted.
func (a *asker) latest(s *split) (int64, error) {
	return a.list("latest", s, func() (kadm.ListedOffsets, error) {
		if a.r.cfg.committed {
			return a.r.admin.ListCommittedOffsets(a.ctx, a.topics...)
		}
		return a.r.admin.ListEndOffsets(a.ctx, a.topics...)
	})
}

// after is the offset of the first record at or after t, the end if there is none.
func (a *asker) after(s *split, t time.Time) (int64, error) {
	return a.list("timestamp "+t.Format(time.RFC3339), s, func() (kadm.ListedOffsets, error) {
		return a.r.admin.ListOffsetsAfterMilli(a.ctx, t.UnixMilli(), a.topics...)
	})
}

func (a *asker) committed(s *split) (int64, bool, error) {
	if a.group == nil {
		group := a.r.cfg.groupOfStart()
		g, err := a.r.admin.FetchOffsetsForTopics(a.ctx, group, a.topics...)
		if errors.Is(err, kerr.GroupIDNotFound) {
			g, err = kadm.OffsetResponses{}, nil
		}
		if err != nil {
			return 0, false, fmt.Errorf("kafka source: offsets of group %q: %w", group, err)
		}
		a.group = g
	}
	o, ok := a.group.Lookup(s.topic, s.partition)
	if !ok || o.At < 0 {
		return 0, false, nil
	}
	return o.At, true, o.Err
}

// discover looks for new topics and partitions until the reader closes.
func (r *reader) discover() {
	defer r.wg.Done()
	for clock.Sleep(r.ctx, r.clock, r.cfg.discovery) == nil {
		topics, _, err := r.lookup(r.ctx)
		if err == nil {
			r.mu.Lock()
			known := map[string]bool{}
			for id := range r.numbers {
				known[id] = true
			}
			r.mu.Unlock()
			fresh := r.owned(topics, known)
			if err = r.resolveRetrying(r.ctx, fresh, false); err == nil && len(fresh) > 0 {
				for _, s := range fresh {
					r.env.Log.Info("kafka source: reading a new partition", "split", s.id, "next", s.next)
				}
				r.addSplits(fresh)
				r.env.Wake()
			}
		}
		if err != nil && r.ctx.Err() == nil {
			r.env.Log.Warn("kafka source: looking for new partitions failed", "error", err)
		}
	}
}

// committing stores group offsets, one request at a time; of several positions
// that wait the newest wins.
type committing struct {
	mu      sync.Mutex // guards the rest
	running bool
	waiting []dataflow.SplitState
}

// Completed stores the positions as group offsets, so that lag tools see them.
func (r *reader) Completed(_ dataflow.Epoch, at []dataflow.SplitState) {
	if r.cfg.group == "" || len(at) == 0 {
		return
	}
	c := &r.commit
	c.mu.Lock()
	defer c.mu.Unlock()
	c.waiting = at
	if c.running || r.ctx.Err() != nil {
		return
	}
	c.running = true
	r.wg.Add(1)
	go r.store()
}

func (r *reader) store() {
	defer r.wg.Done()
	c := &r.commit
	for {
		c.mu.Lock()
		at := c.waiting
		c.waiting = nil
		if at == nil || r.ctx.Err() != nil {
			c.running = false
			c.mu.Unlock()
			return
		}
		c.mu.Unlock()
		if err := r.storeOffsets(at); err != nil && r.ctx.Err() == nil {
			r.env.Log.Warn("kafka source: storing group offsets failed", "group", r.cfg.group, "error", err)
		}
	}
}

func (r *reader) storeOffsets(at []dataflow.SplitState) error {
	offsets := kadm.Offsets{}
	for _, st := range at {
		topic, partition, ok := parseSplit(st.Split)
		next, err := nextOf(st)
		if !ok || err != nil {
			return fmt.Errorf("position of %q is damaged", st.Split)
		}
		offsets.AddOffset(topic, partition, next, -1)
	}
	ctx, cancel := context.WithTimeout(r.ctx, 10*time.Second)
	defer cancel()
	return r.admin.CommitAllOffsets(ctx, r.cfg.group, offsets)
}
