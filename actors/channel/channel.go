// Package channel is the protocol of one channel, the ordered stream of batches
// from one subtask to another, without its transport: items in order, credit in
// rows and bytes, sequence numbers.
//
// A Sender spends credit that a Receiver granted. Rows need credit; watermarks,
// idle marks, barriers and the end of input need none, so they cannot be stuck
// behind want of room, and credit is the only back-pressure there is.
//
// Invariants:
//   - items are received in the order in which they were sent, without a gap;
//   - rows on their way plus rows queued never exceed what was granted, but for
//     one row that was larger than the byte credit;
//   - a receiver that consumes what it queued grants again: credit is never lost.
//
// Concurrency: a Sender and a Receiver belong to their subtasks' turns. This
// package starts no goroutine and reads no clock.
//
// Durability: none.
package channel

import (
	"fmt"

	"github.com/weirstream/weir/dataflow"
	"github.com/weirstream/weir/stream/spi"
)

// Kind says what an Item is.
type Kind uint8

// The kinds of items.
const (
	Rows      Kind = iota + 1 // Batch; its Head().Watermark holds after the last row
	Watermark                 // Time
	Idle                      // no watermark is to be expected until rows or a watermark come
	Barrier                   // Epoch
	End                       // no item follows
)

// String returns the kind's name.
func (k Kind) String() string {
	switch k {
	case Rows:
		return "rows"
	case Watermark:
		return "watermark"
	case Idle:
		return "idle"
	case Barrier:
		return "barrier"
	case End:
		return "end"
	}
	return fmt.Sprintf("kind(%d)", uint8(k))
}

// An Item is one element of a channel.
type Item struct {
	Kind    Kind
	Seq     uint64 // 1, 2, ... per channel and attempt
	Attempt dataflow.Attempt
	Batch   spi.Batch      // Rows
	Bytes   int64          // Rows: what the sender spent
	Time    int64          // Watermark
	Epoch   dataflow.Epoch // Barrier
	// Complete is the newest complete epoch when the barrier was ordered: what its
	// acks carried must not be in those of Epoch, and the word of the job manager may
	// come later than the barrier.
	Complete dataflow.Epoch
}

// A Credit travels against the items.
type Credit struct {
	Rows  int64
	Bytes int64
	// Timer is the next event time at which the receiver would do something: a
	// watermark that reaches it should not wait. dataflow.MaxTime if there is none.
	Timer int64
	// Free are consumed containers, reset, for the sender to fill again. Local
	// channels only.
	Free []spi.Batch
}

// A Window is how much a receiver lets be on its way to it.
type Window struct {
	Rows  int64 // at least 1
	Bytes int64 // at least 1
}

// Initial is the usual window of a new channel, before the receiver has measured
// itself.
func Initial() Window { return Window{Rows: 4096, Bytes: 1 << 20} }

// A Sender is the sending end of a channel.
type Sender struct {
	attempt dataflow.Attempt
	seq     uint64
	rows    int64 // credit left
	bytes   int64 // credit left; may be overdrawn once, by one row
	timer   int64
	ended   bool
}

// NewSender returns the sending end of a channel of an attempt. Its first credit
// is the window, which both ends know.
func NewSender(attempt dataflow.Attempt, w Window) *Sender {
	return &Sender{attempt: attempt, rows: w.Rows, bytes: w.Bytes, timer: dataflow.MaxTime}
}

// Room returns how many rows of about rowBytes each may be sent: at least one
// whenever there is credit at all.
func (s *Sender) Room(rowBytes int64) int64 {
	if s.rows <= 0 || s.bytes <= 0 {
		return 0
	}
	return min(s.rows, max(1, s.bytes/max(1, rowBytes)))
}

// Credit returns the rows and bytes left.
func (s *Sender) Credit() (rows, bytes int64) { return s.rows, s.bytes }

// Timer returns what the receiver announced last.
func (s *Sender) Timer() int64 { return s.timer }

// Grant adds credit that came back.
func (s *Sender) Grant(c Credit) {
	s.rows += c.Rows
	s.bytes += c.Bytes
	s.timer = c.Timer
}

// Stamp numbers it as the next item of the channel and spends its credit. Sending
// more rows than Room, or anything after End, is a bug.
func (s *Sender) Stamp(it Item) Item {
	if s.ended {
		panic(fmt.Sprintf("channel: %s sent after the end", it.Kind))
	}
	if it.Kind == Rows {
		n := int64(it.Batch.Len())
		if n > s.rows {
			panic(fmt.Sprintf("channel: %d rows sent with credit for %d", n, s.rows))
		}
		s.rows -= n
		s.bytes -= it.Bytes
	}
	s.ended = it.Kind == End
	s.seq++
	it.Seq, it.Attempt = s.seq, s.attempt
	return it
}

