package deltalake

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"
)

// What happens in a history: tables, rows, conditions and steps, all from its
// random source.

// birth chooses columns, partitions and features, and lets a writer make the table.
func (h *history) birth(turn int) {
	h.t.Helper()
	props := map[string]string{"delta.checkpointInterval": strconv.Itoa(2 + h.rng.IntN(5))}
	for _, name := range slices.Sorted(maps.Keys(featureProperties())) {
		if name == "rowTracking" && !writerFeature(name) && h.tools.procs["spark"] == nil {
			continue // nobody writes it
		}
		if h.chance(map[bool]int{true: 20, false: 8}[name != "rowTracking"]) {
			p := featureProperties()[name]
			h.feats[name] = true
			props[p[0]] = p[1]
		}
	}
	if h.feats["columnMapping"] && h.chance(40) {
		props["delta.columnMapping.mode"] = "id"
	}
	fields := []Field{{Name: "id", Type: Of(KindLong), Nullable: h.chance(70)}}
	for _, f := range candidates() {
		if f.Type.Kind == KindTimestampNTZ && h.chance(60) {
			continue
		}
		if h.chance(45) {
			fields = append(fields, f)
			if f.Type.Kind == KindTimestampNTZ {
				h.feats["timestampNtz"] = true
			}
		}
	}
	if h.chance(45) {
		h.part = []string{"part"}
		fields = append(fields, Col("part", Of(KindString)))
		if h.chance(30) {
			h.part = append(h.part, "pday")
			fields = append(fields, Col("pday", Of(KindDate)))
		}
	} else if len(fields) < 3 {
		fields = append(fields, Col("name", Of(KindString)))
	}
	fields, cluster := h.widen(fields, props)
	s := NewSchema(fields...)
	writer := h.writer(turn, &step{op: "create", schema: s})
	h.done = append(h.done, fmt.Sprintf("%s creates %v %v clustered by %v", writer, jsonText(s), props, cluster))
	if err := h.tools.create(h.t, writer, h.dir, s, h.part, cluster, props); err != nil {
		h.fatalf("%s create: %v", writer, err)
	}
	h.states = []state{{schema: s, mapped: h.feats["columnMapping"]}}
}

// candidates are columns that a table may have besides its id.
func candidates() []Field {
	return []Field{
		Col("n", Of(KindInteger)), Col("sh", Of(KindShort)), Col("price", Of(KindDouble)), Col("fl", Of(KindFloat)), Col("name", Of(KindString)),
		Col("amount", DecimalOf(12, 2)), Col("at", Of(KindTimestamp)), Col("local", Of(KindTimestampNTZ)), Col("day", Of(KindDate)), Col("ok", Of(KindBoolean)),
		Col("raw", Of(KindBinary)), Col("tags", ListOf(Of(KindLong))), Col("st", StructOf(Col("x", Of(KindLong)), Col("y", Of(KindString)))), Col("m", MapOf(Of(KindString), Of(KindLong))),
	}
}

var historyWords = []string{"a", "b", "", "it's", "é/ü=%", "null", "x y", "long enough to be cut off in statistics of strings"}

// random makes a value of a type.
func (h *history) random(t *Type) any {
	if h.chance(15) {
		return nil
	}
	switch t.Kind {
	case KindBoolean:
		return h.chance(50)
	case KindByte, KindShort, KindInteger, KindLong:
		return int64(h.rng.IntN(200) - 50)
	case KindFloat, KindDouble:
		return float64(h.rng.IntN(4000))/4 - 300
	case KindDecimal:
		return DecimalFromInt64(int64(h.rng.IntN(100_000) - 30_000)).Text(2)
	case KindString:
		return pick(h, historyWords...)
	case KindBinary:
		return fmt.Sprintf("%02x", h.rng.IntN(256))
	case KindDate:
		return int64(19_000 + h.rng.IntN(60))
	case KindTimestamp, KindTimestampNTZ:
		return int64(1_700_000_000_000_000 + h.rng.Int64N(1e15))
	case KindList:
		out := []any{}
		for range h.rng.IntN(3) {
			out = append(out, h.random(t.Elem))
		}
		return out
	case KindMap:
		out := []any{}
		for i := range h.rng.IntN(3) {
			out = append(out, []any{fmt.Sprint("k", i), h.random(t.Elem)})
		}
		return out
	}
	out := []any{}
	for _, f := range t.Fields {
		out = append(out, h.random(f.Type))
	}
	return out
}

