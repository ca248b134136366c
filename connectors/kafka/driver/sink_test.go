package driver

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/weirstream/weir/dataflow"
	"github.com/weirstream/weir/internal/clock"
	"github.com/weirstream/weir/stream/spi"
)

// Rows become visible with the commit of their epoch, once, however often it is
// repeated; an epoch without rows prepares nothing; ids are used again.
func TestSinkCommits(t *testing.T) {
	c := cluster(t, map[string]int32{"out": 3})
	wd := newWorld()
	env := wd.env("snk", 0, 1, sink("transactional_ids", "2"), c.ListenAddrs())
	w, cm := openWriter(t, env, nil), openCommitter(t, env)
	var used []string
	for epoch := dataflow.Epoch(1); epoch <= 6; epoch++ {
		write(t, wd, w, people(int(epoch)*10, int(epoch)*10+10)...)
		p := prepare(t, w, epoch)
		if len(p.Handles) != 1 {
			t.Fatalf("epoch %d prepared %d handles", epoch, len(p.Handles))
		}
		h, err := parseHandle(p.Handles[0])
		if err != nil {
			t.Fatal(err)
		}
		used = append(used, h.ID)
		if got, _ := visible(t, c.ListenAddrs(), true); len(got) != int(epoch-1)*10 {
			t.Fatalf("before the commit of epoch %d %d rows are visible", epoch, len(got))
		}
		for range 3 {
			commit(t, cm, epoch, handles(0, epoch, p))
		}
		w.Finished(epoch)
		if got, _ := visible(t, c.ListenAddrs(), true); !slices.Equal(ids(got), upTo(10, 10+int(epoch)*10)) {
			t.Fatalf("after the commit of epoch %d: %v", epoch, ids(got))
		}
		if p := prepare(t, w, epoch+100); len(p.Handles) != 0 {
			t.Errorf("an epoch without rows prepared %s", p.Handles)
		}
	}
	slices.Sort(used)
	for _, id := range slices.Compact(used) {
		if !strings.HasPrefix(id, "pipe/snk-0-") {
			t.Errorf("used id %s", id)
		}
	}
}

// A pipeline that is killed at random moments, whose epochs abort at random and
// that is restored at changing parallelism writes every row exactly once.
func TestSinkRandomHistory(t *testing.T) {
	for seed := range uint64(12) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			playHistory(t, seed, cluster(t, map[string]int32{"out": 2}).ListenAddrs(), "out")
		})
	}
}

func playHistory(t *testing.T, seed uint64, brokers []string, topic string) {
	m := history{t: t, rnd: rand.New(rand.NewPCG(seed, 7)), brokers: brokers}
	m.sink = sink("transactional_ids", "2", "topic", topic, "transactional_id_prefix", "t-"+topic)
	for range 8 {
		m.attempt()
	}
	m.attemptToEnd()
	settle(t, client(t, brokers), topic)
	got, _ := visibleIn(t, brokers, topic, true)
	if !slices.Equal(ids(got), upTo(0, m.complete.next)) {
		t.Errorf("seed %d: %d rows visible, want each of %d once: %v", seed, len(got), m.complete.next, ids(got))
	}
}

// manifest is a complete checkpoint of the little engine below.
type manifest struct {
	epoch   dataflow.Epoch
	next    int // rows before it are in complete epochs
	writers map[int][]byte
	commits []dataflow.CommitHandle
}

// A history plays the engine: epochs, aborts, crashes, restores.
type history struct {
	t        *testing.T
	rnd      *rand.Rand
	brokers  []string
	sink     dataflow.Connector
	epoch    dataflow.Epoch
	complete manifest
	finished dataflow.Epoch
}

func (m *history) attempt() { m.run(1+m.rnd.IntN(6), m.rnd.IntN(2) == 0) }

func (m *history) attemptToEnd() { m.run(3, false) }

