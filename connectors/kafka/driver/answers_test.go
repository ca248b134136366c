package driver

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/weirstream/weir/dataflow"
	"github.com/weirstream/weir/internal/clock"
	"github.com/weirstream/weir/stream/spi"
)

// A transaction is the setting of one row of the table of answers: a producer that
// wrote 10 records in a transaction, flushed, and was dropped without a word.
type transaction struct {
	t       *testing.T
	brokers []string
	raw     *kgo.Client
	writer  *kgo.Client // alive only where the row says so
	topic   string
	handle  handle
}

// real returns the brokers of a real cluster, nil if none is set.
func realBrokers() []string {
	if v := os.Getenv("WEIR_KAFKA"); v != "" {
		return strings.Split(v, ",")
	}
	return nil
}

// unique makes names that no earlier run used on a cluster that outlives tests.
func unique(prefix string) string {
	return fmt.Sprintf("%s-%d-%d", prefix, os.Getpid(), clock.Wall().Now().UnixNano())
}

func newTransaction(t *testing.T, brokers []string, timeout time.Duration, alive bool) *transaction {
	t.Helper()
	opts, err := rawOptions(map[string]string{"bootstrap.servers": strings.Join(brokers, ",")}, spi.Env{})
	if err != nil {
		t.Fatal(err)
	}
	x := &transaction{t: t, brokers: brokers, raw: client(t, brokers, opts...), topic: unique("answers")}
	makeTopic(t, x.raw, x.topic, 1)
	id := unique("tx")
	x.writer = client(t, brokers, kgo.TransactionalID(id), kgo.TransactionTimeout(timeout))
	x.write(10)
	pid, epoch, err := x.writer.ProducerID(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	x.handle = handle{ID: id, PID: pid, Epoch: epoch, Version: endTxnVersion}
	if !alive {
		x.writer.Close()
	}
	return x
}

func makeTopic(t *testing.T, cl *kgo.Client, topic string, partitions int32) {
	t.Helper()
	if _, err := kadm.NewClient(cl).CreateTopic(context.Background(), partitions, 1, nil, topic); err != nil {
		t.Fatal(err)
	}
	deadline := time.After(time.Minute)
	for {
		req := kmsg.NewPtrMetadataRequest()
		rt := kmsg.NewMetadataRequestTopic()
		rt.Topic = kmsg.StringPtr(topic)
		req.Topics = append(req.Topics, rt)
		resp, err := req.RequestWith(context.Background(), cl)
		if err == nil && len(resp.Topics) == 1 && resp.Topics[0].ErrorCode == 0 && len(resp.Topics[0].Partitions) == int(partitions) && resp.Topics[0].Partitions[0].Leader >= 0 {
			return
		}
		select {
		case <-deadline:
			t.Fatalf("topic %s does not appear: %v", topic, err)
		default:
		}
	}
}

// write writes n records in a transaction of its own.
func (x *transaction) write(n int) {
	x.t.Helper()
	if err := x.writer.BeginTransaction(); err != nil {
		x.t.Fatal(err)
	}
	produce(x.t, x.writer, events(x.topic, 0, 0, n)...)
}

// end sends EndTxn until the answer is not "wait".
func (x *transaction) end(h handle, commit bool) string {
	x.t.Helper()
	deadline := time.After(time.Minute)
	for {
		code, err := endTxn(context.Background(), x.raw, h, commit)
		switch {
		case err != nil:
			x.t.Fatal(err)
		case code == nil:
			return "NONE"
		case !waits(code):
			var k *kerr.Error
			errors.As(code, &k)
			return k.Message
		}
		select {
		case <-deadline:
			x.t.Fatalf("EndTxn answers %v for a minute", code)
		default:
		}
	}
}

func (x *transaction) commit() string { return x.end(x.handle, true) }
func (x *transaction) abort() string  { return x.end(x.handle, false) }

// initialise does what a successor does.
func (x *transaction) initialise() {
	x.t.Helper()
	w := &writer{raw: x.raw, cfg: &sinkConfig{startup: time.Minute, txnTimeout: time.Minute}, clock: clock.Wall()}
	if err := w.initialise(context.Background(), x.handle.ID); err != nil {
		x.t.Fatal(err)
	}
}

func (x *transaction) visible() int {
	x.t.Helper()
	got, _ := visibleIn(x.t, x.brokers, x.topic, true)
	return len(got)
}

// settled waits until nothing of the topic is in doubt.
func (x *transaction) settled() {
	x.t.Helper()
	settle(x.t, x.raw, x.topic)
}

// settle waits until nothing of a topic is in doubt: a broker writes the markers of
// a transaction after it has answered.
func settle(t *testing.T, cl *kgo.Client, topic string) {
	t.Helper()
	adm := kadm.NewClient(cl)
	deadline := time.After(time.Minute)
	for {
		ends, err1 := adm.ListEndOffsets(context.Background(), topic)
		stable, err2 := adm.ListCommittedOffsets(context.Background(), topic)
		open := 0
		ends.Each(func(end kadm.ListedOffset) {
			if o, ok := stable.Lookup(topic, end.Partition); !ok || o.Offset != end.Offset {
				open++
			}
		})
		if err1 == nil && err2 == nil && len(ends[topic]) > 0 && open == 0 {
			return
		}
		select {
		case <-deadline:
			t.Fatalf("a transaction is still open: ends %v, stable %v", ends, stable)
		default:
		}
	}
}

// A prepared transaction gets these answers, from a real broker if WEIR_KAFKA
// names one and from the fake one always; where they differ the fake's is given.
func TestAnswers(t *testing.T) {
	type rows struct {
		name  string
		alive bool
		real  string
		fake  string // "": as real
		play  func(x *transaction) string
	}
	report := func(x *transaction, codes ...string) string {
		return fmt.Sprint(strings.Join(codes, " "), ", ", x.visible(), " visible")
	}
	table := []rows{
		{"commit after the producer is gone", false, "NONE, 10 visible", "", func(x *transaction) string { c := x.commit(); x.settled(); return report(x, c) }},
		{"commit, again and again", false, "NONE NONE NONE, 10 visible", "", func(x *transaction) string {
			a, b, c := x.commit(), x.commit(), x.commit()
			x.settled()
			return report(x, a, b, c)
		}},
		{"abort after commit", false, "NONE INVALID_TXN_STATE, 10 visible", "", func(x *transaction) string {
			a := x.commit()
			x.settled()
			return report(x, a, x.abort())
		}},
		{"commit after abort", false, "NONE INVALID_TXN_STATE, 0 visible", "", func(x *transaction) string {
			a := x.abort()
			x.settled()
			return report(x, a, x.commit())
		}},
		{"commit after a successor's InitProducerID", false, "PRODUCER_FENCED, 0 visible", "INVALID_TXN_STATE, 0 visible", func(x *transaction) string {
			x.initialise()
			x.settled()
			return report(x, x.commit())
		}},
		{"commit, InitProducerID, commit", false, "NONE PRODUCER_FENCED, 10 visible", "", func(x *transaction) string {
			a := x.commit()
			x.settled()
			x.initialise()
			return report(x, a, x.commit())
		}},
		{"repeat while the same producer has a newer transaction", true, "NONE PRODUCER_FENCED, 10 visible", "", func(x *transaction) string {
			a := x.commit()
			if err := x.writer.EndTransaction(context.Background(), kgo.TryCommit); err != nil {
				x.t.Errorf("the living producer's own commit: %v", err)
			}
			x.write(3)
			return report(x, a, x.commit())
		}},
		{"unknown transactional id", false, "INVALID_PRODUCER_ID_MAPPING, 0 visible", "NONE, 10 visible", func(x *transaction) string {
			h := x.handle
			h.ID += "-other"
			c := x.end(h, true)
			return report(x, c)
		}},
		{"wrong epoch, then the right one", false, "PRODUCER_FENCED NONE, 10 visible", "", func(x *transaction) string {
			h := x.handle
			h.Epoch += 5
			a, b := x.end(h, true), x.commit()
			x.settled()
			return report(x, a, b)
		}},
	}
	for _, row := range table {
		t.Run("fake/"+row.name, func(t *testing.T) {
			t.Parallel()
			want := row.fake
			if want == "" {
				want = row.real
			}
			if got := row.play(newTransaction(t, cluster(t, nil).ListenAddrs(), time.Minute, row.alive)); got != want {
				t.Errorf("got %s, want %s", got, want)
			}
		})
		if brokers := realBrokers(); brokers != nil {
			t.Run("real/"+row.name, func(t *testing.T) {
				t.Parallel()
				if got := row.play(newTransaction(t, brokers, time.Minute, row.alive)); got != row.real {
					t.Errorf("got %s, want %s", got, row.real)
				}
			})
		}
	}
	if brokers := realBrokers(); brokers != nil {
		t.Run("real/commit after the time-out", func(t *testing.T) {
			t.Parallel()
			x := newTransaction(t, brokers, 2*time.Second, false)
			x.settled() // the broker looks every 10 s
			if got := report(x, x.commit()); got != "INVALID_TXN_STATE, 0 visible" {
				t.Errorf("got %s", got)
			}
		})
	} else {
		t.Log("only the fake broker was asked: set WEIR_KAFKA=host:port to ask a real one")
	}
}

// Random histories on a real broker, if WEIR_KAFKA names one.
func TestSinkOnRealKafka(t *testing.T) {
	brokers := realBrokers()
	if brokers == nil {
		t.Skip("set WEIR_KAFKA=host:port to run against a real broker")
	}
	for seed := range uint64(4) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			topic := unique("history")
			makeTopic(t, client(t, brokers), topic, 2)
			playHistory(t, 100+seed, brokers, topic)
		})
	}
}

