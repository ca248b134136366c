package deltalake

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/bits"
	"slices"
	"sort"
	"strings"

	"github.com/google/uuid"
)

// Tags of clustered files, as Spark writes them: the files of one cube were
// clustered together.
const (
	clusterProvider = "liquid"
	cubeIDTag       = "ZCUBE_ID"
	cubeColumnsTag  = "ZCUBE_ZORDER_BY"
	cubeCurveTag    = "ZCUBE_ZORDER_CURVE"
)

// cube returns the cube that a file belongs to, and whether it was clustered by
// these columns.
func (a *AddFile) cube(columns []string) (id string, same bool) {
	if a.ClusteringProvider != clusterProvider || a.Tags[cubeIDTag] == nil {
		return "", false
	}
	var by []string
	if text := a.Tags[cubeColumnsTag]; text == nil || json.Unmarshal([]byte(*text), &by) != nil {
		return *a.Tags[cubeIDTag], false
	}
	return *a.Tags[cubeIDTag], slices.EqualFunc(by, columns, strings.EqualFold)
}

// cluster is Optimize for a clustered table: files that are not clustered yet, and
// those of small cubes, become one or more new cubes. Large cubes stay, so that a row
// is rewritten a few times only.
func (t *Table) cluster(ctx context.Context, s *Snapshot, columns []string, o OptimizeOptions) (*Commit, *changes, error) {
	d := &changes{}
	if len(o.ZOrder) > 0 {
		return nil, d, errors.New("deltalake: a clustered table is optimized by its clustering columns, not by a Z-order of others; change them with ClusterBy")
	}
	if o.Where != nil {
		return nil, d, errors.New("deltalake: a clustered table has no partition columns that the condition of Optimize could name")
	}
	for _, c := range columns {
		if s.spec.schema.Index(c) < 0 {
			return nil, d, &UnsupportedError{"written", fmt.Sprintf("clustering by %q, a member of a struct,", c)}
		}
	}
	if o.TargetBytes <= 0 {
		o.TargetBytes = targetBytes(s.metadata)
	}
	files := s.unclustered(columns, o)
	if len(files) == 0 {
		return nil, d, nil
	}
	adds, err := t.writeCubes(ctx, s, files, columns, o)
	if err != nil {
		return nil, d, err
	}
	now := t.opts.Now().UnixMilli()
	d.adds, d.m.FilesAdded = adds, len(adds)
	for _, a := range files {
		r := a.remove(now, false)
		d.removes = append(d.removes, &r)
		d.m.FilesRemoved++
		d.m.BytesRemoved += a.Size
	}
	return &Commit{Operation: "OPTIMIZE", rearranges: true, Parameters: map[string]string{
		"predicate": "[]", "zOrderBy": "[]", "clusterBy": jsonText(columns), "isFull": fmt.Sprint(o.Full)}}, d, nil
}

// unclustered returns the files to be clustered, none when all is well.
func (s *Snapshot) unclustered(columns []string, o OptimizeOptions) []*AddFile {
	type cube struct {
		files []*AddFile
		bytes int64
		holes bool // much of a file is deleted
	}
	var loose []*AddFile
	cubes := map[string]*cube{}
	for _, a := range s.Files() {
		id, same := a.cube(columns)
		switch {
		case a.ClusteringProvider != "" && a.ClusteringProvider != clusterProvider:
			// Another implementation owns it.
		case a.ClusteringProvider == "" || o.Full:
			loose = append(loose, a)
		case same:
			c := cubes[id]
			if c == nil {
				c = &cube{}
				cubes[id] = c
			}
			c.files, c.bytes = append(c.files, a), c.bytes+a.Size
			c.holes = c.holes || deletedShare(a) > 0.05
		}
	}
	small := 0
	all := loose
	holes := false
	for _, id := range sortedKeys(cubes) {
		if c := cubes[id]; c.bytes < o.TargetBytes || c.holes {
			small++
			holes = holes || c.holes
			all = append(all, c.files...)
		}
	}
	if len(loose) == 0 && small < 2 && !holes {
		return nil
	}
	return s.byLowest(all, columns[0])
}

// byLowest orders files by the lower bound of a column, so that what is sorted
// together in memory is near together.
func (s *Snapshot) byLowest(files []*AddFile, column string) []*AddFile {
	col, err := (&Expr{op: "col", name: []string{column}, text: column}).bind(s.spec.schema)
	if err != nil {
		return files
	}
	lows := make(map[*AddFile]value, len(files))
	for _, a := range files {
		lows[a] = s.fileBounds(a)(col).lo
	}
	sort.SliceStable(files, func(i, j int) bool { return lessNullsFirst(lows[files[i]], lows[files[j]]) })
	return files
}

