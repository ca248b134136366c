package driver

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
	"unsafe"

	"github.com/weirstream/weir/dataflow"
	"github.com/weirstream/weir/stream/spi"
)

// lines is a batch of text lines.
type lines struct {
	values []string
	head   spi.Head
}

func (b *lines) Len() int             { return len(b.values) }
func (b *lines) Head() *spi.Head      { return &b.head }
func (b *lines) Elem() reflect.Type   { return reflect.TypeFor[string]() }
func (b *lines) Base() unsafe.Pointer { return unsafe.Pointer(unsafe.SliceData(b.values)) }
func (b *lines) Extend(n int) unsafe.Pointer {
	at := len(b.values)
	b.values = append(b.values, make([]string, n)...)
	return unsafe.Add(b.Base(), uintptr(at)*unsafe.Sizeof(""))
}
func (b *lines) Append(spi.Batch, int, int) { panic("not used") }
func (b *lines) Truncate(n int)             { b.values = b.values[:n] }
func (b *lines) Reset()                     { b.Truncate(0) }
func (b *lines) New(int) spi.Batch          { return &lines{} }

// text is the codec of tests: a line that begins with "bad" cannot be decoded.
type text struct{}

func (text) Schema() string { return "" }
func (text) Append(dst []byte, p unsafe.Pointer) ([]byte, error) {
	return append(dst, *(*string)(p)...), nil
}
func (text) Decode(src []byte, p unsafe.Pointer, a *spi.Arena) error {
	if strings.HasPrefix(string(src), "bad") {
		return errors.New("it is bad")
	}
	*(*string)(p) = a.String(src)
	return nil
}

type stage struct {
	t      *testing.T
	wake   chan struct{}
	mu     sync.Mutex
	counts map[string]int64
}

func newStage(t *testing.T) *stage {
	return &stage{t: t, wake: make(chan struct{}, 1), counts: map[string]int64{}}
}

func (s *stage) env(index, parallelism int, options ...string) spi.Env {
	c := dataflow.Connector{Kind: "files", Format: "raw", Options: map[string]string{}}
	for i := 0; i < len(options); i += 2 {
		c.Options[options[i]] = options[i+1]
	}
	return spi.Env{
		Pipeline: "pipe", Operator: "op", Index: index, Parallelism: parallelism, Connector: c, Elem: reflect.TypeFor[string](), Value: text{},
		Log: slog.New(slog.NewTextHandler(io.Discard, nil)),
		Wake: func() {
			select {
			case s.wake <- struct{}{}:
			default:
			}
		},
		Count: func(name string, n int64) { s.mu.Lock(); s.counts[name] += n; s.mu.Unlock() },
	}
}

func (s *stage) await() {
	s.t.Helper()
	select {
	case <-s.wake:
	case <-time.After(time.Minute):
		s.t.Fatal("no wake-up for a minute")
	}
}

func (s *stage) open(env spi.Env, restored []dataflow.SplitState) spi.Reader {
	s.t.Helper()
	r, err := Source{}.Open(context.Background(), env, restored, nil)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { r.Close() })
	return r
}

// drain polls until want rows came or, with want < 0, the reader has ended.
func (s *stage) drain(r spi.Reader, want int, bad *[]spi.Rejected) (out []string) {
	s.t.Helper()
	for (want < 0 || len(out) < want) && !r.Ended() {
		var b lines
		_, n, err := r.Poll(&b, 50, bad)
		if err != nil {
			s.t.Fatal(err)
		}
		out = append(out, b.values...)
		if n == 0 && !r.Ended() {
			s.await()
		}
	}
	return out
}

func put(t *testing.T, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o666); err != nil {
		t.Fatal(err)
	}
}

