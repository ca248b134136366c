package driver

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"time"
	"unsafe"

	"github.com/weirstream/weir/connectors/internal/option"
	"github.com/weirstream/weir/dataflow"
	"github.com/weirstream/weir/internal/clock"
	"github.com/weirstream/weir/stream/spi"
)

const sourceWho = "files source"

// Source is the spi.SourceDriver of kind "files". The zero value is ready to use.
type Source struct {
	Clock clock.Clock // of the watch interval; nil: the wall clock
}

func sourceOptions() []option.Option {
	return []option.Option{
		{Name: "path", Required: true},
		{Name: "watch_interval", Type: option.Span},
		{Name: "bad_records", Type: option.Choice, Choices: []string{string(spi.BadFail), string(spi.BadDrop), string(spi.BadRoute)}},
		{Name: "header", Type: option.Switch},
		{Name: "max_record_bytes", Type: option.Size, Min: 1},
	}
}

// Check refuses unknown options and wrong types.
func (s Source) Check(c dataflow.Connector, _ map[string]string) error {
	_, err := option.Read(sourceWho, sourceOptions(), c.Options, nil)
	return err
}

// Open lists the files and starts to read those that the subtask owns.
func (s Source) Open(ctx context.Context, env spi.Env, restored []dataflow.SplitState, _ spi.SourceRunner) (spi.Reader, error) {
	o, err := option.Read(sourceWho, sourceOptions(), env.Connector.Options, nil)
	if err != nil {
		return nil, err
	}
	if env.Connector.Format == "csv" {
		if env.Value, err = newCSV(env.Elem); err != nil {
			return nil, fmt.Errorf("%s: %w", sourceWho, err)
		}
	}
	if env.Value == nil {
		return nil, errors.New("files source: no format is set for the lines: use json, csv or raw")
	}
	r := &reader{
		env: env, path: o.Text("path", ""), watch: o.Span("watch_interval", 0), bad: spi.BadRecords(o.Text("bad_records", string(spi.BadFail))),
		header: o.Switch("header", false), maxLine: int(o.Size("max_record_bytes", 16<<20)), clock: s.Clock, known: map[string]bool{}, arena: new(spi.Arena),
	}
	if r.clock == nil {
		r.clock = clock.Wall()
	}
	r.changed = sync.NewCond(&r.mu)
	if err := r.restore(restored); err != nil {
		return nil, err
	}
	found, err := r.list()
	if err != nil {
		return nil, err
	}
	if restored == nil || r.watch > 0 {
		r.add(found)
	}
	r.ctx, r.cancel = context.WithCancel(context.Background())
	r.wg.Go(r.read)
	if r.watch > 0 {
		r.wg.Go(r.look)
	}
	return r, nil
}

// A split is one file. next and done belong to the turn.
type split struct {
	path string
	next int64 // byte after the last line handed out
	size int64 // when it was found
}

type position struct {
	Next int64 `json:"next"`
	Size int64 `json:"size"`
}

// A reader is the spi.Reader of one subtask.
type reader struct {
	env     spi.Env
	path    string
	watch   time.Duration
	bad     spi.BadRecords
	header  bool
	maxLine int
	clock   clock.Clock
	ctx     context.Context
	cancel  context.CancelFunc
	wg      sync.WaitGroup
	arena   *spi.Arena
	head    chunk // being decoded

	// mu guards the rest.
	mu      sync.Mutex
	changed *sync.Cond // splits were added, room was made, or the reader closes
	splits  []*split   // only appended to
	ids     []string
	known   map[string]bool // paths of all subtasks
	queue   []chunk
	held    int // bytes of queue
	failure error
}

// restore takes the files that this subtask owns; all are known.
func (r *reader) restore(states []dataflow.SplitState) error {
	for _, st := range states {
		var p position
		if err := json.Unmarshal(st.Position, &p); err != nil || p.Next < 0 || p.Next > p.Size {
			return fmt.Errorf("%s: restored state of split %q is damaged: %q", sourceWho, st.Split, st.Position)
		}
		r.known[st.Split] = true
		if !spi.OwnsSplit(st.Split, 0, r.env.Index, r.env.Parallelism) {
			continue
		}
		if p.Next < p.Size {
			info, err := os.Stat(st.Split)
			if err != nil {
				return fmt.Errorf("%s: a file of the checkpoint was not read to its end: %w", sourceWho, err)
			}
			if info.Size() < p.Size {
				return fmt.Errorf("%s: %s had %d bytes at the checkpoint and has %d now: files must not change", sourceWho, st.Split, p.Size, info.Size())
			}
		}
		r.splits = append(r.splits, &split{st.Split, p.Next, p.Size})
		r.ids = append(r.ids, st.Split)
	}
	return nil
}

// list returns the files that path names, sorted, with their sizes.
func (r *reader) list() (out []*split, err error) {
	path := r.path
	if info, err := os.Stat(path); err == nil && info.IsDir() {
		path = filepath.Join(path, "*")
	} else if err != nil && !strings.ContainsAny(path, "*?[") {
		return nil, fmt.Errorf("%s: %w%s", sourceWho, err, cure(err))
	}
	names, err := filepath.Glob(path)
	if err != nil {
		return nil, fmt.Errorf("%s: option \"path\" is %q: %w", sourceWho, r.path, err)
	}
	slices.Sort(names)
	for _, n := range names {
		info, err := os.Stat(n)
		if err != nil || !info.Mode().IsRegular() || hidden(filepath.Base(n)) {
			continue
		}
		if path, err := filepath.Abs(n); err == nil {
			n = path
		}
		out = append(out, &split{path: n, size: info.Size()})
	}
	if len(out) == 0 && r.watch == 0 && len(r.known) == 0 {
		return nil, fmt.Errorf("%s: no file matches %q: correct the path, or set watch_interval to wait for files", sourceWho, r.path)
	}
	return out, nil
}

