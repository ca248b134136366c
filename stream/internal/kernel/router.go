package kernel

import (
	"slices"

	"github.com/weirstream/weir/dataflow"
	"github.com/weirstream/weir/stream/spi"
)

// A hashRouter sends each row to the owner of its key's group. Hashes are taken
// once per row, also when a batch takes several calls.
type hashRouter[T any, K comparable] struct {
	key  func(T) K
	hash func(K) uint32

	// hashes[i] and to[i] are the hash and the receiver of row first+i of in, as of
	// the last Route, which stopped at row next.
	in     *Rows[T]
	first  int
	next   int
	hashes []uint32
	to     []int32
	dests  []dest[T]
}

// A dest is what one receiver gets of one Route.
type dest[T any] struct {
	room   int // left
	n      int // rows it gets
	values []T
	times  []int64
	hashes []uint32
}

// NewHashRouter returns the router of a keyed edge.
func NewHashRouter[T any, K comparable](key func(T) K, hash func(K) uint32) spi.Router {
	return &hashRouter[T, K]{key: key, hash: hash}
}

// NewBatch implements spi.Router.
func (*hashRouter[T, K]) NewBatch(capacity int) spi.Batch { return NewRows[T](capacity) }

// Route implements spi.Router.
func (r *hashRouter[T, K]) Route(batch spi.Batch, from int, owner []int32, room []int, out []spi.Batch) int {
	in := batch.(*Rows[T])
	r.resolve(in, from, owner)
	hashes, to := r.hashes[from-r.first:], r.to[from-r.first:]
	dests := slices.Grow(r.dests[:0], len(out))[:len(out)]
	for i := range dests {
		dests[i] = dest[T]{room: room[i]}
	}
	n := 0
	for _, t := range to {
		d := &dests[t]
		if d.n >= d.room {
			break
		}
		d.n++
		n++
	}
	hashes, to = hashes[:n], to[:n]
	values, times := in.Values[from:from+n], in.Meta.Times[from:from+n]
	for i := range dests {
		d := &dests[i]
		if d.n == 0 {
			continue
		}
		all := d.n == n
		d.open(out[i].(*Rows[T]))
		if all {
			copy(d.values, values)
			copy(d.times, times)
			copy(d.hashes, hashes)
			to = nil
			break
		}
	}
	for i, t := range to {
		d := &dests[t]
		at := d.n
		d.values[at], d.times[at], d.hashes[at] = values[i], times[i], hashes[i]
		d.n = at + 1
	}
	clear(dests)
	r.dests, r.in, r.next = dests, in, from+n
	return n
}

// open makes room for d.n rows at the end of o and leaves d.n at 0.
func (d *dest[T]) open(o *Rows[T]) {
	hashes := o.Meta.Hashes
	at := o.Grow(d.n)
	if len(hashes) != at {
		hashes = slices.Grow(hashes[:0], at)[:at] // rows of a sender that did not hash: not of this router
		clear(hashes)
	}
	o.Meta.Hashes = slices.Grow(hashes, d.n)[:at+d.n]
	d.values, d.times, d.hashes = o.Values[at:], o.Meta.Times[at:], o.Meta.Hashes[at:]
	d.n = 0
}

// resolve makes hashes and receivers of rows [from, Len) of in, unless the last
// Route, which stopped there, left them.
func (r *hashRouter[T, K]) resolve(in *Rows[T], from int, owner []int32) {
	if len(r.to) > 0 && r.in == in && r.next == from && r.first+len(r.to) == len(in.Values) {
		return
	}
	n := len(in.Values) - from
	r.first = from
	r.hashes = slices.Grow(r.hashes[:0], n)[:n]
	r.to = slices.Grow(r.to[:0], n)[:n]
	for i := range r.hashes {
		r.hashes[i] = r.hash(r.key(in.Values[from+i]))
	}
	groups := len(owner)
	for i, h := range r.hashes {
		r.to[i] = owner[dataflow.GroupOf(h, groups)]
	}
}

// A rebalance deals rows evenly, in runs; full receivers are passed over.
type rebalance[T any] struct {
	turn  int   // whose turn it is
	given []int // scratch: rows given per receiver in this Route
}

// NewRebalance returns the router of an edge that any receiver may serve.
func NewRebalance[T any]() spi.Router { return new(rebalance[T]) }

// NewBatch implements spi.Router.
func (*rebalance[T]) NewBatch(capacity int) spi.Batch { return NewRows[T](capacity) }

// Route implements spi.Router.
func (r *rebalance[T]) Route(batch spi.Batch, from int, _ []int32, room []int, out []spi.Batch) int {
	n := batch.Len() - from
	run := (n + len(out) - 1) / len(out)
	r.given = append(r.given[:0], make([]int, len(out))...)
	done := 0
	for full := 0; done < n && full < len(out); {
		i := r.turn % len(out)
		r.turn = i + 1
		k := min(run, n-done, room[i]-r.given[i])
		if k <= 0 {
			full++
			continue
		}
		full = 0
		out[i].Append(batch, from+done, from+done+k)
		r.given[i] += k
		done += k
	}
	return done
}

// A broadcast gives every row to every receiver.
type broadcast[T any] struct{}

// NewBroadcast returns the router of an edge that all receivers serve.
func NewBroadcast[T any]() spi.Router { return broadcast[T]{} }

// NewBatch implements spi.Router.
func (broadcast[T]) NewBatch(capacity int) spi.Batch { return NewRows[T](capacity) }

// Route implements spi.Router.
func (broadcast[T]) Route(batch spi.Batch, from int, _ []int32, room []int, out []spi.Batch) int {
	n := max(0, min(batch.Len()-from, slices.Min(room)))
	for _, o := range out {
		o.Append(batch, from, from+n)
	}
	return n
}
