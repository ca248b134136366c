package jobmanager

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/weirstream/weir/checkpoint"
	"github.com/weirstream/weir/dataflow"
	"github.com/weirstream/weir/internal/clock"
	"github.com/weirstream/weir/internal/control"
	"github.com/weirstream/weir/internal/objstore"
	"github.com/weirstream/weir/jobmanager/fsm"
)

// A Log is the replicated log as the job manager needs it; cluster.Log is one.
type Log interface {
	// Append returns the machine's answer when the entry is durable and applied. After
	// an error the entry may be applied still; it may be appended again.
	Append(entry []byte) (any, error)
	Term() uint64
}

// Options configures a Manager. A zero field means its default; those without
// one are required.
type Options struct {
	Store objstore.Store // checkpoints; required
	Slots int            // of the task manager behind Down; 6
	Lease time.Duration  // objects of given-up epochs live twice as long; 8s
	// KeepJobs is how many jobs that are over are remembered, the newest; 50; negative: all.
	KeepJobs int
	Clock    clock.Clock  // the wall clock
	Log      *slog.Logger // discards
}

// A Manager is a job manager that leads. The zero value is not usable.
type Manager struct {
	opts    Options
	term    dataflow.Term // in which it was elected
	machine *Replica
	log     Log
	down    control.Link
	ctx     context.Context // done when it is closed
	cancel  context.CancelFunc
	jitter  jitter

	mu struct {
		sync.Mutex
		drivers map[dataflow.JobID]*driver
		closed  bool
	}
	wg sync.WaitGroup
}

// A Replica is the state machine behind a lock: Raft applies, everyone reads.
// It implements cluster.Applier.
type Replica struct {
	mu sync.Mutex
	m  *fsm.Machine
}

// NewReplica returns an empty Replica.
func NewReplica() *Replica { return &Replica{m: fsm.New()} }

// Apply applies one entry; the answer is an fsm.Result.
func (r *Replica) Apply(entry []byte) any {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.m.ApplyBytes(entry)
}

// Snapshot returns the encoded state.
func (r *Replica) Snapshot() ([]byte, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.m.Snapshot()
}

// Restore replaces the state.
func (r *Replica) Restore(b []byte) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.m.Restore(b)
}

func (r *Replica) job(id dataflow.JobID) *fsm.Job {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.m.Job(id)
}

func (r *Replica) jobs() []*fsm.Job {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.m.Jobs()
}

func (r *Replica) pipeline(p dataflow.Pipeline) *fsm.Pipeline {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.m.Pipeline(p)
}

// New returns a Manager that leads by log over the machine of replica. Jobs that
// were live resume when Resume is called.
func New(opts Options, replica *Replica, log Log, down control.Link) (*Manager, error) {
	if opts.Store == nil || replica == nil || log == nil || down == nil {
		return nil, errors.New("jobmanager: Store, replica, log and down link are required")
	}
	opts.Slots = cmp.Or(opts.Slots, 6)
	opts.Lease = cmp.Or(opts.Lease, 8*time.Second)
	opts.KeepJobs = max(0, cmp.Or(opts.KeepJobs, 50)) // to the log, 0 is all
	if opts.Clock == nil {
		opts.Clock = clock.Wall()
	}
	if opts.Log == nil {
		opts.Log = slog.New(slog.DiscardHandler)
	}
	now := uint64(opts.Clock.Now().UnixNano())
	m := &Manager{opts: opts, jitter: jitter{r: rand.New(rand.NewPCG(now, log.Term()))}, term: dataflow.Term(log.Term()), machine: replica, log: log, down: down}
	m.ctx, m.cancel = context.WithCancel(context.Background())
	m.mu.drivers = map[dataflow.JobID]*driver{}
	return m, nil
}

// jitter spreads pauses.
type jitter struct {
	mu sync.Mutex
	r  *rand.Rand // guarded by mu
}

func (j *jitter) next() float64 {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.r.Float64()
}

// mark returns what no other submission is called.
func (j *jitter) mark() uint64 {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.r.Uint64()
}

// objects is how checkpoints are read and written.
func (m *Manager) objects() checkpoint.Objects {
	return checkpoint.Objects{Store: m.opts.Store, Clock: m.opts.Clock, Jitter: m.jitter.next}
}

