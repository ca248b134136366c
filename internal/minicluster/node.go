package minicluster

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/weirstream/weir/actors/channel"
	"github.com/weirstream/weir/actors/subtask"
	"github.com/weirstream/weir/checkpoint"
	"github.com/weirstream/weir/dataflow"
	"github.com/weirstream/weir/stream/spi"
)

// node is the driver of one subtask: what is on its way to the machine and what
// it does in the background.
type node struct {
	s  *sim
	at *attempt
	id dataflow.SubtaskID
	m  *subtask.Machine // nil until opened

	store *store
	topic *topicWriter

	in     [][]channel.Item   // by input channel
	credit [][]channel.Credit // by output channel
	outs   []end
	ins    []end
	speed  []int // weight of input channels

	orders  []func() // of the attempt, in order
	answers []func() // of background work, in order
	work    []work   // background work, in any order

	opening, starting, running, ready, dead bool
	wakeAt                                  int64
}

type end struct {
	n *node
	i int
}

type work struct {
	name string
	f    func()
}

func (n *node) background(name string, f func()) { n.work = append(n.work, work{name, f}) }

func (n *node) wakeLater() { n.WakeAt(n.s.now + 500) }

// Send is of subtask.Effects, like the methods below.
func (n *node) Send(out int, it channel.Item) {
	p := n.outs[out]
	p.n.in[p.i] = append(p.n.in[p.i], it)
}

// Grant sends credit.
func (n *node) Grant(in int, c channel.Credit) {
	p := n.ins[in]
	p.n.credit[p.i] = append(p.n.credit[p.i], c)
}

// Write writes an epoch file in the background.
func (n *node) Write(e dataflow.Epoch, seq int, frozen []spi.Frozen) {
	n.background("write", func() {
		err := n.store.writeEpoch(e, seq, frozen)
		n.answers = append(n.answers, func() { n.m.Written(err) })
	})
}

// Acked tells the attempt.
func (n *node) Acked(e dataflow.Epoch, p dataflow.Part, _ []dataflow.FileRef) {
	n.s.tracef("%s acks epoch %d: %d files, %d handles", n.id, e, len(p.Files), len(p.Commits))
	n.at.inbox = append(n.at.inbox, isAcked{n.id, e, p})
}

// Declined tells the job manager.
func (n *node) Declined(e dataflow.Epoch, err error) { n.at.declined(e, n.id, err.Error()) }

// Ended tells the job manager.
func (n *node) Ended() { n.at.ended(n.id) }

// WakeAt asks for a turn.
func (n *node) WakeAt(us int64) {
	if n.wakeAt <= n.s.now || us < n.wakeAt {
		n.wakeAt = us
	}
}

// Prepared brings a sink's answer.
func (n *node) Prepared(op int, e dataflow.Epoch, p spi.Prepared, err error) {
	n.answers = append(n.answers, func() { n.m.Prepared(op, e, p, err) })
}

// Count is for people.
func (n *node) Count(int, string, int64) {}

// order files an order of the attempt.
func (n *node) order(f func()) { n.orders = append(n.orders, f) }

// start starts the writers, then the machine.
func (n *node) start() {
	if n.running || n.starting && n.s.without != StartOnce {
		return
	}
	n.starting = true
	n.background("start", func() {
		if n.topic != nil {
			n.topic.start(n.at.deploy.Plan.Chain(n.id.Chain).Parallelism)
		}
		n.answers = append(n.answers, func() {
			n.running = true
			n.m.Start()
		})
	})
}

// turn lets the machine work.
func (n *node) turn() {
	s := n.s
	s.now += int64(s.r.IntN(40))
	n.ready = false
	if n.wakeAt <= s.now {
		n.wakeAt = 0
	}
	if !n.running {
		return
	}
	left := 1 + s.r.IntN(8)
	st := n.m.Turn(s.now, func() bool { left--; return left > 0 })
	n.m.Measure(int64(s.r.IntN(4_000_000)))
	n.ready = n.ready || st == subtask.More
}

