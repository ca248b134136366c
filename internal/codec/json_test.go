package codec

import (
	"bytes"
	"encoding/json"
	"io"
	"math"
	"math/rand/v2"
	"net/netip"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
	"unsafe"

	gojson "github.com/goccy/go-json"

	"github.com/weirstream/weir/dataflow"
	"github.com/weirstream/weir/stream/spi"
)

// refTime is our reading of times, written with the standard library.
type refTime struct{ time.Time }

var spaceTime = regexp.MustCompile(`^"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(\.\d+)?(Z|[+-]([01]\d|2[0-3]):[0-5]\d)?"$`)

func (t *refTime) UnmarshalJSON(b []byte) error {
	if spaceTime.Match(b) {
		s := strings.Replace(string(b), " ", "T", 1)
		if !strings.HasSuffix(s, `Z"`) && s[len(s)-4] != ':' || len(s) == 21 {
			s = s[:len(s)-1] + `Z"`
		}
		b = []byte(s)
	}
	err := t.Time.UnmarshalJSON(b)
	t.Time = t.UTC()
	return err
}

type wide[T any] struct {
	ID     int64             `json:"id"`
	Name   string            `json:"name"`
	Small  int8              `json:"small"`
	U      uint64            `json:"u"`
	U16    uint16            `json:"u16"`
	F      float64           `json:"f"`
	G      float32           `json:"g"`
	Ok     bool              `json:"ok"`
	At     T                 `json:"at"`
	Price  dataflow.Decimal  `json:"price"`
	Raw    []byte            `json:"raw"`
	Tags   []string          `json:"tags"`
	M      map[string]int    `json:"m"`
	N      map[int16]float64 `json:"n"`
	P      *int              `json:"p"`
	In     inner[T]          `json:"in"`
	Ins    []inner[T]        `json:"ins"`
	Arr    [2]int            `json:"arr"`
	Fix    [3]byte           `json:"fix"`
	Num    json.Number       `json:"num"`
	Doc    json.RawMessage   `json:"doc"`
	Addr   netip.Prefix      `json:"addr" state:"-"`
	Quoted int               `json:"quoted,string"`
	Level  level             `json:"level"`
	PP     *inner[T]         `json:"pp,omitempty"`
	Odd    int               `json:"o<d"`
}

type inner[T any] struct {
	X int32          `json:"x"`
	T *T             `json:"t"`
	K map[string]any `json:"-" state:"-"`
}

// level has text methods.
type level int

func (l level) MarshalText() ([]byte, error) { return []byte("L" + strconv.Itoa(int(l))), nil }
func (l *level) UnmarshalText(b []byte) error {
	n, err := strconv.Atoi(strings.TrimPrefix(string(b), "L"))
	*l = level(n)
	return err
}

