package objstore

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
)

// FolderOptions configures OpenFolder. A zero field means its default.
type FolderOptions struct {
	// NoSync leaves out every fsync: for caches, which are thrown away after a crash
	// of the machine. The crash of a process alone loses nothing either way.
	NoSync bool
}

// A Folder keeps objects as files below a root folder: key a/b is file a/b. Any
// number of processes may share a root on one machine, or on a file system whose
// link(2) is atomic.
//
// An object is first written under .weir-tmp, synced, and then linked to its name
// (PutIfAbsent: link(2) fails if the name exists, whoever made it) or renamed onto
// it (Put). A process that dies in between leaves a file there, which the next
// OpenFolder sweeps: a writer holds a lock on its file, so the living are spared.
//
// Nothing outside the root is reached, not through symbolic links either. Folders
// that become empty by Delete are removed.
type Folder struct {
	root   *os.Root
	name   string // absolute path, for messages
	noSync bool
	opened string // random: with seq, makes the names of temporary files unique
	seq    atomic.Uint64

	fsync func(*os.File) error // (*os.File).Sync; the seam of tests

	mu     sync.Mutex
	synced map[string]pinned // folders whose entries in their parents are durable; guarded by mu
}

// pinned is a folder that is kept open: as long as it is, no other gets its inode.
type pinned struct {
	dir   *os.File
	inode uint64
}

const maxPinned = 64

// OpenFolder opens the folder at dir, making it and its parents if they are
// absent, and sweeps what dead processes left unfinished in it.
func OpenFolder(dir string, opts FolderOptions) (*Folder, error) {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("objstore: open folder %s: %w", dir, err)
	}
	if err := makeRoot(abs, !opts.NoSync); err != nil {
		return nil, fmt.Errorf("objstore: open folder: %w", err)
	}
	root, err := os.OpenRoot(abs)
	if err != nil {
		return nil, fmt.Errorf("objstore: open folder: %w", err)
	}
	f := &Folder{root: root, name: abs, noSync: opts.NoSync, opened: rand.Text(), fsync: (*os.File).Sync, synced: map[string]pinned{}}
	if err := f.sweep(); err != nil {
		root.Close()
		return nil, fmt.Errorf("objstore: open folder %s: sweep unfinished objects: %w", abs, err)
	}
	return f, nil
}

// makeRoot makes dir and its parents; with durable, also their entries durable.
func makeRoot(dir string, durable bool) error {
	var made []string // parents of what is made, from the bottom up
	for d := dir; ; d = filepath.Dir(d) {
		if _, err := os.Stat(d); err == nil || d == filepath.Dir(d) {
			break
		}
		made = append(made, filepath.Dir(d))
	}
	if err := os.MkdirAll(dir, 0o777); err != nil || !durable {
		return err
	}
	for i := len(made) - 1; i >= 0; i-- {
		d, err := os.Open(made[i])
		if err != nil {
			return err
		}
		err = d.Sync()
		d.Close()
		if err != nil {
			return err
		}
	}
	return nil
}

// Path returns the absolute path of the root.
func (f *Folder) Path() string { return f.name }

// fail makes the error of one operation on one key.
func (f *Folder) fail(op, key string, err error) error {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		err = ErrNotFound
	case errors.Is(err, fs.ErrExist):
		err = ErrExists
	case errors.Is(err, syscall.EPERM), errors.Is(err, syscall.ENOTSUP), errors.Is(err, syscall.EXDEV):
		err = fmt.Errorf("%w (the file system must have hard links, and be one below the root)", err)
	case errors.Is(err, syscall.ENOTDIR):
		err = fmt.Errorf("a part of the key before a '/' is itself an object: %w", err)
	case errors.Is(err, syscall.EISDIR):
		err = fmt.Errorf("other objects have this key as a folder: %w", err)
	}
	return fmt.Errorf("objstore: %s %s: %w", op, path.Join(f.name, key), err)
}

// open opens the file of key; a folder is no object.
func (f *Folder) open(op, key string) (*os.File, Info, error) {
	file, err := f.root.Open(key)
	if err != nil {
		if errors.Is(err, syscall.ENOTDIR) {
			err = fs.ErrNotExist // a/b where a is an object: there is no such object
		}
		return nil, Info{}, f.fail(op, key, err)
	}
	fi, err := file.Stat()
	if err == nil && !fi.Mode().IsRegular() {
		err = fs.ErrNotExist
	}
	if err != nil {
		file.Close()
		return nil, Info{}, f.fail(op, key, err)
	}
	return file, fileInfo(key, fi), nil
}

