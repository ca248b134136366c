package driver

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"unsafe"

	"github.com/weirstream/weir/dataflow"
	"github.com/weirstream/weir/deltalake"
	"github.com/weirstream/weir/internal/clock"
	"github.com/weirstream/weir/internal/codec"
	"github.com/weirstream/weir/internal/failpoint"
	"github.com/weirstream/weir/stream/spi"
)

const (
	runRows   = 1024    // rows converted between two looks at the room
	batchRows = 8192    // rows at which a batch goes to the filer
	batchData = 4 << 20 // bytes of one column at which it does
)

// Sink is the spi.SinkDriver of kind "delta". The zero value keeps tables in
// folders.
type Sink struct {
	// Store opens the store of a table that is not a folder of this machine; nil
	// refuses such.
	Store func(ctx context.Context, location string, settings map[string]string) (deltalake.Store, error)
	Clock clock.Clock // of compactions; the wall clock
}

func (s Sink) clock() clock.Clock {
	if s.Clock == nil {
		return clock.Wall()
	}
	return s.Clock
}

// Check refuses unknown options, wrong types and paths that cannot be resolved.
func (s Sink) Check(c dataflow.Connector, settings map[string]string) error {
	_, err := read(c, settings)
	return err
}

// store opens the store at the declared place.
func (s Sink) store(ctx context.Context, cfg *config, settings map[string]string) (deltalake.Store, error) {
	folder, isFile := strings.CutPrefix(cfg.location, "file://")
	if isFile || !strings.Contains(cfg.location, "://") {
		return deltalake.NewFolderStore(folder), nil
	}
	if s.Store == nil {
		scheme, _, _ := strings.Cut(cfg.location, "://")
		return nil, fmt.Errorf("%s: table %q is in a %s:// store, but this worker opens folders only", who, cfg.path, scheme)
	}
	st, err := s.Store(ctx, cfg.location, settings)
	if err != nil {
		return nil, fmt.Errorf("%s: table %q: %w", who, cfg.path, err)
	}
	return st, nil
}

// opened is a table that fits the rows.
type opened struct {
	cfg   *config
	table *deltalake.Table
	snap  *deltalake.Snapshot
	cols  []codec.Column
}

// open creates or opens the table and refuses rows that do not fit it.
func (s Sink) open(ctx context.Context, env spi.Env) (*opened, error) {
	cfg, err := read(env.Connector, env.Settings)
	if err != nil {
		return nil, err
	}
	cols, err := codec.Columns(env.Elem)
	if err != nil {
		return nil, fmt.Errorf("%s: table %q: %w", who, cfg.path, err)
	}
	schema := schemaOf(cols)
	for _, p := range cfg.partitionBy {
		if columnFor(cols, p) == nil {
			return nil, fmt.Errorf("%s: table %q: partition_by names %q, which rows of %v do not have", who, cfg.path, p, env.Elem)
		}
	}
	store, err := s.store(ctx, cfg, env.Settings)
	if err != nil {
		return nil, err
	}
	t, err := deltalake.Create(ctx, store, deltalake.CreateOptions{
		Schema: schema, PartitionColumns: cfg.partitionBy, Properties: cfg.properties, Name: cfg.name, Description: cfg.description,
		IfNotExists: true, Table: deltalake.TableOptions{Engine: "weir", NoAutoCompact: true},
	})
	if err != nil {
		return nil, explain(cfg, err)
	}
	o := &opened{cfg: cfg, table: t, cols: cols}
	if o.snap, err = t.Refresh(ctx); err != nil {
		return nil, explain(cfg, err)
	}
	cfg.settle(o.snap)
	return o, o.fit(ctx, env, schema)
}

