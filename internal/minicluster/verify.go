package minicluster

import (
	"fmt"
	"strings"
)

// deleting sees an object being deleted: nobody may still need it.
func (c *checker) deleting(key string) {
	for _, m := range c.complete {
		if m.objects[key] || m.key == key {
			c.s.violate("object %s is deleted, the kept epoch %d names it", key, m.epoch)
		}
	}
	for _, a := range c.s.w.attempts {
		if uint64(a.deploy.Attempt) < c.attempt {
			continue // over, without knowing it
		}
		for _, n := range a.nodes {
			if n.store == nil {
				continue
			}
			for _, f := range n.store.chain {
				if f.ref.Object == key {
					c.s.violate("object %s is deleted, the running store of %s names it", key, n.id)
				}
			}
		}
	}
	if !strings.Contains(key, "/epochs/") {
		c.s.violate("object %s is deleted, it is not of an epoch", key)
	}
}

// visible sees rows becoming visible in a sink; epoch is 0 where a sink does not
// say it.
func (c *checker) visible(sink string, epoch uint64, rows []row) {
	v := c.sinks[sink]
	if epoch != 0 && (c.newest == nil || epoch > c.newest.epoch) {
		c.s.violate("%s: epoch %d is committed before it is complete", sink, epoch)
	}
	for _, r := range rows {
		switch was := v.named[r.ID]; {
		case was == 0:
			c.s.violate("%s: row %s is visible, but no complete epoch names it", sink, rowName(r.ID))
		case v.visible[r.ID]:
			c.s.violate("%s: row %s is visible twice", sink, rowName(r.ID))
		case epoch != 0 && was != epoch:
			c.s.violate("%s: row %s is named by epoch %d and becomes visible with %d", sink, rowName(r.ID), was, epoch)
		}
		v.visible[r.ID] = true
		if sink == "table" && !c.ordered() {
			continue
		}
		v.last[r.Key]++
		if want := c.s.shape.nth(v.last[r.Key]); r.N != want && c.ordered() {
			c.s.violate("%s: key %d should come to %d and comes to %d", sink, r.Key, want, r.N)
		}
	}
}

// ordered tells whether the rows of a key reach a sink in order: not if they are
// spread over several writers.
func (c *checker) ordered() bool {
	sh := &c.s.shape
	return !sh.split || !sh.rescale && sh.par[1] == sh.par[2]
}

// aborted sees a transaction being aborted: no complete epoch may want it.
func (c *checker) aborted(id string, rows []row) {
	for _, r := range rows {
		if e := c.sinks["topic"].named[r.ID]; e != 0 && !c.sinks["topic"].visible[r.ID] {
			c.s.violate("topic: transaction %s is aborted, epoch %d has its row %s", id, e, rowName(r.ID))
			return
		}
	}
}

// finish sees an epoch recorded as finished: all it names is visible.
func (c *checker) finish(epoch uint64) {
	for _, m := range c.complete {
		if m.epoch == epoch {
			c.seen("finished", m.epoch, m.positions)
		}
	}
	c.finished[epoch] = true
}

// seen demands that everything before positions is visible.
func (c *checker) seen(when string, epoch uint64, positions []int) {
	for _, sink := range []string{"table", "topic"} {
		for k, at := range positions {
			for i := range at {
				if !c.sinks[sink].visible[rowID(k, i)] {
					c.s.violate("%s: epoch %d is %s, its row %s is not visible", sink, epoch, when, rowName(rowID(k, i)))
					return
				}
			}
		}
	}
}

// deploy sees from where an attempt is to start.
func (c *checker) deploy(restored uint64) {
	want := uint64(0)
	if c.newest != nil {
		want = c.newest.epoch
	}
	if restored != want {
		c.s.violate("an attempt is restored from epoch %d, the newest complete one is %d", restored, want)
	}
}

// stopped sees a job stop with a savepoint: its output ends there, or nobody could
// go on from it.
func (c *checker) stopped(epoch uint64) {
	if c.newest.epoch != epoch {
		c.s.violate("the job stops with savepoint %d, but epoch %d is complete", epoch, c.newest.epoch)
	}
}

// starting sees rows beginning to flow: outside is exactly what the restored
// epoch contains.
func (c *checker) starting(restored uint64) {
	if c.newest == nil || c.newest.epoch != restored {
		return // stale: it cannot complete anything any more
	}
	c.seen("restored", restored, c.newest.positions)
	total := 0
	for _, at := range c.newest.positions {
		total += at
	}
	for _, sink := range []string{"table", "topic"} {
		if n := len(c.sinks[sink].visible); n != total {
			c.s.violate("%s: epoch %d is restored with %d rows, %d are visible", sink, restored, total, n)
		}
	}
}

// end judges what a finished job leaves: every record, unless it was drained, and
// nothing twice.
func (c *checker) end() {
	all := make([]int, len(c.s.input.splits))
	for k, keys := range c.s.input.splits {
		all[k] = len(keys)
	}
	if c.s.drained != 0 && c.newest != nil {
		all = c.newest.positions
	}
	total := 0
	count := map[uint64]int64{}
	for k, at := range all {
		total += at
		for _, key := range c.s.input.splits[k][:at] {
			count[key]++
		}
	}
	c.seen("over", 0, all)
	for _, sink := range []string{"table", "topic"} {
		if n := len(c.sinks[sink].visible); n != total {
			c.s.violate("%s: %d rows are visible, there were %d", sink, n, total)
		}
	}
	counts := map[[2]uint64]int{} // by key and count
	for _, v := range c.s.table.log {
		for _, r := range v.rows {
			counts[[2]uint64{r.Key, uint64(r.N)}]++
		}
	}
	for key := range uint64(c.s.shape.keys) {
		for i := range count[key] {
			counts[[2]uint64{key, uint64(c.s.shape.nth(i + 1))}]--
		}
	}
	for key := range uint64(c.s.shape.keys) {
		for n := range uint64(count[key] + 2) {
			if d := counts[[2]uint64{key, n}]; d != 0 {
				c.s.violate("table: key %d comes to %d %+d times too often", key, n, d)
			}
		}
	}
	for id := range c.s.stats.Requests {
		if n := c.s.asked[fmt.Sprint(id)]; n > 1 {
			c.s.violate("request %d was answered %d times", id, n)
		}
	}
}
