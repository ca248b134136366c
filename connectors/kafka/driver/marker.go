package driver

import (
	"context"
	"errors"
	"fmt"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/weirstream/weir/dataflow"
	"github.com/weirstream/weir/internal/clock"
)

// A commit marker is a group offset stored inside the prepared transaction: it is
// there if, and only if, the transaction was committed. The group has the name of
// the transactional id, the offset is the epoch, and the metadata names producer
// id and epoch. It settles answers that do not say whether the records are in
// (PRODUCER_FENCED, INVALID_PRODUCER_ID_MAPPING, INVALID_TXN_STATE): a marker of
// exactly this transaction means yes. A marker of another one says nothing, for
// the next transaction of the same id overwrites it.

func (h handle) mark() string { return fmt.Sprintf("weir %d/%d", h.PID, h.Epoch) }

// placeMarker makes the marker part of the open transaction of h.
func placeMarker(ctx context.Context, clk clock.Clock, client *kgo.Client, h handle, topic string, epoch dataflow.Epoch) error {
	req := kmsg.NewPtrTxnOffsetCommitRequest()
	req.TransactionalID, req.Group, req.ProducerID, req.ProducerEpoch, req.Generation = h.ID, h.ID, h.PID, h.Epoch, -1
	t := kmsg.NewTxnOffsetCommitRequestTopic()
	t.Topic = topic
	p := kmsg.NewTxnOffsetCommitRequestTopicPartition()
	mark := h.mark()
	p.Offset, p.Metadata = int64(epoch), &mark
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
