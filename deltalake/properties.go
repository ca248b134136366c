package deltalake

import (
	"fmt"
	"strconv"
	"strings"
)

// keptProperty refuses properties that only the table's own operations may set.
func keptProperty(k string) error {
	switch k {
	case "delta.columnMapping.maxColumnId", rowIDProperty, rowVersionProperty, timeSinceVersion, timeSinceMillis:
		return fmt.Errorf("deltalake: property %s is kept by the table itself", k)
	}
	return nil
}

// checkProperty refuses values that would make the table unusable.
func checkProperty(k string, v *string) error {
	if v == nil {
		return nil
	}
	bad := func(want string) error {
		return fmt.Errorf("deltalake: property %s = %q is not %s", k, *v, want)
	}
	if err := knownProperty(k); err != nil {
		return err
	}
	if strings.HasPrefix(k, "delta.feature.") && *v != "supported" && *v != "enabled" {
		return bad("supported")
	}
	switch k {
	case "delta.appendOnly", "delta.enableChangeDataFeed", "delta.enableDeletionVectors", "delta.enableInCommitTimestamps", "delta.enableTypeWidening", rowTrackingProperty, suspendedProperty,
		"delta.enableExpiredLogCleanup", "delta.autoOptimize.autoCompact":
		if *v != "true" && *v != "false" {
			return bad("true or false")
		}
	case "delta.checkpointInterval":
		if n, err := strconv.Atoi(*v); err != nil || n < 1 {
			return bad("a positive number")
		}
	case compactionProperty:
		if n, err := strconv.Atoi(*v); err != nil || n < 2 || n > 10_000 {
			return bad("a number from 2 to 10000")
		}
	case "delta.dataSkippingNumIndexedCols":
		if n, err := strconv.Atoi(*v); err != nil || n < -1 {
			return bad("-1 or a number of columns")
		}
	case "delta.deletedFileRetentionDuration", "delta.logRetentionDuration":
		if _, err := parseInterval(*v); err != nil {
			return bad(`an interval such as "interval 7 days"`)
		}
	case "delta.isolationLevel":
		if *v != "Serializable" && *v != "WriteSerializable" {
			return bad("Serializable or WriteSerializable")
		}
	case "delta.targetFileSize":
		if _, err := parseBytes(*v); err != nil {
			return bad(`a size such as "128mb"`)
		}
	}
	return nil
}

// knownProperty refuses names in Delta's own space that Delta does not know: a slip
// of the pen would be kept and do nothing.
func knownProperty(k string) error {
	if !strings.HasPrefix(strings.ToLower(k), "delta.") {
		return nil
	}
	for _, prefix := range []string{"delta.feature.", "delta.constraints.", "delta.coordinatedCommits.", "delta.universalFormat.", "delta.iceberg"} {
		if strings.HasPrefix(k, prefix) && len(k) > len(prefix) {
			return nil
		}
	}
	near := ""
	for _, known := range knownProperties {
		if known == k {
			return nil
		}
		if strings.EqualFold(known, k) || near == "" && likely(known, k) {
			near = known
		}
	}
	if near != "" {
		return fmt.Errorf("deltalake: property %s is unknown; is %s meant?", k, near)
	}
	return fmt.Errorf("deltalake: property %s is unknown; Delta's own begin with delta., use another prefix for yours", k)
}

// likely tells whether one name becomes the other by leaving out or changing at most
// two letters.
func likely(a, b string) bool {
	prev := make([]int, len(b)+1)
	for j := range prev {
		prev[j] = j
	}
	for i := range a {
		row := make([]int, len(b)+1)
		row[0] = i + 1
		for j := range b {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			row[j+1] = min(prev[j]+cost, prev[j+1]+1, row[j]+1)
		}
		prev = row
	}
	return prev[len(b)] <= 2
}

// knownProperties are Delta's table properties and those of well-known writers.
var knownProperties = []string{
	"delta.appendOnly", "delta.autoOptimize", "delta.autoOptimize.autoCompact", "delta.autoOptimize.optimizeWrite", "delta.castIcebergTimeType",
	"delta.checkpoint.writeStatsAsJson", "delta.checkpoint.writeStatsAsStruct", "delta.checkpointInterval", "delta.checkpointPolicy",
	"delta.checkpointRetentionDuration", "delta.columnMapping.maxColumnId", "delta.columnMapping.mode", "delta.compatibility.symlinkFormatManifest.enabled",
	"delta.dataSkippingNumIndexedCols", "delta.dataSkippingStatsColumns", "delta.deletedFileRetentionDuration", "delta.enableChangeDataFeed",
	"delta.enableDeletionVectors", "delta.enableExpiredLogCleanup", "delta.enableFullRetentionRollback", "delta.enableIcebergCompatV1",
	"delta.enableIcebergCompatV2", "delta.enableIcebergCompatV3", "delta.enableIcebergWriterCompatV1", "delta.enableIcebergWriterCompatV3",
	"delta.enableInCommitTimestamps", "delta.enableMaterializePartitionColumnsFeature", "delta.enableRowTracking", "delta.enableTypeWidening", "delta.enableVariantShredding",
	"delta.ignoreProtocolDefaults", "delta.inCommitTimestampEnablementTimestamp", "delta.inCommitTimestampEnablementVersion", "delta.isolationLevel",
	"delta.lastCommitTimestamp", "delta.lastUpdateVersion", "delta.logRetentionDuration", "delta.minReaderVersion", "delta.minWriterVersion",
	"delta.parquet.compression.codec", "delta.parquet.format.version", "delta.randomPrefixLength", "delta.randomizeFilePrefixes",
	"delta.redirectReaderWriter", "delta.redirectWriterOnly", "delta.requireCheckpointProtectionBeforeVersion", "delta.rowTracking.materializedRowCommitVersionColumnName",
	"delta.rowTracking.materializedRowIdColumnName", "delta.rowTrackingSuspended", "delta.sampleRetentionDuration", "delta.setTransactionRetentionDuration",
	"delta.targetFileSize", "delta.tuneFileSizesForRewrites", "delta.writePartitionColumnsToParquet",
}
