package checkpoint

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/weirstream/weir/dataflow"
)

// A Restored is what one subtask of a new plan starts from.
type Restored struct {
	Files    []dataflow.FileRef                            `json:"files,omitempty"`  // of every old subtask whose groups overlap, each in restore order
	Splits   map[dataflow.OperatorID][]dataflow.SplitState `json:"splits,omitempty"` // of all old subtasks; the reader takes those it owns
	Marks    map[dataflow.OperatorID]int64                 `json:"marks,omitempty"`  // least watermark reached by any old subtask
	Writers  map[dataflow.OperatorID]map[int][]byte        `json:"writers,omitempty"`
	Extras   map[dataflow.OperatorID][][]byte              `json:"extras,omitempty"` // by old subtask index
	Finished bool                                          `json:"finished,omitempty"`
}

// Match compares the operators of a manifest that hold state with those of a
// new graph and returns the names that are gone.
func Match(m *Manifest, g *dataflow.Graph) (removed []dataflow.OperatorID) {
	seen := map[dataflow.OperatorID]bool{}
	for i := range m.Parts {
		for op := range m.Parts[i].Operators {
			seen[op] = true
		}
	}
	for _, s := range m.States {
		seen[s.Operator] = true
	}
	for op := range seen {
		if g.Operator(op) == nil {
			removed = append(removed, op)
		}
	}
	slices.Sort(removed)
	return removed
}

// Assign maps the parts of m to subtask s of a new plan. Key-group ranges may
// differ; chains may have been cut differently; operators are matched by name.
func Assign(m *Manifest, plan *dataflow.Plan, s dataflow.SubtaskID) (Restored, error) {
	chain := plan.Chain(s.Chain)
	if chain == nil {
		return Restored{}, fmt.Errorf("checkpoint: plan has no chain %q", s.Chain)
	}
	if chain.Keyed && plan.KeyGroups != m.Plan.KeyGroups {
		return Restored{}, fmt.Errorf("checkpoint: epoch %d has %d key groups, the plan %d: max-parallelism is fixed for a pipeline", m.Epoch, m.Plan.KeyGroups, plan.KeyGroups)
	}
	r := Restored{
		Splits: map[dataflow.OperatorID][]dataflow.SplitState{}, Marks: map[dataflow.OperatorID]int64{},
		Writers: map[dataflow.OperatorID]map[int][]byte{}, Extras: map[dataflow.OperatorID][][]byte{},
	}
	groups := plan.Groups(s)
	for i := range m.Parts {
		p := &m.Parts[i]
		ours := false
		for _, op := range chain.Operators {
			st, ok := p.Operators[op]
			if !ok {
				continue
			}
			ours = true
			r.Splits[op] = append(r.Splits[op], st.Splits...)
			if old, ok := r.Marks[op]; !ok || st.Watermark < old {
				r.Marks[op] = st.Watermark
			}
			if st.Writer != nil {
				if r.Writers[op] == nil {
					r.Writers[op] = map[int][]byte{}
				}
				r.Writers[op][p.Subtask.Index] = st.Writer
			}
			if st.Extra != nil {
				for len(r.Extras[op]) <= p.Subtask.Index {
					r.Extras[op] = append(r.Extras[op], nil)
				}
				r.Extras[op][p.Subtask.Index] = st.Extra
			}
		}
		if !ours || p.Groups.Intersect(groups).Len() <= 0 {
			continue
		}
		for _, f := range p.Files {
			if f.Groups.Intersect(groups).Len() > 0 {
				r.Files = append(r.Files, f)
			}
		}
	}
	for op := range r.Splits {
		slices.SortFunc(r.Splits[op], func(a, b dataflow.SplitState) int { return cmp.Compare(a.Split, b.Split) })
	}
	return r, nil
}
