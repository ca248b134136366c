package dataflow

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// Pipeline names a job across restarts, restores and upgrades. It is the
// application id of sinks and the owner of epochs, and is unique in a cluster.
type Pipeline string

// JobID names one submission of a pipeline.
type JobID string

// OperatorID is the name the user gave an operator: its identity across
// restarts and upgrades.
type OperatorID string

// Epoch numbers a checkpoint try. It grows strictly per pipeline, across leaders
// and restores, and is never used twice. 0 means none.
type Epoch uint64

// Attempt numbers one execution of a job's plan. Messages of an older attempt
// are dropped. 0 means none.
type Attempt uint64

// Term is a Raft term.
type Term uint64

// SubtaskID names one parallel instance of a chain: one actor, one key-group
// range, one store.
type SubtaskID struct {
	Chain OperatorID `json:"chain"` // name of the chain's first operator
	Index int        `json:"index"` // 0 ≤ Index < parallelism
}

// String returns "chain/index".
func (s SubtaskID) String() string { return string(s.Chain) + "/" + strconv.Itoa(s.Index) }

// MarshalText lets a SubtaskID be a JSON map key.
func (s SubtaskID) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText is the inverse of MarshalText and String.
func (s *SubtaskID) UnmarshalText(b []byte) error {
	text := string(b)
	i := strings.LastIndexByte(text, '/')
	if i < 0 {
		return fmt.Errorf("dataflow: subtask id %q has no index: want chain/index", text)
	}
	n, err := strconv.Atoi(text[i+1:])
	if err != nil || n < 0 {
		return fmt.Errorf("dataflow: subtask id %q has no index: want chain/index", text)
	}
	*s = SubtaskID{OperatorID(text[:i]), n}
	return nil
}

// ChannelID names an ordered stream of batches from one subtask to another: the
// index of the plan edge and the two subtask indexes.
type ChannelID struct {
	Edge, From, To int
}

// String returns "edge:from>to".
func (c ChannelID) String() string { return fmt.Sprintf("%d:%d>%d", c.Edge, c.From, c.To) }

// Event times and watermarks are microseconds since 1970-01-01 UTC.
const (
	// MinTime is the watermark before any record was seen.
	MinTime int64 = math.MinInt64
	// MaxTime is the watermark after the last record of a bounded input.
	MaxTime int64 = math.MaxInt64
)

// ChangeKind says what a changelog row does to the row of its key.
type ChangeKind uint8

// The kinds of a changelog row. The zero value is Insert.
const (
	Insert ChangeKind = iota
	UpdateBefore
	UpdateAfter
	Delete
)

// String returns Delta's change type for k.
func (k ChangeKind) String() string {
	switch k {
	case Insert:
		return "insert"
	case UpdateBefore:
		return "update_preimage"
	case UpdateAfter:
		return "update_postimage"
	case Delete:
		return "delete"
	}
	return "change(" + strconv.Itoa(int(k)) + ")"
}
