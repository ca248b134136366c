package channel

import (
	"errors"
	"math/rand/v2"
	"reflect"
	"testing"

	"github.com/weirstream/weir/actors/internal/fake"
	"github.com/weirstream/weir/dataflow"
)

func batch(n int) *fake.Batch[fake.Row] {
	b := fake.NewBatch[fake.Row](n)
	for range n {
		b.Push(fake.Row{}, 0)
	}
	return b
}

// Whatever is sent and consumed when, and however windows change: no more is on
// its way than was granted, and a receiver that has consumed all leaves the sender
// with room.
func TestCredit(t *testing.T) {
	for seed := range uint64(500) {
		r := rand.New(rand.NewPCG(seed, 1))
		w := Window{Rows: 1 + r.Int64N(30), Bytes: 1 + r.Int64N(500)}
		s, v := NewSender(1, w), NewReceiver(1, w)
		widest := w.Rows
		var wire []Item
		var back []Credit
		sent, got := 0, 0
		for range 400 {
			switch r.IntN(5) {
			case 0:
				rowBytes := 1 + r.Int64N(60)
				if room := s.Room(rowBytes); room > 0 {
					n := 1 + r.Int64N(room)
					sent += int(n)
					wire = append(wire, s.Stamp(Item{Kind: Rows, Batch: batch(int(n)), Bytes: n * rowBytes}))
				}
			case 1:
				if len(wire) > 0 {
					if err := v.Push(wire[0]); err != nil {
						t.Fatal(err)
					}
					wire = wire[1:]
				}
			case 2:
				if h := v.Head(); h != nil {
					got += h.Batch.Len()
					v.Pop(nil)
				}
			case 3:
				if c, ok := v.Due(0); ok {
					back = append(back, c)
				}
				if len(back) > 0 {
					s.Grant(back[0])
					back = back[1:]
				}
			case 4:
				if r.IntN(10) == 0 {
					w := Window{Rows: r.Int64N(40), Bytes: r.Int64N(600)}
					widest = max(widest, w.Rows)
					v.Resize(w)
				}
			}
			if v.Queued() > widest {
				t.Fatalf("seed %d: %d rows queued, no window was above %d", seed, v.Queued(), widest)
			}
		}
		for _, it := range wire {
			if err := v.Push(it); err != nil {
				t.Fatal(err)
			}
		}
		for h := v.Head(); h != nil; h = v.Head() {
			got += h.Batch.Len()
			v.Pop(nil)
		}
		if c, ok := v.Due(0); ok {
			back = append(back, c)
		}
		for _, c := range back {
			s.Grant(c)
		}
		if got != sent || v.Queued() != 0 {
			t.Fatalf("seed %d: %d rows came of %d, %d queued", seed, got, sent, v.Queued())
		}
		if s.Room(1) == 0 {
			t.Fatalf("seed %d: all is consumed and the sender has no room: window %+v", seed, v.Window())
		}
	}
}

// A lost, doubled or late item is a gap; one of another attempt is nothing.
func TestGap(t *testing.T) {
	for _, tt := range []struct {
		name string
		it   Item
		gap  bool
	}{
		{"the next", Item{Kind: Idle, Seq: 2, Attempt: 3}, false},
		{"the same again", Item{Kind: Idle, Seq: 1, Attempt: 3}, true},
		{"one is missing", Item{Kind: Idle, Seq: 3, Attempt: 3}, true},
		{"of an older attempt", Item{Kind: Idle, Seq: 7, Attempt: 2}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			v := NewReceiver(3, Initial())
			if err := v.Push(Item{Kind: Idle, Seq: 1, Attempt: 3}); err != nil {
				t.Fatal(err)
			}
			var gap *GapError
			if err := v.Push(tt.it); errors.As(err, &gap) != tt.gap {
				t.Errorf("Push = %v, want a gap: %v", err, tt.gap)
			}
		})
	}
}

// Credit goes back when the next timer becomes earlier, and when it becomes later
// and the one announced has passed.
func TestAnnounce(t *testing.T) {
	v := NewReceiver(1, Initial())
	due := func(timer, wm int64) bool {
		v.Announce(timer)
		c, ok := v.Due(wm)
		if ok && c.Timer != timer {
			t.Errorf("credit carries %d, want %d", c.Timer, timer)
		}
		return ok
	}
	for i, step := range []struct {
		timer, wm int64
		want      bool
	}{
		{dataflow.MaxTime, 0, false}, {100, 0, true}, {100, 50, false}, {90, 50, true},
		{200, 60, false}, {200, 90, true}, {200, 95, false},
	} {
		if got := due(step.timer, step.wm); got != step.want {
			t.Errorf("step %d (timer %d at %d): due %v, want %v", i, step.timer, step.wm, got, step.want)
		}
	}
}

// The sizer counts what strings and bytes hold, wherever they lie in a row.
func TestSizer(t *testing.T) {
	type inner struct {
		N int64
		S string
	}
	type row struct {
		A inner
		B []byte
		C [2]string
	}
	b := fake.NewBatch[row](2)
	b.Push(row{A: inner{S: "12345"}, B: make([]byte, 10), C: [2]string{"1", "22"}}, 0)
	b.Push(row{}, 0)
	fixed := int64(reflect.TypeFor[row]().Size()) + 8
	if got, want := NewSizer(b.Elem()).Bytes(b, 0, 2), 2*fixed+18; got != want {
		t.Errorf("Bytes = %d, want %d", got, want)
	}
	if got := NewSizer(b.Elem()).Bytes(b, 1, 2); got != fixed {
		t.Errorf("Bytes of the empty row = %d, want %d", got, fixed)
	}
}
