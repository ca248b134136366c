package minicluster

import (
	"fmt"
	"slices"
	"strings"
)

// submitted sees a job begin: where it may start, and in which line its rows are.
func (c *checker) submitted(id, pipeline string, restore *seenRef) {
	if c.jobs[id] != nil {
		return // the entry came twice
	}
	p := c.pipe(pipeline)
	j := &seenJob{id: id, p: p, told: true}
	if p.job != nil && !p.job.over {
		c.s.violate("job %s was accepted while %s of its pipeline lives", id, p.job.id)
	}
	switch last := p.lastKept(); {
	case restore != nil:
		j.start = c.kept(restore.Key)
		if j.start == nil {
			c.s.violate("job %s starts from %s, which is not complete or not kept", id, restore.Key)
			return
		}
	case last == nil: // afresh
	case last != p.newest:
		c.s.violate("job %s goes on from epoch %d, the newest complete one was %d", id, last.epoch, p.newest.epoch)
	case last.kind == "final":
		c.s.violate("job %s goes on from epoch %d, behind the end of all input", id, last.epoch)
	default:
		j.start, j.told, j.line = last, false, last.line
	}
	if j.line == nil {
		j.line = c.newLine(p, j.start)
	}
	if j.at = j.start; j.start != nil {
		j.drained = j.start.drained
	}
	p.job, c.jobs[id] = j, j
}

// newLine begins a history of output at start, of which everything stays that another
// line of the same pipeline had up to there.
func (c *checker) newLine(p *seenPipeline, start *seenManifest) *line {
	l := &line{base: make([]int, len(c.s.input.splits)), sinks: map[string]*seenSink{}}
	for _, name := range sinkNames {
		sink := &seenSink{named: map[uint64]uint64{}, visible: map[uint64]bool{}, last: map[uint64]int64{}}
		l.sinks[name] = sink
		if start == nil {
			continue
		}
		for k, at := range start.positions {
			for _, key := range c.s.input.splits[k][:at] {
				sink.last[key]++
			}
		}
		if start.p != p {
			copy(l.base, start.positions)
			continue
		}
		copy(l.base, start.line.base)
		from := start.line.sinks[name]
		for id, e := range from.named {
			if e <= start.epoch {
				sink.named[id] = e
				if from.visible[id] {
					sink.visible[id] = true
				}
			}
		}
	}
	if start != nil && start.p == p {
		l.from = start
	}
	p.lines = append(p.lines, l)
	return l
}

func (p *seenPipeline) lastKept() *seenManifest {
	if len(p.complete) == 0 {
		return nil
	}
	return p.complete[len(p.complete)-1]
}

// kept finds a complete and kept epoch by the key of its manifest.
func (c *checker) kept(key string) *seenManifest {
	for _, p := range c.order {
		for _, m := range p.complete {
			if m.key == key {
				return m
			}
		}
	}
	return nil
}

// adopted sees the copy of another pipeline's savepoint become a job's first epoch: it
// says what the savepoint says, and names no object of anyone else.
func (c *checker) adopted(j *seenJob, ref seenRef) {
	if j.copy != nil {
		return // the entry came twice
	}
	if ref.Epoch <= j.p.opened || ref.Epoch <= j.start.committed {
		c.s.violate("epoch %d is a copy of epoch %d, handed out was %d", ref.Epoch, j.start.epoch, j.p.opened)
	}
	j.p.opened = ref.Epoch
	m := c.read(j, ref)
	if m == nil {
		return
	}
	if !slices.Equal(m.positions, j.start.positions) || m.committed != j.start.committed {
		c.s.violate("epoch %d at %v, asked about as %d, is no copy of epoch %d at %v, %d", m.epoch, m.positions, m.committed, j.start.epoch, j.start.positions, j.start.committed)
	}
	for key := range m.objects {
		if !strings.HasPrefix(key, "pipelines/"+j.p.name+"/") {
			c.s.violate("the copy %d of pipeline %s names %s", ref.Epoch, j.p.name, key)
		}
	}
	j.copy, j.at = m, m
	j.p.finished[ref.Epoch] = true
}

// runs sees that rows of a job are to flow: that it started elsewhere is final.
func (c *checker) runs(j *seenJob) {
	if j.ran = true; j.copy != nil && !j.own {
		c.count(j, j.copy)
	}
}

