package checkpoint

import (
	"errors"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/weirstream/weir/dataflow"
)

// A history is what an outside observer of a Coordinator checks: that it never
// commits what is not complete, never two epochs at once, and answers everything.
type history struct {
	t        *testing.T
	seed     uint64
	c        *Coordinator
	now      time.Time
	r        *rand.Rand
	attempt  dataflow.Attempt
	subtasks []dataflow.SubtaskID
	opened   dataflow.Epoch
	inflight []Event // answers under way, delivered in random order, perhaps twice

	complete  map[dataflow.Epoch]bool
	finished  map[dataflow.Epoch]bool
	committed dataflow.Epoch // newest for which Commit was seen
	aborted   map[dataflow.Epoch]bool
	asked     map[string]int
	running   bool
}

func (h *history) fatalf(format string, args ...any) {
	h.t.Helper()
	h.t.Fatalf("seed %d: "+format, append([]any{h.seed}, args...)...)
}

func (h *history) step(ev Event) {
	for _, e := range h.c.Step(h.now, ev) {
		h.effect(e)
	}
}

func (h *history) effect(e Effect) {
	switch e := e.(type) {
	case OpenEpoch:
		if !h.running || e.Attempt != h.attempt {
			h.fatalf("an epoch is opened while attempt %d does not run", h.attempt)
		}
		h.opened++
		h.inflight = append(h.inflight, Opened{Attempt: e.Attempt, Epoch: h.opened})
	case Trigger:
		for _, s := range h.subtasks {
			if h.r.IntN(40) == 0 {
				h.inflight = append(h.inflight, Declined{Epoch: e.Epoch, Subtask: s, Reason: "busy"})
				continue
			}
			part := dataflow.Part{Subtask: s}
			if h.r.IntN(2) == 0 {
				part.Commits = []dataflow.CommitHandle{{Sink: dataflow.OperatorID("sink" + string(s.Chain)), Subtask: s.Index, Epoch: e.Epoch}}
			}
			h.inflight = append(h.inflight, Acked{Epoch: e.Epoch, Part: part})
		}
	case PublishManifest:
		if len(e.Parts) != len(h.subtasks) || h.aborted[e.Epoch] {
			h.fatalf("epoch %d is published with %d parts, aborted %v", e.Epoch, len(e.Parts), h.aborted[e.Epoch])
		}
		ev := Published{Epoch: e.Epoch, Ref: Ref{Epoch: e.Epoch, Kind: e.Kind}}
		if h.r.IntN(20) == 0 {
			ev.Err = errors.New("the store is down")
		}
		h.inflight = append(h.inflight, ev)
	case RecordComplete:
		h.complete[e.Ref.Epoch] = true
		h.inflight = append(h.inflight, Completed{Epoch: e.Ref.Epoch})
	case NotifyComplete:
		if !h.complete[e.Epoch] {
			h.fatalf("epoch %d is told complete before its entry", e.Epoch)
		}
	case Commit:
		if !h.complete[e.Epoch] || e.Epoch < h.committed || h.finished[e.Epoch] || len(e.Handles) == 0 {
			h.fatalf("commit of epoch %d: complete %v, finished %v, newest commit %d, %d handles", e.Epoch, h.complete[e.Epoch], h.finished[e.Epoch], h.committed, len(e.Handles))
		}
		if e.Epoch > h.committed && h.committed != 0 && !h.finished[h.committed] {
			h.fatalf("commit of epoch %d begins before %d is finished", e.Epoch, h.committed)
		}
		h.committed = e.Epoch
		if h.r.IntN(4) > 0 { // else the answer is lost: Commit must be repeated
			h.inflight = append(h.inflight, Committed{Epoch: e.Epoch, Sink: e.Sink})
		}
	case RecordFinished:
		h.finished[e.Epoch] = true
		h.inflight = append(h.inflight, FinishRecorded{Epoch: e.Epoch})
	case NotifyFinished:
		if !h.finished[e.Epoch] {
			h.fatalf("epoch %d is told finished before its entry", e.Epoch)
		}
	case Abort:
		if h.complete[e.Epoch] {
			h.fatalf("epoch %d is aborted after its entry", e.Epoch)
		}
		h.aborted[e.Epoch] = true
	case Start:
		h.running = true
	case Answer:
		h.asked[e.ID]--
		if h.asked[e.ID] < 0 {
			h.fatalf("request %s is answered twice", e.ID)
		}
	case Fail, JobEnded:
	}
}

// Whatever is late, lost, doubled, declined or timed out: no epoch is committed
// before it is complete, commits keep their order, every request is answered, and
// with time everything complete is finished.
func TestCoordinatorHistories(t *testing.T) {
	seeds := uint64(2000)
	if testing.Short() {
		seeds = 200
	}
	for seed := range seeds {
		runHistory(t, seed)
	}
}

