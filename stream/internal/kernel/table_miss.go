package kernel

import (
	"github.com/weirstream/weir/dataflow"
	"github.com/weirstream/weir/stream/spi"
)

// misses collects the keys that have to be loaded.
type misses struct {
	probes []uint64
	keys   [][]byte
	ids    []uint32
	buf    []byte
	tmp    []byte
}

func (m *misses) reset() {
	m.probes, m.keys, m.ids, m.buf = m.probes[:0], m.keys[:0], m.ids[:0], m.buf[:0]
}

// key returns the key of an entry; it is valid until the next call.
func (m *misses) key(t *table, id uint32) []byte {
	m.tmp = t.appendKey(m.tmp[:0], t.at(id))
	return m.tmp
}

func (m *misses) add(t *table, hash uint32, key []byte) {
	if cap(m.buf)-len(m.buf) < len(key)+32 {
		m.buf = make([]byte, 0, max(16<<10, len(key)+32)) // keys already cut stay where they are
	}
	from := len(m.buf)
	g := dataflow.GroupOf(hash, t.groups.total)
	if t.lay.marked {
		m.buf = dataflow.AppendPaneRowKey(m.buf, g, t.id, t.pane, hash, key)
	} else {
		m.buf = dataflow.AppendRowKey(m.buf, g, t.id, hash, key)
	}
	m.keys = append(m.keys, m.buf[from:len(m.buf):len(m.buf)])
	m.probes = append(m.probes, dataflow.FilterHash(t.id, t.pane, hash))
}

func (m *misses) load(h spi.Host, got func(i int, row []byte) error) error {
	if len(m.keys) == 0 {
		return nil
	}
	return h.Load(m.probes, m.keys, got)
}
