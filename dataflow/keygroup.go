package dataflow

import "fmt"

// DefaultKeyGroups is the number of key groups of a pipeline unless
// --max-parallelism says otherwise; MaxKeyGroups is the most it may say.
const (
	DefaultKeyGroups = 128
	MaxKeyGroups     = 32768
)

// KeyGroups is a contiguous half-open range of key groups. The zero value is
// empty.
type KeyGroups struct {
	From int `json:"from"`
	To   int `json:"to"` // exclusive
}

// Len returns the number of groups in r.
func (r KeyGroups) Len() int { return r.To - r.From }

// Contains reports whether group g is in r.
func (r KeyGroups) Contains(g int) bool { return r.From <= g && g < r.To }

// Intersect returns the groups in both ranges; it is empty when they are
// disjoint.
func (r KeyGroups) Intersect(o KeyGroups) KeyGroups {
	x := KeyGroups{max(r.From, o.From), min(r.To, o.To)}
	if x.To <= x.From {
		return KeyGroups{}
	}
	return x
}

// String returns "[from,to)".
func (r KeyGroups) String() string { return fmt.Sprintf("[%d,%d)", r.From, r.To) }

// GroupOf returns the key group of a key hash. It grows with the hash, so rows
// sorted by hash are sorted by group.
func GroupOf(hash uint32, groups int) int { return int(uint64(hash) * uint64(groups) >> 32) }

// OwnerOf returns the subtask index that owns group g at the given parallelism.
// It agrees with OwnedBy.
func OwnerOf(g, groups, parallelism int) int { return g * parallelism / groups }

// OwnedBy returns the groups that subtask index owns. Ranges of all indexes are
// disjoint and cover [0, groups); an index may own nothing when parallelism
// exceeds groups.
func OwnedBy(groups, parallelism, index int) KeyGroups {
	from := (index*groups + parallelism - 1) / parallelism
	to := ((index+1)*groups + parallelism - 1) / parallelism
	return KeyGroups{from, to}
}
