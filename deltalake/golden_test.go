package deltalake

import (
	"archive/zip"
	"bufio"
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// goldenLine is a line of testdata/tables/*.jsonl: the first tells who wrote the
// table, each other one what that writer reads from it.
type goldenLine struct {
	Writer, About string
	Txns          map[string]int64

	Version *int64
	Columns []string
	Rows    [][]any
	Gone    bool
	Changes []int64 // first and last version of a change feed
	Refused string
}

// Every table that delta-rs and Spark wrote for us reads as they read it, at every
// version. testdata/README.md tells how the tables are made.
func TestGolden(t *testing.T) {
	files, err := filepath.Glob("testdata/tables/*.jsonl")
	if err != nil || len(files) < 45 {
		t.Fatalf("%v: %d tables in testdata/tables, want 45 and more", err, len(files))
	}
	for _, f := range files {
		t.Run(strings.TrimSuffix(filepath.Base(f), ".jsonl"), func(t *testing.T) {
			t.Parallel()
			goldenTable(t, f)
		})
	}
}

func goldenTable(t *testing.T, file string) {
	t.Helper()
	ctx := context.Background()
	raw, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	root := t.TempDir()
	unzip(t, strings.TrimSuffix(file, ".jsonl")+".zip", root)
	var tbl *Table
	var head goldenLine
	sc := bufio.NewScanner(bytes.NewReader(raw))
	sc.Buffer(nil, 1<<20)
	for n := 0; sc.Scan(); n++ {
		d := json.NewDecoder(bytes.NewReader(sc.Bytes()))
		d.UseNumber()
		var line goldenLine
		if err := d.Decode(&line); err != nil {
			t.Fatal(err)
		}
		if n == 0 {
			head = line
			continue
		}
		if tbl == nil {
			tbl, err = Open(ctx, NewFolderStore(filepath.Join(root, "table")), TableOptions{})
			if line.Refused != "" {
				if err == nil || !strings.Contains(err.Error(), line.Refused) || strings.Contains(err.Error(), "\n") {
					t.Errorf("opened with %v, want one sentence with %q", err, line.Refused)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		goldenCheck(t, tbl, &line)
	}
	for app, want := range head.Txns {
		if got, ok := tbl.Latest().TxnVersion(app); !ok || got != want {
			t.Errorf("txn of %s is %d %v, want %d", app, got, ok, want)
		}
	}
}

func goldenCheck(t *testing.T, tbl *Table, line *goldenLine) {
	t.Helper()
	ctx := context.Background()
	var got []string
	var schema *Schema
	var err error
	what := ""
	if line.Changes != nil {
		what = fmt.Sprintf("changes of versions %d to %d", line.Changes[0], line.Changes[1])
		schema, got, err = feedRows(ctx, tbl, line)
	} else {
		what = fmt.Sprintf("version %d", *line.Version)
		var s *Snapshot
		if s, err = tbl.At(ctx, *line.Version); err == nil {
			schema = s.Schema()
			got, err = snapshotRows(ctx, s, ScanOptions{BatchRows: 7})
		}
	}
	if line.Gone {
		// What its own writer cannot read any more we may still find whole.
		return
	}
	if err != nil {
		t.Errorf("%s: %v", what, err)
		return
	}
	var names []string
	for _, f := range schema.Fields {
		names = append(names, f.Name)
	}
	if !slices.Equal(names, line.Columns) {
		t.Errorf("%s: columns %v, want %v", what, names, line.Columns)
		return
	}
	var want []string
	for _, row := range line.Rows {
		want = append(want, string(canonicalRow(schema, row)))
	}
	if d := rowDiff(got, want); d != "" {
		t.Errorf("%s: %s", what, d)
	}
}

// feedRows reads a change feed with the columns in the order of the line.
func feedRows(ctx context.Context, tbl *Table, line *goldenLine) (*Schema, []string, error) {
	var rows []string
	schema := &Schema{}
	for b, err := range tbl.Changes(ctx, ChangeOptions{From: line.Changes[0], To: line.Changes[1], Until: true}) {
		if err != nil {
			return nil, nil, err
		}
		schema = &Schema{}
		for _, c := range line.Columns {
			i := b.Schema.Index(c)
			if i < 0 {
				return nil, nil, fmt.Errorf("no column %q", c)
			}
			schema.Fields = append(schema.Fields, b.Schema.Fields[i])
		}
		for i := range b.Len {
			row := []byte{'('}
			for _, f := range schema.Fields {
				row = append(appendCanonical(row, b.Column(f.Name), i), '|')
			}
			rows = append(rows, string(row))
		}
	}
	return schema, rows, nil
}

// snapshotRows reads all rows in canonical form.
func snapshotRows(ctx context.Context, s *Snapshot, o ScanOptions) ([]string, error) {
	var rows []string
	for b, err := range s.Scan(ctx, o) {
		if err != nil {
			return nil, err
		}
		for i := range b.Len {
			row := []byte{'('}
			for _, c := range b.Columns {
				row = append(appendCanonical(row, c, i), '|')
			}
			rows = append(rows, string(row))
		}
	}
	return rows, nil
}

// rowDiff compares two multisets of rows; "" when they are equal.
func rowDiff(got, want []string) string {
	count := map[string]int{}
	for _, r := range want {
		count[r]++
	}
	for _, r := range got {
		count[r]--
	}
	var missing, extra []string
	for _, r := range slices.Sorted(mapKeys(count)) {
		if n := count[r]; n > 0 {
			missing = append(missing, fmt.Sprintf("%dx %s", n, r))
		} else if n < 0 {
			extra = append(extra, fmt.Sprintf("%dx %s", -n, r))
		}
	}
	if missing == nil && extra == nil {
		return ""
	}
	cut := func(x []string) string {
		if len(x) > 4 {
			x = append(x[:4:4], "...")
		}
		return strings.Join(x, "\n    ")
	}
	return fmt.Sprintf("%d rows, want %d\n  missing:\n    %s\n  not expected:\n    %s", len(got), len(want), cut(missing), cut(extra))
}

func mapKeys(m map[string]int) func(func(string) bool) {
	return func(yield func(string) bool) {
		for k := range m {
			if !yield(k) {
				return
			}
		}
	}
}

// canonicalRow is appendCanonical for a row of testdata/rows.py.
func canonicalRow(s *Schema, row []any) []byte {
	b := []byte{'('}
	for i, f := range s.Fields {
		if i >= len(row) {
			return append(b, "too short"...)
		}
		b = append(appendCanonicalJSON(b, f.Type, row[i]), '|')
	}
	return b
}

// appendCanonicalJSON appends what appendCanonical would for the same value of a
// column of type t.
func appendCanonicalJSON(b []byte, t *Type, x any) []byte {
	if x == nil {
		return append(b, 'N')
	}
	items, _ := x.([]any)
	switch t.Kind {
	case KindStruct:
		b = append(b, '(')
		for i := range t.Fields {
			b = appendCanonicalJSON(b, t.Fields[i].Type, items[i])
		}
		return append(b, ')')
	case KindList:
		b = append(b, '[')
		for _, e := range items {
			b = appendCanonicalJSON(b, t.Elem, e)
		}
		return append(b, ']')
	case KindMap:
		var entries []string
		for _, e := range items {
			kv, _ := e.([]any)
			entries = append(entries, string(appendCanonicalJSON(nil, t.Key, kv[0]))+"\x00"+string(appendCanonicalJSON(nil, t.Elem, kv[1])))
		}
		slices.Sort(entries)
		b = append(b, '{')
		for _, e := range entries {
			k, v, _ := strings.Cut(e, "\x00")
			b = append(append(b, k...), v...)
		}
		return append(b, '}')
	case KindBoolean:
		if x == true {
			return append(b, 'T')
		}
		return append(b, 'F')
	}
	text := fmt.Sprint(x)
	switch t.Kind {
	case KindFloat, KindDouble:
		f, err := strconv.ParseFloat(text, 64)
		if err != nil {
			return append(append(b, "not a number: "...), text...)
		}
		if math.IsNaN(f) {
			return append(b, "fnan"...)
		}
		if f == 0 {
			f = 0
		}
		return fmt.Appendf(b, "f%016x", math.Float64bits(f))
	case KindDecimal:
		if strings.Contains(text, ".") {
			text = strings.TrimRight(strings.TrimRight(text, "0"), ".")
		}
		if text == "-0" {
			text = "0"
		}
		return append(append(b, 'm'), text...)
	case KindString:
		return append(fmt.Appendf(b, "s%d:", len(text)), text...)
	case KindBinary:
		raw, err := hex.DecodeString(text)
		if err != nil {
			return append(append(b, "not hex: "...), text...)
		}
		return append(fmt.Appendf(b, "b%d:", len(raw)), raw...)
	case KindDate:
		return append(append(b, 'd'), text...)
	case KindTimestamp, KindTimestampNTZ:
		return append(append(b, 't'), text...)
	}
	return append(append(b, 'i'), text...)
}

// unzip writes the files of an archive below root. Logs name root as @ROOT@.
func unzip(t *testing.T, archive, root string) {
	t.Helper()
	z, err := zip.OpenReader(archive)
	if err != nil {
		t.Fatal(err)
	}
	defer z.Close()
	for _, f := range z.File {
		r, err := f.Open()
		if err != nil {
			t.Fatal(err)
		}
		data, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		if strings.HasSuffix(f.Name, ".json") || strings.HasSuffix(f.Name, ".crc") {
			data = bytes.ReplaceAll(data, []byte("@ROOT@"), []byte(root))
		}
		path := filepath.Join(root, filepath.FromSlash(f.Name))
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}
