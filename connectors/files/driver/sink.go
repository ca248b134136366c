package driver

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"unsafe"

	"github.com/google/uuid"

	"github.com/weirstream/weir/connectors/internal/option"
	"github.com/weirstream/weir/dataflow"
	"github.com/weirstream/weir/internal/codec"
	"github.com/weirstream/weir/stream/spi"
)

const (
	sinkWho       = "files sink"
	blockBytes    = 64 << 10 // handed to the goroutine at once
	waitingBlocks = 64       // at most
)

// Sink is the spi.SinkDriver of kind "files". The zero value is ready to use.
type Sink struct{}

func sinkOptions() []option.Option {
	return []option.Option{
		{Name: "path", Required: true},
		{Name: "target_file_size", Type: option.Size, Min: 1},
		{Name: "header", Type: option.Switch},
	}
}

// Check refuses unknown options and wrong types.
func (s Sink) Check(c dataflow.Connector, _ map[string]string) error {
	_, err := readSink(c)
	return err
}

type sinkConfig struct {
	folder   string
	ext      string
	fileSize int64
	header   bool
}

func readSink(c dataflow.Connector) (*sinkConfig, error) {
	o, err := option.Read(sinkWho, sinkOptions(), c.Options, nil)
	ext, ok := map[string]string{"json": "jsonl", "csv": "csv", "raw": "txt"}[c.Format]
	if !ok {
		err = errors.Join(err, fmt.Errorf("%s: format %q: want json, csv or raw", sinkWho, c.Format))
	}
	if err != nil {
		return nil, err
	}
	return &sinkConfig{folder: o.Text("path", ""), ext: ext, fileSize: o.Size("target_file_size", 128<<20), header: o.Switch("header", false) && c.Format == "csv"}, nil
}

// A handle is one closed file that waits for its commit. Names are relative to
// the folder.
type handle struct {
	From string `json:"from"`
	To   string `json:"to"`
	Rows int64  `json:"rows"`
}

// A writer is the spi.Writer of one subtask.
type writer struct {
	env    spi.Env
	cfg    *sinkConfig
	header []byte
	stem   string // of pending files: pipeline, sink and subtask
	ended  chan struct{}

	// Owned by the turn.
	block []byte
	rows  int64 // of block

	// mu guards what the turn and the goroutine share.
	mu      sync.Mutex
	more    *sync.Cond
	queue   []command
	free    [][]byte
	starved bool
	closed  bool
	failure error

	// Owned by the goroutine.
	file   *os.File
	name   string
	size   int64
	inFile int64 // rows
	done   []handle
}

// A command writes a block or, with an answer, closes the file.
type command struct {
	block  []byte
	rows   int64
	epoch  dataflow.Epoch
	answer func(spi.Prepared, error)
}

// OpenWriter makes the folder if there is none.
func (s Sink) OpenWriter(_ context.Context, env spi.Env, _ map[int][]byte) (spi.Writer, error) {
	cfg, err := readSink(env.Connector)
	if err != nil {
		return nil, err
	}
	if env.Connector.Format == "csv" {
		if env.Value, err = newCSV(env.Elem); err != nil {
			return nil, fmt.Errorf("%s: folder %q: %w", sinkWho, cfg.folder, err)
		}
	}
	if env.Value == nil {
		return nil, fmt.Errorf("%s: folder %q: the format %q has no codec", sinkWho, cfg.folder, env.Connector.Format)
	}
	w := &writer{env: env, cfg: cfg, ended: make(chan struct{}), stem: pendingStem(env.Pipeline, env.Operator, env.Index)}
	if cfg.header {
		cols, err := codec.Columns(env.Elem)
		if err != nil {
			return nil, fmt.Errorf("%s: folder %q: %w", sinkWho, cfg.folder, err)
		}
		for i := range cols {
			if i > 0 {
				w.header = append(w.header, ',')
			}
			w.header = append(w.header, cols[i].Name...)
		}
		w.header = append(w.header, '\n')
	}
	if err := os.MkdirAll(filepath.Join(cfg.folder, pendingFolder), 0o777); err != nil {
		return nil, fmt.Errorf("%s: %w%s", sinkWho, err, cure(err))
	}
	w.more = sync.NewCond(&w.mu)
	go w.run()
	return w, nil
}

