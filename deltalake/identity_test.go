package deltalake

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"
	"testing"
)

// words is a batch of one string column, and of a long one where ids are given.
func words(texts []string, ids ...int64) *Batch {
	s := NewSchema(Col("word", Of(KindString)))
	if ids != nil {
		s.Fields = append(s.Fields, Col("id", Of(KindLong)))
	}
	b := NewBatch(s)
	for i, w := range texts {
		b.Columns[0].AppendString(w)
		if ids != nil {
			b.Columns[1].AppendLong(ids[i])
		}
		b.Len++
	}
	return b
}

func identityTable(t *testing.T, store Store, id Field, props map[string]string) *Table {
	t.Helper()
	tbl, err := Create(context.Background(), store, CreateOptions{Schema: NewSchema(id, Col("word", Of(KindString))), Properties: props})
	if err != nil {
		t.Fatal(err)
	}
	return tbl
}

// longs reads one column of the newest version in ascending order.
func longs(t *testing.T, tbl *Table, column string) []int64 {
	t.Helper()
	s, err := tbl.Refresh(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	out := []int64{}
	for b, err := range s.Scan(context.Background(), ScanOptions{Columns: []string{column}}) {
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, b.Columns[0].Longs...)
	}
	slices.Sort(out)
	return out
}

func markOf(t *testing.T, tbl *Table, column string) int64 {
	t.Helper()
	ids, err := tbl.Latest().Schema().identities()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range ids {
		if c.name == column && c.mark != nil {
			return *c.mark
		}
	}
	return math.MinInt64
}

func appendWords(t *testing.T, tbl *Table, texts ...string) {
	t.Helper()
	if _, err := tbl.Append(context.Background(), Batches(words(texts)), WriteOptions{}); err != nil {
		t.Fatal(err)
	}
}

// Every operation that adds rows gives them the next values, and none goes back.
func TestIdentityValues(t *testing.T) {
	ctx := context.Background()
	for _, props := range []map[string]string{nil, {"delta.enableChangeDataFeed": "true"}, {"delta.columnMapping.mode": "name", "delta.enableDeletionVectors": "true"}} {
		tbl := identityTable(t, NewMemoryStore(nil), Identity("id", 10, -3), props)
		if p := tbl.Latest().Protocol(); !p.hasWriter("identityColumns") {
			t.Fatalf("protocol %+v lacks identityColumns", p)
		}
		appendWords(t, tbl, "a", "b", "c")
		want := func(ids ...int64) {
			t.Helper()
			if got := longs(t, tbl, "id"); !slices.Equal(got, ids) {
				t.Fatalf("ids %v, want %v", got, ids)
			}
		}
		want(4, 7, 10)
		if _, err := tbl.Merge(ctx, Merge{Source: Batches(words([]string{"a", "x", "y"})), On: mustExpr(t, "target.word = source.word"),
			Clauses: []MergeClause{{Action: MatchedUpdate}, {Action: NotMatchedInsert}}}); err != nil {
			t.Fatal(err)
		}
		want(-2, 1, 4, 7, 10)
		if _, err := tbl.Update(ctx, map[string]*Expr{"word": mustExpr(t, "concat(word, '!')")}, mustExpr(t, "id < 5")); err != nil {
			t.Fatal(err)
		}
		if _, err := tbl.Delete(ctx, mustExpr(t, "id = 1")); err != nil {
			t.Fatal(err)
		}
		before := tbl.Latest().Version()
		if _, err := tbl.Overwrite(ctx, Batches(words([]string{"n"})), OverwriteOptions{Where: mustExpr(t, "id = -5 OR id = 7")}); err != nil {
			t.Fatal(err)
		}
		want(-5, -2, 4, 10)
		if _, err := tbl.Overwrite(ctx, Batches(words([]string{"o", "p"})), OverwriteOptions{}); err != nil {
			t.Fatal(err)
		}
		want(-11, -8)
		if _, err := tbl.Restore(ctx, before); err != nil {
			t.Fatal(err)
		}
		appendWords(t, tbl, "q")
		want(-14, -2, 4, 7, 10)
		if _, err := tbl.Optimize(ctx, OptimizeOptions{}); err != nil {
			t.Fatal(err)
		}
		want(-14, -2, 4, 7, 10)
		if m := markOf(t, tbl, "id"); m != -14 {
			t.Fatalf("mark %d, want -14", m)
		}
	}
}

