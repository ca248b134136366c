package minicluster

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
	"unsafe"

	"github.com/weirstream/weir/actors/channel"
	"github.com/weirstream/weir/actors/subtask"
	"github.com/weirstream/weir/dataflow"
	"github.com/weirstream/weir/internal/codec"
	"github.com/weirstream/weir/state"
	"github.com/weirstream/weir/stream"
	"github.com/weirstream/weir/stream/spi"
)

// paneRow is what goes into the windows, paneOut what comes out.
type paneRow struct{ Key, At, N int64 }

type paneOut struct{ Key, Start, Sum, Count int64 }

type paneAcc struct{ Sum, Count int64 }

const (
	paneSize   = 1000 // of a window, microseconds
	paneGroups = 16
)

// paneJob is the job as a user would write it; its windows are kept for late rows
// for late microseconds.
func paneJob(late int64) (spi.Job, error) {
	return stream.Build(nil, func(g *stream.Graph) error {
		in := stream.Read(g, "in", stream.Source[paneRow]{Kind: "in"}, stream.EventTime(func(r paneRow) time.Time { return time.UnixMicro(r.At) }, 0))
		byKey := stream.KeyBy(in, func(r paneRow) int64 { return r.Key })
		w := stream.Tumbling(paneSize * time.Microsecond).Lateness(time.Duration(late) * time.Microsecond)
		sums := stream.Windowed(byKey, "sums", w,
			func(a *paneAcc, r paneRow) { a.Sum += r.N; a.Count++ },
			func(a *paneAcc, b paneAcc) { a.Sum += b.Sum; a.Count += b.Count },
			func(p stream.Pane[int64], a paneAcc) paneOut {
				return paneOut{p.Key, p.Start.UnixMicro(), a.Sum, a.Count}
			})
		stream.Write(sums, "out", stream.Sink{Kind: "out"})
		return nil
	})
}

// paneItem is rows of the input, or a watermark behind them.
type paneItem struct {
	rows []paneRow
	wm   int64
}

// paneWorld runs the subtasks of a window operator, each a real machine with the
// real kernel over a real store, against aborted epochs, failing disks and kills.
type paneWorld struct {
	t       *testing.T
	r       *rand.Rand
	dir     string
	job     spi.Job
	shared  *state.Shared
	budget  int64
	chunk   int    // rows of a batch at most, and half the credit
	without string // negative control

	log      []paneItem
	at       int // next item
	wm       int64
	batch    spi.Batch
	nodes    []*paneNode
	attempt  dataflow.Attempt
	epoch    dataflow.Epoch
	open     bool
	position map[dataflow.Epoch]int
	complete dataflow.Epoch
	manifest []dataflow.Part
	out      []paneOut // committed
	half     int       // restores from a part that was cut between two results
	now      int64
}

type paneNode struct {
	w     *paneWorld
	m     *subtask.Machine
	st    *state.Store
	send  *channel.Sender
	queue []channel.Item
	write func() error
	part  *dataflow.Part // of the open epoch
	rows  []paneOut      // sent
	cuts  map[dataflow.Epoch]int
	owed  channel.Credit
}

func (n *paneNode) Send(_ int, it channel.Item) {
	switch it.Kind {
	case channel.Rows:
		n.rows = append(n.rows, unsafe.Slice((*paneOut)(it.Batch.Base()), it.Batch.Len())...)
		n.owed.Rows += int64(it.Batch.Len())
		n.owed.Bytes += it.Bytes
	case channel.Barrier:
		n.cuts[it.Epoch] = len(n.rows)
	}
}

func (n *paneNode) Grant(_ int, c channel.Credit) { n.send.Grant(c) }

func (n *paneNode) Write(e dataflow.Epoch, _ int, frozen []spi.Frozen) {
	n.write = func() error {
		if n.w.r.IntN(12) == 0 {
			return errDisk
		}
		if n.w.without == "drops" {
			for i := range frozen {
				frozen[i] = noDrops{frozen[i]}
			}
		}
		_, err := n.st.WriteEpoch(context.Background(), e, frozen)
		return err
	}
}

