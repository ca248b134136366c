package deltalake

import "io"

// checkpointFields are the columns of a V1 checkpoint, in order.
func checkpointFields() []Field {
	str, long, flag := Of(KindString), Of(KindLong), Of(KindBoolean)
	texts := &Type{Kind: KindMap, Key: str, Elem: str, ContainsNull: true}
	list := ListOf(str)
	dv := StructOf(Col("storageType", str), Col("pathOrInlineDv", str), Col("offset", Of(KindInteger)),
		Col("sizeInBytes", Of(KindInteger)), Col("cardinality", long))
	return []Field{
		Col("txn", StructOf(Col("appId", str), Col("version", long), Col("lastUpdated", long))),
		Col("add", StructOf(Col("path", str), Col("partitionValues", texts), Col("size", long), Col("modificationTime", long),
			Col("dataChange", flag), Col("stats", str), Col("tags", texts), Col("deletionVector", dv), Col("baseRowId", long),
			Col("defaultRowCommitVersion", long), Col("clusteringProvider", str))),
		Col("remove", StructOf(Col("path", str), Col("deletionTimestamp", long), Col("dataChange", flag), Col("extendedFileMetadata", flag),
			Col("partitionValues", texts), Col("size", long), Col("tags", texts), Col("deletionVector", dv), Col("baseRowId", long),
			Col("defaultRowCommitVersion", long))),
		Col("metaData", StructOf(Col("id", str), Col("name", str), Col("description", str),
			Col("format", StructOf(Col("provider", str), Col("options", texts))), Col("schemaString", str),
			Col("partitionColumns", list), Col("configuration", texts), Col("createdTime", long))),
		Col("protocol", StructOf(Col("minReaderVersion", Of(KindInteger)), Col("minWriterVersion", Of(KindInteger)),
			Col("readerFeatures", list), Col("writerFeatures", list))),
		Col("domainMetadata", StructOf(Col("domain", str), Col("configuration", str), Col("removed", flag))),
	}
}

// checkpointRows gathers actions into batches of a Parquet writer.
type checkpointRows struct {
	pq    *pqWriter
	batch *Batch
	add   int // columns; -1 where the file has none
	rem   int
	n     int64 // actions
}

func newCheckpointRows(w io.Writer, fields []Field) (*checkpointRows, error) {
	comp, err := newCompressor(Snappy)
	if err != nil {
		return nil, err
	}
	schema := newPqSchema(fields, func(f *Field) (string, int32) { return f.Name, 0 })
	r := &checkpointRows{pq: newPqWriter(w, schema, comp, checkpointGroupBytes), batch: NewBatch(&Schema{fields}), add: -1, rem: -1}
	for i := range fields {
		switch fields[i].Name {
		case "add":
			r.add = i
		case "remove":
			r.rem = i
		}
	}
	return r, nil
}

// checkpointGroupBytes is what a checkpoint writer buffers: the encoded pages of
// one row group.
const checkpointGroupBytes = 16 << 20

// checkpointBatchRows are few, so that a small checkpoint makes little garbage.
const checkpointBatchRows = 256

// row starts a row in the named action's column and returns its members. The other
// columns get their nulls when they are next needed.
func (r *checkpointRows) row(column int) []*Vector {
	c := r.batch.Columns[column]
	c.appendNulls(r.batch.Len - c.Len)
	return c.Children
}

func (r *checkpointRows) end(column int) error {
	r.batch.Columns[column].AppendElements()
	r.batch.Len++
	r.n++
	if r.batch.Len >= checkpointBatchRows {
		return r.flush()
	}
	return nil
}

func (r *checkpointRows) flush() error {
	for _, c := range r.batch.Columns {
		c.appendNulls(r.batch.Len - c.Len)
	}
	err := r.pq.write(r.batch.Columns, r.batch.Len)
	r.batch.Reset()
	return err
}

// close ends the file and returns its size in bytes.
func (r *checkpointRows) close() (int64, error) {
	if err := r.flush(); err != nil {
		return 0, err
	}
	return r.pq.close()
}

func (r *checkpointRows) addFile(a *AddFile) error {
	c := r.row(r.add)
	c[0].AppendString(a.Path)
	appendMap(c[1], a.PartitionValues, false)
	c[2].AppendLong(a.Size)
	c[3].AppendLong(a.ModificationTime)
	c[4].AppendBool(false)
	appendText(c[5], a.Stats)
	appendMap(c[6], a.Tags, true)
	appendVector(c[7], a.DeletionVector)
	appendLong(c[8], a.BaseRowID)
	appendLong(c[9], a.DefaultRowCommitVersion)
	appendText(c[10], a.ClusteringProvider)
	return r.end(r.add)
}

