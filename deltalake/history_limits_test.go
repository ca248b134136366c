package deltalake

import "slices"

// What the writers of a history cannot do. A turn that falls to one that cannot
// goes to the next, and the test counts it.

// cannot names what keeps a writer from a step, "" when nothing does.
func (h *history) cannot(name string, st *step) string {
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

// cannotRead names what keeps a tool from reading the table.
func (h *history) cannotRead(name string) string {
	if name == "deltars" && h.feats["typeWidening"] {
		return "delta-rs does not read tables with typeWidening"
	}
	return ""
}
