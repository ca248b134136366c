package actors

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/weirstream/weir/actors/channel"
	"github.com/weirstream/weir/actors/frame"
	"github.com/weirstream/weir/actors/subtask"
	"github.com/weirstream/weir/dataflow"
	"github.com/weirstream/weir/internal/clock"
	"github.com/weirstream/weir/stream/spi"
)

// turnTime is how long a turn may last; the piece of work that is begun within it
// is finished.
const turnTime = time.Millisecond

// A driver is the actor of one subtask: it files mail, runs turns, and carries
// out what the machine wants done.
//
// Receive and what it calls belong to the mailbox's goroutine. Fields below mu
// are guarded by it; it is held during every message, so that a snapshot sees a
// subtask between two of them.
type driver struct {
	a    *Attempt
	id   dataflow.SubtaskID
	pid  *actor.PID
	box  *mailbox
	log  *slog.Logger
	done chan struct{} // closed when the actor has stopped

	woken     atomic.Bool  // a wake is on its way
	turnStart atomic.Int64 // monotonic ns at which the turn in progress began; 0: none
	warned    atomic.Int64 // turnStart of the turn that the watchdog named
	machine   atomic.Pointer[subtask.Machine]
	counts    []*counts  // by operator
	commits   []*commits // guarded by a.mu

	mu      sync.Mutex
	m       *subtask.Machine
	with    resources
	dead    error
	over    bool // the attempt was stopped: mail that is still on its way comes to nothing
	running bool
	peers   []peer // by output channel
	froms   []peer // by input channel: where credit goes
	out     []*items
	dirty   []int // output channels with items to post
	timer   clock.Timer
	wakeAt  int64 // µs at which timer fires; 0: not set
	again   bool  // a turn is to be posted
	since   time.Duration
	status  subtask.Status
	busy    time.Duration
	blocked time.Duration
	idle    time.Duration
	turns   int64
	mail    int64
}

// peer is the other end of a channel: a subtask and the channel's number there, or
// the way to another worker.
type peer struct {
	d    *driver
	i    int
	away *remote
}

// resources is what was opened for a subtask and is closed with it.
type resources struct {
	store   Store
	reader  spi.Reader
	writers []spi.Writer
}

// Receive is the actor.
func (d *driver) Receive(c actor.Context) {
	switch msg := c.Message().(type) {
	case message:
		d.handle(msg)
	case *actor.Stopped:
		close(d.done)
	}
}

// handle files one message or runs a turn. A panic of user code, whoever called
// it, kills the subtask and names the operator.
func (d *driver) handle(msg message) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.dead != nil || d.over {
		return
	}
	defer func() {
		if r := recover(); r != nil {
			d.fail(d.current(), fmt.Errorf("panic: %v\n%s", r, debug.Stack()))
		}
		d.turnStart.Store(0)
	}()
	now := d.a.rt.clock.Monotonic()
	d.turnStart.Store(int64(now) + 1)
	d.mail++
	if _, ok := msg.(turn); ok {
		d.turn(now)
	} else {
		d.file(msg)
	}
	d.post()
	if d.m == nil {
		return
	}
	if op, err := d.m.Err(); err != nil {
		d.fail(op, err)
	} else if d.again {
		d.again = false
		d.a.send(d, turn{})
	}
}

func (d *driver) current() dataflow.OperatorID {
	if d.m == nil {
		return ""
	}
	return d.m.Current()
}

// file gives a message to the machine; a turn then acts on it.
func (d *driver) file(msg message) {
	d.again = true
	switch msg := msg.(type) {
	case *items:
		if d.m == nil {
			panic("actors: items arrived before the subtask was opened")
		}
		for i := range msg.items {
			d.m.Receive(msg.in, msg.items[i])
		}
		clear(msg.items)
		msg.items = msg.items[:0]
		d.a.rt.pool.Put(msg)
	case *framed:
		d.unframe(msg)
	case *credit:
		d.m.Credit(msg.out, msg.Credit)
	case wake:
		d.woken.Store(false)
		d.wakeAt = 0 // the machine says again what it waits for
		if d.m != nil {
			d.m.Wake()
		}
	case written:
		d.m.Written(msg.err)
	case prepared:
		d.m.Prepared(msg.op, msg.epoch, msg.p, msg.err)
	case order:
		d.obey(msg)
	case opened:
		d.opened(msg)
	case started:
		d.running = true
		d.since = d.a.rt.clock.Monotonic()
		d.m.Start()
	case died:
		d.fail(msg.op, msg.err)
	default:
		panic(fmt.Sprintf("actors: unhandled message %T", msg))
	}
}

func (d *driver) obey(o order) {
	if d.m == nil {
		return // not opened: no epoch can concern it
	}
	switch o.verb {
	case start:
		d.startWriters()
	case trigger:
		d.m.Trigger(o.epoch)
	case abort:
		d.m.Abort(o.epoch)
	case complete:
		d.m.Complete(o.epoch)
	case finish:
		d.m.Finished(o.epoch)
	}
}

// opened builds the machine around what the background opened.
func (d *driver) opened(o opened) {
	if o.cfg.Effects == nil {
		return // opening failed: what was opened is here to be closed, the cause comes next
	}
	m, err := subtask.New(o.cfg)
	if err != nil {
		d.fail("", err)
		return
	}
	d.m = m
	d.machine.Store(m)
	d.a.opts.Events.Ready(d.id)
}

