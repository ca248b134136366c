package subtask_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/weirstream/weir/actors/channel"
	"github.com/weirstream/weir/actors/internal/fake"
	"github.com/weirstream/weir/actors/subtask"
	"github.com/weirstream/weir/dataflow"
	"github.com/weirstream/weir/stream/spi"
)

// bench holds one machine and writes down what it wants done.
type bench struct {
	t     *testing.T
	m     *subtask.Machine
	store *fake.Store
	seq   []uint64 // last item per input
	now   int64
	said  []string // effects since the last look
	acks  []dataflow.Part
	write func() // the write in progress
	done  []func()
}

func (b *bench) say(format string, args ...any) {
	b.said = append(b.said, fmt.Sprintf(format, args...))
}

func (b *bench) Send(out int, it channel.Item) {
	switch it.Kind {
	case channel.Rows:
		b.say("%d: %d rows", out, it.Batch.Len())
	case channel.Watermark:
		b.say("%d: watermark %d", out, it.Time)
	case channel.Barrier:
		b.say("%d: barrier %d", out, it.Epoch)
	default:
		b.say("%d: %s", out, it.Kind)
	}
}

func (b *bench) Grant(in int, c channel.Credit) {}

func (b *bench) Write(e dataflow.Epoch, seq int, frozen []spi.Frozen) {
	b.say("write %d.%d", e, seq)
	b.write = func() {
		_, err := b.store.WriteEpoch(context.Background(), e, seq, frozen)
		b.m.Written(err)
	}
}

func (b *bench) Acked(e dataflow.Epoch, p dataflow.Part, fresh []dataflow.FileRef) {
	b.say("ack %d files %d commits %d finished %v", e, len(p.Files), len(p.Commits), p.Finished)
	b.acks = append(b.acks, p)
}

func (b *bench) Declined(e dataflow.Epoch, err error) { b.say("decline %d: %v", e, err) }

func (b *bench) Ended() { b.say("ended") }

func (b *bench) WakeAt(us int64) { b.say("wake at %d", us) }

func (b *bench) Prepared(op int, e dataflow.Epoch, p spi.Prepared, err error) {
	b.done = append(b.done, func() { b.m.Prepared(op, e, p, err) })
}

func (b *bench) Count(int, string, int64) {}

// newBench makes a machine of one runner with n inputs and one output channel.
func newBench(t *testing.T, n int, r spi.Runner, tune func(*subtask.Config)) *bench {
	world := &fake.World{}
	b := &bench{t: t, seq: make([]uint64, n), now: 1_000_000, store: world.Open(dataflow.KeyGroups{To: 8}, nil)}
	cfg := subtask.Config{
		Subtask: dataflow.SubtaskID{Chain: "op"}, Attempt: 1, Groups: dataflow.KeyGroups{To: 8}, KeyGroups: 8, Store: b.store, Effects: b,
		Ops:  []subtask.Op{{Name: "op", Parallelism: 1, Parent: -1, Outs: 1, Runner: r, Watermark: dataflow.MinTime}},
		Outs: []subtask.Out{{Exchange: dataflow.Rebalance, Channels: []dataflow.ChannelID{{Edge: 1}}}},
	}
	for i := range n {
		cfg.Ins = append(cfg.Ins, subtask.In{Channel: dataflow.ChannelID{From: i}})
	}
	if tune != nil {
		tune(&cfg)
	}
	var err error
	if b.m, err = subtask.New(cfg); err != nil {
		t.Fatal(err)
	}
	b.m.Start()
	return b
}

// give delivers an item on input in.
func (b *bench) give(in int, it channel.Item) {
	b.seq[in]++
	it.Seq, it.Attempt = b.seq[in], 1
	b.m.Receive(in, it)
}

func rows(times ...int64) channel.Item {
	r := fake.NewBatch[fake.Row](len(times))
	for i, t := range times {
		r.Push(fake.Row{Key: uint64(i % 3), Val: 1}, t)
	}
	r.Head().Watermark = dataflow.MinTime
	return channel.Item{Kind: channel.Rows, Batch: r}
}

