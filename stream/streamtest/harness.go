package streamtest

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"strconv"
	"testing"
	"time"
	"unsafe"

	"github.com/weirstream/weir/dataflow"
	"github.com/weirstream/weir/stream"
	"github.com/weirstream/weir/stream/spi"
)

// An Option makes a Harness run the job in a harder way.
type Option func(o *options)

type options struct {
	parallelism int
	keyGroups   int
	room        int
	evict       bool
	rng         *rand.Rand // nil: no shuffle and no faults
	faults      bool
	now         time.Time
}

// Parallelism runs n subtasks of each operator that does not say how many; 1 by
// default.
func Parallelism(n int) Option { return func(o *options) { o.parallelism = n } }

// KeyGroups sets the number of key groups; 128 by default.
func KeyGroups(n int) Option { return func(o *options) { o.keyGroups = n } }

// Room lets a step send about n rows before it is suspended.
func Room(n int) Option { return func(o *options) { o.room = max(1, n) } }

// EvictAlways writes and evicts all state after every step.
func EvictAlways() Option { return func(o *options) { o.evict = true } }

// Shuffle lets inputs overtake each other as they may, from a seed; rows of one
// sender to one receiver stay in order.
func Shuffle(seed uint64) Option {
	return func(o *options) { o.rng = rand.New(rand.NewPCG(seed, 0)) }
}

// Faults checkpoints, gives up freezes and restores the last checkpoint at random
// moments, from a seed, and shuffles like Shuffle.
func Faults(seed uint64) Option {
	return func(o *options) { o.rng, o.faults = rand.New(rand.NewPCG(seed, 1)), true }
}

// StartAt sets the processing time at the start; 2026-01-01 UTC by default.
func StartAt(t time.Time) Option { return func(o *options) { o.now = t } }

const plenty = 1 << 20

func (o *options) nextRoom() int {
	switch {
	case o.room == 0:
		return plenty
	case o.rng != nil:
		return 1 + o.rng.IntN(2*o.room)
	}
	return o.room
}

// budget is how many timers an Advance may fire.
func (o *options) budget() int {
	if o.room == 0 {
		return plenty
	}
	return o.room
}

// A Harness runs one job.
type Harness struct {
	t    testing.TB
	job  spi.Job
	o    options
	plan dataflow.Plan

	nodes    map[dataflow.OperatorID]*node
	order    []*node
	channels map[dataflow.ChannelID]*channel
	inputs   []*channel // in a fixed order
	ids      map[string]dataflow.StateID

	now    int64
	log    []entry // everything the test did, for replay
	done   int     // entries applied
	taken  *snapshot
	rows   map[dataflow.OperatorID]spi.Batch
	counts map[string]int64
}

// New builds the job and starts it with its parameters. A fault of the job ends
// the test.
func New(t testing.TB, build func(*stream.Graph) error, params map[string]string, opts ...Option) *Harness {
	t.Helper()
	job, err := stream.Build(params, build)
	if err != nil {
		t.Fatalf("streamtest: %v", err)
	}
	return Run(t, job, opts...)
}

// Run starts a job that is built already.
func Run(t testing.TB, job spi.Job, opts ...Option) *Harness {
	t.Helper()
	h := &Harness{
		t: t, job: job, ids: map[string]dataflow.StateID{},
		o: options{parallelism: 1, now: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)},
	}
	for _, opt := range opts {
		opt(&h.o)
	}
	h.now = h.o.now.UnixMicro()
	h.start(&snapshot{now: h.now})
	h.taken = h.snapshot()
	return h
}

// Job returns the job under test.
func (h *Harness) Job() spi.Job { return h.job }

// Now returns the processing time.
func (h *Harness) Now() time.Time { return time.UnixMicro(h.now).UTC() }

// An entry is one thing that the test did.
type entry struct {
	source dataflow.OperatorID
	split  string
	rows   []any         // of that split
	mark   *int64        // watermark
	from   int64         // of generated rows
	n      int           // number of generated rows; 0: none are
	wait   time.Duration // processing time passing
	end    bool
}

// Push gives rows to a source, in split "0". Their event time and the watermark
// follow from the source's rule: all rows of one Push come before the watermark
// that they make.
func (h *Harness) Push(source string, rows ...any) {
	h.t.Helper()
	h.PushSplit(source, "0", rows...)
}

// PushSplit gives rows to one split of a source: each split has its own watermark,
// like a partition.
func (h *Harness) PushSplit(source, split string, rows ...any) {
	h.t.Helper()
	elem := h.sourceElem(source)
	for i, v := range rows {
		if reflect.TypeOf(v) != elem {
			h.t.Fatalf("streamtest: row %d pushed to source %q is a %T, want %v", i, source, v, elem)
		}
	}
	h.do(entry{source: dataflow.OperatorID(source), split: split, rows: slices.Clone(rows)})
}

// PushAll is Push for a slice.
func PushAll[T any](h *Harness, source string, rows []T) {
	h.t.Helper()
	boxed := make([]any, len(rows))
	for i, v := range rows {
		boxed[i] = v
	}
	h.Push(source, boxed...)
}

// Generate lets a source of kind gen make its next n rows.
func (h *Harness) Generate(source string, n int) {
	h.t.Helper()
	h.sourceElem(source)
	from := int64(0)
	for _, e := range h.log {
		if e.source == dataflow.OperatorID(source) {
			from += int64(e.n)
		}
	}
	for n > 0 {
		k := min(n, 256)
		h.do(entry{source: dataflow.OperatorID(source), split: "0", from: from, n: k})
		from, n = from+int64(k), n-k
	}
}

