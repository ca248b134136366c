package deltalake_test

import (
	"context"
	"fmt"

	"github.com/weirstream/weir/deltalake"
)

type word struct {
	Word string `delta:"word"`
}

func wordBatch(texts ...string) *deltalake.Batch {
	var rows []word
	for _, t := range texts {
		rows = append(rows, word{t})
	}
	b, err := deltalake.BatchOf(deltalake.NewSchema(deltalake.Col("word", deltalake.Of(deltalake.KindString))), rows)
	check(err)
	return b
}

// Let the table number its rows.
func ExampleIdentity() {
	ctx := context.Background()
	tbl, err := deltalake.Create(ctx, deltalake.NewMemoryStore(nil), deltalake.CreateOptions{
		Schema: deltalake.NewSchema(deltalake.Identity("id", 100, 10), deltalake.Col("word", deltalake.Of(deltalake.KindString))),
	})
	check(err)
	r, err := tbl.Append(ctx, deltalake.Batches(wordBatch("a", "b", "c")), deltalake.WriteOptions{})
	check(err)
	for b, err := range r.Snapshot.Scan(ctx, deltalake.ScanOptions{Columns: []string{"id"}}) {
		check(err)
		fmt.Println(b.Columns[0].Longs)
	}
	// Output: [100 110 120]
}

// See which commit changed a row last, under an id that it keeps.
func ExampleScanOptions_rowIDs() {
	ctx := context.Background()
	tbl, err := deltalake.Create(ctx, deltalake.NewMemoryStore(nil), deltalake.CreateOptions{
		Schema:     deltalake.NewSchema(deltalake.Col("word", deltalake.Of(deltalake.KindString))),
		Properties: map[string]string{"delta.enableRowTracking": "true"},
	})
	check(err)
	_, err = tbl.Append(ctx, deltalake.Batches(wordBatch("a", "b")), deltalake.WriteOptions{})
	check(err)
	_, err = tbl.Update(ctx, map[string]*deltalake.Expr{"word": must("'B'")}, must("word = 'b'"))
	check(err)
	for b, err := range tbl.Latest().Scan(ctx, deltalake.ScanOptions{RowIDs: true, Filter: must("word = 'B'")}) {
		check(err)
		fmt.Println("row", b.Column(deltalake.RowID).Longs[0], "of version", b.Column(deltalake.RowCommitVersion).Longs[0])
	}
	// Output: row 1 of version 2
}

// Cluster rows by the columns that queries filter by.
func ExampleTable_ClusterBy() {
	ctx := context.Background()
	tbl := exampleTable()
	s, err := tbl.ClusterBy(ctx, "user", "at")
	check(err)
	m, err := tbl.Optimize(ctx, deltalake.OptimizeOptions{})
	check(err)
	fmt.Println(s.ClusteringColumns(), m.FilesRemoved, m.FilesAdded)
	// Output: [user at] 1 1
}
