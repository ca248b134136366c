package local

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// A start removes packs that no job names and what was left half-done, nothing else.
func TestPrunePacks(t *testing.T) {
	named, other := strings.Repeat("a1", 32), strings.Repeat("b2", 32)
	dir := t.TempDir()
	stay := []string{"packs/" + named + ".wj", "packs/mine.wj", "plugins/" + named + ".exe", "plugins/" + named + ".so", "plugins/notes"}
	for _, name := range append([]string{"packs/" + other + ".wj", "packs/upload-123.wj", "packs/.pack-77", "plugins/" + other + ".so",
		"plugins/" + other + ".exe", "plugins/.code-5"}, stay...) {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 {
		if err := prunePacks(dir, map[string]bool{named: true}); err != nil {
			t.Fatal(err)
		}
	}
	left, err := filepath.Glob(filepath.Join(dir, "*", "*"))
	if err != nil {
		t.Fatal(err)
	}
	for i := range left {
		left[i], _ = filepath.Rel(dir, left[i])
	}
	slices.Sort(stay)
	slices.Sort(left)
	if !slices.Equal(left, stay) {
		t.Errorf("left: %v\nwant %v", left, stay)
	}
	if err := prunePacks(t.TempDir(), nil); err != nil {
		t.Errorf("without folders: %v", err)
	}
}
