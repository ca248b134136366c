package minicluster

import (
	"fmt"
	"math"
	"runtime/debug"
	"slices"

	"github.com/weirstream/weir/dataflow"
	"github.com/weirstream/weir/internal/control"
)

// kind is what may happen next.
type kind uint8

const (
	doItem kind = iota
	doCredit
	doOrder
	doAnswer
	doWork
	doTurn
	doInbox
	doUpload
	doCommit
	doUp
	doDown
	doManager
	doSlow
	doTick
	doGrow
	doClock
	doAbort
	doKillWorker
	doKillManager
	doCut
	doSinksDown
	doStoreDown
	doRequest
	doUser // from here on every seed has the same speed
	doSweep
	kinds
)

type choice struct {
	weight int
	kind   kind
	n      *node
	i      int
}

const (
	leaseMax  = 3_000 // µs
	patience  = 40_000
	longPause = 2_000
)

func (s *sim) offer(k kind, weight int, n *node, i int) {
	s.choices = append(s.choices, choice{weight * s.shape.speed[k], k, n, i})
}

// loop lets things happen until the job is over.
func (s *sim) loop() {
	for s.step = 1; s.fail == nil && !s.over(); s.step++ {
		if s.step == s.calm {
			s.faults = false
			clear(s.odds)
			s.downTill, s.storeTill = 0, 0
			s.store.Down(false)
			if s.jm != nil && s.jm.job.Phase.Terminal() {
				s.stats.EndedEarly++
			}
			s.store.Settle()
			s.tracef("faults stop")
		}
		if s.step > s.calm+patience {
			s.violate("the job does not end %d steps after the faults stopped: %s", patience, s.where())
			return
		}
		s.timers()
		s.collect()
		total := 0
		for i := range s.choices {
			total += s.choices[i].weight
		}
		if total == 0 {
			if !s.sleep() {
				s.violate("nothing moves: %s", s.where())
			}
			continue
		}
		k := s.r.IntN(total)
		for i := range s.choices {
			if k -= s.choices[i].weight; k < 0 {
				s.do(s.choices[i])
				break
			}
		}
	}
	if s.fail == nil {
		s.check.end()
	}
}

func (s *sim) over() bool {
	return s.jm != nil && s.jm.job.Phase.Terminal() && s.jm.stage == idle && !s.faults && (!s.user.on || s.user.content())
}

// collect lists what may happen, in a fixed order.
func (s *sim) collect() {
	s.choices = s.choices[:0]
	for _, a := range s.w.attempts {
		for _, n := range a.nodes {
			s.offerNode(n)
		}
		if len(a.inbox) > 0 {
			s.offer(doInbox, 4, a.nodes[0], 0)
		}
		if a.up.job != nil {
			s.offer(doUpload, 1, a.nodes[0], 0)
		}
		for i, c := range a.commits {
			if len(c.queue) > 0 && c.retry <= s.now {
				s.offer(doCommit, 2, a.nodes[0], i)
			}
		}
	}
	if len(s.up.queue) > 0 {
		s.offer(doUp, 2, nil, 0)
	}
	if len(s.down.queue) > 0 {
		s.offer(doDown, 2, nil, 0)
	}
	if s.jm != nil {
		if len(s.jm.inbox) > 0 {
			s.offer(doManager, 3, nil, 0)
		}
		if len(s.jm.slow) > 0 {
			s.offer(doSlow, 2, nil, 0)
		}
		if s.jm.tickAt <= s.now {
			s.offer(doTick, 1, nil, 0)
		}
		if len(s.jm.sweeps) > 0 {
			s.offer(doSweep, 1, nil, 0)
		}
	}
	if !s.input.sealed && (!s.faults || s.shape.hasty || s.r.IntN(12) == 0) { // rows come as long as there are faults
		s.offer(doGrow, 4, nil, 0)
	}
	s.offerFaults()
}

func (s *sim) offerNode(n *node) {
	if len(n.work) > 0 {
		s.offer(doWork, 2, n, 0)
	}
	if n.m == nil || n.dead {
		return
	}
	for i := range n.in {
		if len(n.in[i]) > 0 {
			s.offer(doItem, n.speed[i], n, i)
		}
	}
	for i := range n.credit {
		if len(n.credit[i]) > 0 {
			s.offer(doCredit, 2, n, i)
		}
	}
	if len(n.orders) > 0 {
		s.offer(doOrder, 3, n, 0)
	}
	if len(n.answers) > 0 {
		s.offer(doAnswer, 3, n, 0)
	}
	if n.running && (n.ready || n.wakeAt > 0 && n.wakeAt <= s.now) {
		s.offer(doTurn, 6, n, 0)
	}
}

