package objstore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strconv"
	"sync"
	"time"
)

// A Fault is one way in which a call of a Faulty store goes wrong.
type Fault uint8

// The faults.
const (
	NoFault          Fault = iota
	LostBefore             // a write does not happen; the caller hears ErrAmbiguous
	LostAfter              // a write happens; the caller hears ErrAmbiguous
	Late                   // as LostBefore, but the write happens some calls later
	Conflict               // PutIfAbsent has no effect: S3's 409, ErrRetry
	Throttle               // the call has no effect: S3's 503, ErrRetry
	Truncate               // a read breaks off early with an error that wraps ErrRetry
	TruncateSilently       // a read ends early as if that were the object's end
	ShortPage              // List returns fewer objects than it could, which it may
	Unreachable            // the call has no effect: the network is down, ErrRetry
)

// String returns the fault's name.
func (f Fault) String() string {
	names := [...]string{"no-fault", "lost-before", "lost-after", "late", "conflict", "throttle", "truncate", "truncate-silently", "short-page", "unreachable"}
	if int(f) < len(names) {
		return names[f]
	}
	return "Fault(" + strconv.Itoa(int(f)) + ")"
}

// op is the kind of a call, as far as faults differ.
type op uint8

const (
	opRead op = iota
	opStat
	opList
	opWrite
	opPutIfAbsent
)

func (f Fault) hits(o op) bool {
	switch f {
	case LostBefore, LostAfter, Late:
		return o >= opWrite
	case Conflict:
		return o == opPutIfAbsent
	case Truncate, TruncateSilently:
		return o == opRead
	case ShortPage:
		return o == opList
	}
	return true
}

// FaultyOptions configures a Faulty. A zero field means its default.
type FaultyOptions struct {
	// Rand draws the faults; it must not be shared. It may be nil where only Script,
	// Down and DownFrom are used.
	Rand *rand.Rand

	// Odds gives each fault's probability per call that it can hit. Those that can
	// hit one call must not add up to more than 1.
	Odds map[Fault]float64

	// MaxDelay is the longest wait before a call, drawn evenly from 0; none by
	// default. Sleep waits it out on the simulation's clock.
	MaxDelay time.Duration
	Sleep    func(ctx context.Context, d time.Duration) error

	// OnFault is told each fault, for traces of a seed. It must not call the store.
	OnFault func(call int64, op, key string, f Fault)
}

// A Faulty lets the calls of another store fail, from a seed or by script. The
// same calls with the same seed always meet the same faults; it starts no
// goroutine and reads no clock.
//
// It is safe for concurrent use, but then the order of calls, and so the faults,
// are the scheduler's.
type Faulty struct {
	store Store
	opts  FaultyOptions

	mu       sync.Mutex
	calls    int64 // guarded by mu, as all below
	script   map[int64]Fault
	down     bool
	downFrom int64 // 0: never
	late     []lateWrite
}

type lateWrite struct {
	at int64 // the call before which it happens
	do func() error
}

// NewFaulty returns a store whose calls reach store unless a fault hits them. It
// panics if Odds are set without Rand, or MaxDelay without Sleep.
func NewFaulty(store Store, opts FaultyOptions) *Faulty {
	if len(opts.Odds) > 0 && opts.Rand == nil {
		panic("objstore: NewFaulty: Odds need a Rand")
	}
	if opts.MaxDelay > 0 && (opts.Sleep == nil || opts.Rand == nil) {
		panic("objstore: NewFaulty: MaxDelay needs a Sleep and a Rand")
	}
	return &Faulty{store: store, opts: opts, script: map[int64]Fault{}}
}

// Calls returns how many calls were made, Close not counted.
func (f *Faulty) Calls() int64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.calls
}

// Script lets the call with the given number, counted from 1, meet fault,
// whatever Odds say. A fault that cannot hit that call is left out.
func (f *Faulty) Script(call int64, fault Fault) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.script[call] = fault
}

