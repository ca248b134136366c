package driver

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/kversion"

	"github.com/weirstream/weir/dataflow"
	"github.com/weirstream/weir/internal/clock"
	"github.com/weirstream/weir/internal/failpoint"
	"github.com/weirstream/weir/stream/spi"
)

const (
	commitsAtOnce = 16
	commitTry     = 30 * time.Second      // of one Commit call, before the engine is told to try again
	commitPause   = 20 * time.Millisecond // before a repeat
	markerTry     = 2 * time.Second       // of writing a commit marker
	adminTry      = 10 * time.Second      // of one request
)

// rawOptions are the client options of requests that are sent by hand: EndTxn is
// pinned to its version.
func rawOptions(props map[string]string, env spi.Env) ([]kgo.Opt, error) {
	opts, err := clientOptions(sinkSide, props, env)
	if err != nil {
		return nil, err
	}
	most := kversion.Stable()
	most.SetMaxKeyVersion(int16(kmsg.EndTxn), endTxnVersion)
	most.SetMaxKeyVersion(int16(kmsg.TxnOffsetCommit), 5) // later ones name topics by id
	most.SetMaxKeyVersion(int16(kmsg.OffsetFetch), 9)
	least := new(kversion.Versions)
	least.SetMaxKeyVersion(int16(kmsg.EndTxn), endTxnVersion)
	return append(opts, kgo.MaxVersions(most), kgo.MinVersions(least), kgo.RetryTimeout(adminTry)), nil
}

// committer commits prepared transactions.
type committer struct {
	env    spi.Env
	cfg    *sinkConfig
	client *kgo.Client // nil unless exactly once
	clock  clock.Clock
}

// OpenCommitter opens the committer of a sink; it refuses clusters on which a late
// repeat of a commit would be dangerous.
func (s Sink) OpenCommitter(ctx context.Context, env spi.Env) (spi.Committer, error) {
	cfg, err := readSink(env.Connector, env.Settings, env.Pipeline, env.Operator)
	if err != nil {
		return nil, err
	}
	c := &committer{env: env, cfg: cfg, clock: s.clock()}
	if cfg.guarantee != exactlyOnce {
		return c, nil
	}
	opts, err := rawOptions(cfg.props, env)
	if err != nil {
		return nil, err
	}
	if c.client, err = kgo.NewClient(opts...); err != nil {
		return nil, fmt.Errorf("kafka sink: %w", err)
	}
	if err := requireTransactions(ctx, c.clock, c.client, cfg); err != nil {
		c.client.Close()
		return nil, err
	}
	return c, nil
}

// requireTransactions refuses clusters whose finalized transaction.version is
// below 2.
func requireTransactions(ctx context.Context, clk clock.Clock, client *kgo.Client, cfg *sinkConfig) error {
	return until(ctx, clk, cfg.startup, func(ctx context.Context) (bool, error) {
		resp, err := kmsg.NewPtrApiVersionsRequest().RequestWith(ctx, client)
		if err == nil {
			err = kerr.ErrorForCode(resp.ErrorCode)
		}
		if err != nil {
			return true, errUnreachable(cfg.connection, cfg.props, cfg.startup, err)
		}
		have := int16(0)
		for _, f := range resp.FinalizedFeatures {
			if f.Name == "transaction.version" {
				have = f.MaxVersionLevel
			}
		}
		if have < 2 {
			return false, fmt.Errorf("kafka sink: the cluster at %s has transaction.version %d but guarantee %q needs 2, for below it a repeated commit can commit a newer transaction: upgrade with kafka-features.sh upgrade --feature transaction.version=2, or set guarantee to %q: %w",
				cfg.props["bootstrap.servers"], have, exactlyOnce, atLeastOnce, spi.ErrStop)
		}
		return false, nil
	})
}

// Check has nothing to compare: a topic does not say which epoch wrote it.
func (c *committer) Check(context.Context, dataflow.Epoch) error { return nil }

