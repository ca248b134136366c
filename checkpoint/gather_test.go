package checkpoint

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/weirstream/weir/dataflow"
)

// Whatever is aborted, fails or comes late, an acked epoch's parts name bytes that
// were put, at most one upload is under way, no file whose place is known is put
// again, and after an abort the next epoch is acked.
func TestGatherer(t *testing.T) {
	all := 0
	for seed := range uint64(300) {
		rng := rand.New(rand.NewPCG(seed, 1))
		const subtasks = 3
		g := NewGatherer(subtasks, func(e dataflow.Epoch) string { return fmt.Sprint("epoch-", e) })
		stored := map[string]map[int64]string{} // by object and offset: the local file
		var held [subtasks][]string             // what each store has, without its place
		put := map[string]bool{}
		var under *Upload
		acked, last := 0, dataflow.Epoch(0)
		finish := func() {
			u := under
			failed := rng.IntN(4) == 0
			if !failed {
				u.Each(func(local string, p Place) {
					if stored[p.Object] == nil {
						stored[p.Object] = map[int64]string{}
					}
					stored[p.Object][p.Offset] = local
					if put[local] {
						t.Fatalf("seed %d, epoch %d: %s is put again", seed, u.Epoch, local)
					}
					put[local] = true
				})
			}
			current, next := g.Done(u, failed)
			under = next
			if !current || failed {
				return
			}
			acked++
			for _, part := range u.Parts {
				for _, f := range part.Files {
					if got := stored[f.Object][f.Offset]; got != f.Local {
						t.Fatalf("seed %d, epoch %d: %s is said to lie at %s@%d, where %q is", seed, u.Epoch, f.Local, f.Object, f.Offset, got)
					}
				}
			}
			g.Complete(u.Epoch)
		}
		for e := dataflow.Epoch(1); e < 40; e++ {
			last = e
			g.Begin(e)
			for i := range subtasks {
				held[i] = append(held[i], fmt.Sprintf("s%d-%d", i, e))
				if rng.IntN(6) == 0 {
					g.Begin(e - 1) // late
				}
				part := dataflow.Part{Subtask: dataflow.SubtaskID{Chain: "c", Index: i}}
				for _, f := range held[i] {
					part.Files = append(part.Files, dataflow.FileRef{Local: f, Length: 7})
				}
				if u := g.Add(e, part); u != nil {
					if under != nil {
						t.Fatalf("seed %d: two uploads at a time", seed)
					}
					under = u
				}
				if rng.IntN(5) == 0 {
					g.Abort(e)
				}
				if under != nil && rng.IntN(3) == 0 {
					finish()
				}
			}
		}
		for under != nil {
			finish()
		}
		g.Begin(last + 1)
		for i := range subtasks {
			under = g.Add(last+1, dataflow.Part{Subtask: dataflow.SubtaskID{Chain: "c", Index: i}})
		}
		if under == nil {
			t.Fatalf("seed %d: after it all nothing is uploaded", seed)
		}
		if current, next := g.Done(under, false); !current || next != nil {
			t.Fatalf("seed %d: the last epoch is given up", seed)
		}
		all += acked
	}
	if all < 1000 {
		t.Errorf("only %d epochs were acked", all)
	}
}
