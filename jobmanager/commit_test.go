package jobmanager

import (
	"strings"
	"testing"
	"time"

	"github.com/weirstream/weir/internal/control"
	"github.com/weirstream/weir/jobmanager/fsm"
)

// failing answers every Commit with a failure, as long as on is true.
func failing(on *bool) func(*node, control.Message) bool {
	tries := 0
	return func(n *node, m control.Message) bool {
		c, ok := m.(control.Commit)
		if !ok || !*on {
			return false
		}
		tries++
		n.up.Send(control.CommitFailed{To: c.To, Epoch: c.Epoch, Sink: c.Sink, Tries: tries, Reason: "the lake is read-only"})
		return true
	}
}

// A commit that fails for ever ends with the job failed, the reason its own; run
// again, the job commits what was left before a row flows.
func TestCommitThatFailsForEver(t *testing.T) {
	bubble(t, func(b *bench) {
		on := true
		b.node.hook = failing(&on)
		id := b.submit(b.submission())
		i := b.until(id, 10*time.Second, "the trouble is told", func(i Info) bool { return strings.Contains(i.Trouble, "read-only") })
		if i.Phase != fsm.Running || !strings.Contains(i.Trouble, `"out"`) {
			t.Errorf("%s, trouble %q", i.Phase, i.Trouble)
		}
		i = b.phase(id, time.Minute, fsm.Failed)
		for _, want := range []string{`sink "out"`, "epoch 1 ", "tries", "read-only", "3 complete epochs"} {
			if !strings.Contains(i.Reason, want) {
				t.Errorf("the reason does not say %q: %s", want, i.Reason)
			}
		}
		if len(i.Epochs) != 3 || i.Epochs[0].Finished || i.Restarts != 0 {
			t.Errorf("%d restarts, epochs %+v", i.Restarts, i.Epochs)
		}
		on = false
		b.node.got = nil
		id = b.submit(b.submission())
		i = b.until(id, 30*time.Second, "it goes on", func(i Info) bool { return latest(i) > 3 && i.Epochs[len(i.Epochs)-1].Finished })
		if i.Trouble != "" {
			t.Errorf("trouble is left: %s", i.Trouble)
		}
		var order []string
		for _, m := range b.node.got {
			switch m := m.(type) {
			case control.Commit:
				order = append(order, "commit "+string(rune('0'+m.Epoch)))
			case control.Start:
				order = append(order, "start")
			}
		}
		if got := strings.Join(order[:4], ", "); got != "commit 1, commit 2, commit 3, start" {
			t.Errorf("the new job began with %s", got)
		}
	})
}

// A commit that heals leaves no trace.
func TestCommitThatHeals(t *testing.T) {
	bubble(t, func(b *bench) {
		on := true
		b.node.hook = failing(&on)
		id := b.submit(b.submission())
		b.after(15 * time.Second) // of 20
		if i := b.phase(id, 0, fsm.Running); len(i.Epochs) != 3 {
			t.Fatalf("%d epochs are complete, want 3", len(i.Epochs))
		}
		on = false
		i := b.until(id, 30*time.Second, "it goes on", func(i Info) bool { return latest(i) > 6 })
		if i.Phase != fsm.Running || i.Restarts != 0 || i.Trouble != "" {
			t.Errorf("%s after %d restarts, trouble %q", i.Phase, i.Restarts, i.Trouble)
		}
	})
}

// What parts say of how long they were held reaches the epoch's record and the
// histogram.
func TestHeldIsReported(t *testing.T) {
	bubble(t, func(b *bench) {
		b.node.hook = func(n *node, m control.Message) bool {
			tr, ok := m.(control.Trigger)
			if !ok {
				return false
			}
			for i, p := range n.parts(tr.Epoch) {
				p.HeldNanos = int64(i+1) * 300_000
				n.up.Send(control.Acked{To: tr.To, Epoch: tr.Epoch, Part: p})
			}
			return true
		}
		s := b.submission()
		id := b.submit(s)
		i := b.until(id, 10*time.Second, "an epoch is complete", func(i Info) bool { return latest(i) > 0 })
		parts := len(i.Plan.Subtasks())
		if want := time.Duration(parts) * 300 * time.Microsecond; i.Checkpoints[0].Held != want {
			t.Errorf("epoch 1 held for %v, want %v", i.Checkpoints[0].Held, want)
		}
		h := i.Held
		if h.Count != uint64(parts) || h.Buckets[250e-6] != 0 || h.Buckets[500e-6] != 1 || h.Buckets[1] != h.Count {
			t.Errorf("histogram of %d parts: %+v", parts, h)
		}
		if e := i.Epochs[0]; e.Bytes != int64(parts)*10 || e.Term != 1 {
			t.Errorf("the record of epoch 1 is %+v, want %d bytes and term 1", e, parts*10)
		}
	})
}
