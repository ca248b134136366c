package actors

import (
	"context"
	"sync/atomic"
	"testing"

	"github.com/weirstream/weir/actors/internal/fake"
	"github.com/weirstream/weir/dataflow"
	"github.com/weirstream/weir/stream/spi"
)

// closing is a source whose reader knows what it is asked after it was closed.
type closing struct {
	fake.Blank
	closed atomic.Bool
	late   atomic.Int64
}

func (s *closing) Open(ctx context.Context, env spi.Env, was []dataflow.SplitState, gen spi.SourceRunner) (spi.Reader, error) {
	r, err := s.Blank.Open(ctx, env, was, gen)
	return &closingReader{r, s}, err
}

type closingReader struct {
	spi.Reader
	s *closing
}

func (r *closingReader) Poll(b spi.Batch, max int, bad *[]spi.Rejected) (int, int, error) {
	if r.s.closed.Load() {
		r.s.late.Add(1)
	}
	return r.Reader.Poll(b, max, bad)
}

func (r *closingReader) Ended() bool { return false }

func (r *closingReader) Close() error {
	r.s.closed.Store(true)
	return r.Reader.Close()
}

// quiet tells when a subtask is ready, and that none failed.
type quiet struct {
	Events
	ready  chan struct{}
	failed atomic.Int64
}

func (q *quiet) Ready(dataflow.SubtaskID) { close(q.ready) }

func (q *quiet) Failed(dataflow.SubtaskID, error, bool) { q.failed.Add(1) }

// Messages that an actor has taken out of its mailbox when the attempt is stopped come
// to nothing: what was opened for the subtask is closed by then.
func TestMailAfterStop(t *testing.T) {
	rt := New(RuntimeOptions{})
	defer rt.Close()
	j := &fake.Job{Groups: 8}
	j.Add("src", dataflow.KindSource, 1, nil, "")
	j.Add("out", dataflow.KindSink, 1, nil, dataflow.Forward, "src")
	plan, err := dataflow.MakePlan(j.G, 1, j.Groups)
	if err != nil {
		t.Fatal(err)
	}
	src, events := &closing{}, &quiet{ready: make(chan struct{})}
	a, err := rt.NewAttempt(Options{Job: j, Plan: &plan, Attempt: 1, Events: events,
		Sources: map[string]spi.SourceDriver{"src": src}, Sinks: map[string]spi.SinkDriver{"out": &fake.Table{}}})
	if err != nil {
		t.Fatal(err)
	}
	<-events.ready
	if err := a.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	d := a.drivers[0]
	for _, msg := range []message{started{}, turn{}, order{trigger, 1}, turn{}, order{finish, 1}, died{err: context.Canceled}} {
		d.handle(msg) // as the goroutine that took it does
	}
	if n := src.late.Load(); d.running || n > 0 {
		t.Errorf("running %v, a closed reader was polled %d times", d.running, n)
	}
	if n := events.failed.Load(); n > 0 {
		t.Errorf("%d failures were told after the stop", n)
	}
}
