package deltalake

import (
	"context"
	"errors"
	"fmt"
	"path"
	"strconv"
	"strings"
)

// Convert makes a Delta table of a folder of Parquet files: the files stay, a log
// is written. Partition columns are taken from folder names such as day=2024-01-01
// and given with their types.
func Convert(ctx context.Context, store Store, partition []Field, opts TableOptions) (*Table, error) {
	if _, err := Open(ctx, store, opts); err == nil {
		return nil, fmt.Errorf("%w: this is a Delta table already", ErrExists)
	} else if !errors.Is(err, errNoTable) {
		return nil, err
	}
	var adds []*AddFile
	schema := &Schema{}
	for info, err := range store.List(ctx, "", "") {
		if err != nil {
			return nil, err
		}
		if !strings.HasSuffix(info.Path, ".parquet") || hiddenPath(info.Path) {
			continue
		}
		f, err := openParquet(ctx, store, info.Path, info.Size)
		if err != nil {
			return nil, err
		}
		found, err := f.schema()
		if err != nil {
			return nil, fmt.Errorf("deltalake: convert %s: %w", info.Path, err)
		}
		if err := schema.extend(found); err != nil {
			return nil, fmt.Errorf("deltalake: convert %s: %w", info.Path, err)
		}
		values, err := folderValues(info.Path, partition)
		if err != nil {
			return nil, err
		}
		adds = append(adds, &AddFile{Path: encodePath(info.Path), PartitionValues: values, Size: info.Size, ModificationTime: info.Modified.UnixMilli(),
			DataChange: true, Stats: fmt.Sprintf(`{"numRecords":%d}`, f.meta.rows)})
	}
	if len(adds) == 0 {
		return nil, errors.New("deltalake: convert: there is no Parquet file here")
	}
	var names []string
	for _, p := range partition {
		if i := schema.Index(p.Name); i >= 0 {
			schema.Fields = append(schema.Fields[:i:i], schema.Fields[i+1:]...)
		}
		schema.Fields = append(schema.Fields, Col(p.Name, p.Type))
		names = append(names, p.Name)
	}
	return create(ctx, store, CreateOptions{Schema: schema, PartitionColumns: names, Table: opts},
		Commit{Operation: "CONVERT", Parameters: map[string]string{"numFiles": strconv.Itoa(len(adds)), "partitionedBy": jsonText(names)}, Adds: adds})
}

// extend adds the columns of another file.
func (s *Schema) extend(o *Schema) error {
	for _, f := range o.Fields {
		i := s.Index(f.Name)
		if i < 0 {
			s.Fields = append(s.Fields, f)
		} else if !s.Fields[i].Type.Equal(f.Type) {
			return fmt.Errorf("column %q is %s here and %s elsewhere", f.Name, f.Type, s.Fields[i].Type)
		}
	}
	return nil
}

func folderValues(p string, partition []Field) (map[string]*string, error) {
	values := map[string]*string{}
	for _, part := range strings.Split(path.Dir(p), "/") {
		name, v, ok := strings.Cut(part, "=")
		if !ok {
			continue
		}
		name, v = decodePath(name), decodePath(v)
		values[name] = &v
		if v == "__HIVE_DEFAULT_PARTITION__" {
			values[name] = nil
		}
	}
	out := map[string]*string{}
	for _, f := range partition {
		v, ok := values[f.Name]
		if !ok {
			return nil, fmt.Errorf("deltalake: convert: the path %s has no value for partition column %q", p, f.Name)
		}
		if err := ParsePartitionValue(NewVector(f.Type), v); err != nil {
			return nil, err
		}
		out[f.Name] = v
		delete(values, f.Name)
	}
	for name := range values {
		return nil, fmt.Errorf("deltalake: convert: folder %q of %s is a partition column that was not declared", name, p)
	}
	return out, nil
}

// hiddenPath tells whether a path or a folder of it is hidden, as other tools see
// it: its name starts with a point or, unless it is a partition's, an underscore.
func hiddenPath(p string) bool {
	for _, part := range strings.Split(p, "/") {
		if strings.HasPrefix(part, ".") || strings.HasPrefix(part, "_") && !strings.Contains(part, "=") {
			return true
		}
	}
	return false
}
