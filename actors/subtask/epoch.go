package subtask

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/weirstream/weir/actors/channel"
	"github.com/weirstream/weir/dataflow"
	"github.com/weirstream/weir/internal/failpoint"
	"github.com/weirstream/weir/stream/spi"
)

// epochState is what a machine knows of checkpoints.
type epochState struct {
	lastCut   dataflow.Epoch // newest epoch that was cut or declined here, or had files before
	due       dataflow.Epoch // aligned; to be cut as soon as no row waits in the chain
	triggered dataflow.Epoch // ordered, to be cut if the inputs end before its barrier comes
	completed dataflow.Epoch // newest known to be complete

	open    *cut
	handles []held
	at      map[dataflow.Epoch][]dataflow.SplitState // positions of cuts that may complete
	skipped map[dataflow.Epoch]bool                  // epochs whose files are lost to a negative control

	alignFrom int64 // when the first barrier of the newest epoch came, µs
	aligned   int64 // how long the last alignment took, µs

	seqEpoch dataflow.Epoch // of the newest file
	seq      int            // of the next file of seqEpoch

	endEpoch dataflow.Epoch // first cut that contains the end
	endBegun bool           // some operator's End was called: no cut until all are done
}

// held is a commit handle that no complete epoch is known to contain.
type held struct {
	dataflow.CommitHandle
	acked dataflow.Epoch // first ack that carried it; 0: none yet
}

// cut is an open freeze: of an epoch, or to free memory.
type cut struct {
	epoch    dataflow.Epoch
	spill    bool
	part     dataflow.Part
	ops      []int // operators with frozen rows
	frozen   []spi.Frozen
	writing  bool
	held     int64 // ns that the subtask was kept from its rows
	prepares int   // answers outstanding
	dead     bool  // aborted or declined: no ack
}

// writerState is what a machine keeps of a sink.
type writerState struct {
	state []byte // Prepared.Writer of the last successful Prepare
	last  bool   // Prepare(last) succeeded: nothing follows

	refused int // Prepares that failed since one succeeded
}

// prepareTries is how many epochs in a row a sink may refuse before the attempt
// fails: a writer says in Write that it is broken, but no row may come any more.
const prepareTries = 3

// Trigger orders a barrier. A source, and a subtask whose inputs have ended, cut
// at once; another waits for its inputs and cuts without them only if they end.
// Complete of the newest complete epoch must have been called before: an ack that
// carries again what an earlier manifest holds would have it committed twice.
func (m *Machine) Trigger(e dataflow.Epoch) {
	if e <= m.lastCut {
		return
	}
	if m.src != nil || m.phase != running || m.align.Live() == 0 {
		m.due = max(m.due, e)
		return
	}
	m.triggered = max(m.triggered, e)
}

// Abort gives an epoch up, at any moment. What was made for it rides in the next
// part.
func (m *Machine) Abort(e dataflow.Epoch) {
	m.align.Abort(e)
	if m.due == e {
		m.due = 0
	}
	if m.triggered == e {
		m.triggered = 0
	}
	if m.open != nil && !m.open.spill && m.open.epoch == e {
		m.open.dead = true
	} else if e <= m.lastCut && e > m.completed {
		m.skip(e)
	}
	delete(m.at, e)
}

// Complete tells that the manifest of e is in force: what its ack carried need not
// be carried again.
func (m *Machine) Complete(e dataflow.Epoch) {
	if e <= m.completed {
		return
	}
	m.completed = e
	m.handles = slices.DeleteFunc(m.handles, func(h held) bool { return h.acked != 0 && h.acked <= e })
	if m.cfg.Store != nil {
		m.cfg.Store.Completed(e)
	}
	if at, ok := m.at[e]; ok && m.src != nil && m.src.reader != nil {
		was := m.enter(0)
		m.src.reader.Completed(e, at)
		m.leave(was)
	}
	maps.DeleteFunc(m.at, func(k dataflow.Epoch, _ []dataflow.SplitState) bool { return k <= e })
}

// Finished tells that every sink has committed e.
func (m *Machine) Finished(e dataflow.Epoch) {
	for _, o := range m.ops {
		if o.cfg.Writer != nil {
			was := m.enter(o.i)
			o.cfg.Writer.Finished(e)
			m.leave(was)
		}
	}
	if m.phase == ended && m.endEpoch != 0 && m.endEpoch <= e {
		m.phase = finished
		m.fx.Ended()
	}
}

