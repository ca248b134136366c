package driver

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/url"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
	"unsafe"

	"github.com/parquet-go/parquet-go"

	"github.com/weirstream/weir/dataflow"
	"github.com/weirstream/weir/deltalake"
	"github.com/weirstream/weir/internal/clock"
	"github.com/weirstream/weir/internal/failpoint"
	"github.com/weirstream/weir/stream/spi"
)

// rows is a batch for tests.
type rows[T any] struct {
	values []T
	head   spi.Head
}

func batchOf[T any](v ...T) *rows[T] {
	return &rows[T]{values: v, head: spi.Head{Times: make([]int64, len(v))}}
}
func (b *rows[T]) Len() int                   { return len(b.values) }
func (b *rows[T]) Head() *spi.Head            { return &b.head }
func (b *rows[T]) Elem() reflect.Type         { return reflect.TypeFor[T]() }
func (b *rows[T]) Base() unsafe.Pointer       { return unsafe.Pointer(unsafe.SliceData(b.values)) }
func (b *rows[T]) Extend(int) unsafe.Pointer  { panic("not used") }
func (b *rows[T]) Append(spi.Batch, int, int) { panic("not used") }
func (b *rows[T]) Truncate(n int)             { b.values = b.values[:n] }
func (b *rows[T]) Reset()                     { b.Truncate(0) }
func (b *rows[T]) New(int) spi.Batch          { return &rows[T]{} }

type purchase struct {
	ID    int64
	User  string
	Price float64
	Day   string
	At    time.Time
}

func purchases(from, to int) (out []purchase) {
	for i := from; i < to; i++ {
		out = append(out, purchase{int64(i), fmt.Sprint("user", i%10), float64(i) / 4, fmt.Sprintf("2026-01-%02d", 1+i%5), time.UnixMicro(int64(i) * 1e6).UTC()})
	}
	return out
}

// stage is a lake with what the operators of a test share.
type stage struct {
	t      *testing.T
	folder string
	now    int64
	wake   chan struct{}
	mu     sync.Mutex
	counts map[string]int64
	clock  clock.Clock // of compactions; nil: the wall clock
}

func newStage(t *testing.T) *stage {
	return &stage{t: t, folder: t.TempDir(), wake: make(chan struct{}, 1), counts: map[string]int64{}}
}

func env[T any](s *stage, index, parallelism int, options ...string) spi.Env {
	c := dataflow.Connector{Kind: "delta", Options: map[string]string{"path": "gold/t"}}
	for i := 0; i < len(options); i += 2 {
		c.Options[options[i]] = options[i+1]
	}
	return spi.Env{
		Pipeline: "pipe", Operator: "snk", Index: index, Parallelism: parallelism, Connector: c,
		Settings: map[string]string{"lake.root": s.folder}, Elem: reflect.TypeFor[T](),
		Log: slog.New(slog.NewTextHandler(io.Discard, nil)), Now: func() int64 { return s.now },
		Wake: func() {
			select {
			case s.wake <- struct{}{}:
			default:
			}
		},
		Count: func(name string, n int64) { s.mu.Lock(); s.counts[name] += n; s.mu.Unlock() },
	}
}

func (s *stage) writer(e spi.Env, restored map[int][]byte) spi.Writer {
	s.t.Helper()
	w, err := Sink{}.OpenWriter(context.Background(), e, restored)
	if err == nil {
		err = w.Start(context.Background())
	}
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { w.Close() })
	return w
}

func (s *stage) committer(e spi.Env) spi.Committer {
	s.t.Helper()
	c, err := Sink{Clock: s.clock}.OpenCommitter(context.Background(), e)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { c.Close() })
	return c
}

func write[T any](s *stage, w spi.Writer, v ...T) {
	s.t.Helper()
	b := batchOf(v...)
	for from := 0; from < len(v); {
		n, err := w.Write(b, from)
		if err != nil {
			s.t.Fatal(err)
		}
		if from += n; from < len(v) {
			select {
			case <-s.wake:
			case <-time.After(time.Minute):
				s.t.Fatal("no wake-up for a minute")
			}
		}
	}
}

