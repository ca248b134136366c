package driver

import (
	"context"
	"fmt"
	"reflect"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/weirstream/weir/stream/spi"
)

const (
	slabRecords = 256
	slabBytes   = 128 << 10
	recordCost  = 64 // bytes a record is counted for beside key and value
)

// An outbox turns rows into records and bounds what the client holds. Records and
// their bytes are cut from slabs, which are used again when the broker has
// acknowledged all of theirs, so that a row costs no allocation.
//
// All methods belong to the turn; promises of the client run on its goroutines.
type outbox struct {
	limit int64
	wake  func()
	lost  func(error)
	first func()      // called once per generation, when the broker has its first record; nil: not
	slab  *slab       // being filled; nil: none
	gen   *generation // records since the last mark; nil: none

	held    atomic.Int64 // bytes handed to the client and not acknowledged
	starved atomic.Bool  // send gave up for want of room
	spare   sync.Pool    // of *slab
}

// A slab is a run of records with their bytes.
type slab struct {
	out     *outbox
	gen     *generation
	n       int
	buf     []byte
	bytes   int64
	open    atomic.Int32 // promises owed; below zero while being filled
	broken  atomic.Bool  // a promise brought an error: not used again
	promise func(*kgo.Record, error)
	recs    [slabRecords]kgo.Record
	headers []kgo.RecordHeader
}

// A generation is the records between two marks.
type generation struct {
	records int64
	open    atomic.Int64 // slabs not done, and one until it is marked
	done    chan struct{}
	first   func() // outbox.first
	begun   atomic.Bool
}

func (g *generation) finish() {
	if g.open.Add(-1) == 0 {
		close(g.done)
	}
}

