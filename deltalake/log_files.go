package deltalake

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

const (
	logDir         = "_delta_log/"
	lastCheckpoint = logDir + "_last_checkpoint"
	sidecarDir     = logDir + "_sidecars/"
)

func commitPath(version int64) string { return fmt.Sprintf("%s%020d.json", logDir, version) }

// logFile is one listed file of the log, understood by its name.
type logFile struct {
	kind        logKind
	version     int64 // of a compaction: its last version
	first       int64 // of a compaction: its first version
	part, parts int   // of a multi-part checkpoint
	info        ObjectInfo
}

type logKind uint8

const (
	logOther logKind = iota
	logCommit
	logCheckpoint      // classic, one file
	logCheckpointPart  // classic, one of several files
	logCheckpointV2    // named by a UUID, JSON or Parquet
	logCompaction      // several commits in one file
	logChecksum        // .crc
	maxCheckpointParts = 100_000
)

// parseLogName understands a path below _delta_log; ok is false for foreign files.
func parseLogName(path string) (logFile, bool) {
	name, ok := strings.CutPrefix(path, logDir)
	if !ok || len(name) < 21 || name[20] != '.' {
		return logFile{}, false
	}
	version, ok := parseVersion(name[:20])
	if !ok {
		return logFile{}, false
	}
	f := logFile{version: version}
	rest := name[21:]
	switch {
	case rest == "json":
		f.kind = logCommit
	case rest == "crc":
		f.kind = logChecksum
	case rest == "checkpoint.parquet":
		f.kind = logCheckpoint
	case strings.HasSuffix(rest, ".compacted.json") && len(rest) == 20+len(".compacted.json"):
		f.kind, f.first = logCompaction, version
		if f.version, ok = parseVersion(rest[:20]); !ok || f.version < f.first {
			return logFile{}, false
		}
	case strings.HasPrefix(rest, "checkpoint."):
		parts := strings.Split(rest, ".")
		switch {
		case len(parts) == 4 && parts[3] == "parquet":
			i, err1 := strconv.Atoi(parts[1])
			n, err2 := strconv.Atoi(parts[2])
			if err1 != nil || err2 != nil || i < 1 || n < 1 || i > n || n > maxCheckpointParts {
				return logFile{}, false
			}
			f.kind, f.part, f.parts = logCheckpointPart, i, n
		case len(parts) == 3 && len(parts[1]) == 36 && (parts[2] == "json" || parts[2] == "parquet"):
			f.kind = logCheckpointV2
		default:
			return logFile{}, false
		}
	default:
		return logFile{}, false
	}
	return f, true
}

func parseVersion(s string) (int64, bool) {
	for _, c := range []byte(s) {
		if c < '0' || c > '9' {
			return 0, false
		}
	}
	v, err := strconv.ParseInt(s, 10, 64)
	return v, err == nil && len(s) == 20
}

// listLog lists the log from a version on; from 0 lists all of it.
func listLog(ctx context.Context, store Store, from int64) ([]logFile, error) {
	after := ""
	if from > 0 {
		after = fmt.Sprintf("%s%020d", logDir, from)
	}
	var files []logFile
	for info, err := range store.List(ctx, logDir, after) {
		if err != nil {
			return nil, fmt.Errorf("deltalake: list the log: %w", err)
		}
		if info.Path > logDir+":" { // behind all digits: _last_checkpoint, folders
			break
		}
		if f, ok := parseLogName(info.Path); ok {
			f.info = info
			files = append(files, f)
		}
	}
	return files, nil
}

// checkpointHint is the content of _last_checkpoint.
type checkpointHint struct {
	Version       int64  `json:"version"`
	Size          int64  `json:"size"`
	Parts         *int   `json:"parts,omitempty"`
	SizeInBytes   *int64 `json:"sizeInBytes,omitempty"`
	NumOfAddFiles *int64 `json:"numOfAddFiles,omitempty"`

	V2 *checkpointHintV2 `json:"v2Checkpoint,omitempty"`
}

// checkpointHintV2 repeats the head of a V2 checkpoint, so that others need not
// read it.
type checkpointHintV2 struct {
	Path             string    `json:"path"`
	SizeInBytes      int64     `json:"sizeInBytes"`
	ModificationTime int64     `json:"modificationTime"`
	NonFileActions   []action  `json:"nonFileActions,omitempty"`
	SidecarFiles     []sidecar `json:"sidecarFiles,omitempty"`
}

// readHint returns the version that _last_checkpoint names, or 0. The hint is
// never needed, so whatever is wrong with it is ignored.
func readHint(ctx context.Context, store Store) (int64, error) {
	data, err := store.Get(ctx, lastCheckpoint)
	if err != nil {
		if errors.Is(err, ErrNotFound) || ctx.Err() == nil {
			return 0, nil
		}
		return 0, err
	}
	var h struct {
		Version int64 `json:"version"`
	}
	if json.Unmarshal(data, &h) != nil || h.Version < 0 {
		return 0, nil
	}
	return h.Version, nil
}

// segment is the set of log files that make one version of the table.
type segment struct {
	version    int64
	checkpoint []logFile // empty, or all files of one checkpoint
	commits    []logFile // commits and compactions after the checkpoint, in order
	latest     *logFile  // the commit of version, when it is still there
	others     []logFile // of all whole checkpoints of version
}

