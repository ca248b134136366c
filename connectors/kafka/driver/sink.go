package driver

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/weirstream/weir/dataflow"
	"github.com/weirstream/weir/internal/clock"
	"github.com/weirstream/weir/internal/failpoint"
	"github.com/weirstream/weir/stream/spi"
)

// Sink is the spi.SinkDriver of kind "kafka". The zero value is ready to use.
type Sink struct {
	Clock     clock.Clock // nil: the wall clock
	Producers *Producers  // nil: each subtask has a client of its own

	markerTry time.Duration // of writing a commit marker; markerTry
}

func (s Sink) clock() clock.Clock {
	if s.Clock == nil {
		return clock.Wall()
	}
	return s.Clock
}

// Check refuses a declaration that OpenWriter would refuse without asking a
// broker.
func (s Sink) Check(c dataflow.Connector, settings map[string]string) error {
	_, err := readSink(c, settings, "", "")
	return err
}

// A writer is the spi.Writer of one subtask.
type writer struct {
	env    spi.Env
	cfg    *sinkConfig
	enc    encoder
	raw    *kgo.Client // requests by hand
	fence  []string    // transactional ids that Start initialises
	clock  clock.Clock
	ctx    context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup

	sendCtx context.Context // of records

	markerTry time.Duration
	unmarked  atomic.Bool  // a marker could not be written: no more are tried
	marks     atomic.Int64 // markers tried

	// Owned by the turn.
	open     *producer // takes rows; nil until the first row of an epoch
	giveBack func()    // open's client, where there are no transactions; nil: there are
	out      *outbox
	answered chan struct{} // closed when the last Prepare has been answered; nil before the first

	// mu guards the pool and the failure.
	mu      sync.Mutex
	free    []*producer // in order of k
	busy    []*producer // prepared and not finished
	ids     int         // of the pool
	failure error       // a lost record; Write and Prepare return it
}

// A producer is one client of the pool.
type producer struct {
	k      int
	id     string // transactional; "" outside transactions
	client *kgo.Client
	epoch  dataflow.Epoch // prepared for; 0 while open or free
	marker *marker        // of the transaction; nil: none is placed
}

// OpenWriter checks topic, cluster and declaration and makes the writer of one
// subtask.
func (s Sink) OpenWriter(ctx context.Context, env spi.Env, restored map[int][]byte) (spi.Writer, error) {
	cfg, err := readSink(env.Connector, env.Settings, env.Pipeline, env.Operator)
	if err != nil {
		return nil, err
	}
	opts, err := rawOptions(cfg.props, env)
	if err != nil {
		return nil, err
	}
	w := &writer{env: env, cfg: cfg, clock: s.clock(), markerTry: cmp.Or(s.markerTry, markerTry), ids: cfg.ids}
	if w.raw, err = kgo.NewClient(opts...); err != nil {
		return nil, fmt.Errorf("kafka sink: %w", err)
	}
	w.ctx, w.cancel = context.WithCancel(context.Background())
	w.sendCtx = w.ctx
	if err := w.prepareOpen(ctx, s.Producers, restored); err != nil {
		w.cancel()
		w.raw.Close()
		return nil, err
	}
	return w, nil
}

func (w *writer) prepareOpen(ctx context.Context, producers *Producers, restored map[int][]byte) error {
	partitions, err := w.partitions(ctx)
	if err != nil {
		return err
	}
	if w.enc, err = newEncoder(w.env, w.cfg, partitions); err != nil {
		return err
	}
	w.out = newOutbox(w.cfg, w.env.Wake, w.lost)
	if w.cfg.guarantee != exactlyOnce {
		client, giveBack, err := producers.open(w.env, func() (*kgo.Client, error) { return w.client("") })
		if err != nil {
			return err
		}
		w.open, w.giveBack = &producer{client: client}, giveBack
		w.sendCtx = context.Background() // the client fails a whole batch for one cancelled record, and others have rows in it
		return nil
	}
	if err := requireTransactions(ctx, w.clock, w.raw, w.cfg); err != nil {
		return err
	}
	return w.plan(restored)
}

