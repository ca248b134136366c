package objstore

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// A folder that another process removed and made again is not taken for the one
// whose entry is durable, although file systems like to give it the old inode.
func TestFolderMadeAgain(t *testing.T) {
	root := t.TempDir()
	open := func() *Folder {
		f, err := OpenFolder(root, FolderOptions{})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := f.Close(); err != nil {
				t.Error(err)
			}
		})
		return f
	}
	ours, theirs := open(), open()
	var synced []string
	ours.fsync = func(file *os.File) error {
		name, err := filepath.Rel(root, file.Name())
		if err != nil {
			t.Error(err)
		}
		synced = append(synced, name)
		return file.Sync()
	}
	put := func(f *Folder) {
		t.Helper()
		synced = nil
		if err := PutBytes(t.Context(), f, "a/b/k", nil); err != nil {
			t.Fatal(err)
		}
	}
	put(ours)
	if !slices.Contains(synced, ".") || !slices.Contains(synced, "a") || !slices.Contains(synced, "a/b") {
		t.Fatalf("the first put synced %q, want the root, a and a/b", synced)
	}
	put(ours)
	if slices.Contains(synced, ".") || slices.Contains(synced, "a") {
		t.Errorf("the second put synced %q, want a/b and the file", synced)
	}
	for range 3 {
		if err := theirs.Delete(t.Context(), "a/b/k"); err != nil { // and with it a/b and a
			t.Fatal(err)
		}
		put(ours)
		if !slices.Contains(synced, ".") || !slices.Contains(synced, "a") {
			t.Errorf("a put into a folder made again synced %q, want the root and a too", synced)
		}
	}
}
