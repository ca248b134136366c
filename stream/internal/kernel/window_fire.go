package kernel

import (
	"fmt"
	"slices"
	"unsafe"

	"github.com/weirstream/weir/dataflow"
	"github.com/weirstream/weir/stream/spi"
)

// lookedRows is how many entries or stored rows one call of Advance looks at,
// emitted or not.
const lookedRows = 4096

// Advance implements spi.Runner.
func (x *windows[K, In, Acc, Out]) Advance(wm int64, budget int) (done bool, err error) {
	defer x.flush()
	// Also when the next pane is not done: a freeze must not meet one that is over.
	defer x.drop(wm)
	for _, p := range x.panes {
		if p.end > wm {
			break
		}
		if p.fired {
			continue
		}
		x.firing = p
		done, err := x.fire(p, &budget)
		if err != nil || !done {
			return false, err
		}
		x.firing = nil
		p.fired, p.cursor, p.page, p.from = true, 0, 0, nil
	}
	return true, nil
}

// fire emits what p holds, from where it stopped.
func (x *windows[K, In, Acc, Out]) fire(p *pane[K], budget *int) (done bool, err error) {
	p.reap()
	limit := x.room()
	for looked := 0; p.cursor < p.n; looked++ {
		if looked == lookedRows {
			return false, nil
		}
		if len(x.rows.Values) >= limit {
			if limit = x.room(); len(x.rows.Values) >= limit {
				return false, nil
			}
		}
		if *budget <= 0 {
			return false, nil
		}
		p.cursor++
		e := p.at(p.cursor)
		h := (*head)(e)
		if h.flags&flagUsed == 0 || h.flags&flagAbsent != 0 || h.name == fired {
			continue
		}
		*budget--
		x.emit(p, p.key(p.cursor), (*Acc)(p.stateOf(e)))
		if x.spec.Late > 0 {
			p.touch(e, p.cursor)
			h.name = fired
		}
	}
	return x.fireStored(p, budget)
}

// fireStored emits the stored rows of p that are not cached, group by group. They
// are few: what was spilled and evicted, or not read since a restore.
func (x *windows[K, In, Acc, Out]) fireStored(p *pane[K], budget *int) (done bool, err error) {
	for p.page < len(p.stored) {
		if p.groups.complete[p.page] || !p.stored[p.page] {
			p.page++
			continue
		}
		if x.room() <= len(x.rows.Values) || *budget <= 0 {
			return false, nil
		}
		if err := x.fireGroup(p, budget); err != nil {
			return false, err
		}
	}
	return true, nil
}

// fireGroup emits stored rows of group p.page from p.from on, as far as there is
// room. Those of a pane that is kept for late rows come into the cache.
func (x *windows[K, In, Acc, Out]) fireGroup(p *pane[K], budget *int) error {
	const before = 16 // group, state, pane, hash
	from, to := p.from, after(x.prefix(p, p.page))
	if from == nil {
		from = x.prefix(p, p.page)
	}
	room := min(x.room()-len(x.rows.Values), *budget, pageRows)
	n, looked := 0, 0
	for row, value := range x.host.Scan(from, to) {
		if n == room || looked == lookedRows {
			p.from = append([]byte(nil), row...)
			return nil
		}
		looked++
		rk, _ := dataflow.ParseRowKey(row, true)
		k, ok := p.coder.decode(row[before:])
		if !ok {
			return fmt.Errorf("stream: pane row %x has a key that is not a %T", row, k)
		}
		if p.find(rk.Hash, &k) != 0 {
			continue // emitted already, or dead
		}
		sent, err := x.fireRow(p, rk.Hash, &k, value)
		if err != nil {
			return err
		}
		if sent {
			n++
			*budget--
		}
	}
	p.page, p.from = p.page+1, nil
	return x.host.ScanErr()
}