func prepareErr(w spi.Writer, epoch dataflow.Epoch, last bool) (p spi.Prepared, err error) {
	c := make(chan struct{})
	w.Prepare(epoch, last, func(q spi.Prepared, e error) { p, err = q, e; close(c) })
	<-c
	return p, err
}

func (s *stage) prepare(w spi.Writer, subtask int, epoch dataflow.Epoch) ([]dataflow.CommitHandle, []byte) {
	s.t.Helper()
	p, err := prepareErr(w, epoch, false)
	if err != nil {
		s.t.Fatal(err)
	}
	return handles(subtask, epoch, p), p.Writer
}

func handles(subtask int, epoch dataflow.Epoch, p spi.Prepared) (out []dataflow.CommitHandle) {
	for i, h := range p.Handles {
		out = append(out, dataflow.CommitHandle{Sink: "snk", Subtask: subtask, Epoch: epoch, Seq: i, Data: h})
	}
	return out
}

func (s *stage) commit(c spi.Committer, epoch dataflow.Epoch, h []dataflow.CommitHandle) string {
	s.t.Helper()
	result, err := c.Commit(context.Background(), epoch, h)
	if err != nil {
		s.t.Fatal(err)
	}
	return result
}

func (s *stage) snapshot() *deltalake.Snapshot {
	s.t.Helper()
	t, err := deltalake.Open(context.Background(), deltalake.NewFolderStore(filepath.Join(s.folder, "gold/t")), deltalake.TableOptions{})
	if err != nil {
		s.t.Fatal(err)
	}
	return t.Latest()
}

// content reads all rows of the table with parquet-go; T's tags name columns that
// are in files, not partition columns.
func content[T any](s *stage) (out []T, perFile map[string]int) {
	s.t.Helper()
	perFile = map[string]int{}
	for _, f := range s.snapshot().Files() {
		path, err := url.PathUnescape(f.Path)
		if err != nil {
			s.t.Fatal(err)
		}
		part, err := parquet.ReadFile[T](filepath.Join(s.folder, "gold/t", path))
		if err != nil {
			s.t.Fatal(err)
		}
		perFile[path] = len(part)
		if n, ok := f.NumRecords(); !ok || int(n) != len(part) {
			s.t.Errorf("%s: statistics say %d rows, the file has %d", path, n, len(part))
		}
		out = append(out, part...)
	}
	return out, perFile
}

type idRow struct {
	ID *int64 `parquet:"id,optional"`
}

// ids returns the ids in the table, sorted.
func (s *stage) ids() (out []int) {
	all, _ := content[idRow](s)
	for _, r := range all {
		out = append(out, int(*r.ID))
	}
	slices.Sort(out)
	return out
}

func upTo(from, to int) (out []int) {
	for i := from; i < to; i++ {
		out = append(out, i)
	}
	return out
}

// Rows of a partitioned table arrive whole, each in the folder of its partition,
// also when fewer files may be open than there are partitions.
func TestPartitions(t *testing.T) {
	for _, open := range []string{"32", "2", "1"} {
		s := newStage(t)
		e := env[purchase](s, 0, 1, "partition_by", "day", "max_open_files", open, "write_buffer", "64KiB")
		w, c := s.writer(e, nil), s.committer(e)
		want := purchases(0, 5000)
		for i := 0; i < len(want); i += 700 {
			write(s, w, want[i:min(i+700, len(want))]...)
		}
		h, _ := s.prepare(w, 0, 1)
		if got := s.commit(c, 1, h); got != "version 1" {
			t.Errorf("Commit = %q", got)
		}
		type row struct {
			ID    *int64   `parquet:"id,optional"`
			User  *string  `parquet:"user,optional"`
			Price *float64 `parquet:"price,optional"`
		}
		for _, f := range s.snapshot().Files() {
			path, _ := url.PathUnescape(f.Path)
			part, err := parquet.ReadFile[row](filepath.Join(s.folder, "gold/t", path))
			if err != nil {
				t.Fatal(err)
			}
			for _, r := range part {
				p := want[*r.ID]
				if p.User != *r.User || p.Price != *r.Price || p.Day != *f.PartitionValues["day"] || !strings.HasPrefix(path, "day="+p.Day+"/") {
					t.Fatalf("row %+v of %s, want %+v", r, path, p)
				}
			}
		}
		if !slices.Equal(s.ids(), upTo(0, 5000)) {
			t.Errorf("with %s open files: %d rows", open, len(s.ids()))
		}
	}
}

