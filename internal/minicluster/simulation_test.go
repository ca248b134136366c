package minicluster

import (
	"fmt"
	"os"
	"runtime/debug"
	"strconv"
	"testing"
	"time"

	"github.com/weirstream/weir/internal/failpoint"
)

// The environment of these tests.
const (
	envSeed  = "WEIR_SIM_SEED"  // run this seed alone, with its whole trace
	envSeeds = "WEIR_SIM_SEEDS" // how many; 1,000, with -short 200
	envFrom  = "WEIR_SIM_FROM"  // the first; 1
	envUser  = "WEIR_SIM_USER"  // not empty: all of them have a user, not a third
)

// TestMain trades memory for time: runs make much garbage and keep little.
func TestMain(m *testing.M) {
	debug.SetGCPercent(400)
	os.Exit(m.Run())
}

func number(t *testing.T, name string, other uint64) uint64 {
	text := os.Getenv(name)
	if text == "" {
		return other
	}
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		t.Fatalf("%s=%q: want a number", name, text)
	}
	return n
}

// rerun runs a failing seed again, with its last events.
func rerun(seed uint64, user bool, keep int) error {
	_, err := Run(Options{Seed: seed, Trace: keep, User: user})
	return err
}

// TestSimulation runs seeds; the first that fails is run again with its trace.
func TestSimulation(t *testing.T) {
	if seed := number(t, envSeed, 0); seed != 0 {
		stats, err := Run(Options{Seed: seed, Trace: 1 << 20, User: os.Getenv(envUser) != ""})
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("seed %d: %+v", seed, stats)
		return
	}
	seeds := uint64(1000)
	if testing.Short() {
		seeds = 200
	}
	seeds = number(t, envSeeds, seeds)
	from := number(t, envFrom, 1)
	var sum Stats
	begin := time.Now()
	failed := 0
	for seed := from; seed < from+seeds; seed++ {
		stats, err := Run(Options{Seed: seed, User: os.Getenv(envUser) != ""})
		sum.add(stats)
		if err != nil {
			t.Error(rerun(seed, os.Getenv(envUser) != "", 60))
			if failed++; failed == 3 {
				break
			}
		}
	}
	t.Logf("%d seeds from %d in %v: %+v", seeds, from, time.Since(begin).Round(time.Millisecond), sum)
}

func (s *Stats) add(o Stats) {
	s.Steps += o.Steps
	s.Records += o.Records
	s.Epochs += o.Epochs
	s.Completed += o.Completed
	s.Aborted += o.Aborted
	s.WorkerKills += o.WorkerKills
	s.ManagerKills += o.ManagerKills
	s.StoreFaults += o.StoreFaults
	s.Attempts += o.Attempts
	s.Swept += o.Swept
	s.Requests += o.Requests
	s.Stops += o.Stops
	s.EndedEarly += o.EndedEarly
	s.Submits += o.Submits
	s.Restores += o.Restores
	s.Adoptions += o.Adoptions
	s.Refused += o.Refused
	s.Cancels += o.Cancels
	s.Suspends += o.Suspends
	s.Rescales += o.Rescales
	s.Disposed += o.Disposed
}

// TestSimulationEager lets retention and sweep do their worst.
func TestSimulationEager(t *testing.T) {
	seeds := uint64(200)
	if testing.Short() {
		seeds = 40
	}
	for seed := uint64(1); seed <= seeds; seed++ {
		if _, err := Run(Options{Seed: seed, Eager: true}); err != nil {
			_, err = Run(Options{Seed: seed, Eager: true, Trace: 60})
			t.Fatal(err)
		}
	}
}

// TestSimulationFindsPlantedBugs switches each guard off in turn: at least 9 of 10
// ranges of 200 seeds must find it.
func TestSimulationFindsPlantedBugs(t *testing.T) {
	for _, g := range failpoint.Guards() {
		t.Run(string(g), func(t *testing.T) {
			defer failpoint.SwitchOff(g)()
			found := 0
			var first string
			for part := range uint64(10) {
				for seed := 1 + part*200; seed <= (part+1)*200; seed++ {
					if _, err := Run(Options{Seed: seed}); err != nil {
						found++
						first = fmt.Sprint(err)
						break
					}
				}
			}
			if found < 9 {
				t.Errorf("without %s, %d of 10 ranges of 200 seeds found it, want 9", g, found)
			}
			t.Logf("without %s, %d of 10 ranges found it; the last: %.200s", g, found, first)
		})
	}
}

// TestSimulationFindsUserBugs plants bugs in what follows from a user's wishes: at least 9
// of 10 ranges of 200 seeds with a user must find each.
func TestSimulationFindsUserBugs(t *testing.T) {
	if testing.Short() {
		t.Skip("planted bugs of users' wishes: run without -short")
	}
	for _, c := range []Cure{OwnNumbers, SavepointsStay} {
		t.Run(string(c), func(t *testing.T) {
			found, seeds := 0, 0
			for part := range uint64(10) {
				for seed := 1 + part*200; seed <= (part+1)*200; seed++ {
					seeds++
					if _, err := Run(Options{Seed: seed, User: true, Without: c}); err != nil {
						found++
						break
					}
				}
			}
			if found < 9 {
				t.Errorf("without %s, %d of 10 ranges of 200 seeds found it, want 9", c, found)
			}
			t.Logf("without %s, %d of 10 ranges found it, after %d seeds", c, found, seeds)
		})
	}
}

// TestSimulationSearchesCures prints, with WEIR_SIM_CURES=n, how many of n seeds
// need each cure (or that of WEIR_SIM_CURE), and the first that does.
func TestSimulationSearchesCures(t *testing.T) {
	n := number(t, "WEIR_SIM_CURES", 0)
	for _, c := range Cures() {
		if only := os.Getenv("WEIR_SIM_CURE"); only != "" && string(c) != only {
			continue
		}
		found, first, what := 0, uint64(0), ""
		for seed := uint64(1); seed <= n; seed++ {
			if _, err := Run(Options{Seed: seed, Without: c, User: os.Getenv(envUser) != ""}); err != nil {
				if found++; found == 1 {
					first, what = seed, err.Error()
				}
			}
		}
		t.Logf("%s: %d of %d seeds, first %d: %.160s", c, found, n, first, what)
	}
}
