package driver

import (
	"context"
	"errors"
	"reflect"
	"slices"
	"strconv"
	"testing"
	"time"
	"unsafe"

	"github.com/weirstream/weir/dataflow"
	"github.com/weirstream/weir/internal/clock"
	"github.com/weirstream/weir/stream/spi"
)

// numbers is a batch of numbers.
type numbers struct {
	values []int64
	head   spi.Head
}

func (b *numbers) Len() int                   { return len(b.values) }
func (b *numbers) Head() *spi.Head            { return &b.head }
func (b *numbers) Elem() reflect.Type         { return reflect.TypeFor[int64]() }
func (b *numbers) Base() unsafe.Pointer       { return unsafe.Pointer(unsafe.SliceData(b.values)) }
func (b *numbers) Truncate(n int)             { b.values = b.values[:n] }
func (b *numbers) Reset()                     { b.values = b.values[:0] }
func (b *numbers) New(int) spi.Batch          { return &numbers{} }
func (b *numbers) Extend(int) unsafe.Pointer  { panic("not used") }
func (b *numbers) Append(spi.Batch, int, int) { panic("not used") }

// sequence generates the row numbers themselves.
type sequence struct {
	spi.SourceRunner
	err error
}

func (s sequence) Generate(b spi.Batch, k, total int, at int64, n int) error {
	for i := range int64(n) {
		b.(*numbers).values = append(b.(*numbers).values, int64(k)+(at+i)*int64(total))
	}
	return s.err
}

type stage struct {
	now   int64
	wakes int
}

func (s *stage) open(t *testing.T, index, parallelism int, clk clock.Clock, restored []dataflow.SplitState, options map[string]string) spi.Reader {
	t.Helper()
	env := spi.Env{Index: index, Parallelism: parallelism, Connector: dataflow.Connector{Options: options}, Now: func() int64 { return s.now }, Wake: func() { s.wakes++ }}
	r, err := Source{Clock: clk}.Open(context.Background(), env, restored, sequence{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	return r
}

// poll returns the rows of one Poll.
func poll(t *testing.T, r spi.Reader, most int) []int64 {
	t.Helper()
	b := &numbers{}
	_, n, err := r.Poll(b, most, nil)
	if err != nil || n != b.Len() {
		t.Fatalf("Poll = %d, %v with %d rows", n, err, b.Len())
	}
	return b.values
}

// Every number is made once at any parallelism, also when the job is restored at
// another one in between.
func TestAllOnce(t *testing.T) {
	for _, count := range []int64{0, 1, 5, 8, 1003} {
		var st stage
		var got []int64
		options := map[string]string{"splits": "8", "count": strconv.FormatInt(count, 10)}
		var states []dataflow.SplitState
		for i := range 3 {
			r := st.open(t, i, 3, nil, nil, options)
			for range 4 {
				got = append(got, poll(t, r, 17)...)
			}
			states = append(states, r.Snapshot()...)
		}
		for i := range 10 {
			r := st.open(t, i, 10, nil, states, options)
			for !r.Ended() {
				got = append(got, poll(t, r, 100)...)
			}
			if rest := poll(t, r, 1); len(rest) > 0 {
				t.Errorf("rows after the end: %v", rest)
			}
		}
		slices.Sort(got)
		for i, v := range got {
			if v != int64(i) {
				t.Fatalf("count %d: row %d is %d", count, i, v)
			}
		}
		if int64(len(got)) != count {
			t.Errorf("count %d: %d rows", count, len(got))
		}
	}
}

// A rate spreads rows over time, catches up after a pause, and wakes the subtask.
func TestRate(t *testing.T) {
	var st stage
	clk := clock.NewFake(time.Unix(0, 0))
	r := st.open(t, 0, 1, clk, nil, map[string]string{"splits": "4", "rate": "1000"})
	made := 0
	step := func(micros int64) {
		st.now += micros
		for {
			n := len(poll(t, r, 7))
			if n == 0 {
				return
			}
			made += n
		}
	}
	for range 100 {
		step(10_000)
	}
	if made != 1000 {
		t.Errorf("%d rows in a second at 1000 per second", made)
	}
	step(2_000_000)
	if made != 3000 || r.Lag() != 0 {
		t.Errorf("%d rows after a pause of 2 s, lag %d", made, r.Lag())
	}
	st.now += 1_000_000
	if r.Lag() != 1000 {
		t.Errorf("Lag = %d", r.Lag())
	}
	before := st.wakes
	clk.Advance(2 * leastNap)
	if st.wakes != before+1 {
		t.Error("no wake-up")
	}
}

// What is wrong is said with the option's name and the cure.
func TestFaults(t *testing.T) {
	for _, tt := range []struct {
		name     string
		options  map[string]string
		restored []dataflow.SplitState
		gen      spi.SourceRunner
		want     string
	}{
		{"misspelt", map[string]string{"counts": "3"}, nil, sequence{}, `gen source: unknown option "counts": did you mean "count"?`},
		{"type", map[string]string{"count": "all"}, nil, sequence{}, `gen source: option "count" is "all": want a whole number`},
		{"splits", map[string]string{"splits": "0"}, nil, sequence{}, `gen source: option "splits" is "0": want at least 1`},
		{"rate", map[string]string{"rate": "fast"}, nil, sequence{}, `gen source: option "rate" is "fast": want a number, at least 0`},
		{"other splits", map[string]string{"splits": "4"}, []dataflow.SplitState{{Split: "0/8", Position: []byte("3")}}, sequence{}, `gen source: the checkpoint has 8 splits and the job 4: the sequence would not go on where it was: set splits to 8`},
		{"damaged", nil, []dataflow.SplitState{{Split: "0/8", Position: []byte("x")}}, sequence{}, `gen source: restored state of split "0/8" is damaged: "x"`},
		{"no function", nil, nil, nil, `gen source: the job declares no function that makes rows`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			env := spi.Env{Parallelism: 1, Connector: dataflow.Connector{Options: tt.options}, Now: func() int64 { return 0 }}
			_, err := Source{}.Open(context.Background(), env, tt.restored, tt.gen)
			if err == nil || err.Error() != tt.want {
				t.Errorf("got  %v\nwant %s", err, tt.want)
			}
		})
	}
	env := spi.Env{Parallelism: 1, Now: func() int64 { return 0 }}
	r, err := Source{}.Open(context.Background(), env, nil, sequence{err: errors.New("boom")})
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := r.Poll(&numbers{}, 1, nil); err == nil || err.Error() != "gen source: split 0/8 at row 0: boom" {
		t.Errorf("Poll: %v", err)
	}
}
