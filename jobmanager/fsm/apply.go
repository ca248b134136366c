package fsm

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/weirstream/weir/checkpoint"
	"github.com/weirstream/weir/dataflow"
)

// ErrStale reports a command of an attempt or term that is over. Its sender must
// stop what it was doing.
var ErrStale = errors.New("fsm: attempt or term is over")

// A Command is one entry of the log. Exactly one field besides At and Term is set.
type Command struct {
	At int64 `json:"at_us"` // the proposer's clock, for records only
	// Term is the term in which the proposer was elected, not that of the entry: a
	// leader that lost its office and won it again must not go on where it was. An
	// entry of a term before the newest that was applied is refused.
	Term     dataflow.Term  `json:"term,omitempty"`
	Lead     *Lead          `json:"lead,omitempty"`
	Submit   *Submit        `json:"submit,omitempty"`
	Phase    *SetPhase      `json:"phase,omitempty"`
	Attempt  *NewAttempt    `json:"attempt,omitempty"`
	Open     *OpenEpoch     `json:"open,omitempty"`
	Complete *CompleteEpoch `json:"complete,omitempty"`
	Finish   *FinishEpoch   `json:"finish,omitempty"`
	Schemas  *SetSchemas    `json:"schemas,omitempty"`
	Drop     *DropEpochs    `json:"drop,omitempty"`
	Forget   *ForgetEpochs  `json:"forget,omitempty"`
	Rescale  *Rescale       `json:"rescale,omitempty"`
	Adopt    *Adopt         `json:"adopt,omitempty"`
	Drain    *Drain         `json:"drain,omitempty"`
}

// The commands.
type (
	// Lead is a new leader's first word: what leaders before it propose is refused
	// from here on.
	Lead struct{}
	// Submit adds a job; the answer is its id.
	Submit struct {
		Job Job `json:"job"` // ID, Phase, Attempt are ignored
		// States are those of the manifest that the job starts from, if that is given
		// by its path: their numbers hold for its rows.
		States []dataflow.StateInfo `json:"states,omitempty"`
	}
	// SetPhase moves a job. Attempt 0 matches any.
	SetPhase struct {
		Job     dataflow.JobID   `json:"job"`
		Attempt dataflow.Attempt `json:"attempt,omitempty"`
		Phase   Phase            `json:"phase"`
		Reason  string           `json:"reason,omitempty"`
		// Keep is how many jobs that are over are remembered when this one is; 0: all.
		Keep int `json:"keep_jobs,omitempty"`
	}
	// NewAttempt starts an attempt; the answer is its number.
	NewAttempt struct {
		Job     dataflow.JobID `json:"job"`
		Restart bool           `json:"restart,omitempty"` // counts as one
	}
	// OpenEpoch hands out the next epoch; the answer is its number.
	OpenEpoch struct {
		Job     dataflow.JobID   `json:"job"`
		Attempt dataflow.Attempt `json:"attempt"`
	}
	// CompleteEpoch makes an epoch complete, if it is of the newest term and attempt.
	// It may be applied again.
	CompleteEpoch struct {
		Job     dataflow.JobID   `json:"job"`
		Attempt dataflow.Attempt `json:"attempt"`
		Ref     checkpoint.Ref   `json:"ref"`
		Bytes   int64            `json:"data_bytes"`
	}
	// FinishEpoch records that all output of an epoch is committed.
	FinishEpoch struct {
		Pipeline dataflow.Pipeline `json:"pipeline"`
		Epoch    dataflow.Epoch    `json:"epoch"`
	}
	// SetSchemas records the state schemas that an attempt compiled.
	SetSchemas struct {
		Job     dataflow.JobID       `json:"job"`
		Attempt dataflow.Attempt     `json:"attempt"`
		States  []dataflow.StateInfo `json:"states"`
	}
	// DropEpochs gives completed epochs up; a sweep may delete their objects.
	DropEpochs struct {
		Pipeline dataflow.Pipeline `json:"pipeline"`
		Epochs   []dataflow.Epoch  `json:"epochs"`
		All      bool              `json:"all,omitempty"` // the job is being cancelled: even what a restart would need
	}
	// ForgetEpochs says that nothing of these given-up epochs is left.
	ForgetEpochs struct {
		Pipeline dataflow.Pipeline `json:"pipeline"`
		Epochs   []dataflow.Epoch  `json:"epochs"`
	}
	// Rescale replaces the plan of a job that has no running attempt.
	Rescale struct {
		Job  dataflow.JobID `json:"job"`
		Plan dataflow.Plan  `json:"plan"`
	}
	// Adopt says that the checkpoint a job starts from, which another owns, is copied.
	Adopt struct {
		Job   dataflow.JobID `json:"job"`
		Ref   checkpoint.Ref `json:"ref"` // the copy, of epoch Job.Adopt
		Bytes int64          `json:"data_bytes"`
	}
	// Drain says that a job's sources are to end, in this and every later attempt.
	Drain struct {
		Job dataflow.JobID `json:"job"`
	}
)

