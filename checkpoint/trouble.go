package checkpoint

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/weirstream/weir/dataflow"
)

// held reports that no epoch may be opened before the oldest unfinished one is.
func (c *Coordinator) held() bool {
	return len(c.unfinished) > 0 && (len(c.unfinished) >= c.opts.MaxUnfinished || !c.running || c.final != 0 || c.stopping)
}

// overdue emits Fail when failing commits have held the job back for too long. A
// commit that is merely slow never fails a job.
func (c *Coordinator) overdue(now time.Time) []Effect {
	if !c.held() {
		c.heldSince = time.Time{}
		return nil
	}
	if c.heldSince.IsZero() {
		c.heldSince = now
	}
	u := &c.unfinished[0]
	if c.gaveUp || len(u.trouble) == 0 || c.opts.CommitTimeout < 0 || c.left(now) > 0 {
		return nil
	}
	c.gaveUp = true
	return []Effect{Fail{Attempt: c.attempt, Stop: true, Reason: fmt.Sprintf("%s; %s wait for their commits, longer than the commit timeout of %v: cure the cause and run the job again, it commits them first",
		u.says(), epochCount(len(c.unfinished)), c.opts.CommitTimeout)}}
}

// left is how long the commits of the oldest unfinished epoch may go on failing: the
// commit timeout from when epochs were held back and one had failed.
func (c *Coordinator) left(now time.Time) time.Duration {
	since := c.heldSince
	if failed := c.unfinished[0].failed; failed.After(since) {
		since = failed
	}
	return max(0, c.opts.CommitTimeout-now.Sub(since))
}

// says names the sinks whose commits fail, how often, and why.
func (u *committing) says() (text string) {
	for _, s := range slices.Sorted(maps.Keys(u.trouble)) {
		if text != "" {
			text += "; "
		}
		f := u.trouble[s]
		text += fmt.Sprintf("sink %q could not commit epoch %d in %s: %s", s, u.Epoch, tryCount(f.Tries), f.Reason)
	}
	return text
}

func tryCount(n int) string {
	if n == 1 {
		return "1 try"
	}
	return fmt.Sprintf("%d tries", n)
}

func epochCount(n int) string {
	if n == 1 {
		return "1 complete epoch"
	}
	return fmt.Sprintf("%d complete epochs", n)
}

func (c *Coordinator) commitFailed(now time.Time, ev CommitFailed) []Effect {
	if len(c.unfinished) == 0 || c.unfinished[0].Epoch != ev.Epoch || !c.unfinished[0].waiting[ev.Sink] {
		return nil // it came late: that commit is done
	}
	u := &c.unfinished[0]
	if len(u.trouble) == 0 { // the first, or the first since all had healed
		u.trouble, u.failed = map[dataflow.OperatorID]CommitFailed{}, now
	}
	u.trouble[ev.Sink] = ev
	for i := range c.stats {
		if c.stats[i].Epoch == ev.Epoch {
			c.stats[i].Reason = u.says()
		}
	}
	return c.tick(now)
}

// Trouble says in one sentence which commits fail and what that holds back; "" if
// none does. It is for people.
func (c *Coordinator) Trouble(now time.Time) string {
	if len(c.unfinished) == 0 || len(c.unfinished[0].trouble) == 0 {
		return ""
	}
	text := c.unfinished[0].says()
	switch {
	case c.heldSince.IsZero():
		return text + "; it is tried again"
	case c.opts.CommitTimeout < 0:
		return fmt.Sprintf("%s; it is tried again, and no checkpoint is taken meanwhile", text)
	}
	return fmt.Sprintf("%s; it is tried again, no checkpoint is taken meanwhile, and the job stops in %v", text, c.left(now).Round(time.Second))
}