func pendingStem(p dataflow.Pipeline, op dataflow.OperatorID, index int) string {
	safe := strings.NewReplacer("/", "_", "\\", "_", string(filepath.Separator), "_")
	return safe.Replace(string(p)) + "~" + safe.Replace(string(op)) + "~" + strconv.Itoa(index) + "~"
}

// Start removes what former attempts left: everything that a manifest names was
// renamed before.
func (w *writer) Start(context.Context) error {
	dir := filepath.Join(w.cfg.folder, pendingFolder)
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("%s: %w%s", sinkWho, err, cure(err))
	}
	prefix := strings.TrimSuffix(pendingStem(w.env.Pipeline, w.env.Operator, 0), "0~")
	for _, e := range entries {
		rest, ok := strings.CutPrefix(e.Name(), prefix)
		index, _, _ := strings.Cut(rest, "~")
		n, err := strconv.Atoi(index)
		if !ok || err != nil || n%w.env.Parallelism != w.env.Index {
			continue
		}
		if err := os.Remove(filepath.Join(dir, e.Name())); err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("%s: %w%s", sinkWho, err, cure(err))
		}
	}
	return nil
}

// Write encodes rows into blocks and hands full ones to the goroutine.
func (w *writer) Write(b spi.Batch, from int) (consumed int, err error) {
	base, size := b.Base(), b.Elem().Size()
	for i := from; i < b.Len(); i++ {
		if len(w.block) >= blockBytes {
			full, err := w.send()
			if err != nil {
				return consumed, err
			}
			if full {
				return consumed, nil
			}
		}
		before := len(w.block)
		w.block, err = w.env.Value.Append(w.block, unsafe.Add(base, uintptr(i)*size))
		if err == nil && w.cfg.ext == "txt" && bytes.IndexByte(w.block[before:], '\n') >= 0 {
			err = errors.New("it holds a line break")
		}
		if err != nil {
			w.block = w.block[:before]
			return consumed, fmt.Errorf("%s: folder %q: a row of %v cannot be a line: %w", sinkWho, w.cfg.folder, b.Elem(), err)
		}
		if n := len(w.block); w.cfg.ext != "csv" || n == before || w.block[n-1] != '\n' {
			w.block = append(w.block, '\n')
		}
		w.rows++
		consumed++
	}
	return consumed, w.failed()
}

func (w *writer) failed() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.failure
}

// send hands the block over; full tells that too many wait.
func (w *writer) send() (full bool, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.failure != nil {
		return false, w.failure
	}
	if len(w.queue) >= waitingBlocks {
		w.starved = true
		return true, nil
	}
	w.queue = append(w.queue, command{block: w.block, rows: w.rows})
	w.rows = 0
	if n := len(w.free); n > 0 {
		w.block, w.free = w.free[n-1][:0], w.free[:n-1]
	} else {
		w.block = make([]byte, 0, blockBytes+blockBytes/4)
	}
	w.more.Signal()
	return false, nil
}

// Prepare syncs and closes the files of the epoch.
func (w *writer) Prepare(epoch dataflow.Epoch, _ bool, done func(spi.Prepared, error)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.queue = append(w.queue, command{block: w.block, rows: w.rows}, command{epoch: epoch, answer: done})
	w.block, w.rows = nil, 0
	w.more.Signal()
}

// Finished needs nothing: the files have their names.
func (w *writer) Finished(dataflow.Epoch) {}

// Close drops the file that was not prepared.
func (w *writer) Close() error {
	w.mu.Lock()
	w.closed = true
	w.mu.Unlock()
	w.more.Signal()
	<-w.ended
	return nil
}

func (w *writer) run() {
	defer close(w.ended)
	for {
		w.mu.Lock()
		for len(w.queue) == 0 && !w.closed {
			w.more.Wait()
		}
		if w.closed {
			w.mu.Unlock()
			w.drop()
			return
		}
		c := w.queue[0]
		w.queue[0] = command{}
		w.queue = w.queue[1:]
		err := w.failure
		w.mu.Unlock()
		if err == nil {
			if err = w.do(c); err != nil {
				err = fmt.Errorf("%s: %w%s", sinkWho, err, cure(err))
			}
		}
		w.after(c, err)
	}
}

