package state

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

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

// What an aborted epoch wrote is in the Files of every later epoch, in order, until
// something newer stands for it: the chain of acks loses nothing.
func TestAckChain(t *testing.T) {
	sh, objs := newShared(t), newMemObjects()
	a := openStore(t, Options{Shared: sh, Objects: objs})
	put := func(epoch dataflow.Epoch, n int) []dataflow.FileRef {
		t.Helper()
		k, _ := rowKey(plainState, 0, n, 16)
		files, err := a.WriteEpoch(context.Background(), epoch, []spi.Frozen{&dirty{rows: map[string][]byte{string(k): fmt.Appendf(nil, "%d", epoch)}}})
		if err != nil {
			t.Fatal(err)
		}
		return files
	}
	put(1, 1)
	upload(t, a, objs, "e1")
	a.SetComplete(1)
	aborted := put(2, 2)[0] // written, never uploaded
	put(3, 1)               // the same row as in epoch 1
	uploadFailed := a.Files()
	put(5, 3) // 4 was aborted before anything was frozen
	files := upload(t, a, objs, "e5")
	var epochs []dataflow.Epoch
	for _, f := range files {
		epochs = append(epochs, f.Epoch)
	}
	if fmt.Sprint(epochs) != "[1 2 3 5]" {
		t.Errorf("files of epochs %v, want those of 1, 2, 3 and 5", epochs)
	}
	if len(uploadFailed) != 3 || uploadFailed[1].CRC32C != aborted.CRC32C || uploadFailed[1].Object != "" {
		t.Errorf("files of epoch 3: %v", uploadFailed)
	}
	b := openStore(t, Options{Shared: sh, Objects: objs})
	if err := b.Restore(context.Background(), files); err != nil {
		t.Fatal(err)
	}
	for n, want := range map[int]string{1: "3", 2: "2", 3: "5"} {
		k, h := rowKey(plainState, 0, n, 16)
		if got := loadAll(t, b, []uint64{h}, [][]byte{k})[0]; string(got) != want {
			t.Errorf("row %d is %q, want %q", n, got, want)
		}
	}
}

// The files of a complete epoch stay for a local recovery; what only older epochs
// named goes.
func TestSweep(t *testing.T) {
	sh, objs := newShared(t), newMemObjects()
	s := openStore(t, Options{Shared: sh, Objects: objs, MergeFiles: 2, MergeFanIn: 2, NoBackground: true})
	k, _ := rowKey(plainState, 0, 1, 16)
	var manifests [][]dataflow.FileRef
	for e := range dataflow.Epoch(12) {
		if _, err := s.WriteEpoch(context.Background(), e+1, []spi.Frozen{&dirty{rows: map[string][]byte{string(k): {byte(e)}}}}); err != nil {
			t.Fatal(err)
		}
		manifests = append(manifests, upload(t, s, objs, fmt.Sprint("e", e)))
	}
	for _, f := range FindLocal(Disk(), manifests[4], s.opts.Dir) {
		if f.Local == "" {
			t.Errorf("file of epoch %d is gone though its epoch may yet be restored", f.Epoch)
		}
	}
	s.SetComplete(12)
	for _, f := range FindLocal(Disk(), manifests[11], s.opts.Dir) {
		if f.Local == "" {
			t.Errorf("file of epoch %d of the newest checkpoint is gone", f.Epoch)
		}
	}
	if err := s.db.Compact(context.Background(), []byte{0}, []byte{0xff}, false); err != nil {
		t.Fatal(err)
	}
	s.write.Lock()
	s.sweep()
	s.write.Unlock()
	for _, f := range FindLocal(Disk(), manifests[0], s.opts.Dir) {
		if f.Local != "" {
			t.Errorf("%s is still there", f.Local)
		}
	}
}

