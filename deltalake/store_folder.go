package deltalake

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/google/uuid"
)

// tempPrefix starts the names of files that are being written; they are never
// listed and a crash may leave them behind. Vacuum removes old ones.
const tempPrefix = ".weir-tmp-"

// FolderStore keeps objects as files under one folder. New files are written
// under a temporary name, synced, and moved into place; put-if-absent uses
// link(2), which fails when the name exists, so that two processes can never
// both win. The folder is synced before a write counts.
//
// A FolderStore is safe for concurrent use.
type FolderStore struct {
	root string
}

// NewFolderStore returns a store over the folder root, which is made at the
// first write. It does no I/O.
func NewFolderStore(root string) *FolderStore {
	return &FolderStore{root: filepath.Clean(root)}
}

// Root returns the folder.
func (f *FolderStore) Root() string { return f.root }

func (f *FolderStore) name(path string) (string, error) {
	if strings.HasPrefix(path, "/") || !filepath.IsLocal(filepath.FromSlash(path)) {
		return "", fmt.Errorf("deltalake: path %q leaves the table's folder", path)
	}
	return filepath.Join(f.root, filepath.FromSlash(path)), nil
}

func folderError(err error, path string) error {
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w: %s", ErrNotFound, path)
	}
	return fmt.Errorf("deltalake: %w", err)
}

// Get implements Store.
func (f *FolderStore) Get(ctx context.Context, path string) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	name, err := f.name(path)
	if err != nil {
		return nil, err
	}
	data, err := os.ReadFile(name)
	if err != nil {
		return nil, folderError(err, path)
	}
	return data, nil
}

// GetRange implements Store.
func (f *FolderStore) GetRange(ctx context.Context, path string, off, n int64) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	name, err := f.name(path)
	if err != nil {
		return nil, err
	}
	file, err := os.Open(name)
	if err != nil {
		return nil, folderError(err, path)
	}
	defer file.Close()
	if info, err := file.Stat(); err != nil {
		return nil, folderError(err, path)
	} else if off < 0 || n < 0 || n > info.Size() || off > info.Size()-n {
		return nil, fmt.Errorf("deltalake: %s has %d bytes, %d from %d were asked for: %w", path, info.Size(), n, off, io.ErrUnexpectedEOF)
	}
	buf := make([]byte, n)
	if _, err := file.ReadAt(buf, off); err != nil {
		return nil, fmt.Errorf("deltalake: read %s: %w", path, err)
	}
	return buf, nil
}

// Stat implements Store.
func (f *FolderStore) Stat(ctx context.Context, path string) (ObjectInfo, error) {
	if err := ctx.Err(); err != nil {
		return ObjectInfo{}, err
	}
	name, err := f.name(path)
	if err != nil {
		return ObjectInfo{}, err
	}
	info, err := os.Stat(name)
	if err != nil {
		return ObjectInfo{}, folderError(err, path)
	}
	if info.IsDir() {
		return ObjectInfo{}, fmt.Errorf("%w: %s", ErrNotFound, path)
	}
	return ObjectInfo{Path: path, Size: info.Size(), Modified: info.ModTime()}, nil
}

// List implements Store. Names are sorted by whole path, as an object store does.
func (f *FolderStore) List(ctx context.Context, prefix, after string) iter.Seq2[ObjectInfo, error] {
	return func(yield func(ObjectInfo, error) bool) {
		dir := ""
		if i := strings.LastIndexByte(prefix, '/'); i >= 0 {
			dir = prefix[:i+1]
		}
		if _, err := f.name(strings.TrimSuffix(dir, "/") + "/x"); dir != "" && err != nil {
			yield(ObjectInfo{}, err)
			return
		}
		f.walk(ctx, dir, prefix, after, yield)
	}
}

// walk yields the files of dir (ends in a slash or is empty) in path order; it
// returns false when the iteration must stop.
func (f *FolderStore) walk(ctx context.Context, dir, prefix, after string, yield func(ObjectInfo, error) bool) bool {
	if err := ctx.Err(); err != nil {
		yield(ObjectInfo{}, err)
		return false
	}
	names, err := f.namesIn(dir, prefix, after)
	if err != nil {
		yield(ObjectInfo{}, err)
		return false
	}
	slices.Sort(names)
	for _, name := range names {
		if strings.HasSuffix(name, "/") {
			if !f.walk(ctx, name, prefix, after, yield) {
				return false
			}
			continue
		}
		info, err := os.Stat(filepath.Join(f.root, filepath.FromSlash(name)))
		if errors.Is(err, fs.ErrNotExist) {
			continue // deleted while listing
		}
		if err != nil {
			yield(ObjectInfo{}, fmt.Errorf("deltalake: %w", err))
			return false
		}
		if !yield(ObjectInfo{Path: name, Size: info.Size(), Modified: info.ModTime()}, nil) {
			return false
		}
	}
	return true
}

