package fsm

import (
	"bytes"
	"encoding/json"
	"math/rand/v2"
	"testing"
)

// Whatever bytes the log holds, an entry is applied or refused and never panics,
// and two machines that apply it agree.
func FuzzApply(f *testing.F) {
	p := plan(f, 128)
	r := rand.New(rand.NewPCG(1, 1))
	var base [][]byte
	for range 30 {
		b, err := json.Marshal(randomCommand(r, p))
		if err != nil {
			f.Fatal(err)
		}
		base = append(base, b)
		f.Add(b)
	}
	f.Add([]byte(`{"submit":{"Job":{}}}`))
	f.Fuzz(func(t *testing.T, entry []byte) {
		one, two := New(), New()
		for _, m := range []*Machine{one, two} {
			for _, b := range base {
				m.ApplyBytes(b)
			}
		}
		a, b := one.ApplyBytes(entry), two.ApplyBytes(entry)
		if (a.Err == nil) != (b.Err == nil) || a.Epoch != b.Epoch || a.Job != b.Job {
			t.Fatalf("two machines answer %+v and %+v", a, b)
		}
		for _, m := range []*Machine{one, two} {
			for _, b := range base { // what follows must not fall over what it left
				m.ApplyBytes(b)
			}
		}
		first, err := one.Snapshot()
		if err != nil {
			t.Fatal(err)
		}
		second, err := two.Snapshot()
		if err != nil || !bytes.Equal(first, second) {
			t.Fatalf("two machines differ: %s\n%s (%v)", first, second, err)
		}
		restored := New()
		if err := restored.Restore(first); err != nil {
			t.Fatalf("a snapshot cannot be restored: %v", err)
		}
		if third, err := restored.Snapshot(); err != nil || !bytes.Equal(first, third) {
			t.Fatalf("a snapshot restores to %s, was %s (%v)", third, first, err)
		}
	})
}

// Any bytes restore to an error or to a state that goes on.
func FuzzSnapshot(f *testing.F) {
	p := plan(f, 128)
	r := rand.New(rand.NewPCG(2, 1))
	m := New()
	for range 60 {
		m.Apply(randomCommand(r, p))
	}
	seed, err := m.Snapshot()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(seed)
	f.Add([]byte(`{"version":1}`))
	f.Add([]byte(`{"version":1,"jobs":null,"pipelines":{"a":null}}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		m := New()
		if m.Restore(b) != nil {
			return
		}
		m.Jobs()
		r := rand.New(rand.NewPCG(3, 1))
		for range 20 {
			m.Apply(randomCommand(r, p))
		}
	})
}
