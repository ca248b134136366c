package checkpoint

import (
	"maps"
	"slices"

	"github.com/weirstream/weir/dataflow"
)

// Keep splits completed epochs into those to keep and those that retention
// gives up: the newest retain of them, every savepoint and every unfinished one are
// kept. The one that the attempt started from is not, once newer ones are complete:
// their parts name every file that a store still reads. refs are in epoch order; so
// are the results.
func Keep(refs []Ref, retain int, finished func(dataflow.Epoch) bool) (keep, drop []Ref) {
	retain = max(retain, 1)
	newest := 0
	for _, r := range slices.Backward(refs) {
		switch {
		case r.Kind == Savepoint || !finished(r.Epoch):
			keep = append(keep, r)
		case newest < retain:
			keep = append(keep, r)
			newest++
		default:
			drop = append(drop, r)
		}
	}
	slices.Reverse(keep)
	slices.Reverse(drop)
	return keep, drop
}

// Sweep returns which of the listed objects may be deleted: those under a
// recorded epoch (one for which dead returns true: aborted or given up by
// retention, long enough ago) that no kept manifest names. Unknown means keep:
// an object outside the pipeline's epochs, or under an epoch that was never
// recorded, stays.
func Sweep(p dataflow.Pipeline, listed []string, kept []*Manifest, dead func(dataflow.Epoch) bool) []string {
	named := map[string]bool{}
	for _, m := range kept {
		maps.Copy(named, m.Objects())
		named[ManifestKey(p, m.Epoch)] = true
		named[MarkerKey(p, m.Epoch)] = true
		named[FinishedKey(p, m.Epoch)] = true
	}
	var out []string
	for _, key := range listed {
		if e, ok := EpochOf(p, key); ok && !named[key] && dead(e) {
			out = append(out, key)
		}
	}
	return out
}