func mark(t int64) channel.Item { return channel.Item{Kind: channel.Watermark, Time: t} }

func barrier(e dataflow.Epoch) channel.Item { return channel.Item{Kind: channel.Barrier, Epoch: e} }

// turn runs one turn after us microseconds, of at most steps pieces, and compares
// what the machine did.
func (b *bench) turn(us int64, steps int, want ...string) {
	b.t.Helper()
	b.now += us
	b.m.Turn(b.now, func() bool { steps--; return steps > 0 })
	b.expect(want...)
}

func (b *bench) expect(want ...string) {
	b.t.Helper()
	if !slices.Equal(b.said, want) {
		b.t.Fatalf("it did %q, want %q", b.said, want)
	}
	b.said = nil
}

// Rows leave when nothing else is to be done; a watermark leaves with them, or at
// once if the receiver waits for it, or 5 ms after the one before.
func TestHold(t *testing.T) {
	b := newBench(t, 1, &fake.Each{F: pass}, nil)
	b.give(0, rows(10, 20))
	b.turn(0, 9, "0: 2 rows")
	b.give(0, mark(15))
	b.turn(0, 9, "0: watermark 15") // the first is due
	b.give(0, mark(16))
	b.turn(1000, 9, fmt.Sprintf("wake at %d", b.now+5000))
	b.give(0, mark(17))
	b.turn(4000, 9, "0: watermark 17")
	b.m.Credit(0, channel.Credit{Timer: 20})
	b.give(0, mark(19))
	b.turn(1, 9, fmt.Sprintf("wake at %d", b.now+5000))
	b.give(0, mark(20))
	b.turn(1, 9, "0: watermark 20")
	b.give(0, rows(30))
	b.give(0, mark(21))
	b.turn(1, 9, "0: 1 rows") // carries 21
	b.turn(9000, 9)
}

// An idle input holds nothing back, all idle is idle, and the end of time comes
// with the last end only.
func TestWatermark(t *testing.T) {
	b := newBench(t, 3, &fake.Each{F: pass}, nil)
	next := func(in int, it channel.Item, want ...string) {
		t.Helper()
		b.give(in, it)
		b.turn(10_000, 9, want...)
	}
	next(0, mark(10))
	next(1, mark(20))
	next(2, mark(5), "0: watermark 5")
	next(2, channel.Item{Kind: channel.Idle}, "0: watermark 10")
	next(0, channel.Item{Kind: channel.Idle}, "0: watermark 20")
	next(1, channel.Item{Kind: channel.Idle}, "0: idle")
	next(2, mark(15)) // active again, and behind: time does not go back
	next(2, mark(30), "0: watermark 30")
	next(2, mark(dataflow.MaxTime))
	next(2, channel.Item{Kind: channel.End}, "0: idle") // the others are
	next(1, mark(50), "0: watermark 50")
	next(1, channel.Item{Kind: channel.End}, "0: idle")
	next(0, channel.Item{Kind: channel.End}, "0: watermark 9223372036854775807", "0: end", "ended")
}

// A barrier passes between two timers: the part holds the watermark before, and
// the timers that are left fire after it.
func TestBarrierBetweenTimers(t *testing.T) {
	// One row of room: every call of Advance fires one timer.
	b := newBench(t, 1, &fake.Counter{Every: 100}, func(c *subtask.Config) { c.Window = channel.Window{Rows: 1, Bytes: 1 << 20} })
	b.give(0, rows(10, 11, 12)) // keys 0, 1, 2
	b.turn(0, 9)
	b.give(0, mark(100))
	b.turn(0, 9, "0: 1 rows")
	b.give(0, barrier(1))
	b.turn(0, 9, "0: barrier 1", "write 1.0")
	b.write()
	b.expect("ack 1 files 1 commits 0 finished false")
	st := b.acks[0].Operators["op"]
	if st.Watermark != dataflow.MinTime || st.Target != 100 {
		t.Errorf("the part holds watermark %d and target %d, want that before and 100", st.Watermark, st.Target)
	}
	b.m.Credit(0, channel.Credit{Rows: 5, Bytes: 1000, Timer: dataflow.MaxTime})
	b.turn(0, 9, "0: 2 rows")
}

