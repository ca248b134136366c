package local

import (
	"errors"
	"os"
	"path/filepath"
	"regexp"

	"github.com/weirstream/weir/internal/pack"
)

// UploadPattern is how packs in Options.Dir/packs are called that were uploaded and
// not run yet (as for os.CreateTemp). Start removes them.
const UploadPattern = "upload-*" + pack.Suffix

// keptPack is the name of a kept pack or of its unpacked code: a checksum and what
// kind of file it is.
var keptPack = regexp.MustCompile(`^([0-9a-f]{64})(\.wj|\.so|\.exe)$`)

// prunePacks removes kept packs and unpacked code that no job names, and files that
// a former process left half-done. It touches no name that is not weir's own, and
// runs before a pack is opened; the lock on the Raft log keeps other processes out.
func prunePacks(dir string, named map[string]bool) error {
	var errs []error
	for _, folder := range []string{"packs", "plugins"} {
		entries, err := os.ReadDir(filepath.Join(dir, folder))
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			errs = append(errs, err)
		}
		for _, e := range entries {
			kept := keptPack.FindStringSubmatch(e.Name())
			gone := kept != nil && !named[kept[1]]
			for _, pattern := range []string{UploadPattern, ".pack-*", ".code-*"} {
				half, _ := filepath.Match(pattern, e.Name())
				gone = gone || half
			}
			if gone && e.Type().IsRegular() {
				errs = append(errs, os.Remove(filepath.Join(dir, folder, e.Name())))
			}
		}
	}
	return errors.Join(errs...)
}
