package state

import (
	"bytes"
	"context"
	"fmt"
	"math/bits"
	"slices"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/sstable"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/weirstream/weir/dataflow"
	"github.com/weirstream/weir/stream/spi"
)

// Epoch files merge among themselves only, so that a restore links few of them.
// What comes out is for checkpoints alone: Pebble holds the rows already, and
// compacts them in its own way.
//
// mergeTierUnit is in bytes; files of up to 16 times as much are of tier 0.
const mergeTierUnit = 64 << 10

// maybeMerge starts a merge if the chain has grown long. Any lock but mu may be held.
func (s *Store) maybeMerge() {
	s.mu.Lock()
	run, bottom := pickRun(s.chain, s.opts.MergeFiles, s.opts.MergeFanIn)
	if len(run) == 0 || s.merging || s.unlocal > 0 || s.closed {
		s.mu.Unlock()
		return
	}
	s.merging = true
	s.mu.Unlock()
	s.spawn(func() {
		again := s.mergeRun(run, bottom)
		s.mu.Lock()
		s.merging = false
		s.mu.Unlock()
		if again {
			s.maybeMerge()
		}
	})
}

// tier returns the size class of an epoch file; each is 16 times the one before.
func tier(length int64) int { return max(0, bits.Len64(uint64(length/mergeTierUnit))-1) / 4 }

// pickRun chooses consecutive epoch files to merge: the oldest run of the lowest
// tier that is long enough, or, when the chain is twice too long for that, the
// cheapest run. bottom tells that nothing older is in the chain.
func pickRun(chain []dataflow.FileRef, limit, fanIn int) (run []dataflow.FileRef, bottom bool) {
	first := slices.IndexFunc(chain, func(f dataflow.FileRef) bool { return f.Level < 0 })
	if first < 0 || len(chain)-first <= limit {
		return nil, false
	}
	best, at, size := -1, 0, int64(0)
	for i, n := first, 0; i < len(chain); i++ {
		if chain[i].Level >= 0 { // restored parts follow each other
			n = 0
			continue
		}
		t := tier(chain[i].Length)
		if n > 0 && tier(chain[i-1].Length) == t {
			n++
		} else {
			n = 1
		}
		if n >= fanIn && (best < 0 || t < best) {
			best, at = t, i+1-fanIn
		}
	}
	if best < 0 && len(chain)-first > 2*limit {
		for i := first; i+fanIn <= len(chain); i++ {
			var sum int64
			for _, f := range chain[i : i+fanIn] {
				if f.Level >= 0 {
					sum = 1 << 62
				}
				sum += f.Length / int64(fanIn)
			}
			if sum < 1<<58 && (best < 0 || sum < size) {
				best, at, size = 0, i, sum
			}
		}
	}
	if best < 0 {
		return nil, false
	}
	return slices.Clone(chain[at : at+fanIn]), at == 0
}