// Send takes a message from a task manager.
func (m *Manager) Send(msg control.Message) {
	to := msg.(interface{ Target() control.To }).Target()
	m.mu.Lock()
	d := m.mu.drivers[to.Job]
	m.mu.Unlock()
	if d != nil {
		d.inbox.Put(msg)
	}
}

// Resume takes the office, so that former leaders can decide nothing more, and starts
// a driver for every job that is not over. It waits until the log takes entries.
func (m *Manager) Resume() {
	if r := m.append(m.ctx, fsm.Command{Lead: &fsm.Lead{}}); r.Err != nil {
		if m.ctx.Err() == nil {
			m.opts.Log.Error("this job manager does not lead", "term", m.term, "err", r.Err)
		}
		return
	}
	for _, j := range m.machine.jobs() {
		if !j.Phase.Terminal() {
			m.start(j)
		}
	}
}

func (m *Manager) start(j *fsm.Job) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.mu.closed || m.mu.drivers[j.ID] != nil {
		return
	}
	d := newDriver(m, j)
	m.mu.drivers[j.ID] = d
	m.wg.Go(func() {
		d.run()
		m.mu.Lock()
		delete(m.mu.drivers, j.ID)
		m.mu.Unlock()
	})
}

// append applies a command, trying again while the log is without a leader.
func (m *Manager) append(ctx context.Context, c fsm.Command) fsm.Result {
	c.At, c.Term = m.opts.Clock.Now().UnixMicro(), m.term
	entry, err := json.Marshal(c)
	if err != nil {
		return fsm.Result{Err: fmt.Errorf("jobmanager: command: %w", err)}
	}
	for {
		ans, err := m.log.Append(entry)
		if err == nil {
			return ans.(fsm.Result)
		}
		if serr := clock.Sleep(ctx, m.opts.Clock, 100*time.Millisecond); serr != nil {
			return fsm.Result{Err: errors.Join(serr, err)}
		}
	}
}

// A Submission asks for a new job.
type Submission struct {
	Pipeline    dataflow.Pipeline
	Pack        string
	PackHash    string
	Params      map[string]string
	Graph       dataflow.Graph
	Parallelism int // default of operators; 1
	KeyGroups   int // 0: the pipeline's, else 128
	Options     fsm.Options
	Restore     string // object key of a manifest, or "" for the pipeline's newest
	SkipState   bool   // operators that are gone may lose their state
	LoseOutput  bool   // of Restore: prepared output that nobody is known to have committed may be lost
	// CheckStates refuses states that the job's types cannot read; nil: they are
	// checked when the job is deployed.
	CheckStates func(old []dataflow.StateInfo) error
}

// Submit records a job and starts it. What can be refused is refused before.
func (m *Manager) Submit(ctx context.Context, s Submission) (dataflow.JobID, error) {
	if s.KeyGroups == 0 {
		if p := m.machine.pipeline(s.Pipeline); p != nil {
			s.KeyGroups = p.KeyGroups
		}
	}
	plan, err := dataflow.MakePlan(s.Graph, cmp.Or(s.Parallelism, 1), s.KeyGroups)
	if err != nil {
		return "", err
	}
	if err := s.Options.Checkpoint.Validate(); err != nil {
		return "", err
	}
	if err := m.fits(&plan); err != nil {
		return "", err
	}
	j := fsm.Job{Pipeline: s.Pipeline, Pack: s.Pack, PackHash: s.PackHash, Params: s.Params, Graph: s.Graph, Plan: plan, Options: s.Options, SkipState: s.SkipState,
		Request: fmt.Sprintf("%d-%016x", m.term, m.jitter.mark())}
	var states []dataflow.StateInfo
	from, ref, err := m.restorePoint(ctx, s)
	if err != nil {
		return "", err
	}
	if from != nil {
		if err := checkRestore(from, &plan, s.SkipState); err != nil {
			return "", err
		}
		if s.Restore != "" && !s.LoseOutput {
			if err := m.checkOutput(ctx, from, *ref); err != nil {
				return "", err
			}
		}
		if s.CheckStates != nil {
			if err := s.CheckStates(from.States); err != nil {
				return "", err
			}
		}
		if s.Restore != "" {
			j.Restore, states = ref, from.States
		}
	}
	r := m.append(ctx, fsm.Command{Submit: &fsm.Submit{Job: j, States: states}})
	if r.Err != nil {
		return "", r.Err
	}
	m.start(m.machine.job(r.Job))
	return r.Job, nil
}