// fireRow emits a stored row unless that was done before.
func (x *windows[K, In, Acc, Out]) fireRow(p *pane[K], h uint32, k *K, row []byte) (sent bool, err error) {
	if x.spec.Late > 0 {
		id := p.Table.add(h, k)
		e := p.at(id)
		if err := p.load(e, row); err != nil || (*head)(e).name == fired {
			return false, err
		}
		x.emit(p, *k, (*Acc)(p.stateOf(e)))
		p.touch(e, id)
		(*head)(e).name = fired
		return true, nil
	}
	if len(row) == 0 {
		return false, errEmptyRow
	}
	if row[0] == fired {
		return false, nil
	}
	var zero Acc
	x.acc = zero
	if err := p.lay.codec.Decode(row[1:], unsafe.Pointer(&x.acc), &p.strs); err != nil {
		return false, err
	}
	x.emit(p, *k, &x.acc)
	return true, nil
}

// drop drops the panes that have fired and take no more rows.
func (x *windows[K, In, Acc, Out]) drop(wm int64) {
	n := 0
	for n < len(x.panes) && x.panes[n].fired && x.spec.plusLate(x.panes[n].end) <= wm {
		p := x.panes[n]
		n++
		if x.recent == p {
			x.recent = nil
		}
		if slices.Contains(p.stored, true) || slices.Contains(x.frozen, p) {
			x.dying = append(x.dying, p)
		}
	}
	x.panes = slices.Delete(x.panes, 0, n)
}

// Freeze implements spi.Runner.
func (x *windows[K, In, Acc, Out]) Freeze() (spi.Frozen, error) {
	f := &frozenRows{done: x.thaw}
	for _, p := range x.panes {
		p.over = p.gone
		if p == x.firing && x.spec.Late == 0 {
			// What was emitted must not be emitted again after a restore from here.
			p.over = p.cursor
			f.drops = append(f.drops, x.emitted(p)...)
		}
		if r := p.table.freezeOver(true, p.gone, p.over); r != nil {
			f.runs = append(f.runs, r)
			x.frozen = append(x.frozen, p)
		}
	}
	for _, p := range x.dying {
		f.drops = append(f.drops, x.spans(p)...)
	}
	x.buried, x.dying = x.dying, nil
	if len(f.runs) == 0 && len(f.drops) == 0 {
		x.buried = nil
		return nil, nil
	}
	return f, nil
}

// spans returns the ranges of what the store has of a pane.
func (x *windows[K, In, Acc, Out]) spans(p *pane[K]) []spi.Span { return x.spansUpTo(p, len(p.stored)) }

// emitted returns the ranges that were emitted out of the store.
func (x *windows[K, In, Acc, Out]) emitted(p *pane[K]) []spi.Span {
	spans := x.spansUpTo(p, p.page)
	if p.from != nil {
		spans = append(spans, spi.Span{From: x.prefix(p, p.page), To: p.from})
	}
	return spans
}

// spansUpTo returns the ranges of what the store has of the first n groups of p.
func (x *windows[K, In, Acc, Out]) spansUpTo(p *pane[K], n int) (spans []spi.Span) {
	for i, s := range p.stored[:n] {
		if s {
			from := x.prefix(p, i)
			spans = append(spans, spi.Span{From: from, To: after(from)})
		}
	}
	return spans
}

// prefix returns what the rows of the i-th owned group of a pane begin with.
func (x *windows[K, In, Acc, Out]) prefix(p *pane[K], i int) []byte {
	return dataflow.AppendPane(dataflow.AppendRowPrefix(nil, x.owned.From+i, x.id), p.table.pane)
}

func (x *windows[K, In, Acc, Out]) thaw(err error) {
	if err != nil {
		x.dying = append(x.buried, x.dying...)
	}
	x.buried = nil
	for _, p := range x.frozen {
		if err == nil {
			p.gone = p.over
			for _, g := range p.table.frozen.groups {
				p.stored[int(g)-x.owned.From] = true
			}
		}
		p.table.thaw(err)
	}
	x.frozen = nil
}
