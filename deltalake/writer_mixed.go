package deltalake

import (
	"cmp"
	"slices"
)

// A rowGroup is the rows of a batch that belong to one partition.
type rowGroup struct {
	key    string
	values map[string]*string
	rows   []int32
}

// mixedRows are rows of partitions without an open file. Where a source runs through
// more partitions than may be open, they wait here, so that a partition gets a file per
// buffer and not one per batch.
type mixedRows struct {
	rows   *Batch // data columns
	owners []int32
	parts  []*rowGroup
	byKey  map[string]int32
}

// put adds rows of one partition.
func (m *mixedRows) put(data *Batch, g *rowGroup) {
	i, ok := m.byKey[g.key]
	if !ok {
		i = int32(len(m.parts))
		m.byKey[g.key] = i
		m.parts = append(m.parts, &rowGroup{key: g.key, values: g.values})
	}
	m.rows.Gather(data, g.rows)
	for range g.rows {
		m.owners = append(m.owners, i)
	}
}

// bytes is roughly the memory of all that waits.
func (m *mixedRows) bytes() int64 {
	return m.rows.Bytes()*3/2 + int64(len(m.owners))*8 + int64(len(m.parts))*512
}

// sorted returns the partitions with their rows, those with most of them last: they
// are the ones whose files are left open.
func (m *mixedRows) sorted() []*rowGroup {
	for r, i := range m.owners {
		m.parts[i].rows = append(m.parts[i].rows, int32(r))
	}
	slices.SortFunc(m.parts, func(a, b *rowGroup) int {
		return cmp.Or(cmp.Compare(len(a.rows), len(b.rows)), cmp.Compare(a.key, b.key))
	})
	return m.parts
}

// scatter writes the groups of a batch: to open files, to new ones while there is
// room, and else to the rows that wait.
func (w *PartitionWriter) scatter(data *Batch, groups []*rowGroup) error {
	fresh := 0
	for _, g := range groups {
		if w.open[g.key] == nil {
			fresh++
		}
	}
	wait := w.mixed != nil || len(w.open)+fresh > w.opts.MaxOpen
	for _, g := range groups {
		if wait && w.open[g.key] == nil {
			if w.mixed == nil {
				w.mixed = &mixedRows{rows: NewBatch(w.spec.data), byKey: map[string]int32{}}
			}
			w.mixed.put(data, g)
			continue
		}
		part := data
		if len(g.rows) < data.Len {
			part = NewBatch(w.spec.data)
			part.Gather(data, g.rows)
		}
		if err := w.write(g.values, g.key, part); err != nil {
			return err
		}
	}
	if w.mixed != nil && w.mixed.bytes() > w.opts.Buffer {
		return w.settle()
	}
	return nil
}

// settle writes the rows that wait.
func (w *PartitionWriter) settle() error {
	m := w.mixed
	if m == nil {
		return nil
	}
	w.mixed = nil
	for _, g := range m.sorted() {
		part := NewBatch(w.spec.data)
		part.Gather(m.rows, g.rows)
		g.rows = nil
		if err := w.write(g.values, g.key, part); err != nil {
			return err
		}
	}
	return nil
}
