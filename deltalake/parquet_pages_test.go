package deltalake

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/parquet-go/parquet-go"
)

func pagesSchema() *Schema {
	return NewSchema(Col("id", Of(KindLong)), Col("c", Of(KindInteger)), Col("r", Of(KindLong)), Col("f", Of(KindDouble)), Col("g", Of(KindFloat)),
		Col("s", Of(KindString)), Col("b", Of(KindBinary)), Col("d", DecimalOf(12, 2)), Col("big", DecimalOf(30, 3)), Col("day", Of(KindDate)), Col("at", Of(KindTimestamp)),
		Col("st", StructOf(Col("x", Of(KindInteger)), Col("t", Of(KindString)))), Col("li", ListOf(Of(KindLong))), Col("ok", Of(KindBoolean)))
}

// pagesTable makes a table of files that were written beside its log, none with
// statistics, and deletes some of their rows by deletion vectors.
func pagesTable(t testing.TB, store Store, schema *Schema, files []string, rows int64) *Table {
	t.Helper()
	ctx := context.Background()
	tbl, err := Create(ctx, store, CreateOptions{Schema: schema, Properties: map[string]string{"delta.enableDeletionVectors": "true", "delta.enableRowTracking": "true"}})
	if err != nil {
		t.Fatal(err)
	}
	var adds []*AddFile
	for _, p := range files {
		info, err := store.Stat(ctx, p)
		if err != nil {
			t.Fatal(err)
		}
		adds = append(adds, &AddFile{Path: p, PartitionValues: map[string]*string{}, Size: info.Size, DataChange: true, Stats: fmt.Sprintf(`{"numRecords":%d}`, rows)})
	}
	if _, err := tbl.Commit(ctx, Commit{Adds: adds}); err != nil {
		t.Fatal(err)
	}
	if _, err := tbl.Delete(ctx, mustExpr(t, "id % 19 = 4")); err != nil {
		t.Fatal(err)
	}
	return tbl
}

// pageFilter returns a random condition over pagesSchema.
func pageFilter(rng *rand.Rand, rows int) string {
	k := rng.IntN(rows)
	op := func() string { return []string{"=", "<", "<=", ">", ">=", "<>"}[rng.IntN(6)] }
	one := func() string {
		switch rng.IntN(15) {
		case 0:
			return fmt.Sprintf("id between %d and %d", k, k+rng.IntN(500))
		case 1:
			return fmt.Sprintf("c %s %d", op(), k)
		case 2:
			return fmt.Sprintf("r %s %d", op(), k)
		case 3:
			return fmt.Sprintf("f %s %d.25", op(), k/4)
		case 4:
			return fmt.Sprintf("f = cast('NaN' as double) and id > %d", k)
		case 5:
			return fmt.Sprintf("g %s %d", op(), k/2)
		case 6:
			return fmt.Sprintf("s %s 'name-%06d'", op(), k)
		case 7:
			return fmt.Sprintf("s is null and id > %d", k)
		case 8:
			return fmt.Sprintf("d %s %d.%02d", op(), (k-rows/2)/100, k%100)
		case 9:
			return fmt.Sprintf("big %s %d", op(), int64(k-rows/2)*1e14)
		case 10:
			return fmt.Sprintf("day %s date '20%02d-03-04'", op(), 20+k%30)
		case 11:
			return fmt.Sprintf("at %s timestamp '2023-11-14T%02d:13:20Z'", op(), 22+k%2)
		case 12:
			return fmt.Sprintf("st.x %s %d", op(), k)
		case 13:
			return fmt.Sprintf("st.t is not null and c = %d", k)
		}
		return fmt.Sprintf("not (ok or c < %d)", k)
	}
	switch text := one(); rng.IntN(4) {
	case 0:
		return text
	case 1:
		return text + " and (" + one() + ")"
	case 2:
		return "(" + text + ") or (" + one() + ")"
	default:
		return fmt.Sprintf("id >= %d and id < %d and (%s)", k, k+rng.IntN(3000), text)
	}
}

