package kernel

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"testing"

	"github.com/weirstream/weir/dataflow"
	"github.com/weirstream/weir/stream/spi"
)

type sale struct {
	Key string
	N   int64
}

type revenue struct {
	Sum, Count int64
	Words      []string
}

type windowKey struct {
	key   string
	start int64
}

// windowModel is the naive reference of event-time windows.
type windowModel struct {
	size, slide, late int64
	wm                int64
	panes             map[windowKey]*revenue
	fired             map[windowKey]bool
}

func (m *windowModel) clone() reference[sale] {
	c := *m
	c.panes, c.fired = map[windowKey]*revenue{}, maps.Clone(m.fired)
	for k, v := range m.panes {
		r := *v
		c.panes[k] = &r
	}
	return &c
}

func (m *windowModel) at(int64) {}

func (m *windowModel) result(k windowKey) string {
	r := m.panes[k]
	return fmt.Sprintf("%s [%d,%d) sum=%d count=%d", k.key, k.start, k.start+m.size, r.Sum, r.Count)
}

func (m *windowModel) receive(e sale, at int64) (out []string) {
	late := true
	start := at - ((at%m.slide)+m.slide)%m.slide
	for ; start > at-m.size; start -= m.slide {
		if start+m.size+m.late <= m.wm {
			continue
		}
		late = false
		k := windowKey{e.Key, start}
		if m.panes[k] == nil {
			m.panes[k] = new(revenue)
		}
		m.panes[k].Sum += e.N
		m.panes[k].Count++
		if start+m.size <= m.wm {
			m.fired[k] = true
			out = append(out, m.result(k))
		}
	}
	if late {
		out = append(out, fmt.Sprintf("late %s %d", e.Key, e.N))
	}
	return out
}

func (m *windowModel) advance(wm int64) (out []string) {
	m.wm = wm
	for k := range m.panes {
		if k.start+m.size <= wm && !m.fired[k] {
			m.fired[k] = true
			out = append(out, m.result(k))
		}
		if k.start+m.size+m.late <= wm {
			delete(m.panes, k)
			delete(m.fired, k)
		}
	}
	return out
}

func (m *windowModel) next() int64 {
	at := int64(dataflow.MaxTime)
	for k := range m.panes {
		if !m.fired[k] {
			at = min(at, k.start+m.size)
		}
	}
	return at
}

var lateTag = new(int)

// Windows do what a map from key and start does, late rows, freezes, undos,
// evictions and restores included.
func TestWindowsAgainstModel(t *testing.T) {
	hash, _ := HasherOf[string]()
	for seed := range uint64(9) {
		size := int64(1000)
		slide := []int64{1000, 250, 400}[seed%3]
		late := []int64{0, 0, 1500}[seed/3%3]
		t.Run(fmt.Sprintf("%d slide %d late %d", seed, slide, late), func(t *testing.T) {
			mk := func() (spi.Runner, error) {
				sides := new(Sides)
				sides.Add(lateTag, NewPort[string](1))
				return NewWindows(WindowSpec[string, sale, revenue, string]{
					Key: func(e sale) string { return e.Key }, Size: size, Slide: slide, Late: late,
					Add: func(a *revenue, e sale) { a.Sum += e.N; a.Count++; a.Words = append(a.Words, e.Key)[:1] },
					Result: func(k string, start, end int64, a *revenue) string {
						if len(a.Words) != 1 || a.Words[0] != k {
							return fmt.Sprintf("words of %s are %q", k, a.Words)
						}
						return fmt.Sprintf("%s [%d,%d) sum=%d count=%d", k, start, end, a.Sum, a.Count)
					},
					TooLate: func(s *Sides, e *sale) { EmitSide(s, lateTag, "late", fmt.Sprintf("late %s %d", e.Key, e.N)) },
				}, sides)
			}
			keys := []int{3, 60, 1500}[seed/2%3]
			s := &suite[sale]{
				t: t, rnd: rand.New(rand.NewPCG(seed, 5)), make: mk, state: WindowStates[revenue](), step: 200, wm: dataflow.MinTime,
				model: &windowModel{size: size, slide: slide, late: late, wm: dataflow.MinTime, panes: map[windowKey]*revenue{}, fired: map[windowKey]bool{}},
			}
			s.gen = func() (sale, uint32, int64) {
				e := sale{fmt.Sprint("key", s.rnd.IntN(keys)), s.rnd.Int64N(100)}
				return e, hash(e.Key), max(s.wm, 0) + s.rnd.Int64N(4000) - 1500
			}
			s.restore(map[string][]byte{}, 1)
			for s.total < 8000 {
				s.turn()
			}
		})
	}
}

