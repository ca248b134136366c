package deltalake

import (
	"context"
	"encoding/json"
	"fmt"
	"path/filepath"
	"slices"
	"testing"
)

// What histories have beside rows and columns: columns that the table fills or
// guards, clustering, constraints, clones, log compactions, schemas written anew.

// Columns with a meaning of their own, by name. They stay as they are through a
// history; each is a writer feature.
const (
	generatedName = "gen"   // id + 7
	identityName  = "ident" // by default: rows bring values, as every second one here does
	defaultName   = "def"   // 'dflt' where rows bring none
)

func wideColumns() map[string]Field {
	def := Col(defaultName, Of(KindString))
	def.Metadata = map[string]json.RawMessage{"CURRENT_DEFAULT": json.RawMessage(`"'dflt'"`)}
	gen := Col(generatedName, Of(KindLong))
	gen.Metadata = map[string]json.RawMessage{"delta.generationExpression": json.RawMessage(`"id + 7"`)}
	return map[string]Field{"generatedColumns": gen, "identityColumns": IdentityByDefault(identityName, 1_000_000, 10), "allowColumnDefaults": def}
}

// special tells whether a column is one of wideColumns.
func special(name string) bool {
	return name == generatedName || name == identityName || name == defaultName
}

// widen adds columns and features at the birth of a table, and returns its clustering
// columns.
func (h *history) widen(fields []Field, props map[string]string) (all []Field, cluster []string) {
	columns := wideColumns()
	for _, feature := range []string{"generatedColumns", "identityColumns", "allowColumnDefaults"} {
		if h.chance(10) {
			h.feats[feature] = true
			fields = append(fields, columns[feature])
			if feature == "allowColumnDefaults" {
				props["delta.feature.allowColumnDefaults"] = "supported"
			}
		}
	}
	if h.part == nil && h.chance(20) {
		h.feats["clustering"] = true
		cluster = []string{"id"}
		if h.chance(40) {
			for _, f := range fields[1:] {
				if f.Type.Kind == KindInteger || f.Type.Kind == KindDate {
					cluster = append(cluster, f.Name)
					break
				}
			}
		}
	}
	return fields, cluster
}

// derive sets the generated columns of a row.
func derive(s *Schema, row []any) []any {
	if i := s.Index(generatedName); i >= 0 && i < len(row) {
		row[i] = nil
		if id, ok := row[0].(int64); ok {
			row[i] = id + 7
		}
	}
	return row
}

// specialValue is what rows bring for a column of wideColumns; derive sets generated
// ones.
func (h *history) specialValue(name string, id int64) any {
	switch name {
	case identityName:
		return 5 * id
	case defaultName:
		return pick[any](h, "x", nil, "brought")
	}
	return nil
}

// omitted leaves columns out of the rows of an append: the table fills them.
func (h *history) omitted(s *Schema, st *step) *step {
	i, g := s.Index(defaultName), s.Index(generatedName)
	if i < 0 && g < 0 || !h.chance(50) {
		return st
	}
	for k, full := range st.rows {
		row := slices.Clone(full)
		if i >= 0 {
			row[i] = "dflt"
		}
		st.filled = append(st.filled, row)
		var brief []any
		for j, x := range full {
			if j != i && j != g {
				brief = append(brief, x)
			}
		}
		st.rows[k] = brief
	}
	var fields []Field
	for j, f := range s.Fields {
		if j != i && j != g {
			fields = append(fields, f)
		}
	}
	st.schema = NewSchema(fields...)
	return st
}

// planWide makes a step of those that change no row, or that must be refused.
func (h *history) planWide(op string) *step {
	s := h.now().schema
	switch op {
	case "constraint":
		w := cond{text: "id IS NULL OR id >= 0"}
		return &step{op: op, name: fmt.Sprintf("c%d", len(h.done)), where: &w}
	case "violation":
		if h.now().checks == 0 {
			return nil
		}
		return &step{op: "append", schema: s, rows: [][]any{h.row(s, h.next), h.row(s, -1)}, refused: true}
	case "compact log":
		commits, _ := h.logFiles()
		n := len(commits)
		if n < 3 || commits[n-1]-commits[n-3] != 2 {
			return nil
		}
		return &step{op: op, version: commits[n-1], from: commits[n-2-h.rng.IntN(2)]}
	case "clone":
		if h.cloned {
			return nil
		}
		return &step{op: op, to: filepath.Join(h.t.TempDir(), "clone")}
	case "overwrite schema":
		return h.planOverwriteSchema(s)
	}
	panic(op)
}