type noDrops struct{ spi.Frozen }

func (noDrops) Drops() []spi.Span { return nil }

// Acked uploads what is new.
func (n *paneNode) Acked(e dataflow.Epoch, p dataflow.Part, _ []dataflow.FileRef) {
	if !n.w.open || e != n.w.epoch {
		return
	}
	for i := range p.Files {
		f := &p.Files[i]
		if f.Object == "" {
			f.Object, f.Offset = fmt.Sprintf("%d-%d-%d-%d", n.w.attempt, e, p.Subtask.Index, i), 0
			b, err := os.ReadFile(f.Local)
			if err == nil {
				err = os.WriteFile(filepath.Join(n.w.dir, f.Object), b, 0o600)
			}
			if err != nil {
				n.w.t.Fatal(err)
			}
			n.st.Uploaded(f.Local, f.Object, 0)
		}
		f.Local = ""
	}
	n.part = &p
}

func (n *paneNode) Declined(e dataflow.Epoch, _ error) {
	if n.w.open && e == n.w.epoch {
		n.w.abort()
	}
}

func (n *paneNode) Ended()                                            {}
func (n *paneNode) WakeAt(int64)                                      {}
func (n *paneNode) Prepared(int, dataflow.Epoch, spi.Prepared, error) {}
func (n *paneNode) Count(int, string, int64)                          {}
func (w *paneWorld) path(object string) string                        { return filepath.Join(w.dir, object) }
func (w *paneWorld) Fetch(_ context.Context, o string, off, n int64, to io.Writer) error {
	b, err := os.ReadFile(w.path(o))
	if err == nil {
		_, err = to.Write(b[off : off+n])
	}
	return err
}

func (w *paneWorld) ReadAt(_ context.Context, o string, p []byte, off int64) error {
	b, err := os.ReadFile(w.path(o))
	if err == nil && copy(p, b[off:]) < len(p) {
		err = io.ErrUnexpectedEOF
	}
	return err
}

// paneStore makes a state.Store what a machine needs.
type paneStore struct{ *state.Store }

func (s paneStore) Completed(e dataflow.Epoch) { s.SetComplete(e) }

// deploy makes every machine anew from the last complete epoch.
func (w *paneWorld) deploy(parallelism int) {
	w.attempt++
	for _, n := range w.nodes {
		if err := n.st.Close(); err != nil {
			w.t.Fatal(err)
		}
	}
	w.nodes, w.open = nil, false
	w.at, w.wm = w.position[w.complete], dataflow.MinTime
	for _, it := range w.log[:w.at] {
		if it.rows == nil {
			w.wm = it.wm
		}
	}
	for _, p := range w.manifest {
		if p.Operators["sums"].Target != 0 {
			w.half++
			break
		}
	}
	// The sender tells its watermark again: at once, or behind its first rows.
	again := w.wm > dataflow.MinTime && (w.at == len(w.log) || w.r.IntN(3) == 0)
	for i := range parallelism {
		n := w.node(i, parallelism)
		if w.nodes = append(w.nodes, n); again {
			n.queue = append(n.queue, channel.Item{Kind: channel.Watermark, Time: w.wm})
		}
	}
}

