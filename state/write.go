package state

import (
	"bytes"
	"context"
	"fmt"
	"iter"
	"slices"

	"github.com/cockroachdb/pebble/v2"

	"github.com/weirstream/weir/dataflow"
	"github.com/weirstream/weir/internal/failpoint"
	"github.com/weirstream/weir/stream/spi"
)

// WriteEpoch writes the rows that were frozen for epoch as one sorted file (more if
// it is large), links it into Pebble and appends it to Files. It runs off the
// subtask's turn. Several calls for one epoch are allowed (spills come first);
// epochs never go back.
//
// It returns the files written, none if nothing was frozen. On an error, which
// declines the epoch, nothing is visible and nothing stays behind. If ctx ends before
// the rows are visible, it returns its cause and the same holds.
//
// The caller calls Done of each frozen on the subtask's turn afterwards.
func (s *Store) WriteEpoch(ctx context.Context, epoch dataflow.Epoch, frozen []spi.Frozen) ([]dataflow.FileRef, error) {
	s.write.Lock()
	defer s.write.Unlock()
	if err := s.Err(); err != nil {
		return nil, err
	}
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil, ErrClosed
	}
	if epoch < s.epoch {
		s.mu.Unlock()
		return nil, fmt.Errorf("state: epoch %d after epoch %d", epoch, s.epoch)
	}
	if epoch > s.epoch {
		s.epoch, s.seq = epoch, 0
	}
	run := s.newRun(epoch, s.seq)
	owned := s.groups
	s.mu.Unlock()

	frozen = slices.DeleteFunc(slices.Clone(frozen), func(f spi.Frozen) bool { return f == nil })
	stats, err := s.writeRun(ctx, run, frozen, owned)
	if err != nil {
		run.abort()
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		return nil, fmt.Errorf("state: writing epoch %d: %w", epoch, err)
	}
	if len(run.pieces) > 0 {
		failpoint.Hit(failpoint.PartWritten, failpoint.Int("epoch", int64(epoch)), failpoint.Int("records", run.total))
		if err := s.ingest(run.pieces); err != nil {
			run.abort()
			return nil, fmt.Errorf("state: linking the file of epoch %d: %w", epoch, err)
		}
	}
	s.mu.Lock()
	s.chain = append(s.chain, run.pieces...)
	for _, f := range run.pieces {
		s.owned[f.Local] = struct{}{}
		s.written.EpochBytes += f.Length
	}
	s.seq = run.seq
	s.written.Rows += run.total
	s.written.RowBytes += stats.bytes
	s.mu.Unlock()
	s.tend()
	return run.pieces, nil
}

func (s *Store) newRun(epoch dataflow.Epoch, seq int) *runWriter {
	return &runWriter{
		fs: s.fs, dir: s.dir, epoch: epoch, seq: seq, limit: uint64(s.opts.FileBytes),
		tmp: func() string { return fmt.Sprintf("tmp-%d", s.names.Add(1)) },
	}
}

// runStats is what writeRun learned about the rows.
type runStats struct{ bytes int64 }

const hashBatch = 4096

// writeRun writes the frozen rows and tells the filter and the presence map. Those
// may then know rows that never become visible, which is harmless.
func (s *Store) writeRun(ctx context.Context, run *runWriter, frozen []spi.Frozen, owned dataflow.KeyGroups) (st runStats, err error) {
	for _, f := range frozen {
		for _, d := range f.Drops() {
			run.drops = append(run.drops, spi.Span{From: bytes.Clone(d.From), To: bytes.Clone(d.To)})
		}
	}
	run.drops = normalize(run.drops)
	hashes := make([]uint64, 0, hashBatch)
	var places []place
	var prefix [4]byte
	panes, known := false, false
	n := 0
	failed := error(nil)
	err = mergeFrozen(frozen, func(key, value []byte) bool {
		if n++; n&1023 == 0 && ctx.Err() != nil {
			failed = context.Cause(ctx)
			return false
		}
		if len(key) < len(prefix) {
			failed = fmt.Errorf("row key %x is too short", key)
			return false
		}
		if n == 1 || !bytes.Equal(prefix[:], key[:4]) {
			copy(prefix[:], key)
			group, state := dataflow.RowGroup(key)
			if !owned.Contains(group) {
				failed = fmt.Errorf("row key %x is of key group %d, but the store owns %v", key, group, owned)
				return false
			}
			panes, known = s.panes[state]
			places = append(places, place{state, group})
		}
		if value != nil && known {
			k, ok := dataflow.ParseRowKey(key, panes)
			if !ok {
				failed = fmt.Errorf("row key %x is too short", key)
				return false
			}
			hashes = append(hashes, dataflow.FilterHash(k.State, k.Pane, k.Hash))
			if len(hashes) == hashBatch {
				s.addHashes(hashes)
				hashes = hashes[:0]
			}
		}
		st.bytes += int64(len(key) + len(value))
		failed = run.add(key, value)
		return failed == nil
	})
	if err == nil {
		err = failed
	}
	if err != nil {
		return st, err
	}
	s.addHashes(hashes)
	s.mu.Lock()
	s.present.add(places)
	if s.next != nil {
		s.next.places = append(s.next.places, places...)
	}
	s.mu.Unlock()
	if _, err := run.finish(); err != nil {
		return st, err
	}
	for i := range run.pieces {
		run.pieces[i].Groups = run.pieces[i].Groups.Intersect(owned)
	}
	if ctx.Err() != nil {
		return st, context.Cause(ctx)
	}
	return st, nil
}

