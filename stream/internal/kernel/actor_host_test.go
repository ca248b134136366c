package kernel

import (
	"bytes"
	"encoding/json"
	"fmt"
	"iter"
	"reflect"
	"slices"
	"sort"
	"strings"
	"unsafe"

	"github.com/weirstream/weir/dataflow"
	"github.com/weirstream/weir/stream/spi"
)

// memHost is a Host over a plain map, for one operator of one subtask.
type memHost struct {
	store  map[string][]byte
	states []spi.StateType
	owned  dataflow.KeyGroups
	total  int
	room   int
	wm     int64
	now    int64
	sent   func(p int, b spi.Batch)
	counts map[string]int64
	loads  int
}

func (h *memHost) Subtask() (int, int)               { return 0, 1 }
func (h *memHost) Groups() (dataflow.KeyGroups, int) { return h.owned, h.total }
func (h *memHost) Room(int) int                      { return h.room }
func (h *memHost) Now() int64                        { return h.now }
func (h *memHost) Watermark() int64                  { return h.wm }
func (h *memHost) ScanErr() error                    { return nil }
func (h *memHost) Count(m string, n int64) {
	if h.counts == nil {
		h.counts = map[string]int64{}
	}
	h.counts[m] += n
}

func (h *memHost) Send(p int, b spi.Batch) spi.Batch {
	h.room -= b.Len()
	if h.sent != nil {
		h.sent(p, b)
	}
	b.Reset()
	return b
}

func (h *memHost) State(name string) (dataflow.StateID, spi.Codec, spi.Codec, error) {
	for i, s := range h.states {
		if s.Name != name {
			continue
		}
		var key, value spi.Codec
		if s.Key != nil {
			key = jsonCodec{s.Key}
		}
		if s.Value != nil {
			value = jsonCodec{s.Value}
		}
		return dataflow.StateID(i + 1), key, value, nil
	}
	return 0, nil, nil, fmt.Errorf("no state %q", name)
}

func (h *memHost) Load(probes []uint64, keys [][]byte, got func(i int, row []byte) error) error {
	h.loads++
	for i := len(keys) - 1; i >= 0; i-- {
		_, id := dataflow.RowGroup(keys[i])
		k, _ := dataflow.ParseRowKey(keys[i], h.states[id-1].Panes)
		if want := dataflow.FilterHash(k.State, k.Pane, k.Hash); probes[i] != want {
			return fmt.Errorf("probe %x of row %x, want %x", probes[i], keys[i], want)
		}
		row, ok := h.store[string(keys[i])]
		if ok && row == nil {
			row = []byte{}
		}
		if err := got(i, row); err != nil {
			return err
		}
	}
	return nil
}

func (h *memHost) Scan(from, to []byte) iter.Seq2[[]byte, []byte] {
	return func(yield func(k, v []byte) bool) {
		var keys []string
		for k := range h.store {
			if k >= string(from) && k < string(to) {
				keys = append(keys, k)
			}
		}
		slices.Sort(keys)
		for _, k := range keys {
			if !yield([]byte(k), h.store[k]) {
				return
			}
		}
	}
}

func (h *memHost) Empty(id dataflow.StateID, group int) bool {
	p := string(dataflow.AppendRowPrefix(nil, group, id))
	for k := range h.store {
		if strings.HasPrefix(k, p) {
			return false
		}
	}
	return true
}

// frozenWrite is what a Frozen yielded, checked for order.
type frozenWrite struct {
	drops []spi.Span
	keys  []string
	rows  [][]byte
}

func writeFrozen(f spi.Frozen) (*frozenWrite, error) {
	w := &frozenWrite{drops: f.Drops()}
	var last []byte
	var bad error
	err := f.Rows(func(k, v []byte) bool {
		if last != nil && bytes.Compare(last, k) >= 0 {
			bad = fmt.Errorf("row %x comes after %x", k, last)
			return false
		}
		last = append(last[:0], k...)
		w.keys = append(w.keys, string(k))
		if v != nil {
			v = append([]byte{}, v...)
		}
		w.rows = append(w.rows, v)
		return true
	})
	if err == nil {
		err = bad
	}
	return w, err
}

// apply ingests what was written.
func (h *memHost) apply(w *frozenWrite) {
	for _, d := range w.drops {
		for k := range h.store {
			if k >= string(d.From) && k < string(d.To) {
				delete(h.store, k)
			}
		}
	}
	for i, k := range w.keys {
		if w.rows[i] == nil {
			delete(h.store, k)
		} else {
			h.store[k] = w.rows[i]
		}
	}
}

// jsonCodec encodes exported fields as JSON.
type jsonCodec struct{ t reflect.Type }

func (c jsonCodec) Schema() string { return "" }

func (c jsonCodec) Append(dst []byte, p unsafe.Pointer) ([]byte, error) {
	b, err := json.Marshal(reflect.NewAt(c.t, p).Elem().Interface())
	return append(dst, b...), err
}

func (c jsonCodec) Decode(src []byte, p unsafe.Pointer, _ *spi.Arena) error {
	return json.Unmarshal(src, reflect.NewAt(c.t, p).Interface())
}

// sortedStrings returns a sorted copy.
func sortedStrings(s []string) []string {
	s = slices.Clone(s)
	sort.Strings(s)
	return s
}

// fixedCodec copies n bytes.
type fixedCodec struct{ n int }

func (c fixedCodec) Schema() string { return "" }

func (c fixedCodec) Append(dst []byte, p unsafe.Pointer) ([]byte, error) {
	return append(dst, unsafe.Slice((*byte)(p), c.n)...), nil
}

func (c fixedCodec) Decode(src []byte, p unsafe.Pointer, _ *spi.Arena) error {
	copy(unsafe.Slice((*byte)(p), c.n), src)
	return nil
}
