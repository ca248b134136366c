package minicluster

import "testing"

// regressions are seeds that found something. Where the cure is in a driver, the
// seed must fail without it; a change of the simulation may move them: search
// again with WEIR_SIM_CURES=400.
var regressions = []struct {
	name string
	seed uint64
	cure Cure // "": it is in the engine
	user bool
}{
	{"a lost Complete names handles twice", 7, TriggerTellsComplete, false},
	{"a lost Start leaves the attempt waiting", 35, TriggerStarts, false},
	{"a doubled Start aborts what the writers prepared", 364, StartOnce, false},
	{"a lost Failed leaves the attempt hanging", 14, FailedAgain, false},
	{"a lost Ended keeps the job from finishing", 14, EndedAgain, false},
	{"a late Deploy brings an attempt back", 25, LateDeploy, false},
	{"epochs go on behind a job's last savepoint", 22, StopHolds, false},
	{"a file shared by a rescale holds old rows of others", 105, CutToPart, false},
	{"a broken writer refuses every epoch", 14, "", false},
	{"a broken writer refuses every epoch", 85, "", false},
	{"a broken writer refuses every epoch", 2766, "", false},
	{"a store that is away is taken for a corrupt manifest", 26, "", false},
	{"a store that is away is taken for a corrupt manifest", 54, "", false},
	{"a store that is away is taken for a corrupt manifest", 67, "", false},
	{"sinks are asked about the number of a copy", 32, OwnNumbers, true},
	{"a job that is being cancelled is deployed by the next job manager", 244, CancelGoesOn, true},
	{"a sink refuses a copied savepoint, and the pipeline is stuck with it", 278, "", true},
	{"a cancelled job gives up output that its savepoint goes on from", 12, "", true},
	{"a forgotten pipeline hands its attempts out again", 11940, "", false},
	{"a forgotten pipeline hands its attempts out again", 12666, "", false},
}

// TestSimulationRegressions runs every named seed, with its cure and without.
func TestSimulationRegressions(t *testing.T) {
	for _, r := range regressions {
		if _, err := Run(Options{Seed: r.seed, User: r.user}); err != nil {
			t.Errorf("%s: %v", r.name, rerun(r.seed, r.user, 60))
		}
		if r.cure == "" {
			continue
		}
		if _, err := Run(Options{Seed: r.seed, User: r.user, Without: r.cure}); err == nil {
			t.Errorf("%s: seed %d does not find it without %q any more", r.name, r.seed, r.cure)
		}
	}
}
