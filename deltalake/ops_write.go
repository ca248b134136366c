package deltalake

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"strconv"
)

// Append adds the rows of source in one commit. Columns are matched by name;
// those that a batch lacks are null or generated. An empty source commits
// nothing unless AppID is set.
func (t *Table) Append(ctx context.Context, source iter.Seq2[*Batch, error], opts WriteOptions) (*CommitResult, error) {
	s, err := t.Refresh(ctx)
	if err != nil {
		return nil, err
	}
	w, err := t.writeSource(ctx, s, source, opts, nil)
	if err != nil {
		return nil, err
	}
	if len(w.adds) == 0 && opts.AppID == "" && w.meta == nil {
		return &CommitResult{Version: s.version, Snapshot: s}, nil
	}
	c := Commit{
		Operation: "WRITE", Parameters: map[string]string{"mode": "Append", "partitionBy": jsonText(s.metadata.PartitionColumns)},
		Metrics: writeMetrics(w.adds, w.rows), UserMetadata: opts.UserMetadata, AppID: opts.AppID, AppVersion: opts.AppVersion, Adds: w.adds, Spec: w.spec,
	}
	if w.meta != nil {
		c.Metadata, c.Base = w.meta, s
		if c.Protocol, err = raised(w.spec, w.meta, s); err != nil {
			return nil, errors.Join(err, t.drop(ctx, w.adds))
		}
	}
	r, err := t.Commit(ctx, c)
	var conflict *ConflictError
	if errors.As(err, &conflict) && conflict.Class != ProtocolChanged && w.ids.movable() && w.spec.meta == s.metadata {
		return t.appendReserved(ctx, w, c, opts)
	}
	if err != nil {
		return nil, errors.Join(err, t.dropAfter(ctx, err, w.adds))
	}
	return r, nil
}

// raised returns the protocol that changed metadata needs, nil for no change.
func raised(spec *FileSpec, m *Metadata, s *Snapshot) (*Protocol, error) {
	p, err := neededProtocol(spec.schema, m.Configuration, s.protocol)
	if err != nil || p == s.protocol {
		return nil, err
	}
	return p, nil
}

func writeMetrics(adds []*AddFile, rows int64) map[string]string {
	var size int64
	for _, a := range adds {
		size += a.Size
	}
	return map[string]string{"numFiles": strconv.Itoa(len(adds)), "numOutputRows": strconv.FormatInt(rows, 10), "numOutputBytes": strconv.FormatInt(size, 10)}
}

// written is what the rows of a source became.
type written struct {
	spec *FileSpec // that the files follow
	adds []*AddFile
	rows int64
	meta *Metadata       // set when the schema or its marks have to change
	ids  *identityFiller // nil without identity columns
}

// writeSource writes the rows of a source to data files. check, which may be nil,
// sees them with all columns of the table.
func (t *Table) writeSource(ctx context.Context, s *Snapshot, source iter.Seq2[*Batch, error], opts WriteOptions, check func(*Batch) error) (*written, error) {
	if err := s.checkWrite(); err != nil {
		return nil, err
	}
	out := &written{spec: s.spec}
	var err error
	if out.ids, err = s.spec.filler(); err != nil {
		return nil, err
	}
	w := newPartitionWriter(ctx, t.store, out.spec, opts)
	fail := func(err error) (*written, error) { return nil, errors.Join(err, w.Abort()) }
	for b, err := range source {
		if err != nil {
			return fail(err)
		}
		if opts.MergeSchema && b.Schema != out.spec.schema {
			m, err := MergeSchema(out.spec.meta, b.Schema)
			if err != nil {
				return fail(err)
			}
			if m != out.spec.meta {
				// Files written so far stay: they lack columns that read as null.
				done, err := w.Close()
				if err != nil {
					return fail(err)
				}
				if out.spec, err = s.newSpec(m); err != nil {
					return fail(err)
				}
				out.meta = m
				next := newPartitionWriter(ctx, t.store, out.spec, opts)
				next.adds, next.rows = done, w.rows
				w = next
			}
		}
		c, err := out.spec.conform(b, out.ids)
		if err == nil && check != nil {
			err = check(c)
		}
		if err == nil {
			err = w.Write(c)
		}
		if err != nil {
			return fail(err)
		}
	}
	if out.adds, err = w.Close(); err != nil {
		return fail(err)
	}
	out.rows = w.rows
	if out.ids.used() {
		if out.meta, err = out.ids.marked(out.spec.meta); err != nil {
			return fail(err)
		}
	}
	return out, nil
}

// drop deletes files that were written for a commit that was not made.
func (t *Table) drop(ctx context.Context, adds []*AddFile) error {
	var errs []error
	for _, a := range adds {
		errs = append(errs, t.store.Delete(context.WithoutCancel(ctx), decodePath(a.Path)))
	}
	return errors.Join(errs...)
}

