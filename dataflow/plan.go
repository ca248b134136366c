package dataflow

import (
	"fmt"
	"slices"
)

// A Chain is a run of operators that one subtask executes, calling each other
// batch by batch. It is named by its first operator.
type Chain struct {
	ID          OperatorID   `json:"id"`
	Operators   []OperatorID `json:"operators"` // in topological order; the first is the head
	Parallelism int          `json:"parallelism"`
	SlotGroup   string       `json:"slot_group,omitempty"`
	Keyed       bool         `json:"keyed,omitempty"`
}

// A PlanEdge is a graph edge between two chains; its channels are every pair of
// subtasks, or pairs of equal index for Forward.
type PlanEdge struct {
	Edge int        `json:"edge"` // index into Graph.Edges
	From OperatorID `json:"from"` // chain
	To   OperatorID `json:"to"`   // chain
}

// A Plan is a graph cut into chains and subtasks.
type Plan struct {
	Graph     Graph      `json:"graph"`
	KeyGroups int        `json:"key_groups"`
	Chains    []Chain    `json:"chains"`
	Edges     []PlanEdge `json:"edges"`
}

// MakePlan cuts g into chains. parallelism is the default of operators that set
// none; keyGroups is the pipeline's fixed number of key groups (0: the default).
//
// Two operators share a chain when the edge between them is Forward, is the only
// input of the lower one, both have the same parallelism and slot group, and
// neither forbids it. Forward edges between different parallelisms become
// Rebalance.
func MakePlan(g Graph, parallelism, keyGroups int) (Plan, error) {
	if keyGroups == 0 {
		keyGroups = DefaultKeyGroups
	}
	if keyGroups < 1 || keyGroups > MaxKeyGroups {
		return Plan{}, fmt.Errorf("dataflow: max-parallelism %d is outside 1..%d", keyGroups, MaxKeyGroups)
	}
	if parallelism < 1 {
		return Plan{}, fmt.Errorf("dataflow: parallelism %d is below 1", parallelism)
	}
	g.Operators, g.Edges = slices.Clone(g.Operators), slices.Clone(g.Edges)
	for i := range g.Operators {
		op := &g.Operators[i]
		if op.Parallelism == 0 {
			op.Parallelism = parallelism
		}
		if op.Keyed && op.Parallelism > keyGroups {
			return Plan{}, fmt.Errorf("dataflow: operator %q has parallelism %d but the pipeline only %d key groups: lower it, or start a new pipeline with --max-parallelism %d",
				op.Name, op.Parallelism, keyGroups, op.Parallelism)
		}
	}
	p := Plan{Graph: g, KeyGroups: keyGroups}
	chainOf := map[OperatorID]int{}
	for _, op := range g.Operators {
		in := g.In(op.Name)
		if len(in) == 1 {
			e := &g.Edges[in[0]]
			up := g.Operator(e.From)
			if e.Exchange == Forward && up.Parallelism != op.Parallelism {
				e.Exchange = Rebalance
			}
			if e.Exchange == Forward && !op.NoChain && !up.NoChain && up.SlotGroup == op.SlotGroup {
				c := chainOf[up.Name]
				p.Chains[c].Operators = append(p.Chains[c].Operators, op.Name)
				chainOf[op.Name] = c
				continue
			}
		} else {
			for _, i := range in {
				if e := &g.Edges[i]; e.Exchange == Forward && g.Operator(e.From).Parallelism != op.Parallelism {
					e.Exchange = Rebalance
				}
			}
		}
		chainOf[op.Name] = len(p.Chains)
		p.Chains = append(p.Chains, Chain{ID: op.Name, Operators: []OperatorID{op.Name}, Parallelism: op.Parallelism, SlotGroup: op.SlotGroup, Keyed: op.Keyed})
	}
	for i, e := range g.Edges {
		if from, to := chainOf[e.From], chainOf[e.To]; from != to {
			p.Edges = append(p.Edges, PlanEdge{Edge: i, From: p.Chains[from].ID, To: p.Chains[to].ID})
		}
	}
	return p, nil
}

// Chain returns the chain of that name, or nil.
func (p *Plan) Chain(id OperatorID) *Chain {
	i := slices.IndexFunc(p.Chains, func(c Chain) bool { return c.ID == id })
	if i < 0 {
		return nil
	}
	return &p.Chains[i]
}

// Subtasks returns every subtask in chain order.
func (p *Plan) Subtasks() (ids []SubtaskID) {
	for _, c := range p.Chains {
		for i := range c.Parallelism {
			ids = append(ids, SubtaskID{c.ID, i})
		}
	}
	return ids
}

// Groups returns the key groups that a subtask owns; empty for chains that are
// not keyed.
func (p *Plan) Groups(s SubtaskID) KeyGroups {
	c := p.Chain(s.Chain)
	if c == nil || !c.Keyed {
		return KeyGroups{}
	}
	return OwnedBy(p.KeyGroups, c.Parallelism, s.Index)
}

// Inputs returns the channels that end at s, ordered by edge, then sender.
func (p *Plan) Inputs(s SubtaskID) (in []ChannelID) {
	for i, e := range p.Edges {
		if e.To != s.Chain {
			continue
		}
		if p.Graph.Edges[e.Edge].Exchange == Forward {
			in = append(in, ChannelID{i, s.Index, s.Index})
			continue
		}
		for from := range p.Chain(e.From).Parallelism {
			in = append(in, ChannelID{i, from, s.Index})
		}
	}
	return in
}

// Outputs returns the channels that start at s, ordered by edge, then receiver.
func (p *Plan) Outputs(s SubtaskID) (out []ChannelID) {
	for i, e := range p.Edges {
		if e.From != s.Chain {
			continue
		}
		if p.Graph.Edges[e.Edge].Exchange == Forward {
			out = append(out, ChannelID{i, s.Index, s.Index})
			continue
		}
		for to := range p.Chain(e.To).Parallelism {
			out = append(out, ChannelID{i, s.Index, to})
		}
	}
	return out
}