// Result is the answer to a command.
type Result struct {
	Job     dataflow.JobID
	Attempt dataflow.Attempt
	Epoch   dataflow.Epoch
	Err     error
}

// ApplyBytes decodes and applies one entry.
func (m *Machine) ApplyBytes(b []byte) Result {
	var c Command
	if err := json.Unmarshal(b, &c); err != nil {
		return Result{Err: fmt.Errorf("fsm: entry is damaged: %w", err)}
	}
	return m.Apply(c)
}

// Apply changes the state by one command. A refused command changes nothing.
func (m *Machine) Apply(c Command) Result {
	if c.Term != 0 && c.Term < m.s.Term {
		return Result{Err: fmt.Errorf("a job manager of term %d leads, this is of term %d: %w", m.s.Term, c.Term, ErrStale)}
	}
	r := m.apply(c)
	if r.Err == nil {
		m.s.Term = max(m.s.Term, c.Term)
	}
	return r
}

func (m *Machine) apply(c Command) Result {
	switch {
	case c.Lead != nil:
		return Result{}
	case c.Submit != nil:
		return m.submit(c.At, c.Submit)
	case c.Phase != nil:
		return m.phase(c.At, c.Phase)
	case c.Attempt != nil:
		return m.attempt(c.At, c.Attempt)
	case c.Open != nil:
		return m.open(c.Open)
	case c.Complete != nil:
		return m.complete(c.At, c.Term, c.Complete)
	case c.Finish != nil:
		return m.finish(c.Finish)
	case c.Schemas != nil:
		return m.schemas(c.Schemas)
	case c.Drop != nil:
		return m.drop(c.Drop)
	case c.Forget != nil:
		return m.forget(c.Forget)
	case c.Rescale != nil:
		return m.rescale(c.Rescale)
	case c.Drain != nil:
		return m.drain(c.Drain)
	case c.Adopt != nil:
		return m.adopt(c.At, c.Term, c.Adopt)
	}
	return Result{Err: errors.New("fsm: entry of an unknown kind: this weir is older than the leader")}
}

