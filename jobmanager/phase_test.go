package jobmanager

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/weirstream/weir/checkpoint"
	"github.com/weirstream/weir/dataflow"
	"github.com/weirstream/weir/internal/control"
	"github.com/weirstream/weir/internal/queue"
	"github.com/weirstream/weir/jobmanager/fsm"
)

// A slot holds one subtask of each operator: slot groups add up, chains of one group
// share.
func TestSlots(t *testing.T) {
	for _, tt := range []struct {
		name   string
		chains []dataflow.Chain
		want   int
	}{
		{"none", nil, 0},
		{"the widest counts", []dataflow.Chain{{ID: "a", Parallelism: 2}, {ID: "b", Parallelism: 5}, {ID: "c", Parallelism: 1}}, 5},
		{"groups add up", []dataflow.Chain{{ID: "a", Parallelism: 2}, {ID: "b", Parallelism: 3, SlotGroup: "x"}, {ID: "c", Parallelism: 4, SlotGroup: "x"}}, 6},
	} {
		if got := slotsOf(&dataflow.Plan{Chains: tt.chains}); got != tt.want {
			t.Errorf("%s: %d slots, want %d", tt.name, got, tt.want)
		}
	}
}

// What cannot run is refused before anything is recorded.
func TestSubmissionsAreRefused(t *testing.T) {
	bubble(t, func(b *bench) {
		for _, tt := range []struct {
			name string
			spec func(*Submission)
			want string
		}{
			{"slots", func(s *Submission) { s.Parallelism = 9 }, "9 slots, the cluster has 8"},
			{"key groups", func(s *Submission) { s.Parallelism, s.KeyGroups = 5, 4 }, "key groups"},
			{"options", func(s *Submission) { s.Options.Checkpoint.Timeout = -1 }, "Timeout"},
			{"savepoint", func(s *Submission) { s.Restore = "pipelines/p/epochs/1/manifest.json" }, "manifest"},
		} {
			s := b.submission()
			tt.spec(&s)
			if id, err := b.Submit(context.Background(), s); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%s: %s, %v, want %q", tt.name, id, err, tt.want)
			}
		}
		if jobs := b.Jobs(); len(jobs) != 0 {
			t.Errorf("%d jobs were recorded", len(jobs))
		}
		b.submit(b.submission())
		if _, err := b.Submit(context.Background(), b.submission()); err == nil || !strings.Contains(err.Error(), "already runs") {
			t.Errorf("a second job of a pipeline: %v", err)
		}
	})
}

// A failed attempt is followed by another from the newest complete epoch, after a
// back-off that grows; what no restart can cure, and one restart too many, fail the job.
func TestRestarts(t *testing.T) {
	bubble(t, func(b *bench) {
		s := b.submission()
		s.Options.MaxRestarts = 3
		id := b.submit(s)
		var waits []time.Duration
		for n := range 3 {
			i := b.until(id, 2*time.Minute, "it runs", func(i Info) bool { return i.Phase == fsm.Running && i.Restarts == n && latest(i) > 0 })
			at := time.Now()
			b.node.up.Send(control.Failed{To: control.To{Job: id, Attempt: i.Attempt - 1}, Reason: "an echo of a former attempt"})
			b.node.up.Send(control.Failed{To: control.To{Job: id, Attempt: i.Attempt}, Reason: "out of luck"})
			b.until(id, 2*time.Minute, "it runs again", func(i Info) bool { return i.Phase == fsm.Running && i.Restarts == n+1 })
			waits = append(waits, time.Since(at).Round(time.Second))
			d := seen[control.Deploy](b.node)
			if last := d[len(d)-1]; last.Restored < latest(i) {
				t.Errorf("restart %d is from epoch %d, complete was %d", n+1, last.Restored, latest(i))
			}
		}
		if waits[0] > 2*time.Second || waits[1] <= waits[0] || waits[2] <= waits[1] {
			t.Errorf("restarts came after %v", waits)
		}
		i := b.until(id, time.Minute, "it runs", func(i Info) bool { return i.Phase == fsm.Running })
		b.node.up.Send(control.Failed{To: control.To{Job: id, Attempt: i.Attempt}, Reason: "out of luck"})
		if i = b.phase(id, time.Minute, fsm.Failed); !strings.Contains(i.Reason, "out of luck") || !strings.Contains(i.Reason, "max_restarts") {
			t.Errorf("the reason is %q", i.Reason)
		}
		id = b.submit(s)
		i = b.phase(id, time.Minute, fsm.Running)
		b.node.up.Send(control.Failed{To: control.To{Job: id, Attempt: i.Attempt}, Reason: "the table is ahead", Stop: true})
		if i = b.phase(id, time.Minute, fsm.Failed); i.Restarts != 0 || i.Reason != "the table is ahead" {
			t.Errorf("%d restarts, reason %q", i.Restarts, i.Reason)
		}
	})
}

