package deltalake

import (
	"context"
	"errors"
	"fmt"
	"sort"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
)

// upkeep does what a commit makes due: log compaction, and a Delta checkpoint at
// every interval.
func (t *Table) upkeep(ctx context.Context, s *Snapshot) error {
	if s.version <= 0 {
		return nil
	}
	interval, fixed := int64(10), false
	if v := s.metadata.Configuration["delta.checkpointInterval"]; v != "" {
		n, err := strconv.ParseInt(v, 10, 64)
		if err != nil || n < 1 {
			return fmt.Errorf("deltalake: property delta.checkpointInterval = %q is not a positive number", v)
		}
		interval, fixed = n, true
	}
	if !fixed {
		// A checkpoint costs in proportion to the files; large tables take fewer.
		interval = max(interval, int64(s.files.len()+s.removes.len())/20_000*10)
	}
	err := t.maybeCompactLog(ctx, s)
	if s.version%interval != 0 {
		return err
	}
	if cerr := t.WriteCheckpoint(ctx, s); cerr != nil {
		return errors.Join(err, cerr)
	}
	return errors.Join(err, t.maybeCleanLog(ctx, s))
}

// CheckpointOptions configures how a Delta checkpoint is written. A zero field
// means its default. Only tables with delta.checkpointPolicy = v2 take the V2 form;
// the others get one classic file.
type CheckpointOptions struct {
	// SidecarFiles is how many file actions one sidecar holds. A V2 checkpoint of
	// no more has none: all is in its head, one read. 100,000
	SidecarFiles int
	JSON         bool // the head of a V2 checkpoint with sidecars is JSON, not Parquet
}

const defaultSidecarFiles = 100_000

// WriteCheckpoint writes a Delta checkpoint of the snapshot's version and points
// _last_checkpoint at it, so that opening the table reads no older commit. Beside
// the snapshot it holds one row group in memory.
func (t *Table) WriteCheckpoint(ctx context.Context, s *Snapshot) error {
	return t.WriteCheckpointWith(ctx, s, CheckpointOptions{})
}

// WriteCheckpointWith is WriteCheckpoint with options.
func (t *Table) WriteCheckpointWith(ctx context.Context, s *Snapshot, o CheckpointOptions) error {
	if err := s.protocol.checkWrite(); err != nil {
		return err
	}
	oldest := t.opts.Now().Add(-s.tombstoneRetention()).UnixMilli()
	removes := make([]*RemoveFile, 0)
	for rm := range s.removes.all() {
		if rm.DeletionTimestamp > oldest {
			removes = append(removes, rm)
		}
	}
	sort.Slice(removes, func(i, j int) bool { return removes[i].Path < removes[j].Path })
	w, err := t.newCheckpointWriter(ctx, s, int64(s.files.len()+len(removes)), o)
	if err != nil {
		return err
	}
	if w.perFile == 0 {
		if err := w.files(&s.files); err != nil {
			return w.abort(err)
		}
	} else {
		for a := range s.files.all() {
			if err := w.add(a); err != nil {
				return w.abort(err)
			}
		}
	}
	for _, rm := range removes {
		if err := w.remove(rm); err != nil {
			return w.abort(err)
		}
	}
	return w.finish()
}

// checkpointWriter writes the files of one Delta checkpoint as the actions come:
// file actions to the head or to sidecars, the others at the end.
type checkpointWriter struct {
	t       *Table
	ctx     context.Context
	s       *Snapshot // version, protocol, metadata, applications, domains; its files are not used
	v2      bool
	json    bool
	perFile int // file actions of a sidecar; 0 without sidecars

	path     string // of the head
	out      ObjectWriter
	rows     *checkpointRows // of the file that takes file actions
	sidecar  string          // open one
	sidecars []sidecar
	adds     int64
	actions  int64
	bytes    int64
}

