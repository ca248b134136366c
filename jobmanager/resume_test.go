package jobmanager

import (
	"context"
	"errors"
	"io"
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

// stuck lets the job run until three epochs are complete that its sink could not
// commit, of which it fails. It returns them.
func (b *bench) stuck(id dataflow.JobID, on *bool) (left []dataflow.Epoch) {
	b.t.Helper()
	b.after(time.Millisecond) // everyone stands still
	*on = true
	for _, e := range b.phase(id, 2*time.Minute, fsm.Failed).Epochs {
		if !e.Finished {
			left = append(left, e.Epoch)
		}
	}
	if len(left) != 3 {
		b.t.Fatalf("epochs %v are left unfinished, want 3", left)
	}
	b.after(time.Millisecond)
	*on = false
	return left
}

// hooked gives the node another hook while everyone stands still.
func (b *bench) hooked(hook func(*node, control.Message) bool) {
	b.after(time.Millisecond)
	b.node.mu.Lock()
	defer b.node.mu.Unlock()
	b.node.hook = hook
}

// commitsOf returns the epochs that were committed for a job, each once.
func (b *bench) commitsOf(id dataflow.JobID) (out []dataflow.Epoch) {
	for _, c := range seen[control.Commit](b.node) {
		if c.Job == id {
			out = append(out, c.Epoch)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// failFirst fails every attempt before it is ready.
func failFirst(n *node, m control.Message) bool {
	d, ok := m.(control.Deploy)
	if ok {
		n.up.Send(control.Failed{To: d.To, Reason: "no such topic"})
	}
	return ok
}

// A job that is cancelled keeps what it resumed from: complete epochs of the job before
// whose output is not committed are committed by the next one. What is its own goes.
func TestCancelKeepsWhatWasResumed(t *testing.T) {
	bubble(t, func(b *bench) {
		ctx, on := context.Background(), false
		b.hooked(failing(&on))
		left := b.stuck(b.submit(b.submission()), &on)
		b.hooked(failFirst)
		id := b.submit(b.submission())
		b.phase(id, time.Minute, fsm.Restarting)
		if err := b.Cancel(ctx, id); err != nil {
			t.Fatal(err)
		}
		if i := b.phase(id, time.Minute, fsm.Canceled); !slices.Equal(epochsOf(i), left) {
			t.Fatalf("epochs %v are left, want %v", epochsOf(i), left)
		}
		b.hooked(nil)
		id = b.submit(b.submission())
		b.until(id, time.Minute, "it goes on", func(i Info) bool { return latest(i) > i.After && i.Epochs[len(i.Epochs)-1].Finished })
		if got := b.commitsOf(id); len(got) < 3 || !slices.Equal(got[:3], left) {
			t.Errorf("epochs %v were committed, want %v first", got, left)
		}
		if err := b.Cancel(ctx, id); err != nil {
			t.Fatal(err)
		}
		if i := b.phase(id, time.Minute, fsm.Canceled); latest(i) > i.After {
			t.Errorf("epochs %v are left, those after %d were the job's own", epochsOf(i), i.After)
		}
	})
}

// A job that is told to start before epochs that are not all committed leaves them
// behind for ever, once it runs.
func TestRewindLeavesEpochsBehind(t *testing.T) {
	for _, foreign := range []bool{false, true} {
		bubble(t, func(b *bench) {
			ctx, on := context.Background(), false
			ref := b.savepointOfP()
			b.hooked(nil)
			s := b.submission()
			if foreign {
				s.Pipeline = "q"
			}
			before := b.submit(s)
			b.hooked(failing(&on))
			b.until(before, time.Minute, "it runs", func(i Info) bool { return latest(i) > i.After })
			left := b.stuck(before, &on)
			s.Restore = ref.Key
			b.hooked(nil)
			id := b.submit(s)
			b.until(id, time.Minute, "it is beyond", func(i Info) bool { return latest(i) > i.After+4 })
			b.node.up.Send(control.Failed{To: control.To{Job: id, Attempt: b.phase(id, 0, fsm.Running).Attempt}, Reason: "a crash"})
			b.phase(id, time.Minute, fsm.Restarting)
			i := b.phase(id, time.Minute, fsm.Running)
			for _, e := range left {
				if slices.Contains(b.commitsOf(id), e) {
					t.Errorf("foreign %v: epoch %d was committed though the job started from savepoint %d", foreign, e, ref.Epoch)
				}
				if slices.Contains(epochsOf(i), e) {
					t.Errorf("foreign %v: epoch %d is kept", foreign, e)
				}
			}
			if err := b.Cancel(ctx, id); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// A job that is told to start elsewhere and never comes so far changes nothing: the
// next one resumes the newest epochs and commits them.
func TestRewindThatNeverRan(t *testing.T) {
	bubble(t, func(b *bench) {
		on := false
		ref := b.savepointOfP()
		b.hooked(failing(&on))
		before := b.submit(b.submission())
		b.until(before, time.Minute, "it runs", func(i Info) bool { return latest(i) > i.After })
		left := b.stuck(before, &on)
		b.hooked(failFirst)
		id := b.restoreInto("p", ref)
		b.phase(id, time.Minute, fsm.Restarting)
		if err := b.Cancel(context.Background(), id); err != nil {
			t.Fatal(err)
		}
		b.phase(id, time.Minute, fsm.Canceled)
		b.hooked(nil)
		id = b.submit(b.submission())
		b.phase(id, time.Minute, fsm.Running)
		b.after(5 * time.Second)
		if got := b.commitsOf(id); len(got) < 3 || !slices.Equal(got[:3], left) {
			t.Errorf("epochs %v were committed, want %v first", got, left)
		}
	})
}

// The epoch that is named as the one to fall back to is the one that a job which was
// told where to start would go back to.
func TestFallBackOfRewoundJob(t *testing.T) {
	bubble(t, func(b *bench) {
		ref := b.savepointOfP()
		b.hooked(nil)
		id := b.submit(b.submission())
		b.until(id, time.Minute, "it goes on", func(i Info) bool { return latest(i) > ref.Epoch+3 })
		if _, err := b.Stop(context.Background(), id, false); err != nil {
			t.Fatal(err)
		}
		b.phase(id, time.Minute, fsm.Finished)
		id = b.restoreInto("p", ref)
		i := b.until(id, time.Minute, "it has an epoch", func(i Info) bool { return latest(i) > i.After })
		b.hooked(func(n *node, m control.Message) bool {
			d, ok := m.(control.Deploy)
			if ok {
				n.up.Send(control.Failed{To: d.To, Reason: "a hash differs", Corrupt: "an object"})
			}
			return ok
		})
		b.node.up.Send(control.Failed{To: control.To{Job: id, Attempt: i.Attempt}, Reason: "a crash"})
		i = b.phase(id, time.Minute, fsm.Failed)
		if latest(i) > i.After+1 {
			t.Fatalf("epochs %v: the test wants one after %d", epochsOf(i), i.After)
		}
		want := "falling back to epoch " + string(rune('0'+ref.Epoch)) + " would"
		if !strings.Contains(i.Reason, want) {
			t.Errorf("the reason does not say %q: %s", want, i.Reason)
		}
	})
}

// unmarked is a store that takes no markers below a prefix, and whose lists hang.
type unmarked struct {
	objstore.Store
	prefix string
	hang   bool
}

func (u *unmarked) PutIfAbsent(ctx context.Context, key string, body io.Reader, size int64) error {
	if u.prefix != "" && strings.HasPrefix(key, u.prefix) && strings.HasSuffix(key, "/complete") {
		return errors.New("no right to put that")
	}
	return u.Store.PutIfAbsent(ctx, key, body, size)
}

func (u *unmarked) List(ctx context.Context, prefix, startAfter string, limit int) ([]objstore.Info, error) {
	if u.hang {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	return u.Store.List(ctx, prefix, startAfter, limit)
}

// A copy whose marker cannot be put is made all the same.
func TestCopyWithoutMarker(t *testing.T) {
	bubble(t, func(b *bench) {
		ref := b.savepointOfP()
		b.after(time.Millisecond)
		b.copies.Store = &unmarked{Store: b.copies.Store, prefix: checkpoint.EpochsDir("q")}
		id := b.restoreInto("q", ref)
		if i := b.phase(id, time.Minute, fsm.Running); i.Reason != "" || i.Restarts != 0 {
			t.Errorf("%d restarts: %s", i.Restarts, i.Reason)
		}
	})
}

// Close waits neither for the sweep of a cancelled job nor for an epoch that a user
// asked for, and leaves nobody waiting.
func TestCloseIsPrompt(t *testing.T) {
	bubble(t, func(b *bench) {
		id := b.submit(b.submission())
		b.until(id, time.Minute, "it has an epoch", func(i Info) bool { return latest(i) > 0 })
		s := b.submission()
		s.Pipeline = "q"
		other := b.submit(s)
		b.phase(other, time.Minute, fsm.Running)
		b.hooked(func(_ *node, m control.Message) bool {
			_, ok := m.(control.Trigger)
			return ok
		})
		stopped := make(chan error, 1)
		go func() {
			_, err := b.Stop(context.Background(), other, false)
			stopped <- err
		}()
		b.after(3 * time.Second) // everyone stands still
		b.copies.Store = &unmarked{Store: b.copies.Store, hang: true}
		if err := b.Cancel(context.Background(), id); err != nil {
			t.Fatal(err)
		}
		b.phase(id, time.Minute, fsm.Canceled)
		began := time.Now()
		b.Close()
		if took := time.Since(began); took > time.Second {
			t.Errorf("Close took %v", took)
		}
		if err := <-stopped; err == nil {
			t.Error("the other job was stopped")
		}
	})
}

// A job whose job manager dies while it is being cancelled stays cancelled: its
// checkpoints may be given up already, and a next attempt would begin afresh.
func TestCancelGoesOn(t *testing.T) {
	bubble(t, func(b *bench) {
		id := b.submit(b.submission())
		b.until(id, time.Minute, "it has an epoch", func(i Info) bool { return latest(i) > 0 })
		b.hooked(func(_ *node, m control.Message) bool {
			_, ok := m.(control.Cancel)
			return ok
		})
		cancelled := make(chan error, 1)
		go func() { cancelled <- b.Cancel(context.Background(), id) }()
		b.phase(id, time.Minute, fsm.Cancelling)
		deploys := len(seen[control.Deploy](b.node))
		b.log.term++
		b.lead()
		if err := <-cancelled; err == nil {
			t.Error("the job manager that died said that the job is cancelled")
		}
		b.hooked(nil)
		if i := b.phase(id, time.Minute, fsm.Canceled); len(i.Epochs) > 0 {
			t.Errorf("epochs %v are left", epochsOf(i))
		}
		if n := len(seen[control.Deploy](b.node)); n != deploys {
			t.Errorf("it was deployed %d times more", n-deploys)
		}
	})
}

// wavering is a log that loses the answer of every submission once.
type wavering struct {
	*memLog
	lost bool
}

func (w *wavering) Append(entry []byte) (any, error) {
	r, err := w.memLog.Append(entry)
	if strings.Contains(string(entry), `"submit":{`) && !w.lost {
		w.lost = true
		return nil, errors.New("leadership is in doubt")
	}
	return r, err
}

// A submission whose answer the log lost is appended again: it is one job, and runs.
func TestSubmitOnce(t *testing.T) {
	bubble(t, func(b *bench) {
		b.Manager.log = &wavering{memLog: b.log}
		b.phase(b.submit(b.submission()), time.Minute, fsm.Running)
		if jobs := b.Jobs(); len(jobs) != 1 {
			t.Errorf("%d jobs", len(jobs))
		}
	})
}

// A drain whose message is lost drains the job all the same.
func TestDrainAgain(t *testing.T) {
	bubble(t, func(b *bench) {
		id := b.submit(b.submission())
		b.until(id, time.Minute, "it has an epoch", func(i Info) bool { return latest(i) > 0 })
		lost := false
		b.hooked(func(_ *node, m control.Message) bool {
			_, ok := m.(control.Drain)
			ok, lost = ok && !lost, lost || ok
			return ok
		})
		go b.Stop(context.Background(), id, true)
		if b.phase(id, time.Minute, fsm.Finished); !lost {
			t.Error("no Drain was lost")
		}
	})
}
