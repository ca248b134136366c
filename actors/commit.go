package actors

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/weirstream/weir/dataflow"
	"github.com/weirstream/weir/internal/clock"
	"github.com/weirstream/weir/stream/spi"
)

// commits runs the committer of one sink operator, in the background, one epoch at
// a time and in order: a later epoch's handles do not contain those of an earlier
// one that its subtasks know to be complete.
type commits struct {
	d         *driver
	sink      dataflow.OperatorID
	committer spi.Committer

	mu struct {
		sync.Mutex
		queue   []commit // the first is being committed while running
		running bool
		last    dataflow.Epoch // newest that was committed
		result  string         // of last
	}
}

type commit struct {
	epoch   dataflow.Epoch
	handles []dataflow.CommitHandle
}

func newCommits(d *driver, sink dataflow.OperatorID, c spi.Committer) *commits {
	return &commits{d: d, sink: sink, committer: c}
}

// submit queues an epoch. One that is queued already is left alone, one that is
// committed is answered again.
func (c *commits) submit(e dataflow.Epoch, handles []dataflow.CommitHandle) {
	handles = slices.Clone(handles)
	slices.SortFunc(handles, func(a, b dataflow.CommitHandle) int {
		return cmp.Or(cmp.Compare(a.Epoch, b.Epoch), cmp.Compare(a.Subtask, b.Subtask), cmp.Compare(a.Seq, b.Seq))
	})
	c.mu.Lock()
	if e <= c.mu.last {
		result := c.mu.result
		c.mu.Unlock()
		c.d.a.opts.Events.Committed(c.sink, e, result)
		return
	}
	if slices.ContainsFunc(c.mu.queue, func(q commit) bool { return q.epoch == e }) {
		c.mu.Unlock()
		return
	}
	// Whoever acked an epoch had its earlier prepares in that ack, so what is not
	// newer than a committed epoch is committed.
	if n := len(handles); n > 0 && c.mu.last > 0 {
		handles = slices.DeleteFunc(handles, func(h dataflow.CommitHandle) bool { return h.Epoch <= c.mu.last })
		if len(handles) < n {
			c.d.log.Warn("a commit repeats what an earlier one held", "operator", string(c.sink), "epoch", uint64(e), "handles", n-len(handles))
		}
	}
	c.mu.queue = append(c.mu.queue, commit{e, handles})
	start := !c.mu.running
	c.mu.running = true
	c.mu.Unlock()
	if start {
		c.d.a.background(c.run)
	}
}

// run commits until the queue is empty.
func (c *commits) run(ctx context.Context) {
	for {
		c.mu.Lock()
		if len(c.mu.queue) == 0 {
			c.mu.running = false
			c.mu.Unlock()
			return
		}
		next := c.mu.queue[0]
		c.mu.Unlock()
		result, err := c.commit(ctx, next)
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			c.d.a.send(c.d, died{c.sink, err})
			return
		}
		c.mu.Lock()
		c.mu.queue = slices.Delete(c.mu.queue, 0, 1)
		c.mu.last, c.mu.result = next.epoch, result
		c.mu.Unlock()
		c.d.a.opts.Events.Committed(c.sink, next.epoch, result)
	}
}

// commit tries until it succeeds, the attempt is stopped, or the answer is final.
func (c *commits) commit(ctx context.Context, next commit) (result string, err error) {
	if len(next.handles) == 0 {
		return "", nil
	}
	pause := c.d.a.opts.CommitBackoff
	longest := pause * 64
	for tries := 1; ; tries++ {
		err := guard(func() (err error) {
			result, err = c.committer.Commit(ctx, next.epoch, next.handles)
			return err
		})
		if err == nil || ctx.Err() != nil {
			return result, err
		}
		if errors.Is(err, spi.ErrStop) {
			return "", fmt.Errorf("epoch %d could not be committed, in try %d: %w", next.epoch, tries, err)
		}
		c.d.log.Warn("commit failed, will be tried again", "operator", string(c.sink), "epoch", uint64(next.epoch), "tries", tries, "pause", pause.String(), "err", err)
		c.d.a.opts.Events.CommitRetry(c.sink, next.epoch, tries, err)
		if err := clock.Sleep(ctx, c.d.a.rt.clock, pause); err != nil {
			return "", err
		}
		pause = min(2*pause, max(longest, time.Millisecond))
	}
}

func closeCommits(all []*commits) error {
	var errs []error
	for _, c := range all {
		errs = append(errs, guard(c.committer.Close))
	}
	return errors.Join(errs...)
}
