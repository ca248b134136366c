package main

import (
	"reflect"
	"testing"

	"github.com/spf13/pflag"

	"github.com/weirstream/weir/local"
)

// Counts and sizes are read as people write them, and anything else is refused by
// flag and value.
func TestNumbers(t *testing.T) {
	for _, tt := range []struct {
		text  string
		value pflag.Value
		want  int64 // 0: refused
		shown string
	}{
		{"100000", new(count), 100_000, "100k"},
		{"100k", new(count), 100_000, "100k"},
		{"10M", new(count), 10_000_000, "10M"},
		{"2B", new(count), 2_000_000_000, "2B"},
		{"12345", new(count), 12_345, "12345"},
		{"0", new(count), 0, "0"},
		{"-1k", new(count), 0, "0"},
		{"9999999999B", new(count), 0, "0"},
		{"ten", new(count), 0, "0"},
		{"1048576", new(local.ByteSize), 1 << 20, "1MiB"},
		{"512MiB", new(local.ByteSize), 512 << 20, "512MiB"},
		{"1GiB", new(local.ByteSize), 1 << 30, "1GiB"},
		{"1000", new(local.ByteSize), 1000, "1000"},
		{"1GB", new(local.ByteSize), 0, "0"},
		{"9999999TiB", new(local.ByteSize), 0, "0"},
		{"", new(local.ByteSize), 0, "0"},
	} {
		err := tt.value.Set(tt.text)
		got := reflect.ValueOf(tt.value).Elem().Int()
		if (err == nil) != (tt.want != 0) || got != tt.want || tt.value.String() != tt.shown {
			t.Errorf("%q: %d, %v, shown as %s; want %d, shown as %s", tt.text, got, err, tt.value, tt.want, tt.shown)
		}
	}
}