// row makes a row with the given id.
func (h *history) row(s *Schema, id int64) []any {
	r := []any{id}
	for _, f := range s.Fields[1:] {
		if special(f.Name) {
			r = append(r, h.specialValue(f.Name, id))
		} else if slices.Contains(h.part, f.Name) && f.Type.Kind == KindString {
			r = append(r, pick[any](h, "p1", "p2", nil, "p/3 =%"))
		} else if slices.Contains(h.part, f.Name) {
			r = append(r, pick[any](h, int64(19_001), int64(19_002), nil))
		} else {
			r = append(r, h.random(f.Type))
		}
	}
	return derive(s, r)
}

// fresh makes n rows with ids of their own.
func (h *history) fresh(s *Schema, n int) [][]any {
	var out [][]any
	for range n {
		out = append(out, h.row(s, h.next))
		h.next++
	}
	return out
}

func (h *history) ids() (lo, hi int64) {
	lo = h.rng.Int64N(h.next + 1)
	return lo, lo + 1 + h.rng.Int64N(12)
}

// condition makes a random condition on a table; alias goes before its columns.
func (h *history) condition(s *Schema, alias string, depth int) cond {
	if depth > 0 && h.chance(35) {
		a, b := h.condition(s, alias, depth-1), h.condition(s, alias, depth-1)
		switch h.rng.IntN(3) {
		case 0:
			return both(a, b)
		case 1:
			return either(a, b)
		}
		return negated(a)
	}
	f := s.Fields[h.rng.IntN(len(s.Fields))]
	if h.chance(50) {
		f = s.Fields[0]
	}
	col := alias + f.Name
	switch f.Type.Kind {
	case KindLong:
		if h.chance(40) {
			return modulo(col, 5, h.rng.Int64N(5))
		}
		lo, hi := h.ids()
		return both(compares(col, ">=", float64(lo)), compares(col, "<", float64(hi)))
	case KindShort, KindInteger, KindDouble:
		return compares(col, pick(h, "<", "<=", ">", ">=", "=", "<>"), float64(h.rng.IntN(150)-50))
	case KindDecimal:
		return compares(col, pick(h, "<", ">"), float64(h.rng.IntN(600)-200)+0.005)
	case KindString:
		if h.chance(30) {
			return isNull(col, h.chance(50))
		}
		if slices.Contains(h.part, f.Name) {
			return isText(col, pick(h, []string{"p1"}, []string{"p2", "p1"}, []string{"p/3 =%"})...)
		}
		return isText(col, pick(h, []string{"a"}, []string{"b", "x y"}, []string{""})...)
	case KindDate:
		d := 19_000 + h.rng.IntN(40)
		text := time.Unix(int64(d)*86400, 0).UTC().Format("'2006-01-02'")
		return comparesText(col, pick(h, "<", ">="), "CAST("+text+" AS DATE)", float64(d))
	}
	return isNull(col, h.chance(50))
}

