package minicluster

import (
	"errors"
	"fmt"
	"math/rand/v2"

	"github.com/weirstream/weir/checkpoint"
	"github.com/weirstream/weir/dataflow"
	"github.com/weirstream/weir/jobmanager/fsm"
)

// userEvery is how many steps lie between two wishes of a user, on average.
const userEvery = 60

// wishes tells whether the user wants something now: rather when output waits to be
// committed.
func (u *user) wishes() bool {
	if u.s.jm.coord.Unfinished() > 1 {
		return u.r.IntN(userEvery/4) == 0
	}
	return u.r.IntN(userEvery) == 0
}

// user is who submits jobs and stops them, in a third of the runs. Its wishes come from
// odds of their own, so that runs without it stay as they are.
type user struct {
	on        bool
	s         *sim
	r         *rand.Rand
	refused   bool // the last submission was
	nextAt    int64
	pipelines int // names in use
}

var errNotYours = errors.New("a checkpoint of another pipeline, which its retention may delete")

func newUser(s *sim, on bool) user {
	u := user{s: s, r: rand.New(rand.NewPCG(s.seed, 0x05e2)), pipelines: 1}
	u.on = u.r.IntN(3) == 0 || on
	if u.on {
		s.shape.drain = false // it asks itself
	}
	return u
}

// send asks the job manager, which may die over it.
func (u *user) send(a ask) {
	jm := u.s.jm
	jm.inbox = append(jm.inbox, a)
	if u.s.faults && jm.p.fuse < 0 && u.r.IntN(3) == 0 {
		jm.p.fuse = u.r.IntN(16)
	}
}

// request numbers a request, so that its answers can be counted.
func (u *user) request() string {
	u.s.stats.Requests++
	return fmt.Sprint(u.s.stats.Requests - 1)
}

func (u *user) parallelism() (par [3]int) {
	for i := range par {
		par[i] = 1 + u.r.IntN(3)
	}
	return par
}

func (u *user) name(k int) dataflow.Pipeline {
	if k == 0 {
		return pipelineName
	}
	return dataflow.Pipeline(fmt.Sprintf("%s-%d", pipelineName, k))
}

// act does one thing that a user may do, reasonable or not.
func (u *user) act() {
	if u.s.jm.job.Phase.Terminal() {
		if u.r.IntN(4) == 0 {
			u.dispose()
			return
		}
		u.submit()
		return
	}
	switch k := u.r.IntN(40); {
	case k < 10:
		u.s.jm.inbox = append(u.s.jm.inbox, request{})
	case k < 13:
		u.send(ask{what: askCancel})
	case k < 20:
		u.send(ask{what: askStop})
	case k < 24:
		u.send(ask{what: askRescale})
	case k < 27:
		u.send(ask{what: askSuspend})
	case k < 28 && u.r.IntN(3) == 0:
		u.send(ask{what: askDrain})
	case k < 32:
		u.dispose()
	}
}

// record picks a kept checkpoint of any pipeline.
func (u *user) record(only checkpoint.Kind) (p dataflow.Pipeline, rec *fsm.EpochRecord) {
	n := 0
	for k := range u.pipelines {
		pl := u.s.jm.machine.Pipeline(u.name(k))
		if pl == nil {
			continue
		}
		for i := range pl.Epochs {
			if only != "" && pl.Epochs[i].Kind != only {
				continue
			}
			if n++; u.r.IntN(n) == 0 {
				p, rec = pl.Name, &pl.Epochs[i]
			}
		}
	}
	return p, rec
}

func (u *user) dispose() {
	if p, rec := u.record(checkpoint.Savepoint); rec != nil {
		u.send(ask{what: askDispose, pipeline: p, epoch: rec.Epoch})
	}
}

// submit asks for a job: one that goes on, or one that starts from a checkpoint of this
// pipeline or another.
func (u *user) submit() {
	a := ask{what: askSubmit, pipeline: u.s.jm.job.Pipeline, retain: u.r.IntN(4) != 0}
	if u.pipelines < 3 && u.r.IntN(2) == 0 {
		u.pipelines++
	}
	if u.r.IntN(2) == 0 {
		a.pipeline = u.name(u.r.IntN(u.pipelines))
	}
	if u.r.IntN(3) != 0 {
		only := checkpoint.Savepoint
		if u.r.IntN(3) == 0 {
			only = ""
		}
		if p, rec := u.record(only); rec != nil {
			a.restore = rec.Key
			if u.r.IntN(3) == 0 {
				a.pipeline = p
			}
		}
	}
	u.send(a)
}

// carryOn submits jobs, when the faults are over, until one has come to the end.
func (u *user) carryOn() {
	m := u.s.jm
	if m == nil || u.s.now < u.nextAt || !m.job.Phase.Terminal() || m.stage != idle || u.content() {
		return
	}
	u.nextAt = u.s.now + longPause
	a := ask{what: askSubmit, pipeline: m.job.Pipeline}
	if u.refused || m.job.Phase == fsm.Failed {
		a.pipeline = u.name(u.pipelines)
		u.pipelines++
	}
	u.refused = false
	u.send(a)
}

// content tells whether the last job has come to its end.
func (u *user) content() bool {
	m := u.s.jm
	if m.job.Phase != fsm.Finished {
		return false
	}
	last := m.pipeline().Latest()
	return last != nil && last.Kind == checkpoint.Final
}
