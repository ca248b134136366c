package minicluster

import (
	"errors"
	"fmt"
	"slices"
)

// broker is a topic with transactions, as a real Kafka 4.4 with
// transaction.version 2 answers them.
type broker struct {
	s    *sim
	ids  []*txn // by transactional id, in order of their first use
	pids int64
}

// txn is what the coordinator knows of one transactional id.
type txn struct {
	id    string
	pid   int64
	epoch int16
	state txnState
	rows  []row // of the open or last transaction
}

type txnState uint8

const (
	txnEmpty     txnState = iota // initialised, nothing written
	txnOngoing                   // rows, invisible
	txnCommitted                 // the last one was; epoch is already the next
	txnAborted
)

var (
	errFenced    = errors.New("PRODUCER_FENCED")
	errTxnState  = errors.New("INVALID_TXN_STATE")
	errNoMapping = errors.New("INVALID_PRODUCER_ID_MAPPING")
	errLost      = errors.New("connection lost before the answer")
)

func (b *broker) find(id string) *txn {
	for _, t := range b.ids {
		if t.id == id {
			return t
		}
	}
	return nil
}

// init is InitProducerID: it fences, and aborts what is open.
func (b *broker) init(id string) (pid int64, epoch int16) {
	t := b.find(id)
	if t == nil {
		b.pids++
		t = &txn{id: id, pid: b.pids, epoch: -1}
		b.ids = append(b.ids, t)
	}
	if t.state == txnOngoing {
		b.s.tracef("broker aborts %s with %d rows", id, len(t.rows))
		b.s.check.aborted(id, t.epoch)
		t.epoch++
	}
	t.epoch++
	t.state, t.rows = txnEmpty, nil
	return t.pid, t.epoch
}

// produce appends a row to the open transaction of id.
func (b *broker) produce(id string, pid int64, epoch int16, r row) error {
	t := b.find(id)
	switch {
	case t == nil || t.pid != pid:
		return errNoMapping
	case t.state == txnCommitted && epoch == t.epoch-1:
		// A commit does not fence: the row is committed with the others.
		b.s.check.transacted(id, epoch, []row{r})
		return nil
	case epoch != t.epoch:
		return errFenced
	}
	if t.state != txnOngoing {
		t.state, t.rows = txnOngoing, nil
	}
	t.rows = append(t.rows, r)
	return nil
}

// end is EndTxn version 5. It returns the epoch to go on with.
func (b *broker) end(id string, pid int64, epoch int16, commit bool) (next int16, err error) {
	t := b.find(id)
	switch {
	case t == nil || t.pid != pid:
		return 0, errNoMapping
	case epoch == t.epoch && t.state == txnOngoing:
		t.epoch++
		t.state = txnAborted
		if commit {
			t.state = txnCommitted
			b.s.tracef("broker commits %s with %d rows", id, len(t.rows))
			b.s.check.transacted(id, epoch, t.rows)
		}
		return t.epoch, nil
	case epoch == t.epoch-1 && t.state == txnCommitted && commit:
		return t.epoch, nil
	case epoch == t.epoch-1 && t.state == txnAborted && !commit:
		return t.epoch, nil
	case epoch == t.epoch-1 && (t.state == txnCommitted || t.state == txnAborted):
		return 0, errTxnState
	case epoch == t.epoch: // nothing was produced
		return 0, errTxnState
	}
	return 0, errFenced
}

// ongoing lists the ids with an open transaction.
func (b *broker) ongoing() (ids []string) {
	for _, t := range b.ids {
		if t.state == txnOngoing {
			ids = append(ids, t.id)
		}
	}
	slices.Sort(ids)
	return ids
}

// flaky loses the way to the broker or the answer, now and then. before tells that
// the request did not arrive.
func (b *broker) flaky() (before, after error) {
	if b.s.chance(20) {
		return fmt.Errorf("request: %w", errLost), nil
	}
	if b.s.chance(20) {
		return nil, errLost
	}
	return nil, nil
}