// Down cuts the store off, or connects it again.
func (f *Faulty) Down(down bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.down = down
}

// DownFrom cuts the store off from the call with the given number on: what a
// process that dies there leaves behind. Zero undoes it.
func (f *Faulty) DownFrom(call int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.downFrom = call
}

// Settle lets every write that is still late happen, for the end of a run.
func (f *Faulty) Settle() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.settle(1<<63 - 1)
}

// settle performs the late writes that are due before call; mu is held. A late
// write that fails, as a put-if-absent may, fails unheard.
func (f *Faulty) settle(call int64) {
	keep := f.late[:0]
	for _, w := range f.late {
		if w.at > call {
			keep = append(keep, w)
			continue
		}
		_ = w.do()
	}
	f.late = keep
}

// meet counts a call, waits out its delay and returns the fault that hits it.
func (f *Faulty) meet(ctx context.Context, o op, name, key string) (Fault, error) {
	if ctx.Err() != nil {
		return NoFault, context.Cause(ctx)
	}
	f.mu.Lock()
	f.calls++
	call := f.calls
	f.settle(call)
	var delay time.Duration
	if f.opts.MaxDelay > 0 {
		delay = time.Duration(f.opts.Rand.Int64N(int64(f.opts.MaxDelay) + 1))
	}
	fault := f.draw(o)
	if s, ok := f.script[call]; ok && s.hits(o) {
		fault = s
	}
	if f.down || f.downFrom > 0 && call >= f.downFrom {
		fault = Unreachable
	}
	f.mu.Unlock()
	if fault != NoFault && f.opts.OnFault != nil {
		f.opts.OnFault(call, name, key, fault)
	}
	if delay > 0 {
		if err := f.opts.Sleep(ctx, delay); err != nil {
			return NoFault, err
		}
	}
	switch fault {
	case Conflict, Throttle, Unreachable:
		return fault, fmt.Errorf("objstore: %s %s: call %d: injected fault %s: %w", name, key, call, fault, ErrRetry)
	}
	return fault, nil
}

// draw takes one number per call and walks the odds in the order of the faults.
func (f *Faulty) draw(o op) Fault {
	if len(f.opts.Odds) == 0 {
		return NoFault
	}
	u := f.opts.Rand.Float64()
	for fault := LostBefore; fault <= Unreachable; fault++ {
		if p := f.opts.Odds[fault]; p > 0 && fault.hits(o) {
			if u < p {
				return fault
			}
			u -= p
		}
	}
	return NoFault
}

