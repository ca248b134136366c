package minicluster

import "testing"

// regressions are seeds that found something. Where the cure is in a driver, the
// seed must fail without it; a change of the simulation may move them: search
// again with WEIR_SIM_CURES=400.
var regressions = []struct {
	name string
	seed uint64
	cure Cure // "": it is in the engine
}{
	{"a lost Complete names handles twice", 8, TriggerTellsComplete},
	{"a lost Start leaves the attempt waiting", 7, TriggerStarts},
	{"a doubled Start aborts what the writers prepared", 5, StartOnce},
	{"a lost Failed leaves the attempt hanging", 312, FailedAgain},
	{"a lost Ended keeps the job from finishing", 11, EndedAgain},
	{"a late Deploy brings an attempt back", 36, LateDeploy},
	{"a file shared by a rescale holds old rows of others", 36, CutToPart},
	{"a broken writer refuses every epoch", 52378, ""},
	{"a broken writer refuses every epoch", 52555, ""},
	{"a broken writer refuses every epoch before the first", 52593, ""},
}

// TestSimulationRegressions runs every named seed, with its cure and without.
func TestSimulationRegressions(t *testing.T) {
	for _, r := range regressions {
		if _, err := Run(Options{Seed: r.seed}); err != nil {
			t.Errorf("%s: %v", r.name, rerun(r.seed, 60))
		}
		if r.cure == "" {
			continue
		}
		if _, err := Run(Options{Seed: r.seed, Without: r.cure}); err == nil {
			t.Errorf("%s: seed %d does not find it without %q any more", r.name, r.seed, r.cure)
		}
	}
}
