package deltalake

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
)

// Info sums up a version of a table from its log alone.
type Info struct {
	Version  int64  `json:"version"`
	ID       string `json:"id"`
	Name     string `json:"name,omitempty"`
	Protocol [2]int `json:"protocol"` // reader and writer version
	Features struct {
		Reader []string `json:"reader"`
		Writer []string `json:"writer"`
	} `json:"features"`
	Files            int               `json:"files"`
	Bytes            int64             `json:"bytes"`
	Rows             *int64            `json:"rows"` // null where statistics are missing
	PartitionColumns []string          `json:"partitionColumns"`
	ClusterBy        []string          `json:"clusteringColumns,omitempty"`
	Properties       map[string]string `json:"properties"`
	Txns             map[string]int64  `json:"txns"`
	Schema           json.RawMessage   `json:"schema"`
	Timestamp        int64             `json:"timestamp"` // of the commit, milliseconds
}

// Info returns the summary of the snapshot; it reads no data file.
func (s *Snapshot) Info() *Info {
	i := &Info{
		Version: s.version, ID: s.metadata.ID, Name: s.metadata.Name, Protocol: [2]int{s.protocol.MinReaderVersion, s.protocol.MinWriterVersion},
		Files: s.NumFiles(), Bytes: s.bytes, PartitionColumns: append([]string{}, s.metadata.PartitionColumns...),
		Properties: s.metadata.Configuration, Txns: s.Txns(), Schema: s.metadata.schemaJSON(), Timestamp: s.Timestamp().UnixMilli(),
	}
	i.ClusterBy = s.ClusteringColumns()
	i.Features.Reader, i.Features.Writer = []string{}, []string{}
	if s.protocol.ReaderFeatures != nil {
		i.Features.Reader = append(i.Features.Reader, *s.protocol.ReaderFeatures...)
	}
	if s.protocol.WriterFeatures != nil {
		i.Features.Writer = append(i.Features.Writer, *s.protocol.WriterFeatures...)
	}
	if rows, ok := s.NumRows(); ok {
		i.Rows = &rows
	}
	return i
}

// Export writes the rows of a scan as one Parquet file with the table's column
// names, timestamps as UTC microseconds (without zone for timestamp_ntz). It
// returns the rows written.
func (s *Snapshot) Export(ctx context.Context, w io.Writer, o ScanOptions) (int64, error) {
	sc, err := s.prepare(o)
	if err != nil {
		return 0, err
	}
	comp, err := newCompressor(Snappy)
	if err != nil {
		return 0, err
	}
	schema := newPqSchema(sc.out.Fields, func(f *Field) (string, int32) { return f.Name, 0 })
	pq := newPqWriter(w, schema, comp, 0)
	for b, err := range s.Scan(ctx, o) {
		if err == nil {
			err = pq.write(b.Columns, b.Len)
		}
		if err != nil {
			return pq.rows, err
		}
	}
	if _, err := pq.close(); err != nil {
		return pq.rows, fmt.Errorf("deltalake: export: %w", err)
	}
	return pq.rows, nil
}

// Diff lists what changed between two snapshots of a table.
type Diff struct {
	Added      []*AddFile        `json:"added"`
	Removed    []*AddFile        `json:"removed"`
	Schema     bool              `json:"schemaChanged"`
	Protocol   bool              `json:"protocolChanged"`
	Properties map[string]string `json:"properties,omitempty"` // set or changed; "" when removed
}

// DiffOf compares two snapshots, from a to b.
func DiffOf(a, b *Snapshot) *Diff {
	d := &Diff{Added: []*AddFile{}, Removed: []*AddFile{}, Properties: map[string]string{}}
	for _, f := range b.Files() {
		if !a.files.has(f.key()) {
			d.Added = append(d.Added, f)
		}
	}
	for _, f := range a.Files() {
		if !b.files.has(f.key()) {
			d.Removed = append(d.Removed, f)
		}
	}
	d.Schema = a.metadata.SchemaString != b.metadata.SchemaString
	d.Protocol = jsonText(a.protocol) != jsonText(b.protocol)
	for k, v := range b.metadata.Configuration {
		if old, ok := a.metadata.Configuration[k]; !ok || old != v {
			d.Properties[k] = v
		}
	}
	for k := range a.metadata.Configuration {
		if _, ok := b.metadata.Configuration[k]; !ok {
			d.Properties[k] = ""
		}
	}
	return d
}