// restorePoint returns the manifest that a submission would start from, if any.
func (m *Manager) restorePoint(ctx context.Context, s Submission) (*checkpoint.Manifest, *checkpoint.Ref, error) {
	if s.Restore != "" {
		man, ref, err := m.objects().LoadPath(ctx, s.Restore)
		if err != nil {
			return nil, nil, err
		}
		if man.Pipeline != s.Pipeline && ref.Kind != checkpoint.Savepoint && ref.Kind != checkpoint.Suspend {
			return nil, nil, fmt.Errorf("epoch %d is a %s of pipeline %q, whose retention may delete it at any time: take a savepoint there and restore that", ref.Epoch, ref.Kind, man.Pipeline)
		}
		return man, &ref, nil
	}
	rec, err := m.machine.pipeline(s.Pipeline).Start()
	if rec == nil || err != nil {
		return nil, nil, err
	}
	ref := rec.Ref
	man, err := m.objects().Load(ctx, ref)
	return man, &ref, err
}

// recorded returns what this cluster's log says of an epoch.
func (m *Manager) recorded(p dataflow.Pipeline, e dataflow.Epoch) (checkpoint.Ref, bool) {
	if rec := m.machine.pipeline(p).Record(e); rec != nil {
		return rec.Ref, true
	}
	return checkpoint.Ref{}, false
}

// checkOutput refuses an epoch of a cluster that is gone if that may have ended
// between completing the epoch and committing its output: nobody would commit it
// any more. What this cluster's log knows is committed by it.
func (m *Manager) checkOutput(ctx context.Context, man *checkpoint.Manifest, ref checkpoint.Ref) error {
	if have, ok := m.recorded(man.Pipeline, man.Epoch); ok && have == ref || man.Kind == checkpoint.Adopted {
		return nil
	}
	var sinks []string
	for _, op := range man.Plan.Graph.Operators {
		if op.Kind == dataflow.KindSink && op.Connector != nil {
			sinks = append(sinks, strconv.Quote(string(op.Name)))
		}
	}
	if len(sinks) == 0 {
		return nil
	}
	finished, err := m.objects().Finished(ctx, man.Pipeline, ref)
	if err != nil || finished {
		return err
	}
	return fmt.Errorf("nothing beside %s says that the output of epoch %d in %s was committed: the cluster that took it may have ended before, and nobody else commits it; restore an older one, or compare the sinks and say --allow-lost-output", ref.Key, man.Epoch, strings.Join(sinks, ", "))
}

// checkRestore refuses a plan that cannot take over the state of man.
func checkRestore(man *checkpoint.Manifest, plan *dataflow.Plan, skip bool) error {
	if man.Plan.KeyGroups != plan.KeyGroups {
		return fmt.Errorf("epoch %d has %d key groups, the job %d: max-parallelism is fixed for a pipeline", man.Epoch, man.Plan.KeyGroups, plan.KeyGroups)
	}
	if removed := checkpoint.Match(man, &plan.Graph); len(removed) > 0 && !skip {
		return &checkpoint.RemovedError{Epoch: man.Epoch, Operators: removed}
	}
	return nil
}

// fits refuses a plan that needs more slots than there are.
func (m *Manager) fits(p *dataflow.Plan) error {
	if n := slotsOf(p); n > m.opts.Slots {
		return fmt.Errorf("the job needs %d slots, the cluster has %d: lower the parallelism or add task managers", n, m.opts.Slots)
	}
	return nil
}

// slotsOf returns how many slots a plan takes: one per subtask of its widest
// chain, summed over slot groups.
func slotsOf(p *dataflow.Plan) (n int) {
	widest := map[string]int{}
	for _, c := range p.Chains {
		widest[c.SlotGroup] = max(widest[c.SlotGroup], c.Parallelism)
	}
	for _, w := range widest {
		n += w
	}
	return n
}

// ErrNoJob reports a job that is not there, or is over.
var ErrNoJob = errors.New("jobmanager: no such live job: weir list shows them")

func (m *Manager) driver(id dataflow.JobID) (*driver, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if d := m.mu.drivers[id]; d != nil {
		return d, nil
	}
	return nil, fmt.Errorf("job %q: %w", id, ErrNoJob)
}

