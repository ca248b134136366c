package deltalake_test

import (
	"context"
	"fmt"
	"log"
	"time"

	"github.com/weirstream/weir/deltalake"
)

// Order is a row of the examples.
type Order struct {
	ID    int64     `delta:"id"`
	User  *string   `delta:"user"`
	Cents int64     `delta:"cents"`
	At    time.Time `delta:"at"`
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}

func orders(from, to int64) []Order {
	var rows []Order
	for id := from; id < to; id++ {
		user := fmt.Sprint("user-", id%3)
		rows = append(rows, Order{id, &user, id * 100, time.Unix(1_700_000_000+id, 0)})
	}
	return rows
}

// exampleTable is a table of six orders in memory.
func exampleTable() *deltalake.Table {
	ctx := context.Background()
	schema, err := deltalake.SchemaOf[Order]()
	check(err)
	tbl, err := deltalake.Create(ctx, deltalake.NewMemoryStore(nil), deltalake.CreateOptions{Schema: schema})
	check(err)
	b, err := deltalake.BatchOf(schema, orders(0, 6))
	check(err)
	_, err = tbl.Append(ctx, deltalake.Batches(b), deltalake.WriteOptions{})
	check(err)
	return tbl
}

func must(text string) *deltalake.Expr {
	e, err := deltalake.ParseExpr(text)
	check(err)
	return e
}

// Make a table of a Go struct and add rows.
func ExampleCreate() {
	ctx := context.Background()
	schema, err := deltalake.SchemaOf[Order]()
	check(err)
	store := deltalake.NewMemoryStore(nil) // NewFolderStore("/lake/orders") for a folder
	tbl, err := deltalake.Create(ctx, store, deltalake.CreateOptions{Schema: schema, IfNotExists: true})
	check(err)
	batch, err := deltalake.BatchOf(schema, orders(0, 3))
	check(err)
	r, err := tbl.Append(ctx, deltalake.Batches(batch), deltalake.WriteOptions{})
	check(err)
	fmt.Println("version", r.Version, "files", r.Snapshot.NumFiles())
	// Output: version 1 files 1
}

// Read rows into Go structs, with a filter that skips files, row groups and pages.
func ExampleRead() {
	tbl := exampleTable()
	for o, err := range deltalake.Read[Order](context.Background(), tbl.Latest(), deltalake.ScanOptions{Filter: must("cents >= 400")}) {
		check(err)
		fmt.Println(o.ID, *o.User, o.Cents)
	}
	// Output:
	// 4 user-1 400
	// 5 user-2 500
}

// Scan columns in batches.
func ExampleSnapshot_Scan() {
	tbl := exampleTable()
	sum := int64(0)
	for b, err := range tbl.Latest().Scan(context.Background(), deltalake.ScanOptions{Columns: []string{"cents"}}) {
		check(err)
		for _, c := range b.Columns[0].Longs {
			sum += c
		}
	}
	fmt.Println(sum)
	// Output: 1500
}

// Read an older version.
func ExampleTable_At() {
	ctx := context.Background()
	tbl := exampleTable()
	_, err := tbl.Delete(ctx, must("id < 4"))
	check(err)
	old, err := tbl.At(ctx, 1)
	check(err)
	before, _ := old.NumRows()
	now, _ := tbl.Latest().NumRows()
	fmt.Println(before, now)
	// Output: 6 2
}

// Commit files of many writers once per epoch, however often it is tried.
func ExampleTable_Commit() {
	ctx := context.Background()
	tbl := exampleTable()
	spec := tbl.Latest().FileSpec()
	w, err := deltalake.NewFileWriter(ctx, tbl.Store(), spec, nil, deltalake.FileOptions{})
	check(err)
	b, err := deltalake.BatchOf(spec.DataSchema(), orders(6, 9))
	check(err)
	check(w.Write(b))
	add, err := w.Close()
	check(err)
	for range 2 {
		r, err := tbl.Commit(ctx, deltalake.Commit{AppID: "pipeline/orders", AppVersion: 1, Adds: []*deltalake.AddFile{add}, Spec: spec})
		check(err)
		fmt.Println(r.Version, r.AlreadyCommitted)
	}
	// Output:
	// 2 false
	// 2 true
}

// Change rows by a condition.
func ExampleTable_Update() {
	tbl := exampleTable()
	m, err := tbl.Update(context.Background(), map[string]*deltalake.Expr{"cents": must("cents + 1")}, must("user = 'user-0'"))
	check(err)
	fmt.Println(m.RowsUpdated)
	// Output: 2
}