// A prepared transaction outlives kill -9 of the broker, and a commit that began
// while the broker was down succeeds when it is back. It runs where
// WEIR_KAFKA_SCRIPT names deploy/real/kafka.sh, for the broker at WEIR_KAFKA.
func TestSinkBrokerKilled(t *testing.T) {
	script, brokers := os.Getenv("WEIR_KAFKA_SCRIPT"), realBrokers()
	if script == "" || brokers == nil {
		t.Skip("set WEIR_KAFKA and WEIR_KAFKA_SCRIPT=deploy/real/kafka.sh to kill a real broker")
	}
	_, port, _ := strings.Cut(brokers[0], ":")
	run := func(verb string) {
		if out, err := exec.Command(script, verb, port).CombinedOutput(); err != nil {
			t.Errorf("%s %s: %v: %s", script, verb, err, out)
		}
	}
	topic := unique("killed")
	makeTopic(t, client(t, brokers), topic, 2)
	wd := newWorld()
	env := wd.env("snk", 0, 1, sink("topic", topic, "transactional_id_prefix", topic, "startup_timeout", "60s"), brokers)
	w, cm := openWriter(t, env, nil), openCommitter(t, env)
	for epoch := dataflow.Epoch(1); epoch <= 3; epoch++ {
		from := int(epoch) * 100
		write(t, wd, w, people(from, from+100)...)
		h := handles(0, epoch, prepare(t, w, epoch))
		run("kill9")
		write(t, wd, w, people(from+1000, from+1050)...) // into the outage, under another id
		back := make(chan struct{})
		go func() { run("start"); close(back) }()
		var err error
		for range 10 { // as the engine repeats it
			if _, err = cm.Commit(context.Background(), epoch, h); err == nil || errors.Is(err, spi.ErrStop) {
				break
			}
		}
		if err != nil {
			t.Fatal(err)
		}
		<-back
		w.Finished(epoch)
		h = handles(0, epoch+100, prepare(t, w, epoch+100))
		commit(t, cm, epoch+100, h)
		w.Finished(epoch + 100)
		got, _ := visibleIn(t, brokers, topic, true)
		if len(got) != int(epoch)*150 {
			t.Errorf("after kill %d: %d rows are visible, want %d", epoch, len(got), epoch*150)
		}
	}
}