// A pipeline that is killed at random moments, whose epochs abort at random and
// that is restored at changing parallelism adds every row exactly once.
func TestRandomHistory(t *testing.T) {
	for seed := range uint64(12) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			rnd := rand.New(rand.NewPCG(seed, 3))
			h := history{s: newStage(t), rnd: rnd}
			if rnd.IntN(2) == 0 {
				h.options = append(h.options, "partition_by", "day")
			}
			if rnd.IntN(2) == 0 {
				h.options = append(h.options, "commit_interval", "3s")
			}
			if rnd.IntN(2) == 0 {
				h.options = append(h.options, "compact_min_files", "2")
			}
			if rnd.IntN(2) == 0 {
				h.options = append(h.options, "max_open_files", "2", "write_buffer", "64KiB", "target_file_size", "4KiB")
			}
			for range 6 {
				h.run(1+rnd.IntN(4), rnd.IntN(2) == 0, false)
			}
			h.run(2, false, true)
			if got := h.s.ids(); !slices.Equal(got, upTo(0, h.next)) {
				t.Errorf("seed %d: %d rows in the table, want each of %d once", seed, len(got), h.next)
			}
		})
	}
}

// A history plays the engine; next, writers and commits are those of the newest
// complete checkpoint.
type history struct {
	s        *stage
	rnd      *rand.Rand
	options  []string
	epoch    dataflow.Epoch
	complete dataflow.Epoch
	next     int
	writers  map[int][]byte
	commits  []dataflow.CommitHandle
}

func (h *history) run(epochs int, crash, last bool) {
	s, parallelism := h.s, 1+h.rnd.IntN(3)
	c := s.committer(env[purchase](s, 0, parallelism, h.options...))
	if err := c.Check(context.Background(), h.complete); err != nil {
		s.t.Fatal(err)
	}
	s.commit(c, h.complete, h.commits) // a restore repeats it, whether or not it was done
	var ws []spi.Writer
	for i := range parallelism {
		ws = append(ws, s.writer(env[purchase](s, i, parallelism, h.options...), h.writers))
	}
	next := h.next
	var pending []dataflow.CommitHandle
	for n := range epochs {
		for _, w := range ws {
			k := h.rnd.IntN(3) * h.rnd.IntN(200)
			write(s, w, purchases(next, next+k)...)
			next += k
		}
		h.epoch++
		s.now += 1e6
		states := map[int][]byte{}
		for i, w := range ws {
			p, err := prepareErr(w, h.epoch, last && n == epochs-1)
			if err != nil {
				s.t.Fatal(err)
			}
			states[i] = p.Writer
			pending = append(pending, handles(i, h.epoch, p)...)
		}
		if h.rnd.IntN(3) == 0 && !(last && n == epochs-1) {
			continue // aborted
		}
		h.complete, h.next, h.writers, h.commits, pending = h.epoch, next, states, pending, nil
		if crash && n == epochs-1 && h.rnd.IntN(2) == 0 {
			return
		}
		for range 1 + h.rnd.IntN(2) {
			s.commit(c, h.epoch, h.commits)
		}
	}
}

// Without the txn check a repeated commit doubles rows: the check is what keeps
// them single.
func TestTxnCheckMatters(t *testing.T) {
	s := newStage(t)
	e := env[purchase](s, 0, 1)
	w, c := s.writer(e, nil), s.committer(e)
	write(s, w, purchases(0, 10)...)
	h, _ := s.prepare(w, 0, 1)
	first := s.commit(c, 1, h)
	if again := s.commit(s.committer(e), 1, h); again != first || len(s.ids()) != 10 {
		t.Errorf("repeated: %q, then %q, %d rows", first, again, len(s.ids()))
	}
	defer failpoint.SwitchOff(failpoint.TxnCheck)()
	s.commit(s.committer(e), 1, h)
	if v := s.snapshot().Version(); v != 2 {
		t.Errorf("with the check off a repeat made no commit: version %d", v)
	}
}

