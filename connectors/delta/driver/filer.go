package driver

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"sync"
	"syscall"

	"github.com/weirstream/weir/deltalake"
)

// queuedBatches bounds the batches that wait for the filer.
const queuedBatches = 16

// fileMemory bounds what the open files of a partitioned table hold of unwritten row
// groups.
const fileMemory = 128 << 20

// closersAtOnce bounds the files that are being closed, which is mostly waiting for
// the store.
const closersAtOnce = 8

// A filer is the goroutine of one subtask that encodes and closes files.
//
// With commit_interval a file stays open over epochs. What an epoch added to it is
// then written once more, to a tail: a file that stands in the checkpoint for the rows
// in the open one until that is closed, and is dropped then.
type filer struct {
	ctx   context.Context
	cfg   *config
	store deltalake.Store
	spec  *deltalake.FileSpec
	opts  deltalake.FileOptions
	wake  func()
	count func(metric string, n int64)

	// mu guards what the turn and the goroutines share.
	mu       sync.Mutex
	more     *sync.Cond
	queue    []command
	waiting  int // batches in queue
	starved  bool
	closed   bool
	failure  error
	free     []*deltalake.Batch
	adds     []*deltalake.AddFile // closed since the last answer
	rows     int64                // in adds
	closeErr error                // of a closer; taken over into failure

	// Owned by the goroutine.
	open    []*part // with a file, in order of their opening
	closers sync.WaitGroup
	slots   chan struct{} // holds one of each running closer
	ended   chan struct{}
}

// A command is one of: write batch to part, answer.
type command struct {
	part   *part
	batch  *deltalake.Batch
	tail   bool // of batch: to the tail too, for the file may outlive the epoch
	seal   bool // of batch: close the file behind it; of answer: close all files
	answer func(r filed, err error)
}

// filed is what an answer tells.
type filed struct {
	adds  []*deltalake.AddFile // closed since the last answer
	rows  int64                // in adds
	tails []*deltalake.AddFile // hold the rows of files that are still open
}

func newFiler(ctx context.Context, cfg *config, table *deltalake.Table, spec *deltalake.FileSpec, wake func(), count func(string, int64)) *filer {
	group := int64(64 << 20)
	if len(spec.PartitionFields()) > 0 { // there are many writers at once
		files := int64(cfg.openFiles)
		if cfg.interval > 0 {
			files *= 2
		}
		group = min(group, max(1<<20, fileMemory/files))
	}
	f := &filer{
		ctx: ctx, cfg: cfg, store: table.Store(), spec: spec, wake: wake, count: count,
		opts:  deltalake.FileOptions{Compression: cfg.compression, RowGroupBytes: min(group, cfg.fileSize)},
		slots: make(chan struct{}, closersAtOnce), ended: make(chan struct{}),
	}
	f.more = sync.NewCond(&f.mu)
	go f.run()
	return f
}

// full tells whether batches wait enough; the subtask is then woken when fewer do.
func (f *filer) full() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.starved = f.waiting >= queuedBatches
	return f.starved
}

func (f *filer) failed() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.failure
}

func (f *filer) send(c command) {
	f.mu.Lock()
	f.queue = append(f.queue, c)
	if c.batch != nil {
		f.waiting++
	}
	f.mu.Unlock()
	f.more.Signal()
}

// batch returns an empty batch.
func (f *filer) batch() *deltalake.Batch {
	f.mu.Lock()
	defer f.mu.Unlock()
	if n := len(f.free); n > 0 {
		b := f.free[n-1]
		f.free = f.free[:n-1]
		return b
	}
	return deltalake.NewBatch(f.spec.DataSchema())
}

// stop drops what is open and waits for the goroutine.
func (f *filer) stop() {
	f.mu.Lock()
	f.closed = true
	f.mu.Unlock()
	f.more.Signal()
	<-f.ended
}

func (f *filer) run() {
	defer close(f.ended)
	for {
		f.mu.Lock()
		for len(f.queue) == 0 && !f.closed {
			f.more.Wait()
		}
		if f.closed {
			f.mu.Unlock()
			f.abort()
			return
		}
		c := f.queue[0]
		f.queue[0] = command{}
		f.queue = f.queue[1:]
		err := f.failure
		f.mu.Unlock()
		if err == nil {
			if err = f.do(c); err != nil {
				f.fail(err)
				err = f.failed()
			}
		}
		f.after(c, err)
	}
}

// do carries out a command.
func (f *filer) do(c command) error {
	if c.batch != nil {
		return f.write(c)
	}
	if !c.seal {
		return f.closeTails()
	}
	for len(f.open) > 0 {
		f.closeFile(f.open[0])
	}
	return f.settled()
}

