package subtask_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"

	"github.com/weirstream/weir/actors/channel"
	"github.com/weirstream/weir/actors/internal/fake"
	"github.com/weirstream/weir/actors/subtask"
	"github.com/weirstream/weir/dataflow"
	"github.com/weirstream/weir/stream/spi"
)

// sim runs all subtasks of a job, a coordinator and the outside on one goroutine.
// A seeded scheduler decides what arrives next: items and credit of any channel,
// orders (which may be lost or doubled), answers of background work, turns of any
// length. It aborts epochs, fails writes and prepares, kills everything and
// restores it at another parallelism.
type sim struct {
	r     *rand.Rand
	shape shape
	gens  map[dataflow.OperatorID]*fake.Gen
	table *fake.Table
	world *fake.World

	steps   int
	now     int64
	faults  bool
	attempt dataflow.Attempt
	nodes   []*node
	byID    map[dataflow.SubtaskID]*node
	plan    dataflow.Plan
	job     *fake.Job

	epoch    dataflow.Epoch // newest ever opened
	open     bool
	parts    map[dataflow.SubtaskID]dataflow.Part
	manifest []dataflow.Part // of complete
	complete dataflow.Epoch
	patience int      // epochs are aborted the more rarely
	fresh    bool     // complete has just become so
	commits  []commit // complete and not committed, in order
	done     map[dataflow.SubtaskID]bool

	cutAborts, kills, epochs, completed, midway int
}

type commit struct {
	epoch   dataflow.Epoch
	handles []dataflow.CommitHandle
}

// node is a machine and what is on its way to it.
type node struct {
	s      *sim
	id     dataflow.SubtaskID
	m      *subtask.Machine
	store  *fake.Store
	in     [][]channel.Item   // by input channel
	speed  []int              // of input channels, as weight
	credit [][]channel.Credit // by output channel
	outs   []end
	ins    []end
	mail   []func() // orders and answers, in any order but for writes
	ready  bool     // something arrived since the last turn
	wakeAt int64
}

type end struct {
	n *node
	i int
}

func (n *node) Send(out int, it channel.Item) {
	p := n.outs[out]
	p.n.in[p.i] = append(p.n.in[p.i], it)
}

func (n *node) Grant(in int, c channel.Credit) {
	p := n.ins[in]
	p.n.credit[p.i] = append(p.n.credit[p.i], c)
}

func (n *node) Write(e dataflow.Epoch, seq int, frozen []spi.Frozen) {
	n.mail = append(n.mail, func() {
		var err error
		if n.s.faults && n.s.r.IntN(20) == 0 {
			err = errDisk
		} else {
			_, err = n.store.WriteEpoch(context.Background(), e, seq, frozen)
		}
		n.m.Written(err)
	})
}

func (n *node) Acked(e dataflow.Epoch, p dataflow.Part, fresh []dataflow.FileRef) {
	s := n.s
	if !s.open || e != s.epoch {
		return
	}
	s.parts[n.id] = p
}

func (n *node) Declined(e dataflow.Epoch, err error) {
	if n.s.open && e == n.s.epoch {
		n.s.abort()
	}
}

func (n *node) Ended() { n.s.done[n.id] = true }

func (n *node) WakeAt(us int64) {
	if n.wakeAt <= n.s.now || us < n.wakeAt {
		n.wakeAt = us
	}
}

func (n *node) Prepared(op int, e dataflow.Epoch, p spi.Prepared, err error) {
	n.mail = append(n.mail, func() { n.m.Prepared(op, e, p, err) })
}

func (n *node) Count(int, string, int64) {}

// order sends a word to every machine; it may be lost or doubled where losing it
// must not matter.
func (s *sim) order(mayLose bool, f func(m *subtask.Machine)) {
	for _, n := range s.nodes {
		if mayLose && s.faults && s.r.IntN(10) == 0 {
			continue
		}
		n.mail = append(n.mail, func() { f(n.m) })
		if s.r.IntN(10) == 0 {
			n.mail = append(n.mail, func() { f(n.m) })
		}
	}
}

func (s *sim) abort() {
	if len(s.parts) > 0 {
		s.cutAborts++
	}
	s.open = false
	e := s.epoch
	s.order(true, func(m *subtask.Machine) { m.Abort(e) })
}

