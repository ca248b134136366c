package deltalake

// encodedBudget is how many bytes of encoded row groups a Table keeps between two
// Delta checkpoints.
const encodedBudget = 32 << 20

// encodedBlock is the row group that a block of a pack became.
type encodedBlock struct {
	group *encodedGroup
	lost  int // rows of the block that are not in it
}

// files writes the live files of a snapshot of the table, a row group for each
// block of its pack. Blocks that have not changed since the last Delta checkpoint
// of the table are not encoded again: what a checkpoint costs is what is new, and
// the bytes to write.
func (w *checkpointWriter) files(set *fileSet) error {
	p := set.base
	hidden := set.hidden()
	lost := make([]int, len(p.blocks))
	for i, b := range p.blocks {
		for row := p.starts[i]; row < p.starts[i]+uint32(b.n); row++ {
			if p.isGone(row) || hidden[row] {
				lost[i]++
			}
		}
	}
	known := w.t.takeEncoded()
	kept, size := map[*fileBlock]encodedBlock{}, 0
	for i, b := range p.blocks {
		e, ok := known[b]
		if !ok || e.lost != lost[i] || e.group.leaves != len(w.rows.pq.schema.leaves) {
			if b.n-lost[i] < checkpointBatchRows { // not worth a row group
				if err := w.some(p, i, hidden); err != nil {
					return err
				}
				continue
			}
			var err error
			if e, err = w.encode(p, i, hidden, lost[i]); err != nil {
				return err
			}
		} else if err := w.rows.repeat(e.group, int64(b.n-lost[i])); err != nil {
			return err
		} else {
			w.adds += int64(b.n - lost[i])
		}
		if e.group != nil && size+len(e.group.data) <= encodedBudget {
			kept[b] = e
			size += len(e.group.data)
		}
	}
	w.t.keepEncoded(kept)
	for _, a := range set.overlay() {
		if err := w.add(a); err != nil {
			return err
		}
	}
	return nil
}

// some writes the rows of one block.
func (w *checkpointWriter) some(p *filePack, block int, hidden map[uint32]bool) error {
	var err error
	p.each(block, block+1, true, hidden, func(a *AddFile) bool {
		err = w.add(a)
		return err == nil
	})
	return err
}

func (w *checkpointWriter) encode(p *filePack, block int, hidden map[uint32]bool, lost int) (e encodedBlock, err error) {
	if err := w.rows.flush(); err != nil {
		return e, err
	}
	e.lost = lost
	e.group, err = w.rows.pq.capture(func() error {
		if err := w.some(p, block, hidden); err != nil {
			return err
		}
		return w.rows.flush()
	})
	return e, err
}

// repeat writes a row group of n actions that was written before.
func (r *checkpointRows) repeat(g *encodedGroup, n int64) error {
	if err := r.flush(); err != nil {
		return err
	}
	r.n += n
	return r.pq.repeat(g)
}

// takeEncoded returns the row groups of the last Delta checkpoint; nobody else has
// them until they are kept again.
func (t *Table) takeEncoded() map[*fileBlock]encodedBlock {
	t.mu.Lock()
	defer t.mu.Unlock()
	known := t.mu.encoded
	t.mu.encoded = nil
	return known
}

func (t *Table) keepEncoded(kept map[*fileBlock]encodedBlock) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.mu.encoded = kept
}
