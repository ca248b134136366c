package fake

import (
	"fmt"
	"reflect"

	"github.com/weirstream/weir/dataflow"
	"github.com/weirstream/weir/stream/spi"
)

// Job is a graph with the functions that make its runners.
type Job struct {
	G        dataflow.Graph
	Runners  map[dataflow.OperatorID]func() spi.Runner
	Stateful map[dataflow.OperatorID]bool
	Lag      int64
	Groups   int
}

var _ spi.Job = (*Job)(nil)

// Graph is of spi.Job, like the methods below.
func (j *Job) Graph() dataflow.Graph { return j.G }

// States lists one state for stateful operators.
func (j *Job) States(op dataflow.OperatorID) []spi.StateType {
	if !j.Stateful[op] {
		return nil
	}
	return []spi.StateType{{Name: "count", Kind: dataflow.ValueState, Key: reflect.TypeFor[uint64](), Value: reflect.TypeFor[int64]()}}
}

// Elem is Row.
func (j *Job) Elem(op dataflow.OperatorID, port int) reflect.Type { return reflect.TypeFor[Row]() }

// NewRunner calls the function of the operator.
func (j *Job) NewRunner(op dataflow.OperatorID) (spi.Runner, error) {
	if f := j.Runners[op]; f != nil {
		return f(), nil
	}
	return nil, fmt.Errorf("fake: no runner for %q", op)
}

// NewSource returns a Stamper.
func (j *Job) NewSource(op dataflow.OperatorID) (spi.SourceRunner, error) {
	return &Stamper{Lag: j.Lag}, nil
}

// NewRouter routes by key.
func (j *Job) NewRouter(edge int) (spi.Router, error) { return Router{j.Groups}, nil }

// Hooks are none.
func (j *Job) Hooks(op dataflow.OperatorID) []spi.Hook { return nil }

// Add appends an operator; from names its inputs, which arrive by the exchange.
func (j *Job) Add(name dataflow.OperatorID, kind dataflow.OpKind, p int, run func() spi.Runner, x dataflow.Exchange, from ...dataflow.OperatorID) {
	op := dataflow.Operator{Name: name, Kind: kind, Type: "fake", Parallelism: p, Inputs: len(from), Outputs: []string{""}, Keyed: x == dataflow.Hash}
	if kind != dataflow.KindOp {
		op.Connector = &dataflow.Connector{Kind: string(name)}
	}
	for port, f := range from {
		j.G.Edges = append(j.G.Edges, dataflow.Edge{From: f, To: name, ToPort: port, Exchange: x})
	}
	j.G.Operators = append(j.G.Operators, op)
	if j.Runners == nil {
		j.Runners = map[dataflow.OperatorID]func() spi.Runner{}
		j.Stateful = map[dataflow.OperatorID]bool{}
	}
	if run != nil {
		j.Runners[name] = run
	}
}
