package actors

import (
	"context"
	"fmt"
	"math"
	"slices"

	"github.com/weirstream/weir/actors/subtask"
	"github.com/weirstream/weir/dataflow"
	"github.com/weirstream/weir/stream/spi"
)

// open makes everything a machine needs, off the turn, and sends it to the actor.
func (d *driver) open(ctx context.Context) {
	var o opened
	var with resources
	err := guard(func() error { return d.prepareConfig(ctx, &o, &with) })
	d.mu.Lock() // the attempt closes it, also if it was stopped meanwhile
	d.with = with
	d.mu.Unlock()
	if err != nil {
		d.a.send(d, died{err: fmt.Errorf("open: %w", err)})
		return
	}
	d.a.send(d, o)
}

// prepareConfig fills o; what it opened, also before an error, is in with.
func (d *driver) prepareConfig(ctx context.Context, o *opened, with *resources) error {
	a := d.a
	plan := a.opts.Plan
	chain := plan.Chain(d.id.Chain)
	o.cfg = subtask.Config{
		Subtask: d.id, Attempt: a.opts.Attempt, Groups: plan.Groups(d.id), KeyGroups: plan.KeyGroups,
		Effects: effects{d}, LastEpoch: a.opts.LastEpoch, Monotonic: func() int64 { return int64(a.rt.clock.Monotonic()) },
		BatchRows: a.opts.BatchRows, MemoryBudget: a.opts.MemoryBudget(),
		Finished: a.opts.Restored.finished(chain.Operators),
	}
	if d.hasState(chain) {
		if a.opts.OpenStore == nil {
			return fmt.Errorf("the chain %v has state, but Options.OpenStore is nil", chain.Operators)
		}
		s, err := a.opts.OpenStore(ctx, d.id)
		if err != nil {
			return fmt.Errorf("state: %w", err)
		}
		with.store, o.cfg.Store = s, s
	}
	d.counts = make([]*counts, len(chain.Operators))
	for i, name := range chain.Operators {
		d.counts[i] = &counts{}
		if err := d.openOp(ctx, chain, i, o, with); err != nil {
			return fmt.Errorf("operator %q: %w", name, err)
		}
	}
	for _, ch := range plan.Inputs(d.id) {
		edge := plan.Graph.Edges[plan.Edges[ch.Edge].Edge]
		o.cfg.Ins = append(o.cfg.Ins, subtask.In{Channel: ch, Port: edge.ToPort})
	}
	return d.openOuts(chain, o)
}

func (d *driver) hasState(chain *dataflow.Chain) bool {
	return slices.ContainsFunc(chain.Operators, func(op dataflow.OperatorID) bool { return len(d.a.opts.Job.States(op)) > 0 })
}

// openOp adds operator i of the chain to the configuration.
func (d *driver) openOp(ctx context.Context, chain *dataflow.Chain, i int, o *opened, with *resources) error {
	a := d.a
	g := &a.opts.Plan.Graph
	name := chain.Operators[i]
	op := g.Operator(name)
	was := a.opts.Restored.operator(name)
	c := subtask.Op{
		Name: name, Parallelism: chain.Parallelism, Parent: -1, Outs: len(op.Outputs),
		Watermark: was.watermark(), Extra: was.extra(d.id.Index),
	}
	for _, k := range g.Out(name) {
		c.Outs = max(c.Outs, g.Edges[k].Port+1)
	}
	if i > 0 {
		e := g.Edges[g.In(name)[0]]
		c.Parent, c.ParentPort, c.Port = slices.Index(chain.Operators, e.From), e.Port, e.ToPort
	}
	if err := was.fits(chain.Parallelism, op.Kind); err != nil {
		return err
	}
	if a.opts.State != nil {
		c.State = func(state string) (dataflow.StateID, spi.Codec, spi.Codec, error) { return a.opts.State(name, state) }
	}
	var err error
	switch op.Kind {
	case dataflow.KindSource:
		err = d.openSource(ctx, op, was, &c, o, with)
	case dataflow.KindSink:
		err = d.openSink(ctx, op, was, i, &c, with)
	default:
		if op.Keyed {
			c.Target = was.target()
		}
		c.Runner, err = a.opts.Job.NewRunner(name)
	}
	o.cfg.Ops = append(o.cfg.Ops, c)
	return err
}

