package state

import "github.com/cockroachdb/pebble/v2/vfs"

// lazyFS is a file system that never syncs: a Pebble directory is thrown away
// after a crash.
type lazyFS struct{ vfs.FS }

type lazyFile struct{ vfs.File }

func (lazyFile) Sync() error     { return nil }
func (lazyFile) SyncData() error { return nil }

func (lazyFile) SyncTo(int64) (bool, error) { return false, nil }

func lazy(f vfs.File, err error) (vfs.File, error) {
	if err != nil {
		return nil, err
	}
	return lazyFile{f}, nil
}

func (fs lazyFS) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	return lazy(fs.FS.Create(name, c))
}

func (fs lazyFS) OpenReadWrite(name string, c vfs.DiskWriteCategory, o ...vfs.OpenOption) (vfs.File, error) {
	return lazy(fs.FS.OpenReadWrite(name, c, o...))
}

func (fs lazyFS) OpenDir(name string) (vfs.File, error) { return lazy(fs.FS.OpenDir(name)) }

func (fs lazyFS) ReuseForWrite(from, to string, c vfs.DiskWriteCategory) (vfs.File, error) {
	return lazy(fs.FS.ReuseForWrite(from, to, c))
}

// Unwrap lets Pebble find the file system below.
func (fs lazyFS) Unwrap() vfs.FS { return fs.FS }
