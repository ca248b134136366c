package kernel

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/weirstream/weir/dataflow"
	"github.com/weirstream/weir/stream/spi"
)

type routed struct {
	Key  string
	N, M int64
}

// A router gives every row, in order, to its receiver and stops only where one is
// full.
func TestRouters(t *testing.T) {
	hash, err := HasherOf[string]()
	if err != nil {
		t.Fatal(err)
	}
	for seed := range uint64(500) {
		rng := rand.New(rand.NewPCG(seed, 2))
		receivers, groups := rng.IntN(5)+1, 16
		owner := make([]int32, groups)
		for g := range owner {
			owner[g] = int32(dataflow.OwnerOf(g, groups, receivers))
		}
		routers := map[string]spi.Router{
			"hash":      NewHashRouter(func(r routed) string { return r.Key }, hash),
			"rebalance": NewRebalance[routed](),
			"broadcast": NewBroadcast[routed](),
		}
		for kind, r := range routers {
			in := NewRows[routed](0)
			out := make([]spi.Batch, receivers)
			for i := range out {
				out[i] = r.NewBatch(0)
			}
			n := 0
			for range 3 {
				in.Reset()
				for range rng.IntN(40) {
					in.Add(routed{Key: fmt.Sprint(rng.IntN(9)), N: int64(n)}, int64(n))
					n++
				}
				for from := 0; from < in.Len(); {
					room := make([]int, receivers)
					for i := range room {
						room[i] = rng.IntN(6)
					}
					before := lengths(out)
					k := r.Route(in, from, owner, room, out)
					for i, b := range out {
						if b.Len()-before[i] > room[i] {
							t.Fatalf("seed %d: %s gave receiver %d more than its room", seed, kind, i)
						}
					}
					if k < 0 || kind == "rebalance" && k < min(in.Len()-from, sum(room)) {
						t.Fatalf("seed %d: %s consumed %d of %d with room %v", seed, kind, k, in.Len()-from, room)
					}
					from += k
				}
			}
			checkRouted(t, kind, out, owner, n, hash)
		}
	}
}

func lengths(out []spi.Batch) (n []int) {
	for _, b := range out {
		n = append(n, b.Len())
	}
	return n
}

func sum(v []int) (s int) {
	for _, x := range v {
		s += x
	}
	return s
}

func checkRouted(t *testing.T, kind string, out []spi.Batch, owner []int32, n int, hash func(string) uint32) {
	t.Helper()
	var all []int64
	for i, b := range out {
		rows := b.(*Rows[routed])
		var got []int64
		for j, v := range rows.Values {
			got = append(got, v.N)
			if rows.Meta.Times[j] != v.N {
				t.Fatalf("%s: row %d has time %d", kind, v.N, rows.Meta.Times[j])
			}
			if kind == "hash" {
				h := hash(v.Key)
				if rows.Meta.Hashes[j] != h || owner[dataflow.GroupOf(h, len(owner))] != int32(i) {
					t.Fatalf("hash: row %d with key %q went to receiver %d with hash %d", v.N, v.Key, i, rows.Meta.Hashes[j])
				}
			} else if len(rows.Meta.Hashes) != 0 {
				t.Fatalf("%s: rows have hashes", kind)
			}
		}
		if !slices.IsSorted(got) {
			t.Fatalf("%s: receiver %d got rows out of order: %v", kind, i, got)
		}
		if kind == "broadcast" && len(got) != n {
			t.Fatalf("broadcast: receiver %d got %d of %d rows", i, len(got), n)
		}
		all = append(all, got...)
	}
	if kind == "broadcast" {
		return
	}
	slices.Sort(all)
	if len(all) != n || n > 0 && all[n-1] != int64(n-1) {
		t.Fatalf("%s: %d rows came out of %d", kind, len(all), n)
	}
}

func BenchmarkHashRouter(b *testing.B) {
	for _, receivers := range []int{1, 4, 16} {
		b.Run(fmt.Sprint("int/", receivers), func(b *testing.B) {
			hash, _ := HasherOf[int64]()
			benchRouter(b, NewHashRouter(func(r routed) int64 { return r.N }, hash), receivers)
		})
		b.Run(fmt.Sprint("string/", receivers), func(b *testing.B) {
			hash, _ := HasherOf[string]()
			benchRouter(b, NewHashRouter(func(r routed) string { return r.Key }, hash), receivers)
		})
	}
}

func BenchmarkRebalance(b *testing.B) { benchRouter(b, NewRebalance[routed](), 4) }

func benchRouter(b *testing.B, r spi.Router, receivers int) {
	in := NewRows[routed](1024)
	for i := range 1024 {
		in.Add(routed{Key: fmt.Sprintf("user-%05d", i*7919%1024), N: int64(i) * 7919}, int64(i))
	}
	owner := make([]int32, 128)
	for g := range owner {
		owner[g] = int32(dataflow.OwnerOf(g, 128, receivers))
	}
	room := make([]int, receivers)
	out := make([]spi.Batch, receivers)
	for i := range out {
		room[i] = 4096
		out[i] = r.NewBatch(2048)
	}
	b.ReportAllocs()
	for b.Loop() {
		if n := r.Route(in, 0, owner, room, out); n != 1024 {
			b.Fatal(n)
		}
		for _, o := range out {
			o.Reset()
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/1024, "ns/row")
}

// A batch that finds no room is hashed once, however often it is offered again, and
// another one in the same container anew.
func TestBlockedBatchIsHashedOnce(t *testing.T) {
	hashed := 0
	hash, err := HasherOf[string]()
	if err != nil {
		t.Fatal(err)
	}
	r := NewHashRouter(func(r routed) string { return r.Key }, func(k string) uint32 { hashed++; return hash(k) })
	in, out := NewRows[routed](0), []spi.Batch{r.NewBatch(0)}
	owner := make([]int32, 16)
	for round := range 3 {
		in.Reset()
		for i := range 10 {
			in.Add(routed{Key: fmt.Sprint(round, i)}, 0)
		}
		from := 0
		for _, room := range []int{0, 0, 0, 4, 0, 0, 6} {
			from += r.Route(in, from, owner, []int{room}, out)
		}
		if want := 10 * (round + 1); from != 10 || hashed != want || out[0].Len() != want {
			t.Fatalf("round %d: %d rows went, %d were hashed, %d arrived", round, from, hashed, out[0].Len())
		}
		for i, h := range out[0].(*Rows[routed]).Meta.Hashes[10*round:] {
			if h != hash(in.Values[i].Key) {
				t.Errorf("round %d row %d has the hash of another key", round, i)
			}
		}
	}
}
