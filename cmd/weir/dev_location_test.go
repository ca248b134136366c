package main

import "testing"

// A lake may be a folder or a URL with options; people are not shown the options.
func TestLocation(t *testing.T) {
	for _, tt := range []struct{ lake, at, shown string }{
		{"", "data/lake/gold/t", "lake/gold/t"},
		{"data/other", "data/other/gold/t", "other/gold/t"},
		{"s3://b/lake/", "s3://b/lake/gold/t", "s3://b/lake/gold/t"},
		{"az://c/lake?account_key=hush", "az://c/lake/gold/t?account_key=hush", "az://c/lake/gold/t"},
	} {
		d := &dev{}
		d.opts.dir, d.opts.lake = "data", tt.lake
		at := d.location("gold/t")
		if shown := d.shown(at); at != tt.at || shown != tt.shown {
			t.Errorf("lake %q: at %s, shown %s; want %s, %s", tt.lake, at, shown, tt.at, tt.shown)
		}
	}
	if got := plain("gs://b/t?credentials_json=hush"); got != "gs://b/t" {
		t.Errorf("plain = %s", got)
	}
}
