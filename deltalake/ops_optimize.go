package deltalake

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/bits"
	"slices"
	"sort"
)

// OptimizeOptions says which files to put together. A zero field means its
// default.
type OptimizeOptions struct {
	Where       *Expr    // on partition columns only; the whole table
	TargetBytes int64    // of a file; delta.targetFileSize or 128 MiB
	ZOrder      []string // columns to cluster rows by; none
	File        FileOptions
	MaxBins     int  // bins done in one commit; 0 does all
	Full        bool // of a clustered table: cluster all files anew, also those that are clustered well or by other columns

	pace func(ctx context.Context) error
}

// Optimize writes small files, and files of which much is deleted, together into
// larger ones, partition by partition. With ZOrder the rows of each bin are sorted
// along a Z-order curve. No row changes, so it conflicts only with removals of the
// same files; after such a conflict it runs again. A table with clustering columns
// is clustered by them instead, along a Hilbert curve, without partitions.
func (t *Table) Optimize(ctx context.Context, o OptimizeOptions) (*Metrics, error) {
	return t.retried(ctx, func(s *Snapshot) (*Commit, *changes, error) {
		d := &changes{}
		columns, _, err := s.clustering()
		if err != nil {
			return nil, d, err
		}
		if len(columns) > 0 {
			return t.cluster(ctx, s, columns, o)
		}
		bins, err := s.bins(o)
		if err != nil || len(bins) == 0 {
			return nil, d, err
		}
		if o.MaxBins > 0 && len(bins) > o.MaxBins {
			bins = bins[:o.MaxBins]
		}
		if err := t.compactBins(ctx, s, bins, o, d); err != nil {
			return nil, d, err
		}
		params := map[string]string{"predicate": "[]", "zOrderBy": jsonText(append([]string{}, o.ZOrder...))}
		if o.Where != nil {
			params["predicate"] = jsonText([]string{o.Where.String()})
		}
		return &Commit{Operation: "OPTIMIZE", Parameters: params, rearranges: true}, d, nil
	})
}

// bins groups the files to be written together.
func (s *Snapshot) bins(o OptimizeOptions) ([][]*AddFile, error) {
	target := o.TargetBytes
	if target <= 0 {
		target = targetBytes(s.metadata)
	}
	for _, c := range o.ZOrder {
		i := s.spec.schema.Index(c)
		if i < 0 || containsFold(s.metadata.PartitionColumns, c) || !s.spec.schema.Fields[i].Type.primitive() {
			return nil, fmt.Errorf("deltalake: rows cannot be ordered by %q: it must be a plain column that does not partition the table", c)
		}
	}
	var bound *Expr
	if o.Where != nil {
		cols := map[string]bool{}
		o.Where.columns(cols)
		for c := range cols {
			if !containsFold(s.metadata.PartitionColumns, c) {
				return nil, fmt.Errorf("deltalake: the condition of Optimize may only name partition columns, %q is none", c)
			}
		}
		var err error
		if bound, err = o.Where.bind(s.spec.schema); err != nil {
			return nil, err
		}
	}
	groups := map[string][]*AddFile{}
	for _, a := range s.Files() {
		if bound != nil && !s.fileMayMatch(bound, a) {
			continue
		}
		if len(o.ZOrder) > 0 || a.Size < target*3/4 || deletedShare(a) > 0.05 {
			k := partitionKey(a.PartitionValues)
			groups[k] = append(groups[k], a)
		}
	}
	var bins [][]*AddFile
	for _, k := range sortedKeys(groups) {
		files := groups[k]
		if len(o.ZOrder) > 0 {
			bins = append(bins, files)
			continue
		}
		sort.SliceStable(files, func(i, j int) bool { return files[i].Size < files[j].Size })
		var bin []*AddFile
		size := int64(0)
		flush := func() {
			if len(bin) > 1 || len(bin) == 1 && deletedShare(bin[0]) > 0.05 {
				bins = append(bins, bin)
			}
			bin, size = nil, 0
		}
		for _, a := range files {
			if size > 0 && size+a.Size > target {
				flush()
			}
			bin, size = append(bin, a), size+a.Size
		}
		flush()
	}
	return bins, nil
}

func deletedShare(a *AddFile) float64 {
	if a.DeletionVector == nil {
		return 0
	}
	n, ok := a.NumRecords()
	if !ok || n == 0 {
		return 0
	}
	return float64(a.DeletionVector.Cardinality) / float64(n)
}

