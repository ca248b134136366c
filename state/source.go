package state

import (
	"context"
	"fmt"
	"hash/crc32"
	"io"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/weirstream/weir/dataflow"
	"github.com/weirstream/weir/internal/clock"
)

// Objects is how a store reads the checkpoint store. It is safe for concurrent use.
type Objects interface {
	// ReadAt fills p from offset off of the object. It repeats passing failures
	// itself; an error is final.
	ReadAt(ctx context.Context, object string, p []byte, off int64) error
	// Fetch writes bytes [off, off+length) of the object to w. It does not repeat what
	// failed: the store does, from the start.
	Fetch(ctx context.Context, object string, off, length int64, w io.Writer) error
}

// A source is one sorted file by content. Pebble knows it by its name. Its bytes
// come from the local copy as soon as there is one, before that from the tail that
// was read ahead and from the object.
//
// Concurrency: safe for concurrent use.
type source struct {
	name    string // fileName
	path    string // where the local copy is or will be
	epoch   dataflow.Epoch
	seq     int
	length  int64
	sum     uint32
	fs      vfs.FS
	objects Objects
	ctx     context.Context // ends with the store
	clock   clock.Clock
	mended  *atomic.Bool // set when a bad local copy is given up

	bring sync.Mutex // held by whoever brings the local copy; taken before mu

	mu      sync.RWMutex // guards what follows
	object  string
	offset  int64
	tried   string   // path of a local copy that was bad
	onDisk  bool     // path holds the file
	trusted bool     // its checksum was compared, or we wrote it
	file    vfs.File // open while onDisk and readers > 0
	readers int
	tail    []byte // last bytes of the object, until onDisk
}

func (s *Store) newSource(r dataflow.FileRef) *source {
	name := fileName(r)
	return &source{
		name: name, path: s.fs.PathJoin(s.dir, name), epoch: r.Epoch, seq: r.Seq, length: r.Length, sum: r.CRC32C,
		fs: s.fs, objects: s.opts.Objects, ctx: s.ctx, clock: s.opts.Clock, mended: &s.mended, object: r.Object, offset: r.Offset,
	}
}

// local returns the path of the local copy, "" when there is none.
func (s *source) local() string {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.onDisk {
		return s.path
	}
	return ""
}

// ref returns what the file is called in a chain, without bounds.
func (s *source) ref() dataflow.FileRef {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return dataflow.FileRef{Object: s.object, Offset: s.offset, Length: s.length, CRC32C: s.sum, Epoch: s.epoch, Seq: s.seq, Local: s.path}
}

// uploaded names the object that holds the file.
func (s *source) uploaded(object string, offset int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.object, s.offset = object, offset
}

// open counts a reader in.
func (s *source) open() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.readers++
	if err := s.openLocked(); err != nil {
		s.readers--
		return err
	}
	return nil
}

func (s *source) openLocked() error {
	if !s.onDisk || s.file != nil || s.readers == 0 {
		return nil
	}
	f, err := s.fs.Open(s.path, vfs.RandomReadsOption)
	if err != nil {
		return fmt.Errorf("state: opening a local state file: %w", err)
	}
	s.file = f
	return nil
}

// close counts a reader out.
func (s *source) close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.readers--
	if s.readers == 0 && s.file != nil {
		f := s.file
		s.file = nil
		return f.Close()
	}
	return nil
}

// readAt fills p from offset off of the file.
func (s *source) readAt(ctx context.Context, p []byte, off int64) error {
	if off < 0 || off+int64(len(p)) > s.length {
		return fmt.Errorf("state: read of bytes %d to %d of %s, which has %d", off, off+int64(len(p)), s.name, s.length)
	}
	s.mu.RLock()
	if s.file != nil {
		defer s.mu.RUnlock()
		_, err := s.file.ReadAt(p, off)
		return err
	}
	if at := s.length - int64(len(s.tail)); off >= at && s.tail != nil {
		defer s.mu.RUnlock()
		copy(p, s.tail[off-at:])
		return nil
	}
	object, offset := s.object, s.offset
	s.mu.RUnlock()
	if object == "" {
		return fmt.Errorf("state: %s has neither a local copy nor an object", s.name)
	}
	if s.ctx.Err() != nil {
		return ErrClosed
	}
	return s.objects.ReadAt(s.ctx, object, p, offset+off)
}

// tailBytes guesses how many bytes at the end of a file hold its filter, index,
// properties and footer: 10 bits per row in the filter, rows of some 30 bytes once
// compressed. Pebble asks for half a MiB before an index that it does not know yet.
func tailBytes(length int64) int64 { return min(length, 640<<10+length/16) }

