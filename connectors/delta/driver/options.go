package driver

import (
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/weirstream/weir/connectors/internal/option"
	"github.com/weirstream/weir/dataflow"
	"github.com/weirstream/weir/deltalake"
)

const who = "delta sink"

// The options of a declaration, besides table properties, whose names have dots.
func options() []option.Option {
	return []option.Option{
		{Name: "path", Required: true},
		{Name: "partition_by"},
		{Name: "merge_schema", Type: option.Switch},
		{Name: "target_file_size", Type: option.Size, Min: 1 << 10},
		{Name: "commit_interval", Type: option.Span},
		{Name: "table_name"},
		{Name: "table_description"},
		{Name: "compression", Type: option.Choice, Choices: []string{"snappy", "zstd", "none"}},
		{Name: "max_open_files", Type: option.Whole, Min: 1},
		{Name: "write_buffer", Type: option.Size, Min: 64 << 10},
		{Name: "auto_compact", Type: option.Switch},
		{Name: "compact_min_files", Type: option.Whole, Min: 2},
	}
}

// config is a checked declaration.
type config struct {
	path        string // as declared, for people
	location    string // a folder or a URL
	partitionBy []string
	merge       bool
	fileSize    int64 // 0 until the table's own is known
	interval    time.Duration
	name        string
	description string
	compression deltalake.Compression
	openFiles   int
	buffer      int64 // bytes of rows that wait in memory for the files of partitions
	compact     bool
	compactSet  bool // compact was declared: the table's property does not matter
	minFiles    int
	properties  map[string]string
}

// knownPrefixes begin the names of table properties; whether Delta knows the
// property is for the table to say.
var knownPrefixes = []string{"delta.", "weir.", "spark."}

// read checks a declaration and reports all faults at once.
func read(c dataflow.Connector, settings map[string]string) (*config, error) {
	properties := map[string]string{}
	o, err := option.Read(who, options(), c.Options, func(name, v string) (bool, error) {
		if !strings.Contains(name, ".") {
			return false, nil
		}
		properties[name] = v
		if !slices.ContainsFunc(knownPrefixes, func(p string) bool { return strings.HasPrefix(name, p) }) {
			return true, fmt.Errorf("%q is not a table property: they begin with delta., such as delta.appendOnly", name)
		}
		return true, nil
	})
	errs := []error{err}
	cfg := &config{
		path:        o.Text("path", ""),
		partitionBy: o.List("partition_by"),
		merge:       o.Switch("merge_schema", false),
		fileSize:    o.Size("target_file_size", 0),
		interval:    o.Span("commit_interval", 0),
		name:        o.Text("table_name", ""),
		description: o.Text("table_description", ""),
		openFiles:   int(o.Whole("max_open_files", 32)),
		buffer:      o.Size("write_buffer", 64<<20),
		compact:     o.Switch("auto_compact", true),
		compactSet:  o.Has("auto_compact"),
		minFiles:    int(o.Whole("compact_min_files", 10)),
		properties:  properties,
	}
	switch o.Text("compression", "snappy") {
	case "zstd":
		cfg.compression = deltalake.Zstd
	case "none":
		cfg.compression = deltalake.Uncompressed
	}
	if cfg.path != "" {
		if cfg.location, err = locate(cfg.path, settings["lake.root"]); err != nil {
			errs = append(errs, err)
		}
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return cfg, nil
}

// locate resolves a table's path against the lake's root.
func locate(path, root string) (string, error) {
	switch {
	case strings.Contains(path, "://"), filepath.IsAbs(path):
		return path, nil
	case root == "":
		return "", fmt.Errorf("%s: path %q is relative but lake.root is not set: set lake.root, or give an absolute path or URL", who, path)
	case !filepath.IsLocal(filepath.FromSlash(path)):
		return "", fmt.Errorf("%s: path %q leaves the lake: give a path below lake.root %s", who, path, root)
	case strings.Contains(root, "://"):
		at, query, ok := strings.Cut(root, "?")
		if ok {
			query = "?" + query
		}
		return strings.TrimSuffix(at, "/") + "/" + strings.Trim(path, "/") + query, nil
	}
	return filepath.Join(root, filepath.FromSlash(path)), nil
}

// settle takes from the table what the job does not say.
func (c *config) settle(snap *deltalake.Snapshot) {
	if c.fileSize == 0 {
		c.fileSize = snap.TargetFileSize()
	}
	if !c.compactSet {
		c.compact = snap.Metadata().Configuration["delta.autoOptimize.autoCompact"] != "false"
	}
}

// differing lists the declared properties that an existing table has otherwise.
func (c *config) differing(have map[string]string) (out []string) {
	for _, k := range slices.Sorted(maps.Keys(c.properties)) {
		if have[k] != c.properties[k] {
			out = append(out, k)
		}
	}
	return out
}
