package deltalake

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/google/uuid"
)

// Names of row tracking: the table's property, the metadata domain of the high
// water mark, the properties that name the hidden columns of data files, and the
// mark in commitInfo.
const (
	rowTrackingProperty = "delta.enableRowTracking"
	suspendedProperty   = "delta.rowTrackingSuspended"
	rowTrackingDomain   = "delta.rowTracking"
	rowIDProperty       = "delta.rowTracking.materializedRowIdColumnName"
	rowVersionProperty  = "delta.rowTracking.materializedRowCommitVersionColumnName"
	rowsPreserved       = "delta.rowTracking.preserved"
)

// Columns that ScanOptions.RowIDs adds behind the others.
const (
	RowID            = "_metadata.row_id"             // long: stays with a row through updates and rewrites
	RowCommitVersion = "_metadata.row_commit_version" // long: the version that inserted or last updated the row
)

// tracksRows tells whether rows keep their ids in this version.
func (m *Metadata) tracksRows() bool {
	return strings.EqualFold(m.Configuration[rowTrackingProperty], "true")
}

// suspendsRows tells whether new files get no row ids, though the table has the
// feature. Only a table that does not track rows may be so.
func (m *Metadata) suspendsRows() bool {
	return strings.EqualFold(m.Configuration[suspendedProperty], "true")
}

// nameRowColumns gives the hidden columns their names, once for the table's life.
func (m *Metadata) nameRowColumns() {
	if m.Configuration[rowIDProperty] == "" {
		m.Configuration[rowIDProperty] = "_row-id-col-" + uuid.NewString()
	}
	if m.Configuration[rowVersionProperty] == "" {
		m.Configuration[rowVersionProperty] = "_row-commit-version-col-" + uuid.NewString()
	}
}

// checkRowTracking refuses what this package does not keep of row tracking.
func (p *Protocol) checkRowTracking(m *Metadata) error {
	if !m.tracksRows() {
		return nil
	}
	if m.suspendsRows() {
		return fmt.Errorf("deltalake: %s and %s cannot both be true; set one of them to false", rowTrackingProperty, suspendedProperty)
	}
	if !p.hasWriter("rowTracking") {
		return fmt.Errorf("deltalake: %s is on but the protocol lacks the writer feature rowTracking; the log is damaged", rowTrackingProperty)
	}
	if m.Configuration[rowIDProperty] == "" || m.Configuration[rowVersionProperty] == "" {
		return fmt.Errorf("deltalake: %s is on but the hidden columns have no names; the log is damaged", rowTrackingProperty)
	}
	return nil
}

// rowMark returns the highest row id that was given out; -1 before the first.
func (s *Snapshot) rowMark() (int64, error) {
	d, ok := s.domains[rowTrackingDomain]
	if !ok {
		return -1, nil
	}
	var c struct {
		Mark *int64 `json:"rowIdHighWaterMark"`
	}
	if err := json.Unmarshal([]byte(d.Configuration), &c); err != nil || c.Mark == nil {
		return 0, fmt.Errorf("deltalake: the metadata domain %s is damaged: %s", rowTrackingDomain, d.Configuration)
	}
	return *c.Mark, nil
}

// numberRows returns the files of a commit with row ids and a commit version, where
// they have none yet, and the domain that notes the highest id; nil when it stays.
// Files that the table had before keep theirs. While row tracking is suspended the
// others stay without.
func (c *Commit) numberRows(latest *Snapshot, p *Protocol, m *Metadata) ([]*AddFile, *DomainMetadata, error) {
	if !p.hasWriter("rowTracking") {
		return c.Adds, nil, nil
	}
	mark, err := latest.rowMark()
	if err != nil {
		return nil, nil, err
	}
	before := mark
	mark = max(mark, c.rowsTaken-1)
	rows := func(a *AddFile) (int64, error) {
		n, ok := a.NumRecords()
		if !ok {
			return 0, fmt.Errorf("deltalake: the table tracks rows, but the statistics of %s do not tell how many it has", a.Path)
		}
		return n, nil
	}
	for _, a := range c.Adds {
		if a.BaseRowID != nil {
			n, err := rows(a)
			if err != nil {
				return nil, nil, err
			}
			mark = max(mark, *a.BaseRowID+n-1)
		}
	}
	version := latest.version + 1
	adds := make([]*AddFile, len(c.Adds))
	for i, a := range c.Adds {
		n := *a
		if m.suspendsRows() {
			adds[i] = a
			continue
		}
		if n.BaseRowID == nil {
			count, err := rows(a)
			if err != nil {
				return nil, nil, err
			}
			if count > math.MaxInt64-1-mark {
				return nil, nil, fmt.Errorf("deltalake: the table has no row ids left")
			}
			base := mark + 1
			n.BaseRowID = &base
			mark += count
		}
		if n.DefaultRowCommitVersion == nil {
			n.DefaultRowCommitVersion = &version
		}
		adds[i] = &n
	}
	if mark == before {
		return adds, nil, nil
	}
	return adds, &DomainMetadata{Domain: rowTrackingDomain, Configuration: jsonText(map[string]int64{"rowIdHighWaterMark": mark})}, nil
}