// writeCubes writes the live rows of files along a Hilbert curve over columns. What
// fits in memory together becomes one cube.
func (t *Table) writeCubes(ctx context.Context, s *Snapshot, files []*AddFile, columns []string, o OptimizeOptions) ([]*AddFile, error) {
	spec := *s.spec.tracked()
	spec.meta = s.metadata.withoutConstraints()
	var adds []*AddFile
	step := stepRows(files, o.TargetBytes)
	all := NewBatch(spec.schema)
	flush := func() error {
		if all.Len == 0 {
			return nil
		}
		w := newPartitionWriter(ctx, t.store, &spec, WriteOptions{File: o.File, TargetBytes: o.TargetBytes})
		order := hilbertOrder(all, columns)
		for lo := 0; lo < len(order); lo += step {
			part := NewBatch(all.Schema)
			part.Gather(all, order[lo:min(lo+step, len(order))])
			if err := w.Write(part); err != nil {
				return errors.Join(err, w.Abort())
			}
		}
		done, err := w.Close()
		if err != nil {
			return err
		}
		id, by, curve := uuid.NewString(), jsonText(columns), "hilbert"
		for _, a := range done {
			a.DataChange = false
			a.ClusteringProvider = clusterProvider
			a.Tags = map[string]*string{cubeIDTag: &id, cubeColumnsTag: &by, cubeCurveTag: &curve}
		}
		adds = append(adds, done...)
		all = NewBatch(spec.schema)
		return nil
	}
	for _, a := range files {
		err := s.readFile(ctx, a, spec.schema, nil, defaultBatchRows, func(b *Batch, _ int64, live []int32) error {
			if live == nil {
				live = allRows(b.Len)
			}
			all.Gather(b, live)
			if all.Bytes() > 2*t.opts.Memory {
				return flush()
			}
			return nil
		})
		if err != nil {
			return nil, errors.Join(err, t.drop(ctx, adds))
		}
	}
	if err := flush(); err != nil {
		return nil, errors.Join(err, t.drop(ctx, adds))
	}
	return adds, nil
}

// stepRows is how many rows to write between two looks at a file's size, about an
// eighth of a file.
func stepRows(files []*AddFile, target int64) int {
	var rows, size int64
	for _, a := range files {
		n, _ := a.NumRecords()
		rows, size = rows+n, size+a.Size
	}
	if size == 0 {
		return defaultBatchRows
	}
	return int(max(64, min(defaultBatchRows, float64(target)*float64(rows)/float64(size)/8)))
}

// withoutConstraints returns metadata for rows that fulfil the table's rules
// already.
func (m *Metadata) withoutConstraints() *Metadata {
	c := m.clone()
	for k := range c.Configuration {
		if strings.HasPrefix(k, "delta.constraints.") {
			delete(c.Configuration, k)
		}
	}
	return c
}

// hilbertOrder returns the rows of b along a Hilbert curve over the ranks of
// columns: neighbours on the curve are neighbours in every column.
func hilbertOrder(b *Batch, columns []string) []int32 {
	ranks := columnRanks(b, columns)
	width := bits.Len(uint(max(b.Len-1, 1)))
	point := make([]uint32, len(columns))
	words := (width*len(columns) + 63) / 64
	keys := make([]uint64, b.Len*words)
	for r := range b.Len {
		for k := range ranks {
			point[k] = ranks[k][r]
		}
		hilbertIndex(point, width)
		interleave(keys[r*words:(r+1)*words], point, width)
	}
	rows := allRows(b.Len)
	slices.SortStableFunc(rows, func(x, y int32) int {
		return slices.Compare(keys[int(x)*words:(int(x)+1)*words], keys[int(y)*words:(int(y)+1)*words])
	})
	return rows
}

// hilbertIndex turns the coordinates of a point, of width bits each, into its place
// on the Hilbert curve, whose bits are spread over the coordinates, highest first.
// It undoes, from the largest cube to the smallest, the rotations and reflections
// that the curve goes through, and then the Gray code that numbers a cube's corners.
func hilbertIndex(x []uint32, width int) {
	last := len(x) - 1
	for bit := width - 1; bit > 0; bit-- {
		low := uint32(1)<<bit - 1
		for i := range x {
			if x[i]>>bit&1 == 1 {
				x[0] ^= low
			} else {
				swap := (x[0] ^ x[i]) & low
				x[0] ^= swap
				x[i] ^= swap
			}
		}
	}
	for i := 1; i <= last; i++ {
		x[i] ^= x[i-1]
	}
	flip := uint32(0)
	for bit := width - 1; bit > 0; bit-- {
		if x[last]>>bit&1 == 1 {
			flip ^= uint32(1)<<bit - 1
		}
	}
	for i := range x {
		x[i] ^= flip
	}
}

// interleave writes the bits of coordinates, highest first, into a key.
func interleave(key []uint64, x []uint32, width int) {
	at := 0
	for bit := width - 1; bit >= 0; bit-- {
		for k := range x {
			if x[k]>>bit&1 == 1 {
				key[at/64] |= 1 << (63 - at%64)
			}
			at++
		}
	}
}
