package minicluster

import (
	"fmt"
	"slices"
	"strings"

	"github.com/weirstream/weir/internal/failpoint"
)

// deleting sees an object being deleted: nobody may still need it.
func (c *checker) deleting(key string) {
	for _, p := range c.order {
		for _, m := range p.complete {
			if (m.objects[key] || m.key == key) && !c.behind(m) {
				c.s.violate("object %s is deleted, the kept epoch %d names it", key, m.epoch)
			}
		}
		if m := p.job.copy; m != nil && !p.job.over && !p.job.own && (m.objects[key] || m.key == key) {
			c.s.violate("object %s is deleted, job %s is to start from its copy %d", key, p.job.id, m.epoch)
		}
	}
	for _, a := range c.s.w.attempts {
		if uint64(a.deploy.Attempt) < c.pipes[string(a.deploy.Pipeline)].attempt {
			continue // over, without knowing it
		}
		if c.jobs[string(a.deploy.Job)].over {
			continue
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

// behind tells whether m was left behind for ever: a job that was told to start elsewhere
// let rows flow, before all output of m was committed. Savepoints stay.
func (c *checker) behind(m *seenManifest) bool {
	j := m.p.job
	return m.kind != "savepoint" && !m.p.finished[m.epoch] && j.ran && !j.line.has(m)
}

// visible sees rows becoming visible in a sink of a pipeline with one of its epochs; 0 is
// one that no manifest names.
func (c *checker) visible(sink, pipeline string, epoch uint64, rows []row) {
	p := c.pipes[pipeline]
	if sink == "table" {
		if p.newest == nil || epoch > p.newest.epoch {
			c.s.violate("%s: epoch %d is committed before it is complete", sink, epoch)
		}
		p.top = max(p.top, epoch)
	}
	for _, r := range rows {
		var owner *seenSink
		for _, l := range p.lines {
			v := l.sinks[sink]
			if epoch == 0 || v.named[r.ID] != epoch {
				continue
			}
			if owner == nil { // the others have it from this one
				owner = v
				if v.visible[r.ID] {
					c.s.violate("%s: row %s is visible twice", sink, rowName(r.ID))
				}
			}
			v.visible[r.ID] = true
		}
		if owner == nil {
			c.s.violate("%s: row %s is visible with epoch %d, which does not name it", sink, rowName(r.ID), epoch)
			return
		}
		if p.line != nil && p.line.sinks[sink].named[r.ID] != epoch {
			c.s.violate("%s: row %s of epoch %d becomes visible, the job that runs began before it", sink, rowName(r.ID), epoch)
		}
		if sink == "table" && !c.ordered() {
			continue
		}
		owner.last[r.Key]++
		if want := c.s.shape.nth(owner.last[r.Key]); r.N != want && c.ordered() {
			c.s.violate("%s: key %d should come to %d and comes to %d", sink, r.Key, want, r.N)
		}
	}
}

// transacted sees rows of a transaction becoming visible.
func (c *checker) transacted(id string, epoch int16, rows []row) {
	pipeline, _, _ := strings.Cut(id, "/")
	n := uint64(0)
	if m := c.handles[txnKey{id, epoch}]; m != nil {
		n = m.epoch
	}
	c.visible("topic", pipeline, n, rows)
}

// ordered tells whether the rows of a key reach a sink in order: not if they are
// spread over several writers.
func (c *checker) ordered() bool {
	sh := &c.s.shape
	return !sh.split || !sh.rescale && !c.s.user.on && sh.par[1] == sh.par[2]
}

// aborted sees a transaction being aborted: no complete epoch may want it.
func (c *checker) aborted(id string, epoch int16) {
	m := c.handles[txnKey{id, epoch}]
	if m != nil && slices.Contains(m.p.complete, m) && !m.p.finished[m.epoch] && m.p.job.line.has(m) {
		c.s.violate("topic: transaction %s is aborted, epoch %d has it", id, m.epoch)
	}
}

// finish sees an epoch recorded as finished: all it names is visible.
func (c *checker) finish(p *seenPipeline, epoch uint64) {
	for _, m := range p.complete {
		if m.epoch == epoch {
			c.seen("finished", m.line, m)
		}
	}
	p.finished[epoch] = true
}

// seen demands that everything of a line before the positions of m is visible.
func (c *checker) seen(when string, l *line, m *seenManifest) {
	c.seenUpTo(when, l, m.epoch, m.positions)
}

func (c *checker) seenUpTo(when string, l *line, epoch uint64, positions []int) {
	for _, sink := range sinkNames {
		for k, at := range positions {
			for i := l.base[k]; i < at; i++ {
				if !l.sinks[sink].visible[rowID(k, i)] {
					c.s.violate("%s: epoch %d is %s, its row %s is not visible", sink, epoch, when, rowName(rowID(k, i)))
					return
				}
			}
		}
	}
}

// deploy sees from where an attempt is to start.
func (c *checker) deploy(job string, restored uint64) {
	j := c.jobs[job]
	if want := j.restored(); restored != want {
		c.s.violate("an attempt is restored from epoch %d, the newest complete one is %d", restored, want)
	}
}

// stopped sees a job stop with a savepoint: its output ends there, or nobody could
// go on from it.
func (c *checker) stopped(job string, epoch uint64) {
	if newest := c.jobs[job].p.newest; newest.epoch != epoch {
		c.s.violate("the job stops with savepoint %d, but epoch %d is complete", epoch, newest.epoch)
	}
}

// starting sees rows beginning to flow: outside is exactly what the restored
// epoch contains, and the table has nothing newer.
func (c *checker) starting(job string, attempt, restored uint64) {
	j := c.jobs[job]
	if j.over || j.restored() != restored || attempt != j.p.attempt {
		return // stale: it cannot complete anything any more
	}
	j.p.line = j.line
	if j.p.top > restored && !failpoint.Off(failpoint.TxnCheck) {
		c.s.violate("table: epoch %d is restored, it has output of epoch %d", restored, j.p.top)
	}
	if j.at == nil {
		return
	}
	c.seen("restored", j.line, j.at)
	total := 0
	for k, at := range j.at.positions {
		total += at - j.line.base[k]
	}
	for _, sink := range sinkNames {
		if n := len(j.line.sinks[sink].visible); n != total {
			c.s.violate("%s: epoch %d is restored with %d rows, %d are visible", sink, restored, total, n)
		}
	}
}

// end judges what a finished job leaves: every record, unless it was drained, and
// nothing twice.
func (c *checker) end() {
	j := c.jobs[string(c.s.jm.job.ID)]
	all := make([]int, len(c.s.input.splits))
	for k, keys := range c.s.input.splits {
		all[k] = len(keys)
	}
	if (c.s.drained != 0 || j.drained) && j.at != nil {
		all = j.at.positions
	}
	total := 0
	count := map[uint64]int64{}
	before := map[uint64]int64{}
	for k, at := range all {
		total += at - j.line.base[k]
		for i, key := range c.s.input.splits[k][:at] {
			count[key]++
			if i < j.line.base[k] {
				before[key]++
			}
		}
	}
	c.seenUpTo("over", j.line, 0, all)
	for _, sink := range sinkNames {
		if n := len(j.line.sinks[sink].visible); n != total {
			c.s.violate("%s: %d rows are visible, there were %d", sink, n, total)
		}
	}
	counts := map[[2]uint64]int{} // by key and count
	for _, v := range c.s.tableOf(j.p.name).log {
		for _, r := range v.rows {
			if j.line.sinks["table"].named[r.ID] == uint64(v.epoch) {
				counts[[2]uint64{r.Key, uint64(r.N)}]++
			}
		}
	}
	for key := range uint64(c.s.shape.keys) {
		for i := before[key]; i < count[key]; i++ {
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
