package deltalake

import (
	"context"
	"fmt"
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

// BenchmarkScan reports rows per second of a full scan over 7 columns.
func BenchmarkScan(b *testing.B) {
	ctx := context.Background()
	batch := benchBatch()
	store := NewFolderStore(b.TempDir())
	tbl, err := Create(ctx, store, CreateOptions{Schema: batch.Schema})
	if err != nil {
		b.Fatal(err)
	}
	w, err := NewFileWriter(ctx, store, tbl.Latest().FileSpec(), nil, FileOptions{})
	if err != nil {
		b.Fatal(err)
	}
	for range 100 {
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
