package subtask

import (
	"errors"
	"fmt"
	"iter"
	"math"

	"github.com/weirstream/weir/dataflow"
	"github.com/weirstream/weir/stream/spi"
)

// host is the engine as one operator sees it.
type host struct{ o *op }

var _ spi.Host = host{}

func (h host) Subtask() (index, parallelism int) {
	return h.o.m.cfg.Subtask.Index, h.o.cfg.Parallelism
}

func (h host) Groups() (owned dataflow.KeyGroups, total int) {
	return h.o.m.cfg.Groups, h.o.m.cfg.KeyGroups
}

// Room is the least of what the consumers of the port take. A port that leads
// nowhere takes everything.
func (h host) Room(p int) int {
	m := h.o.m
	if m.err != nil {
		return 0
	}
	if p >= len(h.o.outs) {
		return math.MaxInt32
	}
	n := math.MaxInt32
	for _, c := range h.o.outs[p].to {
		n = min(n, c.room())
	}
	return n
}

func (h host) Send(p int, b spi.Batch) spi.Batch {
	if p >= len(h.o.outs) || len(h.o.outs[p].to) == 0 {
		b.Reset()
		return b
	}
	if b.Len() == 0 {
		return b
	}
	o := h.o
	o.rowsOut += int64(b.Len())
	pt := &o.outs[p]
	kept := false
	for i, c := range pt.to {
		kept = c.take(b, i == len(pt.to)-1)
	}
	if !kept {
		b.Reset()
		return b
	}
	if n := len(pt.free); n > 0 {
		f := pt.free[n-1]
		pt.free = pt.free[:n-1]
		return f
	}
	if e, ok := pt.to[len(pt.to)-1].(*out); ok {
		if f := e.pick(); f != nil {
			return f
		}
	}
	return b.New(o.m.cfg.BatchRows)
}

func (h host) State(name string) (id dataflow.StateID, key, value spi.Codec, err error) {
	if h.o.cfg.State == nil {
		return 0, nil, nil, fmt.Errorf("subtask: operator %q has no state %q", h.o.cfg.Name, name)
	}
	return h.o.cfg.State(name)
}

var errNoStore = errors.New("subtask: the chain has no store: its operators declare no state")

func (h host) Load(probes []uint64, keys [][]byte, got func(i int, row []byte) error) error {
	if s := h.o.m.cfg.Store; s != nil {
		return s.Load(probes, keys, got)
	}
	return errNoStore
}

func (h host) Scan(from, to []byte) iter.Seq2[[]byte, []byte] {
	if s := h.o.m.cfg.Store; s != nil {
		return s.Scan(from, to)
	}
	return func(func([]byte, []byte) bool) {}
}

func (h host) ScanErr() error {
	if s := h.o.m.cfg.Store; s != nil {
		return s.ScanErr()
	}
	return errNoStore
}

func (h host) Empty(id dataflow.StateID, group int) bool {
	s := h.o.m.cfg.Store
	return s == nil || s.Empty(id, group)
}

func (h host) Now() int64 { return h.o.m.now }

func (h host) Watermark() int64 { return h.o.reached }

func (h host) Count(metric string, n int64) { h.o.m.fx.Count(h.o.i, metric, n) }
