package minicluster

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/weirstream/weir/dataflow"
	"github.com/weirstream/weir/stream/spi"
)

// topicWriter implements spi.Writer as the Kafka sink does: a pool of
// transactional ids, each taken by one epoch and free again when that epoch's
// output is known to be committed.
type topicWriter struct {
	n       *node
	index   int
	fence   []string
	free    []*producer // in order of k
	busy    []*producer
	ids     int
	open    *producer
	outbox  []row
	failure error
}

type producer struct {
	k      int
	id     string
	client bool // holds pid and pepoch
	pid    int64
	pepoch int16
	epoch  dataflow.Epoch // prepared for; 0 while open or free
}

// topicHandle is what commits a prepared transaction.
type topicHandle struct {
	ID    string `json:"id"`
	PID   int64  `json:"pid"`
	Epoch int16  `json:"epoch"`
}

func (w *topicWriter) transactionalID(subtask, k int) string {
	return fmt.Sprintf("%s/out-%d-%d", w.n.at.deploy.Pipeline, subtask, k)
}

func newTopicWriter(n *node, env spi.Env, restored map[int][]byte) (*topicWriter, error) {
	w := &topicWriter{n: n, index: env.Index, ids: 2}
	for former := range 16 {
		b := restored[former]
		if former%env.Parallelism != env.Index || len(b) == 0 {
			continue
		}
		var ids int
		if err := json.Unmarshal(b, &ids); err != nil {
			return nil, err
		}
		for k := range ids {
			w.fence = append(w.fence, w.transactionalID(former, k))
		}
		if former == env.Index {
			w.ids = max(w.ids, ids)
		}
	}
	for k := range w.ids {
		w.fence = append(w.fence, w.transactionalID(w.index, k))
		w.free = append(w.free, &producer{k: k, id: w.transactionalID(w.index, k)})
	}
	return w, nil
}

// start fences every id that this subtask answers for.
func (w *topicWriter) start(parallelism int) {
	s := w.n.s
	for _, id := range s.broker.ongoing() {
		var former, k int
		own, ok := strings.CutPrefix(id, string(w.n.at.deploy.Pipeline)+"/")
		if _, err := fmt.Sscanf(own, "out-%d-%d", &former, &k); ok && err == nil && former%parallelism == w.index {
			w.fence = append(w.fence, id)
		}
	}
	slices.Sort(w.fence)
	w.fence = slices.Compact(w.fence)
	for _, id := range w.fence {
		w.n.at.w.p.touch()
		s.broker.init(id)
	}
}

// take makes a free producer the open one; the pool grows when all wait for their
// epoch.
func (w *topicWriter) take() {
	if len(w.free) == 0 {
		w.free = append(w.free, &producer{k: w.ids, id: w.transactionalID(w.index, w.ids)})
		w.ids++
	}
	w.open, w.free = w.free[0], w.free[1:]
}

func (w *topicWriter) Write(b spi.Batch, from int) (int, error) {
	if w.failure != nil {
		return 0, w.failure
	}
	if w.open == nil {
		w.take()
	}
	w.outbox = append(w.outbox, rowsOf(b)[from:]...)
	if w.n.s.r.IntN(2) == 0 {
		w.failure = w.produce(w.open, &w.outbox)
	}
	return b.Len() - from, w.failure
}

// produce sends what waits; the client initialises its id at the first row.
func (w *topicWriter) produce(p *producer, rows *[]row) error {
	if len(*rows) > 0 && !p.client {
		w.n.at.w.p.touch()
		p.pid, p.pepoch = w.n.s.broker.init(p.id)
		p.client = true
	}
	if w.n.s.chance(150) {
		return fmt.Errorf("topic: %s: %w", p.id, errLost) // records are lost: the attempt fails
	}
	for len(*rows) > 0 {
		w.n.at.w.p.touch()
		if err := w.n.s.broker.produce(p.id, p.pid, p.pepoch, (*rows)[0]); err != nil {
			return fmt.Errorf("topic: %s: %w", p.id, err)
		}
		*rows = (*rows)[1:]
	}
	return nil
}

func (w *topicWriter) Prepare(e dataflow.Epoch, _ bool, done func(spi.Prepared, error)) {
	p := w.open
	state, _ := json.Marshal(w.ids)
	prepared := spi.Prepared{Writer: state}
	w.open = nil
	rows := w.outbox
	w.outbox = nil
	if p != nil {
		p.epoch = e
		w.busy = append(w.busy, p)
	}
	if p == nil || w.failure != nil {
		done(prepared, w.failure)
		return
	}
	w.n.background("flush", func() {
		if err := w.produce(p, &rows); err != nil {
			w.failure = err
			done(spi.Prepared{}, err)
			return
		}
		h, _ := json.Marshal(topicHandle{p.id, p.pid, p.pepoch})
		prepared.Handles = [][]byte{h}
		done(prepared, nil)
	})
}

// Finished frees ids: their clients learn the outcome by asking for it again.
func (w *topicWriter) Finished(e dataflow.Epoch) {
	var over []*producer
	w.busy = slices.DeleteFunc(w.busy, func(p *producer) bool {
		if p.epoch > e {
			return false
		}
		over = append(over, p)
		return true
	})
	for _, p := range over {
		w.n.background("release", func() {
			w.n.at.w.p.touch()
			next, err := w.n.s.broker.end(p.id, p.pid, p.pepoch, true)
			p.pepoch = next
			if err != nil {
				p.client = false // a new client initialises the id, which fences this one
			}
			p.epoch = 0
			at, _ := slices.BinarySearchFunc(w.free, p.k, func(q *producer, k int) int { return q.k - k })
			w.free = slices.Insert(w.free, at, p)
		})
	}
}

// topicCommitter ends prepared transactions, one call at a time.
type topicCommitter struct {
	s    *sim
	next int
}

func (c *topicCommitter) check(dataflow.Epoch) error { return nil }

func (c *topicCommitter) step(e dataflow.Epoch, handles []dataflow.CommitHandle) (done bool, err error) {
	if c.next >= len(handles) {
		c.next = 0
		return true, nil
	}
	var h topicHandle
	if err := json.Unmarshal(handles[c.next].Data, &h); err != nil {
		return false, fmt.Errorf("handle: %w: %w", err, spi.ErrStop)
	}
	before, after := c.s.broker.flaky()
	if before != nil {
		return false, before
	}
	_, err = c.s.broker.end(h.ID, h.PID, h.Epoch, true)
	if after != nil {
		return false, after
	}
	if err != nil {
		return false, fmt.Errorf("topic: epoch %d: transaction %+v of subtask %d and epoch %d was not committed: %w: %w", e, h, handles[c.next].Subtask, handles[c.next].Epoch, err, spi.ErrStop)
	}
	c.next++
	return false, nil
}
