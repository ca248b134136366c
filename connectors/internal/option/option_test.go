package option_test

import (
	"strings"
	"testing"
	"time"

	"github.com/weirstream/weir/connectors/internal/option"
)

var known = []option.Option{
	{Name: "topic", Required: true},
	{Name: "start", Type: option.Choice, Choices: []string{"earliest", "latest"}},
	{Name: "rate", Type: option.Fraction},
	{Name: "count", Type: option.Whole, Min: 1},
	{Name: "follow", Type: option.Switch},
	{Name: "interval", Type: option.Span},
	{Name: "buffer", Type: option.Size, Min: 1024},
	{Name: "from", Type: option.Moment},
}

// Every fault is reported, each in one sentence with the option's name and what
// would be right.
func TestReadFaults(t *testing.T) {
	for _, tt := range []struct {
		name  string
		given map[string]string
		want  string
	}{
		{"misspelt", map[string]string{"topic": "t", "strat": "latest"}, `x: unknown option "strat": did you mean "start"?`},
		{"nothing near", map[string]string{"topic": "t", "zzzzzzzzzzzz": ""}, `x: unknown option "zzzzzzzzzzzz": known are buffer, count, follow, from, interval, rate, start, topic`},
		{"missing", nil, `x: option "topic" is missing`},
		{"choice", map[string]string{"topic": "t", "start": "begin"}, `x: option "start" is "begin": want one of earliest, latest`},
		{"whole", map[string]string{"topic": "t", "count": "many"}, `x: option "count" is "many": want a whole number`},
		{"least", map[string]string{"topic": "t", "count": "0"}, `x: option "count" is "0": want at least 1`},
		{"switch", map[string]string{"topic": "t", "follow": "yes"}, `x: option "follow" is "yes": want true or false`},
		{"span", map[string]string{"topic": "t", "interval": "10"}, `x: option "interval" is "10": want a duration such as 500ms or 10s`},
		{"size", map[string]string{"topic": "t", "buffer": "big"}, `x: option "buffer" is "big": want a size such as 1048576, 64KiB or 16MiB`},
		{"moment", map[string]string{"topic": "t", "from": "noon"}, `x: option "from" is "noon": want a time such as 2026-01-31T12:00:00Z, or milliseconds since 1970`},
		{"two", map[string]string{"topic": "t", "count": "0", "follow": "1"}, "x: option \"count\" is \"0\": want at least 1\nx: option \"follow\" is \"1\": want true or false"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := option.Read("x", known, tt.given, nil)
			if err == nil || err.Error() != tt.want {
				t.Errorf("got  %v\nwant %s", err, tt.want)
			}
		})
	}
}

// Values come back in their type, defaults where nothing was given.
func TestValues(t *testing.T) {
	s, err := option.Read("x", known, map[string]string{
		"topic": "a, b,", "count": "7", "rate": "2.5", "follow": "true", "interval": "1m", "buffer": "2KiB", "from": "2026-01-31T12:00:00Z",
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(s.List("topic"), "|"); got != "a|b" {
		t.Errorf("List = %q", got)
	}
	if s.Whole("count", 1) != 7 || s.Fraction("rate", 0) != 2.5 || !s.Switch("follow", false) || s.Span("interval", 0) != time.Minute || s.Size("buffer", 0) != 2048 {
		t.Error("a value is wrong")
	}
	if got := s.Moment("from").UnixMilli(); got != 1769860800000 {
		t.Errorf("Moment = %d", got)
	}
	var none option.Set
	if none.Whole("count", 3) != 3 || none.Span("interval", time.Second) != time.Second || none.Text("topic", "d") != "d" || none.Size("buffer", 9) != 9 || none.Has("topic") {
		t.Error("a default is wrong")
	}
}