func (m *history) run(epochs int, crash bool) {
	t := m.t
	wd := newWorld()
	parallelism := 1 + m.rnd.IntN(3)
	cm := openCommitter(t, wd.env("snk", 0, parallelism, m.sink, m.brokers))
	// A restore commits what the manifest prepared, whether or not it was before.
	if m.finished < m.complete.epoch {
		commit(t, cm, m.complete.epoch, m.complete.commits)
		m.finished = m.complete.epoch
	}
	var writers []spi.Writer
	for i := range parallelism {
		writers = append(writers, openWriter(t, wd.env("snk", i, parallelism, m.sink, m.brokers), m.complete.writers))
	}
	next := m.complete.next
	var pending []dataflow.CommitHandle // since the last complete epoch
	for n := range epochs {
		for _, w := range writers {
			rows := m.rnd.IntN(4) * m.rnd.IntN(30)
			write(t, wd, w, people(next, next+rows)...)
			next += rows
		}
		last := n == epochs-1
		if last && crash && m.rnd.IntN(2) == 0 {
			return // killed with open transactions; clients are only dropped
		}
		m.epoch++
		done := manifest{epoch: m.epoch, next: next, writers: map[int][]byte{}}
		for i, w := range writers {
			p := prepare(t, w, m.epoch)
			pending = append(pending, handles(i, m.epoch, p)...)
			done.writers[i] = p.Writer
		}
		if m.rnd.IntN(3) == 0 && !(last && !crash) {
			continue // aborted: its handles ride along
		}
		done.commits = pending
		pending = nil
		m.complete = done
		if last && crash && m.rnd.IntN(2) == 0 {
			return // complete, killed before the commit
		}
		for range 1 + m.rnd.IntN(2) {
			commit(t, cm, m.epoch, done.commits)
		}
		if last && crash {
			return // committed, killed before that was recorded
		}
		m.finished = m.epoch
		for _, w := range writers {
			w.Finished(m.epoch)
		}
	}
}

// A writer of an older attempt that is still alive writes nothing after a newer
// one has started.
func TestSinkFencesZombies(t *testing.T) {
	c := cluster(t, map[string]int32{"out": 1})
	wd := newWorld()
	env := wd.env("snk", 0, 1, sink("transactional_ids", "2"), c.ListenAddrs())
	old := openWriter(t, env, nil)
	write(t, wd, old, people(0, 5)...)
	stale := prepare(t, old, 1)
	write(t, wd, old, people(5, 10)...)

	young := openWriter(t, env, map[int][]byte{0: stale.Writer})
	_, err := prepareErr(old, 2)
	if err == nil {
		// Its records were flushed before; they are aborted none the less.
		cm := openCommitter(t, env)
		if _, err := cm.Commit(context.Background(), 1, handles(0, 1, stale)); !errors.Is(err, spi.ErrStop) || !strings.Contains(err.Error(), "pipe/snk-0-0 (producer ") {
			t.Errorf("committing a fenced transaction: %v", err)
		}
	}
	write(t, wd, young, people(20, 25)...)
	p := prepare(t, young, 3)
	commit(t, openCommitter(t, env), 3, handles(0, 3, p))
	if got, _ := visible(t, c.ListenAddrs(), true); !slices.Equal(ids(got), upTo(20, 25)) {
		t.Errorf("visible: %v", ids(got))
	}
}

