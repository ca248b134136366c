package actors

import (
	"sync"
	"testing"

	"github.com/asynkron/protoactor-go/actor"
)

// invoker counts what it is given; a credit posts a turn now and then.
type invoker struct {
	t    *testing.T
	b    *mailbox
	next map[int]int64 // by poster
	n    int
	all  chan struct{}
	want int
}

func (v *invoker) InvokeSystemMessage(any) {}

func (v *invoker) EscalateFailure(reason, msg any) {}

func (v *invoker) InvokeUserMessage(msg any) {
	c, ok := msg.(*credit)
	if !ok {
		return // a turn
	}
	if c.Rows != v.next[c.out] {
		v.t.Errorf("poster %d: message %d came where %d was due", c.out, c.Rows, v.next[c.out])
	}
	v.next[c.out] = c.Rows + 1
	if v.n++; v.n%3 == 0 {
		v.b.PostUserMessage(turn{})
	}
	if v.n == v.want {
		close(v.all)
	}
}

// Whatever is posted by whom, with turns and system messages between, arrives
// once and in the poster's order.
func TestMailbox(t *testing.T) {
	const posters, each = 4, 20_000
	b := &mailbox{}
	v := &invoker{t: t, b: b, next: map[int]int64{}, all: make(chan struct{}), want: posters * each}
	b.RegisterHandlers(v, actor.NewDefaultDispatcher(1))
	var wg sync.WaitGroup
	for p := range posters {
		wg.Go(func() {
			for i := range int64(each) {
				msg := &credit{out: p}
				msg.Rows = i
				b.PostUserMessage(msg)
				switch i % 7 {
				case 0:
					b.PostUserMessage(turn{})
				case 3:
					b.PostSystemMessage(struct{}{})
				}
			}
		})
	}
	wg.Wait()
	<-v.all
	if n := b.posted.Load(); n < posters*each {
		t.Errorf("%d messages counted, want at least %d", n, posters*each)
	}
}