// namesIn returns the paths in dir, in no order, that a listing may have to yield; a
// folder's ends in a slash, so that it sorts as its objects do. Of a folder of very
// many files only the names are read, and only those that count are kept.
func (f *FolderStore) namesIn(dir, prefix, after string) ([]string, error) {
	d, err := os.Open(filepath.Join(f.root, filepath.FromSlash(dir)))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("deltalake: %w", err)
	}
	defer d.Close()
	here, inside := strings.CutPrefix(after, dir) // of after, the name in dir
	var names []string
	for {
		entries, err := d.ReadDir(1024)
		for _, e := range entries {
			name := e.Name()
			if inside && name < here && !e.IsDir() {
				continue
			}
			name = dir + name
			if e.IsDir() {
				name += "/"
				if !strings.HasPrefix(name, prefix) && !strings.HasPrefix(prefix, name) {
					continue
				}
				if after != "" && name < after && !strings.HasPrefix(after, name) {
					continue
				}
			} else if !strings.HasPrefix(name, prefix) || name <= after && after != "" || strings.HasPrefix(e.Name(), tempPrefix) {
				continue
			}
			names = append(names, name)
		}
		if errors.Is(err, io.EOF) || errors.Is(err, fs.ErrNotExist) {
			return names, nil
		}
		if err != nil {
			return nil, fmt.Errorf("deltalake: %w", err)
		}
	}
}

// Put implements Store.
func (f *FolderStore) Put(ctx context.Context, path string, data []byte) error {
	return f.put(ctx, path, data, false)
}

// PutIfAbsent implements Store.
func (f *FolderStore) PutIfAbsent(ctx context.Context, path string, data []byte) error {
	return f.put(ctx, path, data, true)
}

func (f *FolderStore) put(ctx context.Context, path string, data []byte, absent bool) error {
	w, err := f.create(ctx, path, absent)
	if err != nil {
		return err
	}
	if _, err := w.Write(data); err != nil {
		w.Abort()
		return err
	}
	return w.Close()
}

// Create implements Store.
func (f *FolderStore) Create(ctx context.Context, path string) (ObjectWriter, error) {
	return f.create(ctx, path, false)
}

func (f *FolderStore) create(ctx context.Context, path string, absent bool) (*folderWriter, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	name, err := f.name(path)
	if err != nil {
		return nil, err
	}
	if absent {
		if _, err := os.Lstat(name); err == nil {
			return nil, fmt.Errorf("%w: %s", ErrExists, path)
		}
	}
	dir := filepath.Dir(name)
	if err := makeDirs(dir); err != nil {
		return nil, fmt.Errorf("deltalake: %w", err)
	}
	file, err := os.OpenFile(filepath.Join(dir, tempPrefix+uuid.NewString()), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return nil, fmt.Errorf("deltalake: %w", err)
	}
	return &folderWriter{path: path, name: name, file: file, buf: bufio.NewWriterSize(file, 64<<10), absent: absent}, nil
}

// Delete implements Store.
func (f *FolderStore) Delete(ctx context.Context, path string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	name, err := f.name(path)
	if err != nil {
		return err
	}
	if err := os.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("deltalake: %w", err)
	}
	return removeHadoopSum(name)
}

// removeHadoopSum removes the hidden file in which Hadoop's local file system keeps
// the checksum of the named one: Spark refuses a file that no longer fits it.
func removeHadoopSum(name string) error {
	sum := filepath.Join(filepath.Dir(name), "."+filepath.Base(name)+".crc")
	if err := os.Remove(sum); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("deltalake: %w", err)
	}
	return nil
}

type folderWriter struct {
	path, name string
	file       *os.File
	buf        *bufio.Writer
	absent     bool // the name must be free at Close
	done       bool
}

func (w *folderWriter) Write(p []byte) (int, error) {
	n, err := w.buf.Write(p)
	if err != nil {
		return n, fmt.Errorf("deltalake: write %s: %w", w.path, err)
	}
	return n, nil
}

func (w *folderWriter) Close() error {
	if w.done {
		return fmt.Errorf("deltalake: %s is already closed", w.path)
	}
	w.done = true
	temp := w.file.Name()
	err := w.buf.Flush()
	if err == nil {
		err = w.file.Sync()
	}
	if cerr := w.file.Close(); err == nil {
		err = cerr
	}
	switch {
	case err != nil:
	case w.absent:
		err = os.Link(temp, w.name)
		if errors.Is(err, fs.ErrExist) {
			os.Remove(temp)
			return fmt.Errorf("%w: %s", ErrExists, w.path)
		}
	default:
		if err = removeHadoopSum(w.name); err == nil {
			err = os.Rename(temp, w.name)
		}
	}
	if err != nil {
		os.Remove(temp)
		return fmt.Errorf("deltalake: write %s: %w", w.path, err)
	}
	if w.absent {
		os.Remove(temp)
	}
	return syncDir(filepath.Dir(w.name))
}

func (w *folderWriter) Abort() error {
	if w.done {
		return nil
	}
	w.done = true
	w.file.Close()
	if err := os.Remove(w.file.Name()); err != nil {
		return fmt.Errorf("deltalake: %w", err)
	}
	return nil
}

// makeDirs is MkdirAll that syncs the parent of every folder it makes.
func makeDirs(dir string) error {
	if info, err := os.Stat(dir); err == nil {
		if !info.IsDir() {
			return fmt.Errorf("%s is not a folder", dir)
		}
		return nil
	}
	parent := filepath.Dir(dir)
	if parent != dir {
		if err := makeDirs(parent); err != nil {
			return err
		}
	}
	if err := os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return syncDir(parent)
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("deltalake: %w", err)
	}
	defer d.Close()
	if err := d.Sync(); err != nil {
		return fmt.Errorf("deltalake: sync %s: %w", dir, err)
	}
	return nil
}