// compact writes the live rows of a bin to new files.
func (t *Table) compact(ctx context.Context, s *Snapshot, bin []*AddFile, o OptimizeOptions) ([]*AddFile, error) {
	// Reading and writing hold a partition of their own, so that rules of the
	// table, which the rows fulfil already, are not checked again.
	spec := *s.spec.tracked()
	spec.meta = s.metadata.withoutConstraints()
	if o.File.RowGroupBytes <= 0 {
		o.File.RowGroupBytes = defaultGroupBytes
	}
	w := newPartitionWriter(ctx, t.store, &spec, WriteOptions{File: o.File, TargetBytes: o.TargetBytes})
	var all *Batch
	if len(o.ZOrder) > 0 {
		all = NewBatch(spec.schema)
	}
	for _, a := range bin {
		err := s.readFile(ctx, a, spec.schema, nil, defaultBatchRows, func(b *Batch, _ int64, live []int32) error {
			if err := ctx.Err(); err != nil {
				return err
			}
			if o.pace != nil {
				if err := o.pace(ctx); err != nil {
					return err
				}
			}
			if live == nil && all == nil {
				return w.Write(b)
			}
			if live == nil {
				live = allRows(b.Len)
			}
			rest := all
			if rest == nil {
				rest = NewBatch(b.Schema)
			}
			rest.Gather(b, live)
			if all != nil {
				if size := all.Bytes(); size > t.opts.Memory*4 {
					return fmt.Errorf("deltalake: a partition of more than %d bytes cannot be ordered in memory; narrow it with Where or give TableOptions.Memory more", size)
				}
				return nil
			}
			return w.Write(rest)
		})
		if err != nil {
			return nil, errors.Join(err, w.Abort())
		}
	}
	if all != nil {
		order := zOrder(all, o.ZOrder)
		for lo := 0; lo < len(order); lo += defaultBatchRows {
			part := NewBatch(all.Schema)
			part.Gather(all, order[lo:min(lo+defaultBatchRows, len(order))])
			if err := w.Write(part); err != nil {
				return nil, errors.Join(err, w.Abort())
			}
		}
	}
	adds, err := w.Close()
	if err != nil {
		return nil, errors.Join(err, w.Abort())
	}
	return adds, nil
}

// Bytes returns roughly the memory that the rows of a batch take.
func (b *Batch) Bytes() int64 {
	n := int64(0)
	for _, c := range b.Columns {
		n += c.bytes()
	}
	return n
}

func (v *Vector) bytes() int64 {
	n := int64(len(v.Valid) + len(v.Bools) + 4*len(v.Ints) + 8*len(v.Longs) + 4*len(v.Floats) + 8*len(v.Doubles) + 16*len(v.Decimals) + 4*len(v.Offsets) + len(v.Data))
	for _, c := range v.Children {
		n += c.bytes()
	}
	return n
}

// zOrder returns the rows of b along a Z-order curve over the ranks of columns.
func zOrder(b *Batch, columns []string) []int32 {
	n := b.Len
	ranks := columnRanks(b, columns)
	width := bits.Len(uint(max(n-1, 1)))
	words := (width*len(columns) + 63) / 64
	keys := make([]uint64, n*words)
	point := make([]uint32, len(columns))
	for r := range n {
		for k := range ranks {
			point[k] = ranks[k][r]
		}
		interleave(keys[r*words:(r+1)*words], point, width)
	}
	rows := allRows(n)
	slices.SortStableFunc(rows, func(x, y int32) int {
		return slices.Compare(keys[int(x)*words:(int(x)+1)*words], keys[int(y)*words:(int(y)+1)*words])
	})
	return rows
}

// columnRanks returns for each column the rank of each row's value; equal values
// have one rank, and nulls the lowest.
func columnRanks(b *Batch, columns []string) [][]uint32 {
	n := b.Len
	ranks := make([][]uint32, len(columns))
	for k, name := range columns {
		v := b.Column(name)
		rows := allRows(n)
		vals := make([]value, n)
		for i := range vals {
			vals[i] = valueAt(v, i)
		}
		sort.SliceStable(rows, func(i, j int) bool { return lessNullsFirst(vals[rows[i]], vals[rows[j]]) })
		ranks[k] = make([]uint32, n)
		rank := uint32(0)
		for i, r := range rows {
			if i > 0 && lessNullsFirst(vals[rows[i-1]], vals[r]) {
				rank = uint32(i)
			}
			ranks[k][r] = rank
		}
	}
	return ranks
}

func lessNullsFirst(a, b value) bool {
	if a.kind == vNull || b.kind == vNull {
		return a.kind == vNull && b.kind != vNull
	}
	c, ok := a.compare(b)
	return ok && c < 0 && !math.IsNaN(a.f)
}
