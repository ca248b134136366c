package state

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"iter"
	"slices"
	"sync"

	"github.com/cockroachdb/pebble/v2"

	"github.com/weirstream/weir/dataflow"
)

// Load reads the rows keys[i], whose filter hashes are probes[i]
// (dataflow.FilterHash). got is called once for each, in any order, with nil for
// rows that are absent; row is valid during the call only. An error of got ends
// Load and is returned as it is. Any other error means that the attempt must fail.
func (s *Store) Load(probes []uint64, keys [][]byte, got func(i int, row []byte) error) error {
	if err := s.Err(); err != nil {
		return err
	}
	f := s.filter.Load()
	ask := s.ask[:0]
	s.ask = nil // got may call Load
	defer func() { s.ask = ask[:0] }()
	for i, key := range keys {
		if f != nil && s.filtered(key) && !f.has(probes[i]) {
			if err := got(i, nil); err != nil {
				return err
			}
			continue
		}
		ask = append(ask, i)
	}
	if len(ask) == 0 {
		return nil
	}
	slices.SortFunc(ask, func(a, b int) int {
		if c := bytes.Compare(keys[a], keys[b]); c != 0 {
			return c
		}
		return cmp.Compare(a, b)
	})
	done := 0
	if len(ask) >= loadByIterator {
		var err error
		if done, err = s.loadSorted(ask, keys, f == nil, got); err != nil {
			return err
		}
	}
	for _, i := range ask[done:] { // none, unless a read failed
		if err := s.get(keys[i], i, got); err != nil {
			return err
		}
	}
	return nil
}

// loadByIterator is the number of keys from which one iterator is cheaper than a get
// for each.
const loadByIterator = 4

// loadSorted reads rows in one pass and returns how many of ask it has done: all, or
// those before a read that failed. doubt tells that absence is likely: the filters of
// level 6, where most rows are, are worth asking then.
func (s *Store) loadSorted(ask []int, keys [][]byte, doubt bool, got func(i int, row []byte) error) (done int, err error) {
	it, err := s.db.NewIter(&pebble.IterOptions{LowerBound: keys[ask[0]], UseL6Filters: doubt})
	if err != nil {
		return 0, nil
	}
	defer it.Close() // its error is that of the read that failed
	for n, i := range ask {
		var row []byte
		if it.SeekPrefixGE(keys[i]) && bytes.Equal(it.Key(), keys[i]) {
			if row, err = it.ValueAndErr(); row == nil {
				row = []byte{}
			}
		}
		if err != nil || it.Error() != nil {
			return n, nil
		}
		if err := got(i, row); err != nil {
			return n, err
		}
	}
	return len(ask), nil
}

func (s *Store) get(key []byte, i int, got func(i int, row []byte) error) error {
	row, closer, err := s.db.Get(key)
	for try := 0; try < rereads && err != nil && !errors.Is(err, pebble.ErrNotFound); try++ {
		if err = s.readFailed(); err == nil {
			row, closer, err = s.db.Get(key)
		}
	}
	switch {
	case errors.Is(err, pebble.ErrNotFound):
		return got(i, nil)
	case err != nil:
		return s.readError("reading a row", err)
	}
	if row == nil {
		row = []byte{}
	}
	err = got(i, row)
	if cerr := closer.Close(); err == nil && cerr != nil {
		err = s.readError("reading a row", cerr)
	}
	return err
}

// filtered reports whether the rows of key's state are in the filter.
func (s *Store) filtered(key []byte) bool {
	if len(key) < 4 {
		return false
	}
	_, state := dataflow.RowGroup(key)
	_, ok := s.panes[state]
	return ok
}

// rereads is how often a read is repeated that may have met a bad local copy: the
// second may still join another's attempt, begun before, to open the file.
const rereads = 2

// readFailed is asked after a failed read. It waits until every restored file has
// been compared with its checksum: the fault may have been a bad local copy, which
// has then been replaced. It returns nil if the read is worth repeating.
func (s *Store) readFailed() error {
	select {
	case <-s.Local():
		return s.Err()
	case <-s.ctx.Done():
		return ErrClosed
	}
}

