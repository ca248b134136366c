package minicluster

import (
	"context"
	"fmt"
	"io"

	"github.com/weirstream/weir/internal/objstore"
)

// A proc is a process that may be killed between any two things it does outside
// itself: touch is called before and after each.
type proc struct {
	s    *sim
	name string
	fuse int // touches until it dies; -1: not lit
	dead bool
}

// crashed unwinds the handler of a process that has just died; the scheduler
// recovers it.
type crashed struct{ p *proc }

func (p *proc) touch() {
	if p.dead {
		panic(crashed{p})
	}
	if p.fuse < 0 {
		return
	}
	if p.fuse == 0 {
		p.dead = true
		panic(crashed{p})
	}
	p.fuse--
}

// light makes p die at one of its next touches, or now.
func (p *proc) light() {
	p.fuse = p.s.r.IntN(8)
	p.s.tracef("%s will die after %d more actions", p.name, p.fuse)
}

// disk is the object store as one process sees it.
type disk struct {
	objstore.Store
	p *proc
}

func (d disk) Get(ctx context.Context, key string) (io.ReadCloser, objstore.Info, error) {
	d.p.touch()
	return d.Store.Get(ctx, key)
}

func (d disk) Put(ctx context.Context, key string, body io.Reader, size int64) error {
	d.p.touch()
	err := d.Store.Put(ctx, key, body, size)
	d.p.touch()
	return err
}

func (d disk) PutIfAbsent(ctx context.Context, key string, body io.Reader, size int64) error {
	d.p.touch()
	err := d.Store.PutIfAbsent(ctx, key, body, size)
	d.p.touch()
	return err
}

func (d disk) Delete(ctx context.Context, key string) error {
	d.p.touch()
	return d.Store.Delete(ctx, key)
}

// watched is the object store behind all faults: the checker sees what happens.
type watched struct {
	*objstore.Mem
	s *sim
}

func (w watched) Put(ctx context.Context, key string, body io.Reader, size int64) error {
	return w.write(ctx, key, body, size, w.Mem.Put)
}

func (w watched) PutIfAbsent(ctx context.Context, key string, body io.Reader, size int64) error {
	return w.write(ctx, key, body, size, w.Mem.PutIfAbsent)
}

func (w watched) write(ctx context.Context, key string, body io.Reader, size int64, do func(context.Context, string, io.Reader, int64) error) error {
	before, _ := objstore.ReadAll(ctx, w.Mem, key)
	if err := do(ctx, key, body, size); err != nil {
		return err
	}
	after, err := objstore.ReadAll(ctx, w.Mem, key)
	if err != nil {
		return err
	}
	w.s.check.written(key, before, after)
	return nil
}

func (w watched) Delete(ctx context.Context, key string) error {
	w.s.check.deleting(key)
	return w.Mem.Delete(ctx, key)
}

// raftLog is the log: entries in the order of decisions. It survives everything.
type raftLog struct{ entries [][]byte }

// link carries control messages one way. Order is kept, but a copy may come again
// later, and a message may be lost.
type link struct {
	s     *sim
	name  string
	queue []any
}

func (l *link) send(m any) {
	l.queue = append(l.queue, m)
	l.trace("<-", m)
}

// next takes the head, with the link's faults: ok is false if it was lost.
func (l *link) next() (m any, ok bool) {
	head := l.queue[0]
	l.queue = l.queue[1:]
	s := l.s
	if s.faults && s.shape.loss > 0 {
		switch k := s.r.IntN(1000); {
		case k < s.shape.loss:
			l.trace("lost", head)
			return nil, false
		case k < 2*s.shape.loss: // again at once
			l.queue = append([]any{head}, l.queue...)
		case k < 3*s.shape.loss: // again, behind what is on its way
			l.queue = append(l.queue, head)
		}
	}
	l.trace("->", head)
	return head, true
}

func (l *link) trace(what string, m any) {
	if l.s.tracing > 0 {
		l.s.tracef("%s %s %T %.120s", l.name, what, m, fmt.Sprintf("%+v", m))
	}
}
