package objstore_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"

	"github.com/weirstream/weir/internal/objstore"
)

// Whatever the sizes, a body is cut into parts that add up to it.
func TestCutter(t *testing.T) {
	for size := range 14 {
		for want := -1; want < 16; want++ {
			body := strings.Repeat("abcdefghij", 2)[:size]
			c := objstore.NewCutter("put k", strings.NewReader(body), int64(want), 4, 0)
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

// What is sent in parallel is the body, part by part; what goes wrong is told.
func TestCutterSend(t *testing.T) {
	body := strings.Repeat("abcdefghij", 10)
	refused := errors.New("refused")
	for _, tt := range []struct {
		name   string
		size   int64 // announced
		most   int
		fail   int // this part is refused
		cancel bool
		want   string // in the error; empty is none
	}{
		{"known size", 100, 0, -1, false, ""},
		{"unknown size", -1, 0, -1, false, ""},
		{"larger parts where they would be too many", 100, 5, -1, false, ""},
		{"too many parts", -1, 5, -1, false, "put k: over 5 parts of 4 bytes"},
		{"too short", 101, 0, -1, false, "put k: the body has 100 bytes, 101 were announced"},
		{"a part is refused", -1, 0, 3, false, "refused"},
		{"the caller gives up", -1, 0, -1, true, "put k: context canceled"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			c := objstore.NewCutter("put k", strings.NewReader(body), tt.size, 4, tt.most)
			first, err := c.Next()
			if err != nil {
				t.Fatal(err)
			}
			var mu sync.Mutex
			got := map[int]string{}
			err = c.Send(ctx, first, 3, func(ctx context.Context, n int, part []byte) error {
				if n == tt.fail {
					return refused
				}
				if tt.cancel {
					cancel()
				}
				mu.Lock()
				defer mu.Unlock()
				got[n] = string(part)
				return nil
			})
			if tt.want != "" {
				if err == nil || !strings.Contains(err.Error(), tt.want) {
					t.Errorf("%v, want %q", err, tt.want)
				}
				return
			}
			whole := ""
			for n := range len(got) {
				whole += got[n]
			}
			if err != nil || whole != body || tt.most > 0 && len(got) > tt.most {
				t.Errorf("%d parts, %q, %v", len(got), whole, err)
			}
		})
	}
}
