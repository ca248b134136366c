package kernel

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/weirstream/weir/dataflow"
	"github.com/weirstream/weir/stream/spi"
)

const testTTL = 60

// handleModel is the naive reference of state handles.
type handleModel[K comparable] struct {
	now    int64
	value  map[K]string
	dated  map[K]expiring
	maps   map[K]map[string]int64
	expire map[K]map[string]expiring
	list   map[K][]string
}

type expiring struct {
	n  int64
	at int64
}

func newHandleModel[K comparable]() *handleModel[K] {
	return &handleModel[K]{0, map[K]string{}, map[K]expiring{}, map[K]map[string]int64{}, map[K]map[string]expiring{}, map[K][]string{}}
}

func (m *handleModel[K]) clone() *handleModel[K] {
	if m == nil {
		return nil
	}
	c := &handleModel[K]{m.now, maps.Clone(m.value), maps.Clone(m.dated), maps.Clone(m.maps), maps.Clone(m.expire), maps.Clone(m.list)}
	for k, v := range c.maps {
		c.maps[k] = maps.Clone(v)
	}
	for k, v := range c.expire {
		c.expire[k] = maps.Clone(v)
	}
	for k, v := range c.list {
		c.list[k] = slices.Clone(v)
	}
	return c
}

func (m *handleModel[K]) at(now int64) {
	if m != nil {
		m.now = now
	}
}

func (m *handleModel[K]) clear(k K) {
	if m != nil {
		delete(m.value, k)
		delete(m.dated, k)
		delete(m.maps, k)
		delete(m.expire, k)
		delete(m.list, k)
	}
}

func (m *handleModel[K]) receive(e event[K]) (out []string, ok bool) {
	if m == nil {
		return nil, false
	}
	if m.maps[e.Key] == nil {
		m.maps[e.Key], m.expire[e.Key] = map[string]int64{}, map[string]expiring{}
	}
	mp, ex := m.maps[e.Key], m.expire[e.Key]
	word := fmt.Sprintf("%s-%d", e.Name, e.N)
	var r any
	switch e.Op {
	case "vset":
		m.value[e.Key] = word
		m.dated[e.Key] = expiring{e.N, m.now + testTTL}
		return nil, true
	case "vget":
		d := m.dated[e.Key]
		if d.at <= m.now {
			d.n = 0
		}
		r = fmt.Sprint(m.value[e.Key], d.n)
	case "vclear":
		delete(m.value, e.Key)
		delete(m.dated, e.Key)
		return nil, true
	case "mput":
		mp[e.Sub] = e.N
		ex[e.Sub] = expiring{e.N, m.now + testTTL}
		return nil, true
	case "mget":
		x, ok := ex[e.Sub]
		if ok && x.at <= m.now {
			x = expiring{}
		}
		r = fmt.Sprint(mp[e.Sub], x.n)
	case "mdel":
		delete(mp, e.Sub)
		delete(ex, e.Sub)
		return nil, true
	case "mall":
		var all []string
		for k, v := range mp {
			all = append(all, fmt.Sprint(k, "=", v))
		}
		for k, v := range ex {
			if v.at > m.now {
				all = append(all, fmt.Sprint(k, "~", v.n))
			}
		}
		r = sortedStrings(all)
	case "mclear":
		clear(mp)
		clear(ex)
		return nil, true
	case "lapp":
		m.list[e.Key] = append(m.list[e.Key], wide(word))
		return nil, true
	case "lall":
		r = m.list[e.Key]
		if m.list[e.Key] == nil {
			r = []string{}
		}
		r = fmt.Sprint(len(m.list[e.Key]), r)
	case "lclear":
		delete(m.list, e.Key)
		return nil, true
	default:
		return nil, false
	}
	return []string{fmt.Sprintf("%v %s %v", e.Key, e.Op, r)}, true
}

var (
	hValue = &ValueHandle[string]{Name: "value"}
	hDated = &ValueHandle[int64]{Name: "dated", TTL: testTTL}
	hMap   = &MapHandle[string, int64]{Name: "map"}
	hTTL   = &MapHandle[string, int64]{Name: "ttl", TTL: testTTL}
	hList  = &ListHandle[string]{Name: "list"}
)

// wide makes list values so long that a few fill a segment.
func wide(word string) string { return word + strings.Repeat(word[:1], 700+len(word)*300) }

