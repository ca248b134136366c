package cluster

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
	raftboltdb "github.com/hashicorp/raft-boltdb/v2"
)

// An Applier is the deterministic state machine behind a Log. Its methods are
// called one at a time.
type Applier interface {
	// Apply changes the state by one entry and returns its answer, which must not
	// depend on anything but the entries before.
	Apply(entry []byte) any
	// Snapshot returns the encoded state.
	Snapshot() ([]byte, error)
	// Restore replaces the state.
	Restore([]byte) error
}

// LogOptions configures a Log. A zero field means its default.
type LogOptions struct {
	Dir           string        // where the log and snapshots lie; required
	Node          string        // this voter's id; "node-1"
	ElectionAfter time.Duration // heartbeat and election time-out; 50 ms for a single voter
	SnapshotEvery uint64        // entries between snapshots; 4096
	Logger        *slog.Logger
}

// ErrNotLeader reports that this node cannot append now. The caller must stop
// acting as leader.
var ErrNotLeader = errors.New("cluster: this node is not the leader")

// A Log is this node's replica of the Raft log. With one voter it elects itself.
type Log struct {
	raft  *raft.Raft
	store *raftboltdb.BoltStore
	app   Applier
}

// OpenLog opens or creates the log in opts.Dir, replays it into app and waits
// until this node leads or ctx is done.
func OpenLog(ctx context.Context, opts LogOptions, app Applier) (*Log, error) {
	if opts.Dir == "" {
		return nil, errors.New("cluster: LogOptions.Dir is empty")
	}
	if err := os.MkdirAll(opts.Dir, 0o755); err != nil {
		return nil, fmt.Errorf("cluster: raft folder: %w", err)
	}
	store, err := raftboltdb.New(raftboltdb.Options{Path: filepath.Join(opts.Dir, "log.db"), MsgpackUseNewTimeFormat: true})
	if err != nil {
		return nil, fmt.Errorf("cluster: raft log %s (is another weir using it?): %w", filepath.Join(opts.Dir, "log.db"), err)
	}
	l, err := startRaft(opts, app, store)
	if err != nil {
		return nil, errors.Join(err, store.Close())
	}
	if err := l.awaitLeader(ctx); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return l, nil
}

func startRaft(opts LogOptions, app Applier, store *raftboltdb.BoltStore) (*Log, error) {
	quiet := hclog.New(&hclog.LoggerOptions{Output: io.Discard})
	snaps, err := raft.NewFileSnapshotStoreWithLogger(opts.Dir, 2, quiet)
	if err != nil {
		return nil, fmt.Errorf("cluster: raft snapshots: %w", err)
	}
	id := raft.ServerID(cmp.Or(opts.Node, "node-1"))
	addr, transport := raft.NewInmemTransport(raft.ServerAddress(id))
	conf := raft.DefaultConfig()
	conf.LocalID, conf.Logger = id, quiet
	wait := cmp.Or(opts.ElectionAfter, 50*time.Millisecond)
	conf.HeartbeatTimeout, conf.ElectionTimeout, conf.LeaderLeaseTimeout = wait, wait, wait
	conf.CommitTimeout = 5 * time.Millisecond
	conf.SnapshotThreshold = cmp.Or(opts.SnapshotEvery, 4096)
	conf.SnapshotInterval = 10 * time.Second
	fresh, err := raft.HasExistingState(store, store, snaps)
	if err != nil {
		return nil, fmt.Errorf("cluster: raft log: %w", err)
	}
	if !fresh {
		boot := raft.Configuration{Servers: []raft.Server{{ID: id, Address: addr}}}
		if err := raft.BootstrapCluster(conf, store, store, snaps, transport, boot); err != nil {
			return nil, fmt.Errorf("cluster: bootstrap raft: %w", err)
		}
	}
	r, err := raft.NewRaft(conf, adapter{app}, store, store, snaps, transport)
	if err != nil {
		return nil, fmt.Errorf("cluster: start raft: %w", err)
	}
	return &Log{raft: r, store: store, app: app}, nil
}

func (l *Log) awaitLeader(ctx context.Context) error {
	for {
		if l.raft.State() == raft.Leader {
			if err := l.raft.Barrier(0).Error(); err == nil {
				return nil
			}
		}
		select {
		case <-l.raft.LeaderCh():
		case <-time.After(20 * time.Millisecond):
		case <-ctx.Done():
			return fmt.Errorf("cluster: no leader was elected: %w", ctx.Err())
		}
	}
}

// Append appends an entry and returns the state machine's answer when it is
// durable and applied. An error means that it is unknown whether it ever will
// be; entries must be safe to append again.
func (l *Log) Append(entry []byte) (any, error) {
	f := l.raft.Apply(entry, 10*time.Second)
	if err := f.Error(); err != nil {
		if errors.Is(err, raft.ErrNotLeader) || errors.Is(err, raft.ErrLeadershipLost) {
			return nil, ErrNotLeader
		}
		return nil, fmt.Errorf("cluster: append: %w", err)
	}
	return f.Response(), nil
}

// Term returns the current Raft term.
func (l *Log) Term() uint64 { return l.raft.CurrentTerm() }

// Close stops Raft and closes the log.
func (l *Log) Close() error {
	err := l.raft.Shutdown().Error()
	return errors.Join(err, l.store.Close())
}

// adapter is the Applier as hashicorp/raft wants it.
type adapter struct{ app Applier }

func (a adapter) Apply(e *raft.Log) any { return a.app.Apply(e.Data) }

func (a adapter) Snapshot() (raft.FSMSnapshot, error) {
	b, err := a.app.Snapshot()
	return frozen(b), err
}

func (a adapter) Restore(r io.ReadCloser) error {
	b, err := io.ReadAll(r)
	if err := errors.Join(err, r.Close()); err != nil {
		return err
	}
	return a.app.Restore(b)
}

type frozen []byte

func (f frozen) Persist(sink raft.SnapshotSink) error {
	if _, err := io.Copy(sink, bytes.NewReader(f)); err != nil {
		return errors.Join(err, sink.Cancel())
	}
	return sink.Close()
}

func (f frozen) Release() {}