func runHistory(t *testing.T, seed uint64) {
	h := &history{t: t, seed: seed, r: rand.New(rand.NewPCG(seed, 7)), now: time.Unix(1e9, 0), complete: map[dataflow.Epoch]bool{},
		finished: map[dataflow.Epoch]bool{}, aborted: map[dataflow.Epoch]bool{}, asked: map[string]int{}}
	h.c = NewCoordinator(Options{Interval: time.Second, Timeout: 5 * time.Second, RepeatCommit: time.Second})
	for i := range 1 + h.r.IntN(4) {
		h.subtasks = append(h.subtasks, dataflow.SubtaskID{Chain: dataflow.OperatorID("abcd"[i : i+1]), Index: 0})
	}
	h.attempt = 1
	h.step(Deployed{Attempt: 1, Subtasks: h.subtasks})
	for i := range 400 {
		switch h.r.IntN(6) {
		case 0:
			h.now = h.now.Add(time.Duration(h.r.IntN(1500)) * time.Millisecond)
			h.step(Tick{})
		case 1:
			if h.r.IntN(10) == 0 {
				id := string(rune('a'+i%26)) + string(rune('a'+i/26))
				h.asked[id]++
				h.step(Request{ID: id, Kind: []Kind{OnDemand, Savepoint}[h.r.IntN(2)]})
			}
		default:
			h.deliver()
		}
	}
	for range 200 { // nothing new goes wrong: everything must settle
		h.now = h.now.Add(time.Second)
		h.step(Tick{})
		for len(h.inflight) > 0 {
			h.deliver()
		}
	}
	h.step(Stopped{Reason: "over"})
	for id, n := range h.asked {
		if n != 0 {
			h.fatalf("request %s has no answer", id)
		}
	}
	unfinished := 0
	for e := range h.complete {
		if !h.finished[e] {
			unfinished++
		}
	}
	if unfinished > 3 {
		h.fatalf("%d complete epochs were never finished", unfinished)
	}
	if len(h.complete) == 0 {
		h.fatalf("no epoch was completed")
	}
}

// deliver hands over one answer that is under way, perhaps twice, perhaps never
// (acks only: Raft and the store always answer).
func (h *history) deliver() {
	if len(h.inflight) == 0 {
		return
	}
	i := h.r.IntN(len(h.inflight))
	ev := h.inflight[i]
	switch h.r.IntN(10) {
	case 0: // doubled
	case 1:
		h.inflight = slices.Delete(h.inflight, i, i+1)
		if _, ok := ev.(Acked); ok {
			return // lost
		}
	default:
		h.inflight = slices.Delete(h.inflight, i, i+1)
	}
	h.step(ev)
}

// The gap between checkpoints holds from start to start: neither late ticks nor
// slow log entries add up, and an epoch that took long is not made up for.
func TestCoordinatorKeepsPace(t *testing.T) {
	const every, tick, late = 100 * time.Millisecond, 20 * time.Millisecond, 3 * time.Millisecond
	c := NewCoordinator(Options{Interval: every})
	start := time.Unix(0, 0)
	now, epoch, asked := start, dataflow.Epoch(0), time.Duration(-1)
	step := func(ev Event) {
		for _, e := range c.Step(now, ev) {
			if _, ok := e.(OpenEpoch); ok {
				asked = now.Sub(start)
			}
		}
	}
	open := func(want time.Duration) {
		t.Helper()
		for range 100 {
			if asked >= 0 {
				break
			}
			now = now.Add(c.Wait(now, tick) + late)
			step(Tick{})
		}
		if asked < want || asked > want+late {
			t.Fatalf("epoch %d is asked for at %v, want %v", epoch+1, asked, want)
		}
		asked = -1
	}
	take := func(took time.Duration) {
		epoch++
		now = now.Add(5 * time.Millisecond) // the log entry
		step(Opened{Attempt: 1, Epoch: epoch})
		now = now.Add(took)
		step(Acked{Epoch: epoch, Part: dataflow.Part{Subtask: dataflow.SubtaskID{Chain: "a"}}})
		step(Published{Epoch: epoch, Ref: Ref{Epoch: epoch}})
		step(Completed{Epoch: epoch})
		step(FinishRecorded{Epoch: epoch})
	}
	step(Deployed{Attempt: 1, Subtasks: []dataflow.SubtaskID{{Chain: "a"}}})
	for n := range 20 {
		open(every * time.Duration(n+1))
		take(15 * time.Millisecond)
	}
	open(21 * every)
	step(Opened{Attempt: 1, Err: errors.New("the log is down")})
	step(Tick{})
	open(now.Sub(start)) // again, at once
	take(190 * time.Millisecond)
	behind := now.Sub(start)
	open(behind)
	take(0)
	open(behind + every)
}

// Retention keeps the newest, every savepoint and what is unfinished.
func TestKeep(t *testing.T) {
	refs := []Ref{{Epoch: 1}, {Epoch: 2, Kind: Savepoint}, {Epoch: 3}, {Epoch: 4}, {Epoch: 5}, {Epoch: 6}}
	keep, drop := Keep(refs, 2, func(e dataflow.Epoch) bool { return e != 3 })
	if got, want := epochs(keep), []dataflow.Epoch{2, 3, 5, 6}; !slices.Equal(got, want) {
		t.Errorf("kept %v, want %v", got, want)
	}
	if got, want := epochs(drop), []dataflow.Epoch{1, 4}; !slices.Equal(got, want) {
		t.Errorf("dropped %v, want %v", got, want)
	}
}

func epochs(refs []Ref) (out []dataflow.Epoch) {
	for _, r := range refs {
		out = append(out, r.Epoch)
	}
	return out
}

// A sweep deletes only what lies under a dead recorded epoch and no kept manifest
// names.
func TestSweep(t *testing.T) {
	kept := &Manifest{Pipeline: "p", Epoch: 7, Parts: []dataflow.Part{{Files: []dataflow.FileRef{{Object: DataKey("p", 5, 1, "w")}}}}}
	listed := []string{
		DataKey("p", 4, 1, "w"), DataKey("p", 5, 1, "w"), ManifestKey("p", 5), ManifestKey("p", 7), MarkerKey("p", 7),
		DataKey("p", 9, 1, "w"), "pipelines/p/other", "pipelines/q/epochs/00000000000000000004/x",
	}
	got := Sweep("p", listed, []*Manifest{kept}, func(e dataflow.Epoch) bool { return e < 7 })
	if want := []string{DataKey("p", 4, 1, "w"), ManifestKey("p", 5)}; !slices.Equal(got, want) {
		t.Errorf("swept %v, want %v", got, want)
	}
}