// fit brings schema and table together, or says why they are not.
func (o *opened) fit(ctx context.Context, env spi.Env, schema *deltalake.Schema) (err error) {
	have := o.snap.Metadata().PartitionColumns
	if len(o.cfg.partitionBy) > 0 && !slices.EqualFunc(have, o.cfg.partitionBy, strings.EqualFold) {
		return fmt.Errorf("%s: table %q is partitioned by [%s], the job says [%s]: correct partition_by, or write to a new table", who, o.cfg.path, strings.Join(have, ", "), strings.Join(o.cfg.partitionBy, ", "))
	}
	if bad := ungenerated(o.snap.Schema().Fields, schema.Fields); len(bad) > 0 {
		return fmt.Errorf("%s: table %q cannot be written by a job: %s", who, o.cfg.path, strings.Join(bad, "; "))
	}
	if o.cfg.merge && len(mismatches(o.snap.Schema().Fields, schema.Fields, "")) > 0 {
		if o.snap, err = o.table.EvolveSchema(ctx, schema); err != nil {
			return explain(o.cfg, err)
		}
	}
	if bad := mismatches(o.snap.Schema().Fields, schema.Fields, ""); len(bad) > 0 {
		cure := "change the rows, or write to a new table"
		if !o.cfg.merge && slices.ContainsFunc(bad, func(s string) bool { return strings.HasSuffix(s, "is not in the table") }) {
			cure = "set merge_schema to add columns, or change the rows"
		}
		return fmt.Errorf("%s: table %q does not fit rows of %v: %s: %s", who, o.cfg.path, env.Elem, strings.Join(bad, "; "), cure)
	}
	if diff := o.cfg.differing(o.snap.Metadata().Configuration); len(diff) > 0 {
		env.Log.Warn("delta sink: the table exists already and keeps its own properties", "table", o.cfg.path, "differing", diff)
	}
	return nil
}

// A writer is the spi.Writer of one subtask.
type writer struct {
	env     spi.Env
	cfg     *config
	cancel  context.CancelFunc
	filer   *filer
	split   *splitter // nil: the table is not partitioned
	whole   *part     // of a table that is not partitioned
	fillers []filler
	touched []*part
	index   []int32 // 0, 1, 2, ...
	ctx     context.Context

	held   []*deltalake.AddFile // closed, waiting for commit_interval; owned by the filer after Start
	enough atomic.Bool          // more waiting would not make files larger
	since  int64                // processing time at which rows began to wait; 0: none do
	terms  terms                // of all of held and of open files; as held
	fresh  terms                // of the files to come
	late   bool                 // the next Prepare is due: rows have gone without a tail
}

// writerState is what a writer keeps in the checkpoint.
type writerState struct {
	Held  []*deltalake.AddFile `json:"held,omitempty"` // hold the rows that wait for commit_interval: closed files, and tails of open ones
	Since int64                `json:"since,omitempty"`
	terms
}

// heldFiles is how many files a writer's state holds at most, or nearly.
const heldFiles = 1000

// files is a commit handle.
type files struct {
	Adds []*deltalake.AddFile `json:"adds"`
	Rows int64                `json:"rows"`
	terms
}

// terms are what files were written for. Those of an older version of this program
// have no layout, which is no table's.
type terms struct {
	Rules  string `json:"rules,omitempty"`  // that the rows were checked against, as deltalake.FileSpec.Rules tells
	Layout string `json:"layout,omitempty"` // as deltalake.FileSpec.Layout tells
}

func termsOf(s *deltalake.FileSpec) terms { return terms{s.Rules(), s.Layout()} }

// mixedTerms are those of files that were written for different tables, so to speak.
var mixedTerms = terms{"mixed", "mixed"}

// OpenWriter opens or creates the table, refuses what does not fit it, and makes
// the writer of one subtask.
func (s Sink) OpenWriter(ctx context.Context, env spi.Env, restored map[int][]byte) (spi.Writer, error) {
	o, err := s.open(ctx, env)
	if err != nil {
		return nil, err
	}
	if err := probe(ctx, o); err != nil {
		return nil, err
	}
	spec := o.snap.FileSpec()
	w := &writer{env: env, cfg: o.cfg, terms: termsOf(spec), fresh: termsOf(spec)}
	for i := range spec.DataSchema().Fields {
		f := &spec.DataSchema().Fields[i]
		w.fillers = append(w.fillers, compile(columnFor(o.cols, f.Name), f.Type))
	}
	if len(spec.PartitionFields()) > 0 {
		if w.split, err = newSplitter(o.cols, spec.PartitionFields()); err != nil {
			return nil, err
		}
	} else {
		w.whole = &part{values: map[string]*string{}}
	}
	if err := w.restore(restored); err != nil {
		return nil, err
	}
	if err := w.present(ctx, o.table.Store()); err != nil {
		return nil, err
	}
	w.ctx, w.cancel = context.WithCancel(context.Background())
	w.filer = newFiler(w.ctx, o.cfg, o.table, spec, env.Wake, env.Count)
	return w, nil
}

