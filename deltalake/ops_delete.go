package deltalake

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/google/uuid"
)

// Metrics counts what an operation did.
type Metrics struct {
	Version       int64 `json:"version"` // of the commit; of the snapshot when nothing was to be done
	Committed     bool  `json:"committed"`
	RowsDeleted   int64 `json:"rowsDeleted"`
	RowsUpdated   int64 `json:"rowsUpdated"`
	RowsInserted  int64 `json:"rowsInserted"`
	RowsCopied    int64 `json:"rowsCopied"`
	FilesAdded    int   `json:"filesAdded"`
	FilesRemoved  int   `json:"filesRemoved"`
	VectorsAdded  int   `json:"vectorsAdded"`
	BytesAdded    int64 `json:"bytesAdded"`
	BytesRemoved  int64 `json:"bytesRemoved"`
	ConflictTries int   `json:"conflictTries"` // times that it was done again after a conflict
}

func (m *Metrics) texts() map[string]string {
	n := func(x int64) string { return strconv.FormatInt(x, 10) }
	return map[string]string{
		"numDeletedRows": n(m.RowsDeleted), "numUpdatedRows": n(m.RowsUpdated), "numCopiedRows": n(m.RowsCopied), "numInsertedRows": n(m.RowsInserted),
		"numAddedFiles": n(int64(m.FilesAdded)), "numRemovedFiles": n(int64(m.FilesRemoved)), "numDeletionVectorsAdded": n(int64(m.VectorsAdded)),
		"numAddedBytes": n(m.BytesAdded), "numRemovedBytes": n(m.BytesRemoved),
	}
}

// changes is what an operation does to the files of a snapshot.
type changes struct {
	adds    []*AddFile
	removes []*RemoveFile
	changes []*ChangeFile
	reads   []*AddFile
	m       Metrics
}

func (c *changes) remove(a *AddFile, now int64) {
	r := a.remove(now, true)
	c.removes = append(c.removes, &r)
	c.m.FilesRemoved++
	c.m.BytesRemoved += a.Size
}

// usesVectors tells whether deletes should write deletion vectors.
func (s *Snapshot) usesVectors() bool {
	return strings.EqualFold(s.property("delta.enableDeletionVectors", ""), "true") && s.protocol.hasWriter("deletionVectors")
}

// tracksChanges tells whether change files are to be written.
func (s *Snapshot) tracksChanges() bool {
	return strings.EqualFold(s.property("delta.enableChangeDataFeed", ""), "true") && s.protocol.hasWriter("changeDataFeed")
}

// retried runs an operation until it commits without a conflict.
func (t *Table) retried(ctx context.Context, op func(s *Snapshot) (*Commit, *changes, error)) (*Metrics, error) {
	return t.retriedTimes(ctx, 20, op)
}

// retriedTimes runs an operation again after conflicts, at most the given times.
func (t *Table) retriedTimes(ctx context.Context, times int, op func(s *Snapshot) (*Commit, *changes, error)) (*Metrics, error) {
	for try := 0; ; try++ {
		s, err := t.Refresh(ctx)
		if err != nil {
			return nil, err
		}
		if err := s.checkWrite(); err != nil {
			return nil, err
		}
		c, d, err := op(s)
		if err != nil {
			return nil, err
		}
		d.m.ConflictTries = try
		if c == nil {
			d.m.Version = s.version
			return &d.m, nil
		}
		for _, a := range d.adds {
			d.m.BytesAdded += a.Size
		}
		c.Adds, c.Removes, c.Changes, c.Reads, c.Base = d.adds, d.removes, d.changes, d.reads, s
		c.Metrics = d.m.texts()
		r, err := t.finish(ctx, *c, s.spec, nil, s)
		var conflict *ConflictError
		if err == nil {
			d.m.Version, d.m.Committed = r.Version, !r.AlreadyCommitted
			return &d.m, r.Upkeep
		}
		if !errors.As(err, &conflict) || try >= times {
			return nil, err
		}
	}
}

// Delete removes the rows for which where is true; nil removes all. With
// delta.enableDeletionVectors files are marked, else rewritten. After a conflict
// it runs again on the new version.
func (t *Table) Delete(ctx context.Context, where *Expr) (*Metrics, error) {
	return t.retried(ctx, func(s *Snapshot) (*Commit, *changes, error) {
		if err := s.checkRemoval("DELETE"); err != nil {
			return nil, &changes{}, err
		}
		d, err := t.deletion(ctx, s, where, WriteOptions{})
		if err != nil || len(d.removes) == 0 {
			return nil, d, err
		}
		params := map[string]string{"predicate": "[]"}
		if where != nil {
			params["predicate"] = jsonText([]string{where.String()})
		}
		return &Commit{Operation: "DELETE", Parameters: params, Filter: where, ReadAll: where == nil}, d, nil
	})
}

