package deltalake

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/url"
	"strings"
)

// Protocol says what a client must implement to read or write the table.
type Protocol struct {
	MinReaderVersion int       `json:"minReaderVersion"`
	MinWriterVersion int       `json:"minWriterVersion"`
	ReaderFeatures   *[]string `json:"readerFeatures,omitempty"` // set exactly at reader version 3
	WriterFeatures   *[]string `json:"writerFeatures,omitempty"` // set exactly at writer version 7
}

// Format names the file format of data files; Provider is always "parquet".
type Format struct {
	Provider string            `json:"provider"`
	Options  map[string]string `json:"options"`
}

// Metadata is the table's schema, partitioning and properties.
type Metadata struct {
	ID               string            `json:"id"`
	Name             string            `json:"name,omitempty"`
	Description      string            `json:"description,omitempty"`
	Format           Format            `json:"format"`
	SchemaString     string            `json:"schemaString"`
	PartitionColumns []string          `json:"partitionColumns"`
	Configuration    map[string]string `json:"configuration"`
	CreatedTime      int64             `json:"createdTime,omitempty"` // milliseconds since 1970
}

// DeletionVector describes which rows of a data file are deleted.
type DeletionVector struct {
	StorageType    string `json:"storageType"`    // "u" relative file, "p" absolute path, "i" inline
	PathOrInlineDv string `json:"pathOrInlineDv"` // see Delta's protocol
	Offset         *int32 `json:"offset,omitempty"`
	SizeInBytes    int32  `json:"sizeInBytes"`
	Cardinality    int64  `json:"cardinality"` // rows deleted
}

// uniqueID identifies the vector within the key of a file.
func (d *DeletionVector) uniqueID() string {
	if d == nil {
		return ""
	}
	if d.Offset == nil {
		return d.StorageType + d.PathOrInlineDv
	}
	return fmt.Sprintf("%s%s@%d", d.StorageType, d.PathOrInlineDv, *d.Offset)
}

// AddFile is one data file of the table. It marshals to the JSON of the log's
// add action, so that it can wait in a checkpoint manifest until it is
// committed. An AddFile is immutable once it is handed to Commit.
type AddFile struct {
	Path                    string             `json:"path"` // URL-encoded, relative to the table or absolute
	PartitionValues         map[string]*string `json:"partitionValues"`
	Size                    int64              `json:"size"`             // bytes
	ModificationTime        int64              `json:"modificationTime"` // milliseconds since 1970
	DataChange              bool               `json:"dataChange"`
	Stats                   string             `json:"stats,omitempty"` // JSON, see Delta's protocol
	Tags                    map[string]*string `json:"tags,omitempty"`
	DeletionVector          *DeletionVector    `json:"deletionVector,omitempty"`
	BaseRowID               *int64             `json:"baseRowId,omitempty"`
	DefaultRowCommitVersion *int64             `json:"defaultRowCommitVersion,omitempty"`
	ClusteringProvider      string             `json:"clusteringProvider,omitempty"`
}

// key identifies a logical file: its path and its deletion vector.
func (a *AddFile) key() fileKey { return fileKey{canonicalPath(a.Path), a.DeletionVector.uniqueID()} }

// NumRecords returns the rows of the file before its deletion vector, and
// whether the file's statistics tell it.
func (a *AddFile) NumRecords() (int64, bool) {
	// The common shape starts with the count; fall back to a full parse.
	if rest, ok := strings.CutPrefix(a.Stats, `{"numRecords":`); ok {
		n, digits := int64(0), 0
		for digits < len(rest) && digits < 18 && rest[digits] >= '0' && rest[digits] <= '9' {
			n = n*10 + int64(rest[digits]-'0')
			digits++
		}
		if digits > 0 && digits < len(rest) && (rest[digits] == ',' || rest[digits] == '}') {
			return n, true
		}
	}
	var s struct {
		NumRecords *int64 `json:"numRecords"`
	}
	if a.Stats == "" || json.Unmarshal([]byte(a.Stats), &s) != nil || s.NumRecords == nil {
		return 0, false
	}
	return *s.NumRecords, true
}

// remove returns the action that takes the file out of the table.
func (a *AddFile) remove(nowMillis int64, dataChange bool) RemoveFile {
	size := a.Size
	return RemoveFile{
		Path: a.Path, DeletionTimestamp: nowMillis, DataChange: dataChange, ExtendedFileMetadata: true,
		PartitionValues: a.PartitionValues, Size: &size, Tags: a.Tags, Stats: a.Stats, DeletionVector: a.DeletionVector,
		BaseRowID: a.BaseRowID, DefaultRowCommitVersion: a.DefaultRowCommitVersion,
	}
}