// deploy makes every machine anew from the last complete checkpoint.
func (s *sim) deploy() error {
	s.attempt++
	s.nodes, s.byID, s.done = nil, map[dataflow.SubtaskID]*node{}, map[dataflow.SubtaskID]bool{}
	s.open = false
	s.patience = []int{2, 10, 50}[s.r.IntN(3)]
	if s.complete > 0 && !s.finished(&dataflow.Chain{Operators: []dataflow.OperatorID{"src"}}) {
		s.midway++
	}
	s.job = s.shape.build(s.r)
	var err error
	if s.plan, err = dataflow.MakePlan(s.job.G, 1+s.r.IntN(3), s.job.Groups); err != nil {
		return err
	}
	for _, c := range s.commits { // before anything starts
		if err := s.table.Commit(c.epoch, c.handles); err != nil {
			return err
		}
	}
	s.commits = nil
	batch := 1 + s.r.IntN(12)
	window := channel.Window{Rows: int64(1 + s.r.IntN(24)), Bytes: int64(50 + s.r.IntN(2000))}
	budget := int64(1 << 20)
	if s.r.IntN(3) == 0 {
		budget = int64(64 * (1 + s.r.IntN(20)))
	}
	for _, id := range s.plan.Subtasks() {
		n := &node{s: s, id: id, in: make([][]channel.Item, len(s.plan.Inputs(id))), credit: make([][]channel.Credit, len(s.plan.Outputs(id)))}
		s.nodes = append(s.nodes, n)
		s.byID[id] = n
	}
	for _, n := range s.nodes {
		if err := s.build(n, batch, window, budget); err != nil {
			return err
		}
	}
	for _, n := range s.nodes {
		n.m.Start()
		n.ready = true
	}
	return nil
}

func (s *sim) build(n *node, batch int, window channel.Window, budget int64) error {
	p := &s.plan
	chain := p.Chain(n.id.Chain)
	var own []dataflow.Part
	for _, part := range s.manifest {
		if part.Subtask.Chain == n.id.Chain {
			own = append(own, part)
		}
	}
	n.store = s.world.Open(p.Groups(n.id), own)
	cfg := subtask.Config{
		Subtask: n.id, Attempt: s.attempt, Groups: p.Groups(n.id), KeyGroups: p.KeyGroups, Store: n.store, Effects: n,
		LastEpoch: s.epoch, BatchRows: batch, Window: window, MemoryBudget: budget,
		Finished: s.finished(chain),
	}
	for i, name := range chain.Operators {
		op := p.Graph.Operator(name)
		c := subtask.Op{Name: name, Parallelism: chain.Parallelism, Parent: -1, Outs: 1, Watermark: dataflow.MinTime}
		if i > 0 {
			e := p.Graph.Edges[p.Graph.In(name)[0]]
			c.Parent, c.ParentPort, c.Port = slices.Index(chain.Operators, e.From), e.Port, e.ToPort
		}
		var splits []dataflow.SplitState
		c.Marks = map[string]int64{}
		first, toward := true, dataflow.MinTime
		for _, part := range s.manifest {
			st, ok := part.Operators[name]
			if !ok {
				continue
			}
			if first || st.Watermark < c.Watermark {
				c.Watermark, first = st.Watermark, false
			}
			if st.Watermark < dataflow.MaxTime {
				toward = max(toward, st.Watermark)
				if st.Target != 0 {
					toward = max(toward, st.Target)
				}
			}
			splits = append(splits, st.Splits...)
			if op.Kind == dataflow.KindSource {
				marks, err := subtask.ParseMarks(st.Extra)
				if err != nil {
					return err
				}
				maps.Copy(c.Marks, marks)
			}
		}
		if op.Keyed {
			c.Target = toward
		}
		env := spi.Env{Index: n.id.Index, Parallelism: chain.Parallelism}
		var err error
		switch op.Kind {
		case dataflow.KindSource:
			c.Source = &fake.Stamper{Lag: s.job.Lag}
			if cfg.Finished && n.id.Index == 0 {
				c.Splits = splits
			}
			if !cfg.Finished {
				c.Reader, err = s.gens[name].Open(context.Background(), env, splits, c.Source)
			}
		case dataflow.KindSink:
			if c.Writer, err = s.table.OpenWriter(context.Background(), env, nil); err == nil {
				err = c.Writer.Start(context.Background())
			}
		default:
			c.Runner, err = s.job.NewRunner(name)
		}
		if err != nil {
			return err
		}
		cfg.Ops = append(cfg.Ops, c)
	}
	s.wire(n, chain, &cfg)
	var err error
	n.m, err = subtask.New(cfg)
	return err
}

