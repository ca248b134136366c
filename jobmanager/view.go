package jobmanager

import (
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/weirstream/weir/checkpoint"
	"github.com/weirstream/weir/dataflow"
	"github.com/weirstream/weir/internal/control"
	"github.com/weirstream/weir/jobmanager/fsm"
)

// A view is what people may see of a running job. The driver writes it, anyone
// reads it.
type view struct {
	mu      sync.Mutex
	rep     control.Report
	before  control.Report // the one before, for rates
	stats   []checkpoint.Stat
	results map[dataflow.OperatorID]string
	trouble string
	copies  string // progress of adopting
	held    histogram
	swept   time.Time // driver only
}

func (v *view) reset() {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.rep, v.before, v.trouble = control.Report{}, control.Report{}, ""
}

func (v *view) report(r control.Report) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.before, v.rep = v.rep, r
}

func (v *view) copying(text string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.copies = text
}

func (v *view) committed(c control.Committed) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.results == nil {
		v.results = map[dataflow.OperatorID]string{}
	}
	v.results[c.Sink] = c.Result
}

func (v *view) checkpoints(c *checkpoint.Coordinator, now time.Time) {
	s, trouble := c.Stats(), c.Trouble(now)
	v.mu.Lock()
	defer v.mu.Unlock()
	v.stats, v.trouble = s, trouble
}

// Info is a job as users see it.
type Info struct {
	ID          dataflow.JobID                 `json:"id"`
	Pipeline    dataflow.Pipeline              `json:"pipeline"`
	Phase       fsm.Phase                      `json:"phase"`
	Reason      string                         `json:"reason,omitempty"`   // of the last failure, or why it is over
	Trouble     string                         `json:"trouble,omitempty"`  // what goes wrong now, though the job runs
	Progress    string                         `json:"progress,omitempty"` // of what the job waits for before it runs
	Attempt     dataflow.Attempt               `json:"attempt"`
	Restarts    int                            `json:"restarts"`
	Submitted   time.Time                      `json:"submitted"`
	Changed     time.Time                      `json:"changed"`
	Plan        dataflow.Plan                  `json:"plan"`
	Params      map[string]string              `json:"params,omitempty"`
	After       dataflow.Epoch                 `json:"after,omitempty"`  // later epochs are the job's own, others of earlier jobs of its pipeline
	Epochs      []fsm.EpochRecord              `json:"epochs,omitempty"` // complete and kept
	Checkpoints []checkpoint.Stat              `json:"checkpoints,omitempty"`
	Sinks       map[dataflow.OperatorID]string `json:"sinks,omitempty"` // newest commit of each
	Held        Histogram                      `json:"held"`            // times that epochs kept subtasks from their rows
	Operators   []OperatorInfo                 `json:"operators,omitempty"`
	Edges       []EdgeInfo                     `json:"edges,omitempty"`
	Watermark   int64                          `json:"watermark,omitempty"` // least of all sinks, microseconds
}

// OperatorInfo sums the subtasks of one operator.
type OperatorInfo struct {
	Operator  dataflow.OperatorID `json:"operator"`
	In        int64               `json:"rows_in"`
	Out       int64               `json:"rows_out"`
	InRate    float64             `json:"rows_in_per_second"`
	OutRate   float64             `json:"rows_out_per_second"`
	Watermark int64               `json:"watermark"`
	Lag       int64               `json:"lag"`
	State     int64               `json:"state_bytes"`
	Busy      float64             `json:"busy"`          // of the busiest subtask
	Held      float64             `json:"backpressured"` // of the most held subtask
	Counts    map[string]int64    `json:"counts,omitempty"`
}

// EdgeInfo sums the channels of one plan edge.
type EdgeInfo struct {
	From dataflow.OperatorID `json:"from"`
	To   dataflow.OperatorID `json:"to"`
	Rows int64               `json:"rows"`
	Rate float64             `json:"rows_per_second"`
	Held float64             `json:"backpressured"`
}

// Jobs returns every job, oldest first.
func (m *Manager) Jobs() []Info {
	var out []Info
	for _, j := range m.machine.jobs() {
		out = append(out, m.info(j))
	}
	return out
}

