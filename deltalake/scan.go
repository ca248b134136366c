package deltalake

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"strings"
)

// ScanOptions says what to read. A zero field means its default.
type ScanOptions struct {
	Columns     []string // in this order; all of the table's
	Filter      *Expr    // rows for which it is true; all rows
	BatchRows   int      // rows of a batch at most; 16,384
	RowIDs      bool     // add RowID and RowCommitVersion; the table must track rows
	Parallelism int      // files read at once; TableOptions.Parallelism, less where memory is short
}

const defaultBatchRows = 16_384

// scan is a prepared ScanOptions.
type scan struct {
	s      *Snapshot
	read   *Schema // columns to read: the result's and the filter's
	out    *Schema // columns of the result
	pick   []int   // of out in read
	filter *Expr   // bound to read; nil
	files  []*AddFile
	rows   int
}

func (s *Snapshot) prepare(o ScanOptions) (*scan, error) {
	sc := &scan{s: s, read: &Schema{}, out: &Schema{}, rows: o.BatchRows}
	if sc.rows <= 0 {
		sc.rows = defaultBatchRows
	}
	columns := o.Columns
	if columns == nil {
		for _, f := range s.spec.schema.Fields {
			columns = append(columns, f.Name)
		}
	}
	add := func(name string) (int, error) {
		i := s.spec.schema.Index(name)
		if i < 0 {
			return 0, fmt.Errorf("deltalake: column %q is not in the table", name)
		}
		f := s.spec.schema.Fields[i]
		for j := range sc.read.Fields {
			if sc.read.Fields[j].Name == f.Name {
				return j, nil
			}
		}
		sc.read.Fields = append(sc.read.Fields, f)
		return len(sc.read.Fields) - 1, nil
	}
	for _, c := range columns {
		i, err := add(c)
		if err != nil {
			return nil, err
		}
		sc.pick = append(sc.pick, i)
		sc.out.Fields = append(sc.out.Fields, sc.read.Fields[i])
	}
	var table *Expr // the filter over the whole table
	if o.Filter != nil {
		need := map[string]bool{}
		o.Filter.columns(need)
		for _, name := range sortedKeys(need) {
			if _, err := add(name); err != nil {
				return nil, err
			}
		}
		var err error
		if sc.filter, err = o.Filter.bind(sc.read); err != nil {
			return nil, err
		}
		if table, err = o.Filter.bind(s.spec.schema); err != nil {
			return nil, err
		}
	}
	for a := range s.files.each(table != nil) {
		if table == nil || s.fileMayMatch(table, a) {
			sc.files = append(sc.files, a)
		}
	}
	sortFiles(sc.files)
	if o.RowIDs {
		if !s.metadata.tracksRows() {
			return nil, fmt.Errorf("deltalake: version %d does not track rows; set %s", s.version, rowTrackingProperty)
		}
		if err := s.protocol.checkRowTracking(s.metadata); err != nil {
			return nil, err
		}
		n := len(sc.read.Fields)
		sc.read.Fields = append(sc.read.Fields, Col(s.metadata.Configuration[rowIDProperty], Of(KindLong)), Col(s.metadata.Configuration[rowVersionProperty], Of(KindLong)))
		sc.out.Fields = append(sc.out.Fields, Field{Name: RowID, Type: Of(KindLong)}, Field{Name: RowCommitVersion, Type: Of(KindLong)})
		sc.pick = append(sc.pick, n, n+1)
	}
	return sc, nil
}

// Scan yields the live rows in batches, files in path order. It reads files in
// parallel and ahead; at most about TableOptions.Memory is held. The iteration
// ends at the first error, which is yielded.
func (s *Snapshot) Scan(ctx context.Context, o ScanOptions) iter.Seq2[*Batch, error] {
	return func(yield func(*Batch, error) bool) {
		sc, err := s.prepare(o)
		if err != nil {
			yield(nil, err)
			return
		}
		sc.run(ctx, s.table.parallel(o.Parallelism), yield)
	}
}

// parallel is the number of files to read at once.
func (t *Table) parallel(asked int) int {
	n := t.opts.Parallelism
	if asked > 0 {
		n = asked
	}
	return max(1, min(n, int(t.opts.Memory>>25)))
}

