package dataflow

import "encoding/binary"

// A StateID numbers one named state of one operator within a pipeline. Numbers
// are handed out by the host, kept in the manifest and never reused. 0 is
// invalid.
type StateID uint16

// Row keys sort by (key group, state, pane, hash, key):
//
//	offset  0        2        4 [+8 if the state has panes]        +4
//	        | group  | state  | pane: start time, sign flipped | hash | key ... |
//
// all big-endian. Whether a state has panes is a property of the state
// (StateInfo.Panes), so a row key never needs a marker.
const (
	rowPrefix     = 4
	rowPane       = 8
	rowHash       = 4
	signFlip      = 1 << 63
	filterStateK  = 0x9e3779b97f4a7c15
	filterPaneK   = 0xc2b2ae3d27d4eb4f
	filterFinishK = 0xff51afd7ed558ccd
)

// AppendRowPrefix appends the part of a row key that all rows of one state in
// one group share.
func AppendRowPrefix(dst []byte, group int, state StateID) []byte {
	return append(dst, byte(group>>8), byte(group), byte(state>>8), byte(state))
}

// AppendPane appends a pane's start time, order-preserving.
func AppendPane(dst []byte, start int64) []byte {
	return binary.BigEndian.AppendUint64(dst, uint64(start)^signFlip)
}

// AppendRowKey appends the key of a row of a state without panes.
func AppendRowKey(dst []byte, group int, state StateID, hash uint32, key []byte) []byte {
	dst = AppendRowPrefix(dst, group, state)
	dst = binary.BigEndian.AppendUint32(dst, hash)
	return append(dst, key...)
}

// AppendPaneRowKey appends the key of a row of a state with panes.
func AppendPaneRowKey(dst []byte, group int, state StateID, pane int64, hash uint32, key []byte) []byte {
	dst = AppendRowPrefix(dst, group, state)
	dst = AppendPane(dst, pane)
	dst = binary.BigEndian.AppendUint32(dst, hash)
	return append(dst, key...)
}

// A RowKey is a row key taken apart. Key aliases the parsed bytes.
type RowKey struct {
	Group int
	State StateID
	Pane  int64 // 0 for states without panes
	Hash  uint32
	Key   []byte
}

// ParseRowKey takes b apart; ok is false when it is too short.
func ParseRowKey(b []byte, panes bool) (k RowKey, ok bool) {
	n := rowPrefix + rowHash
	if panes {
		n += rowPane
	}
	if len(b) < n {
		return RowKey{}, false
	}
	k.Group = int(b[0])<<8 | int(b[1])
	k.State = StateID(b[2])<<8 | StateID(b[3])
	b = b[rowPrefix:]
	if panes {
		k.Pane = int64(binary.BigEndian.Uint64(b) ^ signFlip)
		b = b[rowPane:]
	}
	k.Hash = binary.BigEndian.Uint32(b)
	k.Key = b[rowHash:]
	return k, true
}

// RowGroup returns the key group and state of a row key of at least 4 bytes.
func RowGroup(b []byte) (group int, state StateID) {
	return int(b[0])<<8 | int(b[1]), StateID(b[2])<<8 | StateID(b[3])
}

// FilterHash returns what the absence filter is probed with for a row.
func FilterHash(state StateID, pane int64, hash uint32) uint64 {
	h := uint64(hash)*filterStateK ^ uint64(state)*filterPaneK ^ uint64(pane)*filterStateK
	h ^= h >> 33
	h *= filterFinishK
	h ^= h >> 29
	return h
}