func (w *paneWorld) node(i, parallelism int) *paneNode {
	must := func(err error) {
		if err != nil {
			w.t.Fatal(err)
		}
	}
	n := &paneNode{w: w, cuts: map[dataflow.Epoch]int{}}
	st := w.job.States("sums")[0]
	value, schemas, err := codec.NewStateCodec(st.Value, nil)
	must(err)
	groups := dataflow.OwnedBy(paneGroups, parallelism, i)
	n.st, err = state.Open(state.Options{
		Dir: w.path(fmt.Sprintf("local-%d-%d", w.attempt, i)), Shared: w.shared, Groups: groups, Total: paneGroups, Objects: w, NoBackground: true,
		Infos: []dataflow.StateInfo{{Operator: "sums", Name: st.Name, ID: 1, Kind: st.Kind, Panes: st.Panes, Schemas: schemas}},
	})
	must(err)
	op := subtask.Op{
		Name: "sums", Parallelism: parallelism, Parent: -1, Outs: 1, Watermark: dataflow.MinTime,
		State: func(string) (dataflow.StateID, spi.Codec, spi.Codec, error) { return 1, nil, value, nil },
	}
	var files []dataflow.FileRef
	for k, p := range w.manifest {
		st := p.Operators["sums"]
		if k == 0 {
			op.Watermark, op.Target = st.Watermark, st.Watermark
		}
		op.Watermark = min(op.Watermark, st.Watermark)
		op.Target = max(op.Target, st.Watermark)
		if st.Target != 0 {
			op.Target = max(op.Target, st.Target)
		}
		for _, f := range p.Files {
			if f.Groups = f.Groups.Intersect(p.Groups).Intersect(groups); f.Groups.Len() > 0 {
				files = append(files, f)
			}
		}
	}
	if w.without == "target" {
		op.Target = 0
	}
	must(n.st.Restore(context.Background(), files))
	op.Runner, err = w.job.NewRunner("sums")
	must(err)
	window := channel.Window{Rows: int64(2 * w.chunk), Bytes: 1 << 20}
	n.send = channel.NewSender(w.attempt, window)
	n.m, err = subtask.New(subtask.Config{
		Subtask: dataflow.SubtaskID{Chain: "sums", Index: i}, Attempt: w.attempt, Groups: groups, KeyGroups: paneGroups,
		Store: paneStore{n.st}, Effects: n, LastEpoch: w.epoch, BatchRows: 64, Window: window, MemoryBudget: w.budget, Ops: []subtask.Op{op},
		Ins:  []subtask.In{{Channel: dataflow.ChannelID{}}},
		Outs: []subtask.Out{{Exchange: dataflow.Rebalance, Channels: []dataflow.ChannelID{{Edge: 1}}}},
	})
	must(err)
	n.m.Start()
	return n
}

// feed gives the next item of the log to every machine.
func (w *paneWorld) feed() {
	it := w.log[w.at]
	w.at++
	if it.rows == nil {
		w.wm = it.wm
		for _, n := range w.nodes {
			n.queue = append(n.queue, channel.Item{Kind: channel.Watermark, Time: it.wm})
		}
		return
	}
	w.batch.Reset()
	at := unsafe.Slice((*paneRow)(w.batch.Extend(len(it.rows))), len(it.rows))
	copy(at, it.rows)
	for i, r := range it.rows {
		w.batch.Head().Times[i] = r.At
	}
	g := w.job.Graph()
	router, err := w.job.NewRouter(g.In("sums")[0])
	if err != nil {
		w.t.Fatal(err)
	}
	owner := make([]int32, paneGroups)
	for i := range owner {
		owner[i] = int32(dataflow.OwnerOf(i, paneGroups, len(w.nodes)))
	}
	var room []int
	var out []spi.Batch
	for range w.nodes {
		room, out = append(room, len(it.rows)), append(out, router.NewBatch(0))
	}
	if k := router.Route(w.batch, 0, owner, room, out); k != len(it.rows) {
		w.t.Fatalf("the router took %d of %d rows", k, len(it.rows))
	}
	for i, n := range w.nodes {
		if out[i].Len() > 0 {
			out[i].Head().Watermark = w.wm
			n.queue = append(n.queue, channel.Item{Kind: channel.Rows, Batch: out[i], Bytes: 1})
		}
	}
}

func (w *paneWorld) abort() {
	w.open = false
	for _, n := range w.nodes {
		n.part = nil
		n.m.Abort(w.epoch)
	}
}

func (w *paneWorld) barrier() {
	w.epoch++
	w.open, w.position[w.epoch] = true, w.at
	for _, n := range w.nodes {
		n.part = nil
		n.queue = append(n.queue, channel.Item{Kind: channel.Barrier, Epoch: w.epoch, Complete: w.complete})
	}
}