// A store runs on a file system in memory, without goroutines of its own, as
// simulation needs it.
func TestMemFS(t *testing.T) {
	sh, objs := newShared(t), newMemObjects()
	fs := vfs.NewMem()
	o := Options{Shared: sh, Objects: objs, FS: fs, NoBackground: true, MergeFiles: 2, MergeFanIn: 2, RebaseBytes: 1, Dir: "/a", Total: 16, Groups: dataflow.KeyGroups{To: 16}, Infos: infos}
	a, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	rows := map[string][]byte{}
	for e := range dataflow.Epoch(20) {
		k, _ := rowKey(plainState, 0, int(e%7), 16)
		rows[string(k)] = fmt.Append(nil, e)
		if _, err := a.WriteEpoch(context.Background(), e+1, []spi.Frozen{&dirty{rows: map[string][]byte{string(k): rows[string(k)]}}}); err != nil {
			t.Fatal(err)
		}
		a.SetComplete(e)
	}
	files := a.Files()
	o.Dir = "/b"
	b, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Restore(context.Background(), files); err != nil {
		t.Fatal(err)
	}
	keys, values := scanAll(t, b, nil, nil)
	if len(keys) != len(rows) {
		t.Errorf("%d rows, want %d", len(keys), len(rows))
	}
	for i := range keys {
		if string(values[i]) != string(rows[string(keys[i])]) {
			t.Errorf("row %x is %q, want %q", keys[i], values[i], rows[string(keys[i])])
		}
	}
	for _, s := range []*Store{a, b} {
		if err := s.Remove(); err != nil {
			t.Error(err)
		}
		if list, err := fs.List(s.opts.Dir); err == nil {
			t.Errorf("%s still has %v", s.opts.Dir, list)
		}
	}
}

// Close ends fetches that hang, and everything afterwards says that the store is
// closed.
func TestCloseWhileFetching(t *testing.T) {
	sh, objs := newShared(t), newMemObjects()
	_, files := chainOf(t, sh, objs, 3, 20000, 10000)
	objs.hold = make(chan struct{})
	s := openStore(t, Options{Shared: sh, Objects: objs, Total: 128})
	if err := s.Restore(context.Background(), files); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	<-s.Local()
	if err := s.Load([]uint64{1}, [][]byte{groupKey(1)}, nil); !errors.Is(err, ErrClosed) {
		t.Errorf("Load: %v", err)
	}
	if _, err := s.WriteEpoch(context.Background(), 9, nil); !errors.Is(err, ErrClosed) {
		t.Errorf("WriteEpoch: %v", err)
	}
	for range s.Scan(nil, nil) {
		t.Error("Scan yields a row")
	}
	if err := s.ScanErr(); !errors.Is(err, ErrClosed) {
		t.Errorf("Scan: %v", err)
	}
}

// Options are refused with all their faults at once.
func TestOptions(t *testing.T) {
	_, err := Open(Options{Total: 8, Groups: dataflow.KeyGroups{From: 3, To: 9}, FileBytes: 1, Infos: []dataflow.StateInfo{{Name: "x"}}})
	for _, want := range []string{"Dir", "Shared", "Groups [3,9)", "FileBytes 1", `state "x"`} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v does not speak of %s", err, want)
		}
	}
}

// No key that was added is ever denied, and about 1 % of others are claimed, however
// often the filter has grown.
func TestFilter(t *testing.T) {
	f := newFilter(0)
	const n = 300_000
	hash := func(i int) uint64 { return dataflow.FilterHash(plainState, 0, uint32(i)*2654435761) }
	for i := 0; i < n; i += 1000 {
		var hashes []uint64
		for j := range 1000 {
			hashes = append(hashes, hash(i+j))
		}
		f.add(hashes)
		f.add(hashes[:500]) // again
	}
	wrong := 0
	for i := range n {
		if !f.has(hash(i)) {
			t.Fatalf("key %d is denied", i)
		}
		if f.has(hash(n + i)) {
			wrong++
		}
	}
	keys, bytes := f.stats()
	t.Logf("%d keys in %d bytes, %.2f %% of absent keys claimed", keys, bytes, 100*float64(wrong)/n)
	if wrong > n/40 {
		t.Errorf("%d of %d absent keys are claimed", wrong, n)
	}
}

// keyAfter is the inverse of keyBelow, and both keep the order.
func TestKeyBelow(t *testing.T) {
	for _, k := range [][]byte{{1}, {0, 0}, {0, 7}, {0xff}, {0xff, 0xff}, {1, 0}, {1, 0, 0}, []byte("row key"), groupKey(256), groupKey(32768)} {
		below := keyBelow(k)
		if after := keyAfter(below); !bytes.Equal(after, k) {
			t.Errorf("keyAfter(keyBelow(%x)) = %x", k, after)
		}
		if bytes.Compare(below, k) >= 0 {
			t.Errorf("keyBelow(%x) = %x, which is not below", k, below)
		}
	}
	if got := keyAfter([]byte("ab")); string(got) != "ab\x00" {
		t.Errorf("keyAfter(ab) = %q", got)
	}
}
