package kernel

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/weirstream/weir/dataflow"
)

// What Evict says it freed is what Memory counts less, down to nothing when all is
// clean; dirty and frozen entries stay.
func TestMemoryFollowsEviction(t *testing.T) {
	mk, states := newTestRunner[string](func() *deepActor[string] { return &deepActor[string]{Param: 42} })
	r, _ := mk()
	h := &memHost{store: map[string][]byte{}, states: states, owned: dataflow.KeyGroups{To: testGroups}, total: testGroups}
	if err := r.Open(h, nil); err != nil {
		t.Fatal(err)
	}
	feed := func(from, to int) {
		in := NewRows[event[string]](0)
		for k := from; k < to; k++ {
			in.Add(event[string]{Key: fmt.Sprint("key-", k), Op: "add", N: 1}, 0)
		}
		for at := 0; at < in.Len(); {
			h.room = 1 << 20
			n, err := r.Step(0, in, at)
			if err != nil {
				t.Fatal(err)
			}
			at += n
		}
	}
	feed(0, 20000)
	total, dirty := r.Memory()
	if dirty < total*9/10 {
		t.Fatalf("%d of %d bytes are dirty, want nearly all", dirty, total)
	}
	if n := r.Evict(1 << 40); n != 0 {
		t.Fatalf("evicted %d dirty bytes", n)
	}
	f, _ := r.Freeze()
	if n := r.Evict(1 << 40); n != 0 {
		t.Fatalf("evicted %d frozen bytes", n)
	}
	w, err := writeFrozen(f)
	if err != nil {
		t.Fatal(err)
	}
	h.apply(w)
	f.Done(nil)
	if total, dirty = r.Memory(); dirty != 0 {
		t.Fatalf("%d bytes are dirty after the freeze", dirty)
	}
	freed := r.Evict(total / 4)
	if freed < total/4 || freed > total/2 {
		t.Fatalf("evicted %d of %d bytes, want about a quarter", freed, total)
	}
	if now, _ := r.Memory(); now > total-freed*9/10 || now < total-freed*11/10 {
		t.Fatalf("%d of %d bytes are left after evicting %d", now, total, freed)
	}
	r.Evict(1 << 40)
	if now, _ := r.Memory(); now != 0 {
		t.Fatalf("%d bytes are left", now)
	}
	feed(0, 20000)
	if h.loads == 0 {
		t.Fatal("nothing was loaded")
	}
}

// The index finds what was added and not removed, through growth, splitting and
// removal.
func TestIndexAgainstMap(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 8))
	var x index
	x.init()
	ref := map[uint32]uint32{}
	for i := range uint32(400000) {
		h := mix(rnd.Uint32N(120000))
		if id, ok := ref[h]; ok && i%3 != 0 {
			if !x.remove(h, id) {
				t.Fatalf("%x is gone", h)
			}
			delete(ref, h)
		} else if !ok {
			x.add(h, i+1)
			ref[h] = i + 1
		}
	}
	if x.used != len(ref) || x.mask == 0 {
		t.Fatalf("%d entries, want %d; mask %d", x.used, len(ref), x.mask)
	}
	for h, id := range ref {
		if got := x.first(h); got != id {
			t.Fatalf("%x: got %d, want %d", h, got, id)
		}
	}
}

// Keys of all lengths come back from the arena, whatever was dropped before.
func TestArenaAgainstMap(t *testing.T) {
	rnd := rand.New(rand.NewPCG(2, 8))
	var a keyArena
	ref := map[keyRef]string{}
	for range 30000 {
		if len(ref) > 500 && rnd.IntN(2) == 0 {
			for r, k := range ref {
				if got := string(a.get(r)); got != k {
					t.Fatalf("got %q, want %q", got, k)
				}
				a.drop(r)
				delete(ref, r)
				break
			}
			continue
		}
		k := make([]byte, []int{rnd.IntN(40), rnd.IntN(700)}[rnd.IntN(2)])
		for i := range k {
			k[i] = byte(rnd.Uint32())
		}
		r := a.add(string(k))
		if old, ok := ref[r]; ok {
			t.Fatalf("the place of %q is given away", old)
		}
		ref[r] = string(k)
	}
	for r, k := range ref {
		if got := string(a.get(r)); got != k {
			t.Fatalf("got %q, want %q", got, k)
		}
		a.drop(r)
	}
	if a.used != 0 {
		t.Fatalf("%d bytes are in use", a.used)
	}
}