// intn draws from [0, n); 0 without a Rand.
func (f *Faulty) intn(n int64) int64 {
	if f.opts.Rand == nil || n <= 0 {
		return 0
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.opts.Rand.Int64N(n)
}

// write runs one writing call under its fault.
func (f *Faulty) write(ctx context.Context, o op, name, key string, do func(ctx context.Context) error) error {
	fault, err := f.meet(ctx, o, name, key)
	if err != nil {
		return err
	}
	switch fault {
	case NoFault:
		return do(ctx)
	case LostAfter:
		// The caller would hear of an error made by its own arguments, but not of one
		// that the other side found, such as ErrExists: that answer is lost as well.
		if err := do(ctx); errors.Is(err, ErrKey) {
			return err
		}
	case Late:
		wait := 1 + f.intn(16)
		f.mu.Lock()
		f.late = append(f.late, lateWrite{f.calls + wait, func() error { return do(context.WithoutCancel(ctx)) }})
		f.mu.Unlock()
	}
	return fmt.Errorf("objstore: %s %s: injected fault %s: %w", name, key, fault, ErrAmbiguous)
}

// Put implements Store.
func (f *Faulty) Put(ctx context.Context, key string, body io.Reader, size int64) error {
	return f.put(ctx, opWrite, "put", key, body, size, f.store.Put)
}

// PutIfAbsent implements Store.
func (f *Faulty) PutIfAbsent(ctx context.Context, key string, body io.Reader, size int64) error {
	return f.put(ctx, opPutIfAbsent, "put-if-absent", key, body, size, f.store.PutIfAbsent)
}

func (f *Faulty) put(ctx context.Context, o op, name, key string, body io.Reader, size int64, do func(context.Context, string, io.Reader, int64) error) error {
	if err := CheckKey(key); err != nil {
		return err
	}
	b, err := io.ReadAll(body) // a late write must not depend on the caller's reader
	if err != nil {
		return fmt.Errorf("objstore: %s %s: read the body: %w", name, key, err)
	}
	if size >= 0 && int64(len(b)) != size {
		return fmt.Errorf("objstore: %s %s: the body has %d bytes, %d were announced", name, key, len(b), size)
	}
	return f.write(ctx, o, name, key, func(ctx context.Context) error { return do(ctx, key, bytes.NewReader(b), size) })
}

// Copy implements Store.
func (f *Faulty) Copy(ctx context.Context, dst, src string) error {
	return f.write(ctx, opWrite, "copy", dst, func(ctx context.Context) error { return f.store.Copy(ctx, dst, src) })
}

// Delete implements Store.
func (f *Faulty) Delete(ctx context.Context, key string) error {
	return f.write(ctx, opWrite, "delete", key, func(ctx context.Context) error { return f.store.Delete(ctx, key) })
}

// Get implements Store.
func (f *Faulty) Get(ctx context.Context, key string) (io.ReadCloser, Info, error) {
	fault, err := f.meet(ctx, opRead, "get", key)
	if err != nil {
		return nil, Info{}, err
	}
	r, info, err := f.store.Get(ctx, key)
	if err != nil || fault == NoFault {
		return r, info, err
	}
	return f.cut(r, key, fault, info.Size), info, nil
}

// GetRange implements Store.
func (f *Faulty) GetRange(ctx context.Context, key string, offset, length int64) (io.ReadCloser, error) {
	fault, err := f.meet(ctx, opRead, "get", key)
	if err != nil {
		return nil, err
	}
	r, err := f.store.GetRange(ctx, key, offset, length)
	if err != nil || fault == NoFault {
		return r, err
	}
	if length < 0 {
		info, err := f.store.Stat(ctx, key)
		if err != nil {
			r.Close()
			return nil, err
		}
		length = info.Size - offset
	}
	return f.cut(r, key, fault, length), nil
}

// cut lets r break off after fewer than size bytes.
func (f *Faulty) cut(r io.ReadCloser, key string, fault Fault, size int64) io.ReadCloser {
	end := io.EOF
	if fault == Truncate {
		end = fmt.Errorf("objstore: get %s: injected fault %s: %w: %w", key, fault, io.ErrUnexpectedEOF, ErrRetry)
	}
	return &cutReader{r, f.intn(size), end}
}

type cutReader struct {
	io.ReadCloser
	left int64
	end  error
}

func (c *cutReader) Read(p []byte) (int, error) {
	if c.left <= 0 {
		return 0, c.end
	}
	n, err := c.ReadCloser.Read(p[:min(int64(len(p)), c.left)])
	c.left -= int64(n)
	return n, err
}

// List implements Store.
func (f *Faulty) List(ctx context.Context, prefix, startAfter string, limit int) ([]Info, error) {
	fault, err := f.meet(ctx, opList, "list", prefix)
	if err != nil {
		return nil, err
	}
	page, err := f.store.List(ctx, prefix, startAfter, limit)
	if fault == ShortPage && len(page) > 1 {
		page = page[:1+f.intn(int64(len(page)-1))]
	}
	return page, err
}

// Stat implements Store.
func (f *Faulty) Stat(ctx context.Context, key string) (Info, error) {
	if _, err := f.meet(ctx, opStat, "stat", key); err != nil {
		return Info{}, err
	}
	return f.store.Stat(ctx, key)
}

// Close closes the store behind.
func (f *Faulty) Close() error { return f.store.Close() }
