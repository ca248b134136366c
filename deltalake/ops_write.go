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
	spec, adds, rows, meta, err := t.writeSource(ctx, s, source, opts)
	if err != nil {
		return nil, err
	}
	if len(adds) == 0 && opts.AppID == "" && meta == nil {
		return &CommitResult{Version: s.version, Snapshot: s}, nil
	}
	c := Commit{
		Operation: "WRITE", Parameters: map[string]string{"mode": "Append", "partitionBy": jsonText(s.metadata.PartitionColumns)},
		Metrics: writeMetrics(adds, rows), UserMetadata: opts.UserMetadata, AppID: opts.AppID, AppVersion: opts.AppVersion, Adds: adds, Spec: spec,
	}
	if meta != nil {
		c.Metadata, c.Base = meta, s
		if c.Protocol, err = raised(spec, meta, s); err != nil {
			return nil, errors.Join(err, t.drop(ctx, adds))
		}
	}
	r, err := t.Commit(ctx, c)
	if err != nil {
		return nil, errors.Join(err, t.dropAfter(ctx, err, adds))
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

// writeSource writes the rows of a source to data files. meta is set when the
// schema has to change for them.
func (t *Table) writeSource(ctx context.Context, s *Snapshot, source iter.Seq2[*Batch, error], opts WriteOptions) (spec *FileSpec, adds []*AddFile, rows int64, meta *Metadata, err error) {
	if err := s.protocol.checkWrite(); err != nil {
		return nil, nil, 0, nil, err
	}
	spec = s.spec
	w := NewPartitionWriter(ctx, t.store, spec, opts)
	fail := func(err error) (*FileSpec, []*AddFile, int64, *Metadata, error) {
		return nil, nil, 0, nil, errors.Join(err, w.Abort())
	}
	for b, err := range source {
		if err != nil {
			return fail(err)
		}
		if opts.MergeSchema && b.Schema != spec.schema {
			base := spec.meta
			m, err := MergeSchema(base, b.Schema)
			if err != nil {
				return fail(err)
			}
			if m != base {
				// Files written so far stay: they lack columns that read as null.
				done, err := w.Close()
				if err != nil {
					return fail(err)
				}
				if spec, err = NewFileSpec(m); err != nil {
					return fail(err)
				}
				meta = m
				next := NewPartitionWriter(ctx, t.store, spec, opts)
				next.adds, next.rows = done, w.rows
				w = next
			}
		}
		c, err := spec.conform(b)
		if err != nil {
			return fail(err)
		}
		if err := w.Write(c); err != nil {
			return fail(err)
		}
	}
	if adds, err = w.Close(); err != nil {
		return fail(err)
	}
	return spec, adds, w.rows, meta, nil
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
	var conflict *ConflictError
	var unsupported *UnsupportedError
	if errors.As(err, &conflict) || errors.As(err, &unsupported) {
		return t.drop(ctx, adds)
	}
	return nil
}

// OverwriteOptions says what an overwrite replaces; everything without it.
type OverwriteOptions struct {
	WriteOptions
	Where   *Expr   // only rows for which it is true; all new rows must fulfil it (replaceWhere)
	Dynamic bool    // only the partitions that the new rows fall into
	Schema  *Schema // replaces the table's schema
}

// Overwrite replaces rows in one commit: all of them, those of a condition, or
// the partitions written to.
func (t *Table) Overwrite(ctx context.Context, source iter.Seq2[*Batch, error], opts OverwriteOptions) (*CommitResult, error) {
	if opts.Where != nil && opts.Dynamic || opts.Schema != nil && (opts.Where != nil || opts.Dynamic) {
		return nil, errors.New("deltalake: Where, Dynamic and Schema of an overwrite exclude each other")
	}
	s, err := t.Refresh(ctx)
	if err != nil {
		return nil, err
	}
	if opts.Schema != nil {
		return t.overwriteSchema(ctx, s, source, opts)
	}
	if opts.Where != nil {
		bound, err := opts.Where.bind(s.spec.schema)
		if err != nil {
			return nil, err
		}
		source = guarded(source, s.spec, bound, opts.Where)
	}
	spec, adds, rows, meta, err := t.writeSource(ctx, s, source, opts.WriteOptions)
	if err != nil {
		return nil, err
	}
	if opts.Where != nil {
		return t.replaceWhere(ctx, s, spec, adds, rows, meta, opts)
	}
	now := t.opts.Now().UnixMilli()
	c := Commit{
		Operation: "WRITE", Parameters: map[string]string{"mode": "Overwrite", "partitionBy": jsonText(s.metadata.PartitionColumns)},
		Metrics: writeMetrics(adds, rows), UserMetadata: opts.UserMetadata, AppID: opts.AppID, AppVersion: opts.AppVersion,
		Adds: adds, Base: s, Spec: spec, Metadata: meta, ReadAll: !opts.Dynamic,
	}
	touched := map[string]bool{}
	for _, a := range adds {
		touched[partitionKey(a.PartitionValues)] = true
	}
	if opts.Dynamic {
		c.Parameters["partitionOverwriteMode"] = "dynamic"
	}
	for _, a := range s.Files() {
		if !opts.Dynamic || touched[partitionKey(a.PartitionValues)] {
			r := a.remove(now, true)
			c.Removes = append(c.Removes, &r)
		}
	}
	return t.finish(ctx, c, spec, meta, s)
}

// finish commits an operation and drops its files when it certainly failed.
func (t *Table) finish(ctx context.Context, c Commit, spec *FileSpec, meta *Metadata, s *Snapshot) (*CommitResult, error) {
	if meta != nil && c.Protocol == nil {
		p, err := raised(spec, meta, s)
		if err != nil {
			return nil, errors.Join(err, t.drop(ctx, c.Adds))
		}
		c.Protocol = p
	}
	r, err := t.Commit(ctx, c)
	if err != nil {
		var fresh []*AddFile // files with a deletion vector are old ones
		for _, a := range c.Adds {
			if a.DeletionVector == nil && s.files.get(a.key()) == nil {
				fresh = append(fresh, a)
			}
		}
		return nil, errors.Join(err, t.dropAfter(ctx, err, fresh))
	}
	return r, nil
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

// guarded refuses rows outside a condition.
func guarded(source iter.Seq2[*Batch, error], spec *FileSpec, bound, where *Expr) iter.Seq2[*Batch, error] {
	return func(yield func(*Batch, error) bool) {
		for b, err := range source {
			if err == nil {
				b, err = spec.conform(b)
			}
			if err == nil {
				err = checkConstraints([]constraint{{"replaceWhere", bound}}, b)
				var ce *ConstraintError
				if errors.As(err, &ce) {
					ce.Rule = where.String()
				}
			}
			if !yield(b, err) || err != nil {
				return
			}
		}
	}
}

// replaceWhere commits new rows and the removal of those that fulfil the
// condition.
func (t *Table) replaceWhere(ctx context.Context, s *Snapshot, spec *FileSpec, adds []*AddFile, rows int64, meta *Metadata, opts OverwriteOptions) (*CommitResult, error) {
	d, err := t.deletion(ctx, s, opts.Where, opts.WriteOptions)
	if err != nil {
		return nil, errors.Join(err, t.drop(ctx, adds))
	}
	c := Commit{
		Operation: "WRITE", Parameters: map[string]string{"mode": "Overwrite", "predicate": opts.Where.String()},
		Metrics: writeMetrics(adds, rows), UserMetadata: opts.UserMetadata, AppID: opts.AppID, AppVersion: opts.AppVersion,
		Adds: append(d.adds, adds...), Removes: d.removes, Changes: d.changes, Base: s, Spec: spec, Metadata: meta, Filter: opts.Where, Reads: d.reads,
	}
	if len(d.changes) > 0 {
		// A commit with change files describes itself by them alone.
		ch, err := t.insertChanges(ctx, s, adds, opts.WriteOptions)
		if err != nil {
			return nil, err
		}
		c.Changes = append(c.Changes, ch...)
	}
	return t.finish(ctx, c, spec, meta, s)
}

// overwriteSchema replaces rows and schema.
func (t *Table) overwriteSchema(ctx context.Context, s *Snapshot, source iter.Seq2[*Batch, error], opts OverwriteOptions) (*CommitResult, error) {
	if s.spec.mapped {
		return nil, &UnsupportedError{"written", "overwriting the schema of a table with column mapping"}
	}
	if err := opts.Schema.validate(); err != nil {
		return nil, fmt.Errorf("deltalake: overwrite: %w", err)
	}
	text, err := opts.Schema.MarshalJSON()
	if err != nil {
		return nil, err
	}
	m := s.metadata.clone()
	m.SchemaString = string(text)
	next := *s
	next.metadata = m
	if next.spec, err = NewFileSpec(m); err != nil {
		return nil, err
	}
	spec, adds, rows, _, err := t.writeSource(ctx, &next, source, opts.WriteOptions)
	if err != nil {
		return nil, err
	}
	now := t.opts.Now().UnixMilli()
	c := Commit{Operation: "WRITE", Parameters: map[string]string{"mode": "Overwrite", "overwriteSchema": "true"}, Metrics: writeMetrics(adds, rows),
		UserMetadata: opts.UserMetadata, AppID: opts.AppID, AppVersion: opts.AppVersion, Adds: adds, Base: s, ReadAll: true, Metadata: m}
	for _, a := range s.Files() {
		r := a.remove(now, true)
		c.Removes = append(c.Removes, &r)
	}
	return t.finish(ctx, c, spec, m, s)
}
