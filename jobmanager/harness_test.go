package jobmanager

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weirstream/weir/checkpoint"
	"github.com/weirstream/weir/dataflow"
	"github.com/weirstream/weir/internal/clock"
	"github.com/weirstream/weir/internal/control"
	"github.com/weirstream/weir/internal/objstore"
	"github.com/weirstream/weir/jobmanager/fsm"
)

// memLog applies at once.
type memLog struct {
	replica *Replica
	mu      sync.Mutex
	term    uint64
	entries []fsm.Command
}

func (l *memLog) Append(entry []byte) (any, error) {
	var c fsm.Command
	if err := json.Unmarshal(entry, &c); err != nil {
		return nil, err
	}
	l.mu.Lock()
	l.entries = append(l.entries, c)
	l.mu.Unlock()
	return l.replica.Apply(entry), nil
}

func (l *memLog) Term() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.term
}

// A node is a task manager that does nothing but answer. Its hooks, where set, see a
// message first and say whether that was the answer.
type node struct {
	mu       sync.Mutex
	up       control.Link
	got      []control.Message
	deployed control.Deploy
	hook     func(n *node, m control.Message) bool
}

func (n *node) Send(m control.Message) {
	n.mu.Lock()
	n.got = append(n.got, m)
	if d, ok := m.(control.Deploy); ok {
		n.deployed = d
	}
	hook := n.hook
	n.mu.Unlock()
	if hook != nil && hook(n, m) {
		return
	}
	n.answer(m)
}

// answer is what a healthy task manager says.
func (n *node) answer(m control.Message) {
	switch m := m.(type) {
	case control.Deploy:
		n.up.Send(control.Ready{To: m.To, States: m.States})
	case control.Trigger:
		for _, p := range n.parts(m.Epoch) {
			n.up.Send(control.Acked{To: m.To, Epoch: m.Epoch, Part: p})
		}
	case control.Commit:
		n.up.Send(control.Committed{To: m.To, Epoch: m.Epoch, Sink: m.Sink, Result: fmt.Sprintf("version %d", m.Epoch)})
	case control.Cancel:
		n.up.Send(control.Stopped{To: m.To})
	case control.Drain:
		for _, s := range n.subtasks() {
			n.up.Send(control.Ended{To: m.To, Subtask: s})
		}
	}
}

func (n *node) subtasks() []dataflow.SubtaskID {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.deployed.Subtasks
}

// parts are those of every subtask, with a commit handle of the sink.
func (n *node) parts(e dataflow.Epoch) (parts []dataflow.Part) {
	n.mu.Lock()
	defer n.mu.Unlock()
	d := n.deployed
	for _, s := range d.Subtasks {
		p := dataflow.Part{Subtask: s, Groups: d.Plan.Groups(s), Operators: map[dataflow.OperatorID]dataflow.OpState{}}
		for _, op := range d.Plan.Chain(s.Chain).Operators {
			p.Operators[op] = dataflow.OpState{}
			if op == "out" {
				p.Commits = append(p.Commits, dataflow.CommitHandle{Sink: op, Subtask: s.Index, Epoch: e})
			}
		}
		p.Files = []dataflow.FileRef{{Object: checkpoint.DataKey(d.Pipeline, e, d.Attempt, "w"), Length: 10, Groups: p.Groups}}
		p.NewBytes = 10
		parts = append(parts, p)
	}
	return parts
}

// seen returns every message of a type that the node got.
func seen[M control.Message](n *node) (out []M) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, m := range n.got {
		if m, ok := m.(M); ok {
			out = append(out, m)
		}
	}
	return out
}

// A bench is a job manager over a node, in a bubble of virtual time.
type bench struct {
	*Manager
	t       *testing.T
	replica *Replica
	log     *memLog
	node    *node
	store   *objstore.Mem
	faulty  *objstore.Faulty
	copies  *copies
}

// copies is a store whose copies wait for the gate and may fail.
type copies struct {
	objstore.Store
	gate chan struct{} // nil: open
	err  error
}