// fileInfo describes an object. Its ETag is (inode, size, time), which changes
// with every Put, because each makes a new file.
func fileInfo(key string, fi fs.FileInfo) Info {
	info := Info{Key: key, Size: fi.Size(), ModTime: fi.ModTime()}
	if st, ok := fi.Sys().(*syscall.Stat_t); ok {
		info.ETag = fmt.Sprintf("%x-%x-%x", st.Ino, fi.Size(), fi.ModTime().UnixNano())
	}
	return info
}

// Get implements Store.
func (f *Folder) Get(ctx context.Context, key string) (io.ReadCloser, Info, error) {
	if err := Check(ctx, key); err != nil {
		return nil, Info{}, err
	}
	file, info, err := f.open("get", key)
	if err != nil {
		return nil, Info{}, err
	}
	return file, info, nil
}

// GetRange implements Store.
func (f *Folder) GetRange(ctx context.Context, key string, offset, length int64) (io.ReadCloser, error) {
	if err := Check(ctx, key); err != nil {
		return nil, err
	}
	file, info, err := f.open("get", key)
	if err != nil {
		return nil, err
	}
	n, err := clip(key, offset, length, info.Size)
	if err != nil {
		file.Close()
		return nil, err
	}
	return &section{io.NewSectionReader(file, offset, n), file}, nil
}

type section struct {
	*io.SectionReader
	file *os.File
}

func (s *section) Close() error { return s.file.Close() }

// Stat implements Store.
func (f *Folder) Stat(ctx context.Context, key string) (Info, error) {
	if err := Check(ctx, key); err != nil {
		return Info{}, err
	}
	fi, err := f.root.Stat(key)
	if errors.Is(err, syscall.ENOTDIR) || err == nil && !fi.Mode().IsRegular() {
		err = fs.ErrNotExist
	}
	if err != nil {
		return Info{}, f.fail("stat", key, err)
	}
	return fileInfo(key, fi), nil
}

// Put implements Store.
func (f *Folder) Put(ctx context.Context, key string, body io.Reader, size int64) error {
	return f.write(ctx, key, body, size, f.root.Rename)
}

// PutIfAbsent implements Store.
func (f *Folder) PutIfAbsent(ctx context.Context, key string, body io.Reader, size int64) error {
	if err := Check(ctx, key); err != nil {
		return err
	}
	var err error
	if fi, e := f.root.Lstat(key); e == nil && !fi.IsDir() { // spares writing a body for nothing
		err = f.fail("put", key, ErrExists)
	} else {
		err = f.write(ctx, key, body, size, f.root.Link)
	}
	if errors.Is(err, ErrExists) {
		// The winner may not have synced its folder yet, but the loser will act on what
		// it lost to: that must survive a crash.
		if e := f.syncDir(path.Dir(key)); e != nil && !errors.Is(e, fs.ErrNotExist) {
			return f.fail("put", key, e)
		}
	}
	return err
}

// Copy implements Store.
func (f *Folder) Copy(ctx context.Context, dst, src string) error {
	if err := Check(ctx, dst, src); err != nil {
		return err
	}
	r, info, err := f.Get(ctx, src)
	if err != nil {
		return err
	}
	defer r.Close()
	return f.Put(ctx, dst, r, info.Size)
}

// write makes a finished temporary file and hands it to place, which is link or
// rename.
func (f *Folder) write(ctx context.Context, key string, body io.Reader, size int64, place func(from, to string) error) error {
	if err := Check(ctx, key); err != nil {
		return err
	}
	tmp, err := f.createTemp()
	if err != nil {
		return fmt.Errorf("objstore: put %s: %w", path.Join(f.name, key), err)
	}
	defer tmp.discard()
	if err := fill(ctx, tmp.file, body, size); err != nil {
		return fmt.Errorf("objstore: put %s: %w", path.Join(f.name, key), err)
	}
	if !f.noSync {
		if err := f.fsync(tmp.file); err != nil {
			return fmt.Errorf("objstore: put %s: %w", path.Join(f.name, key), err)
		}
	}
	if err := f.place(tmp.name, key, place); err != nil {
		return err
	}
	if err := f.syncDir(path.Dir(key)); err != nil && !errors.Is(err, fs.ErrNotExist) { // no folder: deleted since
		return fmt.Errorf("objstore: put %s: it is in place, but may not be durable: %w: %w", path.Join(f.name, key), err, ErrAmbiguous)
	}
	return nil
}