type batchOrError struct {
	batch *Batch
	err   error
}

func (sc *scan) run(ctx context.Context, parallel int, yield func(*Batch, error) bool) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	order := make(chan chan batchOrError, parallel-1)
	go func() {
		defer close(order)
		for _, a := range sc.files {
			c := make(chan batchOrError, 2)
			select {
			case order <- c:
			case <-ctx.Done():
				return
			}
			go func() {
				defer close(c)
				send := func(r batchOrError) error {
					select {
					case c <- r:
						return nil
					case <-ctx.Done():
						return ctx.Err()
					}
				}
				if err := sc.file(ctx, a, func(b *Batch) error { return send(batchOrError{b, nil}) }); err != nil {
					_ = send(batchOrError{nil, err}) // the reader has gone when this fails
				}
			}()
		}
	}()
	for c := range order {
		for r := range c {
			if !yield(r.batch, r.err) || r.err != nil {
				return
			}
		}
	}
	if err := ctx.Err(); err != nil {
		yield(nil, err)
	}
}

// file yields one file's rows of the result.
func (sc *scan) file(ctx context.Context, a *AddFile, fn func(*Batch) error) error {
	return sc.s.readFile(ctx, a, sc.read, sc.filter, sc.rows, func(b *Batch, _ int64, live []int32) error {
		rows, err := liveMatches(b, live, sc.filter)
		if err != nil || len(rows) == 0 {
			return err
		}
		out := &Batch{Schema: sc.out, Len: len(rows)}
		for _, i := range sc.pick {
			v := b.Columns[i]
			if len(rows) < b.Len {
				g := NewVector(v.Type)
				g.Gather(v, rows)
				v = g
			}
			out.Columns = append(out.Columns, v)
		}
		return fn(out)
	})
}

// liveMatches returns the rows that are live (nil: all) and fulfil the filter.
func liveMatches(b *Batch, live []int32, filter *Expr) ([]int32, error) {
	if filter == nil {
		if live == nil {
			live = allRows(b.Len)
		}
		return live, nil
	}
	rows, err := filter.matches(b)
	if err != nil || live == nil {
		return rows, err
	}
	out := make([]int32, 0, min(len(rows), len(live)))
	for i, j := 0, 0; i < len(rows) && j < len(live); {
		switch {
		case rows[i] < live[j]:
			i++
		case rows[i] > live[j]:
			j++
		default:
			out = append(out, rows[i])
			i, j = i+1, j+1
		}
	}
	return out, nil
}

// readFile decodes the columns of schema from one data file, in batches. fn gets
// the number of the batch's first row in the file and the rows that the deletion
// vector leaves (nil: all). Row groups and pages that the filter, bound to schema,
// excludes are passed over.
func (s *Snapshot) readFile(ctx context.Context, a *AddFile, schema *Schema, filter *Expr, batchRows int, fn func(b *Batch, first int64, live []int32) error) error {
	deleted, err := s.table.deletedRows(ctx, a.DeletionVector)
	if err != nil {
		return err
	}
	return s.readRows(ctx, a, deleted, schema, filter, batchRows, fn)
}