// Watermark moves the watermark of a source to t, whatever its rule says.
func (h *Harness) Watermark(source string, t time.Time) {
	h.t.Helper()
	h.sourceElem(source)
	at := t.UnixMicro()
	h.do(entry{source: dataflow.OperatorID(source), mark: &at})
}

// Wait moves processing time by d: sources may become idle.
func (h *Harness) Wait(d time.Duration) {
	h.t.Helper()
	h.do(entry{wait: d})
}

// End ends a source.
func (h *Harness) End(source string) {
	h.t.Helper()
	h.sourceElem(source)
	h.do(entry{source: dataflow.OperatorID(source), end: true})
}

// Drain ends every source: generators make their last row first, then all
// watermarks pass, so that every timer fires and every window closes.
func (h *Harness) Drain() {
	h.t.Helper()
	for _, n := range h.order {
		if n.op.Kind != dataflow.KindSource {
			continue
		}
		if count, err := strconv.ParseInt(n.op.Connector.Options["count"], 10, 64); err == nil && n.op.Connector.Kind == "gen" {
			for _, e := range h.log {
				if e.source == n.op.Name {
					count -= int64(e.n)
				}
			}
			h.Generate(string(n.op.Name), int(count))
		}
		h.End(string(n.op.Name))
	}
}

func (h *Harness) sourceElem(source string) reflect.Type {
	h.t.Helper()
	n := h.nodes[dataflow.OperatorID(source)]
	if n == nil || n.op.Kind != dataflow.KindSource {
		var names []string
		for _, n := range h.order {
			if n.op.Kind == dataflow.KindSource {
				names = append(names, string(n.op.Name))
			}
		}
		h.t.Fatalf("streamtest: the job has no source %q: it has %q", source, names)
	}
	return h.job.Elem(dataflow.OperatorID(source), 0)
}

// do applies one thing that the test does, with faults in between if wanted.
func (h *Harness) do(e entry) {
	h.t.Helper()
	h.log = append(h.log, e)
	h.catchUp()
	if h.o.faults {
		switch h.o.rng.IntN(6) {
		case 0, 1:
			h.Checkpoint()
		case 2:
			h.Restart()
		}
	}
}

// catchUp applies what is in the log and not yet done.
func (h *Harness) catchUp() {
	h.t.Helper()
	for h.done < len(h.log) {
		e := &h.log[h.done]
		h.done++
		h.apply(e)
		h.settle()
	}
}

// settle runs the job until nothing is left to do.
func (h *Harness) settle() {
	for {
		var ready []*channel
		for _, c := range h.inputs {
			if len(c.queue) > 0 {
				ready = append(ready, c)
				if h.o.rng == nil {
					break
				}
			}
		}
		if len(ready) == 0 {
			return
		}
		c := ready[0]
		if h.o.rng != nil {
			c = ready[h.o.rng.IntN(len(ready))]
		}
		c.to.receive(c)
	}
}

func (h *Harness) afterStep(t *task) {
	if !h.o.evict || t.runner == nil {
		return
	}
	t.flush(h.o.faults && h.o.rng.IntN(4) == 0)
	t.evict()
}

// collect keeps a copy of rows that reached a sink or left an operator.
func (h *Harness) collect(op dataflow.OperatorID, b spi.Batch) {
	all := h.rows[op]
	if all == nil {
		all = b.New(b.Len())
		h.rows[op] = all
	}
	all.Append(b, 0, b.Len())
}

// Rows returns the rows that a sink got so far, or that an operator or source sent
// on its main output.
func Rows[T any](h *Harness, name string) []T {
	h.t.Helper()
	b := h.output(name, reflect.TypeFor[T]())
	if b == nil || b.Len() == 0 {
		return nil
	}
	return slices.Clone(unsafe.Slice((*T)(b.Base()), b.Len()))
}

// Times returns the event times of what Rows returns.
func Times(h *Harness, name string) []time.Time {
	h.t.Helper()
	b := h.output(name, nil)
	if b == nil {
		return nil
	}
	var times []time.Time
	for _, t := range b.Head().Times {
		times = append(times, time.UnixMicro(t).UTC())
	}
	return times
}

func (h *Harness) output(name string, elem reflect.Type) spi.Batch {
	h.t.Helper()
	op := dataflow.OperatorID(name)
	if h.nodes[op] == nil {
		var names []string
		for _, n := range h.order {
			names = append(names, string(n.op.Name))
		}
		h.t.Fatalf("streamtest: the job has no operator %q: it has %q", name, names)
	}
	if want := h.job.Elem(op, 0); elem != nil && want != elem {
		h.t.Fatalf("streamtest: operator %q has rows of %v, not %v", name, want, elem)
	}
	return h.rows[op]
}

// Counter returns a counter metric of an operator.
func (h *Harness) Counter(op, metric string) int64 { return h.counts[op+"/"+metric] }

// State returns how many rows of state an operator holds once all is written.
func (h *Harness) State(op string) int {
	h.t.Helper()
	n := h.nodes[dataflow.OperatorID(op)]
	if n == nil {
		h.t.Fatalf("streamtest: the job has no operator %q", op)
	}
	rows := 0
	for _, t := range n.tasks {
		if t.runner != nil {
			t.flush(false)
		}
		rows += len(t.table.rows)
	}
	return rows
}

func (h *Harness) stateID(op dataflow.OperatorID, name string) dataflow.StateID {
	k := fmt.Sprintf("%s/%s", op, name)
	if h.ids[k] == 0 {
		h.ids[k] = dataflow.StateID(len(h.ids) + 1)
	}
	return h.ids[k]
}