// finish completes the open epoch if every part of it is there.
func (w *paneWorld) finish() {
	if !w.open || slices.ContainsFunc(w.nodes, func(n *paneNode) bool { return n.part == nil }) {
		return
	}
	w.open, w.complete, w.manifest = false, w.epoch, nil
	for _, n := range w.nodes {
		w.manifest = append(w.manifest, *n.part)
		to := n.cuts[w.epoch]
		w.out = append(w.out, n.rows[:to]...)
		n.rows = n.rows[to:]
		for e := range n.cuts {
			n.cuts[e] -= to
		}
		n.m.Complete(w.epoch)
	}
}

// step does one thing to one machine.
func (w *paneWorld) step() {
	n := w.nodes[w.r.IntN(len(w.nodes))]
	switch w.r.IntN(6) {
	case 0:
		if n.write != nil && w.r.IntN(2) == 0 {
			write := n.write
			n.write = nil
			n.m.Written(write())
		}
	case 1:
		if w.r.IntN(3) == 0 {
			n.owed.Timer = dataflow.MaxTime
			n.m.Credit(0, n.owed)
			n.owed = channel.Credit{}
		}
	case 2, 3:
		if len(n.queue) > 0 {
			if it := n.queue[0]; it.Kind != channel.Rows || n.send.Room(1) >= int64(it.Batch.Len()) {
				n.m.Receive(0, n.send.Stamp(it))
				n.queue = n.queue[1:]
			}
		}
	default:
		w.now += w.r.Int64N(3000)
		left := 1 + w.r.IntN(6)
		n.m.Turn(w.now, func() bool { left--; return left > 0 })
	}
	if _, err := n.m.Err(); err != nil {
		if strings.Contains(err.Error(), errDisk.Error()) {
			w.deploy(1 + w.r.IntN(3)) // a spill failed
			return
		}
		w.t.Fatal(err)
	}
	w.finish()
}

// run drives the world until everything of the log is committed.
func (w *paneWorld) run(steps int) error {
	w.deploy(1 + w.r.IntN(3))
	for i := 0; ; i++ {
		if i > steps*20 {
			return errors.New("it does not come to an end")
		}
		waiting := 0
		for _, n := range w.nodes {
			waiting += len(n.queue)
		}
		faults := i < steps
		switch x := w.r.IntN(400); {
		case x < 3 && faults:
			w.deploy(1 + w.r.IntN(3))
		case x < 6 && faults && w.open:
			w.abort()
		case x < 40 && !w.open:
			if w.complete > 0 && w.position[w.complete] == len(w.log) && len(w.out) > 0 && w.drained() {
				return nil
			}
			w.barrier()
		case x < 120 && w.at < len(w.log) && waiting < 6*len(w.nodes):
			w.feed()
		default:
			w.step()
		}
	}
}

// drained reports whether the last complete epoch holds all there is.
func (w *paneWorld) drained() bool {
	for i, n := range w.nodes {
		if len(n.queue)+len(n.rows) > 0 || i < len(w.manifest) && w.manifest[i].Operators["sums"].Target != 0 {
			return false
		}
	}
	return slices.IndexFunc(w.manifest, func(p dataflow.Part) bool { return p.Operators["sums"].Watermark != w.log[len(w.log)-1].wm }) < 0
}

