package deltalake

import (
	"fmt"
	"iter"
	"maps"
	"sort"
	"time"
)

// Snapshot is one version of a table. It is immutable and safe for concurrent
// use; it stays readable until Vacuum removes files that only it still names.
type Snapshot struct {
	table    *Table
	version  int64
	protocol *Protocol
	metadata *Metadata
	spec     *FileSpec
	files    fileMap[*AddFile]
	removes  fileMap[*RemoveFile]
	txns     map[string]Txn
	domains  map[string]DomainMetadata
	millis   int64 // time of the commit, milliseconds; 0 when its file is gone
	ict      int64 // in-commit timestamp of the version; 0 without
	bytes    int64 // of live files
	vectors  vectorCounts
	base     int64 // version of the Delta checkpoint that replay started from; -1 without
}

// Version returns the table version.
func (s *Snapshot) Version() int64 { return s.version }

// Protocol returns the protocol in force; do not change it.
func (s *Snapshot) Protocol() *Protocol { return s.protocol }

// Metadata returns the metadata in force; do not change it.
func (s *Snapshot) Metadata() *Metadata { return s.metadata }

// Schema returns the table's columns.
func (s *Snapshot) Schema() *Schema { return s.spec.schema }

// FileSpec returns what new data files must look like.
func (s *Snapshot) FileSpec() *FileSpec { return s.spec }

// Timestamp returns when the version was committed: its in-commit timestamp
// where the table keeps them, else the time of its log file.
func (s *Snapshot) Timestamp() time.Time {
	if s.ict != 0 {
		return time.UnixMilli(s.ict)
	}
	return time.UnixMilli(s.millis)
}

// NumFiles returns the number of live data files.
func (s *Snapshot) NumFiles() int { return s.files.len() }

// SizeBytes returns the bytes of the live data files.
func (s *Snapshot) SizeBytes() int64 { return s.bytes }

// NumRows returns the live rows, and false when a file's statistics are missing.
func (s *Snapshot) NumRows() (int64, bool) {
	var rows int64
	for a := range s.files.all() {
		n, ok := a.NumRecords()
		if !ok {
			return 0, false
		}
		if a.DeletionVector != nil {
			n -= a.DeletionVector.Cardinality
		}
		rows += n
	}
	return rows, true
}

// TargetFileSize returns the size that data files should grow to:
// delta.targetFileSize, or 128 MiB.
func (s *Snapshot) TargetFileSize() int64 { return targetBytes(s.metadata) }

// Files returns the live data files, ordered by path.
func (s *Snapshot) Files() []*AddFile {
	out := make([]*AddFile, 0, s.files.len())
	for a := range s.files.all() {
		out = append(out, a)
	}
	sort.Slice(out, func(i, j int) bool {
		if out[i].Path != out[j].Path {
			return out[i].Path < out[j].Path
		}
		return out[i].DeletionVector.uniqueID() < out[j].DeletionVector.uniqueID()
	})
	return out
}

// TxnVersion returns the last version that appID committed, and false when it
// never did.
func (s *Snapshot) TxnVersion(appID string) (int64, bool) {
	t, ok := s.txns[appID]
	return t.Version, ok
}

// Txns returns the recorded version of every application.
func (s *Snapshot) Txns() map[string]int64 {
	out := make(map[string]int64, len(s.txns))
	for id, t := range s.txns {
		out[id] = t.Version
	}
	return out
}

// Domain returns the configuration of a metadata domain.
func (s *Snapshot) Domain(name string) (string, bool) {
	d, ok := s.domains[name]
	return d.Configuration, ok
}

// property returns a table property, or def.
func (s *Snapshot) property(name, def string) string {
	if v, ok := s.metadata.Configuration[name]; ok {
		return v
	}
	return def
}

func (s *Snapshot) keepsTime() bool { return s.metadata.keepsTime() }

// fork returns a copy that later commits can be applied to.
func (s *Snapshot) fork() *Snapshot {
	c := *s
	oldest := s.table.opts.Now().Add(-s.tombstoneRetention()).UnixMilli()
	c.files = s.files.fork(nil)
	c.removes = s.removes.fork(func(r *RemoveFile) bool { return r.DeletionTimestamp >= oldest })
	c.txns, c.domains = maps.Clone(s.txns), maps.Clone(s.domains)
	return &c
}