var jsonSeeds = []string{
	`{"id":1,"name":"x","small":-128,"u":18446744073709551615,"u16":65535,"f":1.5e3,"g":0.1,"ok":true,"at":"2024-02-29T23:59:59.123456789+05:30","price":12.50,"raw":"aGk=","tags":["a","b\n\u00e9\ud83d\ude00"],"m":{"a":1,"b":2},"n":{"-5":1e-7},"p":7,"in":{"x":1,"t":"2006-01-02 15:04:05"},"ins":[{"x":1},{"x":2}],"arr":[1,2],"fix":[1,2,3],"num":1.0,"doc":{"any":[1, 2]},"quoted":"5","level":"L3","pp":{"x":9}}`,
	`{"name":"out of order","id":2}`, ` { "id" : 3 , "unknown" : {"a":[1,{"b":null}],"c":"\u0041"} , "name" : "y" } `,
	`{"id":null,"name":null,"tags":null,"m":null,"p":null,"in":null,"raw":null,"price":null,"at":null,"num":null,"doc":null,"quoted":null,"arr":null,"level":null}`,
	`null`, `{}`, `[]`, `1`, `"s"`, ``, `{`, `{"id":}`, `{"id":1,}`, `{"id":01}`, `{"id":1.0}`, `{"id":1e2}`, `{"id":-0}`, `{"id":9223372036854775808}`,
	`{"id":-9223372036854775808}`, `{"u":-1}`, `{"u":18446744073709551616}`, `{"small":128}`, `{"f":1e400}`, `{"f":-0.0}`, `{"f":123456789012345678901234567890}`, `{"f":.5}`, `{"f":5.}`,
	`{"g":3.5e38}`, `{"name":"\ud800"}`, `{"name":"\ud800\u0041"}`, "{\"name\":\"\xff\xfeé\"}", "{\"name\":\"a\x01\"}", `{"name":"\x"}`, `{"name":"unended`,
	`{"raw":"a"}`, `{"raw":[1,2,255]}`, `{"raw":[256]}`, `{"raw":""}`, `{"tags":[]}`, `{"tags":[1]}`, `{"tags":["a",]}`, `{"m":{}}`, `{"m":{"a":1,}}`, `{"n":{"x":1}}`, `{"n":{"40000":1}}`,
	`{"arr":[1]}`, `{"arr":[1,2,3]}`, `{"fix":[300]}`, `{"num":"1.5"}`, `{"num":"x"}`, `{"num":""}`, `{"quoted":5}`, `{"quoted":"x"}`, `{"quoted":"5 "}`, `{"quoted":"null"}`, `{"level":3}`, `{"level":"x"}`,
	`{"at":"2023-02-29T00:00:00Z"}`, `{"at":"2024-01-01T24:00:00Z"}`, `{"at":"2024-01-01T00:00:00"}`, `{"at":"2024-01-01T00:00:00.Z"}`, `{"at":"2024-01-01T00:00:00+24:00"}`, `{"at":5}`,
	`{"at":"0000-01-01T00:00:00Z"}`, `{"at":"9999-12-31 23:59:60"}`, `{"price":"1.5"}`, `{"price":"x"}`, `{"price":1e-3}`, `{"price":[]}`, `{"o<d":4}`, `{"o\u003cd":4}`, `{"id":1} x`, `{"id" 1}`, `{"ok":tru}`, `{"ok":"true"}`, `{"pp":{}}`,
}

// clash reports names in src that the two decoders treat differently on purpose:
// twice in an object, or known but for their case.
func clash(src []byte, names map[string]bool) bool {
	d := json.NewDecoder(bytes.NewReader(src))
	type level struct {
		seen   map[string]bool
		object bool
		value  bool
	}
	stack := []*level{{}}
	for {
		tok, err := d.Token()
		if err != nil {
			return err != io.EOF && strings.Contains(err.Error(), "invalid character") && false
		}
		top := stack[len(stack)-1]
		if s, ok := tok.(string); ok && top.object && !top.value {
			if top.seen[s] {
				return true
			}
			top.seen[s], top.value = true, true
			for n := range names {
				if n != s && strings.EqualFold(n, s) {
					return true
				}
			}
			continue
		}
		top.value = false
		switch tok {
		case json.Delim('{'):
			stack = append(stack, &level{seen: map[string]bool{}, object: true})
		case json.Delim('['):
			stack = append(stack, &level{})
		case json.Delim('}'), json.Delim(']'):
			stack = stack[:len(stack)-1]
		}
	}
}

// A differ compares our decoder with encoding/json.
type differ struct {
	codec spi.Codec
	names map[string]bool
}

func newDiffer(t testing.TB) differ {
	c, err := NewJSON(reflect.TypeFor[wide[time.Time]]())
	if err != nil {
		t.Fatal(err)
	}
	names := map[string]bool{"x": true, "t": true}
	for name := range c.(*jsonCodec).root.index {
		names[name] = true
	}
	return differ{c, names}
}

func (d differ) check(t *testing.T, src []byte) {
	t.Helper()
	var ref wide[refTime]
	refErr := json.Unmarshal(src, &ref)
	var got wide[time.Time]
	err := d.codec.Decode(src, unsafe.Pointer(&got), new(spi.Arena))
	if clash(src, d.names) {
		return
	}
	if (err == nil) != (refErr == nil) {
		t.Fatalf("%s\nwe say %v\nencoding/json says %v", src, err, refErr)
	}
	if err != nil {
		return
	}
	ref.Addr = netip.Prefix{}
	want := wide[time.Time]{}
	rewrap(reflect.ValueOf(&want).Elem(), reflect.ValueOf(&ref).Elem())
	if !reflect.DeepEqual(got, want) {
		t.Fatalf("%s\nwe read %+v\nencoding/json reads %+v", src, got, want)
	}
	out, err := d.codec.Append(nil, unsafe.Pointer(&got))
	if err != nil {
		if _, refErr := json.Marshal(got); refErr != nil {
			return
		}
		t.Fatal(err)
	}
	var buf bytes.Buffer
	e := json.NewEncoder(&buf)
	e.SetEscapeHTML(false)
	if err := e.Encode(struct {
		*wide[time.Time]
		Addr *int `json:"addr,omitempty"`
	}{wide: &got}); err != nil {
		t.Fatalf("%s\nencoding/json cannot write it: %v, we wrote %s", src, err, out)
	}
	if want := strings.TrimSuffix(buf.String(), "\n"); string(out) != want {
		t.Fatalf("we write\n%s, want\n%s", out, want)
	}
}