func (h *history) planOverwriteSchema(s *Schema) *step {
	if h.feats["clustering"] {
		return nil // the columns it is clustered by must stay
	}
	var fields []Field
	for i, f := range s.Fields {
		switch {
		case f.Name == identityName:
			if h.chance(50) {
				fields = append(fields, Col(f.Name, f.Type)) // a plain column from now on
			}
		case special(f.Name):
			return nil
		case i == 0 || slices.Contains(h.part, f.Name) || h.chance(70):
			fields = append(fields, f)
		}
	}
	if len(fields)-len(h.part) < 2 {
		return nil
	}
	if h.chance(50) {
		f := pick(h, candidates()...)
		f.Name = fmt.Sprintf("%s%d", f.Name, len(h.done))
		if f.Type.Kind != KindTimestampNTZ || h.feats["timestampNtz"] {
			fields = append(fields, f)
		}
	}
	schema := NewSchema(fields...)
	return &step{op: "overwrite schema", schema: schema, rows: h.fresh(schema, 2+h.rng.IntN(6)), part: h.part}
}

// clone goes on with a shallow clone of the table, after a last look at the table.
func (h *history) clone(st *step) {
	h.t.Helper()
	h.check()
	h.checkFeed()
	now := h.now()
	h.dir, h.cloned, h.states, h.firm, h.feed = st.to, true, []state{now}, 0, 0
}

// wideOurs does those steps with this package.
func wideOurs(ctx context.Context, tbl *Table, st *step, source func() *Batch) error {
	var err error
	switch st.op {
	case "constraint":
		_, err = tbl.AddConstraint(ctx, st.name, st.where.text)
	case "compact log":
		err = tbl.CompactLog(ctx, st.from, st.version)
	case "clone":
		_, err = tbl.Latest().Clone(ctx, NewFolderStore(st.to), TableOptions{})
	case "overwrite schema":
		_, err = tbl.Overwrite(ctx, Batches(source()), OverwriteOptions{Schema: st.schema})
	default:
		err = fmt.Errorf("operation %q", st.op)
	}
	return err
}

// wideCannot names what keeps a writer from a step, as cannot does.
func (h *history) wideCannot(name string, st *step) string {
	switch {
	case st.op == "compact log" && name != "weir":
		return "only we write log compactions"
	case st.op == "create" && name != "weir" && (h.feats["generatedColumns"] || h.feats["identityColumns"] || h.feats["allowColumnDefaults"]):
		return "such columns are created by us"
	case st.op == "overwrite schema" && name == "weir" && h.feats["columnMapping"]:
		return "we do not overwrite schemas under column mapping"
	case st.op == "overwrite schema" && name == "spark" && h.feats["columnMapping"] && h.feats["changeDataFeed"]:
		return "Spark does not overwrite schemas under column mapping with a change feed"
	case st.op == "vacuum" && st.lite && name == "spark":
		if commits, _ := h.logFiles(); commits[0] > 0 {
			return "Spark does not VACUUM LITE after log files were cleaned up"
		}
		return ""
	case name != "deltars":
		return ""
	case st.op == "create" && h.feats["timestampNtz"] && !st.schema.Fields[0].Nullable:
		return "delta-rs leaves out invariants where it creates a table of version 7 with a NOT NULL column"
	case st.op == "merge" && h.feats["changeDataFeed"] && !st.schema.Fields[0].Nullable:
		return "delta-rs cannot merge with a change feed and a NOT NULL column"
	case st.op == "clone":
		return "delta-rs does not clone"
	case (st.op == "overwrite schema" || st.merge) && h.part != nil:
		return "delta-rs moves partition columns behind the others when it writes a schema"
	case h.cloned:
		return "delta-rs does not write clones"
	}
	for _, f := range []string{"clustering", "identityColumns", "generatedColumns", "allowColumnDefaults"} {
		if h.feats[f] {
			return "delta-rs does not write tables with " + f
		}
	}
	if st.op == "constraint" && h.feats["timestampNtz"] {
		return "delta-rs turns variantType on with any property of a table of version 7"
	}
	return ""
}

// A change feed is read across a version that added a constraint or a default: what
// rows must follow is nothing to their reader.
func TestFeedAcrossRules(t *testing.T) {
	ctx := context.Background()
	schema := NewSchema(Col("id", Of(KindLong)), Col("name", Of(KindString)))
	tbl, err := Create(ctx, NewMemoryStore(nil), CreateOptions{Schema: schema, Properties: map[string]string{"delta.enableChangeDataFeed": "true"}})
	for v := int64(1); err == nil && v < 5; v += 2 {
		if _, err = tbl.Append(ctx, Batches(modelBatch(t, schema, [][]any{{v, "a"}})), WriteOptions{}); err == nil {
			_, err = tbl.AddConstraint(ctx, fmt.Sprint("c", v), "id > 0")
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for b, err := range tbl.Changes(ctx, ChangeOptions{From: 0, To: 4, Until: true}) {
		if err != nil {
			t.Fatal(err)
		}
		n += b.Len
	}
	if n != 2 {
		t.Errorf("%d changes, want 2", n)
	}
}
