package driver

import (
	"encoding/csv"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"
	"time"
	"unsafe"

	"github.com/weirstream/weir/dataflow"
	"github.com/weirstream/weir/stream/spi"
)

type sale struct {
	ID    int64
	Small uint8
	Huge  uint64
	Name  string
	Note  *string
	Price dataflow.Decimal `weir:"price,decimal(12,2)"`
	Rate  float64
	Part  float32
	Good  bool
	At    time.Time
}

// Random rows come back as they were, and another library splits the lines into
// the same fields.
func TestCSVRoundTrip(t *testing.T) {
	c, err := newCSV(reflect.TypeFor[sale]())
	if err != nil {
		t.Fatal(err)
	}
	rnd := rand.New(rand.NewPCG(1, 2))
	text := func() string {
		var b strings.Builder
		for range rnd.IntN(8) {
			b.WriteString([]string{"a", ",", `"`, " ", "é", "x"}[rnd.IntN(6)])
		}
		return b.String()
	}
	for range 2000 {
		price, err := dataflow.DecimalFromParts(0, rnd.Uint64N(1e9), 2)
		if err != nil {
			t.Fatal(err)
		}
		in := sale{rnd.Int64() - rnd.Int64(), uint8(rnd.Uint32()), rnd.Uint64(), text(), nil, price, rnd.NormFloat64(), rnd.Float32(), rnd.IntN(2) == 0, time.UnixMicro(rnd.Int64N(1 << 50)).UTC()}
		if rnd.IntN(2) == 0 {
			note := text()
			in.Note = &note
		}
		line, err := c.Append(nil, unsafe.Pointer(&in))
		if err != nil {
			t.Fatal(err)
		}
		var out sale
		if err := c.Decode(line, unsafe.Pointer(&out), new(spi.Arena)); err != nil || !reflect.DeepEqual(in, out) {
			t.Fatalf("%s\ngot  %+v, %v\nwant %+v", line, out, err, in)
		}
		fields, err := csv.NewReader(strings.NewReader(string(line))).Read()
		if err != nil || len(fields) != 10 || fields[3] != in.Name {
			t.Fatalf("%s: encoding/csv reads %q, %v", line, fields, err)
		}
	}
}

// What a line cannot be is said with the field's name.
func TestCSVFaults(t *testing.T) {
	type pair struct {
		N    int16
		Text string
	}
	c, err := newCSV(reflect.TypeFor[pair]())
	if err != nil {
		t.Fatal(err)
	}
	for line, want := range map[string]string{
		"1":       "the line has 1 fields, driver.pair has 2",
		"1,a,b":   "the line has more than the 2 fields of driver.pair",
		"x,a":     `field N: "x" is not a whole number of int16`,
		"99999,a": `field N: "99999" is not a whole number of int16`,
		`1,"a`:    `field Text: the quote is not closed (fields over several lines are not read)`,
		`1,"a"b`:  `field Text: a quote stands inside the text: double it`,
	} {
		var p pair
		if err := c.Decode([]byte(line), unsafe.Pointer(&p), nil); err == nil || err.Error() != want {
			t.Errorf("%s: %v", line, err)
		}
	}
	if _, err := newCSV(reflect.TypeFor[struct{ Tags []string }]()); err == nil || !strings.Contains(err.Error(), "the field Tags of struct { Tags []string } is a list, which has no place in a CSV line") {
		t.Errorf("nested: %v", err)
	}
	broken := pair{Text: "a\nb"}
	if _, err := c.Append(nil, unsafe.Pointer(&broken)); err == nil || err.Error() != "field Text: it holds a line break" {
		t.Errorf("line break: %v", err)
	}
}

func FuzzCSV(f *testing.F) {
	c, err := newCSV(reflect.TypeFor[sale]())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(`1,2,3,"a""b",,1.50,0.5,0.25,true,2026-01-31T12:00:00Z`)
	f.Fuzz(func(t *testing.T, line string) {
		var s, again sale
		if c.Decode([]byte(line), unsafe.Pointer(&s), nil) != nil {
			return
		}
		out, err := c.Append(nil, unsafe.Pointer(&s))
		if err != nil {
			return // a price of more digits than the column, a text that breaks lines
		}
		if err := c.Decode(out, unsafe.Pointer(&again), nil); err != nil {
			t.Errorf("%q became %q: %v", line, out, err)
		}
	})
}