// rewrap copies v to to, which differs in having time.Time for refTime.
func rewrap(to, v reflect.Value) {
	if rt, ok := v.Interface().(refTime); ok {
		to.Set(reflect.ValueOf(rt.Time))
		return
	}
	if to.Type() == v.Type() {
		to.Set(v)
		return
	}
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			rewrap(to.Field(i), v.Field(i))
		}
	case reflect.Pointer:
		if !v.IsNil() {
			to.Set(reflect.New(to.Type().Elem()))
			rewrap(to.Elem(), v.Elem())
		}
	case reflect.Slice:
		if !v.IsNil() {
			to.Set(reflect.MakeSlice(to.Type(), v.Len(), v.Len()))
			for i := range v.Len() {
				rewrap(to.Index(i), v.Index(i))
			}
		}
	}
}

// We accept what encoding/json accepts, with the same values, and print the same.
func TestJSONAgainstStandard(t *testing.T) {
	d := newDiffer(t)
	r := rand.New(rand.NewPCG(9, 10))
	for _, s := range jsonSeeds {
		d.check(t, []byte(s))
	}
	const alphabet = `{}[]:,"\0123456789eE+-. truefalsnx`
	for range 25_000 {
		b := []byte(jsonSeeds[r.IntN(len(jsonSeeds))])
		for range 1 + r.IntN(2) {
			if len(b) == 0 {
				break
			}
			i, c := r.IntN(len(b)), alphabet[r.IntN(len(alphabet))]
			switch r.IntN(4) {
			case 0:
				b[i] = c
			case 1:
				b = append(b[:i], b[i+1:]...)
			case 2:
				b = append(b[:i], append([]byte{c}, b[i:]...)...)
			case 3:
				o := jsonSeeds[r.IntN(len(jsonSeeds))]
				b = append(b[:i:i], o[min(i, len(o)):]...)
			}
		}
		d.check(t, b)
	}
}

func FuzzJSON(f *testing.F) {
	for _, s := range jsonSeeds {
		f.Add([]byte(s))
	}
	d := newDiffer(f)
	f.Fuzz(func(t *testing.T, src []byte) { d.check(t, src) })
}

// Any value without NaN comes back from our JSON as it was.
func TestJSONRoundTripRandom(t *testing.T) {
	r := rand.New(rand.NewPCG(11, 12))
	types := 0
	for types < 500 {
		typ := randType(r, 3)
		if strings.Contains(typ.String(), "**") || strings.Contains(typ.String(), "*[]") || strings.Contains(typ.String(), "*map") || strings.Contains(typ.String(), "namedBytes") {
			continue // where null could be the one nil or the other
		}
		c, err := NewJSON(typ)
		if err != nil {
			if !strings.Contains(err.Error(), "JSON has no map with keys") {
				t.Fatal(err)
			}
			continue
		}
		types++
		for range 4 {
			v := reflect.New(typ)
			randFill(r, v.Elem(), 3)
			b, err := c.Append(nil, v.UnsafePointer())
			if err != nil {
				if strings.Contains(err.Error(), "JSON has no +Inf") || strings.Contains(err.Error(), "outside 0 to 9999") {
					continue
				}
				t.Fatal(err)
			}
			if !json.Valid(b) {
				t.Fatalf("invalid JSON: %s", b)
			}
			got := reflect.New(typ)
			if err := c.Decode(b, got.UnsafePointer(), new(spi.Arena)); err != nil {
				t.Fatalf("%s: %v", b, err)
			}
			if !reflect.DeepEqual(got.Interface(), v.Interface()) {
				t.Fatalf("%s\ncame back as %#v\nwant %#v", b, got.Elem(), v.Elem())
			}
		}
	}
}