// Values that a table generates always cannot be brought, updated or written past
// it, and nothing is written when they are.
func TestIdentityRefusals(t *testing.T) {
	ctx := context.Background()
	store := NewMemoryStore(nil)
	tbl := identityTable(t, store, Identity("id", 1, 1), nil)
	appendWords(t, tbl, "a")
	given := words([]string{"b"}, 9)
	on := mustExpr(t, "target.word = source.word")
	for what, run := range map[string]func() error{
		"append":    func() error { _, err := tbl.Append(ctx, Batches(given), WriteOptions{}); return err },
		"overwrite": func() error { _, err := tbl.Overwrite(ctx, Batches(given), OverwriteOptions{}); return err },
		"update":    func() error { _, err := tbl.Update(ctx, map[string]*Expr{"id": mustExpr(t, "2")}, nil); return err },
		"merge insert": func() error {
			_, err := tbl.Merge(ctx, Merge{Source: Batches(given), On: on, Clauses: []MergeClause{{Action: NotMatchedInsert}}})
			return err
		},
		"merge update": func() error {
			_, err := tbl.Merge(ctx, Merge{Source: Batches(words([]string{"a"}, 9)), On: on, Clauses: []MergeClause{{Action: MatchedUpdate}}})
			return err
		},
		"file": func() error {
			_, err := NewFileWriter(ctx, store, tbl.Latest().FileSpec(), nil, FileOptions{})
			return err
		},
		"schema": func() error {
			_, err := tbl.Overwrite(ctx, Batches(words([]string{"b"})), OverwriteOptions{Schema: NewSchema(Col("id", Of(KindLong)), Col("word", Of(KindString)))})
			return err
		},
		"schema with values": func() error {
			_, err := tbl.Overwrite(ctx, Batches(given), OverwriteOptions{Schema: NewSchema(Identity("id", 1, 1), Col("word", Of(KindString)))})
			return err
		},
		"evolve": func() error { _, err := tbl.EvolveSchema(ctx, NewSchema(Identity("other", 1, 1))); return err },
		"typed partition": func() error {
			_, err := Create(ctx, NewMemoryStore(nil), CreateOptions{Schema: NewSchema(Identity("id", 1, 1), Col("x", Of(KindLong))), PartitionColumns: []string{"id"}})
			return err
		},
		"step 0": func() error {
			_, err := Create(ctx, NewMemoryStore(nil), CreateOptions{Schema: NewSchema(Identity("id", 1, 0))})
			return err
		},
		"nested": func() error {
			_, err := Create(ctx, NewMemoryStore(nil), CreateOptions{Schema: NewSchema(Col("s", StructOf(Identity("id", 1, 1))))})
			return err
		},
	} {
		if err := run(); err == nil || !strings.Contains(err.Error(), "identity") {
			t.Errorf("%s: %v, want a refusal that names identity", what, err)
		}
	}
	if v := tbl.Latest().Version(); v != 1 {
		t.Fatalf("version %d, want 1", v)
	}
	r, err := tbl.Vacuum(ctx, VacuumOptions{Force: true, None: true, DryRun: true})
	if err != nil || len(r.Files) != 0 {
		t.Fatalf("orphans %v %v", r, err)
	}
}

// The sequence ends with an error at the ends of long, not before and not later.
func TestIdentityOverflow(t *testing.T) {
	for _, step := range []int64{4, -4} {
		start := int64(math.MaxInt64 - 9)
		if step < 0 {
			start = math.MinInt64 + 9
		}
		tbl := identityTable(t, NewMemoryStore(nil), Identity("id", start, step), nil)
		appendWords(t, tbl, "a", "b")
		if _, err := tbl.Append(context.Background(), Batches(words([]string{"c", "d"})), WriteOptions{}); err == nil || !strings.Contains(err.Error(), "no values left") {
			t.Fatalf("step %d: %v", step, err)
		}
		appendWords(t, tbl, "c")
		if got := longs(t, tbl, "id"); len(got) != 3 || !slices.Contains(got, start+2*step) {
			t.Fatalf("ids %v", got)
		}
		if _, err := tbl.Append(context.Background(), Batches(words([]string{"d"})), WriteOptions{}); err == nil {
			t.Fatal("a value past the end of long")
		}
	}
}

