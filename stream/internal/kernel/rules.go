package kernel

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	"slices"
	"unsafe"

	"github.com/weirstream/weir/stream/spi"
)

// maxRules bounds what one operator keeps, since it rides in every manifest and in
// the message that carries it.
const maxRules = 2 << 20

// A RulesHandle is a map that every subtask of an operator holds whole: the newest
// row for each key of a broadcast input. It is the same in all of them, so
// subtask 0 alone keeps it in a checkpoint (spi.Runner.Extra), from where every
// subtask of a restore takes it.
type RulesHandle[K comparable, V any] struct {
	Name string
	Key  func(V) K
}

// A rule is one entry.
type rule[K comparable, V any] struct {
	key   K
	value V
	at    int64 // event time of the row
	k, v  []byte
}

// rules is a RulesHandle in one subtask.
type rules[K comparable, V any] struct {
	h      *RulesHandle[K, V]
	core   *Core
	key    spi.Codec
	value  spi.Codec
	byKey  map[K]*rule[K, V]
	sorted []*rule[K, V] // by k; nil after a key was added
	bytes  int64         // of keys and values, encoded
	kept   []byte        // what extra returned; nil after a change
}

// open implements Handle.
func (h *RulesHandle[K, V]) open(c *Core, _ ownerTable) (handleImpl, error) {
	_, key, value, err := c.host.State(h.Name)
	if err != nil {
		return nil, err
	}
	x := &rules[K, V]{h: h, core: c, key: key, value: value, byKey: map[K]*rule[K, V]{}}
	if err := x.restore(c.extra); err != nil {
		return nil, fmt.Errorf("stream: rules %q: %w", h.Name, err)
	}
	return x, nil
}

// put keeps a row unless a newer one has its key.
func (x *rules[K, V]) put(v V, at int64) error {
	k := x.h.Key(v)
	old := x.byKey[k]
	if old != nil && old.at > at {
		return nil
	}
	r := &rule[K, V]{at: at}
	var err error
	if r.k, err = x.key.Append(nil, unsafe.Pointer(&k)); err != nil {
		return fmt.Errorf("stream: rules %q: key %v: %w", x.h.Name, k, err)
	}
	if r.v, err = x.value.Append(nil, unsafe.Pointer(&v)); err != nil {
		return fmt.Errorf("stream: rules %q: rule %v: %w", x.h.Name, k, err)
	}
	return x.set(r)
}

// set takes an entry of which k, v and at are set. Key and value are decoded from
// them, so that what is read does not depend on whether there was a restart.
func (x *rules[K, V]) set(r *rule[K, V]) error {
	if err := x.key.Decode(r.k, unsafe.Pointer(&r.key), nil); err != nil {
		return fmt.Errorf("stream: rules %q: a key: %w", x.h.Name, err)
	}
	if err := x.value.Decode(r.v, unsafe.Pointer(&r.value), nil); err != nil {
		return fmt.Errorf("stream: rules %q: rule %v: %w", x.h.Name, r.key, err)
	}
	x.bytes += int64(len(r.k) + len(r.v))
	if old := x.byKey[r.key]; old != nil {
		x.bytes -= int64(len(old.k) + len(old.v))
		r.k = old.k
		*old = *r
	} else {
		x.byKey[r.key] = r
		x.sorted = nil
	}
	x.kept = nil
	if x.bytes > maxRules {
		return fmt.Errorf("stream: rules %q: %d of them take more than %d bytes, which every subtask and every checkpoint would hold: keep large tables as keyed state (Connect)", x.h.Name, len(x.byKey), maxRules)
	}
	return nil
}

// order returns the entries by their encoded keys, the same in every subtask.
func (x *rules[K, V]) order() []*rule[K, V] {
	if x.sorted == nil && len(x.byKey) > 0 {
		x.sorted = make([]*rule[K, V], 0, len(x.byKey))
		for _, r := range x.byKey {
			x.sorted = append(x.sorted, r)
		}
		slices.SortFunc(x.sorted, func(a, b *rule[K, V]) int { return bytes.Compare(a.k, b.k) })
	}
	return x.sorted
}

