package minicluster

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"

	"github.com/weirstream/weir/dataflow"
	wall "github.com/weirstream/weir/internal/clock"
	"github.com/weirstream/weir/internal/control"
	"github.com/weirstream/weir/internal/failpoint"
	"github.com/weirstream/weir/jobmanager"
	"github.com/weirstream/weir/stream"
	"github.com/weirstream/weir/stream/spi"
)

// dice is a seeded source of chance that many goroutines share.
type dice struct {
	mu sync.Mutex
	r  *rand.Rand
}

func (d *dice) intn(n int) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.r.IntN(n)
}

func (d *dice) upTo(t time.Duration) time.Duration { return time.Duration(d.intn(int(t))) }

// An outside is what the job reads and writes: a topic whose records come with time,
// and a table that judges every commit. It shares nothing with the engine.
type outside struct {
	dice   *dice
	calm   atomic.Bool // no more faults of its own
	begin  time.Time
	every  time.Duration // from one record of a split to the next
	splits [][]uint64    // keys
	burst  int           // records come so many at a time
	slow   time.Duration // a writer takes a few rows and then nothing for so long, so that rows wait in channels when a barrier comes; 0: it takes all

	mu       sync.Mutex
	txn      dataflow.Epoch
	seen     map[uint64]bool          // records visible
	counts   map[uint64]map[int64]int // by key: how often each number is visible
	of       map[uint64]uint64        // key of a record
	commits  int
	problems []string
}

func newOutside(d *dice) *outside {
	o := &outside{dice: d, begin: time.Now(), every: time.Duration(1+d.intn(4)) * time.Millisecond,
		burst: []int{1, 30, 200}[d.intn(3)], slow: []time.Duration{0, 10, 30}[d.intn(3)] * time.Millisecond,
		seen: map[uint64]bool{}, counts: map[uint64]map[int64]int{}, of: map[uint64]uint64{}}
	keys := 1 + d.intn(40)
	for k := range 4 {
		split := make([]uint64, (300+d.intn(900))/o.pace(k))
		for i := range split {
			split[i] = uint64(d.intn(keys))
			o.of[rowID(k, i)] = split[i]
		}
		o.splits = append(o.splits, split)
	}
	return o
}

// pace is how many times slower than the others a split grows: the channels of one
// source are empty while those of another are full.
func (o *outside) pace(k int) int { return 1 + 4*(k%2) }

// arrived is how many records of a split there are now.
func (o *outside) arrived(k int) int {
	n := int(time.Since(o.begin)/o.every) / o.pace(k)
	return min(len(o.splits[k]), n/o.burst*o.burst+o.burst-1)
}

func (o *outside) wrong(format string, args ...any) {
	if len(o.problems) < 10 {
		o.problems = append(o.problems, fmt.Sprintf(format, args...))
	}
}

// visible takes rows that a commit made visible; mu is held.
func (o *outside) visible(epoch dataflow.Epoch, rows []row) {
	o.commits++
	for _, r := range rows {
		if key, ok := o.of[r.ID]; !ok || key != r.Key {
			o.wrong("epoch %d: record %x of key %d was never read", epoch, r.ID, r.Key)
		}
		if o.seen[r.ID] {
			o.wrong("epoch %d: record %x is visible twice", epoch, r.ID)
		}
		o.seen[r.ID] = true
		if o.counts[r.Key] == nil {
			o.counts[r.Key] = map[int64]int{}
		}
		o.counts[r.Key][r.N]++
	}
}

// verify compares everything that is visible with what follows from the topic.
func (o *outside) verify() []string {
	o.mu.Lock()
	defer o.mu.Unlock()
	if missing := len(o.of) - len(o.seen); missing > 0 {
		o.wrong("%d of %d records are missing", missing, len(o.of))
	}
	total := map[uint64]int{}
	for _, key := range o.of {
		total[key]++
	}
	for key, n := range total {
		want := map[int64]int{}
		for i := range n {
			want[int64(i%lap)+1]++
		}
		for i := int64(1); i <= lap; i++ {
			if o.counts[key][i] != want[i] {
				o.wrong("key %d of %d records: number %d is visible %d times, want %d", key, n, i, o.counts[key][i], want[i])
			}
		}
	}
	return o.problems
}

// t2Source reads the topic.
type t2Source struct{ o *outside }

func (t2Source) Check(dataflow.Connector, map[string]string) error { return nil }

func (s t2Source) Open(_ context.Context, env spi.Env, restored []dataflow.SplitState, _ spi.SourceRunner) (spi.Reader, error) {
	r := &t2Reader{o: s.o, wake: env.Wake}
	for k := range s.o.splits {
		if !spi.OwnsSplit("in", k, env.Index, env.Parallelism) {
			continue
		}
		at := 0
		for _, st := range restored {
			if st.Split == splitName(k) {
				at = int(binary.BigEndian.Uint64(st.Position))
			}
		}
		r.own, r.ids, r.at = append(r.own, k), append(r.ids, splitName(k)), append(r.at, at)
	}
	return r, nil
}

