package deltalake

import (
	"context"
	"fmt"
	"strings"
)

// readCheckpoint applies the files of one Delta checkpoint to an empty snapshot.
func (t *Table) readCheckpoint(ctx context.Context, s *Snapshot, files []logFile) error {
	for i := range files {
		f := &files[i]
		if strings.HasSuffix(f.info.Path, ".json") {
			if err := t.readJSONCheckpoint(ctx, s, f); err != nil {
				return err
			}
			continue
		}
		if err := t.readParquetCheckpoint(ctx, s, f.info.Path, f.info.Size, true); err != nil {
			return err
		}
	}
	if s.protocol == nil || s.metadata == nil {
		return fmt.Errorf("deltalake: the checkpoint of version %d lacks its protocol or metadata", files[0].version)
	}
	return nil
}

func (t *Table) readJSONCheckpoint(ctx context.Context, s *Snapshot, f *logFile) error {
	actions, err := t.readCommit(ctx, f, false)
	if err != nil {
		return err
	}
	for i := range actions {
		if sc := actions[i].Sidecar; sc != nil {
			if err := t.readSidecar(ctx, s, sc.Path, sc.SizeInBytes); err != nil {
				return err
			}
			continue
		}
		if err := s.apply(&actions[i]); err != nil {
			return err
		}
	}
	return nil
}

// readSidecar reads the file actions of a V2 checkpoint; paths without a folder
// are below _sidecars.
func (t *Table) readSidecar(ctx context.Context, s *Snapshot, path string, size int64) error {
	path = decodePath(path)
	if !strings.Contains(path, "/") {
		path = sidecarDir + path
	}
	if s.sidecars != nil {
		s.sidecars[path] = true
	}
	return t.readParquetCheckpoint(ctx, s, path, size, false)
}

// readFields are the columns of any checkpoint that replay needs, and those of V2.
func readFields() []Field {
	fields := checkpointFields()
	str, long := Of(KindString), Of(KindLong)
	return append(fields, Col("sidecar", StructOf(Col("path", str), Col("sizeInBytes", long), Col("modificationTime", long),
		Col("tags", &Type{Kind: KindMap, Key: str, Elem: str, ContainsNull: true}))))
}

func (t *Table) readParquetCheckpoint(ctx context.Context, s *Snapshot, path string, size int64, sidecars bool) error {
	f, err := openParquet(ctx, t.store, path, size)
	if err != nil {
		return err
	}
	fields := readFields()
	parsed := f.parsedStats()
	if parsed != nil {
		fields[1].Type.Fields = append(fields[1].Type.Fields, Col("stats_parsed", parsed))
	}
	p, plans, err := planFile(f, fields, nil)
	if err != nil {
		return err
	}
	for g := range f.meta.groups {
		r, err := newGroupReader(ctx, f, g, p, plans)
		if err != nil {
			return err
		}
		for {
			cols, n, err := r.next(8192)
			if err != nil {
				return fmt.Errorf("deltalake: checkpoint %s: %w", path, err)
			}
			if n == 0 {
				break
			}
			if err := s.applyColumns(cols, n); err != nil {
				return fmt.Errorf("%w (checkpoint %s)", err, path)
			}
			for i := 0; sidecars && i < n; i++ {
				if sc := cols[6]; !sc.Null(i) {
					size, _ := longAt(sc.Children[1], i)
					if err := t.readSidecar(ctx, s, textAt(sc.Children[0], i), size); err != nil {
						return err
					}
				}
			}
		}
	}
	return nil
}

// addFields counts the columns of an add; stats_parsed may follow them.
const addFields = 11