// checkPageFilters compares scans with random filters, of all columns with row ids
// and of some columns, with the rows of a full scan that fulfil them.
func checkPageFilters(t *testing.T, tbl *Table, rng *rand.Rand, rounds, rows int) {
	t.Helper()
	ctx := context.Background()
	var all []*Batch
	for b, err := range tbl.Latest().Scan(ctx, ScanOptions{RowIDs: true}) {
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, b)
	}
	for range rounds {
		text := pageFilter(rng, rows)
		e := mustExpr(t, text)
		names := []string{"li", "st", "id", "s"}
		full, some := ScanOptions{Filter: e, BatchRows: 50 + rng.IntN(3000), RowIDs: true}, ScanOptions{Filter: e, Columns: names[rng.IntN(4):]}
		var want, got, wantSome checksum
		for _, b := range all {
			bound, err := e.bind(b.Schema)
			if err != nil {
				t.Fatal(err)
			}
			hit, err := bound.matches(b)
			if err != nil {
				t.Fatal(err)
			}
			part := NewBatch(b.Schema)
			part.Gather(b, hit)
			want.add(part, nil)
			few := &Batch{Schema: &Schema{}, Len: part.Len}
			for _, n := range some.Columns {
				i := b.Schema.Index(n)
				few.Schema.Fields, few.Columns = append(few.Schema.Fields, b.Schema.Fields[i]), append(few.Columns, part.Columns[i])
			}
			wantSome.add(few, nil)
		}
		for b, err := range tbl.Latest().Scan(ctx, full) {
			if err != nil {
				t.Fatalf("%s: %v", text, err)
			}
			got.add(b, nil)
		}
		if got != want {
			t.Fatalf("%s: %d rows, want %d", text, got.rows, want.rows)
		}
		if got, err := sumSnapshot(ctx, tbl.Latest(), nil, some); err != nil || *got != wantSome {
			t.Fatalf("%s of %v: %v, %v, want %v", text, some.Columns, got, err, wantSome)
		}
	}
}

// pickedRows is how many rows of a file the page index leaves to a filter, and how
// many its row groups hold that the filter may be true in by the footer.
func pickedRows(t testing.TB, store Store, path string, schema *Schema, text string) (picked, of int64) {
	t.Helper()
	ctx := context.Background()
	f, err := openParquet(ctx, store, path, 0)
	if err != nil {
		t.Fatal(err)
	}
	_, plans, err := planFile(f, schema.Fields, nil)
	if err != nil {
		t.Fatal(err)
	}
	filter, err := mustExpr(t, text).bind(schema)
	if err != nil {
		t.Fatal(err)
	}
	for i := range f.meta.groups {
		g := &f.meta.groups[i]
		if can, _ := filter.possible(f.chunkBounds(g, plans)); !can {
			continue
		}
		of += g.rows
		for _, r := range f.pageRanges(ctx, g, filter, plans) {
			picked += r.hi - r.lo
		}
	}
	return picked, of
}

// Files of pyarrow with small pages of both versions yield the same rows with and
// without the page index.
func TestPageIndexOfPyarrow(t *testing.T) {
	python := os.Getenv("WEIR_PYTHON")
	if python == "" {
		python = "../.real/py/bin/python3"
	}
	if err := exec.Command(python, "-c", "import pyarrow").Run(); err != nil {
		skip(t, "no Python with pyarrow at %s: run deploy/real/py.sh or set WEIR_PYTHON", python)
	}
	const rows = 5000
	seed := uint64(1)
	if n, err := strconv.ParseUint(os.Getenv("WEIR_PAGES_SEED"), 10, 32); err == nil {
		seed = n
	}
	dir := t.TempDir()
	if out, err := exec.Command(python, "testdata/pages.py", dir, strconv.Itoa(rows), strconv.FormatUint(seed, 10)).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	found, err := filepath.Glob(filepath.Join(dir, "*.parquet"))
	if err != nil || len(found) == 0 {
		t.Fatalf("%v: no files", err)
	}
	var files []string
	for _, p := range found {
		files = append(files, filepath.Base(p))
	}
	store := NewFolderStore(dir)
	for _, p := range files {
		for _, text := range []string{"id between 700 and 720", "st.x is not null and id = 5000", "f is null and id < 2000", "big < -500 and c < 4000"} {
			picked, of := pickedRows(t, store, p, pagesSchema(), text)
			t.Logf("%s: %s: %d of %d rows", p, text, picked, of)
			if picked >= of && of > 0 {
				t.Errorf("%s: %s: the page index leaves %d of %d rows", p, text, picked, of)
			}
		}
	}
	checkPageFilters(t, pagesTable(t, store, pagesSchema(), files, rows), rand.New(rand.NewPCG(seed, 9)), 60, rows)
}