func (r *checkpointRows) removeFile(rm *RemoveFile) error {
	c := r.row(r.rem)
	c[0].AppendString(rm.Path)
	c[1].AppendLong(rm.DeletionTimestamp)
	c[2].AppendBool(false)
	c[3].AppendBool(rm.ExtendedFileMetadata)
	appendMap(c[4], rm.PartitionValues, true)
	appendLong(c[5], rm.Size)
	appendMap(c[6], rm.Tags, true)
	appendVector(c[7], rm.DeletionVector)
	appendLong(c[8], rm.BaseRowID)
	appendLong(c[9], rm.DefaultRowCommitVersion)
	return r.end(r.rem)
}

// plain writes an action that is not of a file; the columns are those of
// headFields.
func (r *checkpointRows) plain(a *action) error {
	switch {
	case a.Txn != nil:
		c := r.row(0)
		c[0].AppendString(a.Txn.AppID)
		c[1].AppendLong(a.Txn.Version)
		appendLong(c[2], a.Txn.LastUpdated)
		return r.end(0)
	case a.Metadata != nil:
		m := r.row(3)
		m[0].AppendString(a.Metadata.ID)
		appendText(m[1], a.Metadata.Name)
		appendText(m[2], a.Metadata.Description)
		m[3].Children[0].AppendString("parquet")
		appendPlainMap(m[3].Children[1], a.Metadata.Format.Options)
		m[3].AppendElements()
		m[4].AppendString(a.Metadata.SchemaString)
		appendList(m[5], &a.Metadata.PartitionColumns)
		appendPlainMap(m[6], a.Metadata.Configuration)
		m[7].AppendLong(a.Metadata.CreatedTime)
		return r.end(3)
	case a.Protocol != nil:
		p := r.row(4)
		p[0].AppendInt(int32(a.Protocol.MinReaderVersion))
		p[1].AppendInt(int32(a.Protocol.MinWriterVersion))
		appendList(p[2], a.Protocol.ReaderFeatures)
		appendList(p[3], a.Protocol.WriterFeatures)
		return r.end(4)
	case a.Domain != nil:
		c := r.row(5)
		c[0].AppendString(a.Domain.Domain)
		c[1].AppendString(a.Domain.Configuration)
		c[2].AppendBool(false)
		return r.end(5)
	case a.Sidecar != nil:
		c := r.row(6)
		c[0].AppendString(a.Sidecar.Path)
		c[1].AppendLong(a.Sidecar.SizeInBytes)
		c[2].AppendLong(a.Sidecar.ModificationTime)
		c[3].AppendNull()
		return r.end(6)
	case a.CheckpointMetadata != nil:
		r.row(7)[0].AppendLong(a.CheckpointMetadata.Version)
		return r.end(7)
	}
	return nil
}

func appendText(v *Vector, s string) {
	if s == "" {
		v.AppendNull()
	} else {
		v.AppendString(s)
	}
}

func appendLong(v *Vector, x *int64) {
	if x == nil {
		v.AppendNull()
	} else {
		v.AppendLong(*x)
	}
}

func appendList(v *Vector, list *[]string) {
	if list == nil {
		v.AppendNull()
		return
	}
	for _, s := range *list {
		v.Children[0].AppendString(s)
	}
	v.AppendElements()
}

func appendPlainMap(v *Vector, m map[string]string) {
	for _, k := range sortedKeys(m) {
		v.Children[0].AppendString(k)
		v.Children[1].AppendString(m[k])
	}
	v.AppendElements()
}

func appendMap(v *Vector, m map[string]*string, nilIsNull bool) {
	if m == nil && nilIsNull {
		v.AppendNull()
		return
	}
	for _, k := range sortedKeys(m) {
		v.Children[0].AppendString(k)
		if s := m[k]; s != nil {
			v.Children[1].AppendString(*s)
		} else {
			v.Children[1].AppendNull()
		}
	}
	v.AppendElements()
}

func appendVector(v *Vector, d *DeletionVector) {
	if d == nil {
		v.AppendNull()
		return
	}
	c := v.Children
	c[0].AppendString(d.StorageType)
	c[1].AppendString(d.PathOrInlineDv)
	if d.Offset != nil {
		c[2].AppendInt(*d.Offset)
	} else {
		c[2].AppendNull()
	}
	c[3].AppendInt(d.SizeInBytes)
	c[4].AppendLong(d.Cardinality)
	v.AppendElements()
}