// extra returns the entries for a checkpoint, from subtask 0 only: version 1, then
// for each entry the length and bytes of its key, its time, the length and bytes of
// its value.
func (x *rules[K, V]) extra() []byte {
	if index, _ := x.core.host.Subtask(); index != 0 || len(x.byKey) == 0 {
		return nil
	}
	if x.kept == nil {
		b := []byte{1}
		for _, r := range x.order() {
			b = append(binary.AppendUvarint(b, uint64(len(r.k))), r.k...)
			b = binary.AppendVarint(b, r.at)
			b = append(binary.AppendUvarint(b, uint64(len(r.v))), r.v...)
		}
		x.kept = b
	}
	return x.kept
}

func (x *rules[K, V]) restore(b []byte) error {
	if len(b) == 0 {
		return nil
	}
	if b[0] != 1 {
		return fmt.Errorf("version %d of what was kept is not known", b[0])
	}
	text := func() ([]byte, bool) {
		n, w := binary.Uvarint(b)
		if w <= 0 || n > uint64(len(b)-w) {
			return nil, false
		}
		t := bytes.Clone(b[w : w+int(n)])
		b = b[w+int(n):]
		return t, true
	}
	for b = b[1:]; len(b) > 0; {
		r := new(rule[K, V])
		var ok bool
		if r.k, ok = text(); !ok {
			return errDamagedRules
		}
		var w int
		if r.at, w = binary.Varint(b); w <= 0 {
			return errDamagedRules
		}
		b = b[w:]
		if r.v, ok = text(); !ok {
			return errDamagedRules
		}
		if err := x.set(r); err != nil {
			return err
		}
	}
	return nil
}

var errDamagedRules = errors.New("what was kept breaks off")

// The rest of handleImpl: nothing here belongs to a key or is a row.

func (*rules[K, V]) clear()                    {}
func (*rules[K, V]) settle()                   {}
func (*rules[K, V]) freeze(runs []*run) []*run { return runs }
func (*rules[K, V]) thaw(error)                {}
func (*rules[K, V]) evict(int64) int64         { return 0 }
func (x *rules[K, V]) memory() (total, dirty int64) {
	n := 2*x.bytes + int64(len(x.byKey))*128
	return n, n // it cannot be evicted
}

// Get returns the rule of a key.
func (h *RulesHandle[K, V]) Get(c *Core, k K) (v V, ok bool) {
	if r := implOf[*rules[K, V]](c, h, h.Name).byKey[k]; r != nil {
		return r.value, true
	}
	return v, false
}

// Len returns the number of rules.
func (h *RulesHandle[K, V]) Len(c *Core) int { return len(implOf[*rules[K, V]](c, h, h.Name).byKey) }

// All yields the rules in an order that all subtasks have.
func (h *RulesHandle[K, V]) All(c *Core) iter.Seq2[K, V] {
	x := implOf[*rules[K, V]](c, h, h.Name)
	return func(yield func(K, V) bool) {
		for _, r := range x.order() {
			if !yield(r.key, r.value) {
				return
			}
		}
	}
}

// rulesInput is the input port of a RulesHandle.
type rulesInput[K comparable, A, Out any, RK comparable, R any] struct{ h *RulesHandle[RK, R] }

// NewRulesInput returns the input port whose rows h keeps. They emit nothing.
func NewRulesInput[K comparable, A, Out any, RK comparable, R any](h *RulesHandle[RK, R]) ActorInput[K, A, Out] {
	return rulesInput[K, A, Out, RK, R]{h}
}

func (rulesInput[K, A, Out, RK, R]) newBatch(capacity int) spi.Batch { return NewRows[R](capacity) }

func (p rulesInput[K, A, Out, RK, R]) step(x *actors[K, A, Out], batch spi.Batch, from int) (int, error) {
	in := batch.(*Rows[R])
	to := implOf[*rules[RK, R]](&x.Core, p.h, p.h.Name)
	for i := from; i < len(in.Values); i++ {
		if err := to.put(in.Values[i], in.Meta.Times[i]); err != nil {
			return i - from, err
		}
	}
	return len(in.Values) - from, nil
}