// Packs returns the checksums of the packs that jobs name, also jobs that are over.
func (m *Manager) Packs() map[string]bool {
	out := map[string]bool{}
	for _, j := range m.machine.jobs() {
		out[j.PackHash] = true
	}
	return out
}

// Job returns one job by id, or the newest of a pipeline of that name.
func (m *Manager) Job(id string) (Info, error) {
	if j := m.machine.job(dataflow.JobID(id)); j != nil {
		return m.info(j), nil
	}
	for _, j := range slices.Backward(m.machine.jobs()) {
		if string(j.Pipeline) == id {
			return m.info(j), nil
		}
	}
	return Info{}, fmt.Errorf("there is no job or pipeline %q: weir list shows them", id)
}

func (m *Manager) info(j *fsm.Job) Info {
	i := Info{ID: j.ID, Pipeline: j.Pipeline, Phase: j.Phase, Reason: j.Reason, Attempt: j.Attempt, Restarts: j.Restarts,
		Submitted: time.UnixMicro(j.Submitted).UTC(), Changed: time.UnixMicro(j.Changed).UTC(), Plan: j.Plan, Params: j.Params, After: j.After}
	if p := m.machine.pipeline(j.Pipeline); p != nil {
		i.Epochs = p.Epochs
	}
	m.mu.Lock()
	d := m.mu.drivers[j.ID]
	m.mu.Unlock()
	if d == nil {
		return i
	}
	v := &d.view
	v.mu.Lock()
	defer v.mu.Unlock()
	i.Trouble, i.Progress, i.Held = v.trouble, v.copies, v.held.snapshot()
	i.Checkpoints, i.Sinks = slices.Clone(v.stats), maps.Clone(v.results)
	i.Operators, i.Watermark = sumOperators(&j.Plan, v.rep, v.before)
	i.Edges = sumEdges(&j.Plan, v.rep, v.before)
	return i
}

func sumOperators(plan *dataflow.Plan, now, before control.Report) ([]OperatorInfo, int64) {
	sum := map[dataflow.OperatorID]*OperatorInfo{}
	for _, r := range now.Operators {
		o := sum[r.Operator]
		if o == nil {
			o = &OperatorInfo{Operator: r.Operator, Watermark: dataflow.MaxTime, Counts: map[string]int64{}}
			sum[r.Operator] = o
		}
		o.In, o.Out, o.State = o.In+r.In, o.Out+r.Out, o.State+r.State
		o.Lag += max(r.Lag, 0)
		o.Watermark = min(o.Watermark, r.Watermark)
		o.Busy, o.Held = max(o.Busy, r.Busy), max(o.Held, r.Held)
		for k, n := range r.Counts {
			o.Counts[k] += n
		}
	}
	if dt := now.At.Sub(before.At).Seconds(); !before.At.IsZero() && dt > 0 {
		for _, r := range before.Operators {
			if o := sum[r.Operator]; o != nil {
				o.InRate -= float64(r.In)
				o.OutRate -= float64(r.Out)
			}
		}
		for _, o := range sum {
			o.InRate, o.OutRate = max(0, (o.InRate+float64(o.In))/dt), max(0, (o.OutRate+float64(o.Out))/dt)
		}
	}
	var out []OperatorInfo
	low := dataflow.MaxTime
	for _, op := range plan.Graph.Operators {
		if o := sum[op.Name]; o != nil {
			out = append(out, *o)
			if op.Kind == dataflow.KindSink {
				low = min(low, o.Watermark)
			}
		}
	}
	return out, low
}

func sumEdges(plan *dataflow.Plan, now, before control.Report) []EdgeInfo {
	out := make([]EdgeInfo, len(plan.Edges))
	for i, e := range plan.Edges {
		g := plan.Graph.Edges[e.Edge]
		out[i].From, out[i].To = g.From, g.To
	}
	for _, r := range now.Edges {
		if r.Edge < len(out) {
			out[r.Edge].Rows += r.Rows
			out[r.Edge].Held = max(out[r.Edge].Held, r.Held)
		}
	}
	if dt := now.At.Sub(before.At).Seconds(); !before.At.IsZero() && dt > 0 {
		for i := range out {
			out[i].Rate = float64(out[i].Rows) / dt
		}
		for _, r := range before.Edges {
			if r.Edge < len(out) {
				out[r.Edge].Rate -= float64(r.Rows) / dt
			}
		}
	}
	return out
}
