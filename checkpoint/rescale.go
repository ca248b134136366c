package checkpoint

import (
	"fmt"
	"slices"

	"github.com/weirstream/weir/dataflow"
)

// Match compares the operators of a manifest that hold state with those of a
// new graph and returns the names that are gone.
func Match(m *Manifest, g *dataflow.Graph) (removed []dataflow.OperatorID) {
	for i := range m.Parts {
		for op := range m.Parts[i].Operators {
			removed = append(removed, op)
		}
	}
	for _, s := range m.States {
		removed = append(removed, s.Operator)
	}
	slices.Sort(removed)
	removed = slices.Compact(removed)
	return slices.DeleteFunc(removed, func(op dataflow.OperatorID) bool { return g.Operator(op) != nil })
}

// A RemovedError lists operators of a checkpoint that the new graph lacks.
type RemovedError struct {
	Epoch     dataflow.Epoch
	Operators []dataflow.OperatorID
}

// Error names them and the cure.
func (e *RemovedError) Error() string {
	return fmt.Sprintf("epoch %d holds state of operators that the job no longer has: %v; give them back their names, or drop their state with --allow-non-restored-state", e.Epoch, e.Operators)
}

// Files returns the files that subtask s of a new plan restores from parts,
// which were made under a plan that may have cut chains and key groups
// differently: those of every part that ran one of its operators and whose key
// groups overlap. Files of one part keep their order, and are cut to the part's
// key groups: a file that a former rescale shared holds old rows of other parts.
func Files(parts []dataflow.Part, plan *dataflow.Plan, s dataflow.SubtaskID) []dataflow.FileRef {
	chain := plan.Chain(s.Chain)
	groups := plan.Groups(s)
	if chain == nil || groups.Len() <= 0 {
		return nil
	}
	var out []dataflow.FileRef
	for i := range parts {
		p := &parts[i]
		if p.Groups.Intersect(groups).Len() <= 0 || !slices.ContainsFunc(chain.Operators, func(op dataflow.OperatorID) bool { _, ok := p.Operators[op]; return ok }) {
			continue
		}
		for _, f := range p.Files {
			if f.Groups = f.Groups.Intersect(p.Groups); f.Groups.Intersect(groups).Len() > 0 {
				out = append(out, f)
			}
		}
	}
	return out
}
