package stream

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/weirstream/weir/dataflow"
	"github.com/weirstream/weir/stream/internal/kernel"
	"github.com/weirstream/weir/stream/spi"
)

// A Graph collects the operators of a job while its Build function runs. Faults
// do not stop the function: they are collected and reported all at once when it
// returns.
//
// A Graph is not safe for concurrent use and useless after Build returned.
type Graph struct {
	ops    []*opSpec
	faults []error
	given  map[string]string // parameters of the command line
	params map[string]string // parameters read, with the values in force
}

// An opSpec is one operator as declared.
type opSpec struct {
	name string
	typ  string          // "map", "actors", ...: for people
	kind dataflow.OpKind // "" means KindOp
	ins  []input         // by port
	outs []output        // by port; a sink and a discard have none

	parallelism int
	noChain     bool
	slotGroup   string
	describe    string

	states    []spi.StateType
	connector *dataflow.Connector
	hooks     []spi.Hook

	// runner makes the runner of one subtask; sides are its side outputs. Set for
	// KindOp.
	runner func(sides *kernel.Sides) (spi.Runner, error)
	source func() (spi.SourceRunner, error) // set for KindSource
}

// An output is one output port: port 0 is the main output, the others have tags.
type output struct {
	tag  any    // identity of the tag; nil for port 0
	name string // "" for port 0
	elem reflect.Type
	port func(port int) kernel.SidePort // nil for port 0
	read bool
}

// An input is one input port with the streams that arrive there.
type input struct {
	refs     []outRef
	exchange dataflow.Exchange
	elem     reflect.Type
	router   func() spi.Router
}

// An outRef names an output port.
type outRef struct {
	op   *opSpec
	port int
}

// A Use is what an operator call lists beside its function: state handles and
// tags, so that the plan knows them.
type Use interface{ use(g *Graph, o *opSpec) }

// addState declares a named state of the operator.
func (o *opSpec) addState(g *Graph, s spi.StateType) {
	switch {
	case s.Name == "":
		g.fault("operator %q has a state without a name: name it", o.name)
	case slices.ContainsFunc(o.states, func(t spi.StateType) bool { return t.Name == s.Name }):
		g.fault("operator %q has two states named %q: names must differ", o.name, s.Name)
	}
	o.states = append(o.states, s)
}

// sides makes the side outputs of one subtask.
func (o *opSpec) sides() *kernel.Sides {
	s := new(kernel.Sides)
	for i, out := range o.outs {
		if out.tag != nil && out.port != nil {
			s.Add(out.tag, out.port(i))
		}
	}
	return s
}

// fault records what is wrong with the job, in one sentence that names the thing
// and the cure.
func (g *Graph) fault(format string, args ...any) {
	g.faults = append(g.faults, fmt.Errorf(format, args...))
}

// addOp adds an operator whose main output has rows of type Out.
func addOp[Out any](g *Graph, o opSpec, uses ...Use) Stream[Out] {
	o.outs = append([]output{{elem: reflect.TypeFor[Out]()}}, o.outs...)
	op := g.add(&o, uses...)
	return Stream[Out]{g: g, from: []outRef{{op, 0}}}
}

// add adds an operator with its outputs as they stand.
func (g *Graph) add(o *opSpec, uses ...Use) *opSpec {
	if g == nil {
		panic(fmt.Sprintf("operator %q reads a stream that no operator made: pass what Read or an operator returned", o.name))
	}
	if o.kind == "" {
		o.kind = dataflow.KindOp
	}
	if err := checkName(o.name); err != nil {
		g.fault("%s operator number %d %w", o.typ, len(g.ops)+1, err)
	} else if slices.ContainsFunc(g.ops, func(p *opSpec) bool { return p.name == o.name }) {
		g.fault("two operators are named %q: a name is an operator's identity across restarts, give each its own", o.name)
	}
	for _, u := range uses {
		if isNil(u) {
			g.fault("operator %q is given a nil state handle or tag", o.name)
			continue
		}
		u.use(g, o)
	}
	for i, in := range o.ins {
		if len(in.refs) == 0 {
			g.fault("operator %q reads a stream that no operator made (input %d): pass what Read or an operator returned", o.name, i)
		}
		for _, r := range in.refs {
			if !slices.Contains(g.ops, r.op) {
				g.fault("operator %q reads operator %q of another graph: use the Graph that Build was given", o.name, r.op.name)
				continue
			}
			r.op.outs[r.port].read = true
		}
	}
	g.ops = append(g.ops, o)
	return o
}

func isNil(v any) bool {
	if v == nil {
		return true
	}
	r := reflect.ValueOf(v)
	return r.Kind() == reflect.Pointer && r.IsNil()
}

const maxName = 128

func checkName(name string) error {
	switch {
	case name == "":
		return errors.New("has no name: its name is its identity across restarts, give it one")
	case len(name) > maxName:
		return fmt.Errorf("is named %.20q..., which is longer than %d bytes: shorten it", name, maxName)
	case !utf8.ValidString(name) || strings.ContainsFunc(name, unicode.IsControl):
		return fmt.Errorf("is named %q, which holds control characters: use plain text", name)
	case strings.TrimSpace(name) != name:
		return fmt.Errorf("is named %q, which begins or ends with a space: trim it", name)
	}
	return nil
}

// check finds the faults that show only when the whole graph is known.
func (g *Graph) check() {
	if len(g.ops) == 0 {
		g.fault("the job has no operators: Read a source and Write to a sink")
	}
	for _, o := range g.ops {
		for _, out := range o.outs {
			switch {
			case out.read:
			case out.tag == nil:
				g.fault("nothing reads the output of operator %q: Write it, or Discard it if that is meant", o.name)
			default:
				g.fault("nothing reads side output %q of operator %q: read it with Side, or do not list its tag", out.name, o.name)
			}
		}
		if o.kind != dataflow.KindOp {
			g.checkConnector(o)
			g.checkRejects(o)
		}
	}
	g.checkParams()
}

// checkConnector finds the faults of a source or sink declaration.
func (g *Graph) checkConnector(o *opSpec) {
	if o.connector.Kind == "" {
		g.fault("%s %q has an empty declaration: use one of a connector package, such as kafka.Topic", o.kind, o.name)
	}
	elem := o.elem(0)
	for _, h := range o.hooks {
		if h.Elem != elem {
			g.fault("%s %q has rows of %v, but its option %s is a function of %v: make it a function of %v",
				o.kind, o.name, elem, h.Name, h.Elem, elem)
		}
	}
}

// elem returns the row type of an output port, of the input for a sink; nil if
// there is none.
func (o *opSpec) elem(port int) reflect.Type {
	if len(o.outs) == 0 && port == 0 && len(o.ins) > 0 {
		return o.ins[0].elem
	}
	if port < 0 || port >= len(o.outs) {
		return nil
	}
	return o.outs[port].elem
}