func (m *Machine) submit(at int64, c *Submit) Result {
	j := c.Job
	p := m.s.Pipelines[j.Pipeline]
	if p == nil {
		p = &Pipeline{Name: j.Pipeline, KeyGroups: j.Plan.KeyGroups, NextState: 1}
	}
	if live := m.s.Jobs[p.Job]; live != nil && !live.Phase.Terminal() {
		if j.Request != "" && j.Request == live.Request {
			return Result{Job: live.ID} // doubled
		}
		return Result{Err: fmt.Errorf("pipeline %q already runs as job %s: cancel it, or submit under another --name", j.Pipeline, live.ID)}
	}
	if p.KeyGroups != j.Plan.KeyGroups {
		return Result{Err: fmt.Errorf("pipeline %q has %d key groups, the job asks for %d: max-parallelism is fixed for a pipeline; take another --name", j.Pipeline, p.KeyGroups, j.Plan.KeyGroups)}
	}
	if i := slices.IndexFunc(p.Epochs, func(e EpochRecord) bool { return e.Abandoned && j.Restore != nil && e.Ref == *j.Restore }); i >= 0 {
		return Result{Err: fmt.Errorf("savepoint %d of pipeline %q was left behind before its output was committed, and a later job went on from another checkpoint: restore it under a new --name, with tables of its own", p.Epochs[i].Epoch, p.Name)}
	}
	if q := m.givenUp(j.Restore); q != nil {
		return Result{Err: fmt.Errorf("epoch %d of pipeline %q was given up meanwhile, its objects may be gone: restore another one", j.Restore.Epoch, q.Name)}
	}
	if err := adoptStates(p, c.States); err != nil {
		return Result{Err: err}
	}
	m.s.NextJob++
	j.ID = dataflow.JobID(fmt.Sprintf("job-%06d", m.s.NextJob))
	j.Phase, j.Attempt, j.Restarts, j.Submitted, j.Changed = Created, 0, 0, at, at
	j.Adopt = 0
	foreign := j.Restore != nil && !slices.ContainsFunc(p.Epochs, func(e EpochRecord) bool { return e.Ref == *j.Restore })
	if foreign && j.Restore.Epoch > p.Epoch {
		p.Foreign = append(p.Foreign, Epochs{p.Epoch + 1, j.Restore.Epoch})
		p.Epoch = j.Restore.Epoch // never use a number again, whatever is restored
	}
	j.After = p.Epoch
	if foreign {
		p.Epoch++
		j.Adopt = p.Epoch
	}
	p.Job = j.ID
	numberStates(p, &j.Plan.Graph)
	m.s.Pipelines[p.Name] = p
	m.s.Jobs[j.ID] = &j
	return Result{Job: j.ID}
}

// givenUp returns the pipeline that gave up what ref names, nil if none did.
func (m *Machine) givenUp(ref *checkpoint.Ref) *Pipeline {
	if ref == nil {
		return nil
	}
	for _, name := range slices.Sorted(maps.Keys(m.s.Pipelines)) {
		p := m.s.Pipelines[name]
		if _, found := slices.BinarySearch(p.Orphans, ref.Epoch); found && ref.Key == checkpoint.ManifestKey(name, ref.Epoch) {
			return p
		}
	}
	return nil
}

// adoptStates takes over the numbers and schemas that the rows of a manifest were
// written with. A pipeline that numbers the same states otherwise cannot read them.
func adoptStates(p *Pipeline, states []dataflow.StateInfo) error {
	for _, st := range states {
		for _, have := range p.States {
			same := have.Operator == st.Operator && have.Name == st.Name
			if same != (have.ID == st.ID) {
				return fmt.Errorf("pipeline %q numbers its states otherwise than the savepoint does (%s/%s): restore it under a new --name", p.Name, st.Operator, st.Name)
			}
			if same && len(have.Schemas) < len(st.Schemas) {
				return fmt.Errorf("pipeline %q does not know all schemas of state %s/%s in the savepoint: restore it under a new --name", p.Name, st.Operator, st.Name)
			}
		}
	}
	for _, st := range states {
		if !slices.ContainsFunc(p.States, func(have dataflow.StateInfo) bool { return have.ID == st.ID }) {
			p.States = append(p.States, st)
			p.NextState = max(p.NextState, st.ID+1)
		}
	}
	return nil
}

// numberStates gives every state of g that is new to the pipeline a number.
func numberStates(p *Pipeline, g *dataflow.Graph) {
	for _, op := range g.Operators {
		for _, st := range op.States {
			known := slices.ContainsFunc(p.States, func(s dataflow.StateInfo) bool { return s.Operator == op.Name && s.Name == st.Name })
			if known {
				continue
			}
			st.Operator, st.ID = op.Name, p.NextState
			p.NextState++
			p.States = append(p.States, st)
		}
	}
}