// fillPages fills a batch of pagesSchema with rows from..to: sorted, clustered and
// random columns, nulls alone and in blocks, NaN, long strings, nested values.
func fillPages(b *Batch, rng *rand.Rand, from, to, rows int) {
	base := rng.IntN(rows)
	hole := rng.IntN(6)
	for i := from; i < to; i++ {
		v := base + rng.IntN(20)
		null := func(share int) bool { return hole == 0 || rng.IntN(100) < share }
		c := b.Columns
		add := func(k int, null bool, fn func(v *Vector)) {
			if null {
				c[k].AppendNull()
			} else {
				fn(c[k])
			}
		}
		c[0].AppendLong(int64(i))
		add(1, null(10), func(x *Vector) { x.AppendInt(int32(v)) })
		add(2, null(30), func(x *Vector) { x.AppendLong(int64(rng.IntN(rows))) })
		add(3, null(5), func(x *Vector) {
			if hole == 1 || rng.IntN(100) == 0 && hole != 2 {
				x.AppendDouble(math.NaN())
			} else {
				x.AppendDouble(float64(v) / 4)
			}
		})
		add(4, false, func(x *Vector) { x.AppendFloat(float32(v%50-25) * float32(v)) })
		text := fmt.Sprintf("name-%06d", v)
		switch {
		case hole == 3:
			text = strings.Repeat("ä", 90) + text
		case hole == 4 && v%3 == 0:
			text = ""
		}
		add(5, null(5), func(x *Vector) { x.AppendString(text) })
		add(6, null(5), func(x *Vector) { x.AppendBytes([]byte{byte(v >> 8), byte(v), 0xff}) })
		add(7, null(5), func(x *Vector) { x.AppendDecimal(DecimalFromInt64(int64(v - rows/2))) })
		add(8, null(5), func(x *Vector) { x.AppendDecimal(DecimalFromInt64(int64(v-rows/2) * 1e14)) })
		add(9, null(5), func(x *Vector) { x.AppendInt(int32(18_000 + v)) })
		add(10, null(5), func(x *Vector) { x.AppendLong(1_700_000_000_000_000 + int64(v)*1_000_000) })
		add(11, null(5), func(x *Vector) {
			if x.Children[0].AppendInt(int32(v)); v%7 == 0 {
				x.Children[1].AppendNull()
			} else {
				x.Children[1].AppendString(text)
			}
			x.AppendElements()
		})
		add(12, null(5), func(x *Vector) {
			for k := range v % 5 {
				x.Children[0].AppendLong(int64(v + k))
			}
			x.AppendElements()
		})
		add(13, null(5), func(x *Vector) { x.AppendBool(v%2 == 0) })
		b.Len++
	}
}

// writePages writes a file of pagesSchema with small pages.
func writePages(t testing.TB, store Store, name string, rng *rand.Rand, rows int) {
	t.Helper()
	comp, err := newCompressor(Snappy)
	if err != nil {
		t.Fatal(err)
	}
	var file bytes.Buffer
	schema := pagesSchema()
	pq := newPqWriter(&file, newPqSchema(schema.Fields, func(f *Field) (string, int32) { return f.Name, 0 }), comp, int64(60_000+rng.IntN(200_000)))
	pq.pageSize = 300 + rng.IntN(2000)
	for from := 0; from < rows; {
		to := min(rows, from+20+rng.IntN(200))
		b := NewBatch(schema)
		fillPages(b, rng, from, to, rows)
		if err := pq.write(b.Columns, b.Len); err != nil {
			t.Fatal(err)
		}
		from = to
	}
	if _, err := pq.close(); err != nil {
		t.Fatal(err)
	}
	if err := store.Put(context.Background(), name, file.Bytes()); err != nil {
		t.Fatal(err)
	}
}

