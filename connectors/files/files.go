// Package files declares files as sources and sinks of jobs: a record per line.
// The implementation is linked into the worker (package driver).
//
// Concurrency: declarations are values. Durability: none here.
package files

import (
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/weirstream/weir/stream"
)

// Kind is the name under which the implementation is linked.
const Kind = "files"

type declaration struct {
	options map[string]string
	errs    []error
}

func (d *declaration) fault(format string, args ...any) {
	d.errs = append(d.errs, fmt.Errorf(format, args...))
}

func declare(path string) *declaration {
	d := &declaration{options: map[string]string{"path": path}}
	if path == "" {
		d.fault("files: the path is empty")
	}
	return d
}

// Source declares a source that reads the lines of a file, of the files of a
// folder, or of those that a pattern such as data/*.jsonl matches. Each file is a
// split; a file must not change once it is there. The codec is stream.JSON,
// stream.CSV or stream.Text. Option path.
func Source[T any](path string, lines stream.Codec[T], options ...SourceOption) stream.Source[T] {
	d := declare(path)
	if lines.Format() == "" {
		d.fault("files: the lines have no codec: use stream.JSON[T](), stream.CSV[T]() or stream.Text()")
	}
	for _, o := range options {
		o(d)
	}
	return stream.Source[T]{Kind: Kind, Options: d.options, Codec: lines, Err: errors.Join(d.errs...)}
}

// A SourceOption changes a source. Its name in the declaration is said with each.
type SourceOption func(d *declaration)

// Watch makes the source unbounded: new files are looked for every interval.
// Without it the source ends after the files that are there at the start. Option
// watch_interval.
func Watch(interval time.Duration) SourceOption {
	return func(d *declaration) { d.options["watch_interval"] = interval.String() }
}

// BadRecords sets what happens to a line that cannot be decoded; the job fails by
// default. Option bad_records.
func BadRecords(policy stream.BadRecords) SourceOption {
	return func(d *declaration) { d.options["bad_records"] = string(policy) }
}

// Header skips the first line of every file, which names the columns. Option
// header.
func Header() SourceOption { return func(d *declaration) { d.options["header"] = "true" } }

// MaxLineBytes makes a longer line a bad record; 16 MiB by default. Option
// max_record_bytes.
func MaxLineBytes(n int) SourceOption {
	return func(d *declaration) { d.options["max_record_bytes"] = strconv.Itoa(n) }
}

// Sink declares a sink that writes rows as lines to new files of a folder, exactly
// once: a file appears when the checkpoint that holds its rows is complete. format
// is "json", "csv" or "raw" (rows of []byte or string). Option path.
func Sink(folder, format string, options ...SinkOption) stream.Sink {
	d := declare(folder)
	switch format {
	case "json", "csv", "raw":
	default:
		d.fault("files: format %q: want json, csv or raw", format)
	}
	for _, o := range options {
		o(d)
	}
	return stream.Sink{Kind: Kind, Options: d.options, Format: format, Err: errors.Join(d.errs...)}
}

// A SinkOption changes a sink. Its name in the declaration is said with each.
type SinkOption func(d *declaration)

// TargetFileSize sets the bytes at which a file is closed; 128 MiB by default.
// Option target_file_size.
func TargetFileSize(bytes int64) SinkOption {
	return func(d *declaration) { d.options["target_file_size"] = strconv.FormatInt(bytes, 10) }
}

// WriteHeader makes the first line of every CSV file name the columns. Option
// header.
func WriteHeader() SinkOption { return func(d *declaration) { d.options["header"] = "true" } }
