package state

import (
	"context"
	"fmt"
	"testing"

	"github.com/weirstream/weir/dataflow"
	"github.com/weirstream/weir/stream/spi"
)

// Rows of an epoch are readable, survive a restore from objects and from local
// files, and are clipped to the groups owned.
func TestWriteAndRestore(t *testing.T) {
	sh, objs := newShared(t), newMemObjects()
	a := openStore(t, Options{Shared: sh, Objects: objs})
	rows := map[string][]byte{}
	var keys [][]byte
	var probes []uint64
	for n := range 1000 {
		k, h := rowKey(plainState, 0, n, 16)
		keys, probes = append(keys, k), append(probes, h)
		if n < 500 {
			rows[string(k)] = fmt.Appendf(nil, "row %d", n)
		}
	}
	if _, err := a.WriteEpoch(context.Background(), 1, []spi.Frozen{&dirty{rows: rows}}); err != nil {
		t.Fatal(err)
	}
	check := func(s *Store) {
		t.Helper()
		for i, row := range loadAll(t, s, probes, keys) {
			g, _ := dataflow.RowGroup(keys[i])
			want := ""
			if i < 500 && s.Groups().Contains(g) {
				want = fmt.Sprintf("row %d", i)
			}
			if string(row) != want {
				t.Fatalf("key %d is %q, want %q", i, row, want)
			}
		}
		got, _ := scanAll(t, s, nil, nil)
		n := 0
		for k := range rows {
			if g, _ := dataflow.RowGroup([]byte(k)); s.Groups().Contains(g) {
				n++
			}
		}
		if len(got) != n {
			t.Fatalf("scan has %d rows, want %d", len(got), n)
		}
	}
	check(a)
	files := upload(t, a, objs, "e1")
	for _, parallelism := range []int{1, 3, 8} {
		for i := range parallelism {
			b := openStore(t, Options{Shared: sh, Objects: objs, Groups: dataflow.OwnedBy(16, parallelism, i)})
			if err := b.Restore(context.Background(), files); err != nil {
				t.Fatal(err)
			}
			check(b)
			<-b.Local()
			if b.Err() != nil {
				t.Fatal(b.Err())
			}
			check(b)
		}
	}
	c := openStore(t, Options{Shared: sh})
	if err := c.Restore(context.Background(), a.Files()); err != nil {
		t.Fatal(err)
	}
	check(c)
}