// setters makes assignments for some columns.
func (h *history) setters(s *Schema, alias string) []assignment {
	var out []assignment
	for _, f := range s.Fields[1:] {
		if !h.chance(40) || f.Name == generatedName || f.Name == identityName {
			continue
		}
		col := alias + f.Name
		fixed := func(text string, v any) assignment { return assignment{f.Name, text, func(lookup) any { return v }} }
		plus := func(by float64) assignment {
			return assignment{f.Name, fmt.Sprintf("%s + %v", col, by), func(get lookup) any {
				switch x := get(col).(type) {
				case int64:
					return x + int64(by)
				case float64:
					return x + by
				}
				return nil
			}}
		}
		switch f.Type.Kind {
		case KindInteger, KindLong:
			out = append(out, plus(1))
		case KindDouble:
			out = append(out, plus(0.5))
		case KindString:
			out = append(out, pick(h, fixed("'p2'", "p2"), fixed("'upd'", "upd"), fixed("NULL", nil)))
		case KindDate:
			out = append(out, fixed("CAST('2022-01-10' AS DATE)", int64(19_002)))
		case KindBoolean:
			out = append(out, fixed("true", true))
		case KindDecimal, KindTimestamp, KindTimestampNTZ:
			out = append(out, fixed("NULL", nil))
		}
	}
	if out == nil {
		f := s.Fields[0]
		out = []assignment{{f.Name, alias + f.Name + " + 1000", func(get lookup) any {
			if x, ok := get(alias + f.Name).(int64); ok {
				return x + 1000
			}
			return nil
		}}}
	}
	return out
}

// plan makes a random step that the table's schema allows.
func (h *history) plan() *step {
	s := h.now().schema
	switch op := pick(h, "append", "append", "append", "overwrite", "replace", "delete", "delete", "delete", "update", "update", "merge", "merge", "merge",
		"optimize", "optimize", "schema", "schema", "property", "checkpoint", "checkpoint", "cleanup", "vacuum", "restore",
		"constraint", "violation", "compact log", "clone", "overwrite schema"); op {
	case "constraint", "violation", "compact log", "clone", "overwrite schema":
		return h.planWide(op)
	case "append":
		if h.chance(25) {
			if wide := h.added(s); wide != nil {
				return &step{op: "append", schema: wide, rows: h.fresh(wide, 3), merge: true}
			}
		}
		return h.omitted(s, &step{op: op, schema: s, rows: h.fresh(s, 2+h.rng.IntN(10))})
	case "overwrite":
		return &step{op: op, schema: s, rows: h.fresh(s, 2+h.rng.IntN(10)), dynamic: h.part != nil && h.chance(50)}
	case "replace":
		lo, hi := h.ids()
		w := both(compares("id", ">=", float64(lo)), compares("id", "<", float64(hi)))
		st := &step{op: "overwrite", schema: s, where: &w}
		for id := lo; id < hi; id += 2 {
			st.rows = append(st.rows, h.row(s, id))
		}
		h.next = max(h.next, hi)
		return st
	case "delete":
		w := h.condition(s, "", 2)
		return &step{op: op, where: &w}
	case "update":
		w := h.condition(s, "", 2)
		return &step{op: op, where: &w, set: h.setters(s, "")}
	case "merge":
		return h.planMerge(s)
	case "optimize":
		st := &step{op: op, zorder: []string{}}
		if h.chance(40) && !h.feats["clustering"] {
			st.zorder = []string{"id"}
		}
		return st
	case "schema":
		return h.planSchema(s)
	case "property":
		return h.planProperty()
	case "restore":
		v := h.firm + h.rng.Int64N(int64(len(h.states))-h.firm)
		if h.states[v].schema != s || h.states[v].mapped != h.now().mapped {
			return nil
		}
		return &step{op: op, version: v}
	case "vacuum":
		return &step{op: op, lite: h.chance(40)}
	default:
		return &step{op: op}
	}
}

