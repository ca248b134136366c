package kernel

import (
	"encoding/binary"
	"math/rand/v2"
	"reflect"
	"syscall"
	"testing"
	"unsafe"

	"github.com/weirstream/weir/dataflow"
	"github.com/weirstream/weir/stream/spi"
)

// cpuTime returns the CPU time of the process in nanoseconds: on a busy machine it
// says more than the clock.
func cpuTime() int64 {
	var u syscall.Rusage
	syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return u.Utime.Nano() + u.Stime.Nano()
}

// A bid is as wide as Nexmark's.
type bid struct {
	Auction, Bidder, Price, At int64
	Channel, URL, Extra        string
}

type bidPair struct{ Bidder, Auction int64 }

type lastOf struct{ Bid bid }

// bidCodec encodes bids without reflection.
type bidCodec struct{}

func (bidCodec) Schema() string { return "" }

func (bidCodec) Append(dst []byte, p unsafe.Pointer) ([]byte, error) {
	b := (*bid)(p)
	for _, n := range []int64{b.Auction, b.Bidder, b.Price, b.At} {
		dst = binary.AppendVarint(dst, n)
	}
	for _, s := range []string{b.Channel, b.URL, b.Extra} {
		dst = append(binary.AppendUvarint(dst, uint64(len(s))), s...)
	}
	return dst, nil
}

func (bidCodec) Decode(src []byte, p unsafe.Pointer, a *spi.Arena) error {
	b := (*bid)(p)
	for _, n := range []*int64{&b.Auction, &b.Bidder, &b.Price, &b.At} {
		v, w := binary.Varint(src)
		*n, src = v, src[w:]
	}
	for _, s := range []*string{&b.Channel, &b.URL, &b.Extra} {
		l, w := binary.Uvarint(src)
		*s, src = a.String(src[w:w+int(l)]), src[w+int(l):]
	}
	return nil
}

type bidHost struct{ *memHost }

func (h bidHost) State(name string) (dataflow.StateID, spi.Codec, spi.Codec, error) {
	id, k, _, err := h.memHost.State(name)
	return id, k, bidCodec{}, err
}

func bidBatches(n int) []*Rows[bid] {
	rnd := rand.New(rand.NewPCG(1, 1))
	var a spi.Arena
	text := make([]byte, 64)
	var out []*Rows[bid]
	for i := range n {
		b := NewRows[bid](1024)
		for range 1024 {
			auction := int64(i*100 + rnd.IntN(2000))
			b.Add(bid{auction, int64(rnd.IntN(100000)), 1, int64(i), a.String(text[:8]), a.String(text[:40]), a.String(text[:50])}, int64(i))
		}
		out = append(out, b)
	}
	return out
}

// Last bid per bidder and auction: nearly every row is a new key.
func BenchmarkLastBid(b *testing.B) {
	batches := bidBatches(512)
	hash, _ := HasherOf[bidPair]()
	for _, in := range batches {
		for _, v := range in.Values {
			in.Meta.Hashes = append(in.Meta.Hashes, hash(bidPair{v.Bidder, v.Auction}))
		}
	}
	var step, write int64
	rows := 0
	for b.Loop() {
		r, _ := NewActors(ActorSpec[bidPair, *lastOf, bid]{
			Init: func() *lastOf { return new(lastOf) },
			Inputs: []ActorInput[bidPair, *lastOf, bid]{NewActorInput(
				func(v bid) bidPair { return bidPair{v.Bidder, v.Auction} },
				func(a *lastOf, r *Run[bid], v *bid) {
					if v.At >= a.Bid.At {
						a.Bid = *v
						r.Emit(*v)
					}
				})},
		}, new(Sides))
		h := bidHost{&memHost{states: ActorStates[*lastOf](false), owned: dataflow.KeyGroups{To: 128}, total: 128}}
		r.Open(h, nil)
		for _, in := range batches {
			h.room = 1 << 20
			t := cpuTime()
			r.Step(0, in, 0)
			step += cpuTime() - t
			rows += in.Len()
		}
		t := cpuTime()
		f, _ := r.Freeze()
		f.Rows(func(k, v []byte) bool { return true })
		f.Done(nil)
		write += cpuTime() - t
	}
	b.ReportMetric(float64(step)/float64(rows), "step-cpu-ns/row")
	b.ReportMetric(float64(write)/float64(rows), "freeze-cpu-ns/row")
}

type bidsOf struct{ N int64 }

// A list per auction that every bid is appended to.
func BenchmarkListAppend(b *testing.B) {
	batches := bidBatches(512)
	hash, _ := HasherOf[int64]()
	for _, in := range batches {
		for _, v := range in.Values {
			in.Meta.Hashes = append(in.Meta.Hashes, hash(v.Auction))
		}
	}
	list := &ListHandle[bid]{Name: "bids"}
	var step, write int64
	rows := 0
	for b.Loop() {
		r, _ := NewActors(ActorSpec[int64, *bidsOf, bid]{
			Init: func() *bidsOf { return new(bidsOf) },
			Inputs: []ActorInput[int64, *bidsOf, bid]{NewActorInput(
				func(v bid) int64 { return v.Auction },
				func(a *bidsOf, r *Run[bid], v *bid) { list.Append(&r.Core, *v) })},
			States: []Handle{list},
		}, new(Sides))
		states := append(ActorStates[*bidsOf](false), spi.StateType{Name: "bids", Kind: dataflow.ListState, Value: reflect.TypeFor[bid]()})
		h := bidHost{&memHost{states: states, owned: dataflow.KeyGroups{To: 128}, total: 128}}
		r.Open(h, nil)
		r.(*actors[int64, *bidsOf, bid]).table.lay.codec = fixedCodec{8}
		for _, in := range batches {
			h.room = 1 << 20
			t := cpuTime()
			r.Step(0, in, 0)
			step += cpuTime() - t
			rows += in.Len()
		}
		t := cpuTime()
		f, _ := r.Freeze()
		f.Rows(func(k, v []byte) bool { return true })
		f.Done(nil)
		write += cpuTime() - t
	}
	b.ReportMetric(float64(step)/float64(rows), "step-cpu-ns/row")
	b.ReportMetric(float64(write)/float64(rows), "freeze-cpu-ns/row")
}
