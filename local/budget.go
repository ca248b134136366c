package local

import (
	"encoding/json"

	"github.com/weirstream/weir/dataflow"
	"github.com/weirstream/weir/internal/control"
)

// shares divides one state budget over the keyed subtasks that run, in whatever
// process they do.
type shares struct {
	budget int64 // bytes
	keyed  map[control.To]int64
}

// begin counts the keyed subtasks of an attempt.
func (s *shares) begin(d control.Deploy) {
	if s.keyed == nil {
		s.keyed = map[control.To]int64{}
	}
	s.keyed[d.To] = int64(d.Keyed())
}

// end forgets an attempt.
func (s *shares) end(to control.To) { delete(s.keyed, to) }

// endJob forgets all attempts of a job.
func (s *shares) endJob(job dataflow.JobID) {
	for to := range s.keyed {
		if to.Job == job {
			delete(s.keyed, to)
		}
	}
}

// of returns the bytes for the attempts of the jobs that in says; all of the budget
// as long as nothing keyed runs.
func (s *shares) of(in func(dataflow.JobID) bool) int64 {
	var here, all int64
	for to, n := range s.keyed {
		all += n
		if in(to.Job) {
			here += n
		}
	}
	if all == 0 {
		return s.budget
	}
	return s.budget / all * here
}

// divide tells every process its share. w.mu is held.
func (w *workers) divide() {
	for job, p := range w.byJob {
		share := w.shares.of(func(j dataflow.JobID) bool { return j == job })
		if share != p.share {
			p.share = share
			p.budget.Put(share)
		}
	}
	if w.resize != nil {
		w.resize(w.shares.of(func(j dataflow.JobID) bool { return w.byJob[j] == nil }))
	}
}

// stopped hears from this process's task manager that an attempt is over.
func (w *workers) stopped(to control.To) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.shares.end(to)
	w.divide()
}

// A listener passes messages on and tells of each Stopped.
type listener struct {
	control.Link
	stopped func(control.To)
}

func (l listener) Send(m control.Message) {
	if s, ok := m.(control.Stopped); ok {
		l.stopped(s.To)
	}
	l.Link.Send(m)
}

// A budgetLine tells a worker its share from now on.
type budgetLine struct {
	StateBudget int64 `json:"state_budget"`
}

// budgetOf returns what a line says of the budget; ok is false if it is a message.
func budgetOf(line []byte) (budget int64, ok bool) {
	var b struct {
		StateBudget *int64 `json:"state_budget"`
	}
	if json.Unmarshal(line, &b) != nil || b.StateBudget == nil {
		return 0, false
	}
	return *b.StateBudget, true
}
