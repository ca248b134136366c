package gen_test

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/weirstream/weir/connectors/gen"
	"github.com/weirstream/weir/connectors/gen/driver"
	"github.com/weirstream/weir/dataflow"
)

// The splits of a sequence together make each row once, whatever their number.
func TestSequence(t *testing.T) {
	src := gen.Sequence(100, func(i int64) int64 { return i * 3 }, gen.Splits(7), gen.Rate(2.5))
	if want := (map[string]string{"count": "100", "splits": "7", "rate": "2.5"}); src.Err != nil || !maps.Equal(src.Options, want) {
		t.Errorf("got %v (%v), want %v", src.Options, src.Err, want)
	}
	if err := (driver.Source{}).Check(dataflow.Connector{Kind: src.Kind, Options: src.Options}, nil); err != nil {
		t.Errorf("the driver refuses what the declaration offers: %v", err)
	}
	var all []int64
	for k := range int64(7) {
		dst := make([]int64, (100-k+6)/7)
		src.Fill(dst, k, 7)
		all = append(all, dst...)
	}
	slices.Sort(all)
	for i, v := range all {
		if v != int64(i)*3 {
			t.Fatalf("row %d is %d, want %d", i, v, i*3)
		}
	}
}

// What cannot be generated is said.
func TestFaults(t *testing.T) {
	src := gen.Sequence[int](-5, func(int64) int { return 0 }, gen.Splits(0), gen.Rate(0))
	for _, want := range []string{"count is -5", "0 splits", "0 rows per second"} {
		if src.Err == nil || !strings.Contains(src.Err.Error(), want) {
			t.Errorf("no sentence with %q in: %v", want, src.Err)
		}
	}
	if src := gen.Sequence(gen.Forever, func(int64) int { return 0 }); src.Err != nil || src.Options["count"] != "" {
		t.Errorf("forever: %v %v", src.Options, src.Err)
	}
	if src := gen.Sequence[int](1, nil); src.Err == nil {
		t.Error("a nil function is not refused")
	}
}
