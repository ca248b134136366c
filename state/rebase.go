package state

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	iofs "io/fs"

	"github.com/cockroachdb/pebble/v2"

	"github.com/weirstream/weir/dataflow"
	"github.com/weirstream/weir/stream/spi"
)

// A pin is a table that Pebble wrote, linked so that it outlives Pebble's interest
// in it. Its FileRef is what the table is called in a chain, without bounds.
type pin struct{ ref dataflow.FileRef }

// rebaseSubLevels is the number of sorted runs in level 0 above which a rebase
// waits for compactions.
const rebaseSubLevels = 8

// maybeRebase replaces the chain by Pebble's own tables when more than half of its
// bytes are superseded: when the epoch files have reached the live size. A failure
// is logged, for the chain is good without it. s.write is held.
func (s *Store) maybeRebase() {
	s.mu.Lock()
	var all, epochs int64
	for _, f := range s.chain {
		n := int64(clippedSize(f))
		all += n
		if f.Level < 0 {
			epochs += n
		}
	}
	skip := s.unlocal > 0 || s.closed
	s.mu.Unlock()
	if skip || epochs < s.opts.RebaseBytes {
		return
	}
	live := s.Bytes()
	switch {
	case live == 0:
	case all >= 2*live && s.SubLevels() <= rebaseSubLevels:
		if err := s.rebase(); err != nil {
			s.opts.Log.Warn("chain not rebased", "dir", s.opts.Dir, "error", err)
		}
	case all >= 2*live-live/4 && !s.opts.NoBackground:
		s.spawn(s.pinAhead)
	}
}

// pinAhead links and sums the tables that a rebase will want soon, so that it need
// not do so while an epoch waits for it.
func (s *Store) pinAhead() {
	s.mu.Lock()
	busy, epoch := s.pinning, s.epoch
	s.pinning = true
	s.mu.Unlock()
	if busy {
		return
	}
	levels, err := s.db.SSTables() // not the provider's list: that has tables being written
	if err != nil {
		levels = nil
	}
	paths := s.tablePaths()
	for _, level := range levels {
		for _, t := range level {
			num := uint64(t.BackingSSTNum)
			if t.BackingType == pebble.BackingTypeExternal || s.ctx.Err() != nil {
				continue
			}
			p, fresh, err := s.pinTable(num, paths[num], epoch, nil)
			if err != nil || !fresh {
				continue // compacted away, or pinned before
			}
			s.mu.Lock()
			s.pins[num] = p
			s.owned[p.ref.Local] = struct{}{}
			s.mu.Unlock()
		}
	}
	s.mu.Lock()
	s.pinning = false
	s.mu.Unlock()
}

// tableBytes returns the size of Pebble's tables.
func (s *Store) tableBytes() (int64, error) {
	levels, err := s.db.SSTables()
	var n int64
	for _, l := range levels {
		for _, t := range l {
			n += int64(t.Size)
		}
	}
	return n, err
}

