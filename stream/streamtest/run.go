package streamtest

import (
	"cmp"
	"maps"
	"reflect"
	"slices"
	"strconv"

	"github.com/weirstream/weir/dataflow"
	"github.com/weirstream/weir/stream/spi"
)

// A snapshot is a checkpoint of the whole job, taken when nothing is under way.
type snapshot struct {
	done  int // entries of the log that are in it
	now   int64
	nodes map[dataflow.OperatorID][]taskState
	chans map[dataflow.ChannelID]channelState
	rows  map[dataflow.OperatorID]int
}

type taskState struct {
	table   *table
	extra   []byte
	wm, out int64
	idle    bool
	ended   bool
	splits  []string
	marks   []int64
	forced  int64
}

type channelState struct {
	wm    int64
	idle  bool
	ended bool
}

// Checkpoint takes a checkpoint: Restart goes back to it.
func (h *Harness) Checkpoint() {
	h.t.Helper()
	h.taken = h.snapshot()
}

// Restart throws the job away, restores the last checkpoint (the start, if there
// is none) in fresh operators, drops what sinks got since then, and plays what the
// test did since then again.
func (h *Harness) Restart() {
	h.t.Helper()
	h.start(h.taken)
	h.catchUp()
}

// Rescale is Checkpoint and Restart at another parallelism.
func (h *Harness) Rescale(parallelism int) {
	h.t.Helper()
	h.Checkpoint()
	h.o.parallelism = parallelism
	h.Restart()
	h.Checkpoint()
}

func (h *Harness) snapshot() *snapshot {
	s := &snapshot{
		done: h.done, now: h.now, nodes: map[dataflow.OperatorID][]taskState{},
		chans: map[dataflow.ChannelID]channelState{}, rows: map[dataflow.OperatorID]int{},
	}
	for _, n := range h.order {
		for _, t := range n.tasks {
			st := taskState{wm: t.wm, out: t.out, idle: t.idle, ended: t.ended, forced: t.forced, splits: slices.Clone(t.splits)}
			if t.runner != nil {
				t.flush(h.o.faults && h.o.rng.IntN(3) == 0)
				st.extra = slices.Clone(t.runner.Extra())
			}
			for i := range t.splits {
				st.marks = append(st.marks, t.source.Mark(i))
			}
			st.table = t.table.clone(func([]byte) bool { return true })
			s.nodes[n.op.Name] = append(s.nodes[n.op.Name], st)
		}
		if b := h.rows[n.op.Name]; b != nil {
			s.rows[n.op.Name] = b.Len()
		}
	}
	for id, c := range h.channels {
		s.chans[id] = channelState{c.wm, c.idle, c.ended}
	}
	return s
}

// start makes all operators anew from a snapshot.
func (h *Harness) start(s *snapshot) {
	h.t.Helper()
	plan, err := dataflow.MakePlan(h.job.Graph(), h.o.parallelism, h.o.keyGroups)
	if err != nil {
		h.t.Fatalf("streamtest: %v", err)
	}
	h.plan, h.done, h.now = plan, s.done, s.now
	h.nodes, h.order = map[dataflow.OperatorID]*node{}, nil
	h.channels, h.inputs = map[dataflow.ChannelID]*channel{}, nil
	if h.rows == nil {
		h.rows = map[dataflow.OperatorID]spi.Batch{}
	}
	h.counts = map[string]int64{}
	for op, b := range h.rows {
		b.Truncate(s.rows[op])
	}
	for _, op := range plan.Graph.Operators {
		n := &node{op: op}
		for range max(1, len(op.Outputs)) {
			n.outs = append(n.outs, nil)
		}
		h.nodes[op.Name], h.order = n, append(h.order, n)
		for i := range op.Parallelism {
			n.tasks = append(n.tasks, &task{
				h: h, node: n, index: i, table: newTable(), routers: map[int]spi.Router{},
				wm: dataflow.MinTime, out: dataflow.MinTime, forced: dataflow.MinTime,
			})
		}
	}
	rescaled := slices.ContainsFunc(h.order, func(n *node) bool {
		return len(s.nodes[n.op.Name]) > 0 && len(s.nodes[n.op.Name]) != len(n.tasks)
	})
	for i, e := range plan.Graph.Edges {
		h.connect(i, e, s, rescaled)
	}
	for _, n := range h.order {
		for _, t := range n.tasks {
			h.open(t, s.nodes[n.op.Name], rescaled)
		}
	}
	h.settle()
}

// connect makes the channels of an edge.
func (h *Harness) connect(i int, e dataflow.Edge, s *snapshot, rescaled bool) {
	from, to := h.nodes[e.From], h.nodes[e.To]
	o := outEdge{edge: i, to: to, direct: e.Exchange == dataflow.Forward, owner: make([]int32, h.plan.KeyGroups)}
	for g := range o.owner {
		o.owner[g] = int32(dataflow.OwnerOf(g, h.plan.KeyGroups, len(to.tasks)))
	}
	from.outs[e.Port] = append(from.outs[e.Port], o)
	for r, t := range to.tasks {
		for f := range from.tasks {
			if o.direct && f != r {
				continue
			}
			id := dataflow.ChannelID{Edge: i, From: f, To: r}
			c := &channel{to: t, edge: i, from: f, port: e.ToPort, wm: dataflow.MinTime}
			if st, ok := s.chans[id]; ok && !rescaled {
				c.wm, c.idle, c.ended = st.wm, st.idle, st.ended
			}
			h.channels[id] = c
			h.inputs = append(h.inputs, c)
			t.in = append(t.in, c)
		}
	}
}

