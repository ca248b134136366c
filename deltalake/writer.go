package deltalake

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"sort"
	"strings"
)

// WriteOptions configures operations that write rows. A zero field means its
// default.
type WriteOptions struct {
	File         FileOptions
	TargetBytes  int64 // of a data file, roughly; delta.targetFileSize or 128 MiB
	MaxOpen      int   // partitions written at once; beyond it the largest is closed; 64
	Buffer       int64 // bytes of rows that wait where partitions are more than MaxOpen; 64 MiB
	UserMetadata string
	MergeSchema  bool // add columns that the table lacks
	AppID        string
	AppVersion   int64
}

// PartitionWriter writes batches that hold all columns of a table, partition
// columns too, to one file per partition at a time. It is confined to one
// goroutine; its memory is MaxOpen row groups and Buffer at most.
type PartitionWriter struct {
	ctx    context.Context
	store  Store
	spec   *FileSpec
	opts   WriteOptions
	pick   []int // data columns in the table's schema
	parts  []int // partition columns in the table's schema
	open   map[string]*openPartition
	adds   []*AddFile
	rows   int64
	folder string
	mixed  *mixedRows // nil: partitions are few
	owned  bool       // by an operation that gives identity columns their values
}

type openPartition struct {
	values map[string]*string
	w      *FileWriter
}

// NewPartitionWriter prepares a writer; it does no I/O. A table with identity
// columns is refused at the first Write.
func NewPartitionWriter(ctx context.Context, store Store, spec *FileSpec, opts WriteOptions) *PartitionWriter {
	w := newPartitionWriter(ctx, store, spec, opts)
	w.owned = false
	return w
}

// newPartitionWriter is NewPartitionWriter for rows that are complete.
func newPartitionWriter(ctx context.Context, store Store, spec *FileSpec, opts WriteOptions) *PartitionWriter {
	if opts.MaxOpen <= 0 {
		opts.MaxOpen = 64
	}
	if opts.TargetBytes <= 0 {
		opts.TargetBytes = targetBytes(spec.meta)
	}
	if opts.Buffer <= 0 {
		opts.Buffer = 64 << 20
	}
	if len(spec.partition) > 0 && opts.File.RowGroupBytes <= 0 { // there are many at once
		opts.File.RowGroupBytes = min(defaultGroupBytes, max(1<<20, 512<<20/int64(opts.MaxOpen)))
	}
	w := &PartitionWriter{ctx: ctx, store: store, spec: spec, opts: opts, open: map[string]*openPartition{}, owned: true}
	for i, f := range spec.schema.Fields {
		if !containsFold(spec.meta.PartitionColumns, f.Name) {
			w.pick = append(w.pick, i)
		}
	}
	for _, f := range spec.partition {
		w.parts = append(w.parts, spec.schema.Index(f.Name))
	}
	return w
}

// targetBytes is the size that data files should have.
func targetBytes(m *Metadata) int64 {
	if n, err := parseBytes(m.Configuration["delta.targetFileSize"]); err == nil && n > 0 {
		return n
	}
	return 128 << 20
}

// parseBytes reads sizes such as "100mb" or "1048576".
func parseBytes(text string) (int64, error) {
	s := strings.ToLower(strings.TrimSpace(text))
	unit := int64(1)
	for _, u := range []struct {
		suffix string
		n      int64
	}{{"kb", 1 << 10}, {"mb", 1 << 20}, {"gb", 1 << 30}, {"tb", 1 << 40}, {"k", 1 << 10}, {"m", 1 << 20}, {"g", 1 << 30}, {"b", 1}} {
		if rest, ok := strings.CutSuffix(s, u.suffix); ok {
			s, unit = strings.TrimSpace(rest), u.n
			break
		}
	}
	var n int64
	if _, err := fmt.Sscanf(s, "%d", &n); err != nil || n < 0 || n > (1<<62)/unit {
		return 0, fmt.Errorf("deltalake: %q is not a size such as \"100mb\"", text)
	}
	return n * unit, nil
}

// Write adds the rows of b, which has the table's schema.
func (w *PartitionWriter) Write(b *Batch) error {
	if len(b.Columns) != len(w.spec.schema.Fields) {
		return fmt.Errorf("deltalake: the batch has %d columns, the table %d", len(b.Columns), len(w.spec.schema.Fields))
	}
	if b.Len == 0 {
		return nil
	}
	w.rows += int64(b.Len)
	data := &Batch{Schema: w.spec.data, Len: b.Len}
	for _, i := range w.pick {
		data.Columns = append(data.Columns, b.Columns[i])
	}
	if len(w.parts) == 0 {
		return w.write(nil, "", data)
	}
	byKey := map[string]*rowGroup{}
	var groups []*rowGroup
	var key strings.Builder
	texts := make([]*string, len(w.parts))
	for r := range b.Len {
		key.Reset()
		for k, i := range w.parts {
			texts[k] = FormatPartitionValue(b.Columns[i], r)
			if texts[k] == nil || *texts[k] == "" {
				key.WriteString("\x00n")
			} else {
				key.WriteString("\x00v")
				key.WriteString(*texts[k])
			}
		}
		g := byKey[key.String()]
		if g == nil {
			g = &rowGroup{key: key.String(), values: map[string]*string{}}
			for k, f := range w.spec.partition {
				g.values[f.Name] = texts[k]
			}
			byKey[g.key] = g
			groups = append(groups, g)
		}
		g.rows = append(g.rows, int32(r))
	}
	return w.scatter(data, groups)
}