// A machine that was restored between two timers fires those that are left before
// the first row: one that is late must not be taken for one in time, after what it
// belongs to was emitted.
func TestRestoredBetweenTimers(t *testing.T) {
	r := &late{}
	b := newBench(t, 1, r, func(c *subtask.Config) { c.Ops[0].Watermark, c.Ops[0].Target = 50, 100 })
	b.give(0, rows(70))
	b.give(0, mark(100))
	b.turn(0, 9)
	if want := []string{"advance 100", "rows at 100"}; !slices.Equal(r.calls, want) {
		t.Errorf("calls %q, want %q", r.calls, want)
	}
}

// late notes the order of its calls.
type late struct {
	fake.Counter
	h     spi.Host
	calls []string
}

func (l *late) Open(h spi.Host, extra []byte) error { l.h = h; return l.Counter.Open(h, extra) }

func (l *late) Advance(wm int64, budget int) (bool, error) {
	l.calls = append(l.calls, fmt.Sprint("advance ", wm))
	return l.Counter.Advance(wm, budget)
}

func (l *late) Step(p int, in spi.Batch, from int) (int, error) {
	l.calls = append(l.calls, fmt.Sprint("rows at ", l.h.Watermark()))
	return l.Counter.Step(p, in, from)
}

// A barrier that finds a freeze open declines its epoch; what the declined and the
// aborted ones made rides in the next part.
func TestDecline(t *testing.T) {
	b := newBench(t, 1, &fake.Counter{}, nil)
	b.give(0, rows(1))
	b.give(0, barrier(1))
	b.turn(0, 9, "0: 1 rows", "0: barrier 1", "write 1.0")
	b.m.Abort(1)
	b.give(0, rows(2))
	b.give(0, barrier(2))
	b.turn(0, 9, "decline 2: the part of an earlier epoch is still being made: epoch 1", "0: 1 rows")
	b.write()
	b.expect()
	b.give(0, barrier(3))
	b.turn(0, 9, "0: barrier 3", "write 3.0")
	b.write()
	b.expect("ack 3 files 2 commits 0 finished false")
	b.m.Trigger(3) // late
	b.turn(0, 9)
}

// State above half the budget leaves memory without a barrier, numbered before the
// file of the next one; a barrier waits for it.
func TestSpill(t *testing.T) {
	b := newBench(t, 1, &fake.Counter{}, func(c *subtask.Config) { c.MemoryBudget = 300; c.LastEpoch = 6 })
	b.give(0, rows(1, 2, 3)) // 3 keys of 64 bytes
	b.turn(0, 9, "write 7.0", "0: 3 rows")
	b.give(0, barrier(7))
	b.turn(0, 9)
	b.write()
	b.turn(0, 9, "0: barrier 7", "ack 7 files 1 commits 0 finished false")
}

// One call that emits without end is an error that names the operator, as is what
// a runner or its panic says.
func TestOverflow(t *testing.T) {
	b := newBench(t, 1, &fake.Each{F: func(r fake.Row, at int64, emit func(fake.Row, int64)) {
		for i := range 100_000 {
			emit(r, at+int64(i))
		}
	}}, func(c *subtask.Config) { c.Overflow = 1 << 20 })
	b.give(0, rows(1))
	b.now++
	b.m.Turn(b.now, func() bool { return true })
	op, err := b.m.Err()
	if op != "op" || err == nil || !strings.Contains(err.Error(), "emitted more rows than fit") {
		t.Errorf("the machine died of %q: %v", op, err)
	}
}

// A lost item kills the subtask.
func TestLostItem(t *testing.T) {
	b := newBench(t, 1, &fake.Each{F: pass}, nil)
	b.seq[0]++
	b.give(0, mark(1))
	_, err := b.m.Err()
	var gap *channel.GapError
	if !errors.As(err, &gap) {
		t.Errorf("the machine died of %v, want a gap", err)
	}
}