func (h *Harness) channel(e outEdge, from, to int) *channel {
	return h.channels[dataflow.ChannelID{Edge: e.edge, From: from, To: to}]
}

// shared tells that subtask 0 alone left something, which is then for all.
func shared(former []taskState) bool {
	for i, st := range former {
		if (i == 0) != (len(st.extra) > 0) {
			return false
		}
	}
	return len(former) > 0
}

// open restores one subtask from the states of all former ones. When the number
// of subtasks of any operator changed, channels are new and learn their watermark
// from their sender.
func (h *Harness) open(t *task, former []taskState, rescaled bool) {
	h.t.Helper()
	var extra []byte
	if len(former) == len(t.node.tasks) {
		st := former[t.index]
		t.wm, t.out, t.idle, t.ended, extra = st.wm, st.out, st.idle, st.ended, st.extra
	} else if len(former) > 0 {
		// A watermark that some subtask had not reached is not reached; all former
		// subtasks have ended together or not at all.
		t.wm = slices.MinFunc(former, func(a, b taskState) int { return cmp.Compare(a.wm, b.wm) }).wm
		t.out, t.ended = t.wm, !slices.ContainsFunc(former, func(s taskState) bool { return !s.ended })
		if t.index < len(former) {
			extra = former[t.index].extra
		}
	}
	if shared(former) {
		extra = former[0].extra
	}
	owned, _ := t.Groups()
	for _, st := range former {
		t.forced = max(t.forced, st.forced)
		maps.Copy(t.table.rows, st.table.clone(func(key []byte) bool {
			g, _ := dataflow.RowGroup(key)
			return owned.Contains(g)
		}).rows)
	}
	var err error
	switch t.node.op.Kind {
	case dataflow.KindSource:
		if t.source, err = h.job.NewSource(t.node.op.Name); err == nil {
			h.assign(t, former)
		}
	case dataflow.KindOp:
		if t.runner, err = h.job.NewRunner(t.node.op.Name); err == nil {
			err = t.runner.Open(t, extra)
		}
	}
	if err != nil {
		t.fail("open", err)
	}
	if !rescaled {
		return
	}
	if t.source != nil && !t.ended {
		t.out, t.idle = dataflow.MinTime, false
		h.mark(t)
	} else {
		t.signal()
	}
}

// assign gives a source subtask the splits that it owns: those of number n go to
// subtask n modulo the parallelism.
func (h *Harness) assign(t *task, former []taskState) {
	var marks []int64
	for _, st := range former {
		for i, id := range st.splits {
			if splitNumber(id)%len(t.node.tasks) == t.index {
				t.splits, marks = append(t.splits, id), append(marks, st.marks[i])
			}
		}
	}
	t.source.Assign(t.splits, marks)
}

func splitNumber(id string) int {
	if n, err := strconv.Atoi(id); err == nil && n >= 0 {
		return n
	}
	sum := 0
	for i := range len(id) {
		sum += int(id[i])
	}
	return sum
}

// apply does one entry of the log.
func (h *Harness) apply(e *entry) {
	if e.wait > 0 {
		h.now += e.wait.Microseconds()
		for _, n := range h.order {
			for _, t := range n.tasks {
				if t.source != nil {
					h.mark(t)
				}
			}
		}
		return
	}
	n := h.nodes[e.source]
	switch {
	case e.mark != nil:
		for _, t := range n.tasks {
			t.forced = max(t.forced, *e.mark)
			h.mark(t)
		}
	case e.end:
		for _, t := range n.tasks {
			if !t.ended {
				t.out, t.idle, t.ended = dataflow.MaxTime, false, true
				t.signal()
			}
		}
	default:
		h.feed(n.tasks[splitNumber(e.split)%len(n.tasks)], e)
	}
}

// feed sends pushed or generated rows through their source.
func (h *Harness) feed(t *task, e *entry) {
	if t.ended {
		t.fail("push", errEnded)
	}
	k := slices.Index(t.splits, e.split)
	if k < 0 {
		marks := make([]int64, len(t.splits)+1)
		for i := range t.splits {
			marks[i] = t.source.Mark(i)
		}
		k = len(t.splits)
		marks[k] = dataflow.MinTime
		t.splits = append(t.splits, e.split)
		t.source.Assign(t.splits, marks)
	}
	b := t.source.NewBatch(len(e.rows))
	if e.n > 0 {
		if err := t.source.Generate(b, 0, 1, e.from, e.n); err != nil {
			t.fail("generate", err)
		}
	}
	for _, v := range e.rows {
		reflect.NewAt(b.Elem(), b.Extend(1)).Elem().Set(reflect.ValueOf(v))
	}
	if err := t.source.Stamp(k, b, 0, h.now); err != nil {
		t.fail("stamp", err)
	}
	t.Send(0, b)
	for _, other := range t.node.tasks {
		h.mark(other)
	}
}

// mark sends the watermark of a source when it has changed.
func (h *Harness) mark(t *task) {
	if t.ended {
		return
	}
	wm, idle := t.source.Watermark(h.now, false)
	if t.forced > dataflow.MinTime {
		if len(t.splits) > 0 {
			idle = idle && wm > t.forced
		} else {
			idle = slices.ContainsFunc(t.node.tasks, func(o *task) bool { return len(o.splits) > 0 })
		}
		wm = max(wm, t.forced)
	}
	if wm = max(wm, t.out); wm != t.out || idle != t.idle {
		t.out, t.idle = wm, idle
		t.signal()
	}
}