func (w *PartitionWriter) write(values map[string]*string, key string, b *Batch) error {
	p := w.open[key]
	if p == nil {
		if len(w.open) >= w.opts.MaxOpen {
			if err := w.closeLargest(); err != nil {
				return err
			}
		}
		file := w.opts.File
		if w.folder != "" {
			file.Folder = w.folder
		}
		open := newFileWriter
		if !w.owned {
			open = NewFileWriter
		}
		fw, err := open(w.ctx, w.store, w.spec, values, file)
		if err != nil {
			return err
		}
		p = &openPartition{values, fw}
		w.open[key] = p
	}
	if err := p.w.Write(b); err != nil {
		return err
	}
	if p.w.Size() >= w.opts.TargetBytes {
		return w.closeOne(key)
	}
	return nil
}

func (w *PartitionWriter) closeOne(key string) error {
	add, err := w.open[key].w.Close()
	delete(w.open, key)
	if add != nil {
		w.adds = append(w.adds, add)
	}
	return err
}

func (w *PartitionWriter) closeLargest() error {
	var largest string
	size := int64(-1)
	for k, p := range w.open {
		if s := p.w.Size(); s > size || s == size && k < largest {
			largest, size = k, s
		}
	}
	return w.closeOne(largest)
}

// Close ends all files and returns what to commit, in partition order.
func (w *PartitionWriter) Close() ([]*AddFile, error) {
	if err := w.settle(); err != nil {
		return nil, errors.Join(err, w.Abort())
	}
	for _, k := range sortedKeys(w.open) {
		if err := w.closeOne(k); err != nil {
			return nil, errors.Join(err, w.Abort())
		}
	}
	sort.Slice(w.adds, func(i, j int) bool { return w.adds[i].Path < w.adds[j].Path })
	return w.adds, nil
}

// Abort drops the open files and deletes those that were finished.
func (w *PartitionWriter) Abort() error {
	var errs []error
	for _, p := range w.open {
		errs = append(errs, p.w.Abort())
	}
	w.open, w.mixed = map[string]*openPartition{}, nil
	for _, a := range w.adds {
		errs = append(errs, w.store.Delete(context.WithoutCancel(w.ctx), decodePath(a.Path)))
	}
	w.adds = nil
	return errors.Join(errs...)
}

// Batches makes a source of a few batches.
func Batches(batches ...*Batch) iter.Seq2[*Batch, error] {
	return func(yield func(*Batch, error) bool) {
		for _, b := range batches {
			if !yield(b, nil) {
				return
			}
		}
	}
}

// conform returns b with the columns of schema: matched by name, cast where the
// table's type is wider, null, generated or the next identity where b lacks them.
func (s *FileSpec) conform(b *Batch, ids *identityFiller) (*Batch, error) {
	if b.Schema == s.schema && ids == nil {
		return b, nil
	}
	out := &Batch{Schema: s.schema, Len: b.Len, Columns: make([]*Vector, len(s.schema.Fields))}
	used := 0
	var generate []int
	for i := range s.schema.Fields {
		f := &s.schema.Fields[i]
		j := b.Schema.Index(f.Name)
		if j < 0 {
			if _, ok := f.Metadata["delta.generationExpression"]; ok {
				generate = append(generate, i)
			}
			v, err := f.absent(i, b.Len, ids)
			if err != nil {
				return nil, err
			}
			out.Columns[i] = v
			continue
		}
		used++
		if err := ids.given(i); err != nil {
			return nil, err
		}
		v, err := castVector(b.Columns[j], f.Type, f.Name)
		if err != nil {
			return nil, err
		}
		out.Columns[i] = v
	}
	if used < len(b.Schema.Fields) {
		for _, f := range b.Schema.Fields {
			if s.schema.Index(f.Name) < 0 {
				return nil, fmt.Errorf("deltalake: column %q is not in the table; MergeSchema (--merge-schema) adds it", f.Name)
			}
		}
	}
	for _, i := range generate {
		v, err := s.generated(i, out)
		if err != nil {
			return nil, err
		}
		out.Columns[i] = v
	}
	return out, nil
}

// absent returns n rows of column i of the table, which the writer left out.
func (f *Field) absent(i, n int, ids *identityFiller) (*Vector, error) {
	if k := ids.find(i); k >= 0 {
		return ids.values(k, n)
	}
	return f.defaults(n)
}

