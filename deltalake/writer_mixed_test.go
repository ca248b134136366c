package deltalake

import (
	"context"
	"math/rand/v2"
	"slices"
	"testing"
)

// A source that runs through many partitions at random gets a file per partition and
// buffer, not per batch, and every row arrives in its partition.
func TestManyPartitionsOfOneSource(t *testing.T) {
	ctx := context.Background()
	schema := NewSchema(Col("id", Of(KindLong)), Col("shop", Of(KindInteger)), Col("note", Of(KindString)))
	for _, tt := range []struct {
		name   string
		opts   WriteOptions
		shops  int32
		atMost int
	}{
		{"few", WriteOptions{MaxOpen: 8}, 8, 8},
		{"many, in one buffer", WriteOptions{MaxOpen: 8}, 500, 500},
		{"many, in several buffers", WriteOptions{MaxOpen: 8, Buffer: 400 << 10}, 500, 2500},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := rand.New(rand.NewPCG(1, 1))
			tbl, err := Create(ctx, NewMemoryStore(nil), CreateOptions{Schema: schema, PartitionColumns: []string{"shop"}})
			if err != nil {
				t.Fatal(err)
			}
			const rows = 20_000
			_, err = tbl.Append(ctx, func(yield func(*Batch, error) bool) {
				for id := int64(0); id < rows; {
					b := NewBatch(schema)
					for range 1000 {
						b.Columns[0].AppendLong(id)
						b.Columns[1].AppendInt(int32(id*7919) % tt.shops)
						b.Columns[2].AppendString("note"[:r.IntN(5)])
						b.Len++
						id++
					}
					if !yield(b, nil) {
						return
					}
				}
			}, tt.opts)
			if err != nil {
				t.Fatal(err)
			}
			var got []int64
			for b, err := range tbl.Latest().Scan(ctx, ScanOptions{}) {
				if err != nil {
					t.Fatal(err)
				}
				for i := range b.Len {
					id := b.Columns[0].Longs[i]
					if got = append(got, id); b.Columns[1].Ints[i] != int32(id*7919)%tt.shops {
						t.Fatalf("row %d is in partition %d", id, b.Columns[1].Ints[i])
					}
				}
			}
			slices.Sort(got)
			if len(slices.Compact(got)) != rows {
				t.Errorf("%d rows, want %d", len(got), rows)
			}
			if n := tbl.Latest().NumFiles(); n > tt.atMost {
				t.Errorf("%d files, want at most %d", n, tt.atMost)
			}
			t.Logf("%d partitions: %d files", tt.shops, tbl.Latest().NumFiles())
		})
	}
}
