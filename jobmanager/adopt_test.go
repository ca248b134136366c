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
	"github.com/weirstream/weir/internal/objstore"
	"github.com/weirstream/weir/jobmanager/fsm"
)

// filled answers as a node whose parts' objects really are in the store.
func (b *bench) filled() func(*node, control.Message) bool {
	return func(n *node, m control.Message) bool {
		if tr, ok := m.(control.Trigger); ok {
			key := checkpoint.DataKey(n.deployed.Pipeline, tr.Epoch, n.deployed.Attempt, "w")
			if err := objstore.PutBytes(context.Background(), b.store, key, []byte("0123456789")); err != nil {
				b.t.Error(err)
			}
		}
		return false
	}
}

// savepointOfP runs pipeline p and returns a savepoint of it.
func (b *bench) savepointOfP() checkpoint.Ref {
	b.t.Helper()
	b.node.hook = b.filled()
	id := b.submit(b.submission())
	b.until(id, 10*time.Second, "an epoch is complete", func(i Info) bool { return latest(i) > 1 })
	ref, err := b.Stop(context.Background(), id, false)
	if err != nil {
		b.t.Fatal(err)
	}
	b.phase(id, 10*time.Second, fsm.Finished)
	return ref
}

func (b *bench) restoreInto(p dataflow.Pipeline, ref checkpoint.Ref) dataflow.JobID {
	b.t.Helper()
	s := b.submission()
	s.Pipeline, s.Restore = p, ref.Key
	return b.submit(s)
}

// objectsOf returns all objects under the prefix of a pipeline.
func (b *bench) objectsOf(p dataflow.Pipeline) (keys []string) {
	b.t.Helper()
	for info, err := range objstore.All(context.Background(), b.store, checkpoint.EpochsDir(p), "") {
		if err != nil {
			b.t.Fatal(err)
		}
		keys = append(keys, info.Key)
	}
	return keys
}

// A job that starts from another pipeline's savepoint copies it first; meanwhile the
// savepoint cannot be disposed of, and afterwards everything of that pipeline may go.
func TestRestoreFromAnotherPipelineIsIndependent(t *testing.T) {
	bubble(t, func(b *bench) {
		ctx := context.Background()
		ref := b.savepointOfP()
		b.copies.gate = make(chan struct{})
		id := b.restoreInto("q", ref)
		i := b.until(id, 10*time.Second, "the progress is told", func(i Info) bool { return i.Progress != "" })
		if !strings.Contains(i.Progress, "0 of ") || !strings.Contains(i.Progress, `"p"`) {
			t.Errorf("progress %q", i.Progress)
		}
		b.after(3 * time.Minute) // longer than a deploy may; a copy takes as long as it takes
		if err := b.Dispose(ctx, "p", ref.Epoch); err == nil || !strings.Contains(err.Error(), string(id)) {
			t.Fatalf("the savepoint is disposed of while %s copies it: %v", id, err)
		}
		if d := seen[control.Deploy](b.node); d[len(d)-1].Pipeline != "p" {
			t.Fatal("the job was deployed before its copy was made")
		}
		close(b.copies.gate)
		b.phase(id, 10*time.Second, fsm.Running)
		deploys := seen[control.Deploy](b.node)
		d := deploys[len(deploys)-1]
		if d.Pipeline != "q" || d.Restored != ref.Epoch || len(d.Parts) == 0 {
			t.Errorf("%s was deployed from epoch %d (the savepoint is %d) with %d parts", d.Pipeline, d.Restored, ref.Epoch, len(d.Parts))
		}
		for _, p := range d.Parts {
			for _, f := range p.Files {
				if !strings.HasPrefix(f.Object, checkpoint.EpochsDir("q")) {
					t.Errorf("part %s reads %s", p.Subtask, f.Object)
				}
			}
			if len(p.Commits) > 0 {
				t.Errorf("part %s brings commits of the other pipeline", p.Subtask)
			}
		}
		if c := seen[control.Commit](b.node); slices.ContainsFunc(c, func(c control.Commit) bool { return c.Job == id && c.Epoch <= ref.Epoch }) {
			t.Error("output of the other pipeline was committed again")
		}
		if err := b.Dispose(ctx, "p", ref.Epoch); err != nil {
			t.Fatalf("the savepoint cannot be disposed of after the copy: %v", err)
		}
		for _, key := range b.objectsOf("p") {
			if err := b.store.Delete(ctx, key); err != nil {
				t.Fatal(err)
			}
		}
		b.node.up.Send(control.Failed{To: d.To, Reason: "a crash"})
		i = b.until(id, time.Minute, "it runs again", func(i Info) bool { return i.Phase == fsm.Running && i.Restarts == 1 })
		if i.Reason != "a crash" {
			t.Errorf("it failed: %s", i.Reason)
		}
	})
}