func TestJSONErrors(t *testing.T) {
	type Line struct {
		Sku string `json:"sku"`
		Qty int8   `json:"qty"`
	}
	type Order struct {
		ID    int64            `json:"id"`
		At    time.Time        `json:"at"`
		Lines []Line           `json:"lines"`
		Sums  map[string]int64 `json:"sums"`
		Price dataflow.Decimal `json:"price"`
	}
	c, err := NewJSON(reflect.TypeFor[Order]())
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ in, want string }{
		{`{"id":"x"}`, `codec: codec.Order.id at byte 6: want an integer, found a string`},
		{`{"lines":[{"qty":1},{"qty":300}]}`, `codec: codec.Order.lines[1].qty at byte 27: 300 does not fit int8`},
		{`{"sums":{"a":1,"b":true}}`, `codec: codec.Order.sums["b"] at byte 19: want an integer, found a boolean`},
		{`{"at":"yesterday"}`, `codec: codec.Order.at at byte 6: "yesterday" is no time: want 2006-01-02T15:04:05Z`},
		{`{"at":17}`, `codec: codec.Order.at at byte 6: want a time such as "2006-01-02T15:04:05Z" (integers need the tag millis or micros), found a number`},
		{`{"id":1.5}`, `codec: codec.Order.id at byte 6: 1.5 is no integer`},
		{`{"price":1e99}`, `codec: codec.Order.price at byte 9: dataflow: decimal "1e99": more than 38 digits`},
		{`{"id":1`, `codec: codec.Order at byte 7: the object does not end`},
		{`{"id":1} {`, `codec: codec.Order at byte 9: unexpected an object after the value`},
		{`[]`, `codec: codec.Order at byte 0: want an object, found an array`},
		{strings.Repeat(`{"x":`, 2000), `codec: codec.Order at byte 5000: nested more than 1000 deep`},
	} {
		if err := c.Decode([]byte(tt.in), unsafe.Pointer(new(Order)), nil); err == nil || err.Error() != tt.want {
			t.Errorf("%.60s: %v\nwant %s", tt.in, err, tt.want)
		}
	}
	if _, err := NewJSON(reflect.TypeFor[struct{ M map[[2]int]int }]()); err == nil ||
		err.Error() != "codec: struct.M: JSON has no map with keys of type [2]int: use strings or integers" {
		t.Errorf("map of arrays: %v", err)
	}
	nan := struct{ F []float64 }{[]float64{1, math.NaN()}}
	c, _ = NewJSON(reflect.TypeOf(nan))
	if _, err := c.Append(nil, unsafe.Pointer(&nan)); err == nil || err.Error() != "codec: struct.f[1]: JSON has no NaN" {
		t.Errorf("NaN: %v", err)
	}
}

func TestJSONEpochTimes(t *testing.T) {
	type row struct {
		A time.Time  `weir:"a,millis"`
		B *time.Time `weir:"b,micros"`
	}
	c, err := NewJSON(reflect.TypeFor[row]())
	if err != nil {
		t.Fatal(err)
	}
	var v row
	const in = `{"a":1700000000123,"b":-1}`
	if err := c.Decode([]byte(in), unsafe.Pointer(&v), nil); err != nil {
		t.Fatal(err)
	}
	if !v.A.Equal(time.UnixMilli(1700000000123)) || !v.B.Equal(time.UnixMicro(-1)) {
		t.Errorf("read %v and %v", v.A, v.B)
	}
	if out, err := c.Append(nil, unsafe.Pointer(&v)); err != nil || string(out) != in {
		t.Errorf("wrote %s, %v", out, err)
	}
	if err := c.Decode([]byte(`{"a":"2023-11-14T22:13:20Z"}`), unsafe.Pointer(new(row)), nil); err != nil {
		t.Errorf("a string in place of an integer: %v", err)
	}
	if err := c.Decode([]byte(`{"a":999999999999999999}`), unsafe.Pointer(new(row)), nil); err == nil {
		t.Error("a year beyond 9999 is taken")
	}
}