func (h *history) planMerge(s *Schema) *step {
	st := &step{op: "merge", schema: s, keys: []string{"id"}}
	if len(h.part) > 0 && h.chance(30) {
		st.keys = append(st.keys, h.part[0])
	}
	lo, hi := h.ids()
	for id := lo; id < hi+2; id++ {
		st.rows = append(st.rows, h.row(s, id))
	}
	h.next = max(h.next, hi+2)
	maybe := func(alias string) *cond {
		if h.chance(50) {
			return nil
		}
		c := h.condition(s, alias, 1)
		return &c
	}
	if h.chance(40) {
		c := h.condition(s, pick(h, "t.", "s."), 1)
		st.clauses = append(st.clauses, clause{"matched delete", &c, nil})
	}
	switch n := h.rng.IntN(3); {
	case n == 0 && !h.feats["identityColumns"]: // their values stay
		st.clauses = append(st.clauses, clause{"matched update", maybe("s."), nil})
	case n == 1:
		st.clauses = append(st.clauses, clause{"matched update", maybe("t."), h.setters(s, "t.")})
	}
	if h.chance(70) || st.clauses == nil {
		st.clauses = append(st.clauses, clause{"insert", maybe("s."), nil})
	}
	switch h.rng.IntN(5) {
	case 0:
		st.clauses = append(st.clauses, clause{"source delete", maybe("t."), nil})
	case 1:
		st.clauses = append(st.clauses, clause{"source update", maybe("t."), h.setters(s, "t.")})
	}
	return st
}

// added is the schema with one more column; nil when there is none to add.
func (h *history) added(s *Schema) *Schema {
	for range 10 {
		f := pick(h, candidates()...)
		f.Name = fmt.Sprintf("%s%d", f.Name, len(h.done))
		if f.Type.Kind == KindTimestampNTZ && !h.feats["timestampNtz"] {
			continue
		}
		return NewSchema(append(slices.Clone(s.Fields), f)...)
	}
	return nil
}

func (h *history) planSchema(s *Schema) *step {
	i := 1 + h.rng.IntN(len(s.Fields)-1)
	f := s.Fields[i]
	if special(f.Name) {
		return nil
	}
	if h.feats["columnMapping"] && h.chance(60) && !slices.Contains(h.part, f.Name) {
		if h.chance(50) && len(s.Fields)-len(h.part) > 2 {
			return &step{op: "drop", name: f.Name}
		}
		return &step{op: "rename", name: f.Name, to: fmt.Sprintf("r%d", len(h.done))}
	}
	if h.feats["typeWidening"] && h.chance(70) && !slices.Contains(h.part, f.Name) {
		switch f.Type.Kind {
		case KindShort:
			return &step{op: "widen", name: f.Name, typ: Of(KindInteger)}
		case KindInteger:
			return &step{op: "widen", name: f.Name, typ: Of(KindLong)}
		case KindFloat:
			return &step{op: "widen", name: f.Name, typ: Of(KindDouble)}
		case KindDecimal:
			return &step{op: "widen", name: f.Name, typ: DecimalOf(f.Type.Precision+2, f.Type.Scale)}
		}
	}
	if wide := h.added(s); wide != nil {
		f := wide.Fields[len(s.Fields)]
		if f.Type.primitive() {
			return &step{op: "add column", name: f.Name, typ: f.Type}
		}
	}
	return nil
}

// features that a table may have from its birth or get later, with the property
// that turns them on.
func featureProperties() map[string][2]string {
	return map[string][2]string{
		"deletionVectors":   {"delta.enableDeletionVectors", "true"},
		"changeDataFeed":    {"delta.enableChangeDataFeed", "true"},
		"columnMapping":     {"delta.columnMapping.mode", "name"},
		"v2Checkpoint":      {"delta.checkpointPolicy", "v2"},
		"inCommitTimestamp": {"delta.enableInCommitTimestamps", "true"},
		"typeWidening":      {"delta.enableTypeWidening", "true"},
		"rowTracking":       {"delta.enableRowTracking", "true"},
	}
}

func (h *history) planProperty() *step {
	if h.chance(40) {
		name := pick(h, slices.Sorted(maps.Keys(featureProperties()))...)
		if !h.feats[name] && name != "rowTracking" {
			p := featureProperties()[name]
			return &step{op: "property", name: name, key: p[0], value: p[1]}
		}
	}
	return &step{op: "property", key: "delta.checkpointInterval", value: strconv.Itoa(2 + h.rng.IntN(4))}
}
