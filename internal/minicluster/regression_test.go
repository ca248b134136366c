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
	{"a lost Complete names handles twice", 7, TriggerTellsComplete},
	{"a lost Start leaves the attempt waiting", 35, TriggerStarts},
	{"a doubled Start aborts what the writers prepared", 364, StartOnce},
	{"a lost Failed leaves the attempt hanging", 14, FailedAgain},
	{"a lost Ended keeps the job from finishing", 14, EndedAgain},
	{"a late Deploy brings an attempt back", 25, LateDeploy},
	{"epochs go on behind a job's last savepoint", 22, StopHolds},
	{"a file shared by a rescale holds old rows of others", 63, CutToPart},
	{"a broken writer refuses every epoch", 14, ""},
	{"a broken writer refuses every epoch", 85, ""},
	{"a broken writer refuses every epoch", 2766, ""},
	{"a store that is away is taken for a corrupt manifest", 26, ""},
	{"a store that is away is taken for a corrupt manifest", 54, ""},
	{"a store that is away is taken for a corrupt manifest", 67, ""},
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