// startWriters starts the sinks' writers, which may block, and then the rows.
func (d *driver) startWriters() {
	if d.running {
		return
	}
	writers := d.with.writers
	if len(writers) == 0 {
		d.a.send(d, started{})
		return
	}
	d.a.background(func(ctx context.Context) {
		for _, w := range writers {
			if err := guard(func() error { return w.Start(ctx) }); err != nil {
				d.a.send(d, died{err: fmt.Errorf("sink: start: %w", err)})
				return
			}
		}
		d.a.send(d, started{})
	})
}

// turn lets the machine work for a millisecond.
func (d *driver) turn(begin time.Duration) {
	if !d.running {
		return
	}
	c := d.a.rt.clock
	gap := begin - d.since
	switch d.status {
	case subtask.Blocked:
		d.blocked += gap
	case subtask.Idle:
		d.idle += gap
	default:
		d.busy += gap // waiting for a processor
	}
	d.turns++
	d.again = false
	d.m.SetMemoryBudget(d.a.opts.MemoryBudget())
	d.status = d.m.Turn(c.Now().UnixMicro(), func() bool { return c.Monotonic()-begin < turnTime })
	d.since = c.Monotonic()
	d.busy += d.since - begin
	d.m.Measure(int64(d.since - begin))
	d.again = d.again || d.status == subtask.More
}

// post sends the items of this turn, one message per channel.
func (d *driver) post() {
	for _, i := range d.dirty {
		if r := d.peers[i].away; r != nil {
			r.link.Send(r.out)
			r.out = nil
			continue
		}
		msg := d.out[i]
		d.out[i] = nil
		d.a.send(d.peers[i].d, msg)
	}
	d.dirty = d.dirty[:0]
}

// fail reports once that the subtask is dead. Its actor stays until the attempt is
// stopped, and drops its mail.
func (d *driver) fail(op dataflow.OperatorID, err error) {
	if d.dead != nil {
		return
	}
	if op != "" {
		err = fmt.Errorf("actors: subtask %s: operator %q: %w", d.id, op, err)
	} else {
		err = fmt.Errorf("actors: subtask %s: %w", d.id, err)
	}
	d.dead = err
	d.running = false
	d.log.Error("subtask failed", "err", err)
	d.a.opts.Events.Failed(d.id, err, errors.Is(err, spi.ErrStop))
}

// wakeUp asks for a turn. Any goroutine.
func (d *driver) wakeUp() {
	if d.a.ctx.Err() == nil && d.woken.CompareAndSwap(false, true) {
		d.a.send(d, wake{})
	}
}

// effects carries out what the machine asks for, on its turn.
type effects struct{ d *driver }

var _ subtask.Effects = effects{}

// flushItems is how many items of one channel wait for the end of the turn.
const flushItems = 16

func (e effects) Send(out int, it channel.Item) {
	d := e.d
	if r := d.peers[out].away; r != nil {
		d.sendAway(out, r, it)
		return
	}
	msg := d.out[out]
	if msg == nil {
		msg = d.a.rt.pool.Get().(*items)
		msg.in = d.peers[out].i
		d.out[out] = msg
		d.dirty = append(d.dirty, out)
	}
	msg.items = append(msg.items, it)
	if len(msg.items) >= flushItems {
		d.out[out] = nil
		d.dirty = slices.DeleteFunc(d.dirty, func(i int) bool { return i == out })
		d.a.send(d.peers[out].d, msg)
	}
}

func (e effects) Grant(in int, c channel.Credit) {
	p := e.d.froms[in]
	if p.away != nil {
		p.away.link.Send(frame.AppendCredit(nil, p.away.ch, e.d.a.opts.Attempt, c))
		return
	}
	e.d.a.send(p.d, &credit{out: p.i, Credit: c})
}

func (e effects) Write(epoch dataflow.Epoch, seq int, frozen []spi.Frozen) {
	d := e.d
	store := d.with.store
	d.a.background(func(ctx context.Context) {
		err := guard(func() error {
			_, err := store.WriteEpoch(ctx, epoch, seq, frozen)
			return err
		})
		d.a.send(d, written{err})
	})
}

func (e effects) Acked(epoch dataflow.Epoch, part dataflow.Part, fresh []dataflow.FileRef) {
	e.d.a.opts.Events.Acked(e.d.id, epoch, part, fresh)
}

func (e effects) Declined(epoch dataflow.Epoch, err error) {
	e.d.a.opts.Events.Declined(e.d.id, epoch, err)
}

func (e effects) Ended() { e.d.a.opts.Events.Ended(e.d.id) }

func (e effects) WakeAt(us int64) {
	d := e.d
	c := d.a.rt.clock
	now := c.Now().UnixMicro()
	if d.wakeAt > now && d.wakeAt <= us {
		return
	}
	if us <= now {
		d.again = true
		return
	}
	d.wakeAt = us
	wait := time.Duration(us-now) * time.Microsecond
	if d.timer == nil {
		d.timer = c.AfterFunc(wait, d.wakeUp)
	} else {
		d.timer.Reset(wait)
	}
}

func (e effects) Prepared(op int, epoch dataflow.Epoch, p spi.Prepared, err error) {
	e.d.a.send(e.d, prepared{op, epoch, p, err})
}

func (e effects) Count(op int, metric string, n int64) { e.d.counts[op].add(metric, n) }

// guard turns a panic of a driver or of user code into an error with its stack.
func guard(f func() error) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("panic: %v\n%s", r, debug.Stack())
		}
	}()
	return f()
}

// counts are the named counters of one operator.
type counts struct {
	mu sync.Mutex
	by map[string]int64 // guarded by mu
}

func (c *counts) add(metric string, n int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.by == nil {
		c.by = map[string]int64{}
	}
	c.by[metric] += n
}

func (c *counts) snapshot() map[string]int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := make(map[string]int64, len(c.by))
	for k, v := range c.by {
		out[k] = v
	}
	return out
}