// parseTime agrees with the standard library on every second and fraction.
func TestParseTime(t *testing.T) {
	r := rand.New(rand.NewPCG(13, 14))
	for range 10_000 {
		want := time.Unix(r.Int64N(253402300800+62167219200)-62167219200, r.Int64N(1e9)/[]int64{1, 1e3, 1e6, 1e9}[r.IntN(4)]).UTC()
		s := want.In(time.FixedZone("", 60*(r.IntN(1440)-720))).Format(time.RFC3339Nano)
		if got, ok := parseTime([]byte(s)); len(s) < 36 && s[0] != '-' && len(s[:strings.IndexByte(s, '-')]) == 4 && (!ok || got != want) {
			t.Fatalf("parseTime(%s) = %v, %v, want %v", s, got, ok, want)
		}
	}
}

type bidRow struct {
	Auction int64            `json:"auction"`
	Bidder  int64            `json:"bidder"`
	Price   dataflow.Decimal `json:"price"`
	Channel string           `json:"channel"`
	URL     string           `json:"url"`
	At      time.Time        `json:"date_time"`
	Extra   string           `json:"extra"`
}

func bidJSON() []byte {
	s := `{"auction":1000123,"bidder":2000456,"price":1234.56,"channel":"Google","url":"https://www.nexmark.com/abc/def/item.htm?query=1&channel_id=12345","date_time":"2024-03-01T12:34:56.789Z","extra":"`
	return []byte(s + strings.Repeat("x", 255-2-len(s)) + `"}`)
}

func BenchmarkJSON(b *testing.B) {
	src := bidJSON()
	if len(src) != 255 {
		b.Fatal(len(src))
	}
	c, err := NewJSON(reflect.TypeFor[bidRow]())
	if err != nil {
		b.Fatal(err)
	}
	b.Run("Decode", func(b *testing.B) {
		defer cpuPerOp(b)()
		arena := new(spi.Arena)
		rows := make([]bidRow, 1024)
		for i := 0; b.Loop(); i++ {
			if err := c.Decode(src, unsafe.Pointer(&rows[i&1023]), arena); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("DecodeStandard", func(b *testing.B) {
		defer cpuPerOp(b)()
		for b.Loop() {
			var row bidRow
			if err := json.Unmarshal(src, &row); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("DecodeGoccy", func(b *testing.B) {
		defer cpuPerOp(b)()
		for b.Loop() {
			var row bidRow
			if err := gojson.Unmarshal(src, &row); err != nil {
				b.Fatal(err)
			}
		}
	})
	var row bidRow
	if err := c.Decode(src, unsafe.Pointer(&row), nil); err != nil {
		b.Fatal(err)
	}
	b.Run("Append", func(b *testing.B) {
		defer cpuPerOp(b)()
		var buf []byte
		for b.Loop() {
			buf, _ = c.Append(buf[:0], unsafe.Pointer(&row))
		}
	})
	b.Run("AppendStandard", func(b *testing.B) {
		defer cpuPerOp(b)()
		for b.Loop() {
			_, _ = json.Marshal(&row)
		}
	})
	b.Run("AppendGoccy", func(b *testing.B) {
		defer cpuPerOp(b)()
		for b.Loop() {
			_, _ = gojson.Marshal(&row)
		}
	})
}

// The order of fields, missing and unknown ones and white space change nothing.
func TestJSONOrder(t *testing.T) {
	d := newDiffer(t)
	r := rand.New(rand.NewPCG(25, 26))
	var members map[string]json.RawMessage
	if err := json.Unmarshal([]byte(jsonSeeds[0]), &members); err != nil {
		t.Fatal(err)
	}
	names := d.codec.(*jsonCodec).root.fields
	space := func() string { return []string{"", "", "", " ", "\n\t", "  "}[r.IntN(6)] }
	for range 3000 {
		var b strings.Builder
		b.WriteString(space() + "{")
		order := r.Perm(len(names))
		if r.IntN(2) == 0 {
			for i := range order { // in order, with gaps
				order[i] = i
			}
		}
		n := 0
		for _, i := range order {
			name, v := names[i].name, members[names[i].name]
			if r.IntN(3) == 0 || v == nil {
				continue
			}
			if r.IntN(10) == 0 {
				name = "un" + name
			}
			if n++; n > 1 {
				b.WriteString("," + space())
			}
			b.WriteString(space() + strconv.Quote(name) + space() + ":" + space() + string(v) + space())
		}
		b.WriteString(space() + "}" + space())
		d.check(t, []byte(b.String()))
	}
}