// Our own files yield the same rows with and without their page index.
func TestPageIndex(t *testing.T) {
	const rows = 3000
	rng := rand.New(rand.NewPCG(7, 8))
	store := NewMemoryStore(nil)
	var files []string
	for i := range 4 {
		files = append(files, fmt.Sprintf("f%d.parquet", i))
		writePages(t, store, files[i], rng, rows)
		for text, most := range map[string]int64{"id between 700 and 720": 4, "st.x is not null and id = 2000": 4, "s is null and id < 500": 2, "c = 700": 1, "d = -3.5": 1, "big < -120": 1, "day < '2019-12-01'": 1} {
			if picked, of := pickedRows(t, store, files[i], pagesSchema(), text); picked > of/most {
				t.Errorf("%s: the page index leaves %d of %d rows", text, picked, of)
			}
		}
	}
	checkPageFilters(t, pagesTable(t, store, pagesSchema(), files, rows), rng, 60, rows)
}

// A page index that is damaged, cut off or that of another file costs speed only:
// as long as its bounds are true the rows are those of the file.
func TestDamagedPageIndex(t *testing.T) {
	ctx := context.Background()
	const rows = 1500
	rng := rand.New(rand.NewPCG(11, 12))
	store := NewMemoryStore(nil)
	writePages(t, store, "good.parquet", rng, rows)
	good, err := store.Get(ctx, "good.parquet")
	if err != nil {
		t.Fatal(err)
	}
	f, err := openParquet(ctx, store, "good.parquet", 0)
	if err != nil {
		t.Fatal(err)
	}
	filter := mustExpr(t, "id >= 300 and id < 340 or id > 1100 and id < 1180")
	read := func(name string) (*checksum, error) {
		log := putLog(t, map[int64]string{0: protoLine + "\n" + pagesMeta(t) + "\n" + fmt.Sprintf(`{"add":{"path":%q,"partitionValues":{},"size":%d,"modificationTime":0,"dataChange":true}}`, name, len(good))})
		data, err := store.Get(ctx, name)
		if err != nil {
			t.Fatal(err)
		}
		if err := log.Put(ctx, name, data); err != nil {
			t.Fatal(err)
		}
		tbl, err := Open(ctx, log, TableOptions{})
		if err != nil {
			t.Fatal(err)
		}
		return sumSnapshot(ctx, tbl.Latest(), nil, ScanOptions{Filter: filter})
	}
	want, err := read("good.parquet")
	if err != nil || want.rows != 119 {
		t.Fatalf("%v: %v", want, err)
	}
	var places []span // of all columns
	for _, g := range f.meta.groups {
		for _, c := range g.chunks {
			places = append(places, c.offsetIndex)
		}
	}
	for round := range 400 {
		bad := bytes.Clone(good)
		for range 1 + rng.IntN(3) {
			p := places[rng.IntN(len(places))]
			switch rng.IntN(3) {
			case 0: // a byte
				bad[p.off+rng.Int64N(p.size)] = byte(rng.Uint32())
			case 1: // the index of another column
				copy(bad[p.off:p.off+p.size], good[places[rng.IntN(len(places))].off:])
			default:
				clear(bad[p.off+rng.Int64N(p.size) : p.off+p.size])
			}
		}
		if err := store.Put(ctx, "bad.parquet", bad); err != nil {
			t.Fatal(err)
		}
		if got, err := read("bad.parquet"); err != nil || *got != *want {
			t.Fatalf("round %d: %v, %v, want %v", round, got, err, want)
		}
	}
}

// Bounds in a page index are cut short on the right side.
func TestCutBounds(t *testing.T) {
	long := func(s string) string { return strings.Repeat(s, 70) }
	for _, text := range []string{"", "a", long("a"), long("é"), "x" + long("é"), long("\ud7ff"), long("\U0010ffff"), "b" + long("\U0010ffff"), long("\xff"), "q" + long("\x80"), long("\u007f")} {
		for _, k := range []Kind{KindString, KindBinary} {
			lo, hi := cutMin([]byte(text), k), cutMax([]byte(text), k)
			if lo == nil || string(lo) > text || hi != nil && string(hi) < text || len(lo) > cutBytes || len(hi) > cutBytes+1 {
				t.Errorf("%q is bounded by %q and %q", text, lo, hi)
			}
			if k == KindString && utf8.ValidString(text) && (!utf8.Valid(lo) || !utf8.Valid(hi)) {
				t.Errorf("%q has bounds %q and %q that are no texts", text, lo, hi)
			}
		}
	}
}

