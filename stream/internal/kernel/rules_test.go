package kernel

import (
	"encoding/binary"
	"strings"
	"testing"
	"unsafe"

	"github.com/weirstream/weir/stream/spi"
)

// textCodec is a codec of strings.
type textCodec struct{}

func (textCodec) Schema() string { return `"string"` }
func (textCodec) Append(dst []byte, p unsafe.Pointer) ([]byte, error) {
	return append(dst, *(*string)(p)...), nil
}
func (textCodec) Decode(src []byte, p unsafe.Pointer, a *spi.Arena) error {
	*(*string)(p) = a.String(src)
	return nil
}

func newRules(t *testing.T, b []byte) (*rules[string, string], error) {
	t.Helper()
	h := &RulesHandle[string, string]{Name: "r", Key: func(v string) string { k, _, _ := strings.Cut(v, "="); return k }}
	x := &rules[string, string]{h: h, core: &Core{host: oneSubtask{}}, key: textCodec{}, value: textCodec{}, byKey: map[string]*rule[string, string]{}}
	return x, x.restore(b)
}

// oneSubtask is the host of subtask 0.
type oneSubtask struct{ spi.Host }

func (oneSubtask) Subtask() (index, parallelism int) { return 0, 1 }

// The latest event time wins, of equal ones the last; what is kept comes back, and
// what was damaged is refused.
func TestRules(t *testing.T) {
	x, err := newRules(t, nil)
	if err != nil {
		t.Fatal(err)
	}
	if x.extra() != nil {
		t.Error("no rules leave something")
	}
	for _, r := range []struct {
		row string
		at  int64
	}{{"b=1", 5}, {"a=1", -7}, {"b=2", 4}, {"a=2", -7}, {"b=3", 5}, {"=", 0}, {"c=old", 9}} {
		if err := x.put(r.row, r.at); err != nil {
			t.Fatal(err)
		}
	}
	kept := x.extra()
	if &kept[0] != &x.extra()[0] {
		t.Error("unchanged rules are written anew")
	}
	y, err := newRules(t, kept)
	if err != nil {
		t.Fatal(err)
	}
	if err := y.put("c=older", 8); err != nil { // its time came back too
		t.Fatal(err)
	}
	var got []string
	for _, r := range y.order() {
		got = append(got, r.value)
	}
	if s := strings.Join(got, " "); s != "= a=2 b=3 c=old" {
		t.Errorf("restored %q", s)
	}
	if string(y.extra()) != string(kept) || y.bytes != x.bytes {
		t.Errorf("kept %q and %d bytes, then %q and %d", kept, x.bytes, y.extra(), y.bytes)
	}
	if _, err := newRules(t, []byte{9}); err == nil {
		t.Error("an unknown version was taken")
	}
	for n := 2; n < len(kept); n++ {
		z, err := newRules(t, kept[:n])
		if err == nil && len(z.byKey) >= len(y.byKey) {
			t.Errorf("%d bytes of %d were taken for all", n, len(kept))
		}
	}
	if _, err := newRules(t, binary.AppendUvarint([]byte{1}, 1<<62)); err == nil {
		t.Error("a length beyond the end was taken")
	}
	if err := x.put("big="+strings.Repeat("x", maxRules), 1); err == nil || !strings.Contains(err.Error(), "keyed state") {
		t.Errorf("too many rules: %v, want the cure", err)
	}
}

func FuzzRules(f *testing.F) {
	f.Add([]byte{1, 1, 'a', 2, 1, 'b'})
	f.Fuzz(func(t *testing.T, b []byte) {
		x, err := newRules(t, b)
		if err != nil || len(x.byKey) == 0 {
			return
		}
		y, err := newRules(t, x.extra())
		if err != nil || string(y.extra()) != string(x.extra()) {
			t.Errorf("%q came back as %q, %v", x.extra(), y.extra(), err)
		}
	})
}