func (m *Machine) phase(at int64, c *SetPhase) Result {
	j, err := m.live(c.Job, c.Attempt)
	if err != nil {
		return Result{Err: err}
	}
	j.Phase, j.Changed = c.Phase, at
	if c.Reason != "" {
		j.Reason = c.Reason
	}
	p := m.s.Pipelines[j.Pipeline]
	if c.Phase == Running {
		settle(p, j)
	}
	if c.Phase.Terminal() {
		m.s.Ends++
		j.Ended = m.s.Ends
		if p.Job == j.ID {
			p.Job = ""
		}
		m.forgetJobs(c.Keep)
	}
	return Result{Job: j.ID, Attempt: j.Attempt}
}

// forgetJobs forgets those that were over first, but for the newest keep. A pipeline stays,
// with the numbers that are never used again, unless it never had an attempt.
func (m *Machine) forgetJobs(keep int) {
	var over []*Job
	for _, id := range slices.Sorted(maps.Keys(m.s.Jobs)) {
		if j := m.s.Jobs[id]; j.Phase.Terminal() {
			over = append(over, j)
		}
	}
	if keep <= 0 || len(over) <= keep {
		return
	}
	slices.SortStableFunc(over, func(a, b *Job) int { return cmp.Compare(a.Ended, b.Ended) })
	for _, j := range over[:len(over)-keep] {
		delete(m.s.Jobs, j.ID)
		p, used := m.s.Pipelines[j.Pipeline], false
		for _, other := range m.s.Jobs {
			used = used || other.Pipeline == j.Pipeline
		}
		if p != nil && !used && p.Attempt == 0 && len(p.Epochs) == 0 {
			delete(m.s.Pipelines, p.Name)
		}
	}
}

// live returns the job if it is not over and runs that attempt (0: any).
func (m *Machine) live(id dataflow.JobID, a dataflow.Attempt) (*Job, error) {
	j := m.s.Jobs[id]
	switch {
	case j == nil:
		return nil, fmt.Errorf("there is no job %q: weir list shows them", id)
	case j.Phase.Terminal():
		return nil, fmt.Errorf("job %s is %s: %w", id, j.Phase, ErrStale)
	case a != 0 && a != j.Attempt:
		return nil, fmt.Errorf("job %s runs attempt %d, not %d: %w", id, j.Attempt, a, ErrStale)
	}
	return j, nil
}

func (m *Machine) attempt(at int64, c *NewAttempt) Result {
	j, err := m.live(c.Job, 0)
	if err != nil {
		return Result{Err: err}
	}
	p := m.s.Pipelines[j.Pipeline]
	p.Attempt++
	j.Attempt, j.Phase, j.Changed = p.Attempt, Initializing, at
	if c.Restart {
		j.Restarts++
	}
	return Result{Job: j.ID, Attempt: j.Attempt}
}

func (m *Machine) open(c *OpenEpoch) Result {
	j, err := m.live(c.Job, c.Attempt)
	if err != nil {
		return Result{Err: err}
	}
	p := m.s.Pipelines[j.Pipeline]
	p.Epoch++
	return Result{Job: j.ID, Attempt: j.Attempt, Epoch: p.Epoch}
}

func (m *Machine) complete(at int64, term dataflow.Term, c *CompleteEpoch) Result {
	if term == 0 {
		return Result{Err: fmt.Errorf("the entry that completes epoch %d names no term", c.Ref.Epoch)}
	}
	j, err := m.live(c.Job, c.Attempt)
	if err != nil {
		return Result{Err: err}
	}
	p := m.s.Pipelines[j.Pipeline]
	if last := p.Latest(); last != nil && last.Epoch >= c.Ref.Epoch {
		if i := slices.IndexFunc(p.Epochs, func(e EpochRecord) bool { return e.Ref == c.Ref }); i >= 0 {
			return Result{Job: j.ID, Epoch: c.Ref.Epoch}
		}
		return Result{Err: fmt.Errorf("epoch %d is behind the complete epoch %d: %w", c.Ref.Epoch, last.Epoch, ErrStale)}
	}
	if c.Ref.Epoch > p.Epoch {
		return Result{Err: fmt.Errorf("epoch %d was never opened; the last is %d", c.Ref.Epoch, p.Epoch)}
	}
	settle(p, j)
	p.Epochs = append(p.Epochs, EpochRecord{Ref: c.Ref, Term: term, At: at, Bytes: c.Bytes})
	p.Completed = c.Ref.Epoch
	return Result{Job: j.ID, Epoch: c.Ref.Epoch}
}