// plan works out the pool and the ids to fence: those of this subtask and, where
// there were more subtasks once, those of every former one whose index falls to
// this one.
func (w *writer) plan(restored map[int][]byte) error {
	for _, former := range slices.Sorted(mapKeys(restored)) {
		if former%w.env.Parallelism != w.env.Index || len(restored[former]) == 0 {
			continue
		}
		var st writerState
		if err := json.Unmarshal(restored[former], &st); err != nil || st.IDs < 0 || st.IDs > math.MaxInt16 {
			return fmt.Errorf("kafka sink: restored state of subtask %d is damaged: %q", former, restored[former])
		}
		for k := range st.IDs {
			w.fence = append(w.fence, transactionalID(st.Prefix, former, k))
		}
		if former == w.env.Index && st.Prefix == w.cfg.prefix {
			w.ids = max(w.ids, st.IDs)
		}
	}
	for k := range w.ids {
		w.fence = append(w.fence, transactionalID(w.cfg.prefix, w.env.Index, k))
	}
	for k := range w.ids {
		w.free = append(w.free, &producer{k: k, id: transactionalID(w.cfg.prefix, w.env.Index, k)})
	}
	return nil
}

func mapKeys(m map[int][]byte) func(func(int) bool) {
	return func(yield func(int) bool) {
		for k := range m {
			if !yield(k) {
				return
			}
		}
	}
}

// partitions returns the partition count of the topic.
func (w *writer) partitions(ctx context.Context) (n int, err error) {
	servers := w.cfg.props["bootstrap.servers"]
	err = until(ctx, w.clock, w.cfg.startup, func(ctx context.Context) (bool, error) {
		req := kmsg.NewPtrMetadataRequest()
		t := kmsg.NewMetadataRequestTopic()
		t.Topic = kmsg.StringPtr(w.cfg.topic)
		req.Topics = append(req.Topics, t)
		resp, err := req.RequestWith(ctx, w.raw)
		if err != nil {
			return true, errUnreachable(w.cfg.connection, w.cfg.props, w.cfg.startup, err)
		}
		err = errMissing([]string{w.cfg.topic}, servers)
		for _, t := range resp.Topics {
			if e := kerr.ErrorForCode(t.ErrorCode); e == nil {
				n, err = len(t.Partitions), nil
			} else if !errors.Is(e, kerr.UnknownTopicOrPartition) {
				err = fmt.Errorf("kafka sink: topic %q on %s: %w", w.cfg.topic, servers, e)
			}
		}
		return true, err
	})
	return n, err
}

// client makes a producing client; id is its transactional id or "".
func (w *writer) client(id string) (*kgo.Client, error) {
	opts, err := clientOptions(sinkSide, w.cfg.props, w.env)
	if err != nil {
		return nil, err
	}
	client, err := kgo.NewClient(append(opts, w.cfg.produceOptions(id, w.enc.partition != nil)...)...)
	if err != nil {
		return nil, fmt.Errorf("kafka sink: %w", err)
	}
	return client, nil
}

func (c *sinkConfig) produceOptions(id string, manual bool) []kgo.Opt {
	p := c.props
	num := func(name string, other int) int { return number(def(p[name], strconv.Itoa(other))) }
	maxRequest := num("max.request.size", 1<<20)
	opts := []kgo.Opt{
		kgo.DefaultProduceTopic(c.topic),
		kgo.MaxBufferedRecords(math.MaxInt32), // the outbox bounds it, in bytes
		kgo.ProducerLinger(time.Duration(num("linger.ms", 0)) * time.Millisecond),
		kgo.ProducerBatchMaxBytes(int32(min(maxRequest, num("batch.size", maxRequest)))),
		kgo.BrokerMaxWriteBytes(int32(max(100<<20, maxRequest))),
	}
	codecs := map[string]kgo.CompressionCodec{
		"none": kgo.NoCompression(), "gzip": kgo.GzipCompression(), "snappy": kgo.SnappyCompression(), "lz4": kgo.Lz4Compression(), "zstd": kgo.ZstdCompression(),
	}
	opts = append(opts, kgo.ProducerBatchCompression(codecs[def(p["compression.type"], "none")]))
	switch {
	case manual:
		opts = append(opts, kgo.RecordPartitioner(kgo.ManualPartitioner()))
	case c.partitioner == "round_robin":
		opts = append(opts, kgo.RecordPartitioner(kgo.RoundRobinPartitioner()))
	default:
		opts = append(opts, kgo.RecordPartitioner(kgo.StickyKeyPartitioner(nil)))
	}
	if v := p["retries"]; v != "" {
		opts = append(opts, kgo.RecordRetries(number(v)))
	}
	if v := p["delivery.timeout.ms"]; v != "" {
		opts = append(opts, kgo.RecordDeliveryTimeout(millis(v)))
	}
	if id != "" {
		return append(opts, kgo.TransactionalID(id), kgo.TransactionTimeout(c.txnTimeout))
	}
	inFlight := num("max.in.flight.requests.per.connection", 0)
	acks := p["acks"]
	if acks == "" && c.guarantee == noGuarantee {
		acks = "1"
	}
	if acks == "1" || acks == "0" || p["enable.idempotence"] == "false" {
		opts = append(opts, kgo.DisableIdempotentWrite())
	}
	switch acks {
	case "1":
		opts = append(opts, kgo.RequiredAcks(kgo.LeaderAck()))
	case "0":
		opts = append(opts, kgo.RequiredAcks(kgo.NoAck()))
	}
	if inFlight > 0 {
		opts = append(opts, kgo.MaxProduceRequestsInflightPerBroker(inFlight))
	}
	return opts
}

