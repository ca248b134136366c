package kernel

import (
	"iter"
	"runtime"

	"github.com/weirstream/weir/stream/spi"
)

// flatMap is the operator that turns each row into any number of rows.
//
// It is suspended in the middle of a row when output room runs out. For that the
// loop over the rows of a batch runs as one coroutine per Step, which yields only
// when room is gone: its cost is per batch and not per row. The coroutine ends
// with the batch, so that one is left behind only by an attempt that failed while
// it was suspended; the clean-up of the outer struct then ends it.
type flatMap[In, Out any] struct {
	Stateless
	run *flatRun[In, Out]
}

// A flatRun is the part of a flatMap that its coroutine refers to.
type flatRun[In, Out any] struct {
	f    func(In) iter.Seq[Out]
	h    spi.Host
	out  *Port[Out]
	in   *Rows[In]
	room int // rows the output still takes
	at   int // next row of in to start

	next func() (struct{}, bool) // resumes the coroutine; nil when there is none
	stop func()
}

// NewFlatMap returns the operator that replaces each row by the rows of f.
func NewFlatMap[In, Out any](f func(In) iter.Seq[Out]) spi.Runner {
	run := &flatRun[In, Out]{f: f, out: NewPort[Out](0)}
	m := &flatMap[In, Out]{run: run}
	runtime.AddCleanup(m, func(r *flatRun[In, Out]) {
		if r.next != nil {
			r.stop()
		}
	}, run)
	return m
}

// NewBatch implements spi.Runner.
func (*flatMap[In, Out]) NewBatch(_, capacity int) spi.Batch { return NewRows[In](capacity) }

// Step implements spi.Runner. A row that is suspended counts as not consumed.
func (m *flatMap[In, Out]) Step(_ int, batch spi.Batch, from int) (int, error) {
	r := m.run
	r.h = m.H
	r.room = r.out.Room(r.h)
	if r.room == 0 {
		return 0, nil
	}
	r.in, r.at = batch.(*Rows[In]), from
	if r.next == nil {
		r.next, r.stop = iter.Pull(r.rows)
	}
	_, suspended := r.next()
	r.out.Flush(r.h)
	if suspended {
		return r.at - from, nil
	}
	r.next, r.stop, r.in = nil, nil, nil
	return r.at - from, nil
}

// rows is the coroutine: it yields when room is gone in the middle of a row and
// returns when it is gone between two, or when the batch is done.
func (r *flatRun[In, Out]) rows(yield func(struct{}) bool) {
	var time int64
	stopped := false
	emit := func(v Out) bool { // one for all rows: a range loop would allocate one per row
		if r.room == 0 && !yield(struct{}{}) {
			stopped = true
			return false
		}
		r.out.Batch().Add(v, time)
		r.room--
		return true
	}
	for r.at < len(r.in.Values) && r.room > 0 {
		time = r.in.Meta.Times[r.at]
		r.f(r.in.Values[r.at])(emit)
		if stopped {
			return
		}
		r.at++
	}
}