// Where the answer does not say whether a transaction was committed, its marker
// does: yes after a commit, although its id was initialised anew, and not after an
// abort.
func TestSinkCommitMarker(t *testing.T) {
	brokers := [][]string{cluster(t, map[string]int32{"out": 1}).ListenAddrs()}
	if real := realBrokers(); real != nil {
		brokers = append(brokers, real)
	}
	for _, addrs := range brokers {
		wd := newWorld()
		topic := unique("marked")
		makeTopic(t, client(t, addrs), topic, 1)
		env := wd.env("snk", 0, 1, sink("topic", topic, "transactional_id_prefix", topic), addrs)
		w, cm := openWriter(t, env, nil), openCommitter(t, env)
		write(t, wd, w, people(0, 10)...)
		done := prepare(t, w, 1)
		commit(t, cm, 1, handles(0, 1, done))
		write(t, wd, w, people(10, 20)...)
		lost := prepare(t, w, 2)
		openWriter(t, env, map[int][]byte{0: done.Writer}) // fences both
		commit(t, cm, 1, handles(0, 1, done))
		if _, err := cm.Commit(context.Background(), 2, handles(0, 2, lost)); !errors.Is(err, spi.ErrStop) {
			t.Errorf("committing a fenced transaction: %v", err)
		}
		off := wd.env("snk", 0, 1, sink("topic", topic, "transactional_id_prefix", topic+"-u", "commit_markers", "false"), addrs)
		w, cm = openWriter(t, off, nil), openCommitter(t, off)
		write(t, wd, w, people(20, 30)...)
		done = prepare(t, w, 1)
		commit(t, cm, 1, handles(0, 1, done))
		openWriter(t, off, map[int][]byte{0: done.Writer})
		if _, err := cm.Commit(context.Background(), 1, handles(0, 1, done)); !errors.Is(err, spi.ErrStop) {
			t.Errorf("without a marker an ambiguous answer must stop the job: %v", err)
		}
		if got, _ := visibleIn(t, addrs, topic, true); !slices.Equal(ids(got), append(upTo(0, 10), upTo(20, 30)...)) {
			t.Errorf("visible: %v", ids(got))
		}
	}
}

// The marker is on its way as soon as the broker has the transaction's first record,
// so that no epoch waits for it; one is placed per transaction.
func TestSinkMarksEarly(t *testing.T) {
	c := cluster(t, map[string]int32{"out": 1})
	marked := make(chan struct{}, 10)
	c.ControlKey(int16(kmsg.TxnOffsetCommit), func(kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		marked <- struct{}{}
		return nil, nil, false
	})
	wd := newWorld()
	env := wd.env("snk", 0, 1, sink(), c.ListenAddrs())
	w := openWriter(t, env, nil)
	for epoch := dataflow.Epoch(1); epoch <= 2; epoch++ {
		write(t, wd, w, event{ID: int(epoch)})
		<-marked // before Prepare
		write(t, wd, w, event{ID: int(epoch) + 10})
		p := prepare(t, w, epoch)
		if h, err := parseHandle(p.Handles[0]); err != nil || !h.Marked || h.Records != 2 {
			t.Errorf("epoch %d: %+v, %v", epoch, h, err)
		}
	}
	if n := len(marked); n != 0 {
		t.Errorf("%d more markers than transactions", n)
	}
}

// While epochs abort or wait, the pool grows; the ids that no state names are
// found and fenced after a crash.
func TestSinkPoolGrows(t *testing.T) {
	c := cluster(t, map[string]int32{"out": 1})
	wd := newWorld()
	env := wd.env("snk", 0, 1, sink("transactional_ids", "2"), c.ListenAddrs())
	w := openWriter(t, env, nil)
	var h []dataflow.CommitHandle
	var state []byte
	for epoch := dataflow.Epoch(1); epoch <= 5; epoch++ {
		write(t, wd, w, event{ID: int(epoch)})
		p := prepare(t, w, epoch)
		h = append(h, handles(0, epoch, p)...)
		if epoch == 2 {
			state = p.Writer
		}
	}
	if st := string(state); st != `{"prefix":"pipe/snk","ids":2}` {
		t.Errorf("state %s", st)
	}
	commit(t, openCommitter(t, env), 2, h[:2])
	openWriter(t, env, map[int][]byte{0: state}) // restored from epoch 2
	got, _ := visible(t, c.ListenAddrs(), true)
	if !slices.Equal(ids(got), []int{1, 2}) {
		t.Errorf("visible: %v", ids(got))
	}
	admin := kadm.NewClient(client(t, c.ListenAddrs()))
	list, err := admin.ListTransactions(context.Background(), nil, []string{"Ongoing"})
	if err != nil || len(list) != 0 {
		t.Errorf("open transactions: %v, %v", list, err)
	}
}