// Start fences every transaction of former attempts that no manifest names, by
// initialising all ids of the pool anew.
func (w *writer) Start(ctx context.Context) error {
	if w.cfg.guarantee != exactlyOnce {
		return nil
	}
	fence := append(slices.Clone(w.fence), w.lingering(ctx)...)
	slices.Sort(fence)
	fence = slices.Compact(fence)
	errs := make([]error, len(fence))
	slots := make(chan struct{}, commitsAtOnce)
	var wg sync.WaitGroup
	for i, id := range fence {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			errs[i] = w.initialise(ctx, id)
		})
	}
	wg.Wait()
	for _, err := range errs {
		if err != nil {
			return err // they are all alike
		}
	}
	return nil
}

// lingering lists open transactions of this sink under ids that no state knows:
// an attempt may have enlarged its pool after its last complete checkpoint.
func (w *writer) lingering(ctx context.Context) (ids []string) {
	ctx, cancel := context.WithTimeout(ctx, startTry)
	defer cancel()
	list, err := kadm.NewClient(w.raw).ListTransactions(ctx, nil, []string{"Ongoing"})
	if err != nil {
		w.env.Log.Info("kafka sink: open transactions cannot be listed", "error", err)
	}
	for _, t := range list {
		rest, ok := strings.CutPrefix(t.TxnID, w.cfg.prefix+"-")
		a, b, two := strings.Cut(rest, "-")
		subtask, err1 := strconv.Atoi(a)
		_, err2 := strconv.Atoi(b)
		if ok && two && err1 == nil && err2 == nil && subtask >= 0 && subtask%w.env.Parallelism == w.env.Index {
			ids = append(ids, t.TxnID)
		}
	}
	return ids
}

// initialise fences one transactional id and aborts what is open under it.
func (w *writer) initialise(ctx context.Context, id string) error {
	return until(ctx, w.clock, w.cfg.startup, func(ctx context.Context) (bool, error) {
		req := kmsg.NewPtrInitProducerIDRequest()
		req.TransactionalID = kmsg.StringPtr(id)
		req.TransactionTimeoutMillis = int32(w.cfg.txnTimeout.Milliseconds())
		req.ProducerID, req.ProducerEpoch = -1, -1
		resp, err := req.RequestWith(ctx, w.raw)
		if err != nil {
			return true, errUnreachable(w.cfg.connection, w.cfg.props, w.cfg.startup, err)
		}
		switch err := kerr.ErrorForCode(resp.ErrorCode); {
		case err == nil:
			return false, nil
		case errors.Is(err, kerr.InvalidTransactionTimeout):
			return false, fmt.Errorf("kafka sink: transaction.timeout.ms %d is more than the brokers' transaction.max.timeout.ms allows: lower it, or raise theirs", w.cfg.txnTimeout.Milliseconds())
		case errors.Is(err, kerr.TransactionalIDAuthorizationFailed):
			return false, fmt.Errorf("kafka sink: the brokers do not let us use transactional id %q: grant WRITE on the prefix %q", id, w.cfg.prefix)
		default:
			return waits(err), fmt.Errorf("kafka sink: initialising transactional id %q: %w", id, err)
		}
	})
}

