package deltalake

import (
	"fmt"
	"iter"
	"maps"
	"slices"
	"strings"
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
	files    fileSet
	removes  removeMap
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
	sortFiles(out)
	return out
}

// AllFiles yields the live data files in no order. Where there are very many it
// takes far less memory than Files: the snapshot keeps them packed.
func (s *Snapshot) AllFiles() iter.Seq[*AddFile] { return s.files.all() }

func sortFiles(files []*AddFile) {
	slices.SortFunc(files, func(a, b *AddFile) int {
		if c := strings.Compare(a.Path, b.Path); c != 0 || a.DeletionVector == nil && b.DeletionVector == nil {
			return c
		}
		return strings.Compare(a.DeletionVector.uniqueID(), b.DeletionVector.uniqueID())
	})
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
	c.files = s.files.fork()
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
		if old, ok := s.files.find(k); ok {
			s.count(old, -1)
		}
		s.count(fileFacts{a.Add.Size, a.Add.DeletionVector}, 1)
		s.files.set(k, a.Add)
		s.removes.del(k)
	case a.Remove != nil:
		k := a.Remove.key()
		if old, ok := s.files.find(k); ok {
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
