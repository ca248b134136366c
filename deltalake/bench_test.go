package deltalake

import (
	"bytes"
	"context"
	"fmt"
	"sync/atomic"
	"testing"
)

// benchBatch is 10,000 rows of 7 columns: what a sink writes.
func benchBatch() *Batch {
	s := NewSchema(Col("id", Of(KindLong)), Col("user", Of(KindString)), Col("price", Of(KindDouble)), Col("qty", Of(KindInteger)),
		Col("at", Of(KindTimestamp)), Col("ok", Of(KindBoolean)), Col("url", Of(KindString)))
	b := NewBatch(s)
	for i := range 10_000 {
		b.Columns[0].AppendLong(int64(i) * 7919)
		b.Columns[1].AppendString(fmt.Sprintf("user-%d", i*31%5000))
		b.Columns[2].AppendDouble(float64(i%997) * 1.25)
		b.Columns[3].AppendInt(int32(i % 20))
		b.Columns[4].AppendLong(1_700_000_000_000_000 + int64(i)*1000)
		b.Columns[5].AppendBool(i%3 == 0)
		b.Columns[6].AppendString(fmt.Sprintf("https://example.org/item/%d", i))
	}
	b.Len = 10_000
	return b
}

// BenchmarkWrite reports rows per second of FileWriter over 7 columns.
func BenchmarkWrite(b *testing.B) {
	for _, c := range []Compression{Snappy, Zstd} {
		b.Run(string(c), func(b *testing.B) {
			ctx := context.Background()
			batch := benchBatch()
			store := NewFolderStore(b.TempDir())
			tbl, err := Create(ctx, store, CreateOptions{Schema: batch.Schema})
			if err != nil {
				b.Fatal(err)
			}
			w, err := NewFileWriter(ctx, store, tbl.Latest().FileSpec(), nil, FileOptions{Compression: c})
			if err != nil {
				b.Fatal(err)
			}
			b.ResetTimer()
			for range b.N {
				if err := w.Write(batch); err != nil {
					b.Fatal(err)
				}
			}
			add, err := w.Close()
			if err != nil {
				b.Fatal(err)
			}
			b.ReportMetric(float64(b.N)*float64(batch.Len)/b.Elapsed().Seconds(), "rows/s")
			b.ReportMetric(float64(add.Size)/float64(b.N)/float64(batch.Len), "bytes/row")
		})
	}
}

// rangedStore counts the bytes that are read in ranges.
type rangedStore struct {
	Store
	bytes atomic.Int64
}

func (s *rangedStore) GetRange(ctx context.Context, path string, off, n int64) ([]byte, error) {
	s.bytes.Add(n)
	return s.Store.GetRange(ctx, path, off, n)
}

// BenchmarkFilter reads 1,000 of a million rows in one row group, sorted by the
// filter's column, with the page index and with a damaged one, which is as good as
// none.
func BenchmarkFilter(b *testing.B) {
	ctx := context.Background()
	mem := NewMemoryStore(nil)
	store := &rangedStore{Store: mem}
	batch := benchBatch()
	tbl, err := Create(ctx, store, CreateOptions{Schema: batch.Schema})
	if err != nil {
		b.Fatal(err)
	}
	add := fill(b, tbl, batch, FileOptions{RowGroupBytes: 1 << 30}, func(i int) {
		for k := range batch.Len {
			batch.Columns[0].Longs[k] = int64(i*batch.Len + k)
		}
	})
	for _, name := range []string{"indexed", "without"} {
		if name == "without" {
			loseIndex(b, mem, add.Path)
		}
		b.Run(name, func(b *testing.B) {
			store.bytes.Store(0)
			cpu := cpuSeconds()
			for range b.N {
				rows := 0
				for bt, err := range tbl.Latest().Scan(ctx, ScanOptions{Filter: mustExpr(b, "id >= 500100 and id < 501100")}) {
					if err != nil {
						b.Fatal(err)
					}
					rows += bt.Len
				}
				if rows != 1000 {
					b.Fatalf("%d rows", rows)
				}
			}
			b.ReportMetric((cpuSeconds()-cpu)*1e3/float64(b.N), "cpu-ms/op")
			b.ReportMetric(float64(store.bytes.Load())/float64(b.N), "bytes/op")
		})
	}
}

// loseIndex overwrites the page index of a file.
func loseIndex(b *testing.B, store Store, path string) {
	b.Helper()
	ctx := context.Background()
	f, err := openParquet(ctx, store, path, 0)
	if err != nil {
		b.Fatal(err)
	}
	data, err := store.Get(ctx, path)
	if err != nil {
		b.Fatal(err)
	}
	data = bytes.Clone(data)
	for _, g := range f.meta.groups {
		for _, c := range g.chunks {
			clear(data[c.offsetIndex.off:c.offsetIndex.end()])
		}
	}
	if err := store.Put(ctx, path, data); err != nil {
		b.Fatal(err)
	}
}

// fill commits one file of 100 batches; change is called before each.
func fill(b *testing.B, tbl *Table, batch *Batch, o FileOptions, change func(i int)) *AddFile {
	b.Helper()
	ctx := context.Background()
	w, err := NewFileWriter(ctx, tbl.store, tbl.Latest().FileSpec(), nil, o)
	if err != nil {
		b.Fatal(err)
	}
	for i := range 100 {
		change(i)
		if err := w.Write(batch); err != nil {
			b.Fatal(err)
		}
	}
	add, err := w.Close()
	if err != nil {
		b.Fatal(err)
	}
	if _, err := tbl.Commit(ctx, Commit{Adds: []*AddFile{add}}); err != nil {
		b.Fatal(err)
	}
	return add
}

// BenchmarkScan reports rows per second of a full scan over 7 columns.
func BenchmarkScan(b *testing.B) {
	ctx := context.Background()
	batch := benchBatch()
	store := NewFolderStore(b.TempDir())
	tbl, err := Create(ctx, store, CreateOptions{Schema: batch.Schema})
	if err != nil {
		b.Fatal(err)
	}
	fill(b, tbl, batch, FileOptions{}, func(int) {})
	b.ResetTimer()
	rows := 0
	for range b.N {
		for bt, err := range tbl.Latest().Scan(ctx, ScanOptions{}) {
			if err != nil {
				b.Fatal(err)
			}
			rows += bt.Len
		}
	}
	b.ReportMetric(float64(rows)/b.Elapsed().Seconds(), "rows/s")
}
