package kernel

import (
	"fmt"
	"math"
	"reflect"
	"slices"

	"github.com/weirstream/weir/dataflow"
	"github.com/weirstream/weir/stream/spi"
)

// WindowState is the state of a window operator: a row per pane and key.
const WindowState = "window"

// LateDropped counts rows that came after their windows had closed.
const LateDropped = "late_records_dropped_total"

// A WindowSpec says what an operator of event-time windows is. Times are
// microseconds.
type WindowSpec[K comparable, In, Acc, Out any] struct {
	Key     func(In) K
	Size    int64
	Slide   int64 // Size for tumbling windows
	Offset  int64
	Gap     int64 // of session windows, which have no Size, Slide and Offset
	Late    int64 // how long a window stays open for late rows after it fired
	Add     func(a *Acc, e In)
	Merge   func(a *Acc, b Acc)
	Result  func(k K, start, end int64, a *Acc) Out
	TooLate func(s *Sides, e *In) // nil: dropped and counted
}

// A pane is one window's table: a value per key. Firing walks it; then it is
// dropped, and what the store has of it by a range per key group.
//
// A row begins with a mark: 1 when its result was emitted and the pane is kept for
// late rows.
//
// A pane that is not kept for late rows takes none once it fires, so a freeze that
// meets it half fired needs no list of what was emitted: the writer deletes the
// stored rows of the entries up to the cursor, and a range per group covers what
// was emitted out of the store.
type pane[K comparable] struct {
	Table[K]
	end    int64
	fired  bool   // every entry was emitted
	cursor uint32 // entries up to it were emitted, while firing
	over   uint32 // cursor at the open freeze
	gone   uint32 // entries up to it are over for the store too: nothing of them is left there
	page   int    // group whose stored rows are next, while firing; from 0
	from   []byte // row key from which they are read
	stored []bool // by owned group: the store may have rows
}

const fired = 1

// windows is the runner of a window operator.
type windows[K comparable, In, Acc, Out any] struct {
	spec   WindowSpec[K, In, Acc, Out]
	host   spi.Host
	sides  *Sides
	rows   *Rows[Out]
	coder  keyCoder[K]
	lay    *layout
	id     dataflow.StateID
	owned  dataflow.KeyGroups
	total  int
	panes  []*pane[K] // by start
	recent *pane[K]
	firing *pane[K]
	frozen []*pane[K] // panes with a part in the open freeze
	dying  []*pane[K] // dropped, but for what the store has of them
	buried []*pane[K] // dying ones whose ranges the open freeze drops
	hits   []hit[K]
	miss   misses
	missed []hit[K]
	acc    Acc // of a stored row that is emitted
}

// A hit is one row's place in one pane.
type hit[K comparable] struct {
	p   *pane[K]
	id  uint32
	row int32
}

// WindowStates lists the states of a window operator with accumulators of type
// Acc.
func WindowStates[Acc any]() []spi.StateType {
	return []spi.StateType{{Name: WindowState, Kind: dataflow.PaneState, Panes: true, Value: reflect.TypeFor[Acc]()}}
}

// NewWindows makes the runner of one subtask.
func NewWindows[K comparable, In, Acc, Out any](spec WindowSpec[K, In, Acc, Out], sides *Sides) (spi.Runner, error) {
	coder, err := newKeyCoder[K]()
	if err != nil {
		return nil, err
	}
	return &windows[K, In, Acc, Out]{spec: spec, sides: sides, coder: coder, rows: NewRows[Out](0)}, nil
}

// Open implements spi.Runner.
func (x *windows[K, In, Acc, Out]) Open(h spi.Host, _ []byte) error {
	x.host = h
	id, _, codec, err := h.State(WindowState)
	if err != nil {
		return err
	}
	x.id = id
	x.owned, x.total = h.Groups()
	x.lay = newLayout(reflect.TypeFor[K](), x.coder.shape, x.coder.steps, reflect.TypeFor[Acc](), false, false, false)
	x.lay.marked, x.lay.codec = true, codec
	for g := x.owned.From; g < x.owned.To; g++ {
		if err := x.findPanes(g); err != nil {
			return err
		}
	}
	return nil
}

