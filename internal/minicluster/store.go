package minicluster

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"iter"
	"slices"

	"github.com/weirstream/weir/checkpoint"
	"github.com/weirstream/weir/dataflow"
	"github.com/weirstream/weir/internal/objstore"
	"github.com/weirstream/weir/stream/spi"
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// store implements subtask.Store: the rows of one keyed subtask as a chain of
// immutable sorted files, oldest first. Writing is the driver's business.
type store struct {
	n      *node
	dir    string
	groups dataflow.KeyGroups
	chain  []file
	merges int
}

type file struct {
	ref  dataflow.FileRef
	rows []pair // sorted, those of ref.Groups
}

type pair struct{ key, value []byte }

var errDisk = errors.New("disk full")

// restore fetches the files of a manifest.
func (st *store) restore(refs []dataflow.FileRef) error {
	for _, ref := range refs {
		var b []byte
		var err error
		for range 6 {
			if b, err = objstore.ReadRange(st.n.s.ctx, st.n.at.w.disk(), ref.Object, ref.Offset, ref.Length); err == nil || !retryableRead(err) {
				break
			}
		}
		if err != nil {
			return fmt.Errorf("restore of %s: %w", ref.Object, err)
		}
		if crc32.Checksum(b, castagnoli) != ref.CRC32C {
			return fmt.Errorf("restore of %s@%d+%d: wrong checksum", ref.Object, ref.Offset, ref.Length)
		}
		ref.Local = st.path(ref)
		ref.Groups = ref.Groups.Intersect(st.groups)
		if st.n.s.without == CutToPart {
			ref.Groups = st.groups
		}
		st.n.at.w.files[ref.Local] = b
		rows := parseFile(b)
		rows = slices.DeleteFunc(rows, func(p pair) bool { return !ref.Groups.Contains(groupOf(p.key)) })
		st.chain = append(st.chain, file{ref, rows})
	}
	return nil
}

func retryableRead(err error) bool {
	return objstore.Retryable(err) || errors.Is(err, context.DeadlineExceeded)
}

func (st *store) path(ref dataflow.FileRef) string {
	return fmt.Sprintf("%s/%d-%d-%s", st.dir, ref.Epoch, ref.Seq, ref.Object)
}

// parseFile reads rows: length of the key, of the value (gone: none), key, value.
func parseFile(b []byte) (rows []pair) {
	for len(b) > 0 {
		n, m := int(b[0]), int(b[1])
		p := pair{key: b[2 : 2+n]}
		if m == gone {
			m = 0
		} else {
			p.value = b[2+n : 2+n+m]
		}
		rows = append(rows, p)
		b = b[2+n+m:]
	}
	return rows
}

const gone = 255

func (st *store) Load(_ []uint64, keys [][]byte, got func(i int, row []byte) error) error {
	for i, k := range keys {
		if err := got(i, st.get(k)); err != nil {
			return err
		}
	}
	return nil
}

func (st *store) get(key []byte) []byte {
	for _, f := range slices.Backward(st.chain) {
		if i, ok := slices.BinarySearchFunc(f.rows, key, func(p pair, k []byte) int { return bytes.Compare(p.key, k) }); ok {
			return f.rows[i].value
		}
	}
	return nil
}

// Scan yields the newest version of every row in [from, to).
func (st *store) Scan(from, to []byte) iter.Seq2[[]byte, []byte] {
	var all []pair
	for _, f := range slices.Backward(st.chain) {
		for _, p := range f.rows {
			if bytes.Compare(p.key, from) >= 0 && bytes.Compare(p.key, to) < 0 {
				all = append(all, p)
			}
		}
	}
	slices.SortStableFunc(all, func(a, b pair) int { return bytes.Compare(a.key, b.key) })
	all = slices.CompactFunc(all, func(a, b pair) bool { return bytes.Equal(a.key, b.key) })
	return func(yield func([]byte, []byte) bool) {
		for _, p := range all {
			if p.value != nil && !yield(p.key, p.value) {
				return
			}
		}
	}
}

func (st *store) ScanErr() error { return nil }

func (st *store) Empty(dataflow.StateID, int) bool { return len(st.chain) == 0 }

func (st *store) Files() (refs []dataflow.FileRef) {
	for _, f := range st.chain {
		refs = append(refs, f.ref)
	}
	return refs
}

func (st *store) Completed(dataflow.Epoch) {}

// uploaded tells where a local file was put.
func (st *store) uploaded(local string, p checkpoint.Place) {
	for i := range st.chain {
		if f := &st.chain[i].ref; f.Local == local {
			f.Object, f.Offset = p.Object, p.Offset
		}
	}
}

// writeEpoch writes what is frozen as one file and may merge old ones.
func (st *store) writeEpoch(e dataflow.Epoch, seq int, frozen []spi.Frozen) error {
	s := st.n.s
	if s.chance(25) {
		return errDisk
	}
	var rows []pair
	for _, f := range frozen {
		for _, d := range f.Drops() { // a range is dropped row by row
			for k := range st.Scan(d.From, d.To) {
				rows = append(rows, pair{key: bytes.Clone(k)})
			}
		}
		err := f.Rows(func(k, v []byte) bool {
			rows = append(rows, pair{bytes.Clone(k), bytes.Clone(v)})
			return true
		})
		if err != nil {
			return err
		}
	}
	slices.SortStableFunc(rows, func(a, b pair) int { return bytes.Compare(b.key, a.key) })
	slices.Reverse(rows) // of one key the row comes first, then its drop
	rows = slices.CompactFunc(rows, func(a, b pair) bool { return bytes.Equal(a.key, b.key) })
	st.add(len(st.chain), len(st.chain), e, seq, rows)
	if len(st.chain) > 2 && s.r.IntN(4) == 0 {
		st.merge()
	}
	return nil
}

// add replaces the files [from, to) of the chain by one of the given rows.
func (st *store) add(from, to int, e dataflow.Epoch, seq int, rows []pair) {
	var b []byte
	for _, r := range rows {
		n := len(r.value)
		if r.value == nil {
			n = gone
		}
		b = append(b, byte(len(r.key)), byte(n))
		b = append(append(b, r.key...), r.value...)
	}
	st.merges++
	ref := dataflow.FileRef{Length: int64(len(b)), CRC32C: crc32.Checksum(b, castagnoli), Epoch: e, Seq: seq, Level: -1,
		Rows: int64(len(rows)), Groups: st.groups, Local: fmt.Sprintf("%s/%d-%d.%d", st.dir, e, seq, st.merges)}
	if len(rows) > 0 {
		ref.Smallest, ref.Largest = rows[0].key, rows[len(rows)-1].key
		ref.Groups = dataflow.KeyGroups{From: groupOf(rows[0].key), To: groupOf(rows[len(rows)-1].key) + 1}
	}
	st.n.at.w.files[ref.Local] = b
	st.chain = slices.Replace(st.chain, from, to, file{ref, parseFile(b)})
}

func groupOf(key []byte) int { return int(binary.BigEndian.Uint16(key)) }

// merge replaces two files next to each other by one.
func (st *store) merge() {
	i := st.n.s.r.IntN(len(st.chain) - 1)
	a, b := st.chain[i], st.chain[i+1]
	rows := slices.Clone(b.rows)
	for _, p := range a.rows {
		at, found := slices.BinarySearchFunc(rows, p.key, func(q pair, k []byte) int { return bytes.Compare(q.key, k) })
		if !found {
			rows = slices.Insert(rows, at, p)
		}
	}
	st.add(i, i+2, b.ref.Epoch, b.ref.Seq, rows)
	st.n.s.tracef("%s merged two files", st.n.id)
}