// defaults returns n rows of a column that the writer left out: its default
// value, else null.
func (f *Field) defaults(n int) (*Vector, error) {
	v := NewVector(f.Type)
	raw, ok := f.Metadata["CURRENT_DEFAULT"]
	if !ok {
		v.appendNulls(n)
		return v, nil
	}
	var text string
	err := json.Unmarshal(raw, &text)
	var e *Expr
	if err == nil {
		if e, err = ParseExpr(text); err == nil {
			e, err = e.bind(&Schema{})
		}
	}
	if err != nil {
		return nil, fmt.Errorf("deltalake: default of column %q: %w", f.Name, err)
	}
	x, err := e.eval(&Batch{Len: 1}, 0)
	if err != nil {
		return nil, err
	}
	for range n {
		if !f.Type.primitive() && x.kind != vNull || !v.appendValue(x) {
			return nil, fmt.Errorf("deltalake: default %s of column %q is no %s", text, f.Name, f.Type)
		}
	}
	return v, nil
}

// generated computes a generated column from the others.
func (s *FileSpec) generated(column int, b *Batch) (*Vector, error) {
	f := &s.schema.Fields[column]
	var text string
	if err := json.Unmarshal(f.Metadata["delta.generationExpression"], &text); err != nil {
		return nil, fmt.Errorf("deltalake: generation expression of column %q: %w", f.Name, err)
	}
	e, err := ParseExpr(text)
	if err == nil {
		e, err = e.bind(s.schema)
	}
	if err != nil {
		return nil, fmt.Errorf("deltalake: column %q is generated: %w", f.Name, err)
	}
	v := NewVector(f.Type)
	for i := range b.Len {
		x, err := e.eval(b, i)
		if err != nil {
			return nil, err
		}
		if !v.appendValue(x) {
			return nil, fmt.Errorf("deltalake: generated column %q is %s and cannot hold %s", f.Name, f.Type, x.text())
		}
	}
	return v, nil
}

// castVector brings a column to the table's type, where every value has one.
func castVector(v *Vector, t *Type, name string) (*Vector, error) {
	if sameShape(v.Type, t) {
		return renameVector(v, t, name)
	}
	switch {
	case v.Type.Kind == KindStruct && t.Kind == KindStruct:
		out := &Vector{Type: t, Len: v.Len, Valid: v.Valid}
		for _, f := range v.Type.Fields {
			if fieldIndex(t.Fields, f.Name) < 0 {
				return nil, fmt.Errorf("deltalake: column %q is not in the table; MergeSchema (--merge-schema) adds it", name+"."+f.Name)
			}
		}
		for _, f := range t.Fields {
			i := fieldIndex(v.Type.Fields, f.Name)
			if i < 0 {
				c := NewVector(f.Type)
				c.appendNulls(v.Len)
				out.Children = append(out.Children, c)
				continue
			}
			c, err := castVector(v.Children[i], f.Type, name+"."+f.Name)
			if err != nil {
				return nil, err
			}
			out.Children = append(out.Children, c)
		}
		return out, nil
	case v.Type.Kind == t.Kind && (t.Kind == KindList || t.Kind == KindMap):
		out := &Vector{Type: t, Len: v.Len, Valid: v.Valid, Offsets: v.Offsets}
		types := []*Type{t.Elem}
		if t.Kind == KindMap {
			types = []*Type{t.Key, t.Elem}
		}
		for i, ct := range types {
			c, err := castVector(v.Children[i], ct, name+".element")
			if err != nil {
				return nil, err
			}
			out.Children = append(out.Children, c)
		}
		return out, nil
	case v.Type.primitive() && t.primitive() && widens(v.Type, t):
		out := NewVector(t)
		for i := range v.Len {
			if x := valueAt(v, i); !out.appendValue(x) {
				return nil, fmt.Errorf("deltalake: column %q is %s and cannot hold %s", name, t, x.text())
			}
		}
		return out, nil
	}
	return nil, fmt.Errorf("deltalake: column %q is %s in the table and %s in the rows", name, t, v.Type)
}

// renameVector matches struct members by name where their order differs.
func renameVector(v *Vector, t *Type, name string) (*Vector, error) {
	if v.Type == t || v.Type.Equal(t) || t.primitive() {
		return v, nil
	}
	if t.Kind == KindStruct {
		same := true
		for i := range t.Fields {
			same = same && strings.EqualFold(t.Fields[i].Name, v.Type.Fields[i].Name)
		}
		if !same {
			c := *v.Type
			c.Kind = KindStruct
			out := &Vector{Type: t, Len: v.Len, Valid: v.Valid}
			for _, f := range t.Fields {
				i := fieldIndex(c.Fields, f.Name)
				if i < 0 {
					return nil, fmt.Errorf("deltalake: column %q has other members than in the table", name)
				}
				child, err := castVector(v.Children[i], f.Type, name+"."+f.Name)
				if err != nil {
					return nil, err
				}
				out.Children = append(out.Children, child)
			}
			return out, nil
		}
	}
	return v, nil
}
