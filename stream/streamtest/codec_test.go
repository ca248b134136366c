package streamtest

import (
	"math/rand"
	"reflect"
	"testing"
	"testing/quick"
)

type everything struct {
	B    bool
	I    int16
	U    uint64
	F    float32
	S    string
	P    *int
	L    []string
	A    [3]int8
	M    map[string][]int
	N    struct{ X, Y int }
	Skip int `state:"-"`
	Bad  map[int]*string
}

// Every value comes back from its encoding as it was, and no damaged row is taken
// for one or crashes.
func TestPlainCodec(t *testing.T) {
	c := plainCodec{reflect.TypeFor[everything]()}
	rng := rand.New(rand.NewSource(1))
	check := func(v everything) bool {
		b, err := c.Append(nil, reflect.ValueOf(&v).UnsafePointer())
		if err != nil {
			t.Fatal(err)
		}
		var back everything
		if err := c.Decode(b, reflect.ValueOf(&back).UnsafePointer(), nil); err != nil {
			t.Fatal(err)
		}
		v.Skip = 0
		for range 20 {
			damaged := append([]byte{}, b[:rng.Intn(len(b))]...)
			if len(damaged) > 0 {
				damaged[rng.Intn(len(damaged))] ^= byte(1 << rng.Intn(8))
			}
			var other everything
			_ = c.Decode(damaged, reflect.ValueOf(&other).UnsafePointer(), nil)
		}
		return reflect.DeepEqual(v, back)
	}
	if err := quick.Check(check, &quick.Config{MaxCount: 300, Rand: rng}); err != nil {
		t.Error(err)
	}
}
