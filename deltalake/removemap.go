package deltalake

import (
	"iter"
	"maps"
)

// removeMap is the tombstones of a version. It forks as a fileSet does: a shared base and a small overlay, in
// which nil hides a key of the base. Forking costs the overlay, which stays near
// the square root of the base.
type removeMap struct {
	base  map[fileKey]*RemoveFile
	over  map[fileKey]*RemoveFile
	owned bool // base may be changed
	count int
}

func newRemoveMap() removeMap {
	return removeMap{base: map[fileKey]*RemoveFile{}, owned: true}
}

func (m *removeMap) len() int { return m.count }

func (m *removeMap) get(k fileKey) *RemoveFile {
	if v, ok := m.over[k]; ok {
		return v
	}
	return m.base[k]
}

func (m *removeMap) set(k fileKey, v *RemoveFile) {
	if m.get(k) == nil {
		m.count++
	}
	if m.owned {
		m.base[k] = v
	} else {
		m.over[k] = v
	}
}

func (m *removeMap) del(k fileKey) {
	if m.get(k) == nil {
		return
	}
	m.count--
	if m.owned {
		delete(m.base, k)
	} else if _, ok := m.base[k]; ok {
		m.over[k] = nil
	} else {
		delete(m.over, k)
	}
}

func (m *removeMap) freeze() { m.owned = false }

// fork copies the map. When it has to be built anew it leaves out what keep does not
// want; nil wants all.
func (m *removeMap) fork(keep func(*RemoveFile) bool) removeMap {
	if n := len(m.over); n*n > 4*len(m.base)+1024 {
		f := removeMap{base: make(map[fileKey]*RemoveFile, m.count+m.count/8), owned: true}
		for k, v := range m.base {
			if _, hidden := m.over[k]; !hidden && (keep == nil || keep(v)) {
				f.base[k] = v
			}
		}
		for k, v := range m.over {
			if v != nil && (keep == nil || keep(v)) {
				f.base[k] = v
			}
		}
		f.count = len(f.base)
		return f
	}
	over := make(map[fileKey]*RemoveFile, len(m.over)+4)
	maps.Copy(over, m.over)
	return removeMap{base: m.base, over: over, count: m.count}
}

func (m *removeMap) all() iter.Seq[*RemoveFile] {
	return func(yield func(*RemoveFile) bool) {
		for k, v := range m.base {
			if _, hidden := m.over[k]; !hidden && !yield(v) {
				return
			}
		}
		for _, v := range m.over {
			if v != nil && !yield(v) {
				return
			}
		}
	}
}
