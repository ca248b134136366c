package deltalake

import (
	"iter"
	"maps"
)

// fileSet is the data files of a version. It forks cheaply: a pack that versions
// share and a small overlay, in which nil hides a file of the pack. Forking costs
// the overlay, which stays near the square root of the pack.
type fileSet struct {
	base  *filePack
	over  map[fileKey]*AddFile
	owned bool // base may be changed
	count int
}

func newFileSet() fileSet { return fileSet{base: &filePack{}, owned: true} }

func (m *fileSet) len() int { return m.count }

// fileFacts are what replay has to know of a file that goes.
type fileFacts struct {
	size   int64
	vector *DeletionVector
}

// find tells whether a file is in the set, and its facts.
func (m *fileSet) find(k fileKey) (f fileFacts, ok bool) {
	if a, ok := m.over[k]; ok {
		if a == nil {
			return f, false
		}
		return fileFacts{a.Size, a.DeletionVector}, true
	}
	row, ok := m.base.find(k)
	if !ok {
		return f, false
	}
	b, i := m.base.at(row)
	return fileFacts{b.sizes[i], b.vector(i)}, true
}

func (m *fileSet) has(k fileKey) bool {
	_, ok := m.find(k)
	return ok
}

// get returns a file; nil when the set has none of the key. Each call decodes it.
func (m *fileSet) get(k fileKey) *AddFile {
	if a, ok := m.over[k]; ok {
		return a
	}
	m.seal()
	if row, ok := m.base.find(k); ok {
		return m.base.get(row)
	}
	return nil
}

// set puts a file in; a is kept or copied.
func (m *fileSet) set(k fileKey, a *AddFile) {
	if !m.owned {
		if !m.has(k) {
			m.count++
		}
		m.over[k] = a
		return
	}
	if row, ok := m.base.find(k); ok {
		m.lose(row)
	} else {
		m.count++
	}
	m.base.add(k, a)
}

func (m *fileSet) del(k fileKey) {
	row, packed := m.base.find(k)
	if m.owned {
		if packed {
			m.count--
			m.lose(row)
		}
		return
	}
	if !m.has(k) {
		return
	}
	m.count--
	if packed {
		m.over[k] = nil
	} else {
		delete(m.over, k)
	}
}

// lose drops a row of a pack that may be changed, which is made anew when most of
// it is gone.
func (m *fileSet) lose(row uint32) {
	m.base.drop(row)
	if m.base.lost > blockRows && m.base.lost > m.base.len() {
		m.seal()
		m.base = m.base.fold(nil)
	}
}

// reserve makes room for n files in a set that is still empty.
func (m *fileSet) reserve(n int) {
	if m.owned && m.base.rows == 0 && 3*len(m.base.index) < 4*n {
		m.base.resize(4 * n / 3)
	}
}

func (m *fileSet) seal() {
	if m.owned {
		m.base.seal()
	}
}

func (m *fileSet) freeze() {
	m.seal()
	m.owned = false
	if m.over == nil {
		m.over = map[fileKey]*AddFile{}
	}
}

// fork copies the set.
func (m *fileSet) fork() fileSet {
	if n := len(m.over); n*n > 4*int(m.base.rows)+1024 {
		return fileSet{base: m.base.fold(m.over), over: map[fileKey]*AddFile{}, count: m.count}
	}
	over := make(map[fileKey]*AddFile, len(m.over)+4)
	maps.Copy(over, m.over)
	return fileSet{base: m.base, over: over, count: m.count}
}

// hidden are the rows of the pack that the overlay replaces or takes out.
func (m *fileSet) hidden() map[uint32]bool {
	var rows map[uint32]bool
	for k := range m.over {
		if row, ok := m.base.find(k); ok {
			if rows == nil {
				rows = map[uint32]bool{}
			}
			rows[row] = true
		}
	}
	return rows
}

// all yields the files, in an order that depends on their history.
func (m *fileSet) all() iter.Seq[*AddFile] { return m.each(true) }

// bare yields the files without their statistics, which is much faster.
func (m *fileSet) bare() iter.Seq[*AddFile] { return m.each(false) }

func (m *fileSet) each(stats bool) iter.Seq[*AddFile] {
	return func(yield func(*AddFile) bool) {
		m.seal()
		if m.base.each(0, len(m.base.blocks), stats, m.hidden(), yield) {
			for _, a := range m.overlay() {
				if !yield(a) {
					return
				}
			}
		}
	}
}

// overlay returns the files that are not in the pack, ordered by path.
func (m *fileSet) overlay() []*AddFile {
	var files []*AddFile
	for _, k := range sortedFileKeys(m.over) {
		if a := m.over[k]; a != nil {
			files = append(files, a)
		}
	}
	return files
}