// mergeRun merges files and puts the outcome in their place. It reports whether it
// did; a failure is logged, for the chain is good without it.
func (s *Store) mergeRun(run []dataflow.FileRef, bottom bool) bool {
	last := run[len(run)-1]
	w := s.newRun(last.Epoch, last.Seq)
	err := s.mergeInto(s.ctx, w, run, bottom)
	if err != nil {
		w.abort()
		if s.ctx.Err() == nil {
			s.opts.Log.Warn("epoch files not merged", "dir", s.opts.Dir, "error", err)
		}
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	at := slices.IndexFunc(s.chain, func(f dataflow.FileRef) bool { return sameFile(f, run[0]) })
	if s.closed || at < 0 || at+len(run) > len(s.chain) || !slices.EqualFunc(s.chain[at:at+len(run)], run, sameFile) {
		w.abort() // rebased or excised meanwhile
		return false
	}
	for _, f := range w.pieces {
		s.owned[f.Local] = struct{}{}
		s.written.MergeBytes += f.Length
	}
	s.written.Merges++
	s.chain = slices.Replace(s.chain, at, at+len(run), w.pieces...)
	return true
}

func sameFile(a, b dataflow.FileRef) bool {
	return a.Epoch == b.Epoch && a.Seq == b.Seq && a.Length == b.Length && a.CRC32C == b.CRC32C && a.Level == b.Level && a.Groups == b.Groups
}

// mergeInto writes what is left of files, oldest first, when the newest row of each
// key wins and drops hide older rows. Tombstones stay unless bottom.
func (s *Store) mergeInto(ctx context.Context, w *runWriter, files []dataflow.FileRef, bottom bool) error {
	readers := make([]*fileReader, len(files))
	for i, f := range files {
		r, err := s.openFile(ctx, f)
		if err != nil {
			return err
		}
		defer r.close()
		readers[i] = r
		if !bottom {
			for _, d := range r.drops {
				w.drops = append(w.drops, spi.Span{From: bytes.Clone(d.From), To: bytes.Clone(d.To)})
			}
		}
	}
	w.drops = normalize(w.drops)
	for n := 1; ; n++ {
		if n&1023 == 0 && ctx.Err() != nil {
			return context.Cause(ctx)
		}
		win := -1
		for i, r := range readers {
			if !r.valid {
				continue
			}
			c := -1
			if win >= 0 {
				c = bytes.Compare(r.key, readers[win].key)
			}
			switch {
			case c < 0:
				win = i
			case c == 0: // the newer wins; it comes later
				if err := readers[win].advance(); err != nil {
					return err
				}
				win = i
			}
		}
		if win < 0 {
			break
		}
		r := readers[win]
		if !dropped(readers[win+1:], r.key) && !(bottom && r.value == nil) {
			if err := w.add(r.key, r.value); err != nil {
				return err
			}
		}
		if err := r.advance(); err != nil {
			return err
		}
	}
	_, err := w.finish()
	return err
}

// dropped reports whether a drop of a newer file covers key. Keys only grow.
func dropped(newer []*fileReader, key []byte) bool {
	for _, r := range newer {
		for len(r.left) > 0 && bytes.Compare(r.left[0].To, key) <= 0 {
			r.left = r.left[1:]
		}
		if len(r.left) > 0 && bytes.Compare(r.left[0].From, key) <= 0 {
			return true
		}
	}
	return false
}

// A fileReader yields the rows of a sorted file within the groups of its FileRef.
type fileReader struct {
	r     *sstable.Reader
	it    sstable.Iterator
	begun bool
	valid bool
	key   []byte
	value []byte     // nil: deletion
	drops []spi.Span // sorted
	left  []spi.Span // drops that dropped has not passed
}

func (s *Store) openFile(ctx context.Context, f dataflow.FileRef) (*fileReader, error) {
	path := s.pathOf(f)
	if src := s.storage.get(fileName(f)); src != nil {
		path = src.local()
	}
	if path == "" {
		return nil, fmt.Errorf("state: file %s is not on this disk", fileName(f))
	}
	file, err := s.fs.Open(path, vfs.SequentialReadsOption)
	if err != nil {
		return nil, fmt.Errorf("state: opening a file to merge: %w", err)
	}
	readable, err := sstable.NewSimpleReadable(file)
	if err != nil {
		file.Close()
		return nil, fmt.Errorf("state: opening %s: %w", path, err)
	}
	r, err := sstable.NewReader(ctx, readable, sstable.ReaderOptions{})
	if err != nil {
		readable.Close()
		return nil, fmt.Errorf("state: opening %s: %w", path, err)
	}
	fr := &fileReader{r: r}
	from, to := bounds(f)
	if err := fr.readDrops(ctx, from, to); err != nil {
		fr.close()
		return nil, fmt.Errorf("state: reading %s: %w", path, err)
	}
	if fr.it, err = r.NewIter(sstable.NoTransforms, from, to, sstable.AssertNoBlobHandles); err != nil {
		fr.close()
		return nil, fmt.Errorf("state: reading %s: %w", path, err)
	}
	if err := fr.advance(); err != nil {
		fr.close()
		return nil, fmt.Errorf("state: reading %s: %w", path, err)
	}
	return fr, nil
}

func (r *fileReader) readDrops(ctx context.Context, from, to []byte) error {
	it, err := r.r.NewRawRangeDelIter(ctx, sstable.NoFragmentTransforms, sstable.NoReadEnv)
	if err != nil || it == nil {
		return err
	}
	defer it.Close()
	span, err := it.First()
	for ; span != nil && err == nil; span, err = it.Next() {
		d := spi.Span{From: bytes.Clone(span.Start), To: bytes.Clone(span.End)}
		if bytes.Compare(d.From, from) < 0 {
			d.From = from
		}
		if bytes.Compare(d.To, to) > 0 {
			d.To = to
		}
		r.drops = append(r.drops, d)
	}
	r.drops = normalize(r.drops)
	r.left = r.drops
	return err
}

// advance moves to the next row.
func (r *fileReader) advance() error {
	step := r.it.Next
	if !r.begun {
		step, r.begun = r.it.First, true
	}
	kv := step()
	if kv == nil {
		r.valid = false
		return r.it.Error()
	}
	r.valid, r.key, r.value = true, kv.K.UserKey, nil
	switch kv.K.Kind() {
	case pebble.InternalKeyKindDelete:
		return nil
	case pebble.InternalKeyKindSet:
		v, _, err := kv.Value(nil)
		if v == nil {
			v = []byte{}
		}
		r.value = v
		return err
	}
	return fmt.Errorf("row %x is of unknown kind %s", r.key, kv.K.Kind())
}

func (r *fileReader) close() {
	if r.it != nil {
		r.it.Close()
	}
	r.r.Close()
}