// place gives the finished file from the name key. A Delete, of any process, may
// remove the key's folder as empty at any time; it is made again.
func (f *Folder) place(from, key string, place func(from, to string) error) error {
	const tries = 100
	for try := range tries {
		var err error
		if !f.noSync || try > 0 { // a cache first hopes that the folder is there
			err = f.makeDir(path.Dir(key))
		}
		if errors.Is(err, fs.ErrExist) || errors.Is(err, syscall.ENOTDIR) {
			if !f.blocked(path.Dir(key)) {
				continue // the folder vanished while it was being made
			}
			err = syscall.ENOTDIR
		}
		if err == nil {
			err = place(from, key)
		}
		switch {
		case err == nil:
			return nil
		case errors.Is(err, fs.ErrNotExist):
			continue
		case errors.Is(err, fs.ErrExist):
			if fi, e := f.root.Lstat(key); e == nil && fi.IsDir() {
				err = syscall.EISDIR
			}
		}
		return f.fail("put", key, err)
	}
	return f.fail("put", key, fmt.Errorf("its folder vanished %d times: %w", tries, ErrRetry))
}

// fill copies body to w, checking its size against the announced one and ctx from
// time to time.
func fill(ctx context.Context, w io.Writer, body io.Reader, size int64) error {
	n, err := io.Copy(w, &contextReader{ctx, body})
	if err != nil {
		return fmt.Errorf("write the body: %w", err)
	}
	if size >= 0 && n != size {
		return fmt.Errorf("the body has %d bytes, %d were announced", n, size)
	}
	return nil
}

type contextReader struct {
	ctx context.Context
	r   io.Reader
}

func (c *contextReader) Read(p []byte) (int, error) {
	if c.ctx.Err() != nil {
		return 0, context.Cause(c.ctx)
	}
	return c.r.Read(p)
}

// Delete implements Store.
func (f *Folder) Delete(ctx context.Context, key string) error {
	if err := Check(ctx, key); err != nil {
		return err
	}
	fi, err := f.root.Lstat(key)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) || err == nil && fi.IsDir() {
		return nil
	}
	if err == nil {
		err = f.root.Remove(key)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return f.fail("delete", key, err)
	}
	dir := path.Dir(key)
	if err := f.syncDir(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return f.fail("delete", key, err)
	}
	for ; dir != "."; dir = path.Dir(dir) {
		if f.root.Remove(dir) != nil {
			break // not empty, or already gone
		}
		f.forget(dir)
	}
	return nil
}

// Close implements Store.
func (f *Folder) Close() error {
	f.mu.Lock()
	f.unpin()
	f.synced = nil
	f.mu.Unlock()
	return f.root.Close()
}

// makeDir makes dir and its parents and makes their entries durable, from the top
// down, so that a folder known to be durable has durable parents.
func (f *Folder) makeDir(dir string) error {
	if dir == "." {
		return nil
	}
	if err := f.root.MkdirAll(dir, 0o777); err != nil {
		return err
	}
	if f.noSync {
		return nil
	}
	type entry struct {
		name string
		pinned
	}
	var fresh []entry
	defer func() {
		for _, e := range fresh { // those that were not made durable
			e.dir.Close()
		}
	}()
	for ; dir != "."; dir = path.Dir(dir) {
		d, err := f.root.Open(dir)
		if err != nil {
			return err
		}
		fi, err := d.Stat()
		if err != nil {
			d.Close()
			return err
		}
		e := entry{dir, pinned{d, fi.Sys().(*syscall.Stat_t).Ino}}
		f.mu.Lock()
		known := f.synced[dir].dir != nil && f.synced[dir].inode == e.inode
		f.mu.Unlock()
		if known {
			d.Close()
			break
		}
		fresh = append(fresh, e)
	}
	for len(fresh) > 0 {
		e := fresh[len(fresh)-1]
		if err := f.syncDir(path.Dir(e.name)); err != nil {
			return err
		}
		fresh = fresh[:len(fresh)-1]
		f.pin(e.name, e.pinned)
	}
	return nil
}

// pin remembers that the entry of the folder p is durable, and owns p.
func (f *Folder) pin(name string, p pinned) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.synced == nil { // closed
		p.dir.Close()
		return
	}
	if len(f.synced) >= maxPinned {
		f.unpin()
	}
	if old := f.synced[name]; old.dir != nil {
		old.dir.Close()
	}
	f.synced[name] = p
}

// unpin forgets all folders. The caller holds mu.
func (f *Folder) unpin() {
	for _, p := range f.synced {
		p.dir.Close()
	}
	clear(f.synced)
}

// blocked reports whether an object is where dir or one of its parents should be.
func (f *Folder) blocked(dir string) bool {
	for ; dir != "."; dir = path.Dir(dir) {
		if fi, err := f.root.Stat(dir); err == nil {
			return !fi.IsDir()
		}
	}
	return false
}

func (f *Folder) forget(dir string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if p := f.synced[dir]; p.dir != nil {
		p.dir.Close()
		delete(f.synced, dir)
	}
}

func (f *Folder) syncDir(dir string) error {
	if f.noSync {
		return nil
	}
	d, err := f.root.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return f.fsync(d)
}