// settle makes it final, when rows of j are to flow, that j started elsewhere: what it
// copied becomes the pipeline's, and the epochs that it left behind unfinished are given
// up, for its writers are about to fence what those had prepared. Not before: a job that
// never came so far, because a sink refused it perhaps, changed nothing, and the next one
// may resume them. Savepoints are the user's and stay, marked.
func settle(p *Pipeline, j *Job) {
	if p.Completed > j.After {
		return // it has checkpoints of its own
	}
	var gone []dataflow.Epoch
	for i := range p.Epochs {
		rec := &p.Epochs[i]
		switch {
		case rec.Finished || !j.Abandons(rec.Epoch):
		case rec.Kind == checkpoint.Savepoint:
			rec.Abandoned = true
		default:
			gone = append(gone, rec.Epoch)
		}
	}
	p.giveUp(gone)
	if j.Copy != nil {
		p.Epochs, p.Completed, j.Copy = append(p.Epochs, *j.Copy), j.Copy.Epoch, nil
	}
}

// giveUp forgets completed epochs; a sweep may delete their objects.
func (p *Pipeline) giveUp(gone []dataflow.Epoch) {
	p.Epochs = slices.DeleteFunc(p.Epochs, func(e EpochRecord) bool { return slices.Contains(gone, e.Epoch) })
	for _, e := range gone {
		if i, found := slices.BinarySearch(p.Orphans, e); !found && e <= p.Epoch {
			p.Orphans = slices.Insert(p.Orphans, i, e)
		}
	}
}

func (m *Machine) pipeline(name dataflow.Pipeline) (*Pipeline, error) {
	if p := m.s.Pipelines[name]; p != nil {
		return p, nil
	}
	return nil, fmt.Errorf("there is no pipeline %q", name)
}

func (m *Machine) finish(c *FinishEpoch) Result {
	p, err := m.pipeline(c.Pipeline)
	if err != nil {
		return Result{Err: err}
	}
	for i := range p.Epochs {
		if p.Epochs[i].Epoch == c.Epoch {
			p.Epochs[i].Finished = true
			return Result{Epoch: c.Epoch}
		}
	}
	return Result{Err: fmt.Errorf("pipeline %q has no complete epoch %d", c.Pipeline, c.Epoch)}
}

func (m *Machine) schemas(c *SetSchemas) Result {
	j, err := m.live(c.Job, c.Attempt)
	if err != nil {
		return Result{Err: err}
	}
	p := m.s.Pipelines[j.Pipeline]
	for _, st := range c.States {
		i := slices.IndexFunc(p.States, func(s dataflow.StateInfo) bool { return s.Operator == st.Operator && s.Name == st.Name })
		if i < 0 || p.States[i].ID != st.ID {
			return Result{Err: fmt.Errorf("job %s compiled a state %s/%s with number %d that its pipeline does not have", j.ID, st.Operator, st.Name, st.ID)}
		}
		if len(st.Schemas) >= len(p.States[i].Schemas) {
			p.States[i].Key, p.States[i].Schemas = st.Key, st.Schemas
		}
	}
	return Result{Job: j.ID}
}

func (m *Machine) drop(c *DropEpochs) Result {
	p, err := m.pipeline(c.Pipeline)
	if err != nil {
		return Result{Err: err}
	}
	if err := m.wanted(p, c.Epochs); err != nil {
		return Result{Err: err}
	}
	if j := m.s.Jobs[p.Job]; j != nil && !j.Phase.Terminal() && !c.All {
		for _, rec := range p.Epochs {
			if slices.Contains(c.Epochs, rec.Epoch) && (!rec.Finished && !rec.Abandoned || rec.Epoch == p.Latest().Epoch) {
				return Result{Err: fmt.Errorf("epoch %d of pipeline %q is its newest, or not all committed: a restart needs it; dispose of it after the next checkpoint", rec.Epoch, p.Name)}
			}
		}
	}
	if err := p.before(c.Epochs); err != nil {
		return Result{Err: err}
	}
	p.giveUp(c.Epochs)
	return Result{}
}

