package checkpoint

import (
	"strings"
	"testing"
	"time"

	"github.com/weirstream/weir/dataflow"
)

// A sinkTest drives a Coordinator of one subtask with one sink by the second; the
// test says what becomes of commits.
type sinkTest struct {
	c       *Coordinator
	now     time.Time
	opened  dataflow.Epoch
	commits []dataflow.Epoch
	fail    *Fail
}

var oneSubtask = dataflow.SubtaskID{Chain: "in"}

func newSinkTest(o Options, unfinished ...Unfinished) *sinkTest {
	s := &sinkTest{c: NewCoordinator(o), now: time.Unix(1000, 0)}
	s.step(Deployed{Attempt: 1, Subtasks: []dataflow.SubtaskID{oneSubtask}, Unfinished: unfinished})
	return s
}

// step answers everything but commits at once.
func (s *sinkTest) step(ev Event) {
	for _, e := range s.c.Step(s.now, ev) {
		switch e := e.(type) {
		case OpenEpoch:
			s.opened++
			s.step(Opened{Attempt: 1, Epoch: s.opened})
		case Trigger:
			s.step(Acked{Epoch: e.Epoch, Part: dataflow.Part{Subtask: oneSubtask, Commits: []dataflow.CommitHandle{{Sink: "out", Epoch: e.Epoch}}}})
		case PublishManifest:
			s.step(Published{Epoch: e.Epoch, Ref: Ref{Epoch: e.Epoch}})
		case RecordComplete:
			s.step(Completed{Epoch: e.Ref.Epoch})
		case RecordFinished:
			s.step(FinishRecorded{Epoch: e.Epoch})
		case Commit:
			s.commits = append(s.commits, e.Epoch)
		case Fail:
			s.fail = &e
		}
	}
}

func (s *sinkTest) second(ev ...Event) {
	s.now = s.now.Add(time.Second)
	for _, e := range append(ev, Tick{}) {
		s.step(e)
	}
}

// A commit that keeps failing lets three epochs complete, then nothing is opened, and
// after the commit timeout the job stops with the sink's own reason.
func TestFailingCommitStopsTheJob(t *testing.T) {
	s := newSinkTest(Options{Interval: time.Second, CommitTimeout: 20 * time.Second})
	held := 0
	for i := range 60 {
		var ev []Event
		if len(s.commits) > 0 {
			ev = append(ev, CommitFailed{Epoch: 1, Sink: "out", Tries: i, Reason: "the table is read-only"})
		}
		s.second(ev...)
		if s.fail != nil {
			break
		}
		if s.opened == 3 {
			held++
		}
	}
	if s.fail == nil || !s.fail.Stop {
		t.Fatalf("the job goes on: %+v", s.fail)
	}
	if s.opened != 3 || held < 20 || held > 22 {
		t.Errorf("%d epochs were opened and the last stood for %d s, want 3 for 20 s", s.opened, held)
	}
	for _, want := range []string{`sink "out"`, "epoch 1 ", " tries", "the table is read-only", "3 complete epochs", "20s"} {
		if !strings.Contains(s.fail.Reason, want) {
			t.Errorf("the reason does not say %q: %s", want, s.fail.Reason)
		}
	}
	for _, e := range s.commits {
		if e != 1 {
			t.Errorf("epoch %d was committed before epoch 1", e)
		}
	}
}

