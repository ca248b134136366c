package streamtest

import (
	"fmt"
	"iter"
	"math"

	"github.com/weirstream/weir/dataflow"
	"github.com/weirstream/weir/stream/spi"
)

// A node is one operator with its subtasks.
type node struct {
	op    dataflow.Operator
	tasks []*task
	outs  [][]outEdge // by port
}

// An outEdge is an edge that leaves an operator's port.
type outEdge struct {
	edge   int
	to     *node
	owner  []int32 // key group to subtask
	direct bool    // stays in its subtask
}

// A task is one subtask of one operator. It implements spi.Host.
type task struct {
	h     *Harness
	node  *node
	index int

	runner spi.Runner       // of an operator
	source spi.SourceRunner // of a source
	splits []string         // of a source
	forced int64            // watermark of a source as the test set it

	in      []*channel
	table   *table
	wm      int64 // input watermark, its timers fired
	out     int64 // watermark sent; for a source too
	idle    bool
	ended   bool
	room    int // rows a step may still send
	routers map[int]spi.Router
}

// A channel is what one subtask sends to another along an edge.
type channel struct {
	to    *task
	edge  int
	from  int
	port  int
	queue []item
	wm    int64
	idle  bool
	ended bool
}

// An item is rows, or if there are none the sender's watermark and whether it is
// idle or has ended.
type item struct {
	rows spi.Batch
	wm   int64
	idle bool
	end  bool
}

// Subtask implements spi.Host.
func (t *task) Subtask() (index, parallelism int) { return t.index, len(t.node.tasks) }

// Groups implements spi.Host.
func (t *task) Groups() (owned dataflow.KeyGroups, total int) {
	total = t.h.plan.KeyGroups
	if !t.node.op.Keyed {
		return dataflow.KeyGroups{}, total
	}
	return dataflow.OwnedBy(total, len(t.node.tasks), t.index), total
}

// Room implements spi.Host.
func (t *task) Room(int) int { return max(t.room, 0) }

// Send implements spi.Host.
func (t *task) Send(p int, b spi.Batch) spi.Batch {
	n := b.Len()
	if n == 0 {
		return b
	}
	t.room -= n
	if p == 0 {
		t.h.collect(t.node.op.Name, b)
	}
	if p < len(t.node.outs) {
		for _, e := range t.node.outs[p] {
			t.sendEdge(e, b)
		}
	}
	b.Reset()
	return b
}

func (t *task) sendEdge(e outEdge, b spi.Batch) {
	if e.direct {
		c := b.New(b.Len())
		c.Append(b, 0, b.Len())
		t.h.channel(e, t.index, t.index).queue = append(t.h.channel(e, t.index, t.index).queue, item{rows: c})
		return
	}
	r := t.routers[e.edge]
	if r == nil {
		var err error
		if r, err = t.h.job.NewRouter(e.edge); err != nil {
			t.h.t.Fatalf("streamtest: router of edge %d: %v", e.edge, err)
		}
		t.routers[e.edge] = r
	}
	room, out := make([]int, len(e.to.tasks)), make([]spi.Batch, len(e.to.tasks))
	for i := range out {
		room[i], out[i] = b.Len(), r.NewBatch(0)
	}
	if k := r.Route(b, 0, e.owner, room, out); k != b.Len() {
		t.h.t.Fatalf("streamtest: the router of edge %d took %d of %d rows", e.edge, k, b.Len())
	}
	for i, o := range out {
		if o.Len() > 0 {
			c := t.h.channel(e, t.index, i)
			c.queue = append(c.queue, item{rows: o})
		}
	}
}

// signal sends the output watermark, idleness and end to all outputs.
func (t *task) signal() {
	for _, port := range t.node.outs {
		for _, e := range port {
			for i := range e.to.tasks {
				if e.direct && i != t.index {
					continue
				}
				c := t.h.channel(e, t.index, i)
				c.queue = append(c.queue, item{wm: t.out, idle: t.idle, end: t.ended})
			}
		}
	}
}

// State implements spi.Host.
func (t *task) State(name string) (id dataflow.StateID, key, value spi.Codec, err error) {
	for _, s := range t.h.job.States(t.node.op.Name) {
		if s.Name != name {
			continue
		}
		if s.Key != nil {
			if key, err = newStateCodec(s.Key); err != nil {
				return 0, nil, nil, err
			}
		}
		if s.Value != nil {
			if value, err = newStateCodec(s.Value); err != nil {
				return 0, nil, nil, err
			}
		}
		return t.h.stateID(t.node.op.Name, name), key, value, nil
	}
	return 0, nil, nil, fmt.Errorf("streamtest: operator %q has no state %q", t.node.op.Name, name)
}

