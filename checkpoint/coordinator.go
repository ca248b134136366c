package checkpoint

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"slices"
	"time"

	"github.com/weirstream/weir/dataflow"
)

// Options configures a Coordinator. A zero field means its default.
type Options struct {
	Interval      time.Duration // target gap between two checkpoint starts; 10s; negative: only on demand
	Timeout       time.Duration // a pending epoch older than this is aborted; 10m
	MinPause      time.Duration // least gap between the end of one and the start of the next; 0
	Tolerable     int           // consecutive aborted epochs that do not fail the attempt; 0: any number; -1: none
	MaxUnfinished int           // complete epochs whose commits are not all answered; 3
	RepeatCommit  time.Duration // an unanswered Commit is sent again after this; 5s
	// CommitTimeout is how long no epoch may be opened for want of commits that keep
	// failing; then the job stops with the sink's reason. 2m; negative: for ever.
	CommitTimeout time.Duration
}

func (o Options) withDefaults() Options {
	o.Interval = cmp.Or(o.Interval, 10*time.Second)
	o.Timeout = cmp.Or(o.Timeout, 10*time.Minute)
	o.MaxUnfinished = cmp.Or(o.MaxUnfinished, 3)
	o.RepeatCommit = cmp.Or(o.RepeatCommit, 5*time.Second)
	o.CommitTimeout = cmp.Or(o.CommitTimeout, 2*time.Minute)
	return o
}

// Validate reports every fault of o.
func (o Options) Validate() error {
	o = o.withDefaults()
	if o.Timeout < 0 || o.MinPause < 0 || o.Tolerable < -1 || o.MaxUnfinished < 1 || o.RepeatCommit < 0 {
		return fmt.Errorf("checkpoint: options are out of range: Timeout %v, MinPause %v, RepeatCommit %v must not be negative, Tolerable %d at least -1, MaxUnfinished %d at least 1",
			o.Timeout, o.MinPause, o.RepeatCommit, o.Tolerable, o.MaxUnfinished)
	}
	return nil
}

// Unfinished is a complete epoch whose prepared output is not all committed.
type Unfinished struct {
	Epoch   dataflow.Epoch
	Handles map[dataflow.OperatorID][]dataflow.CommitHandle // of every sink that prepared something
}

// HandlesOf collects the commit handles of parts by sink, in commit order.
func HandlesOf(parts []dataflow.Part) map[dataflow.OperatorID][]dataflow.CommitHandle {
	out := map[dataflow.OperatorID][]dataflow.CommitHandle{}
	for i := range parts {
		for _, h := range parts[i].Commits {
			out[h.Sink] = append(out[h.Sink], h)
		}
	}
	for _, hs := range out {
		slices.SortFunc(hs, func(a, b dataflow.CommitHandle) int {
			return cmp.Or(cmp.Compare(a.Epoch, b.Epoch), cmp.Compare(a.Subtask, b.Subtask), cmp.Compare(a.Seq, b.Seq))
		})
	}
	return out
}

// A Stat is the record of one epoch, for people.
type Stat struct {
	Epoch    dataflow.Epoch `json:"epoch"`
	Kind     Kind           `json:"kind"`
	Status   string         `json:"status"` // in_progress, completed, finished, aborted
	Reason   string         `json:"reason,omitempty"`
	Started  time.Time      `json:"started"`
	Duration time.Duration  `json:"duration_ns"` // until complete or aborted
	Bytes    int64          `json:"bytes"`       // of all files named
	NewBytes int64          `json:"new_bytes"`   // uploaded for it
	Held     time.Duration  `json:"held_ns"`     // the longest that it kept a subtask from its rows
}

const keepStats = 64

