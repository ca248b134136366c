package driver

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
)

const (
	chunkBytes = 256 << 10
	aheadBytes = 4 << 20 // read and not yet decoded
	badPrefix  = 1 << 10 // of an oversized line that is kept for its dead letter
)

// A chunk is some whole lines of a file, or one line that is too long.
type chunk struct {
	split     *split
	index     int
	data      []byte // of an oversized line only its beginning
	oversized int64  // bytes of the line; 0: the lines are whole
	end       int64  // of an oversized line: the byte after it
}

// read reads the files one after the other until the reader closes.
func (r *reader) read() {
	for i := 0; ; i++ {
		r.mu.Lock()
		for i >= len(r.splits) && r.ctx.Err() == nil {
			r.changed.Wait()
		}
		if r.ctx.Err() != nil {
			r.mu.Unlock()
			return
		}
		s := r.splits[i]
		at := s.next
		r.mu.Unlock()
		if at == s.size {
			continue
		}
		if err := r.readFile(s, i, at); err != nil {
			if !errors.Is(err, errStopped) {
				r.mu.Lock()
				r.failure = fmt.Errorf("%s: %w%s", sourceWho, err, cure(err))
				r.mu.Unlock()
				r.env.Wake()
			}
			return
		}
	}
}

var errStopped = errors.New("files source: closed")

// put queues a chunk when there is room for it.
func (r *reader) put(c chunk) error {
	r.mu.Lock()
	for r.held >= aheadBytes && r.ctx.Err() == nil {
		r.changed.Wait()
	}
	if r.ctx.Err() != nil {
		r.mu.Unlock()
		return errStopped
	}
	r.queue = append(r.queue, c)
	r.held += len(c.data)
	wake := len(r.queue) == 1
	r.mu.Unlock()
	if wake {
		r.env.Wake()
	}
	return nil
}

// readFile cuts bytes [at, size) of a file into chunks of whole lines.
func (r *reader) readFile(s *split, index int, at int64) error {
	f, err := os.Open(s.path)
	if err != nil {
		return err
	}
	defer f.Close()
	in := io.NewSectionReader(f, at, s.size-at)
	var rest []byte // an unfinished line
	for at < s.size {
		buf := make([]byte, len(rest)+chunkBytes)
		copy(buf, rest)
		n, err := io.ReadFull(in, buf[len(rest):])
		if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, io.EOF) {
			return err
		}
		buf = buf[:len(rest)+n]
		last := at+int64(len(buf)) == s.size
		if n == 0 && !last {
			return fmt.Errorf("%s ends at byte %d, it had %d: files must not change", s.path, at+int64(len(buf)), s.size)
		}
		cut := bytes.LastIndexByte(buf, '\n') + 1
		if last {
			cut = len(buf)
		}
		if cut == 0 && len(buf) <= r.maxLine {
			rest = buf
			continue
		}
		if cut == 0 {
			if at, err = r.skipLine(s, index, at, buf, in); err != nil {
				return err
			}
			rest = nil
			continue
		}
		rest = buf[cut:]
		if err := r.putLines(s, index, at, buf[:cut]); err != nil {
			return err
		}
		at += int64(cut)
	}
	return nil
}

// putLines queues whole lines, those that are too long by themselves.
func (r *reader) putLines(s *split, index int, at int64, data []byte) error {
	for r.maxLine < len(data) {
		// A line may be too long only where the chunk is: look for it.
		from, found := 0, false
		for from < len(data) {
			n := bytes.IndexByte(data[from:], '\n')
			if n < 0 {
				n = len(data) - from
			}
			if n > r.maxLine {
				found = true
				if from > 0 {
					if err := r.put(chunk{split: s, index: index, data: data[:from:from]}); err != nil {
						return err
					}
				}
				end := min(from+n+1, len(data))
				if err := r.put(chunk{split: s, index: index, data: data[from : from+min(n, badPrefix)], oversized: int64(n), end: at + int64(end)}); err != nil {
					return err
				}
				at += int64(end)
				data = data[end:]
				break
			}
			from += n + 1
		}
		if !found {
			break
		}
	}
	if len(data) == 0 {
		return nil
	}
	return r.put(chunk{split: s, index: index, data: data})
}

// skipLine reads to the end of a line that is too long to be kept, and queues it
// as oversized. begin holds what was read of it.
func (r *reader) skipLine(s *split, index int, at int64, begin []byte, in *io.SectionReader) (next int64, err error) {
	length := int64(len(begin))
	buf := make([]byte, chunkBytes)
	end := int64(-1)
	for end < 0 {
		n, err := in.Read(buf)
		if i := bytes.IndexByte(buf[:n], '\n'); i >= 0 {
			length += int64(i)
			end = at + length + 1
			if _, err := in.Seek(int64(i+1-n), io.SeekCurrent); err != nil {
				return 0, err
			}
			break
		}
		length += int64(n)
		if err != nil {
			if !errors.Is(err, io.EOF) {
				return 0, err
			}
			end = at + length
		}
	}
	return end, r.put(chunk{split: s, index: index, data: begin[:min(len(begin), badPrefix)], oversized: length, end: end})
}