// Commit ends every prepared transaction. It may be repeated: a committed one
// answers the same again until its id is initialised anew, which no writer does
// before the epoch is finished.
func (c *committer) Commit(ctx context.Context, epoch dataflow.Epoch, handles []dataflow.CommitHandle) (string, error) {
	if c.client == nil || len(handles) == 0 {
		return "nothing to commit", nil
	}
	parsed := make([]handle, len(handles))
	records := int64(0)
	for i, h := range handles {
		var err error
		if parsed[i], err = parseHandle(h.Data); err != nil {
			return "", err
		}
		records += parsed[i].Records
	}
	ctx, cancel := context.WithTimeout(ctx, commitTry)
	defer cancel()
	errs := make([]error, len(handles))
	slots := make(chan struct{}, commitsAtOnce)
	var wg sync.WaitGroup
	for i := range parsed {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			errs[i] = c.end(ctx, epoch, handles[i], parsed[i])
		})
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		return "", err
	}
	return fmt.Sprintf("%d transactions of %d records", len(handles), records), nil
}

// end commits one transaction, repeating through answers that only mean wait.
func (c *committer) end(ctx context.Context, epoch dataflow.Epoch, from dataflow.CommitHandle, h handle) error {
	failpoint.Hit(failpoint.KafkaBeforeEndTxn, failpoint.Int("epoch", int64(epoch)), failpoint.Str("id", h.ID), failpoint.Int("records", h.Records))
	for {
		code, err := endTxn(ctx, c.client, h, true)
		switch {
		case err == nil && code == nil:
			failpoint.Hit(failpoint.KafkaAfterEndTxn, failpoint.Int("epoch", int64(epoch)), failpoint.Str("id", h.ID), failpoint.Int("records", h.Records))
			return nil
		case err == nil && !waits(code):
			if h.Marked {
				look, cancel := context.WithTimeout(ctx, adminTry)
				in, err := hasMarker(look, c.clock, c.client, h, c.cfg.topic)
				cancel()
				if in {
					c.env.Log.Info("kafka sink: the commit marker shows that a transaction was committed before", "id", h.ID, "epoch", epoch, "answer", code)
					return nil
				}
				if err != nil {
					c.env.Log.Warn("kafka sink: the commit marker cannot be read", "id", h.ID, "epoch", epoch, "error", err)
				}
			}
			return fmt.Errorf("kafka sink: %q epoch %d: the transaction %v that subtask %d prepared in epoch %d with %d records was not committed: %w: it was open longer than transaction.timeout.ms (%d), its id has expired, or another job uses the prefix %q; whether its records are in topic %q must be looked up before going on: %w",
				c.env.Operator, epoch, h, from.Subtask, from.Epoch, h.Records, code, c.cfg.txnTimeout.Milliseconds(), c.cfg.prefix, c.cfg.topic, spi.ErrStop)
		case err == nil:
			err = code
		}
		if clock.Sleep(ctx, c.clock, commitPause) != nil {
			return fmt.Errorf("kafka sink: committing the transaction %v of epoch %d: %w", h, epoch, err)
		}
	}
}

// waits tells the answers that mean: not now, ask again.
func waits(code error) bool {
	return errors.Is(code, kerr.ConcurrentTransactions) || kerr.IsRetriable(code)
}

// endTxn sends one EndTxn. err is that of the way there, code the broker's answer.
func endTxn(ctx context.Context, client *kgo.Client, h handle, commit bool) (code, err error) {
	req := kmsg.NewPtrEndTxnRequest()
	req.TransactionalID, req.ProducerID, req.ProducerEpoch, req.Commit = h.ID, h.PID, h.Epoch, commit
	one, cancel := context.WithTimeout(ctx, adminTry)
	defer cancel()
	resp, err := req.RequestWith(one, client)
	if err != nil {
		var answer *kerr.Error
		if errors.As(err, &answer) { // the way there includes finding the coordinator
			return answer, nil
		}
		return nil, err
	}
	return kerr.ErrorForCode(resp.ErrorCode), nil
}

// Close leaves the brokers.
func (c *committer) Close() error {
	if c.client != nil {
		c.client.Close()
	}
	return nil
}