// newCheckpointWriter starts a checkpoint; files is how many file actions are to
// come, at most.
func (t *Table) newCheckpointWriter(ctx context.Context, s *Snapshot, files int64, o CheckpointOptions) (*checkpointWriter, error) {
	if o.SidecarFiles < 0 {
		return nil, fmt.Errorf("deltalake: SidecarFiles %d is negative", o.SidecarFiles)
	}
	if o.SidecarFiles == 0 {
		o.SidecarFiles = defaultSidecarFiles
	}
	w := &checkpointWriter{t: t, ctx: ctx, s: s, path: fmt.Sprintf("%s%020d.checkpoint.parquet", logDir, s.version)}
	w.v2 = s.metadata.Configuration["delta.checkpointPolicy"] == "v2" && s.protocol.hasWriter("v2Checkpoint")
	if w.v2 {
		kind := "parquet"
		if files > int64(o.SidecarFiles) {
			w.perFile = o.SidecarFiles
			if w.json = o.JSON; w.json {
				kind = "json"
			}
		}
		w.path = fmt.Sprintf("%s%020d.checkpoint.%s.%s", logDir, s.version, uuid.NewString(), kind)
	}
	if w.perFile > 0 {
		return w, nil
	}
	return w, w.open(w.path, w.headFields())
}

func (w *checkpointWriter) headFields() []Field {
	if w.v2 {
		return append(readFields(), Col("checkpointMetadata", StructOf(Col("version", Of(KindLong)))))
	}
	return checkpointFields()
}

// open starts a Parquet file.
func (w *checkpointWriter) open(path string, fields []Field) error {
	out, err := w.t.store.Create(w.ctx, path)
	if err != nil {
		return fmt.Errorf("deltalake: checkpoint: %w", err)
	}
	w.out = out
	if w.rows, err = newCheckpointRows(out, fields); err != nil {
		return w.abort(err)
	}
	return nil
}

// close ends the open Parquet file and returns its size.
func (w *checkpointWriter) close() (int64, error) {
	size, err := w.rows.close()
	if err != nil {
		return 0, w.abort(err)
	}
	w.actions += w.rows.n
	w.bytes += size
	out := w.out
	w.out, w.rows = nil, nil
	if err := out.Close(); err != nil {
		return 0, fmt.Errorf("deltalake: checkpoint: %w", err)
	}
	return size, nil
}

// abort drops the open file. Sidecars that are done stay until CleanLog takes them
// for the orphans that they are.
func (w *checkpointWriter) abort(err error) error {
	err = fmt.Errorf("deltalake: checkpoint: %w", err)
	if w.out != nil {
		err = errors.Join(err, w.out.Abort())
		w.out = nil
	}
	return err
}

func (w *checkpointWriter) add(a *AddFile) error {
	w.adds++
	if err := w.room(); err != nil {
		return err
	}
	return w.rows.addFile(a)
}

func (w *checkpointWriter) remove(rm *RemoveFile) error {
	if err := w.room(); err != nil {
		return err
	}
	return w.rows.removeFile(rm)
}

// room sees to a file that takes a file action.
func (w *checkpointWriter) room() error {
	if w.perFile == 0 {
		return nil
	}
	if w.rows != nil && w.rows.n >= int64(w.perFile) {
		if err := w.endSidecar(); err != nil {
			return err
		}
	}
	if w.rows == nil {
		w.sidecar = uuid.NewString() + ".parquet"
		return w.open(sidecarDir+w.sidecar, checkpointFields()[1:3])
	}
	return nil
}

func (w *checkpointWriter) endSidecar() error {
	size, err := w.close()
	if err != nil {
		return err
	}
	sc := sidecar{Path: w.sidecar, SizeInBytes: size}
	if sc.ModificationTime, err = w.modified(sidecarDir + w.sidecar); err != nil {
		return err
	}
	w.sidecars = append(w.sidecars, sc)
	return nil
}

func (w *checkpointWriter) modified(path string) (int64, error) {
	info, err := w.t.store.Stat(w.ctx, path)
	if err != nil {
		return 0, fmt.Errorf("deltalake: checkpoint: %w", err)
	}
	return info.Modified.UnixMilli(), nil
}

