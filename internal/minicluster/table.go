package minicluster

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/weirstream/weir/dataflow"
	"github.com/weirstream/weir/internal/failpoint"
	"github.com/weirstream/weir/internal/objstore"
	"github.com/weirstream/weir/stream/spi"
)

// table is a Delta table: its log of commits, put-if-absent by version.
type table struct {
	pipeline string // that writes it
	log      []tableCommit
}

// tableOf returns the table that a pipeline writes.
func (s *sim) tableOf(pipeline string) *table {
	t := s.tables[pipeline]
	if t == nil {
		t = &table{pipeline: pipeline}
		s.tables[pipeline] = t
	}
	return t
}

type tableCommit struct {
	epoch dataflow.Epoch // txn version; 0 without txn
	uuid  int
	rows  []row
}

// txn returns the newest epoch that the table records.
func (t *table) txn(upTo int) (e dataflow.Epoch) {
	for _, c := range t.log[:upTo] {
		e = max(e, c.epoch)
	}
	return e
}

// put tries to write version v. The answer may be lost, whether it happened or
// not.
func (s *sim) putVersion(t *table, v int, c tableCommit) error {
	fate := 99
	if s.faults {
		fate = s.r.IntN(20)
	}
	switch {
	case fate == 0:
		return objstore.ErrAmbiguous // it did not happen
	case fate == 1:
		return objstore.ErrRetry
	case v < len(t.log):
		return objstore.ErrExists
	}
	t.log = append(t.log, c)
	s.tracef("table version %d: epoch %d, %d rows", v, c.epoch, len(c.rows))
	s.check.visible("table", t.pipeline, uint64(c.epoch), c.rows)
	if fate == 2 {
		return objstore.ErrAmbiguous
	}
	return nil
}

// tableWriter implements spi.Writer: the rows of an epoch become one handle.
type tableWriter struct {
	n    *node
	rows []row
}

func (w *tableWriter) Write(b spi.Batch, from int) (int, error) {
	if w.n.s.chance(30) {
		w.n.wakeLater()
		return 0, nil // its buffers are full
	}
	w.rows = append(w.rows, rowsOf(b)[from:]...)
	return b.Len() - from, nil
}

func (w *tableWriter) Prepare(e dataflow.Epoch, last bool, done func(spi.Prepared, error)) {
	n := len(w.rows)
	went := w.rows[:n:n]
	w.rows = w.rows[n:]
	w.n.background("close files", func() {
		if w.n.s.chance(25) {
			w.rows = append(went, w.rows...) // they come with the next
			done(spi.Prepared{}, errDisk)
			return
		}
		var p spi.Prepared
		if len(went) > 0 {
			p.Handles = [][]byte{encodeRows(went)}
		}
		done(p, nil)
	})
}

func (w *tableWriter) Finished(dataflow.Epoch) {}

func encodeRows(rows []row) (b []byte) {
	for _, r := range rows {
		b = r.append(b)
	}
	return b
}

func decodeRows(b []byte) (rows []row) {
	for ; len(b) >= rowBytes; b = b[rowBytes:] {
		rows = append(rows, row{binary.BigEndian.Uint64(b), binary.BigEndian.Uint64(b[8:]), int64(binary.BigEndian.Uint64(b[16:]))})
	}
	return rows
}

// tableCommitter commits epochs as the Delta committer does: what the txn has
// already is skipped, an ambiguous answer is settled by reading back.
type tableCommitter struct {
	s    *sim
	t    *table
	mine dataflow.Epoch
	snap int // version read
	uuid int // of the commit being tried; 0: none
}

// check refuses a restore that the table is ahead of.
func (c *tableCommitter) check(restored dataflow.Epoch) error {
	if have := c.t.txn(len(c.t.log)); have > restored && !failpoint.Off(failpoint.TxnCheck) {
		return fmt.Errorf("the table holds epoch %d, restored is %d: %w", have, restored, spi.ErrStop)
	}
	return nil
}

// step is one call to the outside: done tells that the epoch is committed. It is
// called again until then.
func (c *tableCommitter) step(e dataflow.Epoch, handles []dataflow.CommitHandle) (done bool, err error) {
	var rows []row
	for _, h := range handles {
		rows = append(rows, decodeRows(h.Data)...)
	}
	if len(rows) == 0 {
		return true, nil
	}
	s := c.s
	if c.snap < 0 { // read the snapshot
		c.snap = len(c.t.log)
		if failpoint.Off(failpoint.TxnCheck) {
			return false, nil
		}
		for _, v := range c.t.log {
			if c.uuid != 0 && v.uuid == c.uuid {
				return c.over(e)
			}
		}
		if have := c.t.txn(c.snap); have >= e {
			if have > e && have > c.mine {
				return false, fmt.Errorf("the table has epoch %d while %d is committed: two jobs: %w", have, e, spi.ErrStop)
			}
			return c.over(e)
		}
		return false, nil
	}
	if c.uuid == 0 {
		s.uuids++
		c.uuid = s.uuids
	}
	err = s.putVersion(c.t, c.snap, tableCommit{epoch: e, uuid: c.uuid, rows: rows})
	c.snap = -1
	switch {
	case err == nil:
		return c.over(e)
	case errors.Is(err, objstore.ErrExists): // another version came between
		return false, nil
	}
	return false, err
}

func (c *tableCommitter) over(e dataflow.Epoch) (bool, error) {
	c.mine, c.uuid, c.snap = e, 0, -1
	return true, nil
}
