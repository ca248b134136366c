package minicluster

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/weirstream/weir/checkpoint"
	"github.com/weirstream/weir/dataflow"
	"github.com/weirstream/weir/internal/control"
	"github.com/weirstream/weir/internal/objstore"
	"github.com/weirstream/weir/jobmanager/fsm"
	"github.com/weirstream/weir/stream/spi"
)

// Stats count what a run met.
type Stats struct {
	Steps, Records               int
	Epochs, Completed, Aborted   int
	WorkerKills, ManagerKills    int
	StoreFaults, Attempts, Swept int
	Requests, Stops, EndedEarly  int // savepoints asked for, and stopped with; runs whose job ended among faults

	// Of runs with a user: jobs submitted, with a checkpoint to start from, with one of
	// another pipeline; submissions refused, jobs cancelled, suspended and rescaled,
	// savepoints disposed of.
	Submits, Restores, Adoptions, Refused, Cancels, Suspends, Rescales, Disposed int
}

// A Failure is what a run of a seed found.
type Failure struct {
	Seed  uint64
	Step  int
	What  string
	Trace []string // the last events, oldest first; nil unless asked for
}

// Error names the seed and how to see it again.
func (f *Failure) Error() string {
	text := fmt.Sprintf("seed %d, step %d: %s", f.Seed, f.Step, f.What)
	if len(f.Trace) > 0 {
		text += "\nlast events:\n  " + strings.Join(f.Trace, "\n  ")
	}
	return text
}

// sim is one run.
type sim struct {
	seed   uint64
	r      *rand.Rand
	ctx    context.Context
	now    int64 // µs
	step   int
	calm   int // the step at which faults stop
	faults bool
	shape  shape
	stats  Stats
	fail   *Failure

	mem    *objstore.Mem
	store  *objstore.Faulty
	odds   map[objstore.Fault]float64
	log    raftLog
	input  *input
	tables map[string]*table // by pipeline
	broker *broker
	check  *checker
	uuids  int
	starts int // processes

	up, down  link
	jm        *manager // nil while there is none
	jmAt      int64
	w         *worker
	asked     map[string]int // requests to answers
	downTill  int64          // when the sinks are back
	storeTill int64          // when the object store is; 0: it is
	drained   dataflow.Attempt
	user      user
	lostAt    int64 // when the lease of a dead worker runs out; 0: none
	cutAt     int64 // when that of a cut-off one does

	choices []choice
	without Cure
	eager   bool
	tracing int // events kept; 0: none
	trace   []string
}

// Options configures a run.
type Options struct {
	Seed  uint64
	Trace int // how many events a failure's trace holds at least; none

	// Eager lets retention keep one epoch and the sweep wait for nothing, and five
	// epochs be unfinished.
	Eager bool

	// User lets a user submit jobs and stop them, as a third of the seeds have it anyway.
	User bool

	// Without takes a cure away that the drivers have: see Cures.
	Without Cure
}

// A Cure names something that a driver does because a simulation found what
// happens without it.
type Cure string

// The cures.
const (
	TriggerTellsComplete Cure = "trigger-tells-complete" // a lost Complete: handles are committed twice
	TriggerStarts        Cure = "trigger-starts"         // a lost Start: the attempt never runs
	StartOnce            Cure = "start-once"             // a doubled Start: writers fence what they prepared
	FailedAgain          Cure = "failed-again"           // a lost Failed: the attempt hangs for ever
	EndedAgain           Cure = "ended-again"            // a lost Ended: the job never finishes
	LateDeploy           Cure = "late-deploy"            // a doubled Deploy: an attempt that is over comes back
	StopHolds            Cure = "stop-holds"             // epochs go on behind the savepoint that a job stops with
	DrainAgain           Cure = "drain-again"            // a lost Drain: the job runs for ever
	CancelGoesOn         Cure = "cancel-goes-on"         // a job comes back whose job manager died while it was cancelled
	ResumedStays         Cure = "resumed-stays"          // a cancelled job gives up what it resumed and had not committed
	SavepointsStay       Cure = "savepoints-stay"        // retention gives up what the user wants to keep
	LeftBehind           Cure = "left-behind"            // a job commits epochs that it was told to start before
	OwnNumbers           Cure = "own-numbers"            // sinks of a restored savepoint are asked about the copy's epoch
	CutToPart            Cure = "cut-to-part"            // a file shared by a rescale brings old rows of others
)

