package deltalake

import (
	"context"
	"fmt"
	"math/rand/v2"
	"reflect"
	"testing"
	"time"
)

// A table whose Delta checkpoints repeat row groups of those before opens from each
// of them to what it is, field by field, while files come, go and change.
func TestCheckpointRepeatsRowGroups(t *testing.T) {
	ctx := context.Background()
	for seed := range uint64(4) {
		rng := rand.New(rand.NewPCG(seed, 11))
		clock := &testClock{time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)}
		props := map[string]string{"delta.checkpointInterval": "1000000", "delta.enableDeletionVectors": "true"}
		if seed%2 == 1 {
			props["delta.checkpointPolicy"] = "v2"
		}
		tbl, store := smallTable(t, clock, props)
		repeated, name := 0, 0
		for range 25 {
			clock.at = clock.at.Add(time.Minute)
			s := tbl.Latest()
			c := Commit{Base: s}
			for range []int{1, 30, 700}[rng.IntN(3)] {
				name++
				a := randomAdd(rng, fmt.Sprintf("part-%d.parquet", name))
				a.BaseRowID, a.DefaultRowCommitVersion, a.DataChange = nil, nil, true
				a.PartitionValues = map[string]*string{}
				for _, p := range s.metadata.PartitionColumns {
					a.PartitionValues[p] = nil
				}
				c.Adds = append(c.Adds, a)
			}
			if rng.IntN(2) == 0 {
				for _, a := range s.Files() {
					if rng.IntN(200) == 0 {
						r := a.remove(clock.at.UnixMilli(), true)
						c.Removes = append(c.Removes, &r)
					}
				}
			}
			if _, err := tbl.Commit(ctx, c); err != nil {
				t.Fatal(err)
			}
			before := tbl.mu.encoded
			if err := tbl.WriteCheckpoint(ctx, tbl.Latest()); err != nil {
				t.Fatal(err)
			}
			for b, e := range tbl.mu.encoded {
				if before[b].group == e.group {
					repeated++
				}
			}
			opened, err := Open(ctx, store, TableOptions{Now: clock.now})
			if err != nil {
				t.Fatal(err)
			}
			if opened.Latest().base != tbl.Latest().version {
				t.Fatalf("version %d was opened from a checkpoint of %d", tbl.Latest().version, opened.Latest().base)
			}
			if err := sameState(tbl.Latest(), opened.Latest()); err != nil {
				t.Fatalf("seed %d, version %d: %v", seed, tbl.Latest().version, err)
			}
			for a := range opened.Latest().AllFiles() {
				want := *tbl.Latest().files.get(a.key())
				want.DataChange = false // a checkpoint changes no data
				if !reflect.DeepEqual(*a, want) {
					t.Fatalf("seed %d: %v, want %v", seed, jsonText(a), jsonText(want))
				}
			}
		}
		if repeated < 5 {
			t.Errorf("seed %d: %d row groups were repeated", seed, repeated)
		}
	}
}