func (s *Store) readError(doing string, err error) error {
	var bad *CorruptError
	if errors.Is(err, ErrClosed) || errors.As(err, &bad) {
		return err
	}
	return fmt.Errorf("state: %s in %s: %w", doing, s.opts.Dir, err)
}

// Scan yields the rows in [from, to), sorted; a nil to means no bound. Slices are
// valid until the next row. An error ends the sequence and is what ScanErr then
// returns. Rows ingested after the start of the loop are not seen.
func (s *Store) Scan(from, to []byte) iter.Seq2[[]byte, []byte] {
	return func(yield func(key, row []byte) bool) {
		if s.scanErr = s.Err(); s.scanErr != nil {
			return
		}
		resume := !s.Settled() || s.mended.Load() // every row moves from, if a file can be bad
		err := s.scan(&from, to, resume, yield)
		for try := 0; try < rereads && resume && err != nil; try++ {
			if err = s.readFailed(); err == nil {
				err = s.scan(&from, to, resume, yield)
			}
		}
		if err != nil {
			s.scanErr = s.readError("scanning", err)
		}
	}
}

// scan yields the rows in [*from, to). With resume it moves from behind each.
func (s *Store) scan(from *[]byte, to []byte, resume bool, yield func(key, row []byte) bool) error {
	it, err := s.db.NewIter(&pebble.IterOptions{LowerBound: *from, UpperBound: to})
	if err != nil {
		return err
	}
	for ok := it.First(); ok; ok = it.Next() {
		row, err := it.ValueAndErr()
		if err != nil {
			break // Close returns it, too
		}
		if row == nil {
			row = []byte{}
		}
		if resume {
			*from = append(append(make([]byte, 0, len(it.Key())+1), it.Key()...), 0)
		}
		if !yield(it.Key(), row) {
			break
		}
	}
	return it.Close()
}

// ScanErr returns the error of the last Scan.
func (s *Store) ScanErr() error { return s.scanErr }

// Empty reports whether the store surely holds no row of the state in the group.
// False may mean that it did once, or that restored files were not looked at yet.
func (s *Store) Empty(state dataflow.StateID, group int) bool { return !s.present.has(state, group) }

// presence knows in which groups a state may have rows.
type presence struct {
	mu     sync.RWMutex
	states map[dataflow.StateID][]uint64 // bitmap of groups
	any    []uint64                      // groups in which any state may have rows
}

func bit(b []uint64, g int) bool { return g>>6 < len(b) && b[g>>6]&(1<<(g&63)) != 0 }

func setBit(b []uint64, g int) []uint64 {
	for g>>6 >= len(b) {
		b = append(b, 0)
	}
	b[g>>6] |= 1 << (g & 63)
	return b
}

func (p *presence) has(state dataflow.StateID, group int) bool {
	p.mu.RLock()
	defer p.mu.RUnlock()
	return bit(p.any, group) || bit(p.states[state], group)
}

// A place is a state in a group.
type place struct {
	state dataflow.StateID
	group int
}

// add says that there are rows at these places.
func (p *presence) add(places []place) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.states == nil {
		p.states = map[dataflow.StateID][]uint64{}
	}
	for _, x := range places {
		p.states[x.state] = setBit(p.states[x.state], x.group)
	}
}

// addAll says that any state may have rows in these groups.
func (p *presence) addAll(r dataflow.KeyGroups) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for g := r.From; g < r.To; g++ {
		p.any = setBit(p.any, g)
	}
}

// replace says that there are rows at these places only.
func (p *presence) replace(places []place) {
	states := map[dataflow.StateID][]uint64{}
	for _, x := range places {
		states[x.state] = setBit(states[x.state], x.group)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.any, p.states = nil, states
}

// clear says that the groups are empty.
func (p *presence) clear(r dataflow.KeyGroups) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for g := r.From; g < r.To; g++ {
		if g>>6 < len(p.any) {
			p.any[g>>6] &^= 1 << (g & 63)
		}
		for _, b := range p.states {
			if g>>6 < len(b) {
				b[g>>6] &^= 1 << (g & 63)
			}
		}
	}
}