// arrived handles a barrier on input i.
func (m *Machine) arrived(i int, e, complete dataflow.Epoch) {
	m.Complete(complete)
	if newest, open := m.align.Epoch(); e > newest || !open {
		m.alignFrom = m.now
	}
	done, gone := m.align.Barrier(i, e)
	if gone != 0 {
		m.decline(gone, fmt.Errorf("epoch %d came before it was aligned", e))
	}
	if done {
		m.due = e
		m.aligned = max(0, m.now-m.alignFrom)
	}
}

func (m *Machine) decline(e dataflow.Epoch, why error) {
	m.lastCut = max(m.lastCut, e)
	m.fx.Declined(e, why)
}

var errOpen = errors.New("the part of an earlier epoch is still being made")

// barrier cuts the epoch that is due: no row waits in the chain.
func (m *Machine) barrier() {
	e := m.due
	m.due = 0
	if e <= m.lastCut {
		return
	}
	if m.open != nil {
		m.decline(e, fmt.Errorf("%w: epoch %d", errOpen, m.open.epoch))
		return
	}
	m.lastCut = e
	begin := m.cfg.Monotonic()
	c := &cut{epoch: e, part: dataflow.Part{
		Subtask: m.cfg.Subtask, Groups: m.cfg.Groups, Finished: m.phase >= ended,
		Operators: map[dataflow.OperatorID]dataflow.OpState{},
	}}
	if m.phase >= ended && m.endEpoch == 0 {
		m.endEpoch = e
	}
	if m.src != nil {
		st := m.src.snapshot()
		if m.at == nil {
			m.at = map[dataflow.Epoch][]dataflow.SplitState{}
		}
		m.at[e] = st.Splits
		c.part.Operators[m.ops[0].cfg.Name] = st
		failpoint.Hit(failpoint.OffsetsSnapshotted, failpoint.Int("epoch", int64(e)), failpoint.Str("subtask", m.cfg.Subtask.String()))
	}
	for _, o := range m.ops {
		st := c.part.Operators[o.cfg.Name]
		st.Watermark = o.reached
		if o.cfg.Runner != nil && o.target > o.reached && o.target < dataflow.MaxTime {
			st.Target = o.target // the end of time comes again with the end of the inputs
		}
		if o.cfg.Runner != nil {
			st.Extra = o.cfg.Runner.Extra()
		}
		c.part.Operators[o.cfg.Name] = st
	}
	if !m.freeze(c) {
		return
	}
	failpoint.Hit(failpoint.PartFrozen, failpoint.Int("epoch", int64(e)), failpoint.Str("subtask", m.cfg.Subtask.String()))
	m.open = c
	m.prepare(c)
	for _, out := range m.outs {
		out.broadcast(channel.Item{Kind: channel.Barrier, Epoch: e, Complete: m.completed})
	}
	m.write(c)
	c.held += m.cfg.Monotonic() - begin
	m.close()
}

// freeze fixes the rows of all runners.
func (m *Machine) freeze(c *cut) bool {
	for _, o := range m.ops {
		if o.cfg.Runner == nil {
			continue
		}
		was := m.enter(o.i)
		f, err := o.cfg.Runner.Freeze()
		m.leave(was)
		if err != nil {
			m.fail(o.i, err)
			return false
		}
		if f != nil {
			c.ops = append(c.ops, o.i)
			c.frozen = append(c.frozen, f)
		}
	}
	return true
}

// prepare asks the sinks.
func (m *Machine) prepare(c *cut) {
	for i, o := range m.ops {
		if o.cfg.Writer == nil || o.writer.last {
			continue
		}
		c.prepares++
		e := c.epoch
		was := m.enter(i)
		o.cfg.Writer.Prepare(e, m.phase >= ended, func(p spi.Prepared, err error) { m.fx.Prepared(i, e, p, err) })
		m.leave(was)
	}
}

// write starts writing what is frozen.
func (m *Machine) write(c *cut) {
	if len(c.frozen) == 0 {
		return
	}
	if m.cfg.Store == nil {
		m.fail(c.ops[0], errNoStore)
		return
	}
	if c.epoch != m.seqEpoch {
		m.seqEpoch, m.seq = c.epoch, 0
	}
	c.writing = true
	m.fx.Write(c.epoch, m.seq, c.frozen)
	m.seq++
}

