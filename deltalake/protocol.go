package deltalake

import (
	"fmt"
	"slices"
	"strings"
)

// readerFeatures are the table features that change how a table is read and
// that this package implements.
func readerFeature(name string) bool {
	switch name {
	case "columnMapping", "deletionVectors", "timestampNtz", "v2Checkpoint", "vacuumProtocolCheck",
		"typeWidening", "typeWidening-preview":
		return true
	}
	return false
}

// UnsupportedError reports that the table needs something that this package does
// not do. The table was not touched.
type UnsupportedError struct {
	Op      string // "read" or "written"
	Feature string // name of the table feature or protocol version
}

// Error implements error.
func (e *UnsupportedError) Error() string {
	return fmt.Sprintf("deltalake: the table cannot be %s: %s is not supported", e.Op, e.Feature)
}

// checkRead refuses tables that cannot be read right.
func (p *Protocol) checkRead() error {
	if p.MinReaderVersion < 1 || p.MinReaderVersion > 3 {
		return &UnsupportedError{"read", fmt.Sprintf("reader version %d", p.MinReaderVersion)}
	}
	if p.MinReaderVersion < 3 {
		return nil
	}
	if p.ReaderFeatures == nil {
		return fmt.Errorf("deltalake: the protocol has reader version 3 but no readerFeatures; the log is damaged")
	}
	var bad []string
	for _, f := range *p.ReaderFeatures {
		if !readerFeature(f) {
			bad = append(bad, "reader feature "+f)
		}
	}
	if bad != nil {
		return &UnsupportedError{"read", strings.Join(bad, ", ")}
	}
	return nil
}

// hasWriter tells whether a writer feature is in force, by name or by the writer
// version that implies it.
func (p *Protocol) hasWriter(name string) bool {
	if p.WriterFeatures != nil {
		return slices.Contains(*p.WriterFeatures, name)
	}
	switch name {
	case "appendOnly", "invariants":
		return p.MinWriterVersion >= 2
	case "checkConstraints":
		return p.MinWriterVersion >= 3
	case "changeDataFeed", "generatedColumns":
		return p.MinWriterVersion >= 4
	case "columnMapping":
		return p.MinWriterVersion >= 5
	case "identityColumns":
		return p.MinWriterVersion >= 6
	}
	return false
}

// writerFeature tells whether this package keeps the promises of a writer
// feature. Some are only refused once the table makes use of them.
func writerFeature(name string) bool {
	switch name {
	case "appendOnly", "invariants", "columnMapping", "deletionVectors", "timestampNtz", "v2Checkpoint", "vacuumProtocolCheck",
		"domainMetadata", "changeDataFeed", "checkConstraints", "generatedColumns", "identityColumns",
		"inCommitTimestamp", "allowColumnDefaults", "typeWidening", "typeWidening-preview", "rowTracking", "clustering":
		return true
	}
	return false
}

// checkWrite refuses a table that an operation cannot write, before it writes
// anything.
func (s *Snapshot) checkWrite() error {
	if err := s.protocol.checkWrite(); err != nil {
		return err
	}
	if err := s.protocol.checkRowTracking(s.metadata); err != nil {
		return err
	}
	_, _, err := s.clustering()
	return err
}

// checkRemoval refuses an operation that takes rows away from a table that only
// grows.
func (s *Snapshot) checkRemoval(op string) error {
	return appendOnly(s.protocol, s.metadata, op)
}

func appendOnly(p *Protocol, m *Metadata, op string) error {
	if strings.EqualFold(m.Configuration["delta.appendOnly"], "true") && p.hasWriter("appendOnly") {
		return &refusal{fmt.Errorf("deltalake: the table is append-only (delta.appendOnly); %s would remove rows", op)}
	}
	return nil
}

// refusal is an error after which it is certain that nothing was committed.
type refusal struct{ error }

// Unwrap returns the reason.
func (e *refusal) Unwrap() error { return e.error }

// checkWrite refuses tables that cannot be written without breaking a promise.
func (p *Protocol) checkWrite() error {
	if p.MinWriterVersion < 1 || p.MinWriterVersion > 7 {
		return &UnsupportedError{"written", fmt.Sprintf("writer version %d", p.MinWriterVersion)}
	}
	if p.MinWriterVersion < 7 {
		return nil
	}
	if p.WriterFeatures == nil {
		return fmt.Errorf("deltalake: the protocol has writer version 7 but no writerFeatures; the log is damaged")
	}
	var bad []string
	for _, f := range *p.WriterFeatures {
		if !writerFeature(f) {
			bad = append(bad, "writer feature "+f)
		}
	}
	if bad != nil {
		return &UnsupportedError{"written", strings.Join(bad, ", ")}
	}
	return nil
}