func (s *sim) wire(n *node, chain *dataflow.Chain, cfg *subtask.Config) {
	p := &s.plan
	for _, ch := range p.Inputs(n.id) {
		pe := p.Edges[ch.Edge]
		cfg.Ins = append(cfg.Ins, subtask.In{Channel: ch, Port: p.Graph.Edges[pe.Edge].ToPort})
		from := dataflow.SubtaskID{Chain: pe.From, Index: ch.From}
		n.speed = append(n.speed, []int{1, 1, 4, 16}[s.r.IntN(4)])
		n.ins = append(n.ins, end{s.byID[from], slices.Index(p.Outputs(from), ch)})
	}
	for _, ch := range p.Outputs(n.id) {
		pe := p.Edges[ch.Edge]
		to := dataflow.SubtaskID{Chain: pe.To, Index: ch.To}
		n.outs = append(n.outs, end{s.byID[to], slices.Index(p.Inputs(to), ch)})
		if k := len(cfg.Outs); k > 0 && cfg.Outs[k-1].Edge == ch.Edge {
			cfg.Outs[k-1].Channels = append(cfg.Outs[k-1].Channels, ch)
			continue
		}
		e := p.Graph.Edges[pe.Edge]
		o := subtask.Out{Edge: ch.Edge, Op: slices.Index(chain.Operators, e.From), Port: e.Port, Exchange: e.Exchange, Channels: []dataflow.ChannelID{ch}}
		if e.Exchange == dataflow.Hash {
			o.Router = fake.Router{Groups: p.KeyGroups}
			for g := range p.KeyGroups {
				o.Owner = append(o.Owner, int32(dataflow.OwnerOf(g, p.KeyGroups, p.Chain(pe.To).Parallelism)))
			}
		}
		cfg.Outs = append(cfg.Outs, o)
	}
}

func (s *sim) finished(chain *dataflow.Chain) bool {
	for _, op := range chain.Operators {
		found := false
		for _, p := range s.manifest {
			if _, ok := p.Operators[op]; ok {
				found = true
				if !p.Finished {
					return false
				}
			}
		}
		if !found {
			return false
		}
	}
	return true
}

var errDisk = errors.New("disk full")

// choice is one thing that may happen next.
type choice struct {
	weight int
	do     func() error
}

// choices lists what may happen, in a fixed order.
func (s *sim) choices() (all []choice) {
	add := func(weight int, do func() error) { all = append(all, choice{weight, do}) }
	for _, n := range s.nodes {
		for i := range n.in {
			if len(n.in[i]) > 0 {
				add(n.speed[i], func() error {
					it := n.in[i][0]
					n.in[i] = n.in[i][1:]
					n.m.Receive(i, it)
					n.ready = true
					return nil
				})
			}
		}
		for i := range n.credit {
			if len(n.credit[i]) > 0 {
				add(4, func() error {
					c := n.credit[i][0]
					n.credit[i] = n.credit[i][1:]
					n.m.Credit(i, c)
					n.ready = true
					return nil
				})
			}
		}
		if len(n.mail) > 0 {
			add(4, func() error {
				k := s.r.IntN(len(n.mail))
				f := n.mail[k]
				n.mail = slices.Delete(n.mail, k, k+1)
				f()
				n.ready = true
				return nil
			})
		}
		if n.ready || n.wakeAt > 0 && n.wakeAt <= s.now {
			add(6, func() error { return s.turn(n) })
		}
	}
	if !s.open && len(s.commits) < 3 {
		add(1, func() error { return s.openEpoch() })
	}
	if s.open && len(s.parts) == len(s.nodes) {
		add(4, func() error { return s.completeEpoch() })
	}
	if len(s.commits) > 0 {
		add(2, func() error { return s.commit() })
	}
	if s.faults {
		if s.open && s.r.IntN(s.patience) == 0 {
			add(1, func() error { s.abort(); return nil })
		}
		if s.r.IntN(20) == 0 || s.fresh && s.r.IntN(4) == 0 {
			s.fresh = false
			add(2, func() error { s.kills++; return s.deploy() })
		}
	}
	return all
}

