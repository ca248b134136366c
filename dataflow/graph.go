package dataflow

import "slices"

// OpKind says what an operator is to the engine.
type OpKind string

// The kinds of operators.
const (
	KindSource OpKind = "source" // has a Connector, no inputs
	KindOp     OpKind = "op"     // everything between
	KindSink   OpKind = "sink"   // has a Connector, no outputs
)

// Exchange says how rows travel along an edge.
type Exchange string

// The exchanges. Forward keeps the subtask index and may be chained.
const (
	Forward   Exchange = "forward"
	Rebalance Exchange = "rebalance"
	Hash      Exchange = "hash"
	Broadcast Exchange = "broadcast"
)

// A Connector is a declaration: the implementation is linked into the worker
// under Kind.
type Connector struct {
	Kind    string            `json:"kind"`              // "kafka", "delta", "files", "gen"
	Options map[string]string `json:"options,omitempty"` // as the job gave them
	Format  string            `json:"format,omitempty"`  // codec of values: "json", "avro", "raw"; "" where the connector has none
}

// StateKind is the shape of a named state.
type StateKind string

// The shapes of state.
const (
	ValueState StateKind = "value" // one row per key; timers ride in it
	MapState   StateKind = "map"   // one row per entry
	ListState  StateKind = "list"  // one row per segment
	TimerIndex StateKind = "timer" // rows that find the timers of keys not in the cache
	PaneState  StateKind = "pane"  // one row per key and pane
)

// StateInfo describes one named state of an operator as it stands in a
// manifest.
type StateInfo struct {
	Operator OperatorID `json:"operator"`
	Name     string     `json:"name"`
	ID       StateID    `json:"id"`
	Kind     StateKind  `json:"kind"`
	Panes    bool       `json:"panes,omitempty"`
	Key      string     `json:"key,omitempty"`     // Avro schema of the key
	Schemas  []string   `json:"schemas,omitempty"` // Avro schemas of the value by number; the last is current
}

// An Operator is one named node of a Graph.
type Operator struct {
	Name        OperatorID  `json:"name"`
	Kind        OpKind      `json:"kind"`
	Type        string      `json:"type"`                  // "read", "map", "actors", "window", "write", ...: for people
	Parallelism int         `json:"parallelism,omitempty"` // 0: the job's default
	NoChain     bool        `json:"no_chain,omitempty"`
	SlotGroup   string      `json:"slot_group,omitempty"`
	Description string      `json:"description,omitempty"`
	Keyed       bool        `json:"keyed,omitempty"`   // input 0 arrives by hash; has a key-group range
	Inputs      int         `json:"inputs,omitempty"`  // number of input ports
	Outputs     []string    `json:"outputs,omitempty"` // "" for the main output, else a tag
	Connector   *Connector  `json:"connector,omitempty"`
	States      []StateInfo `json:"states,omitempty"` // without IDs until the job manager assigns them
	Elem        string      `json:"elem,omitempty"`   // Go type of the rows that leave (sink: that arrive)
	Schema      string      `json:"schema,omitempty"` // Avro schema of those rows
}

// An Edge joins an output port to an input port.
type Edge struct {
	From     OperatorID `json:"from"`
	Port     int        `json:"port,omitempty"`
	To       OperatorID `json:"to"`
	ToPort   int        `json:"to_port,omitempty"`
	Exchange Exchange   `json:"exchange"`
}

// A Graph is a job as written: operators in the order of their declaration,
// which is topological, and the edges between them.
type Graph struct {
	Operators []Operator        `json:"operators"`
	Edges     []Edge            `json:"edges"`
	Params    map[string]string `json:"params,omitempty"` // parameters the job read, with the values in force
}

// Operator returns the operator of that name, or nil.
func (g *Graph) Operator(name OperatorID) *Operator {
	i := slices.IndexFunc(g.Operators, func(o Operator) bool { return o.Name == name })
	if i < 0 {
		return nil
	}
	return &g.Operators[i]
}

// In returns the indexes of the edges that end at name, in order.
func (g *Graph) In(name OperatorID) (edges []int) {
	for i, e := range g.Edges {
		if e.To == name {
			edges = append(edges, i)
		}
	}
	return edges
}

// Out returns the indexes of the edges that start at name, in order.
func (g *Graph) Out(name OperatorID) (edges []int) {
	for i, e := range g.Edges {
		if e.From == name {
			edges = append(edges, i)
		}
	}
	return edges
}