// tracked returns the spec of files that hold the ids of rows which were elsewhere
// before: two hidden columns behind the table's. It is s itself for a table that
// does not track rows.
func (s *FileSpec) tracked() *FileSpec {
	if !s.meta.tracksRows() {
		return s
	}
	c := *s
	c.hidden = [2]string{s.meta.Configuration[rowIDProperty], s.meta.Configuration[rowVersionProperty]}
	more := []Field{Col(c.hidden[0], Of(KindLong)), Col(c.hidden[1], Of(KindLong))}
	c.schema = &Schema{slices.Concat(s.schema.Fields, more)}
	c.data = &Schema{slices.Concat(s.data.Fields, more)}
	return &c
}

// trackedColumns returns the position of the hidden columns in a schema that was
// made from a tracked spec; false for other schemas.
func (s *Snapshot) trackedColumns(schema *Schema) (int, bool) {
	n := len(schema.Fields) - 2
	ok := s.metadata.tracksRows() && n >= 0 && schema.Fields[n].Name == s.metadata.Configuration[rowIDProperty] &&
		schema.Fields[n+1].Name == s.metadata.Configuration[rowVersionProperty]
	return n, ok
}

// readRows is readPath for a live file. Where schema is of a tracked spec the
// hidden columns hold the ids and versions that the rows have now, never null.
func (s *Snapshot) readRows(ctx context.Context, a *AddFile, deleted *rowSet, schema *Schema, filter *Expr, batchRows int, fn func(b *Batch, first int64, live []int32) error) error {
	at, tracked := s.trackedColumns(schema)
	if !tracked {
		return s.readPath(ctx, a.Path, a.Size, a.PartitionValues, deleted, schema, filter, batchRows, fn)
	}
	if a.BaseRowID == nil || a.DefaultRowCommitVersion == nil {
		return fmt.Errorf("deltalake: the table tracks rows, but data file %s has no baseRowId and defaultRowCommitVersion; the log is damaged", a.Path)
	}
	return s.readPath(ctx, a.Path, a.Size, a.PartitionValues, deleted, schema, filter, batchRows, func(b *Batch, first int64, live []int32) error {
		ids, versions := NewVector(Of(KindLong)), NewVector(Of(KindLong))
		for i := range b.Len {
			if v := b.Columns[at]; v.Null(i) {
				ids.AppendLong(*a.BaseRowID + first + int64(i))
			} else {
				ids.AppendLong(v.Longs[i])
			}
			if v := b.Columns[at+1]; v.Null(i) {
				versions.AppendLong(*a.DefaultRowCommitVersion)
			} else {
				versions.AppendLong(v.Longs[i])
			}
		}
		b.Columns[at], b.Columns[at+1] = ids, versions
		return fn(b, first, live)
	})
}

// putUpdated writes rows that an operation changed: they keep their ids and get
// the commit's version.
func (rw *rewriter) putUpdated(b *Batch) error {
	if at, ok := rw.s.trackedColumns(b.Schema); ok {
		c := *b
		c.Columns = slices.Clone(b.Columns)
		c.Columns[at+1] = NewVector(Of(KindLong))
		c.Columns[at+1].appendNulls(b.Len)
		b = &c
	}
	return rw.out.Write(b)
}

// putInserted writes new rows, which have only the table's columns.
func (rw *rewriter) putInserted(b *Batch) error {
	if rw.wide != rw.s.spec.schema {
		c := &Batch{Schema: rw.wide, Len: b.Len, Columns: slices.Clone(b.Columns)}
		for range 2 {
			v := NewVector(Of(KindLong))
			v.appendNulls(b.Len)
			c.Columns = append(c.Columns, v)
		}
		b = c
	}
	return rw.out.Write(b)
}

// trackRows completes the commit that turns row tracking on: the hidden columns
// have names, and every file that lacks row ids is added again to get them.
func (s *Snapshot) trackRows(c *Commit) error {
	if !c.Metadata.tracksRows() || s.metadata.tracksRows() {
		return nil
	}
	c.Metadata.nameRowColumns()
	for _, a := range s.Files() {
		c.Reads = append(c.Reads, a)
		if a.BaseRowID != nil {
			continue
		}
		if _, ok := a.NumRecords(); !ok {
			return fmt.Errorf("deltalake: row tracking cannot be turned on: the statistics of data file %s do not tell how many rows it has; rewrite it first, for example with Update", a.Path)
		}
		n := *a
		n.DataChange = false
		c.Adds = append(c.Adds, &n)
	}
	c.ReadAll = true
	return nil
}