// A table that is ahead of the restored epoch stops the job and names both.
func TestCheck(t *testing.T) {
	s := newStage(t)
	e := env[purchase](s, 0, 1)
	w, c := s.writer(e, nil), s.committer(e)
	write(s, w, purchases(0, 10)...)
	h, _ := s.prepare(w, 0, 12)
	s.commit(c, 12, h)
	for restored, want := range map[dataflow.Epoch]string{
		9: `delta sink: table "gold/t" already holds epoch 12 of "pipe/snk", but the job is restored from epoch 9: its rows would be missing or twice: restore a checkpoint of epoch 12 or later, write to another table, or run under another --name: the job must stop`,
		0: `delta sink: table "gold/t" already holds epoch 12 of "pipe/snk", but the job starts without a checkpoint (epoch 0): its rows would be missing or twice: restore a checkpoint of epoch 12 or later, write to another table, or run under another --name: the job must stop`,
	} {
		err := s.committer(e).Check(context.Background(), restored)
		if !errors.Is(err, spi.ErrStop) || err.Error() != want {
			t.Errorf("Check(%d): %v", restored, err)
		}
	}
	for _, restored := range []dataflow.Epoch{12, 13} {
		if err := s.committer(e).Check(context.Background(), restored); err != nil {
			t.Errorf("Check(%d): %v", restored, err)
		}
	}
}

// Two jobs that write one table under one name are stopped, not mixed up.
func TestTwoJobs(t *testing.T) {
	s := newStage(t)
	e := env[purchase](s, 0, 1)
	a, b := s.committer(e), s.committer(e)
	wa, wb := s.writer(e, nil), s.writer(e, nil)
	write(s, wa, purchases(0, 10)...)
	write(s, wb, purchases(50, 60)...)
	ha, _ := s.prepare(wa, 0, 3)
	hb, _ := s.prepare(wb, 0, 3)
	s.commit(a, 3, ha)
	want := `delta sink: table "gold/t" has an epoch 3 with other files, in version 1: another job writes it as "pipe/snk" too: give one of them another name (--name): the job must stop`
	if _, err := b.Commit(context.Background(), 3, hb); !errors.Is(err, spi.ErrStop) || err.Error() != want {
		t.Errorf("the same epoch: %v", err)
	}
	want = `delta sink: table "gold/t" has epoch 3 while this job commits epoch 2: another job writes it as "pipe/snk" too: give one of them another name (--name): the job must stop`
	if _, err := b.Commit(context.Background(), 2, hb); !errors.Is(err, spi.ErrStop) || err.Error() != want {
		t.Errorf("an older epoch: %v", err)
	}
	if got := s.ids(); !slices.Equal(got, upTo(0, 10)) {
		t.Errorf("rows %v", got)
	}
}

// Files are rolled at their target size and stay open for the commit interval.
func TestFileSizeAndInterval(t *testing.T) {
	s := newStage(t)
	e := env[purchase](s, 0, 1, "target_file_size", "64KiB", "commit_interval", "10s", "compression", "none")
	w, c := s.writer(e, nil), s.committer(e)
	s.now = 1
	write(s, w, purchases(0, 30)...)
	h, state := s.prepare(w, 0, 1)
	if len(h) != 0 || len(state) == 0 {
		t.Fatalf("the first epoch handed over %d handles", len(h))
	}
	s.now += 10e6
	restored := s.writer(e, map[int][]byte{0: state}) // a restart keeps what is held
	write(s, restored, purchases(30, 40)...)
	h, state = s.prepare(restored, 0, 2)
	if len(h) != 1 || len(state) != 0 {
		t.Fatalf("after the interval: %d handles, state %s", len(h), state)
	}
	s.commit(c, 2, h)
	if got := s.ids(); !slices.Equal(got, upTo(0, 40)) {
		t.Errorf("%d rows", len(got))
	}
	// Enough rows for a file are not held back.
	write(s, restored, purchases(40, 30000)...)
	h, _ = s.prepare(restored, 0, 3)
	more, state := s.prepare(restored, 0, 4)
	if h = append(h, more...); len(h) == 0 || len(state) != 0 {
		t.Fatalf("a full file waits: %d handles, state %s", len(h), state)
	}
	s.commit(c, 4, h)
	if got := s.ids(); !slices.Equal(got, upTo(0, 30000)) {
		t.Errorf("%d rows", len(got))
	}
	if n := s.snapshot().NumFiles(); n < 5 {
		t.Errorf("%d files for %d bytes at 64 KiB each", n, s.snapshot().SizeBytes())
	}
}

