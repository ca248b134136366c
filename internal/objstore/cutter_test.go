package objstore_test

import (
	"strings"
	"testing"

	"github.com/weirstream/weir/internal/objstore"
)

// Whatever the sizes, a body is cut into parts that add up to it.
func TestCutter(t *testing.T) {
	for size := range 14 {
		for want := -1; want < 16; want++ {
			body := strings.Repeat("abcdefghij", 2)[:size]
			c := objstore.NewCutter(strings.NewReader(body), 4, int64(want))
			var got []byte
			var err error
			for !c.Done() && err == nil {
				var p []byte
				if p, err = c.Next(); err == nil && !c.Done() && len(p) != 4 {
					t.Errorf("size %d: a middle part of %d bytes", size, len(p))
				}
				got = append(got, p...)
			}
			if ok := want < 0 || want == size; ok != (err == nil) || ok && string(got) != body {
				t.Errorf("size %d announced %d: got %q, %v", size, want, got, err)
			}
		}
	}
}
