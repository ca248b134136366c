package deltalake

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"sort"
)

// versionChecksum is the content of a version checksum file, <version>.crc: what
// one version comes to, so that it can be known without replay and checked after.
type versionChecksum struct {
	TxnID               string            `json:"txnId,omitempty"`
	TableSizeBytes      int64             `json:"tableSizeBytes"`
	NumFiles            int64             `json:"numFiles"`
	NumDeletedRecords   *int64            `json:"numDeletedRecordsOpt,omitempty"`
	NumDeletionVectors  *int64            `json:"numDeletionVectorsOpt,omitempty"`
	NumMetadata         int64             `json:"numMetadata"`
	NumProtocol         int64             `json:"numProtocol"`
	InCommitTimestamp   *int64            `json:"inCommitTimestampOpt,omitempty"`
	SetTransactions     *[]Txn            `json:"setTransactions,omitempty"`
	DomainMetadata      *[]DomainMetadata `json:"domainMetadata,omitempty"`
	Metadata            *Metadata         `json:"metadata"`
	Protocol            *Protocol         `json:"protocol"`
	FileSizes           *sizeHistogram    `json:"fileSizeHistogram,omitempty"`
	OldFileSizes        *sizeHistogram    `json:"histogramOpt,omitempty"` // Spark's name for FileSizes
	DeletedRecordCounts *deletedHistogram `json:"deletedRecordCountsHistogramOpt,omitempty"`
	AllFiles            *[]*AddFile       `json:"allFiles,omitempty"`
}

type sizeHistogram struct {
	Boundaries []int64 `json:"sortedBinBoundaries"`
	Counts     []int64 `json:"fileCounts"`
	Bytes      []int64 `json:"totalBytes"`
}

type deletedHistogram struct {
	Counts []int64 `json:"deletedRecordCounts"`
}

// maxListed is how many applications, or domains, a checksum lists: beyond, it
// lists none, and its size stays flat. Spark has the same bound.
const maxListed = 100

func checksumPath(version int64) string { return fmt.Sprintf("%s%020d.crc", logDir, version) }

// vectorCounts sums up the deletion vectors of the live files; replay keeps it.
type vectorCounts struct {
	vectors, rows int64
	histogram     [10]int64 // files by the number of their deleted rows
}

// count adds a live file to the sums, or takes it out with sign -1.
func (s *Snapshot) count(f fileFacts, sign int64) {
	s.bytes += sign * f.size
	deleted := int64(0)
	if f.vector != nil {
		deleted = f.vector.Cardinality
		s.vectors.vectors += sign
		s.vectors.rows += sign * deleted
	}
	s.vectors.histogram[deletedBin(deleted)] += sign
}

// deletedBin is the bin of Delta's histogram of deleted rows: none, then a bin per
// power of ten, then what Java's int cannot hold.
func deletedBin(n int64) int {
	switch {
	case n <= 0:
		return 0
	case n >= 1<<31-1:
		return 9
	case n >= 10_000_000:
		return 8
	}
	bin := 1
	for ; n >= 10; n /= 10 {
		bin++
	}
	return bin
}

// checksum sums the version up, from what replay has kept.
func (s *Snapshot) checksum(txnID string) *versionChecksum {
	c := &versionChecksum{
		TxnID: txnID, TableSizeBytes: s.bytes, NumFiles: int64(s.files.len()), NumMetadata: 1, NumProtocol: 1, Metadata: s.metadata, Protocol: s.protocol,
	}
	if s.protocol.hasWriter("deletionVectors") {
		v := s.vectors
		c.NumDeletedRecords, c.NumDeletionVectors = &v.rows, &v.vectors
		c.DeletedRecordCounts = &deletedHistogram{v.histogram[:]}
	}
	if s.ict != 0 {
		ict := s.ict
		c.InCommitTimestamp = &ict
	}
	// With a retention of applications a reader may forget some of them.
	if len(s.txns) <= maxListed && s.property("delta.setTransactionRetentionDuration", "") == "" {
		list := make([]Txn, 0, len(s.txns))
		for _, id := range sortedKeys(s.txns) {
			list = append(list, s.txns[id])
		}
		c.SetTransactions = &list
	}
	if len(s.domains) <= maxListed {
		list := make([]DomainMetadata, 0, len(s.domains))
		for _, name := range sortedKeys(s.domains) {
			list = append(list, s.domains[name])
		}
		c.DomainMetadata = &list
	}
	return c
}

// writeChecksum writes the version checksum file of a commit just made. It is
// never needed, so a failure is nobody's error, and a file that stands there stays.
func (t *Table) writeChecksum(ctx context.Context, s *Snapshot, txnID string) {
	if t.opts.SkipChecksums {
		return
	}
	if data, err := marshalPlain(s.checksum(txnID)); err == nil {
		_ = t.store.PutIfAbsent(ctx, checksumPath(s.version), append(bytes.TrimSpace(data), '\n'))
	}
}