// Without transactions rows are visible after Prepare; nothing is handed to the
// committer.
func TestSinkOtherGuarantees(t *testing.T) {
	for _, g := range []string{atLeastOnce, noGuarantee} {
		t.Run(g, func(t *testing.T) {
			c := cluster(t, map[string]int32{"out": 2})
			wd := newWorld()
			env := wd.env("snk", 0, 1, sink("guarantee", g, "linger.ms", "3"), c.ListenAddrs())
			w := openWriter(t, env, nil)
			for epoch := dataflow.Epoch(1); epoch <= 3; epoch++ {
				write(t, wd, w, people(int(epoch)*1000, int(epoch)*1000+1000)...)
				p := prepare(t, w, epoch)
				if len(p.Handles) != 0 || len(p.Writer) != 0 {
					t.Errorf("prepared %+v", p)
				}
				if g == atLeastOnce {
					if got, _ := visible(t, c.ListenAddrs(), true); len(got) != int(epoch)*1000 {
						t.Errorf("%d rows after epoch %d", len(got), epoch)
					}
				}
				w.Finished(epoch)
			}
			if result, err := openCommitter(t, env).Commit(context.Background(), 3, nil); err != nil || result != "nothing to commit" {
				t.Errorf("Commit = %q, %v", result, err)
			}
		})
	}
}

// Key, headers, timestamp and partition come from the job.
func TestSinkHooks(t *testing.T) {
	c := cluster(t, map[string]int32{"out": 4})
	wd := newWorld()
	env := wd.env("snk", 0, 1, sink("guarantee", atLeastOnce), c.ListenAddrs())
	env.Hooks = []spi.Hook{
		{Name: "key", Elem: env.Elem, Bytes: func(dst []byte, p spi.Pointer) []byte { return append(dst, (*event)(p).User...) }},
		{Name: "headers", Elem: env.Elem, Pairs: func(p spi.Pointer, yield func(string, []byte)) {
			yield("id", []byte(fmt.Sprint((*event)(p).ID)))
			yield("kind", []byte("test"))
		}},
		{Name: "timestamp", Elem: env.Elem, Time: func(p spi.Pointer) int64 { return int64((*event)(p).ID) * 1e6 }},
		{Name: "partition", Elem: env.Elem, Int: func(p spi.Pointer, n int) int { return (*event)(p).ID % n }},
	}
	w := openWriter(t, env, nil)
	write(t, wd, w, append(people(1, 700), event{ID: 700})...)
	prepare(t, w, 1)
	_, recs := visible(t, c.ListenAddrs(), true)
	for _, r := range recs {
		var e event
		if err := json.Unmarshal(r.Value, &e); err != nil {
			t.Fatal(err)
		}
		if string(r.Key) != e.User || int(r.Partition) != e.ID%4 || r.Timestamp.UnixMilli() != int64(e.ID)*1000 ||
			len(r.Headers) != 2 || string(r.Headers[0].Value) != fmt.Sprint(e.ID) || r.Headers[1].Key != "kind" {
			t.Fatalf("row %+v became %+v", e, r)
		}
		if e.User == "" && r.Key != nil {
			t.Error("an empty key is not null")
		}
	}
	if len(recs) != 700 {
		t.Errorf("%d records", len(recs))
	}
	env.Hooks = []spi.Hook{{Name: "partition", Elem: env.Elem, Int: func(p spi.Pointer, n int) int { return 9 }}}
	w = openWriter(t, env, nil)
	if _, err := w.Write(batchOf(event{}), 0); err == nil || err.Error() != `kafka sink: the job's partition function returned 9 for topic "out", which has partitions 0..3` {
		t.Errorf("got %v", err)
	}
}

