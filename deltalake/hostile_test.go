package deltalake

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"
)

const (
	protoLine = `{"protocol":{"minReaderVersion":1,"minWriterVersion":2}}`
	metaLine  = `{"metaData":{"id":"x","format":{"provider":"parquet","options":{}},"schemaString":"{\"type\":\"struct\",\"fields\":[{\"name\":\"id\",\"type\":\"long\",\"nullable\":true,\"metadata\":{}}]}","partitionColumns":[],"configuration":{}}}`
)

func putLog(t testing.TB, commits map[int64]string) *MemoryStore {
	t.Helper()
	store := NewMemoryStore(nil)
	for v, text := range commits {
		if err := store.Put(context.Background(), commitPath(v), []byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	return store
}

// Every table that must be refused is refused in one sentence that names why.
func TestRefusals(t *testing.T) {
	ctx := context.Background()
	proto := func(text string) string { return `{"protocol":` + text + "}\n" + metaLine }
	for _, tt := range []struct {
		name    string
		commits map[int64]string
		want    string
	}{
		{"no log", nil, "no Delta table"},
		{"unknown reader feature", map[int64]string{0: proto(`{"minReaderVersion":3,"minWriterVersion":7,"readerFeatures":["fancyFeature"],"writerFeatures":["fancyFeature"]}`)}, "reader feature fancyFeature"},
		{"variant", map[int64]string{0: proto(`{"minReaderVersion":3,"minWriterVersion":7,"readerFeatures":["variantType"],"writerFeatures":["variantType"]}`)}, "variantType"},
		{"reader version 4", map[int64]string{0: proto(`{"minReaderVersion":4,"minWriterVersion":7}`)}, "reader version 4"},
		{"reader version 0", map[int64]string{0: proto(`{"minReaderVersion":0,"minWriterVersion":2}`)}, "reader version 0"},
		{"version 3 without features", map[int64]string{0: proto(`{"minReaderVersion":3,"minWriterVersion":7}`)}, "no readerFeatures"},
		{"missing protocol", map[int64]string{0: metaLine}, "no protocol action"},
		{"missing metadata", map[int64]string{0: protoLine}, "no metadata action"},
		{"version gap", map[int64]string{0: protoLine + "\n" + metaLine, 1: "{}", 3: "{}"}, "version 2 is missing"},
		{"log starts late", map[int64]string{2: protoLine + "\n" + metaLine}, "no longer has version 0"},
		{"not JSON", map[int64]string{0: protoLine + "\n{\"add\":"}, "not a Delta action"},
		{"other format", map[int64]string{0: protoLine + "\n" + strings.Replace(metaLine, `"provider":"parquet"`, `"provider":"orc"`, 1)}, `"orc"`},
		{"unknown type", map[int64]string{0: protoLine + "\n" + strings.Replace(metaLine, `\"long\"`, `\"geometry\"`, 1)}, `type "geometry"`},
		{"partition column not in schema", map[int64]string{0: protoLine + "\n" + strings.Replace(metaLine, `"partitionColumns":[]`, `"partitionColumns":["day"]`, 1)}, `partition column "day"`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := Open(ctx, putLog(t, tt.commits), TableOptions{})
			if err == nil || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "\n") {
				t.Errorf("error %v, want one sentence with %q", err, tt.want)
			}
		})
	}
	for name, tt := range map[string]struct{ path, want string }{
		"missing data file":           {"gone.parquet", "data file gone.parquet, which is gone"},
		"path that leaves the folder": {"../../etc/passwd", "leaves the table"},
		"escaped path that leaves":    {"%2e%2e/x", "leaves the table"},
	} {
		t.Run(name, func(t *testing.T) {
			store := putLog(t, map[int64]string{0: protoLine + "\n" + metaLine + "\n" + `{"add":{"path":"` + tt.path + `","partitionValues":{},"size":100,"modificationTime":0,"dataChange":true}}`})
			tbl, err := Open(ctx, store, TableOptions{})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := sumSnapshot(ctx, tbl.Latest(), nil, ScanOptions{}); err == nil || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "\n") {
				t.Errorf("error %v, want one sentence with %q", err, tt.want)
			}
		})
	}
	t.Run("write to an unknown writer feature", func(t *testing.T) {
		store := putLog(t, map[int64]string{0: proto(`{"minReaderVersion":1,"minWriterVersion":7,"writerFeatures":["icebergCompatV1"]}`)})
		tbl, err := Open(ctx, store, TableOptions{})
		if err != nil {
			t.Fatal(err)
		}
		var unsupported *UnsupportedError
		if _, err := tbl.Commit(ctx, Commit{}); !errors.As(err, &unsupported) || !strings.Contains(err.Error(), "icebergCompatV1") {
			t.Errorf("error %v, want a refusal of icebergCompatV1", err)
		}
	})
}

// A small file that claims a lot is an error and costs little memory.
func TestHostileParquet(t *testing.T) {
	claims := map[string][]byte{
		"footer longer than the file": append(append([]byte("PAR1"), binary.LittleEndian.AppendUint32(nil, 1<<31)...), "PAR1"...),
		"list of a billion elements":  wrapFooter([]byte{0x15, 2, 0x19, 0xfc, 0x80, 0x94, 0xeb, 0xdc, 3, 0}),
		"nested beyond reason":        wrapFooter(bytes.Repeat([]byte{0x1c}, 400)),
	}
	good := goodParquet(t)
	for i := range 200 { // every byte of the tail turned, one after the other
		bad := bytes.Clone(good)
		bad[len(bad)-9-i*3%(len(bad)-12)] ^= byte(0x55 + i)
		claims[fmt.Sprint("flipped ", i)] = bad
	}
	for name, data := range claims {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_ = readAll(data) // may be right: not every byte matters
		runtime.ReadMemStats(&after)
		if used := after.TotalAlloc - before.TotalAlloc; used > 64<<20 {
			t.Errorf("%s: %d bytes of memory for a file of %d", name, used, len(data))
		}
	}
}