// check reports a dead machine once.
func (n *node) check() {
	if n.m == nil || n.dead {
		return
	}
	if op, err := n.m.Err(); err != nil {
		n.dead, n.running = true, false
		n.at.inbox = append(n.at.inbox, isFailed{n.id, fmt.Errorf("operator %q: %w", op, err)})
	}
}

// open restores and builds the machine.
func (n *node) open() error {
	d, s := &n.at.deploy, n.s
	plan := &d.Plan
	chain := plan.Chain(n.id.Chain)
	was := d.Parts
	cfg := subtask.Config{
		Subtask: n.id, Attempt: d.Attempt, Groups: plan.Groups(n.id), KeyGroups: plan.KeyGroups, Effects: n, LastEpoch: d.LastEpoch,
		BatchRows: n.at.batch, MemoryBudget: n.at.budget, Window: n.at.window, Finished: finished(was, chain),
	}
	if chain.Keyed {
		n.store = &store{n: n, dir: fmt.Sprintf("%d/%s", d.Attempt, n.id), groups: cfg.Groups}
		if err := n.store.restore(checkpoint.Files(d.Parts, plan, n.id)); err != nil {
			return err
		}
		cfg.Store = n.store
	}
	for i, name := range chain.Operators {
		op, err := n.openOp(chain, i, name, was, cfg.Finished)
		if err != nil {
			return fmt.Errorf("operator %q: %w", name, err)
		}
		cfg.Ops = append(cfg.Ops, op)
	}
	if err := n.wire(chain, &cfg); err != nil {
		return err
	}
	var err error
	n.m, err = subtask.New(cfg)
	s.tracef("%s opened", n.id)
	return err
}

// finished tells that every former subtask of every operator had sent its end.
func finished(was []dataflow.Part, chain *dataflow.Chain) bool {
	for _, op := range chain.Operators {
		found := false
		for _, p := range was {
			if _, ok := p.Operators[op]; ok {
				if !p.Finished {
					return false
				}
				found = true
			}
		}
		if !found {
			return false
		}
	}
	return true
}

func (n *node) openOp(chain *dataflow.Chain, i int, name dataflow.OperatorID, was []dataflow.Part, done bool) (subtask.Op, error) {
	g := &n.at.deploy.Plan.Graph
	op := g.Operator(name)
	c := subtask.Op{Name: name, Parallelism: chain.Parallelism, Parent: -1, Outs: 1, Watermark: dataflow.MinTime, Marks: map[string]int64{}}
	if i > 0 {
		e := g.Edges[g.In(name)[0]]
		c.Parent, c.ParentPort, c.Port = slices.Index(chain.Operators, e.From), e.Port, e.ToPort
	}
	var splits []dataflow.SplitState
	writers := map[int][]byte{}
	first, toward := true, dataflow.MinTime
	for _, p := range was {
		st, ok := p.Operators[name]
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
		writers[p.Subtask.Index] = st.Writer
		if op.Kind == dataflow.KindSource {
			marks, err := subtask.ParseMarks(st.Extra)
			if err != nil {
				return c, err
			}
			maps.Copy(c.Marks, marks)
		}
	}
	if op.Keyed {
		c.Target = toward
	}
	env := spi.Env{Index: n.id.Index, Parallelism: chain.Parallelism}
	switch {
	case op.Kind == dataflow.KindSource:
		c.Source = &stamper{}
		if job := n.s.shape.job; job != nil {
			var err error
			if c.Source, err = job.NewSource(name); err != nil {
				return c, err
			}
		}
		if done && n.id.Index == 0 {
			c.Splits = splits
		}
		if done {
			return c, nil
		}
		r, err := n.s.input.open(n, name, env, splits)
		c.Reader = r
		return c, err
	case op.Kind == dataflow.KindSink:
		return n.openSink(c, op, env, writers)
	}
	if job := n.s.shape.job; job != nil {
		var err error
		c.Runner, err = job.NewRunner(name)
		c.State = n.at.state
		for _, p := range was {
			if st, ok := p.Operators[name]; ok && p.Subtask.Index == n.id.Index {
				c.Extra = st.Extra
			}
		}
		return c, err
	}
	c.Runner = &counter{}
	return c, nil
}

