package deltalake

import (
	"regexp"
	"slices"
)

// What the writers of a history cannot do. A turn that falls to one that cannot
// goes to the next, and the test counts it.

// cannot names what keeps a writer from a step, "" when nothing does.
func (h *history) cannot(name string, st *step) string {
	if why := h.wideCannot(name, st); why != "" {
		return why
	}
	switch name {
	case "weir":
		for f := range h.feats {
			if !writerFeature(f) {
				return "we do not write tables with " + f
			}
		}
	case "deltars":
		return h.deltarsCannot(st)
	}
	return ""
}

// deltarsCannot are the limits of delta-rs 1.6.6.
func (h *history) deltarsCannot(st *step) string {
	for _, f := range []string{"typeWidening", "inCommitTimestamp", "v2Checkpoint", "columnMapping", "rowTracking", "deletionVectors"} {
		if h.feats[f] {
			return "delta-rs does not write tables with " + f
		}
	}
	if st.dynamic {
		return "delta-rs has no dynamic partition overwrite"
	}
	if col := h.nestedIn(st); col != "" {
		return "delta-rs has no conditions on nested columns" // Predicate references unknown column
	}
	if h.feats["timestampNtz"] && st.op == "property" {
		return "delta-rs turns variantType on with any property of a table of version 7"
	}
	switch st.op {
	case "rename", "drop", "widen":
		return "delta-rs cannot " + st.op + " columns"
	case "property":
		if slices.Contains([]string{"typeWidening", "inCommitTimestamp", "v2Checkpoint", "columnMapping", "deletionVectors"}, st.name) {
			return "delta-rs cannot turn on " + st.name
		}
	case "restore":
		if st.version == int64(len(h.states))-1 {
			return "delta-rs does not restore the newest version"
		}
	}
	return ""
}

// nestedIn names a list, map or struct that a step's conditions read.
func (h *history) nestedIn(st *step) string {
	var conds []*cond
	conds = append(conds, st.where)
	for _, c := range st.clauses {
		conds = append(conds, c.cond)
	}
	if len(h.states) == 0 {
		return ""
	}
	for _, f := range h.now().schema.Fields {
		for _, c := range conds {
			if c != nil && !f.Type.primitive() && regexp.MustCompile(`\b`+f.Name+` IS `).MatchString(c.text) {
				return f.Name
			}
		}
	}
	return ""
}

// cannotRead names what keeps a tool from reading the table.
func (h *history) cannotRead(name string) string {
	if name == "deltars" && h.feats["typeWidening"] {
		return "delta-rs does not read tables with typeWidening"
	}
	return ""
}

// cannotReadFeed names what keeps a tool from reading the table's change feed.
func (h *history) cannotReadFeed(name string) string {
	if name == "deltars" && h.feats["columnMapping"] {
		return "delta-rs does not read feeds with columnMapping"
	}
	if name == "deltars" && h.feats["deletionVectors"] {
		return "delta-rs forgets the deletion vectors of removed files in feeds"
	}
	if name == "deltars" && h.part != nil {
		return "delta-rs looks for files of escaped partitions under the log's own text"
	}
	return h.cannotRead(name)
}
