package dataflow

import "testing"

// A misspelt name finds the one that was meant; a strange one finds none.
func TestNearest(t *testing.T) {
	known := []string{"batch", "compression", "parallelism", "path"}
	for _, tt := range []struct{ name, want string }{
		{"parallelism", "parallelism"}, {"Paralelism", "parallelism"}, {"pth", "path"}, {"comprssion", "compression"}, {"zzzzzz", ""}, {"", ""},
	} {
		if got := Nearest(tt.name, known); got != tt.want {
			t.Errorf("Nearest(%q) = %q, want %q", tt.name, got, tt.want)
		}
	}
	if got := Nearest("x", nil); got != "" {
		t.Errorf("Nearest of nothing = %q", got)
	}
}
