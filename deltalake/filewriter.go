package deltalake

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sort"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
)

// FileSpec is what a data file of a table must look like: the columns it holds,
// their physical names, and the statistics to keep. It is immutable and may be
// shared by many writers; a new one is needed after the table's metadata changed.
type FileSpec struct {
	schema    *Schema // the table's
	data      *Schema // without partition columns
	partition []Field // in the order of Metadata.PartitionColumns
	mapped    bool    // column mapping is on
	indexed   int     // leaf columns with statistics; -1 all
	statsCols []string
	clustered []string // clustering columns: they have statistics whatever the properties say
	meta      *Metadata
	rules     *FileSpec // whose rules the files follow; nil: its own
	hidden    [2]string // of a tracked spec: the columns of row ids and versions
}

// NewFileSpec derives the spec from a table's metadata.
func NewFileSpec(m *Metadata) (*FileSpec, error) {
	schema, err := m.parseSchema()
	if err != nil {
		return nil, err
	}
	seen := make(map[string]bool, len(schema.Fields))
	for i := range schema.Fields {
		if name := schema.Fields[i].Name; seen[name] {
			return nil, fmt.Errorf("deltalake: the table's schema has column %q twice", name)
		}
		seen[schema.Fields[i].Name] = true
	}
	s := &FileSpec{schema: schema, data: schema.Without(m.PartitionColumns), indexed: 32, meta: m}
	for _, name := range m.PartitionColumns {
		i := schema.Index(name)
		if i < 0 {
			return nil, fmt.Errorf("deltalake: partition column %q is not in the schema", name)
		}
		if !schema.Fields[i].Type.primitive() {
			return nil, fmt.Errorf("deltalake: partition column %q has type %s, which cannot partition a table", name, schema.Fields[i].Type)
		}
		s.partition = append(s.partition, schema.Fields[i])
	}
	switch mode := m.Configuration["delta.columnMapping.mode"]; mode {
	case "", "none":
	case "name", "id":
		s.mapped = true
	default:
		return nil, fmt.Errorf("deltalake: the table has delta.columnMapping.mode = %q, which is not one of none, name, id", mode)
	}
	if v := m.Configuration["delta.dataSkippingNumIndexedCols"]; v != "" {
		if s.indexed, err = strconv.Atoi(v); err != nil {
			return nil, fmt.Errorf("deltalake: property delta.dataSkippingNumIndexedCols = %q is not a number", v)
		}
	}
	if v := m.Configuration["delta.dataSkippingStatsColumns"]; v != "" {
		for _, c := range strings.Split(v, ",") {
			s.statsCols = append(s.statsCols, strings.Trim(strings.TrimSpace(c), "`"))
		}
	}
	return s, nil
}

// holdsData refuses to write tables whose files would have no column. They can be
// read: others may have made them, and given them columns later.
func (s *FileSpec) holdsData() error {
	if len(s.schema.Fields) == 0 {
		return errors.New("deltalake: the table has no columns")
	}
	if len(s.data.Fields) == 0 {
		return errors.New("deltalake: every column is a partition column; at least one must hold data")
	}
	if name := voidColumn(s.schema.Fields); name != "" {
		return &UnsupportedError{"written", fmt.Sprintf("type void (column %q)", name)}
	}
	return nil
}

// voidColumn returns the first column of type void, also inside of structs.
func voidColumn(fields []Field) string {
	for i := range fields {
		f := &fields[i]
		if f.Type.void {
			return f.Name
		}
		if f.Type.Kind == KindStruct {
			if in := voidColumn(f.Type.Fields); in != "" {
				return f.Name + "." + in
			}
		}
	}
	return ""
}

// Schema returns the table's columns.
func (s *FileSpec) Schema() *Schema { return s.schema }

// DataSchema returns the columns that batches for a FileWriter hold: the
// table's columns in order, without the partition columns.
func (s *FileSpec) DataSchema() *Schema { return s.data }

// PartitionFields returns the partition columns in partition order.
func (s *FileSpec) PartitionFields() []Field { return s.partition }

// wantsStats returns a filter over logical leaf names, to be asked in schema order.
func (s *FileSpec) wantsStats() func(string) bool {
	seen := 0
	return func(name string) bool {
		if name == s.hidden[0] || name == s.hidden[1] {
			return false
		}
		if containsFold(s.clustered, name) {
			seen++
			return true
		}
		if s.statsCols != nil {
			for _, c := range s.statsCols {
				if strings.EqualFold(c, name) || len(name) > len(c) && strings.EqualFold(name[:len(c)+1], c+".") {
					return true
				}
			}
			return false
		}
		seen++
		return s.indexed < 0 || seen <= s.indexed
	}
}

