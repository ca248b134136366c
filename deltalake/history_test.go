package deltalake

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// step is one operation of a history: enough to do it to the model and to have it
// done by any writer.
type step struct {
	op         string
	where      *cond
	rows       [][]any
	schema     *Schema // of rows
	merge      bool    // append: rows bring columns that the table lacks
	dynamic    bool    // overwrite: only the partitions written to
	set        []assignment
	keys       []string // of a merge
	clauses    []clause
	zorder     []string
	lite       bool
	version    int64
	name, to   string
	typ        *Type
	key, value string

	filled  [][]any  // append: what rows become that lack columns which the table fills
	part    []string // overwrite schema: stays so
	from    int64    // compact log
	refused bool     // every writer must refuse it
}

// command is the step as testdata/interop.py and spark.py read it.
func (st *step) command(dir string) map[string]any {
	c := map[string]any{"cmd": st.op, "path": dir, "zorder": st.zorder, "lite": st.lite, "version": st.version, "name": st.name, "to": st.to, "key": st.key, "value": st.value}
	if st.where != nil {
		c["where"] = st.where.text
	}
	if st.schema != nil {
		c["rows"], c["schema"], c["merge"], c["dynamic"] = rowsJSON(st.schema, st.rows), st.schema, st.merge, st.dynamic
	}
	if st.typ != nil {
		c["type"] = st.typ.String()
	}
	if st.op == "overwrite schema" {
		c["partition"] = append([]string{}, st.part...)
	}
	c["fill"] = st.filled != nil
	sets := func(set []assignment) map[string]string {
		out := map[string]string{}
		for _, s := range set {
			out[s.col] = s.text
		}
		return out
	}
	if st.set != nil {
		c["set"] = sets(st.set)
	}
	if st.op == "merge" {
		var on []string
		for _, k := range st.keys {
			on = append(on, fmt.Sprintf("t.%s = s.%s", k, k))
		}
		c["on"] = strings.Join(on, " AND ")
		var list []map[string]any
		for _, cl := range st.clauses {
			m := map[string]any{"action": cl.action}
			if cl.cond != nil {
				m["if"] = cl.cond.text
			}
			if cl.set != nil {
				m["set"] = sets(cl.set)
			}
			list = append(list, m)
		}
		c["clauses"] = list
	}
	return c
}

func rowsJSON(s *Schema, rows [][]any) [][]any {
	out := make([][]any, 0, len(rows))
	for _, r := range rows {
		out = append(out, padded(s, r))
	}
	return out
}

// history is one table that several writers change in turn.
type history struct {
	t      *testing.T
	tools  *tools
	rng    *rand.Rand
	dir    string
	feats  map[string]bool // features that the table makes use of
	part   []string
	states []state // by version
	firm   int64   // versions from here on must be readable
	next   int64   // id of the next row
	feed   int64   // version since which there is a change feed
	cloned bool    // the table is a shallow clone
	done   []string
}

func (h *history) now() state { return h.states[len(h.states)-1] }

func (h *history) fatalf(format string, args ...any) {
	h.t.Helper()
	h.t.Fatalf("%s\ntable %s, features %v, partitioned by %v:\n  %s", fmt.Sprintf(format, args...), h.dir, slices.Sorted(maps.Keys(h.feats)), h.part, strings.Join(h.done, "\n  "))
}

func (h *history) chance(percent int) bool { return h.rng.IntN(100) < percent }

func pick[T any](h *history, list ...T) T { return list[h.rng.IntN(len(list))] }

// apply does a step to the model and returns the state after it.
func (h *history) apply(st *step) state {
	s := h.now()
	switch st.op {
	case "append":
		rows := slices.Clone(s.rows)
		if st.merge {
			s.schema = st.schema
		}
		if st.filled != nil {
			s.rows = append(rows, st.filled...)
		} else {
			s.rows = append(rows, st.rows...)
		}
	case "overwrite":
		switch {
		case st.where != nil:
			s.rows = append(s.deleted(*st.where), st.rows...)
		case st.dynamic:
			s.rows = append(s.deleted(h.written(st)), st.rows...)
		default:
			s.rows = st.rows
		}
	case "delete":
		s.rows = s.deleted(*st.where)
	case "update":
		s.rows = s.updated(*st.where, st.set)
	case "merge":
		s.rows = s.merged(st.rows, st.keys, st.clauses)
	case "restore":
		s = h.states[st.version]
	case "add column":
		s.schema = NewSchema(append(slices.Clone(s.schema.Fields), Col(st.name, st.typ))...)
	case "widen", "rename":
		fields := slices.Clone(s.schema.Fields)
		i := s.schema.Index(st.name)
		if st.op == "widen" {
			fields[i].Type = st.typ
		} else {
			fields[i].Name = st.to
		}
		s.schema = NewSchema(fields...)
	case "drop":
		i := s.schema.Index(st.name)
		var rows [][]any
		for _, r := range s.rows {
			rows = append(rows, slices.Delete(padded(s.schema, r), i, i+1))
		}
		s.schema, s.rows = NewSchema(slices.Delete(slices.Clone(s.schema.Fields), i, i+1)...), rows
	case "constraint":
		s.checks++
	case "overwrite schema":
		s.schema, s.rows = st.schema, st.rows
	case "property":
		if st.name != "" {
			h.feats[st.name] = true
		}
		s.mapped = s.mapped || st.name == "columnMapping"
		if st.name == "changeDataFeed" {
			h.feed = int64(len(h.states))
		}
	}
	return s
}