// apply adds the effect of one action; it is only called before the snapshot is
// handed out.
func (s *Snapshot) apply(a *action) error {
	switch {
	case a.Add != nil:
		k := a.Add.key()
		if k.path == "" {
			return fmt.Errorf("deltalake: an add action has no path")
		}
		if old := s.files.get(k); old != nil {
			s.count(old, -1)
		}
		s.count(a.Add, 1)
		s.files.set(k, a.Add)
		s.removes.del(k)
	case a.Remove != nil:
		k := a.Remove.key()
		if old := s.files.get(k); old != nil {
			s.count(old, -1)
			s.files.del(k)
		}
		r := a.Remove
		if r.Stats != "" { // a tombstone stays for days, and nobody asks what was in the file
			c := *r
			c.Stats = ""
			r = &c
		}
		s.removes.set(k, r)
	case a.Metadata != nil:
		s.metadata, s.spec = a.Metadata, nil
	case a.Protocol != nil:
		s.protocol = a.Protocol
	case a.Txn != nil:
		s.txns[a.Txn.AppID] = *a.Txn
	case a.Domain != nil:
		if a.Domain.Domain == clusteringDomain {
			s.spec = nil
		}
		if a.Domain.Removed {
			delete(s.domains, a.Domain.Domain)
		} else {
			s.domains[a.Domain.Domain] = *a.Domain
		}
	case a.CommitInfo != nil:
		if t := a.CommitInfo.InCommitTimestamp; t != nil {
			s.ict = *t
		}
	}
	return nil
}

// finish checks a replayed snapshot and makes it immutable.
func (s *Snapshot) finish() error {
	if s.protocol == nil {
		return s.lacks("protocol")
	}
	if s.metadata == nil {
		return s.lacks("metadata")
	}
	if err := s.protocol.checkRead(); err != nil {
		return err
	}
	if p := s.metadata.Format.Provider; p != "" && p != "parquet" {
		return fmt.Errorf("deltalake: the table's files have format %q, only parquet is supported", p)
	}
	if !s.keepsTime() {
		s.ict = 0
	}
	if s.spec == nil {
		spec, err := NewFileSpec(s.metadata)
		if err != nil {
			return err
		}
		s.spec = spec
		s.spec.clustered, _, _ = s.clustering() // a reader has no need of it; writers check it
	}
	s.files.freeze()
	s.removes.freeze()
	return nil
}

// lacks reports an action that every version has. A Delta checkpoint that is whole
// but lacks it lost it, and perhaps more: the commits before it are not asked.
func (s *Snapshot) lacks(what string) error {
	from := ""
	if s.base >= 0 {
		from = fmt.Sprintf(", nor has its checkpoint of version %d", s.base)
	}
	return fmt.Errorf("deltalake: version %d has no %s action%s; the log is damaged", s.version, what, from)
}

// fileMap is a map that forks cheaply: a shared base and a small overlay, in
// which nil hides a key of the base. Forking costs the overlay, which stays near
// the square root of the base.
type fileMap[V interface{ *AddFile | *RemoveFile }] struct {
	base  map[fileKey]V
	over  map[fileKey]V
	owned bool // base may be changed
	count int
}

func newFileMap[V interface{ *AddFile | *RemoveFile }]() fileMap[V] {
	return fileMap[V]{base: map[fileKey]V{}, owned: true}
}

func (m *fileMap[V]) len() int { return m.count }

func (m *fileMap[V]) get(k fileKey) V {
	if v, ok := m.over[k]; ok {
		return v
	}
	return m.base[k]
}

func (m *fileMap[V]) set(k fileKey, v V) {
	if m.get(k) == nil {
		m.count++
	}
	if m.owned {
		m.base[k] = v
	} else {
		m.over[k] = v
	}
}

func (m *fileMap[V]) del(k fileKey) {
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

// reserve makes room for n files in a map that is still empty.
func (m *fileMap[V]) reserve(n int) {
	if m.owned && m.count == 0 && n > len(m.base) {
		m.base = make(map[fileKey]V, n)
	}
}

func (m *fileMap[V]) freeze() { m.owned = false }

// fork copies the map. When it has to be built anew it leaves out what keep does not
// want; nil wants all.
func (m *fileMap[V]) fork(keep func(V) bool) fileMap[V] {
	if n := len(m.over); n*n > 4*len(m.base)+1024 {
		f := fileMap[V]{base: make(map[fileKey]V, m.count+m.count/8), owned: true}
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
	over := make(map[fileKey]V, len(m.over)+4)
	maps.Copy(over, m.over)
	return fileMap[V]{base: m.base, over: over, count: m.count}
}

func (m *fileMap[V]) all() iter.Seq[V] {
	return func(yield func(V) bool) {
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