// A Coordinator decides, for one attempt of one job, when an epoch is opened,
// when it is complete and when its output is committed. It holds parts only
// while their epoch is pending.
//
// Invariants:
//   - at most one epoch is pending; epochs grow;
//   - Commit of an epoch is emitted only after its Completed event, and of one
//     epoch at a time, oldest first;
//   - NotifyFinished of an epoch only after its FinishRecorded event;
//   - every request is answered exactly once.
//
// A Coordinator is not safe for concurrent use; its job driver owns it.
type Coordinator struct {
	opts Options

	attempt  dataflow.Attempt
	subtasks []dataflow.SubtaskID // of the attempt, sorted; nil when none runs
	running  bool                 // Start was emitted

	opening  *request // OpenEpoch emitted, Opened not seen
	pending  *pending
	newest   dataflow.Epoch // last opened
	complete dataflow.Epoch // newest complete one of the attempt
	requests []request
	last     time.Time     // when the last epoch was asked for, or was due
	end      time.Time     // when the last one ended
	failures int           // consecutive aborts
	took     time.Duration // by the newest complete one

	unfinished []committing // oldest first; the first is being committed
	heldSince  time.Time    // since when no epoch may be opened for want of commits; zero: one may
	gaveUp     bool         // Fail was emitted for that
	ended      map[dataflow.SubtaskID]bool
	lastEnd    time.Time      // when the last subtask ended
	final      dataflow.Epoch // complete epoch after all had ended; 0: not yet
	wantFinal  bool
	stopping   bool // the last epoch asked for is complete

	stats []Stat
}

type request struct {
	id     string // "" for the coordinator's own
	kind   Kind
	last   bool
	before time.Time // Coordinator.last until it was asked for
}

type pending struct {
	epoch      dataflow.Epoch
	req        request
	opened     time.Time
	waiting    map[dataflow.SubtaskID]bool
	parts      []dataflow.Part
	publishing bool
}

type committing struct {
	Unfinished
	waiting   map[dataflow.OperatorID]bool
	sent      time.Time
	recording bool
	trouble   map[dataflow.OperatorID]CommitFailed // the last of each sink that failed and has not committed since
	failed    time.Time                            // since when trouble was never empty
}

// NewCoordinator returns a Coordinator without an attempt.
func NewCoordinator(opts Options) *Coordinator {
	return &Coordinator{opts: opts.withDefaults()}
}

// Stats returns the newest records, oldest first.
func (c *Coordinator) Stats() []Stat { return slices.Clone(c.stats) }

// Pending returns the epoch being taken, 0 if none.
func (c *Coordinator) Pending() dataflow.Epoch {
	if c.pending == nil {
		return 0
	}
	return c.pending.epoch
}

// Unfinished returns how many complete epochs wait for their commits.
func (c *Coordinator) Unfinished() int { return len(c.unfinished) }

// Finished reports that no complete epoch up to e waits for its commits.
func (c *Coordinator) Finished(e dataflow.Epoch) bool {
	return len(c.unfinished) == 0 || c.unfinished[0].Epoch > e
}

// Step advances the coordinator by one event and returns what the caller must
// do, in order. It never blocks. The same history yields the same effects.
func (c *Coordinator) Step(now time.Time, ev Event) []Effect {
	switch ev := ev.(type) {
	case Tick:
		return c.tick(now)
	case Deployed:
		return c.deployed(now, ev)
	case Stopped:
		return c.stopped(now, ev.Reason)
	case Request:
		c.requests = append(c.requests, request{id: ev.ID, kind: ev.Kind, last: ev.Last})
		return c.tick(now)
	case Opened:
		return c.opened(now, ev)
	case Acked:
		return c.acked(now, ev)
	case Declined:
		if c.pending == nil || c.pending.epoch != ev.Epoch || c.pending.publishing {
			return nil // late: that epoch was given up, or has every part
		}
		return c.abort(now, fmt.Sprintf("%s declined: %s", ev.Subtask, ev.Reason))
	case Published:
		return c.published(now, ev)
	case Completed:
		return c.completed(now, ev)
	case Committed:
		return c.committed(now, ev)
	case CommitFailed:
		return c.commitFailed(now, ev)
	case FinishRecorded:
		return c.finished(now, ev)
	case Ended:
		return c.subtaskEnded(now, ev)
	default:
		panic(fmt.Sprintf("checkpoint: unhandled event %T", ev))
	}
}