// readTail reads the end of the object ahead. A file that is no longer than that is
// here then.
func (s *source) readTail(ctx context.Context) error {
	if !s.bring.TryLock() {
		return nil // a restore before this one is at it
	}
	defer s.bring.Unlock()
	s.mu.RLock()
	object, offset, skip := s.object, s.offset, s.onDisk || s.tail != nil
	s.mu.RUnlock()
	if skip {
		return nil
	}
	n := tailBytes(s.length)
	tail := make([]byte, n)
	if err := s.objects.ReadAt(ctx, object, tail, offset+s.length-n); err != nil {
		return fmt.Errorf("state: reading the end of object %s: %w", object, err)
	}
	if n == s.length {
		if crc32.Checksum(tail, castagnoli) != s.sum {
			return nil // settle looks again
		}
		return s.fetch(func(w io.Writer) error {
			_, err := w.Write(tail)
			return err
		})
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tail = tail
	return nil
}

// link takes path as the local copy if it is there and of the right length. Its
// checksum is compared later, by verify.
func (s *source) link(path string) bool {
	if path == "" {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.onDisk {
		return true
	}
	if st, err := s.fs.Stat(path); err != nil || st.Size() != s.length {
		return false
	}
	if path != s.path {
		if err := vfs.LinkOrCopy(s.fs, path, s.path); err != nil {
			return false
		}
	}
	s.onDisk = true
	s.tried = path
	return true
}

// settle makes sure that the local copy is there and good: it compares the checksum
// of what link took, and fetches the object if that is bad or absent.
func (s *source) settle(ctx context.Context) error {
	s.bring.Lock()
	defer s.bring.Unlock()
	s.mu.RLock()
	onDisk, trusted := s.onDisk, s.trusted
	s.mu.RUnlock()
	if trusted {
		return nil
	}
	if onDisk {
		length, sum, err := sumOf(ctx, s.fs, s.path)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		s.mu.Lock()
		if err == nil && length == s.length && sum == s.sum {
			s.trusted, s.tried = true, ""
			s.mu.Unlock()
			return nil
		}
		s.dropLocked()
		object, tried := s.object, s.tried
		s.mu.Unlock()
		if object == "" {
			return &CorruptError{Length: s.length, Want: s.sum, Got: sum, Local: tried}
		}
	}
	s.mu.RLock()
	object, offset := s.object, s.offset
	s.mu.RUnlock()
	return s.fetch(func(w io.Writer) error { return s.objects.Fetch(ctx, object, offset, s.length, w) })
}

// dropLocked gives up a bad local copy.
func (s *source) dropLocked() {
	if s.file != nil {
		s.file.Close()
		s.file = nil
	}
	s.mended.Store(true)
	s.fs.Remove(s.path)
	s.onDisk = false
}

// How often, and after which first pause, a file is fetched that failed or does not
// match: the fault may be on the way.
const (
	fetchTries = 4
	fetchPause = 20 * time.Millisecond
)

// fetch brings the whole file here, as get writes it.
func (s *source) fetch(get func(io.Writer) error) error {
	s.mu.RLock()
	object, offset, tried := s.object, s.offset, s.tried
	s.mu.RUnlock()
	tmp := s.path + ".fetch"
	for try := 0; ; try++ {
		length, sum, err := s.fetchTo(tmp, get)
		if err == nil && length == s.length && sum == s.sum {
			break
		}
		if err == nil {
			err = &CorruptError{Object: object, Offset: offset, Length: s.length, Want: s.sum, Got: sum, Local: tried}
		} else {
			err = fmt.Errorf("state: fetching object %s: %w", object, err)
		}
		if try == fetchTries-1 || clock.Sleep(s.ctx, s.clock, fetchPause<<try) != nil {
			s.fs.Remove(tmp)
			return err
		}
	}
	if err := s.fs.Rename(tmp, s.path); err != nil {
		return fmt.Errorf("state: fetching object %s: %w", object, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.onDisk, s.trusted = true, true
	if err := s.openLocked(); err != nil {
		s.onDisk = false
		return err
	}
	s.tail = nil
	return nil
}

func (s *source) fetchTo(tmp string, get func(io.Writer) error) (length int64, sum uint32, err error) {
	f, err := s.fs.Create(tmp, vfs.WriteCategoryUnspecified)
	if err != nil {
		return 0, 0, err
	}
	w := &countingWriter{w: f}
	err = get(w)
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	return w.length, w.sum, err
}

type countingWriter struct {
	w      io.Writer
	length int64
	sum    uint32
}

func (c *countingWriter) Write(p []byte) (int, error) {
	n := len(p)
	c.sum = crc32.Update(c.sum, castagnoli, p)
	c.length += int64(n)
	if _, err := c.w.Write(slices.Clone(p)); err != nil { // a vfs.File may modify p
		return 0, err
	}
	return n, nil
}