// Written answers Effects.Write.
func (m *Machine) Written(err error) {
	c := m.open
	if c == nil || !c.writing || m.err != nil {
		return
	}
	c.writing = false
	begin := m.cfg.Monotonic()
	for k, f := range c.frozen {
		was := m.enter(c.ops[k])
		f.Done(err)
		m.leave(was)
	}
	c.frozen = nil
	c.held += m.cfg.Monotonic() - begin
	if err != nil {
		if c.spill {
			m.fail(-1, fmt.Errorf("state that had to leave memory cannot be written: %w", err))
			return
		}
		m.declineCut(c, fmt.Errorf("state cannot be written: %w", err))
	}
	m.close()
}

// Prepared answers Effects.Prepared: what the sink at op prepared for e.
func (m *Machine) Prepared(op int, e dataflow.Epoch, p spi.Prepared, err error) {
	c := m.open
	if c == nil || c.epoch != e || c.prepares == 0 || m.err != nil {
		return
	}
	c.prepares--
	o := m.ops[op]
	if err != nil {
		if errors.Is(err, spi.ErrStop) {
			m.fail(op, err)
			return
		}
		if o.writer.refused++; o.writer.refused >= prepareTries {
			// A writer that lost rows it was given can only refuse: restore.
			m.fail(op, fmt.Errorf("it could not prepare %d epochs in a row: %w", o.writer.refused, err))
			return
		}
		m.declineCut(c, fmt.Errorf("operator %q: prepare: %w", o.cfg.Name, err))
	} else {
		o.writer.refused = 0
		for k, h := range p.Handles {
			m.handles = append(m.handles, held{CommitHandle: dataflow.CommitHandle{
				Sink: o.cfg.Name, Subtask: m.cfg.Subtask.Index, Epoch: e, Seq: k, Data: h,
			}})
		}
		o.writer.state = p.Writer
		o.writer.last = c.part.Finished
	}
	m.close()
}

func (m *Machine) declineCut(c *cut, err error) {
	if !c.dead {
		c.dead = true
		m.decline(c.epoch, err)
	}
}

// close ends the open cut when nothing of it is outstanding, with an ack if it is
// of an epoch that is still wanted.
func (m *Machine) close() {
	c := m.open
	if c == nil || c.writing || c.prepares > 0 || m.err != nil {
		return
	}
	m.open = nil
	m.stalled = false
	if c.spill {
		return
	}
	if c.dead {
		m.skip(c.epoch)
		return
	}
	m.ack(c)
}

// ack hands over the part: every file the store reads and every handle that no
// complete epoch is known to contain.
func (m *Machine) ack(c *cut) {
	p := c.part
	p.HeldNanos = c.held
	for _, o := range m.ops {
		if o.cfg.Writer != nil {
			st := p.Operators[o.cfg.Name]
			st.Writer = o.writer.state
			p.Operators[o.cfg.Name] = st
		}
	}
	if m.cfg.Store != nil {
		p.Files = slices.Clone(m.cfg.Store.Files())
	}
	for i := range m.handles {
		h := &m.handles[i]
		if h.acked == 0 {
			h.acked = c.epoch
		}
		p.Commits = append(p.Commits, h.CommitHandle)
	}
	if len(m.skipped) > 0 { // negative control
		p.Files = slices.DeleteFunc(p.Files, func(f dataflow.FileRef) bool { return m.skipped[f.Epoch] })
		p.Commits = slices.DeleteFunc(p.Commits, func(h dataflow.CommitHandle) bool { return m.skipped[h.Epoch] })
	}
	slices.SortStableFunc(p.Commits, func(a, b dataflow.CommitHandle) int {
		return cmp.Or(cmp.Compare(a.Epoch, b.Epoch), cmp.Compare(a.Seq, b.Seq))
	})
	var fresh []dataflow.FileRef
	for _, f := range p.Files {
		if f.Object == "" {
			fresh = append(fresh, f)
		}
	}
	m.fx.Acked(c.epoch, p, fresh)
}

// skip forgets what an epoch that came to nothing made, if a negative control
// says so.
func (m *Machine) skip(e dataflow.Epoch) {
	if !failpoint.Off(failpoint.AckChain) {
		return
	}
	if m.skipped == nil {
		m.skipped = map[dataflow.Epoch]bool{}
	}
	m.skipped[e] = true
}