// before refuses to give up output that is to be committed before a later epoch that is
// kept: its manifest does not repeat the handles.
func (p *Pipeline) before(gone []dataflow.Epoch) error {
	var later *EpochRecord
	for i := range slices.Backward(p.Epochs) {
		rec := &p.Epochs[i]
		switch {
		case rec.Abandoned:
		case !slices.Contains(gone, rec.Epoch):
			later = rec
		case later != nil && !rec.Finished:
			return fmt.Errorf("the output of epoch %d of pipeline %q is not all committed, and epoch %d goes on from it: run the job again, which commits it, or dispose of that one first", rec.Epoch, p.Name, later.Epoch)
		}
	}
	return nil
}

// wanted refuses to give up what a live job starts from, until it has a checkpoint of
// its own.
func (m *Machine) wanted(p *Pipeline, gone []dataflow.Epoch) error {
	for _, id := range slices.Sorted(maps.Keys(m.s.Jobs)) {
		j := m.s.Jobs[id]
		if j.Phase.Terminal() || j.Restore == nil || j.Copy != nil || m.s.Pipelines[j.Pipeline].Completed > j.After {
			continue
		}
		for _, rec := range p.Epochs {
			if rec.Ref == *j.Restore && slices.Contains(gone, rec.Epoch) {
				return fmt.Errorf("job %s of pipeline %q starts from epoch %d of pipeline %q and has no checkpoint of its own yet: wait for one, or cancel the job", j.ID, j.Pipeline, rec.Epoch, p.Name)
			}
		}
	}
	return nil
}

func (m *Machine) adopt(at int64, term dataflow.Term, c *Adopt) Result {
	j, err := m.live(c.Job, 0)
	if err != nil {
		return Result{Err: err}
	}
	p := m.s.Pipelines[j.Pipeline]
	switch {
	case j.Adopt == 0 || c.Ref.Epoch != j.Adopt:
		return Result{Err: fmt.Errorf("job %s does not wait for a copy as epoch %d", j.ID, c.Ref.Epoch)}
	case p.Completed >= j.Adopt || j.Copy != nil:
		return Result{Job: j.ID, Epoch: c.Ref.Epoch} // doubled
	}
	j.Copy = &EpochRecord{Ref: c.Ref, Term: term, Finished: true, At: at, Bytes: c.Bytes}
	return Result{Job: j.ID, Epoch: c.Ref.Epoch}
}

func (m *Machine) forget(c *ForgetEpochs) Result {
	p, err := m.pipeline(c.Pipeline)
	if err != nil {
		return Result{Err: err}
	}
	p.Orphans = slices.DeleteFunc(p.Orphans, func(e dataflow.Epoch) bool { return slices.Contains(c.Epochs, e) })
	return Result{}
}

func (m *Machine) rescale(c *Rescale) Result {
	j, err := m.live(c.Job, 0)
	if err != nil {
		return Result{Err: err}
	}
	if j.Phase == Running || j.Phase == Initializing {
		return Result{Err: fmt.Errorf("job %s is %s: it must be stopped before its plan changes", j.ID, j.Phase)}
	}
	if c.Plan.KeyGroups != j.Plan.KeyGroups {
		return Result{Err: fmt.Errorf("job %s has %d key groups, the plan %d: max-parallelism is fixed for a pipeline", j.ID, j.Plan.KeyGroups, c.Plan.KeyGroups)}
	}
	j.Plan = c.Plan
	numberStates(m.s.Pipelines[j.Pipeline], &j.Plan.Graph)
	return Result{Job: j.ID}
}

func (m *Machine) drain(c *Drain) Result {
	j, err := m.live(c.Job, 0)
	if err != nil {
		return Result{Err: err}
	}
	j.Drain = true
	return Result{Job: j.ID}
}