// sessionModel is the naive reference of session windows: it finds what to merge
// by trying all.
type sessionModel struct {
	gap, late, wm int64
	open          map[string][]SessionWindow[int64]
}

func (m *sessionModel) clone() reference[sale] {
	c := *m
	c.open = map[string][]SessionWindow[int64]{}
	for k, v := range m.open {
		c.open[k] = append([]SessionWindow[int64](nil), v...)
	}
	return &c
}

func (m *sessionModel) at(int64) {}

func (m *sessionModel) receive(e sale, at int64) []string {
	w := SessionWindow[int64]{Start: at, End: at + m.gap, Acc: e.N}
	var rest []SessionWindow[int64]
	for _, o := range m.open[e.Key] {
		if o.Start <= at+m.gap && at <= o.End {
			w.Start, w.End, w.Acc = min(w.Start, o.Start), max(w.End, o.End), w.Acc+o.Acc
		} else {
			rest = append(rest, o)
		}
	}
	if w.End+m.late <= m.wm {
		return []string{fmt.Sprintf("late %s %d", e.Key, e.N)}
	}
	w.Fired = w.End <= m.wm
	m.open[e.Key] = append(rest, w)
	if w.Fired {
		return []string{fmt.Sprintf("%s [%d,%d) %d", e.Key, w.Start, w.End, w.Acc)}
	}
	return nil
}

func (m *sessionModel) advance(wm int64) (out []string) {
	m.wm = wm
	for k, ws := range m.open {
		var rest []SessionWindow[int64]
		for _, w := range ws {
			if w.End <= wm && !w.Fired {
				w.Fired = true
				out = append(out, fmt.Sprintf("%s [%d,%d) %d", k, w.Start, w.End, w.Acc))
			}
			if w.End+m.late > wm {
				rest = append(rest, w)
			}
		}
		m.open[k] = rest
	}
	return out
}

func (m *sessionModel) next() int64 {
	at := int64(dataflow.MaxTime)
	for _, ws := range m.open {
		for _, w := range ws {
			if !w.Fired {
				at = min(at, w.End)
			}
		}
	}
	return at
}

// Sessions merge as a search over all of a key's sessions would merge them.
func TestSessionsAgainstModel(t *testing.T) {
	hash, _ := HasherOf[string]()
	for seed := range uint64(6) {
		late := []int64{0, 900}[seed%2]
		t.Run(fmt.Sprintf("%d late %d", seed, late), func(t *testing.T) {
			mk := func() (spi.Runner, error) {
				sides := new(Sides)
				sides.Add(lateTag, NewPort[string](1))
				return NewSessions(WindowSpec[string, sale, int64, string]{
					Key: func(e sale) string { return e.Key }, Gap: 300, Late: late,
					Add:   func(a *int64, e sale) { *a += e.N },
					Merge: func(a *int64, b int64) { *a += b },
					Result: func(k string, start, end int64, a *int64) string {
						return fmt.Sprintf("%s [%d,%d) %d", k, start, end, *a)
					},
					TooLate: func(s *Sides, e *sale) { EmitSide(s, lateTag, "late", fmt.Sprintf("late %s %d", e.Key, e.N)) },
				}, sides)
			}
			keys := []int{3, 60, 900}[seed/2%3]
			s := &suite[sale]{
				t: t, rnd: rand.New(rand.NewPCG(seed, 6)), make: mk, state: SessionStates[int64](), step: 100, wm: dataflow.MinTime,
				model: &sessionModel{gap: 300, late: late, wm: dataflow.MinTime, open: map[string][]SessionWindow[int64]{}},
			}
			s.gen = func() (sale, uint32, int64) {
				e := sale{fmt.Sprint("key", s.rnd.IntN(keys)), s.rnd.Int64N(100)}
				return e, hash(e.Key), max(s.wm, 0) + s.rnd.Int64N(int64(keys)*200+2000) - 1500
			}
			s.restore(map[string][]byte{}, 1)
			for s.total < 8000 {
				s.turn()
			}
		})
	}
}