func (d *driver) env(op *dataflow.Operator, i int) (spi.Env, error) {
	a := d.a
	env := spi.Env{
		Pipeline: a.opts.Pipeline, Operator: op.Name, Attempt: a.opts.Attempt,
		Index: d.id.Index, Parallelism: a.opts.Plan.Chain(d.id.Chain).Parallelism,
		Connector: *op.Connector, Settings: a.opts.Settings,
		Elem: a.opts.Job.Elem(op.Name, 0), Schema: op.Schema, Hooks: a.opts.Job.Hooks(op.Name),
		Log:   d.log.With("operator", string(op.Name)),
		Now:   func() int64 { return a.rt.clock.Now().UnixMicro() },
		Wake:  d.wakeUp,
		Count: d.counts[i].add,
	}
	if op.Connector.Format != "" && a.opts.Value != nil {
		v, err := a.opts.Value(*op, env.Elem)
		if err != nil {
			return env, fmt.Errorf("format %q: %w", op.Connector.Format, err)
		}
		env.Value = v
	}
	return env, nil
}

func (d *driver) openSource(ctx context.Context, op *dataflow.Operator, was formerOp, c *subtask.Op, o *opened, with *resources) error {
	a := d.a
	gen, err := a.opts.Job.NewSource(op.Name)
	if err != nil {
		return err
	}
	c.Source, c.Extra = gen, nil
	if c.Marks, err = was.marks(); err != nil {
		return err
	}
	for _, k := range a.opts.Plan.Graph.Out(op.Name) {
		if a.opts.Plan.Graph.Edges[k].Port == 1 {
			r, err := a.opts.Job.NewRouter(k)
			if err != nil {
				return err
			}
			c.Bad = r.NewBatch
		}
	}
	if o.cfg.Finished {
		if d.id.Index == 0 {
			c.Splits = was.splits()
		}
		return nil
	}
	env, err := d.env(op, 0)
	if err != nil {
		return err
	}
	c.Reader, err = a.opts.Sources[op.Connector.Kind].Open(ctx, env, was.splits(), gen)
	with.reader = c.Reader
	return err
}

func (d *driver) openSink(ctx context.Context, op *dataflow.Operator, was formerOp, i int, c *subtask.Op, with *resources) error {
	a := d.a
	env, err := d.env(op, i)
	if err != nil {
		return err
	}
	driver := a.opts.Sinks[op.Connector.Kind]
	writers := was.writers()
	c.WriterWas = writers[d.id.Index]
	w, err := driver.OpenWriter(ctx, env, writers)
	if err != nil {
		return err
	}
	c.Writer = w
	with.writers = append(with.writers, w)
	if d.id.Index != 0 {
		return nil
	}
	com, err := driver.OpenCommitter(ctx, env)
	if err != nil {
		return err
	}
	a.mu.Lock()
	d.commits = append(d.commits, newCommits(d, op.Name, com))
	a.mu.Unlock()
	var epoch dataflow.Epoch
	if a.opts.Restored != nil {
		epoch = a.opts.Restored.Epoch
	}
	return com.Check(ctx, epoch)
}

// openOuts adds the outgoing edges.
func (d *driver) openOuts(chain *dataflow.Chain, o *opened) error {
	plan := d.a.opts.Plan
	for _, ch := range plan.Outputs(d.id) {
		if n := len(o.cfg.Outs); n > 0 && o.cfg.Outs[n-1].Edge == ch.Edge {
			o.cfg.Outs[n-1].Channels = append(o.cfg.Outs[n-1].Channels, ch)
			continue
		}
		k := plan.Edges[ch.Edge].Edge
		edge := plan.Graph.Edges[k]
		out := subtask.Out{
			Edge: ch.Edge, Op: slices.Index(chain.Operators, edge.From), Port: edge.Port,
			Exchange: edge.Exchange, Channels: []dataflow.ChannelID{ch},
		}
		if edge.Exchange == dataflow.Hash {
			var err error
			if out.Router, err = d.a.opts.Job.NewRouter(k); err != nil {
				return err
			}
			out.Owner = make([]int32, plan.KeyGroups)
			p := plan.Chain(plan.Edges[ch.Edge].To).Parallelism
			for g := range out.Owner {
				out.Owner[g] = int32(dataflow.OwnerOf(g, plan.KeyGroups, p))
			}
		}
		o.cfg.Outs = append(o.cfg.Outs, out)
	}
	return nil
}