func (c *Coordinator) tick(now time.Time) (out []Effect) {
	if p := c.pending; p != nil && !p.publishing && now.Sub(p.opened) >= c.opts.Timeout {
		out = append(out, c.abort(now, fmt.Sprintf("timed out after %v waiting for %v", c.opts.Timeout, slices.SortedFunc(maps.Keys(p.waiting), compareSubtasks)))...)
	}
	out = append(out, c.sendCommit(now, false)...)
	if f := c.overdue(now); f != nil {
		return append(out, f...)
	}
	return append(out, c.open(now)...)
}

// open emits OpenEpoch when one is due and may be taken.
func (c *Coordinator) open(now time.Time) []Effect {
	if !c.mayOpen() {
		return nil
	}
	var r request
	asked := now
	switch {
	case c.wantFinal:
		r = request{kind: Final}
	case len(c.requests) > 0:
		r = c.requests[0]
		c.requests = c.requests[1:]
	case now.Before(c.due(now)):
		return nil
	default:
		r = request{kind: Periodic}
		// The gap holds from start to start: that this one was noticed a little late
		// does not put off all that follow.
		if every := c.interval(now); now.Sub(c.last)-every < min(every/4, mostDrift) {
			asked = c.last.Add(every)
		}
	}
	r.before, c.last = c.last, asked
	c.opening = &r
	return []Effect{OpenEpoch{Attempt: c.attempt, Kind: r.kind}}
}

// mostDrift is the most by which an epoch may be late without moving the next.
const mostDrift = 100 * time.Millisecond

// mayOpen tells whether nothing but time keeps the next epoch from being opened.
func (c *Coordinator) mayOpen() bool {
	return c.running && c.opening == nil && c.pending == nil && len(c.unfinished) < c.opts.MaxUnfinished && c.final == 0 && !c.stopping
}

// due returns when the next periodic epoch may be opened.
func (c *Coordinator) due(now time.Time) time.Time {
	every := c.interval(now)
	if every == math.MaxInt64 {
		return now.Add(every)
	}
	due := c.last.Add(every)
	if pause := c.end.Add(c.opts.MinPause); pause.After(due) {
		return pause
	}
	return due
}

// Wait returns how long nothing can happen without an event but Ticks that find
// nothing due, and at most atMost: a driver that ticks then opens epochs in time.
func (c *Coordinator) Wait(now time.Time, atMost time.Duration) time.Duration {
	if !c.mayOpen() {
		return atMost
	}
	return max(0, min(atMost, c.due(now).Sub(now)))
}

// interval returns the gap between two checkpoints. When an input has just ended,
// sinks wait for an epoch to commit their tail: those few come sooner.
func (c *Coordinator) interval(now time.Time) time.Duration {
	const soon, tail, recently = 100 * time.Millisecond, time.Second, 5 * time.Second
	want := c.opts.Interval
	if want < 0 {
		want = math.MaxInt64
	}
	switch {
	case len(c.ended) == 0:
		return want
	case now.Sub(c.lastEnd) < recently:
		return min(want, max(soon, 3*c.took))
	case c.opts.Interval < 0:
		return tail
	}
	return want
}

func (c *Coordinator) deployed(now time.Time, ev Deployed) []Effect {
	c.attempt, c.subtasks = ev.Attempt, slices.SortedFunc(slices.Values(ev.Subtasks), compareSubtasks)
	c.ended = map[dataflow.SubtaskID]bool{}
	c.running, c.stopping, c.wantFinal, c.final, c.failures = false, false, false, 0, 0
	c.unfinished, c.complete, c.heldSince, c.gaveUp = nil, 0, time.Time{}, false
	for _, u := range ev.Unfinished {
		c.unfinished = append(c.unfinished, newCommitting(u))
	}
	c.last, c.end = now, now
	if len(c.unfinished) == 0 {
		c.running = true
		return []Effect{Start{c.attempt}}
	}
	return c.sendCommit(now, true)
}

func (c *Coordinator) stopped(now time.Time, reason string) (out []Effect) {
	if p := c.pending; p != nil {
		c.record(p, now, "aborted", reason, 0, 0)
		out = append(out, answer(p.req, 0, "", reason)...)
	}
	if c.opening != nil {
		out = append(out, answer(*c.opening, 0, "", reason)...)
	}
	for _, r := range c.requests {
		out = append(out, answer(r, 0, "", reason)...)
	}
	c.pending, c.opening, c.requests = nil, nil, nil
	c.running, c.subtasks, c.unfinished = false, nil, nil
	return out
}

