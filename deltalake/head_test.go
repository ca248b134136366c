package deltalake

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"
)

// A head is what the newest snapshot says, by its checksum and, where that is
// missing, damaged or of an older version, by the log.
func TestReadHead(t *testing.T) {
	ctx := context.Background()
	clock := &testClock{time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)}
	tbl, store := smallTable(t, clock, nil)
	for i := range 13 {
		appendRows(t, tbl, i*5, 5)
	}
	if _, err := tbl.Commit(ctx, Commit{AppID: "a", AppVersion: 7}); err != nil {
		t.Fatal(err)
	}
	s := tbl.Latest()
	check := func(what string, byChecksum bool) {
		t.Helper()
		h, err := ReadHead(ctx, store, TableOptions{})
		if err != nil {
			t.Fatal(what, err)
		}
		if h.Checksum != byChecksum || h.Version != s.version || h.Files != int64(s.NumFiles()) || h.Bytes != s.bytes || h.Txns["a"] != 7 ||
			sameHead(s.protocol, h.Protocol, s.metadata, h.Metadata) != "" || len(h.Schema.Fields) != 6 {
			t.Fatalf("%s: %+v", what, h)
		}
	}
	check("whole", true)
	good, err := store.Get(ctx, checksumPath(s.version))
	if err != nil {
		t.Fatal(err)
	}
	for _, bad := range []string{"", "{", "{}", strings.Replace(string(good), `"setTransactions"`, `"x"`, 1), strings.Replace(string(good), `"numProtocol":1`, `"numProtocol":2`, 1)} {
		if err := store.Put(ctx, checksumPath(s.version), []byte(bad)); err != nil {
			t.Fatal(err)
		}
		check(bad, false)
	}
	if err := store.Delete(ctx, checksumPath(s.version)); err != nil {
		t.Fatal(err)
	}
	check("gone", false)
	refused := strings.Replace(string(good), `"minReaderVersion":1`, `"minReaderVersion":9`, 1)
	if err := store.Put(ctx, checksumPath(s.version), []byte(refused)); err != nil {
		t.Fatal(err)
	}
	var no *UnsupportedError
	if _, err := ReadHead(ctx, store, TableOptions{}); !errors.As(err, &no) {
		t.Fatalf("reader version 9: %v", err)
	}
	if _, err := ReadHead(ctx, NewMemoryStore(nil), TableOptions{}); !errors.Is(err, ErrNotFound) {
		t.Fatalf("no table: %v", err)
	}
}

// Tiny commits stay flat, with checksums and without: WEIR_DELTA_TINY is how many.
func TestTinyCommitsStayFlat(t *testing.T) {
	n, err := strconv.Atoi(os.Getenv("WEIR_DELTA_TINY"))
	if err != nil {
		t.Skip("SKIPPED: WEIR_DELTA_TINY does not say how many commits to measure (2000)")
	}
	for _, skip := range []bool{false, true} {
		tbl, err := Create(context.Background(), NewFolderStore(t.TempDir()), CreateOptions{Schema: benchBatch().Schema, Table: TableOptions{SkipChecksums: skip}})
		if err != nil {
			t.Fatal(err)
		}
		var line []string
		for part := range 4 {
			began, cpu := time.Now(), cpuSeconds()
			for i := range n / 4 {
				a := speedAdd(part*n + i)
				a.PartitionValues = map[string]*string{}
				r, err := tbl.Commit(context.Background(), Commit{AppID: "tiny", AppVersion: int64(part*n + i + 1), Adds: []*AddFile{a}})
				if err != nil || r.Upkeep != nil {
					t.Fatal(err, r)
				}
			}
			per := 1000 / float64(n/4)
			line = append(line, fmt.Sprintf("%.2f ms (%.2f CPU)", time.Since(began).Seconds()*per, (cpuSeconds()-cpu)*per))
		}
		t.Logf("checksums %v: a commit takes, by quarters, %s", !skip, strings.Join(line, ", "))
	}
}