// Cancel stops a job at once. Its own checkpoints are dropped unless it retains them;
// those of earlier jobs of its pipeline, which it may have resumed, stay.
func (m *Manager) Cancel(ctx context.Context, id dataflow.JobID) error {
	_, err := m.ask(ctx, id, func(reply chan answer) any { return askCancel{reply} })
	return err
}

// Stop ends a job with a savepoint and returns where it lies. With drain its
// sources end first, all windows and timers fire, and the job finishes.
func (m *Manager) Stop(ctx context.Context, id dataflow.JobID, drain bool) (checkpoint.Ref, error) {
	return m.ask(ctx, id, func(reply chan answer) any { return askStop{drain: drain, reply: reply} })
}

// Rescale gives a running job another default parallelism: it stops at a checkpoint
// and goes on from there. Operators whose parallelism the job fixes keep it.
func (m *Manager) Rescale(ctx context.Context, id dataflow.JobID, parallelism int) (checkpoint.Ref, error) {
	return m.ask(ctx, id, func(reply chan answer) any { return askRescale{parallelism: parallelism, reply: reply} })
}

// Checkpoint takes a checkpoint now, or a savepoint that retention never touches.
func (m *Manager) Checkpoint(ctx context.Context, id dataflow.JobID, savepoint bool) (checkpoint.Ref, error) {
	kind := checkpoint.OnDemand
	if savepoint {
		kind = checkpoint.Savepoint
	}
	return m.ask(ctx, id, func(reply chan answer) any { return askEpoch{kind: kind, reply: reply} })
}

// Dispose deletes a savepoint of a pipeline, or what a shutdown left of it.
func (m *Manager) Dispose(ctx context.Context, p dataflow.Pipeline, e dataflow.Epoch) error {
	pl := m.machine.pipeline(p)
	if pl == nil {
		return fmt.Errorf("there is no pipeline %q", p)
	}
	for _, rec := range pl.Epochs {
		if rec.Epoch != e {
			continue
		}
		if rec.Kind != checkpoint.Savepoint && rec.Kind != checkpoint.Suspend {
			return fmt.Errorf("epoch %d of pipeline %q is a %s, not a savepoint: retention takes care of it", e, p, rec.Kind)
		}
		return m.append(ctx, fsm.Command{Drop: &fsm.DropEpochs{Pipeline: p, Epochs: []dataflow.Epoch{e}}}).Err
	}
	return fmt.Errorf("pipeline %q has no savepoint %d", p, e)
}

type answer struct {
	ref checkpoint.Ref
	err error
}

func (m *Manager) ask(ctx context.Context, id dataflow.JobID, make1 func(chan answer) any) (checkpoint.Ref, error) {
	d, err := m.driver(id)
	if err != nil {
		return checkpoint.Ref{}, err
	}
	reply := make(chan answer, 1)
	d.inbox.Put(make1(reply))
	select {
	case a := <-reply:
		return a.ref, a.err
	case <-d.done:
		select {
		case a := <-reply:
			return a.ref, a.err
		default:
			if !d.over {
				return checkpoint.Ref{}, fmt.Errorf("job %s: its job manager is stopping: ask again when one leads", id)
			}
			return checkpoint.Ref{}, fmt.Errorf("job %q ended before it answered: %w", id, ErrNoJob)
		}
	case <-ctx.Done():
		return checkpoint.Ref{}, ctx.Err()
	}
}

// Suspend ends every job with a checkpoint of its own kind where it can be taken, without
// ending it for the user: it resumes there with the next Manager. It is the orderly
// shutdown. Retention takes care of that checkpoint once the job has newer ones.
func (m *Manager) Suspend(ctx context.Context) error {
	m.mu.Lock()
	var ids []dataflow.JobID
	for id := range m.mu.drivers {
		ids = append(ids, id)
	}
	m.mu.Unlock()
	errs := make([]error, len(ids))
	var wg sync.WaitGroup
	for i, id := range ids {
		wg.Go(func() {
			_, errs[i] = m.ask(ctx, id, func(reply chan answer) any { return askStop{suspend: true, reply: reply} })
			if errors.Is(errs[i], ErrNoJob) {
				errs[i] = nil
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// Close stops the drivers without touching their jobs: a later Manager resumes
// them from their last complete epoch.
func (m *Manager) Close() {
	m.cancel()
	m.mu.Lock()
	m.mu.closed = true
	for _, d := range m.mu.drivers {
		d.cancel()
	}
	m.mu.Unlock()
	m.wg.Wait()
}