// probe writes a file and drops it, to find a read-only place before the first
// epoch does.
func probe(ctx context.Context, o *opened) error {
	f, err := o.table.Store().Create(ctx, "_weir_probe-"+o.snap.Metadata().ID)
	if err == nil {
		_, err = f.Write([]byte("weir"))
		err = errors.Join(err, f.Abort())
	}
	if err != nil {
		return explain(o.cfg, err)
	}
	return nil
}

// restore takes up files that former subtasks held back.
func (w *writer) restore(restored map[int][]byte) error {
	for former, b := range restored {
		if former%w.env.Parallelism != w.env.Index || len(b) == 0 {
			continue
		}
		var st writerState
		if err := json.Unmarshal(b, &st); err != nil {
			return fmt.Errorf("%s: table %q: restored state of subtask %d is damaged: %w", who, w.cfg.path, former, err)
		}
		w.held = append(w.held, st.Held...)
		if len(st.Held) > 0 && st.terms != w.fresh {
			w.terms = mixedTerms
		}
		if w.since == 0 || st.Since != 0 && st.Since < w.since {
			w.since = st.Since
		}
	}
	slices.SortFunc(w.held, func(a, b *deltalake.AddFile) int { return strings.Compare(a.Path, b.Path) })
	return nil
}

// present refuses to go on from files that are gone: to commit them would break the
// table.
func (w *writer) present(ctx context.Context, store deltalake.Store) error {
	var bytes int64
	for _, a := range w.held {
		path, err := url.PathUnescape(a.Path)
		if err == nil {
			_, err = store.Stat(ctx, path)
		}
		if errors.Is(err, deltalake.ErrNotFound) {
			return fmt.Errorf("%s: table %q: the restored checkpoint holds rows that wait in %s, and that file is gone (a vacuum may have removed it): restore another checkpoint", who, w.cfg.path, a.Path)
		}
		if err != nil {
			return explain(w.cfg, err)
		}
		bytes += a.Size
	}
	w.enough.Store(bytes >= w.cfg.fileSize || len(w.held) >= heldFiles)
	return nil
}

// Start has nothing to wait for.
func (w *writer) Start(context.Context) error { return nil }

// Write copies rows into column vectors and hands full ones to the filer.
func (w *writer) Write(b spi.Batch, from int) (consumed int, err error) {
	if err := w.filer.failed(); err != nil {
		return 0, err
	}
	if w.since == 0 && from < b.Len() {
		w.since = max(1, w.env.Now())
	}
	for from < b.Len() && !w.filer.full() {
		n := min(runRows, b.Len()-from)
		if err := w.run(b, from, n); err != nil {
			return consumed, err
		}
		from += n
		consumed += n
	}
	return consumed, nil
}

// run copies n rows.
func (w *writer) run(b spi.Batch, from, n int) error {
	for len(w.index) < n {
		w.index = append(w.index, int32(len(w.index)))
	}
	rows := rowsAt{size: b.Elem().Size(), at: w.index[:n]}
	rows.base = unsafe.Add(b.Base(), uintptr(from)*rows.size)
	if w.split == nil {
		return w.copy(w.whole, &rows)
	}
	touched := w.touched[:0]
	for i := range n {
		p, err := w.split.find(rows.row(i))
		if err != nil {
			return err
		}
		if len(p.rows) == 0 {
			touched = append(touched, p)
		}
		p.rows = append(p.rows, int32(i))
	}
	w.touched = touched
	for _, p := range touched {
		if err := w.take(p, &rows); err != nil {
			return err
		}
	}
	if w.split.waiting() > w.cfg.buffer {
		tail := w.wantsTail()
		w.spill(w.split.waiting()-w.cfg.buffer/2, command{tail: tail})
	}
	return nil
}

// take lets the rows of one part wait.
func (w *writer) take(p *part, rows *rowsAt) error {
	rows.at = p.rows
	defer func() { p.rows = p.rows[:0] }()
	if p.batch != nil || len(rows.at) >= ownRows {
		err := w.copy(p, rows)
		w.split.counted(p)
		return err
	}
	if w.split.mixed == nil {
		w.split.mixed = w.filer.batch()
	}
	for i, fill := range w.fillers {
		if err := fill(w.split.mixed.Columns[i], rows); err != nil {
			return err
		}
	}
	w.split.mixed.Len += len(rows.at)
	for range rows.at {
		w.split.owners = append(w.split.owners, p)
	}
	return nil
}