type t2Reader struct {
	o     *outside
	wake  func()
	timer *time.Timer
	own   []int
	ids   []string
	at    []int
	next  int
}

func (r *t2Reader) Splits() ([]string, int) { return r.ids, 1 }

func (r *t2Reader) Poll(b spi.Batch, most int, _ *[]spi.Rejected) (int, int, error) {
	for range r.own {
		i := r.next
		r.next = (r.next + 1) % len(r.own)
		k := r.own[i]
		n := min(most, r.o.arrived(k)-r.at[i], 1+r.o.dice.intn(16))
		if n <= 0 {
			continue
		}
		first := b.Len()
		fresh := unsafe.Slice((*row)(b.Extend(n)), n)
		for j := range fresh {
			fresh[j] = row{ID: rowID(k, r.at[i]), Key: r.o.splits[k][r.at[i]]}
			b.Head().Times[first+j] = int64(r.at[i])
			r.at[i]++
		}
		return i, n, nil
	}
	if r.timer == nil {
		r.timer = time.AfterFunc(r.o.every, r.wake)
	} else {
		r.timer.Reset(r.o.every)
	}
	return 0, 0, nil
}

func (r *t2Reader) Ended() bool {
	for i, k := range r.own {
		if r.at[i] < len(r.o.splits[k]) {
			return false
		}
	}
	return true
}

func (r *t2Reader) Snapshot() (out []dataflow.SplitState) {
	for i, id := range r.ids {
		out = append(out, dataflow.SplitState{Split: id, Position: position(r.at[i])})
	}
	return out
}

func (r *t2Reader) Completed(dataflow.Epoch, []dataflow.SplitState) {}
func (r *t2Reader) Lag() int64                                      { return -1 }

func (r *t2Reader) Close() error {
	if r.timer != nil {
		r.timer.Stop()
	}
	return nil
}

// t2Sink writes the table.
type t2Sink struct{ o *outside }

func (t2Sink) Check(dataflow.Connector, map[string]string) error { return nil }

func (s t2Sink) OpenWriter(_ context.Context, env spi.Env, _ map[int][]byte) (spi.Writer, error) {
	return &t2Writer{o: s.o, wake: env.Wake}, nil
}

func (s t2Sink) OpenCommitter(context.Context, spi.Env) (spi.Committer, error) {
	return &t2Committer{o: s.o}, nil
}

type t2Writer struct {
	o    *outside
	mu   sync.Mutex
	rows []row
	work sync.WaitGroup

	wake  func()
	timer *time.Timer
	next  time.Time // when it takes rows again
}

func (w *t2Writer) Start(context.Context) error { return nil }

func (w *t2Writer) Write(b spi.Batch, from int) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	n := b.Len() - from
	if slow := w.o.slow; slow > 0 {
		if wait := time.Until(w.next); wait > 0 {
			if w.timer != nil {
				w.timer.Stop()
			}
			w.timer = time.AfterFunc(wait, w.wake)
			return 0, nil
		}
		n = min(n, 1+w.o.dice.intn(16))
		w.next = time.Now().Add(slow)
	}
	w.rows = append(w.rows, rowsOf(b)[from:from+n]...)
	return n, nil
}

func (w *t2Writer) Prepare(_ dataflow.Epoch, _ bool, done func(spi.Prepared, error)) {
	w.mu.Lock()
	went := w.rows
	w.rows = nil
	w.mu.Unlock()
	w.work.Go(func() {
		w.o.pause(50 * time.Millisecond)
		if w.o.unlucky(12) {
			w.mu.Lock()
			w.rows = append(slices.Clip(went), w.rows...)
			w.mu.Unlock()
			done(spi.Prepared{}, errDisk)
			return
		}
		var p spi.Prepared
		if len(went) > 0 {
			p.Handles = [][]byte{encodeRows(went)}
		}
		done(p, nil)
	})
}

func (w *t2Writer) Finished(dataflow.Epoch) {}

func (w *t2Writer) Close() error {
	w.mu.Lock()
	if w.timer != nil {
		w.timer.Stop()
	}
	w.mu.Unlock()
	w.work.Wait()
	return nil
}

func (o *outside) unlucky(oneIn int) bool { return !o.calm.Load() && o.dice.intn(oneIn) == 0 }

// pause is how long something outside takes.
func (o *outside) pause(most time.Duration) {
	wall.Sleep(context.Background(), wall.Wall(), o.dice.upTo(most))
}

type t2Committer struct{ o *outside }