// findPanes makes the panes that the store has rows of in group g.
func (x *windows[K, In, Acc, Out]) findPanes(g int) error {
	if x.host.Empty(x.id, g) {
		return nil
	}
	from := dataflow.AppendRowPrefix(nil, g, x.id)
	to := dataflow.AppendRowPrefix(nil, g, x.id+1)
	for {
		start, found := int64(0), false
		for row := range x.host.Scan(from, to) {
			k, ok := dataflow.ParseRowKey(row, true)
			if !ok {
				return fmt.Errorf("stream: pane row %x is too short", row)
			}
			start, found = k.Pane, true
			break
		}
		if err := x.host.ScanErr(); err != nil || !found {
			return err
		}
		p := x.pane(start)
		p.stored[g-x.owned.From] = true
		p.groups.complete[g-x.owned.From] = false
		if start == math.MaxInt64 {
			return nil
		}
		from = dataflow.AppendPane(dataflow.AppendRowPrefix(nil, g, x.id), start+1)
	}
}

// pane returns the pane that starts at start, making it if needed.
func (x *windows[K, In, Acc, Out]) pane(start int64) *pane[K] {
	if x.recent != nil && x.recent.table.pane == start {
		return x.recent
	}
	i, ok := slices.BinarySearchFunc(x.panes, start, func(p *pane[K], s int64) int {
		switch {
		case p.table.pane < s:
			return -1
		case p.table.pane > s:
			return 1
		}
		return 0
	})
	if !ok {
		n := x.owned.Len()
		p := &pane[K]{end: start + x.spec.Size, stored: make([]bool, n)}
		p.coder = x.coder
		groups := groupSet{from: x.owned.From, total: x.total, complete: make([]bool, n)}
		for i := range groups.complete {
			groups.complete[i] = true
		}
		p.init(x.lay, x.id, groups, nil)
		p.table.pane = start
		x.panes = slices.Insert(x.panes, i, p)
	}
	x.recent = x.panes[i]
	return x.recent
}

// NewBatch implements spi.Runner.
func (x *windows[K, In, Acc, Out]) NewBatch(_, capacity int) spi.Batch { return NewRows[In](capacity) }

// room is as for actors.
func (x *windows[K, In, Acc, Out]) room() int {
	if len(x.rows.Values) >= outputRows {
		x.flush()
	}
	limit := min(x.host.Room(0), outputRows)
	if limit > len(x.rows.Values) {
		return x.sides.Room(x.host, limit-len(x.rows.Values)) + len(x.rows.Values)
	}
	return limit
}

func (x *windows[K, In, Acc, Out]) flush() {
	if len(x.rows.Values) > 0 {
		x.rows = x.host.Send(0, x.rows).(*Rows[Out])
	}
	x.sides.Flush(x.host)
}

// Step implements spi.Runner.
func (x *windows[K, In, Acc, Out]) Step(_ int, batch spi.Batch, from int) (int, error) {
	in := batch.(*Rows[In])
	wm := x.host.Watermark()
	i := from
	for i < len(in.Values) {
		if x.emits() && x.room() <= len(x.rows.Values) {
			break
		}
		n := min(len(in.Values)-i, blockRows)
		done, err := x.block(in, i, n, wm)
		i += done
		if err != nil {
			return i - from, err
		}
		if done < n {
			break
		}
	}
	x.flush()
	return i - from, nil
}

// emits reports whether rows may be emitted before the watermark moves.
func (x *windows[K, In, Acc, Out]) emits() bool { return x.spec.Late > 0 || len(x.sides.ports) > 0 }