// take makes a free producer the open one. The pool grows when all its ids wait
// for their epoch: rows must not wait for an epoch that comes behind them.
func (w *writer) take() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.free) == 0 {
		w.free = append(w.free, &producer{k: w.ids, id: transactionalID(w.cfg.prefix, w.env.Index, w.ids)})
		w.ids++
	}
	p := w.free[0]
	if p.client == nil {
		client, err := w.client(p.id)
		if err != nil {
			return err
		}
		p.client = client
	}
	if err := p.client.BeginTransaction(); err != nil {
		return fmt.Errorf("kafka sink: transaction %s: %w", p.id, err)
	}
	w.free = w.free[1:]
	w.open = p
	w.out.first, p.marker = nil, nil
	if w.cfg.markers && !w.unmarked.Load() {
		m, id, client := newMarker(), p.id, p.client // the producer is the turn's
		p.marker, w.out.first = m, m.begin
		w.wg.Go(func() { w.mark(id, client, m) })
	}
	return nil
}

// Write turns rows into records and hands them to the open producer.
func (w *writer) Write(b spi.Batch, from int) (consumed int, err error) {
	if err := w.failed(); err != nil {
		return 0, err
	}
	if from >= b.Len() {
		return 0, nil
	}
	if w.open == nil {
		if err := w.take(); err != nil {
			return 0, err
		}
	}
	return w.out.send(w.sendCtx, w.open.client, &w.enc, b, from)
}

func (w *writer) failed() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.failure
}

// lost notes the first record that the client gave up.
func (w *writer) lost(err error) {
	if w.ctx.Err() != nil {
		return
	}
	w.mu.Lock()
	if w.failure == nil {
		w.failure = w.explain(err)
	}
	w.mu.Unlock()
	w.env.Wake()
}

func (w *writer) explain(err error) error {
	switch {
	case errors.Is(err, kerr.MessageTooLarge):
		return fmt.Errorf("kafka sink: a record is larger than max.request.size or the max.message.bytes of topic %q: raise them, or make the rows smaller: %w", w.cfg.topic, err)
	case errors.Is(err, kerr.TopicAuthorizationFailed):
		return fmt.Errorf("kafka sink: the brokers do not let us write to topic %q: grant WRITE to the connection's user", w.cfg.topic)
	case errors.Is(err, kerr.InvalidTransactionTimeout):
		return fmt.Errorf("kafka sink: transaction.timeout.ms %d is more than the brokers' transaction.max.timeout.ms allows: lower it, or raise theirs", w.cfg.txnTimeout.Milliseconds())
	}
	return fmt.Errorf("kafka sink: writing to topic %q: %w", w.cfg.topic, err)
}

// Prepare makes the records so far durable. Exactly once, they stay invisible
// until the committer ends their transaction, and nothing more is written under
// its id. Answers come in the order of the epochs, for an epoch that completes
// must carry the transactions of those that were aborted before it.
//
// Without a guarantee only the last one waits for the brokers.
func (w *writer) Prepare(epoch dataflow.Epoch, last bool, done func(spi.Prepared, error)) {
	if w.cfg.guarantee == noGuarantee && !last {
		done(spi.Prepared{}, w.failed())
		return
	}
	mark := w.out.mark()
	p := w.open
	if w.cfg.guarantee == exactlyOnce {
		w.open = nil
	}
	w.mu.Lock()
	state, _ := json.Marshal(writerState{w.cfg.prefix, w.ids}) // of plain fields: cannot fail
	failure := w.failure
	if p != nil && p.id != "" {
		p.epoch = epoch
		w.busy = append(w.busy, p)
	}
	w.mu.Unlock()
	prepared := spi.Prepared{Writer: state}
	if w.cfg.guarantee != exactlyOnce {
		prepared.Writer = nil
	}
	before, mine := w.answered, make(chan struct{})
	w.answered = mine
	work := func() (spi.Prepared, error) { return w.flush(p, mark, epoch, prepared) }
	if failure != nil || p == nil || mark == nil {
		work = func() (spi.Prepared, error) { return prepared, failure }
		if before == nil || isClosed(before) {
			done(work())
			close(mine)
			return
		}
	}
	w.wg.Go(func() {
		defer close(mine)
		out, err := work()
		if before != nil {
			<-before
		}
		if failure := w.failed(); err == nil && failure != nil {
			out, err = spi.Prepared{}, failure
		}
		done(out, err)
	})
}

