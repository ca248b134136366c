package objstore_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/weirstream/weir/internal/objstore"
)

// Whatever the key, a folder either refuses it or keeps the object inside its
// root under that key, just as memory does.
func FuzzFolderKey(f *testing.F) {
	for _, key := range []string{"a", "a/b", "../a", "/a", "a//b", "a/./b", ".weir-tmp/x", "%2e%2e/a", "a\x00b", "ü", strings.Repeat("n", 300)} {
		f.Add(key)
	}
	f.Fuzz(func(t *testing.T, key string) {
		outer := t.TempDir()
		s, err := objstore.OpenFolder(filepath.Join(outer, "root"), objstore.FolderOptions{NoSync: true})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		mem := objstore.NewMem(nil)
		memErr := objstore.PutBytes(t.Context(), mem, key, []byte("x"))
		err = objstore.PutBytes(t.Context(), s, key, []byte("x"))
		if errors.Is(err, syscall.ENAMETOOLONG) {
			return // a limit of the file system
		}
		if (err == nil) != (memErr == nil) || errors.Is(err, objstore.ErrKey) != errors.Is(memErr, objstore.ErrKey) {
			t.Fatalf("%q: the folder says %v, memory %v", key, err, memErr)
		}
		for _, store := range []objstore.Store{s, mem} {
			var listed []string
			for info, err := range objstore.All(t.Context(), store, "", "") {
				if err != nil {
					t.Fatal(err)
				}
				listed = append(listed, info.Key)
			}
			if memErr == nil && (len(listed) != 1 || listed[0] != key) || memErr != nil && len(listed) > 0 {
				t.Errorf("%q is listed as %q", key, listed)
			}
		}
		files := 0
		err = filepath.WalkDir(outer, func(path string, d fs.DirEntry, err error) error {
			if err == nil && !d.IsDir() {
				files++
				if !strings.HasPrefix(path, filepath.Join(outer, "root")+string(os.PathSeparator)) {
					t.Errorf("%q: wrote %s", key, path)
				}
			}
			return err
		})
		if err != nil || memErr == nil && files != 1 || memErr != nil && files != 0 {
			t.Errorf("%q: %d files, %v", key, files, err)
		}
	})
}
