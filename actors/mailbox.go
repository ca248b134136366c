package actors

import (
	"runtime"
	"sync"
	"sync/atomic"

	"github.com/asynkron/protoactor-go/actor"
)

// mailbox keeps a subtask's control and its turns apart: everything that was
// posted is filed before the next turn runs, however long the turns' work is, and
// turns of one actor yield to those of others. protoactor's own mailbox is one
// FIFO, in which a turn message waits behind a flood or control behind a turn.
//
// Any goroutine posts; one at a time processes.
type mailbox struct {
	invoker    actor.MessageInvoker
	dispatcher actor.Dispatcher

	mu struct {
		sync.Mutex
		system  []any
		user    []any
		turn    bool
		running bool // a goroutine is processing, or is scheduled to
		closed  bool // user messages are dropped
		suspend bool
	}

	// Empty arrays to swap with those of mu, of the processing goroutine; nil while
	// both of a pair are in use.
	spareSystem, spareUser []any

	posted atomic.Int64 // user messages and turns
}

var _ actor.Mailbox = (*mailbox)(nil)

func (b *mailbox) PostUserMessage(msg any) {
	b.mu.Lock()
	if b.mu.closed {
		b.mu.Unlock()
		return
	}
	b.posted.Add(1)
	if _, ok := msg.(turn); ok {
		b.mu.turn = true
	} else {
		b.mu.user = append(b.mu.user, msg)
	}
	b.scheduleLocked()
}

func (b *mailbox) PostSystemMessage(msg any) {
	b.mu.Lock()
	b.mu.system = append(b.mu.system, msg)
	b.scheduleLocked()
}

// scheduleLocked unlocks mu.
func (b *mailbox) scheduleLocked() {
	start := !b.mu.running
	b.mu.running = true
	b.mu.Unlock()
	if start {
		b.dispatcher.Schedule(b.process)
	}
}

func (b *mailbox) RegisterHandlers(invoker actor.MessageInvoker, dispatcher actor.Dispatcher) {
	b.invoker, b.dispatcher = invoker, dispatcher
}

func (b *mailbox) Start() {}

func (b *mailbox) UserMessageCount() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.mu.user)
}

// close drops user messages from now on, waiting ones included.
func (b *mailbox) close() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.mu.closed, b.mu.user, b.mu.turn = true, nil, false
}

// process runs until nothing is left: system messages, then all that was posted,
// then one turn, and again.
func (b *mailbox) process() {
	for {
		b.mu.Lock()
		run := b.mu.turn && !b.mu.suspend
		var system, user []any
		if len(b.mu.system) > 0 {
			system, b.mu.system, b.spareSystem = b.mu.system, b.spareSystem, nil
		}
		if len(b.mu.user) > 0 && !b.mu.suspend {
			user, b.mu.user, b.spareUser = b.mu.user, b.spareUser, nil
		}
		if system == nil && user == nil && !run {
			b.mu.running = false
			b.mu.Unlock()
			return
		}
		if run {
			b.mu.turn = false
		}
		b.mu.Unlock()
		for _, msg := range system {
			b.system(msg)
		}
		for _, msg := range user {
			b.invoker.InvokeUserMessage(msg)
		}
		if system != nil {
			clear(system)
			b.spareSystem = system[:0]
		}
		if user != nil {
			clear(user)
			b.spareUser = user[:0]
		}
		if run {
			b.invoker.InvokeUserMessage(turn{})
			runtime.Gosched()
		}
	}
}

func (b *mailbox) system(msg any) {
	switch msg.(type) {
	case *actor.SuspendMailbox:
		b.suspend(true)
	case *actor.ResumeMailbox:
		b.suspend(false)
	default:
		b.invoker.InvokeSystemMessage(msg)
	}
}

func (b *mailbox) suspend(on bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.mu.suspend = on
}
