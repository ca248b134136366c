package kernel

import (
	"fmt"
	"unsafe"

	"github.com/weirstream/weir/dataflow"
	"github.com/weirstream/weir/stream/spi"
)

// The states of an actor operator, as named in StateTypes and manifests.
const (
	ActorState  = "actor"  // the actor's struct, with its timers
	ActorTimers = "timers" // the timer index
)

// A Core is what user code reaches through a Context, whatever the operator emits.
type Core struct {
	Sides *Sides
	Now   int64 // event time of the row or timer being handled

	host    spi.Host
	tab     *table
	queue   *timerQueue // nil: the operator has no timers
	entry   unsafe.Pointer
	id      uint32
	cleared bool
	keys    any // a keyer[K]
	handles []boundHandle
	extra   []byte // what Open was given, for handles; nil afterwards
	err     error  // of a state handle, reported when the user call returns
}

// A Run is one running actor operator as its user code sees it.
type Run[Out any] struct {
	Core
	rows *Rows[Out]
}

// Emit appends a row to the main output with the time of what is being handled.
func (r *Run[Out]) Emit(v Out) {
	r.rows.Values = append(r.rows.Values, v)
	r.rows.Meta.Times = append(r.rows.Meta.Times, r.Now)
}

// Watermark returns the watermark that the operator has reached.
func (c *Core) Watermark() int64 { return c.host.Watermark() }

// SetTimer sets the named timer of the current key. Times are microseconds.
func (c *Core) SetTimer(name string, at int64) {
	if c.queue == nil {
		panic(fmt.Sprintf("stream: SetTimer(%q) on an operator that would never see it: give the actor an OnTimer method", name))
	}
	c.tab.setTimer(c.entry, c.tab.intern(name), min(at, noTimer-1))
}

// ClearTimer drops the named timer of the current key.
func (c *Core) ClearTimer(name string) {
	if c.queue != nil {
		c.tab.clearTimer(c.entry, c.tab.intern(name))
	}
}

// Clear drops all state of the current key and its timers, when the user call
// returns.
func (c *Core) Clear() {
	c.cleared = true
	if c.queue != nil {
		c.tab.dropTimers(c.entry)
	}
	for _, b := range c.handles {
		b.impl.clear()
	}
}

type keyer[K any] interface{ currentKey() K }

// CurrentKey returns the key being handled; ok is false if keys are not of type K.
func CurrentKey[K any](c *Core) (k K, ok bool) {
	s, ok := c.keys.(keyer[K])
	if !ok {
		return k, false
	}
	return s.currentKey(), true
}

// An ActorSpec says what an actor operator is. A is a pointer to a struct.
type ActorSpec[K comparable, A, Out any] struct {
	Init   func() A
	Timer  func(a A, r *Run[Out], name string, at int64) // nil: no timers
	Inputs []ActorInput[K, A, Out]
	States []Handle // in the order of the operator call
}

// actors is the runner of an actor operator.
type actors[K comparable, A, Out any] struct {
	Run[Out]
	spec  ActorSpec[K, A, Out]
	table Table[K]
	names []string
	timer timerQueue
	index timerIndex
	ids   []uint32
	miss  misses
}

// NewActors makes the runner of one subtask.
func NewActors[K comparable, A, Out any](spec ActorSpec[K, A, Out], sides *Sides) (spi.Runner, error) {
	coder, err := newKeyCoder[K]()
	if err != nil {
		return nil, err
	}
	x := &actors[K, A, Out]{spec: spec}
	x.Sides = sides
	x.table.coder = coder
	x.rows = NewRows[Out](0)
	return x, nil
}

// Open implements spi.Runner.
func (x *actors[K, A, Out]) Open(h spi.Host, extra []byte) error {
	x.host, x.extra = h, extra
	defer func() { x.extra = nil }()
	id, _, codec, err := h.State(ActorState)
	if err != nil {
		return err
	}
	t := &x.table
	lay := actorLayout[K, A](t.coder, x.spec.Timer != nil)
	lay.codec, lay.reset = codec, resetOf(x.spec.Init)
	x.names = nil
	t.init(lay, id, newGroupSet(h, id), &x.names)
	x.tab, x.keys = &t.table, x
	if x.spec.Timer != nil {
		x.queue = &x.timer
		id, _, _, err := h.State(ActorTimers)
		if err != nil {
			return err
		}
		if err := x.index.open(h, id); err != nil {
			return err
		}
	}
	x.handles = nil
	for _, s := range x.spec.States {
		impl, err := s.open(&x.Core, t)
		if err != nil {
			return err
		}
		x.handles = append(x.handles, boundHandle{s, impl})
	}
	return nil
}

// NewBatch implements spi.Runner.
func (x *actors[K, A, Out]) NewBatch(p, capacity int) spi.Batch {
	return x.spec.Inputs[p].newBatch(capacity)
}

// Step implements spi.Runner.
func (x *actors[K, A, Out]) Step(p int, in spi.Batch, from int) (int, error) {
	return x.spec.Inputs[p].step(x, in, from)
}