// Load implements spi.Host.
func (t *task) Load(_ []uint64, keys [][]byte, got func(i int, row []byte) error) error {
	for i, k := range keys {
		if err := got(i, t.table.rows[string(k)]); err != nil {
			return err
		}
	}
	return nil
}

// Scan implements spi.Host.
func (t *task) Scan(from, to []byte) iter.Seq2[[]byte, []byte] {
	keys := t.table.span(from, to)
	return func(yield func([]byte, []byte) bool) {
		for _, k := range keys {
			if v, ok := t.table.rows[k]; ok && !yield([]byte(k), v) {
				return
			}
		}
	}
}

// ScanErr implements spi.Host.
func (*task) ScanErr() error { return nil }

// Empty implements spi.Host.
func (t *task) Empty(id dataflow.StateID, group int) bool {
	from := dataflow.AppendRowPrefix(nil, group, id)
	to := dataflow.AppendRowPrefix(nil, group, id+1)
	return len(t.table.span(from, to)) == 0
}

// Now implements spi.Host.
func (t *task) Now() int64 { return t.h.now }

// Watermark implements spi.Host.
func (t *task) Watermark() int64 { return t.wm }

// Count implements spi.Host.
func (t *task) Count(metric string, n int64) {
	t.h.counts[string(t.node.op.Name)+"/"+metric] += n
}

// receive handles the first item of a channel.
func (t *task) receive(c *channel) {
	it := c.queue[0]
	c.queue = c.queue[1:]
	if it.rows == nil {
		c.wm, c.idle = max(c.wm, it.wm), it.idle
		if it.end {
			c.ended, c.wm, c.idle = true, dataflow.MaxTime, false
		}
		t.advance()
		return
	}
	if t.runner == nil { // a sink
		t.h.collect(t.node.op.Name, it.rows)
		return
	}
	in := t.runner.NewBatch(c.port, it.rows.Len())
	in.Append(it.rows, 0, it.rows.Len())
	stuck := 0
	for from := 0; from < in.Len(); {
		t.room = t.h.o.nextRoom()
		before := t.room
		n, err := t.runner.Step(c.port, in, from)
		if err != nil {
			t.fail("step", err)
		}
		from += n
		if stuck++; n > 0 || t.room < before {
			stuck = 0
		}
		if stuck > 1000 {
			t.fail("step", fmt.Errorf("no progress at row %d of %d with room for %d rows", from, in.Len(), before))
		}
		t.h.afterStep(t)
	}
	in.Reset() // a runner that kept it is found out
}

// advance moves the watermark to the least of the inputs that are not idle.
func (t *task) advance() {
	wm, idle, ended := dataflow.MaxTime, true, true
	for _, c := range t.in {
		ended = ended && c.ended
		if !c.idle {
			idle = false
			wm = min(wm, c.wm)
		}
	}
	if idle || wm < t.wm {
		wm = t.wm
	}
	changed := idle != t.idle || wm > t.out
	if t.runner != nil && wm > t.wm {
		t.until("advance", func() (bool, error) { return t.runner.Advance(wm, t.h.o.budget()) })
		if next := t.runner.NextTimer(); next <= wm && wm < dataflow.MaxTime {
			t.fail("advance", fmt.Errorf("the next timer is at %d although time has passed %d", next, wm))
		}
	}
	t.wm, t.out, t.idle = wm, wm, idle
	if ended && !t.ended {
		if t.runner != nil {
			t.until("end", t.runner.End)
		}
		t.ended, changed = true, true
	}
	if changed {
		t.signal()
	}
}

// until repeats a resumable method until it is done.
func (t *task) until(what string, step func() (bool, error)) {
	for range 10_000_000 {
		t.room = t.h.o.nextRoom()
		done, err := step()
		if err != nil {
			t.fail(what, err)
		}
		t.h.afterStep(t)
		if done {
			return
		}
	}
	t.fail(what, fmt.Errorf("not done after 10 million calls"))
}

func (t *task) fail(what string, err error) {
	t.h.t.Helper()
	t.h.t.Fatalf("streamtest: operator %q, subtask %d: %s: %v", t.node.op.Name, t.index, what, err)
}

// flush moves dirty rows to the table. A freeze may be given up once before, to
// see that nothing is lost by that.
func (t *task) flush(giveUp bool) {
	f, err := t.runner.Freeze()
	if err != nil {
		t.fail("freeze", err)
	}
	if f == nil {
		return
	}
	if giveUp {
		if err := f.Rows(func(_, _ []byte) bool { return true }); err != nil {
			t.fail("freeze", err)
		}
		f.Done(fmt.Errorf("streamtest: given up on purpose"))
		t.flush(false)
		return
	}
	if err := t.table.apply(f); err != nil {
		t.fail("freeze", err)
	}
	f.Done(nil)
}

// evict drops everything that is clean.
func (t *task) evict() { t.runner.Evict(math.MaxInt64) }