func (c *copies) Copy(ctx context.Context, dst, src string) error {
	if c.gate != nil {
		select {
		case <-c.gate:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	if c.err != nil {
		return c.err
	}
	return c.Store.Copy(ctx, dst, src)
}

// bubble runs f with a job manager in a bubble of virtual time.
func bubble(t *testing.T, f func(b *bench)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		b := &bench{t: t, replica: NewReplica(), node: new(node), store: objstore.NewMem(nil)}
		b.faulty = objstore.NewFaulty(b.store, objstore.FaultyOptions{})
		b.copies = &copies{Store: b.faulty}
		b.log = &memLog{replica: b.replica, term: 1}
		b.lead()
		defer func() { b.Close() }()
		f(b)
	})
}

// lead starts a job manager over the log: the first, or one after a crash.
func (b *bench) lead() {
	b.t.Helper()
	if b.Manager != nil {
		b.Close()
	}
	m, err := New(Options{Store: b.copies, Slots: 8, Log: slog.New(slog.DiscardHandler)}, b.replica, b.log, b.node)
	if err != nil {
		b.t.Fatal(err)
	}
	b.Manager, b.node.up = m, m
	m.Resume()
}

func testGraph() dataflow.Graph {
	return dataflow.Graph{Operators: []dataflow.Operator{
		{Name: "in", Kind: dataflow.KindSource, Connector: &dataflow.Connector{Kind: "x"}},
		{Name: "count", Kind: dataflow.KindOp, Keyed: true, States: []dataflow.StateInfo{{Name: "value", Kind: dataflow.ValueState}}},
		{Name: "out", Kind: dataflow.KindSink, Connector: &dataflow.Connector{Kind: "y"}},
	}, Edges: []dataflow.Edge{{From: "in", To: "count", Exchange: dataflow.Hash}, {From: "count", To: "out"}}}
}

func (b *bench) submission() Submission {
	return Submission{Pipeline: "p", Pack: "pack", Graph: testGraph(), Parallelism: 2, KeyGroups: 16,
		Options: fsm.Options{Checkpoint: checkpoint.Options{Interval: time.Second, CommitTimeout: 20 * time.Second}}}
}

func (b *bench) submit(s Submission) dataflow.JobID {
	b.t.Helper()
	id, err := b.Submit(context.Background(), s)
	if err != nil {
		b.t.Fatal(err)
	}
	return id
}

// after lets virtual time pass.
func (b *bench) after(d time.Duration) {
	if err := clock.Sleep(context.Background(), clock.Wall(), d); err != nil {
		b.t.Fatal(err)
	}
	synctest.Wait()
}

// until waits at most d until the job is as ok wants it.
func (b *bench) until(id dataflow.JobID, d time.Duration, what string, ok func(Info) bool) Info {
	b.t.Helper()
	for end := time.Now().Add(d); ; b.after(50 * time.Millisecond) {
		i, err := b.Job(string(id))
		if err != nil {
			b.t.Fatal(err)
		}
		if ok(i) {
			return i
		}
		if time.Now().After(end) {
			b.t.Fatalf("waited %v in vain until %s: it is %s (%s), trouble %q, epochs %+v", d, what, i.Phase, i.Reason, i.Trouble, i.Epochs)
		}
	}
}

func (b *bench) phase(id dataflow.JobID, d time.Duration, p fsm.Phase) Info {
	b.t.Helper()
	return b.until(id, d, "it is "+string(p), func(i Info) bool { return i.Phase == p })
}

// latest returns the newest complete epoch, 0 if there is none.
func latest(i Info) dataflow.Epoch {
	if n := len(i.Epochs); n > 0 {
		return i.Epochs[n-1].Epoch
	}
	return 0
}

func epochsOf(i Info) (out []dataflow.Epoch) {
	for _, e := range i.Epochs {
		out = append(out, e.Epoch)
	}
	slices.Sort(out)
	return out
}