// planSegment picks the files that make `version` (the newest when it is -1).
// Checkpoints in skip are not used: they could not be read.
func planSegment(files []logFile, version int64, skip map[string]bool) (*segment, error) {
	newest := int64(-1)
	for i := range files {
		if f := &files[i]; f.kind != logChecksum && f.kind != logCompaction && f.version > newest {
			newest = f.version
		}
	}
	if newest < 0 {
		return nil, errNoTable
	}
	if version < 0 {
		version = newest
	} else if version > newest {
		return nil, &VersionError{Version: version, Newest: newest}
	}
	seg := &segment{version: version, checkpoint: bestCheckpoint(files, version, skip)}
	from := int64(0)
	if len(seg.checkpoint) > 0 {
		from = seg.checkpoint[0].version + 1
	}
	commits := make([]*logFile, max(0, version-from+1))
	jumps := map[int64][]*logFile{} // compactions by their first version
	for i := range files {
		f := &files[i]
		switch {
		case f.kind == logCommit && f.version <= version:
			if f.version >= from {
				commits[f.version-from] = f
			}
			if f.version == version {
				seg.latest = f
			}
		case f.kind == logCompaction && f.first >= from && f.version <= version && f.version > f.first && !skip[f.info.Path]:
			jumps[f.first] = append(jumps[f.first], f)
		}
	}
	var missing int64
	if seg.commits, missing = shortestWay(commits, jumps, from); missing >= 0 {
		return nil, gapError(files, missing, version)
	}
	seg.others = wholeCheckpoints(files, version)
	return seg, nil
}

// wholeCheckpoints returns the files of all complete checkpoints of one version.
func wholeCheckpoints(files []logFile, version int64) (out []logFile) {
	parts := map[int]int{}
	for _, f := range files {
		if f.version == version && f.kind == logCheckpointPart {
			parts[f.parts]++
		}
	}
	for _, f := range files {
		if f.version == version && (f.kind == logCheckpoint || f.kind == logCheckpointV2 || f.kind == logCheckpointPart && parts[f.parts] == f.parts) {
			out = append(out, f)
		}
	}
	return out
}

// shortestWay returns the fewest files that lead through all versions of commits
// (nil where one is missing; commits[0] is version from), or else the version that
// no file leads over. A compaction is taken only where it starts at the next
// version and ends within the range.
func shortestWay(commits []*logFile, jumps map[int64][]*logFile, from int64) ([]logFile, int64) {
	const never = 1 << 30
	n := len(commits)
	cost := make([]int, n+1) // files from here to the end
	step := make([]*logFile, n)
	for i := n - 1; i >= 0; i-- {
		cost[i] = never
		try := func(f *logFile, next int) {
			if c := cost[next] + 1; c < cost[i] {
				cost[i], step[i] = c, f
			}
		}
		if commits[i] != nil {
			try(commits[i], i+1)
		}
		for _, j := range jumps[from+int64(i)] {
			try(j, int(j.version-from)+1)
		}
	}
	if n > 0 && step[0] == nil {
		far := 0 // as far as files lead
		for i := 0; i <= far && i < n; i++ {
			if commits[i] != nil {
				far = max(far, i+1)
			}
			for _, j := range jumps[from+int64(i)] {
				far = max(far, int(j.version-from)+1)
			}
		}
		return nil, from + int64(far)
	}
	way := make([]logFile, 0, cost[0])
	for i := 0; i < n; i = int(way[len(way)-1].version-from) + 1 {
		way = append(way, *step[i])
	}
	return way, -1
}

func gapError(files []logFile, missing, version int64) error {
	oldest := int64(-1)
	for i := range files {
		if f := &files[i]; f.kind == logCommit && (oldest < 0 || f.version < oldest) {
			oldest = f.version
		}
	}
	if missing < oldest || oldest < 0 {
		return &VersionError{Version: version, Newest: version, Missing: missing, Gone: true}
	}
	return fmt.Errorf("deltalake: the log has a gap: version %d is missing, so version %d cannot be read", missing, version)
}

// bestCheckpoint returns the files of the newest complete checkpoint that is not
// above version.
func bestCheckpoint(files []logFile, version int64, skip map[string]bool) []logFile {
	type group struct {
		version int64
		parts   int
	}
	multi := map[group][]logFile{}
	var best []logFile
	rank := func(f logFile) int { // among checkpoints of one version
		switch f.kind {
		case logCheckpointV2:
			return 3
		case logCheckpoint:
			return 2
		}
		return 1
	}
	better := func(f logFile) bool {
		return len(best) == 0 || f.version > best[0].version || f.version == best[0].version && rank(f) > rank(best[0])
	}
	for _, f := range files {
		if f.version > version || skip[f.info.Path] {
			continue
		}
		switch f.kind {
		case logCheckpoint, logCheckpointV2:
			if f.info.Size > 0 && better(f) {
				best = []logFile{f}
			}
		case logCheckpointPart:
			g := group{f.version, f.parts}
			multi[g] = append(multi[g], f)
			if parts := multi[g]; len(parts) == f.parts && better(f) {
				best = parts
			}
		}
	}
	return best
}

// errNoTable reports that the folder holds no Delta log.
var errNoTable = fmt.Errorf("%w: no Delta table here (_delta_log holds no commit)", ErrNotFound)

// VersionError reports that a version of the table cannot be had: it does not
// exist yet, or its history was cleaned up.
type VersionError struct {
	Version int64 // asked for
	Newest  int64 // that exists
	Missing int64 // first version whose commit is gone
	Gone    bool  // cleaned up, not in the future
}

// Error implements error.
func (e *VersionError) Error() string {
	if e.Gone {
		return fmt.Sprintf("deltalake: version %d cannot be rebuilt: the log no longer has version %d and no checkpoint stands in for it", e.Version, e.Missing)
	}
	return fmt.Sprintf("deltalake: version %d does not exist, the newest is %d", e.Version, e.Newest)
}