// paneLog makes an input with rows that come too late behind each watermark, and
// what windows make of it.
func paneLog(r *rand.Rand, keys, windows, chunk int, late int64) (log []paneItem, want []paneOut) {
	type place struct{ key, start int64 }
	sums := map[place]*paneAcc{}
	done := map[place]bool{}
	wm := int64(0)
	for wm < int64(windows)*paneSize {
		var rows []paneRow
		for range 1 + r.IntN(2*keys) {
			at := max(0, wm-400) + r.Int64N(3*paneSize)
			rows = append(rows, paneRow{r.Int64N(int64(keys)), at, r.Int64N(100)})
		}
		for chunk := range slices.Chunk(rows, chunk) {
			log = append(log, paneItem{rows: chunk})
		}
		for _, x := range rows {
			p := place{x.Key, x.At - x.At%paneSize}
			if p.start+paneSize+late <= wm {
				continue
			}
			if sums[p] == nil {
				sums[p] = &paneAcc{}
			}
			sums[p].Sum += x.N
			sums[p].Count++
			if p.start+paneSize <= wm {
				want, done[p] = append(want, paneOut{p.key, p.start, sums[p].Sum, sums[p].Count}), true
			}
		}
		wm += r.Int64N(3 * paneSize)
		if wm >= int64(windows)*paneSize {
			wm = int64(windows+9) * paneSize
		}
		log = append(log, paneItem{wm: wm})
		for p, a := range sums {
			if p.start+paneSize <= wm && !done[p] {
				want, done[p] = append(want, paneOut{p.key, p.start, a.Sum, a.Count}), true
			}
			if p.start+paneSize+late <= wm {
				delete(sums, p)
				delete(done, p)
			}
		}
	}
	return log, want
}

// panes runs one seed and says how what was committed differs from what windows
// are.
func panes(t *testing.T, seed uint64, keys int, budget int64, without string) (half int, err error) {
	r := rand.New(rand.NewPCG(seed, 11))
	late, chunk := []int64{0, 0, 700}[seed%3], max(40, keys/20)
	job, err := paneJob(late)
	if err != nil {
		t.Fatal(err)
	}
	shared, err := state.NewShared(state.SharedOptions{CacheBytes: 4 << 20})
	if err != nil {
		t.Fatal(err)
	}
	defer shared.Close()
	src, err := job.NewSource("in")
	if err != nil {
		t.Fatal(err)
	}
	w := &paneWorld{
		t: t, r: r, dir: t.TempDir(), job: job, shared: shared, budget: budget, chunk: chunk, without: without, batch: src.NewBatch(256),
		position: map[dataflow.Epoch]int{},
	}
	log, want := paneLog(r, keys, 12, chunk, late)
	w.log = log
	defer func() {
		for _, n := range w.nodes {
			err = errors.Join(err, n.st.Close())
		}
	}()
	if err := w.run(max(6000, 10*keys)); err != nil {
		return w.half, fmt.Errorf("seed %d: %w", seed, err)
	}
	count := map[paneOut]int{}
	for _, o := range want {
		count[o]++
	}
	for _, o := range w.out {
		count[o]--
	}
	maps.DeleteFunc(count, func(_ paneOut, n int) bool { return n == 0 })
	if len(count) > 0 {
		for o, n := range count {
			return w.half, fmt.Errorf("seed %d: %d results differ, as %+v: %d too few", seed, len(count), o, n)
		}
	}
	return w.half, nil
}

// Windows whose panes are met half fired by barriers, with aborted epochs, failing
// disks, spills, late rows, kills and restores at other parallelisms, put out each
// result once.
func TestHalfFiredPanes(t *testing.T) {
	half := 0
	for seed := range uint64(24) {
		n, err := panes(t, seed, 150, []int64{8 << 10, 40 << 10, 1 << 20}[seed/3%3], "")
		if half += n; err != nil {
			t.Fatal(err)
		}
	}
	if testing.Short() {
		t.Log("skipped with -short: a pane of 6,000 keys under a budget of 1 MiB")
	} else {
		n, err := panes(t, 300, 6_000, 1<<20, "")
		if half += n; err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("%d restores between two results of a pane", half)
	if half < 20 {
		t.Errorf("only %d restores were between two results of a pane", half)
	}
}

// The test above finds what it is there for: a target that is not kept lets rows
// in before the watermark that fired part of their window, and ranges that are not
// dropped fire again.
func TestHalfFiredPanesFindsPlantedBugs(t *testing.T) {
	for _, without := range []string{"target", "drops"} {
		for seed := uint64(0); ; seed++ {
			if _, err := panes(t, seed, 150, []int64{8 << 10, 40 << 10, 1 << 20}[seed/3%3], without); err != nil {
				t.Logf("without %s: %v", without, err)
				break
			}
			if seed == 40 {
				t.Fatalf("without %s 40 seeds are right", without)
			}
		}
	}
}