// Rows of a channel that delivered its barrier wait; those before a barrier come
// first, and barriers before rows of other channels.
func TestAlignment(t *testing.T) {
	b := newBench(t, 2, &fake.Counter{}, nil)
	b.give(0, barrier(1))
	b.give(0, rows(5, 6))
	b.give(1, rows(1))
	b.turn(0, 9, "0: 1 rows")
	b.give(1, barrier(1))
	b.turn(0, 9, "0: barrier 1", "write 1.0", "0: 2 rows")
	b.write()
	b.expect("ack 1 files 1 commits 0 finished false")
	if n := b.acks[0].Files[0].Rows; n != 1 {
		t.Errorf("the part holds %d keys, want the 1 before the barrier", n)
	}
}

// The word of a complete epoch comes with the next barrier, if that is faster: an
// ack never repeats what a complete manifest holds.
func TestCompleteWithBarrier(t *testing.T) {
	table := &fake.Table{}
	w, _ := table.OpenWriter(context.Background(), spi.Env{}, nil)
	if err := w.Start(context.Background()); err != nil {
		t.Fatal(err)
	}
	b := newBench(t, 1, nil, func(c *subtask.Config) {
		c.Outs = nil
		c.Ops[0].Runner, c.Ops[0].Writer = nil, w
	})
	cut := func(e, complete dataflow.Epoch, want string) {
		t.Helper()
		b.give(0, rows(int64(e)))
		b.give(0, channel.Item{Kind: channel.Barrier, Epoch: e, Complete: complete})
		b.turn(0, 9)
		b.done[len(b.done)-1]()
		b.expect(want)
	}
	cut(1, 0, "ack 1 files 0 commits 1 finished false")
	cut(2, 0, "ack 2 files 0 commits 2 finished false") // 1 was aborted, for all it knows
	cut(3, 2, "ack 3 files 0 commits 1 finished false")
	b.m.Complete(2)
	cut(4, 2, "ack 4 files 0 commits 2 finished false")
}

// A source that was restored at its end sends its end again, and its parts keep
// the positions: none is cut before the end is told.
func TestRestoredFinished(t *testing.T) {
	at := []dataflow.SplitState{{Split: "a", Position: []byte("9")}}
	b := newBench(t, 0, nil, func(c *subtask.Config) {
		c.Finished = true
		c.Ops[0].Runner, c.Ops[0].Source = nil, &fake.Stamper{}
		c.Ops[0].Splits, c.Ops[0].Marks = at, map[string]int64{"a": 77}
	})
	b.m.Trigger(1)
	b.turn(0, 9, "0: watermark 9223372036854775807", "0: end", "ended", "ack 1 files 0 commits 0 finished true")
	st := b.acks[0].Operators["op"]
	marks, err := subtask.ParseMarks(st.Extra)
	if len(st.Splits) != 1 || string(st.Splits[0].Position) != "9" || marks["a"] != 77 || err != nil {
		t.Errorf("the part holds %+v and marks %v (%v)", st.Splits, marks, err)
	}
}

// A part says how long its epoch kept the subtask from its rows: from the barrier to
// its being passed on, and while what was frozen is let go of. Waiting for the file is
// not in it.
func TestHeldIsMeasured(t *testing.T) {
	var clock int64
	b := newBench(t, 1, &fake.Counter{}, func(c *subtask.Config) {
		c.Monotonic = func() int64 { clock += 100; return clock } // every look costs 100 ns
	})
	b.give(0, rows(10, 20))
	b.give(0, barrier(1))
	b.now += 10
	b.m.Turn(b.now, func() bool { return true })
	if b.write == nil || len(b.acks) != 0 {
		t.Fatalf("nothing is being written: %q", b.said)
	}
	clock += 1e9 // the disk is slow
	b.write()
	if len(b.acks) != 1 || b.acks[0].HeldNanos != 200 {
		t.Errorf("acks %+v, want one that was held for 200 ns", b.acks)
	}
}
