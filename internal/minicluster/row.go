package minicluster

import (
	"encoding/binary"
	"reflect"
	"unsafe"

	"github.com/weirstream/weir/dataflow"
	"github.com/weirstream/weir/stream/spi"
)

// row is the one row type: an input record, or with N set an output record.
type row struct {
	ID  uint64 // split and offset
	Key uint64
	N   int64 // how many of the key there were, this one included
}

const rowBytes = 24

func (r row) append(b []byte) []byte {
	b = binary.BigEndian.AppendUint64(b, r.ID)
	b = binary.BigEndian.AppendUint64(b, r.Key)
	return binary.BigEndian.AppendUint64(b, uint64(r.N))
}

// batch implements spi.Batch.
type batch struct {
	rows []row
	head spi.Head
}

func newBatch(capacity int) *batch {
	return &batch{rows: make([]row, 0, capacity), head: spi.Head{Times: make([]int64, 0, capacity)}}
}

func (b *batch) Len() int             { return len(b.rows) }
func (b *batch) Head() *spi.Head      { return &b.head }
func (b *batch) Elem() reflect.Type   { return reflect.TypeFor[row]() }
func (b *batch) Base() unsafe.Pointer { return unsafe.Pointer(unsafe.SliceData(b.rows)) }

func (b *batch) Extend(n int) unsafe.Pointer {
	at := len(b.rows)
	b.rows = append(b.rows, make([]row, n)...)
	b.head.Times = append(b.head.Times, make([]int64, n)...)
	b.head.Hashes = b.head.Hashes[:0]
	return unsafe.Pointer(&b.rows[at])
}

func (b *batch) Append(src spi.Batch, from, to int) {
	s := src.(*batch)
	b.rows = append(b.rows, s.rows[from:to]...)
	b.head.Times = append(b.head.Times, s.head.Times[from:to]...)
}

func (b *batch) push(r row, time int64) {
	b.rows = append(b.rows, r)
	b.head.Times = append(b.head.Times, time)
}

func (b *batch) Truncate(n int) { b.rows, b.head.Times = b.rows[:n], b.head.Times[:n] }

func (b *batch) Reset() {
	for i := range b.rows { // whoever reads a batch after giving it away sees nonsense
		b.rows[i] = row{^uint64(0), ^uint64(0), -1}
	}
	b.Truncate(0)
	b.head.Watermark = 0
}

func (b *batch) New(capacity int) spi.Batch { return newBatch(capacity) }

// keyHash spreads keys over key groups.
func keyHash(key uint64) uint32 {
	return uint32((key*0x9e3779b97f4a7c15 + 0x632be59bd9b4e019) >> 32)
}

// router implements spi.Router.
type router struct{ groups int }

func (router) NewBatch(capacity int) spi.Batch { return newBatch(capacity) }

func (r router) Route(in spi.Batch, from int, owner []int32, room []int, out []spi.Batch) int {
	b := in.(*batch)
	for i := from; i < len(b.rows); i++ {
		to := owner[dataflow.GroupOf(keyHash(b.rows[i].Key), r.groups)]
		if room[to] == 0 {
			return i - from
		}
		room[to]--
		out[to].(*batch).push(b.rows[i], b.head.Times[i])
	}
	return len(b.rows) - from
}

// stamper implements spi.SourceRunner: times are offsets, watermarks their least.
type stamper struct{ marks []int64 }

func (s *stamper) NewBatch(capacity int) spi.Batch { return newBatch(capacity) }

func (s *stamper) Assign(ids []string, marks []int64) { s.marks = append([]int64(nil), marks...) }

func (s *stamper) Stamp(n int, b spi.Batch, from int, now int64) error {
	for _, t := range b.Head().Times[from:] {
		s.marks[n] = max(s.marks[n], t-2)
	}
	return nil
}

func (s *stamper) Mark(n int) int64 { return s.marks[n] }

func (s *stamper) Watermark(now int64, held bool) (wm int64, idle bool) {
	if len(s.marks) == 0 {
		return dataflow.MinTime, true
	}
	wm = dataflow.MaxTime
	for _, m := range s.marks {
		wm = min(wm, m)
	}
	return wm, false
}

func (s *stamper) Generate(spi.Batch, int, int, int64, int) error { panic("minicluster: no generator") }
