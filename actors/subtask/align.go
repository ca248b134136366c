package subtask

import (
	"github.com/weirstream/weir/dataflow"
	"github.com/weirstream/weir/internal/failpoint"
)

// An Aligner decides which input channels may be read while a barrier is on its
// way. It holds no rows and does no I/O.
//
// Invariants:
//   - a channel is blocked from its barrier until every live channel delivered it,
//     the epoch is aborted, or a newer epoch replaces it;
//   - an epoch is reported done at most once, and epochs only grow.
type Aligner struct {
	epoch   dataflow.Epoch // newest epoch seen; 0 before the first
	open    bool           // epoch has been seen on some channel and not on all
	got     []bool         // channels that delivered epoch, while open
	ended   []bool
	waiting int // live channels that have not delivered epoch, while open
	live    int // channels not yet at end of input
}

// NewAligner returns the aligner of n channels.
func NewAligner(n int) *Aligner {
	return &Aligner{got: make([]bool, n), ended: make([]bool, n), live: n}
}

// Epoch returns the newest epoch seen; open tells that it waits for channels.
func (a *Aligner) Epoch() (e dataflow.Epoch, open bool) { return a.epoch, a.open }

// Live returns the number of channels that have not ended.
func (a *Aligner) Live() int { return a.live }

// Blocked reports whether channel ch must not be read.
func (a *Aligner) Blocked(ch int) bool {
	return a.open && a.got[ch] && !failpoint.Off(failpoint.Alignment)
}

// Barrier tells that epoch e arrived on channel ch. done: e has arrived on all
// live channels. gone is the epoch that e replaces before it was done, 0 if none.
// An epoch that is not newer than one that was done, aborted or replaced is
// ignored.
func (a *Aligner) Barrier(ch int, e dataflow.Epoch) (done bool, gone dataflow.Epoch) {
	if e < a.epoch || e == a.epoch && !a.open {
		return false, 0
	}
	if e > a.epoch {
		if a.open {
			gone = a.epoch
		}
		a.epoch, a.open, a.waiting = e, true, a.live
		clear(a.got)
	}
	if !a.got[ch] && !a.ended[ch] {
		a.got[ch] = true
		a.waiting--
	}
	return a.settle(), gone
}

// End tells that channel ch ended; it counts as aligned from now on.
func (a *Aligner) End(ch int) (done bool) {
	if a.ended[ch] {
		return false
	}
	a.ended[ch] = true
	a.live--
	if a.open && !a.got[ch] {
		a.waiting--
	}
	return a.settle()
}

// Abort gives e up: its channels are read again, and its barriers ignored.
func (a *Aligner) Abort(e dataflow.Epoch) {
	if e >= a.epoch {
		a.epoch, a.open = e, false
	}
}

func (a *Aligner) settle() bool {
	if a.open && a.waiting == 0 {
		a.open = false
		return true
	}
	return false
}
