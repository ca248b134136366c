package stream

import (
	"errors"
	"fmt"
	"maps"
	"reflect"
	"runtime/debug"
	"slices"

	"github.com/weirstream/weir/dataflow"
	"github.com/weirstream/weir/stream/spi"
)

// Build runs the build function of a job with the parameters of its command line
// and returns the job. All faults of the job are reported at once, a sentence
// each.
func Build(params map[string]string, build func(*Graph) error) (spi.Job, error) {
	g := &Graph{given: maps.Clone(params), params: map[string]string{}}
	if err := g.run(build); err != nil {
		return nil, errors.Join(append([]error{fmt.Errorf("stream: build: %w", err)}, g.faults...)...)
	}
	g.check()
	switch len(g.faults) {
	case 0:
		return newJob(g), nil
	case 1:
		return nil, fmt.Errorf("stream: %w", g.faults[0])
	}
	return nil, fmt.Errorf("stream: the job has %d faults:\n%w", len(g.faults), errors.Join(g.faults...))
}

// run calls the build function; a panic in it is an error with its stack.
func (g *Graph) run(build func(*Graph) error) (err error) {
	if build == nil {
		return errors.New("there is no build function")
	}
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("the build function panicked: %v\n%s", p, debug.Stack())
		}
	}()
	return build(g)
}

// job implements spi.Job. It is immutable.
type job struct {
	graph   dataflow.Graph
	ops     map[dataflow.OperatorID]*opSpec
	routers []func() spi.Router // by edge
}

func newJob(g *Graph) *job {
	j := &job{ops: map[dataflow.OperatorID]*opSpec{}}
	j.graph.Params = g.params
	for _, o := range g.ops {
		j.ops[dataflow.OperatorID(o.name)] = o
		j.graph.Operators = append(j.graph.Operators, o.operator())
		for port, in := range o.ins {
			for _, r := range in.refs {
				j.graph.Edges = append(j.graph.Edges, dataflow.Edge{
					From: dataflow.OperatorID(r.op.name), Port: r.port,
					To: dataflow.OperatorID(o.name), ToPort: port,
					Exchange: in.exchange,
				})
				j.routers = append(j.routers, in.router)
			}
		}
	}
	return j
}

// operator describes o for the plan.
func (o *opSpec) operator() dataflow.Operator {
	d := dataflow.Operator{
		Name: dataflow.OperatorID(o.name), Kind: o.kind, Type: o.typ,
		Parallelism: o.parallelism, NoChain: o.noChain, SlotGroup: o.slotGroup, Description: o.describe,
		Keyed:  len(o.ins) > 0 && o.ins[0].exchange == dataflow.Hash && o.kind == dataflow.KindOp,
		Inputs: len(o.ins), Connector: o.connector, Elem: elemOf(o.elem(0)),
	}
	for _, out := range o.outs {
		d.Outputs = append(d.Outputs, out.name)
	}
	for _, s := range o.states {
		d.States = append(d.States, dataflow.StateInfo{Operator: d.Name, Name: s.Name, Kind: s.Kind, Panes: s.Panes})
	}
	return d
}

// Graph implements spi.Job.
func (j *job) Graph() dataflow.Graph {
	g := j.graph
	g.Operators, g.Edges, g.Params = slices.Clone(g.Operators), slices.Clone(g.Edges), maps.Clone(g.Params)
	for i := range g.Operators {
		o := &g.Operators[i]
		o.States, o.Outputs = slices.Clone(o.States), slices.Clone(o.Outputs)
		if o.Connector != nil {
			c := *o.Connector
			c.Options = maps.Clone(c.Options)
			o.Connector = &c
		}
	}
	return g
}

// States implements spi.Job.
func (j *job) States(op dataflow.OperatorID) []spi.StateType {
	if o := j.ops[op]; o != nil {
		return slices.Clone(o.states)
	}
	return nil
}

// Elem implements spi.Job.
func (j *job) Elem(op dataflow.OperatorID, port int) reflect.Type {
	if o := j.ops[op]; o != nil {
		return o.elem(port)
	}
	return nil
}

// NewRunner implements spi.Job.
func (j *job) NewRunner(op dataflow.OperatorID) (spi.Runner, error) {
	o := j.ops[op]
	if o == nil || o.runner == nil {
		return nil, fmt.Errorf("stream: %q is not an operator with a runner", op)
	}
	r, err := o.runner(o.sides())
	if err != nil {
		return nil, fmt.Errorf("stream: operator %q: %w", op, err)
	}
	return r, nil
}

// NewSource implements spi.Job.
func (j *job) NewSource(op dataflow.OperatorID) (spi.SourceRunner, error) {
	o := j.ops[op]
	if o == nil || o.source == nil {
		return nil, fmt.Errorf("stream: %q is not a source", op)
	}
	s, err := o.source()
	if err != nil {
		return nil, fmt.Errorf("stream: source %q: %w", op, err)
	}
	return s, nil
}

// NewRouter implements spi.Job. The router of an edge that stays in its subtask
// deals rows evenly, for plans that gave its ends different parallelisms.
func (j *job) NewRouter(edge int) (spi.Router, error) {
	if edge < 0 || edge >= len(j.routers) {
		return nil, fmt.Errorf("stream: the job has no edge %d, only %d", edge, len(j.routers))
	}
	return j.routers[edge](), nil
}

// Hooks implements spi.Job.
func (j *job) Hooks(op dataflow.OperatorID) []spi.Hook {
	if o := j.ops[op]; o != nil {
		return slices.Clone(o.hooks)
	}
	return nil
}
