package deltalake

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// Neighbours on the Hilbert curve are neighbours in space, and every point has a
// place of its own.
func TestHilbertCurve(t *testing.T) {
	for _, tt := range []struct{ dims, width int }{{1, 5}, {2, 1}, {2, 5}, {3, 3}, {4, 3}} {
		n := 1 << (tt.dims * tt.width)
		place := make([][]uint32, n)
		for p := range n {
			point := make([]uint32, tt.dims)
			for k := range point {
				point[k] = uint32(p >> (k * tt.width) & (1<<tt.width - 1))
			}
			at := slices.Clone(point)
			hilbertIndex(at, tt.width)
			key := make([]uint64, 1)
			interleave(key, at, tt.width)
			i := key[0] >> (64 - tt.dims*tt.width)
			if place[i] != nil {
				t.Fatalf("%+v: place %d is taken twice", tt, i)
			}
			place[i] = point
		}
		for i := 1; i < n; i++ {
			far := 0
			for k := range tt.dims {
				far += max(int(place[i][k])-int(place[i-1][k]), int(place[i-1][k])-int(place[i][k]))
			}
			if far != 1 {
				t.Fatalf("%+v: places %d and %d are %v and %v", tt, i-1, i, place[i-1], place[i])
			}
		}
	}
}

func pointSchema() *Schema {
	return NewSchema(Col("x", Of(KindLong)), Col("y", Of(KindLong)), Col("key", Of(KindLong)))
}

func points(rng *rand.Rand, from, n int) *Batch {
	b := NewBatch(pointSchema())
	for i := range n {
		b.Columns[0].AppendLong(rng.Int64N(1000))
		b.Columns[1].AppendLong(rng.Int64N(1000))
		b.Columns[2].AppendLong(int64(from + i))
		b.Len++
	}
	return b
}

// touched is the share of files that small squares make a reader open.
func touched(t *testing.T, s *Snapshot) float64 {
	t.Helper()
	hit, all := 0, 0
	for x := 50; x < 1000; x += 150 {
		for y := 50; y < 1000; y += 150 {
			e, err := mustExpr(t, fmt.Sprintf("x BETWEEN %d AND %d AND y BETWEEN %d AND %d", x, x+20, y, y+20)).bind(s.spec.schema)
			if err != nil {
				t.Fatal(err)
			}
			for _, a := range s.Files() {
				all++
				if s.fileMayMatch(e, a) {
					hit++
				}
			}
		}
	}
	return float64(hit) / float64(all)
}

// Optimize of a clustered table makes files that few queries touch, leaves what is
// clustered alone, keeps rows and their ids, and follows a change of the columns
// only where it is asked for all.
func TestClustering(t *testing.T) {
	ctx := context.Background()
	for _, props := range []map[string]string{{}, {"delta.columnMapping.mode": "name", "delta.enableDeletionVectors": "true", "delta.enableRowTracking": "true"}} {
		store := NewMemoryStore(nil)
		tbl, err := Create(ctx, store, CreateOptions{Schema: pointSchema(), Properties: props, ClusterBy: []string{"x", "Y"}})
		if err != nil {
			t.Fatal(err)
		}
		rng := rand.New(rand.NewPCG(1, 2))
		fill := func(files int) {
			t.Helper()
			for range files {
				if _, err := tbl.Append(ctx, Batches(points(rng, rng.IntN(1<<40), 2000)), WriteOptions{File: FileOptions{Compression: Uncompressed}}); err != nil {
					t.Fatal(err)
				}
			}
		}
		ids := func() trackedModel {
			out := trackedModel{}
			if props["delta.enableRowTracking"] == "" {
				return out
			}
			for b, err := range tbl.Latest().Scan(ctx, ScanOptions{Columns: []string{"key"}, RowIDs: true}) {
				if err != nil {
					t.Fatal(err)
				}
				for i := range b.Len {
					out[b.Columns[0].Longs[i]] = trackedRow{0, b.Columns[1].Longs[i], b.Columns[2].Longs[i]}
				}
			}
			return out
		}
		optimize := func(full bool) *Metrics {
			t.Helper()
			before, keys := ids(), longs(t, tbl, "key")
			m, err := tbl.Optimize(ctx, OptimizeOptions{TargetBytes: 24 << 10, Full: full, File: FileOptions{Compression: Uncompressed, RowGroupBytes: 8 << 10}})
			if err != nil {
				t.Fatal(err)
			}
			if tbl, err = Open(ctx, store, TableOptions{}); err != nil {
				t.Fatal(err)
			}
			if !maps.Equal(before, ids()) || !slices.Equal(keys, longs(t, tbl, "key")) {
				t.Fatal("optimize changed rows or their ids")
			}
			return m
		}
		fill(10)
		loose := touched(t, tbl.Latest())
		m := optimize(false)
		tight := touched(t, tbl.Latest())
		if loose < 0.9 || tight > 0.25 || m.FilesAdded < 8 {
			t.Fatalf("queries touched %.2f of the files, after %.2f of %d", loose, tight, m.FilesAdded)
		}
		if err := tbl.WriteCheckpoint(ctx, tbl.Latest()); err != nil {
			t.Fatal(err)
		}
		if m := optimize(false); m.Committed {
			t.Fatal("a second optimize found something to do")
		}
		fill(2)
		if m := optimize(false); m.FilesRemoved != 2 {
			t.Fatalf("%d files rewritten, want the 2 new ones", m.FilesRemoved)
		}
		if got := tbl.Latest().ClusteringColumns(); !slices.Equal(got, []string{"x", "y"}) {
			t.Fatal(got)
		}
		before := tbl.Latest().Version()
		if _, err := tbl.ClusterBy(ctx, "y"); err != nil {
			t.Fatal(err)
		}
		if m := optimize(false); m.Committed {
			t.Fatal("files clustered by other columns were rewritten")
		}
		if m := optimize(true); m.FilesRemoved != m.FilesAdded && m.FilesRemoved < 8 {
			t.Fatalf("full: %+v", m)
		}
		if _, err := tbl.ClusterBy(ctx); err != nil || len(tbl.Latest().ClusteringColumns()) != 0 {
			t.Fatal(err)
		}
		if _, err := tbl.Restore(ctx, before); err != nil || !slices.Equal(tbl.Latest().ClusteringColumns(), []string{"x", "y"}) {
			t.Fatal(err, tbl.Latest().ClusteringColumns())
		}
		if _, err := tbl.Delete(ctx, mustExpr(t, "x % 10 = 0")); err != nil {
			t.Fatal(err)
		}
		if m := optimize(false); !m.Committed {
			t.Fatal("files with holes were left")
		}
	}
}

