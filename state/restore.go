package state

import (
	"bytes"
	"context"
	"fmt"
	"slices"

	"github.com/cockroachdb/pebble/v2"
	"golang.org/x/sync/errgroup"

	"github.com/weirstream/weir/dataflow"
)

// tailReads is how many object tails one restore reads at a time.
const tailReads = 128

// Restore links the files of one or more parts into the store, clipped to the key
// groups owned. The files of one part must stay in their order, oldest first, and
// have Groups cut to what their part owned, as Files returns them. Files whose Local
// is set are linked on this disk if their length is right; the others are read from
// the object store, and fetched in the background. Local tells when all of it is here
// and compared with its checksum; a file that is bad here and there makes the store
// fail with a *CorruptError.
//
// It may be called more than once, to take over key groups; never for groups that
// hold rows already. An error means that the attempt must fail.
func (s *Store) Restore(ctx context.Context, files []dataflow.FileRef) error {
	s.write.Lock()
	defer s.write.Unlock()
	if err := s.Err(); err != nil {
		return err
	}
	s.mu.Lock()
	owned := s.groups
	s.mu.Unlock()
	refs := clip(files, owned)
	if len(refs) == 0 {
		return nil
	}
	sources, err := s.attach(refs)
	if err != nil {
		return err
	}
	s.queue.setReady(false)
	tails, tctx := errgroup.WithContext(ctx)
	tails.SetLimit(tailReads)
	for _, src := range sources {
		tails.Go(func() error { return src.readTail(tctx) })
	}
	if err := tails.Wait(); err != nil {
		return err
	}
	s.mu.Lock()
	s.next = nil // what is being built does not know these rows
	s.mu.Unlock()
	s.setFilter(nil)
	for _, r := range refs {
		s.present.addAll(r.Groups)
	}
	s.mu.Lock()
	for _, src := range sources {
		s.owned[src.path] = struct{}{}
	}
	if s.unlocal == 0 {
		s.local = make(chan struct{})
	}
	s.unlocal++
	s.mu.Unlock()
	s.spawn(func() { s.localize(sources) })
	for _, batch := range batches(refs) {
		if err := s.link(ctx, batch); err != nil {
			s.fail(fmt.Errorf("state: linking restored files: %w", err))
			return s.Err()
		}
	}
	s.mu.Lock()
	for i := range refs {
		refs[i].Local = ""
	}
	s.chain = append(s.chain, refs...)
	s.mu.Unlock()
	if s.opts.NoBackground {
		s.buildFilter()
	}
	return nil
}

// link links files into Pebble in one atomic step. s.write is held.
func (s *Store) link(ctx context.Context, files []pebble.ExternalFile) error {
	_, err := s.db.IngestExternalFiles(ctx, files)
	for try := 0; try < rereads && err != nil && ctx.Err() == nil && s.readFailed() == nil; try++ {
		_, err = s.db.IngestExternalFiles(ctx, files)
	}
	return err
}

// clip cuts files to the owned groups and leaves out what has none of them.
func clip(files []dataflow.FileRef, owned dataflow.KeyGroups) []dataflow.FileRef {
	var out []dataflow.FileRef
	for _, f := range files {
		f.Groups = f.Groups.Intersect(owned)
		if from, to := bounds(f); f.Groups.Len() > 0 && bytes.Compare(from, to) < 0 {
			out = append(out, f)
		}
	}
	return out
}

// bounds returns the part [from, to) of a file that its Groups leave.
func bounds(f dataflow.FileRef) (from, to []byte) {
	from, to = f.Smallest, keyAfter(f.Largest)
	if g := groupKey(f.Groups.From); bytes.Compare(g, from) > 0 {
		from = g
	}
	if g := groupKey(f.Groups.To); bytes.Compare(g, to) < 0 {
		to = g
	}
	return from, to
}