// everything has a column of every kind.
type everything struct {
	ID     int64
	Small  int16
	Medium int32
	Wide   uint32
	Huge   uint64
	Yes    bool
	Half   float32
	Blob   []byte
	Fixed  [4]byte
	Money  dataflow.Decimal `weir:"money,decimal(12,2)"`
	Maybe  *int64
	Took   time.Duration
	At     time.Time
	Inner  struct {
		Name string
		Rank *int32
	}
	Tags  []string
	Sizes map[string]int32
}

// Every kind of column is stored, read by another library.
func TestEveryColumn(t *testing.T) {
	s := newStage(t)
	e := env[everything](s, 0, 1)
	w, c := s.writer(e, nil), s.committer(e)
	price, err := dataflow.ParseDecimal("-12.5")
	if err != nil {
		t.Fatal(err)
	}
	seven, three := int64(7), int32(3)
	full := everything{
		ID: 1, Small: -3, Medium: 1 << 20, Wide: 1 << 31, Huge: 1 << 63, Yes: true, Half: 1.5, Blob: []byte{1, 0, 2}, Fixed: [4]byte{9, 8, 7, 6},
		Money: price, Maybe: &seven, Took: time.Second, At: time.UnixMicro(-5).UTC(), Tags: []string{"a", "", "b"}, Sizes: map[string]int32{"x": 4},
	}
	full.Inner.Name, full.Inner.Rank = "n", &three
	write(s, w, full, everything{ID: 2, At: time.UnixMicro(0)})
	h, _ := s.prepare(w, 0, 1)
	s.commit(c, 1, h)

	type out struct {
		ID    *int64   `parquet:"id,optional"`
		Small *int32   `parquet:"small,optional"`
		Wide  *int64   `parquet:"wide,optional"`
		Yes   *bool    `parquet:"yes,optional"`
		Half  *float32 `parquet:"half,optional"`
		Blob  []byte   `parquet:"blob,optional"`
		Fixed []byte   `parquet:"fixed,optional"`
		Money *int64   `parquet:"money,optional"`
		Maybe *int64   `parquet:"maybe,optional"`
		Took  *int64   `parquet:"took,optional"`
		At    *int64   `parquet:"at,optional"`
		Inner *struct {
			Name *string `parquet:"name,optional"`
			Rank *int32  `parquet:"rank,optional"`
		} `parquet:"inner,optional"`
		Tags  []string         `parquet:"tags,optional,list"`
		Sizes map[string]int32 `parquet:"sizes,optional"`
	}
	got, _ := content[out](s)
	if len(got) != 2 {
		t.Fatalf("%d rows", len(got))
	}
	g := got[0]
	if *g.Small != -3 || *g.Wide != 1<<31 || !*g.Yes || *g.Half != 1.5 || string(g.Blob) != "\x01\x00\x02" || string(g.Fixed) != "\x09\x08\x07\x06" ||
		*g.Money != -1250 || *g.Maybe != 7 || *g.Took != 1e9 || *g.At != -5 || *g.Inner.Name != "n" || *g.Inner.Rank != 3 || g.Sizes["x"] != 4 || len(g.Tags) != 3 {
		b, _ := json.Marshal(g)
		t.Errorf("row 1: %s", b)
	}
	if g := got[1]; g.Maybe != nil || g.Blob != nil || g.Inner.Rank != nil || len(g.Tags) != 0 {
		b, _ := json.Marshal(g)
		t.Errorf("row 2: %s", b)
	}
	schema := s.snapshot().Schema()
	if got := schema.Fields[schema.Index("huge")].Type.String(); got != "decimal(20,0)" {
		t.Errorf("huge is %s", got)
	}
}