// FileOptions configures new data files. A zero field means its default.
type FileOptions struct {
	Compression   Compression      // snappy
	RowGroupBytes int64            // encoded size that ends a row group, also the memory of a writer; 64 MiB
	Folder        string           // of the new file, relative to the table; the partition's folder
	Now           func() time.Time // stamps files; time.Now
}

// FileWriter writes one Parquet data file of a table, for one set of partition
// values. The file appears in the store at Close and in the table when the
// AddFile is committed; until then it is an orphan that Vacuum may remove.
//
// A FileWriter is confined to one goroutine. Its memory is one row group of
// encoded pages.
type FileWriter struct {
	ctx    context.Context
	store  Store
	spec   *FileSpec
	opts   FileOptions
	path   string
	values map[string]*string
	out    *lazyWriter
	pq     *pqWriter
	rules  []constraint
	err    error
}

// NewFileWriter prepares a file. partition holds the value of every partition
// column by its logical name in Delta's text form (see FormatPartitionValue),
// nil for null. Nothing is written before the first row group is full. A table
// with identity columns is refused: Append, Overwrite and Merge know their values.
func NewFileWriter(ctx context.Context, store Store, spec *FileSpec, partition map[string]*string, opts FileOptions) (*FileWriter, error) {
	for i := range spec.schema.Fields {
		if f := &spec.schema.Fields[i]; f.isIdentity() {
			return nil, &UnsupportedError{"written", fmt.Sprintf("identity column %q in files that are written apart (Append and Merge give it values)", f.Name)}
		}
	}
	return newFileWriter(ctx, store, spec, partition, opts)
}

// newFileWriter is NewFileWriter for rows that are complete.
func newFileWriter(ctx context.Context, store Store, spec *FileSpec, partition map[string]*string, opts FileOptions) (*FileWriter, error) {
	if opts.Now == nil {
		opts.Now = time.Now
	}
	comp, err := newCompressor(opts.Compression)
	if err != nil {
		return nil, err
	}
	w := &FileWriter{ctx: ctx, store: store, spec: spec, opts: opts, values: map[string]*string{}}
	if err := spec.holdsData(); err != nil {
		return nil, err
	}
	if w.rules, err = spec.constraints(); err != nil {
		return nil, err
	}
	var dir []string
	for i := range spec.partition {
		f := &spec.partition[i]
		v, ok := partition[f.Name]
		if !ok {
			return nil, fmt.Errorf("deltalake: no value for partition column %q", f.Name)
		}
		if v != nil && *v == "" {
			v = nil // Delta reads the empty string as null
		}
		if v == nil && !f.Nullable {
			return nil, fmt.Errorf("deltalake: partition column %q is not nullable and a row has no value for it", f.Name)
		}
		name, _ := f.physical(spec.mapped)
		w.values[name] = v
		dir = append(dir, partitionFolder(name, v))
	}
	if len(partition) > len(spec.partition) {
		return nil, fmt.Errorf("deltalake: %d partition values for %d partition columns", len(partition), len(spec.partition))
	}
	ext := ".snappy.parquet"
	switch opts.Compression {
	case Zstd:
		ext = ".zstd.parquet"
	case Uncompressed:
		ext = ".parquet"
	}
	folder := strings.Trim(opts.Folder, "/")
	if folder == "" {
		folder = strings.Join(dir, "/")
	}
	w.path = "part-00000-" + uuid.NewString() + "-c000" + ext
	if folder != "" {
		w.path = folder + "/" + w.path
	}
	w.out = &lazyWriter{open: func() (ObjectWriter, error) { return store.Create(ctx, w.path) }}
	w.pq = newPqWriter(w.out, newPqSchema(spec.data.Fields, func(f *Field) (string, int32) { return f.physical(spec.mapped) }), comp, opts.RowGroupBytes)
	return w, nil
}

// Write adds the rows of b, whose columns are those of FileSpec.DataSchema in
// order. The batch may be reused when Write returns. After an error only Abort
// is allowed.
func (w *FileWriter) Write(b *Batch) error {
	if w.err != nil {
		return w.err
	}
	if w.err = w.check(b); w.err == nil && b.Len > 0 {
		w.err = w.pq.write(b.Columns, b.Len)
	}
	return w.err
}

// rule checks the table's constraints.
func (w *FileWriter) rule(b *Batch) error {
	if len(w.rules) == 0 || b.Len == 0 {
		return nil
	}
	all, err := w.withPartition(b)
	if err != nil {
		return err
	}
	return checkConstraints(w.rules, all)
}