// external returns a file as Pebble takes it. The end is exclusive, for Pebble
// refuses an inclusive one inside a drop.
func external(f dataflow.FileRef) pebble.ExternalFile {
	from, to := bounds(f)
	return pebble.ExternalFile{
		Locator: locator, ObjName: fileName(f), Size: clippedSize(f), HasPointKey: true,
		StartKey: from, EndKey: to,
	}
}

// attach makes the sources of restored files known and links their local copies.
func (s *Store) attach(refs []dataflow.FileRef) ([]*source, error) {
	var sources []*source
	seen := map[string]bool{}
	for _, r := range refs {
		name := fileName(r)
		if seen[name] {
			continue
		}
		seen[name] = true
		src := s.storage.get(name)
		if src == nil {
			src = s.newSource(r)
		}
		if !src.link(r.Local) && (r.Object == "" || s.opts.Objects == nil) {
			return nil, fmt.Errorf("state: file %s of epoch %d has no object and no local copy of %d bytes at %q", name, r.Epoch, r.Length, r.Local)
		}
		s.storage.put(src)
		sources = append(sources, src)
	}
	return sources, nil
}

// batches groups files into calls of IngestExternalFiles: consecutive ones that do
// not overlap.
func batches(refs []dataflow.FileRef) (out [][]pebble.ExternalFile) {
	var batch []pebble.ExternalFile
	level := 0
	for _, r := range refs {
		e := external(r)
		if len(batch) > 0 && (r.Level != level || overlaps(batch, &e)) {
			out = append(out, batch)
			batch = nil
		}
		level = r.Level
		batch = append(batch, e)
	}
	if len(batch) > 0 {
		out = append(out, batch)
	}
	return out
}

// overlaps reports whether e overlaps a file of the batch.
func overlaps(batch []pebble.ExternalFile, e *pebble.ExternalFile) bool {
	return slices.ContainsFunc(batch, func(b pebble.ExternalFile) bool {
		return bytes.Compare(b.EndKey, e.StartKey) > 0 && bytes.Compare(e.EndKey, b.StartKey) > 0
	})
}

// clippedSize estimates how many bytes of a file are in its groups.
func clippedSize(r dataflow.FileRef) uint64 {
	whole := groupsOf(r.Smallest, r.Largest)
	return max(1, uint64(r.Length)*uint64(r.Groups.Len())/uint64(max(1, whole.Len())))
}

// localize brings the files of a restore here and checks them, then lets Pebble
// compact and builds the filter.
func (s *Store) localize(sources []*source) {
	g, ctx := errgroup.WithContext(s.ctx)
	for _, src := range sources {
		g.Go(func() error {
			select {
			case s.opts.Shared.fetches <- struct{}{}:
			case <-ctx.Done():
				return context.Cause(ctx)
			}
			defer func() { <-s.opts.Shared.fetches }()
			return src.settle(ctx)
		})
	}
	err := g.Wait()
	if s.ctx.Err() != nil {
		err = ErrClosed
	}
	if err != nil {
		s.fail(err)
	}
	s.mu.Lock()
	s.unlocal--
	last := s.unlocal == 0
	if last {
		close(s.local)
	}
	s.mu.Unlock()
	if last && err == nil {
		s.queue.setReady(true)
		if !s.opts.NoBackground { // else Restore does
			s.buildFilter()
		}
	}
}

// A build is a filter that is being built, with the places that were written
// meanwhile.
type build struct {
	filter *filter
	places []place
}

// filterRebuildKeys is the number of keys below which a filter is never rebuilt.
const filterRebuildKeys = 256 << 10

// maybeRebuildFilter starts a new filter when more than half of the keys in the old
// one are of rows that are gone.
func (s *Store) maybeRebuildFilter() {
	f := s.filter.Load()
	if f == nil || s.opts.NoBackground {
		return
	}
	keys, _ := f.stats()
	if keys < filterRebuildKeys || !s.Settled() {
		return
	}
	if rows, ok := s.estimateRows(); ok && keys > 2*max(rows, s.rebuiltKeys()) {
		s.spawn(s.buildFilter)
	}
}

