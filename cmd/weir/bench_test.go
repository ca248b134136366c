package main

import (
	"strings"
	"testing"
)

// Counts and sizes are read as people write them, and anything else is refused by
// flag and value.
func TestBenchNumbers(t *testing.T) {
	for _, tt := range []struct {
		text string
		read func(flag, text string) (int64, error)
		want int64 // 0: refused
	}{
		{"100000", parseCount, 100_000},
		{"100k", parseCount, 100_000},
		{"10M", parseCount, 10_000_000},
		{"2B", parseCount, 2_000_000_000},
		{"0", parseCount, 0},
		{"-1k", parseCount, 0},
		{"9999999999B", parseCount, 0},
		{"ten", parseCount, 0},
		{"1048576", parseBytes, 1 << 20},
		{"512MiB", parseBytes, 512 << 20},
		{"1GiB", parseBytes, 1 << 30},
		{"1GB", parseBytes, 0},
		{"", parseBytes, 0},
	} {
		got, err := tt.read("size", tt.text)
		switch {
		case tt.want == 0 && (err == nil || !strings.Contains(err.Error(), "--size") || !strings.Contains(err.Error(), tt.text)):
			t.Errorf("%q: %d, %v: want an error that names flag and value", tt.text, got, err)
		case tt.want != 0 && (err != nil || got != tt.want):
			t.Errorf("%q: %d, %v, want %d", tt.text, got, err, tt.want)
		}
	}
}