// Slowly changing dimension, type 2: the old row of a changed key is closed and
// the new one is inserted. The source holds each changed row twice: once with its
// key, to close, and once without, to insert.
func ExampleTable_Merge() {
	type Address struct {
		Key     *int64 `delta:"key"` // nil in rows that only insert
		ID      int64  `delta:"id"`
		City    string `delta:"city"`
		Current bool   `delta:"current"`
	}
	ctx := context.Background()
	schema := deltalake.NewSchema(deltalake.Col("id", deltalake.Of(deltalake.KindLong)), deltalake.Col("city", deltalake.Of(deltalake.KindString)),
		deltalake.Col("current", deltalake.Of(deltalake.KindBoolean)))
	tbl, err := deltalake.Create(ctx, deltalake.NewMemoryStore(nil), deltalake.CreateOptions{Schema: schema})
	check(err)
	type Row struct {
		ID      int64  `delta:"id"`
		City    string `delta:"city"`
		Current bool   `delta:"current"`
	}
	b, err := deltalake.BatchOf(schema, []Row{{1, "Oslo", true}, {2, "Bergen", true}})
	check(err)
	_, err = tbl.Append(ctx, deltalake.Batches(b), deltalake.WriteOptions{})
	check(err)

	one := int64(1)
	source, err := deltalake.SchemaOf[Address]()
	check(err)
	changes, err := deltalake.BatchOf(source, []Address{{&one, 1, "Tromsø", true}, {nil, 1, "Tromsø", true}, {nil, 3, "Molde", true}})
	check(err)
	m, err := tbl.Merge(ctx, deltalake.Merge{
		Source: deltalake.Batches(changes), On: must("target.id = source.key and target.current"),
		Clauses: []deltalake.MergeClause{
			{Action: deltalake.MatchedUpdate, If: must("target.city <> source.city"), Set: map[string]*deltalake.Expr{"current": must("false")}},
			{Action: deltalake.NotMatchedInsert, Set: map[string]*deltalake.Expr{"id": must("source.id"), "city": must("source.city"), "current": must("true")}},
		},
	})
	check(err)
	fmt.Println(m.RowsUpdated, "closed,", m.RowsInserted, "inserted")
	// Output: 1 closed, 2 inserted
}

// Put small files together and delete what no version needs any more.
func ExampleTable_Optimize() {
	ctx := context.Background()
	tbl := exampleTable()
	b, err := deltalake.BatchOf(tbl.Latest().Schema(), orders(6, 9))
	check(err)
	_, err = tbl.Append(ctx, deltalake.Batches(b), deltalake.WriteOptions{})
	check(err)
	m, err := tbl.Optimize(ctx, deltalake.OptimizeOptions{ZOrder: []string{"user"}})
	check(err)
	r, err := tbl.Vacuum(ctx, deltalake.VacuumOptions{DryRun: true})
	check(err)
	fmt.Println(m.FilesRemoved, m.FilesAdded, len(r.Files))
	// Output: 2 1 0
}

// Follow a table from a cursor.
func ExampleTable_Follow() {
	ctx := context.Background()
	tbl := exampleTable()
	at := tbl.Latest().Start() // its rows first, then what is appended
	step, err := tbl.Follow(ctx, at, deltalake.FollowOptions{})
	check(err)
	rows := 0
	check(step.Snapshot.ReadFiles(ctx, step.Files, deltalake.ScanOptions{}, func(b *deltalake.Batch) error { rows += b.Len; return nil }))
	step, err = tbl.Follow(ctx, step.Next, deltalake.FollowOptions{})
	check(err)
	fmt.Println(rows, len(step.Files))
	// Output: 6 0
}

// Read what changed, row by row.
func ExampleTable_Changes() {
	ctx := context.Background()
	tbl := exampleTable()
	on := "true"
	s, err := tbl.SetProperties(ctx, map[string]*string{"delta.enableChangeDataFeed": &on})
	check(err)
	_, err = tbl.Delete(ctx, must("id = 4"))
	check(err)
	for b, err := range tbl.Changes(ctx, deltalake.ChangeOptions{From: s.Version(), Columns: []string{"id"}}) {
		check(err)
		for i := range b.Len {
			fmt.Println(b.Column(deltalake.ChangeType).StringAt(i), b.Columns[0].Longs[i])
		}
	}
	// Output: delete 4
}
