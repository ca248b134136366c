package codec

import (
	"fmt"
	"reflect"
	"sync"
	"testing"
	"time"
	"unsafe"

	"github.com/weirstream/weir/dataflow"
	"github.com/weirstream/weir/stream/spi"
)

type pair[A, B any] struct {
	First  A
	Second B
}

type golden struct {
	colBase
	UserID string
	N8     int8
	U      uint64
	F      float32
	At     time.Time
	Until  *time.Time
	Price  dataflow.Decimal
	Raw    []byte
	Sum    [2]byte
	L      []pair[string, time.Duration]
	M      map[string]bool
	M2     map[string]bool
	PP     **int
	Arr    [2]bool
	Anon   struct{ X int16 }
	Self   *golden
}

// Schemas and rows lie in checkpoints: neither may change by accident. A
// deliberate change needs a new schema number, which it gets, and decoders for
// the old rows.
func TestGolden(t *testing.T) {
	c, err := Of(reflect.TypeFor[golden]())
	if err != nil {
		t.Fatal(err)
	}
	const schema = `{"type":"record","name":"golden","fields":[` +
		`{"name":"id","type":"long","default":0},{"name":"kind","type":"string","default":""},{"name":"user_id","type":"string","default":""},` +
		`{"name":"n8","type":"int","default":0},{"name":"u","type":{"type":"fixed","name":"weir_uint64","size":8}},{"name":"f","type":"float","default":0},` +
		`{"name":"at","type":{"type":"record","name":"weir_time","fields":[{"name":"seconds","type":"long"},{"name":"nanos","type":"int"}]}},` +
		`{"name":"until","type":["null","weir_time"],"default":null},` +
		`{"name":"price","type":{"type":"record","name":"weir_decimal","fields":[{"name":"unscaled","type":"bytes"},{"name":"scale","type":"int"}]}},` +
		`{"name":"raw","type":["null","bytes"],"default":null},{"name":"sum","type":{"type":"fixed","name":"golden_sum2","size":2}},` +
		`{"name":"l","type":["null",{"type":"array","items":{"type":"record","name":"pair_string_Duration","fields":[{"name":"first","type":"string","default":""},{"name":"second","type":"long","default":0}]}}],"default":null},` +
		`{"name":"m","type":["null",{"type":"array","items":{"type":"record","name":"golden_m_entry","fields":[{"name":"key","type":"string","default":""},{"name":"value","type":"boolean","default":false}]}}],"default":null},` +
		`{"name":"m2","type":["null",{"type":"array","items":"golden_m_entry"}],"default":null},` +
		`{"name":"pp","type":["null",{"type":"record","name":"golden_pp_box","fields":[{"name":"value","type":["null","long"],"default":null}]}],"default":null},` +
		`{"name":"arr","type":{"type":"array","items":"boolean","length":2}},` +
		`{"name":"anon","type":{"type":"record","name":"golden_anon","fields":[{"name":"x","type":"int","default":0}]}},` +
		`{"name":"self","type":["null","golden"],"default":null}]}`
	if c.Schema() != schema {
		t.Errorf("schema is\n%s, want\n%s", c.Schema(), schema)
	}
	n := 5
	p := &n
	at := time.Unix(1, 2).UTC()
	v := golden{colBase{-1, "k"}, "u", 3, 1, 1, at, &at, dataflow.MustParseDecimal("-2.5"), []byte{7}, [2]byte{8, 9},
		[]pair[string, time.Duration]{{"a", 1}}, map[string]bool{"bb": true, "c": false}, nil, &p, [2]bool{true, false}, struct{ X int16 }{-2}, nil}
	row, err := c.Append(nil, unsafe.Pointer(&v))
	if err != nil {
		t.Fatal(err)
	}
	const want = "01 026b 0275 06 0000000000000001 0000803f 02 04 020204 02e702 020207 0809 020202610200 0204" + "0263000462620100 00 02020a 04010000 03 00"
	if got := fmt.Sprintf("%x", row); got != stripSpace(want) {
		t.Errorf("row is\n%s, want\n%s", got, stripSpace(want))
	}
}

func stripSpace(s string) (out string) {
	for _, c := range s {
		if c != ' ' {
			out += string(c)
		}
	}
	return out
}

// The types of the seam itself are rows too.
func TestSeamTypes(t *testing.T) {
	if _, err := NewJSON(reflect.TypeFor[spi.Rejected]()); err != nil {
		t.Error(err)
	}
	if _, err := Columns(reflect.TypeFor[spi.Rejected]()); err != nil {
		t.Error(err)
	}
}

// Codecs are used by many goroutines at once; the race detector judges.
func TestConcurrent(t *testing.T) {
	type row struct{ B []string }
	c, _, err := NewStateCodec(reflect.TypeFor[row](), []string{
		`{"type":"record","name":"row","fields":[{"name":"a","type":{"type":"array","items":{"type":"map","values":["null","long"]}}},{"name":"b","type":{"type":"array","items":"string"}}]}`})
	if err != nil {
		t.Fatal(err)
	}
	j, err := NewJSON(reflect.TypeFor[row]())
	if err != nil {
		t.Fatal(err)
	}
	src := []byte{0, 2, 2, 2, 'k', 2, 6, 0, 0, 2, 2, 'x', 0}
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 200 {
				var v, w row
				if err := c.Decode(src, unsafe.Pointer(&v), nil); err != nil || len(v.B) != 1 || v.B[0] != "x" {
					t.Errorf("%v, %v", v, err)
					return
				}
				b, err := j.Append(nil, unsafe.Pointer(&v))
				if err == nil {
					err = j.Decode(b, unsafe.Pointer(&w), nil)
				}
				if err != nil || !reflect.DeepEqual(v, w) {
					t.Errorf("%v, %v", w, err)
					return
				}
			}
		})
	}
	wg.Wait()
}
