package state

import (
	"maps"
	"slices"

	"github.com/weirstream/weir/dataflow"
)

// Files returns every file that makes up the store as of the newest WriteEpoch, in
// the order in which Restore must link them: the tables of a rebase, lowest level
// first, then epoch files, oldest first. Files of aborted epochs are among them.
//
// A file without Object is to be uploaded from Local, and Uploaded told, before a
// manifest may name it. The files of the answer stay on disk until SetComplete of a
// later epoch. Any goroutine, but not during WriteEpoch.
func (s *Store) Files() []dataflow.FileRef {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := slices.Clone(s.chain)
	files := map[string]bool{}
	for i := range out {
		f := &out[i]
		if src := s.storage.get(fileName(*f)); src != nil {
			f.Local = src.local()
		}
		files[s.pathOf(*f)] = true
	}
	if n := len(s.named); n > 0 && s.named[n-1].epoch == s.epoch {
		maps.Copy(s.named[n-1].files, files)
	} else {
		s.named = append(s.named, named{s.epoch, files})
	}
	return out
}

// pathOf returns where the local copy of a file is or will be.
func (s *Store) pathOf(r dataflow.FileRef) string { return s.fs.PathJoin(s.dir, fileName(r)) }

// Uploaded tells that the local file is in the checkpoint store: its bytes begin at
// offset of object. Any goroutine.
func (s *Store) Uploaded(local, object string, offset int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range s.chain {
		f := &s.chain[i]
		if s.pathOf(*f) != local {
			continue
		}
		f.Object, f.Offset = object, offset
		if src := s.storage.get(fileName(*f)); src != nil {
			src.uploaded(object, offset)
		}
	}
	for _, p := range s.pins {
		if p.ref.Local == local {
			p.ref.Object, p.ref.Offset = object, offset
		}
	}
}

// SetComplete tells that the checkpoint of epoch is complete: in the background, what
// only earlier ones named is removed from this disk, unless Pebble reads it. Any
// goroutine.
func (s *Store) SetComplete(epoch dataflow.Epoch) {
	s.mu.Lock()
	before := min(epoch, s.epoch) // the epoch may have had nothing to write
	n := len(s.named)
	s.named = slices.DeleteFunc(s.named, func(n named) bool { return n.epoch < before })
	less := len(s.named) < n
	s.mu.Unlock()
	if !less {
		return
	}
	s.spawn(func() {
		if s.write.TryLock() { // else the WriteEpoch that holds it sweeps
			defer s.write.Unlock()
			s.sweep()
		}
	})
}

// tend does what is due after an epoch. s.write is held.
func (s *Store) tend() {
	s.maybeRebase()
	s.sweep()
	s.maybeMerge()
	s.maybeRebuildFilter()
}

// sweep removes local files that nobody can need: neither the chain, nor an epoch
// that may still be restored, nor Pebble. s.write is held.
func (s *Store) sweep() {
	keep, tables := map[string]bool{}, map[uint64]bool{}
	for _, o := range s.db.ObjProvider().List() {
		if o.IsExternal() {
			keep[s.fs.PathJoin(s.dir, o.Remote.CustomObjectName)] = true
		} else {
			tables[uint64(o.DiskFileNum)] = true
		}
	}
	var gone []string
	s.mu.Lock()
	for _, f := range s.chain {
		keep[s.pathOf(f)] = true
	}
	for _, n := range s.named {
		for path := range n.files {
			keep[path] = true
		}
	}
	for n, p := range s.pins {
		if tables[n] {
			keep[p.ref.Local] = true // the next rebase may want it
		} else if !keep[p.ref.Local] {
			delete(s.pins, n)
		}
	}
	for path := range s.owned {
		if !keep[path] {
			gone = append(gone, path)
			delete(s.owned, path)
			s.storage.remove(s.fs.PathBase(path))
		}
	}
	s.mu.Unlock()
	for _, path := range gone {
		if err := s.fs.Remove(path); err != nil {
			s.opts.Log.Warn("state file not removed", "path", path, "error", err)
		}
	}
}

// FindLocal returns files with Local set to a local copy in one of the given store
// directories, those of former attempts on this disk, where there is one. Restore
// judges whether it is any good.
func FindLocal(disk FS, files []dataflow.FileRef, dirs ...string) []dataflow.FileRef {
	out := slices.Clone(files)
	for i := range out {
		out[i].Local = ""
		for _, d := range dirs {
			path := disk.PathJoin(d, filesDir, fileName(out[i]))
			if st, err := disk.Stat(path); err == nil && st.Size() == out[i].Length {
				out[i].Local = path
				break
			}
		}
	}
	return out
}