// dropAfter drops files after a failed Commit, where it is certain that the
// commit was not made.
func (t *Table) dropAfter(ctx context.Context, err error, adds []*AddFile) error {
	if certain(err) {
		return t.drop(ctx, adds)
	}
	return nil
}

// certain tells whether nothing of a Commit that failed so is in the table.
func certain(err error) bool {
	var conflict *ConflictError
	var unsupported *UnsupportedError
	var refused *refusal
	return errors.As(err, &conflict) || errors.As(err, &unsupported) || errors.As(err, &refused)
}

// OverwriteOptions says what an overwrite replaces; everything without it.
type OverwriteOptions struct {
	WriteOptions
	Where   *Expr   // only rows for which it is true; all new rows must fulfil it (replaceWhere)
	Dynamic bool    // only the partitions that the new rows fall into
	Schema  *Schema // replaces the table's schema
}

// Overwrite replaces rows in one commit: all of them, those of a condition, or
// the partitions written to. It reads what it replaces: rows that another writer adds
// there meanwhile are a conflict of class ConcurrentAppend, except those of a blind
// append to a table with delta.isolationLevel = WriteSerializable, which stay.
func (t *Table) Overwrite(ctx context.Context, source iter.Seq2[*Batch, error], opts OverwriteOptions) (*CommitResult, error) {
	if opts.Where != nil && opts.Dynamic || opts.Schema != nil && (opts.Where != nil || opts.Dynamic) {
		return nil, errors.New("deltalake: Where, Dynamic and Schema of an overwrite exclude each other")
	}
	s, err := t.Refresh(ctx)
	if err != nil {
		return nil, err
	}
	if s.NumFiles() > 0 && !opts.Dynamic {
		if err := s.checkRemoval("an overwrite"); err != nil {
			return nil, err
		}
	}
	if opts.Schema != nil {
		return t.overwriteSchema(ctx, s, source, opts)
	}
	var check func(*Batch) error
	if opts.Where != nil {
		bound, err := opts.Where.bind(s.spec.schema)
		if err != nil {
			return nil, err
		}
		check = within(bound, opts.Where)
	}
	w, err := t.writeSource(ctx, s, source, opts.WriteOptions, check)
	if err != nil {
		return nil, err
	}
	if opts.Where != nil {
		return t.replaceWhere(ctx, s, w, opts)
	}
	now := t.opts.Now().UnixMilli()
	c := Commit{
		Operation: "WRITE", Parameters: map[string]string{"mode": "Overwrite", "partitionBy": jsonText(s.metadata.PartitionColumns)},
		Metrics: writeMetrics(w.adds, w.rows), UserMetadata: opts.UserMetadata, AppID: opts.AppID, AppVersion: opts.AppVersion,
		Adds: w.adds, Base: s, Spec: w.spec, Metadata: w.meta, ReadAll: !opts.Dynamic,
	}
	touched := map[string]bool{}
	for _, a := range w.adds {
		touched[partitionKey(a.PartitionValues)] = true
	}
	if opts.Dynamic {
		c.Parameters["partitionOverwriteMode"] = "dynamic"
		c.replaces = touched
	}
	for _, a := range s.Files() {
		if !opts.Dynamic || touched[partitionKey(a.PartitionValues)] {
			r := a.remove(now, true)
			c.Removes = append(c.Removes, &r)
		}
	}
	return t.finish(ctx, c, w.spec, w.meta, s)
}

// finish commits an operation and drops its files when it certainly failed.
func (t *Table) finish(ctx context.Context, c Commit, spec *FileSpec, meta *Metadata, s *Snapshot) (*CommitResult, error) {
	if meta != nil && c.Protocol == nil {
		p, err := raised(spec, meta, s)
		if err != nil {
			return nil, errors.Join(err, t.dropMade(ctx, s, c.Adds, c.Changes))
		}
		c.Protocol = p
	}
	c.preserves = true
	r, err := t.Commit(ctx, c)
	if err != nil && certain(err) {
		err = errors.Join(err, t.dropMade(ctx, s, c.Adds, c.Changes))
	}
	if err != nil {
		return nil, err
	}
	return r, nil
}

// dropMade deletes what an operation on s made for a commit that was not made: data
// files, deletion vectors and change files.
func (t *Table) dropMade(ctx context.Context, s *Snapshot, adds []*AddFile, changes []*ChangeFile) error {
	errs := []error{t.drop(ctx, s.fresh(adds))}
	for _, c := range changes {
		errs = append(errs, t.store.Delete(context.WithoutCancel(ctx), decodePath(c.Path)))
	}
	known := map[string]bool{"": true} // vector files that are gone, or of the table
	for a := range s.files.all() {
		if d := a.DeletionVector; d != nil && d.StorageType == "u" {
			if file, err := d.file(); err == nil {
				known[file] = true
			}
		}
	}
	for _, a := range adds {
		if d := a.DeletionVector; d != nil && d.StorageType == "u" {
			if file, err := d.file(); err == nil && !known[file] {
				known[file] = true
				errs = append(errs, t.store.Delete(context.WithoutCancel(ctx), decodePath(file)))
			}
		}
	}
	return errors.Join(errs...)
}

