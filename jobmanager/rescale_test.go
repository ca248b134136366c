package jobmanager

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/weirstream/weir/dataflow"
	"github.com/weirstream/weir/internal/control"
	"github.com/weirstream/weir/jobmanager/fsm"
)

// A rescaled job stops behind a checkpoint whose output is committed and goes on from
// it with the new plan; that counts as no restart. What the job fixes stays.
func TestRescale(t *testing.T) {
	bubble(t, func(b *bench) {
		s := b.submission()
		s.Graph.Operators[0].Parallelism = 1
		s.Options.MaxRestarts = -1
		id := b.submit(s)
		b.until(id, 10*time.Second, "an epoch is complete", func(i Info) bool { return latest(i) > 0 })
		ref, err := b.Rescale(context.Background(), id, 3)
		if err != nil {
			t.Fatal(err)
		}
		i := b.until(id, 10*time.Second, "it goes on", func(i Info) bool { return i.Phase == fsm.Running && latest(i) > ref.Epoch })
		d := seen[control.Deploy](b.node)
		last := d[len(d)-1]
		if len(d) != 2 || last.Restored != ref.Epoch || last.Plan.Chain("count").Parallelism != 3 || last.Plan.Chain("in").Parallelism != 1 {
			t.Errorf("%d deploys, the last from epoch %d (the checkpoint is %d) with chains %+v", len(d), last.Restored, ref.Epoch, last.Plan.Chains)
		}
		if i.Restarts != 0 || i.Reason != "" {
			t.Errorf("%d restarts, reason %q", i.Restarts, i.Reason)
		}
		if n := len(seen[control.Finished](b.node)); n == 0 {
			t.Error("it stopped before its output was committed")
		}
		if _, err := b.Rescale(context.Background(), id, 9); err == nil || !strings.Contains(err.Error(), "slots") {
			t.Errorf("9 subtasks in 8 slots: %v", err)
		}
		if i := b.phase(id, 0, fsm.Running); i.Attempt != last.Attempt {
			t.Errorf("a refused rescale began attempt %d", i.Attempt)
		}
	})
}

// A rescale whose checkpoint is not taken leaves the job as it was.
func TestRescaleWithoutCheckpoint(t *testing.T) {
	bubble(t, func(b *bench) {
		s := b.submission()
		s.Options.Checkpoint.Interval = -1
		id := b.submit(s)
		b.phase(id, 10*time.Second, fsm.Running)
		b.node.hook = func(n *node, m control.Message) bool {
			tr, ok := m.(control.Trigger)
			if ok {
				n.up.Send(control.Declined{To: tr.To, Epoch: tr.Epoch, Subtask: dataflow.SubtaskID{Chain: "in"}, Reason: "the disk is full"})
			}
			return ok
		}
		if _, err := b.Rescale(context.Background(), id, 1); err == nil || !strings.Contains(err.Error(), "the disk is full") {
			t.Errorf("the rescale answers %v", err)
		}
		if i := b.phase(id, 0, fsm.Running); i.Attempt != 1 || i.Plan.Chain("count").Parallelism != 2 {
			t.Errorf("attempt %d with plan %+v", i.Attempt, i.Plan.Chains)
		}
	})
}