func isClosed(c chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// flush waits for the records before a mark and makes the handle of their
// transaction.
func (w *writer) flush(p *producer, mark *generation, epoch dataflow.Epoch, prepared spi.Prepared) (spi.Prepared, error) {
	if err := mark.wait(w.ctx, p.client); err != nil {
		return spi.Prepared{}, fmt.Errorf("kafka sink: epoch %d: %w", epoch, err)
	}
	if err := w.failed(); err != nil {
		return spi.Prepared{}, err
	}
	if p.id == "" {
		return prepared, nil
	}
	pid, pepoch, err := p.client.ProducerID(w.ctx)
	if err != nil {
		w.lost(fmt.Errorf("transaction %s: %w", p.id, err))
		return spi.Prepared{}, fmt.Errorf("kafka sink: transaction %s: %w", p.id, err)
	}
	h := handle{ID: p.id, PID: pid, Epoch: pepoch, Version: endTxnVersion, Records: mark.records}
	if p.marker != nil {
		h.Marked = p.marker.placed(w.ctx, h)
	}
	prepared.Handles = [][]byte{h.encode()}
	failpoint.Hit(failpoint.KafkaPrepared, failpoint.Int("epoch", int64(epoch)), failpoint.Str("id", p.id), failpoint.Int("records", mark.records))
	return prepared, nil
}

// Finished frees the ids of committed transactions: their clients learn what the
// committer did, by asking for the same commit once more.
func (w *writer) Finished(epoch dataflow.Epoch) {
	w.mu.Lock()
	var over []*producer
	w.busy = slices.DeleteFunc(w.busy, func(p *producer) bool {
		if p.epoch > epoch {
			return false
		}
		over = append(over, p)
		return true
	})
	w.mu.Unlock()
	for _, p := range over {
		w.wg.Go(func() { w.release(p) })
	}
}

func (w *writer) release(p *producer) {
	ctx, cancel := context.WithTimeout(w.ctx, commitTry)
	defer cancel()
	if err := p.client.EndTransaction(ctx, kgo.TryCommit); err != nil {
		// The transaction is committed, so a new client may take the id: it will be
		// initialised anew, which fences this one.
		w.env.Log.Info("kafka sink: a transactional id is initialised anew", "id", p.id, "error", err)
		p.client.Close()
		p.client = nil
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	p.epoch = 0
	at, _ := slices.BinarySearchFunc(w.free, p.k, func(q *producer, k int) int { return q.k - k })
	w.free = slices.Insert(w.free, at, p)
}

// closeWithin bounds what Close waits for brokers that may be gone.
const closeWithin = time.Second

// Close drops what was not prepared: its transactions stay open until the next
// attempt or the time-out aborts them. Prepared ones are left to the committer.
// Without a guarantee no epoch waits for rows, so Close gives them a second.
func (w *writer) Close() error {
	if w.cfg.guarantee == noGuarantee && w.failed() == nil {
		if mark := w.out.mark(); mark != nil {
			ctx, cancel := context.WithTimeout(w.ctx, closeWithin)
			if err := mark.wait(ctx, w.open.client); err != nil {
				w.env.Log.Info("kafka sink: the last rows were not acknowledged in time", "topic", w.cfg.topic)
			}
			cancel()
		}
	}
	w.cancel()
	w.wg.Wait()
	w.mu.Lock()
	all := slices.Concat(w.free, w.busy)
	w.mu.Unlock()
	if w.giveBack != nil {
		w.giveBack()
		w.giveBack, w.open = nil, nil
	} else if w.open != nil {
		all = append(all, w.open)
	}
	for _, p := range all {
		if p.client != nil {
			p.client.Close()
		}
	}
	w.raw.Close()
	return nil
}