// block handles rows [i, i+n).
func (x *windows[K, In, Acc, Out]) block(in *Rows[In], i, n int, wm int64) (int, error) {
	x.hits, x.missed = x.hits[:0], x.missed[:0]
	x.miss.reset()
	for j := range n {
		x.assign(in, i+j, wm)
	}
	err := x.miss.load(x.host, func(j int, row []byte) error {
		if row == nil {
			return nil
		}
		h := x.missed[j]
		return h.p.load(h.p.at(h.id), row)
	})
	if err != nil {
		return 0, err
	}
	at := 0
	for j := range n {
		if x.emits() && x.room() <= len(x.rows.Values) {
			return j, nil
		}
		x.sides.At = in.Meta.Times[i+j]
		if at == len(x.hits) || x.hits[at].row != int32(i+j) {
			x.tooLate(&in.Values[i+j])
			continue
		}
		for ; at < len(x.hits) && x.hits[at].row == int32(i+j); at++ {
			x.add(x.hits[at], &in.Values[i+j], wm)
		}
	}
	return n, nil
}

func (x *windows[K, In, Acc, Out]) tooLate(e *In) {
	if x.spec.TooLate != nil {
		x.spec.TooLate(x.sides, e)
	} else {
		x.host.Count(LateDropped, 1)
	}
}

// assign appends the places of a row to x.hits.
func (x *windows[K, In, Acc, Out]) assign(in *Rows[In], row int, wm int64) {
	t := in.Meta.Times[row]
	start := floorTo(t-x.spec.Offset, x.spec.Slide) + x.spec.Offset
	var k K
	var h uint32
	for first := true; start > t-x.spec.Size; start -= x.spec.Slide {
		if x.spec.plusLate(start+x.spec.Size) <= wm {
			return // and so are those before it
		}
		if first {
			first = false
			k = x.spec.Key(in.Values[row])
			if len(in.Meta.Hashes) == len(in.Values) {
				h = in.Meta.Hashes[row]
			} else {
				h = x.coder.hash(k)
			}
		}
		p := x.pane(start)
		id := p.find(h, &k)
		if id == 0 {
			id = p.Table.add(h, &k)
			if !p.groups.known(h) {
				x.miss.add(&p.table, h, x.miss.key(&p.table, id))
				x.missed = append(x.missed, hit[K]{p, id, int32(row)})
			}
		}
		x.hits = append(x.hits, hit[K]{p, id, int32(row)})
	}
}

// floorTo returns the largest multiple of step that is at most t.
func floorTo(t, step int64) int64 {
	r := t % step
	if r < 0 {
		r += step
	}
	return t - r
}

// add adds a row to one pane; if that has fired, the new result goes out at once.
func (x *windows[K, In, Acc, Out]) add(h hit[K], e *In, wm int64) {
	p := h.p.at(h.id)
	h.p.touch(p, h.id)
	hd := (*head)(p)
	hd.flags &^= flagAbsent
	hd.ref = 1
	acc := (*Acc)(h.p.stateOf(p))
	x.spec.Add(acc, *e)
	if h.p.end <= wm {
		hd.name = fired
		x.emit(h.p, h.p.key(h.id), acc)
	} else {
		h.p.fired = false
	}
}

func (x *windows[K, In, Acc, Out]) emit(p *pane[K], k K, acc *Acc) {
	x.rows.Values = append(x.rows.Values, x.spec.Result(k, p.table.pane, p.end, acc))
	x.rows.Meta.Times = append(x.rows.Meta.Times, p.end-1)
}

// NextTimer implements spi.Runner.
func (x *windows[K, In, Acc, Out]) NextTimer() int64 {
	for _, p := range x.panes {
		if !p.fired {
			return p.end
		}
	}
	return dataflow.MaxTime
}

// End implements spi.Runner.
func (x *windows[K, In, Acc, Out]) End() (done bool, err error) {
	x.flush()
	return true, nil
}

// Extra implements spi.Runner.
func (x *windows[K, In, Acc, Out]) Extra() []byte { return nil }

// Memory implements spi.Runner.
func (x *windows[K, In, Acc, Out]) Memory() (total, dirty int64) {
	for _, p := range x.panes {
		t, d := p.table.memory()
		total, dirty = total+t, dirty+d
	}
	return total, dirty
}

// Evict implements spi.Runner. The panes that fire last go first.
func (x *windows[K, In, Acc, Out]) Evict(n int64) (freed int64) {
	for _, p := range slices.Backward(x.panes) {
		if freed >= n {
			break
		}
		if p != x.firing {
			freed += p.table.evict(n-freed, nil)
		}
	}
	return freed
}