// Random damage of Parquet files and Delta checkpoints is an error or harmless,
// never a panic, a hang or a lot of memory.
func TestMutatedParquet(t *testing.T) {
	ctx := context.Background()
	seeds := [][]byte{goodParquet(t), pagedParquet(t)}
	if root := os.Getenv("WEIR_DELTA_DATA"); root != "" {
		for _, pattern := range []string{"*/*/delta/*.parquet", "*/*/delta/_delta_log/*.parquet"} {
			files, _ := filepath.Glob(filepath.Join(root, pattern))
			for _, p := range files {
				if data, err := os.ReadFile(p); err == nil && len(data) < 20_000 {
					seeds = append(seeds, data)
				}
			}
		}
	}
	rounds := 4000
	if n, err := strconv.Atoi(os.Getenv("WEIR_MUTATIONS")); err == nil {
		rounds = n
	}
	rng := rand.New(rand.NewPCG(uint64(rounds), 2))
	for n := range rounds {
		d := bytes.Clone(seeds[rng.IntN(len(seeds))])
		for range 1 + rng.IntN(4) {
			i := rng.IntN(len(d) - 8)
			if rng.IntN(2) == 0 {
				i = len(d) - 9 - rng.IntN(min(len(d)-9, 1500)) // the footer
			}
			d[i] = byte(rng.Uint32())
		}
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		began := time.Now()
		_ = readAll(d)
		_ = readFiltered(t, d)
		store := putLog(t, map[int64]string{0: protoLine + "\n" + metaLine})
		if err := store.Put(ctx, logDir+"00000000000000000000.checkpoint.parquet", d); err != nil {
			t.Fatal(err)
		}
		_, _ = Open(ctx, store, TableOptions{})
		runtime.ReadMemStats(&after)
		if used := after.TotalAlloc - before.TotalAlloc; used > 1<<30 || time.Since(began) > time.Minute {
			t.Fatalf("round %d: %d bytes of memory and %v for a file of %d", n, used, time.Since(began), len(d))
		}
	}
}

func wrapFooter(thrift []byte) []byte {
	out := append([]byte("PAR1"), thrift...)
	return append(binary.LittleEndian.AppendUint32(out, uint32(len(thrift))), "PAR1"...)
}

func goodParquet(t testing.TB) []byte {
	t.Helper()
	ctx := context.Background()
	store := NewMemoryStore(nil)
	tbl, err := Create(ctx, store, CreateOptions{Schema: testSchema()})
	if err != nil {
		t.Fatal(err)
	}
	w, err := NewFileWriter(ctx, store, tbl.Latest().FileSpec(), nil, FileOptions{})
	if err != nil {
		t.Fatal(err)
	}
	b := NewBatch(tbl.Latest().FileSpec().DataSchema())
	fillRows(b, 0, 50)
	if err := w.Write(b); err != nil {
		t.Fatal(err)
	}
	add, err := w.Close()
	if err != nil {
		t.Fatal(err)
	}
	data, err := store.Get(ctx, add.Path)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// readAll reads a Parquet file with its own schema and with that of a checkpoint.
func readAll(data []byte) error {
	ctx := context.Background()
	store := NewMemoryStore(nil)
	if err := store.Put(ctx, "f", data); err != nil {
		return err
	}
	rows := 0
	for b, err := range ReadParquet(ctx, store, "f") {
		if err != nil {
			return err
		}
		if rows += b.Len; rows > 1<<20 {
			return nil // all null: cheap to claim, cheap to skip
		}
	}
	return nil
}

func FuzzCommit(f *testing.F) {
	f.Add([]byte(protoLine + "\n" + metaLine))
	f.Add([]byte(protoLine + "\n" + metaLine + "\n" + `{"add":{"path":"a","partitionValues":{"id":null},"size":1,"stats":"{\"numRecords\":1}","deletionVector":{"storageType":"i","pathOrInlineDv":"^Bg9^0rr910000000000iXQKl0rr91000f55c8Xg0@@D72lkbi5=-{L","sizeInBytes":44,"cardinality":6}}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		ctx := context.Background()
		tbl, err := Open(ctx, putLog(t, map[int64]string{0: string(data)}), TableOptions{})
		if err != nil {
			return
		}
		_, _ = sumSnapshot(ctx, tbl.Latest(), nil, ScanOptions{})
		_ = tbl.Latest().Info()
	})
}

func FuzzDeletionVector(f *testing.F) {
	s := newRowSet()
	for i := range int64(9000) {
		s.add(i * i % 70000)
	}
	f.Add(s.encode())
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := decodeRows(data)
		if err != nil {
			return
		}
		back, err := decodeRows(s.encode())
		if err != nil || back.count != s.count {
			t.Fatalf("%v: %d rows come back as %d", err, s.count, back.count)
		}
	})
}

func FuzzExpr(f *testing.F) {
	for _, text := range []string{"id = 1 and name like 'a%'", "cast(price as decimal(10,2)) > -1.5e3", "case when id in (1,2) then null else tags end is null", "a.`b c`<=>date '2020-01-01'"} {
		f.Add(text)
	}
	b := NewBatch(testSchema())
	fillRows(b, 0, 9)
	f.Fuzz(func(_ *testing.T, text string) {
		e, err := ParseExpr(text)
		if err != nil {
			return
		}
		bound, err := e.bind(b.Schema)
		if err != nil {
			return
		}
		_, _ = bound.matches(b)
	})
}
