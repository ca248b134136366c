package main

import (
	"errors"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
)

// A format is how a command answers: its flag refuses anything else before the
// command does anything.
type format string // "table" or "json"

// addFormat gives cmd the flag -o.
func addFormat(cmd *cobra.Command, f *format) {
	*f = "table"
	cmd.Flags().VarP(f, "output", "o", "table or json")
}

func (f *format) Set(text string) error {
	if text != "table" && text != "json" {
		return errors.New("want table or json")
	}
	*f = format(text)
	return nil
}

func (f *format) String() string { return string(*f) }

// Type names the value in the help.
func (f *format) Type() string { return "format" }

// A count is a number such as 100000, 100k or 10M as a flag's value, at least 1.
type count int64

var countUnits = map[string]int64{"k": 1e3, "m": 1e6, "b": 1e9}

func (c *count) Set(text string) error {
	digits, unit := strings.ToLower(text), int64(1)
	for suffix, u := range countUnits {
		if rest, ok := strings.CutSuffix(digits, suffix); ok {
			digits, unit = rest, u
			break
		}
	}
	n, err := strconv.ParseInt(digits, 10, 64)
	if err != nil || n < 1 || n > (1<<62)/unit {
		return errors.New("want a number such as 100000, 100k or 10M")
	}
	*c = count(n * unit)
	return nil
}

func (c *count) String() string {
	for _, suffix := range []string{"b", "m", "k"} {
		if u := countUnits[suffix]; *c != 0 && int64(*c)%u == 0 {
			return strconv.FormatInt(int64(*c)/u, 10) + strings.Replace(strings.ToUpper(suffix), "K", "k", 1)
		}
	}
	return strconv.FormatInt(int64(*c), 10)
}

// Type names the value in the help.
func (c *count) Type() string { return "number" }
