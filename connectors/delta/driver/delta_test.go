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
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"github.com/parquet-go/parquet-go"

	"github.com/weirstream/weir/dataflow"
	"github.com/weirstream/weir/deltalake"
	"github.com/weirstream/weir/internal/failpoint"
	"github.com/weirstream/weir/internal/objstore"
	"github.com/weirstream/weir/internal/objstore/s3"
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
	c, err := Sink{}.OpenCommitter(context.Background(), e)
	if err != nil {
		s.t.Fatal(err)
	}
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
			case <-time.After(20 * time.Second):
				s.t.Fatal("no wake-up for 20 s")
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
		e := env[purchase](s, 0, 1, "partition_by", "day", "max_open_files", open)
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
		9: `delta sink: table "gold/t" already holds epoch 12 of "pipe/snk", but the job is restored from epoch 9: its rows would be missing or twice: restore a checkpoint of epoch 12 or later, write to another table, or run under another name (--name) or with --new-pipeline: the job must stop`,
		0: `delta sink: table "gold/t" already holds epoch 12 of "pipe/snk", but the job starts without a checkpoint (epoch 0): its rows would be missing or twice: restore a checkpoint of epoch 12 or later, write to another table, or run under another name (--name) or with --new-pipeline: the job must stop`,
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

// Files are rolled at their target size and held back for the commit interval.
func TestFileSizeAndInterval(t *testing.T) {
	s := newStage(t)
	e := env[purchase](s, 0, 1, "target_file_size", "64KiB", "commit_interval", "10s", "compression", "none")
	w, c := s.writer(e, nil), s.committer(e)
	s.now = 1
	write(s, w, purchases(0, 30000)...)
	h, state := s.prepare(w, 0, 1)
	if len(h) != 0 || len(state) == 0 {
		t.Fatalf("the first epoch handed over %d handles", len(h))
	}
	s.now += 10e6
	restored := s.writer(e, map[int][]byte{0: state}) // a restart keeps what is held
	write(s, restored, purchases(30000, 30010)...)
	h, state = s.prepare(restored, 0, 2)
	if len(h) != 1 || len(state) != 0 {
		t.Fatalf("after the interval: %d handles, state %s", len(h), state)
	}
	s.commit(c, 2, h)
	if got := s.ids(); !slices.Equal(got, upTo(0, 30010)) {
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

// Rows that cannot be stored fail in one sentence.
func TestBadRows(t *testing.T) {
	s := newStage(t)
	w := s.writer(env[everything](s, 0, 1), nil)
	for _, tt := range []struct {
		row  everything
		want string
	}{
		{everything{At: time.Unix(0, 1)}, `delta sink: codec: column at: 1970-01-01T00:00:00.000000001Z is finer than a microsecond: truncate it`},
		{everything{At: time.Unix(0, 0), Money: decimal(t, "1.001")}, `delta sink: codec: column money: `},
		{everything{At: time.Unix(0, 0), Money: decimal(t, "12345678901.5")}, `delta sink: codec: column money: 12345678901.50 has more digits than decimal(12,2)`},
	} {
		if _, err := w.Write(batchOf(tt.row), 0); err == nil || !strings.HasPrefix(err.Error(), tt.want) {
			t.Errorf("got  %v\nwant %s", err, tt.want)
		}
	}
}

func decimal(t *testing.T, s string) dataflow.Decimal {
	d, err := dataflow.ParseDecimal(s)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

type wider struct {
	ID    int64
	User  string
	Extra *string
}

type other struct {
	ID   string
	User string
}

// What does not fit an existing table is refused before the first epoch, or
// merged where the job says so.
func TestSchemas(t *testing.T) {
	s := newStage(t)
	first := env[purchase](s, 0, 1, "partition_by", "day")
	s.writer(first, nil)
	for _, tt := range []struct {
		name string
		env  spi.Env
		want string
	}{
		{"new column", env[wider](s, 0, 1), `delta sink: table "gold/t" does not fit rows of driver.wider: column "extra" (string) is not in the table: set merge_schema to add columns, or change the rows`},
		{"other type", env[other](s, 0, 1, "merge_schema", "true"), `delta sink: table "gold/t": deltalake: merge schema: column "id" is long and cannot become string`},
		{"other type, no merge", env[other](s, 0, 1), `delta sink: table "gold/t" does not fit rows of driver.other: column "id" is long in the table and string in the rows: change the rows, or write to a new table`},
		{"partition columns", env[purchase](s, 0, 1, "partition_by", "user"), `delta sink: table "gold/t" is partitioned by [day], the job says [user]: correct partition_by, or write to a new table`},
		{"partition column of no row", env[other](s, 0, 1, "partition_by", "hour"), `delta sink: table "gold/t": partition_by names "hour", which rows of driver.other do not have`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if _, err := (Sink{}).OpenWriter(context.Background(), tt.env, nil); err == nil || err.Error() != tt.want {
				t.Errorf("got  %v\nwant %s", err, tt.want)
			}
		})
	}
	if v := s.snapshot().Version(); v != 0 {
		t.Errorf("refusals left version %d", v)
	}

	s = newStage(t)
	s.writer(env[purchase](s, 0, 1), nil)
	e := env[wider](s, 0, 1, "merge_schema", "true")
	w, c := s.writer(e, nil), s.committer(e)
	x := "x"
	write(s, w, wider{ID: 1, Extra: &x}, wider{ID: 2})
	h, _ := s.prepare(w, 0, 1)
	s.commit(c, 1, h)
	if snap := s.snapshot(); snap.Schema().Index("extra") != 5 || !slices.Equal(s.ids(), []int{1, 2}) {
		t.Errorf("after a merge: %d columns, rows %v", len(snap.Schema().Fields), s.ids())
	}
}

// Names, properties and descriptions reach the table.
func TestTableMetadata(t *testing.T) {
	s := newStage(t)
	s.writer(env[purchase](s, 0, 1, "table_name", "sales", "table_description", "all of them", "delta.appendOnly", "true"), nil)
	m := s.snapshot().Metadata()
	if m.Name != "sales" || m.Description != "all of them" || m.Configuration["delta.appendOnly"] != "true" {
		t.Errorf("metadata %+v", m)
	}
}

// Check names every fault of a declaration.
func TestDeclaration(t *testing.T) {
	for _, tt := range []struct {
		name    string
		options map[string]string
		root    string
		want    string
	}{
		{"no path", nil, "/lake", `delta sink: option "path" is missing`},
		{"misspelt", map[string]string{"path": "t", "merge_shema": "true"}, "/lake", `delta sink: unknown option "merge_shema": did you mean "merge_schema"?`},
		{"type", map[string]string{"path": "t", "merge_schema": "yes"}, "/lake", `delta sink: option "merge_schema" is "yes": want true or false`},
		{"no lake", map[string]string{"path": "gold/t"}, "", `delta sink: path "gold/t" is relative but lake.root is not set: set lake.root, or give an absolute path or URL`},
		{"outside", map[string]string{"path": "../t"}, "/lake", `delta sink: path "../t" leaves the lake: give a path below lake.root /lake`},
		{"property", map[string]string{"path": "t", "detla.appendOnly": "true"}, "/lake", `delta sink: "detla.appendOnly" is not a table property: they begin with delta., such as delta.appendOnly`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			err := Sink{}.Check(dataflow.Connector{Options: tt.options}, map[string]string{"lake.root": tt.root})
			if err == nil || !slices.Contains(strings.Split(err.Error(), "\n"), tt.want) {
				t.Errorf("got  %v\nwant %s", err, tt.want)
			}
		})
	}
	if got, err := locate("gold/t", "s3://bucket/lake/?region=x"); err != nil || got != "s3://bucket/lake/gold/t?region=x" {
		t.Errorf("locate = %q, %v", got, err)
	}
	e := env[purchase](newStage(t), 0, 1, "path", "s3://bucket/t")
	if _, err := (Sink{}).OpenWriter(context.Background(), e, nil); err == nil || err.Error() != `delta sink: table "s3://bucket/t" is in a s3:// store, but this worker opens folders only` {
		t.Errorf("no store: %v", err)
	}
}

// faulty is a store whose files cannot be written after some.
type faulty struct {
	deltalake.Store
	left int
	err  error
}

func (f *faulty) Create(ctx context.Context, path string) (deltalake.ObjectWriter, error) {
	if f.left--; f.left < 0 {
		return nil, &os.PathError{Op: "create", Path: path, Err: f.err}
	}
	return f.Store.Create(ctx, path)
}

// A full or read-only disk is said with its cure; the epoch is declined and
// nothing of it is lost, for its rows are read again.
func TestDisk(t *testing.T) {
	for _, tt := range []struct {
		left int
		err  error
		want string
	}{
		{1, syscall.ENOSPC, `no space left on device: the disk is full: make room, the job then goes on from its last checkpoint`},
		{0, syscall.EROFS, `read-only file system: the table cannot be written: give the worker's user write permission`},
	} {
		s := newStage(t)
		sink := Sink{Store: func(context.Context, string, map[string]string) (deltalake.Store, error) {
			return &faulty{deltalake.NewMemoryStore(nil), tt.left, tt.err}, nil
		}}
		w, err := sink.OpenWriter(context.Background(), env[purchase](s, 0, 1, "path", "mem://t"), nil)
		if err == nil {
			defer w.Close()
			write(s, w, purchases(0, 100)...)
			if _, err = prepareErr(w, 1, false); err != nil {
				if _, again := w.Write(batchOf(purchases(0, 1)...), 0); again == nil || again.Error() != err.Error() {
					t.Errorf("Write after a lost file: %v", again)
				}
				if _, again := prepareErr(w, 2, false); again == nil {
					t.Error("the epoch after a lost file was prepared")
				}
			}
		}
		if err == nil || !strings.HasPrefix(err.Error(), `delta sink: table "mem://t": `) || !strings.HasSuffix(err.Error(), tt.want) {
			t.Errorf("got  %v\nwant %s", err, tt.want)
		}
	}
}

// A table changed so that files no longer fit stops the job.
func TestTableChanged(t *testing.T) {
	s := newStage(t)
	e := env[purchase](s, 0, 1)
	w, c := s.writer(e, nil), s.committer(e)
	write(s, w, purchases(0, 10)...)
	h, _ := s.prepare(w, 0, 1)
	tbl, err := deltalake.Open(context.Background(), deltalake.NewFolderStore(filepath.Join(s.folder, "gold/t")), deltalake.TableOptions{})
	if err != nil {
		t.Fatal(err)
	}
	m := *tbl.Latest().Metadata()
	m.SchemaString = strings.Replace(m.SchemaString, `"user"`, `"customer"`, 1)
	if _, err := tbl.Commit(context.Background(), deltalake.Commit{Metadata: &m}); err != nil {
		t.Fatal(err)
	}
	_, err = c.Commit(context.Background(), 1, h)
	if !errors.Is(err, spi.ErrStop) || !strings.Contains(err.Error(), `table "gold/t": epoch 1 cannot be committed, for the table was changed since its files were written`) {
		t.Errorf("got %v", err)
	}
}

// On an object store whose answers fail, get lost or come late, every epoch is in
// the table once.
func TestObjects(t *testing.T) {
	for seed := range uint64(6) {
		rnd := rand.New(rand.NewPCG(seed, 5))
		mem := objstore.NewMem(nil)
		faulty := objstore.NewFaulty(mem, objstore.FaultyOptions{Rand: rnd, Odds: map[objstore.Fault]float64{objstore.LostAfter: 0.1, objstore.LostBefore: 0.1, objstore.Late: 0.05, objstore.Conflict: 0.1, objstore.Throttle: 0.1, objstore.Truncate: 0.1}})
		wait := objstore.Backoff{Tries: 50, Sleep: func(context.Context, time.Duration) error { return nil }}
		sink := Sink{Store: func(context.Context, string, map[string]string) (deltalake.Store, error) {
			return objects{faulty, wait}, nil
		}}
		s := newStage(t)
		e := env[purchase](s, 0, 1, "path", "mem://t")
		w, err := sink.OpenWriter(context.Background(), e, nil)
		if err != nil {
			t.Fatal(err)
		}
		c, err := sink.OpenCommitter(context.Background(), e)
		if err != nil {
			t.Fatal(err)
		}
		for epoch := dataflow.Epoch(1); epoch <= 25; epoch++ {
			write(s, w, purchases(int(epoch)*100, int(epoch)*100+100)...)
			h, _ := s.prepare(w, 0, epoch)
			for _, err := c.Commit(context.Background(), epoch, h); err != nil; _, err = c.Commit(context.Background(), epoch, h) {
				if errors.Is(err, spi.ErrStop) {
					t.Fatal(err)
				}
			}
		}
		w.Close()
		tbl, err := deltalake.Open(context.Background(), objects{mem, wait}, deltalake.TableOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if n, _ := tbl.Latest().NumRows(); n != 2500 || tbl.Latest().Version() != 25 {
			t.Errorf("seed %d: %d rows at version %d", seed, n, tbl.Latest().Version())
		}
	}
}

// A table in the object store that WEIR_S3_ENDPOINT names, if any.
func TestRealS3(t *testing.T) {
	data, bucket := os.Getenv("WEIR_S3_DATA"), fmt.Sprintf("weir-delta-%d", os.Getpid())
	if os.Getenv("WEIR_S3_ENDPOINT") == "" || data == "" {
		t.Skip("set WEIR_S3_ENDPOINT and WEIR_S3_DATA (deploy/real/s3.sh env) to write to a real S3 server")
	}
	if err := os.Mkdir(filepath.Join(data, bucket), 0o777); err != nil {
		t.Fatal(err)
	}
	s := newStage(t)
	e := env[purchase](s, 0, 1, "partition_by", "day")
	e.Settings["lake.root"] = "s3://" + bucket + "/lake?endpoint=" + os.Getenv("WEIR_S3_ENDPOINT") + "&region=us-east-1"
	sink := Sink{Store: Objects(objstore.Openers{"s3": s3.Open})}
	w, err := sink.OpenWriter(context.Background(), e, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	c, err := sink.OpenCommitter(context.Background(), e)
	if err != nil {
		t.Fatal(err)
	}
	for epoch := dataflow.Epoch(1); epoch <= 12; epoch++ {
		write(s, w, purchases(int(epoch)*1000, int(epoch)*1000+1000)...)
		h, _ := s.prepare(w, 0, epoch)
		s.commit(c, epoch, h)
		s.commit(c, epoch, h)
	}
	if n, _ := c.(*committer).table.Latest().NumRows(); n != 12000 {
		t.Errorf("%d rows", n)
	}
}

type seven struct {
	Auction, Bidder, Price int64
	Channel, URL, Extra    string
	At                     time.Time
}

// BenchmarkWrite measures Write to Prepare of 7 columns, in rows per second.
func BenchmarkWrite(b *testing.B) {
	folder := b.TempDir()
	s := &stage{folder: folder, wake: make(chan struct{}, 1), counts: map[string]int64{}}
	e := env[seven](s, 0, 1)
	e.Settings = map[string]string{"lake.root": folder}
	w, err := Sink{}.OpenWriter(context.Background(), e, nil)
	if err != nil {
		b.Fatal(err)
	}
	defer w.Close()
	var batch []seven
	for i := range 1024 {
		batch = append(batch, seven{int64(1000 + i%100), int64(i * 7 % 1013), int64(i * i % 100003), []string{"Google", "Apple", "Baidu"}[i%3],
			fmt.Sprintf("https://www.nexmark.com/item.htm?query=%d", i%300), "", time.UnixMicro(int64(i) * 1000)})
	}
	rows := batchOf(batch...)
	b.ResetTimer()
	epoch := dataflow.Epoch(0)
	for n := 0; n < b.N; {
		for from := 0; from < len(batch); {
			k, err := w.Write(rows, from)
			if err != nil {
				b.Fatal(err)
			}
			if from += k; from < len(batch) {
				<-s.wake
			}
		}
		if n += len(batch); n/1_000_000 > int(epoch) || n >= b.N {
			epoch++
			if _, err := prepareErr(w, epoch, false); err != nil {
				b.Fatal(err)
			}
		}
	}
}