func (c *t2Committer) Commit(_ context.Context, e dataflow.Epoch, handles []dataflow.CommitHandle) (string, error) {
	o := c.o
	o.pause(50 * time.Millisecond)
	if o.unlucky(10) {
		return "", errors.New("the table is busy")
	}
	o.mu.Lock()
	if e > o.txn || failpoint.Off(failpoint.TxnCheck) {
		var rows []row
		for _, h := range handles {
			rows = append(rows, decodeRows(h.Data)...)
		}
		o.visible(e, rows)
		o.txn = max(o.txn, e)
	}
	o.mu.Unlock()
	o.pause(20 * time.Millisecond)
	if o.unlucky(8) {
		return "", errors.New("the answer is lost")
	}
	return fmt.Sprint("epoch ", e), nil
}

func (c *t2Committer) Check(_ context.Context, restored dataflow.Epoch) error {
	c.o.mu.Lock()
	defer c.o.mu.Unlock()
	if c.o.txn > restored && !failpoint.Off(failpoint.TxnCheck) {
		return fmt.Errorf("the table holds epoch %d, restored is %d: %w", c.o.txn, restored, spi.ErrStop)
	}
	return nil
}

func (c *t2Committer) Close() error { return nil }

// build is the job as a user would write it.
func (o *outside) build(g *stream.Graph) error {
	in := stream.Read(g, "in", stream.Source[row]{Kind: "in"}, stream.EventTime(rowTime, 2*time.Microsecond))
	byKey := stream.KeyBy(in, func(r row) uint64 { return r.Key })
	counted := stream.Actors(byKey, "count", func() *tally { return new(tally) })
	stream.Write(counted, "table", stream.Sink{Kind: "table"})
	return nil
}

// Load implements taskmanager.Loader.
func (o *outside) Load(string, map[string]string) (spi.Job, error) { return stream.Build(nil, o.build) }

// wire is a control.Link that may lose messages, and whose end changes with crashes.
type wire struct {
	o    *outside
	to   atomic.Pointer[control.Link]
	lost atomic.Int64
}

func (w *wire) Send(m control.Message) {
	if w.o.unlucky(60) {
		if _, ok := m.(control.Report); !ok {
			w.lost.Add(1)
			return
		}
	}
	if p := w.to.Load(); p != nil {
		(*p).Send(m)
	}
}

func (w *wire) end(l control.Link) {
	if l == nil {
		w.to.Store(nil)
		return
	}
	w.to.Store(&l)
}

// memRaft is the real Raft with one voter over a log and a transport in memory.
type memRaft struct{ r *raft.Raft }

type raftFSM struct{ app *jobmanager.Replica }

func (f raftFSM) Apply(e *raft.Log) any { return f.app.Apply(e.Data) }

func (f raftFSM) Snapshot() (raft.FSMSnapshot, error) {
	b, err := f.app.Snapshot()
	return raftSnapshot(b), err
}

func (f raftFSM) Restore(r io.ReadCloser) error {
	b, err := io.ReadAll(r)
	return errors.Join(err, r.Close(), f.app.Restore(b))
}

type raftSnapshot []byte

func (s raftSnapshot) Persist(sink raft.SnapshotSink) error {
	_, err := sink.Write(s)
	return errors.Join(err, sink.Close())
}

func (raftSnapshot) Release() {}

// raftDisk is what of a memRaft survives its crash.
type raftDisk struct {
	log   *raft.InmemStore
	snaps *raft.InmemSnapshotStore
	fresh bool
}

func newRaftDisk() *raftDisk {
	return &raftDisk{log: raft.NewInmemStore(), snaps: raft.NewInmemSnapshotStore(), fresh: true}
}

func (d *raftDisk) open(app *jobmanager.Replica) (*memRaft, error) {
	addr, transport := raft.NewInmemTransport("node-1")
	conf := raft.DefaultConfig()
	conf.LocalID, conf.Logger = "node-1", hclog.New(&hclog.LoggerOptions{Output: io.Discard})
	conf.HeartbeatTimeout, conf.ElectionTimeout, conf.LeaderLeaseTimeout = 50*time.Millisecond, 50*time.Millisecond, 50*time.Millisecond
	conf.CommitTimeout, conf.SnapshotThreshold, conf.SnapshotInterval = 5*time.Millisecond, 64, time.Second
	if d.fresh {
		d.fresh = false
		boot := raft.Configuration{Servers: []raft.Server{{ID: "node-1", Address: addr}}}
		if err := raft.BootstrapCluster(conf, d.log, d.log, d.snaps, transport, boot); err != nil {
			return nil, err
		}
	}
	r, err := raft.NewRaft(conf, raftFSM{app}, d.log, d.log, d.snaps, transport)
	if err != nil {
		return nil, err
	}
	m := &memRaft{r}
	for r.State() != raft.Leader || r.Barrier(0).Error() != nil {
		wall.Sleep(context.Background(), wall.Wall(), 5*time.Millisecond)
	}
	return m, nil
}

func (m *memRaft) Append(entry []byte) (any, error) {
	f := m.r.Apply(entry, 10*time.Second)
	if err := f.Error(); err != nil {
		return nil, err
	}
	return f.Response(), nil
}

func (m *memRaft) Term() uint64 { return m.r.CurrentTerm() }