// deletion computes what deleting the rows of a condition does to the files.
func (t *Table) deletion(ctx context.Context, s *Snapshot, where *Expr, opts WriteOptions) (*changes, error) {
	return t.rewrite(ctx, s, where, opts, nil)
}

// rewrite takes the rows of a condition out of their files, and puts back what
// update makes of them; nil deletes them.
func (t *Table) rewrite(ctx context.Context, s *Snapshot, where *Expr, opts WriteOptions, update func(b *Batch) (*Batch, error)) (*changes, error) {
	d := &changes{}
	var bound *Expr
	if where != nil {
		var err error
		if bound, err = where.bind(s.spec.schema); err != nil {
			return d, err
		}
	}
	rw := newRewriter(ctx, t, s, d, opts)
	rw.bound, rw.update = bound, update
	for _, a := range s.Files() {
		if bound != nil && !s.fileMayMatch(bound, a) {
			continue
		}
		if err := rw.file(ctx, a); err != nil {
			return d, errors.Join(err, rw.abort())
		}
	}
	adds, err := rw.out.Close()
	if err == nil && rw.feed != nil {
		d.changes, err = rw.feed.close()
	}
	if err == nil {
		err = rw.writeVectors(ctx)
	}
	if err != nil {
		return d, errors.Join(err, rw.abort())
	}
	d.adds = append(d.adds, adds...)
	d.m.FilesAdded += len(adds)
	return d, nil
}

// rewriter applies a row change to files, one after the other.
type rewriter struct {
	t       *Table
	s       *Snapshot
	d       *changes
	now     int64
	bound   *Expr
	update  func(*Batch) (*Batch, error)
	out     *PartitionWriter
	wide    *Schema // of out: the table's columns, and those of row ids where it tracks rows
	feed    *feedWriter
	vectors []pendingVector
}

func newRewriter(ctx context.Context, t *Table, s *Snapshot, d *changes, opts WriteOptions) *rewriter {
	spec := s.spec.tracked()
	rw := &rewriter{t: t, s: s, d: d, now: t.opts.Now().UnixMilli(), out: newPartitionWriter(ctx, t.store, spec, opts), wide: spec.schema}
	if s.tracksChanges() {
		rw.feed = newFeedWriter(ctx, t, s, opts)
	}
	return rw
}

type pendingVector struct {
	add  *AddFile
	rows *rowSet
}

func (rw *rewriter) abort() error {
	errs := []error{rw.out.Abort()}
	if rw.feed != nil {
		errs = append(errs, rw.feed.abort())
	}
	return errors.Join(errs...)
}

// file handles one file that may hold rows of the condition.
func (rw *rewriter) file(ctx context.Context, a *AddFile) error {
	rw.d.reads = append(rw.d.reads, a)
	if can, cannot := rw.verdict(a); can && !cannot && rw.update == nil && rw.feed == nil {
		if n, ok := a.NumRecords(); ok { // the whole file goes, unread
			if a.DeletionVector != nil {
				n -= a.DeletionVector.Cardinality
			}
			rw.d.m.RowsDeleted += n
			rw.d.remove(a, rw.now)
			return nil
		}
	}
	old, err := rw.t.deletedRows(ctx, a.DeletionVector)
	if err != nil {
		return err
	}
	hit := newRowSet()
	live := int64(0)
	schema, filter := rw.wide, rw.bound
	if rw.update == nil && rw.feed == nil {
		schema = rw.narrow()
	}
	if filter != nil && schema != rw.wide {
		if filter, err = rw.bound.bind(schema); err != nil {
			return err
		}
	}
	err = rw.s.readRows(ctx, a, old, schema, nil, defaultBatchRows, func(b *Batch, first int64, alive []int32) error {
		rows, err := liveMatches(b, alive, filter)
		if err != nil {
			return err
		}
		live += int64(b.Len)
		if alive != nil {
			live += int64(len(alive) - b.Len)
		}
		for _, r := range rows {
			hit.add(first + int64(r))
		}
		if len(rows) == 0 || rw.update == nil && rw.feed == nil {
			return nil
		}
		return rw.changed(b, rows)
	})
	if err != nil || hit.count == 0 {
		return err
	}
	if rw.update == nil {
		rw.d.m.RowsDeleted += hit.count
	} else {
		rw.d.m.RowsUpdated += hit.count
	}
	rw.d.remove(a, rw.now)
	if hit.count == live {
		return nil
	}
	if rw.s.usesVectors() {
		all := hit
		if old != nil {
			all = old.clone()
			for k, c := range hit.chunks {
				c.toBits()
				for w, word := range c.bits {
					for bit := range 64 {
						if word>>bit&1 == 1 {
							all.add(int64(k<<16) + int64(w*64+bit))
						}
					}
				}
			}
		}
		rw.vectors = append(rw.vectors, pendingVector{a, all})
		return nil
	}
	return rw.copyRest(ctx, a, old, hit)
}

