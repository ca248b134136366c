package state

import (
	"context"
	"fmt"
	"testing"

	"github.com/weirstream/weir/dataflow"
	"github.com/weirstream/weir/stream/spi"
)

// A file that was merged away is named by no later checkpoint, so a sweep deletes its
// object, while Pebble reads the file still. A rebase, which lists what Pebble reads,
// brings it back into the chain: to be uploaded again, not as the object that is gone.
func TestRebaseNamesNoSweptObject(t *testing.T) {
	sh, objs := newShared(t), newMemObjects()
	s := openStore(t, Options{Shared: sh, Objects: objs, MergeFiles: 2, MergeFanIn: 2, NoBackground: true, RebaseBytes: 1 << 40})
	const epochs = 8
	for e := dataflow.Epoch(1); e <= epochs; e++ {
		k, _ := rowKey(plainState, 0, int(e), 16) // every file holds a row that no other has
		if _, err := s.WriteEpoch(context.Background(), e, []spi.Frozen{&dirty{rows: map[string][]byte{string(k): {byte(e)}}}}); err != nil {
			t.Fatal(err)
		}
		files := upload(t, s, objs, fmt.Sprint("e", e))
		s.SetComplete(e)
		named := map[string]bool{}
		for _, f := range files {
			named[f.Object] = true
		}
		for object := range objs.objects { // the sweep of the job manager: nothing but what the newest names
			if !named[object] {
				delete(objs.objects, object)
			}
		}
	}
	if s.Written().Merges == 0 {
		t.Fatal("nothing was merged: the test is void")
	}
	s.write.Lock()
	err := s.rebase()
	s.write.Unlock()
	if err != nil {
		t.Fatal(err)
	}
	again := 0
	for _, f := range s.Files() {
		if _, ok := objs.objects[f.Object]; f.Object != "" && !ok {
			t.Errorf("the part names object %q, which is gone", f.Object)
		}
		if f.Object == "" && f.Epoch < epochs {
			again++
		}
	}
	if again == 0 {
		t.Error("no file is uploaded again: the test is void")
	}
	files := upload(t, s, objs, "rebased")
	b := openStore(t, Options{Shared: sh, Objects: objs})
	if err := b.Restore(context.Background(), files); err != nil {
		t.Fatal(err)
	}
	for e := 1; e <= epochs; e++ {
		k, h := rowKey(plainState, 0, e, 16)
		if got := loadAll(t, b, []uint64{h}, [][]byte{k})[0]; string(got) != string([]byte{byte(e)}) {
			t.Errorf("row %d is %v", e, got)
		}
	}
}