// finish writes what is not of files, the head of a V2 checkpoint last of all, and
// points _last_checkpoint at it.
func (w *checkpointWriter) finish() error {
	if w.perFile > 0 && w.rows != nil {
		if err := w.endSidecar(); err != nil {
			return err
		}
	}
	plain := w.s.plainActions()
	if w.v2 {
		plain = append([]action{{CheckpointMetadata: &checkpointMetadata{Version: w.s.version}}}, plain...)
	}
	head := plain
	for i := range w.sidecars {
		head = append(head, action{Sidecar: &w.sidecars[i]})
	}
	before := w.bytes
	if w.json {
		data, err := encodeActions(head)
		if err != nil {
			return err
		}
		if err := w.t.store.Put(w.ctx, w.path, data); err != nil {
			return fmt.Errorf("deltalake: checkpoint: %w", err)
		}
		w.actions += int64(len(head))
		w.bytes += int64(len(data))
	} else {
		if w.rows == nil {
			if err := w.open(w.path, w.headFields()); err != nil {
				return err
			}
		}
		for i := range head {
			if err := w.rows.plain(&head[i]); err != nil {
				return w.abort(err)
			}
		}
		if _, err := w.close(); err != nil {
			return err
		}
	}
	return w.point(plain, w.bytes-before)
}

// maxHinted is how many actions of a kind _last_checkpoint repeats; it stays small.
const maxHinted = 30

// point makes _last_checkpoint name the checkpoint, unless it names a newer one.
func (w *checkpointWriter) point(plain []action, headBytes int64) error {
	if newest, err := readHint(w.ctx, w.t.store); err != nil || newest > w.s.version {
		return err
	}
	h := checkpointHint{Version: w.s.version, Size: w.actions, SizeInBytes: &w.bytes, NumOfAddFiles: &w.adds}
	if w.v2 {
		modified, err := w.modified(w.path)
		if err != nil {
			return err
		}
		h.V2 = &checkpointHintV2{Path: strings.TrimPrefix(w.path, logDir), SizeInBytes: headBytes, ModificationTime: modified}
		if len(plain) <= maxHinted && len(w.sidecars) <= maxHinted {
			h.V2.NonFileActions, h.V2.SidecarFiles = plain, append([]sidecar{}, w.sidecars...)
		}
	}
	hint, err := marshalPlain(h)
	if err != nil {
		return err
	}
	if err := w.t.store.Put(w.ctx, lastCheckpoint, hint); err != nil {
		return fmt.Errorf("deltalake: checkpoint: %w", err)
	}
	return nil
}

// plainActions lists the state that is not of files, in a stable order.
func (s *Snapshot) plainActions() []action {
	out := []action{{Protocol: s.protocol}, {Metadata: s.metadata}}
	for _, id := range sortedKeys(s.txns) {
		t := s.txns[id]
		out = append(out, action{Txn: &t})
	}
	for _, name := range sortedKeys(s.domains) {
		d := s.domains[name]
		out = append(out, action{Domain: &d})
	}
	return out
}

// tombstoneRetention is how long removed files are remembered and kept.
func (s *Snapshot) tombstoneRetention() time.Duration {
	if d, err := parseInterval(s.property("delta.deletedFileRetentionDuration", "")); err == nil {
		return d
	}
	return 7 * 24 * time.Hour
}

// parseInterval reads Spark's calendar intervals, such as "interval 7 days".
func parseInterval(text string) (time.Duration, error) {
	words := strings.Fields(strings.ToLower(text))
	if len(words) > 0 && words[0] == "interval" {
		words = words[1:]
	}
	if len(words) == 0 || len(words)%2 != 0 {
		return 0, fmt.Errorf("deltalake: %q is not an interval such as \"interval 7 days\"", text)
	}
	var total time.Duration
	for i := 0; i < len(words); i += 2 {
		n, err := strconv.ParseInt(words[i], 10, 64)
		unit, ok := map[string]time.Duration{"week": 7 * 24 * time.Hour, "day": 24 * time.Hour, "hour": time.Hour, "minute": time.Minute,
			"second": time.Second, "millisecond": time.Millisecond, "microsecond": time.Microsecond}[strings.TrimSuffix(words[i+1], "s")]
		if err != nil || !ok || n < 0 || n > 100_000_000_000 || time.Duration(n) > time.Duration(1<<62)/unit {
			return 0, fmt.Errorf("deltalake: %q is not an interval such as \"interval 7 days\"", text)
		}
		total += time.Duration(n) * unit
	}
	return total, nil
}
