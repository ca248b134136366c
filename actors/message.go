package actors

import (
	"github.com/weirstream/weir/actors/channel"
	"github.com/weirstream/weir/actors/frame"
	"github.com/weirstream/weir/actors/subtask"
	"github.com/weirstream/weir/dataflow"
	"github.com/weirstream/weir/stream/spi"
)

// Messages of the subtask actor. They stay inside one attempt of one process, so
// none is lost while the attempt lives; once it is stopped all are dropped.
//
//	message   from                answer
//	opened    background          Events.Ready
//	started   background          none: rows flow
//	order     worker              Events.Acked, Declined, Ended
//	*items    upstream subtask    *credit, when half a window was consumed
//	*framed   a link's reader     *credit, as a frame
//	*credit   downstream subtask  none
//	written   background          none
//	prepared  a sink, anywhere    none
//	wake      a driver, the clock none: a turn runs
//	died      background          Events.Failed
//	turn      the actor itself    none
type message interface{ subtaskMessage() }

type (
	// opened brings what was opened in the background.
	opened struct{ cfg subtask.Config }
	// started tells that the writers of the sinks are.
	started struct{}
	// order is a word of the job manager.
	order struct {
		verb  verb
		epoch dataflow.Epoch
	}
	// items are what one turn of a sender put on one channel. Pooled.
	items struct {
		in    int
		items []channel.Item
	}
	// framed is an item, or part of one, from another worker.
	framed struct {
		in int
		f  frame.Frame // its payload is its own
	}
	// credit came back from the receiver of an output channel.
	credit struct {
		out int
		channel.Credit
	}
	written  struct{ err error }
	prepared struct {
		op    int
		epoch dataflow.Epoch
		p     spi.Prepared
		err   error
	}
	wake struct{}
	died struct {
		op  dataflow.OperatorID
		err error
	}
	turn struct{}
)

func (opened) subtaskMessage()   {}
func (started) subtaskMessage()  {}
func (order) subtaskMessage()    {}
func (*items) subtaskMessage()   {}
func (*framed) subtaskMessage()  {}
func (*credit) subtaskMessage()  {}
func (written) subtaskMessage()  {}
func (prepared) subtaskMessage() {}
func (wake) subtaskMessage()     {}
func (died) subtaskMessage()     {}
func (turn) subtaskMessage()     {}

// verb is what the job manager orders.
type verb uint8

const (
	start verb = iota + 1
	trigger
	abort
	complete
	finish
)