// RemoveFile takes a data file out of the table; the file itself stays until
// Vacuum.
type RemoveFile struct {
	Path                    string             `json:"path"`
	DeletionTimestamp       int64              `json:"deletionTimestamp,omitempty"` // milliseconds since 1970
	DataChange              bool               `json:"dataChange"`
	ExtendedFileMetadata    bool               `json:"extendedFileMetadata,omitempty"`
	PartitionValues         map[string]*string `json:"partitionValues,omitempty"`
	Size                    *int64             `json:"size,omitempty"`
	Stats                   string             `json:"stats,omitempty"`
	Tags                    map[string]*string `json:"tags,omitempty"`
	DeletionVector          *DeletionVector    `json:"deletionVector,omitempty"`
	BaseRowID               *int64             `json:"baseRowId,omitempty"`
	DefaultRowCommitVersion *int64             `json:"defaultRowCommitVersion,omitempty"`
}

func (r *RemoveFile) key() fileKey {
	return fileKey{canonicalPath(r.Path), r.DeletionVector.uniqueID()}
}

// fileKey is Delta's identity of a logical file. Its path is canonical.
type fileKey struct{ path, dv string }

// canonicalPath returns the one spelling of a path of the log, for writers spell
// one file in several: escaped more or less, and absolute with file:/, file:///
// or no scheme.
func canonicalPath(path string) string {
	if strings.IndexByte(path, '%') >= 0 {
		path = decodePath(path)
	}
	if rest, ok := strings.CutPrefix(path, "file:/"); ok {
		return "/" + strings.TrimLeft(rest, "/")
	}
	return path
}

// ChangeFile is one file of the change data feed.
type ChangeFile struct {
	Path            string             `json:"path"`
	PartitionValues map[string]*string `json:"partitionValues"`
	Size            int64              `json:"size"`
	DataChange      bool               `json:"dataChange"` // always false
	Tags            map[string]*string `json:"tags,omitempty"`
}

// Txn records an application's progress: commits with a version that is not
// above the recorded one were already made.
type Txn struct {
	AppID       string `json:"appId"`
	Version     int64  `json:"version"`
	LastUpdated *int64 `json:"lastUpdated,omitempty"` // milliseconds since 1970
}

// DomainMetadata is a named configuration of a feature or an application.
type DomainMetadata struct {
	Domain        string `json:"domain"`
	Configuration string `json:"configuration"`
	Removed       bool   `json:"removed"`
}

// CommitInfo tells who made a commit and how. All fields are optional in
// foreign tables.
type CommitInfo struct {
	Timestamp           int64             `json:"timestamp,omitempty"`         // milliseconds since 1970
	InCommitTimestamp   *int64            `json:"inCommitTimestamp,omitempty"` // milliseconds, where the table asks for it
	Operation           string            `json:"operation,omitempty"`
	OperationParameters map[string]string `json:"operationParameters,omitempty"`
	ReadVersion         *int64            `json:"readVersion,omitempty"`
	IsolationLevel      string            `json:"isolationLevel,omitempty"`
	IsBlindAppend       *bool             `json:"isBlindAppend,omitempty"`
	OperationMetrics    map[string]string `json:"operationMetrics,omitempty"`
	UserMetadata        string            `json:"userMetadata,omitempty"`
	EngineInfo          string            `json:"engineInfo,omitempty"`
	TxnID               string            `json:"txnId,omitempty"`
	Tags                map[string]string `json:"tags,omitempty"`
}

// UnmarshalJSON accepts what other writers put there: parameters and metrics
// that are not strings keep their JSON text, fields of a wrong type are dropped.
func (c *CommitInfo) UnmarshalJSON(data []byte) error {
	var raw map[string]json.RawMessage
	if err := json.Unmarshal(data, &raw); err != nil {
		return fmt.Errorf("deltalake: commitInfo: %w", err)
	}
	*c = CommitInfo{}
	take := func(name string, v any) {
		if r, ok := raw[name]; ok {
			_ = json.Unmarshal(r, v) // free-form by the protocol
		}
	}
	texts := func(name string) map[string]string {
		var m map[string]json.RawMessage
		take(name, &m)
		if m == nil {
			return nil
		}
		out := make(map[string]string, len(m))
		for k, r := range m {
			var s string
			if json.Unmarshal(r, &s) != nil || bytes.Equal(r, []byte("null")) {
				s = string(r)
			}
			out[k] = s
		}
		return out
	}
	take("timestamp", &c.Timestamp)
	take("inCommitTimestamp", &c.InCommitTimestamp)
	take("operation", &c.Operation)
	take("readVersion", &c.ReadVersion)
	take("isolationLevel", &c.IsolationLevel)
	take("isBlindAppend", &c.IsBlindAppend)
	take("userMetadata", &c.UserMetadata)
	take("engineInfo", &c.EngineInfo)
	take("txnId", &c.TxnID)
	c.OperationParameters = texts("operationParameters")
	c.OperationMetrics = texts("operationMetrics")
	c.Tags = texts("tags")
	return nil
}

// checkpointMetadata is the head of a V2 checkpoint.
type checkpointMetadata struct {
	Version int64             `json:"version"`
	Tags    map[string]string `json:"tags,omitempty"`
}

// sidecar names a file of a V2 checkpoint that holds file actions.
type sidecar struct {
	Path             string            `json:"path"`
	SizeInBytes      int64             `json:"sizeInBytes"`
	ModificationTime int64             `json:"modificationTime"`
	Tags             map[string]string `json:"tags,omitempty"`
}