// A text compared with a number is what it spells; bounds that are ordered as texts
// exclude nothing then.
func TestTextBoundsOfNumbers(t *testing.T) {
	b := NewBatch(NewSchema(Col("s", Of(KindString))))
	for _, s := range []string{"10", "50", "9"} {
		b.Columns[0].AppendString(s)
		b.Len++
	}
	ctx := context.Background()
	tbl, err := Create(ctx, NewMemoryStore(nil), CreateOptions{Schema: b.Schema})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tbl.Append(ctx, Batches(b), WriteOptions{}); err != nil {
		t.Fatal(err)
	}
	if got, err := sumSnapshot(ctx, tbl.Latest(), nil, ScanOptions{Filter: mustExpr(t, "s = 50")}); err != nil || got.rows != 1 {
		t.Errorf("%v, %v; want the row with 50", got, err)
	}
}

func pagesMeta(t testing.TB) string {
	t.Helper()
	text, err := json.Marshal(pagesSchema())
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf(`{"metaData":{"id":"x","format":{"provider":"parquet","options":{}},"schemaString":%q,"partitionColumns":[],"configuration":{}}}`, text)
}

// Another reader finds the pages of our files where the index says, and their values
// within its bounds.
func TestPageIndexByParquetGo(t *testing.T) {
	store := NewMemoryStore(nil)
	writePages(t, store, "f", rand.New(rand.NewPCG(21, 22)), 3000)
	data, err := store.Get(context.Background(), "f")
	if err != nil {
		t.Fatal(err)
	}
	f, err := parquet.OpenFile(bytes.NewReader(data), int64(len(data)))
	if err != nil {
		t.Fatal(err)
	}
	several, bounded := 0, 0
	for _, g := range f.RowGroups() {
		for _, c := range g.ColumnChunks() {
			compare := c.Type().Compare
			if c.Type().Kind() == parquet.FixedLenByteArray { // a decimal, which has a sign
				compare = func(a, b parquet.Value) int {
					x, y := bytes.Clone(a.ByteArray()), bytes.Clone(b.ByteArray())
					x[0], y[0] = x[0]^0x80, y[0]^0x80
					return bytes.Compare(x, y)
				}
			}
			where, err := c.OffsetIndex()
			if err != nil {
				t.Fatal(err)
			}
			what, err := c.ColumnIndex()
			if err != nil {
				what = nil // a page of booleans or with NaN has no bounds
			}
			pages := c.Pages()
			row := int64(0)
			for i := range where.NumPages() {
				p, err := pages.ReadPage()
				if err != nil {
					t.Fatal(err)
				}
				if where.FirstRowIndex(i) != row {
					t.Fatalf("page %d of column %d begins with row %d, not %d", i, c.Column(), row, where.FirstRowIndex(i))
				}
				row += p.NumRows()
				if what == nil {
					continue
				}
				if what.NullCount(i) != p.NumNulls() || what.NullPage(i) != (p.NumNulls() == p.NumValues()) {
					t.Fatalf("page %d of column %d has %d nulls, not %d", i, c.Column(), p.NumNulls(), what.NullCount(i))
				}
				values := make([]parquet.Value, p.NumValues())
				n, _ := p.Values().ReadValues(values) // io.EOF at the end
				for _, v := range values[:n] {
					if !v.IsNull() && (compare(v, what.MinValue(i)) < 0 || compare(v, what.MaxValue(i)) > 0) {
						t.Fatalf("page %d of column %d: %v is not within %v and %v", i, c.Column(), v, what.MinValue(i), what.MaxValue(i))
					}
				}
				bounded++
			}
			if row != g.NumRows() {
				t.Fatalf("column %d has %d rows in its pages, not %d", c.Column(), row, g.NumRows())
			}
			several += where.NumPages() - 1
			pages.Close()
		}
	}
	if several < 50 || bounded < 50 {
		t.Errorf("%d more pages than chunks, %d with bounds", several, bounded)
	}
}