// settled waits for the closers.
func (f *filer) settled() error {
	f.closers.Wait()
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.closeErr
}

// after gives the batch back and answers.
func (f *filer) after(c command, err error) {
	if c.batch != nil {
		c.batch.Reset()
		f.mu.Lock()
		if len(f.free) < 2*queuedBatches {
			f.free = append(f.free, c.batch)
		}
		f.waiting--
		wake := f.starved && f.waiting <= queuedBatches/2
		if wake {
			f.starved = false
		}
		f.mu.Unlock()
		if wake {
			f.wake()
		}
	}
	if c.answer == nil {
		return
	}
	if err != nil {
		c.answer(filed{}, err)
		return
	}
	var r filed
	f.mu.Lock()
	r.adds, r.rows, f.adds, f.rows = f.adds, f.rows, nil, 0
	f.mu.Unlock()
	for _, p := range f.open {
		r.tails = append(r.tails, p.tails...)
	}
	c.answer(r, nil)
}

func (f *filer) write(c command) (err error) {
	p := c.part
	if p.file == nil {
		if len(f.open) >= f.cfg.openFiles {
			f.closeFile(f.largest())
		}
		if p.file, err = deltalake.NewFileWriter(f.ctx, f.store, f.spec, p.values, f.opts); err != nil {
			return err
		}
		f.open = append(f.open, p)
	}
	if err := p.file.Write(c.batch); err != nil {
		return err
	}
	if c.seal || p.file.Size() >= f.cfg.fileSize {
		f.closeFile(p)
		return nil
	}
	if !c.tail {
		return nil
	}
	if p.tail == nil {
		if p.tail, err = deltalake.NewFileWriter(f.ctx, f.store, f.spec, p.values, f.opts); err != nil {
			return err
		}
	}
	return p.tail.Write(c.batch)
}

// largest returns the part whose file is largest: the others are worth waiting for.
func (f *filer) largest() (most *part) {
	for _, p := range f.open {
		if most == nil || p.file.Size() > most.file.Size() {
			most = p
		}
	}
	return most
}

// closeFile lets a closer close the part's file, and drops the tails it makes
// unnecessary.
func (f *filer) closeFile(p *part) {
	for i, o := range f.open {
		if o == p {
			f.open = append(f.open[:i], f.open[i+1:]...)
			break
		}
	}
	if p.tail != nil {
		_ = p.tail.Abort() // an orphan at worst
	}
	w := p.file
	p.file, p.tail, p.tails = nil, nil, nil
	f.background(w, func(add *deltalake.AddFile, rows int64) {
		f.adds = append(f.adds, add)
		f.rows += rows
	})
}

// closeTails makes durable what the epoch added to open files.
func (f *filer) closeTails() error {
	for _, p := range f.open {
		if p.tail == nil {
			continue
		}
		w := p.tail
		p.tail = nil
		f.background(w, func(add *deltalake.AddFile, _ int64) { p.tails = append(p.tails, add) })
	}
	return f.settled()
}

// background closes a file beside the goroutine; done is called with mu held.
func (f *filer) background(w *deltalake.FileWriter, done func(add *deltalake.AddFile, rows int64)) {
	f.slots <- struct{}{}
	f.closers.Go(func() {
		defer func() { <-f.slots }()
		rows := w.Rows()
		add, err := w.Close()
		f.mu.Lock()
		switch {
		case err != nil:
			f.closeErr = errors.Join(f.closeErr, err)
		case add != nil:
			done(add, rows)
		}
		f.mu.Unlock()
		if err == nil && add != nil {
			f.count("sink_files_total", 1)
			f.count("sink_bytes_total", add.Size)
		}
	})
}

// abort drops what is open.
func (f *filer) abort() {
	f.closers.Wait()
	for _, p := range f.open {
		_ = p.file.Abort() // an orphan at worst
		if p.tail != nil {
			_ = p.tail.Abort()
		}
		p.file, p.tail, p.tails = nil, nil, nil
	}
	f.open = nil
}

func (f *filer) fail(err error) {
	f.mu.Lock()
	f.failure = explain(f.cfg, err)
	f.mu.Unlock()
	f.abort()
	f.wake()
}

// explain names the table and the cure of what a store may answer.
func explain(cfg *config, err error) error {
	cure := ""
	switch {
	case errors.Is(err, syscall.ENOSPC):
		cure = ": the disk is full: make room, the job then goes on from its last checkpoint"
	case errors.Is(err, syscall.EROFS), errors.Is(err, fs.ErrPermission):
		cure = ": the table cannot be written: give the worker's user write permission"
	}
	return fmt.Errorf("%s: table %q: %w%s", who, cfg.path, err, cure)
}