// Rows wait when the buffer is full, and go on when the broker has caught up.
func TestSinkBackPressure(t *testing.T) {
	c := cluster(t, map[string]int32{"out": 1})
	wd := newWorld()
	env := wd.env("snk", 0, 1, sink("buffer_bytes", "2KiB"), c.ListenAddrs())
	w := openWriter(t, env, nil)
	b := batchOf(people(0, 1000)...)
	short := 0
	for from := 0; from < b.Len(); {
		n, err := w.Write(b, from)
		if err != nil {
			t.Fatal(err)
		}
		if from += n; from < b.Len() {
			short++
			wd.await(t)
		}
	}
	if short == 0 {
		t.Error("2 KiB took 1000 rows at once")
	}
	commit(t, openCommitter(t, env), 1, handles(0, 1, prepare(t, w, 1)))
	if got, _ := visible(t, c.ListenAddrs(), true); !slices.Equal(ids(got), upTo(0, 1000)) {
		t.Errorf("%d rows", len(got))
	}
}

// An epoch is not answered before those that came before it: their transactions
// would be missing from its checkpoint if they were aborted.
func TestSinkAnswersInOrder(t *testing.T) {
	for _, g := range []string{exactlyOnce, atLeastOnce} {
		c := cluster(t, map[string]int32{"out": 1})
		gate := make(chan struct{})
		c.ControlKey(int16(kmsg.Produce), func(kmsg.Request) (kmsg.Response, error, bool) {
			c.SleepControl(func() { <-gate })
			return nil, nil, false
		})
		wd := newWorld()
		w := openWriter(t, wd.env("snk", 0, 1, sink("guarantee", g), c.ListenAddrs()), nil)
		answers := make(chan int, 3)
		answer := func(n int) func(spi.Prepared, error) {
			return func(_ spi.Prepared, err error) {
				if err != nil {
					t.Error(err)
				}
				answers <- n
			}
		}
		write(t, wd, w, people(0, 10)...)
		w.Prepare(1, false, answer(1))
		w.Prepare(2, false, answer(2)) // without rows
		if g == exactlyOnce {
			write(t, wd, w, people(10, 20)...) // under another id, not held up
		}
		w.Prepare(3, false, answer(3))
		select {
		case n := <-answers:
			t.Errorf("%s: epoch %d was answered while epoch 1 is not written", g, n)
		case <-time.After(50 * time.Millisecond):
		}
		close(gate)
		for want := 1; want <= 3; want++ {
			if n := <-answers; n != want {
				t.Errorf("%s: answer %d came in place %d", g, n, want)
			}
		}
	}
}

// A record that the broker refuses fails the writer in one sentence, and its
// epoch is never prepared.
func TestSinkLostRecord(t *testing.T) {
	c := cluster(t, map[string]int32{"out": 1})
	wd := newWorld()
	env := wd.env("snk", 0, 1, sink("max.request.size", "2048"), c.ListenAddrs())
	w := openWriter(t, env, nil)
	write(t, wd, w, event{ID: 1}, event{ID: 2, User: strings.Repeat("x", 5000)})
	want := `kafka sink: a record is larger than max.request.size or the max.message.bytes of topic "out": raise them, or make the rows smaller: `
	if _, err := prepareErr(w, 1); err == nil || !strings.HasPrefix(err.Error(), want) {
		t.Errorf("Prepare: %v", err)
	}
	if _, err := w.Write(batchOf(event{}), 0); err == nil || !strings.HasPrefix(err.Error(), want) {
		t.Errorf("Write: %v", err)
	}
	if _, err := prepareErr(w, 2); err == nil {
		t.Error("the epoch after a lost record was prepared")
	}
}

