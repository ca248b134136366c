// Package option reads the options of a connector declaration: it knows their
// names and types, refuses the rest in one sentence each, and names the nearest
// known option for a misspelt one.
//
// Concurrency: a Set is read-only after it was made. Durability: none.
package option

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/weirstream/weir/dataflow"
)

// A Type says how the text of an option is read.
type Type int

// The types of options.
const (
	Text     Type = iota // any text
	Whole                // a whole number, at least Option.Min
	Switch               // true or false
	Span                 // a duration such as 500ms or 10s
	Size                 // bytes: 1048576, 64KiB, 16MiB, 1GiB
	Moment               // RFC 3339, or milliseconds since 1970
	Choice               // one of Option.Choices
	Fraction             // a number, perhaps with a decimal point, at least Option.Min
)

// An Option is one name that a connector knows.
type Option struct {
	Name     string
	Type     Type
	Choices  []string // of a Choice
	Min      int64    // of a Whole, Size or Fraction
	Required bool
}

// A Set is the checked options of one declaration.
type Set struct {
	values map[string]string
}

// Read checks given against the known options and reports every fault at once.
// who begins each sentence ("kafka source"). also may accept further names, such
// as a client's own dotted keys, and returns its own sentence for those that it
// refuses; handled false leaves the name to Read.
func Read(who string, known []Option, given map[string]string, also func(name, value string) (handled bool, err error)) (Set, error) {
	var errs []error
	byName := map[string]Option{}
	var names []string
	for _, o := range known {
		byName[o.Name] = o
		names = append(names, o.Name)
	}
	for _, name := range slices.Sorted(maps.Keys(given)) {
		o, ok := byName[name]
		if !ok {
			if also != nil {
				if handled, err := also(name, given[name]); handled {
					if err != nil {
						errs = append(errs, fmt.Errorf("%s: %w", who, err))
					}
					continue
				}
			}
			errs = append(errs, Unknown(who, name, names))
			continue
		}
		if err := o.check(given[name]); err != nil {
			errs = append(errs, fmt.Errorf("%s: option %q is %q: %w", who, name, given[name], err))
		}
	}
	for _, o := range known {
		if o.Required && given[o.Name] == "" {
			errs = append(errs, fmt.Errorf("%s: option %q is missing", who, o.Name))
		}
	}
	return Set{given}, errors.Join(errs...)
}

// Unknown makes the sentence that refuses a name and offers the nearest known.
func Unknown(who, name string, known []string) error {
	if near := dataflow.Nearest(name, slices.Sorted(slices.Values(known))); near != "" {
		return fmt.Errorf("%s: unknown option %q: did you mean %q?", who, name, near)
	}
	return fmt.Errorf("%s: unknown option %q: known are %s", who, name, strings.Join(slices.Sorted(slices.Values(known)), ", "))
}

func (o Option) check(v string) error {
	switch o.Type {
	case Whole:
		n, err := strconv.ParseInt(v, 10, 64)
		if err != nil {
			return errors.New("want a whole number")
		}
		if n < o.Min {
			return fmt.Errorf("want at least %d", o.Min)
		}
	case Fraction:
		n, err := strconv.ParseFloat(v, 64)
		if err != nil || n < float64(o.Min) {
			return fmt.Errorf("want a number, at least %d", o.Min)
		}
	case Switch:
		if v != "true" && v != "false" {
			return errors.New("want true or false")
		}
	case Span:
		if d, err := time.ParseDuration(v); err != nil || d < 0 {
			return errors.New("want a duration such as 500ms or 10s")
		}
	case Size:
		n, err := parseSize(v)
		if err != nil {
			return err
		}
		if n < o.Min {
			return fmt.Errorf("want at least %d bytes", o.Min)
		}
	case Moment:
		if _, err := parseMoment(v); err != nil {
			return err
		}
	case Choice:
		if !slices.Contains(o.Choices, v) {
			return fmt.Errorf("want one of %s", strings.Join(o.Choices, ", "))
		}
	}
	return nil
}

func parseSize(v string) (int64, error) {
	num, unit := v, int64(1)
	for _, u := range []struct {
		suffix string
		bytes  int64
	}{{"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30}, {"kB", 1e3}, {"MB", 1e6}, {"GB", 1e9}, {"B", 1}} {
		if n, ok := strings.CutSuffix(v, u.suffix); ok {
			num, unit = strings.TrimSpace(n), u.bytes
			break
		}
	}
	n, err := strconv.ParseInt(num, 10, 64)
	if err != nil || n < 0 || n > (1<<62)/unit {
		return 0, errors.New("want a size such as 1048576, 64KiB or 16MiB")
	}
	return n * unit, nil
}

func parseMoment(v string) (time.Time, error) {
	if ms, err := strconv.ParseInt(v, 10, 64); err == nil {
		return time.UnixMilli(ms).UTC(), nil
	}
	t, err := time.Parse(time.RFC3339Nano, v)
	if err != nil {
		return time.Time{}, errors.New("want a time such as 2026-01-31T12:00:00Z, or milliseconds since 1970")
	}
	return t.UTC(), nil
}

// Has tells whether the option was given and is not empty.
func (s Set) Has(name string) bool { return s.values[name] != "" }

// Text returns an option as it was given, def if it was not.
func (s Set) Text(name, def string) string {
	if v := s.values[name]; v != "" {
		return v
	}
	return def
}

// Whole returns a whole number.
func (s Set) Whole(name string, def int64) int64 {
	if n, err := strconv.ParseInt(s.values[name], 10, 64); err == nil {
		return n
	}
	return def
}

// Fraction returns a number.
func (s Set) Fraction(name string, def float64) float64 {
	if n, err := strconv.ParseFloat(s.values[name], 64); err == nil {
		return n
	}
	return def
}

// Switch returns a truth value.
func (s Set) Switch(name string, def bool) bool {
	switch s.values[name] {
	case "true":
		return true
	case "false":
		return false
	}
	return def
}

// Span returns a duration.
func (s Set) Span(name string, def time.Duration) time.Duration {
	if d, err := time.ParseDuration(s.values[name]); err == nil {
		return d
	}
	return def
}

// Size returns a number of bytes.
func (s Set) Size(name string, def int64) int64 {
	if s.values[name] == "" {
		return def
	}
	if n, err := parseSize(s.values[name]); err == nil {
		return n
	}
	return def
}

// Moment returns a time; the zero time if it was not given.
func (s Set) Moment(name string) time.Time {
	t, err := parseMoment(s.values[name])
	if err != nil {
		return time.Time{}
	}
	return t
}

// List returns the words of a comma-separated option.
func (s Set) List(name string) (out []string) {
	for w := range strings.SplitSeq(s.values[name], ",") {
		if w = strings.TrimSpace(w); w != "" {
			out = append(out, w)
		}
	}
	return out
}