// written is true for rows in the partitions that an overwrite writes to.
func (h *history) written(st *step) cond {
	return cond{"", func(get lookup) int {
		for _, r := range st.rows {
			same := true
			for _, p := range h.part {
				same = same && columnLookup(st.schema, r, "")(p) == get(p)
			}
			if same {
				return 1
			}
		}
		return 0
	}}
}

// changesRows tells whether more than one commit of the step would be a fault.
func (st *step) changesRows() bool {
	return slices.Contains([]string{"append", "overwrite", "overwrite schema", "delete", "update", "merge", "restore"}, st.op)
}

// logFiles lists the versions with a commit in JSON and those with a whole
// checkpoint, by the names alone.
func (h *history) logFiles() (commits, checkpoints []int64) {
	entries, err := os.ReadDir(filepath.Join(h.dir, "_delta_log"))
	if err != nil {
		h.fatalf("%v", err)
	}
	for _, e := range entries {
		v, rest, _ := strings.Cut(e.Name(), ".")
		n, err := strconv.ParseInt(v, 10, 64)
		switch {
		case err != nil:
		case rest == "json":
			commits = append(commits, n)
		case strings.HasPrefix(rest, "checkpoint.") && !strings.HasSuffix(rest, ".crc"):
			checkpoints = append(checkpoints, n)
		}
	}
	slices.Sort(commits)
	slices.Sort(checkpoints)
	return commits, checkpoints
}

// age makes the log two months old, so that a clean-up has something to do.
func (h *history) age() {
	old := time.Now().Add(-60 * 24 * time.Hour)
	entries, err := os.ReadDir(filepath.Join(h.dir, "_delta_log"))
	if err != nil {
		h.fatalf("%v", err)
	}
	for _, e := range entries {
		v, _, _ := strings.Cut(strings.TrimPrefix(e.Name(), "."), ".")
		if n, err := strconv.ParseInt(v, 10, 64); err == nil {
			at := old.Add(time.Duration(n) * time.Minute)
			if err := os.Chtimes(filepath.Join(h.dir, "_delta_log", e.Name()), at, at); err != nil {
				h.fatalf("%v", err)
			}
		}
	}
}

// run lets the turn's writer do a step, and notes what versions it made.
func (h *history) run(st *step, writer string) {
	h.t.Helper()
	before := int64(len(h.states)) - 1
	if st.op == "cleanup" {
		h.age()
	}
	had, _ := h.logFiles()
	raw, err := json.Marshal(st.command(h.dir))
	if err != nil {
		h.fatalf("%v", err)
	}
	h.done = append(h.done, fmt.Sprintf("after %d: %s %s", before, writer, raw))
	err = h.tools.do(h.t, writer, h.dir, st)
	if st.refused {
		if now, _ := h.logFiles(); err == nil || now[len(now)-1] != before {
			h.fatalf("%s did not refuse the rows of %s, but answered: %v", writer, st.op, err)
		}
		return
	}
	if err != nil {
		h.fatalf("%s %s: %v", writer, st.op, err)
	}
	if st.op == "clone" {
		h.clone(st)
		return
	}
	commits, checkpoints := h.logFiles()
	last := commits[len(commits)-1]
	if last > before+1 && st.changesRows() {
		h.fatalf("%s %s made %d commits", writer, st.op, last-before)
	}
	after := h.apply(st)
	if last == before && (len(after.rows) != len(h.now().rows) || after.schema != h.now().schema) {
		h.fatalf("%s %s made no commit", writer, st.op)
	}
	for range last - before {
		h.states = append(h.states, after)
	}
	if st.op == "vacuum" {
		h.firm = last // older versions may have lost files
	}
	// Writers clean up on their own too, after a checkpoint.
	if gone := len(had) + int(last-before) - len(commits); gone > 0 {
		h.tools.count["log files cleaned up by "+writer] += gone
		h.firm = max(h.firm, checkpoints[len(checkpoints)-1])
	}
}

