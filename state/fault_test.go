package state

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/weirstream/weir/dataflow"
	"github.com/weirstream/weir/stream/spi"
)

// A fullFS fails the writing calls on sorted files from the n-th on, as a full disk
// does.
type fullFS struct {
	vfs.FS
	left atomic.Int64
}

type fullFile struct {
	vfs.File
	fs *fullFS
}

func (f *fullFS) fails(name string) error {
	if strings.Contains(name, filesDir) && f.left.Add(-1) < 0 {
		return syscall.ENOSPC
	}
	return nil
}

func (f *fullFS) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	if err := f.fails(name); err != nil {
		return nil, err
	}
	file, err := f.FS.Create(name, c)
	if err != nil || !strings.Contains(name, filesDir) {
		return file, err
	}
	return fullFile{file, f}, nil
}

func (f *fullFS) Rename(from, to string) error {
	if err := f.fails(to); err != nil {
		return err
	}
	return f.FS.Rename(from, to)
}

func (f fullFile) Write(p []byte) (int, error) {
	if err := f.fs.fails(filesDir); err != nil {
		return 0, err
	}
	return f.File.Write(p)
}

// Wherever the disk is full while an epoch is written, the epoch is declined with
// that error, nothing is visible, nothing stays on disk, and the next epoch brings
// the rows.
func TestFullDisk(t *testing.T) {
	sh := newShared(t)
	for call := range int64(40) {
		fs := &fullFS{FS: vfs.NewMem()}
		fs.left.Store(1 << 40)
		s := openStore(t, Options{Shared: sh, FS: fs, Dir: "/s", NoBackground: true, FileBytes: 1 << 10})
		rows := map[string][]byte{}
		var keys [][]byte
		var probes []uint64
		for n := range 400 {
			k, h := rowKey(plainState, 0, n, 16)
			keys, probes = append(keys, k), append(probes, h)
			rows[string(k)] = []byte("new")
		}
		old := map[string][]byte{string(keys[0]): []byte("old")}
		if _, err := s.WriteEpoch(context.Background(), 1, []spi.Frozen{&dirty{rows: old}}); err != nil {
			t.Fatal(err)
		}
		before := s.Files()
		frozen := []spi.Frozen{&dirty{rows: rows, drops: []spi.Span{{From: groupKey(2), To: groupKey(4)}}}}
		fs.left.Store(call)
		_, err := s.WriteEpoch(context.Background(), 2, frozen)
		if fs.left.Load() >= 0 {
			if err != nil {
				t.Fatal(err)
			}
			if call < 5 {
				t.Fatalf("the epoch took %d calls only", call)
			}
			return // every call has failed once
		}
		if !errors.Is(err, syscall.ENOSPC) || !strings.Contains(err.Error(), "epoch 2") {
			t.Fatalf("call %d: error is %v", call, err)
		}
		fs.left.Store(1 << 40)
		if got, _ := scanAll(t, s, nil, nil); len(got) != 1 {
			t.Fatalf("call %d: %d rows are visible, want the one before", call, len(got))
		}
		if list, err := fs.List(s.dir); err != nil || len(list) != len(before) {
			t.Fatalf("call %d: files are %v, %v", call, list, err)
		}
		if fmt.Sprint(s.Files()) != fmt.Sprint(before) {
			t.Fatalf("call %d: Files changed", call)
		}
		if _, err := s.WriteEpoch(context.Background(), dataflow.Epoch(3), frozen); err != nil {
			t.Fatal(err)
		}
		for i, row := range loadAll(t, s, probes, keys) {
			if string(row) != "new" {
				t.Fatalf("call %d: row %d is %q after the next epoch", call, i, row)
			}
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	t.Error("the epoch took more than 40 calls")
}
