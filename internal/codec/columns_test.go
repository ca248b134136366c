package codec

import (
	"reflect"
	"strings"
	"testing"
	"time"
	"unsafe"

	"github.com/weirstream/weir/dataflow"
)

type colBase struct {
	ID   int64
	Kind string `json:"kind"`
}

type colInner struct {
	X int32
	Y *float64
}

type colRow struct {
	colBase
	UserID string
	Price  dataflow.Decimal `weir:"price,decimal(12,2)"`
	Any    *dataflow.Decimal
	At     time.Time
	Wait   time.Duration
	Big    uint64
	Tags   []string
	In     colInner
	Ptr    *colInner
	M      map[string]colInner
	Sum    [4]byte
	Raw    []byte
	Cache  func() `state:"-"`
}

// Columns lead to every value of a row by address alone.
func TestColumns(t *testing.T) {
	cols, err := Columns(reflect.TypeFor[colRow]())
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	byName := map[string]*Column{}
	for i := range cols {
		c := &cols[i]
		byName[c.Name] = c
		s := c.Name + " " + string(c.Type)
		if c.Nullable {
			s += "?"
		}
		got = append(got, s)
	}
	want := "id long, kind string, user_id string, price decimal, any decimal?, at timestamp, wait long, big decimal, tags list?, in struct, ptr struct?, m map?, sum binary, raw binary?"
	if s := strings.Join(got, ", "); s != want {
		t.Fatalf("columns are\n%s, want\n%s", s, want)
	}
	y := 2.5
	row := colRow{colBase: colBase{7, "k"}, UserID: "u", Price: dataflow.MustParseDecimal("12.5"), Big: 1 << 63,
		At: time.UnixMicro(-5), Wait: time.Second, Tags: []string{"a", "b"}, In: colInner{3, &y}, Ptr: &colInner{X: 4},
		M: map[string]colInner{"k": {X: 9}}, Sum: [4]byte{1, 2, 3, 4}}
	p := unsafe.Pointer(&row)
	if v := byName["id"].Int64(byName["id"].Value(p)); v != 7 {
		t.Errorf("id = %d", v)
	}
	if v := byName["user_id"].Bytes(byName["user_id"].Value(p)); string(v) != "u" {
		t.Errorf("user_id = %q", v)
	}
	if v, err := byName["price"].Decimal(byName["price"].Value(p)); err != nil || v.String() != "12.50" {
		t.Errorf("price = %s, %v", v, err)
	}
	if v, err := byName["big"].Decimal(byName["big"].Value(p)); err != nil || v.String() != "9223372036854775808" {
		t.Errorf("big = %s, %v", v, err)
	}
	if v, err := byName["at"].Micros(byName["at"].Value(p)); err != nil || v != -5 {
		t.Errorf("at = %d, %v", v, err)
	}
	for _, name := range []string{"any", "raw"} {
		if byName[name].Value(p) != nil {
			t.Errorf("%s is not null", name)
		}
	}
	tags := byName["tags"]
	base, n := tags.List(tags.Value(p))
	if n != 2 || string(tags.Elem.Bytes(unsafe.Add(base, tags.Elem.Size))) != "b" {
		t.Errorf("tags: %d elements", n)
	}
	ptr := byName["ptr"]
	if x := &ptr.Fields[0]; x.Int64(x.Value(ptr.Value(p))) != 4 {
		t.Errorf("ptr.x is not 4")
	}
	m := byName["m"]
	m.Map(m.Value(p), func(k, v unsafe.Pointer) bool {
		if x := &m.Elem.Fields[0]; string(m.Key.Bytes(k)) != "k" || x.Int64(x.Value(v)) != 9 {
			t.Errorf("m holds %q", m.Key.Bytes(k))
		}
		return true
	})
	row.At = time.Unix(0, 1)
	if _, err := byName["at"].Micros(byName["at"].Value(p)); err == nil || !strings.Contains(err.Error(), "column at") {
		t.Errorf("a nanosecond: %v", err)
	}
	row.Price = dataflow.MustParseDecimal("0.001")
	if _, err := byName["price"].Decimal(byName["price"].Value(p)); err == nil {
		t.Error("0.001 fits decimal(12,2)")
	}
}

type recursive struct {
	Name string
	Next *recursive
}

func TestColumnsRefuse(t *testing.T) {
	for _, tt := range []struct {
		t    reflect.Type
		want string
	}{
		{reflect.TypeFor[recursive](), "codec: codec.recursive.Next: a table cannot hold the recursive type codec.recursive"},
		{reflect.TypeFor[struct{ A **int }](), "codec: struct.A: a table cannot hold a pointer to *int, which can be nil itself: drop the pointer"},
	} {
		if _, err := Columns(tt.t); err == nil || err.Error() != tt.want {
			t.Errorf("Columns(%s): %v, want %s", tt.t, err, tt.want)
		}
	}
	cols, err := Columns(reflect.TypeFor[string]())
	if err != nil || len(cols) != 1 || cols[0].Name != "value" || cols[0].Type != ColString {
		t.Errorf("Columns(string) = %v, %v", cols, err)
	}
}