// check compares every version as every tool reads it with the model.
func (h *history) check() {
	h.t.Helper()
	var versions []int64
	for v := range h.states {
		versions = append(versions, int64(v))
	}
	for _, reader := range h.tools.names {
		if why := h.cannotRead(reader); why != "" {
			h.tools.count["not read: "+why]++
			continue
		}
		for _, a := range h.tools.read(h.t, reader, h.dir, versions) {
			want := h.states[a.Version]
			if a.Error != "" {
				if a.Version >= h.firm {
					h.fatalf("%s cannot read version %d: %s", reader, a.Version, a.Error)
				}
				h.tools.count["old versions refused by "+reader]++
				continue
			}
			var names []string
			for _, f := range want.schema.Fields {
				names = append(names, f.Name)
			}
			if !slices.Equal(names, a.Columns) {
				h.fatalf("version %d: %s reads columns %v, want %v", a.Version, reader, a.Columns, names)
			}
			var got []string
			for _, r := range a.Rows {
				got = append(got, string(canonicalRow(want.schema, r)))
			}
			if d := rowDiff(got, want.texts()); d != "" {
				h.fatalf("version %d as %s reads it: %s", a.Version, reader, d)
			}
			h.tools.count["versions equal by "+reader]++
		}
	}
}

// checkFeed compares the change feed, as every tool reads it, with the model: what
// a version removed and added makes of the rows before it those after it.
func (h *history) checkFeed() {
	h.t.Helper()
	from, to := max(h.firm, h.feed)+1, int64(len(h.states))-1
	if !h.feats["changeDataFeed"] || from > to {
		return
	}
	schema := h.now().schema
	for _, s := range h.states[from-1:] {
		if s.schema != schema {
			h.tools.count["feeds not compared: the schema changes"]++
			return
		}
	}
	for _, reader := range h.tools.names {
		if why := h.cannotReadFeed(reader); why != "" {
			h.tools.count["feed not read: "+why]++
			continue
		}
		a, err := h.tools.feed(h.t, reader, h.dir, from, to)
		if err != nil {
			h.fatalf("%s cannot read the changes from %d to %d: %v", reader, from, to, err)
		}
		at := func(row []any, name string) any { return row[slices.Index(a.Columns, name)] }
		for v := from; v <= to; v++ {
			got := h.states[v-1].texts()
			for _, r := range a.Rows {
				if fmt.Sprint(at(r, CommitVersion)) != fmt.Sprint(v) {
					continue
				}
				var row []any
				for _, f := range schema.Fields {
					row = append(row, at(r, f.Name))
				}
				text := string(canonicalRow(schema, row))
				switch kind := at(r, ChangeType); kind {
				case "insert", "update_postimage":
					got = append(got, text)
				default:
					i := slices.Index(got, text)
					if i < 0 {
						h.fatalf("changes of version %d as %s reads them: %v of a row that was not there: %s", v, reader, kind, text)
					}
					got = slices.Delete(got, i, i+1)
				}
			}
			if d := rowDiff(got, h.states[v].texts()); d != "" {
				h.fatalf("changes of version %d as %s reads them lead to %s", v, reader, d)
			}
			h.tools.count["versions of a feed equal by "+reader]++
		}
	}
}

// writer is whose turn it is: the next one that can do the step.
func (h *history) writer(turn int, st *step) string {
	for k := range h.tools.names {
		name := h.tools.names[(turn+k)%len(h.tools.names)]
		why := h.cannot(name, st)
		if why == "" {
			return name
		}
		h.tools.count[fmt.Sprintf("%s's turn given away: %s", name, why)]++
	}
	return ""
}

// randomHistory makes one history and checks it.
func randomHistory(t *testing.T, tools *tools, seed uint64) {
	t.Helper()
	h := &history{t: t, tools: tools, rng: rand.New(rand.NewPCG(seed, 7)), dir: filepath.Join(t.TempDir(), "table"), feats: map[string]bool{}}
	turn := h.rng.IntN(3)
	h.birth(turn)
	first := &step{op: "append", schema: h.now().schema, rows: h.fresh(h.now().schema, 8)}
	h.run(first, h.writer(turn+1, first))
	steps := 5 + h.rng.IntN(4)
	for n := 0; n < steps; {
		st := h.plan()
		if st == nil {
			continue
		}
		writer := h.writer(turn+n, st)
		if writer == "" {
			continue
		}
		h.run(st, writer)
		what := st.op
		if st.refused {
			what = "refused " + what
		}
		tools.count[fmt.Sprintf("%s by %s", what, writer)]++
		n++
	}
	h.check()
	h.checkFeed()
	for f := range h.feats {
		tools.count["tables with "+f]++
	}
}

