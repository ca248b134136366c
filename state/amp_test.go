package state

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"testing"

	"github.com/weirstream/weir/dataflow"
	"github.com/weirstream/weir/stream/spi"
)

// Over 200 epochs that each change 1 % of the rows, drawn uniformly, less than 3
// bytes are uploaded per byte changed; the initial load does not count. What is
// uploaded last restores to the same rows. WEIR_STATE_LONG takes 10 times the rows.
func TestUploadedBytes(t *testing.T) {
	total := 50000
	if os.Getenv("WEIR_STATE_LONG") != "" {
		total *= 10
	}
	for _, percent := range []int{1, 5} {
		t.Run(fmt.Sprintf("%d%%", percent), func(t *testing.T) { uploadedBytes(t, total, total*percent/100) })
	}
}

func uploadedBytes(t *testing.T, total, n int) {
	const epochs = 200
	sh, objs := newShared(t), newMemObjects()
	s := openStore(t, Options{Shared: sh, Objects: objs, Total: 128})
	r := rand.New(rand.NewPCG(1, 4))
	if _, err := s.WriteEpoch(context.Background(), 1, []spi.Frozen{sample(r, total, total, 100)}); err != nil {
		t.Fatal(err)
	}
	upload(t, s, objs, "load")
	before := s.Written()
	var sent int64
	var files []dataflow.FileRef
	longest := 0
	for e := range dataflow.Epoch(epochs) {
		f := &sorted{}
		seen := map[int]bool{}
		for range n {
			seen[r.IntN(total)] = true
		}
		for i := range total {
			if seen[i] {
				k, _ := sortedKey(i, total, 128)
				v := make([]byte, 100)
				for j := range v {
					v[j] = byte(r.Uint32())
				}
				f.keys, f.rows = append(f.keys, k), append(f.rows, v)
			}
		}
		if _, err := s.WriteEpoch(context.Background(), e+2, []spi.Frozen{f}); err != nil {
			t.Fatal(err)
		}
		object := fmt.Sprintf("e%d", e)
		files = upload(t, s, objs, object)
		sent += int64(len(objs.objects[object]))
		s.SetComplete(e + 2)
		longest = max(longest, len(files))
	}
	w := s.Written()
	changed := w.RowBytes - before.RowBytes
	disk, _ := os.ReadDir(s.dir)
	t.Logf("%d rows, %d changed per epoch: uploaded %.2f bytes per byte changed (%d / %d); %d merges, %d rebases; at most %d files in the chain, %d at the end, %d on disk; live %d",
		total, n, float64(sent)/float64(changed), sent, changed, w.Merges, w.Rebases, longest, len(files), len(disk), s.Bytes())
	if sent >= 3*changed {
		t.Errorf("uploaded %d bytes for %d changed", sent, changed)
	}
	b := openStore(t, Options{Shared: sh, Objects: objs, Total: 128})
	if err := b.Restore(context.Background(), files); err != nil {
		t.Fatal(err)
	}
	wantKeys, wantRows := scanAll(t, s, nil, nil)
	keys, rows := scanAll(t, b, nil, nil)
	if len(keys) != len(wantKeys) {
		t.Fatalf("%d rows restored, want %d", len(keys), len(wantKeys))
	}
	for i := range keys {
		if string(keys[i]) != string(wantKeys[i]) || string(rows[i]) != string(wantRows[i]) {
			t.Fatalf("row %x is %x, want %x = %x", keys[i], rows[i], wantKeys[i], wantRows[i])
		}
	}
}