// action is one line of the log; exactly one field is set. Lines with actions
// that are not known have none, and are skipped as the protocol demands.
type action struct {
	CommitInfo         *CommitInfo         `json:"commitInfo,omitempty"`
	Protocol           *Protocol           `json:"protocol,omitempty"`
	Metadata           *Metadata           `json:"metaData,omitempty"`
	Add                *AddFile            `json:"add,omitempty"`
	Remove             *RemoveFile         `json:"remove,omitempty"`
	Change             *ChangeFile         `json:"cdc,omitempty"`
	Txn                *Txn                `json:"txn,omitempty"`
	Domain             *DomainMetadata     `json:"domainMetadata,omitempty"`
	CheckpointMetadata *checkpointMetadata `json:"checkpointMetadata,omitempty"`
	Sidecar            *sidecar            `json:"sidecar,omitempty"`
}

// encodeActions writes one JSON line per action.
func encodeActions(actions []action) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	for i := range actions {
		if err := enc.Encode(&actions[i]); err != nil {
			return nil, fmt.Errorf("deltalake: encode commit: %w", err)
		}
	}
	return b.Bytes(), nil
}

// decodeActions calls fn for every action of a commit, in order. withInfo says
// whether commitInfo lines are decoded; replay does not need them.
func decodeActions(data []byte, withInfo bool, fn func(*action) error) error {
	fast := &lineReader{}
	for line := 1; len(data) > 0; line++ {
		raw := data
		if i := bytes.IndexByte(data, '\n'); i >= 0 {
			raw, data = data[:i], data[i+1:]
		} else {
			data = nil
		}
		raw = bytes.TrimSpace(raw)
		if len(raw) == 0 {
			continue
		}
		if !withInfo && bytes.HasPrefix(raw, []byte(`{"commitInfo":`)) && bytes.HasSuffix(raw, []byte("}")) {
			continue
		}
		a := action{Add: fast.add(raw)}
		if a.Add != nil {
			// read
		} else if err := json.Unmarshal(raw, &a); err != nil {
			return fmt.Errorf("line %d is not a Delta action: %w", line, err)
		}
		if err := fn(&a); err != nil {
			return fmt.Errorf("line %d: %w", line, err)
		}
	}
	return nil
}

// encodePath writes a store path as the log does.
func encodePath(path string) string {
	return (&url.URL{Path: path}).EscapedPath()
}

// decodePath reads a path of the log. Paths that are not valid escapes are taken
// as they are, as Delta's own readers do.
func decodePath(path string) string {
	if p, err := url.PathUnescape(path); err == nil {
		return p
	}
	return path
}

// UnmarshalJSON accepts properties and format options that other writers left as
// JSON numbers or booleans: they keep their text. A null is no property.
func (m *Metadata) UnmarshalJSON(data []byte) error {
	type plain Metadata
	loose := struct {
		*plain
		Format struct {
			Provider string           `json:"provider"`
			Options  map[string]*text `json:"options"`
		} `json:"format"`
		Configuration map[string]*text `json:"configuration"`
	}{plain: (*plain)(m)}
	*m = Metadata{}
	if err := json.Unmarshal(data, &loose); err != nil {
		return fmt.Errorf("metaData: %w", err)
	}
	m.Format = Format{loose.Format.Provider, texts(loose.Format.Options)}
	m.Configuration = texts(loose.Configuration)
	return nil
}

// text is a JSON string, or the JSON text of another value.
type text string

func (t *text) UnmarshalJSON(data []byte) error {
	var s string
	if json.Unmarshal(data, &s) != nil {
		s = string(data)
	}
	*t = text(s)
	return nil
}

func texts(m map[string]*text) map[string]string {
	out := make(map[string]string, len(m))
	for k, v := range m {
		if v != nil {
			out[k] = string(*v)
		}
	}
	return out
}

// parseSchema reads the schema of the metadata. Delta's own metadata of a table that
// was never given columns has no schema.
func (m *Metadata) parseSchema() (*Schema, error) {
	var s Schema
	if m.SchemaString == "" {
		return &s, nil
	}
	if err := json.Unmarshal([]byte(m.SchemaString), &s); err != nil {
		return nil, fmt.Errorf("deltalake: the table's schema cannot be read: %w", err)
	}
	return &s, nil
}

// schemaJSON is the schema as the log has it.
func (m *Metadata) schemaJSON() json.RawMessage {
	if m.SchemaString == "" {
		return json.RawMessage(`{"type":"struct","fields":[]}`)
	}
	return json.RawMessage(m.SchemaString)
}

// clone returns a copy that can be changed.
func (m *Metadata) clone() *Metadata {
	c := *m
	c.PartitionColumns = append([]string{}, m.PartitionColumns...)
	c.Configuration = make(map[string]string, len(m.Configuration))
	for k, v := range m.Configuration {
		c.Configuration[k] = v
	}
	return &c
}