func (s *sim) openEpoch() error {
	s.epoch++
	s.epochs++
	s.open, s.parts = true, map[dataflow.SubtaskID]dataflow.Part{}
	e := s.epoch
	// A lost trigger stands for one that comes after the abort.
	c := s.complete
	s.order(true, func(m *subtask.Machine) { m.Complete(c); m.Trigger(e) })
	return nil
}

func (s *sim) completeEpoch() error {
	s.open = false
	s.completed++
	s.complete, s.fresh = s.epoch, true
	s.manifest = nil
	var handles []dataflow.CommitHandle
	for _, n := range s.nodes {
		s.manifest = append(s.manifest, s.parts[n.id])
		handles = append(handles, s.parts[n.id].Commits...)
	}
	slices.SortStableFunc(handles, func(a, b dataflow.CommitHandle) int {
		return cmp.Or(cmp.Compare(a.Epoch, b.Epoch), cmp.Compare(a.Subtask, b.Subtask), cmp.Compare(a.Seq, b.Seq))
	})
	s.commits = append(s.commits, commit{s.complete, handles})
	e := s.complete
	s.order(true, func(m *subtask.Machine) { m.Complete(e) })
	return nil
}

func (s *sim) commit() error {
	c := s.commits[0]
	s.commits = s.commits[1:]
	if err := s.table.Commit(c.epoch, c.handles); err != nil {
		return err
	}
	s.order(false, func(m *subtask.Machine) { m.Finished(c.epoch) })
	return nil
}

func (s *sim) turn(n *node) error {
	s.now += int64(s.r.IntN(3000))
	n.ready = false
	if n.wakeAt <= s.now {
		n.wakeAt = 0
	}
	left := 1 + s.r.IntN(6)
	st := n.m.Turn(s.now, func() bool { left--; return left > 0 })
	n.m.Measure(int64(s.r.IntN(4_000_000)))
	if op, err := n.m.Err(); errors.Is(err, errDisk) {
		s.kills++ // state that had to leave memory: the attempt fails
		return s.deploy()
	} else if err != nil {
		return fmt.Errorf("subtask %s: %s: %w", n.id, op, err)
	}
	if st == subtask.More {
		n.ready = true
	}
	return nil
}

// run lets the job run to its end.
func (s *sim) run() error {
	if err := s.deploy(); err != nil {
		return err
	}
	for s.steps = 0; len(s.done) < len(s.nodes); s.steps++ {
		s.faults = s.steps < 1500
		if s.steps > 200_000 {
			return fmt.Errorf("no end after %d steps: %s", s.steps, s.where())
		}
		if s.open && !s.faults && s.steps%4000 == 0 {
			s.abort() // the time-out of an epoch whose trigger was lost
		}
		all := s.choices()
		total := 0
		for _, c := range all {
			total += c.weight
		}
		if total == 0 {
			if !s.sleep() {
				return fmt.Errorf("nothing moves after %d steps: %s", s.steps, s.where())
			}
			continue
		}
		k := s.r.IntN(total)
		for _, c := range all {
			if k -= c.weight; k < 0 {
				if err := c.do(); err != nil {
					return err
				}
				break
			}
		}
	}
	return nil
}

// sleep moves time to the next wish; false if there is none.
func (s *sim) sleep() bool {
	at := int64(0)
	for _, n := range s.nodes {
		if n.wakeAt > s.now && (at == 0 || n.wakeAt < at) {
			at = n.wakeAt
		}
	}
	if at == 0 {
		if s.open {
			s.abort()
			return true
		}
		return false
	}
	s.now = at
	return true
}

func (s *sim) where() string {
	out := fmt.Sprintf("epoch %d open %v parts %d commits %d;", s.epoch, s.open, len(s.parts), len(s.commits))
	for _, n := range s.nodes {
		out += fmt.Sprintf("\n  %s: %+v", n.id, n.m.Stats())
	}
	return out
}
