package deltalake

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math"
	"math/big"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"strings"
	"testing"
)

// checksum is the order-independent sum over rows that the conformance data is
// compared by: the first 16 bytes of each row's SHA-256, added modulo 2^128.
type checksum struct {
	hi, lo uint64
	rows   int64
}

func (c *checksum) add(b *Batch, skip map[string]bool) {
	for i := range b.Len {
		var row []byte
		row = append(row, '(')
		for j, v := range b.Columns {
			if !skip[b.Schema.Fields[j].Name] {
				row = appendCanonical(row, v, i)
			}
		}
		row = append(row, ')')
		sum := sha256.Sum256(row)
		lo := binary.BigEndian.Uint64(sum[8:16])
		c.lo += lo
		c.hi += binary.BigEndian.Uint64(sum[:8])
		if c.lo < lo {
			c.hi++
		}
		c.rows++
	}
}

func (c *checksum) String() string {
	return hex.EncodeToString(binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(nil, c.hi), c.lo))
}

func appendCanonical(b []byte, v *Vector, i int) []byte {
	if v.Null(i) {
		return append(b, 'N')
	}
	float := func(x float64) []byte {
		if math.IsNaN(x) {
			return append(b, "fnan"...)
		}
		if x == 0 {
			x = 0
		}
		return fmt.Appendf(b, "f%016x", math.Float64bits(x))
	}
	switch v.Type.Kind {
	case KindBoolean:
		if v.Bools[i] {
			return append(b, 'T')
		}
		return append(b, 'F')
	case KindByte, KindShort, KindInteger:
		return fmt.Appendf(b, "i%d", v.Ints[i])
	case KindLong:
		return fmt.Appendf(b, "i%d", v.Longs[i])
	case KindFloat:
		return float(float64(v.Floats[i]))
	case KindDouble:
		return float(v.Doubles[i])
	case KindDecimal:
		s := v.Decimals[i].Text(v.Type.Scale)
		if strings.Contains(s, ".") {
			s = strings.TrimRight(strings.TrimRight(s, "0"), ".")
		}
		return append(append(b, 'm'), s...)
	case KindString:
		return append(fmt.Appendf(b, "s%d:", len(v.Bytes(i))), v.Bytes(i)...)
	case KindBinary:
		return append(fmt.Appendf(b, "b%d:", len(v.Bytes(i))), v.Bytes(i)...)
	case KindDate:
		return fmt.Appendf(b, "d%d", v.Ints[i])
	case KindTimestamp, KindTimestampNTZ:
		return fmt.Appendf(b, "t%d", v.Longs[i])
	case KindStruct:
		b = append(b, '(')
		for _, c := range v.Children {
			b = appendCanonical(b, c, i)
		}
		return append(b, ')')
	case KindList:
		b = append(b, '[')
		for k := v.Offsets[i]; k < v.Offsets[i+1]; k++ {
			b = appendCanonical(b, v.Children[0], int(k))
		}
		return append(b, ']')
	}
	var entries []string
	for k := v.Offsets[i]; k < v.Offsets[i+1]; k++ {
		key := appendCanonical(nil, v.Children[0], int(k))
		entries = append(entries, string(key)+"\x00"+string(appendCanonical(nil, v.Children[1], int(k))))
	}
	sort.Strings(entries)
	b = append(b, '{')
	for _, e := range entries {
		key, val, _ := strings.Cut(e, "\x00")
		b = append(append(b, key...), val...)
	}
	return append(b, '}')
}

// sumSnapshot reads all rows of a snapshot.
func sumSnapshot(ctx context.Context, s *Snapshot, skip map[string]bool, o ScanOptions) (*checksum, error) {
	var c checksum
	for b, err := range s.Scan(ctx, o) {
		if err != nil {
			return nil, err
		}
		c.add(b, skip)
	}
	return &c, nil
}

type expectedTable struct {
	Table, Case      string
	Dir              string
	Version          int64
	Rows             int64
	Checksum         string
	Files            *int
	Protocol         []int
	ReaderFeatures   []string
	Txns             map[string]int64
	Columns          []string
	PartitionColumns []string
	IgnoreColumns    []string
	OlderVersions    []expectedTable
}