// dropped sees epochs being given up: by retention, by a user, or with a cancelled job.
func (c *checker) dropped(p *seenPipeline, epochs []uint64, all bool) {
	j := p.job
	for _, e := range epochs {
		i := slices.IndexFunc(p.complete, func(m *seenManifest) bool { return m.epoch == e })
		if i < 0 {
			continue
		}
		m := p.complete[i]
		switch {
		case m.kind == "savepoint" && !p.disposed[e]:
			c.s.violate("savepoint %d was given up, nobody disposed of it", e)
		case all && m.job != j:
			c.s.violate("epoch %d was given up with job %s, which is not its own", e, j.id)
		case all || j.over:
		case m == p.lastKept():
			c.s.violate("the newest complete epoch %d was given up", e)
		case !p.finished[e] && j.line.has(m):
			c.s.violate("epoch %d was given up, not all its output is committed", e)
		}
		for _, l := range p.complete[i+1:] {
			if !p.finished[e] && !slices.Contains(epochs, l.epoch) && l.line.has(m) {
				c.s.violate("epoch %d was given up before its output was committed, the kept epoch %d goes on from it", e, l.epoch)
			}
		}
		for _, o := range c.order {
			if o.job != nil && !o.job.over && !o.job.own && o.job.copy == nil && o.job.start == m && !all {
				c.s.violate("epoch %d was given up, job %s starts from it", e, o.job.id)
			}
		}
		p.complete = slices.Delete(p.complete, i, i+1)
	}
}

// has tells whether m belongs to the history l.
func (l *line) has(m *seenManifest) bool {
	return l == m.line || l.from != nil && m.epoch <= l.from.epoch && l.from.line.has(m)
}

// ended sees a job being over.
func (c *checker) ended(j *seenJob, phase, reason string) {
	if j.over {
		return
	}
	j.over = true
	switch {
	case phase == "failed" && (!j.told || j.p.top <= j.restored()):
		c.s.violate("the job failed: %s", reason)
	case phase == "finished" && j.at != nil:
		c.seen("over", j.line, j.at)
	}
}

// restored is the epoch that sinks are asked about at the next attempt.
func (j *seenJob) restored() uint64 {
	if j.at == nil {
		return 0
	}
	return j.at.committed
}

// refused sees a submission that was not accepted, which a user may expect only if it
// says where the pipeline stands.
func (c *checker) refused(pipeline, restore, why string) {
	p := c.pipes[pipeline]
	if restore != "" {
		m := c.kept(restore)
		switch {
		case m == nil: // given up meanwhile
		case m.p != p && m.kind != "savepoint" && m.kind != "suspend":
		case c.object(strings.TrimSuffix(restore, "manifest.json")+"complete") == nil:
		case p != nil && m.p == p && p.left(m):
		default:
			c.s.violate("a job from %s was refused: %s", restore, why)
		}
		return
	}
	switch {
	case p == nil || p.lastKept() == nil:
		c.s.violate("a job of pipeline %s was refused: %s", pipeline, why)
	case p.lastKept() != p.newest || p.newest.kind == "final":
	default:
		c.s.violate("a job that goes on from epoch %d was refused: %s", p.newest.epoch, why)
	}
}

// left tells whether a job left m behind before all its output was committed.
func (p *seenPipeline) left(m *seenManifest) bool {
	return !p.finished[m.epoch] && !p.newest.line.has(m)
}

// disposing sees a user give a savepoint up, and what came of it.
func (c *checker) disposing(pipeline string, epoch uint64) { c.pipes[pipeline].disposed[epoch] = true }

func (c *checker) disposed(pipeline string, epoch uint64, err error) {
	p := c.pipes[pipeline]
	delete(p.disposed, epoch)
	if err == nil {
		return
	}
	for _, m := range p.complete {
		if m.epoch != epoch || !p.job.over && m == p.lastKept() || !p.finished[epoch] {
			continue
		}
		if !slices.ContainsFunc(c.order, func(o *seenPipeline) bool { return !o.job.over && !o.job.own && o.job.copy == nil && o.job.start == m }) {
			c.s.violate("savepoint %d cannot be disposed of: %v", epoch, err)
		}
	}
}

func (m *seenManifest) String() string {
	if m == nil {
		return "none"
	}
	return fmt.Sprintf("%s %d of %s", m.kind, m.epoch, m.p.name)
}
