package objstore

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
	"syscall"
)

// List implements Store. Symbolic links to folders are not followed.
func (f *Folder) List(ctx context.Context, prefix, startAfter string, limit int) ([]Info, error) {
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	if limit <= 0 {
		limit = localPage
	}
	dir := "" // the folder that holds all of prefix; with its '/'
	if i := strings.LastIndexByte(prefix, '/'); i >= 0 {
		dir = prefix[:i+1]
		if CheckKey(prefix[:i]) != nil {
			return nil, nil // no key begins so
		}
	}
	l := lister{ctx: ctx, folder: f, prefix: prefix, after: startAfter, limit: limit}
	if err := l.walk(dir); err != nil {
		return nil, fmt.Errorf("objstore: list %s: %w", path.Join(f.name, prefix), err)
	}
	return l.page, nil
}

// A lister collects one page, walking folders in the order of keys: a folder
// sorts as its name with a '/', so that a-b comes before a/c.
type lister struct {
	ctx           context.Context
	folder        *Folder
	prefix, after string
	limit         int
	page          []Info
}

// walk adds the objects below dir, which is empty or ends in '/'.
func (l *lister) walk(dir string) error {
	if l.ctx.Err() != nil {
		return context.Cause(l.ctx)
	}
	d, err := l.folder.root.Open(path.Clean(dir)) // "." for the root
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) {
		return nil
	}
	if err != nil {
		return err
	}
	defer d.Close()
	if fi, err := d.Stat(); err != nil || !fi.IsDir() {
		return err
	}
	entries, err := d.ReadDir(-1)
	if err != nil {
		return err
	}
	type child struct {
		key   string // of a folder: with '/'
		entry fs.DirEntry
	}
	children := make([]child, 0, len(entries))
	for _, e := range entries {
		key := dir + e.Name()
		if e.IsDir() {
			if key == tempDir {
				continue
			}
			key += "/"
		}
		if l.wanted(key, e.IsDir()) {
			children = append(children, child{key, e})
		}
	}
	slices.SortFunc(children, func(a, b child) int { return cmp.Compare(a.key, b.key) })
	for _, c := range children {
		if len(l.page) >= l.limit {
			return nil
		}
		if c.entry.IsDir() {
			if err := l.walk(c.key); err != nil {
				return err
			}
		} else if err := l.add(c.key, c.entry); err != nil {
			return err
		}
	}
	return nil
}

// wanted reports whether an object, or one below a folder, belongs to the page.
func (l *lister) wanted(key string, folder bool) bool {
	if !folder {
		return strings.HasPrefix(key, l.prefix) && key > l.after
	}
	return (strings.HasPrefix(key, l.prefix) || strings.HasPrefix(l.prefix, key)) &&
		(key > l.after || strings.HasPrefix(l.after, key))
}

func (l *lister) add(key string, entry fs.DirEntry) error {
	fi, err := entry.Info()
	if err == nil && fi.Mode()&fs.ModeSymlink != 0 {
		fi, err = l.folder.root.Stat(key)
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil // deleted since
	}
	if err != nil {
		return err
	}
	if fi.Mode().IsRegular() && CheckKey(key) == nil {
		l.page = append(l.page, fileInfo(key, fi))
	}
	return nil
}
