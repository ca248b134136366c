// Package failpoint kills the process at named moments, and switches named
// safeguards off, so that fault tests can aim.
//
// A fault point is a call of Hit at a moment that a crash must not hurt. Armed by
//
//	WEIR_FAILPOINT=part-written:3,kafka-prepared
//
// the process sends itself SIGKILL at the third hit of part-written or the first
// of kafka-prepared, whichever comes before: a real kill -9, no deferred call, no
// flush. WEIR_FAILPOINT_LOG names a file (appended to) or, as fd:N, an open
// descriptor that gets one synced line before:
//
//	failpoint=part-written hit=3 pid=4711 epoch=17
//
// A guard is a safeguard that a negative control takes away to prove that the
// checker would notice. All are on unless WEIR_GUARD_OFF=txn-check,ack-chain
// names them.
//
// WEIR_SPOIL_EPOCHS=3 makes every third epoch come to nothing, in a way that its
// number decides: SpoilOf says how, and the task manager does it.
//
// Each process counts its own hits. The environment is read at the first use;
// main calls Check before, so that a misspelt name stops the start instead of
// testing nothing. The state is one package variable because the thing it kills
// is the process; there is no init, and unarmed points cost one load.
//
// Concurrency: everything is safe for concurrent use. The goroutine that made the
// fatal hit goes no further; others may run for the moment until the signal.
//
// Durability: the log line is on disk before the process dies.
package failpoint

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
)

// The environment variables that arm this package.
const (
	EnvPoints = "WEIR_FAILPOINT"     // name[:n],...: die at the n-th hit, 1 if not given
	EnvLog    = "WEIR_FAILPOINT_LOG" // path or fd:N: where the last line goes
	EnvGuards = "WEIR_GUARD_OFF"     // name,...: guards that are switched off
)

// A Point names a moment at which the process can be killed.
type Point string

// The fault points, in the order in which an epoch passes them.
const (
	OffsetsSnapshotted Point = "offsets-snapshotted" // a source has fixed its offsets, the barrier is not out
	PartFrozen         Point = "part-frozen"         // state is frozen, nothing is written
	PartWritten        Point = "part-written"        // the epoch file is on local disk
	DeltaFilesClosed   Point = "delta-files-closed"  // the sink's Parquet files are durable
	KafkaPrepared      Point = "kafka-prepared"      // records are flushed, the transaction is open
	PartUploaded       Point = "part-uploaded"       // the epoch file is in the object store, no ack is out
	ManifestBeforePut  Point = "manifest-before-put" // every ack is in
	ManifestAfterPut   Point = "manifest-after-put"  // the manifest is durable, the epoch not complete
	RaftBefore         Point = "raft-before"         // before the entry that completes the epoch
	RaftAfter          Point = "raft-after"          // the epoch is complete, no sink knows
	DeltaBeforePut     Point = "delta-before-put"    // before the put of the table's commit
	DeltaAfterPut      Point = "delta-after-put"     // the commit is in the table, nobody was told
	KafkaBeforeEndTxn  Point = "kafka-before-endtxn" // before EndTxn of a prepared transaction
	KafkaAfterEndTxn   Point = "kafka-after-endtxn"  // EndTxn has answered, nobody was told
)

// Points returns every fault point in the order in which an epoch passes them.
func Points() []Point {
	return []Point{
		OffsetsSnapshotted, PartFrozen, PartWritten, DeltaFilesClosed, KafkaPrepared, PartUploaded,
		ManifestBeforePut, ManifestAfterPut, RaftBefore, RaftAfter,
		DeltaBeforePut, DeltaAfterPut, KafkaBeforeEndTxn, KafkaAfterEndTxn,
	}
}

// A Guard names a safeguard that a negative control can switch off.
type Guard string

// The guards.
const (
	TxnCheck  Guard = "txn-check" // the Delta committer skips a version that its table's txn already has
	Alignment Guard = "alignment" // a channel that delivered its barrier is not read until all have
	AckChain  Guard = "ack-chain" // an ack carries what aborted epochs made
)

// Guards returns every guard.
func Guards() []Guard { return []Guard{TxnCheck, Alignment, AckChain} }

// A Field is one key=value of the line that is logged before death.
type Field struct {
	key string
	str string
	num int64
	isN bool
}

// Int makes a Field of a number.
func Int(key string, v int64) Field { return Field{key: key, num: v, isN: true} }

// Str makes a Field of a word; blanks and quotes in it are quoted in the log.
func Str(key, v string) Field { return Field{key: key, str: v} }

// state is nil until the first use and never nil after it. idle is the state of a
// process in which nothing is armed.
var (
	state atomic.Pointer[armed]
	once  sync.Once
	idle  armed
)

type armed struct {
	err    error // what the environment got wrong
	points map[Point]*target
	off    map[Guard]bool
	spoil  int64 // every how many epochs one is spoiled; 0: none
	log    string
}