// Every line of random files is read once, whatever the cuts, the parallelism and
// the restores in between.
func TestReadAllOnce(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 1))
	dir := t.TempDir()
	var want []string
	for f := range 7 {
		var b strings.Builder
		for i := range rnd.IntN(4000) {
			l := fmt.Sprintf("%d-%d-%s", f, i, strings.Repeat("x", rnd.IntN(300)))
			want = append(want, l)
			b.WriteString(l + []string{"\n", "\r\n", "\n\n"}[rnd.IntN(3)])
		}
		if f%2 == 0 {
			want = append(want, fmt.Sprint("last", f))
			fmt.Fprint(&b, "last", f) // no line break at the end
		}
		put(t, filepath.Join(dir, fmt.Sprintf("f%d.txt", f)), b.String())
	}
	put(t, filepath.Join(dir, ".hidden"), "no\n")
	put(t, filepath.Join(dir, "_SUCCESS"), "no\n")
	s := newStage(t)
	var got []string
	var states []dataflow.SplitState
	for i := range 2 {
		r := s.open(s.env(i, 2, "path", dir), nil)
		got = append(got, s.drain(r, 1500, nil)...)
		states = append(states, r.Snapshot()...)
	}
	for i := range 3 {
		got = append(got, s.drain(s.open(s.env(i, 3, "path", dir), states), -1, nil)...)
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("%d lines read, want %d", len(got), len(want))
	}
}

// A watched folder yields files as they appear.
func TestWatch(t *testing.T) {
	dir := t.TempDir()
	s := newStage(t)
	r := s.open(s.env(0, 1, "path", filepath.Join(dir, "*.txt"), "watch_interval", "5ms"), nil)
	put(t, filepath.Join(dir, "tmp"), "a\nb\n")
	if err := os.Rename(filepath.Join(dir, "tmp"), filepath.Join(dir, "1.txt")); err != nil {
		t.Fatal(err)
	}
	if got := s.drain(r, 2, nil); !slices.Equal(got, []string{"a", "b"}) {
		t.Errorf("got %v", got)
	}
	if r.Ended() {
		t.Error("a watching source says it ended")
	}
}

// Headers are skipped; bad and oversized lines follow their policy.
func TestBadLines(t *testing.T) {
	dir := t.TempDir()
	long := strings.Repeat("y", 2*chunkBytes)
	put(t, filepath.Join(dir, "a"), "name\none\nbad two\n"+strings.Repeat("z", 60)+"\nthree\n"+long+"\nfour\n"+long)
	options := []string{"path", dir, "header", "true", "max_record_bytes", "50", "bad_records"}
	s := newStage(t)
	var bad []spi.Rejected
	got := s.drain(s.open(s.env(0, 1, append(options, "dead-letter")...), nil), -1, &bad)
	if !slices.Equal(got, []string{"one", "three", "four"}) {
		t.Errorf("rows %q", got)
	}
	var why []string
	for _, b := range bad {
		why = append(why, fmt.Sprint(b.Offset, " ", b.Error))
	}
	want := []string{
		"9 cannot decode the line as string: it is bad",
		"17 the line has 60 bytes, more than max_record_bytes 50",
		"84 the line has 524288 bytes, more than max_record_bytes 50",
		"524378 the line has 524288 bytes, more than max_record_bytes 50",
	}
	if !slices.Equal(why, want) {
		t.Errorf("rejected:\n%s", strings.Join(why, "\n"))
	}
	s = newStage(t)
	if got := s.drain(s.open(s.env(0, 1, append(options, "drop")...), nil), -1, nil); len(got) != 3 || s.counts["bad_records_total"] != 4 {
		t.Errorf("rows %q, counted %d", got, s.counts["bad_records_total"])
	}
	s = newStage(t)
	r := s.open(s.env(0, 1, append(options, "fail")...), nil)
	var err error
	for err == nil {
		var n int
		if _, n, err = r.Poll(&lines{}, 10, nil); err == nil && n == 0 {
			s.await()
		}
	}
	if want := "files source: " + filepath.Join(dir, "a") + " at byte 9: cannot decode the line as string: it is bad: set bad_records to drop or dead-letter to go on"; err.Error() != want {
		t.Errorf("got  %v\nwant %s", err, want)
	}
}