// addHashes adds to the filter, and to the one that is being built.
func (s *Store) addHashes(hashes []uint64) {
	if len(hashes) == 0 {
		return
	}
	s.mu.Lock()
	next := s.next
	s.mu.Unlock()
	if next != nil {
		next.filter.add(hashes)
	}
	if f := s.filter.Load(); f != nil && (next == nil || f != next.filter) {
		s.opts.Shared.filters.Add(f.add(hashes))
	}
}

// ingest links files into Pebble in one atomic step. s.write is held.
func (s *Store) ingest(files []dataflow.FileRef) error {
	ext := make([]pebble.ExternalFile, len(files))
	for i, f := range files {
		src := s.newSource(f)
		src.onDisk, src.trusted = true, true
		s.storage.put(src)
		ext[i] = external(f)
	}
	err := s.link(s.ctx, ext)
	if err != nil {
		for _, e := range ext {
			s.storage.remove(e.ObjName)
		}
	}
	return err
}

// mergeFrozen yields the rows of all frozen in key order.
func mergeFrozen(frozen []spi.Frozen, yield func(key, value []byte) bool) error {
	switch len(frozen) {
	case 0:
		return nil
	case 1:
		return frozen[0].Rows(yield)
	}
	errs := make([]error, len(frozen))
	var heads []*head
	for i, f := range frozen {
		next, stop := iter.Pull(chunks(f, &errs[i]))
		defer stop()
		h := &head{next: next}
		if h.advance() {
			heads = append(heads, h)
		} else if errs[i] != nil {
			return errs[i]
		}
	}
	for len(heads) > 0 {
		first := 0
		for i := 1; i < len(heads); i++ {
			if bytes.Compare(heads[i].key, heads[first].key) < 0 {
				first = i
			}
		}
		h := heads[first]
		if !yield(h.key, h.value) {
			return nil
		}
		if !h.advance() {
			heads = slices.Delete(heads, first, first+1)
			for _, err := range errs {
				if err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// A chunk is a run of copied rows: handing over one at a time would cost more than
// writing it.
type chunk struct {
	buf  []byte
	rows []chunkRow
}

// chunkRow is where a row ends in buf; it begins where the one before ends.
type chunkRow struct {
	key, end int
	deleted  bool
}

const (
	chunkRows  = 512
	chunkBytes = 64 << 10
)

// chunks yields the rows of a frozen by the chunk; each is valid until the next.
func chunks(f spi.Frozen, failed *error) iter.Seq[*chunk] {
	return func(yield func(*chunk) bool) {
		c, more := &chunk{}, true
		err := f.Rows(func(key, value []byte) bool {
			c.buf = append(append(c.buf, key...), value...)
			c.rows = append(c.rows, chunkRow{len(c.buf) - len(value), len(c.buf), value == nil})
			if len(c.rows) >= chunkRows || len(c.buf) >= chunkBytes {
				more = yield(c)
				c.buf, c.rows = c.buf[:0], c.rows[:0]
			}
			return more
		})
		if *failed = err; err == nil && more && len(c.rows) > 0 {
			yield(c)
		}
	}
}

// A head is the next row of one frozen among those that are merged.
type head struct {
	next       func() (*chunk, bool)
	c          *chunk
	at         int // next row of c
	key, value []byte
}

func (h *head) advance() bool {
	if h.c == nil || h.at == len(h.c.rows) {
		var ok bool
		if h.c, ok = h.next(); !ok {
			return false
		}
		h.at = 0
	}
	from, r := 0, h.c.rows[h.at]
	if h.at > 0 {
		from = h.c.rows[h.at-1].end
	}
	h.key, h.value = h.c.buf[from:r.key:r.key], h.c.buf[r.key:r.end:r.end]
	if r.deleted {
		h.value = nil
	}
	h.at++
	return true
}
