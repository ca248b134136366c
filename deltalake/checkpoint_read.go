package deltalake

import (
	"context"
	"encoding/binary"
	"fmt"
	"slices"
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

// sidecarPath is where a sidecar is. All are in the table's own folder of sidecars,
// whether the checkpoint names them alone, by a path in the table or absolutely.
func sidecarPath(name string) string {
	if i := strings.LastIndex(name, "/"+sidecarDir); i >= 0 {
		name = name[i+1:]
	}
	if name = decodePath(name); !strings.Contains(name, "/") {
		return sidecarDir + name
	}
	return name
}

// readSidecar reads the file actions of a V2 checkpoint.
func (t *Table) readSidecar(ctx context.Context, s *Snapshot, path string, size int64) error {
	path = sidecarPath(path)
	return t.readParquetCheckpoint(ctx, s, path, size, false)
}

// readFields are the columns of any checkpoint that replay needs, and those of V2.
func readFields() []Field {
	fields := checkpointFields()
	str, long := Of(KindString), Of(KindLong)
	return append(fields, Col("sidecar", StructOf(Col("path", str), Col("sizeInBytes", long), Col("modificationTime", long),
		Col("tags", &Type{Kind: KindMap, Key: str, Elem: str, ContainsNull: true}))))
}

// readParquetCheckpoint applies one Parquet file of a checkpoint, and the sidecars
// that it names.
func (t *Table) readParquetCheckpoint(ctx context.Context, s *Snapshot, path string, size int64, sidecars bool) error {
	d := &actionDecoder{passing: true}
	return t.checkpointColumns(ctx, path, size, readFields(), func(c *actionColumns, n int) error {
		s.files.reserve(int(c.rows))
		if err := d.decode(c, n, s.apply); err != nil {
			return err
		}
		for i := 0; sidecars && i < n; i++ {
			if path, size, ok := c.sidecarAt(i); ok {
				if err := t.readSidecar(ctx, s, path, size); err != nil {
					return err
				}
			}
		}
		return nil
	})
}

// actionColumns are the columns of a batch of checkpoint rows; those that were not
// asked for are nil.
type actionColumns struct {
	txn, add, rem, meta, prot, dom, side *Vector

	rows int64 // of the file, as far as its size makes that likely
}

func absent(v *Vector, i int) bool { return v == nil || v.Null(i) }

func (c *actionColumns) sidecarAt(i int) (path string, size int64, ok bool) {
	if absent(c.side, i) {
		return "", 0, false
	}
	size, _ = longAt(c.side.Children[1], i)
	return textAt(c.side.Children[0], i), size, true
}

// checkpointReadRows is a batch that stays in a core's cache.
const checkpointReadRows = 1024

// checkpointColumns calls fn with the named columns of a Parquet file, batch by
// batch.
func (t *Table) checkpointColumns(ctx context.Context, path string, size int64, fields []Field, fn func(c *actionColumns, n int) error) error {
	f, err := openParquet(ctx, t.store, path, size)
	if err != nil {
		return err
	}
	if parsed := f.parsedStats(); parsed != nil {
		fields = slices.Clone(fields)
		for i := range fields {
			if fields[i].Name == "add" {
				fields[i].Type = StructOf(append(slices.Clone(fields[i].Type.Fields), Col("stats_parsed", parsed))...)
			}
		}
	}
	p, plans, err := planFile(f, fields, nil)
	if err != nil {
		return err
	}
	if len(p.leaves) == 0 && f.meta.rows > 0 {
		for _, c := range readFields() {
			if p.find(f.root, &c) != nil {
				return nil // nothing of what is asked for
			}
		}
		return fmt.Errorf("deltalake: checkpoint %s has no column of a Delta action", path)
	}
	for g := range f.meta.groups {
		r, err := newGroupReader(ctx, f, g, p, plans)
		if err != nil {
			return err
		}
		for {
			cols, n, err := r.next(checkpointReadRows)
			if err != nil {
				return fmt.Errorf("deltalake: checkpoint %s: %w", path, err)
			}
			if n == 0 {
				break
			}
			c := actionColumns{rows: min(f.meta.rows, f.size/16)}
			for i := range fields {
				*c.named(fields[i].Name) = cols[i]
			}
			if err := fn(&c, n); err != nil {
				return fmt.Errorf("%w (checkpoint %s)", err, path)
			}
		}
	}
	return nil
}

func (c *actionColumns) named(name string) **Vector {
	switch name {
	case "txn":
		return &c.txn
	case "add":
		return &c.add
	case "remove":
		return &c.rem
	case "metaData":
		return &c.meta
	case "protocol":
		return &c.prot
	case "domainMetadata":
		return &c.dom
	}
	return &c.side
}

// actionDecoder turns checkpoint rows into actions. Files of one partition share
// their values.
type actionDecoder struct {
	passing    bool // the file of an add is the decoder's again too, when fn returns
	partitions map[string]map[string]*string
	key        []byte
}

// addFields counts the columns of an add; stats_parsed may follow them.
const addFields = 11

// decode calls fn for each action of a batch but sidecars. The action is the
// decoder's again when fn returns, what it points to is not.
func (d *actionDecoder) decode(c *actionColumns, n int, fn func(*action) error) error {
	var paths, stats textColumn
	if c.add != nil {
		paths, stats = textColumnOf(c.add.Children[0]), textColumnOf(c.add.Children[5])
	}
	var a action
	var slab []AddFile // one piece of memory for the files of the batch
	for i := range n {
		a = action{}
		switch {
		case !absent(c.add, i):
			m := c.add.Children
			if len(slab) == 0 && d.passing {
				slab = make([]AddFile, 1)
			} else if len(slab) == 0 {
				slab = make([]AddFile, c.adds(i, n))
			}
			f := &slab[0]
			if !d.passing {
				slab = slab[1:]
			}
			*f = AddFile{
				Path: paths.at(i), PartitionValues: d.partition(m[1], i), DataChange: false, Stats: stats.at(i), Tags: mapAt(m[6], i),
				DeletionVector: vectorAt(m[7], i), ClusteringProvider: textAt(m[10], i),
			}
			if f.Stats == "" && len(m) > addFields {
				f.Stats = parsedStatsJSON(m[addFields], i)
			}
			f.Size, _ = longAt(m[2], i)
			f.ModificationTime, _ = longAt(m[3], i)
			f.BaseRowID, f.DefaultRowCommitVersion = longPtr(m[8], i), longPtr(m[9], i)
			a.Add = f
		case !absent(c.rem, i):
			m := c.rem.Children
			f := &RemoveFile{
				Path: textAt(m[0], i), ExtendedFileMetadata: flagAt(m[3], i), PartitionValues: d.partition(m[4], i), Size: longPtr(m[5], i),
				Tags: mapAt(m[6], i), DeletionVector: vectorAt(m[7], i), BaseRowID: longPtr(m[8], i), DefaultRowCommitVersion: longPtr(m[9], i),
			}
			f.DeletionTimestamp, _ = longAt(m[1], i)
			a.Remove = f
		case !absent(c.txn, i):
			v, ok := longAt(c.txn.Children[1], i)
			if !ok {
				continue
			}
			a.Txn = &Txn{AppID: textAt(c.txn.Children[0], i), Version: v, LastUpdated: longPtr(c.txn.Children[2], i)}
		case !absent(c.meta, i):
			a.Metadata = metadataAt(c.meta.Children, i)
		case !absent(c.prot, i):
			a.Protocol = protocolAt(c.prot.Children, i)
		case !absent(c.dom, i):
			m := c.dom.Children
			a.Domain = &DomainMetadata{Domain: textAt(m[0], i), Configuration: textAt(m[1], i), Removed: flagAt(m[2], i)}
		default:
			continue
		}
		if err := fn(&a); err != nil {
			return err
		}
	}
	return nil
}

// adds counts the files in rows from i on.
func (c *actionColumns) adds(i, n int) (count int) {
	for ; i < n; i++ {
		if !c.add.Null(i) {
			count++
		}
	}
	return count
}

func metadataAt(c []*Vector, i int) *Metadata {
	m := &Metadata{
		ID: textAt(c[0], i), Name: textAt(c[1], i), Description: textAt(c[2], i), SchemaString: textAt(c[4], i),
		PartitionColumns: listAt(c[5], i), Configuration: plainMapAt(c[6], i),
		Format: Format{Provider: textAt(c[3].Children[0], i), Options: plainMapAt(c[3].Children[1], i)},
	}
	m.CreatedTime, _ = longAt(c[7], i)
	return m
}

func protocolAt(c []*Vector, i int) *Protocol {
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
	return p
}

// partition returns the partition values of a row, shared with the rows that have
// the same; nobody changes them.
func (d *actionDecoder) partition(v *Vector, i int) map[string]*string {
	if v.Null(i) {
		return nil
	}
	d.key = d.key[:0]
	for k := int(v.Offsets[i]); k < int(v.Offsets[i+1]); k++ {
		for _, c := range v.Children {
			if c.Null(k) {
				d.key = append(d.key, 0)
				continue
			}
			b := c.Bytes(k)
			d.key = append(d.key, 1)
			d.key = binary.AppendUvarint(d.key, uint64(len(b)))
			d.key = append(d.key, b...)
		}
	}
	if m, ok := d.partitions[string(d.key)]; ok {
		return m
	}
	m := mapAt(v, i)
	if d.partitions == nil || len(d.partitions) > 10_000 {
		d.partitions = map[string]map[string]*string{}
	}
	d.partitions[string(d.key)] = m
	return m
}

// textColumn hands out the strings of a column from one piece of memory.
type textColumn struct {
	v    *Vector
	data string
}

func textColumnOf(v *Vector) textColumn { return textColumn{v, string(v.Data)} }

func (t textColumn) at(i int) string {
	if t.v.Null(i) {
		return ""
	}
	return t.data[t.v.Offsets[i]:t.v.Offsets[i+1]]
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