// Cures returns every cure.
func Cures() []Cure {
	return []Cure{TriggerTellsComplete, TriggerStarts, StartOnce, FailedAgain, EndedAgain, LateDeploy, StopHolds, CutToPart, DrainAgain, CancelGoesOn, ResumedStays, SavepointsStay, LeftBehind, OwnNumbers}
}

// Run runs one seed to its end. An error is a *Failure.
func Run(o Options) (Stats, error) {
	seed := o.Seed
	s := &sim{seed: seed, r: rand.New(rand.NewPCG(seed, 0x5eed)), ctx: context.Background(), tracing: o.Trace, without: o.Without, eager: o.Eager, now: 1_000_000}
	s.shape = drawShape(s.r)
	s.shape.retain, s.shape.lease = 2, sweepEvery
	s.user = newUser(s, o.User)
	if s.eager {
		s.shape.retain, s.shape.lease, s.shape.unfinished = 1, 0, 5
	}
	s.mem = objstore.NewMem(func() time.Time { return clock(s.now) })
	s.odds = s.shape.odds()
	s.store = objstore.NewFaulty(watched{s.mem, s}, objstore.FaultyOptions{
		Rand: rand.New(rand.NewPCG(seed, 0xfa017)), Odds: s.odds,
		OnFault: func(call int64, op, key string, f objstore.Fault) {
			s.stats.StoreFaults++
			s.tracef("object store: %s %s: %s", op, key, f)
		},
	})
	s.input = &input{splits: make([][]uint64, s.shape.splits), left: s.shape.records}
	s.tables, s.broker, s.asked = map[string]*table{}, &broker{s: s}, map[string]int{}
	s.check = newChecker(s)
	s.up, s.down = link{s: s, name: "up"}, link{s: s, name: "down"}
	s.calm = 1000 + s.r.IntN(2500)
	s.faults = true
	s.w = s.newWorker()
	s.jm = s.newManager()
	s.loop()
	s.stats.Steps, s.stats.Records = s.step, s.input.total()
	if s.fail != nil {
		s.fail.Trace = s.trace
		return s.stats, s.fail
	}
	return s.stats, nil
}

// violate notes the first thing that must not be.
func (s *sim) violate(format string, args ...any) {
	if s.fail == nil {
		s.fail = &Failure{Seed: s.seed, Step: s.step, What: fmt.Sprintf(format, args...)}
		s.tracef("VIOLATION %s", s.fail.What)
	}
}

func (s *sim) tracef(format string, args ...any) {
	if s.tracing == 0 {
		return
	}
	if len(s.trace) >= 2*s.tracing {
		s.trace = append(s.trace[:0], s.trace[len(s.trace)-s.tracing:]...)
	}
	s.trace = append(s.trace, fmt.Sprintf("%5d %8dµs ", s.step, s.now-1_000_000)+fmt.Sprintf(format, args...))
}

// chance is one in n while faults are on.
func (s *sim) chance(n int) bool { return s.faults && s.r.IntN(n) == 0 }

// carry takes a message through its encoding, in runs where the job manager and
// the worker are two processes.
func (s *sim) carry(m control.Message) control.Message {
	if !s.shape.wire {
		return m
	}
	b, err := control.Encode(m)
	if err == nil {
		m, err = control.Decode(b)
	}
	if err != nil {
		s.violate("control message: %v", err)
	}
	return m
}

// shape is what a seed says of the job and its surroundings.
type shape struct {
	splits, records, keys int
	groups                int
	par                   [3]int  // source, counter, sinks; 0: drawn anew for each plan
	job                   spi.Job // the actors of a user; nil: the counter
	split                 bool    // the sinks are chains of their own
	two                   bool    // a second source reads the last split
	early                 bool    // which ends after its first records
	hasty                 bool    // the input comes at once, so that faults meet the end
	drain                 bool    // the job is drained when the faults are over
	rescale               bool
	wire                  bool
	loss                  int // control messages lost, per thousand
	storeFaults           float64
	killWorker, killJM    int // one in n steps
	interval              time.Duration
	retain, unfinished    int   // epochs kept; complete ones that may be unfinished, 0: the default
	lease                 int64 // µs; a sweep leaves alone what is younger than two
	speed                 [kinds]int
}