// What a failing commit does not do: stop a job whose commit heals within the
// timeout, or whose commits are only slow, or that is told to try for ever.
func TestCommitTroublePasses(t *testing.T) {
	failed := func(e dataflow.Epoch) Event { return CommitFailed{Epoch: e, Sink: "out", Tries: 1, Reason: "busy"} }
	t.Run("healed", func(t *testing.T) {
		s := newSinkTest(Options{Interval: time.Second, CommitTimeout: 10 * time.Second})
		for range 60 { // each epoch fails for 9 s
			for range 9 {
				s.second(failed(s.commits0()))
			}
			if s.c.Trouble(s.now) == "" {
				t.Fatal("nobody is told of the trouble")
			}
			s.second(Committed{Epoch: s.commits0(), Sink: "out"})
		}
		if s.fail != nil {
			t.Errorf("the job stops: %s", s.fail.Reason)
		}
		for _, st := range s.c.Stats() {
			if st.Status == "finished" && st.Reason != "" {
				t.Errorf("epoch %d is finished and has the reason %q", st.Epoch, st.Reason)
			}
		}
	})
	t.Run("slow", func(t *testing.T) {
		s := newSinkTest(Options{Interval: time.Second, CommitTimeout: 10 * time.Second})
		for range 100 {
			s.second()
		}
		if s.fail != nil || s.opened != 3 {
			t.Errorf("%d epochs opened, %+v", s.opened, s.fail)
		}
	})
	t.Run("for ever", func(t *testing.T) {
		s := newSinkTest(Options{Interval: time.Second, CommitTimeout: -1})
		for range 1000 {
			s.second(failed(1))
		}
		if s.fail != nil {
			t.Errorf("the job stops: %s", s.fail.Reason)
		}
	})
	t.Run("late word of an epoch that is finished", func(t *testing.T) {
		s := newSinkTest(Options{Interval: time.Second, CommitTimeout: 10 * time.Second})
		s.second()
		s.second(Committed{Epoch: 1, Sink: "out"}, failed(1))
		if text := s.c.Trouble(s.now); text != "" {
			t.Errorf("trouble is told: %s", text)
		}
	})
}

// commits0 is the epoch that is being committed.
func (s *sinkTest) commits0() dataflow.Epoch {
	if len(s.commits) == 0 {
		return 0
	}
	return s.commits[len(s.commits)-1]
}

// An attempt that finds commits of the former one unfinished waits for them before
// its sources start, and not longer than the timeout either.
func TestRestoredCommitThatFailsStopsTheJob(t *testing.T) {
	s := newSinkTest(Options{Interval: time.Second, CommitTimeout: 5 * time.Second},
		Unfinished{Epoch: 7, Handles: map[dataflow.OperatorID][]dataflow.CommitHandle{"out": {{Sink: "out", Epoch: 7}}}})
	for i := 0; i < 30 && s.fail == nil; i++ {
		s.second(CommitFailed{Epoch: 7, Sink: "out", Tries: i + 1, Reason: "gone"})
	}
	if s.fail == nil || !s.fail.Stop || !strings.Contains(s.fail.Reason, "1 complete epoch ") || s.opened != 0 {
		t.Errorf("%+v, %d epochs opened", s.fail, s.opened)
	}
}

// The timeout of a commit that fails late runs from its failure: it is tried again.
func TestSlowCommitThatFailsIsTriedAgain(t *testing.T) {
	s := newSinkTest(Options{Interval: time.Second, CommitTimeout: 10 * time.Second})
	for range 100 {
		s.second()
	}
	s.second(CommitFailed{Epoch: 1, Sink: "out", Tries: 1, Reason: "timed out"})
	for range 8 {
		s.second()
	}
	if s.fail != nil {
		t.Fatalf("the job stops after its first failure: %s", s.fail.Reason)
	}
	for range 3 {
		s.second()
	}
	if s.fail == nil {
		t.Error("the job goes on")
	}
}

// What one sink got over does not count against the next that fails.
func TestTroubleOfAnotherSinkBeginsAnew(t *testing.T) {
	s := newSinkTest(Options{Interval: time.Second, CommitTimeout: 10 * time.Second},
		Unfinished{Epoch: 7, Handles: map[dataflow.OperatorID][]dataflow.CommitHandle{"out": {{Sink: "out", Epoch: 7}}, "slow": {{Sink: "slow", Epoch: 7}}}})
	s.second(CommitFailed{Epoch: 7, Sink: "out", Tries: 1, Reason: "busy"})
	s.second(Committed{Epoch: 7, Sink: "out"})
	for range 60 {
		s.second()
	}
	s.second(CommitFailed{Epoch: 7, Sink: "slow", Tries: 1, Reason: "timed out"})
	if s.fail != nil {
		t.Fatalf("the job stops at the first failure of sink slow: %s", s.fail.Reason)
	}
	for range 11 {
		s.second()
	}
	if s.fail == nil {
		t.Error("the job goes on")
	}
}
