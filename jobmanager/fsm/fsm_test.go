package fsm

import (
	"bytes"
	"encoding/json"
	"errors"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/weirstream/weir/checkpoint"
	"github.com/weirstream/weir/dataflow"
)

func plan(t testing.TB, groups int) dataflow.Plan {
	t.Helper()
	p, err := dataflow.MakePlan(dataflow.Graph{Operators: []dataflow.Operator{
		{Name: "in", Kind: dataflow.KindSource},
		{Name: "count", Kind: dataflow.KindOp, Keyed: true, States: []dataflow.StateInfo{{Name: "value", Kind: dataflow.ValueState}}},
	}, Edges: []dataflow.Edge{{From: "in", To: "count", Exchange: dataflow.Hash}}}, 2, groups)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// randomCommand makes a command that is often, but not always, legal.
func randomCommand(r *rand.Rand, p dataflow.Plan) Command {
	job := dataflow.JobID([]string{"job-000001", "job-000002", "job-000003", "job-000009"}[r.IntN(4)])
	pipe := dataflow.Pipeline([]string{"a", "b"}[r.IntN(2)])
	attempt, epoch := dataflow.Attempt(r.IntN(4)), dataflow.Epoch(r.IntN(20))
	c := Command{At: r.Int64N(1e6), Term: dataflow.Term(1 + r.IntN(2)*r.IntN(4))}
	switch r.IntN(11) {
	case 0:
		c.Submit = &Submit{Job: Job{Pipeline: pipe, Plan: p}}
		if r.IntN(2) == 0 {
			c.Submit.Job.Restore = &checkpoint.Ref{Epoch: epoch, Key: "k", Hash: "h"}
		}
	case 1:
		c.Phase = &SetPhase{Job: job, Attempt: attempt, Phase: []Phase{Running, Restarting, Failed, Canceled}[r.IntN(4)], Reason: "r", Keep: r.IntN(3)}
	case 2:
		c.Attempt = &NewAttempt{Job: job, Restart: r.IntN(2) == 0}
	case 3, 4:
		c.Open = &OpenEpoch{Job: job, Attempt: attempt}
	case 5, 6:
		c.Complete = &CompleteEpoch{Job: job, Attempt: attempt, Ref: checkpoint.Ref{Epoch: epoch, Key: "k", Hash: "h"}}
	case 7:
		c.Finish = &FinishEpoch{Pipeline: pipe, Epoch: epoch}
	case 8:
		c.Drop = &DropEpochs{Pipeline: pipe, Epochs: []dataflow.Epoch{epoch, epoch + 1}}
	case 10:
		c.Lead = &Lead{}
	case 9:
		c.Forget = &ForgetEpochs{Pipeline: pipe, Epochs: []dataflow.Epoch{epoch}}
	}
	return c
}

// The same log gives the same state and answers, also through a snapshot in the
// middle, and epochs of a pipeline only grow.
func TestApplyIsDeterministic(t *testing.T) {
	p := plan(t, 128)
	for seed := range uint64(200) {
		r := rand.New(rand.NewPCG(seed, 1))
		var log [][]byte
		for range 120 {
			b, err := json.Marshal(randomCommand(r, p))
			if err != nil {
				t.Fatal(err)
			}
			log = append(log, b)
		}
		one, two := New(), New()
		last := map[dataflow.Pipeline]dataflow.Epoch{}
		for i, e := range log {
			a, b := one.ApplyBytes(e), two.ApplyBytes(e)
			if a.Job != b.Job || a.Epoch != b.Epoch || a.Attempt != b.Attempt || (a.Err == nil) != (b.Err == nil) {
				t.Fatalf("seed %d entry %d: answers %+v and %+v differ", seed, i, a, b)
			}
			for name, pl := range one.s.Pipelines {
				if pl.Epoch < last[name] {
					t.Fatalf("seed %d entry %d: epoch of %s went back from %d to %d", seed, i, name, last[name], pl.Epoch)
				}
				last[name] = pl.Epoch
			}
			if i == len(log)/2 {
				snap, err := two.Snapshot()
				if err != nil {
					t.Fatal(err)
				}
				two = New()
				if err := two.Restore(snap); err != nil {
					t.Fatal(err)
				}
			}
		}
		s1, err1 := one.Snapshot()
		s2, err2 := two.Snapshot()
		if err := errors.Join(err1, err2); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(s1, s2) {
			t.Fatalf("seed %d: states differ:\n%s\n%s", seed, s1, s2)
		}
	}
}

// What the log must refuse, it refuses without changing anything.
func TestRefusals(t *testing.T) {
	m := New()
	p := plan(t, 128)
	must := func(c Command) Result {
		t.Helper()
		c.Term = 3
		r := m.Apply(c)
		if r.Err != nil {
			t.Fatal(r.Err)
		}
		return r
	}
	job := must(Command{Submit: &Submit{Job: Job{Pipeline: "a", Plan: p}}}).Job
	must(Command{Attempt: &NewAttempt{Job: job}})
	must(Command{Attempt: &NewAttempt{Job: job, Restart: true}})
	must(Command{Open: &OpenEpoch{Job: job, Attempt: 2}})
	must(Command{Open: &OpenEpoch{Job: job, Attempt: 2}})
	must(Command{Complete: &CompleteEpoch{Job: job, Attempt: 2, Ref: checkpoint.Ref{Epoch: 1, Hash: "x"}}})
	for _, tt := range []struct {
		name  string
		c     Command
		stale bool
	}{
		{"completion by a leader of a former term", Command{Term: 2, Complete: &CompleteEpoch{Job: job, Attempt: 2, Ref: checkpoint.Ref{Epoch: 2}}}, true},
		{"an attempt begun by a leader of a former term", Command{Term: 2, Attempt: &NewAttempt{Job: job}}, true},
		{"completion that names no term", Command{Complete: &CompleteEpoch{Job: job, Attempt: 2, Ref: checkpoint.Ref{Epoch: 2}}}, false},
		{"a second live job of a pipeline", Command{Submit: &Submit{Job: Job{Pipeline: "a", Plan: p}}}, false},
		{"an epoch of an attempt that is over", Command{Open: &OpenEpoch{Job: job, Attempt: 1}}, true},
		{"completion by an attempt that is over", Command{Term: 3, Complete: &CompleteEpoch{Job: job, Attempt: 1, Ref: checkpoint.Ref{Epoch: 2}}}, true},
		{"completion of an epoch never opened", Command{Term: 3, Complete: &CompleteEpoch{Job: job, Attempt: 2, Ref: checkpoint.Ref{Epoch: 9}}}, false},
		{"completion with another manifest", Command{Term: 3, Complete: &CompleteEpoch{Job: job, Attempt: 2, Ref: checkpoint.Ref{Epoch: 1, Hash: "y"}}}, true},
		{"finishing an epoch that is not complete", Command{Finish: &FinishEpoch{Pipeline: "a", Epoch: 7}}, false},
		{"an unknown job", Command{Attempt: &NewAttempt{Job: "job-x"}}, false},
		{"an empty command", Command{}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			before, err := m.Snapshot()
			if err != nil {
				t.Fatal(err)
			}
			r := m.Apply(tt.c)
			if r.Err == nil || errors.Is(r.Err, ErrStale) != tt.stale {
				t.Errorf("answer %v, want stale = %v", r.Err, tt.stale)
			}
			after, err := m.Snapshot()
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(before, after) {
				t.Errorf("the refused command changed the state:\n%s\n%s", before, after)
			}
		})
	}
	must(Command{Complete: &CompleteEpoch{Job: job, Attempt: 2, Ref: checkpoint.Ref{Epoch: 1, Hash: "x"}}}) // doubled: fine
	other := plan(t, 64)
	must(Command{Phase: &SetPhase{Job: job, Phase: Canceled}})
	if r := m.Apply(Command{Submit: &Submit{Job: Job{Pipeline: "a", Plan: other}}}); r.Err == nil {
		t.Error("a pipeline changed its number of key groups")
	}
}