// applyColumns applies a batch of checkpoint rows.
func (s *Snapshot) applyColumns(cols []*Vector, n int) error {
	txn, add, rem, meta, prot, dom := cols[0], cols[1], cols[2], cols[3], cols[4], cols[5]
	for i := range n {
		var a action
		switch {
		case !add.Null(i):
			c := add.Children
			f := &AddFile{
				Path: textAt(c[0], i), PartitionValues: mapAt(c[1], i), DataChange: false, Stats: textAt(c[5], i), Tags: mapAt(c[6], i),
				DeletionVector: vectorAt(c[7], i), ClusteringProvider: textAt(c[10], i),
			}
			if f.Stats == "" && len(c) > addFields {
				f.Stats = parsedStatsJSON(c[addFields], i)
			}
			f.Size, _ = longAt(c[2], i)
			f.ModificationTime, _ = longAt(c[3], i)
			f.BaseRowID, f.DefaultRowCommitVersion = longPtr(c[8], i), longPtr(c[9], i)
			a.Add = f
		case !rem.Null(i):
			c := rem.Children
			f := &RemoveFile{
				Path: textAt(c[0], i), ExtendedFileMetadata: flagAt(c[3], i), PartitionValues: mapAt(c[4], i), Size: longPtr(c[5], i),
				Tags: mapAt(c[6], i), DeletionVector: vectorAt(c[7], i), BaseRowID: longPtr(c[8], i), DefaultRowCommitVersion: longPtr(c[9], i),
			}
			f.DeletionTimestamp, _ = longAt(c[1], i)
			a.Remove = f
		case !txn.Null(i):
			v, ok := longAt(txn.Children[1], i)
			if !ok {
				continue
			}
			a.Txn = &Txn{AppID: textAt(txn.Children[0], i), Version: v, LastUpdated: longPtr(txn.Children[2], i)}
		case !meta.Null(i):
			c := meta.Children
			m := &Metadata{
				ID: textAt(c[0], i), Name: textAt(c[1], i), Description: textAt(c[2], i), SchemaString: textAt(c[4], i),
				PartitionColumns: listAt(c[5], i), Configuration: plainMapAt(c[6], i),
				Format: Format{Provider: textAt(c[3].Children[0], i), Options: plainMapAt(c[3].Children[1], i)},
			}
			m.CreatedTime, _ = longAt(c[7], i)
			a.Metadata = m
		case !prot.Null(i):
			c := prot.Children
			p := &Protocol{}
			if !c[0].Null(i) {
				p.MinReaderVersion = int(c[0].Ints[i])
			}
			if !c[1].Null(i) {
				p.MinWriterVersion = int(c[1].Ints[i])
			}
			if !c[2].Null(i) {
				l := listAt(c[2], i)
				p.ReaderFeatures = &l
			}
			if !c[3].Null(i) {
				l := listAt(c[3], i)
				p.WriterFeatures = &l
			}
			a.Protocol = p
		case !dom.Null(i):
			c := dom.Children
			a.Domain = &DomainMetadata{Domain: textAt(c[0], i), Configuration: textAt(c[1], i), Removed: flagAt(c[2], i)}
		default:
			continue
		}
		if err := s.apply(&a); err != nil {
			return err
		}
	}
	return nil
}

func textAt(v *Vector, i int) string {
	if v.Null(i) {
		return ""
	}
	return v.StringAt(i)
}

func longAt(v *Vector, i int) (int64, bool) {
	if v.Null(i) {
		return 0, false
	}
	return v.Longs[i], true
}

func longPtr(v *Vector, i int) *int64 {
	if v.Null(i) {
		return nil
	}
	x := v.Longs[i]
	return &x
}

func flagAt(v *Vector, i int) bool { return !v.Null(i) && v.Bools[i] }

func listAt(v *Vector, i int) []string {
	out := []string{}
	if v.Null(i) {
		return out
	}
	for k := v.Offsets[i]; k < v.Offsets[i+1]; k++ {
		out = append(out, textAt(v.Children[0], int(k)))
	}
	return out
}

func mapAt(v *Vector, i int) map[string]*string {
	if v.Null(i) {
		return nil
	}
	out := make(map[string]*string, v.Offsets[i+1]-v.Offsets[i])
	for k := v.Offsets[i]; k < v.Offsets[i+1]; k++ {
		var val *string
		if !v.Children[1].Null(int(k)) {
			s := v.Children[1].StringAt(int(k))
			val = &s
		}
		out[textAt(v.Children[0], int(k))] = val
	}
	return out
}

func plainMapAt(v *Vector, i int) map[string]string {
	out := map[string]string{}
	for k, s := range mapAt(v, i) {
		if s != nil {
			out[k] = *s
		}
	}
	return out
}

func vectorAt(v *Vector, i int) *DeletionVector {
	if v.Null(i) || v.Children[0].Null(i) {
		return nil
	}
	d := &DeletionVector{StorageType: textAt(v.Children[0], i), PathOrInlineDv: textAt(v.Children[1], i)}
	if !v.Children[2].Null(i) {
		x := v.Children[2].Ints[i]
		d.Offset = &x
	}
	if !v.Children[3].Null(i) {
		d.SizeInBytes = v.Children[3].Ints[i]
	}
	d.Cardinality, _ = longAt(v.Children[4], i)
	return d
}