// The source on a real broker: aborted transactions are left out, a bounded read
// ends behind their markers, new partitions are found, offsets are stored.
func TestSourceOnRealKafka(t *testing.T) {
	brokers := realBrokers()
	if brokers == nil {
		t.Skip("set WEIR_KAFKA=host:port to run against a real broker")
	}
	topic := unique("source")
	cl := client(t, brokers)
	makeTopic(t, cl, topic, 2)
	tx := client(t, brokers, kgo.TransactionalID(unique("tx")))
	for i, how := range []kgo.TransactionEndTry{kgo.TryCommit, kgo.TryAbort, kgo.TryCommit, kgo.TryAbort} {
		if err := tx.BeginTransaction(); err != nil {
			t.Fatal(err)
		}
		produce(t, tx, append(events(topic, 0, 10*i, 10), events(topic, 1, 100+10*i, 10)...)...)
		if err := tx.EndTransaction(context.Background(), how); err != nil {
			t.Fatal(err)
		}
	}
	x := &transaction{t: t, raw: cl, topic: topic}
	x.settled()
	w := newWorld()
	r := open(t, w.env(topic, 0, 1, source("topics", topic, "end", "latest"), brokers), nil)
	got, _ := drain[event](t, r, w, -1)
	want := slices.Concat(upTo(0, 10), upTo(20, 30), upTo(100, 110), upTo(120, 130))
	if !slices.Equal(ids(got), want) {
		t.Errorf("bounded: %v", ids(got))
	}

	w = newWorld()
	r = open(t, w.env(topic, 0, 1, source("topics", topic, "discovery_interval", "100ms"), brokers), r.Snapshot())
	if _, err := kadm.NewClient(cl).CreatePartitions(context.Background(), 1, topic); err != nil {
		t.Fatal(err)
	}
	for ids, _ := r.Splits(); len(ids) < 3; ids, _ = r.Splits() {
		w.await(t)
	}
	cl.ForceMetadataRefresh()
	fresh := client(t, brokers)
	produce(t, fresh, events(topic, 2, 500, 20)...)
	if got, _ := drain[event](t, r, w, 20); !slices.Equal(ids(got), upTo(500, 520)) {
		t.Errorf("the new partition: %v", ids(got))
	}
	r.Completed(1, r.Snapshot())
	deadline := time.After(time.Minute)
	for {
		os, err := kadm.NewClient(cl).FetchOffsets(context.Background(), "pipe/"+topic)
		if o, ok := os.Lookup(topic, 2); err == nil && ok && o.At == 20 {
			break
		}
		select {
		case <-deadline:
			t.Fatalf("the group has %v, %v", os, err)
		default:
		}
	}
}