// offerFaults adds what goes wrong, each as often as the seed says.
func (s *sim) offerFaults() {
	if len(s.choices) > 0 && s.r.IntN(50) == 0 {
		s.offer(doClock, 8, nil, 0)
	}
	if !s.faults {
		return
	}
	often := 0
	for i := range s.choices {
		often += s.choices[i].weight
	}
	now := func(k kind) { s.choices = append(s.choices, choice{often/4 + 1, k, nil, 0}) }
	if s.jm != nil && s.jm.coord.Pending() != 0 && s.chance(150) {
		now(doAbort)
	}
	if s.w.p.fuse < 0 && s.chance(s.shape.killWorker) {
		now(doKillWorker)
	}
	if s.jm != nil && s.jm.p.fuse < 0 && s.chance(s.shape.killJM) {
		now(doKillManager)
	}
	if !s.w.cut && s.chance(2*s.shape.killWorker) {
		now(doCut)
	}
	if s.jm != nil && s.chance(400) {
		now(doRequest)
	}
	if s.user.on && s.jm != nil && s.user.wishes() {
		now(doUser)
	}
	if s.user.on && s.user.r.IntN(300) == 0 {
		now(doSinksDown)
	}
	if s.chance(1500) {
		now(doSinksDown)
	}
	if s.storeTill == 0 && s.chance(2000) {
		now(doStoreDown)
	}
}

// timers does what the clock alone decides.
func (s *sim) timers() {
	if s.jm == nil && s.jmAt <= s.now {
		s.jm = s.newManager()
	}
	if s.w.cut && s.cutAt <= s.now {
		if s.r.IntN(2) == 0 {
			s.died(s.w.p) // its lease ran out
		} else {
			s.w.cut = false
			s.tracef("%s is reached again", s.w.p.name)
		}
	}
	if s.storeTill != 0 && s.storeTill <= s.now {
		s.storeTill = 0
		s.store.Down(false)
	}
	if s.lostAt != 0 && s.lostAt <= s.now {
		s.lostAt = 0
		if s.jm != nil {
			s.jm.inbox = append(s.jm.inbox, workerLost{})
		}
	}
	if s.user.on && !s.faults {
		s.user.carryOn()
	}
	for _, a := range slices.Clone(s.w.attempts) {
		if a.repeat != 0 && a.repeat <= s.now {
			s.guard(a.report)
		}
	}
}

// sleep moves the clock to the next wish; false if there is none.
func (s *sim) sleep() bool {
	at := int64(math.MaxInt64)
	wish := func(t int64) {
		if t > s.now {
			at = min(at, t)
		}
	}
	if s.jm != nil {
		wish(s.jm.tickAt)
	} else {
		wish(s.jmAt)
	}
	wish(s.lostAt)
	wish(s.storeTill)
	if s.w.cut {
		wish(s.cutAt)
	}
	for _, a := range s.w.attempts {
		wish(a.repeat)
		for _, c := range a.commits {
			wish(c.retry)
		}
		for _, n := range a.nodes {
			if n.running {
				wish(n.wakeAt)
			}
		}
	}
	if at == math.MaxInt64 {
		return false
	}
	s.now = at
	return true
}

// guard runs a handler of a process and buries the process if it died in it.
func (s *sim) guard(f func()) {
	defer func() {
		switch r := recover().(type) {
		case nil:
		case crashed:
			s.died(r.p)
		default:
			s.violate("panic: %v\n%s", r, debug.Stack())
		}
	}()
	f()
}

// died buries a process; the next one takes its place.
func (s *sim) died(p *proc) {
	p.dead = true
	s.tracef("%s is dead", p.name)
	if s.jm != nil && p == s.jm.p {
		s.stats.ManagerKills++
		s.jm = nil
		s.jmAt = s.now + int64(s.r.IntN(leaseMax))
		return
	}
	s.stats.WorkerKills++
	for _, a := range slices.Clone(s.w.attempts) {
		a.close()
	}
	s.w = s.newWorker()
	if s.user.on {
		s.down.queue = nil // its connection went with it
	}
	s.lostAt = s.now + int64(s.r.IntN(leaseMax))
}

// do lets one thing happen.
func (s *sim) do(c choice) {
	s.guard(func() {
		switch {
		case c.kind < doInbox:
			s.doNode(c)
		case c.kind <= doCommit:
			s.doAttempt(c)
		default:
			s.doOther(c)
		}
	})
	if c.n != nil {
		c.n.check()
	}
}

