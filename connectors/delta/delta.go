// Package delta declares Delta Lake tables as sinks of jobs. The implementation is
// linked into the worker (package driver); relative paths lie under its lake.root.
//
// Concurrency: declarations are values. Durability: none here.
package delta

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/weirstream/weir/stream"
)

// Kind is the name under which the implementation is linked.
const Kind = "delta"

// Table declares a sink that appends rows to a table, exactly once. The table is
// created when it does not exist. Option path.
func Table(path string, options ...Option) stream.Sink {
	d := &declaration{options: map[string]string{"path": path}}
	if path == "" {
		d.fault("delta: a table has no path")
	}
	for _, o := range options {
		o(d)
	}
	return stream.Sink{Kind: Kind, Options: d.options, Err: errors.Join(d.errs...)}
}

// An Option changes a table sink. Its name in the declaration is said with each.
type Option func(d *declaration)

type declaration struct {
	options map[string]string
	errs    []error
}

func (d *declaration) fault(format string, args ...any) {
	d.errs = append(d.errs, fmt.Errorf(format, args...))
}

func set(name, value string) Option { return func(d *declaration) { d.options[name] = value } }

// PartitionBy names the partition columns of a new table, in order; an existing
// table must have the same. Option partition_by, separated by commas.
func PartitionBy(columns ...string) Option {
	columns = slices.Clone(columns)
	return func(d *declaration) {
		for _, c := range columns {
			if c == "" || strings.Contains(c, ",") {
				d.fault("delta: %q cannot be a partition column", c)
			}
		}
		d.options["partition_by"] = strings.Join(columns, ",")
	}
}

// Properties sets properties of the table by their Delta names, such as
// delta.checkpointInterval. Each is an option of the same name.
func Properties(p map[string]string) Option {
	p = maps.Clone(p)
	return func(d *declaration) {
		for name := range p {
			if !strings.Contains(name, ".") {
				d.fault("delta: table property %q has no dot: properties are named like delta.appendOnly", name)
			}
		}
		maps.Copy(d.options, p)
	}
}

// MergeSchema adds columns that rows have and the table lacks. Without it such a
// job is refused before it writes anything. Option merge_schema.
func MergeSchema() Option { return set("merge_schema", "true") }

// TargetFileSize sets the bytes that data files grow to; the table's
// delta.targetFileSize by default, or 128 MiB. Option target_file_size.
func TargetFileSize(bytes int64) Option {
	return set("target_file_size", strconv.FormatInt(bytes, 10))
}

// CommitEvery sets how long rows may wait before they are committed, so that files
// are not small: a file stays open over checkpoints, and rows are committed with the
// first checkpoint after that time, or when there are enough of them for a file of the
// target size; by default with every checkpoint. Rows that wait are written twice, for
// a checkpoint must hold them. Option commit_interval.
func CommitEvery(interval time.Duration) Option { return set("commit_interval", interval.String()) }

// Name sets the table's name in its metadata, for people. Option table_name.
func Name(name string) Option { return set("table_name", name) }

// Description sets the table's description in its metadata. Option
// table_description.
func Description(text string) Option { return set("table_description", text) }

// Compression sets how data files are compressed: "snappy" (the default), "zstd" or
// "none". Option compression.
func Compression(name string) Option { return set("compression", name) }

// MaxOpenFiles bounds the data files, one per partition value, that a subtask has
// open at once. Option max_open_files.
func MaxOpenFiles(n int) Option { return set("max_open_files", strconv.Itoa(n)) }

// WriteBuffer bounds the rows, in bytes, that a subtask keeps in memory until the
// files of their partitions are written: the more, the fewer and larger the files of a
// table with many partitions; 64 MiB by default. Option write_buffer.
func WriteBuffer(bytes int64) Option { return set("write_buffer", strconv.FormatInt(bytes, 10)) }

// AutoCompact says whether the sink merges the table's small files in the background,
// by commits that change no rows. It does, unless this or the table's property
// delta.autoOptimize.autoCompact is false; what is said here goes before the property.
// Option auto_compact.
func AutoCompact(on bool) Option { return set("auto_compact", strconv.FormatBool(on)) }

// CompactMinFiles sets how many small files of like size a partition must hold before
// they are merged; 10 by default, at least 2. Option compact_min_files.
func CompactMinFiles(n int) Option { return set("compact_min_files", strconv.Itoa(n)) }