// rebase makes Pebble's current tables the chain: level 6 first, level 0 last, there
// oldest first. Tables that are epoch files stay what they are, and those at the end
// go on being epoch files.
func (s *Store) rebase() error {
	var chain []dataflow.FileRef
	var pins map[uint64]*pin
	var err error
	for range 3 { // a table that a compaction removed meanwhile cannot be linked
		if chain, pins, err = s.listTables(); !errors.Is(err, iofs.ErrNotExist) {
			break
		}
	}
	if err != nil {
		return err
	}
	for i := len(chain) - 1; i >= 0 && s.storage.get(fileName(chain[i])) != nil && chain[i].Level == 0; i-- {
		chain[i].Level = -1
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for n, p := range pins {
		s.pins[n] = p
		s.owned[p.ref.Local] = struct{}{}
		s.written.RebaseBytes += p.ref.Length
	}
	s.written.Rebases++
	s.chain = chain
	return nil
}

// tablePaths returns where the tables that Pebble wrote, or is writing, are, by
// number.
func (s *Store) tablePaths() map[uint64]string {
	paths := map[uint64]string{}
	for _, o := range s.db.ObjProvider().List() {
		if !o.IsExternal() {
			paths[uint64(o.DiskFileNum)] = s.db.ObjProvider().Path(o)
		}
	}
	return paths
}

// listTables returns Pebble's tables in restore order and the pins made for it.
func (s *Store) listTables() (chain []dataflow.FileRef, made map[uint64]*pin, err error) {
	made = map[uint64]*pin{}
	defer func() {
		if err != nil {
			for _, p := range made {
				s.fs.Remove(p.ref.Local)
			}
		}
	}()
	levels, err := s.db.SSTables()
	if err != nil {
		return nil, made, err
	}
	names, paths := map[uint64]string{}, s.tablePaths()
	for _, o := range s.db.ObjProvider().List() {
		if o.IsExternal() {
			names[uint64(o.DiskFileNum)] = o.Remote.CustomObjectName
		}
	}
	named := map[string]bool{}
	s.mu.Lock()
	groups, epoch := s.groups, s.epoch
	for _, r := range s.chain {
		named[fileName(r)] = true
	}
	s.mu.Unlock()
	for level := len(levels) - 1; level >= 0; level-- {
		for i := range levels[level] {
			t := &levels[level][i]
			num := uint64(t.BackingSSTNum)
			var ref dataflow.FileRef
			if t.BackingType == pebble.BackingTypeExternal {
				src := s.storage.get(names[num])
				if src == nil {
					return nil, made, fmt.Errorf("state: external table %d: %w", num, iofs.ErrNotExist)
				}
				ref = src.ref()
				if !named[fileName(ref)] && src.local() != "" {
					// Merged away before Pebble let go of it: no manifest names its object any
					// more, so that a sweep may have deleted it. It is uploaded again.
					ref.Object, ref.Offset = "", 0
				}
			} else {
				p, fresh, err := s.pinTable(num, paths[num], epoch, made)
				if err != nil {
					return nil, made, err
				}
				if fresh {
					made[num] = p
				}
				ref = p.ref
			}
			ref.Level = level
			ref.Smallest, ref.Largest = tableBounds(t)
			ref.Groups = groupsOf(ref.Smallest, ref.Largest).Intersect(groups)
			ref.Rows = int64(t.TableStats.NumEntries)
			if ref.Groups.Len() > 0 {
				chain = append(chain, ref)
			}
		}
	}
	return chain, made, nil
}

// pinTable links a table of Pebble and sums it, unless that was done before.
func (s *Store) pinTable(num uint64, path string, epoch dataflow.Epoch, made map[uint64]*pin) (p *pin, fresh bool, err error) {
	s.mu.Lock()
	p = s.pins[num]
	s.mu.Unlock()
	if p == nil {
		p = made[num]
	}
	if p != nil {
		return p, false, nil
	}
	if path == "" {
		return nil, false, fmt.Errorf("state: table %d: %w", num, iofs.ErrNotExist)
	}
	tmp := s.fs.PathJoin(s.dir, fmt.Sprintf("tmp-%d", s.names.Add(1)))
	if err := s.fs.Link(path, tmp); err != nil {
		return nil, false, err
	}
	ref := dataflow.FileRef{Epoch: epoch, Seq: int(num)}
	if ref.Length, ref.CRC32C, err = sumOf(s.ctx, s.fs, tmp); err == nil {
		ref.Local = s.pathOf(ref)
		err = s.fs.Rename(tmp, ref.Local)
	}
	if err != nil {
		s.fs.Remove(tmp)
		return nil, false, err
	}
	return &pin{ref}, true, nil
}

// tableBounds returns the first and last key that a table may hold.
func tableBounds(t *pebble.SSTableInfo) (from, to []byte) {
	from, to = bytes.Clone(t.Smallest.UserKey), t.Largest.UserKey
	if t.Largest.IsExclusiveSentinel() {
		return from, keyBelow(to)
	}
	return from, bytes.Clone(to)
}

// Excise gives up key groups: their rows vanish from the store and from Files. They
// must be the first or the last of the groups owned. No WriteEpoch may bring rows of
// them afterwards, until Restore takes them over again.
func (s *Store) Excise(ctx context.Context, gone dataflow.KeyGroups) error {
	s.write.Lock()
	defer s.write.Unlock()
	if err := s.Err(); err != nil {
		return err
	}
	s.mu.Lock()
	owned := s.groups
	s.mu.Unlock()
	left := owned
	switch {
	case gone.Len() <= 0 || gone.Intersect(owned) != gone:
		return fmt.Errorf("state: cannot give up key groups %v of %v", gone, owned)
	case gone.From == owned.From:
		left.From = gone.To
	case gone.To == owned.To:
		left.To = gone.From
	default:
		return fmt.Errorf("state: key groups %v are in the midst of %v: a store owns one range", gone, owned)
	}
	// Not pebble.DB.Excise: in 2.1.7 it gives what is left of an external file a loose
	// bound of sequence number 0, and a range tombstone that begins there then fails an
	// assertion of the table statistics, which ends the process.
	s.mu.Lock()
	run := s.newRun(s.epoch, s.seq)
	s.seq++
	s.mu.Unlock()
	run.drops = []spi.Span{{From: groupKey(gone.From), To: groupKey(gone.To)}}
	pieces, err := run.finish()
	if err == nil && ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	if err == nil {
		err = s.ingest(pieces)
	}
	if err != nil {
		run.abort()
		return fmt.Errorf("state: giving up key groups %v: %w", gone, err)
	}
	s.mu.Lock()
	s.owned[pieces[0].Local] = struct{}{} // Pebble's alone, no part of the chain
	s.groups = left
	s.chain = clip(s.chain, left)
	s.present.clear(gone)
	s.mu.Unlock()
	return nil
}

// Own extends the groups owned by those next to them, which Restore then fills.
func (s *Store) Own(more dataflow.KeyGroups) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch g := s.groups; {
	case more.Len() <= 0 || more.From < 0 || more.To > s.opts.Total:
		return fmt.Errorf("state: key groups %v are not within [0,%d)", more, s.opts.Total)
	case g.Len() == 0:
		s.groups = more
	case more.From == g.To:
		s.groups.To = more.To
	case more.To == g.From:
		s.groups.From = more.From
	default:
		return fmt.Errorf("state: key groups %v are not next to %v: a store owns one range", more, g)
	}
	return nil
}