// Every table and version of the conformance data reads with the expected rows.
func TestConformance(t *testing.T) {
	root := os.Getenv("WEIR_DELTA_DATA")
	if root == "" {
		t.Skip("WEIR_DELTA_DATA is not set: the conformance data is not here")
	}
	ctx := context.Background()
	for _, set := range []string{"golden", "dat", "txn"} {
		raw, err := os.ReadFile(filepath.Join(root, set, "expected.json"))
		if err != nil {
			t.Fatal(err)
		}
		var tables []expectedTable
		if err := json.Unmarshal(raw, &tables); err != nil {
			t.Fatal(err)
		}
		for _, want := range tables {
			name := want.Table + want.Case
			dir := filepath.Join(root, set, name, "delta")
			if _, err := os.Stat(dir); err != nil {
				dir = filepath.Join(root, set, name)
			}
			t.Run(fmt.Sprintf("%s/%s/v%d", set, name, want.Version), func(t *testing.T) {
				tbl, err := Open(ctx, NewFolderStore(dir), TableOptions{})
				if err != nil {
					t.Fatal(err)
				}
				if want.Table != "" && tbl.Latest().Version() != want.Version {
					t.Fatalf("newest version %d, want %d", tbl.Latest().Version(), want.Version)
				}
				for _, w := range append([]expectedTable{want}, want.OlderVersions...) {
					if w.IgnoreColumns == nil {
						w.IgnoreColumns = want.IgnoreColumns
					}
					checkVersion(t, tbl, &w)
				}
			})
		}
	}
}

func checkVersion(t *testing.T, tbl *Table, want *expectedTable) {
	t.Helper()
	ctx := context.Background()
	s, err := tbl.At(ctx, want.Version)
	if err != nil {
		t.Errorf("version %d: %v", want.Version, err)
		return
	}
	skip := map[string]bool{}
	for _, c := range want.IgnoreColumns {
		skip[c] = true
	}
	got, err := sumSnapshot(ctx, s, skip, ScanOptions{BatchRows: 7})
	if err != nil {
		t.Errorf("version %d: %v", want.Version, err)
		return
	}
	if got.rows != want.Rows || got.String() != want.Checksum {
		t.Errorf("version %d: %d rows with sum %s, want %d with %s", want.Version, got.rows, got, want.Rows, want.Checksum)
	}
	if want.Files != nil && s.NumFiles() != *want.Files {
		t.Errorf("version %d: %d files, want %d", want.Version, s.NumFiles(), *want.Files)
	}
	if want.Protocol != nil && !slices.Equal(want.Protocol, []int{s.Protocol().MinReaderVersion, s.Protocol().MinWriterVersion}) {
		t.Errorf("version %d: protocol %v, want %v", want.Version, s.Protocol(), want.Protocol)
	}
	for app, v := range want.Txns {
		if got, ok := s.TxnVersion(app); !ok || got != v {
			t.Errorf("version %d: txn %s is %d %v, want %d", want.Version, app, got, ok, v)
		}
	}
	for i, c := range want.Columns {
		if i >= len(s.Schema().Fields) || s.Schema().Fields[i].Name != c {
			t.Errorf("version %d: columns %v, want %v", want.Version, s.Schema().Fields, want.Columns)
			break
		}
	}
}

// A rowSet serializes to what it was, whatever its shape.
func TestRowSetRoundTrip(t *testing.T) {
	s := newRowSet()
	want := map[int64]bool{}
	x := uint64(12345)
	for i := range 200_000 {
		x = x*6364136223846793005 + 1442695040888963407
		row := int64(x >> 44) // about a million
		if i%3 == 0 {
			row = int64(i) // dense
		}
		if i%1000 == 0 {
			row += 1 << 33
		}
		if s.add(row) == want[row] {
			t.Fatalf("add(%d) disagrees", row)
		}
		want[row] = true
	}
	back, err := decodeRows(s.encode())
	if err != nil || back.count != int64(len(want)) {
		t.Fatalf("%v: %d rows, want %d", err, back.count, len(want))
	}
	for row := range want {
		if !back.has(row) {
			t.Fatalf("row %d is lost", row)
		}
	}
}

// Decimals keep their text, order and bytes for random 128-bit values.
func TestDecimalAgainstBig(t *testing.T) {
	x := uint64(7)
	next := func() uint64 { x = x*6364136223846793005 + 1442695040888963407; return x ^ x>>29 }
	for range 5000 {
		d := Decimal{int64(next()) >> (next() % 60), next()}
		b := d.Big()
		if back, ok := decimalFromBig(b); !ok && b.BitLen() <= 127 || ok && back != d {
			t.Fatalf("%v does not come back from big", d)
		}
		raw := appendDecimal(nil, d, 16)
		if back, ok := decimalFromBytes(raw); !ok || back != d {
			t.Fatalf("%v does not come back from bytes", d)
		}
		e := Decimal{int64(next()) >> (next() % 60), next()}
		if d.Cmp(e) != b.Cmp(e.Big()) {
			t.Fatalf("compare %v %v", d, e)
		}
		if d.fits(38) {
			text := d.Text(5)
			if back, err := ParseDecimal(text, 38, 5); err != nil || back != d {
				t.Fatalf("%s: %v", text, err)
			}
		}
		if want := new(big.Int).Neg(b); d.Neg().Big().Cmp(want) != 0 && b.BitLen() <= 126 {
			t.Fatalf("negate %v", d)
		}
	}
}