// A Receiver is the receiving end of a channel: the items that arrived and are
// not consumed, and what is to be granted.
type Receiver struct {
	attempt dataflow.Attempt
	seq     uint64
	queue   []Item // queue[head:] are waiting
	head    int
	queued  int64 // rows waiting
	window  Window
	rows    int64 // granted or queued, and not consumed
	bytes   int64
	timer   int64
	told    int64 // timer last announced
	free    []spi.Batch
	ended   bool
}

// NewReceiver returns the receiving end of a channel of an attempt; its window is
// that of NewSender.
func NewReceiver(attempt dataflow.Attempt, w Window) *Receiver {
	return &Receiver{
		attempt: attempt, window: w, rows: w.Rows, bytes: w.Bytes,
		timer: dataflow.MaxTime, told: dataflow.MaxTime,
	}
}

// A GapError reports that items of a channel were lost or doubled. It fails the
// attempt.
type GapError struct {
	Want, Got uint64
}

func (e *GapError) Error() string {
	return fmt.Sprintf("channel: item %d came where %d was due", e.Got, e.Want)
}

// Push files an item that arrived. Items of another attempt are dropped; a gap is
// a *GapError.
func (r *Receiver) Push(it Item) error {
	if it.Attempt != r.attempt {
		return nil
	}
	if it.Seq != r.seq+1 {
		return &GapError{Want: r.seq + 1, Got: it.Seq}
	}
	if r.ended {
		return fmt.Errorf("channel: %s came after the end", it.Kind)
	}
	r.seq++
	r.ended = it.Kind == End
	if it.Kind == Rows {
		r.queued += int64(it.Batch.Len())
	}
	if r.head > 0 && r.head == len(r.queue) {
		r.queue, r.head = r.queue[:0], 0
	} else if r.head > 32 && r.head > len(r.queue)/2 {
		n := copy(r.queue, r.queue[r.head:])
		clear(r.queue[n:])
		r.queue, r.head = r.queue[:n], 0
	}
	r.queue = append(r.queue, it)
	return nil
}

// Len returns the number of items waiting.
func (r *Receiver) Len() int { return len(r.queue) - r.head }

// Queued returns the number of rows waiting.
func (r *Receiver) Queued() int64 { return r.queued }

// Head returns the first item, nil if there is none. It is valid until the next
// Push or Pop.
func (r *Receiver) Head() *Item {
	if r.head == len(r.queue) {
		return nil
	}
	return &r.queue[r.head]
}

// Pop removes the first item, which is consumed. free is its container if it may
// be filled again.
func (r *Receiver) Pop(free spi.Batch) {
	it := &r.queue[r.head]
	if it.Kind == Rows {
		r.rows -= int64(it.Batch.Len())
		r.bytes -= it.Bytes
		r.queued -= int64(it.Batch.Len())
	}
	if free != nil {
		free.Reset()
		if len(r.free) < maxFree {
			r.free = append(r.free, free)
		}
	}
	*it = Item{}
	r.head++
}

// maxFree bounds the containers that travel back with one credit.
const maxFree = 64

// Resize sets the window, from now on. Rows granted already stay granted.
func (r *Receiver) Resize(w Window) {
	r.window = Window{Rows: max(1, w.Rows), Bytes: max(1, w.Bytes)}
}

// Window returns the window in force.
func (r *Receiver) Window() Window { return r.window }

// Announce sets the next timer that credit will carry.
func (r *Receiver) Announce(timer int64) { r.timer = timer }

// Due returns the credit to send back now, if it is worth a message: half a
// window was consumed, or the next timer became earlier than announced, or later
// and at least the announced one passed.
func (r *Receiver) Due(watermark int64) (c Credit, ok bool) {
	rows, bytes := r.window.Rows-r.rows, r.window.Bytes-r.bytes
	// A sender without room has spent all rows or all bytes; once those are consumed
	// here, one of the two is a whole window, so it is never left waiting.
	enough := rows >= max(1, r.window.Rows/2) || bytes >= max(1, r.window.Bytes/2)
	timer := r.timer < r.told || r.timer > r.told && watermark >= r.told
	if !enough && !timer || r.ended && r.Len() == 0 {
		return Credit{}, false
	}
	c = Credit{Timer: r.timer, Rows: max(0, rows), Bytes: max(0, bytes), Free: r.free}
	r.rows += c.Rows
	r.bytes += c.Bytes
	r.told, r.free = r.timer, nil
	return c, true
}
