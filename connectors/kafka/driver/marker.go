package driver

import (
	"context"
	"errors"
	"fmt"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/weirstream/weir/internal/clock"
)

// A commit marker is a group offset stored inside the prepared transaction: it is
// there if, and only if, the transaction was committed. The group has the name of
// the transactional id, the offset counts the transactions of the writer, and the
// metadata names producer id and epoch. It settles answers that do not say whether
// the records are in (PRODUCER_FENCED, INVALID_PRODUCER_ID_MAPPING,
// INVALID_TXN_STATE): a marker of exactly this transaction means yes. A marker of
// another one says nothing, for the next transaction of the same id overwrites it.
//
// It is placed while rows are still coming, as soon as the broker has the first of
// them: placed in Prepare, every epoch would wait for it. Not earlier, for two
// requests that both begin a transaction get in each other's way.

// A marker is the placing of one commit marker.
type marker struct {
	begun chan struct{} // closed when the transaction has a record
	done  chan struct{} // closed when the marker is there or was given up
	of    handle        // what it names; zero: not there. Final when done
}

func newMarker() *marker { return &marker{begun: make(chan struct{}), done: make(chan struct{})} }

// begin says that the transaction has its first record. It is called once.
func (m *marker) begin() { close(m.begun) }

// placed waits for the end of the placing and tells whether m marks the
// transaction of h.
func (m *marker) placed(ctx context.Context, h handle) bool {
	select {
	case <-m.done:
		return m.of.ID == h.ID && m.of.PID == h.PID && m.of.Epoch == h.Epoch
	case <-ctx.Done():
		return false
	}
}

// mark puts the commit marker into the transaction that a client has open, once it
// has begun. Without one the sink works all the same, so what hinders it is only
// logged.
func (w *writer) mark(id string, client *kgo.Client, m *marker) {
	defer close(m.done)
	select {
	case <-m.begun:
	case <-w.ctx.Done():
		return
	}
	ctx, cancel := context.WithTimeout(w.ctx, w.markerTry)
	defer cancel()
	h := handle{ID: id}
	var err error
	if h.PID, h.Epoch, err = client.ProducerID(ctx); err == nil {
		err = placeMarker(ctx, w.clock, w.raw, h, w.cfg.topic, w.marks.Add(1))
	}
	if err == nil {
		m.of = h
	} else if w.ctx.Err() == nil && !w.unmarked.Swap(true) {
		w.env.Log.Warn("kafka sink: no commit markers are written (option commit_markers)", "id", id, "error", err)
	}
}

func (h handle) mark() string { return fmt.Sprintf("weir %d/%d", h.PID, h.Epoch) }

// placeMarker makes the marker part of the open transaction of h.
func placeMarker(ctx context.Context, clk clock.Clock, client *kgo.Client, h handle, topic string, offset int64) error {
	req := kmsg.NewPtrTxnOffsetCommitRequest()
	req.TransactionalID, req.Group, req.ProducerID, req.ProducerEpoch, req.Generation = h.ID, h.ID, h.PID, h.Epoch, -1
	t := kmsg.NewTxnOffsetCommitRequestTopic()
	t.Topic = topic
	p := kmsg.NewTxnOffsetCommitRequestTopicPartition()
	mark := h.mark()
	p.Offset, p.Metadata = offset, &mark
	t.Partitions = append(t.Partitions, p)
	req.Topics = append(req.Topics, t)
	for {
		resp, err := req.RequestWith(ctx, client)
		if err != nil {
			return err
		}
		for _, t := range resp.Topics {
			for _, p := range t.Partitions {
				err = errors.Join(err, kerr.ErrorForCode(p.ErrorCode))
			}
		}
		if err == nil || !waits(err) || clock.Sleep(ctx, clk, commitPause) != nil {
			return err
		}
	}
}

// hasMarker tells whether the marker of h is there.
func hasMarker(ctx context.Context, clk clock.Clock, client *kgo.Client, h handle, topic string) (bool, error) {
	req := kmsg.NewPtrOffsetFetchRequest()
	req.Group, req.RequireStable = h.ID, true
	t := kmsg.NewOffsetFetchRequestTopic()
	t.Topic, t.Partitions = topic, []int32{0}
	req.Topics = append(req.Topics, t)
	g := kmsg.NewOffsetFetchRequestGroup()
	g.Group = h.ID
	gt := kmsg.NewOffsetFetchRequestGroupTopic()
	gt.Topic, gt.Partitions = topic, []int32{0}
	g.Topics = append(g.Topics, gt)
	req.Groups = append(req.Groups, g)
	for {
		found, err := fetchMarker(ctx, client, req, h)
		if err == nil || !waits(err) && !errors.Is(err, kerr.UnstableOffsetCommit) || clock.Sleep(ctx, clk, commitPause) != nil {
			return found, err
		}
	}
}

func fetchMarker(ctx context.Context, client *kgo.Client, req *kmsg.OffsetFetchRequest, h handle) (found bool, err error) {
	resp, err := req.RequestWith(ctx, client)
	if err != nil {
		return false, err
	}
	see := func(code int16, metadata *string) {
		err = errors.Join(err, kerr.ErrorForCode(code))
		found = found || code == 0 && metadata != nil && *metadata == h.mark()
	}
	see(resp.ErrorCode, nil)
	for _, t := range resp.Topics {
		for _, p := range t.Partitions {
			see(p.ErrorCode, p.Metadata)
		}
	}
	for _, g := range resp.Groups {
		if !errors.Is(kerr.ErrorForCode(g.ErrorCode), kerr.GroupIDNotFound) {
			see(g.ErrorCode, nil)
		}
		for _, t := range g.Topics {
			for _, p := range t.Partitions {
				see(p.ErrorCode, p.Metadata)
			}
		}
	}
	return found, err
}