func (c *Coordinator) opened(now time.Time, ev Opened) []Effect {
	if c.opening == nil || ev.Attempt != c.attempt || ev.Err == nil && ev.Epoch <= c.newest {
		return nil // doubled, or opened for an attempt that is gone: never triggered, never used again
	}
	r := *c.opening
	c.opening = nil
	if ev.Err != nil {
		c.last = r.before // tried again at the next tick
		return answer(r, 0, "", ev.Err.Error())
	}
	p := &pending{epoch: ev.Epoch, req: r, opened: now, waiting: map[dataflow.SubtaskID]bool{}}
	for _, s := range c.subtasks {
		p.waiting[s] = true
	}
	c.pending, c.newest = p, ev.Epoch
	c.stats = append(c.stats, Stat{Epoch: ev.Epoch, Kind: r.kind, Status: "in_progress", Started: now})
	if len(c.stats) > keepStats {
		c.stats = slices.Delete(c.stats, 0, len(c.stats)-keepStats)
	}
	return []Effect{Trigger{Attempt: c.attempt, Epoch: ev.Epoch, Complete: c.complete}}
}

func (c *Coordinator) acked(now time.Time, ev Acked) []Effect {
	p := c.pending
	if p == nil || p.epoch != ev.Epoch || !p.waiting[ev.Part.Subtask] {
		return nil // late or doubled: that epoch was given up or has this part
	}
	delete(p.waiting, ev.Part.Subtask)
	p.parts = append(p.parts, ev.Part)
	if len(p.waiting) > 0 {
		return nil
	}
	p.publishing = true
	slices.SortFunc(p.parts, func(a, b dataflow.Part) int { return compareSubtasks(a.Subtask, b.Subtask) })
	return []Effect{PublishManifest{Attempt: c.attempt, Epoch: p.epoch, Kind: p.req.kind, Opened: p.opened, Parts: p.parts}}
}

func (c *Coordinator) published(now time.Time, ev Published) []Effect {
	p := c.pending
	if p == nil || p.epoch != ev.Epoch {
		return nil
	}
	if ev.Err != nil {
		return c.abort(now, ev.Err.Error())
	}
	total, _ := (&Manifest{Parts: p.parts}).Bytes()
	return []Effect{RecordComplete{Attempt: c.attempt, Ref: ev.Ref, Bytes: total}}
}

func (c *Coordinator) completed(now time.Time, ev Completed) []Effect {
	p := c.pending
	if p == nil || p.epoch != ev.Epoch {
		return nil
	}
	if ev.Err != nil {
		return c.abort(now, ev.Err.Error())
	}
	c.pending, c.end, c.failures, c.complete, c.took = nil, now, 0, p.epoch, now.Sub(p.opened)
	m := Manifest{Parts: p.parts}
	total, fresh := m.Bytes()
	c.record(p, now, "completed", "", total, fresh)
	for i := range p.parts {
		c.stats[len(c.stats)-1].Held = max(c.stats[len(c.stats)-1].Held, time.Duration(p.parts[i].HeldNanos))
	}
	if p.req.kind == Final {
		c.final = p.epoch
	}
	c.stopping = c.stopping || p.req.last
	out := []Effect{NotifyComplete{Attempt: c.attempt, Epoch: p.epoch}}
	out = append(out, answer(p.req, p.epoch, ev.Key, "")...)
	c.unfinished = append(c.unfinished, newCommitting(Unfinished{p.epoch, HandlesOf(p.parts)}))
	if len(c.unfinished) == 1 {
		out = append(out, c.sendCommit(now, true)...)
	}
	return append(out, c.open(now)...)
}

func newCommitting(u Unfinished) committing {
	w := map[dataflow.OperatorID]bool{}
	for s := range u.Handles {
		w[s] = true
	}
	return committing{Unfinished: u, waiting: w}
}

