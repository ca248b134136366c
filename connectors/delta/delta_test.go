package delta_test

import (
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/weirstream/weir/connectors/delta"
	"github.com/weirstream/weir/connectors/delta/driver"
	"github.com/weirstream/weir/dataflow"
)

// Options of a table appear under the names that they document, and faults come
// all at once.
func TestTable(t *testing.T) {
	sink := delta.Table("gold/x", delta.PartitionBy("day", "kind"), delta.MergeSchema(), delta.TargetFileSize(1<<20),
		delta.CommitEvery(time.Minute), delta.Name("x"), delta.Description("all x"),
		delta.Properties(map[string]string{"delta.appendOnly": "true"}), delta.Compression("zstd"), delta.MaxOpenFiles(3), delta.AutoCompact(false), delta.CompactMinFiles(5), delta.WriteBuffer(1<<20))
	want := map[string]string{
		"path": "gold/x", "partition_by": "day,kind", "merge_schema": "true", "target_file_size": "1048576",
		"commit_interval": "1m0s", "table_name": "x", "table_description": "all x", "delta.appendOnly": "true",
		"compression": "zstd", "max_open_files": "3", "auto_compact": "false", "compact_min_files": "5", "write_buffer": "1048576",
	}
	if sink.Err != nil || sink.Kind != "delta" || !maps.Equal(sink.Options, want) {
		t.Errorf("got %v (%v), want %v", sink.Options, sink.Err, want)
	}
	if err := (driver.Sink{}).Check(dataflow.Connector{Kind: sink.Kind, Options: sink.Options}, map[string]string{"lake.root": t.TempDir()}); err != nil {
		t.Errorf("the driver refuses what the declaration offers: %v", err)
	}
	bad := delta.Table("", delta.PartitionBy("a,b"), delta.Properties(map[string]string{"appendOnly": "true"}))
	for _, want := range []string{"no path", `"a,b" cannot be a partition column`, `"appendOnly" has no dot`} {
		if bad.Err == nil || !strings.Contains(bad.Err.Error(), want) {
			t.Errorf("no sentence with %q in: %v", want, bad.Err)
		}
	}
}