// do writes a block, or closes the file for an answer.
func (w *writer) do(c command) error {
	if c.answer != nil || w.file != nil && w.size >= w.cfg.fileSize {
		if err := w.closeFile(); err != nil {
			return err
		}
	}
	if len(c.block) == 0 {
		return nil
	}
	if w.file == nil {
		w.name = w.stem + uuid.NewString() + ".tmp"
		f, err := os.OpenFile(filepath.Join(w.cfg.folder, pendingFolder, w.name), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o666)
		if err != nil {
			return err
		}
		w.file, w.size, w.inFile = f, int64(len(w.header)), 0
		if _, err := f.Write(w.header); err != nil {
			return err
		}
	}
	n, err := w.file.Write(c.block)
	w.size += int64(n)
	w.inFile += c.rows
	return err
}

func (w *writer) closeFile() error {
	if w.file == nil {
		return nil
	}
	f := w.file
	w.file = nil
	err := errors.Join(f.Sync(), f.Close())
	if err == nil {
		w.done = append(w.done, handle{From: filepath.Join(pendingFolder, w.name), Rows: w.inFile})
	}
	return err
}

func (w *writer) drop() {
	if w.file != nil {
		w.file.Close()
		os.Remove(filepath.Join(w.cfg.folder, pendingFolder, w.name))
		w.file = nil
	}
}

// after gives the block back, notes a failure and answers.
func (w *writer) after(c command, err error) {
	w.mu.Lock()
	if err != nil && w.failure == nil {
		w.failure = err
	}
	if c.block != nil {
		w.free = append(w.free, c.block)
	}
	wake := err != nil || w.starved && len(w.queue) <= waitingBlocks/2
	if wake {
		w.starved = false
	}
	w.mu.Unlock()
	if wake {
		w.env.Wake()
	}
	if c.answer == nil {
		return
	}
	var p spi.Prepared
	if err == nil {
		err = syncFolder(filepath.Join(w.cfg.folder, pendingFolder))
	}
	if err != nil {
		c.answer(p, err)
		return
	}
	for i, h := range w.done {
		h.To = fmt.Sprintf("part-%05d-%010d-%03d-%s.%s", w.env.Index, c.epoch, i, strings.TrimSuffix(h.From[strings.LastIndexByte(h.From, '~')+1:], ".tmp")[:8], w.cfg.ext)
		b, _ := json.Marshal(h) // of plain fields: cannot fail
		p.Handles = append(p.Handles, b)
	}
	w.done = nil
	c.answer(p, nil)
}

func syncFolder(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// A committer renames files.
type committer struct{ cfg *sinkConfig }

// OpenCommitter opens the committer of a sink.
func (s Sink) OpenCommitter(_ context.Context, env spi.Env) (spi.Committer, error) {
	cfg, err := readSink(env.Connector)
	if err != nil {
		return nil, err
	}
	return committer{cfg}, nil
}

// Check has nothing to compare: files of later epochs have names of their own.
func (c committer) Check(context.Context, dataflow.Epoch) error { return nil }

// Commit gives the files of an epoch their names. What was done before is found
// done.
func (c committer) Commit(_ context.Context, epoch dataflow.Epoch, handles []dataflow.CommitHandle) (string, error) {
	rows := int64(0)
	for _, ch := range handles {
		var h handle
		if err := json.Unmarshal(ch.Data, &h); err != nil || !filepath.IsLocal(h.From) || !filepath.IsLocal(h.To) {
			return "", fmt.Errorf("%s: a prepared file's handle is damaged: %q: %w", sinkWho, ch.Data, spi.ErrStop)
		}
		from, to := filepath.Join(c.cfg.folder, h.From), filepath.Join(c.cfg.folder, h.To)
		err := os.Rename(from, to)
		if errors.Is(err, os.ErrNotExist) {
			if _, e := os.Stat(to); e != nil {
				return "", fmt.Errorf("%s: epoch %d: the file %s of %d rows that subtask %d prepared is gone, and %s is not there either: its rows are lost unless they are restored from a copy: %w", sinkWho, epoch, from, h.Rows, ch.Subtask, to, spi.ErrStop)
			}
			err = nil
		}
		if err != nil {
			return "", fmt.Errorf("%s: epoch %d: %w%s", sinkWho, epoch, err, cure(err))
		}
		rows += h.Rows
	}
	if len(handles) == 0 {
		return "nothing to commit", nil
	}
	if err := syncFolder(c.cfg.folder); err != nil {
		return "", fmt.Errorf("%s: epoch %d: %w%s", sinkWho, epoch, err, cure(err))
	}
	return fmt.Sprintf("%d files of %d rows", len(handles), rows), nil
}

// Close has nothing to release.
func (c committer) Close() error { return nil }
