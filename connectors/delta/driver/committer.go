package driver

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/weirstream/weir/dataflow"
	"github.com/weirstream/weir/deltalake"
	"github.com/weirstream/weir/internal/failpoint"
	"github.com/weirstream/weir/stream/spi"
)

// lookBack is how many commits are searched for the one that recorded an epoch.
const lookBack = 64

// commitTries bounds how often an epoch is tried again because the table's protocol
// or rules changed meanwhile.
const commitTries = 8

// A committer adds the files of an epoch in one commit.
type committer struct {
	*opened
	env   spi.Env
	app   string
	spec  *deltalake.FileSpec // layout of the table when it was opened, under the rules of ruled
	ruled *deltalake.Snapshot
	mine  dataflow.Epoch // newest epoch that this committer committed itself

	compactor *compactor // nil: nothing is compacted
}

// OpenCommitter opens or creates the table.
func (s Sink) OpenCommitter(ctx context.Context, env spi.Env) (spi.Committer, error) {
	o, err := s.open(ctx, env)
	if err != nil {
		return nil, err
	}
	c := &committer{opened: o, env: env, app: string(env.Pipeline) + "/" + string(env.Operator), spec: o.snap.FileSpec(), ruled: o.snap}
	if o.cfg.compact {
		c.compactor = newCompactor(o, env, s.clock())
	}
	return c, nil
}

// Check refuses to go on from an epoch that the table is ahead of.
func (c *committer) Check(ctx context.Context, restored dataflow.Epoch) error {
	snap, err := c.table.Refresh(ctx)
	if err != nil {
		return explain(c.cfg, err)
	}
	if failpoint.Off(failpoint.TxnCheck) {
		return nil
	}
	if have, ok := snap.TxnVersion(c.app); ok && have > int64(restored) {
		from := fmt.Sprintf("is restored from epoch %d", restored)
		if restored == 0 {
			from = "starts without a checkpoint (epoch 0)"
		}
		return fmt.Errorf("%s: table %q already holds epoch %d of %q, but the job %s: its rows would be missing or twice: restore a checkpoint of epoch %d or later, write to another table, or run under another --name: %w",
			who, c.cfg.path, have, c.app, from, have, spi.ErrStop)
	}
	return nil
}

// commitNote is what a commit says of itself in its user metadata, so that a
// repeat can tell its own commit from another job's.
type commitNote struct {
	Pipeline string `json:"pipeline"`
	Sink     string `json:"sink"`
	Epoch    uint64 `json:"epoch"`
	Files    string `json:"files"` // digest of the paths added
}

// Commit adds the files of an epoch, unless the table has the epoch already.
func (c *committer) Commit(ctx context.Context, epoch dataflow.Epoch, handles []dataflow.CommitHandle) (string, error) {
	var adds []*deltalake.AddFile
	var prepared []files
	rows, bytes := int64(0), int64(0)
	for _, h := range handles {
		var f files
		if err := json.Unmarshal(h.Data, &f); err != nil {
			return "", fmt.Errorf("%s: table %q: the files that subtask %d prepared in epoch %d cannot be read: %w: %w", who, c.cfg.path, h.Subtask, h.Epoch, err, spi.ErrStop)
		}
		adds, prepared = append(adds, f.Adds...), append(prepared, f)
		rows += f.Rows
	}
	if len(adds) == 0 {
		return "nothing to commit", nil
	}
	for _, a := range adds {
		bytes += a.Size
	}
	note := commitNote{string(c.env.Pipeline), string(c.env.Operator), uint64(epoch), digest(adds)}
	text, err := json.Marshal(note)
	if err != nil {
		return "", err
	}
	tx := deltalake.Commit{
		Operation: "STREAMING UPDATE", Parameters: map[string]string{"outputMode": "Append", "queryId": string(c.env.Pipeline), "epochId": strconv.FormatUint(uint64(epoch), 10)},
		Metrics:      map[string]string{"numAddedFiles": strconv.Itoa(len(adds)), "numOutputRows": strconv.FormatInt(rows, 10), "numOutputBytes": strconv.FormatInt(bytes, 10)},
		UserMetadata: string(text), AppID: c.app, AppVersion: int64(epoch), Adds: adds,
	}
	if failpoint.Off(failpoint.TxnCheck) {
		tx.AppID = ""
	}
	hit := []failpoint.Field{failpoint.Int("epoch", int64(epoch)), failpoint.Int("records", rows)}
	failpoint.Hit(failpoint.DeltaBeforePut, hit...)
	r, err := c.put(ctx, tx, prepared)
	if err != nil {
		return "", c.refused(epoch, err)
	}
	if r.AlreadyCommitted {
		return c.already(ctx, epoch, note, r)
	}
	failpoint.Hit(failpoint.DeltaAfterPut, hit...)
	c.mine = epoch
	if r.Upkeep != nil {
		c.env.Log.Warn("delta sink: upkeep of the table failed and is tried again", "table", c.cfg.path, "version", r.Version, "error", r.Upkeep)
	}
	if c.compactor != nil {
		c.compactor.added(adds)
	}
	return fmt.Sprintf("version %d", r.Version), nil
}