func (w *FileWriter) check(b *Batch) error {
	fields := w.spec.data.Fields
	if len(b.Columns) != len(fields) {
		return fmt.Errorf("deltalake: the batch has %d columns, the table's files %d", len(b.Columns), len(fields))
	}
	for i, c := range b.Columns {
		f := &fields[i]
		if c.Type != f.Type && !sameShape(c.Type, f.Type) {
			return fmt.Errorf("deltalake: column %q: the batch holds %s, the table %s", f.Name, c.Type, f.Type)
		}
		if c.Len != b.Len {
			return fmt.Errorf("deltalake: column %q has %d rows, the batch %d", f.Name, c.Len, b.Len)
		}
		if err := c.check(f.Name); err != nil {
			return err
		}
		if f.Type.Kind == KindDecimal {
			for _, d := range c.Decimals {
				if !d.fits(f.Type.Precision) {
					return fmt.Errorf("deltalake: column %q: %s does not fit %s", f.Name, d.Text(f.Type.Scale), f.Type)
				}
			}
		}
	}
	return w.rule(b)
}

// sameShape compares types without field names: batches are matched by position.
func sameShape(a, b *Type) bool {
	if a.Kind != b.Kind || a.Precision != b.Precision || a.Scale != b.Scale || len(a.Fields) != len(b.Fields) {
		return false
	}
	for i := range a.Fields {
		if !sameShape(a.Fields[i].Type, b.Fields[i].Type) {
			return false
		}
	}
	return (a.Elem == nil || sameShape(a.Elem, b.Elem)) && (a.Key == nil || sameShape(a.Key, b.Key))
}

// Rows returns the rows written so far.
func (w *FileWriter) Rows() int64 { return w.pq.rows }

// Size estimates the bytes of the file if it were closed now.
func (w *FileWriter) Size() int64 { return w.pq.pos + w.pq.buffered() }

// Path returns where the file will be, relative to the table.
func (w *FileWriter) Path() string { return w.path }

// Close ends the file, makes it durable and returns the action that adds it to
// the table. Without rows no file is made and the action is nil.
func (w *FileWriter) Close() (*AddFile, error) {
	if w.err != nil {
		return nil, errors.Join(w.err, w.Abort())
	}
	w.err = fmt.Errorf("deltalake: file %s is closed", w.path)
	if w.pq.rows == 0 {
		return nil, nil
	}
	size, err := w.pq.close()
	if err == nil {
		err = w.out.Close()
	} else {
		err = errors.Join(err, w.out.Abort())
	}
	if err != nil {
		return nil, fmt.Errorf("deltalake: write %s: %w", w.path, err)
	}
	names := make([]string, len(w.pq.schema.roots))
	for i, n := range w.pq.schema.roots {
		names[i] = n.physicalName
	}
	return &AddFile{
		Path: encodePath(w.path), PartitionValues: w.values, Size: size, ModificationTime: w.opts.Now().UnixMilli(), DataChange: true,
		Stats: statsJSON(w.pq.rows, w.pq.schema.roots, names, w.spec.wantsStats()),
	}, nil
}

// Abort drops the file. It is allowed at any time.
func (w *FileWriter) Abort() error {
	if w.err == nil {
		w.err = fmt.Errorf("deltalake: file %s was aborted", w.path)
	}
	return w.out.Abort()
}

// lazyWriter opens its object at the first byte.
type lazyWriter struct {
	open func() (ObjectWriter, error)
	w    ObjectWriter
}

func (l *lazyWriter) Write(p []byte) (int, error) {
	if l.w == nil {
		w, err := l.open()
		if err != nil {
			return 0, err
		}
		l.w = w
	}
	return l.w.Write(p)
}

func (l *lazyWriter) Close() error {
	if l.w == nil {
		return io.ErrClosedPipe
	}
	return l.w.Close()
}

func (l *lazyWriter) Abort() error {
	if l.w == nil {
		return nil
	}
	return l.w.Abort()
}

// partitionFolder is the Hive-style folder name of one partition value.
func partitionFolder(column string, v *string) string {
	if v == nil {
		return escapeFolder(column) + "=__HIVE_DEFAULT_PARTITION__"
	}
	return escapeFolder(column) + "=" + escapeFolder(*v)
}

func escapeFolder(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		c := s[i]
		if c < 0x20 || c >= 0x7f || strings.IndexByte("\"#%'*/:=?\\{}[]^ <>|", c) >= 0 {
			fmt.Fprintf(&b, "%%%02X", c)
		} else {
			b.WriteByte(c)
		}
	}
	out := b.String()
	return out[:min(len(out), 200)] // the log keeps the value; the folder is for people
}

// sortedKeys returns the keys of m in order.
func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	return keys
}