// sendCommit emits what the oldest unfinished epoch still waits for.
func (c *Coordinator) sendCommit(now time.Time, first bool) (out []Effect) {
	if len(c.unfinished) == 0 {
		return nil
	}
	u := &c.unfinished[0]
	switch {
	case u.recording:
		return nil
	case len(u.waiting) == 0:
		u.recording = true
		return []Effect{RecordFinished{Attempt: c.attempt, Epoch: u.Epoch}}
	case !first && now.Sub(u.sent) < c.opts.RepeatCommit:
		return nil
	}
	u.sent = now
	for _, s := range slices.Sorted(maps.Keys(u.waiting)) {
		out = append(out, Commit{Attempt: c.attempt, Epoch: u.Epoch, Sink: s, Handles: u.Handles[s]})
	}
	return out
}

func (c *Coordinator) committed(now time.Time, ev Committed) []Effect {
	if len(c.unfinished) == 0 || c.unfinished[0].Epoch != ev.Epoch {
		return nil // doubled
	}
	delete(c.unfinished[0].waiting, ev.Sink)
	delete(c.unfinished[0].trouble, ev.Sink)
	if len(c.unfinished[0].waiting) > 0 {
		return nil
	}
	return c.sendCommit(now, false)
}

func (c *Coordinator) finished(now time.Time, ev FinishRecorded) []Effect {
	if len(c.unfinished) == 0 || c.unfinished[0].Epoch != ev.Epoch {
		return nil
	}
	if ev.Err != nil { // recorded again at the next tick
		c.unfinished[0].recording = false
		return nil
	}
	c.unfinished, c.heldSince = c.unfinished[1:], time.Time{}
	for i := range c.stats {
		if c.stats[i].Epoch == ev.Epoch {
			c.stats[i].Status, c.stats[i].Reason = "finished", ""
		}
	}
	out := []Effect{NotifyFinished{Attempt: c.attempt, Epoch: ev.Epoch}}
	if ev.Epoch == c.final {
		return append(out, JobEnded{c.attempt})
	}
	if len(c.unfinished) > 0 {
		return append(out, append(c.sendCommit(now, true), c.open(now)...)...)
	}
	if !c.running {
		c.running, c.last, c.end = true, now, now
		return append(out, Start{c.attempt})
	}
	return append(out, c.open(now)...)
}

func (c *Coordinator) subtaskEnded(now time.Time, ev Ended) []Effect {
	if ev.Attempt != c.attempt || c.ended == nil {
		return nil
	}
	c.ended[ev.Subtask], c.lastEnd = true, now
	if len(c.ended) < len(c.subtasks) || c.wantFinal {
		return nil
	}
	c.wantFinal = true
	return c.open(now)
}

func (c *Coordinator) abort(now time.Time, reason string) []Effect {
	p := c.pending
	c.pending, c.end = nil, now
	c.failures++
	c.record(p, now, "aborted", reason, 0, 0)
	out := []Effect{Abort{Attempt: c.attempt, Epoch: p.epoch, Reason: reason}}
	out = append(out, answer(p.req, 0, "", reason)...)
	if c.opts.Tolerable != 0 && c.failures > max(c.opts.Tolerable, 0) {
		return append(out, Fail{Attempt: c.attempt, Reason: fmt.Sprintf("%d checkpoints in a row were aborted, %d are tolerable; the last: %s", c.failures, max(c.opts.Tolerable, 0), reason)})
	}
	return append(out, c.open(now)...)
}

func (c *Coordinator) record(p *pending, now time.Time, status, reason string, total, fresh int64) {
	for i := range c.stats {
		if s := &c.stats[i]; s.Epoch == p.epoch {
			s.Status, s.Reason, s.Duration, s.Bytes, s.NewBytes = status, reason, now.Sub(p.opened), total, fresh
		}
	}
}

func answer(r request, e dataflow.Epoch, key, reason string) []Effect {
	if r.id == "" {
		return nil
	}
	return []Effect{Answer{ID: r.id, Epoch: e, Kind: r.kind, Key: key, Reason: reason}}
}

func compareSubtasks(a, b dataflow.SubtaskID) int {
	return cmp.Or(cmp.Compare(a.Chain, b.Chain), cmp.Compare(a.Index, b.Index))
}