// A node that is never ready, and one that never says Stopped, do not hold a job.
func TestSilentNode(t *testing.T) {
	bubble(t, func(b *bench) {
		b.node.hook = func(_ *node, m control.Message) bool {
			switch m.(type) {
			case control.Deploy, control.Cancel:
				return true
			}
			return false
		}
		id := b.submit(b.submission())
		i := b.until(id, 5*time.Minute, "it is given up", func(i Info) bool { return i.Phase == fsm.Restarting })
		if !strings.Contains(i.Reason, "not ready within") {
			t.Errorf("the reason is %q", i.Reason)
		}
		if c := seen[control.Cancel](b.node); len(c) < 5 {
			t.Errorf("Cancel was sent %d times in 30 s", len(c))
		}
		b.node.hook = nil
		b.phase(id, 5*time.Minute, fsm.Running)
	})
}

// A drained job finishes when every subtask has ended and all is committed; one that is
// suspended goes on where it stopped with the next job manager, which releases that behind
// newer epochs; one that is cancelled leaves its savepoint alone.
func TestEnds(t *testing.T) {
	bubble(t, func(b *bench) {
		ctx := context.Background()
		id := b.submit(b.submission())
		b.phase(id, time.Minute, fsm.Running)
		if _, err := b.Stop(ctx, id, true); err != nil {
			t.Fatal(err)
		}
		i := b.phase(id, time.Minute, fsm.Finished)
		if last := i.Epochs[len(i.Epochs)-1]; last.Kind != "final" || !last.Finished {
			t.Errorf("the last epoch is %+v", last)
		}
		if _, err := b.Submit(ctx, b.submission()); err == nil || !strings.Contains(err.Error(), "was drained") {
			t.Errorf("a drained pipeline runs again: %v", err)
		}
		s := b.submission()
		s.Pipeline = "q"
		id = b.submit(s)
		b.until(id, time.Minute, "it has an epoch", func(i Info) bool { return latest(i) > 0 })
		if err := b.Suspend(ctx); err != nil {
			t.Fatal(err)
		}
		before := b.phase(id, time.Minute, fsm.Suspended)
		if last := before.Epochs[len(before.Epochs)-1]; last.Kind != checkpoint.Suspend || !last.Finished {
			t.Errorf("it was suspended at %+v", last)
		}
		b.log.term++
		b.lead()
		i = b.phase(id, time.Minute, fsm.Running)
		d := seen[control.Deploy](b.node)
		if last := d[len(d)-1]; last.Restored != latest(before) || i.Restarts != 0 {
			t.Errorf("it goes on from epoch %d, it was suspended at %d; %d restarts", last.Restored, latest(before), i.Restarts)
		}
		mine, err := b.Checkpoint(ctx, id, true)
		if err != nil {
			t.Fatal(err)
		}
		i = b.until(id, time.Minute, "retention releases what the shutdown left", func(i Info) bool { return !slices.Contains(epochsOf(i), latest(before)) })
		if latest(i) < latest(before)+2 {
			t.Errorf("epochs %v are left, the shutdown left %d", epochsOf(i), latest(before))
		}
		if err := b.Cancel(ctx, id); err != nil {
			t.Fatal(err)
		}
		if i = b.phase(id, time.Minute, fsm.Canceled); !slices.Equal(epochsOf(i), []dataflow.Epoch{mine.Epoch}) {
			t.Errorf("a cancelled job keeps %+v", i.Epochs)
		}
		if err := b.Cancel(ctx, id); !errors.Is(err, ErrNoJob) {
			t.Errorf("cancelling it again: %v", err)
		}
	})
}

// A question that meets a driver on its way out is answered as one that comes after it:
// a job that is over is no live job, a job manager that stops says so.
func TestAsksADriverThatLeaves(t *testing.T) {
	for _, over := range []bool{true, false} {
		d := &driver{over: over, inbox: queue.New[any](), done: make(chan struct{})}
		close(d.done)
		var m Manager
		m.mu.drivers = map[dataflow.JobID]*driver{"job-1": d}
		err := m.Cancel(context.Background(), "job-1")
		if err == nil || errors.Is(err, ErrNoJob) != over {
			t.Errorf("over %v: %v", over, err)
		}
	}
}
