package deltalake

import (
	"context"
	"errors"
	"slices"
)

// feedWriter writes the files of the change data feed: the table's columns and
// the kind of change.
type feedWriter struct {
	w      *PartitionWriter
	schema *Schema
	spec   *FileSpec
}

const (
	changeTypeColumn = "_change_type"
	changeFolder     = "_change_data"
)

func newFeedWriter(ctx context.Context, t *Table, s *Snapshot, opts WriteOptions) *feedWriter {
	spec := *s.spec
	spec.schema = &Schema{append(append([]Field{}, s.spec.schema.Fields...), Col(changeTypeColumn, Of(KindString)))}
	spec.data = &Schema{append(append([]Field{}, s.spec.data.Fields...), Col(changeTypeColumn, Of(KindString)))}
	meta := *s.metadata
	meta.Configuration = map[string]string{}
	for k, v := range s.metadata.Configuration {
		if k == "delta.columnMapping.mode" {
			meta.Configuration[k] = v
		}
	}
	spec.meta = &meta
	w := newPartitionWriter(ctx, t.store, &spec, opts)
	w.folder = changeFolder
	return &feedWriter{w: w, schema: spec.schema, spec: &spec}
}

// write adds the rows of a batch, whose first columns are the table's.
func (f *feedWriter) write(b *Batch, kind string) error {
	v := NewVector(Of(KindString))
	for range b.Len {
		v.AppendString(kind)
	}
	return f.w.Write(&Batch{Schema: f.schema, Len: b.Len, Columns: append(slices.Clone(b.Columns[:len(f.schema.Fields)-1]), v)})
}

func (f *feedWriter) close() ([]*ChangeFile, error) {
	adds, err := f.w.Close()
	if err != nil {
		return nil, err
	}
	var out []*ChangeFile
	for _, a := range adds {
		out = append(out, &ChangeFile{Path: a.Path, PartitionValues: a.PartitionValues, Size: a.Size})
	}
	return out, nil
}

func (f *feedWriter) abort() error { return f.w.Abort() }

// insertChanges writes the rows of new files as inserts of the change feed.
func (t *Table) insertChanges(ctx context.Context, s *Snapshot, adds []*AddFile, opts WriteOptions) ([]*ChangeFile, error) {
	f := newFeedWriter(ctx, t, s, opts)
	for _, a := range adds {
		err := s.readPath(ctx, a.Path, a.Size, a.PartitionValues, nil, s.spec.schema, nil, defaultBatchRows, func(b *Batch, _ int64, _ []int32) error {
			return f.write(b, "insert")
		})
		if err != nil {
			return nil, errors.Join(err, f.abort())
		}
	}
	return f.close()
}