// A leader that lost its office cannot complete an epoch once another has spoken,
// though its attempt is the newest.
func TestDeposedLeaderCompletesNothing(t *testing.T) {
	m := New()
	job := m.Apply(Command{Term: 4, Submit: &Submit{Job: Job{Pipeline: "a", Plan: plan(t, 8)}}}).Job
	m.Apply(Command{Term: 4, Attempt: &NewAttempt{Job: job}})
	m.Apply(Command{Term: 4, Open: &OpenEpoch{Job: job, Attempt: 1}})
	if r := m.Apply(Command{Term: 6, Lead: &Lead{}}); r.Err != nil {
		t.Fatal(r.Err)
	}
	late := Command{Term: 4, Complete: &CompleteEpoch{Job: job, Attempt: 1, Ref: checkpoint.Ref{Epoch: 1, Hash: "h"}, Bytes: 7}}
	if r := m.Apply(late); !errors.Is(r.Err, ErrStale) {
		t.Errorf("the leader of term 4 completes an epoch in term 6: %v", r.Err)
	}
	late.Term = 6
	if r := m.Apply(late); r.Err != nil {
		t.Fatal(r.Err)
	}
	if got := m.Pipeline("a").Latest(); got.Term != 6 || got.Bytes != 7 {
		t.Errorf("the record is %+v", got)
	}
}