// estimateRows returns about how many rows Pebble's tables hold, superseded ones
// included; ok is false while nothing is known about half of them.
func (s *Store) estimateRows() (rows int64, ok bool) {
	levels, err := s.db.SSTables()
	var known, unknown uint64 // bytes
	for _, l := range levels {
		for _, t := range l {
			if n := t.TableStats.NumEntries; n > 0 {
				rows += int64(n) - int64(min(n, 2*t.TableStats.NumDeletions))
				known += t.Size
			} else {
				unknown += t.Size
			}
		}
	}
	if err != nil || known <= unknown {
		return 0, false
	}
	return int64(float64(rows) * float64(known+unknown) / float64(known)), true
}

// Settled reports whether every restored file is local and good. Any goroutine.
func (s *Store) Settled() bool {
	select {
	case <-s.Local():
		return s.Err() == nil
	default:
		return false
	}
}

// rebuiltKeys returns how many keys the last filter build found.
func (s *Store) rebuiltKeys() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.rebuilt
}

// buildFilter builds the filter and the presence map from the rows that Pebble
// holds, again if a Restore comes between. With Options.NoBackground s.write is held
// by the caller, else it is taken.
func (s *Store) buildFilter() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.building {
		return
	}
	s.building = true
	for done := false; !done && !s.closed && s.unlocal == 0; {
		s.mu.Unlock()
		done = s.tryBuildFilter()
		s.mu.Lock()
	}
	s.building = false
}

// tryBuildFilter reports false if a Restore made its work useless.
func (s *Store) tryBuildFilter() bool {
	if !s.opts.NoBackground {
		s.write.Lock()
	}
	bytes := s.Bytes()
	s.mu.Lock()
	var rows int64
	for _, f := range s.chain {
		rows += f.Rows
	}
	if f := s.filter.Load(); f != nil {
		keys, _ := f.stats()
		rows = min(rows, keys)
	}
	// Room for half as many again, but for no more rows than fit into the tables.
	b := &build{filter: newFilter(min(rows+rows/2, bytes/8))}
	s.next = b
	s.mu.Unlock()
	it, err := s.db.NewIter(nil)
	if !s.opts.NoBackground {
		s.write.Unlock()
	}
	var places []place
	if err == nil {
		places, err = s.fillFilter(b.filter, it)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.next != b {
		return false
	}
	s.next = nil
	if err != nil {
		if s.ctx.Err() == nil {
			s.opts.Log.Error("absence filter not built", "dir", s.opts.Dir, "error", err)
		}
		return true
	}
	s.rebuilt, _ = b.filter.stats()
	s.setFilter(b.filter)
	s.present.replace(append(places, b.places...))
	return true
}

func (s *Store) fillFilter(f *filter, it *pebble.Iterator) (places []place, err error) {
	hashes := make([]uint64, 0, hashBatch)
	var prefix []byte
	panes, known := false, false
	for ok := it.First(); ok; ok = it.Next() {
		key := it.Key()
		if len(key) < 4 {
			continue
		}
		if !bytes.Equal(prefix, key[:4]) {
			prefix = append(prefix[:0], key[:4]...)
			group, state := dataflow.RowGroup(key)
			panes, known = s.panes[state]
			places = append(places, place{state, group})
		}
		if !known {
			continue
		}
		if k, ok := dataflow.ParseRowKey(key, panes); ok {
			hashes = append(hashes, dataflow.FilterHash(k.State, k.Pane, k.Hash))
		}
		if len(hashes) == hashBatch {
			f.add(hashes)
			hashes = hashes[:0]
			if s.ctx.Err() != nil {
				break
			}
		}
	}
	f.add(hashes)
	err = it.Close()
	if s.ctx.Err() != nil {
		err = context.Cause(s.ctx)
	}
	return slices.Clip(places), err
}
