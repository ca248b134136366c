package deltalake

import (
	"context"
	"fmt"
	"net/url"
	"path"
	"path/filepath"
	"strings"

	"github.com/google/uuid"
)

// maxVectorBytes bounds one serialized deletion vector.
const maxVectorBytes = 1 << 30

// deletedRows loads the rows that a file's deletion vector removes; nil without.
func (t *Table) deletedRows(ctx context.Context, d *DeletionVector) (*rowSet, error) {
	if d == nil {
		return nil, nil
	}
	data, err := t.vectorBytes(ctx, d)
	if err != nil {
		return nil, fmt.Errorf("deltalake: deletion vector %s: %w", d.uniqueID(), err)
	}
	s, err := decodeRows(data)
	if err != nil {
		return nil, fmt.Errorf("deltalake: deletion vector %s: %w", d.uniqueID(), err)
	}
	if s.count != d.Cardinality {
		return nil, fmt.Errorf("deltalake: deletion vector %s holds %d rows instead of %d", d.uniqueID(), s.count, d.Cardinality)
	}
	return s, nil
}

func (t *Table) vectorBytes(ctx context.Context, d *DeletionVector) ([]byte, error) {
	switch d.StorageType {
	case "i":
		data, err := z85Decode(d.PathOrInlineDv)
		if err != nil {
			return nil, err
		}
		if d.SizeInBytes >= 0 && int(d.SizeInBytes) < len(data) {
			data = data[:d.SizeInBytes]
		}
		return data, nil
	case "u", "p":
	default:
		return nil, &UnsupportedError{"read", fmt.Sprintf("deletion vector storage %q", d.StorageType)}
	}
	file, err := d.file()
	if err != nil {
		return nil, err
	}
	if d.SizeInBytes < 0 || d.SizeInBytes > maxVectorBytes {
		return nil, errVector
	}
	off := int64(0)
	if d.Offset != nil {
		off = int64(*d.Offset)
	}
	store, file, err := t.resolve(file)
	if err != nil {
		return nil, err
	}
	raw, err := store.GetRange(ctx, file, off, int64(d.SizeInBytes)+8)
	if err != nil {
		return nil, err
	}
	return decodeFramed(raw, d.SizeInBytes)
}

// file returns the path of the vector's file as the log would write it.
func (d *DeletionVector) file() (string, error) {
	if d.StorageType == "p" {
		return d.PathOrInlineDv, nil
	}
	if len(d.PathOrInlineDv) < 20 {
		return "", errVector
	}
	prefix, code := d.PathOrInlineDv[:len(d.PathOrInlineDv)-20], d.PathOrInlineDv[len(d.PathOrInlineDv)-20:]
	raw, err := z85Decode(code)
	if err != nil {
		return "", err
	}
	id, err := uuid.FromBytes(raw)
	if err != nil {
		return "", errVector
	}
	name := "deletion_vector_" + id.String() + ".bin"
	if prefix != "" {
		name = prefix + "/" + name
	}
	return encodePath(name), nil
}

// resolve turns a path of the log into a store and a path in it. Relative paths
// are below the table; absolute ones are read only from a folder store, and only
// when they are files.
func (t *Table) resolve(logPath string) (Store, string, error) {
	if u, err := url.Parse(logPath); err == nil && u.Scheme != "" && len(u.Scheme) > 1 {
		if u.Scheme != "file" {
			if a, ok := bare(t.store).(absoluteStore); ok {
				return a.Absolute(logPath)
			}
			return nil, "", fmt.Errorf("deltalake: the table names %s, which its store cannot reach", logPath)
		}
		return t.absolute(decodePath(u.EscapedPath()))
	}
	p := decodePath(logPath)
	if strings.HasPrefix(p, "/") {
		return t.absolute(p)
	}
	clean := path.Clean(p)
	if clean == ".." || strings.HasPrefix(clean, "../") || clean == "." {
		return nil, "", fmt.Errorf("deltalake: path %q leaves the table's folder", logPath)
	}
	return t.store, clean, nil
}

// absoluteStore is a Store that also reaches objects by URL.
type absoluteStore interface {
	Absolute(url string) (Store, string, error)
}

func (t *Table) absolute(p string) (Store, string, error) {
	f, ok := bare(t.store).(*FolderStore)
	if !ok {
		return nil, "", fmt.Errorf("deltalake: the table names the absolute path %s, which its store cannot reach", p)
	}
	if root, err := filepath.Abs(f.root); err == nil {
		if rel, err := filepath.Rel(root, filepath.FromSlash(p)); err == nil && filepath.IsLocal(rel) {
			return t.store, filepath.ToSlash(rel), nil
		}
	}
	return NewFolderStore("/"), strings.TrimPrefix(path.Clean(p), "/"), nil
}