func (s *Snapshot) readPath(ctx context.Context, logPath string, size int64, partition map[string]*string, deleted *rowSet, schema *Schema, filter *Expr, batchRows int, fn func(b *Batch, first int64, live []int32) error) error {
	store, path, err := s.table.resolve(logPath)
	if err != nil {
		return err
	}
	f, err := openParquet(ctx, store, path, size)
	if errors.Is(err, ErrNotFound) {
		return fmt.Errorf("deltalake: version %d names data file %s, which is gone, perhaps vacuumed: %w", s.version, path, ErrNotFound)
	}
	if err != nil {
		return err
	}
	var stored []Field
	slot := make([]int, len(schema.Fields)) // of a column in stored; -1 for partition columns
	constants := make([]*Vector, len(schema.Fields))
	for i := range schema.Fields {
		field := &schema.Fields[i]
		slot[i] = -1
		if !containsFold(s.metadata.PartitionColumns, field.Name) {
			slot[i] = len(stored)
			stored = append(stored, *field)
			continue
		}
		name, _ := field.physical(s.spec.mapped)
		constants[i] = NewVector(field.Type)
		if err := ParsePartitionValue(constants[i], partition[name]); err != nil {
			return fmt.Errorf("%w (column %q of %s)", err, field.Name, path)
		}
	}
	p, plans, err := planFile(f, stored, s.spec)
	if err != nil {
		return err
	}
	bySchema := make([]*colPlan, len(schema.Fields))
	for i, sl := range slot {
		if sl >= 0 {
			bySchema[i] = plans[sl]
		}
	}
	lazy, wanted := lateColumns(schema, slot, constants, filter)
	base := int64(0) // the row group's first row in the file
	for g := range f.meta.groups {
		group := &f.meta.groups[g]
		if filter != nil {
			if can, _ := filter.possible(f.chunkBounds(group, bySchema)); !can {
				base += group.rows
				continue
			}
		}
		r, err := f.filtered(ctx, g, p, plans, filter, bySchema)
		if err != nil {
			return err
		}
		for done := int64(0); ; done = r.at {
			if err := ctx.Err(); err != nil {
				return err
			}
			cols, n, ok, err := r.nextIf(batchRows, lazy, wanted)
			if err != nil && r.paged() { // its page index may lie
				if r, err = newGroupReader(ctx, f, g, p, plans); err != nil {
					return err
				}
				r.ranges[0].lo = done
				cols, n, ok, err = r.nextIf(batchRows, lazy, wanted)
			}
			if err != nil {
				return fmt.Errorf("%w (file %s)", err, path)
			}
			if n == 0 {
				break
			}
			if !ok {
				continue
			}
			first := base + r.first
			b := &Batch{Schema: schema, Len: n, Columns: make([]*Vector, len(slot))}
			for i, sl := range slot {
				if sl >= 0 {
					b.Columns[i] = cols[sl]
				} else {
					b.Columns[i] = repeatValue(constants[i], n)
				}
			}
			if err := fn(b, first, liveRows(deleted, first, n)); err != nil {
				return err
			}
		}
		base += group.rows
	}
	return nil
}

// lateColumns decides which stored columns are read first, those of the filter,
// and whether the others are worth reading.
func lateColumns(schema *Schema, slot []int, constants []*Vector, filter *Expr) ([]bool, func([]*Vector, int) (bool, error)) {
	if filter == nil {
		return nil, nil
	}
	names := map[string]bool{}
	filter.columns(names)
	lazy := make([]bool, len(slot))
	some := false
	for i, sl := range slot {
		if sl >= 0 && names[strings.ToLower(schema.Fields[i].Name)] {
			lazy[sl] = true
		} else if sl >= 0 {
			some = true
		}
	}
	if !some {
		return nil, nil
	}
	return lazy, func(cols []*Vector, n int) (bool, error) {
		b := &Batch{Schema: schema, Len: n, Columns: make([]*Vector, len(slot))}
		for i, sl := range slot {
			switch {
			case sl >= 0:
				b.Columns[i] = cols[sl]
			case names[strings.ToLower(schema.Fields[i].Name)]:
				b.Columns[i] = repeatValue(constants[i], n)
			}
		}
		rows, err := filter.matches(b)
		return len(rows) > 0, err
	}
}

// repeatValue returns n rows of the only row of v.
func repeatValue(v *Vector, n int) *Vector {
	out := NewVector(v.Type)
	if v.Null(0) {
		out.appendNulls(n)
		return out
	}
	out.reserve(n)
	out.appendIndexed(v, make([]int32, n))
	return out
}

// liveRows returns the rows of [first, first+n) that are not deleted, relative to
// first; nil when all are live.
func liveRows(deleted *rowSet, first int64, n int) []int32 {
	if deleted == nil || deleted.count == 0 {
		return nil
	}
	live := make([]int32, 0, n)
	for i := range n {
		if !deleted.has(first + int64(i)) {
			live = append(live, int32(i))
		}
	}
	if len(live) == n {
		return nil
	}
	return live
}
