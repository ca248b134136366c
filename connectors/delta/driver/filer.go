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

// A filer is the goroutine of one subtask that encodes and closes files.
type filer struct {
	ctx   context.Context
	cfg   *config
	store deltalake.Store
	spec  *deltalake.FileSpec
	opts  deltalake.FileOptions
	wake  func()
	count func(metric string, n int64)

	// mu guards what the turn and the goroutine share.
	mu      sync.Mutex
	more    *sync.Cond
	queue   []command
	waiting int // batches in queue
	starved bool
	closed  bool
	failure error
	free    []*deltalake.Batch

	// Owned by the goroutine.
	open  []*part // with a file, in order of their opening
	adds  []*deltalake.AddFile
	rows  int64
	ended chan struct{}
}

// A command is one of: write batch to part, close part's file, answer.
type command struct {
	part   *part
	batch  *deltalake.Batch
	answer func(adds []*deltalake.AddFile, rows int64, err error)
}

func newFiler(ctx context.Context, cfg *config, table *deltalake.Table, spec *deltalake.FileSpec, wake func(), count func(string, int64)) *filer {
	group := int64(64 << 20)
	if len(spec.PartitionFields()) > 0 {
		group = 8 << 20 // there are many writers at once
	}
	f := &filer{
		ctx: ctx, cfg: cfg, store: table.Store(), spec: spec, wake: wake, count: count,
		opts:  deltalake.FileOptions{Compression: cfg.compression, RowGroupBytes: min(group, cfg.fileSize)},
		ended: make(chan struct{}),
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
	switch {
	case c.batch != nil:
		return f.write(c.part, c.batch)
	case c.part != nil:
		return f.closeFile(c.part)
	}
	for len(f.open) > 0 {
		if err := f.closeFile(f.open[0]); err != nil {
			return err
		}
	}
	return nil
}

// after gives the batch back and answers.
func (f *filer) after(c command, err error) {
	if c.batch != nil {
		c.batch.Reset()
		f.mu.Lock()
		f.free = append(f.free, c.batch)
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
		c.answer(nil, 0, err)
		return
	}
	adds, rows := f.adds, f.rows
	f.adds, f.rows = nil, 0
	c.answer(adds, rows, nil)
}

func (f *filer) write(p *part, b *deltalake.Batch) error {
	if p.file == nil {
		w, err := deltalake.NewFileWriter(f.ctx, f.store, f.spec, p.values, f.opts)
		if err != nil {
			return err
		}
		p.file = w
		f.open = append(f.open, p)
	}
	if err := p.file.Write(b); err != nil {
		return err
	}
	if p.file.Size() >= f.cfg.fileSize {
		return f.closeFile(p)
	}
	return nil
}

func (f *filer) closeFile(p *part) error {
	if p.file == nil {
		return nil
	}
	for i, o := range f.open {
		if o == p {
			f.open = append(f.open[:i], f.open[i+1:]...)
			break
		}
	}
	rows := p.file.Rows()
	add, err := p.file.Close()
	p.file = nil
	if err != nil || add == nil {
		return err
	}
	f.adds = append(f.adds, add)
	f.rows += rows
	f.count("sink_files_total", 1)
	f.count("sink_bytes_total", add.Size)
	return nil
}

func (f *filer) abort() {
	for _, p := range f.open {
		_ = p.file.Abort() // an orphan at worst
		p.file = nil
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