// A job manager that dies while it copies is followed by one that copies again.
func TestCopyIsResumed(t *testing.T) {
	bubble(t, func(b *bench) {
		ref := b.savepointOfP()
		b.copies.gate = make(chan struct{})
		id := b.restoreInto("q", ref)
		b.until(id, 10*time.Second, "it copies", func(i Info) bool { return i.Progress != "" })
		b.log.term++
		b.lead()
		b.until(id, 10*time.Second, "it copies again", func(i Info) bool { return i.Progress != "" })
		close(b.copies.gate)
		if i := b.phase(id, 10*time.Second, fsm.Running); i.Restarts != 0 {
			t.Errorf("%d restarts: %s", i.Restarts, i.Reason)
		}
	})
}

// A copy that cannot be made says why, and a job that waits for one can be cancelled,
// which leaves nothing and frees the savepoint.
func TestCopyFailsOrIsCancelled(t *testing.T) {
	bubble(t, func(b *bench) {
		ref := b.savepointOfP()
		b.copies.err = errors.New("no right to copy")
		id := b.restoreInto("q", ref)
		i := b.phase(id, time.Minute, fsm.Restarting)
		if !strings.Contains(i.Reason, "no right to copy") || !strings.Contains(i.Reason, ref.Key) {
			t.Errorf("the reason is %q", i.Reason)
		}
		b.copies.err, b.copies.gate = nil, make(chan struct{})
		b.until(id, time.Minute, "it copies", func(i Info) bool { return i.Progress != "" })
		if err := b.Cancel(context.Background(), id); err != nil {
			t.Fatal(err)
		}
		b.phase(id, time.Minute, fsm.Canceled)
		if err := b.Dispose(context.Background(), "p", ref.Epoch); err != nil {
			t.Errorf("the savepoint is not free: %v", err)
		}
		b.after(time.Minute)
		if keys := b.objectsOf("q"); len(keys) > 0 {
			t.Errorf("left: %v", keys)
		}
	})
}

// A savepoint of a cluster that is gone is restored under its own name: it is the
// user's still, no sweep touches it, and sinks are asked about its own epoch.
func TestSavepointOfAnotherCluster(t *testing.T) {
	bubble(t, func(b *bench) {
		ref := b.savepointOfP()
		before := b.objectsOf("p")
		b.Close()
		b.replica = NewReplica()
		b.log = &memLog{replica: b.replica, term: 1}
		b.Manager = nil
		b.lead()
		s := b.submission()
		s.Restore, s.Options.Retain = ref.Key, 1
		id := b.submit(s)
		b.phase(id, 10*time.Second, fsm.Running)
		d := seen[control.Deploy](b.node)
		if got := d[len(d)-1].Restored; got != ref.Epoch {
			t.Errorf("sinks are asked about epoch %d, the savepoint is %d", got, ref.Epoch)
		}
		i := b.until(id, 10*time.Minute, "many epochs are complete", func(i Info) bool { return latest(i) > ref.Epoch+40 })
		if epochsOf(i)[0] <= ref.Epoch {
			t.Errorf("epochs %v", epochsOf(i))
		}
		b.after(2 * time.Minute)
		now := b.objectsOf("p")
		for _, key := range before {
			if e, _ := checkpoint.EpochOf("p", key); e <= ref.Epoch && !slices.Contains(now, key) {
				t.Errorf("%s was deleted", key)
			}
		}
	})
}

// A savepoint of a cluster that ended before it committed the savepoint's output is
// refused by another one, which could not commit it, unless the loss is allowed.
func TestSavepointWithOutputThatNobodyCommits(t *testing.T) {
	bubble(t, func(b *bench) {
		on, filled := true, b.filled()
		fail := failing(&on)
		b.node.hook = func(n *node, m control.Message) bool { return filled(n, m) || fail(n, m) }
		id := b.submit(b.submission())
		b.until(id, 10*time.Second, "it runs", func(i Info) bool { return i.Phase == fsm.Running })
		ref, err := b.Checkpoint(context.Background(), id, true)
		if err != nil {
			t.Fatal(err)
		}
		b.Close()
		b.replica = NewReplica()
		b.log = &memLog{replica: b.replica, term: 1}
		b.Manager, on = nil, false
		b.lead()
		s := b.submission()
		s.Restore = ref.Key
		_, err = b.Submit(context.Background(), s)
		if err == nil || !strings.Contains(err.Error(), `"out"`) || !strings.Contains(err.Error(), "--allow-lost-output") {
			t.Errorf("Submit: %v, want a refusal that names the sink and the flag", err)
		}
		s.LoseOutput = true
		b.phase(b.submit(s), 10*time.Second, fsm.Running)
	})
}