// TestHistories lets us, delta-rs and Spark change tables of random features in
// turn, and compares every version, as each of them reads it, with a model.
func TestHistories(t *testing.T) {
	if testing.Short() {
		t.Skip("SKIPPED: histories with other writers, in short mode")
	}
	histories, seed := 6, uint64(1)
	if n, err := strconv.Atoi(os.Getenv("WEIR_INTEROP_HISTORIES")); err == nil {
		histories = n
	}
	if n, err := strconv.ParseUint(os.Getenv("WEIR_INTEROP_SEED"), 10, 64); err == nil {
		seed = n
	}
	tools := startTools(t)
	began := time.Now()
	ran := 0
	for i := range histories {
		ok := t.Run(fmt.Sprintf("seed%d", seed+uint64(i)), func(t *testing.T) { randomHistory(t, tools, seed+uint64(i)) })
		ran++
		if !ok && os.Getenv("WEIR_INTEROP_GO_ON") == "" {
			break
		}
		if limit, err := time.ParseDuration(os.Getenv("WEIR_INTEROP_FOR")); err == nil && time.Since(began) > limit {
			break
		}
		if ran%10 == 0 {
			t.Logf("%d histories in %v", ran, time.Since(began).Round(time.Second))
		}
	}
	t.Logf("%d of %d histories by %s from seed %d in %v (WEIR_INTEROP_HISTORIES, WEIR_INTEROP_SEED, WEIR_INTEROP_FOR, WEIR_INTEROP_GO_ON)", ran, histories, strings.Join(tools.names, ", "), seed, time.Since(began).Round(time.Second))
	for _, k := range slices.Sorted(maps.Keys(tools.count)) {
		t.Logf("%6d %s", tools.count[k], k)
	}
	for _, n := range tools.names {
		t.Logf("%8v in %s", tools.spent[n].Round(time.Millisecond), n)
	}
}

// doOurs does a step with this package.
func doOurs(t *testing.T, dir string, st *step) error {
	t.Helper()
	ctx := context.Background()
	tbl, err := Open(ctx, NewFolderStore(dir), TableOptions{})
	if err != nil {
		return err
	}
	source := func() *Batch { return modelBatch(t, st.schema, st.rows) }
	where := func() *Expr {
		if st.where == nil {
			return nil
		}
		return mustExpr(t, st.where.text)
	}
	sets := func(set []assignment) map[string]*Expr {
		if set == nil {
			return nil
		}
		out := map[string]*Expr{}
		for _, s := range set {
			out[s.col] = mustExpr(t, s.text)
		}
		return out
	}
	switch st.op {
	case "append":
		_, err = tbl.Append(ctx, Batches(source()), WriteOptions{MergeSchema: st.merge})
	case "overwrite":
		_, err = tbl.Overwrite(ctx, Batches(source()), OverwriteOptions{Where: where(), Dynamic: st.dynamic})
	case "delete":
		_, err = tbl.Delete(ctx, where())
	case "update":
		_, err = tbl.Update(ctx, sets(st.set), where())
	case "merge":
		m := Merge{Source: Batches(source()), TargetAlias: "t", SourceAlias: "s"}
		for _, k := range st.keys {
			m.On = And(m.On, mustExpr(t, fmt.Sprintf("t.%s = s.%s", k, k)))
		}
		actions := map[string]MergeAction{"matched update": MatchedUpdate, "matched delete": MatchedDelete, "insert": NotMatchedInsert,
			"source update": NotMatchedBySourceUpdate, "source delete": NotMatchedBySourceDelete}
		for _, c := range st.clauses {
			mc := MergeClause{Action: actions[c.action], Set: sets(c.set)}
			if c.cond != nil {
				mc.If = mustExpr(t, c.cond.text)
			}
			m.Clauses = append(m.Clauses, mc)
		}
		_, err = tbl.Merge(ctx, m)
	case "optimize":
		_, err = tbl.Optimize(ctx, OptimizeOptions{ZOrder: st.zorder})
	case "vacuum":
		_, err = tbl.Vacuum(ctx, VacuumOptions{None: true, Force: true, Lite: st.lite})
	case "restore":
		_, err = tbl.Restore(ctx, st.version)
	case "checkpoint":
		err = tbl.WriteCheckpoint(ctx, tbl.Latest())
	case "cleanup":
		_, err = tbl.CleanLog(ctx, tbl.Latest())
	case "add column", "widen":
		_, err = tbl.EvolveSchema(ctx, NewSchema(Col(st.name, st.typ)))
	case "rename":
		_, err = tbl.RenameColumn(ctx, st.name, st.to)
	case "drop":
		_, err = tbl.DropColumn(ctx, st.name)
	case "property":
		_, err = tbl.SetProperties(ctx, map[string]*string{st.key: &st.value})
	default:
		err = wideOurs(ctx, tbl, st, source)
	}
	return err
}
