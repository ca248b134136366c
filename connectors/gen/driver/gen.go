// Package driver implements the gen connector: rows that a function of the job
// makes, split so that any parallelism makes the same ones.
//
// Split k of n makes rows k, k+n, k+2n and so on of the sequence; its position is
// the number of rows it has made. A rate limit spreads rows by the subtask's clock
// and catches up after a pause, so that the mean holds.
//
// Concurrency: a reader belongs to its subtask's turn; its timer only wakes it.
// Durability: positions are in the checkpoint.
package driver

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/weirstream/weir/connectors/internal/option"
	"github.com/weirstream/weir/dataflow"
	"github.com/weirstream/weir/internal/clock"
	"github.com/weirstream/weir/stream/spi"
)

// Source is the spi.SourceDriver of kind "gen". The zero value is ready to use.
type Source struct {
	Clock clock.Clock // wakes a rate-limited subtask; nil: the wall clock
}

const (
	who      = "gen source"
	family   = "gen"
	forever  = math.MaxInt64
	leastNap = time.Millisecond // rows of a fast rate come in runs of this length
)

func options() []option.Option {
	return []option.Option{
		{Name: "splits", Type: option.Whole, Min: 1},
		{Name: "count", Type: option.Whole}, // of all splits; missing: without end
		{Name: "rate", Type: option.Fraction},
	}
}

// Check refuses unknown options and wrong types.
func (s Source) Check(c dataflow.Connector, _ map[string]string) error {
	_, err := option.Read(who, options(), c.Options, nil)
	return err
}

// Open makes the reader of the splits that the subtask owns.
func (s Source) Open(_ context.Context, env spi.Env, restored []dataflow.SplitState, gen spi.SourceRunner) (spi.Reader, error) {
	o, err := option.Read(who, options(), env.Connector.Options, nil)
	if err != nil {
		return nil, err
	}
	if gen == nil {
		return nil, errors.New("gen source: the job declares no function that makes rows")
	}
	r := &reader{env: env, gen: gen, total: int(o.Whole("splits", 8)), began: env.Now(), clock: s.Clock}
	if r.clock == nil {
		r.clock = clock.Wall()
	}
	count := o.Whole("count", forever)
	at := map[string]int64{}
	for _, st := range restored {
		n, err := strconv.ParseInt(string(st.Position), 10, 64)
		if err != nil || n < 0 {
			return nil, fmt.Errorf("gen source: restored state of split %q is damaged: %q", st.Split, st.Position)
		}
		if _, of, _ := strings.Cut(st.Split, "/"); of != strconv.Itoa(r.total) {
			return nil, fmt.Errorf("gen source: the checkpoint has %s splits and the job %d: the sequence would not go on where it was: set splits to %s", of, r.total, of)
		}
		at[st.Split] = n
	}
	for k := range r.total {
		if !spi.OwnsSplit(family, k, env.Index, env.Parallelism) {
			continue
		}
		sp := split{id: fmt.Sprintf("%d/%d", k, r.total), k: k, end: forever}
		if count != forever {
			sp.end = (count - int64(k) + int64(r.total) - 1) / int64(r.total)
			sp.end = max(sp.end, 0)
		}
		sp.next = min(at[sp.id], sp.end)
		sp.first = sp.next
		r.splits = append(r.splits, sp)
		r.ids = append(r.ids, sp.id)
	}
	r.perSplit = o.Fraction("rate", 0) / float64(r.total) / 1e6
	return r, nil
}

type split struct {
	id    string
	k     int
	first int64 // where this reader began
	next  int64 // rows made
	end   int64
}

// A reader is the spi.Reader of one subtask.
type reader struct {
	env      spi.Env
	gen      spi.SourceRunner
	clock    clock.Clock
	total    int // splits of the operator
	splits   []split
	ids      []string
	turn     int     // the split to ask first
	perSplit float64 // rows per microsecond; 0: no limit
	began    int64   // processing time at Open
	timer    clock.Timer
}

// Splits returns the splits owned; they never change.
func (r *reader) Splits() (ids []string, version int) { return r.ids, 1 }

// due returns how many rows split s may make now.
func (r *reader) due(s *split, now int64) int64 {
	left := s.end - s.next
	if r.perSplit <= 0 {
		return left
	}
	allowed := float64(s.first) + float64(now-r.began)*r.perSplit
	return min(left, max(0, int64(min(allowed, math.MaxInt64/2))-s.next))
}

// Poll makes rows of the next split that has some due.
func (r *reader) Poll(b spi.Batch, max int, _ *[]spi.Rejected) (int, int, error) {
	now := int64(0)
	if r.perSplit > 0 {
		now = r.env.Now()
	}
	for i := range r.splits {
		at := (r.turn + i) % len(r.splits)
		s := &r.splits[at]
		n := int(min(r.due(s, now), int64(max)))
		if n == 0 {
			continue
		}
		if err := r.gen.Generate(b, s.k, r.total, s.next, n); err != nil {
			return at, 0, fmt.Errorf("gen source: split %s at row %d: %w", s.id, s.next, err)
		}
		s.next += int64(n)
		r.turn = (at + 1) % len(r.splits)
		return at, n, nil
	}
	if r.perSplit > 0 && !r.Ended() {
		r.nap()
	}
	return 0, 0, nil
}

// nap wakes the subtask when the next row of a split is due.
func (r *reader) nap() {
	d := time.Duration(1e3 / r.perSplit / float64(len(r.splits)))
	d = max(leastNap, min(d, time.Second))
	if r.timer == nil {
		r.timer = r.clock.AfterFunc(d, r.env.Wake)
		return
	}
	r.timer.Reset(d)
}

// Ended reports whether every split made all its rows.
func (r *reader) Ended() bool {
	for i := range r.splits {
		if r.splits[i].next < r.splits[i].end {
			return false
		}
	}
	return true
}

// Snapshot returns how many rows every split has made.
func (r *reader) Snapshot() []dataflow.SplitState {
	out := make([]dataflow.SplitState, len(r.splits))
	for i := range r.splits {
		out[i] = dataflow.SplitState{Split: r.splits[i].id, Position: strconv.AppendInt(nil, r.splits[i].next, 10)}
	}
	return out
}

// Completed does nothing: nobody outside follows the positions.
func (r *reader) Completed(dataflow.Epoch, []dataflow.SplitState) {}

// Lag returns the rows that are due and not made.
func (r *reader) Lag() int64 {
	lag := int64(0)
	if r.perSplit <= 0 {
		return 0
	}
	now := r.env.Now()
	for i := range r.splits {
		lag += r.due(&r.splits[i], now)
	}
	return lag
}

// Close stops the timer.
func (r *reader) Close() error {
	if r.timer != nil {
		r.timer.Stop()
	}
	return nil
}