// Rows may bring values where the column generates by default; SyncIdentity moves
// the mark behind them, to a value of the sequence.
func TestIdentityByDefault(t *testing.T) {
	ctx := context.Background()
	tbl := identityTable(t, NewMemoryStore(nil), IdentityByDefault("id", 1, 5), nil)
	if _, err := tbl.Append(ctx, Batches(words([]string{"x", "y"}, 13, 2)), WriteOptions{}); err != nil {
		t.Fatal(err)
	}
	appendWords(t, tbl, "a")
	if got := longs(t, tbl, "id"); !slices.Equal(got, []int64{1, 2, 13}) {
		t.Fatal(got)
	}
	for range 2 { // the second finds nothing to do
		s, err := tbl.SyncIdentity(ctx, "id")
		if err != nil || s.Version() != 3 || markOf(t, tbl, "id") != 16 {
			t.Fatal(err, s.Version(), markOf(t, tbl, "id"))
		}
	}
	appendWords(t, tbl, "b")
	if got := longs(t, tbl, "id"); !slices.Equal(got, []int64{1, 2, 13, 21}) {
		t.Fatal(got)
	}
}

// Eight writers with a table each race: no value comes twice, every row arrives
// once, and files of lost tries are gone.
func TestIdentityRace(t *testing.T) {
	ctx := context.Background()
	store := NewMemoryStore(nil)
	identityTable(t, store, Identity("id", 0, 7), nil)
	const writers, rounds = 8, 6
	var wg sync.WaitGroup
	errs := make(chan error, writers)
	for w := range writers {
		wg.Go(func() {
			tbl, err := Open(ctx, store, TableOptions{})
			for r := 0; r < rounds && err == nil; r++ {
				texts := make([]string, 1+(w+r)%4)
				if w%4 == 3 {
					_, err = tbl.Merge(ctx, Merge{Source: Batches(words(texts)), On: mustExpr(t, "false"), Clauses: []MergeClause{{Action: NotMatchedInsert}}})
				} else {
					_, err = tbl.Append(ctx, Batches(words(texts)), WriteOptions{})
				}
			}
			if err != nil {
				errs <- err
			}
		})
	}
	wg.Wait()
	close(errs)
	for err := range errs {
		t.Fatal(err)
	}
	tbl, err := Open(ctx, store, TableOptions{})
	if err != nil {
		t.Fatal(err)
	}
	rows := 0
	for w := range writers {
		for r := range rounds {
			rows += 1 + (w+r)%4
		}
	}
	got := longs(t, tbl, "id")
	if len(got) != rows || len(slices.Compact(slices.Clone(got))) != rows {
		t.Fatalf("%d ids, %d different, want %d", len(got), len(slices.Compact(slices.Clone(got))), rows)
	}
	for _, x := range got {
		if x%7 != 0 || x < 0 || x > markOf(t, tbl, "id") {
			t.Fatalf("id %d is outside the sequence up to %d", x, markOf(t, tbl, "id"))
		}
	}
	problems, err := tbl.Fsck(ctx)
	if err != nil || len(problems) != 0 {
		t.Fatal(problems, err)
	}
}

