package state

import "github.com/cockroachdb/pebble/v2"

// A queue is the compaction scheduler that one store's Pebble sees. Its fields are
// guarded by Shared.mu, which is taken after Pebble's own mutex: TrySchedule is
// called with that one held, so Shared.mu is never held while Pebble is called.
type queue struct {
	shared  *Shared
	db      pebble.DBForCompaction
	ready   bool // the store's files are all local
	closed  bool
	running int // compactions of this store
	calls   int // calls of db that are under way
}

var _ pebble.CompactionScheduler = (*queue)(nil)

// Register is called by Pebble when it opens.
func (q *queue) Register(_ int, db pebble.DBForCompaction) {
	q.shared.mu.Lock()
	defer q.shared.mu.Unlock()
	q.db = db
	q.shared.queues = append(q.shared.queues, q)
}

// Unregister is called by Pebble when it closes; afterwards db is not called.
func (q *queue) Unregister() {
	s := q.shared
	s.mu.Lock()
	defer s.mu.Unlock()
	q.closed = true
	for i, o := range s.queues {
		if o == q {
			s.queues = append(s.queues[:i:i], s.queues[i+1:]...)
			break
		}
	}
	for q.calls > 0 {
		s.idle.Wait()
	}
}

// TrySchedule is called by Pebble when it would like to compact.
func (q *queue) TrySchedule() (bool, pebble.CompactionGrantHandle) {
	s := q.shared
	s.mu.Lock()
	defer s.mu.Unlock()
	if !q.mayRun() || q.running >= q.db.GetAllowedWithoutPermission() {
		return false, nil
	}
	q.running++
	s.running++
	return true, grant{q}
}

// UpdateGetAllowedWithoutPermission is called by Pebble when its wishes may have
// changed.
func (q *queue) UpdateGetAllowedWithoutPermission() { q.shared.wake() }

func (q *queue) mayRun() bool {
	return q.ready && !q.closed && q.shared.running < q.shared.opts.Compactions
}

// setReady lets the store compact, or not begin another compaction.
func (q *queue) setReady(ready bool) {
	q.shared.mu.Lock()
	q.ready = ready
	q.shared.mu.Unlock()
	q.shared.wake()
}

// A grant is the permission to run one compaction.
type grant struct{ q *queue }

func (g grant) Started()                                          {}
func (g grant) MeasureCPU(pebble.CompactionGoroutineKind)         {}
func (g grant) CumulativeStats(pebble.CompactionGrantHandleStats) {}

// Done is called by Pebble when the compaction is over.
func (g grant) Done() {
	s := g.q.shared
	s.mu.Lock()
	g.q.running--
	s.running--
	s.mu.Unlock()
	s.wake()
}

func (s *Shared) wake() {
	select {
	case s.poke <- struct{}{}:
	default:
	}
}

// grantLoop hands free turns to the stores that wait, the most urgent first.
func (s *Shared) grantLoop() {
	defer s.done.Done()
	for {
		select {
		case <-s.stop:
			return
		case <-s.poke:
		}
		for s.grantOne() {
		}
	}
}

// grantOne starts one waiting compaction; false when none waits or none may run.
func (s *Shared) grantOne() bool {
	s.mu.Lock()
	all := append([]*queue(nil), s.queues...)
	s.mu.Unlock()
	var best *queue
	var want pebble.WaitingCompaction
	for _, q := range all {
		if !q.enter() {
			continue
		}
		waiting, w := q.db.GetWaitingCompaction()
		q.leave()
		if waiting && (best == nil || moreUrgent(w, want)) {
			best, want = q, w
		}
	}
	if best == nil || !best.enter() {
		return false
	}
	s.mu.Lock()
	best.running++
	s.running++
	s.mu.Unlock()
	accepted := best.db.Schedule(grant{best})
	best.leave()
	if !accepted {
		s.mu.Lock()
		best.running--
		s.running--
		s.mu.Unlock()
	}
	return accepted
}

// enter begins a call of q.db if q may run a compaction.
func (q *queue) enter() bool {
	q.shared.mu.Lock()
	defer q.shared.mu.Unlock()
	if !q.mayRun() {
		return false
	}
	q.calls++
	return true
}

func (q *queue) leave() {
	q.shared.mu.Lock()
	defer q.shared.mu.Unlock()
	q.calls--
	if q.calls == 0 {
		q.shared.idle.Broadcast()
	}
}

func moreUrgent(a, b pebble.WaitingCompaction) bool {
	switch {
	case a.Optional != b.Optional:
		return !a.Optional
	case a.Priority != b.Priority:
		return a.Priority > b.Priority
	}
	return a.Score > b.Score
}
