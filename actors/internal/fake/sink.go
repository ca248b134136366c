package fake

import (
	"context"
	"encoding/binary"
	"errors"
	"slices"
	"sync"

	"github.com/weirstream/weir/dataflow"
	"github.com/weirstream/weir/stream/spi"
)

// Table is where sinks commit: what an outside reader sees.
type Table struct {
	// Fail, if set, may refuse a commit.
	Fail func(epoch dataflow.Epoch) error
	// Full, if set, says that a writer takes no rows now.
	Full func() bool
	// Refuse, if set, may fail a Prepare; its rows come with the next.
	Refuse func() error

	mu    sync.Mutex
	epoch dataflow.Epoch // newest committed; the txn of the table
	rows  []Row
	times []int64
}

// Rows returns what is visible and when.
func (t *Table) Rows() ([]Row, []int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.Clone(t.rows), slices.Clone(t.times)
}

// Len returns the number of visible rows.
func (t *Table) Len() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.rows)
}

// Check is of spi.SinkDriver.
func (t *Table) Check(dataflow.Connector, map[string]string) error { return nil }

// OpenWriter returns a writer that keeps rows in memory until they are prepared.
func (t *Table) OpenWriter(ctx context.Context, env spi.Env, restored map[int][]byte) (spi.Writer, error) {
	return &writer{t: t}, nil
}

// OpenCommitter returns the table itself.
func (t *Table) OpenCommitter(ctx context.Context, env spi.Env) (spi.Committer, error) {
	return committer{t}, nil
}

type committer struct{ t *Table }

func (c committer) Check(ctx context.Context, restored dataflow.Epoch) error { return nil }

func (c committer) Close() error { return nil }

// Commit makes handles visible, once per epoch.
func (c committer) Commit(ctx context.Context, epoch dataflow.Epoch, handles []dataflow.CommitHandle) (string, error) {
	return "ok", c.t.Commit(epoch, handles)
}

// Commit is what a committer does.
func (t *Table) Commit(epoch dataflow.Epoch, handles []dataflow.CommitHandle) error {
	if t.Fail != nil {
		if err := t.Fail(epoch); err != nil {
			return err
		}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if epoch <= t.epoch {
		return nil
	}
	for _, h := range handles {
		for b := h.Data; len(b) >= 24; b = b[24:] {
			t.rows = append(t.rows, Row{binary.BigEndian.Uint64(b), int64(binary.BigEndian.Uint64(b[8:]))})
			t.times = append(t.times, int64(binary.BigEndian.Uint64(b[16:])))
		}
	}
	t.epoch = epoch
	return nil
}

type writer struct {
	t       *Table
	data    []byte
	started bool
	last    bool
}

func (w *writer) Start(ctx context.Context) error {
	w.started = true
	return nil
}

func (w *writer) Write(b spi.Batch, from int) (int, error) {
	if !w.started || w.last {
		return 0, errors.New("fake: rows before Start or after the last Prepare")
	}
	if w.t.Full != nil && w.t.Full() {
		return 0, nil
	}
	rows := b.(*Batch[Row])
	for i := from; i < len(rows.Values); i++ {
		w.data = binary.BigEndian.AppendUint64(w.data, rows.Values[i].Key)
		w.data = binary.BigEndian.AppendUint64(w.data, uint64(rows.Values[i].Val))
		w.data = binary.BigEndian.AppendUint64(w.data, uint64(rows.head.Times[i]))
	}
	return len(rows.Values) - from, nil
}

func (w *writer) Prepare(epoch dataflow.Epoch, last bool, done func(spi.Prepared, error)) {
	if w.t.Refuse != nil {
		if err := w.t.Refuse(); err != nil {
			done(spi.Prepared{}, err)
			return
		}
	}
	var p spi.Prepared
	if len(w.data) > 0 {
		p.Handles = [][]byte{w.data}
	}
	w.data, w.last = nil, last
	done(p, nil)
}

func (w *writer) Finished(dataflow.Epoch) {}

func (w *writer) Close() error { return nil }
