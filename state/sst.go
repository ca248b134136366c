package state

import (
	"bytes"
	"context"
	"fmt"
	"hash/crc32"
	"io"
	"slices"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/bloom"
	"github.com/cockroachdb/pebble/v2/sstable"
	"github.com/cockroachdb/pebble/v2/sstable/block"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/weirstream/weir/dataflow"
	"github.com/weirstream/weir/stream/spi"
)

// The formats that every file and every store is written in. A store refuses files
// above them; docs/format/rows.md tells what a change means.
const (
	storeFormat = pebble.FormatTableFormatV6
	fileFormat  = sstable.TableFormatPebblev6
)

const (
	blockBytes      = 16 << 10
	indexBlockBytes = 64 << 10
	bloomBits       = bloom.FilterPolicy(10)
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func fileWriterOptions() sstable.WriterOptions {
	return sstable.WriterOptions{
		TableFormat:    fileFormat,
		BlockSize:      blockBytes,
		IndexBlockSize: indexBlockBytes,
		Compression:    block.FastestCompression,
		FilterPolicy:   bloomBits,
		FilterType:     pebble.TableFilter,
	}
}

// A runWriter writes one sorted run, split into files of about Options.FileBytes.
// Drops apply to what is older than the run, not to its own rows.
type runWriter struct {
	fs    vfs.FS
	dir   string
	epoch dataflow.Epoch
	seq   int // of the next file
	limit uint64
	tmp   func() string // returns a fresh temporary name

	drops  []spi.Span // sorted, disjoint; what the finished files have not covered
	pieces []dataflow.FileRef
	cur    *sstable.Writer
	out    *sumFile
	name   string // temporary name of cur
	first  []byte // of cur
	last   []byte
	rows   int64 // of cur
	total  int64 // of all files
}

// add appends a row; a nil value deletes. Keys are strictly increasing.
func (w *runWriter) add(key, value []byte) error {
	if w.cur != nil && w.rows&255 == 0 && w.cur.Raw().EstimatedSize() >= w.limit {
		if err := w.closeFile(key); err != nil {
			return err
		}
	}
	if w.cur == nil {
		if err := w.openFile(); err != nil {
			return err
		}
	}
	if w.rows == 0 {
		w.first = append(w.first[:0], key...)
	}
	w.last = append(w.last[:0], key...)
	w.rows++
	if value == nil {
		return w.cur.Delete(key)
	}
	return w.cur.Set(key, value)
}

func (w *runWriter) openFile() error {
	w.name = w.fs.PathJoin(w.dir, w.tmp())
	f, err := w.fs.Create(w.name, vfs.WriteCategoryUnspecified)
	if err != nil {
		return err
	}
	w.out = &sumFile{f: f}
	w.cur = sstable.NewWriter(w.out, fileWriterOptions())
	w.rows = 0
	return nil
}

// closeFile ends the current file below next (nil: no row follows) and gives it
// the drops that begin below next.
func (w *runWriter) closeFile(next []byte) error {
	from, to, empty := w.first, w.last, w.rows == 0
	n := 0
	for i := range w.drops {
		d := &w.drops[i]
		if next != nil && bytes.Compare(d.From, next) >= 0 {
			break
		}
		end, cut := d.To, false
		if next != nil && bytes.Compare(end, next) > 0 {
			end, cut = slices.Clone(next), true
		}
		if err := w.cur.DeleteRange(d.From, end); err != nil {
			return err
		}
		if empty || bytes.Compare(d.From, from) < 0 {
			from = d.From
		}
		if empty || bytes.Compare(end, to) > 0 {
			to = keyBelow(end)
		}
		empty = false
		if cut {
			d.From = end
			break
		}
		n++
	}
	w.drops = w.drops[n:]
	ref := dataflow.FileRef{
		Epoch: w.epoch, Seq: w.seq, Level: -1, Rows: w.rows,
		Smallest: slices.Clone(from), Largest: slices.Clone(to),
	}
	err := w.cur.Close()
	w.cur = nil
	if err != nil {
		return err
	}
	ref.Length, ref.CRC32C = w.out.length, w.out.sum
	ref.Groups = groupsOf(ref.Smallest, ref.Largest)
	ref.Local = w.fs.PathJoin(w.dir, fileName(ref))
	if err := w.fs.Rename(w.name, ref.Local); err != nil {
		return err
	}
	w.name = ""
	w.seq++
	w.total += w.rows
	w.rows = 0
	w.pieces = append(w.pieces, ref)
	return nil
}

// finish ends the run. Without rows and drops there are no pieces.
func (w *runWriter) finish() ([]dataflow.FileRef, error) {
	if w.cur == nil && len(w.drops) > 0 {
		if err := w.openFile(); err != nil {
			return nil, err
		}
		w.first, w.last = nil, nil
	}
	if w.cur != nil {
		if err := w.closeFile(nil); err != nil {
			return nil, err
		}
	}
	return w.pieces, nil
}

// abort removes every file of the run.
func (w *runWriter) abort() {
	if w.cur != nil {
		w.cur.Close() // the error is that of the run, or of no interest
		w.cur = nil
	}
	if w.name != "" {
		w.fs.Remove(w.name)
	}
	for _, p := range w.pieces {
		w.fs.Remove(p.Local)
	}
	w.pieces = nil
}

// groupsOf returns the key groups from one key to another, inclusive.
func groupsOf(from, to []byte) dataflow.KeyGroups {
	return dataflow.KeyGroups{From: keyGroup(from), To: max(keyGroup(to), keyGroup(from)) + 1}
}

// keyBelowPad is how many bytes keyBelow appends.
const keyBelowPad = 32

// keyBelow returns a key to be named as the last of a file that ends before k.
// keyAfter turns it into k again, for Pebble wants to know exactly where to cut a
// drop: that key or its successor would be wrong.
func keyBelow(k []byte) []byte {
	if len(k) == 0 {
		return nil
	}
	last := k[len(k)-1]
	below := bytes.Clone(k[:len(k)-1])
	if last == 0 {
		return below // nothing lies between
	}
	return append(append(below, last-1), bytes.Repeat([]byte{0xff}, keyBelowPad)...)
}

// keyAfter returns the key before which a file with this last key ends.
func keyAfter(last []byte) []byte {
	n := len(last) - keyBelowPad - 1
	if n < 0 || last[n] == 0xff || bytes.Count(last[n+1:], []byte{0xff}) < keyBelowPad {
		return append(bytes.Clone(last), 0)
	}
	k := bytes.Clone(last[:n+1])
	k[n]++
	return k
}

// keyGroup returns the group of a row key or of a bound, which may be short.
func keyGroup(k []byte) int {
	switch len(k) {
	case 0:
		return 0
	case 1:
		return int(k[0]) << 8
	}
	return int(k[0])<<8 | int(k[1])
}

// groupKey returns the smallest key of a group.
func groupKey(g int) []byte { return []byte{byte(g >> 8), byte(g)} }

// fileName returns the name that a file has in every files folder: it says what is
// in it, so that a later attempt finds local copies by name.
func fileName(r dataflow.FileRef) string {
	return fmt.Sprintf("%016x-%04x-%x-%08x.sst", uint64(r.Epoch), r.Seq, r.Length, r.CRC32C)
}

// A sumFile is a file that is summed while it is written.
type sumFile struct {
	f      vfs.File
	buf    []byte
	length int64
	sum    uint32
}

const sumFileBuffer = 256 << 10

// Write is part of objstorage.Writable.
func (s *sumFile) Write(p []byte) error {
	s.sum = crc32.Update(s.sum, castagnoli, p)
	s.length += int64(len(p))
	if s.buf == nil {
		s.buf = make([]byte, 0, sumFileBuffer)
	}
	for len(p) > 0 {
		n := min(cap(s.buf)-len(s.buf), len(p))
		s.buf = append(s.buf, p[:n]...)
		p = p[n:]
		if len(s.buf) == cap(s.buf) {
			if err := s.flush(); err != nil {
				return err
			}
		}
	}
	return nil
}

func (s *sumFile) flush() error {
	_, err := s.f.Write(s.buf)
	s.buf = s.buf[:0]
	return err
}

// Finish is part of objstorage.Writable.
func (s *sumFile) Finish() error {
	err := s.flush()
	if cerr := s.f.Close(); err == nil {
		err = cerr
	}
	return err
}

// Abort is part of objstorage.Writable.
func (s *sumFile) Abort() { s.f.Close() }

// sumOf returns the length and checksum of a file on disk.
func sumOf(ctx context.Context, fs vfs.FS, path string) (length int64, sum uint32, err error) {
	f, err := fs.Open(path, vfs.SequentialReadsOption)
	if err != nil {
		return 0, 0, err
	}
	defer f.Close()
	buf := make([]byte, sumFileBuffer)
	for ctx.Err() == nil {
		n, err := f.Read(buf)
		sum = crc32.Update(sum, castagnoli, buf[:n])
		length += int64(n)
		if err == io.EOF {
			return length, sum, nil
		}
		if err != nil {
			return length, sum, err
		}
	}
	return 0, 0, context.Cause(ctx)
}

// normalize sorts spans and joins those that touch.
func normalize(spans []spi.Span) []spi.Span {
	spans = slices.DeleteFunc(spans, func(s spi.Span) bool { return bytes.Compare(s.From, s.To) >= 0 })
	slices.SortFunc(spans, func(a, b spi.Span) int { return bytes.Compare(a.From, b.From) })
	out := spans[:0]
	for _, s := range spans {
		if n := len(out); n > 0 && bytes.Compare(s.From, out[n-1].To) <= 0 {
			if bytes.Compare(s.To, out[n-1].To) > 0 {
				out[n-1].To = s.To
			}
			continue
		}
		out = append(out, s)
	}
	return out
}