// An operation that gives out no values goes on beside those that do; one that
// changes metadata does not.
func TestIdentityBeside(t *testing.T) {
	ctx := context.Background()
	store := NewMemoryStore(nil)
	tbl := identityTable(t, store, Identity("id", 1, 1), nil)
	appendWords(t, tbl, "a", "b")
	appendWords(t, tbl, "c", "d")
	s := tbl.Latest()
	other, err := Open(ctx, store, TableOptions{})
	if err != nil {
		t.Fatal(err)
	}
	appendWords(t, other, "e")
	old := s.Files()[0]
	r := old.remove(1, false)
	again := *old
	again.DataChange = false
	again.Path = "copy-of-" + old.Path
	if _, err := tbl.Commit(ctx, Commit{Operation: "OPTIMIZE", Base: s, Reads: []*AddFile{old}, Removes: []*RemoveFile{&r}, Adds: []*AddFile{&again}, rearranges: true}); err != nil {
		t.Fatal(err)
	}
	if m := markOf(t, tbl, "id"); m != 5 {
		t.Fatalf("mark %d, want 5", m)
	}
	h, err := tbl.History(ctx, 2)
	if err != nil || h[1].Info.Tags[identityUpdate] != "true" || h[0].Info.Tags != nil {
		t.Fatal(h, err)
	}
	var conflict *ConflictError
	if _, err := tbl.Commit(ctx, Commit{Base: s, Metadata: s.metadata}); !errors.As(err, &conflict) || conflict.Class != MetadataChanged {
		t.Fatalf("%v, want a conflict", err)
	}
	if _, err := other.SetProperties(ctx, map[string]*string{"a": &old.Path}); err != nil {
		t.Fatal(err)
	}
	if _, err := tbl.Commit(ctx, Commit{Base: s, ReadAll: true}); !errors.As(err, &conflict) {
		t.Fatalf("%v, want a conflict", err)
	}
}

// An overwrite with a schema leaves what the schema says: no identity column without
// one in it, a plain one instead of one that took values, and one that goes on behind
// the values of before where it is named again.
func TestIdentitySchemaOverwritten(t *testing.T) {
	ctx := context.Background()
	word := Col("word", Of(KindString))
	rows := modelBatch(t, NewSchema(word), [][]any{{"x"}, {"y"}})
	given := modelBatch(t, NewSchema(Col("id", Of(KindLong)), word), [][]any{{int64(99), "x"}})
	for _, tt := range []struct {
		name   string
		column Field // of the table
		schema *Schema
		rows   *Batch
		want   string // rows after it and after one more append of words
	}{
		{"always, left out", Identity("id", 10, 5), NewSchema(word, Col("more", Of(KindLong))), rows, "[[x <nil>] [y <nil>] [x <nil>] [y <nil>]]"},
		{"by default, left out", IdentityByDefault("id", 10, 5), NewSchema(word), rows, "[[x] [y] [x] [y]]"},
		{"by default, plain", IdentityByDefault("id", 10, 5), NewSchema(Col("id", Of(KindLong)), word), given, "[[99 x] [<nil> x] [<nil> y]]"},
		{"always, again", Identity("id", 10, 5), NewSchema(Identity("id", 10, 5), word), rows, "[[20 x] [25 y] [30 x] [35 y]]"},
		{"other step", Identity("id", 10, 5), NewSchema(Identity("id", 1, 1), word), rows, "[[1 x] [2 y] [3 x] [4 y]]"},
		{"new one", word, NewSchema(Identity("id", 1, 1), word), rows, "[[1 x] [2 y] [3 x] [4 y]]"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			fields := []Field{tt.column, word}
			if tt.column.Name == "word" {
				fields = fields[1:]
			}
			tbl, err := Create(ctx, NewMemoryStore(nil), CreateOptions{Schema: NewSchema(fields...)})
			if err == nil {
				_, err = tbl.Append(ctx, Batches(rows), WriteOptions{})
			}
			if err == nil {
				_, err = tbl.Overwrite(ctx, Batches(tt.rows), OverwriteOptions{Schema: tt.schema})
			}
			if err == nil {
				_, err = tbl.Append(ctx, Batches(rows), WriteOptions{})
			}
			if err != nil {
				t.Fatal(err)
			}
			got, err := plainRows(ctx, tbl.Latest())
			slices.SortStableFunc(got, func(a, b []any) int { // files have no order: by identity, else as they come
				x, _ := a[0].(int64)
				y, _ := b[0].(int64)
				if a[0] == nil || b[0] == nil {
					return cmp.Compare(truth(a[0] == nil), truth(b[0] == nil))
				}
				return cmp.Compare(x, y)
			})
			if err != nil || fmt.Sprint(got) != tt.want {
				t.Errorf("%v, %v, want %s", got, err, tt.want)
			}
		})
	}
}