// verdict tells what the condition can be in a file, by partition values alone:
// statistics do not tell that no row is null.
func (rw *rewriter) verdict(a *AddFile) (canBeTrue, canBeOther bool) {
	if rw.bound == nil {
		return true, false
	}
	cols := map[string]bool{}
	rw.bound.columns(cols)
	for name := range cols {
		if !containsFold(rw.s.metadata.PartitionColumns, name) {
			return true, true
		}
	}
	b := NewBatch(rw.s.spec.schema)
	for i := range b.Schema.Fields {
		f := &b.Schema.Fields[i]
		name, _ := f.physical(rw.s.spec.mapped)
		if text, ok := a.PartitionValues[name]; !ok || ParsePartitionValue(b.Columns[i], text) != nil {
			b.Columns[i] = NewVector(f.Type)
			b.Columns[i].AppendNull()
		}
	}
	b.Len = 1
	t, err := rw.bound.truths(b)
	if err != nil {
		return true, true
	}
	return t[0] == yes, t[0] != yes
}

// narrow is the schema of the columns that the condition reads, at least one.
func (rw *rewriter) narrow() *Schema {
	cols := map[string]bool{}
	rw.bound.columns(cols)
	out := &Schema{}
	for _, f := range rw.s.spec.schema.Fields {
		if cols[strings.ToLower(f.Name)] {
			out.Fields = append(out.Fields, f)
		}
	}
	if len(out.Fields) == 0 {
		out.Fields = rw.s.spec.schema.Fields[:1]
	}
	return out
}

// changed writes what becomes of the rows of a batch, and the change feed.
func (rw *rewriter) changed(b *Batch, rows []int32) error {
	before := b
	if len(rows) < b.Len {
		before = NewBatch(b.Schema)
		before.Gather(b, rows)
	}
	if rw.update == nil {
		return rw.feed.write(before, "delete")
	}
	after, err := rw.update(before)
	if err != nil {
		return err
	}
	if err := rw.putUpdated(after); err != nil {
		return err
	}
	if rw.feed == nil {
		return nil
	}
	if err := rw.feed.write(before, "update_preimage"); err != nil {
		return err
	}
	return rw.feed.write(after, "update_postimage")
}

// copyRest writes the rows of a file that are neither deleted nor hit.
func (rw *rewriter) copyRest(ctx context.Context, a *AddFile, old, hit *rowSet) error {
	return rw.s.readRows(ctx, a, old, rw.wide, nil, defaultBatchRows, func(b *Batch, first int64, alive []int32) error {
		return rw.copyBatch(b, first, alive, hit)
	})
}

// copyBatch writes the live rows of a batch that are not hit; without hit none.
func (rw *rewriter) copyBatch(b *Batch, first int64, alive []int32, hit *rowSet) error {
	if hit == nil {
		return nil
	}
	if alive == nil {
		alive = allRows(b.Len)
	}
	keep := alive[:0:0]
	for _, r := range alive {
		if !hit.has(first + int64(r)) {
			keep = append(keep, r)
		}
	}
	rw.d.m.RowsCopied += int64(len(keep))
	rest := NewBatch(b.Schema)
	rest.Gather(b, keep)
	return rw.out.Write(rest)
}

