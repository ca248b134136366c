package deltalake

import (
	"context"
	"errors"
	"fmt"
	"sort"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
)

// upkeep does what a commit makes due: log compaction, and a Delta checkpoint at
// every interval.
func (t *Table) upkeep(ctx context.Context, s *Snapshot) error {
	if s.version <= 0 {
		return nil
	}
	interval, fixed := int64(10), false
	if v := s.metadata.Configuration["delta.checkpointInterval"]; v != "" {
		n, err := strconv.ParseInt(v, 10, 64)
		if err != nil || n < 1 {
			return fmt.Errorf("deltalake: property delta.checkpointInterval = %q is not a positive number", v)
		}
		interval, fixed = n, true
	}
	if !fixed {
		// A checkpoint costs in proportion to the files; large tables take fewer.
		interval = max(interval, int64(s.files.len()+s.removes.len())/20_000*10)
	}
	err := t.maybeCompactLog(ctx, s)
	if s.version%interval != 0 {
		return err
	}
	if cerr := t.WriteCheckpoint(ctx, s); cerr != nil {
		return errors.Join(err, cerr)
	}
	return errors.Join(err, t.maybeCleanLog(ctx, s))
}

// WriteCheckpoint writes a Delta checkpoint of the snapshot's version and points
// _last_checkpoint at it, so that opening the table reads no older commit.
func (t *Table) WriteCheckpoint(ctx context.Context, s *Snapshot) error {
	if err := s.protocol.checkWrite(); err != nil {
		return err
	}
	v2 := s.metadata.Configuration["delta.checkpointPolicy"] == "v2" && s.protocol.hasWriter("v2Checkpoint")
	path := fmt.Sprintf("%s%020d.checkpoint.parquet", logDir, s.version)
	if v2 {
		path = fmt.Sprintf("%s%020d.checkpoint.%s.parquet", logDir, s.version, uuid.NewString())
	}
	out, err := t.store.Create(ctx, path)
	if err != nil {
		return fmt.Errorf("deltalake: checkpoint: %w", err)
	}
	size, n, err := s.writeCheckpoint(out, t.opts.Now(), v2)
	if err != nil {
		return errors.Join(fmt.Errorf("deltalake: checkpoint: %w", err), out.Abort())
	}
	if err := out.Close(); err != nil {
		return fmt.Errorf("deltalake: checkpoint: %w", err)
	}
	if newest, err := readHint(ctx, t.store); err != nil || newest > s.version {
		return err
	}
	adds := int64(s.files.len())
	hint, err := marshalPlain(checkpointHint{Version: s.version, Size: n, SizeInBytes: &size, NumOfAddFiles: &adds})
	if err != nil {
		return err
	}
	if err := t.store.Put(ctx, lastCheckpoint, hint); err != nil {
		return fmt.Errorf("deltalake: checkpoint: %w", err)
	}
	return nil
}

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
	n     int64
}

// row starts a row in the named action's column and returns its members.
func (r *checkpointRows) row(column int) []*Vector {
	for i, c := range r.batch.Columns {
		if i != column {
			c.AppendNull()
		}
	}
	return r.batch.Columns[column].Children
}

func (r *checkpointRows) end(column int) error {
	r.batch.Columns[column].AppendElements()
	r.batch.Len++
	r.n++
	if r.batch.Len >= 4096 {
		return r.flush()
	}
	return nil
}

func (r *checkpointRows) flush() error {
	err := r.pq.write(r.batch.Columns, r.batch.Len)
	r.batch.Reset()
	return err
}