type target struct {
	hits  atomic.Int64
	fatal int64
}

// Hit kills the process if p is armed and this is the hit it was armed for. It
// panics if the environment names an unknown point, which Check tells earlier.
func Hit(p Point, fields ...Field) {
	if state.Load() == &idle {
		return
	}
	hit(p, fields)
}

// Off reports whether a negative control has switched g off. Code asks where the
// safeguard would act: if !failpoint.Off(failpoint.TxnCheck) { ... }.
func Off(g Guard) bool {
	s := state.Load()
	if s == &idle {
		return false
	}
	return off(g)
}

// Check reports what is wrong with the environment, all of it at once. Programs
// call it first and stop on an error.
func Check() error { return current().err }

// Armed reports whether any point is armed or any guard off, for a program to say
// so in its log at the start.
func Armed() bool { return current() != &idle }

// SwitchOff switches guards off in this process until the returned function is
// called: for simulations, which run with and without them side by side in one
// process. Calls must not overlap.
func SwitchOff(guards ...Guard) (restore func()) {
	before := current()
	s := &armed{err: before.err, points: before.points, spoil: before.spoil, log: before.log, off: map[Guard]bool{}}
	for g := range before.off {
		s.off[g] = true
	}
	for _, g := range guards {
		s.off[g] = true
	}
	state.Store(s)
	return func() { state.Store(before) }
}

func current() *armed {
	if s := state.Load(); s != nil {
		return s
	}
	once.Do(func() {
		s, err := parse(os.Getenv(EnvPoints), os.Getenv(EnvGuards))
		s.log = os.Getenv(EnvLog)
		spoil, serr := parseSpoil(os.Getenv(EnvSpoil))
		err = errors.Join(err, serr)
		s.spoil, s.err = spoil, err
		if err == nil && len(s.points) == 0 && len(s.off) == 0 && s.spoil == 0 {
			s = &idle
		}
		state.CompareAndSwap(nil, s)
	})
	return state.Load()
}

// parse reads the two lists of the environment.
func parse(points, guards string) (*armed, error) {
	s := &armed{points: map[Point]*target{}, off: map[Guard]bool{}}
	var errs []error
	for word := range words(points) {
		name, count, counted := strings.Cut(word, ":")
		n := int64(1)
		if counted {
			var err error
			if n, err = strconv.ParseInt(count, 10, 64); err != nil || n < 1 {
				errs = append(errs, fmt.Errorf("failpoint: %s: %q: the count after ':' must be a number from 1", EnvPoints, word))
				continue
			}
		}
		if !known(Points(), Point(name)) {
			errs = append(errs, fmt.Errorf("failpoint: %s: no point %q: want one of %s", EnvPoints, name, list(Points())))
			continue
		}
		if s.points[Point(name)] != nil {
			errs = append(errs, fmt.Errorf("failpoint: %s: %q is named twice", EnvPoints, name))
			continue
		}
		s.points[Point(name)] = &target{fatal: n}
	}
	for word := range words(guards) {
		if !known(Guards(), Guard(word)) {
			errs = append(errs, fmt.Errorf("failpoint: %s: no guard %q: want one of %s", EnvGuards, word, list(Guards())))
			continue
		}
		s.off[Guard(word)] = true
	}
	return s, errors.Join(errs...)
}

func words(s string) func(yield func(string) bool) {
	return func(yield func(string) bool) {
		for w := range strings.SplitSeq(s, ",") {
			if w = strings.TrimSpace(w); w != "" && !yield(w) {
				return
			}
		}
	}
}

func known[T comparable](all []T, v T) bool {
	for _, a := range all {
		if a == v {
			return true
		}
	}
	return false
}

func list[T ~string](all []T) string {
	var b strings.Builder
	for i, a := range all {
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString(string(a))
	}
	return b.String()
}

//go:noinline
func off(g Guard) bool { return current().off[g] }

//go:noinline
func hit(p Point, fields []Field) {
	s := current()
	if s.err != nil {
		panic(s.err)
	}
	t := s.points[p]
	if t == nil {
		return
	}
	if n := t.hits.Add(1); n == t.fatal {
		die(s.log, line(p, n, fields))
	}
}

func line(p Point, n int64, fields []Field) []byte {
	b := append([]byte(nil), "failpoint="...)
	b = append(b, p...)
	b = strconv.AppendInt(append(b, " hit="...), n, 10)
	b = strconv.AppendInt(append(b, " pid="...), int64(os.Getpid()), 10)
	for _, f := range fields {
		b = append(append(append(b, ' '), f.key...), '=')
		switch {
		case f.isN:
			b = strconv.AppendInt(b, f.num, 10)
		case f.str == "" || strings.ContainsAny(f.str, " \t\r\n\"="):
			b = strconv.AppendQuote(b, f.str)
		default:
			b = append(b, f.str...)
		}
	}
	return append(b, '\n')
}
