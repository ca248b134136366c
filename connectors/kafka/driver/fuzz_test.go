package driver

import (
	"reflect"
	"testing"
)

// Whatever a checkpoint holds, reading it gives an error or what writes it again.
func FuzzHandle(f *testing.F) {
	f.Add([]byte(`{"id":"a","pid":1,"epoch":2,"v":5,"records":3}`))
	f.Add([]byte(`{"id":"","v":5}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		h, err := parseHandle(b)
		if err != nil {
			return
		}
		if again, err := parseHandle(h.encode()); err != nil || again != h {
			t.Errorf("%q: %+v, then %+v, %v", b, h, again, err)
		}
	})
}

// Split ids and offset lists read back as they were written.
func FuzzOffsets(f *testing.F) {
	f.Add("a/0=1,b/12=99")
	f.Add("/0=1")
	f.Add("a/-1=0")
	f.Fuzz(func(t *testing.T, text string) {
		offsets, err := parseOffsets(text)
		if err != nil {
			return
		}
		written := ""
		for id, n := range offsets {
			topic, partition, ok := parseSplit(id)
			if !ok || partition < 0 || topic == "" || n < 0 {
				t.Errorf("%q holds %q=%d", text, id, n)
			}
			if written != "" {
				written += ","
			}
			s := split{id: id, next: n, end: -1}
			if next, err := nextOf(s.state()); err != nil || next != n {
				t.Errorf("position %s: %d, %v", s.state().Position, next, err)
			}
			written += id + "=" + string(s.state().Position[8:len(s.state().Position)-1])
		}
		if again, err := parseOffsets(written); err != nil || !reflect.DeepEqual(again, offsets) {
			t.Errorf("%q became %q: %v, %v", text, written, again, err)
		}
	})
}
