package state

import "github.com/weirstream/weir/dataflow"

// A pin is a table of Pebble that was linked for a rebase.
type pin struct{ ref dataflow.FileRef }

func (s *Store) maybeRebase() {}

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