// formerOp is what the former subtasks of one operator left, by index.
type formerOp []former

type former struct {
	index    int
	finished bool
	state    dataflow.OpState
}

// operator collects the states of an operator over all parts. A nil Restored has
// none.
func (r *Restored) operator(name dataflow.OperatorID) (was formerOp) {
	if r == nil {
		return nil
	}
	for _, p := range r.Parts {
		if st, ok := p.Operators[name]; ok {
			was = append(was, former{p.Subtask.Index, p.Finished, st})
		}
	}
	slices.SortFunc(was, func(a, b former) int { return a.index - b.index })
	return was
}

// finished tells that every former subtask of every one of the operators had sent
// its end.
func (r *Restored) finished(ops []dataflow.OperatorID) bool {
	if r == nil {
		return false
	}
	for _, op := range ops {
		was := r.operator(op)
		if len(was) == 0 || slices.ContainsFunc(was, func(f former) bool { return !f.finished }) {
			return false
		}
	}
	return true
}

// watermark is what all of them had reached.
func (w formerOp) watermark() int64 {
	if len(w) == 0 {
		return dataflow.MinTime
	}
	wm := int64(math.MaxInt64)
	for _, f := range w {
		wm = min(wm, f.state.Watermark)
	}
	return wm
}

// target is the watermark that some of them had reached or were reaching: they may
// have fired what ends by it, so none of their keys takes a row before. It holds for
// a keyed operator, each of whose subtasks hears from every sender.
func (w formerOp) target() int64 {
	wm := w.watermark()
	for _, f := range w {
		if st := f.state; st.Watermark < dataflow.MaxTime { // one that has ended reached more than time
			wm = max(wm, st.Watermark)
			if st.Target != 0 {
				wm = max(wm, st.Target)
			}
		}
	}
	return wm
}

// fits refuses another parallelism where runners left something of their own: what
// is not a row of some key group has no new owner. What sources leave is by split.
func (w formerOp) fits(parallelism int, kind dataflow.OpKind) error {
	if kind == dataflow.KindSource || len(w) == 0 || len(w) == parallelism || w.shared() {
		return nil
	}
	for _, f := range w {
		if len(f.state.Extra) > 0 {
			return fmt.Errorf("it keeps something per subtask that is no keyed state, %d bytes of it in subtask %d, and cannot go on at parallelism %d what was left at %d: restore it at %d: %w",
				len(f.state.Extra), f.index, parallelism, len(w), len(w), spi.ErrStop)
		}
	}
	return nil
}

// shared tells that subtask 0 alone left something: it is the whole operator's, for
// each subtask that comes after.
func (w formerOp) shared() bool {
	for _, f := range w {
		if (f.index == 0) != (len(f.state.Extra) > 0) {
			return false
		}
	}
	return len(w) > 0
}

// extra is what the runner of the same index left, or what they share.
func (w formerOp) extra(index int) []byte {
	shared := w.shared()
	for _, f := range w {
		if f.index == index || shared && f.index == 0 {
			return f.state.Extra
		}
	}
	return nil
}

// marks are the watermarks of a source's splits, wherever they were read.
func (w formerOp) marks() (map[string]int64, error) {
	all := map[string]int64{}
	for _, f := range w {
		m, err := subtask.ParseMarks(f.state.Extra)
		if err != nil {
			return nil, err
		}
		for k, v := range m {
			all[k] = v
		}
	}
	return all, nil
}

func (w formerOp) splits() []dataflow.SplitState {
	if len(w) == 0 {
		return nil
	}
	all := []dataflow.SplitState{}
	for _, f := range w {
		all = append(all, f.state.Splits...)
	}
	return all
}

func (w formerOp) writers() map[int][]byte {
	all := map[int][]byte{}
	for _, f := range w {
		all[f.index] = f.state.Writer
	}
	return all
}