func (n *node) openSink(c subtask.Op, op *dataflow.Operator, env spi.Env, writers map[int][]byte) (subtask.Op, error) {
	c.WriterWas = writers[env.Index]
	var com committer
	if op.Connector.Kind == "topic" {
		w, err := newTopicWriter(n, env, writers)
		if err != nil {
			return c, err
		}
		c.Writer, n.topic = &startable{w}, w
		com = &topicCommitter{s: n.s}
	} else {
		c.Writer = &startable{&tableWriter{n: n}}
		com = &tableCommitter{s: n.s, t: n.s.tableOf(string(n.at.deploy.Pipeline)), snap: -1}
	}
	if env.Index != 0 {
		return c, nil
	}
	n.at.commits = append(n.at.commits, &commits{at: n.at, sink: op.Name, c: com})
	return c, com.check(n.at.deploy.Restored)
}

// sinkWriter is a writer without what the simulation does elsewhere.
type sinkWriter interface {
	Write(b spi.Batch, from int) (int, error)
	Prepare(epoch dataflow.Epoch, last bool, done func(spi.Prepared, error))
	Finished(epoch dataflow.Epoch)
}

// startable implements spi.Writer: node.start and attempt.close do the rest.
type startable struct{ sinkWriter }

func (*startable) Start(context.Context) error { return nil }

func (*startable) Close() error { return nil }

func (n *node) wire(chain *dataflow.Chain, cfg *subtask.Config) error {
	p := &n.at.deploy.Plan
	for _, ch := range p.Inputs(n.id) {
		pe := p.Edges[ch.Edge]
		cfg.Ins = append(cfg.Ins, subtask.In{Channel: ch, Port: p.Graph.Edges[pe.Edge].ToPort})
	}
	for _, ch := range p.Outputs(n.id) {
		pe := p.Edges[ch.Edge]
		if k := len(cfg.Outs); k > 0 && cfg.Outs[k-1].Edge == ch.Edge {
			cfg.Outs[k-1].Channels = append(cfg.Outs[k-1].Channels, ch)
			continue
		}
		e := p.Graph.Edges[pe.Edge]
		o := subtask.Out{Edge: ch.Edge, Op: slices.Index(chain.Operators, e.From), Port: e.Port, Exchange: e.Exchange, Channels: []dataflow.ChannelID{ch}}
		if e.Exchange == dataflow.Hash {
			o.Router = router{p.KeyGroups}
			if job := n.s.shape.job; job != nil {
				var err error
				if o.Router, err = job.NewRouter(pe.Edge); err != nil {
					return err
				}
			}
			for g := range p.KeyGroups {
				o.Owner = append(o.Owner, int32(dataflow.OwnerOf(g, p.KeyGroups, p.Chain(pe.To).Parallelism)))
			}
		}
		cfg.Outs = append(cfg.Outs, o)
	}
	return nil
}

// connect finds the other ends of the channels.
func (n *node) connect() {
	p := &n.at.deploy.Plan
	ins, outs := p.Inputs(n.id), p.Outputs(n.id)
	n.in, n.credit = make([][]channel.Item, len(ins)), make([][]channel.Credit, len(outs))
	for _, ch := range ins {
		from := dataflow.SubtaskID{Chain: p.Edges[ch.Edge].From, Index: ch.From}
		n.speed = append(n.speed, []int{1, 2, 4, 16}[n.s.r.IntN(4)])
		n.ins = append(n.ins, end{n.at.node(from), slices.Index(p.Outputs(from), ch)})
	}
	for _, ch := range outs {
		to := dataflow.SubtaskID{Chain: p.Edges[ch.Edge].To, Index: ch.To}
		n.outs = append(n.outs, end{n.at.node(to), slices.Index(p.Inputs(to), ch)})
	}
}