// add takes up files that are new; it tells whether any is ours.
func (r *reader) add(found []*split) (ours bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	ids := slices.Clone(r.ids)
	for _, s := range found {
		if r.known[s.path] {
			continue
		}
		r.known[s.path] = true
		if spi.OwnsSplit(s.path, 0, r.env.Index, r.env.Parallelism) {
			r.splits = append(r.splits, s)
			ids = append(ids, s.path)
			ours = true
		}
	}
	r.ids = ids
	r.changed.Broadcast()
	return ours
}

// look finds new files until the reader closes.
func (r *reader) look() {
	for clock.Sleep(r.ctx, r.clock, r.watch) == nil {
		found, err := r.list()
		if err != nil {
			r.env.Log.Warn("files source: looking for new files failed", "path", r.path, "error", err)
		} else if r.add(found) {
			r.env.Wake()
		}
	}
}

// Splits returns the files owned; new ones are appended.
func (r *reader) Splits() (ids []string, version int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.ids, len(r.ids) + 1
}

// Poll decodes lines of the oldest chunk into b.
func (r *reader) Poll(b spi.Batch, most int, bad *[]spi.Rejected) (split, n int, err error) {
	if r.head.split == nil && !r.next() {
		r.mu.Lock()
		defer r.mu.Unlock()
		return 0, 0, r.failure
	}
	index := r.head.index
	n, err = r.decode(b, most, bad)
	if err == nil && n == 0 {
		r.env.Wake() // what was read held no row, but there is more
	}
	return index, n, err
}

// next makes the oldest queued chunk the head.
func (r *reader) next() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.queue) == 0 {
		return false
	}
	r.head = r.queue[0]
	r.queue[0] = chunk{}
	r.queue = r.queue[1:]
	r.held -= len(r.head.data)
	r.changed.Broadcast()
	return true
}

// decode appends up to most rows of the head to b.
func (r *reader) decode(b spi.Batch, most int, bad *[]spi.Rejected) (n int, err error) {
	h := &r.head
	first := b.Len()
	lines := min(most, bytes.Count(h.data, []byte{'\n'})+1)
	base, size := b.Extend(lines), b.Elem().Size()
	at := h.split.next
	for n < most && (len(h.data) > 0 || h.oversized > 0) {
		if h.oversized > 0 {
			err = r.reject(h.split.path, at, h.data, fmt.Errorf("the line has %d bytes, more than max_record_bytes %d", h.oversized, r.maxLine), bad)
			at, h.data, h.oversized = h.end, nil, 0
			break
		}
		line, rest, cut := bytes.Cut(h.data, []byte{'\n'})
		start := at
		at += int64(len(line))
		if cut {
			at++
		}
		h.data = rest
		line = bytes.TrimSuffix(line, []byte{'\r'})
		if len(line) == 0 || start == 0 && r.header {
			continue
		}
		p := unsafe.Add(base, uintptr(n)*size)
		if e := r.env.Value.Decode(line, p, r.arena); e != nil {
			reflect.NewAt(b.Elem(), p).Elem().SetZero()
			if err = r.reject(h.split.path, start, line, fmt.Errorf("cannot decode the line as %v: %w", b.Elem(), e), bad); err != nil {
				break
			}
			continue
		}
		n++
	}
	b.Truncate(first + n)
	if err != nil {
		return n, err
	}
	r.mu.Lock()
	h.split.next = at
	r.mu.Unlock()
	if len(h.data) == 0 {
		r.head = chunk{}
	}
	return n, nil
}

// reject treats a line by the policy; its error fails the attempt.
func (r *reader) reject(path string, at int64, line []byte, why error, bad *[]spi.Rejected) error {
	switch r.bad {
	case spi.BadDrop:
		r.env.Count("bad_records_total", 1)
		return nil
	case spi.BadRoute:
		r.env.Count("bad_records_total", 1)
		*bad = append(*bad, spi.Rejected{Source: path, Split: path, Offset: at, Error: why.Error(), Value: bytes.Clone(line)})
		return nil
	}
	return fmt.Errorf("%s: %s at byte %d: %w: set bad_records to drop or dead-letter to go on", sourceWho, path, at, why)
}

// Ended reports whether all files were read and no new one is looked for.
func (r *reader) Ended() bool {
	if r.watch > 0 {
		return false
	}
	return r.Lag() == 0
}

// Snapshot returns the position in every file owned.
func (r *reader) Snapshot() []dataflow.SplitState {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := make([]dataflow.SplitState, len(r.splits))
	for i, s := range r.splits {
		out[i] = dataflow.SplitState{Split: s.path, Position: fmt.Appendf(nil, `{"next":%d,"size":%d}`, s.next, s.size)}
	}
	return out
}

// Completed does nothing: nobody outside follows the positions.
func (r *reader) Completed(dataflow.Epoch, []dataflow.SplitState) {}

// Lag returns the bytes, not records, that are left in known files.
func (r *reader) Lag() int64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	lag := int64(0)
	for _, s := range r.splits {
		lag += s.size - s.next
	}
	return lag
}

// Close stops reading.
func (r *reader) Close() error {
	r.cancel()
	r.mu.Lock()
	r.changed.Broadcast()
	r.mu.Unlock()
	r.wg.Wait()
	return nil
}
