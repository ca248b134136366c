package subtask

import (
	"encoding/json"
	"fmt"
	"math"
	"reflect"
	"slices"
	"unsafe"

	"github.com/weirstream/weir/dataflow"
	"github.com/weirstream/weir/stream/spi"
)

// source reads the splits of a subtask whose head is a source.
type source struct {
	m       *Machine
	gen     spi.SourceRunner
	reader  spi.Reader
	ids     []string
	version int
	known   bool // ids are assigned
	batch   spi.Batch
	bad     []spi.Rejected
	dry     bool // the last Poll gave nothing; Wake ends it
	held    bool // there was no room for rows
}

// idleTick is how often a dry source looks whether it became idle, µs.
const idleTick = 200_000

// assign follows changes of the set of splits and keeps the watermarks of those
// that stay.
func (s *source) assign() {
	ids, version := s.reader.Splits()
	if s.known && version == s.version {
		return
	}
	marks := make([]int64, len(ids))
	for i, id := range ids {
		marks[i] = dataflow.MinTime
		if k := slices.Index(s.ids, id); k >= 0 {
			marks[i] = s.gen.Mark(k)
		} else if wm, ok := s.m.ops[0].cfg.Marks[id]; ok {
			marks[i] = wm
		}
	}
	s.gen.Assign(ids, marks)
	s.ids, s.version, s.known = slices.Clone(ids), version, true
}

// poll reads one batch and gives it to the chain.
func (s *source) poll() (moved bool) {
	if s.reader == nil {
		return false
	}
	head := s.m.ops[0]
	room := head.host.Room(0)
	s.held = room == 0
	if s.held || s.dry {
		return false
	}
	was := s.m.enter(0)
	moved = s.read(head, room)
	s.m.leave(was)
	return moved
}

// read reads at most room rows.
func (s *source) read(head *op, room int) (moved bool) {
	s.assign()
	n, err := s.fill(min(room, s.m.cfg.BatchRows))
	if err != nil {
		s.m.fail(0, err)
		return false
	}
	s.reject()
	if n > 0 {
		head.rowsIn += int64(n)
		s.batch = head.host.Send(0, s.batch)
	}
	before := head.target
	s.mark()
	if n == 0 {
		if s.reader.Ended() {
			s.m.phase = ending
			head.mark(dataflow.MaxTime)
			return true
		}
		s.dry = true
	}
	return n > 0 || head.target > before
}

// fill polls splits until the batch holds rows rows or nothing is there.
func (s *source) fill(rows int) (n int, err error) {
	if s.batch == nil {
		s.batch = s.gen.NewBatch(s.m.cfg.BatchRows)
	}
	for n < rows {
		split, k, err := s.reader.Poll(s.batch, rows-n, &s.bad)
		if err != nil {
			return n, err
		}
		if k == 0 {
			break
		}
		if split >= len(s.ids) {
			s.assign() // the reader found a split since
		}
		if split < 0 || split >= len(s.ids) {
			return n, fmt.Errorf("its reader polled split %d of %d", split, len(s.ids))
		}
		if err := s.gen.Stamp(split, s.batch, n, s.m.now); err != nil {
			return n, err
		}
		n += k
	}
	return n, nil
}

// mark moves event time to where the splits are.
func (s *source) mark() {
	wm, idle := s.gen.Watermark(s.m.now, s.held)
	s.m.idle = idle
	if !idle {
		// The end of time is told by the end of the reader alone.
		s.m.ops[0].mark(min(wm, dataflow.MaxTime-1))
	}
}

// quiet is asked when there is nothing to do: when to look again.
func (s *source) quiet() (again int64) {
	if s.reader == nil || s.m.phase != running {
		return math.MaxInt64
	}
	head := s.m.ops[0]
	s.held = s.held || s.m.blocked()
	before := head.target
	s.mark()
	if head.target > before && !s.held {
		return s.m.now
	}
	if s.m.idle {
		return math.MaxInt64
	}
	return s.m.now + idleTick
}

// reject sends records that could not be decoded to port 1.
func (s *source) reject() {
	if len(s.bad) == 0 {
		return
	}
	head := s.m.ops[0]
	if bad := head.cfg.Bad; bad != nil {
		b := bad(len(s.bad))
		if b.Elem() != reflect.TypeFor[spi.Rejected]() {
			s.m.fail(0, fmt.Errorf("its port 1 takes %s, dead letters are %s", b.Elem(), reflect.TypeFor[spi.Rejected]()))
			return
		}
		p := b.Extend(len(s.bad))
		for i := range s.bad {
			*(*spi.Rejected)(unsafe.Add(p, uintptr(i)*unsafe.Sizeof(spi.Rejected{}))) = s.bad[i]
			b.Head().Times[i] = s.m.now
		}
		head.host.Send(1, b)
	}
	clear(s.bad)
	s.bad = s.bad[:0]
}

// snapshot returns positions and watermarks of the splits.
func (s *source) snapshot() dataflow.OpState {
	st := dataflow.OpState{}
	marks := map[string]int64{}
	if s.reader == nil { // it had ended before
		st.Splits = slices.Clone(s.m.ops[0].cfg.Splits)
		marks = s.m.ops[0].cfg.Marks
	} else {
		st.Splits = slices.Clone(s.reader.Snapshot())
	}
	for i, id := range s.ids {
		if wm := s.gen.Mark(i); wm != dataflow.MinTime {
			marks[id] = wm
		}
	}
	if len(marks) > 0 {
		st.Extra, _ = json.Marshal(marks) // strings and numbers cannot fail
	}
	return st
}

// ParseMarks reads what the source of a subtask stored in OpState.Extra: the
// watermark of each of its splits.
func ParseMarks(extra []byte) (map[string]int64, error) {
	marks := map[string]int64{}
	if len(extra) == 0 {
		return marks, nil
	}
	if err := json.Unmarshal(extra, &marks); err != nil {
		return nil, fmt.Errorf("subtask: watermarks of a source's splits: %w", err)
	}
	return marks, nil
}