// wait returns when every record of g is acknowledged or lost.
func (g *generation) wait(ctx context.Context, client *kgo.Client) error {
	flushing, cancel := context.WithCancel(ctx)
	defer cancel()
	go client.Flush(flushing) // ends lingering; may wait for later records, so it is not waited for
	select {
	case <-g.done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func newOutbox(cfg *sinkConfig, wake func(), lost func(error)) *outbox {
	return &outbox{limit: cfg.buffer, wake: wake, lost: lost}
}

func (o *outbox) newSlab() *slab {
	s, ok := o.spare.Get().(*slab)
	if !ok {
		s = &slab{out: o, buf: make([]byte, 0, slabBytes+slabBytes/4)}
		s.promise = s.acknowledged
	}
	if o.gen == nil {
		o.gen = &generation{done: make(chan struct{}), first: o.first}
		o.gen.open.Store(1)
	}
	s.gen = o.gen
	s.gen.open.Add(1)
	return s
}

// seal ends the filling of the current slab.
func (o *outbox) seal() {
	s := o.slab
	if s == nil {
		return
	}
	o.slab = nil
	if s.open.Add(int32(s.n)) == 0 {
		s.finish()
	}
}

// acknowledged is the promise of every record of s.
func (s *slab) acknowledged(_ *kgo.Record, err error) {
	if err != nil {
		s.broken.Store(true)
		s.out.lost(err)
	} else if g := s.gen; g.first != nil && !g.begun.Load() && g.begun.CompareAndSwap(false, true) {
		g.first()
	}
	if s.open.Add(-1) == 0 {
		s.finish()
	}
}

// finish runs once, after the last promise of a sealed slab.
func (s *slab) finish() {
	o, g := s.out, s.gen
	held := o.held.Add(-s.bytes)
	if !s.broken.Load() {
		for i := range s.n {
			s.recs[i] = kgo.Record{}
		}
		clear(s.headers)
		s.n, s.bytes, s.buf, s.gen, s.headers = 0, 0, s.buf[:0], nil, s.headers[:0]
		o.spare.Put(s)
	}
	if held <= o.limit/2 && o.starved.Swap(false) {
		o.wake()
	}
	g.finish()
}

// mark ends a generation and returns it; nil if there was no record.
func (o *outbox) mark() *generation {
	o.seal()
	g := o.gen
	o.gen = nil
	if g != nil {
		g.finish()
	}
	return g
}

// full tells whether no more may be handed to the client now.
func (o *outbox) full() bool {
	if o.held.Load() < o.limit {
		return false
	}
	o.seal() // what it holds must not wait for rows to come
	o.starved.Store(true)
	return o.held.Load() >= o.limit || !o.starved.Swap(false)
}

// send hands rows from index from on to the client, until its room is used up.
func (o *outbox) send(ctx context.Context, client *kgo.Client, enc *encoder, b spi.Batch, from int) (consumed int, err error) {
	base, size, times := b.Base(), enc.size, b.Head().Times
	for i := from; i < b.Len(); i++ {
		if o.full() {
			break
		}
		if o.slab == nil {
			o.slab = o.newSlab()
		}
		s := o.slab
		r := &s.recs[s.n]
		before := len(s.buf)
		if err := enc.encode(r, s, unsafe.Add(base, uintptr(i)*size), times[i]); err != nil {
			s.buf = s.buf[:before]
			*r = kgo.Record{}
			return consumed, err
		}
		cost := int64(len(s.buf)-before) + recordCost
		s.n++
		s.bytes += cost
		s.gen.records++
		o.held.Add(cost)
		consumed++
		client.Produce(ctx, r, s.promise)
		if s.n == slabRecords || len(s.buf) >= slabBytes {
			o.seal()
		}
	}
	return consumed, nil
}

// An encoder makes records of rows, by the job's codec and hooks.
type encoder struct {
	topic      string
	operator   string
	size       uintptr
	elem       reflect.Type
	codec      spi.Codec
	key        *spi.Hook
	headers    *spi.Hook
	timestamp  *spi.Hook
	partition  *spi.Hook
	partitions int
}

func newEncoder(env spi.Env, cfg *sinkConfig, partitions int) (encoder, error) {
	e := encoder{topic: cfg.topic, operator: string(env.Operator), size: env.Elem.Size(), elem: env.Elem, codec: env.Value, partitions: partitions}
	if e.codec == nil {
		return e, fmt.Errorf("kafka sink: no format is set for the values of topic %q: use json, avro or raw", cfg.topic)
	}
	for i := range env.Hooks {
		h := &env.Hooks[i]
		switch {
		case h.Elem != nil && h.Elem != env.Elem:
			return e, fmt.Errorf("kafka sink: hook %q is for rows of %v, the sink has %v", h.Name, h.Elem, env.Elem)
		case h.Name == "key" && h.Bytes != nil:
			e.key = h
		case h.Name == "headers" && h.Pairs != nil:
			e.headers = h
		case h.Name == "timestamp" && h.Time != nil:
			e.timestamp = h
		case h.Name == "partition" && h.Int != nil:
			e.partition = h
		default:
			return e, fmt.Errorf("kafka sink: unknown hook %q: known are key, headers, timestamp and partition", h.Name)
		}
	}
	return e, nil
}

// encode fills r from the row at p. Its bytes are appended to the slab's buffer,
// which may move: what was cut from it before stays valid.
func (e *encoder) encode(r *kgo.Record, s *slab, p unsafe.Pointer, at int64) error {
	if e.key != nil {
		from := len(s.buf)
		s.buf = e.key.Bytes(s.buf, p)
		if len(s.buf) > from {
			r.Key = s.buf[from:len(s.buf):len(s.buf)]
		}
	}
	from := len(s.buf)
	buf, err := e.codec.Append(s.buf, p)
	if err != nil {
		return fmt.Errorf("kafka sink: a row of %v for topic %q cannot be encoded: %w", e.elem, e.topic, err)
	}
	s.buf = buf
	r.Value = buf[from:len(buf):len(buf)]
	if e.timestamp != nil {
		at = e.timestamp.Time(p)
	}
	if at > 0 {
		r.Timestamp = time.UnixMicro(at)
	}
	if e.headers != nil {
		from := len(s.headers)
		e.headers.Pairs(p, func(key string, value []byte) {
			s.headers = append(s.headers, kgo.RecordHeader{Key: key, Value: append([]byte(nil), value...)})
		})
		r.Headers = s.headers[from:len(s.headers):len(s.headers)]
	}
	if e.partition != nil {
		n := e.partition.Int(p, e.partitions)
		if n < 0 || n >= e.partitions {
			return fmt.Errorf("kafka sink: the job's partition function returned %d for topic %q, which has partitions 0..%d", n, e.topic, e.partitions-1)
		}
		r.Partition = int32(n)
	}
	return nil
}