// What is wrong with a source is said in one sentence.
func TestSourceFaults(t *testing.T) {
	dir := t.TempDir()
	put(t, filepath.Join(dir, "a"), "1\n2\n")
	a := filepath.Join(dir, "a")
	for _, tt := range []struct {
		name     string
		options  []string
		restored []dataflow.SplitState
		want     string
	}{
		{"no path", nil, nil, `files source: option "path" is missing`},
		{"unknown", []string{"path", dir, "watch_intervall", "1s"}, nil, `files source: unknown option "watch_intervall": did you mean "watch_interval"?`},
		{"absent", []string{"path", dir + "/x"}, nil, `files source: stat ` + dir + `/x: no such file or directory: correct the path, or create it`},
		{"no match", []string{"path", dir + "/*.csv"}, nil, `files source: no file matches "` + dir + `/*.csv": correct the path, or set watch_interval to wait for files`},
		{"shrunk", []string{"path", dir}, []dataflow.SplitState{{Split: a, Position: []byte(`{"next":2,"size":9}`)}}, `files source: ` + a + ` had 9 bytes at the checkpoint and has 4 now: files must not change`},
		{"gone", []string{"path", dir}, []dataflow.SplitState{{Split: a + "b", Position: []byte(`{"next":2,"size":9}`)}}, `files source: a file of the checkpoint was not read to its end: stat ` + a + `b: no such file or directory`},
		{"damaged", []string{"path", dir}, []dataflow.SplitState{{Split: a, Position: []byte(`{"next":5,"size":4}`)}}, `files source: restored state of split "` + a + `" is damaged: "{\"next\":5,\"size\":4}"`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := Source{}.Open(context.Background(), newStage(t).env(0, 1, tt.options...), tt.restored, nil)
			if err == nil || err.Error() != tt.want {
				t.Errorf("got  %v\nwant %s", err, tt.want)
			}
		})
	}
}

func (s *stage) writer(env spi.Env) spi.Writer {
	s.t.Helper()
	w, err := Sink{}.OpenWriter(context.Background(), env, nil)
	if err == nil {
		err = w.Start(context.Background())
	}
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { w.Close() })
	return w
}

func (s *stage) write(w spi.Writer, v ...string) {
	s.t.Helper()
	for from := 0; from < len(v); {
		n, err := w.Write(&lines{values: v}, from)
		if err != nil {
			s.t.Fatal(err)
		}
		if from += n; from < len(v) {
			s.await()
		}
	}
}

func prepare(w spi.Writer, subtask int, epoch dataflow.Epoch) (out []dataflow.CommitHandle, err error) {
	c := make(chan struct{})
	w.Prepare(epoch, false, func(p spi.Prepared, e error) {
		err = e
		for i, h := range p.Handles {
			out = append(out, dataflow.CommitHandle{Subtask: subtask, Epoch: epoch, Seq: i, Data: h})
		}
		close(c)
	})
	<-c
	return out, err
}