func (x *actors[K, A, Out]) currentKey() K { return x.table.key(x.id) }

// outputRows is how many rows are collected before they are sent although there
// is room for more.
const outputRows = 1024

// room returns up to which length rows may be collected now; at most their length
// if there is no room.
func (x *actors[K, A, Out]) room() int {
	if len(x.rows.Values) >= outputRows {
		x.flush()
	}
	limit := min(x.host.Room(0), outputRows)
	if limit > len(x.rows.Values) {
		return x.Sides.Room(x.host, limit-len(x.rows.Values)) + len(x.rows.Values)
	}
	return limit
}

func (x *actors[K, A, Out]) flush() {
	if len(x.rows.Values) > 0 {
		x.rows = x.host.Send(0, x.rows).(*Rows[Out])
	}
	x.Sides.Flush(x.host)
}

// begin prepares a user call for an entry, which finish ends.
func (x *actors[K, A, Out]) begin(id uint32, at int64) A {
	p := x.table.at(id)
	x.table.touch(p, id)
	if h := (*head)(p); h.flags&flagAbsent != 0 {
		x.create(p, h)
	}
	x.entry, x.id, x.Now, x.Sides.At = p, id, at, at
	s := x.table.stateOf(p)
	return *(*A)(unsafe.Pointer(&s))
}

func (x *actors[K, A, Out]) create(p unsafe.Pointer, h *head) {
	h.flags &^= flagAbsent
	a := x.spec.Init()
	copyState(x.table.lay, x.table.stateOf(p), *(*unsafe.Pointer)(unsafe.Pointer(&a)))
}

func (x *actors[K, A, Out]) finish() {
	if x.cleared {
		x.clear()
	}
	if x.queue != nil {
		x.timer.enqueue(x.table.timersOf(x.entry), x.id)
	}
}

// clear carries out Clear after the user call: the struct is as new, and the key
// is gone unless the call set a timer after it.
func (x *actors[K, A, Out]) clear() {
	x.cleared = false
	t := &x.table
	if x.queue != nil && t.timersOf(x.entry).at != noTimer {
		t.lay.zero(t.stateOf(x.entry))
		x.create(x.entry, (*head)(x.entry))
		return
	}
	t.kill(x.entry, x.id)
}

// Advance implements spi.Runner.
func (x *actors[K, A, Out]) Advance(wm int64, budget int) (done bool, err error) {
	if x.queue == nil {
		return true, nil
	}
	defer x.flush()
	if more, err := x.popStored(wm); err != nil || more {
		return false, err
	}
	limit := x.room()
	for len(x.timer) > 0 && x.timer[0].at <= wm {
		if len(x.rows.Values) >= limit || len(x.Sides.ports) > 0 {
			if limit = x.room(); len(x.rows.Values) >= limit {
				return false, nil
			}
		}
		if budget <= 0 {
			return false, nil
		}
		if x.popTimer() {
			budget--
		}
		if x.err != nil {
			return false, x.err
		}
	}
	x.settle()
	return true, nil
}

// settle drops what died young; no user call runs.
func (x *actors[K, A, Out]) settle() {
	x.table.reap()
	for _, b := range x.handles {
		b.impl.settle()
	}
}

// NextTimer implements spi.Runner.
func (x *actors[K, A, Out]) NextTimer() int64 {
	if x.queue == nil {
		return dataflow.MaxTime
	}
	at := int64(noTimer)
	if len(x.timer) > 0 {
		at = x.timer[0].at
	}
	if b := x.index.earliest(); b != noTimer {
		at = min(at, bucketStart(b))
	}
	return at
}

// End implements spi.Runner.
func (x *actors[K, A, Out]) End() (done bool, err error) {
	x.flush()
	return true, nil
}

// Freeze implements spi.Runner.
func (x *actors[K, A, Out]) Freeze() (spi.Frozen, error) {
	f := &frozenRows{done: x.thaw}
	if r := x.table.freeze(false); r != nil {
		r.timerID, r.floor = x.index.id, x.index.floor
		f.runs = append(f.runs, r)
	}
	for _, b := range x.handles {
		f.runs = b.impl.freeze(f.runs)
	}
	if x.queue != nil {
		pending := int64(noTimer)
		if len(x.timer) > 0 {
			pending = x.timer[0].at
		}
		f.drops = x.index.drops(pending)
	}
	if len(f.runs) == 0 && len(f.drops) == 0 {
		return nil, nil
	}
	return f, nil
}

func (x *actors[K, A, Out]) thaw(err error) {
	if x.queue != nil {
		if err != nil {
			x.index.undo()
		} else if x.table.frozen != nil {
			x.index.wrote(&x.table.table, x.table.frozen.written)
		}
	}
	x.table.thaw(err)
	for _, b := range x.handles {
		b.impl.thaw(err)
	}
}

