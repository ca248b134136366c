package objstore

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"syscall"
)

// tempFile is an unfinished object: a file under .weir-tmp that this process has
// locked.
type tempFile struct {
	folder *Folder
	file   *os.File
	name   string
}

func (f *Folder) createTemp() (*tempFile, error) {
	for try := 0; try < 1000; try++ {
		name := fmt.Sprintf("%s/%s-%d", tempDir, f.opened, f.seq.Add(1))
		file, err := f.root.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o666)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			if err := f.root.Mkdir(tempDir, 0o777); err != nil && !errors.Is(err, fs.ErrExist) {
				return nil, err
			}
			continue
		case errors.Is(err, fs.ErrExist):
			continue
		case err != nil:
			return nil, err
		}
		t := &tempFile{f, file, name}
		if err := lockFile(file); err != nil {
			t.discard()
			return nil, fmt.Errorf("lock %s: %w", name, err)
		}
		// A sweep may have come between the creation and the lock.
		fi, err := file.Stat()
		if err == nil && fi.Sys().(*syscall.Stat_t).Nlink > 0 {
			return t, nil
		}
		file.Close()
	}
	return nil, fmt.Errorf("make a temporary file in %s: a thousand names failed: %w", path.Join(f.name, tempDir), ErrRetry)
}

// discard removes the temporary name; the object, if it was placed by link, stays.
func (t *tempFile) discard() {
	_ = t.folder.root.Remove(t.name) // already gone after a rename; else swept later
	t.file.Close()
}

// sweep removes the temporary files that no living process has locked.
func (f *Folder) sweep() error {
	d, err := f.root.Open(tempDir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	names, err := d.Readdirnames(-1)
	d.Close()
	if err != nil {
		return err
	}
	for _, name := range names {
		name = tempDir + "/" + name
		file, err := f.root.OpenFile(name, os.O_WRONLY, 0)
		if err != nil {
			continue // another sweep took it, or it is not ours to open
		}
		if tryLockFile(file) {
			_ = f.root.Remove(name) // what cannot be removed is tried again at the next open
		}
		file.Close()
	}
	return nil
}

func lockFile(file *os.File) error {
	for {
		err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX)
		if err != syscall.EINTR {
			return err
		}
	}
}

func tryLockFile(file *os.File) bool {
	return syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) == nil
}