// visible returns all lines of the folder's files, sorted.
func visible(t *testing.T, dir string) (out []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if hidden(e.Name()) {
			continue
		}
		f, err := os.Open(filepath.Join(dir, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		for s := bufio.NewScanner(f); s.Scan(); {
			out = append(out, s.Text())
		}
		f.Close()
	}
	slices.Sort(out)
	return out
}

// Killed, aborted and restored at random, a pipeline shows every row exactly once,
// and leaves nothing behind.
func TestSinkRandomHistory(t *testing.T) {
	for seed := range uint64(10) {
		rnd := rand.New(rand.NewPCG(seed, 9))
		dir := filepath.Join(t.TempDir(), "out")
		s := newStage(t)
		epoch, complete := dataflow.Epoch(0), []dataflow.CommitHandle(nil)
		next, done := 0, 0
		for attempt := range 8 {
			last := attempt == 7
			parallelism := 1 + rnd.IntN(3)
			env := s.env(0, parallelism, "path", dir, "target_file_size", "2kB")
			c, err := Sink{}.OpenCommitter(context.Background(), env)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := c.Commit(context.Background(), epoch, complete); err != nil {
				t.Fatal(err)
			}
			var ws []spi.Writer
			for i := range parallelism {
				ws = append(ws, s.writer(s.env(i, parallelism, "path", dir, "target_file_size", "2kB")))
			}
			next = done
			var pending []dataflow.CommitHandle
			for n := range 3 {
				for _, w := range ws {
					k := rnd.IntN(300)
					var v []string
					for i := range k {
						v = append(v, fmt.Sprintf("%06d", next+i))
					}
					s.write(w, v...)
					next += k
				}
				epoch++
				for i, w := range ws {
					h, err := prepare(w, i, epoch)
					if err != nil {
						t.Fatal(err)
					}
					pending = append(pending, h...)
				}
				if rnd.IntN(3) == 0 && !(last && n == 2) {
					continue
				}
				complete, pending, done = pending, nil, next
				if !last && rnd.IntN(3) == 0 {
					break // complete, killed before the commit
				}
				for range 2 {
					if _, err := c.Commit(context.Background(), epoch, complete); err != nil {
						t.Fatal(err)
					}
				}
			}
		}
		got := visible(t, dir)
		for i, l := range got {
			if l != fmt.Sprintf("%06d", i) {
				t.Fatalf("seed %d: line %d is %s", seed, i, l)
			}
		}
		if len(got) != done {
			t.Errorf("seed %d: %d lines, want %d", seed, len(got), done)
		}
		if left, _ := os.ReadDir(filepath.Join(dir, pendingFolder)); len(left) != 0 {
			t.Errorf("seed %d: %d pending files are left", seed, len(left))
		}
	}
}

// What is wrong with a sink is said in one sentence.
func TestSinkFaults(t *testing.T) {
	s := newStage(t)
	dir := t.TempDir()
	put(t, filepath.Join(dir, "file"), "")
	for _, tt := range []struct {
		name    string
		format  string
		options []string
		want    string
	}{
		{"no path", "raw", nil, `files sink: option "path" is missing`},
		{"format", "avro", []string{"path", dir}, `files sink: format "avro": want json, csv or raw`},
		{"unknown", "raw", []string{"path", dir, "target_filesize", "1"}, `files sink: unknown option "target_filesize": did you mean "target_file_size"?`},
		{"not a folder", "raw", []string{"path", dir + "/file"}, `files sink: mkdir ` + dir + `/file: not a directory`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			env := s.env(0, 1, tt.options...)
			env.Connector.Format = tt.format
			if _, err := (Sink{}).OpenWriter(context.Background(), env, nil); err == nil || err.Error() != tt.want {
				t.Errorf("got  %v\nwant %s", err, tt.want)
			}
		})
	}
	w := s.writer(s.env(0, 1, "path", dir))
	if _, err := w.Write(&lines{values: []string{"a\nb"}}, 0); err == nil || err.Error() != `files sink: folder "`+dir+`": a row of string cannot be a line: it holds a line break` {
		t.Errorf("line break: %v", err)
	}
	s.write(w, "x")
	h, err := prepare(w, 0, 1)
	if err != nil || len(h) != 1 {
		t.Fatal(h, err)
	}
	var name handle
	if err := json.Unmarshal(h[0].Data, &name); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(dir, name.From)); err != nil {
		t.Fatal(err)
	}
	c, _ := Sink{}.OpenCommitter(context.Background(), s.env(0, 1, "path", dir))
	if _, err := c.Commit(context.Background(), 1, h); !errors.Is(err, spi.ErrStop) || !strings.Contains(err.Error(), "of 1 rows that subtask 0 prepared is gone") {
		t.Errorf("a lost file: %v", err)
	}
}