func handleStates() []spi.StateType {
	str, num := reflect.TypeFor[string](), reflect.TypeFor[int64]()
	return []spi.StateType{
		{Name: "map", Kind: dataflow.MapState, Key: str, Value: num},
		{Name: "value", Kind: dataflow.ValueState, Value: str},
		{Name: ActorState, Kind: dataflow.ValueState, Value: reflect.TypeFor[deepActor[string]]()},
		{Name: "dated", Kind: dataflow.ValueState, Value: num},
		{Name: "list", Kind: dataflow.ListState, Value: str},
		{Name: ActorTimers, Kind: dataflow.TimerIndex, Panes: true},
		{Name: "ttl", Kind: dataflow.MapState, Key: str, Value: num},
	}
}

func useHandles(r *Run[string], e *event[string]) bool {
	c := &r.Core
	word := fmt.Sprintf("%s-%d", e.Name, e.N)
	var got any
	switch e.Op {
	case "vset":
		hValue.Set(c, word)
		hDated.Set(c, e.N)
		return true
	case "vget":
		v, _ := hValue.Get(c)
		d, _ := hDated.Get(c)
		got = fmt.Sprint(v, d)
	case "vclear":
		hValue.Clear(c)
		hDated.Clear(c)
		return true
	case "mput":
		hMap.Put(c, e.Sub, e.N)
		hTTL.Put(c, e.Sub, e.N)
		return true
	case "mget":
		v, _ := hMap.Get(c, e.Sub)
		d, _ := hTTL.Get(c, e.Sub)
		got = fmt.Sprint(v, d)
	case "mdel":
		hMap.Delete(c, e.Sub)
		hTTL.Delete(c, e.Sub)
		return true
	case "mall":
		var all []string
		for k, v := range hMap.All(c) {
			all = append(all, fmt.Sprint(k, "=", v))
		}
		for k, v := range hTTL.All(c) {
			all = append(all, fmt.Sprint(k, "~", v))
		}
		got = sortedStrings(all)
	case "mclear":
		hMap.Clear(c)
		hTTL.Clear(c)
		return true
	case "lapp":
		hList.Append(c, wide(word))
		return true
	case "lall":
		all := []string{}
		for v := range hList.All(c) {
			all = append(all, v)
		}
		got = fmt.Sprint(hList.Len(c), all)
	case "lclear":
		hList.Clear(c)
		return true
	default:
		return false
	}
	r.Emit(fmt.Sprintf("%v %s %v", e.Key, e.Op, got))
	return true
}

var handleOps = append(append([]string{"vset", "vget", "vclear", "mput", "mput", "mput", "mget", "mdel", "mall", "mclear",
	"lapp", "lapp", "lapp", "lapp", "lapp", "lapp", "lapp", "lapp", "lall", "lclear"}, plainOps...), slices.Repeat([]string{"lapp"}, 60)...)

// State handles do what plain maps and slices do, through freezes, undos,
// evictions, expiry and restores.
func TestHandlesAgainstModel(t *testing.T) {
	mk := func() (spi.Runner, error) {
		return NewActors(ActorSpec[string, *deepActor[string], string]{
			Init:  func() *deepActor[string] { return &deepActor[string]{Param: 42} },
			Timer: func(a *deepActor[string], r *Run[string], name string, at int64) { a.onTimer(r, name, at) },
			Inputs: []ActorInput[string, *deepActor[string], string]{NewActorInput(
				func(e event[string]) string { return e.Key },
				func(a *deepActor[string], r *Run[string], e *event[string]) {
					if !useHandles(r, e) {
						a.receive(r, e)
					}
				})},
			States: []Handle{hList, hMap, hValue, hDated, hTTL},
		}, new(Sides))
	}
	for seed := range uint64(9) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			ref := newModel[string]()
			ref.handles = newHandleModel[string]()
			s := &suite[event[string]]{
				t: t, rnd: rand.New(rand.NewPCG(seed, 11)), make: mk, state: handleStates(), model: ref,
				step: []int64{1000, 5_000_000, 90_000_000}[seed/3%3],
			}
			s.gen = actorGen(s, []int{2, 20, 200}[seed%3], func(i int) string { return fmt.Sprint("k", i) }, handleOps)
			s.restore(map[string][]byte{}, 1)
			for s.total < 8000 {
				s.turn()
			}
		})
	}
}