// writeCheckpoint streams the snapshot's state in bounded memory; a V2 checkpoint
// has a head of its own and no sidecars.
func (s *Snapshot) writeCheckpoint(w ObjectWriter, now time.Time, v2 bool) (size, rows int64, err error) {
	fields := checkpointFields()
	if v2 {
		fields = append(readFields(), Col("checkpointMetadata", StructOf(Col("version", Of(KindLong)))))
	}
	comp, err := newCompressor(Snappy)
	if err != nil {
		return 0, 0, err
	}
	schema := newPqSchema(fields, func(f *Field) (string, int32) { return f.Name, 0 })
	r := &checkpointRows{pq: newPqWriter(w, schema, comp, 16<<20), batch: NewBatch(&Schema{fields})}
	if v2 {
		head := len(fields) - 1
		r.row(head)[0].AppendLong(s.version)
		if err := r.end(head); err != nil {
			return 0, 0, err
		}
	}
	p := r.row(4)
	p[0].AppendInt(int32(s.protocol.MinReaderVersion))
	p[1].AppendInt(int32(s.protocol.MinWriterVersion))
	appendList(p[2], s.protocol.ReaderFeatures)
	appendList(p[3], s.protocol.WriterFeatures)
	if err := r.end(4); err != nil {
		return 0, 0, err
	}
	m := r.row(3)
	m[0].AppendString(s.metadata.ID)
	appendText(m[1], s.metadata.Name)
	appendText(m[2], s.metadata.Description)
	m[3].Children[0].AppendString("parquet")
	appendPlainMap(m[3].Children[1], s.metadata.Format.Options)
	m[3].AppendElements()
	m[4].AppendString(s.metadata.SchemaString)
	appendList(m[5], &s.metadata.PartitionColumns)
	appendPlainMap(m[6], s.metadata.Configuration)
	m[7].AppendLong(s.metadata.CreatedTime)
	if err := r.end(3); err != nil {
		return 0, 0, err
	}
	for _, id := range sortedKeys(s.txns) {
		t := s.txns[id]
		c := r.row(0)
		c[0].AppendString(t.AppID)
		c[1].AppendLong(t.Version)
		appendLong(c[2], t.LastUpdated)
		if err := r.end(0); err != nil {
			return 0, 0, err
		}
	}
	for _, name := range sortedKeys(s.domains) {
		d := s.domains[name]
		c := r.row(5)
		c[0].AppendString(d.Domain)
		c[1].AppendString(d.Configuration)
		c[2].AppendBool(false)
		if err := r.end(5); err != nil {
			return 0, 0, err
		}
	}
	if err := s.checkpointFiles(r, now); err != nil {
		return 0, 0, err
	}
	if err := r.flush(); err != nil {
		return 0, 0, err
	}
	size, err = r.pq.close()
	return size, r.n, err
}

func (s *Snapshot) checkpointFiles(r *checkpointRows, now time.Time) error {
	for _, a := range s.Files() {
		c := r.row(1)
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
		if err := r.end(1); err != nil {
			return err
		}
	}
	oldest := now.Add(-s.tombstoneRetention()).UnixMilli()
	var removes []*RemoveFile
	for rm := range s.removes.all() {
		if rm.DeletionTimestamp > oldest {
			removes = append(removes, rm)
		}
	}
	sort.Slice(removes, func(i, j int) bool { return removes[i].Path < removes[j].Path })
	for _, rm := range removes {
		c := r.row(2)
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
		if err := r.end(2); err != nil {
			return err
		}
	}
	return nil
}

// tombstoneRetention is how long removed files are remembered and kept.
func (s *Snapshot) tombstoneRetention() time.Duration {
	if d, err := parseInterval(s.property("delta.deletedFileRetentionDuration", "")); err == nil {
		return d
	}
	return 7 * 24 * time.Hour
}

// parseInterval reads Spark's calendar intervals, such as "interval 7 days".
func parseInterval(text string) (time.Duration, error) {
	words := strings.Fields(strings.ToLower(text))
	if len(words) > 0 && words[0] == "interval" {
		words = words[1:]
	}
	if len(words) == 0 || len(words)%2 != 0 {
		return 0, fmt.Errorf("deltalake: %q is not an interval such as \"interval 7 days\"", text)
	}
	var total time.Duration
	for i := 0; i < len(words); i += 2 {
		n, err := strconv.ParseInt(words[i], 10, 64)
		unit, ok := map[string]time.Duration{"week": 7 * 24 * time.Hour, "day": 24 * time.Hour, "hour": time.Hour, "minute": time.Minute,
			"second": time.Second, "millisecond": time.Millisecond, "microsecond": time.Microsecond}[strings.TrimSuffix(words[i+1], "s")]
		if err != nil || !ok || n < 0 || n > 100_000_000_000 || time.Duration(n) > time.Duration(1<<62)/unit {
			return 0, fmt.Errorf("deltalake: %q is not an interval such as \"interval 7 days\"", text)
		}
		total += time.Duration(n) * unit
	}
	return total, nil
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