func (s *sim) doNode(c choice) {
	n := c.n
	n.ready = true
	switch c.kind {
	case doItem:
		it := n.in[c.i][0]
		n.in[c.i] = n.in[c.i][1:]
		n.m.Receive(c.i, it)
	case doCredit:
		cr := n.credit[c.i][0]
		n.credit[c.i] = n.credit[c.i][1:]
		n.m.Credit(c.i, cr)
	case doOrder:
		f := n.orders[0]
		n.orders = n.orders[1:]
		f()
	case doAnswer:
		f := n.answers[0]
		n.answers = n.answers[1:]
		f()
	case doWork:
		k := s.r.IntN(len(n.work))
		w := n.work[k]
		n.work = slices.Delete(n.work, k, k+1)
		s.tracef("%s: %s", n.id, w.name)
		w.f()
	case doTurn:
		n.turn()
	}
}

func (s *sim) doAttempt(c choice) {
	a := c.n.at
	switch c.kind {
	case doInbox:
		msg := a.inbox[0]
		a.inbox = a.inbox[1:]
		a.handle(msg)
	case doUpload:
		job := a.up.job
		a.up.job = nil
		job()
	case doCommit:
		a.commits[c.i].step()
	}
}

func (s *sim) doOther(c choice) {
	switch c.kind {
	case doUp:
		if m, ok := s.up.next(); ok && s.jm != nil {
			s.jm.inbox = append(s.jm.inbox, m)
		}
	case doDown:
		if m, ok := s.down.next(); ok && !s.w.cut {
			s.w.receive(m.(control.Message))
		}
	case doManager:
		msg := s.jm.inbox[0]
		s.jm.inbox = s.jm.inbox[1:]
		s.jm.handle(msg)
	case doSlow:
		f := s.jm.slow[0]
		s.jm.slow = s.jm.slow[1:]
		if then := f(); then != nil {
			s.jm.inbox = append(s.jm.inbox, then)
		}
	case doSweep:
		f := s.jm.sweeps[0]
		s.jm.sweeps = s.jm.sweeps[1:]
		f()
	case doUser:
		s.user.act()
	case doTick:
		s.jm.tick()
	case doGrow:
		s.grow()
	case doClock:
		s.now += int64(s.r.IntN(longPause))
	case doAbort:
		e := s.jm.coord.Pending()
		s.jm.inbox = append(s.jm.inbox, control.Declined{To: s.jm.to(), Epoch: e, Subtask: dataflow.SubtaskID{Chain: "in"}, Reason: "spoiled"})
		s.tracef("epoch %d is to be aborted", e)
	case doKillWorker:
		s.w.p.light()
	case doKillManager:
		s.jm.p.light()
	case doRequest:
		s.jm.inbox = append(s.jm.inbox, request{stop: s.r.IntN(3) == 0 && !s.user.on})
	case doSinksDown:
		s.downTill = s.now + int64(s.r.IntN(4*leaseMax))
		s.tracef("the sinks do not answer until %d µs", s.downTill-1_000_000)
	case doStoreDown:
		s.storeTill = s.now + int64(s.r.IntN(2*leaseMax))
		s.store.Down(true)
		s.tracef("the object store does not answer until %d µs", s.storeTill-1_000_000)
	case doCut:
		s.w.cut = true
		s.cutAt = s.now + int64(s.r.IntN(leaseMax))
		s.tracef("%s is cut off", s.w.p.name)
	}
}

// where says how everything stands, for a run that does not end.
func (s *sim) where() string {
	out := fmt.Sprintf("up %d, down %d, lost at %d, now %d", len(s.up.queue), len(s.down.queue), s.lostAt, s.now)
	if s.jm != nil {
		out += "\n  " + s.jm.where()
	}
	for _, a := range s.w.attempts {
		out += fmt.Sprintf("\n  attempt %d: ready %d of %d, started %v, failed %v, inbox %d", a.deploy.Attempt, len(a.ready), len(a.nodes), a.started, a.failed != nil, len(a.inbox))
		for _, n := range a.nodes {
			out += fmt.Sprintf("\n    %s: running %v ready %v wake %d orders %d answers %d work %d", n.id, n.running, n.ready, n.wakeAt, len(n.orders), len(n.answers), len(n.work))
			if n.m != nil {
				out += fmt.Sprintf(" %+v", n.m.Stats())
			}
		}
	}
	return out
}