func drawShape(r *rand.Rand) shape {
	sh := shape{splits: 1 + r.IntN(4), records: 80 + r.IntN(420), keys: 1 + r.IntN(12), groups: 4 + r.IntN(12),
		split: r.IntN(3) == 0, rescale: r.IntN(2) == 0, wire: r.IntN(4) == 0}
	for i := range sh.par {
		sh.par[i] = 1 + r.IntN(3)
	}
	if sh.splits > 1 {
		sh.two, sh.early = r.IntN(3) == 0, r.IntN(2) == 0
	}
	sh.early = sh.early && sh.two
	if r.IntN(3) == 0 && !sh.two {
		job, err := buildActors()
		if err != nil {
			panic(err)
		}
		sh.job = job
	}
	sh.hasty, sh.drain = r.IntN(3) == 0, r.IntN(8) == 0
	sh.loss = []int{0, 0, 20, 80}[r.IntN(4)]
	sh.storeFaults = []float64{0, 0.02, 0.1}[r.IntN(3)]
	sh.killWorker = []int{150, 500, 2000}[r.IntN(3)]
	sh.killJM = []int{150, 500, 2000}[r.IntN(3)]
	sh.interval = []time.Duration{100, 500, 2000}[r.IntN(3)] * time.Microsecond
	for i := range sh.speed {
		if sh.speed[i] = 1; i < int(doUser) {
			sh.speed[i] = []int{1, 4, 16}[r.IntN(3)]
		}
	}
	return sh
}

func (sh *shape) odds() map[objstore.Fault]float64 {
	f := sh.storeFaults
	if f == 0 {
		return map[objstore.Fault]float64{}
	}
	return map[objstore.Fault]float64{
		objstore.LostBefore: f / 2, objstore.LostAfter: f / 2, objstore.Late: f / 2, objstore.Conflict: f / 2, objstore.Throttle: f,
		objstore.Truncate: f / 2, objstore.TruncateSilently: f / 2, objstore.ShortPage: 0.1,
	}
}

func (sh *shape) options() fsm.Options {
	return fsm.Options{Checkpoint: checkpoint.Options{MaxUnfinished: sh.unfinished, Interval: sh.interval, Timeout: 12 * time.Millisecond, RepeatCommit: 3 * time.Millisecond}}
}

const firstSource, secondSource dataflow.OperatorID = "in", "more"

// sourceOf returns the source that reads a split.
func (sh *shape) sourceOf(split int) dataflow.OperatorID {
	if sh.two && split == sh.splits-1 {
		return secondSource
	}
	return firstSource
}

// plan makes the job's plan; with rescale each has its own parallelism.
func (sh *shape) plan(s *sim) dataflow.Plan {
	par := sh.par
	if sh.rescale {
		for i := range par {
			par[i] = 1 + s.r.IntN(3)
		}
	}
	return sh.planOf(par)
}

// planOf makes the job's plan for a parallelism.
func (sh *shape) planOf(par [3]int) dataflow.Plan {
	if !sh.split {
		par[2] = par[1]
	}
	g := dataflow.Graph{
		Operators: []dataflow.Operator{
			{Name: firstSource, Kind: dataflow.KindSource, Parallelism: par[0], Outputs: []string{""}, Connector: &dataflow.Connector{Kind: "topic"}},
			{Name: "count", Kind: dataflow.KindOp, Parallelism: par[1], Keyed: true, Inputs: 1, Outputs: []string{""}},
			{Name: "table", Kind: dataflow.KindSink, Parallelism: par[2], Inputs: 1, NoChain: sh.split, Connector: &dataflow.Connector{Kind: "table"}},
			{Name: "topic", Kind: dataflow.KindSink, Parallelism: par[2], Inputs: 1, NoChain: sh.split, Connector: &dataflow.Connector{Kind: "topic"}},
		},
		Edges: []dataflow.Edge{
			{From: firstSource, To: "count", Exchange: dataflow.Hash},
			{From: "count", To: "table", Exchange: dataflow.Forward},
			{From: "count", To: "topic", Exchange: dataflow.Forward},
		},
	}
	if sh.two {
		more := g.Operators[0]
		more.Name = secondSource
		g.Operators = append(g.Operators[:1:1], append([]dataflow.Operator{more}, g.Operators[1:]...)...)
		g.Edges = append(g.Edges, dataflow.Edge{From: secondSource, To: "count", Exchange: dataflow.Hash})
	}
	if sh.job != nil {
		mine := g
		g = sh.job.Graph()
		g.Operators = slices.Clone(g.Operators)
		for i := range g.Operators {
			op, want := &g.Operators[i], mine.Operator(g.Operators[i].Name)
			op.Parallelism, op.NoChain = want.Parallelism, want.NoChain
		}
	}
	p, err := dataflow.MakePlan(g, 1, sh.groups)
	if err != nil {
		panic(err)
	}
	return p
}