// Extra implements spi.Runner.
func (x *actors[K, A, Out]) Extra() []byte {
	for _, b := range x.handles {
		if r, ok := b.impl.(interface{ extra() []byte }); ok { // at most one: see stream.WithBroadcast
			return r.extra()
		}
	}
	return nil
}

// Memory implements spi.Runner.
func (x *actors[K, A, Out]) Memory() (total, dirty int64) {
	total, dirty = x.table.memory()
	total += int64(len(x.timer)) * int64(unsafe.Sizeof(queueItem{}))
	for _, b := range x.handles {
		t, d := b.impl.memory()
		total, dirty = total+t, dirty+d
	}
	return total, dirty
}

// Evict implements spi.Runner.
func (x *actors[K, A, Out]) Evict(n int64) (freed int64) {
	for _, b := range x.handles {
		if freed >= n {
			return freed
		}
		freed += b.impl.evict(n - freed)
	}
	var spare func(p unsafe.Pointer) bool
	if x.queue != nil {
		spare = func(p unsafe.Pointer) bool {
			at := x.table.timersOf(p).at
			return at != noTimer && bucketOf(at) <= x.index.floor
		}
	}
	return freed + x.table.evict(n-freed, spare)
}

// An ActorInput is one input port of an actor operator.
type ActorInput[K comparable, A, Out any] interface {
	newBatch(capacity int) spi.Batch
	step(x *actors[K, A, Out], in spi.Batch, from int) (int, error)
}

type actorInput[K comparable, A, Out, In any] struct {
	key  func(In) K
	call func(a A, r *Run[Out], e *In)
}

// NewActorInput returns an input port whose rows have the key that key returns
// and are handled by call, which must not keep e.
func NewActorInput[K comparable, A, Out, In any](key func(In) K, call func(a A, r *Run[Out], e *In)) ActorInput[K, A, Out] {
	return &actorInput[K, A, Out, In]{key, call}
}

func (*actorInput[K, A, Out, In]) newBatch(capacity int) spi.Batch { return NewRows[In](capacity) }

// blockRows is how many rows are looked up before user code runs on them.
const blockRows = 256

func (p *actorInput[K, A, Out, In]) step(x *actors[K, A, Out], batch spi.Batch, from int) (int, error) {
	in := batch.(*Rows[In])
	i := from
	for i < len(in.Values) {
		room := x.room() - len(x.rows.Values)
		if room <= 0 {
			break
		}
		n := min(len(in.Values)-i, blockRows, max(16, 2*room))
		if err := p.resolve(x, in, i, n); err != nil {
			return i - from, err
		}
		done := p.drive(x, in, i, n)
		i += done
		x.settle()
		if x.err != nil {
			return i - from, x.err
		}
		if done < n {
			break
		}
	}
	x.flush()
	return i - from, nil
}

// resolve sets x.ids to the entries of rows [i, i+n), loading what is not cached.
func (p *actorInput[K, A, Out, In]) resolve(x *actors[K, A, Out], in *Rows[In], i, n int) error {
	if cap(x.ids) < n {
		x.ids = make([]uint32, max(n, blockRows))
	}
	t := &x.table
	ids := x.ids[:n]
	x.ids = ids
	hashes := in.Meta.Hashes
	if len(hashes) != len(in.Values) {
		hashes = nil
	}
	if hashes != nil && t.live() >= warmFrom {
		t.warmed += t.warm(hashes[i : i+n])
	}
	x.miss.reset()
	for j := range ids {
		k := p.key(in.Values[i+j])
		var h uint32
		if hashes != nil {
			h = hashes[i+j]
		} else {
			h = t.coder.hash(k)
		}
		id := t.find(h, &k)
		if id == 0 {
			id = t.add(h, &k)
			if !t.groups.known(h) {
				x.miss.add(&t.table, h, x.miss.key(&t.table, id))
				x.miss.ids = append(x.miss.ids, id)
			}
		}
		ids[j] = id
	}
	return x.miss.load(x.host, func(j int, row []byte) error {
		if row == nil {
			return nil
		}
		id := x.miss.ids[j]
		p := t.at(id)
		if err := t.load(p, row); err != nil {
			return fmt.Errorf("stream: state of key %v: %w", t.key(id), err)
		}
		if x.queue != nil {
			x.timer.enqueue(t.timersOf(p), id)
		}
		return nil
	})
}

// drive runs user code on the rows that resolve looked up and returns how many.
func (p *actorInput[K, A, Out, In]) drive(x *actors[K, A, Out], in *Rows[In], i, n int) int {
	limit := x.room()
	sides := len(x.Sides.ports) > 0
	times := in.Meta.Times[i : i+n]
	values := in.Values[i : i+n]
	for j, id := range x.ids[:n] {
		if len(x.rows.Values) >= limit || sides {
			if limit = x.room(); len(x.rows.Values) >= limit {
				return j
			}
		}
		a := x.begin(id, times[j])
		p.call(a, &x.Run, &values[j])
		x.finish()
		if x.err != nil {
			return j + 1
		}
	}
	return n
}
