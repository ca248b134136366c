package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/weirstream/weir/jobmanager/rest"
	"github.com/weirstream/weir/local"
)

// An upload is gone once it was asked to run; a pack that somebody keeps stays.
func TestUploadsAreRemoved(t *testing.T) {
	dir := t.TempDir()
	c, err := local.Start(t.Context(), local.Options{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	}()
	r := runner{c, filepath.Join(dir, "packs")}
	up, err := r.Upload(t.Context(), strings.NewReader("no pack"))
	if err != nil {
		t.Fatal(err)
	}
	own := filepath.Join(t.TempDir(), "upload-mine.wj")
	if err := os.WriteFile(own, []byte("no pack"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{up, own} {
		if _, err := r.Run(t.Context(), rest.RunRequest{Pack: path}); err == nil {
			t.Errorf("%s runs", path)
		}
	}
	if left, err := os.ReadDir(r.dir); err != nil || len(left) > 0 {
		t.Errorf("left after the run: %v, %v", left, err)
	}
	if _, err := os.Stat(own); err != nil {
		t.Error(err)
	}
}
