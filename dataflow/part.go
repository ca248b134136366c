package dataflow

import "slices"

// A FileRef names an immutable run of sorted rows: bytes [Offset,
// Offset+Length) of an object.
type FileRef struct {
	Object   string    `json:"object"` // key in the checkpoint store; "" while only local
	Offset   int64     `json:"offset"`
	Length   int64     `json:"length"`
	CRC32C   uint32    `json:"crc32c"` // of those bytes
	Local    string    `json:"-"`      // path of the local copy; "" when there is none
	Epoch    Epoch     `json:"epoch"`  // epoch it was frozen for
	Seq      int       `json:"seq"`    // order within the epoch: spills first
	Level    int       `json:"level"`  // -1: an epoch file; 0..6: a table of a rebase, by Pebble level
	Rows     int64     `json:"rows"`
	Groups   KeyGroups `json:"groups"` // key groups its rows lie in
	Smallest []byte    `json:"smallest"`
	Largest  []byte    `json:"largest"` // inclusive
}

// A SplitState is the position of one split, opaque to all but its connector.
type SplitState struct {
	Split    string `json:"split"`
	Position []byte `json:"position"`
}

// A CommitHandle is what a sink subtask prepared and has yet to commit, opaque
// to all but its connector.
type CommitHandle struct {
	Sink    OperatorID `json:"sink"`
	Subtask int        `json:"subtask"`
	Epoch   Epoch      `json:"epoch"` // epoch it was prepared for, at most that of the part
	Seq     int        `json:"seq"`
	Data    []byte     `json:"data"`
}

// OpState is the state of an operator that is not keyed rows: source positions,
// a sink's transactional ids, the watermark an operator had reached.
type OpState struct {
	Splits    []SplitState `json:"splits,omitempty"`
	Writer    []byte       `json:"writer,omitempty"`    // a sink writer's own
	Watermark int64        `json:"watermark,omitempty"` // reached, timers fired
	// Target is the watermark that was being reached, some of whose timers may have
	// fired; 0: none. A keyed operator takes no row before it has reached it.
	Target int64  `json:"target,omitempty"`
	Extra  []byte `json:"extra,omitempty"` // the runner's own
}

// A Part is what one subtask contributes to one epoch. Files names every object
// its store can still read, oldest first, not only what is new: a manifest thus
// protects readers, and a file of an aborted epoch rides in the next part.
type Part struct {
	Subtask   SubtaskID              `json:"subtask"`
	Groups    KeyGroups              `json:"groups"`
	Files     []FileRef              `json:"files,omitempty"`
	Operators map[OperatorID]OpState `json:"operators,omitempty"`
	Commits   []CommitHandle         `json:"commits,omitempty"` // ordered by (epoch, seq)
	Finished  bool                   `json:"finished,omitempty"`
	NewBytes  int64                  `json:"new_bytes,omitempty"` // uploaded for this epoch
	// HeldNanos is how long the epoch kept the subtask from its rows: fixing state,
	// asking sinks, and letting go of what was frozen. For people.
	HeldNanos int64 `json:"held_ns,omitempty"`
}

// Objects returns the distinct objects that p names, sorted.
func (p *Part) Objects() []string {
	var out []string
	for _, f := range p.Files {
		if f.Object != "" {
			out = append(out, f.Object)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}