// What cannot be opened is refused in one sentence.
func TestSinkOpenFaults(t *testing.T) {
	c := cluster(t, map[string]int32{"out": 1})
	old := cluster(t, map[string]int32{"out": 1})
	old.ControlKey(int16(kmsg.ApiVersions), func(req kmsg.Request) (kmsg.Response, error, bool) {
		old.KeepControl()
		resp := req.ResponseKind().(*kmsg.ApiVersionsResponse)
		for key := int16(0); key < 70; key++ {
			k := kmsg.NewApiVersionsResponseApiKey()
			k.ApiKey, k.MaxVersion = key, kmsg.RequestForKey(key).MaxVersion()
			resp.ApiKeys = append(resp.ApiKeys, k)
		}
		return resp, nil, true
	})
	for _, tt := range []struct {
		name    string
		brokers []string
		options []string
		want    string
	}{
		{"missing topic", c.ListenAddrs(), []string{"topic", "absent"}, `kafka: topic "absent" does not exist on ` + c.ListenAddrs()[0] + `: create it, or correct the name`},
		{"unreachable", []string{"127.0.0.1:1"}, []string{"startup_timeout", "300ms"}, `kafka: no broker of 127.0.0.1:1 answered within 300ms: `},
		{"time-out", c.ListenAddrs(), []string{"transaction.timeout.ms", "3600000"}, `kafka sink: transaction.timeout.ms 3600000 is more than the brokers' transaction.max.timeout.ms allows: lower it, or raise theirs`},
		{"old cluster", old.ListenAddrs(), nil, `kafka sink: the cluster at ` + old.ListenAddrs()[0] + ` has transaction.version 0 but guarantee "exactly_once" needs 2, `},
	} {
		t.Run(tt.name, func(t *testing.T) {
			env := newWorld().env("snk", 0, 1, sink(append([]string{"startup_timeout", "10s"}, tt.options...)...), tt.brokers)
			w, err := Sink{Clock: hasty{clock.Wall()}}.OpenWriter(context.Background(), env, nil)
			if err == nil {
				defer w.Close()
				err = w.Start(context.Background())
			}
			if err == nil || !strings.HasPrefix(err.Error(), tt.want) || strings.Contains(err.Error(), "\n") {
				t.Errorf("got  %v\nwant %s", err, tt.want)
			}
		})
	}
}

// Check names every fault of a declaration without asking a broker.
func TestSinkCheck(t *testing.T) {
	settings := map[string]string{"connections.kafka.default.bootstrap.servers": "h:1"}
	for _, tt := range []struct {
		name    string
		options map[string]string
		want    string
	}{
		{"no topic", nil, `kafka sink: option "topic" is missing`},
		{"misspelt", map[string]string{"topic": "a", "garantee": "none"}, `kafka sink: unknown option "garantee": did you mean "guarantee"?`},
		{"wrong guarantee", map[string]string{"topic": "a", "guarantee": "twice"}, `kafka sink: option "guarantee" is "twice": want one of exactly_once, at_least_once, none`},
		{"property of sources", map[string]string{"topic": "a", "group.id": "g"}, `kafka sink: client property "group.id" is for sources only`},
		{"own id", map[string]string{"topic": "a", "transactional.id": "x"}, `kafka sink: client property "transactional.id" cannot be set: each subtask owns a pool of them; set transactional_id_prefix`},
		{"acks", map[string]string{"topic": "a", "acks": "1"}, `kafka sink: acks is "1" but guarantee "exactly_once" needs all: drop acks, or set guarantee to "none"`},
		{"compression", map[string]string{"topic": "a", "compression.type": "zip"}, `kafka sink: client property "compression.type" is "zip": want one of none, gzip, snappy, lz4, zstd`},
		{"connection", map[string]string{"topic": "a", "connection": "b"}, `kafka: no broker is known for connection "b": set connections.kafka.b.bootstrap.servers=HOST:PORT`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			err := Sink{}.Check(dataflow.Connector{Options: tt.options}, settings)
			if err == nil || !slices.Contains(strings.Split(err.Error(), "\n"), tt.want) {
				t.Errorf("got  %v\nwant %s", err, tt.want)
			}
		})
	}
}

// A damaged or foreign handle stops the job.
func TestHandles(t *testing.T) {
	for _, data := range []string{``, `{`, `{"pid":3}`, `{"id":"a","pid":3,"epoch":0,"v":4}`} {
		if _, err := parseHandle([]byte(data)); !errors.Is(err, spi.ErrStop) {
			t.Errorf("parseHandle(%q) = %v", data, err)
		}
	}
	h := handle{ID: "p-s-0-1", PID: 7, Epoch: 2, Version: 5, Records: 9}
	if got, err := parseHandle(h.encode()); err != nil || got != h {
		t.Errorf("round trip: %+v, %v", got, err)
	}
}
