package deltalake

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"
)

// randomAdd is a file of some path with any of the fields.
func randomAdd(rng *rand.Rand, path string) *AddFile {
	a := &AddFile{Path: path, Size: rng.Int64N(1 << 40), ModificationTime: rng.Int64() >> 1, DataChange: rng.IntN(2) == 0}
	switch rng.IntN(3) {
	case 0:
		a.PartitionValues = map[string]*string{}
	case 1:
		v := fmt.Sprint(rng.IntN(5))
		a.PartitionValues = map[string]*string{"a": &v, "b": nil}
	}
	if rng.IntN(4) > 0 {
		a.Stats = fmt.Sprintf(`{"numRecords":%d,"minValues":{"x":%d,"y":"%s"}}`, rng.IntN(1000), rng.Int(), strings.Repeat("z", rng.IntN(900)))
	}
	if rng.IntN(8) == 0 {
		x := rng.Int64()
		a.BaseRowID, a.DefaultRowCommitVersion = &x, &x
	}
	if rng.IntN(8) == 0 {
		a.DeletionVector = &DeletionVector{StorageType: "u", PathOrInlineDv: fmt.Sprint(rng.IntN(3)), Cardinality: 1}
	}
	if rng.IntN(16) == 0 {
		a.Tags, a.ClusteringProvider = map[string]*string{"t": nil}, "liquid"
	}
	return a
}

// A fileSet and its forks hold what a plain map of the same changes holds, byte for
// byte, whether the changes come while it is built or later.
func TestFileSetIsAMap(t *testing.T) {
	for seed := range uint64(12) {
		rng := rand.New(rand.NewPCG(seed, 7))
		names := []int{40, 3000, 400}[seed%3]
		set, model := newFileSet(), map[fileKey]*AddFile{}
		type version struct {
			set   fileSet
			model map[fileKey]*AddFile
		}
		var kept []version
		for i := range 6000 {
			path := fmt.Sprintf("p%%20%d/part-%d.parquet", rng.IntN(3), rng.IntN(names))
			if rng.IntN(2) == 0 {
				path = strings.ReplaceAll(path, "%20", " ") // the same file, spelled another way
			}
			a := randomAdd(rng, path)
			k := a.key()
			if f, ok := set.find(k); ok != (model[k] != nil) || ok && (f.size != model[k].Size || f.vector.uniqueID() != k.dv) {
				t.Fatalf("seed %d, step %d: %v is %v, %v in the set and %v in the model", seed, i, k, f, ok, model[k])
			}
			if rng.IntN(3) == 0 {
				set.del(k)
				delete(model, k)
			} else {
				c := *a
				set.set(k, &c)
				model[k] = a
			}
			switch {
			case i == 2000:
				set.freeze()
			case i > 2000 && i%int(5+seed) == 0:
				if i%500 < 10 {
					kept = append(kept, version{set, maps.Clone(model)})
				}
				set = set.fork()
			}
		}
		for i, v := range append(kept, version{set, model}) {
			if err := equalSet(&v.set, v.model); err != nil {
				t.Fatalf("seed %d, version %d: %v", seed, i, err)
			}
		}
		if n := len(set.base.blocks); n > 20 {
			t.Errorf("seed %d: %d files in %d blocks", seed, set.len(), n)
		}
	}
}

func equalSet(set *fileSet, model map[fileKey]*AddFile) error {
	if set.len() != len(model) {
		return fmt.Errorf("%d files, want %d", set.len(), len(model))
	}
	seen := map[fileKey]bool{}
	bare := slices.Collect(set.bare())
	i := 0
	for a := range set.all() {
		k := a.key()
		if seen[k] {
			return fmt.Errorf("%v twice", k)
		}
		seen[k] = true
		if !reflect.DeepEqual(a, model[k]) || !reflect.DeepEqual(set.get(k), model[k]) {
			return fmt.Errorf("%v is %v, by its key %v, want %v", k, jsonText(a), jsonText(set.get(k)), jsonText(model[k]))
		}
		if c := *a; bare[i].key() != k || c.Size != bare[i].Size {
			return fmt.Errorf("without statistics it is %v", bare[i].key())
		}
		i++
	}
	if len(seen) != len(model) {
		return fmt.Errorf("%d files are yielded, want %d", len(seen), len(model))
	}
	return nil
}

// The iteration over a set may end early, and statistics that are too large for a
// chunk are kept apart.
func TestFileSetCorners(t *testing.T) {
	set := newFileSet()
	for i := range 300 {
		a := &AddFile{Path: fmt.Sprint("f", i), Stats: strings.Repeat("s", i*500)}
		set.set(a.key(), a)
	}
	big := &AddFile{Path: "big", Stats: strings.Repeat("b", chunkMaxBytes+1)}
	set.set(big.key(), big)
	set.freeze()
	n := 0
	for a := range set.all() {
		if want := n * 500; n < 300 && len(a.Stats) != want {
			t.Fatalf("%s has %d bytes of statistics, want %d", a.Path, len(a.Stats), want)
		}
		if n++; n == 250 {
			break
		}
	}
	if got := set.get(big.key()); got == nil || got.Stats != big.Stats {
		t.Error("large statistics are lost")
	}
	if set.get(fileKey{"f300", ""}) != nil || set.has(fileKey{"f1", "u0"}) {
		t.Error("a file that is not there is found")
	}
}