// writeVectors stores the new deletion vectors in one file and adds the data
// files again with them.
func (rw *rewriter) writeVectors(ctx context.Context) error {
	if len(rw.vectors) == 0 {
		return nil
	}
	id := uuid.New()
	sets := make([][]byte, len(rw.vectors))
	for i, v := range rw.vectors {
		sets[i] = v.rows.encode()
	}
	file, offsets := encodeVectorFile(sets)
	if err := rw.t.store.Put(ctx, "deletion_vector_"+id.String()+".bin", file); err != nil {
		return fmt.Errorf("deltalake: write deletion vectors: %w", err)
	}
	for i, v := range rw.vectors {
		n := *v.add
		n.DeletionVector = &DeletionVector{
			StorageType: "u", PathOrInlineDv: z85Encode(id[:]), Offset: &offsets[i], SizeInBytes: int32(len(sets[i])), Cardinality: v.rows.count,
		}
		n.DataChange = true
		n.Stats = strings.Replace(n.Stats, `"tightBounds":true`, `"tightBounds":false`, 1)
		rw.d.adds = append(rw.d.adds, &n)
		rw.d.m.VectorsAdded++
	}
	return nil
}

// Update sets columns, by name, to the values of expressions in the rows for
// which where is true; nil updates all.
func (t *Table) Update(ctx context.Context, set map[string]*Expr, where *Expr) (*Metrics, error) {
	return t.retried(ctx, func(s *Snapshot) (*Commit, *changes, error) {
		if err := s.checkRemoval("UPDATE"); err != nil {
			return nil, &changes{}, err
		}
		apply, err := s.assignments(set)
		if err != nil {
			return nil, &changes{}, err
		}
		d, err := t.rewrite(ctx, s, where, WriteOptions{}, apply)
		if err != nil || len(d.removes) == 0 {
			return nil, d, err
		}
		params := map[string]string{"predicate": "[]"}
		if where != nil {
			params["predicate"] = jsonText([]string{where.String()})
		}
		return &Commit{Operation: "UPDATE", Parameters: params, Filter: where, ReadAll: where == nil}, d, nil
	})
}

// assignments compiles SET clauses into a function over batches of the table's
// columns.
func (s *Snapshot) assignments(set map[string]*Expr) (func(*Batch) (*Batch, error), error) {
	type target struct {
		column int
		expr   *Expr
	}
	var targets []target
	if len(set) == 0 {
		return nil, errors.New("deltalake: an update sets no column")
	}
	for _, name := range sortedKeys(set) {
		i := s.spec.schema.Index(name)
		if i < 0 {
			return nil, fmt.Errorf("deltalake: column %q is not in the table", name)
		}
		if s.spec.schema.Fields[i].isIdentity() {
			return nil, fmt.Errorf("deltalake: identity column %q cannot be updated", s.spec.schema.Fields[i].Name)
		}
		e, err := set[name].bind(s.spec.schema)
		if err != nil {
			return nil, err
		}
		targets = append(targets, target{i, e})
	}
	var generate []int
	for i, f := range s.spec.schema.Fields {
		if _, ok := f.Metadata["delta.generationExpression"]; ok && set[f.Name] == nil {
			generate = append(generate, i)
		}
	}
	return func(b *Batch) (*Batch, error) {
		out := &Batch{Schema: b.Schema, Len: b.Len, Columns: append([]*Vector{}, b.Columns...)}
		for _, tg := range targets {
			v, err := tg.expr.column(b, b.Schema.Fields[tg.column])
			if err != nil {
				return nil, err
			}
			out.Columns[tg.column] = v
		}
		for _, i := range generate {
			v, err := s.spec.generated(i, out)
			if err != nil {
				return nil, err
			}
			out.Columns[i] = v
		}
		return out, nil
	}, nil
}

// column evaluates a bound expression as the values of a field.
func (e *Expr) column(b *Batch, f Field) (*Vector, error) {
	if e.op == "col" && sameShape(e.field, f.Type) && len(e.path) == 1 {
		return b.Columns[e.path[0]], nil
	}
	v := NewVector(f.Type)
	if e.op == "col" && !f.Type.primitive() {
		src := b.Columns[e.path[0]]
		for _, p := range e.path[1:] {
			src = src.Children[p]
		}
		if !sameShape(src.Type, f.Type) {
			return nil, fmt.Errorf("deltalake: column %q is %s and cannot be set to %s", f.Name, f.Type, src.Type)
		}
		for i := range b.Len {
			v.appendFrom(src, i)
		}
		return v, nil
	}
	for i := range b.Len {
		x, err := e.eval(b, i)
		if err != nil {
			return nil, err
		}
		if !v.appendValue(x) {
			return nil, fmt.Errorf("deltalake: column %q is %s and cannot hold %s", f.Name, f.Type, x.text())
		}
	}
	return v, nil
}