// put commits, and again where the table changed so that the files may still be
// added: another protocol, or a layout and rules that they fit.
func (c *committer) put(ctx context.Context, tx deltalake.Commit, prepared []files) (*deltalake.CommitResult, error) {
	for try := 1; ; try++ {
		var err error
		if tx.Spec, err = c.vouch(ctx, tx, prepared); err != nil {
			return nil, err
		}
		r, err := c.table.Commit(ctx, tx)
		var conflict *deltalake.ConflictError
		if err == nil || try == commitTries || !errors.As(err, &conflict) {
			return r, err
		}
		snap, rerr := c.table.Refresh(ctx)
		if rerr != nil {
			return nil, rerr
		}
		switch {
		case conflict.Class == deltalake.ProtocolChanged: // whether we can write the new one is for Commit to say
		case conflict.Class != deltalake.MetadataChanged:
			return nil, err
		case snap.Version() <= c.ruled.Version():
			if c.spec.Layout() == snap.FileSpec().Layout() {
				return nil, err
			}
			c.spec = snap.FileSpec() // the files were written for another: their rows decide
		default:
			if bad := ungenerated(snap.Schema().Fields, schemaOf(c.cols).Fields); len(bad) > 0 {
				return nil, fmt.Errorf("%w: %s", err, strings.Join(bad, "; "))
			}
			c.spec, c.ruled = c.spec.UnderRules(snap.FileSpec()), snap
		}
	}
}

// vouch returns the spec that the files fit. That is the one of the table as it was
// opened, under the rules that the rows are found to follow; but where files were
// written for another layout, all of them are compared with the newest table.
func (c *committer) vouch(ctx context.Context, tx deltalake.Commit, prepared []files) (*deltalake.FileSpec, error) {
	have, spec := termsOf(c.spec), c.spec
	var unsure []files
	for _, f := range prepared {
		if f.terms != have {
			unsure = append(unsure, f)
		}
		if f.Layout != have.Layout {
			spec = c.ruled.FileSpec()
		}
	}
	if len(unsure) == 0 {
		return spec, nil
	}
	snap, err := c.table.Refresh(ctx)
	if err != nil {
		return nil, err
	}
	if done, ok := snap.TxnVersion(c.app); ok && done >= tx.AppVersion && tx.AppID != "" {
		return spec, nil // a repeat: the files may be compacted and gone
	}
	if spec != c.spec {
		unsure = prepared
	}
	for _, f := range unsure {
		if err := c.table.CheckFiles(ctx, c.ruled, f.Adds); err != nil {
			return nil, err
		}
	}
	return spec, nil
}

// refused sorts errors of a commit: what a repeat cannot cure stops the job.
func (c *committer) refused(epoch dataflow.Epoch, err error) error {
	var conflict *deltalake.ConflictError
	var unsupported *deltalake.UnsupportedError
	var broken *deltalake.ConstraintError
	switch {
	case errors.As(err, &broken):
		return fmt.Errorf("%s: table %q: epoch %d cannot be committed, for its rows were written before the table got a rule that they break: %w: drop the rule, or restore a checkpoint of before and correct the rows: %w", who, c.cfg.path, epoch, err, spi.ErrStop)
	case errors.As(err, &conflict) && conflict.Class != deltalake.ProtocolChanged, errors.As(err, &unsupported):
		return fmt.Errorf("%s: table %q: epoch %d cannot be committed, for the table was changed since its files were written: %w: undo the change, or restore an older checkpoint: %w", who, c.cfg.path, epoch, err, spi.ErrStop)
	}
	return explain(c.cfg, err)
}

// already handles an epoch that the table has: a repeat of ours is fine, another
// job under our name is not.
func (c *committer) already(ctx context.Context, epoch dataflow.Epoch, note commitNote, r *deltalake.CommitResult) (string, error) {
	have, _ := r.Snapshot.TxnVersion(c.app)
	if have > int64(epoch) && dataflow.Epoch(have) > c.mine {
		return "", c.twoJobs(fmt.Sprintf("has epoch %d while this job commits epoch %d", have, epoch))
	}
	history, err := c.table.History(ctx, lookBack)
	if err != nil {
		return "", explain(c.cfg, err)
	}
	for _, h := range history {
		var other commitNote
		if json.Unmarshal([]byte(h.Info.UserMetadata), &other) != nil || other.Epoch != note.Epoch || other.Pipeline != note.Pipeline || other.Sink != note.Sink {
			continue
		}
		if other != note {
			return "", c.twoJobs(fmt.Sprintf("has an epoch %d with other files, in version %d", epoch, h.Version))
		}
		c.mine = max(c.mine, epoch)
		return fmt.Sprintf("version %d", h.Version), nil
	}
	return fmt.Sprintf("version %d or before", r.Version), nil
}

func (c *committer) twoJobs(what string) error {
	return fmt.Errorf("%s: table %q %s: another job writes it as %q too: give one of them another name (--name): %w", who, c.cfg.path, what, c.app, spi.ErrStop)
}

// digest identifies a set of files.
func digest(adds []*deltalake.AddFile) string {
	paths := make([]string, len(adds))
	for i, a := range adds {
		paths[i] = a.Path
	}
	slices.Sort(paths)
	h := sha256.New()
	for _, p := range paths {
		h.Write([]byte(p))
		h.Write([]byte{0})
	}
	return hex.EncodeToString(h.Sum(nil)[:16])
}

// Close ends the compaction at hand; what it did not commit is dropped.
func (c *committer) Close() error {
	if c.compactor != nil {
		c.compactor.close()
	}
	return nil
}