// Clustering columns have statistics whatever the properties become, and what
// cannot be clustered is refused before a commit.
func TestClusteringRefusals(t *testing.T) {
	ctx := context.Background()
	wide := &Schema{Fields: []Field{Col("flag", Of(KindBoolean)), Col("in", StructOf(Col("a", Of(KindLong))))}}
	for i := range 40 {
		wide.Fields = append(wide.Fields, Col(fmt.Sprint("c", i), Of(KindLong)))
	}
	for what, o := range map[string]CreateOptions{
		"partitioned": {ClusterBy: []string{"c0"}, PartitionColumns: []string{"c1"}},
		"no column":   {ClusterBy: []string{"nope"}}, "twice": {ClusterBy: []string{"c0", "C0"}}, "no order": {ClusterBy: []string{"flag"}},
		"member": {ClusterBy: []string{"in.a"}}, "five": {ClusterBy: []string{"c0", "c1", "c2", "c3", "c4"}}, "no statistics": {ClusterBy: []string{"c39"}},
		"feature": {Properties: map[string]string{"delta.feature.clustering": "supported"}, PartitionColumns: []string{"c1"}},
	} {
		o.Schema = wide
		store := NewMemoryStore(nil)
		if _, err := Create(ctx, store, o); err == nil || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v, want one sentence", what, err)
		}
		for info := range store.List(ctx, "", "") {
			t.Errorf("%s left %s", what, info.Path)
		}
	}
	tbl, err := Create(ctx, NewMemoryStore(nil), CreateOptions{Schema: wide, ClusterBy: []string{"c3"}, Properties: map[string]string{"delta.columnMapping.mode": "name"}})
	if err != nil {
		t.Fatal(err)
	}
	none := "0"
	if _, err := tbl.SetProperties(ctx, map[string]*string{"delta.dataSkippingNumIndexedCols": &none}); err != nil {
		t.Fatal(err)
	}
	b := NewBatch(NewSchema(Col("c3", Of(KindLong))))
	b.Columns[0].AppendLong(7)
	b.Len = 1
	if _, err := tbl.Append(ctx, Batches(b), WriteOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := tbl.Latest().haveStats([]string{"c3"}); err != nil {
		t.Fatal(err)
	}
	if _, err := tbl.RenameColumn(ctx, "c3", "z"); err != nil || !slices.Equal(tbl.Latest().ClusteringColumns(), []string{"z"}) {
		t.Fatal(err, tbl.Latest().ClusteringColumns())
	}
	v := tbl.Latest().Version()
	for what, run := range map[string]func() error{
		"drop":     func() error { _, err := tbl.DropColumn(ctx, "z"); return err },
		"unstated": func() error { _, err := tbl.ClusterBy(ctx, "c4"); return err },
		"zorder":   func() error { _, err := tbl.Optimize(ctx, OptimizeOptions{ZOrder: []string{"c4"}}); return err },
		"where":    func() error { _, err := tbl.Optimize(ctx, OptimizeOptions{Where: mustExpr(t, "z = 1")}); return err },
	} {
		if err := run(); err == nil || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v, want one sentence", what, err)
		}
	}
	if tbl.Latest().Version() != v {
		t.Fatal("a refusal left a version")
	}
}