// Epochs that a job left behind, unfinished, when it started elsewhere are given up when
// it runs; savepoints stay, marked, and cannot be resumed any more.
func TestEpochsLeftBehind(t *testing.T) {
	for _, foreign := range []bool{false, true} {
		m, p := New(), plan(t, 8)
		must := func(c Command) Result {
			t.Helper()
			c.Term = 1
			r := m.Apply(c)
			if r.Err != nil {
				t.Fatal(r.Err)
			}
			return r
		}
		complete := func(job dataflow.JobID, a dataflow.Attempt, kind checkpoint.Kind) checkpoint.Ref {
			ref := checkpoint.Ref{Epoch: must(Command{Open: &OpenEpoch{Job: job, Attempt: a}}).Epoch, Kind: kind, Hash: string(kind)}
			must(Command{Complete: &CompleteEpoch{Job: job, Attempt: a, Ref: ref}})
			return ref
		}
		job := must(Command{Submit: &Submit{Job: Job{Pipeline: "a", Plan: p}}}).Job
		must(Command{Attempt: &NewAttempt{Job: job}})
		from := complete(job, 1, checkpoint.Savepoint)
		complete(job, 1, checkpoint.Periodic)
		user := complete(job, 1, checkpoint.Savepoint)
		complete(job, 1, checkpoint.Periodic)
		must(Command{Phase: &SetPhase{Job: job, Phase: Failed}})
		if foreign {
			from.Hash = "of another cluster"
		}
		job = must(Command{Submit: &Submit{Job: Job{Pipeline: "a", Plan: p, Restore: &from}}}).Job
		must(Command{Attempt: &NewAttempt{Job: job}})
		if n := len(m.Pipeline("a").Epochs); n != 4 {
			t.Fatalf("foreign %v: %d epochs are left before the job has one of its own", foreign, n)
		}
		if foreign {
			must(Command{Adopt: &Adopt{Job: job, Ref: checkpoint.Ref{Epoch: m.Job(job).Adopt, Kind: checkpoint.Adopted}}})
		}
		if n := len(m.Pipeline("a").Epochs); n != 4 || m.Pipeline("a").Completed != 4 {
			t.Fatalf("foreign %v: %d epochs are left before the job runs", foreign, n)
		}
		must(Command{Phase: &SetPhase{Job: job, Phase: Running}})
		if !foreign {
			complete(job, 2, checkpoint.Periodic)
		}
		var got []dataflow.Epoch
		for _, e := range m.Pipeline("a").Epochs {
			got = append(got, e.Epoch)
			if want := e.Epoch == 3 || foreign && e.Epoch == 1; e.Abandoned != want {
				t.Errorf("foreign %v: epoch %d is abandoned: %v", foreign, e.Epoch, e.Abandoned)
			}
		}
		if !slices.Equal(got, []dataflow.Epoch{1, 3, 5}) || !slices.Equal(m.Pipeline("a").Orphans, []dataflow.Epoch{2, 4}) {
			t.Errorf("foreign %v: epochs %v are left, %v orphaned", foreign, got, m.Pipeline("a").Orphans)
		}
		must(Command{Phase: &SetPhase{Job: job, Phase: Failed}})
		if r := m.Apply(Command{Submit: &Submit{Job: Job{Pipeline: "a", Plan: p, Restore: &user}}}); r.Err == nil {
			t.Error("a savepoint that was left behind is resumed")
		}
		must(Command{Drop: &DropEpochs{Pipeline: "a", Epochs: []dataflow.Epoch{3}}})
	}
}

// A savepoint that is disposed of while a job that starts from it is being submitted is
// refused, not copied while its objects go.
func TestSubmitFromDisposed(t *testing.T) {
	m, p := New(), plan(t, 8)
	job := m.Apply(Command{Term: 1, Submit: &Submit{Job: Job{Pipeline: "a", Plan: p}}}).Job
	m.Apply(Command{Term: 1, Attempt: &NewAttempt{Job: job}})
	m.Apply(Command{Term: 1, Open: &OpenEpoch{Job: job, Attempt: 1}})
	ref := checkpoint.Ref{Epoch: 1, Kind: checkpoint.Savepoint, Key: checkpoint.ManifestKey("a", 1), Hash: "h"}
	m.Apply(Command{Term: 1, Complete: &CompleteEpoch{Job: job, Attempt: 1, Ref: ref}})
	m.Apply(Command{Term: 1, Phase: &SetPhase{Job: job, Phase: Finished}})
	if r := m.Apply(Command{Term: 1, Drop: &DropEpochs{Pipeline: "a", Epochs: []dataflow.Epoch{1}}}); r.Err != nil {
		t.Fatal(r.Err)
	}
	for _, name := range []dataflow.Pipeline{"a", "b"} {
		if r := m.Apply(Command{Term: 1, Submit: &Submit{Job: Job{Pipeline: name, Plan: p, Restore: &ref}}}); r.Err == nil {
			t.Errorf("a job of %q starts from it", name)
		}
	}
	ref.Key = checkpoint.ManifestKey("c", 1) // of another cluster
	if r := m.Apply(Command{Term: 1, Submit: &Submit{Job: Job{Pipeline: "b", Plan: p, Restore: &ref}}}); r.Err != nil {
		t.Error(r.Err)
	}
}