// fresh returns those of adds that are new files; the others, as those with a
// deletion vector, are the table's already.
func (s *Snapshot) fresh(adds []*AddFile) (out []*AddFile) {
	for _, a := range adds {
		if a.DeletionVector == nil && !s.files.has(a.key()) {
			out = append(out, a)
		}
	}
	return out
}

// partitionKey identifies a set of partition values.
func partitionKey(values map[string]*string) string {
	key := ""
	for _, k := range sortedKeys(values) {
		if v := values[k]; v == nil || *v == "" {
			key += k + "\x00n\x01"
		} else {
			key += k + "\x00v" + *v + "\x01"
		}
	}
	return key
}

// within returns a check that refuses rows outside a condition.
func within(bound, where *Expr) func(*Batch) error {
	return func(b *Batch) error {
		err := checkConstraints([]constraint{{"replaceWhere", bound}}, b)
		var ce *ConstraintError
		if errors.As(err, &ce) {
			ce.Rule = where.String()
		}
		return err
	}
}

// replaceWhere commits new rows and the removal of those that fulfil the
// condition.
func (t *Table) replaceWhere(ctx context.Context, s *Snapshot, w *written, opts OverwriteOptions) (*CommitResult, error) {
	d, err := t.deletion(ctx, s, opts.Where, opts.WriteOptions)
	if err != nil {
		return nil, errors.Join(err, t.drop(ctx, w.adds))
	}
	c := Commit{
		Operation: "WRITE", Parameters: map[string]string{"mode": "Overwrite", "predicate": opts.Where.String()},
		Metrics: writeMetrics(w.adds, w.rows), UserMetadata: opts.UserMetadata, AppID: opts.AppID, AppVersion: opts.AppVersion,
		Adds: append(d.adds, w.adds...), Removes: d.removes, Changes: d.changes, Base: s, Spec: w.spec, Metadata: w.meta, Filter: opts.Where, Reads: d.reads,
	}
	if len(d.changes) > 0 {
		// A commit with change files describes itself by them alone.
		ch, err := t.insertChanges(ctx, s, w.adds, opts.WriteOptions)
		if err != nil {
			return nil, errors.Join(err, t.dropMade(ctx, s, c.Adds, c.Changes))
		}
		c.Changes = append(c.Changes, ch...)
	}
	return t.finish(ctx, c, w.spec, w.meta, s)
}

// overwriteSchema replaces rows and schema. The new one stands as it is given, as with
// Spark: what an identity column was is gone unless it says so again.
func (t *Table) overwriteSchema(ctx context.Context, s *Snapshot, source iter.Seq2[*Batch, error], opts OverwriteOptions) (*CommitResult, error) {
	if s.spec.mapped {
		return nil, &UnsupportedError{"written", "overwriting the schema of a table with column mapping"}
	}
	if err := opts.Schema.validate(); err != nil {
		return nil, fmt.Errorf("deltalake: overwrite: %w", err)
	}
	schema, err := s.spec.schema.succeeded(opts.Schema, s.metadata.PartitionColumns)
	if err != nil {
		return nil, fmt.Errorf("deltalake: overwrite: %w", err)
	}
	text, err := schema.MarshalJSON()
	if err != nil {
		return nil, err
	}
	m := s.metadata.clone()
	m.SchemaString = string(text)
	next := *s
	next.metadata = m
	if next.spec, err = s.newSpec(m); err != nil {
		return nil, err
	}
	if err := next.spec.clusterable(s.spec.clustered); len(s.spec.clustered) > 0 && err != nil {
		return nil, fmt.Errorf("deltalake: overwrite: %w", err)
	}
	w, err := t.writeSource(ctx, &next, source, opts.WriteOptions, nil)
	if err != nil {
		return nil, err
	}
	if w.meta != nil {
		m = w.meta // with the marks of identity columns
	}
	now := t.opts.Now().UnixMilli()
	c := Commit{Operation: "WRITE", Parameters: map[string]string{"mode": "Overwrite", "overwriteSchema": "true"}, Metrics: writeMetrics(w.adds, w.rows),
		UserMetadata: opts.UserMetadata, AppID: opts.AppID, AppVersion: opts.AppVersion, Adds: w.adds, Base: s, ReadAll: true, Metadata: m}
	for _, a := range s.Files() {
		r := a.remove(now, true)
		c.Removes = append(c.Removes, &r)
	}
	return t.finish(ctx, c, w.spec, m, s)
}