// readChecksum reads a version checksum file and checks that it is whole.
func (t *Table) readChecksum(ctx context.Context, path string) (*versionChecksum, error) {
	data, err := t.store.Get(ctx, path)
	if err != nil {
		return nil, fmt.Errorf("deltalake: checksum: %w", err)
	}
	var c versionChecksum
	if err := json.Unmarshal(data, &c); err != nil {
		return nil, fmt.Errorf("deltalake: %s is not a version checksum: %w", path, err)
	}
	if c.FileSizes == nil {
		c.FileSizes = c.OldFileSizes
	}
	switch {
	case c.NumMetadata != 1 || c.NumProtocol != 1 || c.NumFiles < 0 || c.TableSizeBytes < 0:
		return nil, fmt.Errorf("deltalake: %s is not a version checksum: %d metadata, %d protocol actions, %d files", path, c.NumMetadata, c.NumProtocol, c.NumFiles)
	case c.Metadata == nil || c.Protocol == nil || c.Metadata.SchemaString == "":
		return nil, fmt.Errorf("deltalake: %s lacks metadata or protocol", path)
	}
	return &c, nil
}

// contradicts tells how the checksum differs from a version; "" when it does not.
func (c *versionChecksum) contradicts(s *Snapshot) string {
	number := func(what string, got *int64, want int64) string {
		if got == nil || *got == want {
			return ""
		}
		return fmt.Sprintf("%d %s instead of %d", *got, what, want)
	}
	ict := c.InCommitTimestamp
	if s.ict == 0 && s.keepsTime() {
		ict = nil // the commit that tells it was not read
	}
	for _, why := range []string{
		number("files", &c.NumFiles, int64(s.files.len())), number("bytes", &c.TableSizeBytes, s.bytes),
		number("deletion vectors", c.NumDeletionVectors, s.vectors.vectors), number("deleted rows", c.NumDeletedRecords, s.vectors.rows),
		number("as in-commit timestamp", ict, s.ict), sameHead(s.protocol, c.Protocol, s.metadata, c.Metadata),
		c.lists(s), c.histograms(s),
	} {
		if why != "" {
			return why
		}
	}
	return ""
}

func (c *versionChecksum) lists(s *Snapshot) string {
	if c.SetTransactions != nil {
		for _, t := range *c.SetTransactions {
			if s.txns[t.AppID].Version != t.Version {
				return fmt.Sprintf("application %q is at version %d instead of %d", t.AppID, t.Version, s.txns[t.AppID].Version)
			}
		}
		if s.property("delta.setTransactionRetentionDuration", "") == "" && len(*c.SetTransactions) != len(s.txns) {
			return fmt.Sprintf("%d applications instead of %d", len(*c.SetTransactions), len(s.txns))
		}
	}
	if c.DomainMetadata != nil {
		if len(*c.DomainMetadata) != len(s.domains) {
			return fmt.Sprintf("%d metadata domains instead of %d", len(*c.DomainMetadata), len(s.domains))
		}
		for _, d := range *c.DomainMetadata {
			if s.domains[d.Domain].Configuration != d.Configuration {
				return fmt.Sprintf("metadata domain %q is not the same", d.Domain)
			}
		}
	}
	if c.AllFiles != nil {
		if len(*c.AllFiles) != s.files.len() {
			return fmt.Sprintf("%d files listed instead of %d", len(*c.AllFiles), s.files.len())
		}
		for _, a := range *c.AllFiles {
			if a == nil {
				return "an empty entry among the files"
			}
			if b, ok := s.files.find(a.key()); !ok || b.size != a.Size {
				return fmt.Sprintf("file %s is not the same", a.Path)
			}
		}
	}
	return ""
}

func (c *versionChecksum) histograms(s *Snapshot) string {
	if d := c.DeletedRecordCounts; d != nil && !slices.Equal(d.Counts, s.vectors.histogram[:]) {
		return fmt.Sprintf("deleted rows in bins of %v files instead of %v", d.Counts, s.vectors.histogram)
	}
	h := c.FileSizes
	if h == nil {
		return ""
	}
	n := len(h.Boundaries)
	if n == 0 || h.Boundaries[0] != 0 || len(h.Counts) != n || len(h.Bytes) != n || !sort.SliceIsSorted(h.Boundaries, func(i, j int) bool { return h.Boundaries[i] < h.Boundaries[j] }) {
		return "the histogram of file sizes has no proper bins"
	}
	counts, sizes := make([]int64, n), make([]int64, n)
	for a := range s.files.bare() {
		i := sort.Search(n, func(i int) bool { return h.Boundaries[i] > a.Size }) - 1
		counts[max(i, 0)]++
		sizes[max(i, 0)] += a.Size
	}
	if !slices.Equal(counts, h.Counts) || !slices.Equal(sizes, h.Bytes) {
		return "the histogram of file sizes is not the same"
	}
	return ""
}