// What a savepoint needs committed before it stays as long as the savepoint does, whether
// its job is cancelled or the user disposes of one: its manifest does not name that output.
func TestOutputBeforeASavepointStays(t *testing.T) {
	m, p := New(), plan(t, 8)
	job := m.Apply(Command{Term: 1, Submit: &Submit{Job: Job{Pipeline: "a", Plan: p}}}).Job
	m.Apply(Command{Term: 1, Attempt: &NewAttempt{Job: job}})
	for e, kind := range []checkpoint.Kind{checkpoint.Periodic, checkpoint.Savepoint, checkpoint.Periodic, checkpoint.Savepoint, checkpoint.Periodic} {
		ref := checkpoint.Ref{Epoch: dataflow.Epoch(e + 1), Kind: kind}
		m.Apply(Command{Term: 1, Open: &OpenEpoch{Job: job, Attempt: 1}})
		m.Apply(Command{Term: 1, Complete: &CompleteEpoch{Job: job, Attempt: 1, Ref: ref}})
	}
	m.Apply(Command{Term: 1, Finish: &FinishEpoch{Pipeline: "a", Epoch: 1}})
	if own := m.Pipeline("a").Own(m.Job(job)); !slices.Equal(own, []dataflow.Epoch{1, 5}) {
		t.Errorf("cancelled, the job gives up %v, want 1 and 5: epochs 3 and 4 go on from 2 and 3", own)
	}
	drop := func(e ...dataflow.Epoch) error {
		return m.Apply(Command{Term: 1, Drop: &DropEpochs{Pipeline: "a", Epochs: e, All: true}}).Err
	}
	if err := drop(1, 5); err != nil {
		t.Fatal(err)
	}
	m.Apply(Command{Term: 1, Phase: &SetPhase{Job: job, Phase: Canceled}})
	if drop(2) == nil || drop(3) == nil {
		t.Error("epoch 2 or 3 is given up, 4 goes on from it")
	}
	if err := drop(4); err != nil {
		t.Error(err)
	}
}

// The state does not grow with submissions: the jobs that were over last are remembered,
// and a pipeline, with its numbers, as soon as it has used one.
func TestEndedJobsAreForgotten(t *testing.T) {
	m, p := New(), plan(t, 8)
	end := func(id dataflow.JobID) {
		t.Helper()
		if r := m.Apply(Command{Term: 1, Phase: &SetPhase{Job: id, Phase: Finished, Keep: 3}}); r.Err != nil {
			t.Fatal(r.Err)
		}
	}
	submit := func(name dataflow.Pipeline) dataflow.JobID {
		t.Helper()
		r := m.Apply(Command{Term: 1, Submit: &Submit{Job: Job{Pipeline: name, Plan: p}}})
		if r.Err != nil {
			t.Fatal(r.Err)
		}
		return r.Job
	}
	long := submit("long")
	for range 20 {
		id := submit("used")
		m.Apply(Command{Term: 1, Attempt: &NewAttempt{Job: id}})
		m.Apply(Command{Term: 1, Open: &OpenEpoch{Job: id, Attempt: m.Job(id).Attempt}})
		end(id)
		end(submit("unused"))
	}
	end(long)
	var names []dataflow.Pipeline
	for _, j := range m.Jobs() {
		names = append(names, j.Pipeline)
	}
	if !slices.Equal(names, []dataflow.Pipeline{"long", "used", "unused"}) {
		t.Errorf("the jobs of %v are remembered", names)
	}
	for range 4 {
		end(submit("long"))
	}
	if m.Pipeline("unused") != nil {
		t.Error("a pipeline that never opened an epoch is remembered")
	}
	if u := m.Pipeline("used"); u == nil || u.Epoch != 20 || u.Attempt != 20 {
		t.Errorf("a pipeline without jobs is %+v, want its numbers", u)
	}
	if id := submit("used"); m.Job(id).ID != "job-000046" {
		t.Errorf("job %s has a number that was used", id)
	}
}
