package minicluster

import (
	"encoding/binary"
	"fmt"
	"unsafe"

	"github.com/weirstream/weir/dataflow"
	"github.com/weirstream/weir/stream/spi"
)

// input is the topic that the job reads: splits that grow until they are sealed.
type input struct {
	splits  [][]uint64 // keys by split and offset
	left    int        // records still to come
	sealed  bool
	readers []*reader // of all attempts, to be woken
}

func rowID(split, offset int) uint64 { return uint64(split)<<32 | uint64(offset) }

func splitName(k int) string { return fmt.Sprintf("in-%d", k) }

func (in *input) total() (n int) {
	for _, s := range in.splits {
		n += len(s)
	}
	return n
}

// reader implements spi.Reader over the splits of one subtask.
type reader struct {
	in   *input
	n    *node
	own  []int // splits
	ids  []string
	at   []int
	next int
}

// open takes the splits of one subtask: with two sources, the second reads the
// last split alone.
func (in *input) open(n *node, op dataflow.OperatorID, env spi.Env, restored []dataflow.SplitState) (*reader, error) {
	r := &reader{in: in, n: n}
	for k := range in.splits {
		if n.s.shape.sourceOf(k) != op || !spi.OwnsSplit("in", k, env.Index, env.Parallelism) {
			continue
		}
		at := 0
		for _, st := range restored {
			if st.Split == splitName(k) {
				at = int(binary.BigEndian.Uint64(st.Position))
			}
		}
		if at > len(in.splits[k]) {
			return nil, fmt.Errorf("split %d is restored at %d of %d", k, at, len(in.splits[k]))
		}
		r.own, r.ids, r.at = append(r.own, k), append(r.ids, splitName(k)), append(r.at, at)
	}
	in.readers = append(in.readers, r)
	return r, nil
}

func (r *reader) Splits() ([]string, int) { return r.ids, 1 }

func (r *reader) Poll(b spi.Batch, max int, _ *[]spi.Rejected) (int, int, error) {
	if r.n.at.draining {
		return 0, 0, nil
	}
	for range r.own {
		i := r.next
		r.next = (r.next + 1) % len(r.own)
		k := r.own[i]
		n := min(max, len(r.in.splits[k])-r.at[i], 1+r.n.s.r.IntN(8))
		if n <= 0 {
			continue
		}
		first := b.Len()
		fresh := unsafe.Slice((*row)(b.Extend(n)), n)
		for j := range fresh {
			at := r.at[i]
			fresh[j] = row{ID: rowID(k, at), Key: r.in.splits[k][at]}
			b.Head().Times[first+j] = int64(at)
			r.at[i]++
		}
		return i, n, nil
	}
	return 0, 0, nil
}

func (r *reader) Ended() bool {
	if r.n.at.draining {
		return true
	}
	for i, k := range r.own {
		if r.at[i] < len(r.in.splits[k]) {
			return false
		}
	}
	sh := &r.n.s.shape
	return r.in.sealed || sh.early && len(r.own) > 0 && sh.sourceOf(r.own[0]) == secondSource && len(r.in.splits[r.own[0]]) > 0
}

func (r *reader) Snapshot() (out []dataflow.SplitState) {
	for i, id := range r.ids {
		out = append(out, dataflow.SplitState{Split: id, Position: position(r.at[i])})
	}
	return out
}

func (r *reader) Completed(dataflow.Epoch, []dataflow.SplitState) {}
func (r *reader) Lag() int64                                      { return -1 }
func (r *reader) Close() error                                    { return nil }

// grow appends a few records to some split, or seals the topic behind the last.
func (s *sim) grow() {
	in := s.input
	if in.left == 0 {
		in.sealed = true
		s.tracef("input sealed at %d records", in.total())
		in.wake()
		return
	}
	k := s.r.IntN(len(in.splits))
	if s.shape.early && s.shape.sourceOf(k) == secondSource && len(in.splits[k]) > 0 {
		return // that one has ended
	}
	for range min(in.left, 1+s.r.IntN(6)) {
		in.splits[k] = append(in.splits[k], uint64(s.r.IntN(s.shape.keys)))
		in.left--
	}
	in.wake()
}

func (in *input) wake() {
	for _, r := range in.readers {
		if r.n.m != nil && !r.n.at.closed {
			r.n.m.Wake()
			r.n.ready = true
		}
	}
}