// copy appends rows to the batch of a part.
func (w *writer) copy(p *part, rows *rowsAt) error {
	if p.batch == nil {
		p.batch = w.filer.batch()
	}
	large := false
	for i, fill := range w.fillers {
		v := p.batch.Columns[i]
		if err := fill(v, rows); err != nil {
			return err
		}
		large = large || len(v.Data) >= batchData
	}
	p.batch.Len += len(rows.at)
	if large || p.batch.Len >= batchRows {
		w.flush(command{part: p, tail: w.wantsTail()})
	}
	return nil
}

// wantsTail tells whether rows that go to a file now need a tail, for the file may
// outlive the epoch.
func (w *writer) wantsTail() bool {
	tail := !w.due(false)
	w.late = w.late || !tail
	return tail
}

// spill hands rows of about so many bytes to the filer, of parts with most of them.
func (w *writer) spill(bytes int64, c command) {
	parts, sizes := w.split.sort()
	mixed := w.split.mixed
	for len(parts) > 0 && bytes > 0 {
		p := parts[0]
		if len(p.rows) > 0 {
			if p.batch == nil {
				p.batch = w.filer.batch()
			}
			p.batch.Gather(mixed, p.rows)
			p.rows = nil
		}
		c.part = p
		w.flush(c)
		bytes -= sizes[0]
		parts, sizes = parts[1:], sizes[1:]
	}
	w.split.keep(parts)
	w.split.tidy()
}

// flush hands a part's rows to the filer as the command says.
func (w *writer) flush(c command) {
	p := c.part
	if p.batch == nil || p.batch.Len == 0 {
		return
	}
	c.batch, p.batch = p.batch, nil
	w.filer.send(c)
	if w.split != nil {
		w.split.counted(p)
	}
}

// due tells whether the next Prepare is to hand everything over.
func (w *writer) due(last bool) bool {
	return last || w.cfg.interval == 0 || w.late || w.enough.Load() || w.since != 0 && w.env.Now()-w.since >= w.cfg.interval.Microseconds()
}

// Prepare makes the rows durable. With the first epoch after commit_interval, with
// the last, and when there is enough for a file, all files are closed and handed to
// the committer; until then files stay open, and the writer's state names what holds
// their rows.
func (w *writer) Prepare(epoch dataflow.Epoch, last bool, done func(spi.Prepared, error)) {
	since, due := w.since, w.due(last)
	if w.split == nil {
		w.flush(command{part: w.whole, tail: !due, seal: due})
	} else {
		w.spill(math.MaxInt64, command{tail: !due, seal: due})
	}
	if due {
		w.since, w.late = 0, false
		w.enough.Store(false)
	}
	w.filer.send(command{seal: due, answer: func(r filed, err error) {
		if err != nil {
			done(spi.Prepared{}, err)
			return
		}
		if r.rows > 0 {
			failpoint.Hit(failpoint.DeltaFilesClosed, failpoint.Int("epoch", int64(epoch)), failpoint.Int("records", r.rows))
		}
		done(w.prepared(r, due, since))
	}})
}

// prepared decides between handing over and holding back; it runs on the filer.
func (w *writer) prepared(r filed, due bool, since int64) (p spi.Prepared, err error) {
	w.held = append(w.held, r.adds...)
	if !due {
		bytes := int64(0)
		for _, a := range w.held {
			bytes += a.Size
		}
		if bytes >= w.cfg.fileSize || len(w.held)+len(r.tails) >= heldFiles {
			w.enough.Store(true)
		}
		p.Writer, err = json.Marshal(writerState{Held: slices.Concat(w.held, r.tails), Since: since, terms: w.terms})
		return p, err
	}
	if len(w.held) > 0 {
		var rows int64 // with what earlier epochs kept back
		for _, a := range w.held {
			n, _ := a.NumRecords()
			rows += n
		}
		var h []byte
		if h, err = json.Marshal(files{Adds: w.held, Rows: rows, terms: w.terms}); err != nil {
			return p, err
		}
		p.Handles = [][]byte{h}
	}
	w.held, w.terms = nil, w.fresh
	return p, nil
}

// Finished needs nothing: the files belong to the table.
func (w *writer) Finished(dataflow.Epoch) {}

// Close drops the files that were not prepared.
func (w *writer) Close() error {
	w.cancel()
	w.filer.stop()
	return nil
}
