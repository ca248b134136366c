package state

import (
	"context"
	"math/rand/v2"
	"os"
	"testing"
	"time"

	"github.com/weirstream/weir/dataflow"
	"github.com/weirstream/weir/stream/spi"
)

// A restore from local copies links them and answers at once, whatever their size;
// afterwards the filter knows every row. WEIR_STATE_LONG takes 10 M rows.
func TestRestoreLocal(t *testing.T) {
	total := 200_000
	if os.Getenv("WEIR_STATE_LONG") != "" {
		total = 10_000_000
	}
	sh, objs := newShared(t), newMemObjects()
	dir := t.TempDir()
	a := openStore(t, Options{Shared: sh, Total: 128, Dir: dir})
	r := rand.New(rand.NewPCG(1, 9))
	for e := range dataflow.Epoch(30) {
		step := 1
		if e > 0 {
			step = max(1, total/10_000)
		}
		if _, err := a.WriteEpoch(context.Background(), e+1, []spi.Frozen{&generated{total: total, step: step, r: r}}); err != nil {
			t.Fatal(err)
		}
	}
	files := a.Files()
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	b := openStore(t, Options{Shared: sh, Objects: objs, Total: 128})
	start := time.Now()
	if err := b.Restore(context.Background(), FindLocal(Disk(), files, dir)); err != nil {
		t.Fatal(err)
	}
	k, h := sortedKey(total/2, total, 128)
	if rows := loadAll(t, b, []uint64{h}, [][]byte{k}); len(rows[0]) != 100 {
		t.Errorf("row is %x", rows[0])
	}
	first := time.Since(start)
	<-b.Local()
	local := time.Since(start)
	b.buildFilter() // waits for none that runs
	b.work.Wait()
	t.Logf("%d rows in %d files: first row after %v, all checked after %v, filter after %v", total, len(files), first, local, time.Since(start))
	if err := b.Err(); err != nil {
		t.Fatal(err)
	}
	f := b.filter.Load()
	if f == nil {
		t.Fatal("there is no filter")
	}
	for n := range 1000 {
		if _, h := sortedKey(n*(total/1000), total, 128); !f.has(h) {
			t.Fatalf("the filter denies row %d", n*(total/1000))
		}
	}
	if first > 2*time.Second && os.Getenv("WEIR_STATE_LONG") != "" { // beside other tests it means nothing
		t.Errorf("first row took %v", first)
	}
}
